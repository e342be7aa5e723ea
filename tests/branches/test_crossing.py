"""Crossing the nearest bifurcation of a trained GRU of 64 units: nothing before, a fold after."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rnndyn as rd
from tests.points.make_flip_flops import NETWORKS, load
from tests.tolerances import tol

BITS = np.array([[a, b, c] for a in (-1.0, 1.0) for b in (-1.0, 1.0) for c in (-1.0, 1.0)])
WEAKEST = 5  # of the eight memories the one whose bifurcation is nearest (bench_nearest)
BESIDE = 1e-3
NEAR = 0.25  # max norm; the memories themselves are more than twice as far from each other
CELL = NETWORKS["gru64"][0]


@jax.jit
def settled(params, z):
    return rd.orbit(rd.hold(CELL, params, jnp.zeros(3)), z, 6000)[-1]


@jax.jit
def gap_and_slope(params, z):
    map_ = rd.hold(CELL, params, jnp.zeros(3))
    return map_(z) - z, jax.jacfwd(map_)(z)


def newton(params, z):
    """Where 20 steps end, the unstable eigenvalues there, and the residual."""
    for _ in range(20):
        gap, slope = gap_and_slope(params, jnp.asarray(z))
        z = z - np.linalg.solve(np.asarray(slope) - np.eye(64), np.asarray(gap))
    gap, slope = gap_and_slope(params, jnp.asarray(z))
    unstable = np.sum(np.abs(np.linalg.eigvals(np.asarray(slope))) > 1)
    return z, int(unstable), float(np.max(np.abs(gap)))


@pytest.fixture(scope="module")
def crossing():
    _, params = load("gru64")
    written = [
        rd.orbit(rd.hold(CELL, params, jnp.asarray(bits)), jnp.zeros(64), 5)[-1] for bits in BITS
    ]
    memories = np.stack([settled(params, z) for z in written])
    apart = np.max(np.abs(memories[:, None] - memories[None]), axis=2) + np.eye(8)
    assert np.min(apart) > 2 * NEAR
    map_ = rd.hold(CELL, params, jnp.zeros(3))
    near = rd.bifurcation_proximity(map_, jnp.asarray(memories[WEAKEST])[None])

    def moved(fraction):
        return jax.tree.map(lambda a, b: a + fraction * (b[0] - a), params, near.nearest[0])

    return memories, near, moved


def test_the_nearest_bifurcation_is_a_fold_at_a_fixed_point(crossing):
    _, near, moved = crossing
    assert near.status.tolist() == [0] and near.nearest_kind.tolist() == [1]
    gap, slope = gap_and_slope(moved(1.0), near.nearest_z[0])
    assert np.max(np.abs(gap)) < tol("branch_residual")
    assert np.min(np.abs(np.linalg.eigvals(np.asarray(slope)) - 1)) < tol("event_position")


def pair(near, moved, memory, beside):
    """The memory, followed to `beside` before the bifurcation, and the saddle that it meets."""
    z = memory
    for fraction in 1 - np.geomspace(1, beside, 25):
        z, unstable, residual = newton(moved(fraction), z)
        assert unstable == 0 and residual < tol("root")
    critical = np.asarray(near.nearest_z[0])
    saddle, unstable, residual = newton(moved(1 - beside), 2 * critical - z)
    assert unstable == 1 and residual < tol("root")
    return z, saddle


def test_just_before_nothing_has_changed(crossing):
    """All memories are there and stable, and the weakest has its saddle at sqrt(distance)."""
    memories, near, moved = crossing
    apart = []
    for beside in (BESIDE, BESIDE / 4):
        node, saddle = pair(near, moved, memories[WEAKEST], beside)
        apart.append(np.linalg.norm(node - saddle))
    np.testing.assert_allclose(apart[0] / apart[1], 2, rtol=0.02)
    for memory in np.delete(memories, WEAKEST, axis=0):
        z, unstable, residual = newton(moved(1 - BESIDE), memory)
        assert unstable == 0 and residual < tol("root")
        assert np.max(np.abs(z - memory)) < NEAR


def test_just_after_both_are_gone_and_the_other_memories_are_not(crossing):
    memories, near, moved = crossing
    params = moved(1 + BESIDE)
    others = np.delete(memories, WEAKEST, axis=0)
    kept = np.stack([settled(params, z) for z in others])
    assert np.max(np.abs(kept - others)) < NEAR
    end = settled(params, near.nearest_z[0])
    distances = np.max(np.abs(kept - np.asarray(end)), axis=1)
    assert distances.min() < 1e-6, "the state runs through the gap to another memory"
    node, saddle = pair(near, moved, memories[WEAKEST], BESIDE)
    for start in (node, saddle):
        z, _, residual = newton(params, start)
        assert not (residual < tol("root") and np.max(np.abs(z - start)) < NEAR)
