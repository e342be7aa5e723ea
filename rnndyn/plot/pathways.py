"""Gradient flow taken apart: classes of paths by lag, and singular values as ribbons by lag.

Results may carry leading axes (seeds, sequences); natural logarithms come in, decimal ones are
drawn.
"""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from rnndyn.plot.spectra import LN10, gradient_flow
from rnndyn.plot.style import COLOURS

PATH_COLOURS = tuple(COLOURS[name] for name in ("green", "vermillion", "blue", "purple", "orange"))


def pathways(
    ax: Axes, paths: Any, *, colors: Sequence[Any] = PATH_COLOURS, names: Sequence[str] = ()
) -> list[Any]:
    """log10 norm of dz_T/dz_t against the lag: all paths in black, each class in a colour.

    Parameters
    ----------
    ax : Axes
    paths : Pathways
        Or anything with `.names` (P of them), `.lags` (L,), `.log_norm` (..., L) and `.log_parts`
        (..., P, L). Where a class is empty (-inf) nothing is drawn.
    colors : sequence of colours
        One a class, used again from the first if there are more classes.
    names : sequence of str, optional
        For the legend, in place of `paths.names`.

    Returns
    -------
    list of artists
        Line and band of the whole, then of each class.
    """
    parts = np.asarray(paths.log_parts)
    drawn = _one(ax, paths.lags, paths.log_norm, "all paths", color="black", linewidth=1.6)
    for index, name in enumerate(names or paths.names):
        color = colors[index % len(colors)]
        drawn += _one(ax, paths.lags, parts[..., index, :], name, color=color)
    return drawn


def singular_ribbon(
    ax: Axes, spectra: Any, *, color: Any = COLOURS["blue"], label: str | None = None
) -> list[Any]:
    """log10 singular values of dz_T/dz_t against the lag: all, the middle half, the median.

    Parameters
    ----------
    ax : Axes
    spectra : SingularSpectra
        Or anything with `.lags` (L,) and `.log_values` (..., L, d). The spectra of all leading
        axes are one set. Values that are exactly zero (-inf) fall off the lower edge.

    Returns
    -------
    list of artists
        The ribbon from least to largest, the one from the first to the third quartile, the median.
    """
    lags = np.asarray(spectra.lags).reshape(-1, np.shape(spectra.lags)[-1])[0]
    order = np.argsort(lags)
    values = np.moveaxis(np.asarray(spectra.log_values), -2, 0)[order] / LN10
    floor = -1e3  # in place of -inf, which quantiles cannot interpolate with
    flat = np.maximum(values.reshape(len(lags), -1), floor)
    shown = np.percentile(flat, [0, 25, 50, 75, 100], axis=1)
    low, first, middle, third, high = np.where(shown[-1] > floor, shown, np.nan)
    middle = np.where(middle > floor, middle, np.nan)
    x = lags[order]
    drawn: list[Any] = [
        ax.fill_between(x, low, high, color=color, alpha=0.18, lw=0),
        ax.fill_between(x, first, third, color=color, alpha=0.35, lw=0),
        *ax.plot(x, middle, color=color, label=label),
    ]
    ax.set_xlabel("lag $T-t$ (steps)")
    ax.set_ylabel(r"$\log_{10}\,\sigma_i$")
    return drawn


def _one(ax: Axes, lags: Any, log_norm: Any, label: str, **line: Any) -> list[Any]:
    return gradient_flow(ax, SimpleNamespace(lags=lags, log_norm=log_norm), label=label, **line)
