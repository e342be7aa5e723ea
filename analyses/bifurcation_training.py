"""Does training jump where it crosses bifurcations, and does clipping singular values prevent it?

A small GRU without biases learns to remember bits (each input bit is to be held until it is set
again), so its autonomous map must grow from one fixed point to many. It is trained with and
without clipping the singular values of the candidate's recurrent weights to 2 - delta (Kanai,
Fujiwara & Iwamura 2017), from equal starts on equal data, without clipping gradients. `rd.track`
follows all fixed points at zero input through the checkpoints and names and places the events.
"""

import dataclasses
import functools
import pathlib
import sys
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.flatten_util import ravel_pytree
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

if not __package__:  # run as a file: let it find the folder it belongs to
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

import rnndyn as rd
from analyses import panels
from rnndyn import experiment, plot

TITLE = "Learning to remember crosses folds, with clipped singular values too"
TITLES = {"free": "free", "clipped": r"singular values $\leq 2-\delta$"}
KINDS = ("fold", "branch_point", "flip", "neimark_sacker")
SHIFTS = 2000  # of the test whether gradients are larger near events


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(experiment.Config):
    hidden_size: int = experiment.setting(6, "n, units", smoke=2, minimum=1)
    bits: int = experiment.setting(2, "bits to remember", smoke=1, minimum=1)
    length: int = experiment.setting(40, "T, steps of a sequence", smoke=8, minimum=2)
    batch: int = experiment.setting(16, "sequences a step of training", smoke=4, minimum=1)
    steps: int = experiment.setting(600, "steps of training", smoke=40, minimum=4)
    checkpoints: int = experiment.setting(25, "K, checkpoints", smoke=3, minimum=2)
    rate: float = experiment.setting(0.03, "step size of Adam", minimum=0.0)
    delta: float = experiment.setting(0.2, "singular values are clipped to 2 - delta", minimum=0.0)
    starts: int = experiment.setting(64, "starts of each search", smoke=16, minimum=1)
    seeds: int = experiment.setting(4, "networks", smoke=1, minimum=1)
    window: int = experiment.setting(5, "steps around an event that count as near", minimum=0)


@dataclasses.dataclass(frozen=True)
class Case:
    """All networks, trained one way."""

    clipped: bool
    config: Config


def compute(config: Config) -> experiment.Result:
    """One part with clipping and one without."""
    cases = {name: Case(name == "clipped", config) for name in TITLES}
    return experiment.parts(config, measure, cases)


def measure(case: Case) -> dict[str, np.ndarray]:
    """Train, then track.

    Returns
    -------
    dict
        "loss", "gradient" (seeds, steps): of the weights of the cell, Euclidean norm; "at" (K,):
        steps of the checkpoints; "count", "stable", "index_sum" (seeds, K): of fixed points;
        "sufficient", "exact" (seeds, K): margins of the origin; and of the events "seed",
        "kind", "place", "change", each (E,).
    """
    config = case.config
    cell = rd.cells.GRU(config.bits, config.hidden_size, "kanai")
    keys = jax.random.split(jax.random.key(config.seed), config.seeds)
    clipped = jnp.asarray(case.clipped)
    loss, gradient, stages = _train(cell, config, keys, clipped)
    at = np.linspace(0, config.steps - 1, config.checkpoints).round().astype(int)
    stages = jax.tree.map(lambda leaf: leaf[:, at], stages)
    found = [
        _track(cell, jax.tree.map(lambda leaf, i=i: leaf[i], stages), config)
        for i in range(config.seeds)
    ]
    margins = jax.vmap(jax.vmap(lambda params: rd.origin_margins(cell, params)))(stages)
    events = [(i, event) for i, track in enumerate(found) for event in track.events]
    return {
        "loss": np.asarray(loss),
        "gradient": np.asarray(gradient),
        "at": at,
        "count": np.stack([np.sum(track.present, axis=1) for track in found]),
        "stable": np.stack([np.sum(track.stable, axis=1) for track in found]),
        "index_sum": np.stack([track.index_sum for track in found]),
        "sufficient": np.asarray(margins.sufficient),
        "exact": np.asarray(margins.exact),
        "seed": np.array([i for i, _ in events], int),
        "kind": np.array([event.kind for _, event in events], "U16"),
        "place": np.array([float(event.place) for _, event in events]),
        "change": np.array([event.change for _, event in events], int),
    }


def _track(cell: rd.cells.Cell, stages: Any, config: Config) -> rd.Track:
    n = config.hidden_size
    starts = jax.random.uniform(jax.random.key(1), (config.starts, n), float, -1.0, 1.0)
    return rd.track(AtRest(cell), stages, jnp.zeros((1, n)), starts=starts)


