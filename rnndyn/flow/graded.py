"""Long products of Jacobians as graded factors: the one mechanism behind the analyses of a run.

A product over thousands of steps spans thousands of decades, so it is never formed. It is kept as
Q diag(exp s) R: Q with orthonormal columns, the log scales s, and R with rows of unit length.
Scales are constants to differentiation: the split between s and R is free, so all tangents are
carried by R, and those of Q and the triangular factor by the rule of `orthonormalise`. For the
same reason they may be whole numbers while a product grows: sums of those are exact, and a million
equal increments do not drift.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rnndyn.core import validation
from rnndyn.core.pytree import pytree
from rnndyn.linearize import Dense, Linearization

BLOCKS = ("state", "hidden")


@pytree
class Rows:
    """A matrix diag(exp scale) rows that may exceed the range of its dtype.

    Attributes
    ----------
    scale : jax.Array, shape (n,)
        Natural logarithms, finite also for a zero row; whole numbers while a product grows.
    rows : jax.Array, shape (n, k)
        Vectors of length e^(-1/2) to e^(1/2), or exactly zero; unit vectors after `normalise`.
    """

    scale: jax.Array
    rows: jax.Array


def require_linearization(lin: Any) -> None:
    """Raise unless `lin` is one Linearization, not a batch and not something else."""
    if not isinstance(lin, Linearization):
        advice = "pass rd.linearize(...) or rd.Linearization.from_jacobians(J)"
        raise TypeError(validation.sentence("lin", "a Linearization", repr(type(lin)), advice))
    axes = 3 if isinstance(lin, Dense) else 2
    if np.ndim(jax.tree.leaves(lin.slices)[0]) != axes:
        got, advice = "a batch of them", "use jax.vmap over its leading axes"
        raise ValueError(validation.sentence("lin", "one Linearization", got, advice))


def block_coordinates(lin: Linearization, block: str) -> tuple[int, ...]:
    """The coordinates of z that a block means: all of them, or those of the hidden output."""
    validation.require_choice("block", block, BLOCKS)
    return lin.hidden if block == "hidden" else tuple(range(lin.size))


def transposed_jacobian(lin: Linearization, at: Any) -> jax.Array:
    """J^T at one step, shape (d, d), never stored for more than that step."""
    return lin.pull(at, jnp.eye(lin.size, dtype=lin.dtype))


def multiply(matrix: jax.Array, factor: Rows, scale_of_zero: jax.Array) -> Rows:
    """matrix @ factor, each row with a scale of its own, so nothing under- or overflows.

    Parameters
    ----------
    matrix : jax.Array, shape (n, m)
    factor : Rows, of m rows
    scale_of_zero : jax.Array, shape (n,)
        The scale to give a row that comes out exactly zero; its tangent is measured in it.
    """
    alive = jnp.any(factor.rows != 0, axis=1)
    magnitudes = jnp.log(jnp.abs(jax.lax.stop_gradient(matrix))) + factor.scale[None, :]
    largest = jnp.max(jnp.where(alive[None, :], magnitudes, -jnp.inf), axis=1)
    largest = jnp.round(jnp.where(jnp.isneginf(largest), scale_of_zero, largest))
    # |entry| exp(exponent) <= 2, in two halves as exp(exponent) alone may overflow. A zero entry
    # may stand before a far larger row: the cap keeps 0 * inf out of its tangent.
    limit = jnp.asarray(np.log(np.finfo(matrix.dtype).max), matrix.dtype)
    cap = jnp.where(matrix == 0, limit / 4, limit)
    half = jnp.exp(jnp.minimum(factor.scale[None, :] - largest[:, None], cap) / 2)
    product = Rows(largest, (matrix * half * half) @ factor.rows)
    whole = jnp.round(jnp.log(_lengths(product)))
    return Rows(largest + whole, product.rows * jnp.exp(-whole)[:, None])


def normalise(factor: Rows) -> Rows:
    """The same matrix with rows of unit length."""
    length = _lengths(factor)
    return Rows(factor.scale + jnp.log(length), factor.rows / length[:, None])


def _lengths(factor: Rows) -> jax.Array:
    """The lengths of the rows, 1 for a zero row; constants to differentiation."""
    length = jax.lax.stop_gradient(jnp.sqrt(jnp.sum(factor.rows**2, axis=1)))
    return jnp.where(length == 0, jnp.ones_like(length), length)


@jax.custom_jvp
def orthonormalise(y: jax.Array, factors: Any) -> tuple[jax.Array, jax.Array]:
    """Orthonormal Q and upper triangular R with y = Q R, accurate by rows.

    Rows are sorted by size first, which makes Householder QR backward stable row by row (Cox &
    Higham 1998) and exactly zero rows exact zeros on the diagonal of R.

    Parameters
    ----------
    y : jax.Array, shape (d, k), k <= d
    factors : None, or arrays (A (d, d), F (d, k)) with y = A F
        The columns of A may differ in size by any factor: they are pulled out, A = B D, and D F
        is factored before B is applied, so that small and zero columns do no harm.

    Returns
    -------
    tuple of jax.Array, shapes (d, k) and (k, k)
    """
    if factors is None:
        return _sorted_qr(y)
    a, frame = factors
    sizes = jnp.max(jnp.abs(a), axis=0)
    b = a / jnp.where(sizes == 0, jnp.ones_like(sizes), sizes)[None, :]
    inner, r_inner = _sorted_qr(sizes[:, None] * frame)
    q, r_outer = _sorted_qr(b @ inner)
    return q, jnp.triu(r_outer @ r_inner)


@orthonormalise.defjvp
def _orthonormalise_jvp(primals: Any, tangents: Any) -> Any:
    """The derivative of QR, with a rotation of the frame only where a pivot is not zero.

    y' = Q' R + Q R', Q' = Q Omega + (the part outside the span of Q). Any antisymmetric Omega is
    right as long as Q R' takes the rest; the usual one makes R' triangular. Where a pivot is
    exactly zero there is nothing to rotate against and the entries below it stay in R'.
    """
    y_dot = tangents[0]
    q, r = orthonormalise(*primals)
    dead = jnp.diagonal(r) == 0
    moved = q.T @ y_dot
    safe = jnp.where(dead[None, :], jnp.eye(r.shape[0], dtype=r.dtype), r)

    def over_r(m: jax.Array) -> jax.Array:
        m = jnp.where(dead[None, :], jnp.zeros_like(m), m)
        return jax.lax.linalg.triangular_solve(safe, m, left_side=False, lower=False)

    below = jnp.tril(over_r(moved), -1)
    omega = below - below.T
    r_dot = moved - omega @ r
    r_dot = jnp.where(dead[None, :], r_dot, jnp.triu(r_dot))
    q_dot = q @ omega
    if q.shape[0] != q.shape[1]:
        q_dot = q_dot + over_r(y_dot - q @ moved)
    return (q, r), (q_dot, r_dot)


def _sorted_qr(y: jax.Array) -> tuple[jax.Array, jax.Array]:
    order = jnp.argsort(-jnp.max(jnp.abs(y), axis=1))
    q, r = jnp.linalg.qr(y[order])
    return jnp.zeros_like(q).at[order].set(q), r


def sweep(lin: Linearization, lags: tuple[int, ...], coordinates: tuple[int, ...]):
    """The block P[c, c]^T of P = dz_T/dz_{T-lag}, as graded factors, for all lags in one pass.

    P^T E = Q L, with E the unit vectors of the coordinates, is pulled backwards one step at a
    time: J^T Q = Q' R gives L' = R L.

    Parameters
    ----------
    lin : Linearization
    lags : tuple of int
    coordinates : tuple of int
        c, of n coordinates.

    Returns
    -------
    tuple
        `Rows` of unit length with a leading axis of lags: scale (L, n), rows (L, n, n), whose
        singular values are those of the block up to an orthonormal factor; the most singular
        values that can differ from zero, (L,), from the pattern of exact zeros; and whether all
        was finite so far, (L,).
        Cost: O(max(lags) d^3), without storing the factors of the other lags.
    """
    chosen, n = np.array(coordinates), len(coordinates)
    frame, start = _first_frame(lin, chosen)
    store = Rows(
        jnp.broadcast_to(start.scale, (len(lags), n)),
        jnp.broadcast_to(start.rows, (len(lags), n, n)),
    )
    store = (store, jnp.full((len(lags),), n), jnp.ones((len(lags),), bool))
    if max(lags) == 0:
        return store

    def step(carry, entry):
        frame, factor, pattern, finite, store = carry
        at, slot = entry
        transposed = transposed_jacobian(lin, at)
        pattern = jnp.sign(_pattern(transposed) @ pattern)
        fixed = jax.lax.stop_gradient((transposed, frame))
        frame, r = orthonormalise(transposed @ frame, fixed)
        factor = multiply(r, factor, _scale_of_dead(r, factor))
        finite = finite & jnp.all(jnp.isfinite(r))
        kept = _restrict(frame, factor, chosen) if n < lin.size else factor
        kept = (kept, _rank_bound(pattern[chosen]), finite)
        store = jax.tree.map(lambda all_, one: all_.at[slot].set(one, mode="drop"), store, kept)
        return (frame, factor, pattern, finite, store), None

    carry = (frame, start, _pattern(frame), jnp.array(True), store)
    (*_, (rows, rank, good)), _ = jax.lax.scan(step, carry, latest(lin, lags), reverse=True)
    return jax.vmap(normalise)(rows), rank, good


def latest(lin: Linearization, lags: tuple[int, ...]) -> tuple[Any, jax.Array]:
    """The last max(lags) slices, and for each the slot of its lag, len(lags) if not asked for."""
    depth = max(lags)
    slots = np.full((depth,), len(lags), np.int32)
    for slot, lag in enumerate(lags):
        if lag > 0:
            slots[depth - lag] = slot
    return jax.tree.map(lambda leaf: leaf[lin.steps - depth :], lin.slices), jnp.asarray(slots)


def _first_frame(lin: Linearization, chosen: np.ndarray) -> tuple[jax.Array, Rows]:
    """The unit vectors, sorted by how much the last step stretches them, so L starts graded."""
    n = len(chosen)
    order = jnp.arange(n)
    if lin.steps > 0:
        last = jax.tree.map(lambda leaf: leaf[-1], lin.slices)
        sizes = jnp.max(jnp.abs(jax.lax.stop_gradient(transposed_jacobian(lin, last))), axis=0)
        order = jnp.argsort(-sizes[chosen])
    units = jnp.eye(lin.size, dtype=lin.dtype)[:, chosen]
    eye = jnp.eye(n, dtype=lin.dtype)
    return units[:, order], Rows(jnp.zeros((n,), lin.dtype), eye[order])


def _pattern(matrix: jax.Array) -> jax.Array:
    """1 where an entry is not exactly zero; the signs of products of patterns bound a product's."""
    return (jax.lax.stop_gradient(matrix) != 0).astype(matrix.dtype)


def _rank_bound(pattern: jax.Array) -> jax.Array:
    rows, columns = (jnp.sum(jnp.any(pattern != 0, axis=axis)) for axis in (1, 0))
    return jnp.minimum(rows, columns)


def _restrict(frame: jax.Array, factor: Rows, chosen: np.ndarray) -> Rows:
    _, r = orthonormalise(frame[chosen], None)
    return multiply(r, factor, _scale_of_dead(r, factor))


def _scale_of_dead(r: jax.Array, factor: Rows) -> jax.Array:
    """The scale of the rows that a zero pivot of r could still let into a zero row."""
    dead = jnp.diagonal(jax.lax.stop_gradient(r)) == 0
    largest = jnp.max(jnp.where(dead, factor.scale, -jnp.inf))
    return jnp.where(jnp.isneginf(largest), factor.scale, largest)
