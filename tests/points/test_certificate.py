"""Proofs of existence and uniqueness: known radii, all points of trained networks, refusals."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rnndyn as rd
from rnndyn.points import certificate, fixed_points, unique
from tests.points.make_flip_flops import starts
from tests.tolerances import tol


@pytest.mark.precision
def test_the_radius_of_the_logistic_map_is_the_best_possible():
    """|1 - C DG| = 2 r x / (r - 1) < 1: up to half the distance between the two roots."""
    found = certificate(rd.maps.logistic(3.0), jnp.array([[2 / 3], [0.0]]))
    assert found.status.tolist() == [0, 0]
    assert np.all(np.asarray(found.radius) < tol("root"))
    radius = np.asarray(found.unique_radius)
    assert np.all(radius <= 1 / 3) and np.all(radius > 0.3333)


def test_a_point_near_a_root_proves_the_root():
    """The radius of existence holds the root, and is no more than four times its distance."""
    off = 1e-4
    found = certificate(rd.maps.logistic(3.0), jnp.array([[2 / 3 + off]]))
    assert found.status.tolist() == [0] and off <= float(found.radius[0]) <= 4 * off
    assert float(found.unique_radius[0]) > 0.3


@pytest.mark.parametrize("name, count", [("two_bits", 9), ("gru16", 27)])
def test_all_points_of_a_trained_network_are_roots_and_distinct(name, count):
    map_, begin = starts(name, 1024)
    points = unique(fixed_points(map_, begin)).z
    found = certificate(map_, points)
    assert found.status.tolist() == [0] * count
    gaps = np.max(np.abs(np.asarray(points)[:, None] - np.asarray(points)[None]), axis=2)
    np.fill_diagonal(gaps, np.inf)
    radius = np.asarray(found.unique_radius)
    assert np.all(found.radius < radius) and np.all(radius < gaps.min(axis=1))
    assert np.all(np.asarray(found.radius)[:, None] + radius < gaps)  # boxes of two never meet
    assert np.all(radius > 1e-3)


def test_what_cannot_be_proved_gets_a_status_and_harms_no_neighbour():
    map_ = rd.maps.logistic(1.0)  # at 0 a branch point
    z = jnp.array([[0.0], [0.3], [jnp.nan], [jnp.inf]])
    found = certificate(map_, z)
    assert found.status.tolist() == [-5, -1, -3, -3]
    assert np.all(np.isnan(found.radius))
    alone = certificate(map_, z[1:2])
    assert np.array_equal(found.unique_radius[1:2], alone.unique_radius)


def test_a_root_on_a_kink_is_proved_by_all_slopes_there():
    """relu(2 z) / 4 - z has slopes -1 to -1/2 at 0; relu(2 z) - z has -1 to 1, and so 0."""
    gentle = rd.Map(_relu, 0.25)
    assert certificate(gentle, jnp.zeros((1, 1))).status.tolist() == [0]
    assert certificate(rd.Map(_relu, 1.0), jnp.zeros((1, 1))).status.tolist() == [-5]


def _relu(z, scale):
    return scale * jax.nn.relu(2 * z)


@jax.custom_jvp
def surrogate(x):
    return jnp.tanh(2 * x)


surrogate.defjvp(lambda primals, tangents: (surrogate(*primals), 0.5 * tangents[0]))


def jumping(z, _):
    return jnp.where(z > 1.0, 0.5 * z + 1.0, 0.5 * z)  # roots 0 and 2


def held(z, _):
    return z * jax.lax.stop_gradient(3 * (1 - z))  # the logistic map


def lying(z, _):
    return surrogate(z)


@pytest.mark.parametrize(
    "rule, other", [(jumping, 2.0), (held, 2 / 3), (lying, 0.9575040240772687)]
)
def test_no_other_root_hides_behind_jumps_or_derivatives_that_are_none(rule, other):
    found = certificate(rd.Map(rule), jnp.zeros((1, 1)))
    assert found.status.tolist() == [0]
    assert 0.01 < float(found.unique_radius[0]) < other


def test_a_map_with_constant_slope():
    found = certificate(rd.Map(jumping), jnp.array([[2.0]]))
    assert found.status.tolist() == [0] and 0.9 < float(found.unique_radius[0]) <= 1


def test_it_maps_over_args():
    many = jax.vmap(lambda r: certificate(rd.maps.logistic(r), (1 - 1 / r)[None, None]))(
        jnp.array([2.5, 3.0, 3.5])
    )
    assert many.status.tolist() == [[0], [0], [0]]
    assert np.all(np.diff(np.asarray(many.unique_radius)[:, 0]) > 0)


def test_an_operation_without_bounds_is_named():
    def sorts(z, _):
        return jnp.sort(z)

    with pytest.raises(ValueError, match="`map_`: .* the operation sort"):
        certificate(rd.Map(sorts), jnp.zeros((1, 2)))
