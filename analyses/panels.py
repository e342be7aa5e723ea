"""The panels that the figures share, so that they look and read alike."""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, SymLogNorm
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


def page(
    rows: int, columns: int, widths: Sequence[float], *, heights: tuple[float, float], **options
):
    """A figure of detailed panels above and, on the same page, a row of panels for a table.

    Parameters
    ----------
    rows, columns : int
        Of the upper panels.
    widths : sequence of float
        The relative widths of the lower panels, which share their rows.
    heights : (float, float)
        Of both parts, in inches.
    **options
        For the upper panels: `sharey`, ...

    Returns
    -------
    Figure, array of Axes (rows, columns), array of Axes (len(widths),)
    """
    figure = Figure(figsize=(plot.DOUBLE, sum(heights)), layout="constrained")
    upper, lower = figure.add_gridspec(2, 1, height_ratios=heights)
    above = upper.subgridspec(rows, columns).subplots(squeeze=False, **options)
    below = lower.subgridspec(1, len(widths), width_ratios=widths).subplots(sharey=True)
    return figure, above, below


def strip(ax: Axes, values: np.ndarray, ticks: Sequence[str], **options: Any) -> Any:
    """Values (rows, columns) as a field of colours, NaN left white; `options` for the colours."""
    rows, columns = values.shape
    edges = np.arange(columns + 1) - 0.5, np.arange(rows + 1) - 0.5
    field = ax.pcolormesh(*edges, values, edgecolors="white", linewidth=0.8, **options)
    ax.set_xticks(range(columns), ticks)
    ax.set_ylim(rows - 0.5, -0.5)
    ax.tick_params(left=False, bottom=False)
    ax.spines[:].set_visible(False)
    return field


def decades(ax: Axes, values: np.ndarray, ticks: Sequence[str]) -> Any:
    """A strip of changes in decades: blue vanishes, white is kept, vermillion explodes."""
    colors = [plot.COLOURS["blue"], "#FFFFFF", plot.COLOURS["vermillion"]]
    fates = LinearSegmentedColormap.from_list("fates", colors).with_extremes(bad="#E8E8E8")
    norm = SymLogNorm(linthresh=2.0, linscale=0.6, vmin=-100.0, vmax=100.0)
    shown = np.ma.masked_invalid(np.clip(values, -100.0, 100.0))
    return strip(ax, shown, ticks, cmap=fates, norm=norm)


def decades_key(figure: Figure, field: Any, ax: Axes) -> None:
    """What the colours of `decades` stand for."""
    bar = _key(figure, field, ax, "decades")
    bar.set_ticks([-100, -10, -2, 2, 10, 100], labels=["≤−100", "−10", "−2", "2", "10", "≥100"])


def shares(figure: Figure, ax: Axes, values: np.ndarray, ticks: Sequence[str]) -> None:
    """A strip of fractions, from white at 0 to green at 1, with what its colours stand for."""
    kept = LinearSegmentedColormap.from_list("kept", ["#F4F4F4", plot.COLOURS["green"]])
    field = strip(ax, values, ticks, cmap=kept, vmin=0.0, vmax=1.0)
    _key(figure, field, ax, "share").set_ticks([0, 0.5, 1], labels=["0", "1/2", "1"])


def fractions(gains: Sequence[float]) -> list[str]:
    """Powers of two as they are spoken of: 1/4, 1/2, 1, 2, ..."""
    return [f"1/{1 / gain:g}" if 0 < gain < 1 else f"{gain:g}" for gain in gains]


def names(ax: Axes, labels: Sequence[str]) -> None:
    """The names of the rows that the panels of a table share."""
    ax.set_yticks(range(len(labels)), labels)
    ax.tick_params(axis="y", left=False)


def dots(ax: Axes, rows: dict[str, Sequence[float]], colors: Sequence[Any], label: str) -> None:
    """Numbers for each row of a table, one marker a series; NaN is left out."""
    for (name, values), color in zip(rows.items(), colors, strict=True):
        ax.plot(values, range(len(values)), "o", color=color, label=name, clip_on=False)
    ax.set_xlabel(label)
    ax.set_xlim(left=0.0)
    ax.grid(axis="y", color="#E8E8E8", linewidth=0.6)
    ax.set_axisbelow(True)
    ax.tick_params(axis="y", left=False)
    ax.spines["left"].set_visible(False)
    if len(rows) > 1:
        ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncol=len(rows), columnspacing=1)


def _key(figure: Figure, field: Any, ax: Axes, name: str) -> Any:
    bar = figure.colorbar(field, ax=ax, pad=0.02, aspect=30)
    bar.minorticks_off()
    bar.outline.set_visible(False)
    bar.ax.set_title(name, loc="left", fontsize=7.0)
    return bar


def finish(figure: Figure, axes: Any, below: Any = (), *, title: str) -> None:
    """Title, letters for the rows, and axis names at the left edge only."""
    for ax in axes[:, 1:].flat:
        ax.set_ylabel("")
    plot.label_panels([*axes[:, 0], *below[:1]])
    figure.suptitle(title)
