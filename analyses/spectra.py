"""What do the singular values of dh_T/dh_t do with the lag, mechanism by mechanism?

On real input, for plain networks (Gaussian, orthogonal), gates (LSTM, GRU), carried states
(residual, IndRNN), connections across time scales (dilated) and a unitary network: all singular
values of the hidden block, as ribbons over the lag, with the root mean square. Theory over them:
mean field for the plain ones, mean field with weights that change at each step for the gated ones.
"""

import dataclasses
import functools
import pathlib
import sys

import jax
import numpy as np
from matplotlib.figure import Figure

if not __package__:  # run as a file: let it find the folder it belongs to
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

import rnndyn as rd
from analyses import inputs
from analyses.measure import Sizes, draws, spectrum_lags, washed_run
from rnndyn import experiment, plot
from rnndyn.cells.initializers import Constant, Gaussian

TITLE = "Only norm-preserving recurrences keep the whole spectrum; gates keep a part of it"
TITLES = {
    "vanilla": "plain tanh",
    "orthogonal": "orthogonal tanh",
    "lstm": "LSTM",
    "gru": "GRU",
    "residual": "residual",
    "dilated": "dilated by 4",
    "indrnn": "IndRNN",
    "unitary": "unitary",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(Sizes):
    hidden_size: int = experiment.setting(24, "n, units", smoke=8, accelerator=128, minimum=4)
    seeds: int = experiment.setting(2, "networks", smoke=1, accelerator=4, minimum=1)
    sequences: int = experiment.setting(2, "sequences a network", smoke=1, accelerator=4, minimum=1)
    cells: tuple[str, ...] = experiment.setting(
        tuple(TITLES), "mechanisms", smoke=("vanilla", "gru"), choices=tuple(TITLES)
    )
    gain: float = experiment.setting(1.0, "recurrent gain", minimum=0.0)
    gate_bias: float = experiment.setting(2.0, "bias of the forget gate of the LSTM")
    input_gain: float = experiment.setting(0.3, "standard deviation of input weights", minimum=0.0)


def compute(config: Config) -> experiment.Result:
    """One part a mechanism."""
    return experiment.parts(config, _measure, {name: (name, config) for name in config.cells})


def _measure(case) -> dict[str, np.ndarray]:
    """ "lags" (L,), "log_values" (seeds, sequences, L, n) and "theory", ln of the rms a step."""
    name, config = case
    cell, lags = _cell(name, config), _lags(config.steps)
    lin = _linearize(cell, *draws(config), config.gain, config.washout)
    values, status = _spectra(lin, lags)
    return {
        "lags": np.array(lags),
        "log_values": np.asarray(values),
        "status": np.asarray(status),
        "theory": np.array(_theory(name, cell, config)),
    }


def _lags(steps: int) -> tuple[int, ...]:
    """1, then multiples of 8 about evenly spaced in the logarithm."""
    few = np.geomspace(1, steps // 8, 7)
    return tuple(sorted({1, *(8 * int(lag) for lag in np.rint(few)), spectrum_lags(steps)[-1]}))


@functools.partial(jax.jit, static_argnums=(0, 4))
def _linearize(cell, keys, driven, gain, washout):
    def one(key, x):
        params = cell.init(key, gain=gain)
        return rd.linearize(cell, params, washed_run(cell, params, x, washout), dense=True)

    return jax.vmap(jax.vmap(one, in_axes=(None, 0)), in_axes=(0, None))(keys, driven)


@functools.partial(jax.jit, static_argnums=1)
def _spectra(lin, lags):
    def one(lin):
        found = rd.singular_spectra(lin, lags=lags, block="hidden")
        return found.log_values, found.status

    return jax.vmap(jax.vmap(one))(lin)


def _theory(name: str, cell: rd.cells.Cell, config: Config) -> float:
    """The mean-field growth per step of the root mean square singular value, ln; NaN: none."""
    variance = config.input_gain**2
    if name in ("vanilla", "orthogonal"):
        return float(rd.mean_field.vanilla(config.gain, variance).exponent)
    if name == "dilated":
        return float(rd.mean_field.vanilla(config.gain, variance).exponent) / cell.dilation
    if name == "gru":
        return float(rd.mean_field.gru(config.gain, variance).exponent)
    if name == "lstm":
        wide = dataclasses.replace(cell, hidden_size=4 * cell.hidden_size)
        keys, driven = draws(config)
        found = rd.mean_field.sampled(wide, keys[0], driven[0], gain=config.gain, washout=20)
        return float(found.exponent)
    return 0.0 if name == "unitary" else float("nan")


def draw(result: experiment.Result) -> Figure:
    """A panel for each mechanism: ribbons, dashed their root mean square, dotted theory."""
    names = result.config.cells
    columns = min(4, len(names))
    rows = -(-len(names) // columns)
    with plot.style():
        figure, axes = plot.figure(rows, columns, height=2.1 * rows + 0.4, sharex=True, sharey=True)
        for ax, name in zip(axes.flat, names, strict=False):
            part = result[name]
            plot.singular_ribbon(ax, _Fields(**part))
            options = {"color": "black", "linewidth": 0.9}
            ax.plot(part["lags"], _rms(part), dashes=(4, 2), label="rms", **options)
            if np.isfinite(part["theory"]):
                ends = np.array([0, part["lags"][-1]])
                slope = part["theory"] / np.log(10.0)
                ax.plot(ends, slope * ends, ":", label="theory", **options)
            ax.set_title(TITLES[name])
            ax.set_ylim(-16.0, 3.0)
        axes.flat[-1].legend(loc="lower left")
        for ax in axes[:, 1:].flat:
            ax.set_ylabel("")
        for ax in axes[:-1].flat:
            ax.set_xlabel("")
        plot.label_panels(axes[:, 0])
        figure.suptitle(TITLE)
    return figure


class _Fields:
    def __init__(self, **fields):
        self.__dict__.update(fields)


def _rms(part) -> np.ndarray:
    """log10 of the root mean square singular value, by lag; by the largest first, in logs."""
    values = 2 * np.moveaxis(part["log_values"], -2, 0).reshape(len(part["lags"]), -1)
    return np.logaddexp.reduce(values, axis=1) / (2 * np.log(10.0)) - np.log10(values.shape[1]) / 2


def claims(result: experiment.Result) -> dict:
    """What is left at the last lag: the fraction kept, largest and least, rms and theory."""
    found: dict = {}
    for name in result.config.cells:
        part = result[name]
        last = part["log_values"][..., -1, :] / np.log(10.0)
        expected = part["theory"] / np.log(10.0) * part["lags"]
        found[name] = {
            "last_lag": int(part["lags"][-1]),
            "fraction_within_a_factor_2_of_one": float(np.mean(np.abs(last) < np.log10(2.0))),
            "median_log10_largest": float(np.median(last[..., 0])),
            "median_log10_least": _finite(np.median(last[..., -1])),
            "rms_log10": float(_rms(part)[-1]),
            "theory_log10": _finite(expected[-1]),
        }
    kept = {name: one["fraction_within_a_factor_2_of_one"] for name, one in found.items()}
    whole = [name for name, share in kept.items() if share > 0.9]
    found["whole spectrum kept"] = f"holds only for {', '.join(whole)}" if whole else "by none"
    return found


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _cell(name: str, config: Config) -> rd.cells.Cell:
    sizes = (inputs.size(config.input), config.hidden_size)
    drawn, zero = Gaussian(config.input_gain), Constant(0.0)
    weights = {"input_weights": drawn, "recurrent_weights": Gaussian(), "bias": zero}
    if name == "lstm":
        return rd.cells.LSTM(*sizes, forget_bias=config.gate_bias, **weights)
    if name == "orthogonal":
        return rd.cells.OrthogonalRNN(*sizes, input_weights=drawn)
    if name == "dilated":
        return rd.cells.dilate(rd.cells.Vanilla(*sizes, **weights), 4)
    if name in ("indrnn", "unitary"):
        return rd.cells.CELLS[name](*sizes)
    return rd.cells.CELLS[name](*sizes, **weights)


main = functools.partial(experiment.run, __doc__, Config, compute, draw, claims)

if __name__ == "__main__":
    main()
