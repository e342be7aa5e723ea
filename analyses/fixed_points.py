"""With which fixed points does a trained network remember three bits?

A plain tanh network, a GRU and an LSTM are really trained on the 3-bit flip-flop (Sussillo & Barak
2013). Theory expects a memory of 2^3 stable points and, between them, saddles: 3^3 points in all,
12 with one unstable direction, 6 with two, 1 with three. For each network: its fixed points among
its runs, in a view of the first three principal components, and their eigenvalues.
"""

import dataclasses
import functools
import math
import pathlib
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

if not __package__:  # run as a file: let it find the folder it belongs to
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

import rnndyn as rd
from analyses import flip_flop, panels, training
from rnndyn import experiment, plot

TITLE = "Three bits are stored in stable points, and saddles part them"
CELLS = {"vanilla": "plain tanh", "gru": "GRU", "lstm": "LSTM"}
# gain of the start, step size of Adam
TRAINING = {"vanilla": (1.5, 3e-3), "gru": (1.0, 1e-2), "lstm": (1.0, 1e-2)}
SHOWN = 24  # runs
VIEW = (0.45, 0.25)  # radians by which the view of the three components is turned


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(experiment.Config):
    cells: tuple[str, ...] = experiment.setting(
        tuple(CELLS), "cells, a column each", smoke=("gru",), choices=tuple(CELLS)
    )
    hidden_size: int = experiment.setting(16, "n, units", smoke=6, minimum=3)
    bits: int = experiment.setting(3, "bits to remember", smoke=1, minimum=1)
    steps: int = experiment.setting(2000, "steps of training", smoke=60, minimum=1)
    starts: int = experiment.setting(1024, "starts of each round", smoke=32, minimum=2)
    rounds: int = experiment.setting(6, "rounds of the search, at most", smoke=2, minimum=1)


@dataclasses.dataclass(frozen=True)
class Case:
    """One cell, trained and searched."""

    name: str
    config: Config


def compute(config: Config) -> experiment.Result:
    """One part for each cell."""
    return experiment.parts(config, measure, {name: Case(name, config) for name in config.cells})


def measure(case: Case) -> dict[str, np.ndarray]:
    """Train, search, and look at what was found.

    Returns
    -------
    dict
        "loss" (steps,); of the m points "unstable_dim", "index", "hits", "residual" (m,),
        "eigenvalues" (m, d) and "decoded" (m, bits), what the read-out says there; "evidence",
        whether the search ended by it, and "missing", its estimate; in the plane of the figure
        "points" (m, 2), "runs" (s, T + 1, 2) and "modes" (k, 2, 2); "explained", the share of the
        variance of the runs in three components.
    """
    config = case.config
    key = jax.random.key(config.seed)
    gain, rate = TRAINING[case.name]
    cell = rd.cells.CELLS[case.name](config.bits, config.hidden_size)
    task = functools.partial(flip_flop.trials, bits=config.bits)
    trained = training.train(key, cell, task, gain=gain, steps=config.steps, rate=rate)
    inputs, _ = task(jax.random.fold_in(key, 1), 64, 64)
    runs = jax.vmap(lambda x: rd.simulate(cell, trained.params, x))(inputs)
    quiet = rd.hold(cell, trained.params, jnp.zeros(config.bits))
    starts = rd.sample_states(jax.random.fold_in(key, 2), runs, config.starts, noise=0.1)
    found = rd.search(quiet, starts, key=jax.random.fold_in(key, 3), max_rounds=config.rounds)
    modes = rd.stability(quiet, found.points.z, resolvent=False)
    states = np.asarray(jax.vmap(jax.vmap(rd.flatten))(runs.states))
    mean, plane, explained = _plane(states.reshape(-1, states.shape[-1]))
    outputs = jax.vmap(lambda z: cell.output(quiet.unflatten(z)))(found.points.z)
    return {
        "loss": np.asarray(trained.losses),
        "unstable_dim": np.asarray(modes.unstable_dim),
        "index": np.asarray(found.points.index),
        "hits": np.asarray(found.points.hits),
        "residual": np.asarray(found.points.residual),
        "eigenvalues": np.asarray(modes.eigenvalues),
        "decoded": np.asarray(outputs @ trained.readout.T),
        "evidence": np.array(found.reason == "evidence"),
        "missing": np.array(float(found.missing)),
        "points": (np.asarray(found.points.z) - mean) @ plane,
        "runs": (states[:SHOWN] - mean) @ plane,
        "modes": _segments(found.points.z, modes, mean, plane, np.std(states)),
        "explained": np.array(explained),
    }


