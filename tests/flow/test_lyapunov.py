"""lyapunov_spectrum: textbook maps, product laws, identities, derivatives, bad input."""

import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import digamma

import rnndyn as rd
from rnndyn.flow import kaplan_yorke, lyapunov_spectrum
from tests.tolerances import tol

from_jacobians = rd.Linearization.from_jacobians


def test_henon():
    """Exponents 0.41922, -1.62319, their sum ln 0.3, dimension 1.258 (Henon 1976)."""
    map_ = rd.maps.henon()
    points = rd.orbit(map_, jnp.array([0.1, 0.1]), 150_000)
    found = lyapunov_spectrum(rd.linearize(map_, points, dense=False), warmup=100)
    np.testing.assert_allclose(found.exponents, [0.41922, -1.62319], rtol=0, atol=4e-3)
    assert abs(jnp.sum(found.exponents) - math.log(0.3)) <= tol("log_sum")
    np.testing.assert_allclose(found.kaplan_yorke, 1.25827, atol=3e-3)
    np.testing.assert_allclose(found.entropy, found.exponents[0], rtol=0)
    error = jnp.abs(found.exponents[0] - 0.41922)
    assert error <= 5 * found.standard_error[0] <= 2e-2


@pytest.mark.parametrize(
    "r, expected, digits", [(4.0, math.log(2), 3e-3), (3.3, None, tol("exponent_digits"))]
)
def test_logistic(r, expected, digits):
    """r = 4: ln 2; the 2-cycle at r = 3.3: ln|4 + 2r - r^2|/2 (May 1976)."""
    expected = math.log(abs(4 + 2 * r - r * r)) / 2 if expected is None else expected
    map_ = rd.maps.logistic(r)
    lin = rd.linearize(map_, rd.orbit(map_, jnp.array([0.3]), 150_000))
    found = lyapunov_spectrum(lin, warmup=1000)
    np.testing.assert_allclose(found.exponents, [expected], rtol=0, atol=digits)


@pytest.mark.precision
def test_cat_map():
    """Arnold's cat: +-ln((3 + sqrt 5)/2)."""
    jacobians = jnp.broadcast_to(jnp.array([[2.0, 1.0], [1.0, 1.0]]), (3000, 2, 2))
    expected = math.log((3 + math.sqrt(5)) / 2)
    found = lyapunov_spectrum(from_jacobians(jacobians), warmup=50, tol=0.0)
    np.testing.assert_allclose(found.exponents, [expected, -expected], rtol=tol("jacobian"))
    found = lyapunov_spectrum(from_jacobians(jacobians), warmup=50)
    assert jnp.all(jnp.abs(found.exponents - jnp.array([expected, -expected])) <= found.error)


@pytest.mark.parametrize("n, k", [(8, 8), (8, 3), (2, 2)])
def test_gaussian_products(n, k):
    """lambda_k = [ln(2/N) + psi((N - k + 1)/2)]/2 for entries N(0, 1/N) (Newman 1986)."""
    jacobians = np.random.default_rng(0).normal(size=(40_000, n, n)) / math.sqrt(n)
    found = lyapunov_spectrum(from_jacobians(jnp.asarray(jacobians)), k=k)
    expected = 0.5 * (math.log(2 / n) + digamma((n - np.arange(k)) / 2))
    np.testing.assert_allclose(found.exponents, expected, rtol=0, atol=0.02)
    assert np.all(np.abs(found.exponents - expected) <= 5 * found.standard_error)


def test_sum_is_the_mean_log_determinant():
    w = 4 * jax.random.normal(jax.random.key(0), (12, 12)) / math.sqrt(12)
    map_ = rd.maps.tanh_network(w)
    lin = rd.linearize(map_, rd.orbit(map_, jnp.ones(12), 500))
    found = lyapunov_spectrum(lin)
    expected = np.mean(np.linalg.slogdet(lin.jacobians)[1])
    np.testing.assert_allclose(jnp.sum(found.exponents), expected, rtol=tol("log_sum"))


