"""Do connections across time scales slow the decay of gradients?

The same tanh network, on real input, reads its state of 1, 2, 4 or 8 steps ago (Dilated), or the
mean over its last 1, 2, 4 or 8 states through a matrix each (NARX), at low, middle and high
recurrent gain. For each: how large dh_T/dh_t is by lag, its singular values, and how the leading
Lyapunov exponent falls with the reach. Below, every cell with connections across time scales that
reach 8 steps, a row each: by how many decades the T steps change a gradient, over the gain, and
over how many octaves of gain they keep it.
"""

import dataclasses
import functools
import pathlib
import sys

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

TITLE = "Dilation by $d$ divides the exponent by $d$; NARX also pays for its shared gain"
FAMILIES = {"dilated": "Dilated", "narx": "NARX"}
REACHES = {"dilated": "dilation", "narx": "order"}
THEORY = {"dilated": r"$\lambda_1(1)/d$", "narx": "mean field"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(Sizes):
    hidden_size: int = experiment.setting(16, "n, units", smoke=4, accelerator=32, minimum=1)
    families: tuple[str, ...] = experiment.setting(
        tuple(FAMILIES), "kinds of skip", smoke=("dilated",), choices=tuple(FAMILIES)
    )
    reaches: tuple[int, ...] = experiment.setting(
        (2, 4, 8), "dilations and orders", smoke=(2,), choices=(2, 4, 8)
    )
    gains: tuple[float, ...] = experiment.setting(
        (0.5, 2.0, 4.0), "low, middle and high gain", minimum=0.0
    )
    table: tuple[str, ...] = experiment.setting(
        tuple(table.ACROSS),
        "cells, a row each",
        smoke=("vanilla", "clockwork"),
        choices=tuple(table.ACROSS),
    )
    sweep: tuple[float, ...] = experiment.setting(
        (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0), "gains of the table", smoke=(1.0,), minimum=0.0
    )
    input_gain: float = experiment.setting(1.0, "standard deviation of input weights", minimum=0.0)

    def __post_init__(self):
        if len(self.gains) != 3:
            raise ValueError("argument --gains: expected three gains: low, middle, high")


def compute(config: Config) -> experiment.Result:
    """One part for each family, reach and gain; the plain network belongs to every family."""
    cases = {}
    for gain in config.gains:
        for family in config.families:
            for reach in (1, *config.reaches):
                cell = _reaching(family, reach, config)
                cases[_part(family, reach, gain)] = Case(cell, config, gain)
    sweeps = {
        _sweep(name): Sweep(_cell(name, config), config, config.sweep) for name in config.table
    }
    result = experiment.parts(config, measure, cases)
    return result | experiment.parts(config, measure_exponents, sweeps)


def draw(result: experiment.Result) -> Figure:
    """Gradient flow, a row a family, spectra likewise, exponents; then all cells, a row each."""
    config = result.config
    count, reaches = len(config.families), (1, *config.reaches)
    heights = (1.25 * (2 * count + 1) + 0.7, 0.16 * len(config.table) + 0.75)
    with plot.style():
        figure, axes, below = panels.page(2 * count + 1, 3, (2.0, 0.9), heights=heights)
        for row, family in enumerate(config.families):
            for column, gain in enumerate(config.gains):
                parts = {f"$d={reach}$": result[_part(family, reach, gain)] for reach in reaches}
                colors = plot.shades(len(reaches))
                key = "lower left" if (row, column) == (0, 0) else None
                panels.flow(axes[row, column], parts, colors, key=key)
                panels.spectra(axes[count + row, column], parts, colors)
            for ax in (axes[row, 0], axes[count + row, 0]):
                ax.set_ylabel(f"{FAMILIES[family]}\n{ax.get_ylabel()}")
        for ax in [*axes[: count - 1].flat, *axes[count : 2 * count - 1].flat]:
            ax.set_xlabel("")  # the next row has the same
        panels.lag_key(axes[count, 0], result[_part("plain", 1, config.gains[0])])
        for column, gain in enumerate(config.gains):
            axes[0, column].set_title(f"gain $g={gain:g}$")
            _draw_exponents(axes[-1, column], result, gain)
        axes[-1, -1].legend(loc="upper right")
        _draw_table(figure, below, result)
        panels.finish(figure, axes, below, title=TITLE)
    return figure


def claims(result: experiment.Result) -> dict:
    """The exponents by reach; of Dilated, times d over the plain network's, which should be 1."""
    config = result.config
    reaches = (1, *config.reaches)
    found: dict = {}
    for family in config.families:
        for gain in config.gains:
            parts = [result[_part(family, reach, gain)] for reach in reaches]
            found[f"{family} g={gain:g}"] = {
                "reach": reaches,
                "exponent": [exponent(part) for part in parts],
                "log10_norm_at_last_lag": [log10_norm(part) for part in parts],
            }
        low = np.array(found[f"{family} g={config.gains[0]:g}"]["exponent"])
        found[f"{family}: exponent times reach over plain, low gain"] = low * reaches / low[0]
        slower = bool(np.all(np.diff(low) > 0))
        found[f"{family}: longer reach, slower decay"] = "holds" if slower else "does not hold"
    for name in config.table:
        kept = octaves_kept(result[_sweep(name)], config.steps)
        found[name] = {
            "octaves_of_gain_kept": kept,
            "largest_exponent_over_gains": float(np.max(medians(result[_sweep(name)]))),
        }
    return found


def _draw_table(figure, axes, result) -> None:
    """Decades of change over the gain, and the octaves of gain that are kept."""
    config = result.config
    sweeps = [result[_sweep(name)] for name in config.table]
    values = config.steps / np.log(10.0) * np.array([medians(sweep) for sweep in sweeps])
    field = panels.decades(axes[0], values, panels.fractions(config.sweep))
    axes[0].set_xlabel("recurrent gain $g$")
    panels.names(axes[0], [table.ACROSS[name] for name in config.table])
    panels.decades_key(figure, field, axes[0])
    axes[0].set_title(f"change in {config.steps} steps")
    kept = [octaves_kept(sweep, config.steps) for sweep in sweeps]
    panels.dots(axes[1], {"": kept}, ("black",), "kept range of $g$ (octaves)")


def _draw_exponents(ax, result, gain) -> None:
    config = result.config
    reaches = np.array([1, *config.reaches])
    for family, marker in zip(config.families, "os", strict=False):
        color = {"dilated": "black", "narx": plot.COLOURS["purple"]}[family]
        values = [exponent(result[_part(family, int(reach), gain)]) for reach in reaches]
        ax.plot(reaches, values, marker, color=color, label=FAMILIES[family])
        expected = [_theory(family, int(reach), gain, values[0], config) for reach in reaches]
        ax.plot(reaches, expected, ":", color=color, label=THEORY[family])
    ax.axhline(0.0, color="black", linewidth=0.6, zorder=0)
    ax.set_xscale("log", base=2)
    ax.set_xticks(reaches, [str(reach) for reach in reaches])
    ax.set_xlabel("reach $d$ (steps)")
    ax.set_ylabel(r"$\lambda_1$ (per step)")


def _theory(family, reach, gain, plain, config) -> float:
    if family == "dilated":
        return plain / reach
    return theory.tanh_network(gain, config.input_gain**2, reach)


def _cell(name: str, config: Config, **options) -> rd.cells.Cell:
    if name == "fru":
        options["total_steps"] = config.washout + config.steps
    sizes = (inputs.size(config.input), config.hidden_size)
    return table.build(name, *sizes, input_gain=config.input_gain, **options)


def _reaching(family: str, reach: int, config: Config) -> rd.cells.Cell:
    """A cell of the family that reaches so far; that of reach 1 is the plain network."""
    if reach == 1:
        return _cell("vanilla", config)
    return _cell(family, config, **{REACHES[family]: reach})


def _part(family: str, reach: int, gain: float) -> str:
    return f"plain g={gain:g}" if reach == 1 else f"{family} {reach} g={gain:g}"


def _sweep(name: str) -> str:
    return f"{name} over gains"


main = functools.partial(experiment.run, __doc__, Config, compute, draw, claims)

if __name__ == "__main__":
    main()
