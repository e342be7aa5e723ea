"""The jitted sweep: one branch of fixed points followed by pseudo-arclength, both ways.

Everything here works in u = (z, s), with p = low + (high - low) s, so a step means the same
thing whatever the units of the parameter. The tangent t spans the kernel of the derivative of
G(u) = F(z, p) - z; a step predicts u + ds t and corrects in the hyperplane normal to t (Keller,
Numerical solution of bifurcation and nonlinear eigenvalue problems, 1977).
"""

import dataclasses
import enum
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from rnndyn.branches.factors import determinant_sign, factored, last_column
from rnndyn.core.jacobian import jacobian
from rnndyn.core.pytree import pytree

NEWTON_STEPS = 8
COS_TURN = 0.97  # the tangent may turn by at most 14 degrees in a step
START_REACH = 0.1  # how far Newton may move a start, relative to 1 + its size


class Stop(enum.IntEnum):
    """Why a branch ends."""

    RUNNING = -1
    LEFT_SPAN = 0
    CLOSED = 1
    MAX_POINTS = 2
    STEP_UNDERFLOW = 3
    NONFINITE = 4
    NO_START = 5
    SINGULAR_START = 6
    PARAMETER_IGNORED = 7
    SHORTER_PERIOD = 8
    SHORTER_START = 9
    RESONANCE = 10


NORMAL, TO_LOW, TO_HIGH, CLOSING = range(4)


@pytree
class Node:
    """A point of a branch and what detection needs there.

    Attributes
    ----------
    u : jax.Array, shape (d + 1,)
    tangent : jax.Array, shape (d + 1,), of length 1
    orientation : jax.Array
        Sign of det [G_u; t]: it changes at a branch point and not at a fold.
    residual : jax.Array
        Max norm of F(z) - z.
    sums : jax.Array, shape (2,)
        tr J and tr J^2, J = dF/dz: the sums of the eigenvalues and of their squares.
    alternation : jax.Array
        Sign of det(J + I): it changes where an eigenvalue passes -1.
    """

    u: jax.Array
    tangent: jax.Array
    orientation: jax.Array
    residual: jax.Array
    sums: jax.Array
    alternation: jax.Array

    def take(self, rows: Any) -> "Node":
        """Of a stack of nodes one, or some: what `jax.tree.map` does, at once."""
        return Node(*(getattr(self, field.name)[rows] for field in dataclasses.fields(self)))


@pytree
class Sizes:
    """Step length to begin with, its bounds (in u), and the tolerance on the residual."""

    ds: jax.Array
    ds_min: jax.Array
    ds_max: jax.Array
    tol: jax.Array


@pytree
class Family:
    """G(u) = F(z, low + width s) - z of a function that makes a Map from a parameter."""

    make: Any
    low: jax.Array
    width: jax.Array

    def rule(self, s: jax.Array) -> Callable[[jax.Array], jax.Array]:
        """The map at a fraction of the span."""
        return self.make(self.low + self.width * s)

    def __call__(self, u: jax.Array) -> jax.Array:
        return self.rule(u[-1])(u[:-1]) - u[:-1]

    def derivative(self, u: jax.Array) -> tuple[jax.Array, jax.Array]:
        """G (d,) and G_u (d, d + 1).

        z and s are differentiated apart: through a concatenation of the two XLA multiplies the
        Jacobian's matrices tenfold slower (at d = 64), in loops of its own.
        """
        z, s = u[:-1], u[-1]
        rule = self.rule(s)
        value, by_z = jacobian(lambda z: rule(z) - z, z)
        by_s = jax.jvp(lambda s: self.rule(s)(z), (s,), (jnp.ones_like(s),))[1]
        return value, jnp.concatenate([by_z, by_s[:, None]], axis=1)


@pytree
class _State:
    at: jax.Array  # a node in one row, as in `nodes`: one kernel copies it, not six
    first: Node
    beyond: jax.Array
    ds: jax.Array
    mode: jax.Array
    stay_open: jax.Array
    met_nonfinite: jax.Array
    count: jax.Array
    stop: jax.Array
    nodes: jax.Array


