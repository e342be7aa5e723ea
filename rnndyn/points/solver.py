"""Levenberg-Marquardt on G(z) = F(z) - z for many starts at once, without forming a Jacobian.

The map is evaluated on a batch, so that shared weights turn each product with the Jacobian into
one matrix product. A step minimises |G + A s|^2 + mu |s|^2, A = dG/dz, by conjugate gradients on
the least-squares problem (CGLS: Hestenes & Stiefel 1952, sec. 10); mu = damping * |G|^2 / d keeps
the convergence quadratic (Fan & Yuan, Computing 74, 2005) and the damping follows the gain ratio
(Nielsen 1999, but by a constant factor after a rejection). A few starts that fit in the cache
advance together by one step; then those that are finished make room for others, so that no start
waits for a slow one, and starts of one age, which need about as many inner iterations, stay
together.

A gate that closes, as in F(z) - z = (1 - u) (n - z), takes q to zero far from any fixed point and
spreads the singular values of A. Far from roots G is therefore divided, component by component,
by the lengths of the rows of A near the present point, which undoes 1 - u: a diagonal form of the
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
from rnndyn.core.trace import INLINED, bind, follow, inner
from rnndyn.maps import Map

LANES = 32  # starts that advance together: few, so that their derivatives stay in the cache
FEW = 8  # where few starts are left
_UNFINISHED = 1  # in place of a status code
SLOW = 2  # so is this: in _WINDOW steps q did not fall to _PROGRESS of what it was
_FAR = 0.3  # residual above which half the inner iterations make as good a step
_WINDOW = 16
_PROGRESS = 0.1
_PROBES = 8  # random vectors that measure the rows of A, to about a third of their length
_SHORTEST = 1e-3  # rows count as at least that long
_OPENED = INLINED - {"custom_jvp_call"}  # whose derivative is kept
_MATRIX_VECTOR = (((1,), (0,)), ((), ()))
_SHRINK, _GROWTH = 0.3, 16.0  # of the damping: least factor of a good step, factor of a rejected


@pytree
class Descent:
    """Starts on their way: one row each.

    Attributes
    ----------
    z : jax.Array, shape (n, d)
    damping : jax.Array, shape (n,)
        mu d / |G|^2.
    steps : jax.Array, shape (n,), int
        Steps tried.
    mark : jax.Array, shape (n,)
        q when the number of steps was last a multiple of 16.
    status : jax.Array, shape (n,), int
    """

    z: jax.Array
    damping: jax.Array
    steps: jax.Array
    mark: jax.Array
    status: jax.Array


@jax.jit
def evaluate_rows(map_: Map, z: jax.Array) -> jax.Array:
    """F of each row of z.

    Products of a matrix and a vector are traced vector first. `jax.vmap` of W @ z gives one column
    a row, and its transpose contracts the first axis of both operands, for which XLA has no fast
    kernel on CPU; vector first, both are row by row.
    """
    row = jax.ShapeDtypeStruct(z.shape[1:], z.dtype)
    closed = jax.make_jaxpr(lambda map_, z: map_(z))(map_, row)
    given = jax.tree.leaves(map_)
    evaluated = lambda z: follow(closed.jaxpr, closed.consts, [*given, z], _vector_first)[0]  # noqa: E731
    return jax.vmap(evaluated)(z)


def _vector_first(eqn: Any, read: list[Any]) -> list[Any]:
    if eqn.primitive.name in _OPENED:
        return follow(inner(eqn).jaxpr, inner(eqn).consts, read, _vector_first)
    product = eqn.primitive is jax.lax.dot_general_p
    if product and eqn.params["dimension_numbers"] == _MATRIX_VECTOR and read[1].ndim == 1:
        precision, kind = eqn.params["precision"], eqn.params["preferred_element_type"]
        a, v, axes = *read, (((0,), (1,)), ((), ()))
        return [jax.lax.dot_general(v, a, axes, precision, kind)]
    return bind(eqn, read)


def descend(
    map_: Map,
    now: Descent,
    pending: jax.Array,
    goal: jax.Array,
    max_steps: jax.Array,
    inner: jax.Array,
    scaled: jax.Array,
    *,
    lanes: int = LANES,
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
        Budget of each start, and of the inner iterations of each step; far from roots, of half.
    scaled : jax.Array, scalar, bool
        Whether G is measured by the rows of A instead of by q. Minima of q need False.
    lanes : int
        Starts that advance together.

    Returns
    -------
    Descent
        `status` 0, -1 (the step of greatest descent would lower q by less than rounding), -2, -3
        or SLOW. Rows that are not finite come back as they were given.
    """
    n, d = now.z.shape
    if n == 0 or d == 0:
        return dataclasses.replace(now, status=jnp.zeros((n,), jnp.int32))
    width = min(n, lanes)

    def sweep(table):
        waiting = table.status == _UNFINISHED
        queue, count = jnp.argsort(~waiting, stable=True), jnp.sum(waiting)

        def block(carry):
            first, table = carry
            places = first + jnp.arange(width)
            rows = jnp.where(places < count, queue[jnp.minimum(places, n - 1)], n)
            moving = jax.tree.map(lambda a: a.at[rows].get(mode="clip"), table)
            status = jnp.where(rows < n, moving.status, Status.CONVERGED).astype(jnp.int32)
            moving = dataclasses.replace(moving, status=status)
            moving = _advance(map_, moving, goal, max_steps, inner, scaled)
            put = lambda a, b: a.at[rows].set(b, mode="drop")  # noqa: E731
            return first + width, jax.tree.map(put, table, moving)

        return jax.lax.while_loop(lambda c: c[0] < count, block, (0 * count, table))[1]

    status = jnp.where(pending, _UNFINISHED, Status.CONVERGED).astype(jnp.int32)
    table = dataclasses.replace(now, status=status)
    return jax.lax.while_loop(lambda t: jnp.any(t.status == _UNFINISHED), sweep, table)


