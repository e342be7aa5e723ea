"""Decompositions along a branch: a solver with a matrix, and signs of determinants."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.lax.linalg import triangular_solve

from rnndyn.points import dense

SMALL = 8  # up to this size elimination in plain array code beats a call of LAPACK


def factored(matrix: jax.Array) -> tuple[Callable[[jax.Array], jax.Array], jax.Array]:
    """The function that solves with a matrix, and the sign of the determinant."""
    if matrix.shape[0] <= SMALL:
        inverted = dense.inverse(matrix)
        return lambda right: inverted.matrix @ right, inverted.sign
    # The order of the rows is a loop of its own: once here, and not in every `lu_solve`.
    lu, pivots, order = jax.lax.linalg.lu(matrix)

    def inverse(right):
        lower = triangular_solve(
            lu, right[order, None], left_side=True, lower=True, unit_diagonal=True
        )
        return triangular_solve(lu, lower, left_side=True, lower=False)[:, 0]

    return inverse, _parity(lu, pivots)


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
    column = triangular_solve(lu[:, :n], lu[:, n:], left_side=True, lower=False)
    return column[:, 0], _parity(lu, pivots)


def ends(matrix: jax.Array, k: int) -> tuple[jax.Array, jax.Array]:
    """The last k columns of the inverse of a matrix, (n, k), and its last row, (n,)."""
    n = len(matrix)
    units = jnp.eye(n, k, k - n, dtype=matrix.dtype)
    lu, _, order = jax.lax.linalg.lu(jnp.concatenate([matrix, units], axis=1))
    lu, right = lu[:, :n], lu[:, n:]
    right = triangular_solve(lu, right, left_side=True, lower=False)
    # U^T y = e_n has the solution e_n / U_nn.
    last = units[:, -1:] / lu[-1, -1]
    left = triangular_solve(
        lu, last, left_side=True, lower=True, unit_diagonal=True, transpose_a=True
    )
    # P^T as a matrix: a scatter would be a loop.
    placed = jnp.where(order[:, None] == jnp.arange(n, dtype=order.dtype)[None], left, 0)
    return right, jnp.sum(placed, axis=0)


def _parity(lu: jax.Array, pivots: jax.Array) -> jax.Array:
    """The sign of a determinant from its LU decomposition."""
    swaps = jnp.sum(pivots != jnp.arange(len(lu), dtype=pivots.dtype))
    negative = swaps + jnp.sum(jnp.diagonal(lu) < 0)
    return (1 - 2 * (negative % 2)).astype(lu.dtype)


@jax.custom_batching.sequential_vmap
def determinant_sign(matrix: jax.Array) -> jax.Array:
    """The sign of one determinant; under `vmap` one after another (see `dense`)."""
    return _parity(*jax.lax.linalg.lu(matrix)[:2])
