"""Decay of gradients by lag beside what theory says of it, for cells that connect time scales."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import rnndyn as rd
from analyses import theory
from analyses.measure import Sizes, draws, flow_lags, once_a_cell, over_all, washed_run
from rnndyn import cells


@dataclasses.dataclass(frozen=True)
class Decay:
    """One cell, and the coordinates of z in which it remembers (those of h if none are given)."""

    cell: rd.cells.Cell
    config: Sizes
    gain: float
    block: tuple[int, ...] | None = None


def measure(case: Decay) -> dict[str, np.ndarray]:
    """How the derivative of what is remembered decays, on real input and at rest.

    At rest: on constant input, the first of each sequence, after the washout.

    Returns
    -------
    dict
        "lags" (L,); "log_norm" and "rest_log_norm" (seeds, sequences, L), natural logarithms;
        "rate", "rest_rate" (seeds, sequences): the slopes over the later half of the lags, per
        step; "expected" (seeds, sequences): what theory says of the slope at rest.
    """
    keys, driven = draws(case.config)
    gain = jnp.asarray(case.gain, float)
    constant = jnp.broadcast_to(driven[:, :1], driven.shape)
    found: dict[str, np.ndarray] = {}
    for prefix, x in (("", driven), ("rest_", constant)):
        lin, params, last = _run(case.cell, keys, x, gain, case.config.washout)
        lin = dataclasses.replace(lin, hidden=case.block or lin.hidden)
        flow = _flow(lin, flow_lags(case.config.steps))
        found[prefix + "log_norm"] = np.asarray(flow.log_norm)
        found[prefix + "rate"] = np.asarray(flow.slope)
    found["lags"] = np.array(flow_lags(case.config.steps))
    shape = found["rate"].shape
    every = [_item((params, last), index) for index in np.ndindex(shape)]
    expected = [_expected(case, *each) for each in every]
    return found | {"expected": np.reshape(expected, shape)}


def measure_bounded(case: Decay) -> dict[str, np.ndarray]:
    """Largest and smallest singular value by lag, of a cell whose step depends on absolute time.

    Returns
    -------
    dict
        "lags" (L,); "log_norm" (seeds, sequences, L) and "log_smallest", natural logarithms, of
        the whole of its run, which starts at time 0; "bounds" (seeds, sequences, 2, L) on both.
    """
    cell, steps = case.cell, case.cell.total_steps
    keys, driven = draws(dataclasses.replace(case.config, steps=steps, washout=0))
    lin, params, _ = _run(cell, keys, driven, jnp.asarray(case.gain, float), 0)
    lags = tuple(sorted({1, steps // 4, steps // 2, steps}))
    values = np.asarray(_spectra(lin, lags))
    bounds = [
        _bounds(cell, _item(params, index))[:, lags] for index in np.ndindex(values.shape[:2])
    ]
    return {
        "lags": np.array(lags),
        "log_norm": values[..., 0],
        "log_smallest": values[..., -1],
        "bounds": np.reshape(bounds, (*values.shape[:2], 2, len(lags))),
    }


@once_a_cell
def _run(cell, keys, driven, gain, washout):
    def one(key, x):
        params = cell.init(key, gain=gain)
        run = washed_run(cell, params, x, washout)
        last = jax.tree.map(lambda leaf: leaf[-1], run.states)
        return rd.linearize(cell, params, run, dense=True), params, last

    return over_all(one)(keys, driven)


@jax.jit(static_argnames="lags")
def _flow(lin, lags):
    return jax.vmap(jax.vmap(lambda one: rd.gradient_flow(one, lags=lags, block="hidden")))(lin)


@jax.jit(static_argnames="lags")
def _spectra(lin, lags):
    def one(lin):
        return rd.singular_spectra(lin, lags=lags, block="hidden").log_values

    return jax.vmap(jax.vmap(one))(lin)


def _item(tree: Any, index: tuple[int, ...]) -> Any:
    return jax.tree.map(lambda leaf: np.asarray(leaf)[index], tree)


def _expected(case: Decay, params: Any, last: Any) -> float:
    """What theory says of the rate at rest, from the weights and where the network rests."""
    return _AT_REST[type(case.cell)](case, params, last)


def _vanilla(case: Decay, params: Any, last: Any) -> float:
    return theory.slowest(_slopes(last.h) * params.w_h)


def _dilated(case: Decay, params: Any, last: Any) -> float:
    return theory.slowest(_slopes(last.cells.h[0]) * params.w_h) / case.cell.dilation


def _clockwork(case: Decay, params: Any, last: Any) -> float:
    jacobian = _slopes(last.h) * params.w_h
    size = case.cell.hidden_size // case.cell.modules
    blocks = [jacobian[i : i + size, i : i + size] for i in range(0, len(jacobian), size)]
    return theory.clockwork_at_rest(blocks, case.cell.schedule)


def _narx(case: Decay, params: Any, last: Any) -> float:
    return theory.narx_at_rest(_slopes(last.h[0]) * params.w_h)


def _tkrnn(case: Decay, params: Any, last: Any) -> float:
    decays = np.diag(np.asarray(params.decay_y))
    return theory.slowest(_slopes(last.y) * params.w_y + decays)


def _scrnn(case: Decay, params: Any, last: Any) -> float:
    return float(np.log(case.cell.alpha))


def _sru(case: Decay, params: Any, last: Any) -> float:
    """At rest every mu is phi, whose sign and that of r tell the slopes of their ReLUs."""
    reads = params.w_r @ last.mu.ravel() + params.b_r > 0
    feedback = (last.mu[0] > 0)[:, None] * params.w_phi @ (reads[:, None] * params.w_r)
    return theory.sru_at_rest(np.asarray(case.cell.alphas), feedback)


def _slopes(h: np.ndarray) -> np.ndarray:
    """D(tanh') at the output h, as a column."""
    return (1.0 - h**2)[:, None]


_AT_REST: dict[type, Callable[[Decay, Any, Any], float]] = {
    cells.Vanilla: _vanilla,
    cells.Dilated: _dilated,
    cells.Clockwork: _clockwork,
    cells.NARX: _narx,
    cells.TKRNN: _tkrnn,
    cells.SCRNN: _scrnn,
    cells.StatisticalRU: _sru,
}


def _bounds(cell: cells.FourierRU, params: Any) -> np.ndarray:
    """(2, T + 1): ReLU has slope at most one, so ||K_t|| <= ||W_phi|| ||W_r||."""
    largest = np.linalg.norm(params.w_phi, 2) * np.linalg.norm(params.w_r, 2)
    clock = np.arange(cell.total_steps)[:, None] / cell.total_steps
    turns = np.asarray(cell.frequencies) * clock + params.phase
    return theory.fru_bounds(largest, np.cos(2.0 * np.pi * turns))
