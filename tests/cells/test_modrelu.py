"""modReLU: modulus and direction, the value and derivative at zero, NaN."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnndyn.cells.modrelu import modrelu
from tests.tolerances import tol


@pytest.mark.precision
@pytest.mark.parametrize("parts", [1, 2])
def test_it_moves_the_modulus_and_keeps_the_direction(parts):
    a = np.asarray(jax.random.normal(jax.random.key(parts), (parts, 9)))
    b = np.linspace(-1.5, 0.5, 9).astype(a.dtype)
    z = a[0] if parts == 1 else a[0] + 1j * a[1]
    expected = np.maximum(np.abs(z) + b, 0) * np.exp(1j * np.angle(z))
    got = np.asarray(modrelu(jnp.asarray(a), jnp.asarray(b)))
    got = got[0] if parts == 1 else got[0] + 1j * got[1]
    assert 0 < np.sum(got == 0) < 9
    np.testing.assert_allclose(got, expected, rtol=0, atol=tol("step"))


@pytest.mark.precision
def test_without_bias_it_is_the_identity_bit_for_bit():
    a = jax.random.normal(jax.random.key(0), (2, 50))
    assert np.array_equal(modrelu(a, jnp.zeros(50)), a)


@pytest.mark.precision
@pytest.mark.parametrize(("b", "slope"), [(0.0, 1.0), (-0.5, 0.0)])
@pytest.mark.parametrize("parts", [1, 2])
def test_the_derivative_at_zero_is_the_true_one(parts, b, slope):
    """The square root's own derivative at zero is infinite: a naive form gives NaN."""
    jacobian = jax.jacfwd(lambda a: modrelu(a[:, None], jnp.full(1, b))[:, 0])(jnp.zeros(parts))
    assert np.array_equal(jacobian, slope * np.eye(parts))


@pytest.mark.parametrize("eps", [0.0, 1e-5])
def test_above_zero_bias_and_with_eps_derivatives_at_zero_are_finite(eps):
    by_a, by_b = jax.grad(lambda a, b: modrelu(a, b, eps).sum(), (0, 1))(
        jnp.zeros((2, 3)), jnp.array([0.3, 0.0, -0.3])
    )
    assert np.isfinite(by_a).all() and np.isfinite(by_b).all()
    assert np.array_equal(modrelu(jnp.zeros((2, 1)), jnp.ones(1), eps), np.zeros((2, 1)))


def test_nan_passes():
    ones = jnp.ones((2, 1))
    for a, b in ((ones * jnp.nan, jnp.zeros(1)), (ones, jnp.full(1, jnp.nan))):
        assert np.isnan(modrelu(a, b)).all()
    assert np.isnan(modrelu(0 * ones, jnp.full(1, jnp.nan))).all()
    assert np.isnan(modrelu(jnp.array([[jnp.nan], [0.0]]), jnp.full(1, -9.0))).any()