def test_fixed_point_gives_log_eigenvalues():
    """A quiescent tanh network: ln|eig W|, complex pairs as equal pairs; leading ones alone too."""
    w = np.random.default_rng(3).normal(size=(6, 6))
    w *= 0.9 / np.max(np.abs(np.linalg.eigvals(w)))
    map_ = rd.maps.tanh_network(jnp.asarray(w))
    lin = rd.linearize(map_, jnp.zeros((20_001, 6)))
    expected = np.sort(np.log(np.abs(np.linalg.eigvals(w))))[::-1]
    found = lyapunov_spectrum(lin, warmup=500).exponents
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-3)
    leading = lyapunov_spectrum(lin, k=2, warmup=500).exponents
    np.testing.assert_allclose(leading, expected[:2], rtol=0, atol=2e-3)


def test_leading_exponent_of_a_diagonal_is_not_missed():
    """Unit vectors as the first frame would stay in the slow subspace for ever."""
    jacobians = jnp.broadcast_to(jnp.diag(jnp.array([0.5, 0.6, 0.9])), (300, 3, 3))
    found = lyapunov_spectrum(from_jacobians(jacobians), k=1, warmup=200).exponents
    np.testing.assert_allclose(found, [math.log(0.9)], rtol=tol("jacobian"))


def test_theory_of_random_tanh_networks():
    """lambda_1 = ln(g^2 E sech^4)/2: 0.0652, 0.1547, 0.4344 (Molgedey et al. 1992)."""
    w = jax.random.normal(jax.random.key(1), (256, 256)) / 16.0

    @jax.jit
    def leading(gain):
        map_ = rd.maps.tanh_network(gain * w)
        points = rd.orbit(map_, jnp.cos(jnp.arange(256.0)), 1200)
        lin = rd.linearize(map_, points, dense=False)
        return lyapunov_spectrum(lin, k=1, warmup=200).exponents[0]

    found = [leading(gain) for gain in (1.5, 2.0, 4.0)]
    np.testing.assert_allclose(found, [0.0652172, 0.1547242, 0.4344303], rtol=0, atol=0.03)


@pytest.mark.parametrize(
    "exponents, dimension",
    [
        ([0.5, 0.1, -0.2, -1.0], 3.4),
        ([-1.0, -2.0], 0.0),
        ([1.0, 0.5], 2.0),
        ([0.41922, -1.62319], 1.2582692),
        ([0.0, -1.0], 1.0),
        ([1.0, -math.inf], 1.0),
        ([-1.0, 0.5], 1.5),
    ],
)
def test_kaplan_yorke(exponents, dimension):
    """Kaplan & Yorke 1979, with none, all and just one of the sums negative."""
    np.testing.assert_allclose(kaplan_yorke(jnp.array(exponents)), dimension, rtol=1e-6)
    shifted = kaplan_yorke(
        jnp.array(exponents), error=jnp.array([0.0, math.inf, 0.0, 0.0])[: len(exponents)]
    )
    np.testing.assert_allclose(shifted, dimension, rtol=1e-6)  # an unknown error excuses nothing


def test_kaplan_yorke_of_an_orthogonal_network_is_its_size():
    """All exponents vanish but for rounding, which their error says."""
    w = np.linalg.qr(np.random.default_rng(0).normal(size=(9, 9)))[0]
    found = lyapunov_spectrum(from_jacobians(jnp.broadcast_to(jnp.asarray(w), (200, 9, 9))))
    assert float(found.exponents.sum()) != 0 and float(found.kaplan_yorke) == 9
    assert kaplan_yorke(jnp.array([-1e-3, -1.0]), error=1e-4) == 0
    with pytest.raises(ValueError, match="^`len.exponents.`: expected a number in .1, inf., got 0"):
        kaplan_yorke(jnp.zeros(0))


def test_dense_equals_matrix_free_and_turned_coordinates():
    cell = rd.cells.Vanilla(3, 5)
    params = cell.init(jax.random.key(0), gain=2.0)
    run = rd.simulate(cell, params, jax.random.normal(jax.random.key(1), (400, 3)))
    dense = lyapunov_spectrum(rd.linearize(cell, params, run), warmup=100).exponents
    free = rd.linearize(cell, params, run, dense=False)
    found = lyapunov_spectrum(free, warmup=100).exponents
    np.testing.assert_allclose(found, dense, rtol=0, atol=tol("exponent_digits"))
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(5, 5)))[0]
    turned = turn @ np.asarray(free.jacobians) @ turn.T
    found = lyapunov_spectrum(from_jacobians(jnp.asarray(turned)), warmup=100).exponents
    # The first frame is another one in these coordinates: a transient of order 1/T is left.
    np.testing.assert_allclose(found, dense, rtol=0, atol=1e-3)


