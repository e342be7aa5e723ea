"""With what does a trained network integrate one input and ignore another?

Two channels carry noisy pulses; a plain tanh network and a GRU are really trained to say the sum of
the first (after Mante, Sussillo, Shenoy & Newsome 2013; Maheswaranathan et al. 2019). Theory
expects a line attractor: at constant input the state stays where it is along one slow direction,
whose left eigenvector, the selection vector, reads the first channel and not the second. For each
network: its fixed points and its slow points between them, how slow they are, where they drift,
and what a pulse changes at each of them.
"""

import dataclasses
import functools
import pathlib
import sys
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

if not __package__:  # run as a file: let it find the folder it belongs to
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

import rnndyn as rd
from analyses import panels, training
from rnndyn import experiment, plot

TITLE = "An integrator is one slow line; its left eigenvectors choose the input"
CELLS = {"vanilla": "plain tanh", "gru": "GRU"}
RATES = {"vanilla": 3e-3, "gru": 1e-2}
CHANNELS = ("first channel, summed", "second channel, ignored")
MODES = 3  # slowest ones, of which time constants are shown
SHOWN = 24  # runs


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(experiment.Config):
    cells: tuple[str, ...] = experiment.setting(
        tuple(CELLS), "cells, a column each", smoke=("vanilla",), choices=tuple(CELLS)
    )
    hidden_size: int = experiment.setting(16, "n, units", smoke=6, minimum=2)
    pulse: float = experiment.setting(0.25, "size of a pulse", minimum=0.0)
    noise: float = experiment.setting(0.05, "standard deviation of the noise", minimum=0.0)
    length: int = experiment.setting(60, "steps of a trial", smoke=20, minimum=2)
    steps: int = experiment.setting(2000, "steps of training", smoke=60, minimum=1)
    starts: int = experiment.setting(512, "starts of the search", smoke=32, minimum=2)
    places: int = experiment.setting(41, "slow points along the line", smoke=9, minimum=3)
    settling: int = experiment.setting(
        20, "steps until all but the slow direction is gone", minimum=1
    )


@dataclasses.dataclass(frozen=True)
class Case:
    """One cell, trained and taken apart."""

    name: str
    config: Config


def trials(key: jax.Array, count: int, steps: int, pulse: float, noise: float):
    """Inputs (count, steps, 2), one step in ten a pulse, and the sums of the first channel."""
    keys = jax.random.split(key, 3)
    shape = (count, steps, 2)
    sign = jax.random.rademacher(keys[0], shape, float)
    pulses = jnp.where(jax.random.bernoulli(keys[1], 0.1, shape), pulse * sign, 0.0)
    inputs = pulses + noise * jax.random.normal(keys[2], shape)
    return inputs, jnp.cumsum(inputs[:, :, :1], axis=1)


def compute(config: Config) -> experiment.Result:
    """One part for each cell."""
    return experiment.parts(config, measure, {name: Case(name, config) for name in config.cells})


def measure(case: Case) -> dict[str, np.ndarray]:
    """Train, search for fixed points, and walk along the line.

    Returns
    -------
    dict
        "loss" (steps,); of the m fixed points "place" (m,), what the read-out says there,
        "unstable_dim", "eigenvalue" (m,), the largest, "hits", and "index_sum"; of all starts
        "kinds" (5,), how many ended at each, and "nullity", the largest; what `_along` measures on
        the line; "points" (m, 2), "line" (p, 2), "runs" (s, T + 1, 2) in the plane of the figure.
    """
    config = case.config
    key = jax.random.key(config.seed)
    task = functools.partial(trials, pulse=config.pulse, noise=config.noise)
    cell = rd.cells.CELLS[case.name](2, config.hidden_size)
    trained = training.train(
        key, cell, task, steps=config.steps, rate=RATES[case.name], length=config.length
    )
    inputs, _ = task(jax.random.fold_in(key, 1), 256, config.length)
    runs = jax.vmap(lambda x: rd.simulate(cell, trained.params, x))(inputs)
    quiet = rd.hold(cell, trained.params, jnp.zeros(2))

    def place(z):
        return trained.readout[0] @ cell.output(quiet.unflatten(z))

    starts = rd.sample_states(jax.random.fold_in(key, 2), runs, config.starts, noise=0.05)
    found = rd.fixed_points(quiet, starts)
    points = rd.unique(found)
    modes = rd.stability(quiet, points.z, resolvent=False)
    states = jax.vmap(jax.vmap(rd.flatten))(runs.states)
    line = _line(quiet, place, states.reshape(-1, states.shape[-1]), config)
    mean, plane = _plane(np.asarray(states).reshape(-1, states.shape[-1]))
    return {
        "loss": np.asarray(trained.losses),
        "place": np.asarray(jax.vmap(place)(points.z)),
        "unstable_dim": np.asarray(modes.unstable_dim),
        "eigenvalue": np.asarray(modes.eigenvalues[:, 0]),
        "hits": np.asarray(points.hits),
        "kinds": np.bincount(found.kind, minlength=len(rd.Kind)),
        "nullity": np.asarray(found.nullity).max(keepdims=True),
        "index_sum": np.asarray(points.index_sum),
        "points": (np.asarray(points.z) - mean) @ plane,
        "line": (np.asarray(line) - mean) @ plane,
        "runs": (np.asarray(states[:SHOWN]) - mean) @ plane,
        **_along(quiet, place, line, config),
    }


