"""The QRNN: its three poolings, the sense of its forget gate, its diagonal memory."""

import pathlib
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rnndyn as rd
from rnndyn.cells.containers import hidden_indices
from rnndyn.cells.initializers import Uniform
from rnndyn.cells.quasi import QRNN, QRNNParams
from tests.cells.gates import M, N, assert_runs_as, example, jacobian, numbers, s, start
from tests.tolerances import tol

RECORDED = np.load(pathlib.Path(__file__).parents[1] / "reference" / "gate_authors.npz")
CELLS = {pooling: QRNN(M, N, width=3, pooling=pooling, bias=Uniform()) for pooling in ("f", "ifo")}
CELLS["fo"] = QRNN(M, N, width=3)
POOLINGS = pytest.mark.parametrize("pooling", ["f", "fo", "ifo"])


def gates(params, inputs):
    """z, f, o and i of every step, from all inputs at once; before the first there are zeros."""
    width = params.w_x.shape[1] // M
    padded = np.concatenate([np.zeros((width - 1, M)), inputs])
    windows = [padded[width - 1 - lag : len(padded) - lag] for lag in range(width)]
    a = np.concatenate(windows, axis=1) @ params.w_x.T + (0 if params.b is None else params.b)
    z, *rest = np.split(a, a.shape[1] // N, axis=1)
    return [np.tanh(z), *map(s, rest)]


@pytest.mark.precision
@POOLINGS
def test_runs_as_a_convolution_and_a_pooling(pooling):
    """Gates from the whole sequence first, as the paper computes them, then the pooling."""
    params, state, inputs = example(CELLS[pooling])
    start_c = numbers(state.c)
    state = type(state)(h=state.h, c=state.c, x=jnp.zeros_like(state.x))
    run = rd.simulate(CELLS[pooling], params, inputs, state)
    z, f, *rest = gates(numbers(params), numbers(inputs))
    c = start_c
    for t in range(len(inputs)):
        c = f[t] * c + (rest[1][t] if pooling == "ifo" else 1 - f[t]) * z[t]
        h = rest[0][t] * c if rest else c
        np.testing.assert_allclose(run.states.c[t + 1], c, rtol=0, atol=tol("gate_loop"))
        np.testing.assert_allclose(run.outputs[t], h, rtol=0, atol=tol("gate_loop"))


@POOLINGS
def test_runs_as_a_numpy_loop(pooling):
    """From any register, not only an empty one."""

    def loop(params, state, x):
        _, c, before = state
        window = np.concatenate([x[None], before])
        a = params.w_x @ window.ravel() + (0 if params.b is None else params.b)
        z, f, *rest = np.split(a, len(a) // N)
        new = s(f) * c + (s(rest[1]) if pooling == "ifo" else 1 - s(f)) * np.tanh(z)
        return [s(rest[0]) * new if rest else new, new, window[:-1]]

    assert_runs_as(CELLS[pooling], loop)


@pytest.mark.precision
@POOLINGS
def test_jacobian(pooling):
    """dc'/dc = D(f), dh'/dc = D(o f); nothing reads h; the register is nilpotent."""
    cell = CELLS[pooling]
    params, state, inputs = example(cell)
    got, _ = jacobian(cell, params, state, inputs[0])
    p = numbers(params)
    window = np.concatenate([inputs[:1], state.x]).astype(float).ravel()
    a = p.w_x @ window + (0 if p.b is None else p.b)
    _, f, *rest = (s(each) for each in np.split(a, len(a) // N))
    o = rest[0] if rest else np.ones(N)
    atol = tol("jacobian")
    np.testing.assert_allclose(got[N : 2 * N, N : 2 * N], np.diag(f), rtol=0, atol=atol)
    np.testing.assert_allclose(got[:N, N : 2 * N], np.diag(o * f), rtol=0, atol=atol)
    off_diagonal = ~np.eye(N, dtype=bool)
    assert np.all(np.asarray(got)[N : 2 * N, N : 2 * N][off_diagonal] == 0)
    assert not np.any(got[:, :N]) and not np.any(got[2 * N :, : 2 * N])
    register = np.asarray(got)[2 * N :, 2 * N :]
    assert np.array_equal(register, np.eye(2 * M, k=-M))
    assert not np.any(np.linalg.matrix_power(register, 2))
    assert hidden_indices(cell, params) == tuple(range(N, 2 * N))


def test_over_any_span_the_memory_is_diagonal():
    """dc_T/dc_t = D(product of f)."""
    cell = CELLS["fo"]
    params, _, inputs = example(cell)
    lin = rd.linearize(cell, params, rd.simulate(cell, params, inputs))
    product = np.linalg.multi_dot(np.asarray(lin.jacobians[10:30])[::-1])[N : 2 * N, N : 2 * N]
    f = gates(numbers(params), numbers(inputs))[1]
    expected = np.diag(np.prod(f[10:30], axis=0))
    np.testing.assert_allclose(product, expected, rtol=tol("jacobian"))


@pytest.mark.precision
@POOLINGS
def test_fixed_point(pooling):
    """c = z for f and fo, to the last bit; i z / (1 - f) for ifo."""
    cell = CELLS[pooling]
    params, state, inputs = example(cell)
    held = jnp.broadcast_to(inputs[0], (3, M))
    z, f, *rest = (g[-1] for g in gates(numbers(params), numbers(held)))
    c = rest[1] * z / (1 - f) if pooling == "ifo" else z
    at = type(state)(h=state.h, c=jnp.asarray(c, params.w_x.dtype), x=held[1:])
    _, after = jacobian(cell, params, at, held[0])
    np.testing.assert_allclose(after.c, at.c, rtol=0, atol=tol("step"))
    assert np.array_equal(after.x, at.x)
    if pooling != "ifo":
        b = jnp.zeros((len(params.w_x),)) if params.b is None else params.b

        def settled(x):
            held = jnp.broadcast_to(x, (3, M))
            z = jnp.tanh(params.w_x @ held.ravel() + b)[:N]
            return z, cell.step(params, type(state)(h=z, c=z, x=held[1:]), x).c

        assert np.array_equal(*jax.vmap(settled)(inputs))


@pytest.mark.parametrize(("case", "pooling", "width"), [("qrnn_fo", "fo", 2), ("qrnn_f", "f", 1)])
def test_runs_as_the_code_of_salesforce(case, pooling, width):
    """Its gate weighs what is written: `f_writes`, or the rows of f with the other sign."""
    arrays = {key.split("/")[1]: RECORDED[key] for key in RECORDED if key.startswith(f"{case}/")}
    params = QRNNParams(w_x=jnp.asarray(arrays["weight"]), b=jnp.asarray(arrays["bias"]))
    inputs = jnp.asarray(arrays["inputs"])
    released = QRNN(M, N, width, pooling, f_writes=True)
    run = rd.simulate(released, params, inputs)
    atol = tol("gate_loop")
    np.testing.assert_allclose(run.outputs, arrays["outputs"], rtol=0, atol=atol)
    np.testing.assert_allclose(run.states.c[-1], arrays["c_n"], rtol=0, atol=atol)
    paper = QRNN(M, N, width, pooling)
    turned = jax.tree.map(lambda leaf: leaf.at[N : 2 * N].multiply(-1), params)
    as_paper = rd.simulate(paper, turned, inputs)
    np.testing.assert_allclose(as_paper.outputs, arrays["outputs"], rtol=0, atol=atol)
    wrong = rd.simulate(paper, params, inputs)
    assert np.max(np.abs(wrong.outputs - arrays["outputs"])) > 0.1


def test_sizes_and_what_gain_leaves_alone():
    params, state = start(CELLS["fo"], jax.random.key(0))
    assert params.w_x.shape == (3 * N, 3 * M) and params.b is None
    assert 0.9 * 9**-0.5 < np.max(np.abs(params.w_x)) <= 9**-0.5
    assert state.x.shape == (2, M) and not np.any(state.x)
    silent, _ = start(CELLS["fo"], jax.random.key(0), 0.0)
    assert np.array_equal(silent.w_x, params.w_x)
    assert [start(CELLS[p], jax.random.key(0))[0].b.shape for p in ("f", "ifo")] == [(8,), (16,)]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (
            {"width": 0},
            "`width`: expected a whole number >= 1, got 0; "
            "1 reads the present input alone, k the last k inputs.",
        ),
        (
            {"pooling": "of"},
            "`pooling`: expected one of 'f', 'fo', 'ifo', got 'of'; pass one of them.",
        ),
        (
            {"pooling": "ifo", "f_writes": True},
            "`pooling`: expected one of 'f', 'fo', got 'ifo'; "
            "ifo pooling has i for what is written and f for what is kept.",
        ),
        (
            {"f_writes": 1.5},
            "`f_writes`: expected one of True, False, got 1.5; pass one of them.",
        ),
    ],
)
def test_bad_options(options, sentence):
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        QRNN(3, 8, **options)
