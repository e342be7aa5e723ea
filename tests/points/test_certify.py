"""What a point is: isolated, degenerate, a ghost, or none, where a residual alone would mislead."""

import jax.numpy as jnp
import numpy as np
import pytest

import rnndyn as rd
from rnndyn.points import Kind, fixed_points, unique
from tests.points.searches import STARTS, cube, gru_net, relu_net, roots, tanh_net
from tests.tolerances import tol

FOLD = 0.53283997535355202  # of h = tanh(2 h + b): 2 s - artanh s, s = sqrt(1/2)


def test_triple_root_is_one_degenerate_point_and_not_a_cloud():
    """h = tanh(h): Newton's method converges with ratio 2/3 only (own derivation)."""
    found = fixed_points(tanh_net([[1.0]]), cube(STARTS, 1))
    assert set(found.kind.tolist()) == {int(Kind.DEGENERATE)}
    assert len(unique(found).z) == 0
    points = unique(found, kinds=(Kind.ROOT, Kind.DEGENERATE))
    assert points.hits.tolist() == [STARTS]
    assert int(points.index_sum) == 0


@pytest.mark.precision
def test_a_fold_leaves_a_ghost_beyond_and_none_inside():
    inside = fixed_points(tanh_net([[2.0]], FOLD - 1e-3), cube(STARTS, 1))
    assert Kind.GHOST not in inside.kind.tolist()
    beyond = fixed_points(tanh_net([[2.0]], FOLD + 1e-3), cube(STARTS, 1))
    ghosts = np.asarray(beyond.kind) == Kind.GHOST
    assert ghosts.any()
    assert np.allclose(beyond.z[ghosts], -np.sqrt(0.5), rtol=0, atol=1e-3)
    assert set(np.asarray(beyond.status)[ghosts].tolist()) == {-1}
    assert np.all(np.isnan(beyond.passage[~ghosts]))


def test_passage_time_of_a_ghost():
    """Scalar tanh just beyond its fold: the steps counted by iteration (Strogatz 1994)."""
    map_ = tanh_net([[2.0]], FOLD + 1e-6)
    found = fixed_points(map_, jnp.full((STARTS, 1), -0.7))
    orbit = np.asarray(rd.orbit(map_, jnp.array([-1.0]), 8000))[:, 0]
    counted = np.sum((orbit > -0.8) & (orbit < -0.6))
    assert int(found.kind[0]) == Kind.GHOST
    assert abs(counted / float(found.passage[0]) - 1) < 0.03


def test_relu_line_attractor_is_one_continuum():
    """W = 0.5 ones: every (s, s), s >= 0, is a fixed point, none isolated."""
    map_ = rd.Map(relu_net, (jnp.full((2, 2), 0.5), jnp.zeros(2)))
    found = fixed_points(map_, cube(STARTS, 2, 3.0))
    inside = np.min(np.asarray(found.z), axis=1) > 1e-6
    assert np.sum(inside & (np.asarray(found.status) == 0)) > 200
    assert set(np.asarray(found.kind)[inside].tolist()) == {int(Kind.DEGENERATE)}
    points = unique(found, kinds=(Kind.DEGENERATE,))
    assert points.nullity.tolist() == [1]


def test_saturated_gates_yield_no_fakes():
    """|F(10) - 10| rounds to 0 in a GRU with update weight 5, yet 10 is no fixed point."""
    map_ = gru_net([[5.0]], [[0.0]], [[1.0]])
    found = fixed_points(map_, jnp.linspace(-12.0, 12.0, STARTS)[:, None])
    assert float(found.residual[470]) == 0 and float(found.z[470, 0]) > 10
    points = unique(found)
    assert points.z.shape == (1, 1)
    assert abs(float(points.z[0, 0])) < tol("root")
    far = np.abs(np.asarray(found.z[:, 0])) > 1e-3
    assert far.any() and not np.any(np.asarray(found.kind)[far] == Kind.ROOT)


def shifted(z, shift):
    return z + shift


def test_identity_is_degenerate_and_drift_has_no_root():
    start = cube(6, 2)
    same = fixed_points(rd.Map(shifted, jnp.zeros(2)), start)
    moved = fixed_points(rd.Map(shifted, jnp.ones(2)), start)
    assert set(same.kind.tolist()) == {int(Kind.DEGENERATE)}
    assert same.steps.tolist() == [0] * 6
    assert same.nullity.tolist() == [2] * 6 and moved.nullity.tolist() == [0] * 6
    assert np.array_equal(same.z, start)
    assert set(moved.status.tolist()) == {-1}
    assert set(moved.kind.tolist()) == {int(Kind.Q_MINIMUM)}


@pytest.mark.precision
@pytest.mark.parametrize("d", [1, 2, 3])
def test_index_and_sigma_min_against_numpy(d):
    """sign det(I - J) and the least singular value of J - I, J = D(1 - h^2) W, asymmetric W."""
    w = 1.8 * np.eye(d) + np.triu(np.full((d, d), 0.4), 1) - np.tril(np.full((d, d), 0.3), -1)
    points = roots(tanh_net(w, 0.05), d)
    z = np.asarray(points.z, float)
    gap = np.eye(d) - (1 - z**2)[:, :, None] * w
    assert {-1, 1} == set(points.index.tolist())
    assert np.array_equal(points.index, np.sign(np.linalg.det(gap)))
    values = np.linalg.svd(gap, compute_uv=False)
    ratio = np.asarray(points.sigma_min) / values[:, -1]
    assert np.all((ratio > 1 - tol("multiplier")) & (ratio < 1.01))
    apart = values[:, -1] < 0.5 * values[:, max(d - 2, 0)] if d > 1 else np.full(len(z), True)
    assert apart.any() and np.allclose(ratio[apart], 1, rtol=0, atol=tol("sigma_min"))


def ring(z, radius):
    return z * (1.5 - 0.5 * jnp.sum(z * z) / radius**2)


def test_ring_attractor_is_one_curve_around_an_isolated_point():
    """z (3 - |z|^2) / 2: every point of the unit circle is fixed, and the origin is a repeller."""
    found = fixed_points(rd.Map(ring, jnp.asarray(1.0)), cube(STARTS, 2, 1.2))
    points = unique(found, kinds=(Kind.ROOT, Kind.DEGENERATE))
    roots_, rings = (np.asarray(points.kind) == kind for kind in (Kind.ROOT, Kind.DEGENERATE))
    assert np.allclose(np.asarray(points.z)[roots_], 0, rtol=0, atol=tol("root"))
    assert roots_.sum() == 1 and rings.sum() == 1
    assert set(np.asarray(points.nullity)[rings].tolist()) == {1}
    radius = np.linalg.norm(np.asarray(points.z)[rings], axis=1)
    assert np.allclose(radius, 1, rtol=0, atol=tol("root_digits"))
