"""PyTorch's `nn.RNN`, `nn.LSTM` and `nn.GRU`: weights in and out, without importing torch.

The entries of a `state_dict`, of layer k and with suffix `_reverse` for the backward direction,
G N rows with G = 1 (RNN), 3 (GRU: r, z, n) or 4 (LSTM: i, f, g, o):

    weight_ih_l{k} (G N, M_k), weight_hh_l{k} (G N, H), bias_ih_l{k}, bias_hh_l{k} (G N),
    weight_hr_l{k} (P, N) of an LSTM with proj_size P; H = P there, N without.

PyTorch's two biases add, but for the candidate n of a GRU, whose second one sits inside the reset
gate.
"""

import re
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from rnndyn.cells import GRU, LSTM, Affine, Bidirectional, Directions, GRUParams, Stack, Vanilla
from rnndyn.cells.base import Cell
from rnndyn.cells.containers import Layers, stack
from rnndyn.cells.lstm_variants import ProjectedLSTM, ProjectedParams
from rnndyn.core import validation

_ENTRY = re.compile(r"(weight_ih|weight_hh|bias_ih|bias_hh|weight_hr)_l(\d+)(_reverse)?")
_DIRECTIONS = ("", "_reverse")


def from_torch(
    weights: Mapping[str, Any], *, nonlinearity: str = "tanh", prefix: str = ""
) -> tuple[Any, Any]:
    """The cell and params of a PyTorch recurrent network.

    Parameters
    ----------
    weights : mapping of str to array
        `net.state_dict()` of an `nn.RNN`, `nn.LSTM` or `nn.GRU` with any number of layers and
        directions, projections and biases or none; or arrays under the same names, wherever they
        come from. Which of the three it is follows from the shapes.
    nonlinearity : {"tanh", "relu"}
        Of an `nn.RNN`, whose weights do not tell.
    prefix : str
        Of the entries to take, such as `"encoder.rnn."` in the state_dict of a larger model.

    Returns
    -------
    cell : Cell, or Bidirectional
        A `Vanilla`, `LSTM`, `GRU` or `ProjectedLSTM`; a `Stack` of them for several layers.
    params : pytree
        Copies, in JAX's default precision if the weights have more. Missing biases are zero.

    Raises
    ------
    ValueError
        If an entry is missing, unknown or of a wrong shape; the entry is named.

    Notes
    -----
    Dropout between layers belongs to training and is not among the weights: give it to `Stack`.

    Examples
    --------
    >>> import numpy as np
    >>> from rnndyn import interop
    >>> names = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
    >>> shapes = ((12, 3), (12, 4), (12,), (12,))
    >>> cell, params = interop.from_torch(dict(zip(names, map(np.ones, shapes))))
    >>> cell.__class__.__name__, cell.input_size, cell.hidden_size
    ('GRU', 3, 4)
    """
    if not isinstance(weights, Mapping):
        advice = "pass module.state_dict()"
        raise TypeError(validation.sentence("weights", "a mapping", repr(type(weights)), advice))
    entries = _entries(weights, prefix)
    layers = 1 + max(int(_ENTRY.fullmatch(name)[2]) for name in entries)  # type: ignore[index]
    directions = _DIRECTIONS[: 1 + any(name.endswith("_reverse") for name in entries)]
    suffixes = [[f"_l{layer}{direction}" for direction in directions] for layer in range(layers)]
    form = _Form(entries, nonlinearity)
    _require_entries(entries, [name for row in suffixes for name in row], form)
    made = [[form.read(entries, suffix) for suffix in row] for row in suffixes]
    size = len(directions) * form.output
    for layer, row in enumerate(made[1:], start=1):
        for (cell, _), suffix in zip(row, suffixes[layer], strict=True):
            want = form.rows, size
            validation.require_shape(
                f"weight_ih{suffix}", entries[f"weight_ih{suffix}"], want, _COPY
            )
            assert cell.input_size == size
    if len(directions) == 2:
        ahead, back = zip(*made, strict=True)
        cells = Bidirectional(*(tuple(cell for cell, _ in half) for half in (ahead, back)))
        return cells, Directions(*(tuple(its for _, its in half) for half in (ahead, back)))
    if layers == 1:
        return made[0][0]
    return stack(*(row[0][0] for row in made)), Layers(tuple(row[0][1] for row in made))


