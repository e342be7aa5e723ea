"""to_fpf, the map that results carry, and input_jacobian against the formulas of a tanh network."""

import dataclasses

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
    fps = found.to_fpf(starts=z, cond_id=5)
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
    fps = rd.unique(rd.fixed_points(map_, jnp.array([[0.1], [0.7]]))).to_fpf()
    assert fps.inputs is None and fps.dFdu is None and fps.n_inputs is None
    assert fps.n_iters.tolist() == [-1, -1]


def test_results_carry_their_map_through_vmap_and_jit(net):
    """Each search of a batch its own params and input; rows leave the map as it is."""
    params, x, z, map_ = net
    cell = rd.cells.Vanilla(2, 3)
    inputs = jnp.stack([x, -2 * x])

    @jax.jit
    def search(inputs):
        return jax.vmap(lambda x: rd.fixed_points(rd.hold(cell, params, x), z, max_steps=0))(inputs)

    batch = search(inputs)
    with pytest.raises(ValueError, match=r"`z`: expected shape \(m, d\), got \(2, 4, 3\)"):
        batch.to_fpf()
    second = jax.tree.map(lambda leaf: leaf[1], batch)
    fps = second.to_fpf()
    h = np.tanh(z @ params.w_h.T + (params.w_x @ (-2 * x) + params.b)[None])
    assert np.allclose(fps.F_xstar, h, rtol=0, atol=tol("step"))
    assert np.array_equal(fps.inputs[0], -2 * x)
    some = second.rows(jnp.array([2, 0])).to_fpf()
    assert np.array_equal(some.F_xstar, fps.F_xstar[[2, 0]])
    with pytest.raises(ValueError, match="`points.map_`: expected the Map that was searched, got"):
        dataclasses.replace(second, map_=None).to_fpf()


def test_a_search_carries_its_map(net):
    map_ = net[3]
    result = rd.search(map_, net[2], key=jax.random.key(0), max_rounds=2)
    for points in (result.points, result.found):
        fps = points.to_fpf()
        assert np.array_equal(fps.xstar, points.z) and fps.dFdu.shape[1:] == (3, 2)
    root = np.asarray(result.found.kind) == rd.Kind.ROOT
    assert np.max(result.found.rows(root).to_fpf().qstar) <= tol("root")
