"""The two factorisations: against SciPy, by rows, their derivatives, and zeros."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg

from rnndyn.core.factor import eliminate, lu, scaled_columns, sorted_qr, triangular_product
from tests.tolerances import tol

SHAPES = [(6, 6), (7, 3)]
ROWS = np.array([1e-12, 1e5, 1e-200, 1.0, 1e100, 1e-30, 3e5])  # no order, 300 decades


def gaussian(shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def by_rows(y, product):
    """The error of each row against its own size."""
    return np.max(np.abs(product - y), axis=1) / np.max(np.abs(y), axis=1)


@pytest.mark.parametrize("shape", SHAPES)
def test_rows_of_any_size_keep_their_digits(shape):
    y = ROWS[: shape[0], None] * gaussian(shape)
    q, r = (np.asarray(part) for part in sorted_qr(jnp.asarray(y)))
    assert np.max(by_rows(y, q @ r)) <= tol("factor")
    assert np.max(np.abs(q.T @ q - np.eye(shape[1]))) <= tol("factor")
    assert not np.any(np.tril(r, -1))
    frame, upper = (np.asarray(part) for part in eliminate(jnp.asarray(y)))
    assert np.max(by_rows(y, frame @ upper)) <= tol("factor")


@pytest.mark.parametrize("shape", SHAPES)
def test_elimination_is_that_of_scipy(shape):
    y = gaussian(shape)
    permuted, expected = scipy.linalg.lu(y, permute_l=True)[:2]
    frame, upper = eliminate(jnp.asarray(y))
    np.testing.assert_allclose(frame, permuted, rtol=0, atol=tol("factor"))
    np.testing.assert_allclose(upper, expected, rtol=0, atol=tol("factor"))
    packed, order = lu(jnp.asarray(y))[1:]
    np.testing.assert_array_equal(np.triu(packed[: shape[1]]), upper)
    lower = np.asarray(frame)[np.asarray(order)]
    np.testing.assert_array_equal(np.tril(lower, -1), np.tril(packed, -1))
    assert np.all(np.diagonal(lower) == 1) and not np.any(np.triu(lower, 1))


@pytest.mark.parametrize("shape", SHAPES)
def test_zero_rows_are_exact_zeros_of_the_triangle(shape):
    y = gaussian(shape)
    y[: 1 + shape[0] - shape[1]] = 0  # one more than a tall matrix can do without
    y[-1] = 0
    rank = np.sum(np.any(y != 0, axis=1))
    for factorise in (sorted_qr, eliminate):
        triangle = np.asarray(factorise(jnp.asarray(y))[1])
        assert not np.any(triangle[rank:])
        assert np.all(np.diagonal(triangle)[:rank] != 0)


def test_columns_are_scaled_and_zero_columns_left():
    a = np.array([[1e-300, 0.0, -8.0], [-4e-300, 0.0, 2.0]])
    b, sizes = scaled_columns(jnp.asarray(a))
    assert sizes.tolist() == [4e-300, 0.0, 8.0]
    np.testing.assert_allclose(b, [[0.25, 0.0, -1.0], [-1.0, 0.0, 0.25]], rtol=1e-15)


@pytest.mark.parametrize("shape", SHAPES)
def test_derivatives_equal_differences_in_both_modes(shape):
    y, direction, h = jnp.asarray(gaussian(shape)), jnp.asarray(gaussian(shape, 1)), 1e-5
    slopes = jax.jvp(eliminate, (y,), (direction,))[1]
    ahead, behind = eliminate(y + h * direction), eliminate(y - h * direction)
    weights = tuple(jnp.asarray(gaussian(part.shape, 2)) for part in slopes)
    back = jax.vjp(eliminate, y)[1](weights)[0]
    for slope, more, less in zip(slopes, ahead, behind, strict=True):
        np.testing.assert_allclose(
            slope, (more - less) / (2 * h), rtol=tol("flow_slope"), atol=1e-7
        )
    total = sum(jnp.sum(w * s) for w, s in zip(weights, slopes, strict=True))
    np.testing.assert_allclose(jnp.sum(back * direction), total, rtol=tol("transposed_slope"))


def test_a_pivot_without_digits_is_not_divided_by():
    y = gaussian((5, 5))
    y[:, 3] = 0
    slopes = jax.jvp(eliminate, (jnp.asarray(y),), (jnp.asarray(gaussian((5, 5), 1)),))[1]
    assert all(bool(jnp.all(jnp.isfinite(slope))) for slope in slopes)


def test_products_of_triangles():
    """Cut in two, odd sizes included; tangents may be full (a dead pivot's are)."""
    a, b, a_dot, b_dot = gaussian((4, 401, 401))
    a, b = np.triu(a), np.triu(b)
    got, slope = jax.jvp(triangular_product, (a, b), (a_dot, b_dot))
    assert not np.any(np.tril(got, -1))
    np.testing.assert_allclose(got, a @ b, rtol=0, atol=401 * tol("elementary"))
    np.testing.assert_allclose(slope, a_dot @ b + a @ b_dot, rtol=0, atol=401 * tol("elementary"))
