"""What a point is where the descent ended: an isolated root, a degenerate one, a ghost, or nothing.

A residual alone proves little: where gates saturate |F(z) - z| rounds to zero far from any fixed
point; `points.local` says what makes a root an isolated one.
"""

import dataclasses
import enum

import jax
import jax.numpy as jnp
import numpy as np

from rnndyn.core.pytree import coded, pytree
from rnndyn.core.status import Status
from rnndyn.maps import Map, evaluate
from rnndyn.points import dense, local
from rnndyn.points.local import Local
from rnndyn.points.solver import SLOW, evaluate_rows

_PLATEAU = 64.0  # a degenerate root reaches as far as the residual stays below this multiple
_NEWTON = 5  # Newton steps with the inverse at the root: from half way, 2^-32, and one to spare
_FOLLOWERS = 64  # points brought to a root together
_FAILURES = 16  # points that are no isolated root after which a round that may fail ends
_PENDING = -1  # in place of the row that leads
_MINIMISING = 20  # most Newton steps on the gradient of q


class Kind(enum.IntEnum):
    """What a point is.

    ROOT (0) : an isolated fixed point; its index is the sign of det(I - J).
    Q_MINIMUM (1) : a local minimum of the speed q that is not a fixed point.
    GHOST (2) : such a minimum that a fold left behind: to second order F(z) - z along the null
        direction is a parabola that misses zero.
    DEGENERATE (3) : the residual is at most `tol`, but no isolated root is determined by it: a
        multiple root, a point of a continuum, a saturated region, or a kink of F.
    NONE (4) : none of these (budget ended, NaN, a maximum or saddle of q).
    """

    ROOT = 0
    Q_MINIMUM = 1
    GHOST = 2
    DEGENERATE = 3
    NONE = 4


@pytree
class Certified:
    """Points and what they are; one row each, as in `FixedPoints`."""

    z: jax.Array
    residual: jax.Array
    speed: jax.Array
    status: jax.Array
    kind: jax.Array = coded(Kind)
    sigma_min: jax.Array
    index: jax.Array
    radius: jax.Array
    passage: jax.Array
    nullity: jax.Array


def undecided(z: jax.Array) -> Certified:
    """Rows of kind NONE, before anything is known about them."""
    n = z.shape[0]
    zero, nan = jnp.zeros((n,), jnp.int32), jnp.full((n,), jnp.nan, z.dtype)
    none = zero + int(Kind.NONE)
    return Certified(z, nan, nan, zero, none, nan, zero, nan, nan, zero)


@jax.jit
def certify(
    map_: Map,
    table: Certified,
    pending: jax.Array,
    movable: jax.Array,
    tol: jax.Array,
    final: jax.Array,
) -> tuple[Certified, jax.Array, jax.Array]:
    """Say which of the pending points are isolated roots, and polish those to rounding.

    The point of least residual goes first. Where it is an isolated root, every pending point that
    Newton steps with the inverse at that root lead to it becomes that root, bit for bit: the first
    step must bring it at least four times as near, from where the steps converge quadratically,
    since the inverse is that of the root, at two products a step. So the Jacobian is formed and
    inverted once for each distinct root, and which row leads does not depend on their order.

    Parameters
    ----------
    map_ : Map
    table : Certified
    pending : jax.Array, shape (n,), bool
    movable : jax.Array, scalar, bool
        Whether points may be polished.
    tol : jax.Array, scalar
    final : jax.Array, scalar, bool
        Whether every point must be looked at; otherwise some failures end the search for roots.

    Returns
    -------
    table : Certified
    pending : jax.Array, shape (n,), bool
        Which of the rows are still to be decided: those that are no isolated roots, after the
        final round only those that `describe` can say more of.
    left : jax.Array, scalar, int
        Their number.
    """
    if table.z.shape[0] == 0:
        return table, pending, jnp.sum(pending)
    g = evaluate_rows(map_, table.z) - table.z
    residual = jnp.max(jnp.abs(g), axis=1, initial=0)
    most = jnp.finfo(residual.dtype).max
    rank, key = (jnp.where(jnp.isfinite(a), a, most) for a in (residual, _fingerprint(table.z)))
    rows = jnp.arange(len(rank), dtype=jnp.int32)

    def undone(carry):
        _, _, todo, failures = carry
        return jnp.any(todo) & (final | (failures < _FAILURES))

    def lead(carry):
        table, leader, todo, failures = carry
        best = jnp.min(jnp.where(todo, rank, jnp.inf))
        i = jnp.argmin(jnp.where(todo & (rank == best), key, jnp.inf))
        point, inverse = _certify(map_, table.z[i], table.status[i], movable, tol)
        root = point.kind == Kind.ROOT
        settled = final | root
        kept = dataclasses.replace(point, z=jnp.where(settled, point.z, table.z[i]))
        table = _with_row(table, i, kept)
        leader = leader.at[i].set(jnp.where(settled, rows[i], _PENDING))
        leader = _follow(map_, table.z, leader, i, point, inverse, root & movable, tol)
        todo = todo.at[i].set(False)
        return table, leader, todo & (leader == _PENDING), failures + (~root).astype(jnp.int32)

    carry = (table, jnp.where(pending, _PENDING, rows), pending, jnp.int32(0))
    table, leader, _, _ = jax.lax.while_loop(undone, lead, carry)
    waiting = leader == _PENDING
    leader = jnp.where(waiting, rows, leader)
    table = jax.tree.map(lambda a: a[leader], table)
    unclear = (table.kind == Kind.DEGENERATE) | (table.status == Status.STATIONARY)
    pending = jnp.where(final, pending & unclear & (table.kind != Kind.ROOT), waiting)
    return table, pending, jnp.sum(pending)


