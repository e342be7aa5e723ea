"""Bifurcations as roots of bordered test functions, in as few unknowns as there can be.

With A singular, the solution of [A, b; c^T, 0] [v; g] = [0; 1] has g = 0, v spans the kernel,
and the solution w of the transposed system the left one; dg = -w^T dA v (Griewank & Reddien 1984;
Govaerts, Numerical methods for bifurcations of dynamical equilibria, 2000, ch. 3). So G = 0, g = 0
has d + 1 unknowns, or d + 2, where the system with the critical vectors among its unknowns has up
to 3 d + 2. Per step: two LU decompositions, a Jacobian and d + 1 forward derivatives of a product.
The borders b and c follow w and v, so the bordered matrix is as regular as it can be while the
kernel has dimension one.
"""

from typing import Any

import jax
import jax.numpy as jnp

from rnndyn.branches.arclength import Family, size
from rnndyn.core.pytree import pytree

ITERATIONS = 12
MULTIPLIER = {"fold": 1, "flip": -1}


@pytree
class Null:
    """Critical vectors of a bordered matrix, and the test functions (k,) that vanish with them.

    Attributes
    ----------
    left : jax.Array, shape (d,)
        w with w^T A = 0, not conjugated.
    right : jax.Array, shape (n, k)
        Kernel of A; of a branch point that of G_u, in u, else in z.
    test : jax.Array, shape (k,)
    """

    left: jax.Array
    right: jax.Array
    test: jax.Array


def solve(family: Family, kind: str, u: jax.Array, angle: jax.Array) -> tuple[jax.Array, Null]:
    """Newton from u: the root x = (u[, angle or unfolding]) and the critical vectors there.

    It ends when a step is below 8 eps of the unknowns, when it has stopped falling at rounding,
    or after `ITERATIONS`.
    """
    eps = jnp.finfo(u.dtype).eps
    x = u
    if kind not in MULTIPLIER:
        extra = angle if kind == "neimark_sacker" else jnp.zeros_like(angle)
        x = jnp.append(u, extra)

    def unsettled(carry):
        x, step, before, count, _ = carry
        rounding = eps * jnp.maximum(1, size(x))
        resting = (step <= 1024 * rounding) & (step > 0.5 * before)
        return (count < ITERATIONS) & (step > 8 * rounding) & ~resting

    def improve(carry):
        x, before, _, count, borders = carry
        value, slope = family.derivative(x[: u.size])
        null = _null(kind, slope, x, borders)
        matrix, right = _linear(family, kind, x, value, slope, null, borders)
        usable = jnp.all(jnp.isfinite(matrix)) & jnp.all(jnp.isfinite(right))
        change = jnp.linalg.solve(jnp.where(usable, matrix, 0), right)
        return x - change, size(change), before, count + 1, _directions(null)

    infinite = jnp.asarray(jnp.inf, u.dtype)
    slope = family.derivative(u)[1]
    borders = _directions(_null(kind, slope, x, _generic(kind, x, u.size - 1)))
    start = (x, infinite, infinite, jnp.asarray(0), borders)
    x, _, _, _, borders = jax.lax.while_loop(unsettled, improve, start)
    return x, _null(kind, family.derivative(x[: u.size])[1], x, borders)


def residual(family: Family, kind: str, x: jax.Array, null: Null) -> jax.Array:
    """Max norm of G and of A on its critical vectors, at length 1; the unfolding included."""
    u = x[: null.left.size + 1]
    value, slope = family.derivative(u)
    left, right = _directions(null)
    if kind == "branch_point":
        off = jnp.append(left @ slope, x[-1])
    else:
        off = _matrix(kind, slope, x) @ right[:, 0]
    return jnp.maximum(size(value), size(jnp.abs(off)))


def critical_vectors(kind: str, null: Null) -> tuple[jax.Array, jax.Array]:
    """q and p in z as `normal_forms.critical_vectors` scales them."""
    q = null.right[:, 0]
    if kind == "branch_point":  # the vector of the kernel without a component in the parameter
        one, two = null.right.T
        q = (two[-1] * one - one[-1] * two)[:-1]
    q = _unit(q)
    q = q * jnp.sign(q[jnp.argmax(jnp.abs(q))]).conj()
    p = null.left.conj()
    return q, p / jnp.vdot(q, p)


def _matrix(kind: str, slope: jax.Array, x: jax.Array) -> jax.Array:
    """A: G_u of a branch point, otherwise dF/dz less the critical multiplier."""
    if kind == "branch_point":
        return slope
    by_z = slope[:, :-1]
    eye = jnp.eye(len(by_z), dtype=x.dtype)
    if kind in MULTIPLIER:
        return by_z + (1 - MULTIPLIER[kind]) * eye
    real = by_z + (1 - jnp.cos(x[-1])) * eye
    return jax.lax.complex(real, -jnp.sin(x[-1]) * eye)


