"""Decompositions along a branch: a solver with a matrix, and signs of determinants."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from rnndyn.points import dense

SMALL = 8  # up to this size elimination in plain array code beats a call of LAPACK


def factored(matrix: jax.Array) -> tuple[Callable[[jax.Array], jax.Array], jax.Array]:
    """The function that solves with a matrix, and the sign of the determinant."""
    if matrix.shape[0] <= SMALL:
        inverted = dense.inverse(matrix)
        return lambda right: inverted.matrix @ right, inverted.sign
    lu, pivots = jax.lax.linalg.lu(matrix)[:2]
    order = row_order(pivots)

    def solve(right):
        lower = _triangular(lu, right[order], lower=True, unit_diagonal=True)
        return _triangular(lu, lower, lower=False)

    return solve, _parity(lu, pivots)


def last_column(matrix: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The solution x of A x = (0, ..., 0, 1), and the sign of the determinant.

    As a further column of A the right side goes through the elimination and needs no reordering.
    """
    n = len(matrix)
    if n <= SMALL:
        inverted = dense.inverse(matrix)
        return inverted.matrix[:, -1], inverted.sign
    unit = jnp.zeros_like(matrix[:, :1]).at[-1].set(1)
    lu, pivots = jax.lax.linalg.lu(jnp.concatenate([matrix, unit], axis=1))[:2]
    return _triangular(lu[:, :n], lu[:, n], lower=False), _parity(lu, pivots)


def _triangular(matrix: jax.Array, right: jax.Array, **which: bool) -> jax.Array:
    return jax.lax.linalg.triangular_solve(matrix, right[:, None], left_side=True, **which)[:, 0]


def row_order(pivots: jax.Array) -> jax.Array:
    """The rows of A in the order of the rows of L U, from the swaps k <-> pivots[k] >= k.

    JAX's own form makes one swap after another, n rounds of a loop of a dozen kernels, which in a
    larger program costs three times what the decomposition does (n = 65). Here, of a place j at
    time k: its row came with the last swap t < k with pivots[t] = j, from place t at time t, and
    if there was none j still has its own. Following that back from place k at time k by pointer
    doubling takes log2 n gathers.
    """
    n = pivots.size
    place = jnp.arange(n, dtype=pivots.dtype)

    def last(j):
        came = (pivots[:, None] == j[None, :]) & (place[:, None] < place[None, :])
        return jnp.max(jnp.where(came, place[:, None], -1), axis=0)

    back = last(place)
    root = jnp.where(back < 0, place, back)
    for _ in range((n - 1).bit_length()):
        root = root.at[root].get(mode="promise_in_bounds")
    brought = last(pivots)
    moved = jnp.where(
        brought < 0, pivots, root.at[jnp.maximum(brought, 0)].get(mode="promise_in_bounds")
    )
    return jnp.where(pivots == place, root, moved)


def _parity(lu: jax.Array, pivots: jax.Array) -> jax.Array:
    """The sign of a determinant from its LU decomposition."""
    swaps = jnp.sum(pivots != jnp.arange(len(lu), dtype=pivots.dtype))
    negative = swaps + jnp.sum(jnp.diagonal(lu) < 0)
    return (1 - 2 * (negative % 2)).astype(lu.dtype)


@jax.custom_batching.sequential_vmap
def determinant_sign(matrix: jax.Array) -> jax.Array:
    """The sign of one determinant; under `vmap` one after another (see `dense`)."""
    return _parity(*jax.lax.linalg.lu(matrix)[:2])
