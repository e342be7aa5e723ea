"""Long products of Jacobians as graded factors: the one mechanism behind the analyses of a run.

A product over thousands of steps spans thousands of decades, so it is never formed. It is kept as
Q diag(exp s) R: Q with orthonormal columns, the log scales s, and R with rows of unit length.
Scales are constants to differentiation: the split between s and R is free, so all tangents are
carried by R, and those of Q and the triangular factor by the rule of `orthonormalise`. For the
same reason they may be whole numbers while a product grows: sums of those are exact, and a million
equal increments do not drift.
"""

import operator
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rnndyn.core import validation
from rnndyn.core.factor import scaled_columns, sorted_qr
from rnndyn.core.pytree import pytree
from rnndyn.core.split import Split, entries, largest_of_rows
from rnndyn.linearize import Dense, InParts, Linearization

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
    axes = 3 if isinstance(lin, Dense | InParts) else 2
    if np.ndim(jax.tree.leaves(lin.slices)[0]) != axes:
        got, advice = "a batch of them", "use jax.vmap over its leading axes"
        raise ValueError(validation.sentence("lin", "one Linearization", got, advice))


def block_coordinates(lin: Linearization, block: str) -> tuple[int, ...]:
    """The coordinates of z that a block means: all of them, or those of the hidden output."""
    validation.require_choice("block", block, BLOCKS)
    return lin.hidden if block == "hidden" else tuple(range(lin.size))


def latest(lin: Linearization, lags: tuple[int, ...]) -> tuple[Any, jax.Array]:
    """The last max(lags) slices, and for each the slot of its lag, len(lags) if not asked for."""
    depth = max(lags)
    slots = np.full((depth,), len(lags), np.int32)
    for slot, lag in enumerate(lags):
        if lag > 0:
            slots[depth - lag] = slot
    return jax.tree.map(lambda leaf: leaf[lin.steps - depth :], lin.slices), jnp.asarray(slots)


def blocks(steps: int, lags: tuple[int, ...], longest: int) -> tuple[jax.Array, ...]:
    """Newest step, length and slot of blocks that end where a lag does; no slot: len(lags)."""
    found, done = [], 0
    for lag in sorted({lag for lag in lags if lag > 0}):
        while done < lag:
            length = min(longest, lag - done)
            ends = done + length == lag
            found.append((steps - 1 - done, length, lags.index(lag) if ends else len(lags)))
            done += length
    return tuple(jnp.asarray(column, jnp.int32) for column in zip(*found, strict=True))


def slice_at(lin: Linearization, step: jax.Array) -> Any:
    """The entry of `lin.slices` at a step."""
    return jax.tree.map(
        lambda leaf: jax.lax.dynamic_index_in_dim(leaf, step, keepdims=False), lin.slices
    )


def multiply(
    matrix: jax.Array | Split,
    factor: Rows,
    scale_of_zero: jax.Array,
    product: Callable = operator.matmul,
) -> Rows:
    """matrix @ factor, each row with a scale of its own, so nothing under- or overflows.

    Parameters
    ----------
    matrix : jax.Array or Split, shape (n, m)
    factor : Rows, of m rows
    scale_of_zero : jax.Array, shape (n,)
        The scale to give a row that comes out exactly zero; its tangent is measured in it.
    product : callable
        `triangular_product` where both are upper triangular.
    """
    alive = jnp.any(factor.rows != 0, axis=1)
    seen = jnp.where(alive, factor.scale, -jnp.inf)

    def log_size(entry, _, scale):
        return jnp.log(jnp.abs(jax.lax.stop_gradient(entry))) + scale

    magnitudes = entries(matrix, log_size, scale_of_zero, seen)
    largest = largest_of_rows(magnitudes)
    largest = jnp.round(jnp.where(jnp.isneginf(largest), scale_of_zero, largest))
    # |entry| exp(exponent) <= 2, in two halves as exp(exponent) alone may overflow. Not so where
    # the entry or the row is zero: the caps keep 0 * inf out of values and tangents.
    limit = jnp.asarray(np.log(np.finfo(factor.scale.dtype).max), factor.scale.dtype)

    def weighted(entry, largest, scale, alive):
        cap = jnp.where(jnp.abs(entry) < jnp.exp(limit / 2), limit / 4, jnp.zeros_like(limit))
        cap = jnp.where(alive & (entry != 0), limit, cap)
        half = jnp.exp(jnp.minimum(scale - largest, cap) / 2)
        return entry * half * half

    weights = entries(matrix, weighted, largest, factor.scale, alive)
    return rescale(Rows(largest, product(weights, factor.rows)))


