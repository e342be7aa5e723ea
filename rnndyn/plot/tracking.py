"""Events of a track above a curve of training: a loss, a gradient norm, a number of points."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes

from rnndyn.plot.style import COLOURS

# name in print, colour; what is not listed is drawn in grey under its own name
KINDS = {
    "fold": ("fold", COLOURS["vermillion"]),
    "branch_point": ("branch point", COLOURS["blue"]),
    "flip": ("flip", COLOURS["green"]),
    "neimark_sacker": ("Neimark–Sacker", COLOURS["purple"]),
    "vanished": ("lost", COLOURS["black"]),
    "appeared": ("found late", COLOURS["black"]),
}
ROW = 0.09  # of the height of the axes
TEXT: dict[str, Any] = {"va": "center", "fontsize": 7.0}
CHANGES = {1: "^", -1: "v", 0: "o"}


def events(
    ax: Axes, track: Any, *, steps: Any = None, kinds: Any = None, names: bool = True, **line: Any
) -> list[Any]:
    """The events of a track in rows above the axes, one row a kind, each with a line down.

    Upward triangles make fixed points, downward ones end them, circles change their stability.

    Parameters
    ----------
    ax : Axes
        With a curve over training; its limits in y stay as they are. Give it no title: the rows
        take its place.
    track : Track
        Or anything with `.events`, each with `.kind`, `.place` and `.change`.
    steps : array-like, shape (K,), optional
        The training step of each checkpoint: places k + s are drawn between them. By default the
        axis counts checkpoints.
    kinds : sequence of str, optional
        The rows from bottom to top, whether or not they occur; by default the kinds that occur.
    names : bool
        Whether to write the kind at the right end of its row.

    Returns
    -------
    list of artists
        For each kind and change that occurs its markers, then the lines, then the names.
    """
    found = list(track.events)
    if kinds is None:
        order = list(KINDS)
        kinds = sorted({event.kind for event in found}, key=lambda k: (order + [k]).index(k))
    above = ax.get_xaxis_transform()
    options: dict[str, Any] = {"markersize": 4.0, "linestyle": "none", "clip_on": False} | line
    markers, lines, texts = [], [], []
    for row, kind in enumerate(kinds):
        label, color = KINDS.get(kind, (kind.replace("_", " "), COLOURS["grey"]))
        height = 1.0 + ROW * (row + 0.7)
        for sign, marker in CHANGES.items():
            chosen = [e for e in found if e.kind == kind and np.sign(e.change) == sign]
            x = _at([float(event.place) for event in chosen], steps)
            if not chosen:
                continue
            y = np.full(len(x), height)
            markers += ax.plot(x, y, marker, color=color, transform=above, **options)
            lines += [ax.axvline(at, color=color, linewidth=0.5, alpha=0.5, zorder=0) for at in x]
        if names:
            place = (1.02, height)
            texts.append(ax.annotate(label, place, xycoords="axes fraction", color=color, **TEXT))
    return markers + lines + texts


def _at(places: list[float], steps: Any) -> np.ndarray:
    if steps is None:
        return np.asarray(places)
    steps = np.asarray(steps, float)
    return np.interp(places, np.arange(steps.size), steps)
