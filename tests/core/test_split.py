"""Split: a block and diagonals, against the full matrices that they stand for."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnndyn.core.split import (
    Layout,
    Split,
    all_finite,
    entries,
    largest_of_rows,
    times_transposed,
)
from tests.tolerances import tol

D = 9


def lstm():
    """Columns 0..3 full, the others two diagonals, a coordinate apart that feeds nothing."""
    pattern = np.zeros((D, D), bool)
    pattern[:8, :4] = True
    pattern[np.arange(8), 4 + np.arange(8) % 4] = True
    return pattern


def register():
    """Three rows full, the others copies."""
    pattern = np.eye(D, k=-3, dtype=bool)
    pattern[:3] = True
    return pattern


def scattered():
    """Rows and columns of the block that are not next to each other."""
    pattern = np.eye(D, dtype=bool)
    pattern[np.ix_([0, 2, 5, 6], [1, 2, 4, 8])] = True
    return pattern


def diagonals():
    return np.eye(D, dtype=bool) | np.eye(D, k=2, dtype=bool)


PATTERNS = [lstm, register, scattered, diagonals]


def matrix_of(pattern):
    full = np.where(pattern, np.random.default_rng(3).normal(size=(D, D)), 0)
    layout = Layout.of(pattern)
    assert layout is not None
    return full, layout.read(jnp.asarray(full) @ layout.seeds(float))


@pytest.mark.parametrize("make", PATTERNS)
def test_equals_the_full_matrix(make):
    full, split = matrix_of(make())
    other = np.random.default_rng(4).normal(size=(D, 5))
    assert np.array_equal(split.full(), full)
    np.testing.assert_allclose(split @ other, full @ other, atol=tol("elementary"))
    np.testing.assert_allclose(split.T @ other, full.T @ other, atol=tol("elementary"))
    np.testing.assert_allclose(jnp.asarray(other.T) @ split, other.T @ full, atol=tol("elementary"))
    assert np.array_equal(split.T.full(), full.T)
    row, column = np.random.default_rng(5).normal(size=(2, D))
    scaled = entries(split, lambda a, r, c: a * r / c, jnp.asarray(row), jnp.asarray(column))
    np.testing.assert_allclose(scaled.full(), row[:, None] * full / column, rtol=tol("elementary"))
    most = np.max(np.where(make(), full, -np.inf), axis=1)
    assert np.array_equal(largest_of_rows(split), most)


def test_layouts():
    """LSTM: half the entries, read from 4 + 1 products; a register needs all columns of 3 rows."""
    layout = Layout.of(lstm())
    assert layout == Layout(D, tuple(range(8)), (0, 1, 2, 3), ((0, 4, 4), (4, 4, 4)))
    assert layout.seeds(float).shape == (D, 5)
    assert layout.fill == (8 * 4 + 8) / D**2
    assert layout.transposed.bands == ((4, 0, 4), (4, 4, 4))
    assert Layout.of(register()) == Layout(D, (0, 1, 2), tuple(range(D)), ((3, 0, 6),))
    assert Layout.of(register()).seeds(float).shape == (D, D)
    assert Layout.of(np.random.default_rng(0).uniform(size=(40, 40)) < 0.05) is None
    assert Layout.of(np.ones((3, 3), bool)).fill == 1


def test_batches_and_derivatives():
    full, split = matrix_of(lstm())
    pair = jax.tree.map(lambda leaf: jnp.stack([leaf, 2 * leaf]), split)
    assert np.array_equal(pair.full(), np.stack([full, 2 * full]))
    v, u = np.random.default_rng(6).normal(size=(2, D, 2))
    both = jax.vmap(lambda s: s @ v)(pair)
    np.testing.assert_allclose(both[1], 2 * full @ v, atol=tol("elementary"))
    slope = jax.grad(lambda s: jnp.sum(u * (s @ v)) + jnp.sum(v * (s.T @ u)))(split)
    expected = 2 * np.where(lstm(), u @ v.T, 0)
    np.testing.assert_allclose(slope.full(), expected, atol=tol("elementary"))


def test_one_bad_entry_is_seen():
    _, split = matrix_of(lstm())
    assert all_finite(split) and all_finite(split.full())
    first, second = split.bands
    bad = Split(split.layout, split.block, (first, second.at[2].set(jnp.nan)))
    assert not all_finite(bad)


def test_times_transposed():
    a, b = np.random.default_rng(7).normal(size=(2, 4, 4))
    np.testing.assert_allclose(times_transposed(jnp.asarray(a), b), a.T @ b, atol=tol("elementary"))