def _plane(states: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and first two principal components (d, 2)."""
    mean = states.mean(axis=0)
    return mean, np.linalg.svd(states - mean, full_matrices=False)[2][:2].T


def _line(quiet: rd.Map, place: Callable, states: jax.Array, config: Config) -> jax.Array:
    """Slow points (p, d): states of runs from one end to the other, left alone until they settle.

    They are not fixed points, and no tolerance is needed to call them slow.
    """
    at = jax.vmap(place)(states)
    low, high = jnp.quantile(at, jnp.array([0.01, 0.99]))
    wanted = jnp.linspace(low, high, config.places)
    nearest = jnp.argmin(jnp.abs(at[None, :] - wanted[:, None]), axis=1)
    settled = jax.vmap(rd.iterate(quiet, config.settling))(states[nearest])
    return settled[jnp.argsort(jax.vmap(place)(settled))]


def _along(quiet: rd.Map, place: Callable, line: jax.Array, config: Config) -> dict[str, Any]:
    """What is slow at each slow point, where it drifts, and what a pulse changes.

    Returns
    -------
    dict
        "at" (p,), the read-out; "residual" (p,), max |F(z) - z|; "drift" (p,), change of the
        read-out in one step; "eigenvalues" (p, MODES); for a pulse in either channel "response"
        (p, 2), what it has changed `settling` steps later, a unit of pulse, and "selected" (p, 2),
        the linear theory of it: grad s . r  lambda^settling  l^H dF/dx / l^H r.
    """
    modes = rd.stability(quiet, line, resolvent=False)
    left, right = (np.asarray(vectors[:, :, 0]) for vectors in (modes.left, modes.right))
    slow = np.asarray(modes.eigenvalues[:, 0])
    reads = np.sum(np.asarray(jax.vmap(jax.grad(place))(line)) * right, axis=1)
    picked = np.einsum("pd,pdm->pm", left.conj(), np.asarray(rd.input_jacobian(quiet, line)))
    share = reads * slow**config.settling / np.sum(left.conj() * right, axis=1)
    later = jax.vmap(lambda z: place(rd.iterate(quiet, config.settling)(z)))
    image = jax.vmap(quiet)(line)
    kicked = [jax.vmap(rd.Map(quiet.rule, (quiet.args[0], x)))(line) for x in _pulses(config)]
    response = jnp.stack([later(z) - later(image) for z in kicked], axis=1)
    return {
        "at": np.asarray(jax.vmap(place)(line)),
        "residual": np.asarray(jnp.max(jnp.abs(image - line), axis=1)),
        "drift": np.asarray(jax.vmap(place)(image) - jax.vmap(place)(line)),
        "eigenvalues": np.asarray(modes.eigenvalues[:, :MODES]),
        "response": np.asarray(response) / config.pulse,
        "selected": (share[:, None] * picked).real,
    }


def _pulses(config: Config) -> jax.Array:
    return config.pulse * jnp.eye(2)


def predicted_drift(part: dict[str, np.ndarray]) -> np.ndarray:
    """The drift along the line that its eigenvalues predict, from the fixed point amid it on.

    Along an invariant line F(z(s)) = z(s + v(s)), so J z' = (1 + v') z' where v is small: the
    eigenvalue is 1 + v', and v(s) is the integral of eigenvalue - 1 from where v is 0.
    """
    at, slope = part["at"], part["eigenvalues"][:, 0].real - 1
    steps = np.diff(at) * (slope[1:] + slope[:-1]) / 2
    integral = np.concatenate([[0.0], np.cumsum(steps)])
    inside = (part["place"] > at[0]) & (part["place"] < at[-1])
    if not np.any(inside):
        return np.full(at.shape, np.nan)
    amid = part["place"][inside][np.argmin(np.abs(part["place"][inside]))]
    return integral - np.interp(amid, at, integral)


def draw(result: experiment.Result) -> Figure:
    """For each cell: its states, then along its line time constants, drift and response."""
    names = result.config.cells
    with plot.style():
        figure, axes = plot.figure(
            4, len(names), height=6.8, gridspec_kw={"height_ratios": (1.5, 1, 1, 1)}
        )
        for column, name in zip(axes.T, names, strict=True):
            part = result[name]
            column[0].set_title(f"{CELLS[name]}: {len(part['place'])} fixed points")
            _draw_states(column[0], part)
            _draw_time_constants(column[1], part)
            _draw_drift(column[2], part)
            _draw_response(column[3], part, result.config)
            column[3].set_xlabel("read-out $s$, the sum so far")
            for ax in column[1:]:
                ax.set_xlim(part["at"][0], part["at"][-1])
        states, constants, drift, response = axes[:, 0]
        states.legend(title="unstable directions", title_fontsize=7, loc="lower left")
        constants.legend(loc="lower left", bbox_to_anchor=(0.0, 0.18), ncols=2)
        drift.legend(loc="lower right")
        response.legend(loc="center")
        panels.finish(figure, axes, title=TITLE)
    return figure


def _draw_states(ax: Axes, part: dict[str, np.ndarray]) -> None:
    plot.fixed_points(ax, part["points"], part["unstable_dim"], runs=part["runs"])
    ax.plot(*part["line"].T, color="black", linewidth=0.8, zorder=1, label="slow points")
    ax.set_xticks([])
    ax.set_yticks([])
    ax.set_xlabel("component 1")
    ax.set_ylabel("component 2")


def _draw_time_constants(ax: Axes, part: dict[str, np.ndarray]) -> None:
    moduli = np.abs(part["eigenvalues"])
    constants = np.abs(1 / np.log(moduli))
    for k in range(MODES):
        for grows, shade in ((False, "blue"), (True, "vermillion")):
            rows = (moduli[:, k] > 1) == grows
            label = ("grows" if grows else "decays") if k == 0 else None
            color = plot.COLOURS[shade]
            ax.plot(part["at"][rows], constants[rows, k], "o", color=color, label=label)
    ax.set_yscale("log")
    ax.set_ylim(1.0, 3e5)
    ax.set_ylabel("time constant\n(steps)")


def _draw_drift(ax: Axes, part: dict[str, np.ndarray]) -> None:
    ax.axhline(0.0, color="black", linewidth=0.6)
    ax.plot(part["at"], 1e3 * part["drift"], color=plot.COLOURS["sky"], label="measured")
    ax.plot(
        part["at"],
        1e3 * predicted_drift(part),
        ":",
        color="black",
        label=r"$\int (\lambda - 1)\, \mathrm{d}s$",
    )
    inside = (part["place"] >= part["at"][0]) & (part["place"] <= part["at"][-1])
    for place, dim in zip(part["place"][inside], part["unstable_dim"][inside], strict=True):
        color = plot.UNSTABLE[min(dim, len(plot.UNSTABLE) - 1)]
        ax.plot(place, 0.0, "o", color=color, markersize=4, clip_on=False)
    ax.set_ylabel("drift of $s$\n($10^{-3}$ a step)")


def _draw_response(ax: Axes, part: dict[str, np.ndarray], config: Config) -> None:
    for asked in (0.0, 1.0):
        ax.axhline(asked, color="0.8", linewidth=0.6)
    for k, shade in enumerate(("green", "purple")):
        color = plot.COLOURS[shade]
        ax.plot(part["at"], part["response"][:, k], color=color, label=CHANNELS[k])
        ax.plot(part["at"], part["selected"][:, k], ":", color="black")
    ax.set_ylim(-0.4, 1.6)
    ax.set_ylabel(f"change of $s$ a pulse,\n{config.settling} steps later")


def claims(result: experiment.Result) -> dict:
    """Time constants, drift and selection, measured and as theory has them."""
    return {name: _numbers(result[name]) for name in result.config.cells}


def _numbers(part: dict[str, np.ndarray]) -> dict[str, Any]:
    constants = np.abs(1 / np.log(np.abs(part["eigenvalues"])))
    drift, predicted = part["drift"], predicted_drift(part)
    gap = np.sqrt(np.mean((drift - predicted) ** 2) / np.mean(drift**2))
    response, selected = part["response"], part["selected"]
    return {
        "loss_last": float(np.mean(part["loss"][-20:])),
        "fixed_points_by_read_out": [round(float(s), 4) for s in np.sort(part["place"])],
        "unstable_dim": part["unstable_dim"][np.argsort(part["place"])].tolist(),
        "index_sum": int(part["index_sum"]),
        "fewest_hits": int(part["hits"].min()),
        "starts_by_kind": {kind.name.lower(): int(part["kinds"][kind]) for kind in rd.Kind},
        "largest_nullity": int(part["nullity"].max()),
        "range_of_the_line": [float(part["at"][0]), float(part["at"][-1])],
        "residual_on_the_line": [float(part["residual"].min()), float(part["residual"].max())],
        "time_constants_median": np.median(constants, axis=0).tolist(),
        "largest_drift_a_step": float(np.max(np.abs(drift))),
        "drift_predicted_to_within": float(gap),
        "response_to_first_channel": float(np.mean(response[:, 0])),
        "response_to_second_channel": float(np.sqrt(np.mean(response[:, 1] ** 2))),
        "selection_off_by_at_most": float(np.max(np.abs(response - selected))),
    }


main = functools.partial(experiment.run, __doc__, Config, compute, draw, claims)

if __name__ == "__main__":
    main()
