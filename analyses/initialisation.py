"""Do identity and orthogonal starts keep gradients, and does that survive real input?

Gaussian, identity (IRNN and alpha I) and orthogonal recurrent weights at gains below, at and above
one, before any training, on real input: once with input weights as small as the IRNN's (standard
deviation 0.001), once with input that matters (standard deviation 1). For each: how large dh_T/dh_t
is by lag, and its singular values. Below, every special start at gain one, a row each: by how many
decades the T steps change the largest singular value of dh_T/dh_t, and which share of all they
keep, over the strength of the input.
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
    Strengths,
    exponent,
    log10_norm,
    measure,
    measure_strengths,
)
from rnndyn import experiment, plot

TITLE = "Identity and orthogonal starts keep gradients as long as no unit dies or saturates"
STARTS = {
    "gaussian": "Gaussian, tanh",
    "identity": r"$\alpha I$, ReLU",
    "orthogonal": "orthogonal, tanh",
    "orthogonal_linear": "orthogonal, linear",
}
BUILT = {
    "gaussian": ("vanilla", {}),
    "identity": ("irnn", {}),
    "orthogonal": ("orthogonal", {}),
    "orthogonal_linear": ("orthogonal", {"activation": "identity"}),
}
LIMITS = ((-24.0, 10.0), (-60.0, 12.0))  # of gradient flow, log10: weak input, strong input


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(Sizes):
    starts: tuple[str, ...] = experiment.setting(
        tuple(STARTS),
        "recurrent weights, a column each",
        smoke=("identity", "orthogonal"),
        choices=tuple(STARTS),
    )
    gains: tuple[float, ...] = experiment.setting(
        (0.9, 1.0, 1.1), "below, at and above one; alpha of the identity", minimum=0.0
    )
    input_gains: tuple[float, ...] = experiment.setting(
        (0.001, 1.0), "standard deviation of input weights: weak, strong", minimum=0.0
    )
    table: tuple[str, ...] = experiment.setting(
        tuple(table.STARTED),
        "starts, a row each",
        smoke=("vanilla", "irnn"),
        choices=tuple(table.STARTED),
    )
    strengths: tuple[float, ...] = experiment.setting(
        (0.001, 0.01, 0.1, 1.0, 10.0),
        "standard deviations of input weights in the table",
        smoke=(1.0,),
        minimum=0.0,
    )

    def __post_init__(self):
        if len(self.gains) != 3:
            raise ValueError("argument --gains: expected three gains: below, at, above one")
        if len(self.input_gains) != 2:
            raise ValueError("argument --input-gains: expected two: weak, strong")


def compute(config: Config) -> experiment.Result:
    """One part for each start, strength of the input and gain."""
    cases = {
        _part(start, strength, gain): Case(_cell(start, strength, config), config, gain)
        for start in config.starts
        for strength in config.input_gains
        for gain in config.gains
    }
    rows = {
        _row(name): Strengths(_start(name, config), config, config.strengths)
        for name in config.table
    }
    result = experiment.parts(config, measure, cases)
    return result | experiment.parts(config, measure_strengths, rows)


def draw(result: experiment.Result) -> Figure:
    """Gradient flow on weak and strong input, spectra likewise, a column a start; the table."""
    config = result.config
    heights = (6.2, 0.16 * len(config.table) + 0.75)
    with plot.style():
        figure, axes, below = panels.page(
            4, len(config.starts), (1.0, 1.0), heights=heights, sharey="row"
        )
        for column, start in zip(axes.T, config.starts, strict=True):
            column[0].set_title(STARTS[start])
            for row, strength in enumerate(config.input_gains):
                parts = {
                    f"$g={gain:g}$": result[_part(start, strength, gain)] for gain in config.gains
                }
                _draw_theory(column[row], start, strength, config)
                panels.flow(column[row], parts, panels.FATES, slopes=False)
                panels.spectra(column[row + 2], parts, panels.FATES)
            for ax in column[::2]:
                ax.set_xlabel("")  # the next row has the same
        axes[0, -1].legend(loc="lower left")
        for row, strength in enumerate(config.input_gains):
            axes[row, 0].set_ylim(LIMITS[row])
            axes[row + 2, 0].set_ylim(-0.6, 0.3)
            for ax in axes[row::2, 0]:
                ax.set_ylabel(f"input s.d. {strength:g}\n{ax.get_ylabel()}")
        panels.lag_key(axes[2, -1], parts[f"$g={config.gains[0]:g}$"])
        _draw_table(figure, below, result)
        panels.finish(figure, axes, below, title=TITLE)
    return figure


def claims(result: experiment.Result) -> dict:
    """What is left of dynamical isometry at gain one, on weak and on strong input."""
    config = result.config
    weak, strong = config.input_gains
    found: dict = {}
    for start in config.starts:
        for strength in config.input_gains:
            parts = [result[_part(start, strength, gain)] for gain in config.gains]
            found[f"{start} input {strength:g}"] = {
                "exponent_below_at_above": [exponent(part) for part in parts],
                "log10_norm_at_last_lag": [log10_norm(part) for part in parts],
                "kept_fraction_at_one": _kept_fraction(parts[1]),
            }
        found[f"{start} keeps gradients"] = _verdict(
            *(found[f"{start} input {s:g}"]["kept_fraction_at_one"] for s in (weak, strong))
        )
    for name in config.table:
        values = result[_row(name)]["log_values"]
        found[name] = {
            "input": config.strengths,
            "log10_norm_at_last_lag": _decades(values),
            "kept_fraction": _kept(values),
        }
    return found


def _verdict(weak: float, strong: float) -> str:
    """In how many directions gradients are kept to the last lag, on weak and on strong input."""
    if min(weak, strong) > 0.9:
        return "holds"
    if max(weak, strong) < 0.1:
        return "does not hold"
    return f"holds only for {weak:.0%} of directions on weak, {strong:.0%} on strong input"


def _kept_fraction(part: dict) -> float:
    """The fraction of singular values at the last lag that are within a factor 2 of one."""
    return float(np.mean(np.abs(part["log_values"][..., -1, :]) < np.log(2.0)))


def _kept(values: np.ndarray) -> np.ndarray:
    """The same at each strength of the input, (S,)."""
    return np.mean(np.abs(values) < np.log(2.0), axis=(1, 2, 3))


def _decades(values: np.ndarray) -> np.ndarray:
    """The median of log10 of the largest singular value at each strength of the input, (S,)."""
    return np.median(values[..., 0], axis=(1, 2)) / np.log(10.0)


def _draw_table(figure, axes, result) -> None:
    """Decades of change of the norm, and the share of directions that is kept."""
    config = result.config
    rows = [result[_row(name)]["log_values"] for name in config.table]
    ticks = [f"{strength:g}" for strength in config.strengths]
    field = panels.decades(axes[0], np.array([_decades(row) for row in rows]), ticks)
    panels.decades_key(figure, field, axes[0])
    axes[0].set_title(f"largest singular value, change in {config.steps} steps")
    axes[1].set_title("singular values within a factor 2 of one")
    panels.names(axes[0], [table.STARTED[name] for name in config.table])
    panels.shares(figure, axes[1], np.array([_kept(row) for row in rows]), ticks)
    for ax in axes:
        ax.set_xlabel("s.d. of the input weights")


def _draw_theory(ax, start, strength, config) -> None:
    """Dotted: mean field for Gaussian weights; else g^lag, exact while nothing dies or bends."""
    for gain, color in zip(config.gains, panels.FATES, strict=True):
        gaussian = start == "gaussian"
        rate = theory.tanh_network(gain, strength**2) if gaussian else np.log(gain)
        label = "theory" if gain == config.gains[0] else None
        plot.slope(ax, rate, (0, config.steps), color=color, label=label)


def _cell(start: str, strength: float, config: Config) -> rd.cells.Cell:
    name, options = BUILT[start]
    sizes = (inputs.size(config.input), config.hidden_size)
    return table.build(name, *sizes, input_gain=strength, **options)


def _start(name: str, config: Config) -> rd.cells.Cell:
    options = {"steps": config.steps, "start": "long"} if name == "indrnn" else {}
    return table.build(name, inputs.size(config.input), config.hidden_size, **options)


def _part(start: str, strength: float, gain: float) -> str:
    return f"{start} input={strength:g} g={gain:g}"


def _row(name: str) -> str:
    return f"{name} over input"


main = functools.partial(experiment.run, __doc__, Config, compute, draw, claims)

if __name__ == "__main__":
    main()
