"""The host side of continuation: sweeps joined over kinks, trimmed, and their events named."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rnndyn.branches import kinks
from rnndyn.branches.arclength import Family, Node, Sizes, Stop, defect, sweep
from rnndyn.branches.branch import STATUS, Branch
from rnndyn.branches.detection import find_events
from rnndyn.branches.events import finish
from rnndyn.branches.factors import SMALL
from rnndyn.branches.location import located
from rnndyn.branches.spectra import filled, spectra, unstable
from rnndyn.core.pytree import pytree, specification, static
from rnndyn.core.status import Status
from rnndyn.maps import Map, iterate

PIECES = 64  # of a branch between kinks, on either side of its start
_NO_BRANCH = (Stop.NO_START, Stop.SINGULAR_START, Stop.PARAMETER_IGNORED, Stop.SHORTER_START)
_ALONE = (Stop.NONFINITE, Stop.NO_START, Stop.PARAMETER_IGNORED, Stop.SHORTER_START)


@specification
class Cyclic:
    """p -> the k-th iterate of function(p), equal and hashable by value."""

    function: Callable[..., Map]
    period: int

    def __call__(self, *args: Any, **keywords: Any) -> Map:
        return iterate(self.function(*args, **keywords), self.period)


@pytree
class Problem:
    """What to follow and how.

    Attributes
    ----------
    family : Family
        Of the map whose fixed points, or cycles, are followed: not of its iterate.
    sizes : Sizes
    period, max_points : int, static
    natural, near : bool, static
        Hold the parameter fixed; leave out eigenvalues far from the circle.
    kinked : bool, static
        Whether the map may have kinks.
    """

    family: Family
    sizes: Sizes
    period: int = static()
    max_points: int = static()
    natural: bool = static()
    near: bool = static()
    kinked: bool = static()

    def iterated(self, period: int | None = None) -> Family:
        """The family whose fixed points are the cycles of the given (or of this) period."""
        period = self.period if period is None else period
        make = self.family.make
        if period > 1:
            cyclic = Cyclic(make.func, period)
            make = jax.tree_util.Partial(cyclic, *make.args, **make.keywords)
        return Family(make, self.family.low, self.family.width)


def follow(problem: Problem, u0: Any, tangent: Any = None) -> Branch:
    """The branch through u0, or (given a tangent) through the hyperplane at u0 normal to it."""
    nodes, counts, stops = _swept(problem, u0, np.zeros_like(u0) if tangent is None else tangent)
    return assemble(problem, nodes, counts, stops)


@jax.jit(static_argnames=("max_points", "natural", "stacked"))
def sweep_all(
    family: Family, u0: jax.Array, sizes: Sizes, *, max_points: int, natural: bool, stacked: bool
) -> tuple[Node, jax.Array, jax.Array]:
    """`sweep` of a stack of starts (b, d + 1), with a stack of families or the same for all.

    Small systems advance together, in array code without LAPACK; large ones, whose time goes into
    factorisations, one after another.
    """

    def one(family, u0):
        blank = jnp.zeros_like(u0)
        return sweep(family, u0, blank, sizes, max_points=max_points, natural=natural)

    in_make: Any = (0, None, None)
    axes = Family(*in_make) if stacked else None
    if u0.shape[1] <= SMALL:
        return jax.vmap(one, (axes, 0))(family, u0)
    if not stacked:
        return jax.lax.map(lambda u0: one(family, u0), u0)

    def slice_of(pair):
        return one(Family(pair[0], family.low, family.width), pair[1])

    return jax.lax.map(slice_of, (family.make, u0))


def follow_all(problem: Problem, u0: jax.Array, *, stacked: bool) -> tuple[Branch, ...]:
    """The branches through each row of u0, swept in one call."""
    family = problem.iterated()
    options = {"max_points": problem.max_points, "natural": problem.natural, "stacked": stacked}
    nodes, counts, stops = jax.device_get(sweep_all(family, u0, problem.sizes, **options))
    make = jax.device_get(problem.family.make)
    branches = []
    for i in range(u0.shape[0]):
        own = _row(make, i) if stacked else problem.family.make
        alone = dataclasses.replace(problem, family=dataclasses.replace(problem.family, make=own))
        branches.append(assemble(alone, _row(nodes, i), counts[i], stops[i]))
    return tuple(branches)


def _swept(problem: Problem, u0: Any, tangent: Any) -> tuple[Node, Any, Any]:
    options = {"max_points": problem.max_points, "natural": problem.natural}
    u0, tangent = jnp.asarray(u0), jnp.asarray(tangent)
    return jax.device_get(sweep(problem.iterated(), u0, tangent, problem.sizes, **options))


def assemble(problem: Problem, nodes: Node, counts: Any, stops: Any) -> Branch:
    """One branch from the two directions of a sweep, the backward one reversed."""
    family, tol = problem.iterated(), problem.sizes.tol
    if problem.period > 1 and _has_shorter_period(problem, nodes.u[0, 0]):
        counts, stops = np.ones_like(counts), np.full_like(stops, Stop.SHORTER_START)
    forward = _direction(problem, nodes, counts, stops, 0)
    forward = _merged(problem, *forward)
    if forward[1] == Stop.CLOSED:
        pieces, ends, start = forward[0], (Stop.CLOSED, Stop.CLOSED), 0
    else:
        backward = _merged(problem, *_direction(problem, nodes, counts, stops, 1))
        before = [turned(piece) for piece in backward[0][::-1]]
        middle = joined(cut(before[-1], 0, -1), forward[0][0])
        pieces, ends = [*before[:-1], middle, *forward[0][1:]], (backward[1], forward[1])
        start = sum(piece.residual.size for piece in before) - 1
    nodes = pieces[0]
    for piece in pieces[1:]:
        nodes = joined(nodes, piece)
    values = spectra(family, nodes, near=problem.near)
    events = []
    if not (nodes.residual.size == 1 and ends[1] in _ALONE):
        events = _events(family, pieces, values, tol)
    if problem.period > 1:
        nodes, values, events, ends = _one_arm(problem, nodes, values, events, ends, start)
    return _branch(problem, nodes, values, events, ends)


def _direction(problem: Problem, nodes, counts, stops, row: int) -> tuple[list[Node], Stop]:
    """The pieces of one direction, from kink to kink, and why the last one ends."""
    pieces = [cut(jax.tree.map(lambda a: a[row], nodes), 0, counts[row])]
    stop = Stop(int(stops[row]))
    if not problem.kinked or problem.natural or stop in _NO_BRANCH:
        return pieces, stop
    while stop == Stop.STEP_UNDERFLOW and len(pieces) < PIECES:
        beyond = kinks.beyond(problem.iterated(), _row(pieces[-1], -1), problem.sizes)
        if beyond is None:
            break
        more, more_counts, more_stops = _swept(problem, *beyond)
        following = Stop(int(more_stops[0]))
        if following in _NO_BRANCH:
            break
        stop, first = following, cut(pieces[0], 0, 1)
        pieces.append(cut(_row(more, 0), 0, more_counts[0]))
        end = kinks.closing(problem.iterated(), _row(first, 0), pieces[-1], problem.sizes)
        if end is not None:
            pieces[-1], stop = joined(cut(pieces[-1], 0, end), first), Stop.CLOSED
    split = [kinks.split(problem.iterated(), piece, problem.sizes) for piece in pieces]
    return [part for parts in split for part in parts], stop


def _merged(problem: Problem, pieces: list[Node], stop: Stop) -> tuple[list[Node], Stop]:
    """A cycle that ends at a kink where it has shrunk onto one of half the period says so."""
    last, half = pieces[-1].u[-1], problem.period // 2
    if stop == Stop.STEP_UNDERFLOW and problem.kinked and problem.period % 2 == 0:
        if float(defect(problem.iterated(half), last)) <= _reach(last):
            stop = Stop.SHORTER_PERIOD
    return pieces, stop


def _events(family: Family, pieces: list[Node], values: Any, tol: Any) -> list[dict[str, Any]]:
    events, offset = [], 0
    for i, piece in enumerate(pieces):
        ends = (i == 0, i == len(pieces) - 1)
        if i > 0:
            before = _row(pieces[i - 1], -1)
            events.append(
                kinks.collision(family, before, _row(piece, 0), tol) | {"place": offset - 1}
            )
        n = piece.residual.size
        found = find_events(family, piece, values[offset : offset + n], tol, ends)
        events += [event | {"place": event["place"] + offset} for event in found]
        offset += n
    return events


def _one_arm(problem: Problem, nodes: Node, values, events, ends, start: int):
    """The part around the start up to where the cycle shrinks onto one of a shorter period.

    Beyond that the same cycles come again, begun at another of their points.
    """
    low, high, kept = 0, len(nodes.residual), []
    ends = list(ends)
    for event in events:
        if not _shrinks(problem, event):
            kept.append(event)
        elif event["place"] < start:
            low, ends[0] = event["place"] + 1, Stop.SHORTER_PERIOD
            kept = [_of_the_half(problem, event)]
        else:
            high, ends[1] = event["place"] + 1, Stop.SHORTER_PERIOD
            kept.append(_of_the_half(problem, event))
            break
    return cut(nodes, low, high), values[low:high], kept, tuple(ends)


def _shrinks(problem: Problem, event: dict[str, Any]) -> bool:
    """Whether the cycle at an event goes round twice."""
    u, k = event["u"], problem.period
    if event["kind"] != "branch_point" or event["status"] != Status.CONVERGED or k % 2:
        return False
    return float(defect(problem.iterated(k // 2), u)) <= _reach(u)


def _of_the_half(problem: Problem, event: dict[str, Any]) -> dict[str, Any]:
    """The flip of the shorter cycle that is a branch point of the longer; else as it was."""
    u, half = event["u"], problem.period // 2
    ((found, _),) = located(problem.iterated(half), "flip", u[None], [np.pi], problem.sizes.tol)
    if not float(np.max(np.abs(found.u - u))) <= _reach(u):
        return event
    named = {name: getattr(found, name) for name in ("u", "multiplicity", "coefficient", "cubic")}
    return (
        event
        | named
        | {
            "kind": "flip",
            "period": half,
            "angle": np.pi,
            "residual": found.residual,
        }
    )


def _reach(u: Any) -> float:
    """How near two points of a cycle may be for its period to count as shorter."""
    return float(np.cbrt(np.finfo(u.dtype).eps)) * (1 + float(np.max(np.abs(u))))


def _has_shorter_period(problem: Problem, u: Any) -> bool:
    k = problem.period
    divisors = [k // q for q in range(2, k + 1) if k % q == 0]
    return any(float(defect(problem.iterated(j), u)) <= _reach(u) for j in divisors)


def _branch(problem: Problem, nodes: Node, values, events, ends) -> Branch:
    values, known = values.copy(), np.flatnonzero(~np.isnan(values[:, 0].real))
    order = np.argsort(-np.abs(values[known]), axis=1, kind="stable")
    values[known] = np.take_along_axis(values[known], order, axis=1)
    low, width = np.asarray(problem.family.low), np.asarray(problem.family.width)
    numbers: dict[str, Any] = {
        "parameter": low + width * nodes.u[:, -1],
        "z": nodes.u[:, :-1],
        "eigenvalues": values,
        "stable": (unstable(values) == 0) & ~np.isnan(values[0, 0]),
        "residual": nodes.residual,
        "orbit": _orbits(problem, nodes.u),
        "status": np.asarray(min(int(STATUS[end]) for end in ends)),
    }
    events = tuple(finish(problem.family, event, problem.period) for event in events)
    stop = (ends[0].name.lower(), ends[1].name.lower())
    return Branch(**jax.device_put(numbers), events=events, stop=stop, period=problem.period)


def _orbits(problem: Problem, u: Any) -> Any:
    """The k points of each cycle, (n, k, d)."""
    if problem.period == 1:
        return u[:, None, :-1]
    found = _orbits_of(problem.family, filled(u), period=problem.period)
    return np.asarray(found)[: len(u)]


@jax.jit(static_argnames="period")
def _orbits_of(family: Family, points: jax.Array, *, period: int) -> jax.Array:
    def of_one(u):
        def advance(z, _):
            return family(jnp.append(z, u[-1])) + z, z

        return jax.lax.scan(advance, u[:-1], length=period)[1]

    return jax.vmap(of_one)(points)


def cut(nodes: Node, start: int, end: int | None) -> Node:
    return jax.tree.map(lambda a: a[start:end], nodes)


def _row(nodes: Any, row: int) -> Any:
    return jax.tree.map(lambda a: a[row], nodes)


def joined(a: Node, b: Node) -> Node:
    return jax.tree.map(lambda a, b: np.concatenate([a, b]), a, b)


def turned(piece: Node) -> Node:
    """The same points in the opposite order."""
    piece = jax.tree.map(lambda a: a[::-1], piece)
    return dataclasses.replace(piece, tangent=-piece.tangent, orientation=-piece.orientation)
