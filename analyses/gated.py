"""Do gates keep gradients from vanishing, and from exploding?

A plain tanh network, the LSTM of 1997, the LSTM with a forget gate and the GRU, on real input, at
low, middle and high recurrent gain, with the gate that keeps (forget or update) half open or
nearly open. For each: how large dh_T/dh_t is by lag, its singular values, and the leading Lyapunov
exponent over the gain. Below, every gated cell, a row each: by how many decades the T steps change
a gradient, over the gain, and over how many octaves of gain they keep it.
"""

import dataclasses
import functools
import pathlib
import sys
from collections.abc import Iterable

import numpy as np
from matplotlib.figure import Figure

if not __package__:  # run as a file: let it find the folder it belongs to
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

import rnndyn as rd
from analyses import inputs, panels, table, theory
from analyses.measure import (
    Case,
    Sizes,
    Sweep,
    exponent,
    log10_norm,
    measure,
    measure_exponents,
    medians,
    octaves_kept,
)
from rnndyn import experiment, plot

TITLES = {"vanilla": "plain tanh", "lstm_1997": "LSTM 1997", "lstm": "LSTM", "gru": "GRU"}
TITLE = "Open gates keep gradients over a wide range of gains, but set no bound to them"
THEORY = {"vanilla": "mean field", "lstm_1997": "carousel", "lstm": "at rest", "gru": "at rest"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(Sizes):
    cells: tuple[str, ...] = experiment.setting(
        tuple(TITLES), "cells, a column each", smoke=("vanilla", "gru"), choices=tuple(TITLES)
    )
    table: tuple[str, ...] = experiment.setting(
        tuple(table.GATED),
        "cells, a row each",
        smoke=("vanilla", "gru", "mgu"),
        choices=tuple(table.GATED),
    )
    gains: tuple[float, ...] = experiment.setting(
        (0.5, 2.0, 8.0), "low, middle and high gain", minimum=0.0
    )
    gate_bias: float = experiment.setting(
        4.0, "bias of the keeping gate where it is open; elsewhere it is 0"
    )
    sweep: tuple[float, ...] = experiment.setting(
        (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0), "gains of the bottom row", smoke=(1.0,), minimum=0.0
    )
    input_gain: float = experiment.setting(1.0, "standard deviation of input weights", minimum=0.0)

    def __post_init__(self):
        if len(self.gains) != 3:
            raise ValueError("argument --gains: expected three gains: low, middle, high")


def compute(config: Config) -> experiment.Result:
    """One part for each cell and setting, and one for each cell's exponents over the gain."""
    cases, sweeps = {}, {}
    for name in config.cells:
        cell = _cell(name, config)
        for gain, bias in _settings(name, config):
            cases[_part(name, gain, bias)] = Case(cell, config, gain, bias)
    for name in dict.fromkeys(config.cells + config.table):
        for bias in _biases(name, config):
            sweeps[_sweep(name, bias)] = Sweep(_cell(name, config), config, config.sweep, bias)
    result = experiment.parts(config, measure, cases)
    return result | experiment.parts(config, measure_exponents, sweeps)


def draw(result: experiment.Result) -> Figure:
    """Gradient flow, spectra and exponents, a column a cell; then all cells, a row each."""
    config = result.config
    heights = (5.2, 0.16 * len(config.table) + 0.75)
    with plot.style():
        figure, axes, below = panels.page(
            3, len(config.cells), (1.0, 1.0, 0.9), heights=heights, sharey="row"
        )
        for column, name in zip(axes.T, config.cells, strict=True):
            column[0].set_title(TITLES[name])
            parts = {
                _label(name, gain, bias): result[_part(name, gain, bias)]
                for gain, bias in _settings(name, config)
            }
            panels.flow(column[0], parts, panels.FATES, key="upper left")
            panels.spectra(column[1], parts, panels.FATES)
            _draw_exponents(column[2], result, name)
        axes[0, 0].set_ylim(-30, 50)
        axes[0, 0].set_yticks([-25, 0, 25, 50])
        axes[1, 0].set_ylim(-2.5, 1.0)
        panels.lag_key(axes[1, -1], result[_part(config.cells[0], config.gains[0], 0.0)])
        _draw_table(figure, below, result)
        panels.finish(figure, axes, below, title=TITLE)
    return figure


def claims(result: experiment.Result) -> dict:
    """Vanishing, exploding and the range of gains in between, for each cell."""
    config = result.config
    found: dict = {}
    for name in config.cells:
        settings = [result[_part(name, *setting)] for setting in _settings(name, config)]
        found[name] = {
            "exponent_low_middle_high": [exponent(part) for part in settings],
            "log10_norm_at_last_lag": [log10_norm(part) for part in settings],
        }
    for name in dict.fromkeys(config.cells + config.table):
        sweeps = [result[_sweep(name, bias)] for bias in _biases(name, config)]
        found.setdefault(name, {})
        found[name]["octaves_of_gain_kept"] = octaves_kept(sweeps[-1], config.steps)
        found[name]["largest_exponent_over_gains"] = float(np.max(medians(sweeps[-1])))
        if table.has_keeping_gate(name):
            half_open = octaves_kept(sweeps[0], config.steps)
            found[name]["octaves_of_gain_kept_half_open"] = half_open
    return found | _verdicts(found)


def _verdicts(found: dict) -> dict:
    """Gates against vanishing: kept over more octaves of gain than without; and exploding."""
    gated = {name: one for name, one in found.items() if name not in ("vanilla", "residual")}
    verdicts = {}
    if gated and "vanilla" in found:
        plain = found["vanilla"]["octaves_of_gain_kept"]
        wider = [name for name, one in gated.items() if one["octaves_of_gain_kept"] > plain]
        verdicts["gates cure vanishing"] = _verdict(wider, gated)
    if gated:
        grow = [name for name, one in gated.items() if one["largest_exponent_over_gains"] > 0]
        verdicts["gates do not cure exploding"] = _verdict(grow, gated)
    return verdicts


def _verdict(fulfilling: list[str], names: Iterable[str]) -> str:
    if set(fulfilling) == set(names):
        return "holds"
    return f"holds only for {', '.join(fulfilling)}" if fulfilling else "does not hold"


def _draw_table(figure, axes, result) -> None:
    """Decades of change, half open and open, and the octaves of gain that are kept."""
    config = result.config
    per_run = config.steps / np.log(10.0)
    ticks = panels.fractions(config.sweep)
    kept: dict[str, list[float]] = {}
    for ax, bias in zip(axes, (0.0, config.gate_bias), strict=False):
        sweeps = [result.parts.get(_sweep(name, bias)) for name in config.table]
        values = [np.full(len(ticks), np.nan) if s is None else medians(s) for s in sweeps]
        field = panels.decades(ax, per_run * np.array(values), ticks)
        ax.set_title(f"change in {config.steps} steps, $b={bias:g}$")
        ax.set_xlabel("recurrent gain $g$")
        kept[f"$b={bias:g}$"] = [
            np.nan if s is None else octaves_kept(s, config.steps) for s in sweeps
        ]
    panels.names(axes[0], [table.GATED[name] for name in config.table])
    panels.decades_key(figure, field, axes[1])
    colors = ("black", plot.COLOURS["purple"])
    panels.dots(axes[2], kept, colors, "kept range of $g$ (octaves)")


def _draw_exponents(ax, result, name) -> None:
    config = result.config
    fine = np.geomspace(min(config.sweep), max(config.sweep), 60)
    for bias, color in zip(_biases(name, config), ("black", plot.COLOURS["purple"]), strict=False):
        sweep = result[_sweep(name, bias)]
        label = f"$b={bias:g}$" if table.has_keeping_gate(name) else "measured"
        ax.plot(sweep["gains"], medians(sweep), "o-", color=color, label=label)
        expected = [_theory(name, gain, bias, config) for gain in fine]
        ax.plot(fine, expected, ":", color=color, label=THEORY[name] if bias == 0 else None)
    ax.axhline(0.0, color="black", linewidth=0.6)
    ax.set_xscale("log", base=2)
    ax.set_xticks([0.25, 1, 4, 16], ["1/4", "1", "4", "16"])
    ax.set_ylim(-1.9, 1.4)
    ax.set_xlabel("recurrent gain $g$")
    ax.set_ylabel(r"exponent $\lambda_1$ (per step)")
    ax.legend(loc="lower right")


def _theory(name, gain, bias, config) -> float:
    if name == "vanilla":
        return theory.tanh_network(gain, config.input_gain**2)
    if name == "lstm_1997":
        return 0.0
    return {"lstm": theory.lstm_at_rest, "gru": theory.gru_at_rest}[name](gain, bias)


def _cell(name: str, config: Config) -> rd.cells.Cell:
    sizes = (inputs.size(config.input), config.hidden_size)
    return table.build(name, *sizes, input_gain=config.input_gain)


def _biases(name: str, config: Config) -> tuple[float, ...]:
    return (0.0, config.gate_bias) if table.has_keeping_gate(name) else (0.0,)


def _settings(name: str, config: Config) -> list[tuple[float, float]]:
    """(gain, gate bias) that make gradients vanish, that keep them, that let them explode."""
    low, middle, high = config.gains
    return [(low, 0.0), (middle, _biases(name, config)[-1]), (high, 0.0)]


def _part(name: str, gain: float, bias: float) -> str:
    return f"{name} g={gain:g} b={bias:g}"


def _sweep(name: str, bias: float) -> str:
    return f"{name} over gains b={bias:g}"


def _label(name: str, gain: float, bias: float) -> str:
    return f"$g={gain:g}$" + (f", $b={bias:g}$" if table.has_keeping_gate(name) else "")


main = functools.partial(experiment.run, __doc__, Config, compute, draw, claims)

if __name__ == "__main__":
    main()
