"""Dilation: any cell, made to read the state of `dilation` steps ago.

Chang et al., Dilated recurrent neural networks, NeurIPS 2017, arXiv 1710.02224.
"""

from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from rnndyn.cells.base import Cell
from rnndyn.cells.elman import Vanilla
from rnndyn.core import validation
from rnndyn.core.pytree import pytree, specification


@pytree
class DilatedState:
    """cells : pytree, the last `dilation` states of the inner cell on a leading axis, newest first.

    A shift register: entry k was made k steps ago.
    """

    cells: Any


@specification
class Dilated(Cell):
    """A cell that skips: s_t = step(s_{t - dilation}, x_t), with s the state of the inner cell.

    State: the inner cell's last `dilation` states, each leaf with a leading axis, newest first
    (for an LSTM both h and c). Params: those of the inner cell. Output: the inner output of the
    newest. The run falls into `dilation` interleaved chains that do not meet: dh_T/dh_t = 0 unless
    dilation divides T - t, and then it is a product of (T - t)/dilation Jacobians of the inner
    cell. At a fixed point the multipliers are all dilation-th roots of the inner cell's, so
    dilation slows decay per step and never changes stability. Chang et al. 2017, eq. 1.

    An inner clock counts the steps of its own chain.

    Attributes
    ----------
    dilation : int, at least 1
    cell : Cell, of the same sizes
        A tanh `Vanilla` if not given.

    Examples
    --------
    >>> import jax, jax.numpy as jnp, rnndyn as rd
    >>> cell = rd.cells.dilate(rd.cells.LSTM(3, 8), 4)
    >>> params = cell.init(jax.random.key(0))
    >>> cell.initial_state(params).cells.c.shape
    (4, 8)
    """

    mechanism: ClassVar[str] = "skip: reads the state of `dilation` steps ago"
    paper: ClassVar[str] = "Chang et al. 2017"
    state_shape: ClassVar[str] = "the inner state's leaves, each (dilation, ...)"
    exact: ClassVar[str] = "dh_T/dh_t = 0 unless dilation divides the lag; roots of the multipliers"
    checked: ClassVar[str] = "interleaved runs of the inner cell, dilation-th roots, NumPy loop"

    input_size: int
    hidden_size: int
    dilation: int = 2
    cell: Cell | None = None

    def validate(self) -> None:
        advice = "1 is the inner cell itself, 2 reads every other state"
        validation.require_int("dilation", self.dilation, 1, advice)
        if self.cell is None:
            # equal specifications must compare equal, so the default is filled in
            object.__setattr__(self, "cell", Vanilla(self.input_size, self.hidden_size))
        if not isinstance(self.cell, Cell):
            advice = "pass for example rd.cells.LSTM(3, 8)"
            raise TypeError(validation.sentence("cell", "a Cell", repr(self.cell), advice))
        for name in ("input_size", "hidden_size"):
            got, want = getattr(self.cell, name), getattr(self, name)
            if got != want:
                advice = "use rd.cells.dilate(cell, dilation), which takes the sizes from the cell"
                raise ValueError(validation.sentence(f"cell.{name}", str(want), str(got), advice))

    @property
    def inner(self) -> Cell:
        """The cell that is dilated."""
        assert self.cell is not None
        return self.cell

    def init(self, key: jax.Array, *, gain: float | jax.Array = 1.0) -> Any:
        return self.inner.init(key, gain=gain)

    def initial_state(self, params: Any) -> DilatedState:
        start = self.inner.initial_state(params)
        return DilatedState(
            cells=jax.tree.map(lambda leaf: jnp.stack([leaf] * self.dilation), start)
        )

    def step(self, params: Any, state: DilatedState, x: jax.Array, *key: jax.Array) -> DilatedState:
        oldest = jax.tree.map(lambda leaf: leaf[-1], state.cells)
        newest = self.inner.step(params, oldest, x, *key)
        return DilatedState(
            cells=jax.tree.map(
                lambda new, old: jnp.concatenate([new[None], old[:-1]]), newest, state.cells
            )
        )

    def output(self, state: DilatedState) -> jax.Array:
        return self.inner.output(_newest(state))

    def hidden(self, state: DilatedState) -> jax.Array:
        return self.inner.hidden(_newest(state))

    def registers(self, state: DilatedState) -> tuple[jax.Array, ...]:
        return tuple(jax.tree.leaves(state.cells))

    @property
    def period(self) -> int | None:
        inner = self.inner.period
        return inner if inner in (1, None) else self.dilation * inner

    @property
    def output_size(self) -> int:
        return self.inner.output_size

    @property
    def exact_derivative(self) -> bool:
        return self.inner.exact_derivative

    @property
    def random(self) -> bool:
        return self.inner.random


def dilate(cell: Cell, dilation: int) -> Dilated:
    """The cell, reading its state of `dilation` steps ago.

    Parameters
    ----------
    cell : Cell
    dilation : int, at least 1

    Returns
    -------
    Dilated
        Of the same sizes.

    Raises
    ------
    ValueError, TypeError
        If dilation is not a whole number of at least 1, or cell is not a Cell.

    Examples
    --------
    >>> import rnndyn as rd
    >>> rd.cells.dilate(rd.cells.Vanilla(3, 8), 2) == rd.cells.Dilated(3, 8)
    True
    """
    if not isinstance(cell, Cell):
        advice = "pass for example rd.cells.LSTM(3, 8)"
        raise TypeError(validation.sentence("cell", "a Cell", repr(cell), advice))
    return Dilated(cell.input_size, cell.hidden_size, dilation, cell)


def _newest(state: DilatedState) -> Any:
    return jax.tree.map(lambda leaf: leaf[0], state.cells)
