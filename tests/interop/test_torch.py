"""Weights of PyTorch networks: recorded outputs, live ones where torch is installed, misuse."""

import json
import pathlib
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rnndyn as rd
from rnndyn import interop
from tests.tolerances import tol

RECORDED = np.load(pathlib.Path(__file__).parent.parent / "reference" / "torch_containers.npz")
CASES = json.loads(str(RECORDED["cases"]))


def recorded(case):
    """The weights, inputs and outputs of one recorded network."""
    start = f"{case}/"
    return {key[len(start) :]: RECORDED[key] for key in RECORDED.files if key.startswith(start)}


def options(case):
    return {"nonlinearity": CASES[case]["nonlinearity"]} if "nonlinearity" in CASES[case] else {}


def weights(case):
    return {k: v for k, v in recorded(case).items() if k.startswith(("weight", "bias"))}


@pytest.mark.parametrize("case", CASES)
def test_outputs_are_pytorchs(case):
    cell, params = interop.from_torch(weights(case), **options(case))
    for sequence, expected in zip(recorded(case)["inputs"], recorded(case)["outputs"], strict=True):
        outputs = rd.simulate(cell, params, jnp.asarray(sequence)).outputs
        np.testing.assert_allclose(outputs, expected, rtol=0, atol=tol("torch_sequence"))


@pytest.mark.parametrize("case", CASES)
def test_final_states_are_pytorchs(case):
    """h_n and c_n are indexed layer * directions + direction; the backward state ends at time 0."""
    cell, params = interop.from_torch(weights(case), **options(case))
    run = rd.simulate(cell, params, jnp.asarray(recorded(case)["inputs"][0]))
    if isinstance(cell, rd.cells.Bidirectional):
        states = [
            half[layer].states
            for layer in range(len(run.forward))
            for half in (run.forward, run.backward)
        ]
    else:
        states = run.states.layers if isinstance(cell, rd.cells.Stack) else [run.states]
    for leaf in ("h", "c"):
        if f"{leaf}_n" in recorded(case):
            last = [getattr(state, leaf)[-1] for state in states]
            np.testing.assert_allclose(
                last, recorded(case)[f"{leaf}_n"][:, 0], rtol=0, atol=tol("torch_sequence")
            )


@pytest.mark.parametrize("case", CASES)
def test_weights_survive_the_round_trip(case):
    cell, params = interop.from_torch(weights(case), **options(case))
    written = interop.to_torch(cell, params, bias=CASES[case].get("bias", True))
    assert sorted(written) == sorted(weights(case))
    again, back = interop.from_torch(written, **options(case))
    assert again == cell
    for got, want in zip(jax.tree.leaves(back), jax.tree.leaves(params), strict=True):
        assert np.array_equal(got, want)
    for name, array in weights(case).items():
        if name.startswith("weight"):
            assert np.array_equal(written[name], array)


@pytest.mark.parametrize("case", CASES)
def test_live_torch_computes_the_same(case):
    torch = pytest.importorskip("torch")
    made = dict(CASES[case])
    network = getattr(torch.nn, made.pop("class"))(**made).double()
    cell, params = interop.from_torch(network.state_dict(), **options(case))
    batch = np.random.default_rng(1).standard_normal((2, 7, made["input_size"]))
    axis = 0 if made.get("batch_first") else 1
    with torch.no_grad():
        outputs = network(torch.tensor(batch if axis == 0 else batch.swapaxes(0, 1)))[0].numpy()
    for item in range(2):
        got = rd.simulate(cell, params, jnp.asarray(batch[item])).outputs
        np.testing.assert_allclose(
            got, outputs.take(item, axis), rtol=0, atol=tol("torch_sequence")
        )
    written = interop.to_torch(cell, params, bias=made.get("bias", True))
    network.load_state_dict({name: torch.tensor(array) for name, array in written.items()})
    with torch.no_grad():
        again = network(torch.tensor(batch if axis == 0 else batch.swapaxes(0, 1)))[0].numpy()
    np.testing.assert_allclose(again, outputs, rtol=0, atol=tol("torch_sequence"))


def test_weights_are_copied():
    given = {name: array.copy() for name, array in weights("lstm").items()}
    cell, params = interop.from_torch(given)
    before = np.array(params.w_h)
    given["weight_hh_l0"][:] = 0
    assert np.array_equal(params.w_h, before)
    written = interop.to_torch(cell, params)
    written["weight_hh_l0"][:] = 0
    assert np.array_equal(params.w_h, before)


