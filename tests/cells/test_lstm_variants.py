"""Peepholes, projection and coupled gates: loops, blocks of the Jacobian, spectra, PyTorch."""

import dataclasses
import pathlib
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rnndyn as rd
from rnndyn.cells.base import Affine
from rnndyn.cells.initializers import Constant
from rnndyn.cells.lstm import LSTM
from rnndyn.cells.lstm_variants import (
    CoupledLSTM,
    PeepholeLSTM,
    ProjectedLSTM,
    ProjectedParams,
)
from tests.cells.gates import (
    STEPS,
    M,
    N,
    assert_runs_as,
    assert_spectrum,
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

RECORDED = np.load(pathlib.Path(__file__).parents[1] / "reference" / "torch_projected.npz")
PEEPHOLE, PROJECTED, COUPLED = PeepholeLSTM(M, N), ProjectedLSTM(M, N, 3), CoupledLSTM(M, N)


def peephole_loop(squash):
    def loop(params, state, x):
        h, c = state
        gates = params.gates
        a_i, a_f, a_g, a_o = np.split(gates.w_x @ x + gates.w_h @ h + gates.b, 4)
        new = s(a_f + params.p_f * c) * c + s(a_i + params.p_i * c) * np.tanh(a_g)
        return [s(a_o + params.p_o * new) * squash(new), new]

    return loop


def projected_loop(params, state, x):
    h, c = state
    i, f, g, o = np.split(params.gates.w_x @ x + params.gates.w_h @ h + params.gates.b, 4)
    new = s(f) * c + s(i) * np.tanh(g)
    return [params.w_hr @ (s(o) * np.tanh(new)), new]


def coupled_loop(params, state, x):
    h, c = state
    f, g, o = np.split(params.w_x @ x + params.w_h @ h + params.b, 3)
    new = s(f) * c + (1 - s(f)) * np.tanh(g)
    return [s(o) * np.tanh(new), new]


@pytest.mark.precision
@pytest.mark.parametrize(
    ("cell", "loop"),
    [
        (PEEPHOLE, peephole_loop(np.tanh)),
        (PeepholeLSTM(M, N, squash="identity"), peephole_loop(lambda c: c)),
        (PROJECTED, projected_loop),
        (COUPLED, coupled_loop),
    ],
    ids=["peephole", "peephole, h' = o c'", "projected", "coupled"],
)
def test_runs_as_a_numpy_loop(cell, loop):
    assert_runs_as(cell, loop)


def gates_at(gates, h, x, count=4):
    """The values of the packed pre-activations and the recurrent blocks."""
    return np.split(gates.w_x @ x + gates.w_h @ h + gates.b, count), np.split(gates.w_h, count)


@pytest.mark.precision
def test_jacobian_of_the_peephole_lstm():
    params, state, inputs = example(PEEPHOLE)
    got, _ = jacobian(PEEPHOLE, params, state, inputs[0])
    p, state, x = numbers(params), numbers(state), numbers(inputs[0])
    (a_i, a_f, a_g, a_o), (u_i, u_f, u_g, u_o) = gates_at(p.gates, state.h, x)
    c = state.c
    i, f, g = s(a_i + p.p_i * c), s(a_f + p.p_f * c), np.tanh(a_g)
    new = f * c + i * g
    o = s(a_o + p.p_o * new)
    read = np.tanh(new) * slope(o)
    cc = d(f + c * slope(f) * p.p_f + g * slope(i) * p.p_i)
    ch = d(g * slope(i)) @ u_i + d(c * slope(f)) @ u_f + d(i * (1 - g**2)) @ u_g
    through = d(o * (1 - np.tanh(new) ** 2) + read * p.p_o)
    expected = np.block([[through @ ch + d(read) @ u_o, through @ cc], [ch, cc]])
    np.testing.assert_allclose(got, expected, rtol=0, atol=tol("jacobian"))


def test_peepholes_are_diagonal():
    """Not the full matrix on c' that the uRNN authors' LSTM has: units meet through h only."""
    params, state, inputs = example(PEEPHOLE)
    got, _ = jacobian(PEEPHOLE, params, state, inputs[0])
    off_diagonal = ~np.eye(N, dtype=bool)
    assert params.p_i.shape == params.p_f.shape == params.p_o.shape == (N,)
    assert np.all(np.asarray(got)[N:, N:][off_diagonal] == 0)
    assert np.all(np.asarray(got)[:N, N:][off_diagonal] == 0)


def test_the_output_gate_sees_the_new_memory():
    """From c = 0 the old memory can open no gate, and the new one opens the output gate."""
    params, _, inputs = example(PEEPHOLE)
    empty = PEEPHOLE.initial_state(params)
    _, before = jacobian(PEEPHOLE, params, empty, inputs[0])
    moved = dataclasses.replace(params, p_i=params.p_i + 1, p_f=params.p_f + 1)
    _, same = jacobian(PEEPHOLE, moved, empty, inputs[0])
    assert np.array_equal(before.h, same.h) and np.array_equal(before.c, same.c)
    moved = dataclasses.replace(params, p_o=params.p_o + 1)
    _, after = jacobian(PEEPHOLE, moved, empty, inputs[0])
    odds = np.log(after.h / (np.tanh(after.c) - after.h)) - np.log(
        before.h / (np.tanh(before.c) - before.h)
    )
    np.testing.assert_allclose(odds, after.c, rtol=0, atol=tol("jacobian"))


def test_without_peepholes_it_is_the_lstm():
    params, state, inputs = example(PEEPHOLE)
    zero = jnp.zeros((N,))
    params = dataclasses.replace(params, p_i=zero, p_f=zero, p_o=zero)
    got = rd.simulate(PEEPHOLE, params, inputs, state)
    plain = rd.simulate(LSTM(M, N), params.gates, inputs, state)
    np.testing.assert_allclose(got.outputs, plain.outputs, rtol=0, atol=tol("gate_loop"))


@pytest.mark.precision
def test_jacobian_of_the_projected_lstm():
    params, state, inputs = example(PROJECTED)
    got, _ = jacobian(PROJECTED, params, state, inputs[0])
    p, state, x = numbers(params), numbers(state), numbers(inputs[0])
    (a_i, a_f, a_g, a_o), (u_i, u_f, u_g, u_o) = gates_at(p.gates, state.h, x)
    i, f, g, o, c = s(a_i), s(a_f), np.tanh(a_g), s(a_o), state.c
    new = f * c + i * g
    ch = d(g * slope(i)) @ u_i + d(c * slope(f)) @ u_f + d(i * (1 - g**2)) @ u_g
    q = o * (1 - np.tanh(new) ** 2)
    hh = p.w_hr @ (d(q) @ ch + d(np.tanh(new) * slope(o)) @ u_o)
    expected = np.block([[hh, p.w_hr @ d(q * f)], [ch, d(f)]])
    np.testing.assert_allclose(got, expected, rtol=0, atol=tol("jacobian"))


@pytest.mark.precision
def test_jacobian_of_the_coupled_lstm():
    params, state, inputs = example(COUPLED)
    got, _ = jacobian(COUPLED, params, state, inputs[0])
    p, state, x = numbers(params), numbers(state), numbers(inputs[0])
    (a_f, a_g, a_o), (u_f, u_g, u_o) = gates_at(p, state.h, x, 3)
    f, g, o, c = s(a_f), np.tanh(a_g), s(a_o), state.c
    new = f * c + (1 - f) * g
    ch = d((c - g) * slope(f)) @ u_f + d((1 - f) * (1 - g**2)) @ u_g
    q = o * (1 - np.tanh(new) ** 2)
    hh = d(q) @ ch + d(np.tanh(new) * slope(o)) @ u_o
    expected = np.block([[hh, d(q * f)], [ch, d(f)]])
    np.testing.assert_allclose(got, expected, rtol=0, atol=tol("jacobian"))


def with_forget_bias(gates, rows, beta):
    return dataclasses.replace(gates, b=gates.b.at[rows].set(beta))


@pytest.mark.parametrize("beta", [0.0, 1.5])
def test_spectrum_at_the_origin(beta):
    """{0} and eig(f I + U_g/4), with a projection U_g W_hr/4, coupled f I + (1 - f) U_g/2."""
    f = s(beta)
    params, origin, x = quiet(PEEPHOLE)
    params = dataclasses.replace(
        params,
        gates=with_forget_bias(params.gates, slice(N, 2 * N), beta),
        p_o=params.p_o + 0.7,
        p_f=params.p_f - 0.3,
    )
    u_g = np.asarray(params.gates.w_h)[2 * N : 3 * N]
    expected = np.linalg.eigvals(f * np.eye(N) + u_g / 4)
    assert_spectrum(jacobian(PEEPHOLE, params, origin, x)[0], [*np.zeros(N), *expected])

    params, origin, x = quiet(PROJECTED)
    params = dataclasses.replace(
        params, gates=with_forget_bias(params.gates, slice(N, 2 * N), beta)
    )
    u_g = np.asarray(params.gates.w_h)[2 * N : 3 * N]
    expected = np.linalg.eigvals(f * np.eye(N) + u_g @ np.asarray(params.w_hr) / 4)
    assert_spectrum(jacobian(PROJECTED, params, origin, x)[0], [*np.zeros(3), *expected])

    params, origin, x = quiet(COUPLED)
    params = with_forget_bias(params, slice(0, N), beta)
    u_g = np.asarray(params.w_h)[N : 2 * N]
    expected = np.linalg.eigvals(f * np.eye(N) + (1 - f) * u_g / 2)
    assert_spectrum(jacobian(COUPLED, params, origin, x)[0], [*np.zeros(N), *expected])


@pytest.mark.parametrize("beta", [-2.0, 0.0, 3.0])
def test_a_coupled_lstm_loses_stability_at_two_for_any_forget_bias(beta):
    params, origin, x = quiet(COUPLED)
    basis = np.eye(N) + np.triu(np.ones((N, N)), 1)
    u_g = basis @ np.diag([2.0, 1.0, -1.0, 0.5]) @ np.linalg.inv(basis)
    params = with_forget_bias(params, slice(0, N), beta)
    params = dataclasses.replace(params, w_h=params.w_h.at[N : 2 * N].set(u_g))
    eigenvalues = np.linalg.eigvals(jacobian(COUPLED, params, origin, x)[0])
    assert abs(np.max(eigenvalues.real) - 1) <= tol("gate_origin")


def test_the_memory_of_a_coupled_lstm_is_bounded():
    params, state, inputs = example(COUPLED)
    params = jax.tree.map(lambda leaf: 10 * leaf, params)
    run = rd.simulate(COUPLED, params, inputs, dataclasses.replace(state, c=3 * state.c))
    c = np.abs(run.states.c)
    assert np.all(c[1:] <= np.maximum(c[:-1], 1) * (1 + tol("elementary")))
    assert np.max(c[5:]) > 0.9  # the bound is met, not merely kept


def loaded(get):
    """`ProjectedParams` from PyTorch's arrays; its two biases add."""
    gates = Affine(
        w_x=jnp.asarray(get("weight_ih_l0")),
        w_h=jnp.asarray(get("weight_hh_l0")),
        b=jnp.asarray(get("bias_ih_l0")) + jnp.asarray(get("bias_hh_l0")),
    )
    return ProjectedParams(gates=gates, w_hr=jnp.asarray(get("weight_hr_l0")))


def test_projection_as_pytorch_recorded():
    cell = ProjectedLSTM(2, 10, proj_size=5)
    run = rd.simulate(cell, loaded(RECORDED.__getitem__), jnp.asarray(RECORDED["inputs"]))
    atol = tol("gate_loop")
    np.testing.assert_allclose(run.outputs, RECORDED["outputs"], rtol=0, atol=atol)
    np.testing.assert_allclose(run.states.h[-1], RECORDED["h_n"], rtol=0, atol=atol)
    np.testing.assert_allclose(run.states.c[-1], RECORDED["c_n"], rtol=0, atol=atol)


def test_projection_as_pytorch_computes():
    torch = pytest.importorskip("torch")
    torch.manual_seed(3)
    network = torch.nn.LSTM(2, 10, proj_size=5).double()
    inputs = torch.randn(STEPS, 2, dtype=torch.float64)
    with torch.no_grad():
        outputs, (h_n, c_n) = network(inputs)
    arrays = {name: value.numpy() for name, value in network.state_dict().items()}
    cell = ProjectedLSTM(2, 10, proj_size=5)
    run = rd.simulate(cell, loaded(arrays.__getitem__), jnp.asarray(inputs.numpy()))
    atol = tol("gate_loop")
    np.testing.assert_allclose(run.outputs, outputs.numpy(), rtol=0, atol=atol)
    np.testing.assert_allclose(run.states.c[-1], c_n[0].numpy(), rtol=0, atol=atol)


def test_sizes_of_a_projection():
    """Two inputs, five numbers fed back, ten cells: each gate's weights are (10, 7)."""
    cell = ProjectedLSTM(2, 10, proj_size=5)
    params, state = start(cell, jax.random.key(0))
    assert np.hstack([params.gates.w_x, params.gates.w_h]).shape == (4 * 10, 7)
    assert params.w_hr.shape == (5, 10)
    assert (state.h.shape, state.c.shape, cell.output_size) == ((5,), (10,), 5)
    assert 0.9 * 10**-0.5 < np.max(np.abs(params.w_hr)) <= 10**-0.5
    assert ProjectedLSTM(3, 8) == ProjectedLSTM(3, 8, proj_size=4)


@pytest.mark.parametrize(
    ("hidden_size", "proj_size", "sentence"),
    [
        (8, 8, "`proj_size`: expected a whole number < hidden_size = 8, got 8"),
        (8, 9, "`proj_size`: expected a whole number < hidden_size = 8, got 9"),
        (1, None, "`proj_size`: expected a whole number < hidden_size = 1, got 1"),
        (8, 0, "`proj_size`: expected a whole number >= 1, got 0"),
        (8, 2.5, "`proj_size`: expected a whole number >= 1, got 2.5"),
    ],
)
def test_proj_size_is_strictly_less_than_hidden_size(hidden_size, proj_size, sentence):
    advice = "; pass the size of h; without a projection use LSTM."
    with pytest.raises(ValueError, match=f"^{re.escape(sentence + advice)}$"):
        ProjectedLSTM(3, hidden_size, proj_size)


def test_bad_squash():
    sentence = "`squash`: expected one of 'tanh', 'identity', got 'relu'; pass one of them."
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        PeepholeLSTM(3, 8, squash="relu")


@pytest.mark.parametrize("cls", [PeepholeLSTM, ProjectedLSTM, CoupledLSTM])
def test_bad_chrono(cls):
    sentence = "`t_max`: expected a number in [2, inf), got 1.5; "
    advice = "pass the longest time, in steps, over which to remember."
    with pytest.raises(ValueError, match=f"^{re.escape(sentence + advice)}$"):
        cls(3, 8, chrono=1.5)


@pytest.mark.parametrize("cls", [PeepholeLSTM, ProjectedLSTM, CoupledLSTM])
def test_forget_gates_start_open(cls):
    key, forget = jax.random.key(1), slice(0, N) if cls is CoupledLSTM else slice(N, 2 * N)

    def biases(**options):
        params, _ = start(cls(M, N, **options), key)
        return params.b if cls is CoupledLSTM else params.gates.b

    b = biases(bias=Constant(0.0))
    assert np.array_equal(b[forget], np.ones(N)) and np.sum(b != 0) == N
    u = np.exp(biases(chrono=50.0)[forget])
    assert np.all((u >= 1) & (u <= 49 * (1 + tol("elementary")))) and np.ptp(u) > 1


@pytest.mark.parametrize("cls", [PeepholeLSTM, ProjectedLSTM])
def test_gain_multiplies_what_reads_the_state(cls):
    none, one = (start(cls(M, N), jax.random.key(1), gain)[0] for gain in (0.0, 1.0))
    assert not np.any(none.gates.w_h)
    assert np.array_equal(none.gates.w_x, one.gates.w_x)
    if cls is PeepholeLSTM:
        assert not np.any([none.p_i, none.p_f, none.p_o])
        assert np.all(np.abs(np.array([one.p_i, one.p_f, one.p_o])) <= 0.1)
    else:
        assert np.array_equal(none.w_hr, one.w_hr)
