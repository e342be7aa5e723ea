"""Bounds on weights, after the optimiser: functions of one leaf of params."""

import abc
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from rnndyn.constraints.leaves import (
    block_of,
    current,
    leaf_at,
    replace_leaf,
    require_block,
    require_positive,
    with_block,
)
from rnndyn.core import validation
from rnndyn.core.pytree import pytree, specification

METHODS = ("polar", "qr")


class WeightConstraint(abc.ABC):
    """A function of one leaf of params; subclasses are final specifications with a `where`."""

    where: str

    @abc.abstractmethod
    def constrained(self, w: jax.Array) -> jax.Array:
        """The leaf within the constraint."""

    def __call__(self, params: Any) -> Any:
        """The params with the leaf at `where` within the constraint, the others untouched."""
        return replace_leaf(params, self.where, self.constrained(leaf_at(params, self.where)))

    def init(self, params: Any) -> Any:
        """The state of the transformation: none."""
        leaf_at(params, self.where)
        return ()

    def update(self, updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        """`(updates to constrained params, state)`; the others' updates pass through."""
        w, step = current(self.where, updates, params)
        return replace_leaf(updates, self.where, self.constrained(w + step) - w), state


@specification
class ClipWeights(WeightConstraint):
    """Every entry to [-bound, bound], bound = gamma^(1/steps): IndRNN's range of u.

    Over `steps` steps a unit that feeds back |u| <= bound amplifies a gradient at most gamma times
    (Li et al. 2018; gamma 2 in their adding task, 5 in their code). `steps` is the length of the
    sequences trained on; another length has another bound. `steps=1` clips to gamma itself.

    Examples
    --------
    >>> import jax, rnndyn as rd
    >>> params = rd.cells.IndRNN(3, 8).init(jax.random.key(0), gain=4.0)
    >>> clipped = rd.constraints.ClipWeights(gamma=2.0, steps=100)(params)
    >>> bool((clipped.u <= 2.0 ** (1 / 100)).all())
    True
    """

    gamma: float = 2.0
    steps: int = 1
    where: str = "u"

    def __post_init__(self) -> None:
        require_positive("gamma", self.gamma, "pass the growth to allow over `steps` steps")
        validation.require_int("steps", self.steps, 1, "pass the length of the training sequences")

    @property
    def bound(self) -> float:
        """gamma^(1/steps)."""
        return self.gamma ** (1.0 / self.steps)

    def constrained(self, w: jax.Array) -> jax.Array:
        return jnp.clip(w, -self.bound, self.bound)


@pytree
class SingularBound:
    """bound : scalar, an upper bound of the largest singular value; svds : int32, SVDs so far."""

    bound: jax.Array
    svds: jax.Array


@specification
class ClipSingularValues(WeightConstraint):
    """Singular values of W to at most 2 - delta, delta in (0, 2).

    For a GRU without biases whose candidate recurrence has ||U_n|| < 2 the origin is stable at
    zero input: ||J|| <= 1/2 + ||U_n||/4 < 1 (Kanai, Fujiwara & Iwamura, NeurIPS 2017). Only that
    block is to be clipped: `block=(2, 3)`, the third of three blocks of rows of `w_h`.

    An SVD is made only where one may change W. As an optimiser's transformation it keeps an upper
    bound, sigma_1(W + dW) <= sigma_1(W) + ||dW||_F (Weyl), from one update to the next; called on
    params it uses the Frobenius norm and sqrt(||W||_1 ||W||_inf). Where nothing exceeds 2 - delta,
    W is returned bit for bit. Under vmap every row pays for the SVD. The bound is that of the
    updates it has seen: chain it last, and call `init` again after changing params otherwise.

    Attributes
    ----------
    delta : float in (0, 2)
    block : tuple of int, (index, count)
        W is block `index` of `count` equal blocks of rows of the leaf.
    where : str

    Examples
    --------
    >>> import jax, jax.numpy as jnp, rnndyn as rd
    >>> params = rd.cells.GRU(3, 8, "kanai").init(jax.random.key(0), gain=20.0)
    >>> clipped = rd.constraints.ClipSingularValues(delta=0.2, block=(2, 3))(params).w_h
    >>> kept = clipped[:16] == params.w_h[:16]
    >>> round(float(jnp.linalg.norm(clipped[16:], 2)), 4), bool(kept.all())
    (1.8, True)
    """

    delta: float = 0.2
    block: tuple[int, int] = (0, 1)
    where: str = "w_h"

    def __post_init__(self) -> None:
        advice = "singular values are kept to at most 2 - delta"
        validation.require_range(
            "delta", self.delta, 0.0, 2.0, advice, open_low=True, open_high=True
        )
        require_block(self.block)

    @property
    def bound(self) -> float:
        """2 - delta."""
        return 2.0 - self.delta

    def constrained(self, w: jax.Array) -> jax.Array:
        return self._clipped(w, self._cheap_bound(block_of(w, self.block)))[0]

    def init(self, params: Any) -> SingularBound:
        """The bound of the params given, from their norms."""
        w = block_of(leaf_at(params, self.where), self.block)
        return SingularBound(self._cheap_bound(w), jnp.int32(0))

    def update(
        self, updates: Any, state: SingularBound, params: Any = None
    ) -> tuple[Any, SingularBound]:
        """`(updates, state)`, with an SVD only where the bound asks for one."""
        w, step = current(self.where, updates, params)
        moved = w + step
        bound = state.bound + jnp.linalg.norm(block_of(step, self.block))
        clipped, bound, made = self._clipped(moved, bound)
        # an update that needs no change is handed on as it came, without a detour through w
        step = jnp.where(made, clipped - w, step)
        return replace_leaf(updates, self.where, step), SingularBound(
            bound, state.svds + made.astype(jnp.int32)
        )

    def _cheap_bound(self, w: jax.Array) -> jax.Array:
        size = jnp.abs(w)
        mixed = jnp.sqrt(jnp.max(jnp.sum(size, axis=0)) * jnp.max(jnp.sum(size, axis=1)))
        return jnp.minimum(jnp.linalg.norm(w), mixed)

    def _clipped(self, leaf: jax.Array, bound: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        """The leaf clipped, its new bound, and whether an SVD was made."""
        margin = leaf.size * jnp.finfo(leaf.dtype).eps  # the bound is a rounded sum

        def by_svd(leaf):
            w = block_of(leaf, self.block)
            clipped, values = _reshaped(w, lambda s: jnp.minimum(s, self.bound))
            return with_block(leaf, self.block, clipped), jnp.minimum(values[0], self.bound)

        made = ~(bound * (1 + margin) <= self.bound)  # so that NaN takes the SVD, and stays
        leaf, bound = jax.lax.cond(made, by_svd, lambda leaf: (leaf, bound), leaf)
        return leaf, bound, made


@specification
class SingularBand(WeightConstraint):
    """Singular values of W to [1 - margin, 1 + margin] (after Vorontsov et al. 2017).

    W whose singular values lie in the band is returned bit for bit. Cost: an SVD.
    """

    margin: float = 0.1
    block: tuple[int, int] = (0, 1)
    where: str = "w_h"

    def __post_init__(self) -> None:
        advice = "0 is orthogonal, and 1 lets all values below 2 pass"
        validation.require_range("margin", self.margin, 0.0, 1.0, advice)
        require_block(self.block)

    def constrained(self, w: jax.Array) -> jax.Array:
        low, high = 1.0 - self.margin, 1.0 + self.margin
        clipped, _ = _reshaped(block_of(w, self.block), lambda s: jnp.clip(s, low, high))
        return with_block(w, self.block, clipped)


@specification
class SpectralNormalisation(WeightConstraint):
    """W/max(1, sigma_1/bound): the largest singular value to at most `bound`, exactly (an SVD)."""

    bound: float = 1.0
    block: tuple[int, int] = (0, 1)
    where: str = "w_h"

    def __post_init__(self) -> None:
        require_positive("bound", self.bound, "pass the largest singular value to allow")
        require_block(self.block)

    def constrained(self, w: jax.Array) -> jax.Array:
        block = block_of(w, self.block)
        ratio = jnp.linalg.norm(block, 2) / self.bound
        return with_block(w, self.block, block / jnp.maximum(ratio, 1.0))


@specification
class Orthogonalise(WeightConstraint):
    """W to an orthogonal matrix: the nearest, or the one that Gram and Schmidt find.

    `method="polar"`: U V^T of the SVD, nearest in the Frobenius norm. `method="qr"`: Q of W = Q R
    with diag(R) > 0, the QR retraction; not the nearest, and cheaper. After a step of the optimiser
    either is a retraction onto the orthogonal group. Matrices that are not square get
    orthonormal columns or rows. Cost: O(n^3).
    """

    method: str = "polar"
    block: tuple[int, int] = (0, 1)
    where: str = "w_h"

    def __post_init__(self) -> None:
        validation.require_choice("method", self.method, METHODS)
        require_block(self.block)

    def constrained(self, w: jax.Array) -> jax.Array:
        block = block_of(w, self.block)
        wide = block.shape[0] < block.shape[1]
        if self.method == "polar":
            u, _, vh = jnp.linalg.svd(block, full_matrices=False)
            return with_block(w, self.block, u @ vh)
        q, r = jnp.linalg.qr(block.T if wide else block)
        signs = jnp.where(jnp.diagonal(r) < 0, -1.0, 1.0).astype(q.dtype)
        q = q * signs[None, :]
        return with_block(w, self.block, q.T if wide else q)


def _reshaped(
    w: jax.Array, change: Callable[[jax.Array], jax.Array]
) -> tuple[jax.Array, jax.Array]:
    """W with its singular values changed, and what they were; unchanged values change no bit."""
    u, s, vh = jnp.linalg.svd(w, full_matrices=False)
    excess = s - change(s)
    return w - (u * excess[None, :]) @ vh, s