def test_the_two_candidate_biases_of_a_gru_are_not_interchangeable():
    given = weights("gru")
    swapped = given | {"bias_ih_l0": given["bias_hh_l0"], "bias_hh_l0": given["bias_ih_l0"]}
    inputs = jnp.asarray(recorded("gru")["inputs"][0])
    outputs = [rd.simulate(*interop.from_torch(w), inputs).outputs for w in (given, swapped)]
    assert np.max(np.abs(outputs[0] - outputs[1])) > 1e-3


def test_part_of_a_larger_model():
    larger = {f"encoder.rnn.{name}": array for name, array in weights("lstm").items()}
    larger["head.weight"] = np.zeros((2, 4))
    cell, params = interop.from_torch(larger, prefix="encoder.rnn.")
    assert np.array_equal(params.w_x, weights("lstm")["weight_ih_l0"])
    assert cell == interop.from_torch(weights("lstm"))[0]


def test_a_trained_network_is_under_the_microscope_in_two_lines():
    cell, params = interop.from_torch(weights("lstm_2_layers"))
    flow = rd.gradient_flow(
        rd.linearize(cell, params, rd.simulate(cell, params, jnp.ones((20, 3))))
    )
    assert np.all(np.isfinite(flow.log_norm))


def without(name, case="lstm"):
    return {key: array for key, array in weights(case).items() if key != name}


COPY = "pass the state_dict of the whole network, unchanged."
MISUSE = [
    ("weight_ih_l0", "`weights`: expected an entry weight_ih_l0, got none; " + COPY),
    ("weight_hh_l0", "`weights`: expected an entry weight_hh_l0, got none; " + COPY),
    ("bias_hh_l0", "`weights`: expected an entry bias_hh_l0, got none; " + COPY),
]


@pytest.mark.parametrize("name, sentence", MISUSE)
def test_a_missing_entry_is_named(name, sentence):
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        interop.from_torch(without(name))


def test_an_extra_or_misshapen_entry_is_named():
    cases = [
        (
            weights("lstm") | {"head.weight": np.zeros(2)},
            "`weights`: expected entries of nn.RNN, nn.LSTM or nn.GRU, got head.weight; "
            "select the recurrent part of a larger model with prefix=.",
        ),
        (
            weights("lstm") | {"weight_hr_l1": np.zeros((2, 4))},
            "`weights`: expected an entry weight_ih_l1, got none; " + COPY,
        ),
        (
            weights("lstm_2_layers") | {"weight_hr_l1": np.zeros((2, 4))},
            "`weights`: expected entries weight_ih, weight_hh, bias_ih, bias_hh of each layer and "
            "direction, got also weight_hr_l1; " + COPY,
        ),
        (
            weights("lstm") | {"bias_ih_l0": np.zeros(15)},
            "`bias_ih_l0`: expected shape (16,), got (15,); " + COPY,
        ),
        (
            weights("lstm") | {"weight_hh_l0": np.zeros((15, 4))},
            "`weight_hh_l0`: expected 1, 3 or 4 blocks of 4 rows, got 15 rows; " + COPY,
        ),
        (
            weights("lstm_2_layers") | {"weight_ih_l1": np.zeros((16, 5))},
            "`weight_ih_l1`: expected shape (16, 4), got (16, 5); " + COPY,
        ),
        (
            {},
            "`weights`: expected entries, got nothing; "
            "pass net.state_dict(), with prefix= for a part of a larger model.",
        ),
    ]
    for given, sentence in cases:
        with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
            interop.from_torch(given)
    sentence = "`weights`: expected entries that start with 'decoder.', got "
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}"):
        interop.from_torch(weights("lstm"), prefix="decoder.")
    with pytest.raises(ValueError, match="^`nonlinearity`: expected one of 'tanh', 'relu', got"):
        interop.from_torch(weights("rnn_tanh"), nonlinearity="identity")
    with pytest.raises(TypeError, match="^`weights`: expected a mapping, got .*list.*state_dict"):
        interop.from_torch([1.0, 2.0])


def test_what_pytorch_does_not_have_is_refused():
    key = jax.random.key(0)
    cell = rd.cells.GRU(3, 4, variant="cho_v3")
    with pytest.raises(TypeError, match="^`cell`: expected a cell that PyTorch has: Vanilla, LSTM"):
        interop.to_torch(cell, cell.init(key))
    mixed = rd.cells.stack(rd.cells.LSTM(3, 4), rd.cells.GRU(4, 4))
    with pytest.raises(ValueError, match="^`cell`: expected equal layers, got Stack"):
        interop.to_torch(mixed, mixed.init(key))
    cell = rd.cells.Vanilla(3, 4)
    with pytest.raises(ValueError, match="^`bias`: expected True, got biases that are not zero"):
        interop.to_torch(cell, cell.init(key), bias=False)
