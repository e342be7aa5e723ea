"""The GRU's five forms: what each Jacobian is, and what tells them apart."""

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
VARIANTS = ("torch", "cho_v3", "cho_v1", "chung", "kanai")
INPUTS = jax.random.normal(jax.random.key(1), (6, 3))


@pytest.mark.precision
@pytest.mark.parametrize("variant", VARIANTS)
def test_jacobian_is_the_closed_form(variant):
    cell = cells.GRU(3, N, variant)
    params = cell.init(jax.random.key(0), gain=3.0)
    run = rd.simulate(cell, params, INPUTS)
    jacobian = rd.linearize(cell, params, run).jacobians[5]
    x, h = np.asarray(INPUTS[5]), np.asarray(run.states.h[5])
    (w_r, u_r, b_r), (w_z, u_z, b_z), (w, u, b) = equations.gates(params, 3)
    r = equations.sigmoid(w_r @ x + u_r @ h + b_r)
    z = equations.sigmoid(w_z @ x + u_z @ h + b_z)
    slope_r = np.diag(r * (1 - r)) @ u_r
    if variant in ("torch", "cho_v1"):
        inner = u @ h + (np.asarray(params.b_hn) if variant == "torch" else 0)
        n = np.tanh(w @ x + b + r * inner)
        candidate = np.diag(r) @ u + np.diag(inner) @ slope_r
    else:
        n = np.tanh(w @ x + b + u @ (r * h))
        candidate = u @ (np.diag(r) + np.diag(h) @ slope_r)
    keep, sign = (1 - z, -1) if variant == "chung" else (z, 1)
    expected = np.diag(keep) + sign * np.diag((h - n) * z * (1 - z)) @ u_z
    expected = expected + np.diag((1 - keep) * (1 - n**2)) @ candidate
    np.testing.assert_allclose(jacobian, expected, atol=tol("jacobian"))


@pytest.mark.parametrize("variant", VARIANTS)
def test_jacobian_at_the_origin(variant):
    """Kanai, Fujiwara & Iwamura 2017: without biases J(0) = I/2 + U/4, in every form."""
    cell = cells.GRU(3, N, variant, recurrent_weights=Gaussian(), bias=Constant(0.0))
    params = cell.init(jax.random.key(0))
    jacobian = rd.hold(cell, params, jnp.zeros(3)).jacobian(jnp.zeros(N))
    expected = np.eye(N) / 2 + params.w_h[2 * N :] / 4
    np.testing.assert_allclose(jacobian, expected, atol=tol("step"))


def one_unit(u, w_r=0.0, b_z=0.0):
    w_h = jnp.array([[w_r], [0.0], [u]])
    return cells.GRUParams(jnp.zeros((3, 1)), w_h, jnp.array([0.0, b_z, 0.0]), None)


def test_fixed_point_of_one_unit_beyond_the_pitchfork():
    """u = 2.2 and no reset weight: +-0.50294057494464."""
    quiet = rd.hold(cells.GRU(1, 1, "cho_v3"), one_unit(2.2), jnp.zeros(1))
    for sign in (1, -1):
        z = jnp.array([sign * 0.50294057494464])
        np.testing.assert_allclose(quiet(z), z, rtol=tol("printed"))


@pytest.mark.parametrize("b_z", [0.0, 1.5])
def test_the_fold_of_one_unit_does_not_depend_on_the_update_gate(b_z):
    """Reset weight 1: a fold at u = 1.76353336158, h = 0.46719218461, multiplier 1."""
    params = one_unit(1.76353336158, w_r=1.0, b_z=b_z)
    quiet = rd.hold(cells.GRU(1, 1, "cho_v3"), params, jnp.zeros(1))
    z = jnp.array([0.46719218461])
    np.testing.assert_allclose(quiet(z), z, atol=tol("printed"))
    np.testing.assert_allclose(quiet.jacobian(z), [[1.0]], atol=10 * tol("printed"))


