"""Nested LSTMs: the code of hannw/nlstm, the LSTM at depth 1, the chain of memories."""

import dataclasses
import pathlib
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rnndyn as rd
from rnndyn.cells.base import Affine
from rnndyn.cells.lstm import LSTM
from rnndyn.cells.nested import NestedLSTM, NestedParams
from rnndyn.core.pytree import coordinate_names
from tests.cells.gates import (
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
    start,
)
from tests.tolerances import tol

RECORDED = np.load(pathlib.Path(__file__).parents[1] / "reference" / "gate_authors.npz")
NESTED = NestedLSTM(M, N)


def loop(params, state, x):
    """Depth 2, written out."""
    h, (c, memory) = state
    outer, inner = params.levels
    i, f, g, o = np.split(outer.w_x @ x + outer.w_h @ h + outer.b, 4)
    inner_x, inner_h = s(i) * g, s(f) * c
    i, f, g, inner_o = np.split(inner.w_x @ inner_x + inner.w_h @ inner_h + inner.b, 4)
    memory = s(f) * memory + s(i) * np.tanh(g)
    c = s(inner_o) * np.tanh(memory)
    return [s(o) * np.tanh(c), np.stack([c, memory])]


@pytest.mark.precision
def test_runs_as_a_numpy_loop():
    assert_runs_as(NESTED, loop)


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_runs_as_the_code_of_hannw_nlstm(depth):
    """Its kernels are [x; h] by i, candidate, f, o, and it adds its forget bias 1 when it runs."""
    arrays = {key: RECORDED[f"nlstm_{depth}/{key}"] for key in ("inputs", "states")}
    levels = []
    for level in range(depth):
        kernel = RECORDED[f"nlstm_{depth}/kernel_{level}"].T
        i, g, f, o = np.split(kernel, 4)
        b_i, b_g, b_f, b_o = np.split(RECORDED[f"nlstm_{depth}/bias_{level}"], 4)
        rows = jnp.asarray(np.concatenate([i, f, g, o]))
        b = jnp.asarray(np.concatenate([b_i, b_f + 1, b_g, b_o]))
        levels.append(Affine(w_x=rows[:, :-N], w_h=rows[:, -N:], b=b))
    cell = NestedLSTM(M, N, depth=depth)
    run = rd.simulate(cell, NestedParams(tuple(levels)), jnp.asarray(arrays["inputs"]))
    got = np.concatenate([run.states.h[1:, None], run.states.c[1:]], axis=1)
    expected = arrays["states"].reshape(got.shape)
    np.testing.assert_allclose(got, expected, rtol=0, atol=tol("gate_loop"))


def test_depth_one_is_the_lstm():
    """With addition in place of the inner LSTM, and the candidate squashed, nothing is new."""
    cell = NestedLSTM(M, N, depth=1, candidate="tanh")
    params, state, inputs = example(cell)
    run = rd.simulate(cell, params, inputs, state)
    plain = LSTM(M, N)
    as_lstm = dataclasses.replace(plain.initial_state(params.levels[0]), h=state.h, c=state.c[0])
    expected = rd.simulate(plain, params.levels[0], inputs, as_lstm)
    np.testing.assert_allclose(run.outputs, expected.outputs, rtol=0, atol=tol("gate_loop"))
    np.testing.assert_allclose(run.states.c[:, 0], expected.states.c, rtol=0, atol=tol("gate_loop"))


@pytest.mark.precision
def test_memories_are_chained():
    """dd'/dd = D(f~), dc'/dd = D(o~ tanh'(d')) dd'/dd, dh'/dd = D(o tanh'(c')) dc'/dd."""
    params, state, inputs = example(NESTED)
    got, after = jacobian(NESTED, params, state, inputs[0])
    p, state, x = numbers(params), numbers(state), numbers(inputs[0])
    outer, inner = p.levels
    i, f, g, o = np.split(outer.w_x @ x + outer.w_h @ state.h + outer.b, 4)
    pre = inner.w_x @ (s(i) * g) + inner.w_h @ (s(f) * state.c[0]) + inner.b
    _, inner_f, _, inner_o = np.split(pre, 4)
    c, memory = np.asarray(after.c, float)
    to_memory = d(s(inner_f))
    to_c = d(s(inner_o) * (1 - np.tanh(memory) ** 2)) @ to_memory
    to_h = d(s(o) * (1 - np.tanh(c) ** 2)) @ to_c
    expected = np.concatenate([to_h, to_c, to_memory])
    np.testing.assert_allclose(got[:, 2 * N :], expected, rtol=0, atol=tol("jacobian"))
    assert np.all(np.asarray(got)[2 * N :, 2 * N :][~np.eye(N, dtype=bool)] == 0)


def test_spectrum_at_the_origin():
    """{0} and eig(f~ I + f U~_g/4 + W~_g U_g/16), f and f~ the forget gates."""
    params, origin, x = quiet(NESTED)
    outer, inner = params.levels
    f, inner_f = 1.5, -0.5
    outer = dataclasses.replace(outer, b=outer.b.at[N : 2 * N].set(f))
    inner = dataclasses.replace(inner, b=inner.b.at[N : 2 * N].set(inner_f))
    params = NestedParams((outer, inner))
    u, inner_w, inner_u = (np.asarray(w)[2 * N : 3 * N] for w in (outer.w_h, inner.w_x, inner.w_h))
    matrix = s(inner_f) * np.eye(N) + s(f) * inner_u / 4 + inner_w @ u / 16
    expected = [*np.zeros(2 * N), *np.linalg.eigvals(matrix)]
    assert_spectrum(jacobian(NESTED, params, origin, x)[0], expected)


def test_memories_are_ordered_outermost_first():
    params, state, _ = example(NESTED)
    names = coordinate_names(state)
    assert names[: N + 1] == [*(f"h[{k}]" for k in range(N)), "c[0][0]"] and len(names) == 3 * N
    _, origin, x = quiet(NESTED)
    open_outer = jax.tree.map(jnp.zeros_like, params)
    moved, _ = jacobian(NESTED, open_outer, origin, x)
    # with all weights zero the innermost memory keeps half of itself and nothing else is kept
    np.testing.assert_allclose(np.diagonal(moved), [0] * 2 * N + [0.5] * N, atol=tol("elementary"))


def test_start():
    """Glorot for W_x of the outermost level, all else orthogonal gate by gate, forget bias 1."""
    params, _ = start(NESTED, jax.random.key(0))
    assert [level.w_x.shape for level in params.levels] == [(16, M), (16, N)]
    assert np.max(np.abs(params.levels[0].w_x)) <= (6 / (M + N)) ** 0.5
    orthogonal = [level.w_h for level in params.levels] + [p.w_x for p in params.levels[1:]]
    for block in np.concatenate([np.split(np.asarray(w), 4) for w in orthogonal]):
        np.testing.assert_allclose(block @ block.T, np.eye(N), atol=tol("step"))
    for level in params.levels:
        assert np.array_equal(level.b, [0.0] * N + [1.0] * N + [0.0] * 2 * N)
    silent, _ = start(NESTED, jax.random.key(0), 0.0)
    assert not any(np.any(level.w_h) for level in silent.levels)
    assert all(np.any(level.w_x) for level in silent.levels)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (
            {"depth": 0},
            "`depth`: expected a whole number >= 1, got 0; "
            "1 is a plain LSTM, 2 nests one LSTM in another.",
        ),
        (
            {"candidate": "relu"},
            "`candidate`: expected one of 'identity', 'tanh', got 'relu'; pass one of them.",
        ),
    ],
)
def test_bad_options(options, sentence):
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        NestedLSTM(3, 8, **options)
