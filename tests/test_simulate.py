"""simulate and sample_states."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rnndyn as rd
from tests.tolerances import tol

CELL = rd.cells.Vanilla(3, 5)
STEPS = 6


@pytest.fixture(scope="module")
def params():
    return CELL.init(jax.random.key(0), gain=2.0)


@pytest.fixture(scope="module")
def inputs():
    return jax.random.normal(jax.random.key(1), (STEPS, 3))


@pytest.mark.precision
def test_a_run_is_the_loop(params, inputs):
    run = rd.simulate(CELL, params, inputs)
    w_x, w_h, b, h = *(np.asarray(leaf) for leaf in jax.tree.leaves(params)), np.zeros(5)
    assert np.array_equal(run.states.h[0], h)
    for t, x in enumerate(np.asarray(inputs)):
        h = np.tanh(w_x @ x + w_h @ h + b)
        np.testing.assert_allclose(run.states.h[t + 1], h, rtol=0, atol=tol("step"))
        np.testing.assert_allclose(run.outputs[t], h, rtol=0, atol=tol("step"))
    assert run.outputs.dtype == inputs.dtype and int(run.status) == 0


def test_a_run_continues_from_a_state(params, inputs):
    whole = rd.simulate(CELL, params, inputs)
    middle = jax.tree.map(lambda leaf: leaf[2], whole.states)
    rest = rd.simulate(CELL, params, inputs[2:], middle)
    assert np.array_equal(rest.outputs, whole.outputs[2:])


def test_empty_and_single_step_runs(params, inputs):
    empty = rd.simulate(CELL, params, inputs[:0])
    assert empty.states.h.shape == (1, 5) and empty.outputs.shape == (0, 5)
    assert int(empty.status) == 0
    assert rd.simulate(CELL, params, inputs[:1]).outputs.shape == (1, 5)


def test_a_bad_sequence_has_its_status_and_leaves_its_neighbours_alone(params, inputs):
    batch = jnp.stack([inputs, inputs.at[2, 1].set(jnp.nan), inputs.at[3, 0].set(jnp.inf), -inputs])
    run = jax.vmap(lambda one: rd.simulate(CELL, params, one))
    got, clean = run(batch), run(jnp.stack([inputs, inputs, inputs, -inputs]))
    assert got.status.tolist() == [0, -3, 0, 0]  # tanh makes a finite state of an infinite input
    for item in (0, 3):
        assert np.array_equal(got.states.h[item], clean.states.h[item])
    assert np.all(np.isnan(got.outputs[1, 2:])) and np.all(np.isfinite(got.outputs[1, :2]))


def test_nan_params_and_overflow_are_reported(params, inputs):
    from dataclasses import replace

    bad = replace(params, w_h=params.w_h.at[0, 0].set(jnp.nan))
    assert int(rd.simulate(CELL, bad, inputs).status) == -3
    relu = rd.cells.Vanilla(3, 5, activation="relu")
    grown = replace(params, w_h=1e200 * jnp.abs(params.w_h), b=1.0 + 0.0 * params.b)
    assert int(rd.simulate(relu, grown, inputs).status) == -3


def test_sampled_states_come_from_the_run(params, inputs):
    run = rd.simulate(CELL, params, inputs)
    starts = rd.sample_states(jax.random.key(2), run, 50)
    known = {row.tobytes() for row in np.asarray(run.states.h)}
    assert starts.shape == (50, 5)
    assert {row.tobytes() for row in np.asarray(starts)} == known
    again = rd.sample_states(jax.random.key(2), run, 50)
    assert np.array_equal(starts, again)
    assert not np.array_equal(starts, rd.sample_states(jax.random.key(3), run, 50))


def test_noise_has_the_stated_deviation(params, inputs):
    run = rd.simulate(CELL, params, inputs)
    clean = rd.sample_states(jax.random.key(2), run, 4000)
    noisy = rd.sample_states(jax.random.key(2), run, 4000, noise=0.1)
    assert abs(float(jnp.std(noisy - clean)) - 0.1) < 5 * 0.1 / np.sqrt(2 * 20000)


def test_states_are_sampled_from_a_batch_of_runs(params, inputs):
    runs = jax.vmap(lambda one: rd.simulate(CELL, params, one))(jnp.stack([inputs, -inputs]))
    starts = rd.sample_states(jax.random.key(2), runs, 200)
    known = {row.tobytes() for row in np.asarray(runs.states.h).reshape(-1, 5)}
    assert {row.tobytes() for row in np.asarray(starts)} == known
    assert rd.sample_states(jax.random.key(2), runs, 0).shape == (0, 5)


def test_misuse_says_what_to_do(params, inputs):
    cases = [
        (
            ValueError,
            lambda: rd.simulate(CELL, params, inputs[:, :2]),
            "`inputs`: expected shape (T, 3), got (6, 2); "
            "pass one sequence, time first, and vmap over several.",
        ),
        (
            ValueError,
            lambda: rd.simulate(CELL, params, jnp.zeros((2, 6, 3))),
            "`inputs`: expected shape (T, 3), got (2, 6, 3); "
            "pass one sequence, time first, and vmap over several.",
        ),
        (
            TypeError,
            lambda: rd.simulate(CELL, params, inputs.astype(int)),
            f"`inputs`: expected real floating-point values, got dtype {jnp.zeros(1, int).dtype}; "
            "convert it with jnp.asarray(..., float).",
        ),
        (
            TypeError,
            lambda: rd.simulate(CELL, params, inputs.astype(jnp.bfloat16)),
            f"`inputs`: expected dtype {inputs.dtype} as `params`, got dtype bfloat16; "
            f"cast one with .astype({inputs.dtype}).",
        ),
        (
            ValueError,
            lambda: rd.sample_states(jax.random.key(0), rd.simulate(CELL, params, inputs), -1),
            "`n`: expected a whole number >= 0, got -1; pass how many states to draw.",
        ),
        (
            ValueError,
            lambda: rd.sample_states(
                jax.random.key(0), rd.simulate(CELL, params, inputs), 3, noise=-0.1
            ),
            "`noise`: expected nothing below 0, got -0.1; it is a standard deviation.",
        ),
        (
            TypeError,
            lambda: rd.sample_states(0, rd.simulate(CELL, params, inputs), 3),
            "`key`: expected one random key of JAX, got 0; "
            "pass jax.random.key(0), and vmap over several.",
        ),
        (
            TypeError,
            lambda: rd.sample_states(jax.random.key(0), inputs, 3),
            f"`run`: expected a Trajectory, got {type(inputs)!r}; "
            "pass run = rd.simulate(cell, params, inputs).",
        ),
    ]
    for error, call, sentence in cases:
        with pytest.raises(error, match=f"^{re.escape(sentence)}$"):
            call()
    with pytest.raises(ValueError, match=r"^`state`: expected structure PyTreeDef\(CustomNode"):
        rd.simulate(CELL, params, inputs, jnp.zeros(5))
    state = type(CELL.initial_state(params))
    with pytest.raises(ValueError, match=r"^`state\.h`: expected shape \(5,\), got \(4,\); start"):
        rd.simulate(CELL, params, inputs, state(h=jnp.zeros(4)))


GRU, LSTM = rd.cells.GRU(3, 5), rd.cells.LSTM(3, 6)


@pytest.mark.parametrize(
    "call",
    [
        lambda cell, params, run: rd.simulate(cell, params, run.inputs),
        lambda cell, params, run: rd.linearize(cell, params, run),
        lambda cell, params, run: rd.hold(cell, params, jnp.zeros(3)),
        lambda cell, params, run: rd.lyapunov_stream(cell, params, run.inputs, k=1),
    ],
    ids=["simulate", "linearize", "hold", "stream"],
)
def test_params_of_another_cell_are_refused(call, params, inputs):
    """And those of another size, and a stack of them; a class is no cell."""
    run = rd.simulate(CELL, params, inputs)
    advice = "; pass params = cell.init(key) of this very cell, and vmap over several."
    larger = LSTM.init(jax.random.key(0))
    several = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), params)
    whole = jax.tree.map(lambda leaf: jnp.ones(leaf.shape, int), params)
    dtype = f"dtype {whole.b.dtype}"
    for given, expected in (
        (GRU.init(jax.random.key(0)), "`params`: expected Affine, the params of Vanilla, got GRU"),
        (None, f"`params`: expected Affine, the params of Vanilla, got NoneType{advice}"),
        (larger, f"`params.w_x`: expected shape (5, 3), got (24, 3){advice}"),
        (several, f"`params.w_x`: expected shape (5, 3), got (2, 5, 3){advice}"),
        (whole, f"`params.w_x`: expected real floating-point values, got {dtype}{advice}"),
    ):
        with pytest.raises((TypeError, ValueError), match=f"^{re.escape(expected)}"):
            call(CELL, given, run)
    with pytest.raises(TypeError, match="expected a Cell"):
        call(rd.cells.Vanilla, params, run)


def test_the_run_of_another_cell_is_refused(params, inputs):
    run = rd.simulate(CELL, params, inputs)
    with pytest.raises(ValueError, match="^`run.states`: expected PyTreeDef.*pass the run of this"):
        rd.linearize(LSTM, LSTM.init(jax.random.key(0)), run)
