"""Every cell, with every option, against the loops written from its equations."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rnndyn as rd
from rnndyn import cells
from tests.cells import equations
from tests.tolerances import tol

SIZES = (3, 4)
CASES = {
    **{f"vanilla_{phi}": (cells.Vanilla(*SIZES, phi), equations.elman) for phi in equations.PHI},
    "irnn": (cells.IRNN(*SIZES, alpha=0.9), equations.elman),
    "orthogonal": (cells.OrthogonalRNN(*SIZES), equations.elman),
    "lstm_1997_paper": (cells.LSTM1997(*SIZES), equations.lstm_1997),
    "lstm_1997_tanh": (cells.LSTM1997(*SIZES, squash="tanh"), equations.lstm_1997),
    "lstm": (cells.LSTM(*SIZES), equations.lstm),
    **{
        f"gru_{variant}": (cells.GRU(*SIZES, variant), equations.gru)
        for variant in ("torch", "cho_v3", "cho_v1", "chung", "kanai")
    },
    "narx": (cells.NARX(*SIZES, order=3), equations.narx),
    "narx_relu": (cells.NARX(*SIZES, order=2, activation="relu"), equations.narx),
    "dilated": (cells.Dilated(*SIZES, dilation=3), equations.dilated(equations.elman)),
    "dilated_lstm": (cells.dilate(cells.LSTM(*SIZES), 2), equations.dilated(equations.lstm)),
}
INPUTS = jax.random.normal(jax.random.key(7), (50, 3))


@functools.cache
def trajectory(name):
    """A run of 50 steps from a random state, and its Jacobians."""
    cell, _ = CASES[name]
    params = cell.init(jax.random.key(3))
    start = cell.initial_state(params)
    z = jax.random.normal(jax.random.key(4), rd.flatten(start).shape)
    run = rd.simulate(cell, params, INPUTS, rd.unflatten(z, start))
    return params, run, rd.linearize(cell, params, run).jacobians


@pytest.mark.parametrize("name", CASES)
def test_fifty_steps_equal_the_loop(name):
    (cell, step), (params, run, _) = CASES[name], trajectory(name)
    points = jax.vmap(rd.flatten)(run.states)
    expected = equations.run(step, cell, params, points[0], INPUTS)
    np.testing.assert_allclose(points, expected, rtol=tol("loop"), atol=tol("loop"))


@pytest.mark.parametrize("name", CASES)
def test_jacobians_equal_the_complex_step_of_the_loop(name):
    (cell, step), (params, run, jacobians) = CASES[name], trajectory(name)
    points = np.asarray(jax.vmap(rd.flatten)(run.states))
    for t in (0, 1, 10, 49):
        expected = equations.jacobian(step, cell, params, points[t], INPUTS[t])
        np.testing.assert_allclose(jacobians[t], expected, atol=tol("complex_step"))


def test_the_jacobians_are_not_symmetric():
    for name in CASES:
        jacobian = trajectory(name)[2][10]
        if name != "irnn":  # alpha times a mask
            assert np.abs(jacobian - jacobian.T).max() > 1e-2, name


EQUATIONS = {  # multiply-adds of the equations, counted as two, per entry of each weight matrix
    "vanilla": cells.Vanilla,
    "lstm_1997": cells.LSTM1997,
    "lstm": cells.LSTM,
    "narx": cells.NARX,
    "dilated": cells.Dilated,
    **{
        variant: functools.partial(cells.GRU, variant=variant)
        for variant in ("torch", "cho_v3", "cho_v1", "chung", "kanai")
    },
}


@pytest.mark.parametrize("name", EQUATIONS)
def test_a_step_costs_what_its_equations_cost(name):
    cell = EQUATIONS[name](input_size=32, hidden_size=64)
    params = jax.eval_shape(cell.init, jax.random.key(0))
    state = jax.eval_shape(cell.initial_state, params)
    x = jax.ShapeDtypeStruct((32,), jnp.zeros(()).dtype)
    analysis = jax.jit(cell.step).lower(params, state, x).compile().cost_analysis()
    entries = sum(leaf.size for leaf in jax.tree.leaves(params) if leaf.ndim > 1)
    assert 2 * entries <= analysis["flops"] <= 1.3 * 2 * entries
