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
    factors = jax.scipy.linalg.lu_factor(matrix)
    return lambda right: jax.scipy.linalg.lu_solve(factors, right), _parity(*factors)


def _parity(lu: jax.Array, pivots: jax.Array) -> jax.Array:
    """The sign of a determinant from its LU decomposition."""
    swaps = jnp.sum(pivots != jnp.arange(len(lu), dtype=pivots.dtype))
    negative = swaps + jnp.sum(jnp.diagonal(lu) < 0)
    return (1 - 2 * (negative % 2)).astype(lu.dtype)


@jax.custom_batching.sequential_vmap
def determinant_sign(matrix: jax.Array) -> jax.Array:
    """The sign of one determinant; under `vmap` one after another (see `dense`)."""
    return _parity(*jax.lax.linalg.lu(matrix)[:2])
