"""Initial values that are chosen for their spectrum or for the size of what passes through."""

import math

import jax
import jax.numpy as jnp

from rnndyn.cells.initializers import Initializer
from rnndyn.core import validation
from rnndyn.core.pytree import specification

ANGLES = ("henaff", "cayley")


@specification
class Between(Initializer):
    """Uniform on [low, high]."""

    low: float = 0.0
    high: float = 1.0

    def __post_init__(self) -> None:
        advice = "pass low <= high"
        validation.require_range("low", self.low, -math.inf, math.inf, advice)
        validation.require_range("high", self.high, self.low, math.inf, advice)

    def __call__(self, key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        return jax.random.uniform(key, shape, float, self.low, self.high)


@specification
class He(Initializer):
    """Normal with variance 2/inputs (He et al., arXiv 1502.01852, 2015), for ReLU units."""

    def __call__(self, key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        return math.sqrt(2.0 / shape[-1]) * jax.random.normal(key, shape, float)


@specification
class PositiveDefinite(Initializer):
    """(A + I)/e with A = R^T R/n, R_ij ~ N(0, 1), and e the largest eigenvalue of A + I.

    Symmetric, with eigenvalues in [1/e, 1], the largest exactly 1. For large n the spectrum of A
    follows Marchenko and Pastur's law on [0, 4]: e tends to 5, the smallest eigenvalue to 0.2,
    their mean to 0.4. Talathi & Vartak, arXiv 1511.03771, 2015.
    """

    def __call__(self, key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        _require_square(shape, "a positive definite initial value is square")
        gaussian = jax.random.normal(key, shape, float)
        a = gaussian.T @ gaussian / shape[0] + jnp.eye(*shape, dtype=float)
        return a / jnp.linalg.eigvalsh(a)[-1]


@specification
class RandomWalk(Initializer):
    """Normal with standard deviation alpha/sqrt(n), alpha = sqrt(2) exp(1.2/(max(n, 6) - 2.4)).

    n is the number of outputs, the width of the network. The factor keeps the logarithm of the
    length of a back-propagated vector a random walk without drift through ReLU layers (Sussillo &
    Abbott, arXiv 1412.6558, 2014). Whether alpha goes with 1/sqrt(n) or 1/n differs between
    accounts of np-RNN; 1/sqrt(n) is what the derivation gives.
    """

    def __call__(self, key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        n = shape[0]
        alpha = math.sqrt(2.0) * math.exp(1.2 / (max(n, 6) - 2.4))
        return alpha / math.sqrt(n) * jax.random.normal(key, shape, float)


@specification
class SkewBlocks(Initializer):
    """A skew matrix of 2x2 blocks [[0, s], [-s, 0]] down the diagonal; a zero ends an odd size.

    `angles="henaff"`: s uniform on [-pi, pi], so that exp turns plane j by the angle s_j (Henaff,
    Szlam & LeCun 2016). `angles="cayley"`: s = -sqrt((1 - cos t)/(1 + cos t)) = -tan(t/2), t
    uniform on [0, pi/2], so that the Cayley transform turns it by t (Helfrich, Willmott & Ye 2018;
    the sign is the released code's).
    """

    angles: str = "henaff"

    def __post_init__(self) -> None:
        validation.require_choice("angles", self.angles, ANGLES)

    def __call__(self, key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        _require_square(shape, "a skew initial value is square")
        if self.angles == "henaff":
            s = jax.random.uniform(key, (shape[0] // 2,), float, -math.pi, math.pi)
        else:
            s = -jnp.tan(jax.random.uniform(key, (shape[0] // 2,), float, 0, math.pi / 2) / 2)
        return _planes(jnp.zeros(shape, float), s)


@specification
class Rotations(Initializer):
    """2x2 rotations by 2 pi l_j/period down the diagonal, l_j uniform in 1 ... period; a 1 ends
    an odd size.

    Every power of `period` steps is the identity: what was written comes back (Henaff, Szlam &
    LeCun, arXiv 1602.06662, 2016, on the copying task, with period the delay).
    """

    period: int

    def __post_init__(self) -> None:
        advice = "pass the number of steps after which the state returns"
        validation.require_int("period", self.period, 1, advice)

    def __call__(self, key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        _require_square(shape, "a rotation is square")
        turns = jax.random.randint(key, (shape[0] // 2,), 1, self.period + 1)
        angle = turns.astype(float) * (2 * math.pi / self.period)
        cosines = jnp.ones(shape[0], float).at[: 2 * angle.size].set(jnp.repeat(jnp.cos(angle), 2))
        return _planes(jnp.diag(cosines), -jnp.sin(angle))


def _planes(matrix: jax.Array, above: jax.Array) -> jax.Array:
    """The matrix with `above` in place (2j, 2j + 1) and its negative across the diagonal."""
    first = 2 * jnp.arange(above.size)
    return matrix.at[first, first + 1].set(above).at[first + 1, first].set(-above)


def _require_square(shape: tuple[int, ...], advice: str) -> None:
    if len(shape) != 2 or shape[0] != shape[1]:
        got = validation.shape_text(shape)
        raise ValueError(validation.sentence("shape", "(n, n)", got, advice))
