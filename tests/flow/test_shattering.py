"""shattering: Balduzzi's known cases, closed forms, and what brown noise gives by drawing it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rnndyn as rd
from rnndyn.flow import brown_autocorrelation
from tests.tolerances import tol

LINE = jnp.linspace(-2.0, 2.0, 128)[:, None]
LAGS = (0, 1, 4, 16)


def network(kind, depth, width=64):
    """A rectifier network of one input: plain, or with residual connections of strength 0.3."""

    def drawn(key):
        keys = jax.random.split(key, depth + 3)
        first, offset, out = (jax.random.normal(k, (width,)) for k in keys[:3])
        draw = jax.vmap(lambda k: jax.random.normal(k, (width, width)) * (2 / width) ** 0.5)
        weights = draw(keys[3:])

        def layer(h, w):
            pushed = w @ jax.nn.relu(h)
            return (h + 0.3 * pushed if kind == "residual" else pushed), None

        def function(x):
            h, _ = jax.lax.scan(layer, first * x[0] + offset, weights)
            return out @ jax.nn.relu(h)

        return function

    keys = jax.random.split(jax.random.key(0), 16)
    return jax.vmap(lambda key: rd.shattering(drawn(key), LINE, lags=LAGS))(keys)


def test_shallow_is_brown_deep_is_white_residual_between():
    """Balduzzi et al. 2017, figure 1: 1 layer, 24 plain layers, 24 residual ones."""
    brown = brown_autocorrelation(len(LINE), LAGS)
    shallow, deep, residual = (
        np.mean(network(*case).autocorrelation, axis=0)
        for case in (("plain", 0), ("plain", 24), ("residual", 24))
    )
    assert np.all(np.abs(shallow - brown)[:3] < 0.1) and abs(shallow[3] - brown[3]) < 0.25
    assert deep[2] < 0.5 and deep[3] < 0.2
    assert np.all(deep[1:] < residual[1:] - 0.05) and np.all(residual[1:] < brown[1:])


@pytest.mark.precision
def test_a_linear_function_has_one_gradient_and_nothing_to_correlate():
    found = rd.shattering(lambda x: 3.0 * x[0], LINE, lags=LAGS)
    assert int(found.status) == -5 and bool(jnp.all(jnp.isnan(found.autocorrelation)))
    np.testing.assert_allclose(found.cosine, 1.0, rtol=tol("jacobian"))


def test_against_a_sum_written_out():
    def function(x):
        return x[0] ** 3 * x[1] - jnp.cos(x[1])

    points = jax.random.normal(jax.random.key(2), (9, 2))
    found = rd.shattering(function, points, lags=(3, 0))
    x, y = np.asarray(points).T
    g = np.stack([3 * x**2 * y, x**3 + np.sin(y)], axis=1)
    centred = g - g.mean(axis=0)
    expected = [np.sum(centred[:6] * centred[3:]) / np.sum(centred**2), 1.0]
    np.testing.assert_allclose(found.autocorrelation, expected, rtol=tol("jacobian"))
    expected = [np.sum(g[:6] * g[3:]) / 6 / (np.sum(g**2) / 9), 1.0]
    np.testing.assert_allclose(found.cosine, expected, rtol=tol("jacobian"))


def test_brown_noise_by_drawing_it():
    rng = np.random.default_rng(0)
    walks = np.cumsum(rng.standard_normal((4000, 64)), axis=1)
    walks -= walks.mean(axis=1, keepdims=True)
    expected = [np.sum(walks[:, : 64 - k] * walks[:, k:]) / np.sum(walks**2) for k in (0, 5, 20)]
    np.testing.assert_allclose(brown_autocorrelation(64, (0, 5, 20)), expected, atol=0.02)


def test_scale_does_not_matter_and_nan_is_told():
    huge = rd.shattering(lambda x: 1e200 * jnp.sin(x[0]), LINE, lags=LAGS)
    unit = rd.shattering(lambda x: jnp.sin(x[0]), LINE, lags=LAGS)
    np.testing.assert_allclose(huge.autocorrelation, unit.autocorrelation, rtol=tol("jacobian"))
    bad = rd.shattering(lambda x: jnp.sqrt(x[0]), LINE, lags=LAGS)
    assert int(bad.status) == -3 and bool(jnp.all(jnp.isnan(bad.cosine)))


def test_misuse():
    with pytest.raises(ValueError, match="`points`: expected at least two, got 1"):
        rd.shattering(lambda x: x[0], LINE[:1])
    with pytest.raises(ValueError, match="`lags`: expected distinct lags"):
        rd.shattering(lambda x: x[0], LINE, lags=(128,))
