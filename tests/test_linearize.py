"""linearize: dense and matrix-free Jacobians along runs and orbits."""

import importlib
import operator
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

import rnndyn as rd
from rnndyn.cells.indrnn import IndRNN
from tests.tolerances import tol

module = importlib.import_module("rnndyn.linearize")  # rd.linearize is the function
CELL = rd.cells.Vanilla(3, 5)
STEPS = 6


@pytest.fixture(scope="module")
def params():
    return CELL.init(jax.random.key(0), gain=2.0)


@pytest.fixture(scope="module")
def run(params):
    return rd.simulate(CELL, params, jax.random.normal(jax.random.key(1), (STEPS, 3)))


@pytest.mark.precision
def test_jacobians_are_those_of_successive_steps(params, run):
    """J[t] = D(1 - h_{t+1}^2) W_h: newest state, oldest Jacobian first, not transposed."""
    lin = rd.linearize(CELL, params, run)
    expected = (1 - np.asarray(run.outputs) ** 2)[:, :, None] * np.asarray(params.w_h)[None]
    np.testing.assert_allclose(lin.jacobians, expected, rtol=0, atol=tol("jacobian"))
    assert (lin.steps, lin.size, lin.dtype) == (STEPS, 5, run.inputs.dtype)
    assert lin.hidden == (0, 1, 2, 3, 4)


def test_the_product_is_the_derivative_of_the_unrolled_run(params, run):
    def last(h):
        start = type(CELL.initial_state(params))(h=h)
        return rd.simulate(CELL, params, run.inputs, start).states.h[-1]

    product = np.linalg.multi_dot(list(rd.linearize(CELL, params, run).jacobians)[::-1])
    expected = jax.jacrev(last)(jnp.zeros(5))
    np.testing.assert_allclose(product, expected, rtol=0, atol=tol("jacobian"))


@pytest.mark.precision
def test_matrix_free_equals_dense(params, run):
    dense = rd.linearize(CELL, params, run)
    free = rd.linearize(CELL, params, run, dense=False)
    v = jax.random.normal(jax.random.key(2), (5, 4))
    for t in range(STEPS):
        at = operator.itemgetter(t)
        here, there = (jax.tree.map(at, lin.slices) for lin in (dense, free))
        for product in ("push", "pull"):
            got, want = getattr(free, product)(there, v), getattr(dense, product)(here, v)
            np.testing.assert_allclose(got, want, rtol=0, atol=tol("jacobian"))
    np.testing.assert_allclose(free.jacobians, dense.jacobians, rtol=0, atol=tol("elementary"))
    assert (free.steps, free.size, free.dtype) == (dense.steps, dense.size, dense.dtype)


@pytest.mark.precision
def test_of_a_cell_with_diagonal_jacobians_the_diagonals_are_stored():
    """One product with the vector of ones finds them all, equal to the Jacobians' own."""
    cell = IndRNN(3, 5, activation="tanh")
    params = cell.init(jax.random.key(0))
    run = rd.simulate(cell, params, jax.random.normal(jax.random.key(1), (STEPS, 3)))
    lin, dense = rd.linearize(cell, params, run), rd.linearize(cell, params, run, dense=True)
    assert isinstance(lin, module.Diagonal) and isinstance(dense, module.Dense)
    assert isinstance(rd.linearize(cell, params, run, dense=False), module.MatrixFree)
    assert lin.slices.shape == (STEPS, 5) and lin.hidden == dense.hidden
    assert (lin.steps, lin.size, lin.dtype) == (dense.steps, dense.size, dense.dtype)
    np.testing.assert_allclose(lin.jacobians, dense.jacobians, rtol=0, atol=tol("elementary"))
    v = jax.random.normal(jax.random.key(2), (5, 4))
    for t in range(STEPS):
        for product in ("push", "pull"):
            got = getattr(lin, product)(lin.slices[t], v)
            want = getattr(dense, product)(dense.slices[t], v)
            np.testing.assert_allclose(got, want, rtol=0, atol=tol("elementary"))


