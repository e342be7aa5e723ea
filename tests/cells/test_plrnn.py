"""Piecewise-linear networks: independent loops, Jacobians, starts."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rnndyn as rd
from rnndyn.cells.plrnn import PLRNN, ShallowPLRNN
from tests.cells.recurrences import (
    arrays,
    assert_equals_recurrence,
    complex_step,
    flops,
    random_params,
    relu,
)
from tests.tolerances import tol


def plrnn(w):
    return lambda t, h, x: w.a * h + w.w @ relu(h) + w.w_x @ x + w.b


def shallow(w):
    return lambda t, h, x: w.a * h + w.w_1 @ relu(w.w_2 @ h + w.b_2) + w.w_x @ x + w.b_1


CASES = [(PLRNN(3, 5), plrnn), (ShallowPLRNN(3, 5, width=7), shallow)]


@pytest.mark.precision
@pytest.mark.parametrize(("cell", "recurrence"), CASES, ids=["plrnn", "shallow"])
def test_equals_a_loop_with_its_jacobian(cell, recurrence):
    params = random_params(cell, scale=0.3)
    step = recurrence(arrays(params))
    run = assert_equals_recurrence(cell, params, step)
    assert 0.1 < np.mean(np.asarray(run.outputs) > 0) < 0.9
    h, x = run.states.h[7], jnp.ones(3)
    jacobian = rd.hold(cell, params, x).jacobian(h)
    expected = complex_step(lambda z: step(0, z, np.ones(3)), np.asarray(h, float))
    np.testing.assert_allclose(jacobian, expected, rtol=0, atol=tol("jacobian"))


def test_starts():
    params = PLRNN(3, 6).init(jax.random.key(0), gain=2.0)
    assert not np.any(np.diagonal(params.w)) and np.all((params.a >= 1.0) & (params.a <= 1.8))
    assert np.count_nonzero(params.w) == 30 and not np.any(params.b)
    wide = ShallowPLRNN(3, 2, width=9)
    one, two = wide.init(jax.random.key(0)), wide.init(jax.random.key(0), gain=2.0)
    assert np.array_equal(two.w_1, 2 * one.w_1) and np.array_equal(two.w_2, one.w_2)
    assert np.array_equal(two.a, 2 * one.a) and np.any(one.b_2)


def test_a_step_costs_what_its_equations_cost():
    m, n, width = 48, 64, 128
    assert 2 * n * (m + n) <= flops(PLRNN(m, n)) <= 2.6 * n * (m + n)
    wide = ShallowPLRNN(m, n, width=width)
    assert 2 * n * (m + 2 * width) <= flops(wide) <= 2.6 * n * (m + 2 * width)


def test_bad_width():
    with pytest.raises(ValueError) as caught:
        dataclasses.replace(ShallowPLRNN(3, 2), width=0)
    assert str(caught.value) == (
        "`width`: expected a whole number >= 1, got 0; pass the number of ReLUs."
    )
