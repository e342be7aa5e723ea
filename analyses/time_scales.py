"""Do gradients decay as theory says where a network connects time scales?

Clockwork, Dilated, NARX, TKRNN, SCRNN, SRU (Oliva) and FRU on real input, at gain one, where a
plain tanh network forgets fast: how large the derivative of what each remembers is by lag, with
what theory says of the network at rest drawn over it. Last, measured against expected rates, on
real input and on constant input, where the networks come to rest and theory is exact.
"""

import dataclasses
import functools
import pathlib
import sys
from types import SimpleNamespace

import numpy as np
from matplotlib.figure import Figure

if not __package__:  # run as a file: let it find the folder it belongs to
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

import rnndyn as rd
from analyses import decay, inputs, panels, table
from analyses.decay import Decay
from analyses.measure import Sizes
from rnndyn import experiment, plot

TITLE = "Across time scales gradients decay as theory says (dotted), and slower than without"
QUANTITY = {  # what each remembers, and what is varied
    "clockwork": ("Clockwork", "h", "$T_2={}$"),
    "dilated": ("Dilated", "h", "$d={}$"),
    "narx": ("NARX", "h", "$K={}$"),
    "tkrnn": ("TKRNN", "y", r"$\tau={:g}$"),
    "scrnn": ("SCRNN", "s", r"$\alpha={:g}$"),
    "sru_oliva": ("SRU (Oliva)", r"\mu", r"$\alpha={:g}$"),
    "fru": ("FRU", "u", "$T={}$"),
}
LN10 = np.log(10.0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(Sizes):
    hidden_size: int = experiment.setting(16, "n, units, even", smoke=4, accelerator=32, minimum=2)
    washout: int = experiment.setting(200, "steps before the run", smoke=40)
    seeds: int = experiment.setting(3, "networks", smoke=2, accelerator=8, minimum=1)
    cells: tuple[str, ...] = experiment.setting(
        tuple(QUANTITY), "a panel each", smoke=("dilated", "scrnn", "fru"), choices=tuple(QUANTITY)
    )
    reaches: tuple[int, ...] = experiment.setting(
        (2, 4, 8), "periods, dilations and orders", smoke=(2,), minimum=2
    )
    time_scales: tuple[float, ...] = experiment.setting(
        (4.0, 16.0, 64.0), "longest time constants of TKRNN", smoke=(4.0,), minimum=2.0
    )
    alphas: tuple[float, ...] = experiment.setting(
        (0.5, 0.9, 0.99), "decays of SCRNN and SRU", smoke=(0.9,), minimum=0.0
    )
    gain: float = experiment.setting(1.0, "recurrent gain", minimum=0.0)

    def __post_init__(self):
        if self.hidden_size % 2:
            raise ValueError("argument --hidden-size: expected an even number, Clockwork halves it")
        if max(self.alphas) >= 1.0:
            raise ValueError("argument --alphas: expected numbers below one")


def compute(config: Config) -> experiment.Result:
    """A part for the plain network, and one for each cell and value of what is varied."""
    cases = {"plain": Decay(_cell("vanilla", config), config, config.gain)}
    for name in config.cells:
        for value in _values(name, config):
            cell = _cell(name, config, value)
            cases[_part(name, value)] = Decay(
                cell, config, config.gain, _block(name, config, value)
            )
    bounded = {name: case for name, case in cases.items() if name.startswith("fru ")}
    others = {name: case for name, case in cases.items() if name not in bounded}
    result = experiment.parts(config, decay.measure, others)
    return result | experiment.parts(config, decay.measure_bounded, bounded)


def draw(result: experiment.Result) -> Figure:
    """A panel for each cell; in the last, measured rates over expected ones."""
    config = result.config
    with plot.style():
        rows = -(-(len(config.cells) + 1) // 4)
        figure, axes = plot.figure(rows, 4, height=2.1 * rows + 0.3)
        for ax, name in zip(axes.flat, config.cells, strict=False):
            (_draw_bounded if name == "fru" else _draw_decay)(ax, result, name)
            title, remembered, _ = QUANTITY[name]
            ax.set_title(title)
            ax.set_xlabel("lag $T-t$ (steps)")
            ratio = rf"\partial {remembered}_T/\partial {remembered}_t"
            bounded = rf"$\log_{{10}}\,\sigma({ratio})$"
            ax.set_ylabel(bounded if name == "fru" else rf"$\log_{{10}}\|{ratio}\|$")
        _draw_rates(axes.flat[len(config.cells)], result)
        for ax in axes.flat[len(config.cells) + 1 :]:
            ax.set_axis_off()
        figure.suptitle(TITLE)
    return figure


def claims(result: experiment.Result) -> dict:
    """Rates per step, measured and expected, and what they say of each claim."""
    config = result.config
    found: dict = {"plain": _rates(result["plain"])}
    for name in config.cells:
        for value in _values(name, config):
            part = result[_part(name, value)]
            found[_part(name, value)] = _ranges(part) if name == "fru" else _rates(part)
    errors = [
        abs(one["at_rest"] / one["expected"] - 1) for one in found.values() if "expected" in one
    ]
    found["largest relative error of theory at rest"] = max(errors)
    for name, verdict in _VERDICTS.items():
        if name in config.cells:
            found[verdict.__doc__] = verdict(result, found)
    return found


def _rates(part: dict) -> dict:
    return {
        "on_input": float(np.median(part["rate"])),
        "at_rest": float(np.median(part["rest_rate"])),
        "expected": float(np.median(part["expected"])),
    }


def _ranges(part: dict) -> dict:
    """At the last lag the extreme singular values of all runs, log10, and the tightest bounds."""
    return {
        "log10_largest": float(np.max(part["log_norm"][..., -1]) / LN10),
        "log10_smallest": float(np.min(part["log_smallest"][..., -1]) / LN10),
        "log10_bounds": np.median(part["bounds"][..., -1], axis=(0, 1)) / LN10,
    }


def _slower(name: str, result: experiment.Result, found: dict) -> str:
    rates = [found[_part(name, value)]["on_input"] for value in _values(name, result.config)]
    rising = np.all(np.diff([found["plain"]["on_input"], *rates]) > 0)
    return "holds" if rising else "does not hold"


def _clockwork(result, found) -> str:
    """Clockwork: the longer the period, the slower the decay"""
    return _slower("clockwork", result, found)


def _dilated(result, found) -> str:
    """Dilated: the longer the dilation, the slower the decay"""
    return _slower("dilated", result, found)


def _narx(result, found) -> str:
    """NARX: the higher the order, the slower the decay, at a price"""
    weights = result.config.hidden_size**2
    cost = ", ".join(f"{weights * order}" for order in _values("narx", result.config))
    return f"{_slower('narx', result, found)}, with {cost} recurrent weights in place of {weights}"


def _tkrnn(result, found) -> str:
    """TKRNN: the longer the time constants, the slower the decay"""
    return _slower("tkrnn", result, found)


def _scrnn(result, found) -> str:
    """SCRNN: the context decays at alpha alone, like a carousel without gates"""
    errors = []
    for alpha in result.config.alphas:
        part = result[_part("scrnn", alpha)]
        errors.append(np.max(np.abs(part["log_norm"] / (part["lags"] * np.log(alpha)) - 1)))
    return "holds" if max(errors) < 1e-4 else "does not hold"


def _sru(result, found) -> str:
    """SRU: each average decays at its own alpha"""
    until = {
        f"{a:g}": _own_rate_until(result[_part("sru_oliva", a)], a) for a in result.config.alphas
    }
    if all(lag == result["plain"]["lags"][-1] for lag in until.values()):
        return "holds"
    said = ", ".join(f"{lag} steps for alpha = {alpha}" for alpha, lag in until.items())
    return f"holds until feedback through W_r takes over: {said}"


def _own_rate_until(part: dict, alpha: float) -> int:
    """The longest lag up to which the norm stays within a factor 2 of alpha^lag; 0 if none does."""
    away = np.abs(np.median(part["log_norm"], axis=(0, 1)) - part["lags"] * np.log(alpha))
    within = np.cumprod(away < np.log(2.0)).astype(bool)
    return int(np.max(part["lags"][within], initial=0))


def _fru(result, found) -> str:
    """FRU: gradients are bounded above and below whatever the number of steps"""
    held = []
    for value in _values("fru", result.config):
        part = result[_part("fru", value)]
        slack = 1e-6
        held.append(np.all(part["log_norm"] <= part["bounds"][..., 1, :] + slack))
        held.append(np.all(part["log_smallest"] >= part["bounds"][..., 0, :] - slack))
    return "holds" if all(held) else "does not hold"


_VERDICTS = {
    "clockwork": _clockwork,
    "dilated": _dilated,
    "narx": _narx,
    "tkrnn": _tkrnn,
    "scrnn": _scrnn,
    "sru_oliva": _sru,
    "fru": _fru,
}


def _draw_decay(ax, result, name) -> None:
    """Measured, and from lag 0 the slope that is expected; vermillion the plain network."""
    config = result.config
    values = _values(name, config)
    panels.flow(ax, {"plain": result["plain"]}, [plot.COLOURS["vermillion"]], slopes=False)
    for value, color in zip(values, plot.shades(len(values)), strict=True):
        part = result[_part(name, value)]
        label = QUANTITY[name][2].format(value)
        panels.flow(ax, {label: part}, [color], slopes=False)
        rate = np.log(value) if name == "sru_oliva" else np.median(part["expected"])
        plot.slope(ax, float(rate), (0, config.steps), color=color, linewidth=1.6)
    ax.set_ylim(-30.0, 13.0)
    ax.set_yticks([-30, -20, -10, 0])
    _legend(ax)


def _draw_bounded(ax, result, name) -> None:
    """Largest and smallest singular value of each total time, and the bounds on both."""
    values = _values(name, result.config)
    for value, color in zip(values, plot.shades(len(values)), strict=True):
        part = result[_part(name, value)]
        for field, label in (("log_norm", QUANTITY[name][2].format(value)), ("log_smallest", None)):
            shown = SimpleNamespace(lags=part["lags"], log_norm=part[field])
            plot.gradient_flow(ax, shown, label=label, color=color)
        bounds = np.median(part["bounds"], axis=(0, 1)) / LN10
        for bound in bounds:
            ax.plot(part["lags"], bound, ":", color=color, linewidth=1.6)
    ax.set_ylim(-0.45, 0.72)
    _legend(ax)


def _legend(ax) -> None:
    """In two columns, above what is drawn."""
    legend = ax.legend(loc="upper left", ncol=2, columnspacing=0.7, handlelength=0.9)
    legend.set_in_layout(False)


def _draw_rates(ax, result) -> None:
    """Rates at rest, where theory is exact, and on real input."""
    parts = [part for part in result.parts.values() if "expected" in part]
    expected = [-np.median(part["expected"]) for part in parts]
    for field, label, face in (
        ("rest_rate", "at rest", "black"),
        ("rate", "on real input", "none"),
    ):
        measured = [-np.median(part[field]) for part in parts]
        ax.plot(expected, measured, "o", color="black", markerfacecolor=face, label=label)
    ends = [min(expected), max(expected)]
    ax.plot(ends, ends, ":", color="black", zorder=0)
    ax.set(xscale="log", yscale="log", title="decay per step")
    ax.set_xlabel("expected at rest")
    ax.set_ylabel("measured")
    ax.legend(loc="lower right", handlelength=0.9)


def _values(name: str, config: Config) -> tuple:
    """What is varied of that cell."""
    if name == "fru":
        return tuple(config.steps // share for share in (4, 2, 1))
    if name in ("scrnn", "sru_oliva"):
        return config.alphas
    return config.time_scales if name == "tkrnn" else config.reaches


def _cell(name: str, config: Config, value=None) -> rd.cells.Cell:
    options = {
        "clockwork": {"modules": 2, "periods": (1, value)},
        "dilated": {"dilation": value},
        "narx": {"order": value},
        "tkrnn": {"time_scale": value},
        "scrnn": {"alpha": value},
        "sru_oliva": {"alphas": (0.0, *config.alphas)},
        "fru": {"total_steps": value},
    }
    sizes = (inputs.size(config.input), config.hidden_size)
    return table.build(name, *sizes, **options.get(name, {}))


def _block(name: str, config: Config, value) -> tuple[int, ...] | None:
    """Where it remembers: the context of SCRNN, the averages of one scale of SRU, elsewhere h."""
    n = config.hidden_size
    if name == "scrnn":
        return tuple(range(n, n + _cell(name, config, value).contexts))
    if name == "sru_oliva":
        first = (1 + config.alphas.index(value)) * n
        return tuple(range(first, first + n))
    return None


def _part(name: str, value) -> str:
    return f"{name} {value:g}"


main = functools.partial(experiment.run, __doc__, Config, compute, draw, claims)

if __name__ == "__main__":
    main()
