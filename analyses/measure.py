"""What all scripts measure: gradient flow, singular spectra and the leading exponent of a cell."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import rnndyn as rd
from analyses import inputs, table
from rnndyn import experiment
from rnndyn.core.once import once


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sizes(experiment.Config):
    """How long, how large and how often: the same settings for every script."""

    input: str = experiment.setting("text", "what drives the networks", choices=inputs.NAMES)
    hidden_size: int = experiment.setting(32, "n, units", smoke=8, accelerator=128, minimum=1)
    steps: int = experiment.setting(200, "T, steps of a run", smoke=40, accelerator=1000, minimum=8)
    washout: int = experiment.setting(50, "steps before the run", smoke=8, accelerator=200)
    seeds: int = experiment.setting(4, "networks", smoke=2, accelerator=8, minimum=1)
    sequences: int = experiment.setting(4, "sequences a network", smoke=2, accelerator=8, minimum=1)


@dataclasses.dataclass(frozen=True)
class Case:
    """One cell in one setting; `gate_bias` opens the gate that keeps (forget, or update)."""

    cell: rd.cells.Cell
    config: Sizes
    gain: float
    gate_bias: float = 0.0


@dataclasses.dataclass(frozen=True)
class Sweep:
    """One cell at several gains, for its leading exponent only."""

    cell: rd.cells.Cell
    config: Sizes
    gains: tuple[float, ...]
    gate_bias: float = 0.0


@dataclasses.dataclass(frozen=True)
class Strengths:
    """One cell at several strengths of its input, for its singular values at the last lag."""

    cell: rd.cells.Cell
    config: Sizes
    strengths: tuple[float, ...]


def measure(case: Case) -> dict[str, np.ndarray]:
    """Run a cell over all seeds and sequences and linearize it along each run.

    Returns
    -------
    dict
        "lags" (L,), "log_norm" (seeds, sequences, L), "spectrum_lags" (S,), "log_values" (seeds,
        sequences, S, n): dh_T/dh_t, the hidden block; "exponent" (seeds, sequences): the leading
        one of the whole state; all in natural logarithms. "status" (seeds, sequences, 3): the
        worst of flow, spectra and exponent.
    """
    config = case.config
    lags, few_lags = flow_lags(config.steps), spectrum_lags(config.steps)
    lin = _linearizations(case.cell, config, case.gain, case.gate_bias)
    found = _analyse(lin, lags, few_lags)
    return {
        "lags": np.array(lags),
        "spectrum_lags": np.array(few_lags),
        **{name: np.asarray(value) for name, value in found.items()},
    }


def measure_exponents(sweep: Sweep) -> dict[str, np.ndarray]:
    """The leading exponent at each gain: "gains" (G,), "exponent" (G, seeds, sequences).

    Matrix-free, as some states are large; the washout turns the frame as well.
    """
    config = sweep.config
    drawn, bias = draws(config), jnp.asarray(sweep.gate_bias, float)
    found = [
        _leading(sweep.cell, *drawn, jnp.asarray(gain, float), bias, config.washout)
        for gain in sweep.gains
    ]
    return {"gains": np.array(sweep.gains), "exponent": np.stack(found)}


def measure_strengths(case: Strengths) -> dict[str, np.ndarray]:
    """Singular values of dh_T/dh_t over the whole run, at each strength of the input.

    Returns
    -------
    dict
        "strengths" (S,), factors of the input; "log_values" (S, seeds, sequences, n), natural
        logarithms, the hidden block; "status" (S, seeds, sequences).
    """
    config, found = case.config, []
    for strength in case.strengths:
        lin = _linearizations(case.cell, config, 1.0, 0.0, strength)
        found.append(_last_spectrum(lin, spectrum_lags(config.steps)[-1:]))
    values, status = (np.stack(part) for part in zip(*found, strict=True))
    return {"strengths": np.array(case.strengths), "log_values": values, "status": status}


def draws(config: Sizes) -> tuple[jax.Array, jax.Array]:
    """Keys of the networks, and what drives them."""
    keys = jax.random.split(jax.random.key(config.seed), config.seeds)
    stretch = config.washout + config.steps
    driven = inputs.sequences(config.input, config.sequences, stretch, config.seed)
    return keys, jnp.asarray(driven, float)


def flow_lags(steps: int) -> tuple[int, ...]:
    """1, 2, 4 and the multiples of 8, at which the chains of every dilation meet; at most 65."""
    stride = 8 * -(-steps // 512)
    return (1, 2, 4, *range(stride, steps + 1, stride))


def spectrum_lags(steps: int) -> tuple[int, ...]:
    """1, then three multiples of 8 up to T, evenly spaced in the logarithm."""
    last = steps // 8 * 8
    middle = 8 * round((last / 8) ** 0.5)
    return tuple(sorted({1, 8, middle, last}))


def _linearizations(
    cell, config: Sizes, gain: float, gate_bias: float, strength: float = 1.0
) -> rd.Linearization:
    """The Jacobians along all runs, leading axes (seeds, sequences).

    They are formed apart from what is measured on them, which then compiles once for all cells
    of one size rather than once a cell.
    """
    keys, driven = draws(config)
    numbers = (jnp.asarray(value, float) for value in (gain, gate_bias))
    return _linearize(cell, keys, strength * driven, *numbers, config.washout)


once_a_cell = functools.partial(once, static_argnames=("cell", "washout"))
"""For what is compiled for every cell anew."""


@once_a_cell
def _linearize(cell, keys, driven, gain, gate_bias, washout):
    def one(key, x):
        params = table.open_gate(cell, cell.init(key, gain=gain), gate_bias)
        return rd.linearize(cell, params, washed_run(cell, params, x, washout), dense=True)

    return over_all(one)(keys, driven)


@functools.partial(jax.jit, static_argnums=(1, 2))
def _analyse(lin, lags, few_lags):
    def one(lin):
        flow = rd.gradient_flow(lin, lags=lags, block="hidden")
        spectra = rd.singular_spectra(lin, lags=few_lags, block="hidden")
        leading = rd.lyapunov_spectrum(lin, k=1)
        return {
            "log_norm": flow.log_norm,
            "log_values": spectra.log_values,
            "exponent": leading.exponents[0],
            "status": jnp.stack([jnp.min(part.status) for part in (flow, spectra, leading)]),
        }

    return jax.vmap(jax.vmap(one))(lin)


@functools.partial(jax.jit, static_argnums=1)
def _last_spectrum(lin, lags):
    def one(lin):
        spectra = rd.singular_spectra(lin, lags=lags, block="hidden")
        return spectra.log_values[0], spectra.status[0]

    return jax.vmap(jax.vmap(one))(lin)


@once_a_cell
def _leading(cell, keys, driven, gain, gate_bias, washout):
    def one(key, x):
        params = table.open_gate(cell, cell.init(key, gain=gain), gate_bias)
        lin = rd.linearize(cell, params, rd.simulate(cell, params, x), dense=False)
        return rd.lyapunov_spectrum(lin, k=1, warmup=washout).exponents[0]

    return over_all(one)(keys, driven)


def over_all(measured):
    """A function of key and sequence, over all pairs of them."""
    return jax.vmap(jax.vmap(measured, in_axes=(None, 0)), in_axes=(0, None))


def washed_run(cell: rd.cells.Cell, params: Any, x: jax.Array, washout: int) -> rd.Trajectory:
    """The run that follows the washout."""
    warm = rd.simulate(cell, params, x[:washout])
    start = jax.tree.map(lambda leaf: leaf[-1], warm.states)
    return rd.simulate(cell, params, x[washout:], start)


def exponent(part: dict[str, np.ndarray]) -> float:
    """The median over seeds and sequences of the leading exponent."""
    return float(np.median(part["exponent"]))


def log10_norm(part: dict[str, np.ndarray], at: int = -1) -> float:
    """The median of log10 ||dh_T/dh_t|| at one of the lags that were measured."""
    return float(np.median(part["log_norm"][..., at]) / np.log(10.0))


def medians(sweep: dict[str, np.ndarray]) -> np.ndarray:
    """At each gain of a sweep the median over seeds and sequences of the exponent, (G,)."""
    return np.median(sweep["exponent"], axis=(1, 2))


def octaves_kept(sweep: dict[str, np.ndarray], steps: int) -> float:
    """log2 of the range of gains over which T steps change the norm by less than a factor 100."""
    gains = np.geomspace(sweep["gains"].min(), sweep["gains"].max(), 1001)
    lowest = -1e9  # an exponent of -inf would make its neighbours NaN
    values = np.interp(np.log(gains), np.log(sweep["gains"]), np.maximum(medians(sweep), lowest))
    kept = np.abs(values) * steps < np.log(100.0)
    return float(np.mean(kept) * np.log2(gains[-1] / gains[0]))
