"""contributions: their sum is jax.grad of the whole loss, each one the derivative of its step."""

import dataclasses
import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rnndyn as rd
from tests.tolerances import tol

INPUTS = jax.random.normal(jax.random.key(1), (12, 3))
CELLS = [rd.cells.LSTM(3, 4), rd.cells.PseudoLSTM(3, 4), rd.cells.Clockwork(3, 4, modules=2)]


def loss(outputs):
    return jnp.sum(jnp.sin(outputs[::3])) + jnp.sum(outputs[-1] ** 3)


def last(outputs):
    return jnp.sum(outputs[-1])


def norm(tree, index):
    return math.sqrt(sum(float(jnp.sum(leaf[index] ** 2)) for leaf in jax.tree.leaves(tree)))


@pytest.mark.precision
@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: type(cell).__name__)
def test_the_sum_over_time_is_the_gradient(cell):
    params = cell.init(jax.random.key(0), gain=2.0)
    run = rd.simulate(cell, params, INPUTS)
    found = rd.contributions(cell, params, run, loss, per_step=True)
    expected = jax.grad(lambda p: loss(rd.simulate(cell, p, INPUTS).outputs))(params)
    assert found.lags.tolist() == list(range(12, 0, -1)) and int(found.status) == 0
    trees = (expected, found.gradient, found.per_step, found.log_leaves)
    for want, whole, steps, logs in zip(*map(jax.tree.leaves, trees), strict=True):
        size = max(1.0, float(jnp.max(jnp.abs(want))))
        np.testing.assert_allclose(whole, want, rtol=0, atol=tol("gradient_sum") * size)
        np.testing.assert_allclose(steps.sum(axis=0), want, atol=tol("gradient_sum") * size)
        norms = np.sqrt(np.sum(np.asarray(steps).reshape(12, -1) ** 2, axis=1))
        np.testing.assert_allclose(np.exp(logs), norms, rtol=tol("gradient_sum"))
    norms = [norm(found.per_step, t) for t in range(12)]
    np.testing.assert_allclose(np.exp(found.log_params), norms, rtol=tol("gradient_sum"))


@pytest.mark.parametrize("t", [0, 5, 11])
def test_each_is_the_derivative_of_its_own_step(t):
    """Params unshared: those of step t alone are moved; and h_t alone, its c held fixed."""
    cell = CELLS[0]
    params = cell.init(jax.random.key(0), gain=2.0)
    run = rd.simulate(cell, params, INPUTS)
    found = rd.contributions(cell, params, run, loss, per_step=True)
    before = jax.tree.map(lambda leaf: leaf[t], run.states)

    def unshared(moved, h):
        state = cell.step(moved, dataclasses.replace(before, h=h), INPUTS[t])
        later = rd.simulate(cell, params, INPUTS[t + 1 :], state).outputs
        return loss(jnp.concatenate([run.outputs[:t], cell.output(state)[None], later]))

    by_params, by_h = jax.grad(unshared, argnums=(0, 1))(params, before.h)
    for want, got in zip(*map(jax.tree.leaves, (by_params, found.per_step)), strict=True):
        np.testing.assert_allclose(got[t], want, rtol=0, atol=tol("gradient_sum"))
    expected = math.log(np.linalg.norm(by_h))
    np.testing.assert_allclose(found.log_hidden[t], expected, atol=tol("gradient_sum"))


@pytest.mark.precision
def test_norms_outlive_the_range_of_the_dtype():
    """Linear h' = W h, W = 10^-2 or 10^2 times a rotation, 300 steps: 10^-600 and 10^600."""
    cell = rd.cells.OrthogonalRNN(3, 4, activation="identity")
    for gain in (1e-2, 1e2):
        params = cell.init(jax.random.key(0), gain=gain)
        run = rd.simulate(cell, params, jnp.zeros((300, 3)))
        found = rd.contributions(cell, params, run, last)
        expected = np.asarray(found.lags) * math.log(gain) + math.log(2.0)  # ||(1, 1, 1, 1)|| = 2
        np.testing.assert_allclose(found.log_hidden, expected, rtol=tol("long_power") * 8)


def test_no_path_is_minus_infinity_and_nan_is_told():
    cell = rd.cells.Vanilla(3, 4)
    params = cell.init(jax.random.key(0), gain=0.0)
    run = rd.simulate(cell, params, INPUTS)
    found = rd.contributions(cell, params, run, last)
    assert found.log_hidden.tolist() == [-math.inf] * 12
    assert found.log_params[:-1].tolist() == [-math.inf] * 11 and int(found.status) == 0
    bad = rd.contributions(cell, params, rd.simulate(cell, params, INPUTS.at[3].set(jnp.nan)), last)
    assert int(bad.status) == -3 and bool(jnp.all(jnp.isnan(bad.log_params)))


def test_misuse():
    cell = rd.cells.Vanilla(3, 4)
    params = cell.init(jax.random.key(0))
    run = rd.simulate(cell, params, INPUTS)
    said = "`loss`: expected shape (), got (4,); sum or average it to one number."
    with pytest.raises(ValueError, match=f"^{re.escape(said)}$"):
        rd.contributions(cell, params, run, lambda outputs: outputs[-1])
    for loss in (3, lambda outputs: None):
        with pytest.raises(TypeError, match="^`loss`: expected a .*sum or average it to one"):
            rd.contributions(cell, params, run, loss)
    with pytest.raises(ValueError, match="expected at least one step, got T = 0"):
        rd.contributions(cell, params, rd.simulate(cell, params, INPUTS[:0]), last)
    with pytest.raises(TypeError, match="expected a Trajectory"):
        rd.contributions(cell, params, INPUTS, last)
