"""Both LSTMs: the blocks of the Jacobian, the carousel, the spectrum at the origin."""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rnndyn as rd
from rnndyn import cells
from rnndyn.cells.initializers import Constant, Gaussian
from tests.cells import equations
from tests.tolerances import tol

N = 4
ZERO = Constant(0.0)
INPUTS = jax.random.normal(jax.random.key(1), (8, 3))


def products(jacobians):
    return functools.reduce(lambda p, j: j @ p, np.asarray(jacobians))


def linearized(cell, gain=2.0, params=None):
    params = cell.init(jax.random.key(0), gain=gain) if params is None else params
    run = rd.simulate(cell, params, INPUTS)
    return params, run, np.asarray(rd.linearize(cell, params, run).jacobians)


def scalar(w, forget_bias):
    """One unit: gates without weights, candidate weight w."""
    w_h = jnp.zeros((4, 1)).at[2].set(w)
    return cells.Affine(jnp.zeros((4, 1)), w_h, jnp.array([0.0, forget_bias, 0.0, 0.0]))


@pytest.mark.precision
def test_lstm_blocks():
    """Gers, Schmidhuber & Cummins 2000: the four blocks, state in the order (h, c)."""
    params, run, jacobians = linearized(cells.LSTM(3, N))
    h, c = (np.asarray(leaf[3]) for leaf in (run.states.h, run.states.c))
    quads = equations.gates(params, 4)
    a = [w @ np.asarray(INPUTS[3]) + u @ h + b for w, u, b in quads]
    (i, f, o), g = (equations.sigmoid(a[k]) for k in (0, 1, 3)), np.tanh(a[2])
    u_i, u_f, u_g, u_o = (u for _, u, _ in quads)
    t = np.tanh(f * c + i * g)
    q = o * (1 - t**2)
    ch = np.diag(g * i * (1 - i)) @ u_i + np.diag(c * f * (1 - f)) @ u_f
    ch = ch + np.diag(i * (1 - g**2)) @ u_g
    hh = np.diag(q) @ ch + np.diag(t * o * (1 - o)) @ u_o
    expected = np.block([[hh, np.diag(q * f)], [ch, np.diag(f)]])
    np.testing.assert_allclose(jacobians[3], expected, atol=tol("jacobian"))


@pytest.mark.precision
def test_the_carousel_is_the_identity_at_fixed_h_only():
    """Hochreiter & Schmidhuber 1997: dc'/dc = I exactly; over two steps c leaks through h."""
    _, _, jacobians = linearized(cells.LSTM1997(3, N), gain=20.0)
    for jacobian in jacobians:
        assert np.array_equal(jacobian[N:, N:], np.eye(N))
    leak = (jacobians[5] @ jacobians[4])[N:, N:] - np.eye(N)
    assert np.abs(leak).max() > 1e-4


@pytest.mark.precision
def test_truncation_makes_the_carousel_exact_over_any_span():
    _, plain_run, _ = linearized(cells.LSTM1997(3, N), gain=20.0)
    _, run, jacobians = linearized(cells.LSTM1997(3, N, truncated=True), gain=20.0)
    assert np.array_equal(run.outputs, plain_run.outputs)
    assert np.array_equal(products(jacobians)[N:, N:], np.eye(N))
    assert not np.any(products(jacobians)[:, :N])


@pytest.mark.parametrize(("squash", "divisor"), [("tanh", 4), ("paper", 8)])
def test_spectrum_of_lstm_1997_at_the_origin(squash, divisor):
    weights = {"recurrent_weights": Gaussian(), "input_bias": ZERO, "output_bias": ZERO}
    cell = cells.LSTM1997(3, N, squash, **weights)
    params = cell.init(jax.random.key(2))
    jacobian = rd.hold(cell, params, jnp.zeros(3)).jacobian(jnp.zeros(2 * N))
    moved = 1 + np.linalg.eigvals(params.w_h[N : 2 * N]) / divisor
    same_spectrum(jacobian, np.concatenate([np.zeros(N), moved]))


@pytest.mark.parametrize("beta", [0.0, 1.0])
def test_spectrum_of_the_lstm_at_the_origin(beta):
    """N zeros, and f + lambda(U_g)/4 with f = s(b_f)."""
    cell = cells.LSTM(3, N, forget_bias=beta, bias=ZERO, recurrent_weights=Gaussian())
    params = cell.init(jax.random.key(2))
    jacobian = rd.hold(cell, params, jnp.zeros(3)).jacobian(jnp.zeros(2 * N))
    kept = 1 / (1 + math.exp(-beta))
    moved = kept + np.linalg.eigvals(params.w_h[2 * N : 3 * N]) / 4
    same_spectrum(jacobian, np.concatenate([np.zeros(N), moved]))


def same_spectrum(matrix, expected):
    got = list(np.linalg.eigvals(np.asarray(matrix)))
    for value in expected:
        nearest = min(got, key=lambda one: abs(one - value))
        assert abs(nearest - value) < tol("origin_spectrum")
        got.remove(nearest)


