"""Linear transitions and orthogonal parameterisations: identities, exact solutions, loops."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg

import rnndyn as rd
from rnndyn.cells.base import Affine
from rnndyn.cells.orthogonal import LTRNN, ExpRNN, ScoRNN, SkewParams, exp_skew
from tests.cells.recurrences import arrays, assert_equals_recurrence, random_inputs, relu
from tests.cells.special import noisy_params, recorded, run_from
from tests.tolerances import tol

SKEW = {"cayley": ScoRNN(3, 5, negative=2), "exp": ExpRNN(3, 5)}


def skew(above, n):
    """The skew matrix, entry by entry, from the numbers above its diagonal."""
    a, entries = np.zeros((n, n)), iter(np.asarray(above, float))
    for i in range(n):
        for j in range(i + 1, n):
            a[i, j] = next(entries)
            a[j, i] = -a[i, j]
    return a


def recurrent(cell, above):
    n = cell.hidden_size
    a, eye = skew(above, n), np.eye(n)
    if isinstance(cell, ExpRNN):
        return scipy.linalg.expm(a)
    signs = np.array([1.0] * (n - cell.negative) + [-1.0] * cell.negative)
    return np.linalg.inv(eye + a) @ (eye - a) @ np.diag(signs)


def test_lt_rnn_equals_a_loop():
    cell = LTRNN(3, 5)
    params = noisy_params(cell, 0.1)
    params = dataclasses.replace(params, w_h=0.8 * params.w_h)
    w = arrays(params)
    assert_equals_recurrence(cell, params, lambda t, h, x: w.w_h @ h + relu(w.w_x @ x + w.b))


@pytest.mark.precision
def test_lt_rnn_has_the_jacobian_v_everywhere():
    cell = LTRNN(3, 5)
    params = noisy_params(cell, 1.0)
    run = rd.simulate(cell, params, random_inputs(cell, 6))
    jacobians = np.asarray(rd.linearize(cell, params, run).jacobians)
    assert np.array_equal(jacobians, np.broadcast_to(params.w_h, (6, 5, 5)))


def test_one_linear_transition_unit_adds_without_error():
    """Henaff, Szlam & LeCun 2016: V = 1, U = (1, 1), b = -1. A ReLU around h too would not do."""
    rng, steps = np.random.default_rng(0), 200
    values, marks = rng.integers(0, 2**20, (steps,)) / 2**20, np.zeros(steps)
    marks[[17, 150]] = 1.0
    one = [jnp.asarray(w) for w in ([[1.0, 1.0]], [[1.0]], [-1.0])]
    run = rd.simulate(LTRNN(2, 1), Affine(*one), jnp.asarray(np.stack([values, marks], 1)))
    assert float(run.outputs[-1, 0]) == values[17] + values[150]
    plain = rd.cells.Vanilla(2, 1, "relu")
    run = rd.simulate(plain, Affine(*one), jnp.asarray(np.stack([values, marks], 1)))
    assert float(run.outputs[-1, 0]) != values[17] + values[150]


def test_rotations_copy_without_error():
    """Henaff et al. 2016: planes that turn by 2 pi l/period, l = 1 ... period, return every input
    after `period` steps and cancel it at all others."""
    period = 12
    angles = 2 * np.pi * np.arange(1, period + 1) / period
    blocks = [[[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]] for a in angles]
    cell = LTRNN(1, 2 * period, activation="identity")
    first = np.tile([1.0, 0.0], period)
    weights = (first[:, None], scipy.linalg.block_diag(*blocks), np.zeros(2 * period))
    params = Affine(*(jnp.asarray(w) for w in weights))
    inputs = np.random.default_rng(1).normal(size=2 * period)
    run = rd.simulate(cell, params, jnp.asarray(inputs[:, None]))
    read = np.asarray(run.outputs) @ first / period
    expected = inputs + np.concatenate([np.zeros(period), inputs[:period]])
    np.testing.assert_allclose(read, expected, atol=tol("cell_product"))


@pytest.mark.parametrize(("name", "scale"), [("cayley", 2.0), ("exp", 0.5)])
def test_skew_cells_equal_a_loop(name, scale):
    cell = SKEW[name]
    params = noisy_params(cell, scale)
    params = dataclasses.replace(params, w_x=0.3 * params.w_x, b=-0.3 * jnp.abs(params.b))
    w = arrays(params)
    w_h = recurrent(cell, w.skew)
    np.testing.assert_allclose(cell.recurrent(params), w_h, rtol=0, atol=tol("cell_product"))

    def step(t, h, x):
        a = w_h @ h + w.w_x @ x
        return np.sign(a) * relu(np.abs(a) + w.b)

    assert_equals_recurrence(cell, params, step)


@pytest.mark.precision
@pytest.mark.parametrize("name", SKEW)
def test_the_recurrence_is_orthogonal_whatever_the_weights(name):
    cell = SKEW[name]
    for scale in (0.0, 1.0, 30.0):
        params = cell.init(jax.random.key(0))
        noise = jax.random.normal(jax.random.key(1), params.skew.shape)
        w_h = np.asarray(cell.recurrent(dataclasses.replace(params, skew=scale * noise)), float)
        atol = tol("cell_product", params.skew.dtype)
        np.testing.assert_allclose(w_h.T @ w_h, np.eye(5), rtol=0, atol=atol)
        assert np.linalg.det(w_h) == pytest.approx(1.0, abs=atol)  # two signs are negative


def test_the_sign_of_the_determinant_and_the_eigenvalue_minus_one():
    """(-1)^negative; without negative signs a Cayley transform misses the eigenvalue -1."""
    for negative in range(4):
        cell = ScoRNN(3, 5, negative=negative)
        w_h = np.asarray(cell.recurrent(cell.init(jax.random.key(2))))
        assert np.linalg.det(w_h) == pytest.approx((-1.0) ** negative)
        distance = np.abs(np.linalg.eigvals(w_h) + 1).min()
        assert distance > 0.5 if negative == 0 else distance < 1.0
    odd = ScoRNN(3, 5, negative=1)
    assert np.abs(np.linalg.eigvals(odd.recurrent(odd.init(jax.random.key(2)))) + 1).min() < 1e-12


@pytest.mark.precision
@pytest.mark.parametrize("name", SKEW)
def test_a_step_has_singular_values_one_and_zero_for_any_bias(name):
    cell = SKEW[name]
    params = noisy_params(cell, 1.0)
    params = dataclasses.replace(params, b=jnp.array([0.4, -0.4, -9.0, 0.1, -0.1]))
    h, x = jax.random.normal(jax.random.key(3), (5,)), jnp.ones(3)
    quiet = rd.hold(cell, params, x)
    active = np.asarray(quiet(h)) != 0
    assert 0 < active.sum() < 5
    jacobian = np.asarray(quiet.jacobian(h))
    w_h = np.asarray(cell.recurrent(params))
    np.testing.assert_allclose(jacobian, active[:, None] * w_h, atol=tol("jacobian"))
    values = np.linalg.svd(jacobian, compute_uv=False)
    np.testing.assert_allclose(values, np.sort(active)[::-1], atol=tol("jacobian"))


def test_at_the_origin_without_bias_the_jacobian_is_the_recurrence():
    """modReLU is the identity at b = 0: a naive form gives the Jacobian 0 at h = 0."""
    cell = SKEW["cayley"]
    params = cell.init(jax.random.key(0))
    jacobian = rd.hold(cell, params, jnp.zeros(3)).jacobian(jnp.zeros(5))
    np.testing.assert_allclose(jacobian, cell.recurrent(params), atol=tol("jacobian"))


@pytest.mark.parametrize("scale", [0.0, 1.0, 20.0])
def test_exp_skew_and_its_derivatives(scale):
    """Against SciPy's Pade approximants and their Frechet derivative; 0 has equal eigenvalues."""
    rng = np.random.default_rng(4)
    a, e = rng.normal(size=(2, 6, 6))
    a, e = scale * (a - a.T), e - e.T
    got, slope = jax.jvp(exp_skew, (jnp.asarray(a),), (jnp.asarray(e),))
    value, derivative = scipy.linalg.expm_frechet(a, e)
    np.testing.assert_allclose(got, value, rtol=0, atol=tol("exp_skew"))
    np.testing.assert_allclose(slope, derivative, rtol=0, atol=tol("exp_skew"))
    g = rng.normal(size=(6, 6))
    pulled = jax.grad(lambda a: jnp.sum(exp_skew(a) * g))(jnp.asarray(a))
    np.testing.assert_allclose(np.sum(pulled * e), np.sum(g * derivative), atol=tol("exp_skew"))