def rescale(factor: Rows) -> Rows:
    """The same matrix with rows of length e^(-1/2) to e^(1/2), scales moved by whole numbers."""
    whole = jnp.round(jnp.log(_lengths(factor)))
    return Rows(factor.scale + whole, factor.rows * jnp.exp(-whole)[:, None])


def normalise(factor: Rows) -> Rows:
    """The same matrix with rows of unit length."""
    length = _lengths(factor)
    return Rows(factor.scale + jnp.log(length), factor.rows / length[:, None])


def _lengths(factor: Rows) -> jax.Array:
    """The lengths of the rows, 1 for a zero row; constants to differentiation."""
    length = jax.lax.stop_gradient(jnp.sqrt(jnp.sum(factor.rows**2, axis=1)))
    return jnp.where(length == 0, jnp.ones_like(length), length)


def orthonormalise(y: jax.Array, factors: Any) -> tuple[jax.Array, jax.Array]:
    """Orthonormal Q and upper triangular R with y = Q R, accurate by rows.

    Rows are sorted by size first: see `factor.sorted_qr`.

    Parameters
    ----------
    y : jax.Array, shape (d, k), k <= d
    factors : None, or A (d, d), array or Split, and F (d, k) with y = A F
        The columns of A may differ in size by any factor: they are pulled out, A = B D, and D F
        is factored before B is applied, so that small and zero columns do no harm.

    Returns
    -------
    tuple of jax.Array, shapes (d, k) and (k, k)
    """
    q, r, _ = orthonormalise_with_losses(y, factors)
    return q, r


@jax.custom_jvp
def orthonormalise_with_losses(y: jax.Array, factors: Any) -> tuple[jax.Array, ...]:
    """`orthonormalise`, and by how much it magnifies rounding in each row of R: see `losses`."""
    if factors is None:
        q, r = sorted_qr(y)
        return q, r, losses(r)
    a, frame = factors
    b, sizes = scaled_columns(a)
    inner, r_inner = sorted_qr(sizes[:, None] * frame)
    q, r_outer = sorted_qr(b @ inner)
    sizes = jnp.sqrt(jnp.sum(jax.lax.stop_gradient(r_inner) ** 2, axis=1))  # graded by rows
    return q, jnp.triu(r_outer @ r_inner), losses(r_outer) + losses(r_inner, sizes)


@orthonormalise_with_losses.defjvp
def _orthonormalise_jvp(primals: Any, tangents: Any) -> Any:
    """The derivative of QR, with a rotation of the frame only where a pivot is not zero.

    y' = Q' R + Q R', Q' = Q Omega + (the part outside the span of Q). Any antisymmetric Omega is
    right as long as Q R' takes the rest; the usual one makes R' triangular. Where a pivot is
    exactly zero there is nothing to rotate against and the entries below it stay in R'.
    """
    y_dot = tangents[0]
    q, r, lost = orthonormalise_with_losses(*primals)
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
    return (q, r, lost), (q_dot, r_dot, jnp.zeros_like(lost))


def grading(r: jax.Array) -> jax.Array:
    """||R||_F over the smallest |r_jj|: what the columns of y = Q R differ by; inf if one is 0."""
    r = jax.lax.stop_gradient(r)
    return jnp.sqrt(jnp.sum(r**2)) / jnp.min(jnp.abs(jnp.diagonal(r)))


def losses(r: jax.Array, size: jax.Array | None = None) -> jax.Array:
    """How much rounding of y = Q R shows in each row of R, shape (k,), in units of eps.

    Rounding dy of y changes the singular values of y L, whatever L, by factors within
    1 +- ||dy R^-1||: `size` (||R||_F by default) times the lengths of the columns of R^-1, which
    with R = D (I + N) are taken from (I - N) D^-1. 0 for an exactly zero pivot, whose values are
    zero exactly.
    """
    r = jax.lax.stop_gradient(r)
    pivots = jnp.abs(jnp.diagonal(r))
    dead = pivots == 0
    safe = jnp.where(dead, jnp.ones_like(pivots), pivots)
    scaled = jnp.where(dead[:, None], jnp.zeros_like(r), r / safe[:, None])
    lengths = jnp.sqrt(jnp.sum(scaled**2, axis=0)) / safe
    size = jnp.sqrt(jnp.sum(r**2)) if size is None else size
    return jnp.where(dead, jnp.zeros_like(pivots), size * lengths)


def scale_of_dead(r: jax.Array, factor: Rows) -> jax.Array:
    """The scale of the rows that a zero pivot of r could still let into a zero row."""
    dead = jnp.diagonal(jax.lax.stop_gradient(r)) == 0
    largest = jnp.max(jnp.where(dead, factor.scale, -jnp.inf))
    return jnp.where(jnp.isneginf(largest), factor.scale, largest)