def _with_row(table: Certified, i: jax.Array, row: Certified) -> Certified:
    put = jax.lax.dynamic_update_index_in_dim
    return jax.tree.map(lambda a, x: put(a, x, i, 0), table, row)


def _fingerprint(z: jax.Array) -> jax.Array:
    """A number for each row that says in any order of the rows which of equals goes first."""
    weights = np.random.default_rng(0).standard_normal(z.shape[1])
    return jnp.sum(z * jnp.asarray(weights, z.dtype)[None], axis=1)


def _follow(
    map_: Map,
    z: jax.Array,
    leader: jax.Array,
    i: jax.Array,
    point: Certified,
    inverse: jax.Array,
    more: jax.Array,
    tol: jax.Array,
) -> jax.Array:
    """Bring the pending points near root i to it, a few at a time, the nearest first."""
    n = len(leader)
    apart = jnp.linalg.norm(z - point.z[None], axis=1)
    apart = jnp.where(jnp.isnan(apart), jnp.inf, apart)

    def body(carry):
        leader, _ = carry
        waiting = leader == _PENDING
        rows = jax.lax.top_k(jnp.where(waiting, -apart, -jnp.inf), min(n, _FOLLOWERS))[1]
        joined = waiting[rows] & _chase(map_, z[rows], point, inverse, tol)
        leader = leader.at[jnp.where(joined, rows, n)].set(i.astype(leader.dtype), mode="drop")
        return leader, jnp.any(leader == _PENDING) & jnp.all(joined)

    more &= jnp.any(leader == _PENDING)
    return jax.lax.while_loop(lambda carry: carry[1], body, (leader, more))[0]


def _chase(
    map_: Map, start: jax.Array, point: Certified, inverse: jax.Array, tol: jax.Array
) -> jax.Array:
    """Which starts Newton steps with the inverse at a root lead to it.

    The first step must quarter the distance, unless it is known to be that near already. A start
    has arrived where its residual is at most `tol` and what its next step would move it by
    accounts for the distance that is left.
    """

    def distance(z):
        return jnp.linalg.norm(z - point.z[None], axis=1)

    def step(carry):
        i, z, near, _ = carry
        g = evaluate_rows(map_, z) - z
        trial = z - g @ inverse.T
        apart, moved = distance(z), jnp.linalg.norm(trial - z, axis=1)
        arrived = (jnp.max(jnp.abs(g), axis=1) <= tol) & (apart <= 2 * (moved + point.radius))
        near &= (i > 0) | (apart <= point.radius) | (distance(trial) <= 0.25 * apart)
        return i + 1, trial, near, near & arrived

    def unfinished(carry):
        i, _, near, arrived = carry
        return (i <= _NEWTON) & jnp.any(near & ~arrived)

    near = jnp.ones(start.shape[:1], bool)
    return jax.lax.while_loop(unfinished, step, (0, start, near, ~near))[3]


