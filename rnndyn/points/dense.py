"""Small dense matrices: inverse and sign of the determinant, and the smallest singular value.

Each matrix is one LAPACK call of its own, under `jax.vmap` too. On a CPU, XLA spreads a stacked
call over its thread pool and waits there; two threads that run such calls in loops can each hold
the workers that the other waits for, for ever. Stacked triangular solves take long to compile too.
"""

import jax
import jax.numpy as jnp
from jax.lax.linalg import triangular_solve

from rnndyn.core.pytree import pytree

_ITERATIONS = 12  # of inverse iteration


@pytree
class Inverse:
    """An inverse and the sign of the determinant.

    Attributes
    ----------
    matrix : jax.Array, shape (d, d)
    sign : jax.Array, scalar
        +1 or -1 (of unit modulus if complex); 0 if a pivot is exactly zero.
    """

    matrix: jax.Array
    sign: jax.Array


@pytree
class Smallest:
    """The smallest singular value s of A and its vectors: A right = s left.

    Attributes
    ----------
    value : jax.Array, scalar
    left, right : jax.Array, shape (d,), of length 1
    """

    value: jax.Array
    left: jax.Array
    right: jax.Array


@jax.custom_batching.sequential_vmap
def inverse(a: jax.Array) -> Inverse:
    """The inverse of one matrix (d, d) from its LU factors; under `jax.vmap` one after another.

    A pivot below eps^2 max |A| is replaced by that, as in inverse iteration: a singular matrix
    gets a huge inverse, and never NaN. Cost 2 d^3.
    """
    d = a.shape[0]
    eps = jnp.finfo(a.dtype).eps
    tiny = eps * eps * jnp.maximum(jnp.max(jnp.abs(a), initial=0), eps)
    lu, pivots, order = jax.lax.linalg.lu(a)
    pivot = jnp.diagonal(lu)
    swaps = jnp.sum(pivots != jnp.arange(d, dtype=pivots.dtype)) % 2
    sign = jnp.prod(jnp.sign(pivot)) * (1 - 2 * swaps).astype(a.dtype)
    safe = jnp.where(jnp.abs(pivot) < tiny, tiny.astype(a.dtype), pivot)
    lu = lu + jnp.diag(safe - pivot)
    eye = jnp.eye(d, dtype=a.dtype)[order]
    lower = triangular_solve(lu, eye, left_side=True, lower=True, unit_diagonal=True)
    return Inverse(triangular_solve(lu, lower, left_side=True, lower=False), sign)


@jax.custom_batching.sequential_vmap
def modes(a: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Eigenvalues (d,), left and right eigenvectors (d, d) of one matrix; no derivative."""
    values, left, right = jax.lax.linalg.eig(a)
    return values, left, right


@jax.custom_batching.sequential_vmap
def nullity(a: jax.Array, level: jax.Array) -> jax.Array:
    """How many singular values of one matrix (d, d) are at most `level`; int32."""
    values = jnp.linalg.svd(a, compute_uv=False)
    return jnp.sum(values <= level).astype(jnp.int32)


def smallest_singular(inverted: jax.Array) -> Smallest:
    """The smallest singular value of the matrix whose inverse is given, found from above.

    Inverse iteration: the error falls as (s_1 / s_2)^(4 k) in k = 12 iterations, and where the two
    smallest values lie too close for that the result lies between them, or between those near by.
    """
    real = jnp.finfo(inverted.dtype).dtype
    start = 1.5 + jnp.cos(2 * jnp.arange(inverted.shape[0], dtype=real))
    adjoint = jnp.conj(inverted.T)

    def iterate(_, right):
        return _unit(inverted @ _unit(adjoint @ right))

    right = jax.lax.fori_loop(0, _ITERATIONS, iterate, start.astype(inverted.dtype))
    left = _unit(adjoint @ right)
    pushed = inverted @ left
    return Smallest(1 / jnp.linalg.norm(pushed), left, _unit(pushed))


def _unit(v: jax.Array) -> jax.Array:
    v = v / jnp.max(jnp.abs(v)).astype(v.dtype)
    return v / jnp.linalg.norm(v).astype(v.dtype)
