"""Small dense matrices: inverse and sign of the determinant, and the smallest singular value.

Written for stacks of matrices under `jax.vmap`, in plain array operations. XLA's triangular solve
of a stack takes seconds to minutes to compile on a CPU, and LAPACK calls inside a loop can lock
up when two threads run them; Gauss-Jordan elimination has neither problem.
"""

import jax
import jax.numpy as jnp

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


def inverse(a: jax.Array) -> Inverse:
    """The inverse of one matrix (d, d) by Gauss-Jordan elimination with partial pivoting.

    A pivot below eps^2 max |A| is replaced by that, as in inverse iteration: a singular matrix
    gets a huge inverse, and never NaN. Cost 2 d^3.
    """
    d = a.shape[0]
    index = jnp.arange(d)
    eps = jnp.finfo(a.dtype).eps
    tiny = eps * eps * jnp.maximum(jnp.max(jnp.abs(a), initial=0), eps)

    def eliminate(k, carry):
        m, order, sign = carry
        p = jnp.argmax(jnp.where(index < k, -1, jnp.abs(m[:, k])))
        at_k, at_p = index == k, index == p
        upper, lower = m[p], m[k]
        m = jnp.where(at_k[:, None], upper[None, :], jnp.where(at_p[:, None], lower[None, :], m))
        order = jnp.where(at_k, order[p], jnp.where(at_p, order[k], order))
        pivot = upper[k]
        sign = sign * jnp.sign(pivot) * jnp.where(p == k, 1, -1).astype(a.dtype)
        pivot = jnp.where(jnp.abs(pivot) < tiny, tiny.astype(a.dtype), pivot)
        row = jnp.where(at_k, 1, upper) / pivot
        column = jnp.where(at_k, 0, m[:, k])
        rest = jnp.where(at_k[None, :], 0, m) - column[:, None] * row[None, :]
        return jnp.where(at_k[:, None], row[None, :], rest), order, sign

    start = (a, index, jnp.ones((), a.dtype))
    m, order, sign = jax.lax.fori_loop(0, d, eliminate, start)
    return Inverse(m[:, jnp.argsort(order)], sign)


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