@rd.specification
class AtRest:
    """The map of the cell at zero input; equal by value, so it compiles once for all networks."""

    cell: rd.cells.Cell

    def __call__(self, params: Any) -> rd.Map:
        return rd.hold(self.cell, params, jnp.zeros(self.cell.input_size))


@functools.partial(jax.jit, static_argnums=(0, 1))
def _train(cell, config, keys, clipped):
    """Losses, gradient norms and params before each step, for all seeds."""
    clip = rd.constraints.ClipSingularValues(delta=config.delta, block=(2, 3))
    optimiser = optax.adam(config.rate)

    def loss(theta, x, y):
        params, read_out = theta
        outputs = jax.vmap(lambda x: rd.simulate(cell, params, x).outputs)(x)
        return jnp.mean((outputs @ read_out.T - y) ** 2)

    def step(carry, key):
        theta, memory = carry
        value, slope = jax.value_and_grad(loss)(theta, *_batch(key, config))
        with jax.numpy_dtype_promotion("standard"):  # optax relies on it
            change, memory = optimiser.update(slope, memory, theta)
        params, read_out = optax.apply_updates(theta, change)
        params = jax.tree.map(lambda a, b: jnp.where(clipped, a, b), clip(params), params)
        return ((params, read_out), memory), (
            value,
            jnp.linalg.norm(ravel_pytree(slope[0])[0]),
            theta[0],
        )

    def run(key):
        key_cell, key_read, key_data = jax.random.split(key, 3)
        read_out = 0.5 * jax.random.normal(key_read, (config.bits, config.hidden_size))
        theta = (cell.init(key_cell), read_out)
        keys = jax.random.split(key_data, config.steps)
        return jax.lax.scan(step, (theta, optimiser.init(theta)), keys)[1]

    return jax.vmap(run)(keys)


def _batch(key: jax.Array, config: Config) -> tuple[jax.Array, jax.Array]:
    """Sparse pulses of +-1, the first at once, and the bits that they set."""
    shape = (config.batch, config.length, config.bits)
    key_when, key_what = jax.random.split(key)
    pulse = jax.random.bernoulli(key_when, 0.1, shape).at[:, 0].set(True)
    sign = jnp.where(jax.random.bernoulli(key_what, 0.5, shape), 1.0, -1.0)
    x = jnp.where(pulse, sign, 0.0)

    def hold(bit, pulse):
        bit = jnp.where(pulse == 0, bit, pulse)
        return bit, bit

    def remembered(x):
        return jax.lax.scan(hold, jnp.zeros(config.bits), x)[1]

    return x, jax.vmap(remembered)(x)


def draw(result: experiment.Result) -> Figure:
    """Loss, gradient norm, numbers of fixed points, margins of the origin; a column each way."""
    with plot.style():
        figure, axes = plot.figure(4, 2, height=6.6, sharex=True, sharey="row")
        shown = {event.kind for name in TITLES for event in _events(result[name], 0)}
        kinds = [kind for kind in KINDS if kind in shown]
        for column, name in zip(axes.T, TITLES, strict=True):
            part = result[name]
            events = SimpleNamespace(events=_events(part, 0))
            for ax, field in zip(column[:2], ("loss", "gradient"), strict=True):
                _curves(ax, part[field])
                ax.set_yscale("log")
            plot.events(column[0], events, steps=part["at"], kinds=kinds, names=name == "clipped")
            column[0].set_title(TITLES[name], pad=6 + 10 * len(kinds))
            for event in events.events:
                at = np.interp(event.place, np.arange(part["at"].size), part["at"])
                for ax in column[1:]:
                    ax.axvline(at, color=plot.COLOURS["grey"], linewidth=0.5, zorder=0)
            _draw_counts(column[2], part)
            _draw_margins(column[3], part)
            column[3].set_xlabel("training step")
        lines = [Line2D([], [], color=color) for color in ("black", plot.COLOURS["green"])]
        axes[2, 1].legend(lines, ["all", "stable"], loc="upper left")
        axes[3, 1].legend(loc="lower left", ncols=2)
        axes[0, 0].set_ylabel("mean squared error")
        axes[1, 0].set_ylabel("gradient norm")
        axes[2, 0].set_ylabel("fixed points")
        axes[3, 0].set_ylabel("margin of the origin")
        panels.finish(figure, axes, title=TITLE)
    return figure


def _events(part: dict[str, np.ndarray], seed: int) -> list[Any]:
    return [
        SimpleNamespace(kind=str(kind), place=place, change=change)
        for i, kind, place, change in zip(
            part["seed"], part["kind"], part["place"], part["change"], strict=True
        )
        if i == seed
    ]


def _curves(ax, values: np.ndarray) -> None:
    """The network whose events are shown, and the others in the background."""
    for other in values[1:]:
        ax.plot(other, color=plot.COLOURS["grey"], linewidth=0.4, alpha=0.6, zorder=1)
    ax.plot(values[0], color="black", linewidth=0.8)


