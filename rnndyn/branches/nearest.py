"""The nearest parameters at which a fixed point is critical: constrained optimisation.

Minimise 1/2 |theta - theta_0|^2 over (z, theta) subject to F(z, theta) = z and c(z, theta) = 0,
where c is the least singular value of J - I (fold) or J + I (flip), or |lambda| - 1 of a complex
pair. Solved jointly in z and theta, since dz/dtheta is infinite at a fold. Dobson, Observations
on the geometry of saddle node bifurcation and voltage collapse in electrical power systems, IEEE
Trans. Circuits and Systems I 39, 1992, computes the same normal vector by iteration.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from rnndyn.branches.margins import apply, functional
from rnndyn.core.pytree import pytree

BACKTRACKS = 12
RESTORE = 4  # Newton steps on to the constraints at the end
TRIAL = 15  # steps before a search is given up as too far away
FLOOR = 1e-2  # least curvature assumed along z
REACH = 0.5  # longest step in a coordinate of z


@pytree
class Search:
    """An iterate of the search.

    Attributes
    ----------
    z, theta : jax.Array, shapes (d,) and (P,)
    multipliers : jax.Array, shape (d + 1,)
    eigenvalue : jax.Array, complex
        The one that is led to the circle.
    violation : jax.Array
        Max norm of the constraints.
    step : jax.Array
        Size of the last full step: zero at a solution.
    penalty : jax.Array
    count : jax.Array, int
    """

    z: jax.Array
    theta: jax.Array
    multipliers: jax.Array
    eigenvalue: jax.Array
    violation: jax.Array
    step: jax.Array
    penalty: jax.Array
    count: jax.Array


@pytree
class Constraint:
    """c and the vectors that give its derivative, dc = sum_i w_i . dJ v_i."""

    value: jax.Array
    w: jax.Array
    v: jax.Array
    eigenvalue: jax.Array


def search(
    F: Callable,
    z: jax.Array,
    theta: jax.Array,
    eigenvalue: jax.Array,
    *,
    pair: bool,
    tol: jax.Array,
    max_steps: int,
    bound: jax.Array,
) -> tuple[Search, jax.Array]:
    """Lead `eigenvalue` (for a real kind: +1 or -1, the target itself) to the circle.

    Sequential quadratic programming with the Hessian of the Lagrangian in z made positive, the
    identity in theta, and a backtracking l1 merit function: linear convergence, at a rate set by
    the distance times the curvature of the critical set. It ends when a step is below eps^(1/3)
    of the distance gone (which leaves an error of second order in the distance), after max_steps,
    or once it is clearly further away than `bound`, the least distance known so far. A few
    least-norm Newton steps then satisfy the constraints to rounding. Each step costs d + 1 reverse
    derivatives in theta, a Hessian in z and factorisations O(d^3), and holds one (d + 1, P)
    array; nothing of size P x P.

    Returns the last iterate, and whether the steps became small.
    """
    origin = theta

    def settled(at):
        gone = jnp.linalg.norm(at.theta - origin)
        small = jnp.cbrt(jnp.finfo(z.dtype).eps)
        return (at.violation <= jnp.sqrt(tol)) & (at.step <= small * gone + tol)

    def unsettled(at):
        gone = jnp.linalg.norm(at.theta - origin)
        hopeless = (at.count >= TRIAL) & (gone > 1.5 * bound)
        alive = jnp.isfinite(at.violation + at.step) & ~hopeless
        return (at.count < max_steps) & ~settled(at) & alive

    infinite = jnp.asarray(jnp.inf, z.dtype)
    first = Search(
        z=z,
        theta=theta,
        multipliers=jnp.zeros(z.size + 1, z.dtype),
        eigenvalue=eigenvalue,
        violation=jnp.max(jnp.abs(_values(F, z, theta, eigenvalue, pair)[0])),
        step=jnp.finfo(infinite.dtype).max * jnp.ones_like(infinite),
        penalty=jnp.zeros_like(infinite),
        count=jnp.asarray(0),
    )
    last = jax.lax.while_loop(unsettled, lambda at: _advance(F, origin, at, pair), first)
    return jax.lax.fori_loop(0, RESTORE, lambda _, at: _restore(F, at, pair), last), settled(last)


def _derivatives(F, z, theta, jacobian, constraint) -> tuple[jax.Array, jax.Array, Callable]:
    """The constraints' derivatives in z (d + 1, d) and theta (d + 1, P), and the last of them.

    A point that no parameter moves, such as the origin without biases, stays where it is: it would
    be degenerate at every branch point otherwise, where the other branch meets it.
    """

    def criticality(z, theta):
        return apply(lambda z: F(z, theta), z, constraint.w, constraint.v)

    eye = jnp.eye(z.size, dtype=z.dtype)
    by_z, by_theta = jax.grad(criticality, argnums=(0, 1))(z, theta)
    _, pull = jax.vjp(lambda theta: F(z, theta), theta)
    rows = jax.vmap(lambda row: pull(row)[0])(eye)
    in_z = jnp.concatenate([jacobian - eye, by_z[None]])
    in_z = jnp.where(jnp.any(rows != 0), in_z, 0)
    return in_z, jnp.concatenate([rows, by_theta[None]]), criticality


def _restore(F: Callable, at: Search, pair: bool) -> Search:
    """The least step in (z, theta) on to the linearised constraints."""
    values, jacobian, constraint = _values(F, at.z, at.theta, at.eigenvalue, pair)
    in_z, in_theta, _ = _derivatives(F, at.z, at.theta, jacobian, constraint)
    multipliers = _solve(in_z @ in_z.T + in_theta @ in_theta.T, values)
    z, theta = at.z - in_z.T @ multipliers, at.theta - in_theta.T @ multipliers
    new, _, there = _values(F, z, theta, constraint.eigenvalue, pair)
    violation = jnp.max(jnp.abs(new))
    better = violation < at.violation
    return Search(
        jnp.where(better, z, at.z),
        jnp.where(better, theta, at.theta),
        at.multipliers,
        jnp.where(better, there.eigenvalue, at.eigenvalue),
        jnp.where(better, violation, at.violation),
        at.step,
        at.penalty,
        at.count,
    )


def _solve(normal: jax.Array, values: jax.Array) -> jax.Array:
    """The least solution of a system with a Gram matrix, singular where constraints coincide.

    So they do at a pitchfork: a fixed point that no parameter moves keeps its equation at rank 0.
    """
    sizes, axes = jnp.linalg.eigh(normal)
    least = 64 * jnp.finfo(normal.dtype).eps * sizes[-1]
    inverse = jnp.where(sizes > least, 1 / jnp.where(sizes > least, sizes, 1), 0)
    return axes @ (inverse * (axes.T @ values))


def _critical(jacobian: jax.Array, eigenvalue: jax.Array, pair: bool) -> Constraint:
    if pair:
        found = jnp.linalg.eigvals(jacobian)
        distance = jnp.where(found.imag > 0, jnp.abs(found - eigenvalue), jnp.inf)
        now = found[jnp.argmin(distance)]
        w, v = functional(jacobian, now, jnp.sign(now))
        value = jnp.where(jnp.any(found.imag > 0), jnp.abs(now) - 1, jnp.nan)
        return Constraint(value, w, v, now)
    eye = jnp.eye(jacobian.shape[0], dtype=jacobian.dtype)
    left, values, right = jnp.linalg.svd(jacobian - eigenvalue.real * eye)
    # With the determinant's sign the least singular value is smooth through a simple zero.
    sign = jnp.where(jnp.linalg.slogdet(jacobian - eigenvalue.real * eye)[0] < 0, -1, 1)
    sign, none = sign.astype(jacobian.dtype), jnp.zeros_like(right[-1])
    w, v = jnp.stack([sign * left[:, -1], none]), jnp.stack([right[-1], none])
    return Constraint(sign * values[-1], w, v, eigenvalue)


def _values(F, z, theta, eigenvalue, pair):
    """The constraints (d + 1,), and what belongs to the last of them."""
    jacobian = jax.jacfwd(F)(z, theta)
    usable = jnp.all(jnp.isfinite(jacobian))
    constraint = _critical(jnp.where(usable, jacobian, 0), eigenvalue, pair)
    values = jnp.append(F(z, theta) - z, constraint.value)
    return jnp.where(usable, values, jnp.nan), jacobian, constraint


def _advance(F: Callable, origin: jax.Array, at: Search, pair: bool) -> Search:
    values, jacobian, constraint = _values(F, at.z, at.theta, at.eigenvalue, pair)
    in_z, in_theta, criticality = _derivatives(F, at.z, at.theta, jacobian, constraint)

    def lagrangian(z):
        return jnp.append(F(z, at.theta), criticality(z, at.theta)) @ at.multipliers

    curvature, axes = jnp.linalg.eigh(jax.hessian(lagrangian)(at.z))
    axes = axes / jnp.sqrt(jnp.maximum(jnp.abs(curvature), FLOOR))[None]
    spread = in_z @ axes
    gone = at.theta - origin
    normal = spread @ spread.T + in_theta @ in_theta.T
    multipliers = _solve(normal, values - in_theta @ gone)
    step_z, step_theta = -(axes @ (spread.T @ multipliers)), -(in_theta.T @ multipliers) - gone
    penalty = jnp.maximum(at.penalty, 2 * jnp.max(jnp.abs(multipliers)))
    length = _backtrack(F, origin, at, (step_z, step_theta), penalty, values, constraint, pair)
    z, theta = at.z + length * step_z, at.theta + length * step_theta
    new, _, there = _values(F, z, theta, constraint.eigenvalue, pair)
    step = jnp.maximum(jnp.max(jnp.abs(step_z)), jnp.linalg.norm(step_theta))
    return Search(
        z, theta, multipliers, there.eigenvalue, jnp.max(jnp.abs(new)), step, penalty, at.count + 1
    )


def _backtrack(F, origin, at, steps, penalty, values, constraint, pair) -> jax.Array:
    """The longest of 1, 1/2, 1/4, ... times the step at which the merit function falls."""
    step_z, step_theta = steps

    def merit(theta, values):
        return 0.5 * jnp.sum((theta - origin) ** 2) + penalty * jnp.sum(jnp.abs(values))

    start = merit(at.theta, values)
    slope = at_most(step_theta @ (at.theta - origin) - penalty * jnp.sum(jnp.abs(values)))
    rounding = 64 * jnp.finfo(at.z.dtype).eps * (1 + jnp.abs(start))

    def too_long(carry):
        length, tries = carry
        z, theta = at.z + length * step_z, at.theta + length * step_theta
        new = merit(theta, _values(F, z, theta, constraint.eigenvalue, pair)[0])
        return (tries < BACKTRACKS) & ~(new <= start + 1e-4 * length * slope + rounding)

    first = jnp.minimum(1, REACH / jnp.maximum(jnp.max(jnp.abs(step_z)), REACH))
    return jax.lax.while_loop(
        too_long, lambda carry: (0.5 * carry[0], carry[1] + 1), (first, jnp.asarray(0))
    )[0]


def at_most(slope: jax.Array) -> jax.Array:
    """A predicted change that is not a decrease counts as none."""
    return jnp.minimum(slope, 0)
