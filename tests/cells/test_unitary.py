"""The unitary evolution network against dense complex matrices and the released code."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg

import rnndyn as rd
from rnndyn.cells.initializers import Uniform
from rnndyn.cells.unitary import UnitaryParams, UnitaryRNN
from tests.cells.recurrences import arrays, assert_equals_recurrence, points, random_inputs
from tests.cells.special import noisy_params, recorded
from tests.tolerances import tol

CELL = UnitaryRNN(3, 10)
K = 5


def dense(w, seed=1234):
    """W = D3 R2 F^-1 D2 P R1 F D1 from dense complex matrices."""
    k = w.theta.shape[1]
    diagonals = [np.diag(np.exp(1j * theta)) for theta in w.theta]
    fourier = scipy.linalg.dft(k, scale="sqrtn")
    permutation = np.eye(k)[np.random.RandomState(seed).permutation(k)]
    reflections = []
    for row in w.v:
        v = row[:k] + 1j * row[k:]
        reflections.append(np.eye(k) - 2 * np.outer(v, v.conj()) / np.vdot(v, v).real)
    d1, d2, d3 = diagonals
    r1, r2 = reflections
    return d3 @ r2 @ fourier.conj().T @ d2 @ permutation @ r1 @ fourier @ d1


def real_form(w):
    return np.block([[w.real, -w.imag], [w.imag, w.real]])


@pytest.mark.parametrize("eps", [0.0, 1e-5])
def test_it_equals_a_loop_of_dense_complex_matrices(eps):
    cell = dataclasses.replace(CELL, eps=eps)
    params = noisy_params(cell, 0.5)
    params = dataclasses.replace(params, b=params.b - 0.3)
    w = arrays(params)
    unitary, w_x = dense(w), w.w_x[:K] + 1j * w.w_x[K:]

    def step(t, h, x):
        a = unitary @ (h[:K] + 1j * h[K:]) + w_x @ x
        modulus = np.abs(a)
        z = np.where(modulus + w.b >= 0, (modulus + w.b) / (modulus + eps) * a, 0)
        return np.concatenate([z.real, z.imag])

    run = assert_equals_recurrence(cell, params, step)
    np.testing.assert_array_equal(run.states.h[0], params.start)


@pytest.mark.precision
def test_w_is_unitary_and_equal_to_its_dense_factors():
    params = CELL.init(jax.random.key(0))
    w = np.asarray(CELL.recurrent(params))
    np.testing.assert_allclose(w, real_form(dense(arrays(params))), rtol=0, atol=tol("step"))
    np.testing.assert_allclose(w.T @ w, np.eye(10), rtol=0, atol=tol("step"))
    longer = dataclasses.replace(params, v=3.0 * params.v)
    np.testing.assert_allclose(CELL.recurrent(longer), w, rtol=0, atol=tol("step"))


@pytest.mark.precision
def test_without_bias_every_step_keeps_norms_and_has_an_orthogonal_jacobian():
    params = CELL.init(jax.random.key(1))
    quiet = rd.simulate(CELL, params, jnp.zeros((200, 3)))
    norms = np.linalg.norm(quiet.states.h, axis=1)
    np.testing.assert_allclose(norms, norms[0], rtol=tol("cell_product"))
    run = rd.simulate(CELL, params, random_inputs(CELL, 20))
    values = np.linalg.svd(rd.linearize(CELL, params, run).jacobians, compute_uv=False)
    np.testing.assert_allclose(values, 1, rtol=0, atol=tol("jacobian"))


@pytest.mark.precision
def test_singular_values_of_a_step_are_one_and_the_stretch_of_each_active_unit():
    """{1, (|a| + b)/|a|} where |a| + b > 0, {0, 0} elsewhere; above 1 for b > 0."""
    params = CELL.init(jax.random.key(2))
    b = jnp.array([0.5, -0.2, -50.0, 0.0, -0.1])
    params = dataclasses.replace(params, b=b)
    h, x = jax.random.normal(jax.random.key(3), (10,)), jnp.ones(3)
    a = np.asarray(CELL.turned(params, h) + params.w_x @ x)
    modulus = np.hypot(a[:K], a[K:])
    stretch = np.maximum(modulus + np.asarray(b), 0) / modulus
    assert stretch[0] > 1 and stretch[2] == 0 and 0 < stretch[1] < 1
    expected = np.sort(np.concatenate([stretch, np.where(stretch > 0, 1.0, 0.0)]))[::-1]
    values = np.linalg.svd(rd.hold(CELL, params, x).jacobian(h), compute_uv=False)
    np.testing.assert_allclose(values, expected, rtol=0, atol=tol("jacobian"))


def test_a_gradient_through_a_state_of_zeros_is_finite():
    params = dataclasses.replace(CELL.init(jax.random.key(0)), start=jnp.zeros(10))

    def loss(params):
        return jnp.sum(rd.simulate(CELL, params, jnp.zeros((3, 3))).outputs)

    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(jax.grad(loss)(params)))
    jacobian = rd.hold(CELL, params, jnp.zeros(3)).jacobian(jnp.zeros(10))
    np.testing.assert_allclose(jacobian, CELL.recurrent(params), atol=tol("jacobian"))


def test_it_starts_as_published():
    """theta on [-pi, pi], b = 0, E||z_0||^2 = 1; the released code's b on [-0.01, 0.01]."""
    params = UnitaryRNN(3, 4000).init(jax.random.key(0))
    assert 3.1 < np.abs(params.theta).max() <= np.pi and not params.b.any()
    assert np.sum(np.asarray(params.start) ** 2) == pytest.approx(1, rel=0.05)
    b = UnitaryRNN(3, 4000, bias=Uniform(0.01)).init(jax.random.key(0)).b
    assert 0.0099 < np.abs(b).max() <= 0.01


