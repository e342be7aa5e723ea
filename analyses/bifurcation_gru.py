"""Do gradients of gated cells explode where the origin loses its stability?

A GRU and an LSTM at zero input, from one unit to many, with the candidate's recurrent weights
scaled through the gain at which the origin is critical (U = 2 for one GRU unit, U = 4 (1 - f) for
one LSTM unit; `rd.origin_margins` gives it for many). The state starts near the origin. For each
gain: how large dh_T/dh_0 is by lag, its singular values, and the leading exponent of where the
state has gone. And all of it against the distance in those weights, |U - U*|, to the nearest
bifurcation of the origin, before and after the first one.
"""

import dataclasses
import functools
import pathlib
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

if not __package__:  # run as a file: let it find the folder it belongs to
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

import rnndyn as rd
from analyses import panels
from rnndyn import experiment, plot
from rnndyn.cells.initializers import Constant, Gaussian

TITLE = "Past the critical gain gradients grow: one unit saturates, many can explode"
TITLES = {"gru": "GRU", "lstm": "LSTM"}
LN10 = np.log(10.0)
WRITE = 0.25  # what the open gates of a GRU and an LSTM at rest let through: dJ = WRITE dU
LEAST = 5e-3  # the smallest distance drawn
CHAOTIC = 0.01  # an exponent above this, per step, is not an error of a finite run


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(experiment.Config):
    cells: tuple[str, ...] = experiment.setting(
        tuple(TITLES), "cells", smoke=("gru",), choices=tuple(TITLES)
    )
    sizes: tuple[int, ...] = experiment.setting(
        (1, 32), "n, units: few and many", smoke=(1, 4), accelerator=(1, 128), minimum=1
    )
    gains: tuple[float, ...] = experiment.setting(
        (0.5, 0.7, 0.85, 0.95, 1.0, 1.05, 1.1, 1.2, 1.4, 2.0, 2.8, 4.0, 8.0),
        "gains over the critical one",
        smoke=(0.95, 1.05, 2.0),
        minimum=0.0,
    )
    lags: tuple[int, ...] = experiment.setting(
        (10, 40, 160), "lags from the start, the last is T", smoke=(4, 8, 16), minimum=1
    )
    start: float = experiment.setting(1e-3, "size of the first state", minimum=0.0)
    seeds: int = experiment.setting(6, "networks", smoke=2, accelerator=16, minimum=1)
    sought: int = experiment.setting(
        2, "networks whose nearest bifurcation is sought", smoke=1, accelerator=6, minimum=1
    )


@dataclasses.dataclass(frozen=True)
class Case:
    """One cell of one size."""

    name: str
    size: int
    config: Config


def compute(config: Config) -> experiment.Result:
    """One part for each cell and size."""
    cases = {
        _part(name, size): Case(name, size, config)
        for name in config.cells
        for size in config.sizes
    }
    return experiment.parts(config, measure, cases)


def measure(case: Case) -> dict[str, np.ndarray]:
    """Gradients from the start, and where the state went.

    Returns
    -------
    dict
        "log_values" (gains, seeds, lags, n): singular values of dh_t/dh_0, natural logarithm;
        "log_radius" (gains, seeds): ln |lambda| at the origin;
        "exponent" (gains, seeds): leading one of the second half of a run of 4 T steps; "reached"
        (gains, seeds): root mean square of the last h; "critical_gain" (gains, seeds), equal at
        all gains; "status" (gains, seeds): the worst of all; "distance" (gains, sought): in the
        candidate's recurrent weights to the nearest bifurcation of the origin.
    """
    config, cell = case.config, _cell(case)
    keys = jax.random.split(jax.random.key(config.seed), config.seeds)
    gains, start = jnp.asarray(config.gains, float), jnp.asarray(config.start, float)
    found = _measure(cell, keys, gains, start, config.lags)
    sought = keys[: config.sought]
    distance = [[_distance(cell, key, gain) for key in sought] for gain in gains]
    return {name: np.asarray(value) for name, value in found.items()} | {
        "distance": np.array(distance)
    }


