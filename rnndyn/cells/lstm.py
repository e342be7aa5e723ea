"""LSTM cells: a memory c beside the hidden output h, written and read through gates.

Hochreiter & Schmidhuber, Neural Computation 9(8), 1997, without a forget gate; Gers, Schmidhuber
& Cummins, Neural Computation 12(10), 2000, with one.
"""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp

from rnndyn.cells.base import Affine, Cell, init_affine
from rnndyn.cells.initializers import Chrono, Constant, Initializer, Staggered, Uniform
from rnndyn.core import validation
from rnndyn.core.keys import split
from rnndyn.core.pytree import pytree, specification


@pytree
class LSTMState:
    """h : jax.Array, shape (n,), the hidden output; c : jax.Array, shape (n,), the memory."""

    h: jax.Array
    c: jax.Array


def _paper_g(a: jax.Array) -> jax.Array:
    return 2 * jnp.tanh(a / 2)  # 4 s(a) - 2, without its cancellation at 0


def _paper_h(a: jax.Array) -> jax.Array:
    return jnp.tanh(a / 2)  # 2 s(a) - 1


SQUASHERS = {"paper": (_paper_g, _paper_h), "tanh": (jnp.tanh, jnp.tanh)}


class LSTMCell(Cell):
    """What both LSTMs share: the state (h, c), which starts at zero, and the output h."""

    state_shape: ClassVar[str] = "h (n), c (n)"

    def initial_state(self, params: Affine) -> LSTMState:
        zero = jnp.zeros((self.hidden_size,), params.w_h.dtype)
        return LSTMState(h=zero, c=zero)

    def output(self, state: LSTMState) -> jax.Array:
        return state.h


@specification
class LSTM1997(LSTMCell):
    """The first LSTM, without a forget gate: c' = c + i G(a_g), h' = o H(c').

        i = s(a_i), o = s(a_o), (a_i, a_g, a_o) = W_x x + W_h h + b, packed in this order

    State: h (n,), c (n,). Params: `Affine` w_x (3n, m), w_h (3n, n), b (3n,). Hochreiter &
    Schmidhuber 1997: G(a) = 4 s(a) - 2 and H(a) = 2 s(a) - 1 (`squash="paper"`), or tanh for both
    (`squash="tanh"`). Weights start uniform on [-0.1, 0.1], the gates closed by amounts that
    differ from unit to unit (the values of the paper's experiment 3, repeated).

    At fixed h the derivative dc'/dc is exactly the identity (the constant error carousel); the
    whole Jacobian is not, and c leaks into later c through h. The paper's learning rule truncates
    that: `truncated=True` stops gradients at every read of h, and then dc_T/dc_t = I over any
    span. The truncated derivative is not the derivative of the map, so use it for gradients only,
    not for fixed points.

    Not modelled: gates that are themselves fed back, blocks of several cells that share gates,
    and the per-experiment use of biases.

    Examples
    --------
    >>> import jax, jax.numpy as jnp, rnndyn as rd
    >>> cell = rd.cells.LSTM1997(3, 2, truncated=True)
    >>> params = cell.init(jax.random.key(0))
    >>> run = rd.simulate(cell, params, jnp.ones((4, 3)))
    >>> rd.linearize(cell, params, run).jacobians[0, 2:, 2:].tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """

    mechanism: ClassVar[str] = "gates, memory carried by the identity"
    paper: ClassVar[str] = "Hochreiter & Schmidhuber 1997"
    exact: ClassVar[str] = "dc'/dc at fixed h = I; truncated: dc_T/dc_t = I over any span"
    checked: ClassVar[str] = "closed form bit for bit, NumPy loop, complex step"

    input_size: int
    hidden_size: int
    squash: str = "paper"
    truncated: bool = False
    input_weights: Initializer = Uniform(0.1)
    recurrent_weights: Initializer = Uniform(0.1)
    input_bias: Initializer = Staggered((-1.0, -3.0, -5.0))
    memory_bias: Initializer = Constant(0.0)
    output_bias: Initializer = Staggered((-2.0, -4.0, -6.0))

    def validate(self) -> None:
        validation.require_choice("squash", self.squash, SQUASHERS)
        validation.require_choice("truncated", self.truncated, (True, False))

    def init(self, key: jax.Array, *, gain: float | jax.Array = 1.0) -> Affine:
        biases = (self.input_bias, self.memory_bias, self.output_bias)
        weights = (self.input_weights, self.recurrent_weights)
        return init_affine(key, self, *weights, biases, gates=3, gain=gain)

    def step(self, params: Affine, state: LSTMState, x: jax.Array) -> LSTMState:
        squash_in, squash_out = SQUASHERS[self.squash]
        h = jax.lax.stop_gradient(state.h) if self.truncated else state.h
        a_i, a_g, a_o = jnp.split(params(x, h), 3)
        c = state.c + jax.nn.sigmoid(a_i) * squash_in(a_g)
        return LSTMState(h=jax.nn.sigmoid(a_o) * squash_out(c), c=c)

    @property
    def exact_derivative(self) -> bool:
        return not self.truncated


