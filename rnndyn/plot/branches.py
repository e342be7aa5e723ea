"""Bifurcation diagrams: branches over one parameter, curves over two, and what happens on them."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes

from rnndyn.plot.style import COLOURS

# A marker and a colour for each kind; shapes differ too, so that grey prints are legible.
EVENTS = {
    "fold": ("fold", "o", "vermillion"),
    "branch_point": ("branch point", "s", "black"),
    "flip": ("flip", "D", "green"),
    "neimark_sacker": ("Neimark–Sacker", "^", "purple"),
    "border_collision": ("border collision", "|", "orange"),
}
POINTS = {
    "cusp": ("cusp", "v"),
    "fold_flip": ("fold–flip", "X"),
    "generalised_flip": ("generalised flip", "P"),
    "chenciner": ("Chenciner", "*"),
    "resonance_1_1": ("1:1", "o"),
    "resonance_1_2": ("1:2", "s"),
    "resonance_1_3": ("1:3", "^"),
    "resonance_1_4": ("1:4", "D"),
}


def bifurcation_diagram(
    ax: Axes, branches: Any, *, coordinate: int = 0, color: Any = COLOURS["blue"], **line: Any
) -> list[Any]:
    """Branches over their parameter: solid where stable, dashed where not, events marked.

    Parameters
    ----------
    ax : Axes
    branches : Branch, or an iterable of them
        Of cycles all points are drawn, and an event at the one that was followed.
    coordinate : int
        Which entry of z is on the vertical axis.
    color : a colour of the lines

    Returns
    -------
    list of artists
        The lines, then one collection of markers a kind of event, labelled for a legend.
    """
    branches = [branches] if hasattr(branches, "parameter") else list(branches)
    drawn: list[Any] = []
    places: dict[str, list[Any]] = {}
    for branch in branches:
        p, y = np.asarray(branch.parameter), np.asarray(branch.orbit)[:, :, coordinate]
        for stable, begin, end in _stretches(np.asarray(branch.stable)):
            style = {"linestyle": "-" if stable else "--", "linewidth": 1.2 if stable else 0.9}
            part = slice(begin, end + 1)
            drawn += ax.plot(p[part], y[part], color=color, **(style | line))
        for event in branch.events:
            places.setdefault(event.kind, []).append((event.parameter, event.z[coordinate]))
    for kind in (kind for kind in EVENTS if kind in places):
        label, marker, hue = EVENTS[kind]
        at = np.asarray(places[kind], float)
        look = {"s": 16.0, "marker": marker, "color": COLOURS[hue], "zorder": 3}
        drawn.append(ax.scatter(at[:, 0], at[:, 1], label=label, **look))
    ax.set_xlabel("parameter")
    ax.set_ylabel(f"$z_{{{coordinate}}}$")
    return drawn


def bifurcation_map(ax: Axes, curves: Any) -> list[Any]:
    """Curves of bifurcations in the plane of two parameters, one colour a kind, points marked.

    Parameters
    ----------
    ax : Axes
    curves : Curve, or an iterable of them

    Returns
    -------
    list of artists
        The lines, the first of a kind labelled, then one collection of markers a kind of point.
    """
    curves = [curves] if hasattr(curves, "parameters") else list(curves)
    drawn: list[Any] = []
    places: dict[str, list[Any]] = {}
    labelled: set[str] = set()
    for curve in curves:
        label, _, hue = EVENTS[curve.kind]
        at = np.asarray(curve.parameters)
        shown = None if curve.kind in labelled else label
        drawn += ax.plot(at[:, 0], at[:, 1], color=COLOURS[hue], label=shown)
        labelled.add(curve.kind)
        for point in curve.points:
            places.setdefault(point.kind, []).append(point.parameters)
    for kind in (kind for kind in POINTS if kind in places):
        label, marker = POINTS[kind]
        at = np.asarray(places[kind], float)
        look = {"s": 18.0, "marker": marker, "color": "white", "edgecolors": "black", "zorder": 3}
        drawn.append(ax.scatter(at[:, 0], at[:, 1], label=label, linewidths=0.7, **look))
    ax.set_xlabel("first parameter")
    ax.set_ylabel("second parameter")
    return drawn


def _stretches(stable: np.ndarray) -> list[tuple[bool, int, int]]:
    """(stable, first, last) of runs of equal stability; each begins where the one before ends."""
    edges = [0, *(np.flatnonzero(stable[1:] != stable[:-1]) + 1).tolist(), len(stable) - 1]
    runs = [
        (bool(stable[begin]), max(begin - 1, 0), max(end - 1, 0))
        for begin, end in zip(edges[:-1], edges[1:], strict=True)
    ]
    return [*runs[:-1], (runs[-1][0], runs[-1][1], len(stable) - 1)]
