"""Levenberg-Marquardt on G(z) = F(z) - z for many starts at once, without forming a Jacobian.

The map is evaluated on a batch, so that shared weights turn each product with the Jacobian into
one matrix product. A step minimises |G + A s|^2 + mu |s|^2, A = dG/dz, by conjugate gradients on
the least-squares problem (CGLS: Hestenes & Stiefel 1952, sec. 10); mu = damping * |G|^2 / d keeps
the convergence quadratic (Fan & Yuan, Computing 74, 2005) and the damping follows the gain ratio
(Nielsen 1999). A start that is finished leaves its lane to the next one, so that slow starts do
not hold up the others.

A gate that closes, as in F(z) - z = (1 - u) (n - z), takes q to zero far from any fixed point and
spreads the singular values of A. Far from roots G is therefore divided, component by component,
by the lengths of the rows of A at the present point, which undoes 1 - u: a diagonal form of the
natural level functions |A^-1 G| (Deuflhard, Newton Methods for Nonlinear Problems, 2011, ch. 3).
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rnndyn.core.pytree import pytree
from rnndyn.core.status import Status
from rnndyn.maps import Map

LANES = 64  # starts that advance together: fewer, so that few wait for the last
_UNFINISHED = 1  # in place of a status code
SLOW = 2  # so is this: in _WINDOW steps q did not fall to _PROGRESS of what it was
_WINDOW = 16
_PROGRESS = 0.1
_RELAXATIONS = 3  # steps of the map itself before the first step of the descent
_PROBES = 8  # random vectors that measure the rows of A, to about a third of their length
_SHORTEST = 1e-3  # rows count as at least that long


@pytree
class Descent:
    """Starts on their way: one row each.

    Attributes
    ----------
    z : jax.Array, shape (n, d)
    damping, growth : jax.Array, shape (n,)
        mu d / |G|^2, and the factor for the next rejected step.
    steps : jax.Array, shape (n,), int
        Steps tried.
    mark : jax.Array, shape (n,)
        q when the number of steps was last a multiple of 16.
    status : jax.Array, shape (n,), int
    """

    z: jax.Array
    damping: jax.Array
    growth: jax.Array
    steps: jax.Array
    mark: jax.Array
    status: jax.Array


@jax.jit
def evaluate(map_: Map, z: jax.Array) -> jax.Array:
    """F(z). As a jitted function it is traced once however often an analysis mentions it."""
    return map_(z)


def descend(
    map_: Map,
    now: Descent,
    pending: jax.Array,
    goal: jax.Array,
    max_steps: jax.Array,
    inner: jax.Array,
    scaled: jax.Array,
) -> Descent:
    """Lower the speed q of the pending rows until their residual is at most `goal`, or it cannot.

    Parameters
    ----------
    map_ : Map
    now : Descent
        From `begin`, or from an earlier call with a larger goal.
    pending : jax.Array, shape (n,), bool
    goal : jax.Array, scalar
        On the residual max |F(z) - z|.
    max_steps, inner : jax.Array, scalar, int
        Budget of each start, and of the inner iterations of each step.
    scaled : jax.Array, scalar, bool
        Whether G is measured by the rows of A instead of by q. Minima of q need False.

    Returns
    -------
    Descent
        `status` 0, -1 (the step of greatest descent would lower q by less than rounding), -2, -3
        or SLOW. Rows that are not finite come back as they were given.
    """
    n, d = now.z.shape
    if n == 0 or d == 0:
        return dataclasses.replace(now, status=jnp.zeros((n,), jnp.int32))
    width = min(n, LANES)
    queue = jnp.argsort(~pending, stable=True)
    count = jnp.sum(pending)
    fresh = dataclasses.replace(begin(now.z), steps=now.steps)

    def load(places):
        rows, exists = queue[jnp.minimum(places, n - 1)], places < count
        lanes = jax.tree.map(lambda a: a[rows], fresh)
        status = jnp.where(exists, lanes.status, Status.CONVERGED).astype(jnp.int32)
        return jnp.where(exists, rows, n), dataclasses.replace(lanes, status=status)

    def unfinished(carry):
        return jnp.any(carry[1] < n)

    def advance(carry):
        lanes, rows, following, results = carry
        lanes = _advance(map_, lanes, goal, max_steps, inner, scaled)
        done = (lanes.status != _UNFINISHED) & (rows < n)
        target = jnp.where(done, rows, n)
        results = jax.tree.map(lambda a, b: a.at[target].set(b, mode="drop"), results, lanes)
        places = following + jnp.cumsum(done) - 1
        next_rows, loaded = load(places)
        rows = jnp.where(done, next_rows, rows)
        lanes = jax.tree.map(lambda a, b: _select(done, a, b), loaded, lanes)
        return lanes, rows, following + jnp.sum(done), results

    rows, lanes = load(jnp.arange(width))
    carry = (lanes, rows, jnp.asarray(width), now)
    return jax.lax.while_loop(unfinished, advance, carry)[3]


def begin(z: jax.Array) -> Descent:
    """Starts before their first step."""
    n = z.shape[0]
    return Descent(
        z=z,
        damping=jnp.full((n,), 1.0, z.dtype),
        growth=jnp.full((n,), 2.0, z.dtype),
        steps=jnp.zeros((n,), jnp.int32),
        mark=jnp.full((n,), jnp.inf, z.dtype),
        status=jnp.full((n,), _UNFINISHED, jnp.int32),
    )


def relax(map_: Map, now: Descent, goal: jax.Array, max_steps: jax.Array) -> Descent:
    """Follow the map itself from each start while a step halves |G|, three steps at most.

    That removes what the map forgets at once, such as noise that takes a start out of the range of
    F, for one evaluation a step.
    """

    def step(_, carry):
        z, g, steps = carry
        h = _defect(map_, z + g)
        better = (_dot(h, h) <= 0.25 * _dot(g, g)) & (steps < max_steps)
        better &= jnp.max(jnp.abs(g), axis=1, initial=0) > goal
        return _select(better, z + g, z), _select(better, h, g), steps + better.astype(jnp.int32)

    carry = (now.z, _defect(map_, now.z), now.steps)
    z, _, steps = jax.lax.fori_loop(0, _RELAXATIONS, step, carry)
    return dataclasses.replace(now, z=z, steps=steps)


def _advance(
    map_: Map,
    now: Descent,
    goal: jax.Array,
    max_steps: jax.Array,
    inner: jax.Array,
    scaled: jax.Array,
) -> Descent:
    """One step of every lane that still needs one; the others get their status."""
    d = now.z.shape[1]
    eps = jnp.finfo(now.z.dtype).eps
    g, push = jax.linearize(lambda z: _defect(map_, z), now.z)
    residual = jnp.max(jnp.abs(g), axis=1)
    weight = jnp.where(scaled, _row_weights(push, now.z), 1)
    pull = jax.linear_transpose(lambda v: weight * push(v), now.z)
    g = weight * g
    q = 0.5 * _dot(g, g)
    now = _settle(now, residual, q, goal, max_steps)
    active = now.status == _UNFINISHED
    mu = now.damping * 2 * q / d
    slope = -pull(g)[0]
    step = cgls(lambda v: weight * push(v), lambda u: pull(u)[0], g, mu, active, inner)
    predicted = 0.5 * _dot(step, slope) + 0.5 * mu * _dot(step, step)
    z = now.z + step
    g = weight * _defect(map_, z)
    gain = (q - 0.5 * _dot(g, g)) / predicted
    accepted = active & (gain > 1e-4)  # false where anything is NaN
    shrink = jnp.maximum(0.1, 1 - (2 * gain - 1) ** 3).astype(q.dtype)
    stuck = active & ~accepted & (predicted <= 8 * eps * q)
    status = jnp.where(stuck, Status.STATIONARY, now.status)
    status = jnp.where(active & ~jnp.isfinite(predicted), Status.NONFINITE, status)
    return Descent(
        z=_select(accepted, z, now.z),
        damping=now.damping * jnp.where(accepted, shrink, jnp.where(active, now.growth, 1)),
        growth=jnp.where(accepted, 2, jnp.where(active, 2 * now.growth, now.growth)),
        steps=now.steps + active.astype(jnp.int32),
        mark=now.mark,
        status=status.astype(jnp.int32),
    )


def _settle(
    now: Descent, residual: jax.Array, q: jax.Array, goal: jax.Array, max_steps: jax.Array
) -> Descent:
    """The status of each lane before its next step, and the mark where it is renewed."""
    measured = now.steps % _WINDOW == 0
    slow = measured & (q > _PROGRESS * now.mark)
    status = jnp.where(now.steps >= max_steps, Status.MAX_STEPS, now.status)
    status = jnp.where(residual <= goal, Status.CONVERGED, status)
    status = jnp.where(jnp.isfinite(q), status, Status.NONFINITE)
    status = jnp.where(slow & (status == _UNFINISHED), SLOW, status).astype(jnp.int32)
    return dataclasses.replace(now, status=status, mark=jnp.where(measured, q, now.mark))


def _defect(map_: Map, z: jax.Array) -> jax.Array:
    return jax.vmap(evaluate, (None, 0))(map_, z) - z


def _row_weights(push: Callable[[jax.Array], jax.Array], z: jax.Array) -> jax.Array:
    """One over the lengths of the rows of A: a random sign vector v has E (A v)_i^2 = |A_i|^2."""
    signs = np.sign(np.random.default_rng(0).standard_normal((_PROBES, z.shape[1])))

    def add(total, v):
        return total + push(jnp.broadcast_to(v, z.shape)) ** 2, None

    total, _ = jax.lax.scan(add, jnp.zeros_like(z), jnp.asarray(signs, z.dtype))
    return 1 / jnp.maximum(jnp.sqrt(total / _PROBES), _SHORTEST)


def cgls(
    push: Callable[[jax.Array], jax.Array],
    pull: Callable[[jax.Array], jax.Array],
    g: jax.Array,
    mu: jax.Array,
    active: jax.Array,
    inner: jax.Array,
) -> jax.Array:
    """Minimise |g + A s|^2 + mu |s|^2 row by row.

    A row is finished when its normal equations hold to a tenth of the start, or to |g| where that
    is less (which makes the steps near a root Newton's), and after `inner` iterations at most.
    """
    slope = -pull(g)
    first = _dot(slope, slope)
    wanted = jnp.clip(_dot(g, g), 64 * jnp.finfo(g.dtype).eps, 0.01) * first

    def unfinished(carry):
        return (carry[0] < inner) & jnp.any(carry[-1])

    def iterate(carry):
        i, s, r, p, size, busy = carry
        image = push(p)
        curvature = _dot(image, image) + mu * _dot(p, p)
        length = jnp.where(busy, size / curvature, 0)[:, None]
        s = _select(busy, s + length * p, s)
        r = _select(busy, r - length * image, r)
        normal = pull(r) - mu[:, None] * s
        smaller = _dot(normal, normal)
        p = _select(busy, normal + (smaller / size)[:, None] * p, p)
        size = jnp.where(busy, smaller, size)
        return i + 1, s, r, p, size, busy & (size > wanted)

    carry = (0, jnp.zeros_like(g), -g, slope, first, active & (first > 0))
    return jax.lax.while_loop(unfinished, iterate, carry)[1]


def _dot(a: jax.Array, b: jax.Array) -> jax.Array:
    return jnp.sum(a * b, axis=1)


def _select(condition: jax.Array, a: Any, b: Any) -> jax.Array:
    return jnp.where(condition.reshape(condition.shape + (1,) * (a.ndim - 1)), a, b)
