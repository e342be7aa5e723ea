"""Along which paths does a gradient reach the past, and do gradients of neighbours agree?

LSTM, GRU and residual network on real input: the norm of dz_T/dz_t by lag, of the carry alone, and
of all paths that pass the recurrent weights. NARX: the paths of each delay alone, and those that
mix delays. Then how many recurrences a path takes on average, for each mechanism; and whether the
gradient with respect to the first input survives a small change of that input, or shatters.
"""

import dataclasses
import functools
import math
import pathlib
import sys

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

if not __package__:  # run as a file: let it find the folder it belongs to
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

import rnndyn as rd
from analyses import inputs
from analyses.measure import Sizes, draws, flow_lags, washed_run
from rnndyn import experiment, plot
from rnndyn.cells.initializers import Constant, Gaussian
from rnndyn.flow import brown_autocorrelation

TITLE = "Beyond ten steps or so, gradients of gated cells pass the weights, not the carry alone"
CARRIED = {"lstm": "LSTM, $\\partial c_T/\\partial c_t$", "gru": "GRU", "residual": "residual"}
LENGTHS = {
    "vanilla": "plain",
    "lstm": "LSTM",
    "gru": "GRU",
    "residual": "residual",
    "narx": "NARX",
    "dilated": "dilated",
    "clockwork": "clockwork",
}
SHATTERED = {
    "shallow": "ReLU, 1 step",
    "deep": "ReLU, {steps} steps",
    "residual": "residual, {steps} steps",
    "lstm": "LSTM, {steps} steps",
}
POINTS = 128  # on the line of inputs along which gradients are compared


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(Sizes):
    hidden_size: int = experiment.setting(12, "n, units", smoke=8, accelerator=64, minimum=4)
    steps: int = experiment.setting(120, "T, steps of a run", smoke=16, accelerator=500, minimum=8)
    seeds: int = experiment.setting(3, "networks", smoke=2, accelerator=8, minimum=1)
    sequences: int = experiment.setting(2, "sequences a network", smoke=1, accelerator=4, minimum=1)
    cells: tuple[str, ...] = experiment.setting(
        tuple(LENGTHS), "mechanisms", smoke=("gru", "narx"), choices=tuple(LENGTHS)
    )
    lines: tuple[str, ...] = experiment.setting(
        tuple(SHATTERED), "networks to shatter", smoke=("deep",), choices=tuple(SHATTERED)
    )
    gain: float = experiment.setting(1.0, "recurrent gain", minimum=0.0)
    gate_bias: float = experiment.setting(2.0, "bias of the keeping gate")
    order: int = experiment.setting(4, "order of NARX, dilation", smoke=2, minimum=1)
    depth: int = experiment.setting(24, "steps that may shatter gradients", smoke=8, minimum=2)


def compute(config: Config) -> experiment.Result:
    """One part a cell for the paths, one a network for the shattering."""
    cases = {f"paths {name}": (name, config) for name in config.cells}
    result = experiment.parts(config, _measure_paths, cases)
    lines = {f"line {name}": (name, config) for name in config.lines}
    return result | experiment.parts(config, _measure_line, lines)


def _measure_paths(case) -> dict[str, np.ndarray]:
    """Leading axes (seeds, sequences): "log_norm" (L,), "log_parts" (P, L), "path_length" (L,)."""
    name, config = case
    lags = flow_lags(config.steps)
    if name == "narx":  # at multiples of every delay, each has paths of its own
        meeting = math.lcm(*range(1, config.order + 1))
        lags = (1, *range(max(meeting, 2), config.steps + 1, max(meeting, 2)))
    by = "delay" if name == "narx" else "carry"
    found = _paths(_cell(name, config), *draws(config), config.gain, config.washout, lags, by, name)
    return {"lags": np.array(lags), **{key: np.asarray(value) for key, value in found.items()}}


@functools.partial(jax.jit, static_argnums=(0, 3, 4, 5, 6, 7))
def _paths(cell, keys, driven, gain, washout, lags, by, name):
    def one(key, x):
        params = cell.init(key, gain=gain)
        run = washed_run(cell, params, x, washout)
        if name == "vanilla":  # every path takes every step through the weights
            flow = rd.gradient_flow(rd.linearize(cell, params, run), lags=lags)
            length = jnp.asarray(lags, flow.log_norm.dtype)
            return {"log_norm": flow.log_norm, "path_length": length, "status": flow.status}
        block = {"lstm": "c", "dilated": "hidden", "narx": None}.get(name, "state")
        paths = rd.pathways(cell, params, run, by=by, lags=lags, block=block)
        names = ("log_norm", "log_parts", "path_length", "status")
        return {field: getattr(paths, field) for field in names}

    return jax.vmap(jax.vmap(one, in_axes=(None, 0)), in_axes=(0, None))(keys, driven)