def correct(
    family: Callable, guess: jax.Array, border: jax.Array, tol: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """Newton on G(u) = 0 in the hyperplane through `guess` normal to `border`.

    A decomposition serves for as long as each step with it lowers the residual at least tenfold
    (Shamanskii 1967): near a branch one Jacobian is enough. Returns u, G_u there, the residual and
    the number of steps; the residual is NaN or large where it failed. It ends when the residual is
    at most tol max(1, |z|), or after 8 decompositions.
    """

    def unsettled(carry):
        _, _, _, error, _, count = carry
        # A NaN residual compares false with everything and so ends the loop.
        return (count < NEWTON_STEPS) & (error > tol)

    def renew(carry):
        u, value, slope, error, steps, count = carry
        inverse, _ = factored(jnp.concatenate([slope, border[None]]))

        def descending(inner):
            _, _, error, before, _ = inner
            return (error > tol) & (error <= 0.1 * before)

        def step(inner):
            u, value, error, _, steps = inner
            u = u - inverse(jnp.append(value, jnp.dot(border, u - guess)))
            value = family(u)
            return u, value, _relative(value, u), error, steps + 1

        start = (u, value, error, jnp.full_like(error, jnp.inf), steps)
        u, _, error, _, steps = jax.lax.while_loop(descending, step, start)
        return u, *family.derivative(u), error, steps, count + 1

    zero = jnp.asarray(0)
    value, slope = family.derivative(guess)
    start = (guess, value, slope, _relative(value, guess), zero, zero)
    u, value, slope, _, steps, _ = jax.lax.while_loop(unsettled, renew, start)
    return u, slope, size(value), steps


def _relative(value: jax.Array, u: jax.Array) -> jax.Array:
    """The residual of G = value at u, relative to max(1, |z|)."""
    both = jnp.max(jnp.abs(jnp.stack([value, u[:-1]])), axis=1)
    return both[0] / jnp.maximum(1, both[1])


def size(vector: jax.Array) -> jax.Array:
    return jnp.max(jnp.abs(vector))


def allowed(u: jax.Array, tol: jax.Array) -> jax.Array:
    return tol * jnp.maximum(1, size(u[:-1]))


def node(u: jax.Array, slope: jax.Array, residual: jax.Array, tangent: jax.Array) -> Node:
    """The node at u whose tangent goes on in the direction of the one given.

    For t in the kernel of G_u, det [G_u; r] is r . t times a number that does not depend on r, so
    the determinant with the old tangent has the sign of that with the new one.
    """
    along, sign = last_column(jnp.concatenate([slope, tangent[None]]))
    return Node(u, along / jnp.linalg.norm(along), sign, residual, *_invariants(slope))


def _invariants(slope: jax.Array) -> tuple[jax.Array, jax.Array]:
    """`Node.sums` and `Node.alternation`: O(d^2), and one LU decomposition."""
    J = slope[:, :-1] + jnp.eye(len(slope), dtype=slope.dtype)
    shifted = J + jnp.eye(len(slope), dtype=slope.dtype)
    square = jnp.dot(J.ravel(), J.T.ravel())
    return jnp.stack([jnp.sum(jnp.diagonal(J)), square]), determinant_sign(shifted)


@jax.jit(static_argnames=("max_points", "natural"))
def sweep(
    family: Any,
    u0: jax.Array,
    tangent: jax.Array,
    sizes: Sizes,
    *,
    max_points: int,
    natural: bool,
) -> tuple[Node, jax.Array, jax.Array]:
    """Follow the branch through u0 forwards, then backwards.

    Forwards is the direction of `tangent`, and u0 is first corrected in the hyperplane normal to
    it; if that is zero, u0 is corrected at its own parameter and forwards is where s increases.

    Returns
    -------
    nodes : Node, leading axes (2, max_points)
    count : jax.Array, shape (2,)
        How many of the nodes are points; the first is the corrected start in both rows.
    stop : jax.Array, shape (2,)
        Codes of `Stop`.
    """
    first, stop = _start(family, u0, tangent, sizes)

    def direction(sign):
        turned = dataclasses.replace(
            first, tangent=sign * first.tangent, orientation=sign * first.orientation
        )
        return _follow(family, turned, stop, sizes, max_points, natural)

    return jax.lax.map(direction, jnp.asarray([1, -1], u0.dtype))


def _start(family: Family, u0: jax.Array, given: jax.Array, sizes: Sizes) -> tuple[Node, jax.Array]:
    """The start, corrected, and a reason not to go on from it."""
    upright = jnp.zeros_like(u0).at[-1].set(1)
    free = jnp.all(given == 0)
    u, slope, residual, _ = correct(family, u0, jnp.where(free, upright, given), sizes.tol)
    reached = (residual <= allowed(u, sizes.tol)) & (
        size(u - u0) <= START_REACH * (1 + size(u0[:-1]))
    )
    finite = jnp.all(jnp.isfinite(family(u0))) & jnp.all(jnp.isfinite(u0))
    u = jnp.where(reached, u, u0)
    safe = jnp.where(jnp.isfinite(slope) & reached, slope, 0)
    _, singular, rows = jnp.linalg.svd(safe, full_matrices=True)
    forwards = jnp.where(free, rows[-1, -1], jnp.dot(rows[-1], given))
    tangent = jnp.where(forwards < 0, -rows[-1], rows[-1])
    small = jnp.sqrt(jnp.finfo(u0.dtype).eps) * jnp.maximum(1, singular[0])
    stop = jnp.select(
        [~finite, ~reached, _ignored(family, u), singular[-1] <= small],
        [Stop.NONFINITE, Stop.NO_START, Stop.PARAMETER_IGNORED, Stop.SINGULAR_START],
        Stop.RUNNING,
    )
    residual = jnp.where(reached, residual, size(family(u0)))
    sign = factored(jnp.concatenate([safe, tangent[None]]))[1]
    return Node(u, tangent, sign, residual, *_invariants(safe)), stop


def _ignored(family: Family, u: jax.Array) -> jax.Array:
    """Whether the map has no derivative in p: here, off the branch, and elsewhere in the span."""
    shift = jnp.cos(1 + jnp.arange(u.size - 1, dtype=u.dtype))

    def derivative(place):
        offset, s = place
        z = u[:-1] + offset * shift
        return jax.jvp(lambda s: family(jnp.append(z, s)), (s,), (jnp.ones_like(s),))[1]

    offsets, elsewhere = jnp.asarray([[0.0, 0.37, -0.61], [0.0, 0.12, 0.77]], u.dtype)
    places = offsets, elsewhere.at[0].set(u[-1])
    return jnp.all(jax.lax.map(derivative, places) == 0)


def _follow(family, first, stop, sizes, max_points, natural):
    row, node_of = ravel_pytree(first)
    outward = jnp.where(first.tangent[-1] > 0, first.u[-1] >= 1, first.u[-1] <= 0)
    outward &= first.tangent[-1] != 0
    stop = jnp.where((stop == Stop.RUNNING) & outward, Stop.LEFT_SPAN, stop)
    state = _State(
        at=row,
        first=first,
        beyond=first.u,
        ds=sizes.ds,
        mode=jnp.asarray(NORMAL),
        stay_open=jnp.asarray(False),
        met_nonfinite=jnp.asarray(False),
        count=jnp.asarray(1),
        stop=stop,
        nodes=jnp.zeros((max_points, row.size), row.dtype).at[0].set(row),
    )
    state = jax.lax.while_loop(
        lambda state: state.stop == Stop.RUNNING,
        lambda state: _attempt(family, state, sizes, natural),
        state,
    )
    return jax.vmap(node_of)(state.nodes), state.count, state.stop


def _target(state: _State, at: Node, natural: bool) -> tuple[jax.Array, jax.Array]:
    """The predicted point and the normal of the hyperplane to correct in."""
    first = state.first
    upright = jnp.zeros_like(at.u).at[-1].set(1)
    border = jnp.where(natural, upright, at.tangent)
    scale = jnp.where(natural, jnp.abs(at.tangent[-1]), 1)
    ahead = at.u + state.ds * at.tangent / scale
    # A point beyond the span, or beyond the start of a closed branch, is replaced by the one on
    # the edge itself.
    closing = state.mode == CLOSING
    edge = jnp.where(closing, first.tangent, upright)
    before, after, home = jnp.stack([at.u, state.beyond, first.u]) @ edge
    level = jnp.where(closing, home, jnp.where(state.mode == TO_HIGH, 1, 0).astype(at.u.dtype))
    gap = jnp.where(after == before, 1, after - before)
    landing = at.u + (level - before) / gap * (state.beyond - at.u)
    normal = state.mode == NORMAL
    return jnp.where(normal, ahead, landing), jnp.where(normal, border, edge)


def _attempt(family: Family, state: _State, sizes: Sizes, natural: bool) -> _State:
    first, eps = state.first, jnp.finfo(state.at.dtype).eps
    at = ravel_pytree(first)[1](state.at)
    guess, border = _target(state, at, natural)
    u, slope, residual, steps = correct(family, guess, border, sizes.tol)
    finite = (size(slope) < jnp.inf) & (size(u) < jnp.inf) & jnp.isfinite(residual)
    # A failed attempt is never used, but LAPACK must not be given NaN.
    new = node(jnp.where(finite, u, at.u), jnp.where(finite, slope, 0), residual, at.tangent)
    between = jnp.stack([guess - at.u, u - guess, at.u - first.u, u - first.u])
    ahead, correction, before, after = jnp.linalg.norm(between, axis=1)
    good = finite & (residual <= allowed(u, sizes.tol))
    good &= jnp.dot(new.tangent, at.tangent) >= COS_TURN
    good &= correction <= 0.5 * jnp.maximum(state.ds, ahead)

    normal = state.mode == NORMAL
    sides = between[2:] @ first.tangent
    returned = (sides[0] < 0) & (sides[1] >= 0) & ~state.stay_open
    returned &= jnp.maximum(before, after) <= 2 * state.ds
    left = jnp.select([u[-1] <= 0, u[-1] >= 1], [TO_LOW, TO_HIGH], NORMAL)
    beyond_mode = jnp.where((left == NORMAL) & returned, CLOSING, left)
    home = after <= jnp.sqrt(eps) * (1 + size(first.u))
    false_close = (state.mode == CLOSING) & ~(good & home)
    accept = good & jnp.where(normal, beyond_mode == NORMAL, ~false_close)
    return _moved(state, new, sizes, (good, accept, false_close, beyond_mode, steps, finite))


def _moved(state: _State, new: Node, sizes: Sizes, verdict: tuple[jax.Array, ...]) -> _State:
    """The state after an attempt: points, step length, mode, and a reason to stop."""
    good, accept, false_close, beyond_mode, steps, finite = verdict
    normal = state.mode == NORMAL
    room, row = len(state.nodes), ravel_pytree(new)[0]
    count = jnp.where(accept, state.count + 1, state.count)
    factor = jnp.select([~good, steps <= 3, steps >= 7], [0.5, 1.5, 0.7], 1.0)
    factor = jnp.where(false_close | (good & ~accept), 1, factor).astype(state.ds.dtype)
    ds = jnp.minimum(state.ds * factor, sizes.ds_max)
    met_nonfinite = jnp.where(good, False, state.met_nonfinite | ~finite)
    ended = jnp.where(state.mode == CLOSING, Stop.CLOSED, Stop.LEFT_SPAN)
    stop = jnp.select(
        [accept & ~normal, ds < sizes.ds_min, count >= room],
        [ended, jnp.where(met_nonfinite, Stop.NONFINITE, Stop.STEP_UNDERFLOW), Stop.MAX_POINTS],
        Stop.RUNNING,
    )
    return _State(
        at=jnp.where(accept, row, state.at),
        first=state.first,
        beyond=jnp.where(normal & good, new.u, state.beyond),
        ds=ds,
        mode=jnp.where(normal & good, beyond_mode, NORMAL),
        stay_open=jnp.where(accept, False, state.stay_open | false_close),
        met_nonfinite=met_nonfinite,
        count=count,
        stop=stop,
        # What is not accepted the next attempt writes over.
        nodes=jax.lax.dynamic_update_index_in_dim(state.nodes, row, state.count, 0),
    )


@jax.jit
def between(family: Family, a: Node, b: Node, tol: jax.Array) -> tuple[Node, jax.Array]:
    """The node halfway along the branch between two others, and whether it was found."""
    chord = b.u - a.u
    guess = 0.5 * (a.u + b.u)
    u, slope, residual, _ = correct(family, guess, chord / jnp.linalg.norm(chord), tol)
    good = jnp.all(jnp.isfinite(slope)) & (residual <= allowed(u, tol))
    good &= jnp.linalg.norm(u - guess) <= 0.5 * jnp.linalg.norm(chord)
    middle = node(jnp.where(good, u, guess), jnp.where(good, slope, 0), residual, a.tangent)
    return middle, good


correct_at: Callable[..., Any] = jax.jit(correct)


@jax.jit
def defect(family: Family, u: jax.Array) -> jax.Array:
    """Max norm of F(z) - z."""
    return size(family(u))
