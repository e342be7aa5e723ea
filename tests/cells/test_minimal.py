"""MGU, MinimalRNN and Lei's SRU: loops, closed-form Jacobians, fixed points, authors' arrays."""

import pathlib
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rnndyn as rd
from rnndyn.cells.containers import hidden_indices
from rnndyn.cells.gru import GRU, GRUParams
from rnndyn.cells.minimal import MGU, MinimalRNN, SimpleParams, SRULei
from tests.cells.gates import (
    M,
    N,
    assert_runs_as,
    d,
    example,
    jacobian,
    numbers,
    quiet,
    s,
    slope,
    start,
)
from tests.tolerances import tol

RECORDED = np.load(pathlib.Path(__file__).parents[1] / "reference" / "gate_authors.npz")
UNIT, MINIMAL, SIMPLE = MGU(M, N), MinimalRNN(M, N), SRULei(M, N, highway_bias=-1.0)


def unit_loop(params, state, x):
    h = state[0]
    (w_f, w_n), (u_f, u_n), (b_f, b_n) = (
        np.split(p, 2) for p in (params.w_x, params.w_h, params.b)
    )
    f = s(w_f @ x + u_f @ h + b_f)
    return [(1 - f) * h + f * np.tanh(w_n @ x + u_n @ (f * h) + b_n)]


def minimal_loop(params, state, x):
    h = state[0]
    z = np.tanh(params.w_x @ x + params.b)
    u = s(params.gate.w_h @ h + params.gate.w_x @ z + params.gate.b)
    return [u * h + (1 - u) * z]


def simple_loop(params, state, x):
    c = state[1]
    w, w_f, w_r, w_skip = np.split(params.w_x, 4)
    b_f, b_r = np.split(params.b, 2)
    f, r = s(w_f @ x + params.v_f * c + b_f), s(w_r @ x + params.v_r * c + b_r)
    new = f * c + (1 - f) * (w @ x)
    return [r * new + (1 - r) * (w_skip @ x), new]


@pytest.mark.precision
@pytest.mark.parametrize(
    ("cell", "loop"),
    [(UNIT, unit_loop), (MINIMAL, minimal_loop), (SIMPLE, simple_loop)],
    ids=["mgu", "minimal", "sru_lei"],
)
def test_runs_as_a_numpy_loop(cell, loop):
    assert_runs_as(cell, loop)


@pytest.mark.precision
def test_jacobian_of_the_mgu():
    params, state, inputs = example(UNIT)
    got, _ = jacobian(UNIT, params, state, inputs[0])
    p, h, x = numbers(params), np.asarray(state.h, float), numbers(inputs[0])
    (w_f, w_n), (u_f, u_n), (b_f, b_n) = (np.split(leaf, 2) for leaf in (p.w_x, p.w_h, p.b))
    f = s(w_f @ x + u_f @ h + b_f)
    n = np.tanh(w_n @ x + u_n @ (f * h) + b_n)
    gated = d(f) + d(h * slope(f)) @ u_f
    expected = d(1 - f) + d((n - h) * slope(f)) @ u_f + d(f * (1 - n**2)) @ u_n @ gated
    np.testing.assert_allclose(got, expected, rtol=0, atol=tol("jacobian"))


def test_the_mgu_at_the_origin():
    """J(0) = I/2 + U_n/4."""
    params, origin, x = quiet(UNIT)
    expected = np.eye(N) / 2 + np.asarray(params.w_h)[N:] / 4
    got, _ = jacobian(UNIT, params, origin, x)
    np.testing.assert_allclose(got, expected, rtol=0, atol=tol("jacobian"))


def test_the_mgu_is_a_gru_with_one_gate():
    """Chung's form, where z weighs the candidate, with r and z the same gate."""
    params, state, inputs = example(UNIT)
    tied = (jnp.concatenate([leaf[:N], leaf]) for leaf in (params.w_x, params.w_h, params.b))
    gru = rd.simulate(GRU(M, N, variant="chung"), GRUParams(*tied, b_hn=None), inputs, state)
    run = rd.simulate(UNIT, params, inputs, state)
    np.testing.assert_allclose(run.outputs, gru.outputs, rtol=0, atol=tol("gate_loop"))


@pytest.mark.parametrize("cell", [UNIT, MINIMAL], ids=["mgu", "minimal"])
def test_h_is_bounded(cell):
    params, state, inputs = example(cell)
    params, state = jax.tree.map(lambda leaf: 5 * leaf, (params, state))
    h = np.abs(rd.simulate(cell, params, inputs, state).states.h)
    assert np.all(h[1:] <= np.maximum(h[:-1], 1) * (1 + tol("elementary")))
    assert np.max(h[0]) > 1 and np.max(h[10:]) > 0.9


@pytest.mark.precision
def test_jacobian_of_the_minimal_network():
    params, state, inputs = example(MINIMAL)
    got, _ = jacobian(MINIMAL, params, state, inputs[0])
    p, h, x = numbers(params), np.asarray(state.h, float), numbers(inputs[0])
    z = np.tanh(p.w_x @ x + p.b)
    u = s(p.gate.w_h @ h + p.gate.w_x @ z + p.gate.b)
    expected = d(u) + d((h - z) * slope(u)) @ p.gate.w_h
    np.testing.assert_allclose(got, expected, rtol=0, atol=tol("jacobian"))


