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
    gets a huge inverse, and never NaN. Cost 8/3 d^3.
    """
    d = a.shape[0]
    eps = jnp.finfo(a.dtype).eps
    tiny = eps * eps * jnp.maximum(jnp.max(jnp.abs(a), initial=0), eps)
    # As further columns of A those of I go through the elimination and need no reordering.
    lu, pivots, _ = jax.lax.linalg.lu(jnp.concatenate([a, jnp.eye(d, dtype=a.dtype)], axis=1))
    upper, lower = lu[:, :d], lu[:, d:]
    pivot = jnp.diagonal(upper)
    swaps = jnp.sum(pivots != jnp.arange(d, dtype=pivots.dtype)) % 2
    sign = jnp.prod(jnp.sign(pivot)) * (1 - 2 * swaps).astype(a.dtype)
    safe = jnp.where(jnp.abs(pivot) < tiny, tiny.astype(a.dtype), pivot)
    upper = upper + jnp.diag(safe - pivot)
    return Inverse(triangular_solve(upper, lower, left_side=True, lower=False), sign)


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

    def iterate(_, last):
        left, _ = _unit(adjoint @ last.right)
        right, length = _unit(inverted @ left)
        return Smallest(1 / length, left, right)

    start = start.astype(inverted.dtype)
    first = Smallest(jnp.ones((), real), start, start)
    return jax.lax.fori_loop(0, _ITERATIONS + 1, iterate, first)


def _unit(v: jax.Array) -> tuple[jax.Array, jax.Array]:
    """v at length 1, and its length."""
    largest = jnp.max(jnp.abs(v))
    v = v / largest.astype(v.dtype)
    length = jnp.sqrt(jnp.vdot(v, v).real)
    return v / length.astype(v.dtype), largest * length
