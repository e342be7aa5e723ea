"""Runs evaluated in parallel over time are those made step by step, or say that they are not."""

import re
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rnndyn as rd
from rnndyn import evaluation
from rnndyn.core.once import once
from rnndyn.evaluation import Reason
from tests.tolerances import tol

CELL = rd.cells.Vanilla(3, 4)
STEPS = 16


def setting(cell, gain=0.7, steps=STEPS, strength=1.0):
    params = cell.init(jax.random.key(0), gain=gain)
    return params, strength * jax.random.normal(jax.random.key(1), (steps, cell.input_size))


def both(cell, params, inputs, **options):
    at_once = rd.simulate(cell, params, inputs, parallel=True, **options)
    return at_once, rd.simulate(cell, params, inputs, parallel=False, **options)


def assert_equal(one, other, atol):
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=atol)


def identical(one, other):
    pairs = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    return all(np.array_equal(a, b, equal_nan=True) for a, b in pairs)


@pytest.mark.parametrize("name", rd.cells.CELLS)
def test_every_cell(name):
    """Without Jacobians, or with wrong ones, two states become right a step: 6 steps."""
    cls: Any = rd.cells.CELLS[name]
    cell = cls(3, 4)
    run = once(lambda *given: both(cell, *given))
    at_once, by_step = run(*setting(cell, steps=12))
    assert int(at_once.evaluation.reason) == Reason.PARALLEL
    assert 1 <= int(at_once.evaluation.newton_steps) < 6
    assert_equal(at_once.states, by_step.states, tol("in_parallel"))
    assert_equal(at_once.outputs, by_step.outputs, tol("in_parallel"))
    assert int(at_once.status) == 0


@pytest.mark.precision
def test_the_defect_is_evaluated_again_and_the_error_covers_the_difference():
    cell = rd.cells.GRU(3, 8)
    params, inputs = setting(cell, gain=2.0, steps=200)
    at_once, by_step = both(cell, params, inputs)
    h, found = np.asarray(at_once.states.h), at_once.evaluation
    steps = jax.vmap(cell.step, in_axes=(None, 0, 0))
    images = steps(params, type(at_once.states)(at_once.states.h[:-1]), inputs).h
    defect = np.max(np.abs(h[1:] - images) / (1 + np.max(np.abs(h[1:]), axis=1, keepdims=True)))
    assert int(found.reason) == Reason.PARALLEL
    eps = float(jnp.finfo(h.dtype).eps)
    assert defect <= 64 * eps and float(found.defect) <= 64 * eps
    difference = np.max(np.abs(h - np.asarray(by_step.states.h)))
    assert eps <= float(found.error) <= 1e3 * eps and difference <= 64 * float(found.error)


def test_a_run_that_newtons_method_alone_does_not_find():
    """Nothing saturates here: 40 undamped steps do not suffice, 11 damped ones do."""
    cell = rd.cells.ShallowPLRNN(3, 8)
    params, inputs = setting(cell, gain=1.0, steps=1000, strength=4.0)
    at_once, by_step = both(cell, params, inputs)
    assert int(at_once.evaluation.reason) == Reason.PARALLEL
    assert int(at_once.evaluation.newton_steps) < 20
    scale = float(jnp.max(jnp.abs(by_step.states.h)))
    assert_equal(at_once.states, by_step.states, 64 * scale * float(at_once.evaluation.error))


def test_chaos_is_told_and_run_step_by_step_to_the_last_bit():
    cell = rd.cells.Vanilla(3, 32)
    at_once, by_step = both(cell, *setting(cell, gain=4.0, steps=200))
    assert int(at_once.evaluation.reason) == Reason.MAX_STEPS
    assert identical(at_once.states, by_step.states)
    assert identical(at_once.outputs, by_step.outputs)
    assert int(at_once.status) == 0 and bool(jnp.isnan(at_once.evaluation.error))


def test_a_run_that_newtons_method_finds_but_rounding_loses(monkeypatch):
    """h' = 2 h at h = 0: exact at once, yet any rounding would grow to eps 2^t, over windows."""
    monkeypatch.setattr(evaluation, "BUDGET", 10 * 12 * 8)
    cell = rd.cells.Vanilla(1, 1, activation="identity")
    params = cell.init(jax.random.key(0))
    params = replace(params, w_h=jnp.full_like(params.w_h, 2.0), b=jnp.zeros_like(params.b))
    for steps, reason in ((20, Reason.PARALLEL), (40, Reason.UNPREDICTABLE)):
        found = rd.simulate(cell, params, jnp.zeros((steps, 1)), parallel=True).evaluation
        assert int(found.reason) == reason and float(found.defect) == 0.0
        eps = float(jnp.finfo(params.b.dtype).eps)
        assert eps * 2.0 ** (steps - 8) <= float(found.error) <= eps * 2.0**steps


