"""How often a cell's step is traced: at most 4 times at first, never again for equal shapes.

Nor is anything else, and what an analysis does around its program is no program of its own.
"""

import contextlib
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rnndyn as rd

TRACES = []
TRACE, COMPILE = (
    f"/jax/core/compile/{name}_duration" for name in ("jaxpr_trace", "backend_compile")
)


@rd.specification
class Counting(rd.cells.Cell):
    """A vanilla cell that notes each trace of its step; `tag` gives each test its own cell."""

    input_size: int
    hidden_size: int
    tag: str = ""

    def init(self, key, *, gain=1.0):
        return rd.cells.Vanilla(self.input_size, self.hidden_size).init(key, gain=gain)

    def initial_state(self, params):
        return {"h": jnp.zeros((self.hidden_size,), params.w_h.dtype)}

    def step(self, params, state, x):
        TRACES.append(self.tag)
        return {"h": jnp.tanh(params(x, state["h"]))}

    def output(self, state):
        return state["h"]


def setting(tag, seed):
    """An equal cell each time, with other numbers of equal shapes."""
    cell = Counting(2, 3, tag=tag)
    params = cell.init(jax.random.key(seed), gain=0.8)
    inputs = jax.random.normal(jax.random.key(seed + 100), (12, 2))
    return cell, params, inputs


@contextlib.contextmanager
def watched():
    """The names of the functions that JAX traces and compiles meanwhile."""
    seen = {TRACE: [], COMPILE: []}

    def note(event: str, start_time: float, end_time: float, **about: Any) -> None:
        if event in seen:
            seen[event].append(about.get("fun_name"))

    jax.monitoring.register_event_time_span_listener(note)
    try:
        yield seen
    finally:
        jax.monitoring.unregister_event_time_span_listener(note)


def simulate(cell, params, inputs):
    return rd.simulate(cell, params, inputs)


def linearized(cell, params, inputs):
    states = {"h": jnp.linspace(0.1, 0.3, 13 * 3).reshape(13, 3) + params.b[None]}
    run = rd.Trajectory(states, states["h"][1:], inputs, jnp.int32(0))
    return rd.linearize(cell, params, run, dense=False)


def linearize(cell, params, inputs):
    return linearized(cell, params, inputs).jacobians


def gradient_flow(cell, params, inputs):
    return rd.gradient_flow(linearized(cell, params, inputs))


def singular_spectra(cell, params, inputs):
    return rd.singular_spectra(linearized(cell, params, inputs), lags=(1, 5))


def contributions(cell, params, inputs):
    states = {"h": jnp.linspace(0.1, 0.3, 13 * 3).reshape(13, 3) + params.b[None]}
    run = rd.Trajectory(states, states["h"][1:], inputs, jnp.int32(0))
    return rd.contributions(cell, params, run, last)


def last(outputs):
    return jnp.sum(outputs[-1])


def lyapunov_spectrum(cell, params, inputs):
    return rd.lyapunov_spectrum(linearized(cell, params, inputs))


def fixed_points(cell, params, inputs):
    starts = inputs @ jnp.ones((2, 3)) + params.b[None]
    return rd.fixed_points(rd.hold(cell, params, inputs[0]), starts)


def stability(cell, params, inputs):
    return rd.stability(rd.hold(cell, params, inputs[0]), params.w_h)


def cycles(cell, params, inputs):
    starts = inputs @ jnp.ones((2, 3)) + params.b[None]
    return rd.cycles(rd.hold(cell, params, inputs[0]), starts, period=2)


def bifurcation_proximity(cell, params, inputs):
    params = replace(params, b=0.0 * params.b)
    return rd.bifurcation_proximity(rd.hold(cell, params, 0.0 * inputs[0]), jnp.zeros((1, 3)))


ANALYSES = [
    simulate,
    linearize,
    gradient_flow,
    singular_spectra,
    contributions,
    lyapunov_spectrum,
    fixed_points,
    stability,
    cycles,
    bifurcation_proximity,
]
# gradients and Newton on an extended system trace it more; a search is followed by multipliers
LIMIT = {"bifurcation_proximity": 16, "cycles": 8}


@pytest.mark.parametrize("analysis", ANALYSES, ids=lambda f: f.__name__)
def test_no_retrace_for_new_values_or_an_equal_cell(analysis):
    tag = analysis.__name__
    jax.clear_caches()
    for seed in (0, 1, 2):
        given, before = setting(tag, seed), len(TRACES)
        with watched() as seen:
            jax.block_until_ready(analysis(*given))
        traced = len(TRACES) - before
        limit = LIMIT.get(tag, 4) if seed == 0 else 0
        assert traced <= limit, f"{tag}: {traced} traces at call {seed + 1}"
        assert traced > 0 or seed > 0, f"{tag} never traced the step: the test sees nothing"
        assert seed == 0 or not any(seen.values()), f"{tag}: {seen} at call {seed + 1}"


def sample_states():
    states, key = {"h": jnp.ones((7, 3))}, jax.random.key(0)
    run = rd.Trajectory(states, states["h"][1:], jnp.ones((6, 2)), jnp.int32(0))
    return lambda noise: rd.sample_states(key, run, 4, noise=noise)


def kaplan_yorke():
    return lambda largest: rd.kaplan_yorke(jnp.asarray([largest, 0.1, -0.3, -1.0]))


def exponent_density():
    return lambda variance: rd.mean_field.exponent_density(1.2, variance, k=5)


def critical_line():
    return lambda variance: rd.mean_field.critical_line(variance)


def slope():
    lags, log_norm = np.arange(5), -np.arange(5.0)
    return lambda rate: result(rd.GradientFlow, lags, rate * log_norm, 0 * lags).slope


def effective_rank():
    lags, logs = np.arange(2), -np.arange(6.0).reshape(2, 3)
    return lambda rate: (
        result(rd.SingularSpectra, lags, rate * logs, 0 * logs, 0 * lags).effective_rank
    )


def result(cls, *columns):
    return cls(*jax.device_put(columns))


SMALL = [sample_states, kaplan_yorke, exponent_density, critical_line, slope, effective_rank]


@pytest.mark.parametrize("prepare", SMALL)
def test_one_program_at_first_and_none_again(prepare):
    """Not one for each operation, at 20 to 40 ms each; up to two may move the arguments."""
    jax.clear_caches()
    function = prepare()
    with watched() as seen:
        jax.block_until_ready(function(0.5))
    assert 1 <= len(seen[COMPILE]) <= 3, seen
    with watched() as seen:
        jax.block_until_ready(function(0.7))
    assert not any(seen.values()), seen


def test_distinct_points_compile_nothing_whatever_their_number():
    tables = []
    for count in (12, 7):
        whole = dict.fromkeys(("status", "kind", "steps", "index", "nullity"), np.zeros(count, int))
        real = ("residual", "speed", "sigma_min", "radius", "passage")
        columns = whole | dict.fromkeys(real, np.zeros(count))
        points = np.arange(2.0 * count).reshape(count, 2)
        tables.append(rd.FixedPoints(z=jax.device_put(points), **jax.device_put(columns)))
    with watched() as seen:
        for table in tables:
            points = rd.unique(table)
            assert isinstance(points.z, jax.Array) and len(points.z) == len(table.z)
    assert not any(seen.values()), seen
