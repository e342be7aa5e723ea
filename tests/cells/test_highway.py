"""Recurrent highways and residuals in time: loops, products of layers, the authors' arrays."""

import dataclasses
import pathlib
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rnndyn as rd
from rnndyn.cells.highway import RHN, ResidualRNN, RHNParams
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
HIGHWAY = RHN(M, N)
RESIDUAL, LEAKY = ResidualRNN(M, N, alpha=0.3), ResidualRNN(M, N, alpha=0.3, leaky=True)
BOTH = pytest.mark.parametrize("cell", [RESIDUAL, LEAKY], ids=["residual", "leaky"])


def layers(params, memory, x):
    """(candidate, transform gate, what it reads) of each layer, and what comes out."""
    found = []
    for layer, (w_h, b) in enumerate(zip(params.w_h, params.b, strict=True)):
        a = w_h @ memory + b + (params.w_x @ x if layer == 0 else 0)
        g, t = np.tanh(a[:N]), s(a[N:])
        found.append((g, t, memory))
        memory = t * g + (1 - t) * memory
    return found, memory


@pytest.mark.precision
def test_the_highway_runs_as_a_numpy_loop():
    assert_runs_as(HIGHWAY, lambda params, state, x: [layers(params, state[0], x)[1]])


@pytest.mark.precision
@BOTH
def test_the_residual_runs_as_a_numpy_loop(cell):
    def loop(params, state, x):
        added = 0.3 * np.tanh(params.w_x @ x + params.w_h @ state[0] + params.b)
        return [(0.7 if cell is LEAKY else 1.0) * state[0] + added]

    assert_runs_as(cell, loop)


@pytest.mark.precision
def test_jacobian_of_the_highway():
    """The product over the layers, last on the left."""
    params, state, inputs = example(HIGHWAY)
    got, _ = jacobian(HIGHWAY, params, state, inputs[0])
    p = numbers(params)
    expected = np.eye(N)
    for (g, t, memory), w_h in zip(
        layers(p, numbers(state.h), numbers(inputs[0]))[0], p.w_h, strict=True
    ):
        r_g, r_t = np.split(w_h, 2)
        factor = d(1 - t) + d(t * (1 - g**2)) @ r_g + d((g - memory) * slope(t)) @ r_t
        expected = factor @ expected
    np.testing.assert_allclose(got, expected, rtol=0, atol=tol("jacobian"))


def test_the_highway_at_the_origin():
    """J(0) is the product of (1 - t) I + t R_g, t = s(transform bias)."""
    params, origin, x = quiet(HIGHWAY)
    b = jnp.broadcast_to(jnp.concatenate([jnp.zeros(N), jnp.full(N, -2.0)]), params.b.shape)
    params = dataclasses.replace(params, b=b)
    t = s(-2.0)
    first, second, third = ((1 - t) * np.eye(N) + t * w[:N] for w in numbers(params.w_h))
    got, _ = jacobian(HIGHWAY, params, origin, x)
    np.testing.assert_allclose(got, third @ second @ first, rtol=0, atol=tol("jacobian"))


def test_the_highway_is_bounded():
    params, state, inputs = example(HIGHWAY)
    params, state = jax.tree.map(lambda leaf: 5 * leaf, (params, state))
    h = np.abs(rd.simulate(HIGHWAY, params, inputs, state).states.h)
    assert np.all(np.max(h[1:], 1) <= np.maximum(np.max(h[:-1], 1), 1) * (1 + tol("elementary")))
    assert np.max(h[0]) > 1 and np.max(h[10:]) > 0.9


def test_the_highway_runs_as_the_code_of_zilly():
    """Its matrices are [x; s] by unit, one for the candidate and one for the gate of each layer."""

    def packed(name):
        pairs = [[RECORDED[f"rhn/{kind}_{layer}/{name}"] for kind in "ht"] for layer in range(3)]
        return [np.concatenate([each.T for each in pair]) for pair in pairs]

    first, *rest = packed("Matrix")
    params = RHNParams(
        w_x=jnp.asarray(first[:, :M]),
        w_h=jnp.asarray(np.stack([first[:, M:], *rest])),
        b=jnp.asarray(np.stack(packed("Bias"))),
    )
    run = rd.simulate(HIGHWAY, params, jnp.asarray(RECORDED["rhn/inputs"]))
    expected = RECORDED["rhn/outputs"]
    np.testing.assert_allclose(run.outputs, expected, rtol=0, atol=tol("gate_loop"))


def test_start_of_the_highway():
    params, _ = start(HIGHWAY, jax.random.key(0))
    assert (params.w_x.shape, params.w_h.shape) == ((8, M), (3, 8, N))
    assert np.array_equal(params.b[:, N:], np.full((3, N), -2.0))
    assert 0.03 < max(np.max(np.abs(leaf)) for leaf in (params.w_h, params.b[:, :N])) <= 0.04
    silent, _ = start(HIGHWAY, jax.random.key(0), 0.0)
    assert not np.any(silent.w_h) and np.array_equal(silent.w_x, params.w_x)


@pytest.mark.precision
@BOTH
def test_jacobian_of_the_residual(cell):
    """I + alpha D W, leaky (1 - alpha) I + alpha D W."""
    params, state, inputs = example(cell)
    got, _ = jacobian(cell, params, state, inputs[0])
    p = numbers(params)
    phi = np.tanh(p.w_x @ numbers(inputs[0]) + p.w_h @ numbers(state.h) + p.b)
    kept = 0.7 if cell is LEAKY else 1.0
    expected = kept * np.eye(N) + 0.3 * d(1 - phi**2) @ p.w_h
    np.testing.assert_allclose(got, expected, rtol=0, atol=tol("jacobian"))


@BOTH
def test_bound_of_the_residual(cell):
    params, state, inputs = example(cell)
    params, state = jax.tree.map(lambda leaf: 5 * leaf, (params, state))
    h = np.abs(rd.simulate(cell, params, inputs, state).states.h)
    bound = np.maximum(h[:-1], 1) if cell is LEAKY else h[:-1] + 0.3
    assert np.all(h[1:] <= bound * (1 + tol("elementary")))
    assert np.max(h[-1]) < 1 if cell is LEAKY else np.max(h[-1]) > 1


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (
            {"alpha": 0.0},
            "`alpha`: expected a number in (0, inf), got 0.0; pass the length of a step.",
        ),
        (
            {"alpha": float("nan")},
            "`alpha`: expected a number in (0, inf), got nan; pass the length of a step.",
        ),
        (
            {"alpha": 1.5, "leaky": True},
            "`alpha`: expected a number in (0, 1], got 1.5; 1 is the plain network.",
        ),
        (
            {"leaky": "yes"},
            "`leaky`: expected one of True, False, got 'yes'; pass one of them.",
        ),
    ],
)
def test_bad_residual(options, sentence):
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        ResidualRNN(3, 8, **options)


def test_bad_depth():
    sentence = "`depth`: expected a whole number >= 1, got 0; "
    advice = "pass the number of layers within a step."
    with pytest.raises(ValueError, match=f"^{re.escape(sentence + advice)}$"):
        RHN(3, 8, depth=0)