def _measure_line(case) -> dict[str, np.ndarray]:
    """Autocorrelation over distance of the gradient of an output by the first input, by seed."""
    name, config = case
    steps = 1 if name == "shallow" else config.depth
    keys = jax.random.split(jax.random.key(config.seed), 8 * config.seeds)
    gain = 0.5 if name == "residual" else 2**0.5
    found = _line(_rectifier(name, config), keys, steps, gain)
    return {"autocorrelation": np.asarray(found.autocorrelation), "lags": np.asarray(found.lags[0])}


@functools.partial(jax.jit, static_argnums=(0, 2, 3))
def _line(cell, keys, steps, gain):
    line = jnp.linspace(-2.0, 2.0, POINTS)[:, None]

    def one(key):
        params, readout = cell.init(key, gain=gain), jax.random.normal(key, (cell.hidden_size,))
        params = dataclasses.replace(params, b=params.b + jax.random.normal(key, params.b.shape))

        def last(x):
            driven = jnp.concatenate([x[None], jnp.zeros((steps - 1, 1))])
            return readout @ rd.simulate(cell, params, driven).outputs[-1]

        return rd.shattering(last, line)

    return jax.vmap(one)(keys)


def draw(result: experiment.Result) -> Figure:
    """Above: carry and the rest; below: delays, path lengths, shattering."""
    config = result.config
    with plot.style():
        figure, axes = plot.figure(2, 3, height=4.4)
        for ax, name in zip(axes[0], CARRIED, strict=True):
            ax.set_visible(name in config.cells)
            if name not in config.cells:
                continue
            _draw_paths(ax, result[f"paths {name}"], ("carry alone", "through weights"))
            ax.set_title(CARRIED[name])
        _draw_delays(axes[1, 0], result)
        _draw_lengths(axes[1, 1], result)
        _draw_lines(axes[1, 2], result)
        for index, ax in enumerate(ax for ax in axes[0] if ax.get_visible()):
            ax.set_ylabel("" if index else r"$\log_{10}$ norm")
            if index == 0:
                ax.legend(loc="lower left")
        plot.label_panels(axes.flat)
        figure.suptitle(TITLE)
    return figure


def _draw_paths(ax, part, names) -> None:
    fields = {key: part[key] for key in ("lags", "log_norm", "log_parts")}
    colors = plot.PATH_COLOURS if len(names) == 2 else (*plot.shades(len(names) - 1), "grey")
    plot.pathways(ax, _Fields(**fields, names=names), colors=colors)
    ax.axhline(0.0, color="black", linewidth=0.6, zorder=0)
    low = np.median(part["log_norm"][..., -1]) / np.log(10.0)
    ax.set_ylim(min(low * 2, -2.0) - 1.0, 1.5)


def _draw_delays(ax, result) -> None:
    """NARX: each delay alone, and the mixture; the legend above the lines."""
    ax.set_visible("narx" in result.config.cells)
    if "narx" not in result.config.cells:
        return
    delays = tuple(f"delay {k} alone" for k in range(1, result.config.order + 1))
    _draw_paths(ax, result["paths narx"], (*delays, "mixed"))
    ax.set_title(f"NARX, order {result.config.order}")
    low = ax.get_ylim()[0]
    ax.set_yticks([tick for tick in ax.get_yticks() if tick <= 0.0])
    ax.set_ylim(low, -0.7 * low)
    ax.legend(loc="upper right", ncols=2)


class _Fields:
    def __init__(self, **fields):
        self.__dict__.update(fields)


def _draw_lengths(ax, result) -> None:
    """Recurrences a path against the lag."""
    colors = dict(zip(LENGTHS, ("black", *list(plot.COLOURS.values())[:6]), strict=True))
    for name in result.config.cells:
        color = colors[name]
        part = result[f"paths {name}"]
        lags, length = _lengths(part)
        ax.plot(lags, length, color=color, label=LENGTHS[name])
    ax.set_xlabel("lag $T-t$ (steps)")
    ax.set_ylabel("recurrences a path")
    ax.set_title("effective path length")
    ax.set_ylim(top=1.5 * ax.get_ylim()[1])
    ax.legend(loc="upper left", ncols=2)


def _draw_lines(ax, result) -> None:
    """Autocorrelation of gradients against the distance of the inputs; brown noise dotted."""
    spacing = 4.0 / (POINTS - 1)
    colors = [plot.COLOURS[key] for key in ("sky", "vermillion", "blue", "green")]
    for name, color in zip(SHATTERED, colors, strict=True):
        if name not in result.config.lines:
            continue
        part = result[f"line {name}"]
        mean = np.nanmean(part["autocorrelation"], axis=0)
        label = SHATTERED[name].format(steps=result.config.depth)
        ax.plot(part["lags"] * spacing, mean, color=color, label=label)
    brown = brown_autocorrelation(POINTS, part["lags"].tolist())
    ax.plot(part["lags"] * spacing, brown, ":", color="black", label="brown noise")
    ax.axhline(0.0, color="black", linewidth=0.6, zorder=0)
    ax.set_xlabel("distance of inputs")
    ax.set_ylabel("autocorrelation")
    ax.set_title("gradients along a line")
    ax.set_ylim(top=2.0)
    ax.legend(loc="upper right")


