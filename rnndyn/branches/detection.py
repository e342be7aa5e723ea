"""Bifurcations between the points of a branch: detected, and located. A host-side step.

Between two points of a branch each eigenvalue is matched to its successor (the
assignment of least total distance); one that crosses the unit circle is a bifurcation, a real one
at +1 or -1 or a complex pair elsewhere, so a collision of eigenvalues off the circle (a neutral
saddle) is none. Folds and branch points are told apart by the tangent's parameter component and
the bordered determinant. What cannot be located or told apart is looked at again on half steps.
"""

from typing import Any

import jax
import numpy as np

from rnndyn.branches import spectra
from rnndyn.branches.arclength import Family, Node, between
from rnndyn.branches.location import located
from rnndyn.core.pytree import pytree
from rnndyn.core.status import Status

HALVINGS = 10
SLACK = 0.05  # how far beyond its step an event may lie, as a fraction of the step


@pytree
class Spot:
    """A node (numpy) with its eigenvalues."""

    node: Node
    eigenvalues: Any


def find_events(
    family: Family, nodes: Node, values: Any, tol: Any, ends: tuple[bool, bool] = (True, True)
) -> list[dict[str, Any]]:
    """What happens along nodes (numpy, leading axis n) with eigenvalues (n, d), in order.

    Rows of NaN are passed over. `ends` says at which ends an event of the point itself is sought.
    """
    rows = np.flatnonzero(~np.isnan(values[:, 0].real))

    def spot(row):
        return Spot(nodes.take(row), values[row])

    signs = np.stack([nodes.tangent[rows, -1] >= 0, nodes.orientation[rows] >= 0])
    wanted = (signs[:, 1:] != signs[:, :-1]).any(axis=0) | spectra.may_cross(values[rows])
    steps = [(rows[k], rows[k + 1]) for k in np.flatnonzero(wanted)]
    inside = _inside(family, [(spot(i), spot(j)) for i, j in steps], tol, HALVINGS)
    seen, at_ends = [], []
    for (i, _), found in zip(steps, inside, strict=True):
        seen += [event | {"place": int(i), "tangent": nodes.tangent[i]} for event in found]
    for place, wanted in ((0, ends[0]), (len(values) - 1, ends[1] and len(values) > 1)):
        if wanted and place in rows:
            here = {"end": place, "place": place, "tangent": nodes.tangent[place]}
            at_ends += [event | here for event in _at(family, spot(place), tol)]
    return _without_doubles(seen, at_ends)


def _inside(
    family: Family, steps: list[tuple[Spot, Spot]], tol: Any, halvings: int
) -> list[list[dict[str, Any]]]:
    """The events in each of the steps (a, b)."""
    found = []
    for (a, b), (events, clear) in zip(steps, _tried(family, steps, tol), strict=True):
        if clear and all(event["status"] == Status.CONVERGED for event in events):
            events = sorted(events, key=lambda event: event["along"])
        elif events and halvings > 0:
            middle, good = jax.device_get(between(family, a.node, b.node, tol))
            if good:
                middle = Spot(middle, spectra.spectra(family, _row(middle), near=False)[0])
                halves = _inside(family, [(a, middle), (middle, b)], tol, halvings - 1)
                events = halves[0] + halves[1]
        found.append(events)
    return found


def _tried(
    family: Family, steps: list[tuple[Spot, Spot]], tol: Any
) -> list[tuple[list[dict[str, Any]], bool]]:
    """The candidates of each step (a, b), located, and whether it is clear that they are all."""
    if not steps:
        return []
    befores, afters = (np.stack([pair[k].eigenvalues for pair in steps]) for k in (0, 1))
    orders = spectra.assigned(befores, afters)
    candidates = [_candidates(a, b, order) for (a, b), order in zip(steps, orders, strict=True)]
    wanted = [(i, *one) for i, (ones, _) in enumerate(candidates) for one in ones]
    events: list[list] = [[] for _ in steps]
    for kind in sorted({kind for _, kind, _, _ in wanted}):
        of_kind = [(*steps[i], i, at, angle) for i, k, at, angle in wanted if k == kind]
        guesses = [
            a.node.u + np.asarray(at, a.node.u.dtype) * (b.node.u - a.node.u)
            for a, b, _, at, _ in of_kind
        ]
        found = _located(family, kind, np.stack(guesses), [one[-1] for one in of_kind], tol)
        for (a, b, i, _, angle), event in zip(of_kind, found, strict=True):
            events[i].append(_accepted(a, b, angle, event))
    return [(found, clear) for found, (_, clear) in zip(events, candidates, strict=True)]


def _row(node: Node) -> Node:
    return jax.tree.map(lambda a: np.asarray(a)[None], node)