@functools.partial(jax.jit, static_argnums=(0, 4))
def _measure(cell, keys, gains, start, lags):
    def one(gain, key):
        params, margins, state = _setting(cell, key, gain, start)
        x = jnp.zeros((4 * lags[-1], cell.input_size))
        run = rd.simulate(cell, params, x, state)
        lin = rd.linearize(cell, params, run, dense=False)
        leading = rd.lyapunov_spectrum(lin, k=1, warmup=2 * lags[-1])
        spectra = rd.singular_spectra(
            _from_the_start(cell, params, state, lags[-1]), lags=lags, block="hidden"
        )
        return {
            "log_values": spectra.log_values,
            "log_radius": jnp.log(jnp.max(jnp.abs(margins.eigenvalues))),
            "exponent": leading.exponents[0],
            "reached": jnp.sqrt(jnp.mean(run.outputs[-1] ** 2)),
            "critical_gain": margins.critical_gain,
            "status": jnp.minimum(leading.status, jnp.min(spectra.status)),
        }

    return jax.vmap(jax.vmap(one, in_axes=(None, 0)), in_axes=(0, None))(gains, keys)


def _setting(cell, key, gain, start) -> tuple[Any, rd.OriginMargins, Any]:
    """A network at `gain` times its critical gain, its margins there, and a first state."""
    key_weights, key_state = jax.random.split(key)
    params = cell.init(key_weights)
    critical = rd.origin_margins(cell, params).critical_gain
    n = cell.hidden_size
    params = dataclasses.replace(params, w_h=params.w_h.at[2 * n : 3 * n].multiply(gain * critical))
    state = cell.initial_state(params)
    z = rd.flatten(state)
    state = rd.unflatten(start * jax.random.normal(key_state, z.shape, z.dtype), state)
    margins = rd.origin_margins(cell, params)
    return params, dataclasses.replace(margins, critical_gain=critical), state


@functools.partial(jax.jit, static_argnums=0)
def _distance(cell, key, gain) -> jax.Array:
    params, _, state = _setting(cell, key, gain, 0.0)
    n = cell.hidden_size
    map_ = rd.Map(functools.partial(_step_of, cell), (params.w_h[2 * n : 3 * n], params))
    z = jnp.zeros_like(rd.flatten(state))[None]
    return rd.bifurcation_proximity(map_, z, wrt=(True, False)).parameter_distance[0]


def _step_of(cell, z, args):
    candidate, params = args
    n = cell.hidden_size
    w_h = params.w_h.at[2 * n : 3 * n].set(candidate)
    map_ = rd.hold(cell, dataclasses.replace(params, w_h=w_h), jnp.zeros(cell.input_size))
    return map_(z)


def _from_the_start(cell, params, state, steps) -> rd.Linearization:
    """Jacobians in reverse and transposed: the product over a lag is then (dh_lag/dh_0)^T."""
    run = rd.simulate(cell, params, jnp.zeros((steps, cell.input_size)), state)
    lin = rd.linearize(cell, params, run, dense=True)
    return dataclasses.replace(lin, slices=jnp.swapaxes(lin.jacobians[::-1], 1, 2))


def _cell(case: Case) -> rd.cells.Cell:
    # One unit with U > 0: with U < 0 it would flip at U = -6 instead.
    weights = Constant(1.0) if case.size == 1 else Gaussian()
    options: dict[str, Any] = {"recurrent_weights": weights, "bias": Constant(0.0)}
    if case.name == "gru":
        return rd.cells.GRU(1, case.size, "kanai", **options)
    return rd.cells.LSTM(1, case.size, **options)


def draw(result: experiment.Result) -> Figure:
    """Gradient by gain, spectra at three gains, exponents by gain; a column for each case."""
    config = result.config
    names = [(name, size) for name in config.cells for size in config.sizes]
    with plot.style():
        figure, axes = plot.figure(4, len(names), height=7.2, sharey="row")
        for column, (name, size) in zip(axes.T, names, strict=True):
            units = "unit" if size == 1 else "units"
            column[0].set_title(f"{TITLES[name]}, {size} {units}")
            part = result[_part(name, size)]
            _draw_norms(column[0], part, config)
            _draw_spectra(column[1], part, config)
            _draw_exponents(column[2], part, config)
            _draw_distances(column[3], part, config)
        axes[0, 0].set_ylim(-8, 14)
        axes[1, 0].set_ylim(-0.16, 0.1)
        axes[2, 0].set_ylim(-0.4, 0.25)
        axes[3, 0].set_ylim(-0.16, 0.1)
        _keys(axes, config)
        panels.finish(figure, axes, title=TITLE)
    return figure