@specification
class LSTM(LSTMCell):
    """The LSTM with a forget gate: c' = f c + i g, h' = o tanh(c').

        i = s(a_i), f = s(a_f), g = tanh(a_g), o = s(a_o),
        (a_i, a_f, a_g, a_o) = W_x x + W_h h + b, packed in this order (PyTorch's)

    State: h (n,), c (n,). Params: `Affine` w_x (4n, m), w_h (4n, n), b (4n,): one bias where
    PyTorch has two that add. All start uniform on [-1/sqrt(n), 1/sqrt(n)], and `forget_bias` is
    added to the forget gate's b (1 by default: Jozefowicz, Zaremba & Sutskever 2015). With
    `chrono=t_max` the forget gate's bias is ln(u), u uniform on [1, t_max - 1], instead, and the
    input gate's its negative (Tallec & Ollivier 2018). Gers, Schmidhuber & Cummins 2000.

    With q = o tanh'(c') the Jacobian's blocks are
        dc'/dc = D(f),  dc'/dh = D(g i(1-i)) U_i + D(c f(1-f)) U_f + D(i (1-g^2)) U_g,
        dh'/dc = D(q f),  dh'/dh = D(q) dc'/dh + D(tanh(c') o(1-o)) U_o.

    Examples
    --------
    >>> import jax, jax.numpy as jnp, rnndyn as rd
    >>> cell = rd.cells.LSTM(input_size=3, hidden_size=8, chrono=100)
    >>> params = cell.init(jax.random.key(0))
    >>> rd.simulate(cell, params, jnp.ones((5, 3))).states.c.shape
    (6, 8)
    """

    mechanism: ClassVar[str] = "gates, memory carried by the forget gate"
    paper: ClassVar[str] = "Gers, Schmidhuber & Cummins 2000"
    exact: ClassVar[str] = "the four blocks of J in closed form; dc'/dc at fixed h = D(f)"
    checked: ClassVar[str] = "PyTorch arrays, block formulas, NumPy loop, complex step"

    input_size: int
    hidden_size: int
    forget_bias: float = 1.0
    chrono: float | None = None
    input_weights: Initializer = Uniform()
    recurrent_weights: Initializer = Uniform()
    bias: Initializer = Uniform()

    def validate(self) -> None:
        if self.chrono is not None:
            Chrono(self.chrono)

    def init(self, key: jax.Array, *, gain: float | jax.Array = 1.0) -> Affine:
        key, key_chrono = split(key)
        weights = (self.input_weights, self.recurrent_weights)
        params = init_affine(key, self, *weights, self.bias, gates=4, gain=gain)
        b_i, b_f, b_g, b_o = jnp.split(params.b, 4)
        if self.chrono is None:
            b_f = b_f + self.forget_bias
        else:
            b_f = Chrono(self.chrono)(key_chrono, (self.hidden_size,))
            b_i = -b_f
        return dataclasses.replace(params, b=jnp.concatenate([b_i, b_f, b_g, b_o]))

    def step(self, params: Affine, state: LSTMState, x: jax.Array) -> LSTMState:
        a_i, a_f, a_g, a_o = jnp.split(params(x, state.h), 4)
        c = jax.nn.sigmoid(a_f) * state.c + jax.nn.sigmoid(a_i) * jnp.tanh(a_g)
        return LSTMState(h=jax.nn.sigmoid(a_o) * jnp.tanh(c), c=c)