def _candidates(a: Spot, b: Spot, order: Any = None) -> tuple[list[tuple[str, float, float]], bool]:
    """(kind, fraction of the step, angle) of what happens between two nodes; whether it is clear.

    `order` is that of the eigenvalues of b which is nearest to those of a, where it is known.

    It is not clear when a real eigenvalue turns complex on its way across the circle, or when
    crossings and determinants disagree.
    """
    p, r = a.node.tangent[-1], b.node.tangent[-1]
    turned = (p >= 0) != (r >= 0)
    branched = (a.node.orientation >= 0) != (b.node.orientation >= 0)
    candidates, clear, plus = [], True, []
    if order is None:
        (order,) = spectra.assigned(a.eigenvalues[None], b.eigenvalues[None])
    befores, afters = a.eigenvalues, b.eigenvalues[order]
    crossed = (np.abs(befores) > 1) != (np.abs(afters) > 1)
    for before, after in zip(befores[crossed], afters[crossed], strict=True):
        at = (1 - abs(before)) / (abs(after) - abs(before))
        critical = before + at * (after - before)
        clear &= (before.imag == 0) == (after.imag == 0)
        if before.imag != 0 or after.imag != 0:
            # Of a pair that has become real by the next point either member may be the one matched.
            if critical.imag > 0 or before.imag == 0 or after.imag == 0:
                candidates.append(("neimark_sacker", at, abs(float(np.angle(critical)))))
        elif critical.real > 0:
            plus.append(at)
        else:
            candidates.append(("flip", at, np.pi))
    clear &= (len(plus) % 2 == 1) == (turned != branched)
    flips = sum(kind == "flip" for kind, _, _ in candidates)
    clear &= (flips % 2 == 1) == (a.node.alternation != b.node.alternation)
    if turned:
        candidates.append(("fold", float(p / (p - r)), 0.0))
    known = int(turned) + int(branched)
    spare = max(len(plus) - known + int(branched), int(branched))
    for i in range(spare):
        candidates.append(("branch_point", plus[i % len(plus)] if plus else 0.5, 0.0))
    return candidates, clear


def _accepted(a: Spot, b: Spot, angle: float, event: dict[str, Any]) -> dict[str, Any]:
    """A located event if it lies in the step between a and b; else the middle of the step."""
    chord = b.node.u - a.node.u
    length = np.linalg.norm(chord)
    offset = event["u"] - a.node.u
    event["along"] = float(offset @ chord / length**2)
    inside = -SLACK <= event["along"] <= 1 + SLACK
    inside &= bool(np.linalg.norm(offset - event["along"] * chord) <= length)
    if not inside:
        event["status"] = Status.MAX_STEPS
    if event["status"] != Status.CONVERGED:
        event.update(u=0.5 * (a.node.u + b.node.u), along=0.5, angle=angle, reach=float(length))
    return event


def _located(family: Family, kind: str, guesses: Any, angles: Any, tol) -> list[dict[str, Any]]:
    return [
        {
            "kind": kind,
            "u": found.u,
            "multiplicity": found.multiplicity,
            "coefficient": found.coefficient,
            "cubic": found.cubic,
            "angle": float(found.angle),
            "residual": found.residual,
            "status": Status.CONVERGED if good else Status.MAX_STEPS,
            "along": 0.0,
            "reach": float(np.sqrt(np.finfo(guesses.dtype).eps)),
        }
        for found, good in located(family, kind, guesses, angles, tol)
    ]


def _at(family: Family, end: Spot, tol: Any) -> list[dict[str, Any]]:
    """The events at an end of the branch itself, which no step contains.

    None where the point is so large that rounding decides: a branch that goes to infinity has an
    eigenvalue that tends to 1 and no bifurcation.
    """
    u, eps = end.node.u, float(np.finfo(end.node.u.dtype).eps)
    reach = eps**0.5 * (1 + float(np.max(np.abs(u))))
    events: list[dict[str, Any]] = []
    if reach > eps**0.25:
        return events
    for value in end.eigenvalues:
        if abs(abs(value) - 1) > reach or value.imag < 0:
            continue
        if value.imag > reach:
            kinds = ("neimark_sacker",)
        else:
            kinds = ("branch_point", "fold") if value.real > 0 else ("flip",)
        for kind in kinds:
            (event,) = _located(family, kind, u[None], [float(np.angle(value))], tol)
            if event["status"] == Status.CONVERGED and _distance(event["u"], u) <= reach:
                events.append(event)
                break
    return events


def _distance(u: Any, v: Any) -> float:
    return float(np.max(np.abs(u - v)))


def _without_doubles(
    seen: list[dict[str, Any]], at_ends: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """Drop what two searches found alike.

    The fold system also converges at a branch point; what rounding shows on the wrong side of a
    point stands beside the event itself; and an event at an end may lie within the last step.
    """
    located = [event for event in seen if event["status"] == Status.CONVERGED]
    kept = []
    for event in seen:
        others = [e for e in located if e is not event and _alike(e, event)]
        better = event["kind"] == "fold" and any(e["kind"] == "branch_point" for e in others)
        if not (better or (others and event["status"] != Status.CONVERGED)):
            kept.append(event)
    before, after = [], []
    for event in at_ends:
        if not any(_alike(event, other) for other in (*kept, *before, *after)):
            (before if event["end"] == 0 else after).append(event)
    return before + kept + after


def _alike(a: dict[str, Any], b: dict[str, Any]) -> bool:
    """Whether two events have the same multiplier and place.

    At a branch point the fold system is singular and converges to about sqrt(eps) only.
    """
    reach = max(a["reach"], b["reach"])
    if a["kind"] != b["kind"]:
        if {a["kind"], b["kind"]} != {"fold", "branch_point"}:
            return False
        reach = max(reach, float(np.cbrt(np.finfo(a["u"].dtype).eps)))
    apart = abs(a["u"][-1] - b["u"][-1]) > reach  # as most are, in the parameter already
    return not apart and _distance(a["u"], b["u"]) <= reach
