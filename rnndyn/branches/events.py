"""What happens along a branch: bifurcations detected between points, located, and named.

A host-side step. Between two points of a branch each eigenvalue is matched to its successor (the
assignment of least total distance); one that crosses the unit circle is a bifurcation, a real one
at +1 or -1 or a complex pair elsewhere, so a collision of eigenvalues off the circle (a neutral
saddle) is none. Folds and branch points are told apart by the tangent's parameter component and
the bordered determinant. What cannot be located or told apart is looked at again on half steps.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy.optimize import linear_sum_assignment

from rnndyn.branches.arclength import Family, Node, between
from rnndyn.branches.location import locate
from rnndyn.core.pytree import pytree, static
from rnndyn.core.status import Status

HALVINGS = 10
SLACK = 0.05  # how far beyond its step an event may lie, as a fraction of the step


@pytree
class Event:
    """A bifurcation on a branch.

    Attributes
    ----------
    kind : str, static
        "fold", "branch_point", "flip" (period doubling) or "neimark_sacker".
    criticality : str, static
        "supercritical" (what is born is stable if the branch was), "subcritical" or
        "transcritical" (a branch point with a quadratic term); "" for a fold, and where the
        coefficient is zero or not defined.
    parameter : jax.Array
    z : jax.Array, shape (d,)
    coefficient : jax.Array, complex
        Kuznetsov's, with |q| = <p, q> = 1 (see `normal_forms`): a of a fold or a transcritical
        point, the cubic of a pitchfork, c of a flip, d of a Neimark-Sacker bifurcation. NaN if
        several eigenvalues are critical at once, where no scalar normal form holds.
    angle : jax.Array
        Argument of the critical multiplier; 2 pi / k with k <= 4 is a strong resonance, where the
        coefficient of a Neimark-Sacker bifurcation decides nothing.
    multiplicity : jax.Array, int
        How many eigenvalues (or pairs) are critical together. A branch carries one event for each
        that crosses.
    residual : jax.Array
        Max norm of the extended system at the event.
    status : jax.Array, int
        0, or -2 if it was seen between two points but not located; it then stands at the middle
        of an interval that contains it, and the coefficient is NaN.
    """

    kind: str = static()
    criticality: str = static()
    parameter: jax.Array
    z: jax.Array
    coefficient: jax.Array
    angle: jax.Array
    multiplicity: jax.Array
    residual: jax.Array
    status: jax.Array


def find_events(family: Family, nodes: Node, tol: jax.Array) -> tuple[Event, ...]:
    """The events along a branch whose nodes (numpy, leading axis n) are given in order."""
    host = [jax.tree.map(lambda a, i=i: a[i], nodes) for i in range(nodes.residual.size)]
    seen = []
    for a, b in zip(host[:-1], host[1:], strict=True):
        seen += _inside(family, a, b, tol, HALVINGS)
    at_ends = []
    for place, end in enumerate(host[:: max(1, len(host) - 1)]):
        at_ends += [dict(event, end=place) for event in _at(family, end, tol)]
    return tuple(_finish(family, event) for event in _without_doubles(seen, at_ends))


def _inside(family: Family, a: Node, b: Node, tol: Any, halvings: int) -> list[dict[str, Any]]:
    candidates, clear = _candidates(a, b)
    if not candidates:
        return []
    events = [_try(family, a, b, kind, at, angle, tol) for kind, at, angle in candidates]
    if clear and all(event["status"] == Status.CONVERGED for event in events):
        return sorted(events, key=lambda event: event["along"])
    if halvings > 0:
        middle, good = jax.device_get(between(family, a, b, tol))
        if good:
            return _inside(family, a, middle, tol, halvings - 1) + _inside(
                family, middle, b, tol, halvings - 1
            )
    return events


def _candidates(a: Node, b: Node) -> tuple[list[tuple[str, float, float]], bool]:
    """(kind, fraction of the step, angle) of what happens between two nodes; whether it is clear.

    It is not clear when a real eigenvalue turns complex on its way across the circle, or when
    crossings and determinants disagree.
    """
    turned = (a.tangent[-1] >= 0) != (b.tangent[-1] >= 0)
    branched = (a.orientation >= 0) != (b.orientation >= 0)
    candidates, clear, plus = [], True, []
    for before, after in _matched(a.eigenvalues, b.eigenvalues):
        if (abs(before) > 1) == (abs(after) > 1):
            continue
        at = (1 - abs(before)) / (abs(after) - abs(before))
        critical = before + at * (after - before)
        clear &= (before.imag == 0) == (after.imag == 0)
        if before.imag != 0 or after.imag != 0:
            if critical.imag > 0:
                candidates.append(("neimark_sacker", at, float(np.angle(critical))))
        elif critical.real > 0:
            plus.append(at)
        else:
            candidates.append(("flip", at, np.pi))
    clear &= (len(plus) % 2 == 1) == (turned != branched)
    p, r = a.tangent[-1], b.tangent[-1]
    if turned:
        candidates.append(("fold", float(p / (p - r)), 0.0))
    known = int(turned) + int(branched)
    spare = max(len(plus) - known + int(branched), int(branched))
    for i in range(spare):
        candidates.append(("branch_point", plus[i % len(plus)] if plus else 0.5, 0.0))
    return candidates, clear


def _matched(before: Any, after: Any) -> Any:
    """Pairs of eigenvalues, matched to the least total distance."""
    rows, columns = linear_sum_assignment(np.abs(before[:, None] - after[None]))
    return zip(before[rows], after[columns], strict=True)


def _try(family, a: Node, b: Node, kind: str, at: float, angle: float, tol) -> dict[str, Any]:
    """A located event, accepted if it lies in the step between a and b."""
    chord = b.u - a.u
    length = np.linalg.norm(chord)
    guess = a.u + np.asarray(at, a.u.dtype) * chord
    event = _located(family, kind, guess, angle, tol)
    offset = event["u"] - a.u
    event["along"] = float(offset @ chord / length**2)
    inside = -SLACK <= event["along"] <= 1 + SLACK
    inside &= bool(np.linalg.norm(offset - event["along"] * chord) <= length)
    if not inside:
        event["status"] = Status.MAX_STEPS
    if event["status"] != Status.CONVERGED:
        event.update(u=0.5 * (a.u + b.u), along=0.5, angle=angle, reach=float(length))
    return event


def _located(family: Family, kind: str, guess: Any, angle: float, tol) -> dict[str, Any]:
    found = jax.device_get(locate(family, kind, guess, np.asarray(angle, guess.dtype)))
    loose = 64 * float(tol) * max(1.0, float(np.max(np.abs(found.u[:-1]), initial=0)))
    good = bool(found.residual <= loose) and bool(np.all(np.isfinite(found.u)))
    return {
        "kind": kind,
        "u": found.u,
        "eigenvalues": found.eigenvalues,
        "coefficient": found.coefficient,
        "cubic": found.cubic,
        "angle": float(found.angle),
        "residual": found.residual,
        "status": Status.CONVERGED if good else Status.MAX_STEPS,
        "along": 0.0,
        "reach": float(np.sqrt(np.finfo(guess.dtype).eps)),
    }


def _at(family: Family, end: Node, tol: Any) -> list[dict[str, Any]]:
    """The events at an end of the branch itself, which no step contains."""
    reach = float(np.sqrt(np.finfo(end.u.dtype).eps)) * (1 + float(np.max(np.abs(end.u))))
    events = []
    for value in end.eigenvalues:
        if abs(abs(value) - 1) > reach or value.imag < 0:
            continue
        if value.imag > reach:
            kinds = ("neimark_sacker",)
        else:
            kinds = ("branch_point", "fold") if value.real > 0 else ("flip",)
        for kind in kinds:
            event = _located(family, kind, end.u, float(np.angle(value)), tol)
            if event["status"] == Status.CONVERGED and _distance(event["u"], end.u) <= reach:
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
    return _distance(a["u"], b["u"]) <= reach


def _finish(family: Family, event: dict[str, Any]) -> Event:
    u, located = event["u"], event["status"] == Status.CONVERGED
    dtype = u.dtype
    multiplicity, coefficient, criticality = 1, complex(np.nan, np.nan), ""
    if located:
        critical = np.exp(1j * event["angle"])
        near = np.abs(event["eigenvalues"] - critical) <= np.finfo(dtype).eps ** (1 / 3)
        multiplicity = max(1, int(np.sum(near)))
        if multiplicity == 1:
            coefficient, criticality = _name(event, dtype)
    return Event(
        kind=event["kind"],
        criticality=criticality,
        parameter=family.low + family.width * jnp.asarray(u[-1]),
        z=jnp.asarray(u[:-1]),
        coefficient=jnp.asarray(coefficient, np.result_type(dtype, np.complex64)),
        angle=jnp.asarray(event["angle"], dtype),
        multiplicity=jnp.asarray(multiplicity),
        residual=jnp.asarray(event["residual"]),
        status=jnp.asarray(int(event["status"])),
    )


def _name(event: dict[str, Any], dtype: Any) -> tuple[complex, str]:
    """The coefficient that decides, and the criticality it decides for."""
    first, cubic, kind = complex(event["coefficient"]), complex(event["cubic"]), event["kind"]
    if kind == "fold":
        return first, ""
    negligible = float(np.finfo(dtype).eps ** (1 / 3))
    if kind == "branch_point" and abs(first) > negligible * (1 + abs(cubic)):
        return first, "transcritical"
    if kind == "branch_point":
        first = cubic
    stable_if = -first.real if kind != "flip" else first.real
    if not np.isfinite(stable_if) or abs(stable_if) <= negligible:
        return first, ""
    return first, "supercritical" if stable_if > 0 else "subcritical"
