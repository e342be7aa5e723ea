"""np-RNN, residual and Dirac networks: spectra, Jacobians, released code, independent loops."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rnndyn as rd
from rnndyn.cells.identity import RIN, DiracParams, DiracRNN, NpRNN
from tests.cells.recurrences import arrays, assert_equals_recurrence, relu
from tests.cells.special import noisy_params, recorded, run_from
from tests.tolerances import tol


def test_np_rnn_equals_a_loop():
    cell = NpRNN(3, 5)
    params = noisy_params(cell, 0.3)
    w = arrays(params)
    assert_equals_recurrence(cell, params, lambda t, h, x: relu(w.w_x @ x + w.w_h @ h + w.b))


def test_np_rnn_starts_with_its_initializers_and_no_bias():
    cell = NpRNN(3, 6)
    params = cell.init(jax.random.key(2), gain=0.5)
    values = np.linalg.eigvalsh(params.w_h)
    np.testing.assert_allclose(values[-1], 0.5, rtol=tol("spectral_start"))
    np.testing.assert_allclose(params.w_h, params.w_h.T, rtol=0, atol=tol("elementary"))
    assert values[0] > 0 and not params.b.any()


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_rin_equals_a_loop(depth):
    cell = RIN(3, 5, depth=depth)
    params = noisy_params(cell, 0.4)
    params = dataclasses.replace(params, u=params.u - 0.5 * jnp.eye(5)[None])
    w = arrays(params)

    def step(t, h, x):
        h = relu(w.w_x @ x + (w.u[0] + np.eye(5)) @ h + w.b[0])
        for k in range(1, depth):
            h = relu((w.u[k] + np.eye(5)) @ h + w.b[k])
        return h

    run = assert_equals_recurrence(cell, params, step)
    assert 0.1 < np.mean(np.asarray(run.outputs) > 0) < 1


@pytest.mark.precision
def test_rin_jacobian_is_the_product_of_its_transitions():
    """Hu et al. 2018: J = D(mask) (U + I); with all units active the eigenvalues are 1 + eig U."""
    cell, two = RIN(3, 5), RIN(3, 5, depth=2)
    params = noisy_params(two, 0.5)
    params = dataclasses.replace(params, b=params.b + jnp.array([[9.0], [-12.0]]))
    h, x = jnp.abs(jax.random.normal(jax.random.key(1), (5,))), jnp.ones(3)
    w = arrays(params)
    h1 = relu(w.w_x @ np.asarray(x) + (w.u[0] + np.eye(5)) @ np.asarray(h) + w.b[0])
    h2 = relu((w.u[1] + np.eye(5)) @ h1 + w.b[1])
    assert (h1 > 0).all() and 0 < (h2 > 0).sum() < 5
    expected = np.diag(h2 > 0) @ (w.u[1] + np.eye(5)) @ (w.u[0] + np.eye(5))
    jacobian = rd.hold(two, params, x).jacobian(h)
    np.testing.assert_allclose(jacobian, expected, rtol=0, atol=tol("jacobian"))
    one = dataclasses.replace(params, u=params.u[:1], b=params.b[:1])
    values = np.linalg.eigvals(np.asarray(rd.hold(cell, one, x).jacobian(h)))
    expected = 1 + np.linalg.eigvals(w.u[0])
    order = np.argsort(values.real + 1j * values.imag), np.argsort(expected)
    np.testing.assert_allclose(values[order[0]], expected[order[1]], atol=tol("spectral_start"))


def test_rin_and_irnn_differ_under_weight_decay_alone():
    """The same map at the start; shrinking the weights leaves the identity here and not there."""
    cell, plain = RIN(3, 4), rd.cells.IRNN(3, 4)
    h, x = jnp.arange(1.0, 5.0), jnp.ones(3)
    params = jax.tree.map(jnp.zeros_like, cell.init(jax.random.key(0)))
    decayed = jax.tree.map(jnp.zeros_like, plain.init(jax.random.key(0)))
    assert np.array_equal(rd.hold(cell, params, x)(h), h)
    assert np.array_equal(rd.hold(plain, decayed, x)(h), 0 * h)


def test_dirac_equals_a_loop():
    cell = DiracRNN(3, 5, alpha=0.5, beta=0.3)
    params = noisy_params(cell, 0.2)
    w = arrays(params)
    rows = w.w / np.linalg.norm(w.w, axis=1)[:, None]
    w_h = np.diag(w.alpha) + w.beta[:, None] * rows
    assert_equals_recurrence(cell, params, lambda t, h, x: relu(w.w_x @ x + w_h @ h + w.b))
    np.testing.assert_allclose(cell.recurrent(params), w_h, rtol=0, atol=tol("step"))


@pytest.mark.precision
def test_dirac_weights_are_an_identity_and_rows_of_known_length():
    """||W_h - D(alpha)||_F = ||beta||; the scale of w does not matter; J = D(mask) W_h."""
    cell = DiracRNN(3, 6)
    params = noisy_params(cell, 0.3)
    w_h = np.asarray(cell.recurrent(params))
    distance = np.linalg.norm(w_h - np.diag(params.alpha))
    np.testing.assert_allclose(distance, np.linalg.norm(params.beta), rtol=tol("step"))
    scaled = dataclasses.replace(params, w=7.0 * params.w)
    np.testing.assert_allclose(cell.recurrent(scaled), w_h, rtol=0, atol=tol("step"))
    x, h = jnp.ones(3), jax.random.normal(jax.random.key(5), (6,))
    quiet = rd.hold(cell, params, x)
    active = np.asarray(quiet(h)) > 0
    assert 0 < active.sum() < 6
    np.testing.assert_allclose(quiet.jacobian(h), active[:, None] * w_h, atol=tol("jacobian"))


def test_dirac_with_a_row_of_zeros_is_finite_and_lets_nan_pass():
    cell = DiracRNN(3, 4)
    params = cell.init(jax.random.key(0))
    zero = dataclasses.replace(params, w=params.w.at[1].set(0.0))
    gradient = jax.grad(lambda p: jnp.sum(cell.recurrent(p) ** 2))(zero)
    assert np.isfinite(gradient.w).all() and np.isfinite(cell.recurrent(zero)).all()
    assert np.isnan(cell.recurrent(dataclasses.replace(params, w=params.w * jnp.nan))).all()


def test_dirac_equals_the_released_code():
    """szagoruyko/diracnets, a convolution of width one: `special_authors.npz`."""
    r = recorded("dirac")
    cell = DiracRNN(3, 7)
    params = DiracParams(r["U"], r["w"], r["alpha"], r["beta"], r["bias"])
    np.testing.assert_allclose(cell.recurrent(params), r["matrix"], atol=tol("released_code"))
    got = run_from(cell, params, r["h0"], r["inputs"])
    np.testing.assert_allclose(got, r["hidden"], rtol=0, atol=tol("released_code"))


def test_misuse_is_named():
    said = "`depth`: expected a whole number >= 1, got -1; 1 is RIN, 2 is RIN-DT with two"
    with pytest.raises(ValueError, match=f"^{said} transitions a step.$".replace("(", r"\(")):
        RIN(3, 4, depth=-1)
    said = "`activation`: expected one of 'tanh', 'relu', 'identity', got 'gelu'; pass one of them."
    with pytest.raises(ValueError, match=f"^{said}$"):
        DiracRNN(3, 4, activation="gelu")
