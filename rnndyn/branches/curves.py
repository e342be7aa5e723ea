"""Curves of folds, flips and Neimark-Sacker points in two parameters, and their special points."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy.optimize import brentq

from rnndyn.branches import extended, states
from rnndyn.branches.arclength import Node, Sizes, Stop, size, sweep
from rnndyn.branches.branch import STATUS
from rnndyn.branches.continuation import lengths, limits, partial_of
from rnndyn.branches.events import Event
from rnndyn.branches.following import Cyclic, cut, joined, turned
from rnndyn.core import validation
from rnndyn.core.pytree import pytree, static
from rnndyn.core.status import Status
from rnndyn.maps import Map


@pytree
class CurvePoint:
    """A point of a curve at which the bifurcation is degenerate.

    Attributes
    ----------
    kind : str, static
        On a curve of folds "cusp", "resonance_1_1" or "fold_flip"; of flips "generalised_flip",
        "resonance_1_2" or "fold_flip"; of Neimark-Sacker points "resonance_1_1" to
        "resonance_1_4" (multipliers exp(2 pi i / k)) or "chenciner" (Re d = 0).
    parameters : jax.Array, shape (2,)
    z : jax.Array, shape (d,)
    coefficient : jax.Array
        Of a cusp the cubic coefficient with <p, q> = |q| = 1; NaN otherwise.
    residual : jax.Array
        Max norm of the extended system.
    status : jax.Array, int
        0; -2 if a sign change was seen but not located to tol.
    """

    kind: str = static()
    parameters: jax.Array
    z: jax.Array
    coefficient: jax.Array
    residual: jax.Array
    status: jax.Array


@pytree
class Curve:
    """A curve of bifurcations in two parameters, in order along it.

    Attributes
    ----------
    parameters : jax.Array, shape (n, 2)
    z : jax.Array, shape (n, d)
        The fixed point, or a point of the cycle, that bifurcates.
    angle : jax.Array, shape (n,)
        Argument of the critical multiplier: 0 on folds, pi on flips.
    residual : jax.Array, shape (n,)
        Max norm of the extended system.
    points : tuple of CurvePoint, in order along the curve
    status : jax.Array, int
        The worse of the two ends, as of a `Branch`.
    kind : str, static
        "fold", "flip" or "neimark_sacker".
    period : int, static
    stop : (str, str), static
        Why it ends: a key of `describe_stop`.
    """

    parameters: jax.Array
    z: jax.Array
    angle: jax.Array
    residual: jax.Array
    points: tuple[CurvePoint, ...]
    status: jax.Array
    kind: str = static()
    period: int = static()
    stop: tuple[str, str] = static()


def bifurcation_curve(
    family: Callable[[jax.Array, jax.Array], Map],
    event: Event,
    *,
    second: float,
    spans: tuple[tuple[float, float], tuple[float, float]],
    max_points: int = 1000,
    ds: float = 0.01,
    ds_min: float | None = None,
    ds_max: float = 0.05,
    tol: float | None = None,
) -> Curve:
    """Follow a fold, a flip or a Neimark-Sacker point in two parameters.

    Pseudo-arclength continuation of an extended system (z, a critical vector, both parameters;
    see `rnndyn.branches.extended`). Points where the bifurcation itself degenerates are seen by a
    change of sign between two points of the curve and located by Brent's method along it.

    Parameters
    ----------
    family : callable
        `family(first, second)` is a Map; static like that of `continuation`.
    event : Event
        Located on a branch in the first parameter; of kind "fold", "flip" or "neimark_sacker".
    second : float
        The second parameter of that branch.
    spans : ((low, high), (low, high))
        Of the first and of the second parameter. The curve is followed both ways until it leaves
        either.
    max_points : int, at least 2; static
        Of each direction.
    ds, ds_min, ds_max, tol : float
        As in `continuation`, in u = (z, v, parameters / width of their spans), with |v| = 1.

    Returns
    -------
    Curve
        A curve of Neimark-Sacker points ends at a 1:1 or a 1:2 resonance, beyond which the two
        multipliers are real with product 1. Cost per point: 2 Jacobians of 2 d + 2 unknowns, each
        of as many second derivatives of the map, and as many LU decompositions. Host-side
        steps; the call itself is not jitted.

    Raises
    ------
    ValueError, TypeError
        If the event is of another kind or not located, or a span or an option does not fit.

    Examples
    --------
    >>> import jax.numpy as jnp, rnndyn as rd
    >>> def henon(b, a):
    ...     return rd.maps.henon(a, b)
    >>> start = jnp.array([0.56, -0.28])
    >>> branch = rd.continuation(lambda b: henon(b, 0.5), start, span=(-1.2, -0.5), start=-0.5)
    >>> (circle,) = [event for event in branch.events if event.kind == "neimark_sacker"]
    >>> curve = rd.bifurcation_curve(henon, circle, second=0.5, spans=((-2, 0), (-3, 4)))
    >>> for point in curve.points:
    ...     print(point.kind, round(float(point.parameters[1]), 6) + 0)
    resonance_1_1 -1.0
    resonance_1_4 0.0
    resonance_1_3 1.25
    resonance_1_2 3.0
    """
    _require_curve(event)
    z = jnp.asarray(event.z)
    validation.require_shape("spans", spans, (2, 2), "pass ((low, high), (low, high))")
    ends = np.array([limits(span) for span in spans])
    for name, value, (low, high) in zip(
        ("event.parameter", "second"), (event.parameter, second), ends, strict=True
    ):
        validation.require_range(name, value, low, high, "widen the span")
    advice = "a curve has at least its start and one more point"
    max_points = validation.require_int("max_points", max_points, 2, advice)
    sizes = lengths(z.dtype, ds, ds_min, ds_max, tol)
    make = family if isinstance(family, jax.tree_util.Partial) else partial_of(family)
    _require_of(make, event, jnp.asarray(second, z.dtype))
    if event.period > 1:
        make = jax.tree_util.Partial(Cyclic(make.func, event.period), *make.args, **make.keywords)
    low, width = jnp.asarray(ends[:, 0], z.dtype), jnp.asarray(ends[:, 1] - ends[:, 0], z.dtype)
    place = (jnp.stack([event.parameter, jnp.asarray(second, z.dtype)]) - low) / width
    blank = extended.Extended(make, low, width, jnp.zeros_like(z), event.kind)
    system, u0 = extended.start(blank, z, place, event.angle)
    swept = sweep(system, u0, jnp.zeros_like(u0), sizes, max_points=max_points, natural=False)
    nodes, stops = _both_ways(*jax.device_get(swept))
    return _finished(system, nodes, stops, sizes, event.period)


def _both_ways(nodes: Node, counts: Any, stops: Any) -> tuple[Node, list[Stop]]:
    """One curve from two directions, each up to where it leaves the region of interest."""
    halves, ends = [], []
    for row in range(2):
        half = cut(jax.tree.map(lambda a, row=row: a[row], nodes), 0, counts[row])
        inside = (half.u[:, -2] >= 0) & (half.u[:, -2] <= 1)
        stop = Stop(int(stops[row]))
        if not inside.all():
            half, stop = cut(half, 0, max(1, int(np.argmin(inside)))), Stop.LEFT_SPAN
        halves.append(half)
        ends.append(stop)
    if ends[0] == Stop.CLOSED:
        return halves[0], [Stop.CLOSED] * 2
    return joined(turned(cut(halves[1], 1, None)), halves[0]), ends[::-1]


def _finished(system, nodes: Node, stops: list[Stop], sizes: Sizes, period: int) -> Curve:
    values, vectors = jax.device_get(extended.tests_along(system, nodes.u))
    found = []
    # A test that vanishes on all of the curve (Re d where area is preserved) changes sign by noise.
    loud = np.maximum(np.abs(values[1:]), np.abs(values[:-1])) > np.sqrt(sizes.tol)
    for i, j in np.argwhere((values[1:] * values[:-1] < 0) & loud).tolist():
        found.append(_located(system, nodes, i, j, values, vectors[i], sizes))
    found = sorted((point for point in found if point is not None), key=lambda item: item[0])
    nodes, found, stops = _of_complex_pairs(system, nodes, found, stops)
    if system.kind == "neimark_sacker":
        angle = np.arccos(np.clip(nodes.u[:, -3], -1, 1))
    else:
        angle = np.full_like(nodes.residual, 0.0 if system.kind == "fold" else np.pi)
    numbers: dict[str, Any] = {
        "parameters": np.asarray(system.low) + np.asarray(system.width) * nodes.u[:, -2:],
        "z": nodes.u[:, : system.plane.size],
        "angle": angle,
        "residual": nodes.residual,
        "status": np.asarray(min(int(STATUS[stop]) for stop in stops)),
    }
    return jax.device_put(
        Curve(
            **numbers,
            points=tuple(point for _, point in found),
            kind=system.kind,
            period=period,
            stop=(stops[0].name.lower(), stops[1].name.lower()),
        )
    )


def _of_complex_pairs(system, nodes: Node, found: list, stops: list[Stop]):
    """The part of a Neimark-Sacker curve between resonances 1:1 and 1:2, as that is where it is."""
    if system.kind != "neimark_sacker":
        return nodes, found, stops
    real = np.abs(nodes.u[:, -3]) >= 1
    if not real.any() or real.all():
        return nodes, found, stops
    first, last = np.flatnonzero(~real)[[0, -1]]
    stops = [Stop.RESONANCE if first > 0 else stops[0], stops[1]]
    stops[1] = Stop.RESONANCE if last < len(real) - 1 else stops[1]
    return cut(nodes, first, last + 1), [p for p in found if first - 1 <= p[0] <= last + 1], stops


def _located(system, nodes: Node, i: int, j: int, values, reference, sizes: Sizes):
    """Where along the curve, and the point; None at a pole, where a test changes sign too."""
    a, b = jnp.asarray(nodes.u[i]), jnp.asarray(nodes.u[i + 1])

    def at(along):
        along = jnp.asarray(along, a.dtype)
        return jax.device_get(extended.between(system, a, b, along, reference, sizes.tol))

    try:
        along: Any = brentq(lambda t: at(t)[1][j], 0, 1, xtol=4 * np.finfo(a.dtype).eps)
    except ValueError:  # rounding has moved an end across the zero
        along = float(values[i, j] / (values[i, j] - values[i + 1, j]))
    u, tests, residual = at(along)
    if not abs(tests[j]) <= 0.1 * min(abs(values[i, j]), abs(values[i + 1, j])):
        return None
    kind = extended.TESTS[system.kind][j]
    coefficient = np.asarray(np.nan, u.dtype)
    if kind == "cusp":
        coefficient = np.asarray(extended.cusp_coefficient(system, u))
    good = residual <= float(sizes.tol) * max(1.0, float(size(u[:-1])))
    numbers: dict[str, Any] = {
        "parameters": np.asarray(system.low) + np.asarray(system.width) * u[-2:],
        "z": u[: system.plane.size],
        "coefficient": coefficient,
        "residual": residual,
        "status": np.asarray(int(Status.CONVERGED if good else Status.MAX_STEPS)),
    }
    return i + along, CurvePoint(kind=kind, **numbers)


def _require_of(make: Callable[..., Map], event: Event, second: jax.Array) -> None:
    """Raise unless the event is one of the family at this second parameter."""

    def orbit_end(first, second, z):
        map_ = states.built(make, first, second)
        got = states.image("event.z", map_, z)
        validation.require_shape("event.z", z, got.shape, "pass the family of its branch")
        return jax.lax.fori_loop(0, event.period, lambda _, z: map_(z), z)

    off = size(orbit_end(jnp.asarray(event.parameter), second, event.z) - event.z)
    states.require_root("event", off, event.z, "pass its family, and `second` as it was there")


def _require_curve(event: Event) -> None:
    states.require_event(event)
    kinds = ("fold", "flip", "neimark_sacker")
    validation.require_choice("event.kind", event.kind, kinds, "follow one of these")
    if int(event.status) != 0:
        got, advice = f"status {int(event.status)}", "lower ds_max in continuation"
        raise ValueError(validation.sentence("event", "a located event", got, advice))