def _plane(states: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Mean, an oblique view (d, 2) of the first three principal components, their share."""
    mean = states.mean(axis=0)
    _, sizes, rows = np.linalg.svd(states - mean, full_matrices=False)
    a, b = VIEW
    turn = np.array(
        [
            [math.cos(a), -math.sin(a) * math.sin(b)],
            [math.sin(a), math.cos(a) * math.sin(b)],
            [0.0, math.cos(b)],
        ]
    )
    return mean, rows[:3].T @ turn, float(np.sum(sizes[:3] ** 2) / np.sum(sizes**2))


def _segments(z: Any, modes: Any, mean: np.ndarray, plane: np.ndarray, scale: float) -> np.ndarray:
    """The unstable directions of each point, in the plane, of length `scale` to either side.

    Of a complex pair the real and the imaginary part, which span the plane in which it turns.
    """
    found = []
    rows = (z, modes.right, modes.eigenvalues, modes.unstable_dim)
    for point, vectors, values, count in zip(*map(np.asarray, rows), strict=True):
        for vector, value in zip(vectors.T[:count], values[:count], strict=True):
            way = scale * (vector.real if value.imag >= 0 else vector.imag)
            found.append((np.stack([point - way, point + way]) - mean) @ plane)
    return np.asarray(found).reshape(-1, 2, 2)


def draw(result: experiment.Result) -> Figure:
    """For each cell its points among its runs, and below their eigenvalues."""
    names = result.config.cells
    with plot.style():
        figure, axes = plot.figure(2, len(names), height=4.9)
        for column, name in zip(axes.T, names, strict=True):
            part = result[name]
            count = len(part["points"])
            column[0].set_title(f"{CELLS[name]}: {count} fixed points")
            plot.fixed_points(
                column[0],
                part["points"],
                part["unstable_dim"],
                runs=part["runs"],
                modes=part["modes"],
            )
            column[0].set_xticks([])
            column[0].set_yticks([])
            column[0].set_xlabel("components 1 to 3, oblique")
            plot.eigenvalues(column[1], _Modes(part["eigenvalues"]))
        key = axes[0, 0].get_legend_handles_labels()
        title = "unstable directions of the points, and where they lead (black)"
        figure.legend(*key, loc="outside lower center", ncols=4, title=title, title_fontsize=7)
        panels.finish(figure, axes, title=TITLE)
    return figure


@dataclasses.dataclass(frozen=True)
class _Modes:
    eigenvalues: np.ndarray


def claims(result: experiment.Result) -> dict:
    """How many points of each kind, the evidence that none is missing, and what they remember."""
    bits = result.config.bits
    return {name: _numbers(result[name], bits) for name in result.config.cells}


def _numbers(part: dict[str, np.ndarray], bits: int) -> dict[str, Any]:
    stable = part["unstable_dim"] == 0
    patterns = {tuple(row) for row in (part["decoded"][stable] > 0).tolist()}
    histogram = np.bincount(part["unstable_dim"], minlength=bits + 1)
    expected = [math.comb(bits, k) * 2 ** (bits - k) for k in range(bits + 1)]
    return {
        "loss_last": float(np.mean(part["loss"][-20:])),
        "fixed_points": len(stable),
        "by_unstable_dim": histogram.tolist(),
        "as theory expects": "holds" if histogram.tolist() == expected else "does not hold",
        "index_sum": int(part["index"].sum()),
        "search_ended_by": "evidence" if part["evidence"] else "budget",
        "estimated_missing": float(part["missing"]),
        "largest_residual": float(part["residual"].max(initial=0.0)),
        "patterns_of_stable_points": f"{len(patterns)} of {2**bits}",
        "variance_in_three_components": float(part["explained"]),
    }


main = functools.partial(experiment.run, __doc__, Config, compute, draw, claims)

if __name__ == "__main__":
    main()
