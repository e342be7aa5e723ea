"""Diagonal Jacobians: equal to the dense path, exact zeros, derivatives, sizes beyond a chain."""

import dataclasses
import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rnndyn as rd
from rnndyn.cells.indrnn import IndRNN
from rnndyn.flow import gradient_flow, lyapunov_spectrum, singular_spectra
from rnndyn.linearize import Diagonal
from tests.tolerances import tol

CELL, STEPS, LAGS = IndRNN(3, 6), 200, (0, 3, 50, 200)
U = (0.9, -0.7, 0.5, 1.01, 0.8, -0.6)  # leading is unit 3: 1.01 grows


@pytest.fixture(scope="module")
def params():
    """Units 0 to 3 are always active; 4 and 5 fall silent now and then."""
    made = CELL.init(jax.random.key(0))
    bias = jnp.array([40.0, 40.0, 40.0, 40.0, 0.5, 0.5])
    return dataclasses.replace(made, u=jnp.array(U), b=bias)


@pytest.fixture(scope="module")
def run(params):
    return rd.simulate(CELL, params, jax.random.normal(jax.random.key(1), (STEPS, 3)))


@pytest.fixture(scope="module")
def pair(params, run):
    """The same run with diagonals stored and with full Jacobians stored."""
    pair = rd.linearize(CELL, params, run), rd.linearize(CELL, params, run, dense=True)
    assert isinstance(pair[0], Diagonal) and not isinstance(pair[1], Diagonal)
    return pair


@pytest.mark.precision
def test_spectra_are_sorted_sums_of_logs_and_equal_the_dense_ones(pair):
    """Li et al. 2018: the product is D(prod u_t); two units that died have -inf, exactly."""
    found, dense = (singular_spectra(lin, lags=LAGS) for lin in pair)
    np.testing.assert_array_equal(np.isneginf(found.log_values), np.isneginf(dense.log_values))
    assert np.isneginf(found.log_values).sum(axis=1).tolist()[-1] == 2
    np.testing.assert_allclose(found.log_values, dense.log_values, rtol=tol("jacobian"))
    np.testing.assert_allclose(found.log_condition, dense.log_condition, rtol=tol("jacobian"))
    alive = np.sort(STEPS * np.log(np.abs(U[:4])))[::-1]
    np.testing.assert_allclose(found.log_values[-1, :4], alive, rtol=tol("jacobian"))
    assert found.status.tolist() == dense.status.tolist() == [0] * len(LAGS)


@pytest.mark.precision
@pytest.mark.parametrize("block", ["state", "hidden"])
def test_gradient_flow_is_the_largest_entry(pair, block):
    diagonal, dense = (dataclasses.replace(lin, hidden=(1, 4)) for lin in pair)
    found, expected = (gradient_flow(lin, lags=LAGS, block=block) for lin in (diagonal, dense))
    np.testing.assert_allclose(found.log_norm, expected.log_norm, rtol=tol("jacobian"))
    slowest = math.log(1.01) if block == "state" else math.log(0.7)
    np.testing.assert_allclose(found.log_norm[-1], STEPS * slowest, rtol=tol("jacobian"))
    assert found.status.tolist() == [0] * len(LAGS)


def test_hidden_spectra_are_those_of_the_hidden_entries(pair):
    diagonal, dense = (dataclasses.replace(lin, hidden=(1, 4)) for lin in pair)
    found, expected = (
        singular_spectra(lin, lags=LAGS, block="hidden").log_values for lin in (diagonal, dense)
    )
    np.testing.assert_allclose(found, expected, rtol=tol("jacobian"))


@pytest.mark.precision
def test_exponents_are_the_sorted_means_of_logs(pair):
    diagonal, dense = pair
    found = lyapunov_spectrum(diagonal, warmup=20)
    expected = np.sort(np.log(np.abs(U[:4])))[::-1]
    np.testing.assert_allclose(found.exponents[:4], expected, rtol=tol("many_steps"))
    assert np.isneginf(found.exponents).tolist() == [False] * 4 + [True] * 2
    assert int(found.status) == 0
    assert jnp.all(found.standard_error <= tol("jacobian"))
    np.testing.assert_allclose(found.entropy, math.log(1.01), rtol=tol("many_steps"))
    leading = lyapunov_spectrum(diagonal, k=2, warmup=20).exponents
    assert leading.tolist() == found.exponents[:2].tolist()
    turned = lyapunov_spectrum(dense, warmup=20).exponents  # by QR, after a transient of order 1/T
    np.testing.assert_allclose(found.exponents, turned, rtol=0, atol=0.02)


def test_warmup_and_standard_error_are_those_of_the_steps_left():
    growth = np.random.default_rng(0).normal(size=(37, 2))
    found = lyapunov_spectrum(Diagonal((0, 1), jnp.asarray(np.exp(growth))), warmup=5)
    order = np.argsort(-growth[5:].mean(axis=0))
    np.testing.assert_allclose(
        found.exponents, growth[5:].mean(axis=0)[order], rtol=tol("jacobian")
    )
    blocks = growth[5:].reshape(16, 2, 2).mean(axis=1)
    error = blocks.std(axis=0, ddof=1)[order] / 4
    np.testing.assert_allclose(found.standard_error, error, rtol=tol("jacobian"))


