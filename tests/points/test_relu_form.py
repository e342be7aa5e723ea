"""The matrices of a piecewise-linear map, read off its own code."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rnndyn as rd
from rnndyn.points.piecewise_linear.form import relu_form
from tests.points.relu_cells import CELLS, noisy
from tests.tolerances import tol


@pytest.mark.parametrize("name", CELLS)
def test_every_relu_cell_shows_its_matrices(name):
    """The form read off the step equals the step, and its pieces have the step's Jacobians."""
    cell = CELLS[name]
    map_ = rd.hold(cell, noisy(cell), jnp.array([0.4, -0.3]))
    d = rd.flatten(cell.initial_state(noisy(cell))).size
    form = relu_form(map_, d)
    z = np.random.default_rng(1).normal(size=(9, d))
    image, s = form(z)
    assert np.allclose(image, jax.vmap(map_)(jnp.asarray(z)), rtol=0, atol=tol("jacobian"))
    pieces = form.pieces(s > 0)
    jacobians = jax.vmap(map_.jacobian)(jnp.asarray(z))
    assert np.allclose(pieces.jacobians, jacobians, rtol=0, atol=tol("jacobian"))
    affine = np.einsum("nij,nj->ni", pieces.rows, z) + pieces.offsets
    assert np.allclose(affine, s, rtol=0, atol=tol("jacobian"))
    twice = relu_form(rd.iterate(map_, 2), d)
    assert np.allclose(twice(z)[0], form(image)[0], rtol=0, atol=tol("step"))


def test_positive_and_negative_part_are_one_switch():
    cell = CELLS["crelu"]
    form = relu_form(rd.hold(cell, noisy(cell), jnp.ones(2)), 3)
    assert form.p_z.shape == (3, 3)


def test_clip_minimum_and_nested_kinks():
    def clipped(z, w):
        inner = jnp.minimum(jax.nn.relu(w @ z), 0.5)
        return jnp.clip(inner - 0.2, -0.1, 0.25) + jnp.maximum(z, -z)[::-1]

    w = jnp.array([[1.5, -0.7], [0.4, 1.1]])
    form = relu_form(rd.Map(clipped, w), 2)
    z = np.random.default_rng(0).normal(size=(64, 2))
    expected = jax.vmap(rd.Map(clipped, w))(jnp.asarray(z))
    assert np.allclose(form(z)[0], expected, rtol=0, atol=tol("elementary"))