def to_torch(cell: Any, params: Any, *, bias: bool = True) -> dict[str, np.ndarray]:
    """The entries of the `state_dict` of a PyTorch network that computes what the cell does.

    Parameters
    ----------
    cell : Vanilla, LSTM, ProjectedLSTM, GRU of variant "torch", a Stack of one of these, or a
        Bidirectional of one of these
    params : pytree
    bias : bool
        Whether the PyTorch network has biases; without, those of the params must be zero.

    Returns
    -------
    dict of str to numpy.ndarray
        Copies. Where PyTorch has two biases that add, the second is zero. Load them with
        `net.load_state_dict({name: torch.tensor(a) for name, a in entries.items()})`.

    Raises
    ------
    TypeError, ValueError
        If PyTorch has no such network.

    Examples
    --------
    >>> import jax, rnndyn as rd
    >>> from rnndyn import interop
    >>> cell = rd.cells.LSTM(3, 4)
    >>> sorted(interop.to_torch(cell, cell.init(jax.random.key(0))))
    ['bias_hh_l0', 'bias_ih_l0', 'weight_hh_l0', 'weight_ih_l0']
    """
    found: dict[str, np.ndarray] = {}
    layers = list(_layers(cell, params))
    kinds = {(type(its), its.hidden_size, its.output_size) for _, its, _ in layers}
    if len(kinds) > 1:
        advice = "PyTorch's layers are of one kind and size; write each layer by itself"
        raise ValueError(validation.sentence("cell", "equal layers", repr(cell), advice))
    for suffix, its_cell, its_params in layers:
        for name, array in _write(its_cell, its_params).items():
            if bias or not name.startswith("bias"):
                found[name + suffix] = array
            elif np.any(array != 0):
                advice = "keep the biases, or set them to zero first"
                got = "biases that are not zero"
                raise ValueError(validation.sentence("bias", "True", got, advice))
    return found


_COPY = "pass the state_dict of the whole network, unchanged"


class _Form:
    """What the first layer tells about all: which network it is, its sizes, its entries."""

    def __init__(self, entries: Mapping[str, np.ndarray], nonlinearity: str):
        for name in ("weight_ih_l0", "weight_hh_l0"):
            if name not in entries:
                raise ValueError(validation.sentence("weights", f"an entry {name}", "none", _COPY))
        self.projected = "weight_hr_l0" in entries
        self.biased = "bias_ih_l0" in entries or "bias_hh_l0" in entries
        rows, self.output = _matrix(entries, "weight_hh_l0").shape
        self.hidden = _matrix(entries, "weight_hr_l0").shape[1] if self.projected else self.output
        self.rows = rows
        gates, rest = divmod(rows, max(self.hidden, 1))
        if rest or gates not in ((4,) if self.projected else (1, 3, 4)):
            expected = f"1, 3 or 4 blocks of {self.hidden} rows"
            raise ValueError(validation.sentence("weight_hh_l0", expected, f"{rows} rows", _COPY))
        self.gates = gates
        validation.require_choice("nonlinearity", nonlinearity, ("tanh", "relu"))
        self.nonlinearity = nonlinearity

    def shapes(self) -> dict[str, tuple[int | str, ...]]:
        """The entries of every layer and direction, with their shapes."""
        shapes: dict[str, tuple[int | str, ...]] = {
            "weight_ih": (self.rows, "M"),
            "weight_hh": (self.rows, self.output),
        }
        if self.biased:
            shapes |= {"bias_ih": (self.rows,), "bias_hh": (self.rows,)}
        if self.projected:
            shapes["weight_hr"] = (self.output, self.hidden)
        return shapes

    def read(self, entries: Mapping[str, np.ndarray], suffix: str) -> tuple[Cell, Any]:
        """The cell and params of one layer and direction."""
        w_x, w_h = (jnp.array(entries[name + suffix]) for name in ("weight_ih", "weight_hh"))
        zero = np.zeros(self.rows, w_x.dtype)
        first, second = (entries.get(name + suffix, zero) for name in ("bias_ih", "bias_hh"))
        sizes = w_x.shape[1], self.hidden
        if self.gates == 3:
            outer = 2 * self.hidden
            b = np.concatenate([(first + second)[:outer], first[outer:]])
            return GRU(*sizes), GRUParams(w_x, w_h, jnp.array(b), jnp.array(second[outer:]))
        affine = Affine(w_x, w_h, jnp.array(first + second))
        if self.projected:
            w_hr = jnp.array(entries["weight_hr" + suffix])
            return ProjectedLSTM(*sizes, proj_size=self.output), ProjectedParams(affine, w_hr)
        if self.gates == 4:
            return LSTM(*sizes), affine
        return Vanilla(*sizes, activation=self.nonlinearity), affine