def test_gain_scales_the_turn():
    cell = SKEW["exp"]
    one, two = (cell.recurrent(cell.init(jax.random.key(0), gain=g)) for g in (1.0, 2.0))
    np.testing.assert_allclose(one @ one, two, atol=tol("step"))


@pytest.mark.parametrize("case", ["exp_henaff", "exp_cayley"])
def test_exp_rnn_equals_the_released_code(case):
    """Lezcano/expRNN. It multiplies rows, h exp(A), so its A is our -A; it chooses the degree of
    its Pade approximant of exp for float32."""
    cell, r = ExpRNN(3, 7), recorded(case)
    params = SkewParams(r["U"], -r["A"][np.triu_indices(7, 1)], r["bias"])
    np.testing.assert_allclose(cell.recurrent(params).T, r["B"], atol=tol("released_exp"))
    got = run_from(cell, params, r["h0"], r["inputs"])
    np.testing.assert_allclose(got, r["hidden"], rtol=0, atol=tol("released_exp"))


def test_sco_rnn_equals_the_released_code():
    """SpartinStuff/scoRNN. It multiplies rows, h (I + A)^-1 (I - A) D: in columns D acts last, and
    D C(-A) = C(-D A D) D, C the Cayley transform. It forms its W in float32."""
    cell, r = ScoRNN(3, 7, negative=3), recorded("sco")
    signs = np.array([1.0] * 4 + [-1.0] * 3)
    above = -(np.diag(signs) @ r["A"] @ np.diag(signs))[np.triu_indices(7, 1)]
    params = SkewParams(r["U"].T, above, r["bias"])
    single = float(jnp.finfo(jnp.float32).eps)
    np.testing.assert_allclose(cell.recurrent(params).T, r["W"], rtol=0, atol=4 * single)
    got = run_from(cell, params, r["h0"], r["inputs"])
    np.testing.assert_allclose(got, r["hidden"], rtol=0, atol=64 * single)


def test_misuse_is_named():
    said = (
        r"^`negative`: expected a number in \[0, 4\], got 5; pass how many of the n signs are -1.$"
    )
    with pytest.raises(ValueError, match=said):
        ScoRNN(3, 4, negative=5)