@pytest.mark.precision
def test_the_fixed_point_of_the_minimal_network_is_its_embedding():
    """h = z to the last bit, J = D(u) there, and every start ends there."""
    params, state, inputs = example(MINIMAL)
    embedded = jax.vmap(lambda x: jnp.tanh(params.w_x @ x + params.b))(inputs)
    after = jax.vmap(lambda h, x: MINIMAL.step(params, type(state)(h=h), x).h)(embedded, inputs)
    assert np.array_equal(after, embedded)
    x, z = inputs[0], embedded[0]
    got, _ = jacobian(MINIMAL, params, type(state)(h=z), x)
    p = numbers(params)
    u = s(p.gate.w_h @ numbers(z) + p.gate.w_x @ numbers(z) + p.gate.b)
    np.testing.assert_allclose(got, d(u), rtol=0, atol=tol("jacobian"))
    held = jnp.broadcast_to(x, inputs.shape)
    settled = rd.simulate(MINIMAL, params, held, state).states.h
    distance = np.max(np.abs(numbers(settled) - numbers(z)), axis=1)
    assert distance[-1] < 1e-3 * distance[0]


@pytest.mark.precision
def test_jacobian_of_the_simple_recurrent_unit():
    """In c it is diagonal: no unit reads another, unlike Oliva's unit of the same initials."""
    params, state, inputs = example(SIMPLE)
    got, _ = jacobian(SIMPLE, params, state, inputs[0])
    p, c, x = numbers(params), np.asarray(state.c, float), numbers(inputs[0])
    w, w_f, w_r, w_skip = np.split(p.w_x, 4)
    b_f, b_r = np.split(p.b, 2)
    f, r = s(w_f @ x + p.v_f * c + b_f), s(w_r @ x + p.v_r * c + b_r)
    new = f * c + (1 - f) * (w @ x)
    cc = f + (c - w @ x) * slope(f) * p.v_f
    hc = r * cc + (new - w_skip @ x) * slope(r) * p.v_r
    none = np.zeros((N, N))
    expected = np.block([[none, d(hc)], [none, d(cc)]])
    np.testing.assert_allclose(got, expected, rtol=0, atol=tol("jacobian"))
    assert np.array_equal(np.asarray(got) != 0, expected != 0)
    assert hidden_indices(SIMPLE, params) == tuple(range(N, 2 * N))


@pytest.mark.parametrize(("case", "size"), [("sru_skip_matrix", 3), ("sru_skip_input", 4)])
def test_runs_as_the_code_of_lei(case, size):
    """Its weights are (m, n, matrices) by candidate, f, r, skip; its highway bias here is -1."""
    arrays = {key.split("/")[1]: RECORDED[key] for key in RECORDED if key.startswith(f"{case}/")}
    matrices = arrays["weight"].shape[1] // N
    w_x = arrays["weight"].reshape(size, N, matrices).transpose(2, 1, 0).reshape(-1, size)
    v_f, v_r = np.split(arrays["weight_c"], 2)
    params = SimpleParams(*(jnp.asarray(each) for each in (w_x, v_f, v_r, arrays["bias"])))
    cell = SRULei(size, N, highway_bias=-1.0)
    run = rd.simulate(cell, params, jnp.asarray(arrays["inputs"]))
    np.testing.assert_allclose(run.outputs, arrays["outputs"], rtol=0, atol=tol("gate_loop"))
    np.testing.assert_allclose(run.states.c[-1], arrays["c_n"], rtol=0, atol=tol("gate_loop"))


def test_start_of_the_simple_recurrent_unit():
    params, _ = start(SIMPLE, jax.random.key(0))
    w, w_f, w_r, w_skip = np.split(np.abs(params.w_x), 4)
    scale = (1 + 2 * np.exp(-1.0)) ** 0.5
    for drawn, bound in ((w, 1), (w_f, 0.5**0.5), (w_r, 0.5**0.5), (w_skip, scale)):
        assert 0.7 * bound < np.max(drawn) <= bound  # of sqrt(3/m) = 1
    assert np.array_equal(params.b, [0.0] * N + [-1.0] * N)
    assert SRULei(M, N, rescale=False).scale == 1.0
    silent, _ = start(SIMPLE, jax.random.key(0), 0.0)
    assert not np.any([silent.v_f, silent.v_r]) and np.array_equal(silent.w_x, params.w_x)


def test_start_of_the_minimal_network():
    params, _ = start(MINIMAL, jax.random.key(0))
    assert np.array_equal(params.gate.b, np.ones(N))
    silent, _ = start(MINIMAL, jax.random.key(0), 0.0)
    assert not np.any(silent.gate.w_h) and np.array_equal(silent.gate.w_x, params.gate.w_x)


def test_bad_options():
    sentence = "`embedding`: expected one of 'tanh', 'relu', 'identity', got 'sine'"
    with pytest.raises(ValueError, match=f"^{re.escape(sentence + '; pass one of them.')}$"):
        MinimalRNN(3, 8, embedding="sine")
    sentence = "`rescale`: expected one of True, False, got 'no'; pass one of them."
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        SRULei(3, 8, rescale="no")
