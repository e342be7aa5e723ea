"""Gradient flow by lag, singular spectra and Lyapunov spectra.

Results may carry leading axes (seeds, sequences): what is drawn is their median, and the band
from the 10th to the 90th percentile. Natural logarithms come in, decimal ones are drawn.
"""

import math
from typing import Any

import numpy as np
from matplotlib.axes import Axes

LN10 = math.log(10.0)
BAND = (10.0, 90.0)


def gradient_flow(
    ax: Axes, flow: Any, *, exponent: Any = None, label: str | None = None, **line: Any
) -> list[Any]:
    """log10 of the norm of dz_T/dz_t against the lag T - t.

    Parameters
    ----------
    ax : Axes
    flow : GradientFlow
        Or anything with `.lags` (L,) and `.log_norm` (..., L). Where the derivative is exactly
        zero (-inf) nothing is drawn.
    exponent : float or jax.Array, optional
        The leading Lyapunov exponent (its median, of an array): a dashed line with its slope,
        through the last point of the median.
    label : str, optional
    **line
        For the median's line: `color`, ...

    Returns
    -------
    list of artists
        The median's line, the band, and the dashed line if there is one.
    """
    lags = _by_draw(flow.lags)[0]
    order = np.argsort(lags)
    lags, values = lags[order], _by_draw(flow.log_norm)[:, order] / LN10
    drawn = _median_and_band(ax, lags, values, label, line)
    median = drawn[0].get_ydata()
    finite = np.flatnonzero(np.isfinite(median))
    if exponent is not None and finite.size:
        last = finite[-1]
        per_step = float(np.median(np.asarray(exponent)))
        start = median[last] - per_step * lags[last] / LN10
        options = {"color": drawn[0].get_color(), "linewidth": 0.8, "dashes": (4, 2)}
        drawn += slope(ax, per_step, lags[[0, last]], intercept=start, **options)
    ax.set_xlabel("lag $T-t$ (steps)")
    ax.set_ylabel(r"$\log_{10}\,\|\partial h_T/\partial h_t\|$")
    return drawn


def slope(
    ax: Axes, per_step: float, lags: Any, *, intercept: float = 0.0, label=None, **line: Any
) -> list[Any]:
    """The straight line of a rate: `per_step` is natural log per step, the axis decimal.

    Parameters
    ----------
    ax : Axes
    per_step : float
        What theory or an exponent gives, ln per step.
    lags : array-like
        From its smallest to its largest entry the line is drawn.
    intercept : float
        Where it starts at lag 0, log10.

    Returns
    -------
    list of one line
    """
    ends = np.array([np.min(lags), np.max(lags)], float)
    options = {"color": "black", "linewidth": 0.8, "linestyle": ":"} | line
    if "dashes" in options:
        options.pop("linestyle", None)
    return list(ax.plot(ends, intercept + per_step * ends / LN10, label=label, **options))


def singular_spectrum(
    ax: Axes,
    spectra: Any,
    *,
    colors: Any = None,
    band: bool = True,
    per_step: bool = False,
    **line: Any,
) -> list[Any]:
    """log10 of the singular values of dz_T/dz_t against their rank, one curve a lag.

    Parameters
    ----------
    ax : Axes
    spectra : SingularSpectra
        Or anything with `.lags` (L,) and `.log_values` (..., L, d), descending. Values that are
        exactly zero (-inf) are not drawn.
    colors : list of colours, optional
        One a lag.
    band : bool
        Whether to draw the band from the 10th to the 90th percentile.
    per_step : bool
        Whether to divide by the lag: curves of all lags then share one scale, and tend to the
        Lyapunov spectrum (in decimal logarithms). A lag of 0 has no rate and is not allowed.

    Returns
    -------
    list of artists
        For each lag the line of the median and, if asked for, the band.
    """
    values = np.asarray(spectra.log_values)
    count, size = values.shape[-2:]
    values = values.reshape(-1, count, size) / LN10
    rank = np.arange(1, size + 1) / size
    drawn = []
    for index, lag in enumerate(_by_draw(spectra.lags)[0]):
        options = line if colors is None else line | {"color": colors[index]}
        shown = values[:, index] / (lag if per_step else 1)
        drawn += _median_and_band(ax, rank, shown, f"{lag:g}", options, band)
    ax.set_xlabel("rank $i/n$")
    ax.set_ylabel(r"$\log_{10}\sigma_i\,/\,$lag" if per_step else r"$\log_{10}\,\sigma_i$")
    return drawn


def lyapunov_spectrum(
    ax: Axes, spectrum: Any, *, label: str | None = None, **line: Any
) -> list[Any]:
    """The Lyapunov exponents (natural log per step) against i/k, with the zero line.

    Parameters
    ----------
    ax : Axes
    spectrum : LyapunovSpectrum
        Or anything with `.exponents` (..., k), descending.

    Returns
    -------
    list of artists
        The median's line, the band, the zero line.
    """
    exponents = _by_draw(spectrum.exponents)
    rank = np.arange(1, exponents.shape[1] + 1) / exponents.shape[1]
    drawn = _median_and_band(ax, rank, exponents, label, line)
    drawn.append(ax.axhline(0.0, color="black", linewidth=0.6))
    ax.set_xlabel("rank $i/k$")
    ax.set_ylabel(r"exponent $\lambda_i$ (per step)")
    return drawn


def _by_draw(values: Any) -> np.ndarray:
    """All leading axes as one."""
    values = np.asarray(values)
    return values.reshape(-1, values.shape[-1])


def _median_and_band(ax, x, values, label, line, band=True) -> list[Any]:
    with np.errstate(invalid="ignore"):  # quantiles between two -inf
        low, middle, high = np.percentile(values, [BAND[0], 50.0, BAND[1]], axis=0)
    visible = [np.where(np.isfinite(curve), curve, np.nan) for curve in (low, middle, high)]
    drawn: list[Any] = list(ax.plot(x, visible[1], label=label, **line))
    if band:
        color = drawn[0].get_color()
        drawn.append(ax.fill_between(x, visible[0], visible[2], color=color, alpha=0.2, lw=0))
    return drawn
