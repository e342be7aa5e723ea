"""Parity with PyTorch: steps, runs, Jacobians and gradients, against recorded arrays."""

import importlib
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rnndyn as rd
from rnndyn import cells
from tests.tolerances import tol

RECORDED = pathlib.Path(__file__).parent.parent / "reference" / "torch.npz"
CELLS = {
    "rnn_tanh": cells.Vanilla(3, 5),
    "rnn_relu": cells.Vanilla(3, 5, "relu"),
    "lstm": cells.LSTM(3, 5),
    "gru": cells.GRU(3, 5),
}


@pytest.fixture(scope="module")
def recorded():
    with np.load(RECORDED) as file:
        return dict(file)


def as_params(name, w_ih, w_hh, b_ih, b_hh):
    """PyTorch's two biases add, but for the GRU's candidate, where one is inside the reset."""
    if name != "gru":
        return cells.Affine(w_ih, w_hh, b_ih + b_hh)
    n = w_hh.shape[1]
    outside = jnp.concatenate([(b_ih + b_hh)[: 2 * n], b_ih[2 * n :]])
    return cells.GRUParams(w_ih, w_hh, outside, b_hh[2 * n :])


def ours(name, arrays):
    weights = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    params = as_params(name, *(jnp.asarray(arrays[f"{name}.{part}"]) for part in weights))
    cell = CELLS[name]
    start = rd.unflatten(jnp.asarray(arrays[f"{name}.state"]), cell.initial_state(params))
    return cell, params, rd.simulate(cell, params, jnp.asarray(arrays["inputs"]), start)


def close(got, expected):
    np.testing.assert_allclose(got, expected, rtol=tol("torch"), atol=tol("torch"))


@pytest.mark.parametrize("name", CELLS)
def test_run(name, recorded):
    cell, _, run = ours(name, recorded)
    close(run.outputs, recorded[f"{name}.outputs"])
    close(jax.vmap(rd.flatten)(run.states)[-1], recorded[f"{name}.final"])


@pytest.mark.parametrize("name", CELLS)
def test_one_step(name, recorded):
    cell, params, run = ours(name, recorded)
    first = jax.tree.map(lambda leaf: leaf[0], run.states)
    close(
        cell.step(params, first, run.inputs[0]).h,
        recorded[f"{name}.outputs"][0],
    )


@pytest.mark.parametrize("name", CELLS)
def test_product_of_jacobians(name, recorded):
    cell, params, run = ours(name, recorded)
    jacobians = np.asarray(rd.linearize(cell, params, run).jacobians)
    close(np.linalg.multi_dot(jacobians[::-1]), recorded[f"{name}.jacobian"])


@pytest.mark.parametrize("name", CELLS)
def test_gradient_of_the_recurrent_weights(name, recorded):
    cell, params, run = ours(name, recorded)
    start = jax.tree.map(lambda leaf: leaf[0], run.states)

    def loss(params):
        return jnp.sum(rd.simulate(cell, params, run.inputs, start).outputs ** 2) / 2

    close(jax.grad(loss)(params).w_h, recorded[f"{name}.grad_hh"])


def test_recorded_arrays_are_what_torch_gives(recorded):
    pytest.importorskip("torch")
    live = importlib.import_module("tests.reference.make_torch").make()
    assert live.keys() == recorded.keys()
    for name in live:
        close(live[name], recorded[name])