def begin(z: jax.Array) -> Descent:
    """Starts before their first step."""
    n = z.shape[0]
    return Descent(
        z=z,
        damping=jnp.full((n,), 1.0, z.dtype),
        steps=jnp.zeros((n,), jnp.int32),
        mark=jnp.full((n,), jnp.inf, z.dtype),
        status=jnp.full((n,), _UNFINISHED, jnp.int32),
    )


def relax(map_: Map, now: Descent, most: jax.Array, ratio: jax.Array, goal: jax.Array) -> Descent:
    """Follow the map itself while a step brings |G| below `ratio` |G|, `most` steps at most.

    That removes what the map forgets at once, such as noise that takes a start out of the range of
    F, for one evaluation a step.
    """

    def step(carry):
        z, g, steps, _ = carry
        h = _defect(map_, z + g)
        better = _dot(h, h) < jnp.square(ratio) * _dot(g, g)
        better &= (steps < now.steps + most) & (jnp.max(jnp.abs(g), axis=1, initial=0) > goal)
        z, g = _select(better, z + g, z), _select(better, h, g)
        return z, g, steps + better.astype(jnp.int32), jnp.any(better)

    carry = (now.z, _defect(map_, now.z), now.steps, jnp.any(most > 0))
    z, _, steps, _ = jax.lax.while_loop(lambda carry: carry[3], step, carry)
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
    weight = _row_weights(push, now.z, jnp.where(scaled, _PROBES, 0))
    pull = jax.linear_transpose(lambda v: weight * push(v), now.z)
    residual = jnp.max(jnp.abs(g), axis=1)
    g = weight * g
    q = 0.5 * _dot(g, g)
    now = _settle(now, residual, q, goal, max_steps)
    active = now.status == _UNFINISHED
    mu = now.damping * 2 * q / d
    slope = -pull(g)[0]
    most = jnp.where(residual > _FAR, inner // 2, inner)
    step = cgls(lambda v: weight * push(v), lambda u: pull(u)[0], g, slope, mu, active, most)
    predicted = 0.5 * _dot(step, slope) + 0.5 * mu * _dot(step, step)
    z = now.z + step
    g = weight * _defect(map_, z)
    gain = (q - 0.5 * _dot(g, g)) / predicted
    accepted = active & (gain > 1e-4)  # false where anything is NaN
    change = jnp.where(accepted, jnp.maximum(_SHRINK, 1 - (2 * gain - 1) ** 3), _GROWTH)
    stuck = active & ~accepted & (predicted <= 8 * eps * q)
    status = jnp.where(stuck, Status.STATIONARY, now.status)
    status = jnp.where(active & ~jnp.isfinite(predicted), Status.NONFINITE, status)
    return Descent(
        z=_select(accepted, z, now.z),
        damping=jnp.where(active, change, 1).astype(q.dtype) * now.damping,
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
    return evaluate_rows(map_, z) - z


def _row_weights(
    push: Callable[[jax.Array], jax.Array], z: jax.Array, probes: jax.Array
) -> jax.Array:
    """One over the lengths of the rows of A: a random sign vector v has E (A v)_i^2 = |A_i|^2.

    Without probes, 1.
    """
    signs = np.sign(np.random.default_rng(0).standard_normal((_PROBES, z.shape[1])))
    signs = jnp.asarray(signs, z.dtype)

    def add(i, total):
        return total + push(jnp.broadcast_to(signs[i], z.shape)) ** 2

    total = jax.lax.fori_loop(0, probes, add, jnp.zeros_like(z))
    lengths = jnp.maximum(jnp.sqrt(total / _PROBES), _SHORTEST)
    return jnp.where(probes > 0, 1 / lengths, 1)


def cgls(
    push: Callable[[jax.Array], jax.Array],
    pull: Callable[[jax.Array], jax.Array],
    g: jax.Array,
    slope: jax.Array,
    mu: jax.Array,
    active: jax.Array,
    most: jax.Array,
) -> jax.Array:
    """Minimise |g + A s|^2 + mu |s|^2 row by row; `slope` is -A^T g.

    A row is finished when its normal equations hold to a tenth of the start, or to |g| where that
    is less (which makes the steps near a root Newton's), and after `most` (n,) iterations.
    """
    first = _dot(slope, slope)
    wanted = jnp.clip(_dot(g, g), 64 * jnp.finfo(g.dtype).eps, 0.01) * first

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
        return i + 1, s, r, p, size, busy & (size > wanted) & (i + 1 < most)

    busy = active & (first > 0) & (most > 0)
    carry = (0, jnp.zeros_like(g), -g, slope, first, busy)
    return jax.lax.while_loop(lambda carry: jnp.any(carry[-1]), iterate, carry)[1]


def _dot(a: jax.Array, b: jax.Array) -> jax.Array:
    return jnp.sum(a * b, axis=1)


def _select(condition: jax.Array, a: Any, b: Any) -> jax.Array:
    return jnp.where(condition.reshape(condition.shape + (1,) * (a.ndim - 1)), a, b)
