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


CHOICES = {
    "leaky_relu": jax.nn.leaky_relu,
    "nearly_linear": lambda x: jax.nn.leaky_relu(x, 0.9999),
    "hard_tanh": jax.nn.hard_tanh,
    "hard_sigmoid": jax.nn.hard_sigmoid,
    "relu6": lambda x: jax.nn.relu6(8 * x),
    "clip": lambda x: jnp.clip(x, -0.5, 0.7),
    "where": lambda x: jnp.where(~(x < 0.3), 2 * x - 0.6, 0),
    "outer first": lambda x: jnp.where(x > -1, jnp.where(x > 1, 1, x), -1),
    "bump": lambda x: jnp.where(jnp.abs(x) < 1, 1 - jnp.abs(x), 0),
    "two units": lambda x: jnp.where(x > x[::-1], x, x[::-1]),
    "branches with kinks": lambda x: jnp.where(x > 0, jax.nn.relu(x - 1), jax.nn.relu(-x - 1)),
}


@pytest.mark.parametrize("name", CHOICES)
def test_choices_by_a_sign(name):
    """What they give and how it changes, at random points, under a second layer with kinks."""

    def rule(z, args):
        w, u = args
        return u @ CHOICES[name](w @ z + 0.1) + 0.3 * jax.nn.leaky_relu(u @ CHOICES[name](z))

    rng = np.random.default_rng(0)
    w, u = jnp.asarray(1.5 * rng.normal(size=(2, 3, 3)))
    map_ = rd.Map(rule, (w, u))
    form = relu_form(map_, 3)
    z = 1.5 * rng.normal(size=(200, 3))
    image, s = form(z)
    assert np.allclose(image, jax.vmap(map_)(jnp.asarray(z)), rtol=0, atol=tol("jacobian"))
    pieces, jacobians = form.pieces(s > 0), jax.vmap(map_.jacobian)(jnp.asarray(z))
    assert np.allclose(pieces.jacobians, jacobians, rtol=0, atol=tol("jacobian"))


def test_affine_operations_of_many_kinds():
    def shuffled(z, _):
        mixed = jnp.stack([z[0], z[2] - z[1], jnp.mean(z)]) + jnp.roll(z, 1) + jnp.tile(z[:1], 3)
        mixed += z[jnp.array([2, 0, 1])].at[0].add(2.0) + jnp.zeros(3).at[1].set(z[0])
        mixed += jnp.convolve(z, jnp.ones(3), "same") + jnp.cumsum(z / 3)
        return jax.nn.leaky_relu(jnp.concatenate(jnp.split(mixed, 3)))

    form = relu_form(rd.Map(shuffled), 3)
    z = np.random.default_rng(0).normal(size=(16, 3))
    expected = jax.vmap(rd.Map(shuffled))(jnp.asarray(z))
    assert np.allclose(form(z)[0], expected, rtol=0, atol=tol("jacobian"))


def test_one_switch_a_kink():
    """leaky_relu has one a unit, hard_tanh two; a second look at the same kink adds none."""
    for rule, n in (
        (jax.nn.leaky_relu, 3),
        (jax.nn.hard_tanh, 6),
        (lambda z: jax.nn.leaky_relu(z) + jax.nn.relu(-2 * z) + jnp.where(z < 0, 0, z), 3),
    ):
        assert relu_form(rd.Map(lambda z, _, rule=rule: rule(z)), 3).p_1.size == n


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (lambda z: jnp.where(z > 0, z, 2 * z - 1e-6), "got one that jumps at the condition"),
        (lambda z: jnp.where(1e20 * z > 0, z, z + 1e-3), "got one that jumps at the condition"),
        (lambda z: jnp.where(z[::-1] > 0, z, 2 * z), "got one that jumps at the condition"),
        (lambda z: jnp.where((z > 0) & (z < 1), z, 0), "got `and` on a condition"),
        (lambda z: 0.5 * z + (z > 50).astype(float), "got `convert_element_type` on a condition"),
        (lambda z: z + jnp.round(z / 100), "got `round`, which is not affine in z"),
        (lambda z: z * z, "which is not affine in z"),
        (lambda z: jnp.max(z) + 0 * z, "got `reduce_max`, which is not affine in z"),
    ],
)
def test_what_is_not_continuous_and_piecewise_linear(rule, message):
    """Jumps so rare or so small that a few samples would not show them."""
    with pytest.raises(ValueError, match=message):
        relu_form(rd.Map(lambda z, _: rule(z)), 2)
