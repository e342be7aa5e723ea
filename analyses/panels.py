"""The panels that the figures share, so that they look and read alike."""

from types import SimpleNamespace
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analyses.measure import exponent
from rnndyn import plot

Part = dict[str, np.ndarray]
# vanishing, kept, exploding
FATES = tuple(plot.COLOURS[name] for name in ("blue", "green", "vermillion"))


def flow(
    ax: Axes, parts: dict[str, Part], colors: Any, *, slopes: bool = True, key: str | None = None
) -> None:
    """Gradient flow, one line with its band for each part, dashed the exponent's slope.

    `key` is where the legend goes; without it there is none.
    """
    for (label, part), color in zip(parts.items(), colors, strict=True):
        result = SimpleNamespace(lags=part["lags"], log_norm=part["log_norm"])
        rate = exponent(part) if slopes else None
        plot.gradient_flow(ax, result, exponent=rate, label=label, color=color)
    ax.axhline(0.0, color="black", linewidth=0.6, zorder=0)
    if key is not None:
        ax.legend(loc=key)


def spectra(ax: Axes, parts: dict[str, Part], colors: Any) -> None:
    """Singular spectra per step, for each part one line a lag, from pale to full with the lag."""
    for part, color in zip(parts.values(), colors, strict=True):
        result = SimpleNamespace(lags=part["spectrum_lags"], log_values=part["log_values"])
        tints = plot.tints(color, len(part["spectrum_lags"]))
        plot.singular_spectrum(ax, result, colors=tints, band=False, per_step=True)
    ax.axhline(0.0, color="black", linewidth=0.6, zorder=0)


def lag_key(ax: Axes, part: Part) -> None:
    """What the tints of a panel of spectra stand for."""
    lags = part["spectrum_lags"]
    tints = plot.tints("black", len(lags))
    lines = [Line2D([], [], color=tint) for tint in tints]
    ax.legend(lines, [f"lag {lag:g}" for lag in lags], loc="lower left")


def finish(figure: Figure, axes: Any, *, title: str) -> None:
    """Title, letters for the rows, and axis names at the left edge only."""
    for ax in axes[:, 1:].flat:
        ax.set_ylabel("")
    plot.label_panels(axes[:, 0])
    figure.suptitle(title)