def _certify(
    map_: Map, z: jax.Array, status: jax.Array, movable: jax.Array, tol: jax.Array
) -> tuple[Certified, jax.Array]:
    """One point and the inverse of dF/dz - I there."""
    end, g, at, isolated = local.approach(map_, z, movable)
    return _measure(map_, end, g, at, isolated, status, tol), at.inverse.matrix


def _measure(
    map_: Map,
    z: jax.Array,
    g: jax.Array,
    at: Local,
    isolated: jax.Array,
    status: jax.Array,
    tol: jax.Array,
) -> Certified:
    """A point that `at` was polished to: a root, degenerate, or none as far as is known.

    The singular vector of a matrix next to that at z has there the singular value to second order.
    """
    residual = jnp.max(jnp.abs(g), initial=0)
    converged = residual <= tol
    found = jnp.where(isolated, Kind.ROOT, Kind.DEGENERATE)
    kind = jnp.where(at.finite & converged, found, Kind.NONE).astype(jnp.int32)
    root = kind == Kind.ROOT
    v = at.smallest.right
    there = jnp.linalg.norm(local.derivative(map_, z, v) - v)
    least = jnp.where(isolated, there, at.smallest.value)
    even = 1 if z.shape[0] % 2 == 0 else -1
    status = jnp.where(status == SLOW, Status.MAX_STEPS, status)
    return Certified(
        z=z,
        residual=residual,
        speed=0.5 * jnp.sum(g * g),
        status=jnp.where(converged, Status.CONVERGED, status).astype(jnp.int32),
        kind=kind,
        sigma_min=jnp.where(at.finite, least, jnp.nan),
        index=jnp.where(root, even * at.inverse.sign, 0).astype(jnp.int32),
        radius=jnp.where(root, local.reach(at, g), jnp.nan),
        passage=jnp.full_like(residual, jnp.nan),
        nullity=jnp.zeros_like(kind),
    )


@jax.jit
def describe(map_: Map, table: Certified, pending: jax.Array) -> Certified:
    """What the pending points are, none of which is an isolated root."""

    def judge(carry):
        table, pending = carry
        i = jnp.argmax(pending)
        at = local.linearize(map_, table.z[i])
        row = _judge(map_, at, jax.tree.map(lambda a: a[i], table))
        return _with_row(table, i, row), pending.at[i].set(False)

    return jax.lax.while_loop(lambda carry: jnp.any(carry[1]), judge, (table, pending))[0]


def _judge(map_: Map, at: Local, point: Certified) -> Certified:
    """What a point is that is no isolated root."""
    degenerate = point.kind == Kind.DEGENERATE
    minimum, ghost, passage = _ghost(map_, at)
    kind = jnp.where(minimum, jnp.where(ghost, Kind.GHOST, Kind.Q_MINIMUM), Kind.NONE)
    kind = jnp.where(at.finite & (point.status == Status.STATIONARY), kind, point.kind)
    kind = kind.astype(jnp.int32)
    a = at.jacobian - jnp.eye(at.z.shape[0], dtype=at.z.dtype)
    level, least = local.singular(at), at.smallest.value
    small = least <= jnp.sqrt(jnp.finfo(at.z.dtype).eps)
    nullity = dense.nullity(a, jnp.where(small, jnp.maximum(level, 2 * least), level))
    return dataclasses.replace(
        point,
        kind=kind,
        radius=jnp.where(degenerate, _plateau(map_, at), jnp.nan),
        passage=jnp.where(kind == Kind.GHOST, passage, jnp.nan),
        nullity=jnp.where(degenerate, nullity, 0),
    )