def test_gain_turns_further_and_stays_unitary():
    one, two = (CELL.init(jax.random.key(0), gain=g) for g in (1.0, 2.0))
    np.testing.assert_array_equal(two.theta, 2 * one.theta)
    w = np.asarray(CELL.recurrent(two))
    np.testing.assert_allclose(w.T @ w, np.eye(10), atol=tol("step"))


def test_it_equals_the_released_code():
    """amarshah/complex_RNN: its reflections use conj(v), its permutation has seed 1234, its modReLU
    divides by |a| + 1e-5. Its diagonals are exp(i theta), as in the paper."""
    r = recorded("unitary")
    cell = UnitaryRNN(3, 12, eps=1e-5)
    v = r["reflection"] * np.repeat([1.0, -1.0], 6)[None]
    params = UnitaryParams(r["V"].T, r["theta"], v, r["bias"], r["h0"])
    run = rd.simulate(cell, params, r["inputs"])
    np.testing.assert_allclose(points(run)[1:], r["hidden"], rtol=0, atol=tol("released_code"))
    paper = rd.simulate(dataclasses.replace(cell, eps=0.0), params, r["inputs"])
    assert np.abs(points(paper)[1:] - r["hidden"]).max() > 1e-6


def test_equal_seeds_are_equal_cells_and_others_permute_otherwise():
    assert UnitaryRNN(3, 10) == CELL and hash(UnitaryRNN(3, 10)) == hash(CELL)
    params = CELL.init(jax.random.key(0))
    other = UnitaryRNN(3, 10, permutation_seed=7).recurrent(params)
    np.testing.assert_allclose(other, real_form(dense(arrays(params), 7)), atol=tol("step"))
    assert np.abs(other - CELL.recurrent(params)).max() > 0.1


def test_misuse_is_named():
    advice = "each complex unit takes two real entries"
    said = f"^`hidden_size`: expected an even number, got 7; {advice}.$"
    with pytest.raises(ValueError, match=said):
        UnitaryRNN(3, 7)
    said = r"^`eps`: expected a number in \[0, inf\), got -1.0; 0 is the paper, 1e-5 the released"
    with pytest.raises(ValueError, match=f"{said} code.$"):
        UnitaryRNN(3, 8, eps=-1.0)