def test_what_contains_a_diagonal_cell_is_not_diagonal():
    """A layer above reads the layer below, and a dilated cell reads its register."""
    inner, upper = IndRNN(3, 2, activation="tanh"), IndRNN(2, 2, activation="tanh")
    for cell in (rd.cells.stack(inner, upper), rd.cells.dilate(inner, 2)):
        params = cell.init(jax.random.key(0))
        run = rd.simulate(cell, params, jnp.ones((STEPS, 3)))
        lin = rd.linearize(cell, params, run)
        free = rd.linearize(cell, params, run, dense=False)
        assert isinstance(lin, module.Dense)
        np.testing.assert_allclose(lin.jacobians, free.jacobians, rtol=0, atol=tol("elementary"))
        i = jnp.arange(lin.size)
        assert jnp.any(lin.jacobians.at[:, i, i].set(0.0) != 0)


@pytest.mark.precision
def test_of_an_lstm_a_block_and_diagonals_are_stored():
    """From d = 64 on, by the trace alone: all numbers are those of the full Jacobians."""
    cell = rd.cells.LSTM(3, 32)
    params = cell.init(jax.random.key(0))
    run = rd.simulate(cell, params, jax.random.normal(jax.random.key(1), (STEPS, 3)))
    lin, dense = rd.linearize(cell, params, run), rd.linearize(cell, params, run, dense=True)
    assert isinstance(lin, module.InParts) and isinstance(dense, module.Dense)
    assert lin.slices.block.shape == (STEPS, 64, 32)
    assert [band.shape for band in lin.slices.bands] == 2 * [(STEPS, 32)]
    assert (lin.steps, lin.size, lin.dtype) == (dense.steps, dense.size, dense.dtype)
    assert lin.hidden == dense.hidden == tuple(range(32))
    np.testing.assert_allclose(lin.jacobians, dense.jacobians, rtol=0, atol=tol("elementary"))
    v = jax.random.normal(jax.random.key(2), (64, 4))
    here, there = (jax.tree.map(operator.itemgetter(2), each.slices) for each in (lin, dense))
    for product in ("push", "pull"):
        got, want = getattr(lin, product)(here, v), getattr(dense, product)(there, v)
        np.testing.assert_allclose(got, want, rtol=0, atol=tol("jacobian"))
    held = rd.linearize(rd.hold(cell, params, run.inputs[0]), jax.vmap(rd.flatten)(run.states))
    assert isinstance(held, module.InParts) and held.hidden == tuple(range(64))


def test_small_or_full_jacobians_are_not_stored_in_parts():
    for cell in (rd.cells.LSTM(3, 31), rd.cells.GRU(3, 64)):
        params = cell.init(jax.random.key(0))
        run = rd.simulate(cell, params, jnp.ones((2, 3)))
        assert isinstance(rd.linearize(cell, params, run), module.Dense)


def test_a_batch_of_diagonals():
    cell = IndRNN(3, 5)
    params = cell.init(jax.random.key(0))
    inputs = jax.random.normal(jax.random.key(1), (2, STEPS, 3))
    one = lambda i: rd.linearize(cell, params, rd.simulate(cell, params, i))  # noqa: E731
    lin = jax.vmap(one)(inputs)
    assert (lin.steps, lin.size, lin.jacobians.shape) == (STEPS, 5, (2, STEPS, 5, 5))
    assert np.array_equal(lin.jacobians[1], one(inputs[1]).jacobians)


def test_push_and_pull_are_adjoint_and_in_this_order(params, run):
    lin = rd.linearize(CELL, params, run)
    at = lin.slices[2]
    np.testing.assert_allclose(lin.push(at, jnp.eye(5)), lin.jacobians[2], rtol=tol("elementary"))
    np.testing.assert_allclose(lin.pull(at, jnp.eye(5)), lin.jacobians[2].T, rtol=tol("elementary"))


def test_storing_depends_on_the_budget(params, run, monkeypatch):
    assert isinstance(rd.linearize(CELL, params, run), module.Dense)
    monkeypatch.setattr(module, "DENSE_BUDGET", 100)
    assert isinstance(rd.linearize(CELL, params, run), module.MatrixFree)
    assert isinstance(rd.linearize(CELL, params, run, dense=True), module.Dense)


def test_jacobians_formed_in_blocks_are_the_same(params, run, monkeypatch):
    whole = rd.linearize(CELL, params, run).jacobians
    monkeypatch.setattr(module, "_BLOCK", 4 * 5 * 5 * 8)
    jax.clear_caches()  # the block size is read while tracing
    free = rd.linearize(CELL, params, run, dense=False)
    np.testing.assert_allclose(free.jacobians, whole, rtol=0, atol=tol("elementary"))


