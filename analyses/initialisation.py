"""Do identity and orthogonal starts keep gradients, and does that survive real input?

Gaussian, identity (IRNN and alpha I) and orthogonal recurrent weights at gains below, at and above
one, before any training, on real input: once with input weights as small as the IRNN's (standard
deviation 0.001), once with input that matters (standard deviation 1). For each: how large dh_T/dh_t
is by lag, and its singular values.
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

TITLE = "Identity and orthogonal starts keep gradients as long as no unit dies or saturates"
STARTS = {
    "gaussian": "Gaussian, tanh",
    "identity": r"$\alpha I$, ReLU",
    "orthogonal": "orthogonal, tanh",
    "orthogonal_linear": "orthogonal, linear",
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
    return experiment.parts(config, measure, cases)


def draw(result: experiment.Result) -> Figure:
    """Rows: gradient flow and spectra on weak input, then on strong; a column for each start."""
    config = result.config
    with plot.style():
        figure, axes = plot.figure(4, len(config.starts), height=6.8, sharey="row")
        for column, start in zip(axes.T, config.starts, strict=True):
            column[0].set_title(STARTS[start])
            for row, strength in zip((0, 2), config.input_gains, strict=True):
                parts = {
                    f"$g={gain:g}$": result[_part(start, strength, gain)] for gain in config.gains
                }
                key = "lower left" if start == config.starts[0] else None
                _draw_theory(column[row], start, strength, config)
                panels.flow(column[row], parts, panels.FATES, slopes=False, key=key)
                panels.spectra(column[row + 1], parts, panels.FATES)
        for row, strength in zip((0, 2), config.input_gains, strict=True):
            label = axes[row, 0].get_ylabel()
            axes[row, 0].set_ylabel(f"input s.d. {strength:g}\n{label}")
            axes[row, 0].set_ylim(LIMITS[row // 2])
            axes[row + 1, 0].set_ylim(-0.6, 0.3)
            panels.lag_key(axes[row + 1, -1], parts[f"$g={config.gains[0]:g}$"])
        panels.finish(figure, axes, title=TITLE)
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


def _draw_theory(ax, start, strength, config) -> None:
    """Dotted: mean field for Gaussian weights; else g^lag, exact while nothing dies or bends."""
    for gain, color in zip(config.gains, panels.FATES, strict=True):
        gaussian = start == "gaussian"
        rate = theory.tanh_network(gain, strength**2) if gaussian else np.log(gain)
        label = "theory" if gain == config.gains[0] else None
        plot.slope(ax, rate, (0, config.steps), color=color, label=label)


def _cell(start: str, strength: float, config: Config) -> rd.cells.Cell:
    sizes = (inputs.size(config.input), config.hidden_size)
    weights = Gaussian(strength)
    if start == "gaussian":
        return rd.cells.Vanilla(
            *sizes, input_weights=weights, recurrent_weights=Gaussian(), bias=Constant(0.0)
        )
    if start == "identity":
        return rd.cells.IRNN(*sizes, input_weights=weights)
    activation = "identity" if start == "orthogonal_linear" else "tanh"
    return rd.cells.OrthogonalRNN(*sizes, activation=activation, input_weights=weights)


def _part(start: str, strength: float, gain: float) -> str:
    return f"{start} input={strength:g} g={gain:g}"


main = functools.partial(experiment.run, __doc__, Config, compute, draw, claims)

if __name__ == "__main__":
    main()