def _draw_norms(ax, part, config) -> None:
    gains, tints = np.array(config.gains), plot.tints(plot.COLOURS["blue"], len(config.lags))
    radius = np.median(part["log_radius"], axis=1) / LN10
    for i, (lag, tint) in enumerate(zip(config.lags, tints, strict=True)):
        values = part["log_values"][..., i, 0] / LN10
        ax.plot(gains, np.median(values, axis=1), "o-", color=tint)
        ax.fill_between(gains, *np.percentile(values, (10, 90), axis=1), color=tint, alpha=0.2)
        ax.plot(gains, lag * radius, ":", color=tint)
    ax.axhline(-np.log10(config.start), color="black", linewidth=0.6, dashes=(4, 2))
    ax.set_ylabel(r"$\log_{10}\,\|\partial h_T/\partial h_0\|$")
    _gain_axis(ax)


def _draw_spectra(ax, part, config) -> None:
    """Singular values by gain, one line a rank from full to pale; dotted that of the origin."""
    values = part["log_values"][..., -1, :] / LN10 / config.lags[-1]
    gains, n = np.array(config.gains), values.shape[-1]
    ranks = _ranks(n)
    colors = plot.tints(plot.COLOURS["vermillion"], len(ranks))[::-1]
    for rank, color in zip(ranks, colors, strict=True):
        ax.plot(gains, np.median(values[..., rank], axis=1), "o-", color=color)
    ax.plot(gains, np.median(part["log_radius"], axis=1) / LN10, ":", color=colors[0])
    ax.axhline(0.0, color="black", linewidth=0.6, zorder=0)
    ax.set_ylabel(r"$\log_{10}\sigma_i\,/\,T$")
    _gain_axis(ax)


