"""Every cell of the table, grouped by mechanism, with weights that make gains comparable.

Recurrent weights are N(0, 1/n), input weights N(0, s^2) and biases zero wherever a cell lets them
be chosen, so that gain g gives each recurrent matrix the spectral radius g, as in the plain
network, and s is the standard deviation of what the input adds to a pre-activation. Where the
start *is* the mechanism (identity, unitary, ...) it stays that of the paper.
"""

import dataclasses
from typing import Any

import jax

import rnndyn as rd
from rnndyn.cells.initializers import Constant, Gaussian

REACH = 8  # steps that the connections across time scales reach back, the same for all

GATED = {
    "vanilla": "plain tanh",
    "residual": "residual in time",
    "lstm_1997": "LSTM 1997",
    "lstm": "LSTM",
    "peephole": "LSTM, peepholes",
    "projected": "LSTM, projected",
    "coupled": "LSTM, coupled gates",
    "nested": "nested LSTM",
    "prototype": "prototype LSTM",
    "normalised_prototype": "normalised prototype",
    "pseudo": "pseudo LSTM",
    "gru": "GRU",
    "mgu": "MGU",
    "minimal": "minimal RNN",
    "rhn": "recurrent highway",
    "sru_lei": "SRU (Lei)",
    "qrnn": "QRNN",
}
ACROSS = {
    "vanilla": "plain tanh",
    "stack": "two layers",
    "dilated": "Dilated",
    "clockwork": "Clockwork",
    "narx": "NARX",
    "narx_output": "NARX, output form",
    "mist": "MIST",
    "tkrnn": "TKRNN",
    "scrnn": "SCRNN",
    "plrnn": "PLRNN",
    "shallow_plrnn": "shallow PLRNN",
    "sru_oliva": "SRU (Oliva)",
    "fru": "FRU",
}
STARTED = {
    "vanilla": "Gaussian, tanh",
    "irnn": "IRNN",
    "np_rnn": "np-RNN",
    "rin": "RIN",
    "dirac": "Dirac",
    "indrnn": "IndRNN",
    "orthogonal": "orthogonal, tanh",
    "lt_rnn": "LT-RNN",
    "scornn": "scoRNN",
    "exprnn": "expRNN",
    "unitary": "unitary",
    "crelu": "CReLU",
    "mirror": "mirrored ReLU",
}

_COMPARABLE = {
    "recurrent_weights": Gaussian(),
    "bias": Constant(0.0),
    "forget_bias": 0.0,
    "gate_bias": Constant(0.0),
    "transform_bias": Constant(0.0),
}
_REACHING = {
    "narx": {"order": REACH},
    "narx_output": {"order": REACH, "output_weights": Gaussian()},
    "mist": {"delays": (1, 2, 4, REACH)},
    "tkrnn": {"time_scale": float(REACH)},
    "scrnn": {"weights": Gaussian()},
}
# The bias of the gate that keeps (forget, update or carry): how the paths of its arrays in the
# params end, which of their blocks of n it is, and the sign with which it opens.
_KEEPS = {
    "lstm": (".b", 1, 1),
    "peephole": (".b", 1, 1),
    "projected": (".b", 1, 1),
    "coupled": (".b", 0, 1),
    "nested": (".b", 1, 1),
    "prototype": (".b", 1, 1),
    "normalised_prototype": (".b", 1, 1),
    "pseudo": (".b", 1, 1),
    "gru": (".b", 1, 1),
    "mgu": (".b", 0, -1),
    "minimal": (".gate.b", 0, 1),
    "rhn": (".b", 1, -1),
    "sru_lei": (".b", 0, 1),
    "qrnn": (".b", 1, 1),
}


def build(
    name: str, input_size: int, hidden_size: int, *, input_gain: float = 1.0, **options: Any
) -> rd.cells.Cell:
    """The cell of that name at comparable weights, and with `options` before them."""
    if name in ("dilated", "stack"):
        plain = build("vanilla", input_size, hidden_size, input_gain=input_gain)
        if name == "dilated":
            return rd.cells.dilate(plain, options.get("dilation", REACH))
        return rd.cells.stack(plain, build("vanilla", hidden_size, hidden_size))
    cls = rd.cells.CELLS[name]
    wanted: dict[str, Any] = {"input_weights": Gaussian(input_gain)}
    if name not in STARTED or name == "vanilla":
        wanted |= _COMPARABLE
    known = {field.name for field in dataclasses.fields(cls)}
    comparable = {key: value for key, value in wanted.items() if key in known}
    return cls(input_size, hidden_size, **comparable | _REACHING.get(name, {}) | options)


def has_keeping_gate(name: str) -> bool:
    """Whether a gate with a bias decides how much of the memory is kept."""
    return name in _KEEPS


def open_gate(cell: rd.cells.Cell, params: Any, bias: jax.Array | float) -> Any:
    """Add `bias` to what opens the gate that keeps; params without such a gate stay as they are."""
    name = next((name for name, cls in rd.cells.CELLS.items() if type(cell) is cls), None)
    if name not in _KEEPS:
        return params
    ending, block, sign = _KEEPS[name]
    rows = slice(block * cell.hidden_size, (block + 1) * cell.hidden_size)

    def opened(path, leaf):
        keeps = jax.tree_util.keystr(path).endswith(ending)
        return leaf.at[..., rows].add(sign * bias) if keeps else leaf

    return jax.tree.map_with_path(opened, params)
