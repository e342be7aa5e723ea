"""Cells made of cells: layers on top of each other, and two directions side by side."""

import functools
import math
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from rnndyn.cells.base import Cell
from rnndyn.cells.elman import Vanilla
from rnndyn.core import validation
from rnndyn.core.keys import split
from rnndyn.core.pytree import pytree, specification


@pytree
class Layers:
    """layers : tuple of pytrees, what belongs to each layer of a stack, lowest first."""

    layers: tuple[Any, ...]


@specification
class Stack(Cell):
    """Layers of cells in one step: layer l reads the output of layer l - 1 at the same time.

        s^l_t = step_l(s^l_{t-1}, y^{l-1}_t),  y^0_t = x_t,  y^l_t = output_l(s^l_t)

    State: `Layers` of the states, lowest first. Params: `Layers` of theirs. Output and hidden
    coordinates: those of the top layer. The Jacobian is block lower triangular in the layers, so
    its eigenvalues at a fixed point are the union of the layers' own.

    Dropout acts on what one layer hands to the next, never on what it keeps, and only where a key
    is given: `rd.simulate(stack, params, inputs, key=key)` scales what is kept by 1/(1 - dropout)
    and draws anew at each step (Zaremba, Sutskever & Vinyals 2014; PyTorch's `dropout`). Maps
    (`rd.hold`) and runs without a key are those of the network at evaluation.

    Attributes
    ----------
    layers : tuple of Cell
        Sizes must chain: the first reads `input_size`, each further one the output of the one
        below, and the last gives `hidden_size` numbers. Two tanh `Vanilla` layers if not given.
    dropout : float in [0, 1)

    Examples
    --------
    >>> import jax, jax.numpy as jnp, rnndyn as rd
    >>> cell = rd.cells.stack(rd.cells.LSTM(3, 8), rd.cells.GRU(8, 5), dropout=0.1)
    >>> params = cell.init(jax.random.key(0))
    >>> run = rd.simulate(cell, params, jnp.ones((4, 3)), key=jax.random.key(1))
    >>> run.outputs.shape, rd.linearize(cell, params, run).size
    ((4, 5), 21)
    """

    mechanism: ClassVar[str] = "layers"
    paper: ClassVar[str] = "Graves, Mohamed & Hinton 2013; PyTorch's containers"
    state_shape: ClassVar[str] = "the layers' states, lowest first"
    exact: ClassVar[str] = "J is block lower triangular; eigenvalues are the union of the layers'"
    checked: ClassVar[str] = "block formula, layers run one after another, NumPy loop"

    input_size: int
    hidden_size: int
    layers: tuple[Cell, ...] = ()
    dropout: float = 0.0

    def validate(self) -> None:
        if not self.layers:
            below = (self.input_size, self.hidden_size)
            default = tuple(Vanilla(size, self.hidden_size) for size in below)
            # equal specifications must compare equal, so the default is filled in
            object.__setattr__(self, "layers", default)
        advice = "0 is no dropout, 0.5 zeroes half of what a layer hands on"
        validation.require_range("dropout", self.dropout, 0.0, 1.0, advice, open_high=True)
        size = self.input_size
        for index, cell in enumerate(self.layers):
            require_cell(f"layers[{index}]", cell)
            require_size(f"layers[{index}].input_size", cell.input_size, size)
            size = cell.output_size
        require_size("hidden_size", self.hidden_size, size)

    def init(self, key: jax.Array, *, gain: float | jax.Array = 1.0) -> Layers:
        keys = split(key, len(self.layers))
        return Layers(tuple(c.init(k, gain=gain) for c, k in zip(self.layers, keys, strict=True)))

    def initial_state(self, params: Layers) -> Layers:
        pairs = zip(self.layers, params.layers, strict=True)
        return Layers(tuple(cell.initial_state(its) for cell, its in pairs))

    def step(
        self, params: Layers, state: Layers, x: jax.Array, key: jax.Array | None = None
    ) -> Layers:
        states = []
        for index, cell in enumerate(self.layers):
            if index > 0 and key is not None and self.dropout > 0.0:
                mask_key = jax.random.fold_in(key, len(self.layers) + index)
                kept = jax.random.bernoulli(mask_key, 1 - self.dropout, x.shape)
                x = jnp.where(kept, x / (1 - self.dropout), jnp.zeros_like(x))
            inner = (jax.random.fold_in(key, index),) if key is not None and cell.random else ()
            state_above = cell.step(params.layers[index], state.layers[index], x, *inner)
            x = cell.output(state_above)
            states.append(state_above)
        return Layers(tuple(states))

    def output(self, state: Layers) -> jax.Array:
        return self.layers[-1].output(state.layers[-1])

    def hidden(self, state: Layers) -> jax.Array:
        return self.layers[-1].hidden(state.layers[-1])

    def registers(self, state: Layers) -> tuple[jax.Array, ...]:
        pairs = zip(self.layers, state.layers, strict=True)
        return tuple(register for cell, its in pairs for register in cell.registers(its))

    @property
    def period(self) -> int | None:
        periods = [cell.period for cell in self.layers if cell.period is not None]
        return math.lcm(*periods) if len(periods) == len(self.layers) else None

    @property
    def exact_derivative(self) -> bool:
        return all(cell.exact_derivative for cell in self.layers)

    @property
    def random(self) -> bool:
        return self.dropout > 0.0 or any(cell.random for cell in self.layers)