def _ranks(n: int) -> list[int]:
    """The first, and those an eighth, a quarter and half down the spectrum."""
    return sorted({0, n // 8, n // 4, n // 2})


def _draw_exponents(ax, part, config) -> None:
    gains, values = np.array(config.gains), part["exponent"]
    ax.plot(gains, np.median(values, axis=1), "o-", color="black")
    ax.fill_between(gains, *np.percentile(values, (10, 90), axis=1), color="black", alpha=0.2)
    ax.plot(gains, np.median(part["log_radius"], axis=1), ":", color="black")
    ax.axhline(0.0, color="black", linewidth=0.6, zorder=0)
    ax.set_ylabel(r"exponent $\lambda_1$ (per step)")
    _gain_axis(ax)


def _draw_distances(ax, part, config) -> None:
    """Singular values of the networks by their distance from the nearest bifurcation."""
    distance = part["distance"]
    count = distance.shape[1]
    values = part["log_values"][:, :count, -1, :] / LN10 / config.lags[-1]
    before = part["log_radius"][:, :count] < 0
    ranks = _ranks(values.shape[-1])
    colors = plot.tints(plot.COLOURS["vermillion"], len(ranks))[::-1]
    for rank, color in zip(ranks, colors, strict=True):
        for which, face in ((before, color), (~before, "white")):
            ax.plot(distance[which], values[which][:, rank], "o", color=color, mfc=face, ms=3.5)
    x = np.geomspace(LEAST, 20, 200)
    for sign, reach in ((-1, 3.9), (1, 20)):
        ax.plot(x[x < reach], np.log10(1 + sign * x[x < reach] * WRITE), ":", color=colors[0])
    ax.axhline(0.0, color="black", linewidth=0.6, zorder=0)
    ax.set_xscale("log")
    ax.set_xlim(LEAST, 20)
    ax.set_xticks([0.01, 0.1, 1, 10], ["0.01", "0.1", "1", "10"])
    ax.set_xlabel(r"distance $\|U-U^*\|$")
    ax.set_ylabel(r"$\log_{10}\sigma_i\,/\,T$")


def _gain_axis(ax) -> None:
    ax.axvline(1.0, color=plot.COLOURS["grey"], linewidth=0.6, zorder=0)
    ax.set_xscale("log", base=2)
    ax.set_xticks([0.5, 1, 2, 4], ["1/2", "1", "2", "4"])
    ax.set_xlabel("gain / critical gain")


def _keys(axes, config) -> None:
    tints = plot.tints(plot.COLOURS["blue"], len(config.lags))
    lines = [Line2D([], [], color=tint) for tint in tints]
    labels = [f"{lag}" for lag in config.lags]
    axes[0, 0].legend(lines, labels, title="lag $T$", loc="upper left", handlelength=1.0)
    bound = -np.log10(config.start)
    axes[0, -1].annotate(r"$1/\|h_0\|$", (0.5, bound + 0.5), fontsize=7.0)
    n = max(config.sizes)
    colors = plot.tints(plot.COLOURS["vermillion"], len(_ranks(n)))[::-1]
    lines = [Line2D([], [], color=color) for color in colors]
    labels = [f"$i={rank + 1}$" for rank in _ranks(n)]
    axes[1, len(axes[1]) // 2].legend(lines, labels, loc="lower right", ncols=2, columnspacing=0.8)
    lines = [Line2D([], [], color="black", linestyle=style) for style in ("-", ":")]
    axes[2, -1].legend(lines, ["where the state went", "at the origin"], loc="lower right")
    fills = (plot.COLOURS["vermillion"], "white")
    dots = [
        Line2D([], [], color=fills[0], marker="o", mfc=fill, ls="", markersize=3.5)
        for fill in fills
    ]
    axes[3, 0].legend(dots, ["before", "after the first"], loc="lower left", handlelength=0.8)


def claims(result: experiment.Result) -> dict:
    """Growth over the critical gain, its bound, and whether it lasts."""
    config = result.config
    found: dict = {}
    for name in config.cells:
        for size in config.sizes:
            found[_part(name, size)] = _numbers(result[_part(name, size)], config)
    few, many = (
        [found[_part(name, size)] for name in config.cells]
        for size in (min(config.sizes), max(config.sizes))
    )
    everyone = few + many
    jumps = [one["log10_norm_just_above_minus_just_below"] > 1 for one in everyone]
    bounded = [one["largest_log10_norm"] < one["log10_norm_bound"] + 0.5 for one in few]
    explode = [one["largest_share_of_chaotic_networks"] > 0 for one in many]
    never = [one["largest_share_of_chaotic_networks"] == 0 for one in few]
    forgets = [one["state_below"] < 1e-2 * one["state_above"] for one in everyone]
    return found | {
        "the gradient norm grows tenfold or more within a tenth of the gain": _verdict(jumps),
        "one unit's gradient stays below 1 over its first state": _verdict(bounded),
        "one unit never has a positive exponent": _verdict(never),
        "some networks of many units explode: their exponent is positive": _verdict(explode),
        "what keeps the state at the fixed point also makes it forget": _verdict(forgets),
    }


def _numbers(part: dict[str, np.ndarray], config: Config) -> dict[str, Any]:
    gains = np.array(config.gains)
    last = np.median(part["log_values"][..., -1, 0], axis=1) / LN10
    below = int(np.argmin(np.abs(gains - 0.95)))
    above = int(np.argmin(np.abs(gains - 1.05)))
    expected = config.lags[-1] * np.median(part["log_radius"], axis=1) / LN10
    chaotic = part["exponent"] > CHAOTIC
    count = part["distance"].shape[1]
    rate = part["log_values"][:, :count, -1, 0] / config.lags[-1]
    before = (part["log_radius"][:, :count] < 0) & (part["distance"] > LEAST)
    theory = np.log1p(-WRITE * part["distance"][before])
    return {
        "distance_by_gain": part["distance"].tolist(),
        "largest_error_of_rate_by_distance_before": float(np.max(np.abs(rate[before] - theory))),
        "critical_gain_of_each_network": part["critical_gain"][0].tolist(),
        "log10_norm_by_gain": last.tolist(),
        "largest_log10_norm": float(last.max()),
        "log10_norm_bound": float(-np.log10(config.start)),
        "log10_norm_just_above_minus_just_below": float(last[above] - last[below]),
        "largest_error_of_theory_below": float(np.max(np.abs(last - expected)[gains < 1])),
        "exponent_by_gain": np.median(part["exponent"], axis=1).tolist(),
        "largest_share_of_chaotic_networks": float(np.max(np.mean(chaotic, axis=1))),
        "state_below": float(np.median(part["reached"][below])),
        "state_above": float(np.median(part["reached"][above])),
        "worst_status": int(part["status"].min()),
    }


def _verdict(held: list[bool]) -> str:
    if all(held):
        return "holds"
    return f"holds in {sum(held)} of {len(held)} cases" if any(held) else "does not hold"


def _part(name: str, size: int) -> str:
    return f"{name} n={size}"


main = functools.partial(experiment.run, __doc__, Config, compute, draw, claims)

if __name__ == "__main__":
    main()
