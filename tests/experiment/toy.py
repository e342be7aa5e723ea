"""Does the toy run?

A script without any numbers of interest, in the form that every script has.
"""

import dataclasses
import functools

import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from rnndyn import experiment


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(experiment.Config):
    cells: tuple[str, ...] = experiment.setting(
        ("lstm", "gru", "vanilla"), "which cells", choices=("lstm", "gru", "vanilla")
    )
    gain: float = experiment.setting(1.5, "100 % recurrent gain", minimum=0.0)
    size: int = experiment.setting(4, "units", smoke=2, accelerator=64, minimum=1)
    centred: bool = experiment.setting(True, "remove the mean")

    def __post_init__(self):
        if self.size > 100:
            raise ValueError("argument --size: expected at most 100")


@dataclasses.dataclass(frozen=True)
class Case:
    cell: str
    gain: float
    size: int


calls: list[str] = []
failures: dict[str, type[BaseException]] = {}


def measure(case):
    calls.append(case.cell)
    if case.cell in failures:
        raise failures[case.cell]
    return {
        "norm": case.gain * jnp.arange(case.size, dtype=float),
        "count": np.array(len(case.cell)),
    }


def compute(config):
    cases = {name: Case(name, config.gain, config.size) for name in config.cells}
    return experiment.parts(config, measure, cases)


def draw(result):
    figure = Figure(figsize=(2, 2))
    figure.subplots().plot(result[result.config.cells[0]]["norm"])
    return figure


def claims(result):
    largest = max(float(part["norm"].max()) for part in result.parts.values())
    return {"largest": largest, "verdict": "holds" if largest > 1 else "does not hold"}


main = functools.partial(experiment.run, __doc__, Config, compute, draw, claims)
