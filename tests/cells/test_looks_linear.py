"""Networks that start linear in ReLUs: where the Jacobian is Q, and where it is not isometric."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rnndyn as rd
from rnndyn.cells.looks_linear import CReluRNN, MirrorRNN
from tests.cells.recurrences import arrays, assert_equals_recurrence, random_inputs, relu
from tests.cells.special import noisy_params
from tests.tolerances import tol


def test_crelu_equals_a_loop():
    cell = CReluRNN(3, 5)
    params = noisy_params(cell, 0.1)
    params = jax.tree.map(lambda leaf: 0.8 * leaf, params)
    w = arrays(params)

    def step(t, h, x):
        return (
            w.v @ np.concatenate([np.where(h > 0, h, 0), np.where(h < 0, -h, 0)]) + w.w_x @ x + w.b
        )

    assert_equals_recurrence(cell, params, step)


def test_mirror_equals_a_loop():
    cell = MirrorRNN(3, 5)
    params = jax.tree.map(lambda leaf: 0.6 * leaf, noisy_params(cell, 0.1))
    w = arrays(params)

    def step(t, s, x):
        return relu(w.w_x @ x + w.w_h @ s + w.b)

    run = assert_equals_recurrence(cell, params, step)
    s = np.asarray(run.states.s[1:])
    np.testing.assert_array_equal(run.outputs, s[:, :5] - s[:, 5:])


@pytest.mark.precision
def test_crelu_starts_with_the_jacobian_q_everywhere():
    """Bit for bit, at h = 0 too, where the derivative 0 of ReLU would give 0."""
    cell = CReluRNN(3, 6)
    params = cell.init(jax.random.key(0))
    q = np.asarray(params.v[:, :6])
    assert np.abs(q - q.T).max() > 0.1
    np.testing.assert_array_equal(params.v[:, 6:], -q)
    for h in (jnp.zeros(6), jax.random.normal(jax.random.key(1), (6,))):
        assert np.array_equal(rd.hold(cell, params, jnp.ones(3)).jacobian(h), q)
    run = rd.simulate(cell, params, random_inputs(cell, 30))
    product = np.linalg.multi_dot(np.asarray(rd.linearize(cell, params, run).jacobians)[::-1])
    np.testing.assert_allclose(product, np.linalg.matrix_power(q, 30), atol=tol("cell_product"))
    values = np.linalg.svd(product, compute_uv=False)
    np.testing.assert_allclose(values, 1, atol=tol("cell_product"))


@pytest.mark.precision
def test_mirror_starts_linear_but_its_own_jacobian_is_not_isometric():
    """h' = Q h + U x; singular values sqrt(2) and 0 for one step and for products."""
    n = 5
    cell = MirrorRNN(3, n)
    params = cell.init(jax.random.key(3))
    inputs = random_inputs(cell, 20)
    run = rd.simulate(cell, params, inputs)
    q, u = np.asarray(params.w_h[:n, :n], float), np.asarray(params.w_x[:n], float)
    h = np.zeros(n)
    for t, x in enumerate(np.asarray(inputs, float)):
        h = q @ h + u @ x
        np.testing.assert_allclose(run.outputs[t], h, rtol=0, atol=tol("cell_product"))
    jacobians = np.asarray(rd.linearize(cell, params, run).jacobians)[1:]  # s = 0 is on the kink
    for product in (jacobians[0], np.linalg.multi_dot(jacobians[::-1])):
        values = np.linalg.svd(product, compute_uv=False)
        np.testing.assert_allclose(values[:n], np.sqrt(2), atol=tol("cell_product"))
        np.testing.assert_allclose(values[n:], 0, atol=tol("cell_product"))
    signed = np.block([np.eye(n), -np.eye(n)]) @ jacobians[0][:, :n]
    np.testing.assert_allclose(signed, q, atol=tol("jacobian"))


def test_all_mirrored_coordinates_are_hidden():
    cell = MirrorRNN(3, 4)
    params = cell.init(jax.random.key(0))
    run = rd.simulate(cell, params, jnp.ones((2, 3)))
    assert rd.linearize(cell, params, run).hidden == tuple(range(8))
