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


def test_untied_gru_misses_the_edge_of_the_tied_one():
    """Weights drawn anew at each step: rest loses stability at sqrt(12), tied at 2."""
    assert theory.untied_gru(3.3) < 0.0 < theory.untied_gru(3.6)
    assert theory.untied_gru(2.0) == pytest.approx(math.log(0.5) / 2, abs=1e-9)


def test_dimension_starts_at_the_edge_and_stays_a_fraction():
    assert theory.tanh_dimension(0.9) == 0.0
    assert 0.2 < theory.tanh_dimension(2.0) < 0.3 < theory.tanh_dimension(3.0) + 0.05
