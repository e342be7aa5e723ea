"""Where does order turn to chaos, and does theory tell how chaotic wide networks become?

Undriven networks with Gaussian recurrent weights of gain g, plain tanh and GRU, of several widths:
the leading Lyapunov exponent and the Kaplan-Yorke dimension of the attractor over the gain. Theory
for the plain network is mean field (exponent) and free probability (all exponents, hence the
dimension); for the GRU the disc of eigenvalues at rest, which leaves the unit circle at g = 2, and
mean field with weights that change at each step, which is what the literature has.
"""

import dataclasses
import functools
import pathlib
import sys

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

if not __package__:  # run as a file: let it find the folder it belongs to
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

import rnndyn as rd
from analyses import panels, theory
from rnndyn import experiment, plot
from rnndyn.cells.initializers import Constant, Gaussian

TITLES = {"vanilla": "plain tanh", "gru": "GRU"}
EDGES = {"vanilla": 1.0, "gru": 2.0}  # gain at which rest loses its stability, n large
TITLE = "Chaos begins where rest ends, at $g=1$ and $g=2$; its dimension grows with width"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(experiment.Config):
    cells: tuple[str, ...] = experiment.setting(
        tuple(TITLES), "cells, a column each", smoke=("vanilla",), choices=tuple(TITLES)
    )
    widths: tuple[int, ...] = experiment.setting(
        (32, 64, 128), "n, units", smoke=(8, 16), accelerator=(128, 256, 512), minimum=4
    )
    gains: tuple[float, ...] = experiment.setting(
        (0.5, 0.7, 0.85, 1.0, 1.2, 1.5, 2.0, 3.0, 4.0),
        "gains, as multiples of the edge",
        smoke=(0.5, 2.0),
        minimum=0.01,
    )
    steps: int = experiment.setting(200, "T, steps of a run", smoke=40, accelerator=2000, minimum=8)
    washout: int = experiment.setting(150, "steps before the run", smoke=20, accelerator=1000)
    seeds: int = experiment.setting(2, "networks", smoke=2, accelerator=8, minimum=1)


def compute(config: Config) -> experiment.Result:
    """One part for each cell and width."""
    cases = {
        _part(name, width): (name, width, config)
        for name in config.cells
        for width in config.widths
    }
    return experiment.parts(config, _measure, cases)


def _measure(case) -> dict[str, np.ndarray]:
    """Over gains and seeds: "exponent" (G, seeds), "dimension" (G, seeds) per unit."""
    name, width, config = case
    gains = jnp.asarray(config.gains, float) * EDGES[name]
    keys = jax.random.split(jax.random.key(config.seed), config.seeds)
    found = _spectra(_cell(name, width), keys, gains, config.washout, config.steps)
    return {key: np.asarray(value) for key, value in found.items()}