def stack(*layers: Cell, dropout: float = 0.0) -> Stack:
    """Cells on top of each other, lowest first; the sizes are theirs.

    Parameters
    ----------
    layers : Cell
        At least one; each reads the output of the one before.
    dropout : float in [0, 1)
        Probability of zeroing what a layer hands to the next, in runs that are given a key.

    Returns
    -------
    Stack

    Examples
    --------
    >>> import rnndyn as rd
    >>> deep = rd.cells.stack(rd.cells.Vanilla(3, 8), rd.cells.Vanilla(8, 8))
    >>> deep == rd.cells.Stack(3, 8)
    True
    """
    if not layers:
        advice = "pass for example rd.cells.LSTM(3, 8), rd.cells.LSTM(8, 8)"
        raise ValueError(validation.sentence("layers", "at least one Cell", "none", advice))
    for index, cell in enumerate(layers):
        require_cell(f"layers[{index}]", cell)
    return Stack(layers[0].input_size, layers[-1].output_size, layers, dropout)


@specification
class Bidirectional:
    """Layers that each read their input in both directions of time.

    Not a Cell: the backward half reads the sequence from its end, and the second layer reads both
    halves of the whole sequence, so there is no step from one state to the next and no joint
    fixed point. Analyse each direction of each layer as the cell it is, along its own run.

    Layer l reads (T, 2 n) of layer l - 1, the forward output beside the backward one.

    Attributes
    ----------
    forward, backward : tuple of Cell
        One a layer, of equal sizes in both directions. Those above the first read 2 n inputs.
    """

    forward: tuple[Cell, ...]
    backward: tuple[Cell, ...]

    def __post_init__(self) -> None:
        if len(self.forward) != len(self.backward) or not self.forward:
            got = f"{len(self.forward)} forward and {len(self.backward)} backward"
            advice = "give one cell for each direction of each layer"
            raise ValueError(validation.sentence("backward", "as many cells", got, advice))
        size = self.forward[0].input_size
        for index, pair in enumerate(zip(self.forward, self.backward, strict=True)):
            for name, cell in zip(("forward", "backward"), pair, strict=True):
                require_cell(f"{name}[{index}]", cell)
                require_size(f"{name}[{index}].input_size", cell.input_size, size)
            want = pair[0].output_size
            require_size(f"backward[{index}].output_size", pair[1].output_size, want)
            size = 2 * want

    def init(self, key: jax.Array, *, gain: float | jax.Array = 1.0) -> "Directions":
        """Random params of every cell: `Directions`."""
        keys = split(key, (2, len(self.forward)))
        halves = [
            tuple(cell.init(k, gain=gain) for cell, k in zip(cells, its_keys, strict=True))
            for cells, its_keys in zip((self.forward, self.backward), keys, strict=True)
        ]
        return Directions(*halves)


@pytree
class Directions:
    """forward, backward : tuples of pytrees, what belongs to each layer, lowest first."""

    forward: tuple[Any, ...]
    backward: tuple[Any, ...]


def require_cell(name: str, cell: Any) -> None:
    """Raise TypeError unless it is a Cell; a `Bidirectional` is told why it is none."""
    if isinstance(cell, Bidirectional):
        advice = (
            "its backward half runs against time, so it has no step and no joint fixed point; "
            "use a cell of its .forward or .backward with that direction's params"
        )
        raise TypeError(validation.sentence(name, "a Cell", "a Bidirectional", advice))
    if not isinstance(cell, Cell):
        advice = "pass for example rd.cells.LSTM(3, 8)"
        raise TypeError(validation.sentence(name, "a Cell", repr(cell), advice))


@jax.jit
def _initial_state(cell: Cell, params: Any) -> Any:
    return cell.initial_state(params)


def state_shapes(cell: Cell, params: Any) -> Any:
    """A state of the cell as ShapeDtypeStructs; traced once for equal cells and shapes."""
    return jax.eval_shape(_initial_state, cell, params)


def hidden_indices(cell: Cell, params: Any) -> tuple[int, ...]:
    """The coordinates of z that `cell.hidden` selects."""
    shapes, structure = jax.tree.flatten(state_shapes(cell, params))
    numbered, start = [], 0
    for leaf in shapes:  # counted on the host: there is nothing to compile
        size, counts = math.prod(leaf.shape), jnp.issubdtype(leaf.dtype, jnp.inexact)
        numbers = start + np.arange(size, dtype=float) if counts else np.zeros(size, leaf.dtype)
        numbered.append(numbers.reshape(leaf.shape))
        start += size * counts
    with jax.ensure_compile_time_eval():
        hidden = cell.hidden(jax.tree.unflatten(structure, jax.device_put(numbered)))
        return tuple(int(index) for index in np.asarray(hidden))


def require_params(cell: Cell, params: Any) -> None:
    """Raise unless params have the class and the shapes of those that the cell draws."""
    drawn = _drawn(cell)
    advice = "pass params = cell.init(key) of this very cell, and vmap over several"
    same = jax.tree.structure(params) == jax.tree.structure(drawn)
    if not same and type(params) is not type(drawn):
        expected = f"{type(drawn).__name__}, the params of {type(cell).__name__}"
        raise TypeError(validation.sentence("params", expected, type(params).__name__, advice))
    if same:
        pairs = zip(jax.tree.leaves_with_path(drawn), jax.tree.leaves(params), strict=True)
        for (path, want), leaf in pairs:
            name = "params" + jax.tree_util.keystr(path)
            validation.require_shape(name, leaf, want.shape, advice)
            if jnp.issubdtype(want.dtype, jnp.floating):
                validation.require_real(name, leaf, advice)


@functools.lru_cache(maxsize=128)
def _drawn(cell: Cell) -> Any:
    return jax.eval_shape(cell.init, jax.random.key(0))


def require_size(name: str, got: int, want: int) -> None:
    """Raise ValueError unless the sizes of neighbouring layers fit."""
    if got != want:
        advice = "each layer reads what the one below gives"
        raise ValueError(validation.sentence(name, str(want), str(got), advice))