def test_the_transcritical_point_of_one_unit_has_the_quadratic_term_of_its_reset_weight():
    """At u = 2 the map is z + (w_r/4) z^2 + ..., so a pitchfork needs w_r = 0."""
    for w_r in (0.0, 1.0, -3.0):
        quiet = rd.hold(cells.GRU(1, 1, "cho_v3"), one_unit(2.0, w_r), jnp.zeros(1))
        second = jax.jacfwd(quiet.jacobian)(jnp.zeros(1))
        assert float(second.ravel()[0]) / 2 == pytest.approx(w_r / 4, abs=tol("step"))


@pytest.mark.parametrize("variant", VARIANTS)
def test_h_never_grows_beyond_one(variant):
    cell = cells.GRU(3, N, variant)
    params = cell.init(jax.random.key(0), gain=30.0)
    start = rd.unflatten(jnp.array([4.0, -0.5, 0.1, -2.0]), cell.initial_state(params))
    run = rd.simulate(cell, params, 5 * INPUTS, start)
    h = np.abs(run.states.h)
    assert np.all(h[1:] <= np.maximum(h[:-1], 1) * (1 + tol("elementary")))


def test_the_update_gate_keeps_in_torch_and_writes_in_chung():
    """z = s(b) with b = ln(T - 1) keeps 1 - 1/T; (1 - 1/1000)^1000 = 0.36769542477."""
    bias = math.log(999.0)
    for variant, sign in (("torch", 1), ("cho_v3", 1), ("cho_v1", 1), ("chung", -1)):
        n = jnp.zeros(1)
        params = cells.GRUParams(
            jnp.zeros((3, 1)),
            jnp.zeros((3, 1)),
            jnp.array([0.0, sign * bias, 0.0]),
            n if variant == "torch" else None,
        )
        quiet = rd.hold(cells.GRU(1, 1, variant), params, n)
        kept = float(rd.orbit(quiet, jnp.ones(1), 1000)[-1, 0])
        assert kept == pytest.approx(0.36769542477, rel=tol("printed")), variant


def test_the_two_candidate_biases_are_not_interchangeable():
    cell = cells.GRU(3, N)
    p = cell.init(jax.random.key(0))
    moved = cells.GRUParams(p.w_x, p.w_h, p.b.at[2 * N :].add(p.b_hn), jnp.zeros(N))
    state = cell.initial_state(p)
    difference = cell.step(p, state, INPUTS[0]).h - cell.step(moved, state, INPUTS[0]).h
    assert np.abs(difference).max() > 1e-3


def test_params_hold_what_the_equations_hold():
    for variant in VARIANTS:
        params = cells.GRU(3, N, variant).init(jax.random.key(0))
        assert (params.b is None) == (variant == "kanai")
        assert (params.b_hn is None) == (variant != "torch")


@pytest.mark.parametrize(("variant", "sign"), [("torch", 1), ("cho_v3", 1), ("chung", -1)])
def test_chrono_start_keeps(variant, sign):
    params = cells.GRU(3, 500, variant, chrono=50).init(jax.random.key(0))
    times = 1 / (1 - equations.sigmoid(sign * np.asarray(params.b[500:1000])))
    assert 2 <= times.min() < 3 and 48 < times.max() <= 50
    assert np.abs(params.b[:500]).max() < 0.1  # the reset gate is left alone


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: cells.GRU(3, 4, "keras"),
            "`variant`: expected one of 'torch', 'cho_v3', 'cho_v1', 'chung', 'kanai', "
            "got 'keras'; pass one of them.",
        ),
        (
            lambda: cells.GRU(3, 4, "kanai", chrono=100),
            "`variant`: expected one of 'torch', 'cho_v3', 'cho_v1', 'chung', got 'kanai'; "
            "a chrono start sets the bias of z, so choose a variant with biases.",
        ),
    ],
)
def test_bad_options(make, message):
    with pytest.raises(ValueError) as error:
        make()
    assert str(error.value) == message
