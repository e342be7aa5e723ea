"""Bounds on gradients, before the optimiser sees them."""

import abc
from typing import Any

import jax
import jax.numpy as jnp

from rnndyn.constraints.leaves import require_positive
from rnndyn.core.pytree import specification


class GradientConstraint(abc.ABC):
    """A function of gradients alone; subclasses are final specifications."""

    @abc.abstractmethod
    def __call__(self, gradients: Any) -> Any:
        """The gradients within the bound, in their structure and dtypes."""

    def init(self, params: Any) -> Any:
        """The state of the transformation: none."""
        del params
        return ()

    def update(self, updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        """`(updates within the bound, state)`."""
        del params
        return self(updates), state


@specification
class ClipGradientNorm(GradientConstraint):
    """g min(1, max_norm/||g||), the norm taken over all leaves together.

    Pascanu, Mikolov & Bengio, ICML 2013. The norm is scaled, so that it neither over- nor
    underflows; NaN or infinity in a gradient gives NaN in all.

    Examples
    --------
    >>> import jax.numpy as jnp, rnndyn as rd
    >>> clipped = rd.constraints.ClipGradientNorm(5.0)([jnp.array([6.0]), jnp.array([8.0])])
    >>> [float(leaf[0]) for leaf in clipped]
    [3.0, 4.0]
    """

    max_norm: float

    def __post_init__(self) -> None:
        require_positive("max_norm", self.max_norm, "pass the largest norm to let through")

    def __call__(self, gradients: Any) -> Any:
        leaves = jax.tree.leaves(gradients)
        with jax.numpy_dtype_promotion("standard"):
            dtype = jnp.result_type(*leaves) if leaves else float
        largest = [jnp.max(jnp.abs(g), initial=0.0).astype(dtype) for g in leaves]
        scale = jnp.max(jnp.stack([jnp.zeros((), dtype), *largest]))
        scale = jnp.where(scale == 0, jnp.ones_like(scale), scale)
        squares = [jnp.sum((g.astype(dtype) / scale) ** 2) for g in leaves]
        norm = jnp.sqrt(sum(squares, jnp.zeros((), dtype)))  # ||g||/scale: at least 1, or 0
        length = self.max_norm / jnp.maximum(norm, 1.0)
        clips = ~(scale <= length)  # so that NaN clips, and stays
        return jax.tree.map(
            lambda g: jnp.where(clips, (g.astype(dtype) / scale * length).astype(g.dtype), g),
            gradients,
        )


@specification
class ClipGradientValue(GradientConstraint):
    """Every entry of the gradients to [-max_value, max_value]; NaN stays NaN.

    Examples
    --------
    >>> import jax.numpy as jnp, rnndyn as rd
    >>> rd.constraints.ClipGradientValue(1.0)(jnp.array([-3.0, 0.5])).tolist()
    [-1.0, 0.5]
    """

    max_value: float

    def __post_init__(self) -> None:
        require_positive("max_value", self.max_value, "pass the largest entry to let through")

    def __call__(self, gradients: Any) -> Any:
        return jax.tree.map(lambda g: jnp.clip(g, -self.max_value, self.max_value), gradients)
