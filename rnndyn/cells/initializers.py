"""Initial values of weights: specifications that are called with a key and a shape.

They are hashable by value, so they can be fields of a cell. Each draws in the default floating
dtype (float64 where x64 is enabled).
"""

import abc
import math

import jax
import jax.numpy as jnp

from rnndyn.core import validation
from rnndyn.core.pytree import specification


class Initializer(abc.ABC):
    """Draws an array; subclasses are final and frozen."""

    @abc.abstractmethod
    def __call__(self, key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        """An array of the given shape; weights have shape (outputs, inputs)."""


@specification
class Constant(Initializer):
    """Every entry equal to `value`."""

    value: float = 0.0

    def __call__(self, key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        del key
        return jnp.full(shape, self.value, dtype=float)


@specification
class Uniform(Initializer):
    """Uniform on [-bound, bound]; without a bound 1/sqrt(outputs), PyTorch's default for RNNs.

    PyTorch draws every parameter of `nn.RNN`, `nn.LSTM` and `nn.GRU` with bound 1/sqrt(n), n the
    hidden size, which is the number of outputs of each gate's block.
    """

    bound: float | None = None

    def __post_init__(self) -> None:
        if self.bound is not None:
            validation.require_range("bound", self.bound, 0.0, math.inf, "pass a half-width")

    def __call__(self, key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        bound = 1.0 / math.sqrt(shape[0]) if self.bound is None else self.bound
        return jax.random.uniform(key, shape, float, -bound, bound)


@specification
class Gaussian(Initializer):
    """Normal entries with mean zero and standard deviation `std`; without one 1/sqrt(inputs).

    The default makes W of variance 1/n, so that `gain` g gives the ensemble N(0, g^2/n) whose
    eigenvalues fill the disc of radius g (Sompolinsky, Crisanti & Sommers 1988).
    """

    std: float | None = None

    def __post_init__(self) -> None:
        if self.std is not None:
            advice = "pass a standard deviation"
            validation.require_range("std", self.std, 0.0, math.inf, advice)

    def __call__(self, key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        std = 1.0 / math.sqrt(shape[-1]) if self.std is None else self.std
        return std * jax.random.normal(key, shape, float)


@specification
class TruncatedGaussian(Initializer):
    """`std` times a standard normal drawn again while beyond two (TensorFlow's definition)."""

    std: float = 0.1

    def __call__(self, key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        return self.std * jax.random.truncated_normal(key, -2.0, 2.0, shape, float)


@specification
class Glorot(Initializer):
    """Uniform with variance 2/(inputs + outputs) (Glorot & Bengio 2010, eq. 16)."""

    def __call__(self, key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        bound = math.sqrt(6.0 / sum(shape[-2:]))
        return jax.random.uniform(key, shape, float, -bound, bound)


@specification
class Identity(Initializer):
    """`scale` times the identity (Le, Jaitly & Hinton 2015; scale < 1 is their alpha I)."""

    scale: float = 1.0

    def __call__(self, key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        del key
        return self.scale * jnp.eye(*shape, dtype=float)


@specification
class Orthogonal(Initializer):
    """A random orthogonal matrix, uniform (Haar), from QR of a Gaussian matrix.

    The columns of Q are multiplied by the signs of diag(R); without that the distribution is not
    uniform (Mezzadri 2007). Non-square shapes get orthonormal rows or columns.
    """

    def __call__(self, key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        if len(shape) != 2:
            advice = "an orthogonal initial value is a matrix"
            got = validation.shape_text(shape)
            raise ValueError(validation.sentence("shape", "(n, m)", got, advice))
        rows, columns = shape
        gaussian = jax.random.normal(key, (max(shape), min(shape)), float)
        q, r = jnp.linalg.qr(gaussian)
        q = q * jnp.where(jnp.diagonal(r) < 0, -1.0, 1.0)[None, :]
        return q if rows >= columns else q.T


@specification
class Staggered(Initializer):
    """The given values in turn along the first axis: unit k starts from `values[k % len(values)]`.

    The gates of LSTM 1997 start closed by different amounts, so that the blocks come into use one
    after another (Hochreiter & Schmidhuber 1997, sec. 4).
    """

    values: tuple[float, ...]

    def __post_init__(self) -> None:
        if not isinstance(self.values, tuple) or not self.values:
            advice = "pass for example (-1.0, -3.0, -5.0)"
            got = repr(self.values)
            raise ValueError(validation.sentence("values", "a tuple of numbers", got, advice))

    def __call__(self, key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        del key
        units = jnp.resize(jnp.asarray(self.values, dtype=float), shape[:1])
        return jnp.broadcast_to(units.reshape((-1,) + (1,) * (len(shape) - 1)), shape)


@specification
class Chrono(Initializer):
    """ln(u) with u uniform on [1, t_max - 1]: biases of a gate that keeps.

    A gate s(b) that keeps has the time constant 1/(1 - s(b)) = 1 + u, here uniform on [2, t_max]
    (Tallec & Ollivier, arXiv 1804.11188, 2018). A gate that writes gets the negative.
    """

    t_max: float

    def __post_init__(self) -> None:
        advice = "pass the longest time, in steps, over which to remember"
        validation.require_range("t_max", self.t_max, 2.0, math.inf, advice, open_high=True)

    def __call__(self, key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        return jnp.log(jax.random.uniform(key, shape, float, 1.0, self.t_max - 1.0))
