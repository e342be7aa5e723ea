"""Newton steps at a root with one inverse: where they end, to the last bit."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from rnndyn.points import certify, local
from tests.points.searches import affine, tanh_net
from tests.tolerances import tol

SIZE = 5
MOVABLE = jnp.asarray(True)


def test_one_newton_step_solves_an_affine_map():
    """From far away, with the inverse at the start, whatever the matrix is like transposed."""
    matrix, shift, map_ = affine(SIZE)
    root = np.linalg.solve(np.eye(SIZE) - matrix, shift)
    at = local.linearize(map_, jnp.asarray(root + 3.0))
    assert np.allclose(local._polish(map_, at)[0], root, rtol=0, atol=tol("root"))
    assert np.allclose(np.linalg.norm(root - at.z) * 2, local.reach(at, at.g), rtol=1e-6)


def test_a_root_has_the_same_bits_from_wherever_it_was_reached():
    weights = np.array([[1.9, 0.6], [0.2, 1.4]])
    approach, map_ = jax.jit(local.approach), tanh_net(weights)
    near = np.array([1.0, 1.0])
    for _ in range(200):
        near = np.tanh(weights @ near)
    draws = np.random.default_rng(1).standard_normal((24, 2))
    reached = [approach(map_, jnp.asarray(near + 1e-3 * draw), MOVABLE) for draw in draws]
    ends = np.array([end for end, _, _, _ in reached])
    assert all(bool(isolated) for _, _, _, isolated in reached)
    assert np.max(np.abs(ends[0] - near)) <= tol("root")
    assert np.array_equal(ends, np.broadcast_to(ends[0], ends.shape))
    zero = approach(map_, jnp.array([-1e-13, 1e-13]), MOVABLE)[0]
    assert np.array_equal(zero, [0, 0]) and not np.any(np.signbit(zero))
    assert len({float(at.smallest.value) for _, _, at, _ in reached}) == 1


def test_points_are_chased_to_a_root_with_its_inverse():
    """On an affine map the first step ends at the root, from anywhere, and at no other point."""
    matrix, shift, map_ = affine(SIZE)
    root = np.linalg.solve(np.eye(SIZE) - matrix, shift)
    inverse = jnp.asarray(np.linalg.inv(matrix - np.eye(SIZE)))
    start = root + np.random.default_rng(1).standard_normal((3, SIZE))
    start[1] = np.nan

    def reached(z, inverse=inverse):
        there = certify.undecided(jnp.asarray(z)[None])
        point = jax.tree.map(lambda leaf: leaf[0], there)
        point = dataclasses.replace(point, radius=jnp.asarray(1e-14))
        limit = jnp.asarray(tol("root"))
        return certify._chase(map_, jnp.asarray(start), point, inverse, limit).tolist()

    assert reached(root) == [True, False, True]
    assert reached(root, inverse.T) == reached(root + 9.0) == [False] * 3