def claims(result: experiment.Result) -> dict:
    """Shares of the carry, lengths of paths, and how fast gradients lose their neighbours."""
    config = result.config
    found: dict = {}
    for name in (name for name in CARRIED if name in config.cells):
        part = result[f"paths {name}"]
        ratio = (part["log_parts"] - part["log_norm"][..., None, :]) / np.log(10.0)
        carry, rest = np.median(ratio[..., -1], axis=(0, 1))
        found[f"{name}: log10 of carry, of the rest, over the whole at the last lag"] = [
            carry,
            rest,
        ]
        found[f"{name}: lag from which the rest outweighs the carry"] = _overtaken(part)
    gated = [name for name in ("lstm", "gru") if name in config.cells]
    alone = [name for name in gated if _overtaken(result[f"paths {name}"]) is None]
    found["gates carry long gradients around the weights"] = (
        f"holds for {', '.join(alone)}" if alone else "holds only over short lags"
    )
    lengths = {}
    for name in config.cells:
        lags, length = _lengths(result[f"paths {name}"])
        lengths[name] = float(length[-1] / lags[-1])
    found["recurrences a step at the last lag"] = lengths
    across = [name for name in ("narx", "dilated", "clockwork") if name in lengths]
    holds = all(lengths[name] < 1 for name in across)
    found["connections across time scales shorten paths"] = "holds" if holds else "does not hold"
    near = {name: _neighbour(result[f"line {name}"]) for name in config.lines}
    found["autocorrelation of gradients at distance 1/4"] = near
    (brown,) = brown_autocorrelation(POINTS, (POINTS // 16,))
    near["brown noise"] = float(brown)
    if {"residual", "deep"} <= near.keys():  # nearer to brown noise than to the deep plain one?
        kept = near["residual"] > (near["deep"] + brown) / 2
        said = "holds" if kept else "does not hold"
        found["residual connections keep gradients from shattering"] = said
    return found


def _lengths(part) -> tuple[np.ndarray, np.ndarray]:
    """The lags at which there is a path, and its median number of recurrences."""
    length = part["path_length"].reshape(-1, len(part["lags"]))
    there = np.all(np.isfinite(length), axis=0)
    return part["lags"][there], np.median(length[:, there], axis=0)


def _overtaken(part) -> int | None:
    """The first lag at which the paths through the weights outweigh the carry."""
    carry, rest = np.median(part["log_parts"], axis=(0, 1))
    later = np.flatnonzero(rest > carry)
    return int(part["lags"][later[0]]) if later.size else None


def _neighbour(part) -> float:
    return float(np.nanmean(part["autocorrelation"][:, POINTS // 16]))


def _cell(name: str, config: Config) -> rd.cells.Cell:
    sizes = (inputs.size(config.input), config.hidden_size)
    weights = {"input_weights": Gaussian(1.0), "recurrent_weights": Gaussian()}
    zero = Constant(0.0)
    plain = rd.cells.Vanilla(*sizes, bias=zero, **weights)
    if name == "lstm":
        return rd.cells.LSTM(*sizes, forget_bias=config.gate_bias, bias=zero, **weights)
    if name == "narx":
        return rd.cells.NARX(*sizes, order=config.order, bias=zero, **weights)
    if name == "dilated":
        return rd.cells.dilate(plain, config.order)
    if name == "vanilla":
        return plain
    return rd.cells.CELLS[name](*sizes, bias=zero, **weights)


def _rectifier(name: str, config: Config) -> rd.cells.Cell:
    """A network that reads one number and then runs on by itself."""
    sizes = {"input_size": 1, "hidden_size": 4 * config.hidden_size}
    weights = {"input_weights": Gaussian(1.0), "recurrent_weights": Gaussian()}
    if name == "residual":
        return rd.cells.RIN(**sizes, input_weights=Gaussian(1.0), recurrent_weights=Gaussian())
    if name == "lstm":
        return rd.cells.LSTM(**sizes, forget_bias=config.gate_bias, bias=Constant(0.0), **weights)
    return rd.cells.Vanilla(**sizes, activation="relu", bias=Constant(0.0), **weights)


main = functools.partial(experiment.run, __doc__, Config, compute, draw, claims)

if __name__ == "__main__":
    main()