def _generic(kind: str, x: jax.Array, d: int) -> tuple[jax.Array, jax.Array]:
    """Borders (d,) and (n, k) to begin with, orthogonal to nothing in particular."""
    n, k = (d + 1, 2) if kind == "branch_point" else (d, 1)
    b = jnp.cos(1 + jnp.arange(d, dtype=x.dtype) ** 2)
    c = jnp.sin(2 + jnp.arange(n * k, dtype=x.dtype) ** 2).reshape(n, k)
    if kind == "neimark_sacker":
        return jax.lax.complex(b, jnp.sin(b)), jax.lax.complex(c, jnp.cos(c))
    return b, c


def _null(kind: str, slope: jax.Array, x: jax.Array, borders: tuple[jax.Array, jax.Array]) -> Null:
    b, c = borders
    slope = jnp.where(jnp.isfinite(slope), slope, 0)
    n, k = c.shape
    d = b.size
    # The borders are the conjugates of the critical vectors, for the largest |w^T b| and |c^T v|.
    corner = jnp.zeros((k, 1), b.dtype)
    top = jnp.concatenate([_matrix(kind, slope, x), b.conj()[:, None]], axis=1)
    matrix = jnp.concatenate([top, jnp.concatenate([c.conj().T, corner], axis=1)])
    factors = jax.scipy.linalg.lu_factor(matrix)
    ends = jnp.zeros((n + 1, k), b.dtype).at[-k:].set(jnp.eye(k, dtype=b.dtype))
    last = jnp.zeros(n + 1, b.dtype).at[-1].set(1)
    right = jax.scipy.linalg.lu_solve(factors, ends)
    left = jax.scipy.linalg.lu_solve(factors, last, trans=1)
    return Null(left[:d], right[:n], left[d:])


def _directions(null: Null) -> tuple[jax.Array, jax.Array]:
    """The critical vectors at length 1, those of a two-dimensional kernel orthogonal."""
    first = _unit(null.right[:, 0])
    others = [_unit(v - (first.conj() @ v) * first) for v in null.right.T[1:]]
    return _unit(null.left), jnp.stack([first, *others], axis=1)


def _unit(v: jax.Array) -> jax.Array:
    return v / jnp.linalg.norm(v).astype(v.dtype)


def _linear(family, kind: str, x, value, slope, null: Null, borders) -> tuple[Any, Any]:
    """Jacobian and value of the system in x."""
    n = slope.shape[1]

    def value_at(z, s):
        return family.rule(s)(z)

    def product(z, s):
        """w^T (dG v) as real numbers, for fixed w and v."""
        w, v = null.left, null.right
        if kind == "branch_point":
            whole = [jax.jvp(value_at, (z, s), (v[:-1, i], v[-1, i]))[1] for i in (0, 1)]
            return jnp.stack([w @ part for part in whole])
        parts = [jax.jvp(family.rule(s), (z,), (part,))[1] for part in _parts(v[:, 0])]
        if kind in MULTIPLIER:
            return (w @ parts[0])[None]
        a, b = w.real, w.imag
        return jnp.stack([a @ parts[0] - b @ parts[1], a @ parts[1] + b @ parts[0]])

    z, s = x[: n - 1], x[n - 1]
    by_s = jax.jacfwd(product, argnums=1)(z, s)[:, None]
    by_u = -jnp.concatenate([jax.jacfwd(product)(z, s), by_s], axis=1)
    if kind in MULTIPLIER:
        return jnp.concatenate([slope, by_u]), jnp.append(value, null.test)
    if kind == "branch_point":
        b = borders[0]
        rows = jnp.concatenate([slope, b[:, None]], axis=1), jnp.pad(by_u, ((0, 0), (0, 1)))
        return jnp.concatenate(rows), jnp.concatenate([value + x[-1] * b, null.test])
    turn = jax.lax.complex(-jnp.sin(x[-1]), jnp.cos(x[-1])) * (null.left @ null.right[:, 0])
    by_angle = jnp.stack(_parts(turn))[:, None]
    rows = jnp.pad(slope, ((0, 0), (0, 1))), jnp.concatenate([by_u, by_angle], axis=1)
    return jnp.concatenate(rows), jnp.concatenate([value, jnp.stack(_parts(null.test[0]))])


def _parts(a: jax.Array) -> tuple[jax.Array, ...]:
    return (a.real, a.imag) if jnp.iscomplexobj(a) else (a,)
