"""Initial values: their distributions and bounds."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnndyn.cells.initializers import (
    Chrono,
    Constant,
    Gaussian,
    Glorot,
    Identity,
    Orthogonal,
    Staggered,
    Uniform,
)
from tests.tolerances import tol

KEY = jax.random.key(0)


def draws(initializer, shape, count):
    return np.asarray(jax.vmap(lambda k: initializer(k, shape))(jax.random.split(KEY, count)))


@pytest.mark.precision
@pytest.mark.parametrize("shape", [(6, 6), (6, 3), (3, 6)])
def test_orthogonal_rows_or_columns(shape):
    q = np.asarray(Orthogonal()(KEY, shape))
    gram = q.T @ q if shape[0] >= shape[1] else q @ q.T
    np.testing.assert_allclose(gram, np.eye(min(shape)), atol=tol("jacobian"))


def test_orthogonal_matrices_are_uniform_on_the_group():
    """Mezzadri 2007: E tr Q = 0 and E (tr Q)^2 = 1 for the Haar measure; raw QR is biased."""
    count = 4000
    q = draws(Orthogonal(), (4, 4), count)
    traces = np.trace(q, axis1=1, axis2=2)
    standard_error = 1 / math.sqrt(count)
    assert abs(traces.mean()) < 4 * standard_error
    assert abs((traces**2).mean() - 1) < 4 * math.sqrt(2) * standard_error
    raw = np.asarray(jnp.linalg.qr(jax.random.normal(KEY, (count, 4, 4)))[0])
    assert abs(np.trace(raw, axis1=1, axis2=2).mean()) > 20 * standard_error
    assert np.all(np.abs((q[:, range(4), range(4)] > 0).mean(axis=0) - 0.5) < 2 * standard_error)
    assert abs((np.linalg.det(q) > 0).mean() - 0.5) < 2 * standard_error


def test_uniform_bounds():
    torch = np.asarray(Uniform()(KEY, (400, 100)))
    assert 0.999 / 20 < np.abs(torch).max() <= 1 / 20
    assert 0.299 < np.abs(Uniform(0.3)(KEY, (100, 100))).max() <= 0.3


def test_glorot_bound_and_variance():
    w = np.asarray(Glorot()(KEY, (300, 100)))
    assert 0.999 * math.sqrt(6 / 400) < np.abs(w).max() <= math.sqrt(6 / 400)
    assert w.var() == pytest.approx(2 / 400, rel=0.02)


def test_gaussian_deviation():
    assert np.std(Gaussian()(KEY, (300, 100))) == pytest.approx(0.1, rel=0.02)
    assert np.std(Gaussian(0.001)(KEY, (300, 100))) == pytest.approx(0.001, rel=0.02)


def test_exact_values():
    assert np.array_equal(Constant(0.5)(KEY, (2, 3)), np.full((2, 3), 0.5))
    assert np.array_equal(Identity(0.5)(KEY, (2, 2)), 0.5 * np.eye(2))
    assert Staggered((-1.0, -3.0))(KEY, (5,)).tolist() == [-1, -3, -1, -3, -1]
    assert Staggered((1.0, 2.0))(KEY, (2, 3)).tolist() == [[1] * 3, [2] * 3]


def test_chrono_times():
    times = 1 + np.exp(np.asarray(Chrono(100.0)(KEY, (20000,))))
    assert 2 * (1 - tol("gate_bias")) <= times.min() and times.max() <= 100 * (1 + tol("gate_bias"))
    assert times.mean() == pytest.approx(51, rel=0.02)  # uniform: (2 + 100)/2


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: Uniform(-1.0),
            "`bound`: expected a number in [0, inf], got -1.0; pass a half-width.",
        ),
        (
            lambda: Gaussian(float("nan")),
            "`std`: expected a number in [0, inf], got nan; pass a standard deviation.",
        ),
        (
            lambda: Staggered(()),
            "`values`: expected a tuple of numbers, got (); pass for example (-1.0, -3.0, -5.0).",
        ),
        (
            lambda: Orthogonal()(KEY, (3,)),
            "`shape`: expected (n, m), got (3,); an orthogonal initial value is a matrix.",
        ),
    ],
)
def test_bad_options(make, message):
    with pytest.raises(ValueError) as caught:
        make()
    assert str(caught.value) == message
