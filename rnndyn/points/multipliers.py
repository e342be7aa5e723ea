"""The linear dynamics around a cycle: its multipliers, from a product that is never formed.

The multipliers of a cycle z_0 ... z_{k-1} are the eigenvalues of J_{k-1} ... J_0. As a matrix the
product loses every eigenvalue below eps times the largest one. As Q R, R the product of the
triangular factors of one sweep J_i Q_i = Q_{i+1} R_i around the cycle, it keeps them, if the
frame Q_0 is close to a Schur basis (Bojanczyk, Golub & Van Dooren 1992 on the periodic Schur form).
"""

from typing import Any

import jax
import jax.numpy as jnp

from rnndyn.core import validation
from rnndyn.core.factor import sorted_qr
from rnndyn.core.pytree import pytree
from rnndyn.core.status import Status
from rnndyn.maps import Map, require_states
from rnndyn.points import dense
from rnndyn.points.shooting import closed, settle

_SWEEPS = (
    5  # at least 2, of orthogonal iteration, from the Schur basis of the product as it is formed
)
_CENTER = 64  # multiple of k d eps, times the eigenvalue's condition, within which a modulus is 1


@pytree
class CycleStability:
    """The linear dynamics around each cycle. Leading axis m: the cycles.

    Attributes
    ----------
    multipliers : jax.Array, shape (m, d), complex
        Eigenvalues of DF^k along the cycle, by falling modulus; of equal moduli the larger real
        part first, then the larger imaginary.
    unstable_dim, center_dim : jax.Array, shape (m,), int
        How many moduli are above 1, and how many are 1 to rounding.
    stable : jax.Array, shape (m,), bool
        All moduli below 1 by more than rounding.
    residual : jax.Array, shape (m,)
        max |F(z_i) - z_{i+1}|: the multipliers of what is not a cycle mean nothing.
    status : jax.Array, shape (m,), int
        0: computed. -3: the points or Jacobians are not finite, or the eigensolver failed.
    """

    multipliers: jax.Array
    unstable_dim: jax.Array
    center_dim: jax.Array
    stable: jax.Array
    residual: jax.Array
    status: jax.Array


def cycle_stability(map_: Map, points: jax.Array) -> CycleStability:
    """The multipliers of cycles, differentiable with respect to the map's args.

    Parameters
    ----------
    map_ : Map
    points : jax.Array, shape (m, k, d)
        Cycles, each in the order of time: `cycles(...).points`. `residual` says how well they
        close under this map.

    Returns
    -------
    CycleStability
        One row a cycle. Where something is not finite: status -3, NaN multipliers, not stable,
        dimensions 0; the other rows are not affected.

    Raises
    ------
    ValueError, TypeError
        If points are not real of shape (m, k, d).

    Notes
    -----
    Multipliers of very different size keep their digits: each is found to the relative accuracy
    that the Jacobians of single steps allow, eps times their condition (rows of different size do
    not count), not that of their product. Where moduli differ by less than 10^4 (float64; 50 in
    float32) what stays together shares the error of its largest. Derivatives are total ones: the
    points move with the args by the implicit function theorem, dz = (I - C)^-1 dF with C the
    cyclic Jacobian of all k points, and d mu = left^H dP right / left^H right while mu is simple.
    Cost: O(k d^3) a cycle, and 2 (k d)^3 for a derivative.

    Examples
    --------
    >>> import jax, jax.numpy as jnp, rnndyn as rd
    >>> starts = jnp.array([[0.3], [0.6]])
    >>> two = rd.cycles(rd.maps.logistic(3.3), starts, period=2).points
    >>> def multiplier(r):
    ...     return rd.cycle_stability(rd.maps.logistic(r), two).multipliers[0, 0].real
    >>> [f"{x:.3f}" for x in jax.value_and_grad(multiplier)(3.3)]  # 4 + 2 r - r^2
    ['-0.290', '-4.600']
    """
    points = jnp.asarray(points)
    advice = "pass cycles(...).points, or points[None] for a single cycle"
    validation.require_shape("points", points, ("m", "k", "d"), advice)
    validation.require_real("points", points)
    require_states("points", points, map_)
    return _cycle_stability(map_, points)


@jax.jit
def _cycle_stability(map_: Map, points: jax.Array) -> CycleStability:
    m, k, d = points.shape
    around = closed(map_, k)
    flat = jax.lax.stop_gradient(points).reshape(m, k * d)
    settled = jax.vmap(settle, (None, 0))(around, flat).reshape(m, k, d)
    gap = jax.vmap(around)(flat) - flat
    jacobians = jax.vmap(jax.vmap(map_.jacobian))(settled)
    finite = jnp.all(jnp.isfinite(flat), axis=1) & jnp.all(jnp.isfinite(jacobians), axis=(1, 2, 3))
    values, margin = jax.vmap(product_eigenvalues)(
        jnp.where(finite[:, None, None, None], jacobians, jnp.zeros_like(jacobians))
    )
    finite &= jnp.all(~jnp.isnan(values), axis=1)
    excess = jnp.abs(values) - 1
    unstable = jnp.where(finite, jnp.sum(excess > margin, axis=1), 0)
    center = jnp.where(finite, jnp.sum(jnp.abs(excess) <= margin, axis=1), 0)
    return CycleStability(
        multipliers=jnp.where(finite[:, None], values, jnp.nan),
        unstable_dim=unstable.astype(jnp.int32),
        center_dim=center.astype(jnp.int32),
        stable=finite & (unstable + center == 0),
        residual=jnp.max(jnp.abs(gap), axis=1, initial=0),
        status=jnp.where(finite, jnp.int32(Status.CONVERGED), jnp.int32(Status.NONFINITE)),
    )