@pytest.mark.parametrize("k", [4, 3])
def test_a_dead_unit_gives_minus_infinity(k):
    """A unit that dies for one step annihilates one direction exactly."""
    jacobians = np.random.default_rng(1).normal(size=(50, 4, 4))
    jacobians[20, 1:3] = 0
    found = lyapunov_spectrum(from_jacobians(jnp.asarray(jacobians)), k=k)
    assert np.isneginf(found.exponents).tolist() == [False, False, True, True][:k]
    assert found.status == 0 and found.standard_error[2] == 0


@pytest.mark.parametrize("k", [4, 2])
def test_derivatives_equal_differences(k):
    rng = np.random.default_rng(2)
    jacobians, direction = (jnp.asarray(rng.normal(size=(12, 4, 4))) for _ in range(2))

    @jax.jit
    def exponents(jacobians):
        return lyapunov_spectrum(from_jacobians(jacobians), k=k, warmup=2).exponents

    _, forward = jax.jvp(exponents, (jacobians,), (direction,))
    h = 1e-6
    expected = (exponents(jacobians + h * direction) - exponents(jacobians - h * direction)) / (
        2 * h
    )
    np.testing.assert_allclose(forward, expected, rtol=tol("flow_slope"), atol=1e-7)
    weights = jnp.arange(1.0, k + 1)
    backward = jax.grad(lambda j: weights @ exponents(j))(jacobians)
    np.testing.assert_allclose(
        jnp.sum(backward * direction), weights @ forward, rtol=tol("transposed_slope")
    )


def test_a_bad_item_of_a_batch_stays_alone():
    jacobians = jnp.asarray(np.random.default_rng(3).normal(size=(3, 20, 4, 4)))
    spectra = jax.vmap(lambda j: lyapunov_spectrum(from_jacobians(j)))
    clean, bad = spectra(jacobians), spectra(jacobians.at[1, 4, 2, 3].set(jnp.inf))
    assert bad.status.tolist() == [0, -3, 0]
    for field in ("exponents", "standard_error", "kaplan_yorke", "entropy"):
        got, want = getattr(bad, field), getattr(clean, field)
        assert bool(jnp.all(jnp.isnan(got[1]))), field
        assert got[::2].tolist() == want[::2].tolist()


@pytest.mark.parametrize(
    "steps, options, sentence",
    [
        (0, {}, "`lin`: expected at least one step, got T = 0; "
         "an exponent is a mean over steps; linearize a longer run."),
        (5, {"k": 3}, "`k`: expected a number in [1, 2], got 3; "
         "z has d = 2 coordinates, so 1 to 2 exponents exist."),
        (5, {"k": 0}, "`k`: expected a whole number >= 1, got 0; "
         "z has d = 2 coordinates, so 1 to 2 exponents exist."),
        (5, {"warmup": 5}, "`warmup`: expected a number in [0, 4], got 5; "
         "this run has T = 5 steps, and one at least must remain."),
        (5, {"tol": -1.0}, "`tol`: expected a number in [0, inf], got -1.0; "
         "an error per step, for example 1e-9; 0 for QR at every step."),
        (5, {"tol": math.nan}, "`tol`: expected a number in [0, inf], got nan; "
         "an error per step, for example 1e-9; 0 for QR at every step."),
    ],
)  # fmt: skip
def test_misuse(steps, options, sentence):
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        lyapunov_spectrum(from_jacobians(jnp.ones((steps, 2, 2))), **options)


def test_one_step_has_no_error_to_give():
    found = lyapunov_spectrum(from_jacobians(2 * jnp.eye(2)[None]))
    np.testing.assert_allclose(found.exponents, [math.log(2)] * 2, rtol=tol("step"))
    assert jnp.all(jnp.isposinf(found.standard_error))
