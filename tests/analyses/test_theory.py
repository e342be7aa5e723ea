"""The lines of theory against published numbers, closed forms and eigenvalues."""

import math

import numpy as np
import pytest
from scipy import integrate

from analyses import theory


@pytest.mark.parametrize("gain, exponent", [(1.5, 0.0652172), (2.0, 0.1547242)])
def test_mean_field_of_the_undriven_network(gain, exponent):
    """Molgedey et al. 1992; Engelken, Wolf & Abbott 2023: half the log of g^2 E sech^4."""
    assert abs(theory.tanh_network(gain, 0.0) - exponent) < 1e-7


def test_mean_field_at_high_gain_where_the_derivative_is_a_narrow_peak():
    """Against adaptive quadrature, at a variance that solves its own equation."""

    def mean(function):
        def weighted(z):
            return math.exp(-z * z / 2) / math.sqrt(2 * math.pi) * function(z)

        return integrate.quad(weighted, -10, 10, limit=400, points=[0])[0]

    gain, q = 8.0, 1.0
    for _ in range(50):
        q = gain**2 * mean(lambda z: math.tanh(math.sqrt(q) * z) ** 2) + 1.0  # noqa: B023
    expected = 0.5 * math.log(gain**2 * mean(lambda z: math.cosh(math.sqrt(q) * z) ** -4))
    assert abs(theory.tanh_network(gain, 1.0) - expected) < 1e-8


def test_mean_field_of_weak_gain_and_weak_input_is_linear():
    assert abs(theory.tanh_network(0.5, 1e-12) - math.log(0.5)) < 1e-9


def test_order_one_is_the_plain_network_and_the_root_solves_its_polynomial():
    exponent = theory.tanh_network(0.5, 1e-12, order=3)
    x, a = math.exp(2 * exponent), (0.5 / 3) ** 2
    assert abs(x**3 - a * (1 + x + x**2)) < 1e-9


def test_gru_at_rest_is_the_edge_of_the_disc():
    """J(0) = I/2 + U/4 without biases; U normal, its eigenvalues fill the disc of radius g."""
    rng = np.random.default_rng(0)
    u = 3.0 * rng.standard_normal((600, 600)) / math.sqrt(600)
    edge = np.max(np.linalg.eigvals(np.eye(600) / 2 + u / 4).real)
    assert abs(math.log(edge) - theory.gru_at_rest(3.0, 0.0)) < 0.05
    assert theory.gru_at_rest(2.0, 1.3) == pytest.approx(0.0, abs=1e-15)


def test_lstm_at_rest_loses_stability_where_it_should():
    """Real eigenvalue w of U_g at w = 4 (1 - f): 2 for b = 0, 1.0757656854799804 for b = 1."""
    assert theory.lstm_at_rest(2.0, 0.0) == pytest.approx(0.0, abs=1e-15)
    assert theory.lstm_at_rest(1.0757656854799804, 1.0) == pytest.approx(0.0, abs=1e-14)


def test_narx_of_one_unit_is_its_polynomial():
    weights = np.array([0.3, -0.2, 0.5])
    expected = math.log(np.max(np.abs(np.roots([1.0, *-weights]))))
    assert theory.narx_at_rest(weights.reshape(3, 1, 1)) == pytest.approx(expected, rel=1e-12)


def test_clockwork_is_the_slowest_eigenvalue_of_its_monodromy():
    """Two modules of two units, periods 2 and 3: the product of the Jacobians of six steps."""
    rng = np.random.default_rng(0)
    w = np.triu(np.ones((2, 2))).repeat(2, 0).repeat(2, 1) * rng.standard_normal((4, 4)) / 2
    product = np.eye(4)
    for t in range(6):
        fires = np.repeat([t % 2 == 0, t % 3 == 0], 2)
        product = np.where(fires[:, None], w, np.eye(4)) @ product
    expected = math.log(np.max(np.abs(np.linalg.eigvals(product)))) / 6
    found = theory.clockwork_at_rest([w[:2, :2], w[2:, 2:]], (2, 3))
    assert found == pytest.approx(expected, rel=1e-10)


def test_sru_without_feedback_decays_at_its_largest_alpha_and_with_it_as_its_jacobian():
    alphas = np.array([0.25, 0.9])
    assert theory.sru_at_rest(alphas, np.zeros((3, 6))) == pytest.approx(math.log(0.9), rel=1e-12)
    feedback = np.random.default_rng(1).standard_normal((3, 6)) / 4

    def step(mu):
        return (alphas[:, None] * mu + (1 - alphas)[:, None] * (feedback @ mu.ravel())).ravel()

    jacobian = np.stack([step(unit.reshape(2, 3)) for unit in np.eye(6)], axis=1)
    expected = math.log(np.max(np.abs(np.linalg.eigvals(jacobian))))
    assert theory.sru_at_rest(alphas, feedback) == pytest.approx(expected, rel=1e-12)


def test_fru_bounds_run_backwards_from_the_last_step_and_do_not_need_its_number():
    cosines = np.array([[1.0, 0.0], [0.6, 0.8], [0.0, 0.5]])
    lower, upper = theory.fru_bounds(1.2, cosines)
    np.testing.assert_allclose(upper[:3], [0.0, math.log(1.2), math.log(1.2 * 1.4)], rtol=1e-12)
    np.testing.assert_allclose(lower[:3], [0.0, math.log(0.8), math.log(0.8 * 0.6)], rtol=1e-12)
    many = theory.fru_bounds(1.2, np.ones((10**5, 2)))[:, -1]
    np.testing.assert_allclose(many, [-1.2 * math.sqrt(2), 1.2 * math.sqrt(2)], rtol=1e-4)
    assert theory.fru_bounds(6.0, cosines)[0, -1] == -np.inf


def test_untied_gru_misses_the_edge_of_the_tied_one():
    """Weights drawn anew at each step: rest loses stability at sqrt(12), tied at 2."""
    assert theory.untied_gru(3.3) < 0.0 < theory.untied_gru(3.6)
    assert theory.untied_gru(2.0) == pytest.approx(math.log(0.5) / 2, abs=1e-9)


def test_dimension_starts_at_the_edge_and_stays_a_fraction():
    assert theory.tanh_dimension(0.9) == 0.0
    assert 0.2 < theory.tanh_dimension(2.0) < 0.3 < theory.tanh_dimension(3.0) + 0.05