def _draw_counts(ax, part) -> None:
    for values, color in ((part["count"], "black"), (part["stable"], plot.COLOURS["green"])):
        ax.step(part["at"], values[0], where="mid", color=color)
    ax.set_ylim(0, None)
    ax.yaxis.set_major_locator(MaxNLocator(integer=True))


def _draw_margins(ax, part) -> None:
    ax.plot(part["at"], part["sufficient"][0], color=plot.COLOURS["blue"], label="Kanai's")
    ax.plot(part["at"], part["exact"][0], color=plot.COLOURS["orange"], label="exact")
    ax.axhline(0.0, color="black", linewidth=0.6)


def claims(result: experiment.Result) -> dict:
    """Events, whether gradients are larger near them, and what clipping changes."""
    config = result.config
    found: dict = {name: _numbers(result[name], config) for name in TITLES}
    free, clipped = (found[name] for name in ("free", "clipped"))
    level = 0.05 / len(TITLES)  # two tests
    chance = [one["p_of_larger_gradient_near_events"] for one in (free, clipped)]
    verdict = "holds" if all(p < level for p in chance) else "not shown"
    odds = ", ".join(f"{name} p = {p:.2g}" for name, p in zip(TITLES, chance, strict=True))
    both = zip(clipped["roughness_by_network"], free["roughness_by_network"], strict=True)
    calmer = [with_ < without for with_, without in both]
    one_stable = clipped["share_with_one_stable_point"]
    return found | {
        "the gradient norm jumps near bifurcations": f"{verdict} ({odds})",
        "clipping keeps the origin stable": _held(clipped["share_with_stable_origin"]),
        "clipping keeps one stable fixed point": _held(one_stable),
        "clipping makes gradients steadier": f"in {sum(calmer)} of {len(calmer)} networks",
    }


def _numbers(part: dict[str, np.ndarray], config: Config) -> dict[str, Any]:
    excess, usual, p = _near_events(part, config.window, config.seed)
    kinds, counts = np.unique(part["kind"], return_counts=True)
    return {
        "events": dict(zip(kinds.tolist(), counts.tolist(), strict=True)),
        "events_by_network": np.bincount(part["seed"], minlength=config.seeds).tolist(),
        "fixed_points_first_and_last": part["count"][:, [0, -1]].tolist(),
        "share_with_index_sum_1": float(np.mean(part["index_sum"] == 1)),
        "share_with_stable_origin": float(np.mean(part["exact"] > 0)),
        "share_with_one_stable_point": float(np.mean(part["stable"] == 1)),
        "log10_gradient_near_events_over_trend": excess,
        "log10_gradient_near_any_step_over_trend": usual,
        "p_of_larger_gradient_near_events": p,
        "roughness_by_network": [float(np.std(_detrended(run))) for run in part["gradient"]],
        "largest_log10_gradient_over_trend": float(
            max(np.max(_detrended(run)) for run in part["gradient"])
        ),
        "loss_last": np.mean(part["loss"][:, -config.steps // 10 :], axis=1).tolist(),
    }


def _near_events(part: dict[str, np.ndarray], window: int, seed: int) -> tuple[float, ...]:
    """Mean of log10 gradient near events over its trend, what chance gives, and how rarely more.

    The null hypothesis turns the events of each network round by a common random number of steps.
    """
    steps = part["gradient"].shape[1]
    curves = np.stack([_detrended(run) for run in part["gradient"]])
    padded = np.pad(curves, ((0, 0), (window, window)), constant_values=-np.inf)
    near = np.max([padded[:, i : i + steps] for i in range(2 * window + 1)], axis=0)
    at = np.interp(part["place"], np.arange(part["at"].size), part["at"]).round().astype(int)
    if at.size == 0:
        return (float("nan"),) * 3
    observed = float(np.mean(near[part["seed"], at]))
    shifts = np.random.default_rng(seed).integers(steps, size=(SHIFTS, curves.shape[0]))
    null = np.mean(near[part["seed"], (at + shifts[:, part["seed"]]) % steps], axis=1)
    return observed, float(np.mean(null)), float((1 + np.sum(null >= observed)) / (1 + SHIFTS))


def _detrended(run: np.ndarray) -> np.ndarray:
    """log10 over its running median of 51 steps."""
    values = np.log10(run)
    half = min(25, (values.size - 1) // 2)
    padded = np.pad(values, half, mode="reflect")
    return values - np.median(
        np.lib.stride_tricks.sliding_window_view(padded, 2 * half + 1), axis=1
    )


def _held(share: float) -> str:
    return "holds" if share == 1 else f"holds at {100 * share:.0f} % of checkpoints"


main = functools.partial(experiment.run, __doc__, Config, compute, draw, claims)

if __name__ == "__main__":
    main()
