"""Plain networks: printed oracles, closed forms, adaptive quadrature, drawn networks."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate

import rnndyn as rd
from tests.tolerances import tol

MEAN = rd.mean_field
ERF = jax.scipy.special.erf


def average(function):
    def weighted(z):
        return math.exp(-z * z / 2) / math.sqrt(2 * math.pi) * function(z)

    return integrate.quad(weighted, -12, 12, limit=800, points=[0], epsabs=1e-14)[0]


@pytest.mark.parametrize(
    "gain, bias, variance, chi",
    [
        (1.5, 0.0, 0.7933540426, 1.1393232250),
        (1.5, 0.05, 0.8894249173, 1.0923379295),
        (2.0, 0.0, 2.1214735682031785, 1.3626733375215272),
        (3.0, 0.0, 6.3053914787788540, 1.8598551908089248),
    ],
)
def test_order_parameters_of_tanh(gain, bias, variance, chi):
    """Schoenholz et al. 2017; the last two with mpmath at 20 digits."""
    field = MEAN.vanilla(gain, bias)
    assert int(field.status) == 0
    np.testing.assert_allclose(field.variance, variance, rtol=tol("printed_mean_field"))
    np.testing.assert_allclose(field.chi, chi, rtol=tol("printed_mean_field"))
    np.testing.assert_allclose(field.exponent, math.log(chi) / 2, rtol=10 * tol("printed_8"))


@pytest.mark.precision
@pytest.mark.parametrize("gain, s2", [(8.0, 1.0), (4.0, 0.0), (0.7, 0.3)])
def test_against_adaptive_quadrature_where_the_derivative_is_narrow(gain, s2):
    field = MEAN.vanilla(gain, s2)
    q = float(field.variance)
    again = gain**2 * average(lambda z: math.tanh(math.sqrt(q) * z) ** 2) + s2
    np.testing.assert_allclose(q, again, rtol=tol("quadrature"))
    chi = gain**2 * average(lambda z: math.cosh(math.sqrt(q) * z) ** -4)
    fourth = gain**4 * average(lambda z: math.cosh(math.sqrt(q) * z) ** -8)
    np.testing.assert_allclose(field.chi, chi, rtol=tol("order_parameter"))
    np.testing.assert_allclose(
        field.relative_variance, fourth / chi**2, rtol=tol("order_parameter")
    )
    np.testing.assert_allclose(field.activity, (q - s2) / gain**2, rtol=tol("order_parameter"))


def test_erf_networks_have_closed_forms():
    """Williams 1998: E erf erf = (2/pi) asin(2 q c / (1 + 2 q)); so is the critical line."""
    gain, s2 = MEAN.critical_line(1.0, activation=ERF)
    np.testing.assert_allclose(gain**2, 1.7562036827601817, rtol=tol("order_parameter"))
    np.testing.assert_allclose(s2, 0.18413967780745277, rtol=tol("order_parameter"))
    g, s2, c_in = 2.5, 0.3, 0.4
    field = MEAN.vanilla(g, s2, activation=ERF, input_correlation=c_in)
    q, c = float(field.variance), float(field.correlation)
    strength = 2 * g**2 / math.pi
    np.testing.assert_allclose(q, strength * math.asin(2 * q / (1 + 2 * q)) + s2, rtol=1e-12)
    mapped = (strength * math.asin(2 * q * c / (1 + 2 * q)) + s2 * c_in) / q
    np.testing.assert_allclose(c, mapped, rtol=tol("order_parameter"))
    slope = strength * 2 / (1 + 2 * q) / math.sqrt(1 - (2 * q * c / (1 + 2 * q)) ** 2)
    length = 1 / abs(math.log(slope))
    np.testing.assert_allclose(field.correlation_length, length, rtol=tol("order_parameter"))


def test_rectifiers_are_linear_in_the_variance():
    field = MEAN.vanilla(1.0, 0.5, activation="relu")
    assert (float(field.chi), float(field.relative_variance)) == pytest.approx((0.5, 2.0))
    assert float(field.variance) == pytest.approx(1.0)
    unbounded = MEAN.vanilla(1.5, 0.5, activation="relu")
    assert int(unbounded.status) == -2 and bool(jnp.isnan(unbounded.chi))
    assert bool(jnp.isnan(MEAN.critical_gain(0.1, activation="relu")))


def test_rest_order_and_chaos():
    rest, order, chaos = MEAN.vanilla(0.5), MEAN.vanilla(0.5, 0.2), MEAN.vanilla(3.0, 0.2)
    assert (float(rest.variance), float(rest.correlation)) == (0.0, 1.0)
    np.testing.assert_allclose(rest.chi, 0.25, rtol=tol("elementary"))
    np.testing.assert_allclose(rest.correlation_length, 1 / math.log(4), rtol=tol("elementary"))
    np.testing.assert_allclose(order.correlation, 1.0, rtol=tol("order_parameter"))
    np.testing.assert_allclose(order.correlation_length, 1 / abs(math.log(order.chi)))
    assert float(chaos.chi) > 1 and float(chaos.correlation) < 0.7


def test_orders_share_the_gain_and_the_root_solves_its_polynomial():
    field = MEAN.vanilla(0.5, 1e-12, order=3)
    x, a = float(field.chi), (0.5 / 3) ** 2
    assert abs(x**3 - a * (1 + x + x**2)) < 1e-9
    one, plain = MEAN.vanilla(1.7, 0.4, order=1), MEAN.vanilla(1.7, 0.4)
    assert float(one.chi) == float(plain.chi)


def test_squared_singular_values_of_drawn_products():
    """Untied products of 6 steps D W at the critical point: mean chi^6 = 1, relative variance 6 r
    (Pennington, Schoenholz & Ganguli 2017; r for Gaussian and for orthogonal weights)."""
    q, rng, steps, n = 0.6, np.random.default_rng(0), 6, 300
    gain, s2 = (float(value) for value in MEAN.critical_line(q))
    for weights in ("gaussian", "orthogonal"):
        product = np.eye(n)
        for _ in range(steps):
            w = rng.standard_normal((n, n)) / math.sqrt(n)
            if weights == "orthogonal":
                w = np.linalg.qr(w)[0]
            slope = 1 - np.tanh(math.sqrt(q) * rng.standard_normal(n)) ** 2
            product = slope[:, None] * (gain * w) @ product
        squared = np.linalg.svd(product, compute_uv=False) ** 2
        field = MEAN.vanilla(gain, s2, weights=weights)
        assert abs(squared.mean() - 1) < 0.15
        spread = squared.var() / squared.mean() ** 2
        assert abs(spread / (steps * float(field.relative_variance)) - 1) < 0.2


@pytest.mark.precision
def test_all_exponents_of_a_linear_network_are_newmans_law():
    found = MEAN.exponent_density(1.5, 0.0, k=50)
    expected = math.log(1.5) + np.log1p(-np.asarray(found.rank)) / 2
    np.testing.assert_allclose(found.exponents, expected, atol=tol("root_by_halving"))
    # the integral of ln g + ln(1 - t)/2 returns to 0
    t = float(found.kaplan_yorke)
    integral = t * math.log(1.5) - ((1 - t) * math.log1p(-t) + t) / 2
    assert abs(integral) < 1e-3


def test_exponents_start_at_the_leading_one_and_dead_units_have_none():
    field = MEAN.vanilla(2.0)
    found = MEAN.exponent_density(2.0, field.variance, k=1000)
    assert abs(float(found.exponents[0]) - float(field.exponent)) < 2e-3
    assert bool(jnp.all(jnp.diff(found.exponents) < 0))
    rectified = MEAN.exponent_density(2.0, 1.0, activation="relu", k=10)
    assert np.isfinite(rectified.exponents).tolist() == [True] * 5 + [False] * 5


def test_exponents_of_a_drawn_network():
    n, gain = 100, 3.0
    w = gain * jax.random.normal(jax.random.key(0), (n, n)) / math.sqrt(n)
    map_ = rd.maps.tanh_network(w)
    points = rd.orbit(map_, jax.random.normal(jax.random.key(1), (n,)), 500)[150:]
    lin = rd.linearize(map_, points, dense=False)
    drawn = rd.lyapunov_spectrum(lin, k=n // 2, warmup=50)
    found = MEAN.exponent_density(gain, MEAN.vanilla(gain).variance, k=n)
    assert float(jnp.max(jnp.abs(drawn.exponents - found.exponents[: n // 2])[:25])) < 0.08
    assert abs(float(drawn.kaplan_yorke) / n - float(found.kaplan_yorke)) < 0.04


def test_derivatives_equal_differences():
    def numbers(gain, s2):
        field = MEAN.vanilla(gain, s2, input_correlation=0.5)
        return jnp.stack([field.variance, field.correlation, field.chi, field.correlation_length])

    gain, s2, h = 1.7, 0.3, 1e-5
    slopes = jax.jacrev(numbers, argnums=(0, 1))(gain, s2)
    expected = [
        (numbers(gain + h, s2) - numbers(gain - h, s2)) / (2 * h),
        (numbers(gain, s2 + h) - numbers(gain, s2 - h)) / (2 * h),
    ]
    np.testing.assert_allclose(slopes, expected, rtol=tol("flow_slope"))
    slope = jax.grad(MEAN.critical_gain)(0.3)
    expected = (MEAN.critical_gain(0.3 + h) - MEAN.critical_gain(0.3 - h)) / (2 * h)
    np.testing.assert_allclose(slope, expected, rtol=tol("flow_slope"))


def test_critical_gain_solves_and_starts_there():
    """Schoenholz et al. 2017: 1.7609546396 at bias variance 0.05; and a wide network is neutral."""
    gain = MEAN.critical_gain(0.05)
    np.testing.assert_allclose(gain**2, 1.7609546396, rtol=tol("printed_mean_field"))
    assert float(MEAN.critical_gain(0.0)) == 1.0
    with pytest.raises(ValueError, match="`activation`: expected a critical gain, got relu"):
        MEAN.Critical(1.0, "relu")
    start = MEAN.Critical(input_variance=1.0)
    gaussian, zero = rd.initializers.Gaussian(1.0), rd.initializers.Constant(0.0)
    cell = rd.cells.Vanilla(2, 300, "tanh", gaussian, start, zero)
    angles = jax.random.uniform(jax.random.key(0), (400,)) * 2 * jnp.pi
    inputs = jnp.stack([jnp.cos(angles), jnp.sin(angles)], axis=1)  # |x| = 1: variance 1
    for scale, low, high in ((1.0, -0.03, 0.03), (0.7, -0.5, -0.1), (1.5, 0.1, 0.5)):
        params = cell.init(jax.random.key(1), gain=scale)
        lin = rd.linearize(cell, params, rd.simulate(cell, params, inputs), dense=False)
        assert low < float(rd.lyapunov_spectrum(lin, k=1, warmup=100).exponents[0]) < high