@pytest.mark.parametrize("cell", [CELL, rd.cells.IndRNN(3, 4)], ids=["dense", "diagonal"])
def test_windows_follow_one_another_and_derivatives_go_through(cell, monkeypatch):
    """First and second derivatives in params, inputs and start, in windows of 6, 6 and 4."""
    bytes_each = 12 * 8 * (4 if cell.diagonal else 16)
    monkeypatch.setattr(evaluation, "BUDGET", 6 * bytes_each)
    assert evaluation.window_of(STEPS, 4, 8, cell.diagonal) == 6
    params, inputs = setting(cell)
    state = type(cell.initial_state(params))(h=jnp.linspace(-0.5, 0.5, 4))
    weights = jax.random.normal(jax.random.key(2), (STEPS, 4))

    def loss(given, parallel):
        params, inputs, state = given
        run = rd.simulate(cell, params, inputs, state, parallel=parallel)
        return jnp.sum(weights * run.outputs), run.evaluation

    @jax.jit
    def slopes(given):
        def one(parallel):
            ask = lambda given: jax.grad(loss, has_aux=True)(given, parallel)  # noqa: E731
            (slope, found), (curvature, _) = jax.jvp(ask, (given,), (given,))
            return found, slope, curvature

        return one(True), one(False)

    (found, *at_once), (_, *by_step) = slopes((params, inputs, state))
    assert int(found.reason) == Reason.PARALLEL
    assert_equal(at_once, by_step, tol("in_parallel"))


def test_a_bad_sequence_leaves_its_neighbours_alone():
    params, inputs = setting(CELL)
    batch = jnp.stack([inputs, inputs.at[5, 1].set(jnp.nan), -inputs])

    @jax.jit
    @jax.vmap
    def run(inputs):
        return rd.simulate(CELL, params, inputs, parallel=True)

    got, clean = run(batch), run(jnp.stack([inputs, inputs, -inputs]))
    assert got.status.tolist() == [0, -3, 0]
    assert got.evaluation.reason.tolist() == [0, Reason.NONFINITE, 0]
    assert got.evaluation.newton_steps.tolist()[1] == 0
    for item in (0, 2):
        pick = lambda run: jax.tree.map(lambda leaf: leaf[item], run.states)  # noqa: E731, B023
        assert identical(pick(got), pick(clean))
    alone = rd.simulate(CELL, params, batch[1], parallel=False)
    assert_equal(got.states.h[1], alone.states.h, tol("in_parallel"))
    assert np.isnan(got.outputs[1, 5:]).all() and np.isfinite(got.outputs[1, :5]).all()


def test_dropout_and_directions():
    cell = rd.cells.stack(rd.cells.Vanilla(3, 4), rd.cells.GRU(4, 5), dropout=0.3)
    at_once, by_step = both(cell, *setting(cell), key=jax.random.key(3))
    assert int(at_once.evaluation.reason) == Reason.PARALLEL
    assert_equal(at_once.states, by_step.states, tol("in_parallel"))
    drawn = [jax.random.key_data(run.keys) for run in (at_once, by_step)]
    assert np.array_equal(drawn[0], drawn[1])
    ways = rd.cells.Bidirectional((CELL,), (CELL,))
    params = ways.init(jax.random.key(0))
    at_once, by_step = both(ways, params, setting(CELL)[1])
    assert int(at_once.backward[0].evaluation.reason) == Reason.PARALLEL
    assert_equal(at_once.outputs, by_step.outputs, tol("in_parallel"))


def test_runs_of_no_and_one_step():
    params, inputs = setting(CELL)
    for steps in (0, 1):
        run = rd.simulate(CELL, params, inputs[:steps], parallel=True)
        assert int(run.evaluation.reason) == Reason.SHORT and run.outputs.shape == (steps, 4)
        assert identical(run.states, rd.simulate(CELL, params, inputs[:steps]).states)


def test_the_choice_is_made_by_device_size_and_exponent(monkeypatch):
    def reason(parallel, steps, size, diagonal, traced=False):
        return evaluation.reason_against(parallel, steps, size, diagonal, traced)

    params, inputs = setting(CELL, steps=256)
    run = rd.simulate(CELL, params, inputs)
    assert int(run.evaluation.reason) == reason(None, 10_000, 8, True) == Reason.DEVICE
    assert run.evaluation.explain() == (
        "step by step: a CPU has too few cores to gain from more flops."
    )
    assert reason(False, 10_000, 8, False) == Reason.ASKED
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert reason(None, 255, 8, False) == Reason.SHORT
    assert reason(None, 256, 129, False) == Reason.SIZE
    assert reason(None, 256, 129, True) is None
    assert reason(None, 256, 8, False, traced=True) == Reason.TRACED
    assert reason(True, 256, 8, False, traced=True) is None
    batch = jax.vmap(lambda inputs: rd.simulate(CELL, params, inputs).evaluation)(inputs[None])
    assert batch.reason.tolist() == [Reason.TRACED]
    found = rd.simulate(CELL, params, inputs).evaluation
    assert int(found.reason) == Reason.PARALLEL and -2.0 < float(found.exponent) < -0.3
    said = r"in parallel over time \(\d Newton steps, defect .*\); leading exponent about -\d"
    assert re.match(said, found.explain())
    grown = rd.cells.Vanilla(3, 4, activation="identity")
    run = rd.simulate(grown, replace(params, w_h=1.5 * jnp.eye(4)), inputs)
    assert float(run.evaluation.exponent) == pytest.approx(np.log(1.5))
    assert int(run.evaluation.reason) == Reason.UNPREDICTABLE
    assert int(run.evaluation.newton_steps) == 0 and bool(jnp.all(run.outputs[-1] != 0))


def test_misuse_says_what_to_do():
    word: Any = "yes"
    with pytest.raises(ValueError, match="`parallel`: expected one of None, True, False, got"):
        rd.simulate(CELL, *setting(CELL), parallel=word)