def _entries(weights: Mapping[str, Any], prefix: str) -> dict[str, np.ndarray]:
    taken = {
        name[len(prefix) :]: array for name, array in weights.items() if name.startswith(prefix)
    }
    if not taken:
        got = ", ".join(list(weights)[:4]) or "nothing"
        advice = "pass net.state_dict(), with prefix= for a part of a larger model"
        expected = f"entries that start with {prefix!r}" if prefix else "entries"
        raise ValueError(validation.sentence("weights", expected, got, advice))
    for name in taken:
        if not _ENTRY.fullmatch(name):
            advice = "select the recurrent part of a larger model with prefix="
            expected = "entries of nn.RNN, nn.LSTM or nn.GRU"
            raise ValueError(validation.sentence("weights", expected, prefix + name, advice))
    return {name: _array(value) for name, value in taken.items()}


def _array(value: Any) -> np.ndarray:
    """A copy as a NumPy array; a torch tensor is detached and brought to the host."""
    if hasattr(value, "detach"):
        value = value.detach().cpu().numpy()
    return np.array(value)


def _matrix(entries: Mapping[str, np.ndarray], name: str) -> np.ndarray:
    validation.require_shape(name, entries[name], ("rows", "columns"), _COPY)
    return entries[name]


def _require_entries(entries: Mapping[str, np.ndarray], suffixes: list[str], form: _Form) -> None:
    wanted = {name + suffix: shape for suffix in suffixes for name, shape in form.shapes().items()}
    for name, shape in wanted.items():
        if name not in entries:
            raise ValueError(validation.sentence("weights", f"an entry {name}", "none", _COPY))
        validation.require_shape(name, entries[name], shape, _COPY)
    for name in entries:
        if name not in wanted:
            expected = f"entries {', '.join(form.shapes())} of each layer and direction"
            raise ValueError(validation.sentence("weights", expected, f"also {name}", _COPY))


def _layers(cell: Any, params: Any):
    """Suffix, cell and params of every layer and direction."""
    if isinstance(cell, Bidirectional):
        halves = ((cell.forward, params.forward), (cell.backward, params.backward))
        for (cells, its), direction in zip(halves, _DIRECTIONS, strict=True):
            for layer, pair in enumerate(zip(cells, its, strict=True)):
                yield f"_l{layer}{direction}", *pair
    elif isinstance(cell, Stack):
        for layer, pair in enumerate(zip(cell.layers, params.layers, strict=True)):
            yield f"_l{layer}", *pair
    else:
        yield "_l0", cell, params


def _write(cell: Any, params: Any) -> dict[str, np.ndarray]:
    """The entries of one layer and direction, without their suffix."""
    projection = {}
    if isinstance(cell, ProjectedLSTM):
        projection = {"weight_hr": np.array(params.w_hr)}
        params = params.gates
    elif isinstance(cell, GRU) and cell.variant == "torch":
        inner = np.concatenate([np.zeros(2 * cell.hidden_size, params.b.dtype), params.b_hn])
        return _weights(params) | {"bias_ih": np.array(params.b), "bias_hh": inner}
    elif not isinstance(cell, LSTM) and not (
        isinstance(cell, Vanilla) and cell.activation in ("tanh", "relu")
    ):
        expected = "a cell that PyTorch has: Vanilla, LSTM, ProjectedLSTM or the torch GRU"
        advice = "or a Stack or Bidirectional of these"
        raise TypeError(validation.sentence("cell", expected, repr(cell), advice))
    zero = np.zeros_like(params.b)
    return _weights(params) | {"bias_ih": np.array(params.b), "bias_hh": zero} | projection


def _weights(params: Any) -> dict[str, np.ndarray]:
    return {"weight_ih": np.array(params.w_x), "weight_hh": np.array(params.w_h)}
