"""search: goes on until the evidence is satisfied, and says why it stopped."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rnndyn as rd
from rnndyn.points.search import Deflated
from rnndyn.points.unique import missing
from tests.points.searches import cube, tanh_net


def test_all_points_from_starts_beside_one_of_them():
    """From there the first round finds one point of index 1, which alone proves nothing."""
    seen = []
    starts = 0.9 + 0.05 * cube(64, 2)
    result = rd.search(
        tanh_net(2 * np.eye(2)),
        starts,
        key=jax.random.key(1),
        progress=lambda n, points: seen.append((n, len(points.z))),
    )
    assert seen[0] == (64, 1)
    assert len(result.points.z) == 9 and result.reason == "evidence"
    assert seen[-1][0] == 64 * result.rounds == len(result.found.z)
    assert result.missing < 0.5
    assert int(jnp.sum(result.points.hits)) == int(jnp.sum(result.found.kind == rd.Kind.ROOT))


def test_a_budget_that_ends_is_said():
    starts = 0.9 + 0.05 * cube(64, 2)
    map_ = tanh_net(2 * np.eye(2))
    result = rd.search(map_, starts, key=jax.random.key(1), max_rounds=1)
    assert (result.reason, result.rounds, len(result.points.z)) == ("budget", 1, 1)


def test_evidence_needs_the_index_sum_and_counts_only_random_starts():
    """All 9 points do not sum to 0; starts that deflation sent off are no random sample."""
    starts, map_ = 0.9 + 0.05 * cube(64, 2), tanh_net(2 * np.eye(2))
    result = rd.search(map_, starts, key=jax.random.key(1), index_sum=0, max_rounds=6)
    assert (result.reason, result.rounds, len(result.points.z)) == ("budget", 6, 9)
    second = rd.search(map_, starts, key=jax.random.key(1), max_rounds=2)
    assert missing(second.points.hits) > 0 == second.missing


def test_deflation_keeps_other_roots_and_removes_the_known():
    def cubic(z, _):
        return z - z * (z - 1) * (z + 1)

    roots = jnp.array([[1.0], [jnp.inf]])
    deflated = rd.Map(Deflated(cubic), (None, roots))
    assert float(deflated(jnp.array([-1.0]))[0]) == -1
    near = deflated(jnp.array([1 + 1e-6])) - (1 + 1e-6)
    assert abs(float(near[0])) > 1e5


def test_missing_by_hand():
    """Chao 1984: f1 (f1 - 1) / (2 (f2 + 1))."""
    assert missing([1, 1, 1, 2, 7]) == 3 * 2 / (2 * 2)
    assert missing([3, 4]) == 0 and missing([]) == 0


def test_missing_estimates_classes_that_were_not_drawn():
    """200 draws from 100 equal classes leave 13.4 unseen on average."""
    rng = np.random.default_rng(0)
    drawn = [np.bincount(rng.integers(0, 100, 200), minlength=100) for _ in range(200)]
    estimate = np.mean([missing(hits[hits > 0]) for hits in drawn])
    assert abs(estimate / np.mean([np.sum(hits == 0) for hits in drawn]) - 1) < 0.1


def test_bad_until():
    with pytest.raises(ValueError, match="`until`: expected one of 'index', 'budget', got 'all'"):
        rd.search(tanh_net([[1.5]]), jnp.zeros((2, 1)), key=jax.random.key(0), until="all")


def test_keys_and_cells_in_the_wrong_place():
    map_, starts = rd.maps.henon(), jnp.zeros((2, 2))
    with pytest.raises(TypeError, match="^`key`: expected one random key of JAX, got 0; pass jax"):
        rd.search(map_, starts, key=0)
    with pytest.raises(TypeError, match="^`map_`: expected a Map, got a Vanilla.*hold a cell by"):
        rd.search(rd.cells.Vanilla(2, 2), starts, key=jax.random.key(0))
