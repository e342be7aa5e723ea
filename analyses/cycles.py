"""Which cycles does a ReLU network have, of which its orbits show only the stable ones?

Two units of a piecewise-linear network, z' = A z + g W relu(z) + h, over the gain g of their
coupling. For each gain: where orbits end up, and every cycle up to a period, stable or not, found
with proof that there is no other in the box.
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
from rnndyn import experiment, plot
from rnndyn.cells.plrnn import PLRNNParams

TITLE = "Orbits of a ReLU network show its stable cycles only; all the others are listed too"
CELL = rd.cells.PLRNN(input_size=1, hidden_size=2)
DECAY, DRIVE = 0.3, 1.0
COUPLING = ((-2.0, 1.5), (-1.5, -2.0))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(experiment.Config):
    lowest: float = experiment.setting(0.3, "smallest gain", minimum=0.0)
    highest: float = experiment.setting(1.4, "largest gain", minimum=0.0)
    gains: int = experiment.setting(133, "number of gains", smoke=4, minimum=2)
    max_period: int = experiment.setting(8, "longest cycles", smoke=3, minimum=1)
    box: float = experiment.setting(8.0, "cycles are looked for with |z_i| up to this", minimum=0.1)
    starts: int = experiment.setting(24, "orbits for each gain", minimum=1)
    washout: int = experiment.setting(500, "steps before an orbit is drawn", smoke=50, minimum=0)
    shown: int = experiment.setting(20, "points of each orbit that are drawn", minimum=1)

    def __post_init__(self):
        if self.lowest >= self.highest:
            raise ValueError("argument --lowest: expected less than --highest")


@dataclasses.dataclass(frozen=True)
class Case:
    """One gain."""

    gain: float
    config: Config


def compute(config: Config) -> experiment.Result:
    """One part for each gain."""
    gains = np.linspace(config.lowest, config.highest, config.gains)
    cases = {f"g={gain:.6g}": Case(float(gain), config) for gain in gains}
    return experiment.parts(config, measure, cases)


def measure(case: Case) -> dict[str, np.ndarray]:
    """The ends of orbits, and every cycle with its stability and its index under iterates."""
    config = case.config
    weights = jnp.asarray(COUPLING, float)
    params = PLRNNParams(
        w_x=jnp.zeros((2, 1)), a=jnp.full(2, DECAY), w=case.gain * weights, b=jnp.full(2, DRIVE)
    )
    map_ = rd.hold(CELL, params, jnp.zeros(1))
    key = jax.random.key(config.seed)
    starts = jax.random.uniform(key, (config.starts, 2), float, -1.0, 1.0)
    orbits = jax.vmap(lambda z: rd.orbit(map_, z, config.washout + config.shown))(starts)
    edge = [config.box] * 2
    found = rd.piecewise_linear(map_, config.max_period, box=([-x for x in edge], edge))
    listed = list(found.cycles.values())
    return {
        "gain": np.array(case.gain),
        "orbits": np.asarray(orbits[:, -config.shown :, 0]).ravel(),
        "points": np.concatenate([one.points[:, :, 0].ravel() for one in listed]),
        "stable_point": np.concatenate(
            [np.repeat(one.stable, k) for k, one in found.cycles.items()]
        ),
        "counts": np.array(found.counts),
        "stable_counts": np.array([np.sum(one.stable) for one in listed]),
        "index_sums": np.array([_index_sum(found.cycles, k) for k in found.cycles]),
        "complete": np.array(found.complete),
    }


def _index_sum(cycles: dict[int, rd.ExactCycles], k: int) -> int:
    """The sum of sign det(I - DF^k) over all points with F^k(z) = z."""
    total = 0.0
    for period, one in cycles.items():
        if k % period == 0:
            factors = 1 - one.multipliers ** (k // period)
            total += period * np.sum(np.sign(np.prod(factors, axis=1).real))
    return int(total)


def draw(result: experiment.Result) -> Figure:
    """Orbits and cycles over the gain, and how many cycles there are."""
    config, parts = result.config, list(result.parts.values())
    with plot.style():
        figure, axes = plot.figure(
            2, 1, height=4.6, sharex=True, gridspec_kw={"height_ratios": (3, 2)}
        )
        above, below = axes[:, 0]
        _draw_states(above, parts)
        gains = [float(part["gain"]) for part in parts]
        all_ = [int(np.sum(part["counts"])) for part in parts]
        stable = [int(np.sum(part["stable_counts"])) for part in parts]
        label = f"all cycles of period 1 to {config.max_period}"
        below.step(gains, all_, where="mid", color=plot.COLOURS["vermillion"], label=label)
        below.step(
            gains, stable, where="mid", color=plot.COLOURS["blue"], label="stable", linestyle="--"
        )
        below.set_xlabel("gain $g$ of the coupling")
        below.set_ylabel("number of cycles")
        below.set_ylim(-1, 1.15 * max(all_) + 1)
        below.legend(loc="upper left")
        plot.label_panels(axes[:, 0])
        figure.suptitle(TITLE)
    return figure


def _draw_states(ax, parts) -> None:
    gains, values = _points(parts, "orbits")
    bounded = np.abs(values) < 10
    style = {"color": plot.COLOURS["grey"], "markersize": 0.9, "label": "where orbits end up"}
    ax.plot(gains[bounded], values[bounded], ".", **style)
    gains, values = _points(parts, "points")
    stable = np.concatenate([part["stable_point"] for part in parts])
    for chosen, shade, size, label in (
        (~stable, "vermillion", 0.8, "points of unstable cycles"),
        (stable, "blue", 2.2, "points of stable cycles"),
    ):
        color = plot.COLOURS[shade]
        ax.plot(gains[chosen], values[chosen], ".", color=color, markersize=size, label=label)
    ax.set_ylabel("state $z_1$")
    ax.legend(loc="lower left", markerscale=4)


def _points(parts, name: str) -> tuple[np.ndarray, np.ndarray]:
    """The gains and the values of all parts together."""
    gains = [np.full(part[name].size, part["gain"]) for part in parts]
    return np.concatenate(gains), np.concatenate([part[name] for part in parts])


def claims(result: experiment.Result) -> dict:
    """Completeness, numbers, and whether the index sums are what a bounded map must have."""
    parts = list(result.parts.values())
    totals = np.array([np.sum(part["counts"]) for part in parts])
    stable = np.array([np.sum(part["stable_counts"]) for part in parts])
    sums = np.array([part["index_sums"] for part in parts])
    return {
        "gains where all cycles are proved": int(sum(bool(part["complete"]) for part in parts)),
        "gains": len(parts),
        "cycles at the smallest and largest gain": [int(totals[0]), int(totals[-1])],
        "most stable cycles at one gain": int(np.max(stable)),
        "gains without a stable cycle": int(np.sum(stable == 0)),
        "counts by period at the largest gain": parts[-1]["counts"].tolist(),
        "share of index sums that are 1": float(np.mean(sums == 1)),
    }


main = functools.partial(experiment.run, __doc__, Config, compute, draw, claims)

if __name__ == "__main__":
    main()
