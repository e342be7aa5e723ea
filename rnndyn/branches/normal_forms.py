"""Normal-form coefficients of maps at a bifurcation, from nested forward derivatives.

A = dF/dz, and B, C are the second and third derivatives of F as multilinear forms. Vectors are
scaled so that |q| = 1 and <p, q> = 1, with <p, q> = conj(p) . q, and the largest component of a
real q is positive. `vectors` = (q, p) where they are known already; else they are computed.
Kuznetsov, Elements of Applied Bifurcation Theory, 3rd ed. 2004, sec. 5.4.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from rnndyn.core.jacobian import jacobian

Vectors = tuple[jax.Array, jax.Array] | None


def second(F: Callable, z: jax.Array, u: jax.Array, v: jax.Array) -> jax.Array:
    """B(u, v) for real u and v."""
    return jax.jvp(lambda z: jax.jvp(F, (z,), (u,))[1], (z,), (v,))[1]


def third(F: Callable, z: jax.Array, u: jax.Array, v: jax.Array, w: jax.Array) -> jax.Array:
    """C(u, v, w) for real u, v and w."""
    return jax.jvp(lambda z: second(F, z, u, v), (z,), (w,))[1]


def critical_vectors(A: jax.Array, multiplier: jax.Array) -> tuple[jax.Array, jax.Array]:
    """q and p with A q = multiplier q and p^H A = multiplier p^H, scaled as above.

    They are singular vectors of A - multiplier I, so a defective rest of the spectrum does no
    harm. p is infinite or NaN where the multiplier itself is defective.
    """
    eye = jnp.eye(A.shape[0], dtype=A.dtype)
    left, _, right = jnp.linalg.svd(A - multiplier * eye)
    q, p = right[-1].conj(), left[:, -1]
    leading = q[jnp.argmax(jnp.abs(q))]
    q = q * jnp.sign(leading).conj()
    return q, p / jnp.vdot(q, p)


def fold(F: Callable, z: jax.Array, vectors: Vectors = None) -> tuple[jax.Array, jax.Array]:
    """The quadratic a = 1/2 <p, B(q, q)> and the cubic coefficient at a multiplier +1.

    The cubic, 1/6 <p, C(q, q, q) + 3 B(q, h)> with (I - A) h = B(q, q) - 2 a q and <p, h> = 0,
    is what matters where a = 0: at a cusp or a pitchfork.
    """
    A = jacobian(F, z)[1]
    q, p = critical_vectors(A, jnp.ones((), A.dtype)) if vectors is None else vectors
    curvature = second(F, z, q, q)
    a = 0.5 * jnp.dot(p, curvature)
    eye = jnp.eye(z.size, dtype=A.dtype)
    bordered = jnp.block([[eye - A, q[:, None]], [p[None], jnp.zeros((1, 1), A.dtype)]])
    h = jnp.linalg.solve(bordered, jnp.append(curvature - 2 * a * q, 0))[:-1]
    cubic = jnp.dot(p, third(F, z, q, q, q) + 3 * second(F, z, q, h)) / 6
    return a, cubic


def flip(F: Callable, z: jax.Array, vectors: Vectors = None) -> jax.Array:
    """c = 1/6 <p, C(q, q, q) + 3 B(q, (I - A)^-1 B(q, q))>; c > 0 means a stable 2-cycle."""
    A = jacobian(F, z)[1]
    q, p = critical_vectors(A, -jnp.ones((), A.dtype)) if vectors is None else vectors
    h = jnp.linalg.solve(jnp.eye(z.size, dtype=A.dtype) - A, second(F, z, q, q))
    return jnp.dot(p, third(F, z, q, q, q) + 3 * second(F, z, q, h)) / 6


def neimark_sacker(
    F: Callable, z: jax.Array, angle: jax.Array, vectors: Vectors = None
) -> jax.Array:
    """The complex d of z -> e^{i angle} z (1 + d |z|^2); Re d < 0 means a stable circle.

    d = 1/2 e^{-i angle} <p, C(q, q, conj q) + 2 B(q, (I - A)^-1 B(q, conj q))
    + B(conj q, (e^{2 i angle} I - A)^-1 B(q, q))>. Not defined at the strong resonances, angle =
    2 pi / k with k <= 4.
    """
    A = jacobian(F, z)[1]
    multiplier = jax.lax.complex(jnp.cos(angle), jnp.sin(angle))
    square = jax.lax.complex(jnp.cos(2 * angle), jnp.sin(2 * angle))
    matrix = jax.lax.complex(A, jnp.zeros_like(A))
    eye = jnp.eye(z.size, dtype=matrix.dtype)
    q, p = critical_vectors(matrix, multiplier) if vectors is None else vectors

    def bilinear(u, v):
        real = second(F, z, u.real, v.real) - second(F, z, u.imag, v.imag)
        return jax.lax.complex(real, second(F, z, u.real, v.imag) + second(F, z, u.imag, v.real))

    a, b = q.real, q.imag  # C(q, q, conj q) = (a + i b)(a^2 + b^2)
    cubic = jax.lax.complex(
        third(F, z, a, a, a) + third(F, z, a, b, b), third(F, z, a, a, b) + third(F, z, b, b, b)
    )
    through = jnp.linalg.solve(eye.real - A, second(F, z, a, a) + second(F, z, b, b))
    steady = jax.lax.complex(through, jnp.zeros_like(through))  # as B(q, conj q) is real
    doubled = jnp.linalg.solve(square * eye - matrix, bilinear(q, q))
    total = cubic + 2 * bilinear(q, steady) + bilinear(q.conj(), doubled)
    return 0.5 * multiplier.conj() * jnp.vdot(p, total)