def test_an_orbit_of_a_map(params):
    map_ = rd.maps.henon()
    points = rd.orbit(map_, jnp.array([0.1, 0.1]), 4)
    lin = rd.linearize(map_, points)
    expected = np.zeros((4, 2, 2))
    expected[:, 0, 0], expected[:, 0, 1], expected[:, 1, 0] = -2.8 * points[:-1, 0], 1.0, 0.3
    np.testing.assert_allclose(lin.jacobians, expected, rtol=0, atol=tol("elementary"))
    assert rd.linearize(map_, points[:1]).jacobians.shape == (0, 2, 2)


def test_empty_run(params):
    run = rd.simulate(CELL, params, jnp.zeros((0, 3)))
    assert rd.linearize(CELL, params, run).jacobians.shape == (0, 5, 5)


def test_from_jacobians_keeps_what_it_is_given():
    given = jax.random.normal(jax.random.key(0), (7, 3, 3))
    lin = rd.Linearization.from_jacobians(given)
    assert np.array_equal(lin.jacobians, given) and lin.hidden == (0, 1, 2)


def test_batches_and_derivatives_pass_through(params, run):
    def total(params, inputs):
        return rd.linearize(CELL, params, rd.simulate(CELL, params, inputs)).jacobians.sum()

    batch = jax.vmap(lambda i: rd.linearize(CELL, params, rd.simulate(CELL, params, i)))
    lin = batch(jnp.stack([run.inputs, -run.inputs]))
    assert lin.jacobians.shape == (2, STEPS, 5, 5) and (lin.steps, lin.size) == (STEPS, 5)
    np.testing.assert_allclose(
        lin.jacobians[0], rd.linearize(CELL, params, run).jacobians, rtol=0, atol=tol("jacobian")
    )
    check_grads(total, (params, run.inputs), order=1, modes=("fwd", "rev"))


def test_nan_stays_in_its_step(params, run):
    from dataclasses import replace

    bad = replace(run, inputs=run.inputs.at[2, 0].set(jnp.nan))
    got = rd.linearize(CELL, params, bad).jacobians
    clean = rd.linearize(CELL, params, run).jacobians
    assert np.all(np.isnan(got[2]))
    keep = np.array([0, 1, 3, 4, 5])
    assert np.array_equal(got[keep], clean[keep])


def test_misuse_says_what_to_do(params, run):
    cases = [
        (
            ValueError,
            lambda: rd.Linearization.from_jacobians(jnp.zeros((3, 2))),
            "`jacobians`: expected shape (T, d, d), got (3, 2); "
            "stack the Jacobians of successive steps along axis 0, oldest first.",
        ),
        (
            ValueError,
            lambda: rd.Linearization.from_jacobians(jnp.zeros((3, 2, 4))),
            "`jacobians`: expected shape (T, 2, 2), got (3, 2, 4); "
            "stack the Jacobians of successive steps along axis 0, oldest first.",
        ),
        (
            TypeError,
            lambda: rd.linearize(lambda z: z, params, run),
            "`subject`: expected a Cell or a Map, got <class 'function'>; "
            "wrap a function as rd.Map(rule, args).",
        ),
        (
            TypeError,
            lambda: rd.linearize(CELL, params, run.inputs),
            f"`run`: expected a Trajectory, got {type(run.inputs)!r}; "
            "pass run = rd.simulate(cell, params, inputs).",
        ),
        (
            ValueError,
            lambda: rd.linearize(rd.maps.henon(), jnp.zeros((4, 3))),
            "`F(z)`: expected shape (3,), got (2,); "
            "points must be flat states of this map (rd.flatten, rd.sample_states).",
        ),
        (
            ValueError,
            lambda: rd.linearize(rd.maps.henon(), jnp.zeros(2)),
            "`points`: expected shape (T + 1, d), got (2,); pass the points of rd.orbit.",
        ),
        (
            ValueError,
            lambda: rd.linearize(rd.maps.henon(), jnp.zeros((0, 2))),
            "`points`: expected shape (T + 1, d), got (0, d); an orbit has at least its start.",
        ),
    ]
    for error, call, sentence in cases:
        with pytest.raises(error, match=f"^{re.escape(sentence)}$"):
            call()
