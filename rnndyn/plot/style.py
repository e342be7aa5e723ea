"""The one figure style: sizes in print, fonts of at least 7 points, colours for everyone."""

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.rcsetup import cycler

SINGLE = 3.4  # inches: one column of a paper
DOUBLE = 7.0  # inches: the whole width

# Okabe & Ito 2008: told apart with every common form of colour vision.
COLOURS = {
    "blue": "#0072B2",
    "green": "#009E73",
    "vermillion": "#D55E00",
    "purple": "#CC79A7",
    "sky": "#56B4E9",
    "orange": "#E69F00",
    "black": "#000000",
    "grey": "#7F7F7F",
}

_STYLE: dict[Any, Any] = {
    "font.size": 8.0,
    "axes.labelsize": 8.0,
    "axes.titlesize": 8.0,
    "figure.titlesize": 9.0,
    "xtick.labelsize": 7.0,
    "ytick.labelsize": 7.0,
    "legend.fontsize": 7.0,
    "legend.frameon": False,
    "legend.handlelength": 1.6,
    "legend.borderaxespad": 0.2,
    "legend.labelspacing": 0.25,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "lines.linewidth": 1.2,
    "lines.markersize": 3.0,
    "axes.prop_cycle": cycler("color", list(COLOURS.values())[:6]),
    "figure.dpi": 100.0,
}


@contextlib.contextmanager
def style() -> Iterator[None]:
    """Within it figures are made in the one style; outside nothing has changed."""
    with matplotlib.rc_context():
        matplotlib.rcParams.update(dict(matplotlib.rcParamsDefault) | _STYLE)
        yield


def figure(
    rows: int = 1,
    columns: int = 1,
    *,
    width: float = DOUBLE,
    height: float | None = None,
    **options,
) -> tuple[Figure, Any]:
    """A figure of the size in which it is printed, and its axes.

    Parameters
    ----------
    rows, columns : int
    width, height : float
        In inches; the height defaults to 1.8 a row.
    **options
        For `Figure.subplots`: `sharex`, `sharey`, `gridspec_kw`, ...

    Returns
    -------
    Figure, array of Axes with shape (rows, columns)
        Not known to pyplot.

    Examples
    --------
    >>> from rnndyn import plot
    >>> with plot.style():
    ...     fig, axes = plot.figure(1, 2)
    >>> axes.shape
    (1, 2)
    """
    made = Figure(figsize=(width, 1.8 * rows if height is None else height), layout="constrained")
    return made, made.subplots(rows, columns, squeeze=False, **options)


def label_panels(axes: Iterable[Axes]) -> list[Any]:
    """Letters a, b, c ... at the top left of each panel, outside of what it shows."""
    return [
        ax.annotate(
            chr(ord("a") + index),
            xy=(0, 1),
            xycoords="axes fraction",
            xytext=(-3, 4),
            textcoords="offset points",
            ha="right",
            va="bottom",
            fontweight="bold",
        )
        for index, ax in enumerate(axes)
    ]


def shades(count: int) -> list[Any]:
    """Colours for an ordered quantity, light to dark (cividis without its ends)."""
    cividis = matplotlib.colormaps["cividis_r"]
    return [cividis(0.15 + 0.85 * index / max(count - 1, 1)) for index in range(count)]


def tints(color: Any, count: int) -> list[Any]:
    """One colour from pale to full, for an ordered quantity within what the colour stands for."""
    full = np.array(to_rgb(color))
    strengths = np.linspace(0.35, 1.0, count) if count > 1 else [1.0]
    return [tuple(1.0 - strength * (1.0 - full)) for strength in strengths]
