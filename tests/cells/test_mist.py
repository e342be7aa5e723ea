"""MIST RNN: delays, mixture and reset, against the equations and the authors' code.

Source: DiPietro, Rupprecht, Navab & Hager 2017; recorded outputs of their layers.py.
"""

import pathlib
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rnndyn as rd
from rnndyn.cells.mist import MIST, MISTParams
from tests.cells import recurrences as ref
from tests.tolerances import tol

RELEASED = pathlib.Path(__file__).parent.parent / "reference" / "released_cells.npz"
SMALL = MIST(2, 3, delays=(1, 2, 4))


def loop(cell, params):
    """The equations, one delay at a time, on the history newest first."""
    p, n = ref.arrays(params), cell.hidden_size

    def step(t, z, x):
        history = z.reshape(-1, n)
        before = history[0]
        logits = p.mixture.w_x @ x + p.mixture.w_h @ before + p.mixture.b
        weights = np.exp(logits) / np.sum(np.exp(logits))
        mixed = sum(weights[i] * history[lag - 1] for i, lag in enumerate(cell.delays))
        reset = ref.logistic(p.reset.w_x @ x + p.reset.w_h @ before + p.reset.b)
        a = p.candidate.w_h @ (reset * mixed) + p.candidate.w_x @ x + p.candidate.b
        return np.concatenate([np.tanh(a)[None], history[:-1]]).ravel()

    return step


def first_block_row(cell, params, z, x):
    """d h_t / d (h_{t-1}, h_{t-2}, ...), by the closed form; shape (n, longest delay, n)."""
    p, n = ref.arrays(params), cell.hidden_size
    history = z.reshape(-1, n)
    before, delayed = history[0], history[np.array(cell.delays) - 1].T
    logits = p.mixture.w_x @ x + p.mixture.w_h @ before + p.mixture.b
    a = np.exp(logits) / np.sum(np.exp(logits))
    r = ref.logistic(p.reset.w_x @ x + p.reset.w_h @ before + p.reset.b)
    c = delayed @ a
    h = np.tanh(p.candidate.w_h @ (r * c) + p.candidate.w_x @ x + p.candidate.b)
    back = (1 - h**2)[:, None] * p.candidate.w_h
    row = np.zeros((n, max(cell.delays), n))
    for i, lag in enumerate(cell.delays):
        row[:, lag - 1] += a[i] * back * r[None, :]
    through_reset = (c * r * (1 - r))[:, None] * p.reset.w_h
    through_mixture = r[:, None] * (delayed @ (np.diag(a) - np.outer(a, a)) @ p.mixture.w_h)
    row[:, 0] += back @ (through_reset + through_mixture)
    return row


@pytest.mark.precision
@pytest.mark.parametrize("cell", [SMALL, MIST(3, 4, delays=(3, 1, 6))], ids=["powers", "others"])
def test_a_run_equals_the_equations(cell):
    params = ref.random_params(cell, scale=0.8)
    ref.assert_equals_recurrence(cell, params, loop(cell, params))


def test_outputs_of_the_released_code():
    with np.load(RELEASED) as stored:
        data = {name.removeprefix("mist/"): stored[name] for name in stored.files}
    cell = MIST(2, 4, delays=(1, 2, 4, 8))

    def affine(name):
        w_x, w_h, b = (jnp.asarray(data[f"{name}/{leaf}"]) for leaf in ("W_x", "W_h", "b"))
        return rd.cells.Affine(w_x=w_x.T, w_h=w_h.T, b=b)

    params = MISTParams(
        mixture=affine("pre_act/coefs"), reset=affine("pre_act/r"), candidate=affine("mist")
    )
    run = rd.simulate(cell, params, jnp.asarray(data["inputs"]))
    np.testing.assert_allclose(run.outputs, data["outputs"], rtol=0, atol=tol("released_code"))