@functools.partial(jax.jit, static_argnums=(0, 3, 4))
def _spectra(cell, keys, gains, washout, steps):
    inputs = jnp.zeros((washout + steps, cell.input_size))

    def one(pair):
        gain, key = pair
        params = cell.init(key, gain=gain)
        start = cell.initial_state(params)
        kick = jax.random.normal(key, rd.flatten(start).shape) / 10
        run = rd.simulate(cell, params, inputs, rd.unflatten(kick, start))
        late = jax.tree.map(lambda leaf: leaf[washout:], run.states)
        rest = rd.Trajectory(late, run.outputs[washout:], inputs[washout:], run.status)
        lin = rd.linearize(cell, params, rest, dense=False)
        found = rd.lyapunov_spectrum(lin, k=cell.hidden_size // 2, warmup=steps // 4)
        dimension = found.kaplan_yorke / cell.hidden_size
        return {"exponent": found.exponents[0], "dimension": dimension, "status": found.status}

    pairs = (jnp.repeat(gains, len(keys)), jnp.tile(keys, len(gains)))
    flat = jax.lax.map(one, pairs)
    return jax.tree.map(lambda leaf: leaf.reshape(len(gains), len(keys)), flat)


def draw(result: experiment.Result) -> Figure:
    """Exponent above, dimension below, a column for each cell; theory dotted over them."""
    config = result.config
    with plot.style():
        figure, axes = plot.figure(2, len(config.cells), height=4.2, width=plot.DOUBLE)
        for column, name in zip(axes.T, config.cells, strict=True):
            column[0].set_title(TITLES[name])
            gains = np.array(config.gains) * EDGES[name]
            for width, color in zip(config.widths, plot.shades(len(config.widths)), strict=True):
                part = result[_part(name, width)]
                for ax, key in zip(column, ("exponent", "dimension"), strict=True):
                    _points(ax, gains, part[key], color, f"$n={width}$")
            _draw_theory(column, name, gains)
            for ax, low in zip(column, (-0.75, -0.02), strict=True):
                ax.axvline(EDGES[name], color="black", linewidth=0.6, linestyle=(0, (1, 2)))
                ax.axhline(0.0, color="black", linewidth=0.6, zorder=0)
                ax.set_ylim(bottom=low)
                ax.set_xlabel("recurrent gain $g$")
        axes[0, 0].set_ylabel(r"exponent $\lambda_1$ (per step)")
        axes[1, 0].set_ylabel("Kaplan-Yorke dimension$\\,/\\,n$")
        for ax in axes[0]:
            ax.legend(loc="lower right")
        panels.finish(figure, axes, title=TITLE)
    return figure


def _points(ax, gains, values, color, label) -> None:
    """The median over networks, with bars from least to largest."""
    middle = np.median(values, axis=1)
    bars = np.abs(np.stack([values.min(axis=1), values.max(axis=1)]) - middle)
    ax.errorbar(gains, middle, bars, fmt="o-", color=color, label=label, elinewidth=0.7)


def _draw_theory(column, name, gains) -> None:
    fine = np.linspace(gains.min(), gains.max(), 62)
    dotted = {"color": "black", "linestyle": ":", "zorder": 5}
    if name == "vanilla":
        rates = [theory.tanh_network(gain, 0.0) for gain in fine]
        column[0].plot(fine, rates, label="mean field", **dotted)
        sizes = [theory.tanh_dimension(gain) for gain in fine[1::3]]
        column[1].plot(fine[1::3], sizes, label="free probability", **dotted)
        column[1].legend(loc="lower right")
        return
    rest = fine[fine <= EDGES[name]]
    column[0].plot(rest, [theory.gru_at_rest(gain, 0.0) for gain in rest], label="rest", **dotted)
    untied = [theory.untied_gru(gain) for gain in fine]
    column[0].plot(fine, untied, color="black", dashes=(4, 2), linewidth=0.8, label="untied")


def claims(result: experiment.Result) -> dict:
    """Where the exponent turns positive, and how far theory is off, at the largest width."""
    config = result.config
    width = max(config.widths)
    found: dict = {"largest_width": width}
    for name in config.cells:
        part, gains = result[_part(name, width)], np.array(config.gains) * EDGES[name]
        rates, sizes = (np.median(part[key], axis=1) for key in ("exponent", "dimension"))
        crossing = _crossing(gains, rates)
        one: dict = {
            "gains": gains,
            "exponent": rates,
            "dimension_per_unit": sizes,
            "gain_at_which_chaos_begins": crossing,
        }
        calm = gains < 0.9 * EDGES[name]
        if name == "vanilla":
            expected = np.array([theory.tanh_network(gain, 0.0) for gain in gains])
            dimension = np.array([theory.tanh_dimension(gain) for gain in gains])
            one["largest_error_of_mean_field"] = float(np.max(np.abs(rates - expected)))
            one["largest_error_of_dimension"] = float(np.max(np.abs(sizes - dimension)))
        else:
            rest = np.array([theory.gru_at_rest(gain, 0.0) for gain in gains[calm]])
            one["largest_error_at_rest"] = float(np.max(np.abs(rates[calm] - rest), initial=0.0))
            untied = np.array([theory.untied_gru(gain) for gain in gains])
            one["largest_error_of_untied_mean_field"] = float(np.max(np.abs(rates - untied)))
        near = crossing is not None and abs(crossing / EDGES[name] - 1) < 0.25
        one["chaos begins at the edge of rest"] = "holds" if near else "does not hold"
        found[name] = one
    return found


def _crossing(gains: np.ndarray, rates: np.ndarray) -> float | None:
    """The gain, linearly between two that were measured, at which the exponent turns positive."""
    above = np.flatnonzero(rates > 0)
    if not above.size or above[0] == 0:
        return None
    i = above[0]
    return float(np.interp(0.0, rates[i - 1 : i + 1], gains[i - 1 : i + 1]))


def _cell(name: str, width: int) -> rd.cells.Cell:
    return rd.cells.CELLS[name](1, width, recurrent_weights=Gaussian(), bias=Constant(0.0))


def _part(name: str, width: int) -> str:
    return f"{name} n={width}"


main = functools.partial(experiment.run, __doc__, Config, compute, draw, claims)

if __name__ == "__main__":
    main()
