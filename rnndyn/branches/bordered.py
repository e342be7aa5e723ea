"""Bifurcations as roots of bordered test functions, in as few unknowns as there can be.

With A singular, the solution of [A, b; c^T, 0] [v; g] = [0; 1] has g = 0, v spans the kernel,
and the solution w of the transposed system the left one; dg = -w^T dA v (Griewank & Reddien 1984;
Govaerts, Numerical methods for bifurcations of dynamical equilibria, 2000, ch. 3). So G = 0, g = 0
has d + 1 unknowns, or d + 2, where the system with the critical vectors among its unknowns has up
to 3 d + 2. Per step: two LU decompositions, a Jacobian and the gradient of a product. The borders b
and c follow w and v, so the bordered matrix is as regular as it can be while the kernel has
dimension one.
"""

import dataclasses

import jax
import jax.numpy as jnp

from rnndyn.branches.arclength import Family, size
from rnndyn.branches.factors import ends, factored
from rnndyn.core.jacobian import jacobian
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


@pytree
class Root:
    """The unknowns x = (u[, angle or unfolding]), and G, G_u and the critical vectors there.

    The borders are those that `null` was found with.
    """

    x: jax.Array
    value: jax.Array
    slope: jax.Array
    borders: tuple[jax.Array, jax.Array]
    null: Null

    @property
    def z(self) -> jax.Array:
        return self.x[: self.value.size]


def solve(family: Family, kind: str, u: jax.Array, angle: jax.Array) -> Root:
    """Newton from u.

    It ends after a step below 8 eps of the unknowns (x is after it, what else there is before it),
    when steps have stopped falling at rounding, or after `ITERATIONS`; G is NaN if the last step
    was too long for that to be known.
    """
    eps = jnp.finfo(u.dtype).eps
    x = u
    if kind not in MULTIPLIER:
        extra = angle if kind == "neimark_sacker" else jnp.zeros_like(angle)
        x = jnp.append(u, extra)

    def at(x, borders):
        value, slope = family.derivative(x[: u.size])
        return Root(x, value, slope, borders, _null(kind, slope, x, borders))

    def unsettled(carry):
        root, _, step, before, count = carry
        least = 8 * eps * jnp.maximum(1, size(root.x))
        resting = (step <= 128 * least) & (step > 0.5 * before)
        return (count < ITERATIONS) & (step > least) & ~resting

    def improve(carry):
        last, borders, before, _, count = carry
        root = at(last.x, borders)
        matrix, right = _jacobian(family, kind, root), _value(kind, root)
        usable = jnp.all(jnp.isfinite(matrix)) & jnp.all(jnp.isfinite(right))
        change = factored(jnp.where(usable, matrix, 0))[0](right)
        root = dataclasses.replace(root, x=root.x - change)
        return root, _directions(root.null), size(change), before, count + 1

    borders, infinite = _generic(kind, x, u.size - 1), jnp.asarray(jnp.inf, u.dtype)
    unknown = jax.tree.map(lambda a: jnp.ones(a.shape, a.dtype), jax.eval_shape(at, x, borders))
    start = (dataclasses.replace(unknown, x=x), borders, infinite, infinite, 0)
    root, _, step, _, _ = jax.lax.while_loop(unsettled, improve, start)
    # What Newton leaves is the square of its last step.
    settled = step <= jnp.sqrt(eps) * jnp.maximum(1, size(root.x))
    return dataclasses.replace(root, value=jnp.where(settled, root.value, jnp.nan))


def residual(kind: str, root: Root) -> jax.Array:
    """Max norm of G and of A on its critical vectors, at length 1; the unfolding included."""
    left, right = _directions(root.null)
    if kind == "branch_point":
        off = jnp.append(left @ root.slope, root.x[-1])
    else:
        off = _matrix(kind, root.slope, root.x) @ right[:, 0]
    return jnp.maximum(size(root.value), size(jnp.abs(off)))


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
    right, left = ends(matrix, k)
    return Null(left[:d], right[:n], left[d:])


def _directions(null: Null) -> tuple[jax.Array, jax.Array]:
    """The critical vectors at length 1, those of a two-dimensional kernel orthogonal."""
    first = _unit(null.right[:, 0])
    others = [_unit(v - (first.conj() @ v) * first) for v in null.right.T[1:]]
    return _unit(null.left), jnp.stack([first, *others], axis=1)


def _unit(v: jax.Array) -> jax.Array:
    return v / jnp.linalg.norm(v).astype(v.dtype)


def _value(kind: str, root: Root) -> jax.Array:
    """The equations in x: G, with the unfolding of a branch point, and the test functions."""
    value = root.value
    if kind == "branch_point":
        value = value + root.x[-1] * root.borders[0]
    return jnp.concatenate([value, *(jnp.atleast_1d(part) for part in _parts(root.null.test))])


def _jacobian(family: Family, kind: str, root: Root) -> jax.Array:
    """Jacobian of the equations in x."""
    slope, null, x = root.slope, root.null, root.x
    z, s = root.z, x[root.z.size]

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

    by_s = jax.jvp(lambda s: product(z, s), (s,), (jnp.ones_like(s),))[1][:, None]
    by_u = -jnp.concatenate([jacobian(lambda z: product(z, s), z)[1], by_s], axis=1)
    if kind in MULTIPLIER:
        return jnp.concatenate([slope, by_u])
    if kind == "branch_point":
        border = root.borders[0][:, None]
        rows = jnp.concatenate([slope, border], axis=1), jnp.pad(by_u, ((0, 0), (0, 1)))
        return jnp.concatenate(rows)
    turn = jax.lax.complex(-jnp.sin(x[-1]), jnp.cos(x[-1])) * (null.left @ null.right[:, 0])
    by_angle = jnp.stack(_parts(turn))[:, None]
    rows = jnp.pad(slope, ((0, 0), (0, 1))), jnp.concatenate([by_u, by_angle], axis=1)
    return jnp.concatenate(rows)


def _parts(a: jax.Array) -> tuple[jax.Array, ...]:
    return (a.real, a.imag) if jnp.iscomplexobj(a) else (a,)