def minimise(
    map_: Map, z: jax.Array, status: jax.Array, slow: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Points z (n, d) and their status, the slow ones brought to minima of q if they are near."""

    def bring(carry):
        z, status, slow = carry
        i = jnp.argmax(slow)
        end, stationary = _minimum(map_, z[i])
        z = z.at[i].set(jnp.where(stationary, end, z[i]))
        status = status.at[i].set(jnp.where(stationary, Status.STATIONARY, status[i]))
        return z, status, slow.at[i].set(False)

    return jax.lax.while_loop(lambda carry: jnp.any(carry[2]), bring, (z, status, slow))[:2]


def _minimum(map_: Map, z: jax.Array) -> tuple[jax.Array, jax.Array]:
    """A minimum of q near z, by Newton's method on its gradient, and whether it is one.

    A step must quarter |grad q| and not raise q. The point is stationary once half the Newton
    decrement, the most that q could still fall to second order, is at most 8 eps q.
    """
    eps = jnp.finfo(z.dtype).eps

    def speed(z):
        g = evaluate(map_, z) - z
        return 0.5 * jnp.sum(g * g)

    slope = jax.grad(speed)

    def advance(carry):
        i, z, _, _ = carry
        at, q = slope(z), speed(z)
        step = -dense.inverse(jax.jacfwd(slope)(z)).matrix @ at
        decrement = -0.5 * jnp.sum(step * at)
        trial = z + step
        better = jnp.linalg.norm(slope(trial)) < 0.25 * jnp.linalg.norm(at)
        better &= speed(trial) <= q
        stationary = (decrement >= 0) & (decrement <= 8 * eps * q)
        return i + 1, jnp.where(better & ~stationary, trial, z), stationary, better & ~stationary

    carry = (jnp.int32(0), z, jnp.asarray(False), jnp.asarray(True))
    busy = lambda carry: carry[3] & (carry[0] < _MINIMISING)  # noqa: E731
    return jax.lax.while_loop(busy, advance, carry)[1:3]


def _plateau(map_: Map, at: Local) -> jax.Array:
    """The largest distance, by powers of two up to max(1, |z|), to which the residual stays small.

    Measured along the weakest direction, on the side where it reaches further, against 64 times
    the larger of the residual and its rounding error: far enough to reach a root of multiplicity
    up to four.
    """
    level = _PLATEAU * jnp.maximum(jnp.max(jnp.abs(at.g)), at.noise)
    distances = jnp.maximum(1, jnp.max(jnp.abs(at.z))) * 0.5 ** jnp.arange(40, dtype=at.z.dtype)

    def small(distance):
        ends = at.z + distance * at.smallest.right, at.z - distance * at.smallest.right
        sizes = [jnp.max(jnp.abs(evaluate(map_, end) - end)) for end in ends]
        return jnp.minimum(*sizes) <= level

    return jnp.max(jnp.where(jax.lax.map(small, distances), distances, 0))


def _ghost(map_: Map, at: Local) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Whether q has a minimum here, whether it is a ghost, and the steps that passing it takes.

    At a stationary point of q the residual g is a left null vector u of A. Along the right null
    vector v it is |g| + a t^2 / 2, a = <u, D^2 F(v, v)>: q has a minimum if a >= 0, and a ghost
    if the parabola holds as far as it doubles |g|. Then t grows by (|g| + a t^2 / 2) / <u, v> a
    step, which takes pi <u, v> sqrt(2 / (|g| a)) steps from end to end (Strogatz 1994, sec. 4.3).
    """
    v = at.smallest.right
    size = jnp.linalg.norm(at.g)
    u = at.g / jnp.where(size > 0, size, 1)
    bend = jnp.dot(u, jax.jvp(lambda z: local.derivative(map_, z, v), (at.z,), (v,))[1])
    eps = jnp.finfo(at.z.dtype).eps
    width = jnp.sqrt(2 * size / jnp.maximum(bend, eps))

    def height(t):
        there = at.z + t * v
        return jnp.dot(u, evaluate(map_, there) - there) / size

    fits = (abs(height(width) - 2) < 0.5) & (abs(height(-width) - 2) < 0.5)
    bent = bend > jnp.sqrt(eps) * size
    passage = jnp.pi * jnp.abs(jnp.dot(u, v)) * jnp.sqrt(2 / (size * jnp.maximum(bend, eps)))
    return bend >= -jnp.sqrt(eps), bent & fits, passage
