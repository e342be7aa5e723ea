"""to_fpf and input_jacobian against the formulas of a tanh network."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rnndyn as rd
from tests.tolerances import tol


@pytest.fixture(scope="module")
def net():
    cell = rd.cells.Vanilla(2, 3)
    params = cell.init(jax.random.key(0), gain=2.0)
    x = jnp.array([0.3, -0.2])
    z = jax.random.uniform(jax.random.key(1), (4, 3), float, -1, 1)
    return params, x, z, rd.hold(cell, params, x)


def test_input_jacobian(net):
    params, x, z, map_ = net
    h = np.tanh(z @ params.w_h.T + (params.w_x @ x + params.b)[None])
    expected = (1 - h**2)[:, :, None] * np.asarray(params.w_x)
    assert np.allclose(rd.input_jacobian(map_, z), expected, rtol=0, atol=tol("jacobian"))
    with pytest.raises(ValueError, match="`map_`: expected a map made by rd.hold, got"):
        rd.input_jacobian(rd.maps.henon(), jnp.zeros((1, 2)))


def test_names_and_numbers_of_fixed_point_finder(net):
    params, x, z, map_ = net
    found = rd.fixed_points(map_, z, max_steps=0)
    fps = rd.to_fpf(map_, found, starts=z, cond_id=5)
    h = np.tanh(z @ params.w_h.T + (params.w_x @ x + params.b)[None])
    jacobian = (1 - h**2)[:, :, None] * np.asarray(params.w_h)
    assert np.allclose(fps.F_xstar, h, rtol=0, atol=tol("step"))
    expected = 0.5 * np.sum((h - np.asarray(z)) ** 2, axis=1)
    assert np.allclose(fps.qstar, expected, rtol=0, atol=tol("step"))
    assert np.allclose(fps.J_xstar, jacobian, rtol=0, atol=tol("jacobian"))
    modes = fps.J_xstar @ fps.eigvec_J_xstar
    scaled = fps.eigvec_J_xstar * fps.eigval_J_xstar[:, None, :]
    assert np.allclose(modes, scaled, rtol=0, atol=tol("multiplier"))
    radius = np.max(np.abs(np.linalg.eigvals(jacobian)), axis=1)
    assert np.array_equal(fps.is_stable, radius < 1)
    assert np.array_equal(fps.inputs, np.tile(x, (4, 1))) and np.array_equal(fps.x_init, z)
    assert (fps.n, fps.n_states, fps.n_inputs) == (4, 3, 2)
    assert fps.n_iters.tolist() == [0] * 4 and fps.cond_id.tolist() == [5] * 4
    assert fps.dFdu.shape == (4, 3, 2)


def test_a_map_without_input():
    map_ = rd.maps.logistic(2.0)
    fps = rd.to_fpf(map_, rd.unique(rd.fixed_points(map_, jnp.array([[0.1], [0.7]]))))
    assert fps.inputs is None and fps.dFdu is None and fps.n_inputs is None
    assert fps.n_iters.tolist() == [-1, -1]
