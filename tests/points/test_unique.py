"""unique: clustering of what a search returned."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnndyn.points import FixedPoints, Kind, fixed_points, unique
from tests.points.searches import STARTS, cube, tanh_net


def found_at(z, kind=None, index=None, radius=None, residual=None):
    """A search result with the given points, as an independent input."""
    z = np.asarray(z, float)
    n = len(z)
    column = np.zeros(n)
    return FixedPoints(
        z=z,
        residual=column if residual is None else np.asarray(residual, float),
        speed=column,
        status=np.zeros(n, int),
        kind=np.zeros(n, int) if kind is None else np.asarray(kind),
        steps=np.zeros(n, int),
        sigma_min=column + 1,
        index=np.ones(n, int) if index is None else np.asarray(index),
        radius=column if radius is None else np.asarray(radius, float),
        passage=column,
        nullity=np.zeros(n, int),
    )


def test_clusters_by_hand():
    z = [[1.0, 0], [1 + 1e-9, 0], [1, 1e-9], [0, 2], [5, 5]]
    kind = [Kind.ROOT] * 4 + [Kind.NONE]
    points = unique(found_at(z, kind, residual=[3e-16, 1e-16, 2e-16, 0, 1]))
    assert np.array_equal(points.z, [[0, 2], [1 + 1e-9, 0]])
    assert points.hits.tolist() == [1, 3]
    assert points.label.tolist() == [1, 1, 1, 0, -1]
    assert int(points.index_sum) == 2


def test_labels_are_rows_of_the_points_although_clusters_begin_elsewhere():
    """A chain from 0 to 1.8, known best at its end, and a point amid it of the other index."""
    chain = found_at(
        [[0.0], [1.0], [0.9], [1.8]], index=[1, -1, 1, 1], residual=[2e-16, 0, 2e-16, 1e-16]
    )
    points = unique(chain, atol=0.95)
    assert points.z.tolist() == [[1.0], [1.8]] and points.index.tolist() == [-1, 1]
    assert points.label.tolist() == [1, 0, 1, 1] and points.hits.tolist() == [1, 3]


def test_rows_that_are_not_finite_are_never_a_point():
    points = unique(found_at([[np.nan], [1.0], [np.inf]], [Kind.NONE] * 3), kinds=(Kind.NONE,))
    assert points.z.tolist() == [[1.0]] and points.label.tolist() == [-1, 0, -1]


def test_linkage_is_single_and_bounded_by_atol():
    chain = found_at(np.arange(10)[:, None] * 0.9e-3)
    assert len(unique(chain, atol=1e-3).z) == 1
    assert len(unique(chain, atol=0.8e-3).z) == 10


def test_the_two_roots_of_a_fold_stay_apart():
    """1e-9 apart, closer than atol, but of opposite index."""
    points = unique(found_at([[0.0], [1e-9], [0.0], [1e-9]], index=[1, -1, 1, -1]))
    assert points.hits.tolist() == [2, 2]
    assert int(points.index_sum) == 0


def test_degenerate_points_touch_by_radius():
    kind = [Kind.DEGENERATE] * 3
    near = found_at([[0.0], [0.3], [2.0]], kind, index=[0, 0, 0], radius=[0.2, 0.15, 0.1])
    assert len(unique(near).z) == 0
    assert unique(near, kinds=(Kind.DEGENERATE,)).hits.tolist() == [2, 1]


def test_order_of_starts_does_not_matter():
    found = fixed_points(tanh_net([[1.9, -0.6], [0.8, 1.6]]), cube(STARTS, 2))
    points = unique(found)
    order = np.random.default_rng(0).permutation(STARTS)
    shuffled = unique(found.rows(order))
    assert shuffled.map_ is points.map_ is found.map_
    for field in dataclasses.fields(points)[:-1]:
        left, right = np.asarray(getattr(points, field.name)), getattr(shuffled, field.name)
        left = left[order] if field.name == "label" else left
        assert np.array_equal(left, right), field.name


def test_many_starts_on_few_roots():
    rng = np.random.default_rng(0)
    z = rng.normal(size=(5, 8))[rng.integers(0, 5, 100_000)] + 1e-14 * rng.normal(size=(100_000, 8))
    points = unique(found_at(z))
    assert len(points.z) == 5 and int(jnp.sum(points.hits)) == 100_000


@pytest.mark.parametrize("atol", [0.0, -1.0, float("nan")])
def test_bad_atol(atol):
    with pytest.raises(ValueError) as caught:
        unique(found_at([[0.0]]), atol=atol)
    assert str(caught.value) == (
        f"`atol`: expected a number in (0, inf), got {atol}; pass for example 1e-6."
    )


def test_what_is_no_search_is_refused():
    with pytest.raises(TypeError, match="^`found`: expected FixedPoints, got .*Array.*pass what"):
        unique(jnp.zeros((3, 2)))


def test_kinds_come_as_a_tuple_and_searches_one_at_a_time():
    found = found_at([[0.0]])
    with pytest.raises(TypeError, match="^`kinds`: expected a tuple of rd.Kind, got <Kind.ROOT"):
        unique(found, kinds=Kind.ROOT)
    batch = jax.tree.map(lambda leaf: leaf[None], found)
    with pytest.raises(ValueError, match="^`found.z`: expected shape .*take one search of a"):
        unique(batch)