@pytest.mark.precision
def test_the_jacobian_is_the_closed_form_over_the_shift():
    cell = SMALL
    params = ref.random_params(cell, scale=0.8)
    run = rd.simulate(cell, params, ref.random_inputs(cell, 6))
    z = ref.points(run).astype(float)
    jacobians = np.asarray(rd.linearize(cell, params, run).jacobians)
    for t in (0, 3, 5):
        row = first_block_row(cell, params, z[t], np.asarray(run.inputs[t], float))
        np.testing.assert_allclose(jacobians[t][:3], row.reshape(3, -1), atol=tol("jacobian"))
        assert np.array_equal(jacobians[t][3:], np.eye(12)[:-3])


def test_the_total_derivative_is_the_newest_block_of_the_product():
    cell, steps = SMALL, 5
    params = ref.random_params(cell, scale=0.8)
    inputs = ref.random_inputs(cell, 4 + steps)
    run = rd.simulate(cell, params, inputs)
    later = np.asarray(rd.linearize(cell, params, run).jacobians[4:])
    step, older = loop(cell, params), ref.points(run)[4][3:]

    def unrolled(h):
        z = np.concatenate([h, older])
        for x in np.asarray(inputs[4:]):
            z = step(0, z, x)
        return z[:3]

    expected = ref.complex_step(unrolled, ref.points(run)[4][:3])
    product, blocks = np.eye(12), np.eye(3)
    for jacobian in later:
        product, blocks = jacobian @ product, jacobian[:3, :3] @ blocks
    np.testing.assert_allclose(product[:3, :3], expected, rtol=0, atol=tol("cell_product"))
    assert np.max(np.abs(blocks - expected)) > 1e-3


def test_a_mixture_that_is_one_delay_reads_that_delay():
    cell, n = MIST(2, 3, delays=(1, 2, 4)), 3
    drawn = ref.random_params(cell)
    chosen = jnp.array([0.0, 0.0, 1e4])
    mixture = rd.cells.Affine(w_x=jnp.zeros((3, 2)), w_h=jnp.zeros((3, n)), b=chosen)
    params = MISTParams(mixture=mixture, reset=drawn.reset, candidate=drawn.candidate)
    z = jnp.arange(12.0) / 12
    jacobian = rd.hold(cell, params, jnp.ones(2)).jacobian(z)
    assert not np.any(jacobian[:3, 3:9])
    assert np.all(jacobian[:3, 9:] != 0)


def test_the_paper_s_defaults_stay_matrix_free():
    cell = MIST(3, 64)
    params = cell.init(jax.random.key(0))
    assert cell.initial_state(params).h.shape == (128, 64)
    for affine in jax.tree.leaves(params, is_leaf=lambda leaf: isinstance(leaf, rd.cells.Affine)):
        assert abs(float(jnp.std(affine.w_h)) * 8 - 1) < 0.1
        assert abs(float(jnp.std(affine.w_x)) * 8 - 1) < 0.3
        assert not np.any(affine.b)
    run = rd.simulate(cell, params, ref.random_inputs(cell, 6))
    free = rd.linearize(cell, params, run)
    last = jax.tree.map(lambda leaf: leaf[5], free.slices)
    pulled = free.pull(last, jnp.eye(8192, 2))
    row = first_block_row(cell, params, ref.points(run)[5], np.asarray(run.inputs[5]))
    np.testing.assert_allclose(pulled.T, row[:2].reshape(2, -1), atol=tol("jacobian"))


def test_flops():
    n, m, k = 64, 16, 8
    equations = 4 * n * (n + m) + 2 * k * (n + m) + 2 * k * n + 10 * n
    assert ref.flops(MIST(m, n)) <= 1.3 * equations


@pytest.mark.parametrize(
    ("delays", "sentence"),
    [
        (
            3,
            "`delays`: expected a tuple of whole numbers, got 3; pass for example (1, 2, 4, 8).",
        ),
        (
            (),
            "`delays`: expected a tuple of whole numbers, got (); pass for example (1, 2, 4, 8).",
        ),
        (
            (1, 0),
            "`delays[1]`: expected a whole number >= 1, got 0; pass for example (1, 2, 4, 8).",
        ),
        (
            (1, 2, 2),
            "`delays`: expected distinct delays, got (1, 2, 2); pass for example (1, 2, 4, 8).",
        ),
    ],
)
def test_misuse_is_answered_in_a_sentence(delays, sentence):
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        MIST(3, 8, delays=delays)