def test_derivatives_through_the_run_are_exact(params, run):
    """d log|u^T| / du = T/u for the leading unit; through what is exactly zero no slope."""

    def flow(u):
        changed = dataclasses.replace(params, u=u)
        lin = rd.linearize(CELL, changed, rd.simulate(CELL, changed, run.inputs))
        values, exponents = singular_spectra(lin, lags=LAGS).log_values, lyapunov_spectrum(lin)
        everything = jnp.sum(jnp.where(jnp.isneginf(values), 0, values)[-1])
        norm = gradient_flow(lin, lags=LAGS).log_norm[-1]
        return norm, everything, values[-1, 4:], exponents.exponents[0], exponents.entropy

    forward, backward = (jax.jit(mode(flow))(params.u) for mode in (jax.jacfwd, jax.jacrev))
    u = np.array(U)
    leading = np.where(np.arange(6) == 3, STEPS / u, 0)
    alive = np.where(np.arange(6) < 4, STEPS / u, 0)
    for norm, everything, zeros, exponent, entropy in (forward, backward):
        np.testing.assert_allclose(norm, leading, rtol=tol("jacobian"))
        np.testing.assert_allclose(everything, alive, rtol=tol("jacobian"))
        assert not jnp.any(zeros)
        np.testing.assert_allclose(exponent, leading / STEPS, rtol=tol("jacobian"))
        np.testing.assert_allclose(entropy, leading / STEPS, rtol=tol("jacobian"))


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_bad_item_of_a_batch_stays_alone(bad):
    """At an old step: -3 only for the lags that reach it, neighbours bit for bit the same."""
    diagonals = jax.random.normal(jax.random.key(2), (3, 6, 4))

    @jax.vmap
    def analyses(slices):
        lin = Diagonal((0, 1, 2, 3), slices)
        spectra, flow = singular_spectra(lin, lags=(2, 6)), gradient_flow(lin, lags=(2, 6))
        return (spectra.log_values[0], flow.log_norm[0]), (spectra, flow), lyapunov_spectrum(lin)

    clean, broken = analyses(diagonals), analyses(diagonals.at[1, 1, 2].set(bad))
    newer, by_lag, whole = broken
    for result in by_lag:
        assert result.status.tolist() == [[0, 0], [0, -3], [0, 0]]
    assert jnp.all(jnp.isnan(by_lag[0].log_values[1, 1])) and jnp.isnan(by_lag[1].log_norm[1, 1])
    assert whole.status.tolist() == [0, -3, 0] and jnp.all(jnp.isnan(whole.exponents[1]))
    for got, want in zip(jax.tree.leaves(newer), jax.tree.leaves(clean[0]), strict=True):
        assert got.tolist() == want.tolist()
    for got, want in zip(jax.tree.leaves(broken), jax.tree.leaves(clean), strict=True):
        assert got[::2].tolist() == want[::2].tolist()


def test_four_thousand_units_over_a_thousand_steps():
    """Stored Jacobians would take 134 GB in float64; the diagonals take 33 MB."""
    cell = IndRNN(1, 4096, steps=1000, start="long")
    params = cell.init(jax.random.key(0))
    params = dataclasses.replace(params, b=jnp.ones(4096))
    lin = rd.linearize(cell, params, rd.simulate(cell, params, jnp.zeros((1000, 1))))
    expected = np.sort(np.log(np.asarray(params.u)))[::-1]
    spectra = singular_spectra(lin, lags=(1, 1000)).log_values
    np.testing.assert_allclose(spectra, np.stack([expected, 1000 * expected]), rtol=tol("log_sum"))
    flow = gradient_flow(lin)
    np.testing.assert_allclose(
        flow.log_norm, np.asarray(flow.lags) * expected[0], rtol=tol("log_sum")
    )
    assert 0.99 * math.log(2) < flow.log_norm[-1] <= math.log(2)  # gamma over `steps` steps
    found = lyapunov_spectrum(lin, k=5).exponents
    np.testing.assert_allclose(found, expected[:5], rtol=tol("log_sum"))


@pytest.mark.precision
def test_a_hundred_thousand_equal_steps_do_not_drift():
    decay = jnp.broadcast_to(jax.nn.sigmoid(jnp.array([1.0, -2.0])), (100_000, 2))
    found = singular_spectra(Diagonal((0, 1), decay), lags=(100_000,)).log_values[0, 0]
    np.testing.assert_allclose(found / math.log(10), -13604.782228086495, rtol=tol("long_power"))


def test_no_steps_and_a_batch_that_was_not_vmapped():
    none = Diagonal((0, 1), jnp.zeros((0, 2)))
    assert singular_spectra(none).log_values.tolist() == [[0.0, 0.0]]
    assert gradient_flow(none).log_norm.tolist() == [0.0]
    sentence = (
        "`lin`: expected one Linearization, got a batch of them; "
        "use jax.vmap over its leading axes."
    )
    batch = Diagonal((0, 1), jnp.ones((7, 7, 2)))  # as many items as steps
    for analysis in (singular_spectra, gradient_flow, lyapunov_spectrum):
        with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
            analysis(batch)
