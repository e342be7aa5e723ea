"""The Written Memories family: loops, closed-form Jacobians, the place of the read gate."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rnndyn as rd
from rnndyn.cells.containers import hidden_indices
from rnndyn.cells.written_memories import (
    NormalisedPrototypeLSTM,
    PrototypeLSTM,
    PseudoLSTM,
)
from tests.cells.gates import M, N, assert_runs_as, d, example, jacobian, numbers, quiet, s, slope
from tests.tolerances import tol

PROTOTYPE, NORMALISED, PSEUDO = PrototypeLSTM(M, N), NormalisedPrototypeLSTM(M, N), PseudoLSTM(M, N)
FAMILY = pytest.mark.parametrize(
    "cell", [PROTOTYPE, NORMALISED, PSEUDO], ids=lambda cell: type(cell).__name__
)


def blocks(params):
    """(W, U, b) of i, f, o and of the candidate."""
    return zip(*(np.split(leaf, 4) for leaf in (params.w_h, params.w_x, params.b)), strict=True)


def loop(cell):
    phi = np.tanh if cell is PSEUDO else lambda memory: memory

    def step(params, state, x):
        memory = state[0]
        (w_i, u_i, b_i), (w_f, u_f, b_f), (w_o, u_o, b_o), (w, u, b) = blocks(params)
        i = s(w_i @ phi(memory) + u_i @ x + b_i)
        f = s(w_f @ phi(memory) + u_f @ x + b_f)
        o = s(w_o @ phi(memory) + u_o @ x + b_o)
        new = f * memory + i * np.tanh(w @ (o * phi(memory)) + u @ x + b)
        if cell is NORMALISED:
            new = new / np.sqrt(np.mean((new - np.mean(new)) ** 2) + 1)
        return [new]

    return step


@pytest.mark.precision
@FAMILY
def test_runs_as_a_numpy_loop(cell):
    assert_runs_as(cell, loop(cell))


@pytest.mark.precision
@FAMILY
def test_jacobian(cell):
    params, state, inputs = example(cell)
    got, _ = jacobian(cell, params, state, inputs[0])
    p, memory, x = numbers(params), np.asarray(state.s, float), numbers(inputs[0])
    seen = np.tanh(memory) if cell is PSEUDO else memory
    seen_slope = 1 - seen**2 if cell is PSEUDO else np.ones(N)
    packed = list(blocks(p))
    i, f, o = (s(w @ seen + u @ x + b) for w, u, b in packed[:3])
    w_i, w_f, w_o, w_g = (block[0] for block in packed)
    g = np.tanh(w_g @ (o * seen) + packed[3][1] @ x + packed[3][2])
    candidate = w_g @ (d(o) + d(seen * slope(o)) @ w_o)
    through = d(memory * slope(f)) @ w_f + d(g * slope(i)) @ w_i + d(i * (1 - g**2)) @ candidate
    expected = d(f) + through @ d(seen_slope)
    if cell is NORMALISED:
        written = f * memory + i * g
        v = np.var(written)
        centred = written - np.mean(written)
        divide = (np.eye(N) - np.outer(written, centred) / (N * (v + 1))) / np.sqrt(v + 1)
        expected = divide @ expected
    np.testing.assert_allclose(got, expected, rtol=0, atol=tol("jacobian"))


@FAMILY
def test_at_the_origin_it_is_the_gru(cell):
    """J(0) = I/2 + W/4, W the candidate's recurrent weights."""
    params, origin, x = quiet(cell)
    got, _ = jacobian(cell, params, origin, x)
    expected = np.eye(N) / 2 + np.asarray(params.w_h)[3 * N :] / 4
    np.testing.assert_allclose(got, expected, rtol=0, atol=tol("jacobian"))


@FAMILY
def test_reading_comes_before_writing(cell):
    """o reaches the new memory through the candidate alone, and what is put out not at all."""
    params, state, inputs = example(cell)
    blind = dataclasses.replace(params, w_h=params.w_h.at[3 * N :].set(0))
    opened = dataclasses.replace(blind, b=blind.b.at[2 * N : 3 * N].add(1.0))
    _, one = jacobian(cell, blind, state, inputs[0])
    _, other = jacobian(cell, opened, state, inputs[0])
    assert np.array_equal(one.s, other.s)
    _, reads = jacobian(cell, params, state, inputs[0])
    opened = dataclasses.replace(params, b=params.b.at[2 * N : 3 * N].add(1.0))
    _, reads_more = jacobian(cell, opened, state, inputs[0])
    assert np.all(reads.s != reads_more.s)


@FAMILY
def test_output_and_hidden_coordinates(cell):
    """The pseudo LSTM puts out tanh(s); the memory itself is what dh_T/dh_t perturbs."""
    params, state, _ = example(cell)
    read = jnp.tanh(state.s) if cell is PSEUDO else state.s
    assert np.array_equal(cell.output(state), read)
    assert hidden_indices(cell, params) == tuple(range(N))


def test_only_the_normalised_memory_is_bounded():
    """With every gate open the memory grows by one a step, unless it is normalised."""
    params, _, inputs = example(PROTOTYPE)
    params = jax.tree.map(jnp.zeros_like, params)
    ramp = jnp.concatenate([jnp.full((3 * N,), 40.0), jnp.array([40.0, 40.0, -40.0, 0.0])])
    params = dataclasses.replace(params, b=ramp)
    final = rd.simulate(PROTOTYPE, params, inputs).states.s[-1]
    np.testing.assert_allclose(final, [50, 50, -50, 0], rtol=tol("elementary"))
    for cell in (PROTOTYPE, NORMALISED):
        variance = np.var(rd.simulate(cell, params, inputs).states.s, axis=1)
        assert (np.max(variance) < 1) == (cell is NORMALISED)


def test_normalising_is_within_a_sample_and_keeps_the_mean():
    """Not over the batch, as one public port has it, and nothing is subtracted."""
    params, state, inputs = example(NORMALISED)
    _, alone = jacobian(NORMALISED, params, state, inputs[0])
    _, written = jacobian(PROTOTYPE, params, state, inputs[0])
    ratio = np.asarray(alone.s / written.s)
    np.testing.assert_allclose(ratio, (np.var(written.s) + 1) ** -0.5, rtol=tol("step"))