def test_the_origin_is_lost_at_the_weight_of_the_closed_form():
    """A multiplier is one at w = 4 (1 - s(b_f)): 1.07576568547998 for b_f = 1."""
    critical = 1.0757656854799804
    assert critical == pytest.approx(4 * (1 - 1 / (1 + math.exp(-1.0))), rel=tol("elementary"))
    cell = cells.LSTM(1, 1)
    jacobian = rd.hold(cell, scalar(critical, 1.0), jnp.zeros(1)).jacobian(jnp.zeros(2))
    values = sorted(np.linalg.eigvals(jacobian))
    np.testing.assert_allclose(values, [0, 1], atol=tol("step"))


def test_fixed_point_of_one_unit():
    """w = 3, b_f = 1: (h, c) = (0.46392, 1.64266) with multipliers 0 and 0.75394."""
    cell, z = cells.LSTM(1, 1), jnp.array([0.4639217562157517, 1.6426600535791398])
    quiet = rd.hold(cell, scalar(3.0, 1.0), jnp.zeros(1))
    np.testing.assert_allclose(quiet(z), z, rtol=tol("step"))
    values = sorted(np.linalg.eigvals(quiet.jacobian(z)))
    np.testing.assert_allclose(values, [0, 0.75394062], atol=tol("printed_8"))


@pytest.mark.parametrize("forget_bias", [1.0, -2.0])
def test_without_recurrence_the_memory_decays_by_the_forget_gate(forget_bias):
    """dc_T/dc_0 = s(b_f)^T; s(1)^100000 = 10^-13604.782 needs logarithms."""
    cell = cells.LSTM(3, N, forget_bias=forget_bias, bias=ZERO)
    params, _, jacobians = linearized(cell, gain=0.0, params=None)
    zero_input = dataclasses.replace(params, w_x=params.w_x.at[N : 2 * N].set(0.0))
    _, _, jacobians = linearized(cell, params=zero_input)
    kept = 1 / (1 + math.exp(-forget_bias))
    np.testing.assert_allclose(
        products(jacobians)[N:, N:], kept**8 * np.eye(N), rtol=tol("step"), atol=0
    )
    if forget_bias == 1.0:
        total = 1e5 * np.log10(jacobians[0, N, N])
        assert total == pytest.approx(-13604.782228086495, rel=tol("step"))


def test_path_through_the_memory_is_the_product_of_forget_gates():
    cell = cells.LSTM(3, N)
    params, run, jacobians = linearized(cell, gain=0.0)
    gates = equations.sigmoid(
        np.asarray(INPUTS) @ np.asarray(params.w_x[N : 2 * N]).T + np.asarray(params.b[N : 2 * N])
    )
    expected = np.diag(gates.prod(axis=0))
    np.testing.assert_allclose(products(jacobians)[N:, N:], expected, rtol=tol("step"), atol=0)
    del run


def test_lstm_1997_starts_as_in_the_paper():
    params = cells.LSTM1997(3, N).init(jax.random.key(0))
    assert np.asarray(params.b).tolist() == [-1, -3, -5, -1, 0, 0, 0, 0, -2, -4, -6, -2]
    for w in (params.w_x, params.w_h):
        assert 0.05 < np.abs(w).max() <= 0.1


def test_the_forget_bias_is_added_to_the_forget_gate_alone():
    plain, moved = (cells.LSTM(3, N, b).init(jax.random.key(0)) for b in (0.0, 3.0))
    difference = np.asarray(moved.b - plain.b).reshape(4, N)
    np.testing.assert_allclose(difference, [[0] * N, [3] * N, [0] * N, [0] * N], atol=tol("step"))
    assert np.array_equal(plain.w_h, moved.w_h)


def test_chrono_start_opens_the_forget_gate_and_closes_the_input_gate_as_much():
    """Tallec & Ollivier 2018: 1/(1 - f) = 1 + u lies in [2, t_max]; b_i = -b_f, once."""
    params = cells.LSTM(3, 500, chrono=50).init(jax.random.key(0))
    b_i, b_f, *_ = np.split(np.asarray(params.b), 4)
    assert np.array_equal(b_i, -b_f)
    times = 1 / (1 - equations.sigmoid(b_f))
    assert 2 <= times.min() < 3 and 48 < times.max() <= 50


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: cells.LSTM1997(3, 4, squash="relu"),
            "`squash`: expected one of 'paper', 'tanh', got 'relu'; pass one of them.",
        ),
        (
            lambda: cells.LSTM1997(3, 4, truncated="yes"),
            "`truncated`: expected one of True, False, got 'yes'; pass one of them.",
        ),
        (
            lambda: cells.LSTM(3, 4, chrono=1),
            "`t_max`: expected a number in [2, inf), got 1; "
            "pass the longest time, in steps, over which to remember.",
        ),
    ],
)
def test_bad_options(make, message):
    with pytest.raises(ValueError) as error:
        make()
    assert str(error.value) == message
