"""Systems whose roots are bifurcations, solved to the precision at hand.

Bordered test functions (`bordered`) come first, extended systems where those are singular. Each of
the latter has as many equations as unknowns and a regular root at the generic bifurcation, where
F(z) = z alone is singular: Moore & Spence 1980 for the fold and its kin with other multipliers;
Moore, The numerical treatment of non-trivial bifurcation points, 1980, for the branch point.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rnndyn.branches import bordered, normal_forms
from rnndyn.branches.arclength import Family, size
from rnndyn.branches.factors import SMALL
from rnndyn.core.jacobian import jacobian
from rnndyn.core.pytree import pytree
from rnndyn.points import dense

ITERATIONS = 25
TOGETHER = 8  # events that one compiled call locates
KINDS = ("fold", "branch_point", "flip", "neimark_sacker")


@pytree
class Located:
    """A bifurcation found from a guess.

    Attributes
    ----------
    u : jax.Array, shape (d + 1,)
    residual : jax.Array
        Max norm of the extended system at u, the unfolding of a branch point included.
    multiplicity : jax.Array, int
        How many eigenvalues lie within eps^(1/3) of the critical multiplier, at least 1.
    coefficient, cubic : jax.Array, complex
        Normal-form coefficients; `cubic` is that of a multiplier +1 and NaN otherwise.
    angle : jax.Array
        Argument of the critical multiplier.
    """

    u: jax.Array
    residual: jax.Array
    multiplicity: jax.Array
    coefficient: jax.Array
    cubic: jax.Array
    angle: jax.Array


def located(family: Family, kind: str, u: Any, angle: Any, tol: Any) -> list[tuple[Located, bool]]:
    """The bifurcations of one kind near each row of u (k, d + 1), and if they are; a host step.

    `angle` (k,) holds the guessed arguments of their multipliers. The bordered test functions come
    first; where they are singular, as with a kernel of more than one dimension, the extended
    system with least-norm steps follows.
    """
    angle = np.asarray(angle, u.dtype)
    found: list[Any] = [None] * len(u)
    good = np.zeros(len(u), bool)
    for method in (locate, locate_degenerate):
        left = np.flatnonzero(~good)
        for rows in (left[i : i + TOGETHER] for i in range(0, len(left), TOGETHER)):
            padded = np.resize(rows, TOGETHER)
            answer = jax.device_get(
                _each(method, family, kind, u[padded], angle[padded], len(rows))
            )
            leaves, structure = jax.tree.flatten(answer)
            for i, row in enumerate(rows):
                found[row] = structure.unflatten([leaf[i] for leaf in leaves])
            good[rows] = _are_roots(answer, tol)[: len(rows)]
    return [(one, bool(fine)) for one, fine in zip(found, good, strict=True)]


def _are_roots(found: Located, tol: Any) -> Any:
    loose = 64 * float(tol) * np.maximum(1, np.max(np.abs(found.u[:, :-1]), axis=1))
    return (found.residual <= loose) & np.isfinite(found.u).all(axis=1)


@jax.jit(static_argnames=("method", "kind"))
def _each(
    method: Callable, family: Family, kind: str, u: jax.Array, angle: jax.Array, count: Any
) -> Located:
    """The method at the first `count` rows, one after another; zeros behind."""
    found = jax.eval_shape(lambda: method(family, kind, u[0], angle[0]))
    blank = jax.tree.map(lambda a: jnp.zeros((len(u), *a.shape), a.dtype), found)

    def step(i, found):
        one = method(family, kind, u[i], angle[i])
        return jax.tree.map(lambda a, b: a.at[i].set(b), found, one)

    return jax.lax.fori_loop(0, count, step, blank)


@jax.jit(static_argnames="kind")
def locate(family: Family, kind: str, u: jax.Array, angle: jax.Array) -> Located:
    """The bifurcation near u by its bordered test function, in d + 1 or d + 2 unknowns."""
    root = bordered.solve(family, kind, u, angle)
    vectors = bordered.critical_vectors(kind, root.null)
    return _described(family, kind, root.x, bordered.residual(kind, root), vectors)


@jax.jit(static_argnames="kind")
def locate_degenerate(family: Family, kind: str, u: jax.Array, angle: jax.Array) -> Located:
    """The bifurcation near u by an extended system, in 2 d + 1 to 3 d + 2 unknowns."""
    system, guess = {
        "fold": lambda: _real(family, u, 1),
        "flip": lambda: _real(family, u, -1),
        "branch_point": lambda: _branch_point(family, u),
        "neimark_sacker": lambda: _complex(family, u, angle),
    }[kind]()
    root = _newton(system, guess)
    residual = size(system(root))
    if kind == "branch_point":
        residual = jnp.maximum(residual, jnp.abs(root[u.size]))
    return _described(family, kind, root[: u.size + 1], residual, None)


def _described(family: Family, kind: str, root: jax.Array, residual, vectors) -> Located:
    """What is reported of a root (u, ...), whose next unknown is the angle of a complex pair."""
    known = {"fold": 0.0, "branch_point": 0.0, "flip": jnp.pi}
    angle = jnp.asarray(known.get(kind, root[-1]), root.dtype)
    u = root if kind in bordered.MULTIPLIER and vectors is not None else root[:-1]
    rule = family.rule(u[-1])
    coefficient, cubic = _coefficients(rule, kind, u[:-1], angle, vectors)
    matrix = jacobian(rule, u[:-1])[1]
    usable = jnp.all(jnp.isfinite(matrix))
    multiplicity = _multiplicity(jnp.where(usable, matrix, 0), kind, angle, vectors)
    residual = jnp.where(usable, residual, jnp.nan)
    return Located(u, residual, multiplicity, coefficient, cubic, angle)


def _multiplicity(J: jax.Array, kind: str, angle: jax.Array, vectors: Any) -> jax.Array:
    """How many eigenvalues are critical.

    J + q p^H - m I has the eigenvalues of J - m I but for that of q, which is 1. None of them is
    smaller than the reciprocal of any norm of the inverse: eigenvalues of a large J are seldom
    computed.
    """
    negligible = jnp.finfo(J.dtype).eps ** (1 / 3)

    def counted():
        off = jnp.abs(jnp.linalg.eigvals(J) - jax.lax.complex(jnp.cos(angle), jnp.sin(angle)))
        return jnp.maximum(1, jnp.sum(off <= negligible))

    if vectors is None or len(J) <= SMALL:
        return counted()
    q, p = vectors
    critical = jnp.asarray(bordered.MULTIPLIER.get(kind, 1), J.dtype)
    if kind == "neimark_sacker":
        critical = jax.lax.complex(jnp.cos(angle), jnp.sin(angle))
    deflated = J.astype(q.dtype) - critical * jnp.eye(len(J), dtype=q.dtype)
    deflated += jnp.outer(q, p.conj())
    usable = jnp.all(jnp.isfinite(deflated))
    inverse = dense.inverse(jnp.where(usable, deflated, 0)).matrix
    alone = usable & (jnp.linalg.norm(inverse) * negligible < 1)
    return jax.lax.cond(alone, lambda: jnp.asarray(1), counted)


def _coefficients(rule: Callable, kind: str, z: jax.Array, angle: jax.Array, vectors: Any):
    none = jnp.full((), jnp.nan, z.dtype)
    if kind == "neimark_sacker":
        d = normal_forms.neimark_sacker(rule, z, angle, vectors)
        return d, jax.lax.complex(none, none)
    if kind == "flip":
        first, cubic = normal_forms.flip(rule, z, vectors), none
    else:
        first, cubic = normal_forms.fold(rule, z, vectors)
    zero = jnp.zeros((), z.dtype)
    return jax.lax.complex(first, zero), jax.lax.complex(cubic, zero)


def _newton(system: Callable, guess: jax.Array) -> jax.Array:
    """Newton with least-norm steps, so a kernel of more than one dimension does no harm.

    It ends when a step is below 8 eps of the unknowns or after `ITERATIONS`.
    """
    eps = jnp.finfo(guess.dtype).eps

    def unsettled(carry):
        x, step, count = carry
        return (count < ITERATIONS) & (step > 8 * eps * jnp.maximum(1, size(x)))

    def improve(carry):
        x, _, count = carry
        value, matrix = jacobian(system, x)
        usable = jnp.all(jnp.isfinite(matrix)) & jnp.all(jnp.isfinite(value))
        step = jnp.linalg.lstsq(jnp.where(usable, matrix, 0), jnp.where(usable, value, 0))[0]
        step = jnp.where(usable, step, jnp.nan)
        return x - step, size(step), count + 1

    start = (guess, jnp.asarray(jnp.inf, guess.dtype), jnp.asarray(0))
    return jax.lax.while_loop(unsettled, improve, start)[0]


def _jacobian(family: Family, u: jax.Array) -> jax.Array:
    slope = family.derivative(u)[1]
    slope = jnp.where(jnp.isfinite(slope), slope, 0)
    return slope[:, :-1] + jnp.eye(slope.shape[0], dtype=u.dtype)


def _real(family: Family, u: jax.Array, multiplier: int):
    """G = 0, J q = multiplier q, |q| = 1; unknowns (u, q)."""
    n = u.size

    def system(x):
        u, q = x[:n], x[n:]
        value, push = jax.jvp(family, (u,), (jnp.append(q, 0),))
        return jnp.concatenate([value, push + (1 - multiplier) * q, (q @ q - 1)[None]])

    critical = jnp.asarray(multiplier, u.dtype)
    q, _ = normal_forms.critical_vectors(_jacobian(family, u), critical)
    return system, jnp.concatenate([u, q])


def _branch_point(family: Family, u: jax.Array):
    """G + beta psi = 0, psi^T G_u = 0, |psi| = 1; unknowns (u, beta, psi), beta = 0 at the root."""
    n = u.size

    def system(x):
        u, beta, psi = x[:n], x[n], x[n + 1 :]
        value, pull = jax.vjp(family, u)
        return jnp.concatenate([value + beta * psi, pull(psi)[0], (psi @ psi - 1)[None]])

    slope = family.derivative(u)[1]
    psi = jnp.linalg.svd(jnp.where(jnp.isfinite(slope), slope, 0))[0][:, -1]
    return system, jnp.concatenate([u, jnp.zeros(1, u.dtype), psi])


def _complex(family: Family, u: jax.Array, angle: jax.Array):
    """G = 0, J q = e^{i angle} q, <c, q> = 1; unknowns (u, angle, Re q, Im q)."""
    n = u.size
    multiplier = jax.lax.complex(jnp.cos(angle), jnp.sin(angle))
    jacobian = _jacobian(family, u)
    matrix = jax.lax.complex(jacobian, jnp.zeros_like(jacobian))
    c, _ = normal_forms.critical_vectors(matrix, multiplier)

    def system(x):
        u, angle, q = x[:n], x[n], x[n + 1 :].reshape(2, -1)
        value, push = jax.linearize(family, u)
        pushed = jax.vmap(lambda q: push(jnp.append(q, 0)) + q)(q)
        cos, sin = jnp.cos(angle), jnp.sin(angle)
        turned = jnp.stack([cos * q[0] - sin * q[1], sin * q[0] + cos * q[1]])
        scale = jnp.stack([c.real @ q[0] + c.imag @ q[1] - 1, c.real @ q[1] - c.imag @ q[0]])
        return jnp.concatenate([value, (pushed - turned).ravel(), scale])

    return system, jnp.concatenate([u, angle[None], c.real, c.imag])
