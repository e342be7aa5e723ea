"""Do connections across time scales slow the decay of gradients?

The same tanh network, on real input, reads its state of 1, 2, 4 or 8 steps ago (Dilated), or the
mean over its last 1, 2, 4 or 8 states through a matrix each (NARX), at low, middle and high
recurrent gain. For each: how large dh_T/dh_t is by lag, its singular values, and how the leading
Lyapunov exponent falls with the reach.
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
from analyses import inputs, panels, theory
from analyses.measure import Case, Sizes, exponent, log10_norm, measure
from rnndyn import experiment, plot
from rnndyn.cells.initializers import Constant, Gaussian

TITLE = "Dilation by $d$ divides the exponent by $d$; NARX also pays for its shared gain"
FAMILIES = {"dilated": "Dilated", "narx": "NARX"}
THEORY = {"dilated": r"$\lambda_1(1)/d$", "narx": "mean field"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(Sizes):
    hidden_size: int = experiment.setting(16, "n, units", smoke=4, accelerator=64, minimum=1)
    families: tuple[str, ...] = experiment.setting(
        tuple(FAMILIES), "kinds of skip", smoke=("dilated",), choices=tuple(FAMILIES)
    )
    reaches: tuple[int, ...] = experiment.setting(
        (2, 4, 8), "dilations and orders", smoke=(2,), choices=(2, 4, 8)
    )
    gains: tuple[float, ...] = experiment.setting(
        (0.5, 2.0, 4.0), "low, middle and high gain", minimum=0.0
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
                cases[_part(family, reach, gain)] = Case(_cell(family, reach, config), config, gain)
    return experiment.parts(config, measure, cases)


def draw(result: experiment.Result) -> Figure:
    """For each family a row of gradient flow and one of spectra; last the exponents."""
    config = result.config
    reaches = (1, *config.reaches)
    rows = 2 * len(config.families) + 1
    with plot.style():
        figure, axes = plot.figure(rows, 3, height=1.65 * rows + 0.3)
        for row, family in enumerate(config.families):
            for column, gain in enumerate(config.gains):
                parts = {f"$d={reach}$": result[_part(family, reach, gain)] for reach in reaches}
                colors = plot.shades(len(reaches))
                key = "lower left" if (row, column) == (0, 0) else None
                panels.flow(axes[2 * row, column], parts, colors, key=key)
                panels.spectra(axes[2 * row + 1, column], parts, colors)
            for ax in axes[2 * row : 2 * row + 2, 0]:
                ax.set_ylabel(f"{FAMILIES[family]}\n{ax.get_ylabel()}")
        panels.lag_key(axes[1, 0], result[_part("plain", 1, config.gains[0])])
        for column, gain in enumerate(config.gains):
            axes[0, column].set_title(f"gain $g={gain:g}$")
            _draw_exponents(axes[-1, column], result, gain)
        axes[-1, -1].legend(loc="upper right")
        panels.finish(figure, axes, title=TITLE)
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
    return found


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


def _cell(family: str, reach: int, config: Config) -> rd.cells.Cell:
    sizes = (inputs.size(config.input), config.hidden_size)
    weights = {
        "input_weights": Gaussian(config.input_gain),
        "recurrent_weights": Gaussian(),
        "bias": Constant(0.0),
    }
    if reach == 1:
        return rd.cells.Vanilla(*sizes, **weights)
    if family == "narx":
        return rd.cells.NARX(*sizes, order=reach, **weights)
    return rd.cells.dilate(rd.cells.Vanilla(*sizes, **weights), reach)


def _part(family: str, reach: int, gain: float) -> str:
    return f"plain g={gain:g}" if reach == 1 else f"{family} {reach} g={gain:g}"


main = functools.partial(experiment.run, __doc__, Config, compute, draw, claims)

if __name__ == "__main__":
    main()
