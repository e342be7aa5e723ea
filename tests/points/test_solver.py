"""One step of the descent against the normal equations it solves."""

import jax.numpy as jnp
import numpy as np

import rnndyn as rd
from rnndyn.points import solver
from tests.points.searches import affine

SIZE = 5


def one_step(starts, scaled):
    """Starts of an affine map after one step, and their G = A z + b and A."""
    matrix, shift, map_ = affine(SIZE)
    a, z = matrix - np.eye(SIZE), np.asarray(starts)
    now = solver.descend(
        map_,
        solver.begin(jnp.asarray(z)),
        jnp.ones(len(z), bool),
        jnp.asarray(0.0),
        jnp.asarray(1),
        jnp.asarray(4 * SIZE),
        jnp.asarray(scaled),
    )
    assert set(now.steps.tolist()) == {1}
    return np.asarray(now.z) - z, z @ a.T + shift, a


def test_a_step_minimises_the_damped_residual():
    """(A^T A + mu) s = -A^T G, mu = |G|^2 / d; near a root to |G| of the right side."""
    matrix, shift, _ = affine(SIZE)
    root = np.linalg.solve(np.eye(SIZE) - matrix, shift)
    draws = np.random.default_rng(1).standard_normal((3, SIZE))
    step, g, a = one_step(root + 1e-4 * draws, scaled=False)
    square = np.sum(g**2, axis=1, keepdims=True)
    left = g @ a + step @ (a.T @ a) + square / SIZE * step
    slope = np.linalg.norm(g @ a, axis=1)
    assert np.all(np.linalg.norm(left, axis=1) <= 1.01 * np.sqrt(square[:, 0]) * slope)


def test_far_from_roots_a_step_solves_to_a_tenth():
    draws = 10 * np.random.default_rng(2).standard_normal((3, SIZE))
    step, g, a = one_step(draws, scaled=False)
    mu = np.sum(g**2, axis=1, keepdims=True) / SIZE
    left = np.linalg.norm(g @ a + step @ (a.T @ a) + mu * step, axis=1)
    slope = np.linalg.norm(g @ a, axis=1)
    assert np.all(left <= 0.101 * slope) and np.all(step.any(axis=1))


def test_rows_are_measured_to_about_a_third():
    """1 / |A_i| from sign vectors, and exactly where a row has one entry."""
    a = np.random.default_rng(3).standard_normal((SIZE, SIZE))
    a[2] = [0, 0, 0, -7.0, 0]
    push = lambda v: v @ jnp.asarray(a.T)  # noqa: E731
    weight = solver._row_weights(push, jnp.zeros((2, SIZE)), jnp.asarray(solver._PROBES))
    ratio = np.asarray(weight) * np.linalg.norm(a, axis=1)
    assert np.all((ratio > 0.5) & (ratio < 2)) and np.allclose(ratio[:, 2], 1, rtol=1e-12)
    assert np.all(solver._row_weights(push, jnp.zeros((2, SIZE)), jnp.asarray(0)) == 1)


def test_the_map_is_followed_while_it_helps():
    """F(z) = z / 4 quarters G at each step: three steps if asked for, fewer near the goal."""
    map_ = rd.Map(lambda z, _: 0.25 * z)
    now = solver.begin(jnp.array([[4.0, -8.0], [0.016, 0.0]]))
    end = solver.relax(map_, now, jnp.array([3, 3], jnp.int32), jnp.asarray(0.5), jnp.asarray(1e-2))
    assert np.array_equal(end.z, [[0.0625, -0.125], [0.004, 0.0]])
    assert end.steps.tolist() == [3, 1]