def product_eigenvalues(jacobians: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Eigenvalues of J_{k-1} ... J_0 by falling modulus, and the rounding of each one's modulus.

    Parameters
    ----------
    jacobians : jax.Array, shape (k, d, d)
        Finite, in the order of time: J_0 acts first.

    Returns
    -------
    tuple of jax.Array, shapes (d,), complex, and (d,)
        Differentiable while simple.
    """
    k, d = jacobians.shape[:2]
    eps = jnp.finfo(jacobians.dtype).eps
    exponents = jnp.frexp(jnp.max(jnp.abs(jax.lax.stop_gradient(jacobians)), axis=(1, 2)))[1]
    scaled = jnp.ldexp(jacobians, -exponents[:, None, None])
    fixed = jax.lax.stop_gradient(scaled)
    frames, factors, turn, (values, left, right) = _decomposed(fixed)
    order = _order(values)
    left, right = left[:, order], right[:, order]
    values = _eigenvalues(scaled, frames, factors, turn, values[order], left, right)
    scale = jnp.exp2(jnp.sum(exponents).astype(jacobians.dtype))
    overlap = jnp.abs(jnp.sum(jnp.conj(left) * right, axis=0))
    margin = _CENTER * k * d * eps / jnp.maximum(overlap, eps)
    return values * scale.astype(values.dtype), jnp.minimum(margin, jnp.sqrt(eps))


@jax.custom_batching.sequential_vmap
def _decomposed(jacobians: jax.Array) -> tuple[Any, ...]:
    """Frames and triangular factors around the cycle, the turn that closes it, and its modes."""
    eps = jnp.finfo(jacobians.dtype).eps
    frames, factors = _sweeps(jacobians, _schur_basis(jacobians))
    product = _chain(factors)
    sizes = jnp.abs(jnp.diagonal(product))
    # what is left below the diagonal after sweeps that must have removed it is rounding
    apart = sizes[:, None] <= eps ** (1 / (_SWEEPS - 1)) * sizes[None, :]
    turn = jnp.where(jnp.tril(apart, -1), 0, frames[0].T @ frames[-1])
    return frames, factors, turn, dense.modes(turn @ product)


def _schur_basis(jacobians: jax.Array) -> jax.Array:
    """An orthogonal frame whose leading columns span what the product stretches most."""
    d = jacobians.shape[1]
    values, _, right = dense.modes(_chain(jacobians))
    order = _order(values)
    values, right = values[order], right[:, order]
    vectors = jnp.where(values.imag[None, :] < 0, right.imag, right.real)
    sound = jnp.all(jnp.isfinite(vectors))
    return sorted_qr(jnp.where(sound, vectors, jnp.eye(d, dtype=vectors.dtype)))[0]


def _order(values: jax.Array) -> jax.Array:
    return jnp.lexsort((-values.imag, -values.real, -jnp.abs(values)))


def _sweeps(jacobians: jax.Array, frame: jax.Array) -> tuple[jax.Array, jax.Array]:
    """J_i Q_i = Q_{i+1} R_i around the cycle, again and again: the last Q (k + 1, d, d), R."""
    k = jacobians.shape[0]

    def advance(q, i):
        following, r = sorted_qr(jacobians[i % k] @ q)
        return following, (following, r)

    steps = jnp.arange(_SWEEPS * k)
    _, (frames, factors) = jax.lax.scan(advance, frame, steps)
    return frames[-k - 1 :], factors[-k:]


def _chain(factors: jax.Array) -> jax.Array:
    """The product of all, the first one rightmost."""
    eye = jnp.eye(factors.shape[1], dtype=factors.dtype)
    return jax.lax.scan(lambda p, r: (r @ p, None), eye, factors)[0]


@jax.custom_jvp
def _eigenvalues(jacobians, frames, factors, turn, values, left, right) -> jax.Array:
    """The eigenvalues, which depend on the Jacobians."""
    del jacobians, frames, factors, turn, left, right
    return values


@_eigenvalues.defjvp
def _(primals: Any, tangents: Any) -> tuple[jax.Array, jax.Array]:
    """d mu = left^H dB right / left^H right for B = turn R, the product in the first frame."""
    _, frames, factors, turn, values, left, right = primals

    def advance(carry, entry):
        product, change = carry
        q, following, r, moved = entry
        change = r @ change + following.T @ moved @ q @ product
        return (r @ product, change), None

    eye = jnp.eye(turn.shape[0], dtype=turn.dtype)
    entries = (frames[:-1], frames[1:], factors, tangents[0])
    (_, change), _ = jax.lax.scan(advance, (eye, jnp.zeros_like(eye)), entries)
    change = (turn @ change).astype(values.dtype)
    overlap = jnp.sum(jnp.conj(left) * right, axis=0)
    return values, jnp.sum(jnp.conj(left) * (change @ right), axis=0) / overlap
