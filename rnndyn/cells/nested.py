"""LSTMs nested in LSTMs: the memory of one is the output of another.

Moniz & Krueger, Nested LSTMs, ACML 2017 (PMLR 77), arXiv 1801.10308.
"""

from collections.abc import Callable
from typing import ClassVar

import jax
import jax.numpy as jnp

from rnndyn.cells.base import Affine, Cell
from rnndyn.cells.elman import ACTIVATIONS
from rnndyn.cells.initializers import Constant, Glorot, Initializer, Orthogonal
from rnndyn.cells.lstm import LSTM
from rnndyn.core import validation
from rnndyn.core.keys import split
from rnndyn.core.pytree import pytree, specification


@pytree
class NestedParams:
    """levels : tuple of Affine, outermost first, rows packed i, f, g, o.

    w_x is (4n, m) in the outermost level and (4n, n) in the others; w_h (4n, n); b (4n,).
    """

    levels: tuple[Affine, ...]


@pytree
class NestedState:
    """h : jax.Array, shape (n,), the hidden output.

    c : jax.Array, shape (depth, n), the memories, outermost first.
    """

    h: jax.Array
    c: jax.Array


@specification
class NestedLSTM(Cell):
    """The LSTM whose memory is updated by another LSTM in place of an addition, to any depth.

        i, f, o = s(a_i), s(a_f), s(a_o), g = phi(a_g), (a_i, a_f, a_g, a_o) = W_x x + W_h h + b
        inner input i g, inner hidden output f c;  c' = inner LSTM(i g, f c),  h' = o tanh(c')

    The inner LSTM has its own weights and its own memory, which is again updated by an LSTM, and
    the innermost memory by the sum f c + i g. phi is the identity in the outermost level and tanh
    in all others (the paper's model); `candidate="tanh"` makes it tanh there too. With
    `depth=1` nothing is nested and, with `candidate="tanh"`, the cell is the `LSTM`.

    State: h (n,), c (depth, n), outermost first. Params: `NestedParams`. The outermost W_x starts
    Glorot-uniform, all other weights orthogonal gate by gate, biases at 0 plus `forget_bias`
    (1 in the code of hannw/nlstm). `gain` multiplies the W_h of every level. Moniz & Krueger 2017.

    The innermost memory d obeys dd'/dd = D(f~) exactly at fixed h and outer memories, f~ the
    innermost forget gate, and reaches h' only through the memories around it. At the origin,
    depth 2, zero input and no bias but the forget gates', the eigenvalues are 0, 2n times, and
    those of f~ I + f U~_g / 4 + W~_g U_g / 16, W~ and U~ the inner w_x and w_h.

    Attributes
    ----------
    depth : int, at least 1
        The number of LSTMs one in another; 2 is the paper's.
    candidate : "identity" or "tanh"

    Examples
    --------
    >>> import jax, jax.numpy as jnp, rnndyn as rd
    >>> cell = rd.cells.NestedLSTM(input_size=3, hidden_size=8, depth=3)
    >>> params = cell.init(jax.random.key(0))
    >>> rd.simulate(cell, params, jnp.ones((5, 3))).states.c.shape
    (6, 3, 8)
    """

    mechanism: ClassVar[str] = "gates around a memory that is itself an LSTM's output"
    paper: ClassVar[str] = "Moniz & Krueger 2017"
    state_shape: ClassVar[str] = "h (n), c (depth, n)"
    exact: ClassVar[str] = "innermost dc'/dc at fixed h and outer c = D(f~); depth 1 is the LSTM"
    checked: ClassVar[str] = "arrays of the code hannw/nlstm, LSTM bit for bit, NumPy loop"

    input_size: int
    hidden_size: int
    depth: int = 2
    candidate: str = "identity"
    forget_bias: float = 1.0
    input_weights: Initializer = Glorot()
    recurrent_weights: Initializer = Orthogonal()
    bias: Initializer = Constant(0.0)

    def validate(self) -> None:
        advice = "1 is a plain LSTM, 2 nests one LSTM in another"
        validation.require_int("depth", self.depth, 1, advice)
        validation.require_choice("candidate", self.candidate, ("identity", "tanh"))

    def init(self, key: jax.Array, *, gain: float | jax.Array = 1.0) -> NestedParams:
        outer = (self.input_size, self.input_weights)
        inner = (self.hidden_size, self.recurrent_weights)
        sources = [outer] + [inner] * (self.depth - 1)
        keys = split(key, self.depth)
        return NestedParams(
            tuple(
                LSTM(
                    size,
                    self.hidden_size,
                    self.forget_bias,
                    input_weights=input_weights,
                    recurrent_weights=self.recurrent_weights,
                    bias=self.bias,
                ).init(k, gain=gain)
                for k, (size, input_weights) in zip(keys, sources, strict=True)
            )
        )

    def initial_state(self, params: NestedParams) -> NestedState:
        n, dtype = self.hidden_size, params.levels[0].w_h.dtype
        return NestedState(h=jnp.zeros((n,), dtype), c=jnp.zeros((self.depth, n), dtype))

    def step(self, params: NestedParams, state: NestedState, x: jax.Array) -> NestedState:
        phi = ACTIVATIONS[self.candidate]
        h, memories = _nest(params.levels, tuple(state.c), state.h, x, phi)
        return NestedState(h=h, c=jnp.stack(memories))

    def output(self, state: NestedState) -> jax.Array:
        return state.h


def _nest(
    levels: tuple[Affine, ...],
    memories: tuple[jax.Array, ...],
    h: jax.Array,
    x: jax.Array,
    phi: Callable[[jax.Array], jax.Array],
) -> tuple[jax.Array, tuple[jax.Array, ...]]:
    """The hidden output and the memories, outermost first, of the first level and all inside."""
    a_i, a_f, a_g, a_o = jnp.split(levels[0](x, h), 4)
    kept, written = jax.nn.sigmoid(a_f) * memories[0], jax.nn.sigmoid(a_i) * phi(a_g)
    if len(levels) == 1:
        c, inner = kept + written, ()
    else:
        c, inner = _nest(levels[1:], memories[1:], kept, written, jnp.tanh)
    return jax.nn.sigmoid(a_o) * jnp.tanh(c), (c, *inner)
