"""Piecewise-linear networks for dynamical systems: the PLRNN and its shallow form.

Durstewitz, PLoS Comput. Biol. 13, 2017; Hess, Monfared, Brenner & Durstewitz, ICML 2023,
arXiv 2306.04406. Their fixed points and cycles can all be found: `rd.piecewise_linear`.
"""

from typing import ClassVar

import jax
import jax.numpy as jnp

from rnndyn.cells.base import Cell
from rnndyn.cells.elman import ElmanState
from rnndyn.cells.initializers import Constant, Initializer, Uniform
from rnndyn.cells.spectral_initializers import Between
from rnndyn.core import validation
from rnndyn.core.keys import split
from rnndyn.core.pytree import pytree, specification


@pytree
class PLRNNParams:
    """w_x : (n, m); a : (n,), the diagonal of A; w : (n, n); b : (n,)."""

    w_x: jax.Array
    a: jax.Array
    w: jax.Array
    b: jax.Array


@specification
class PLRNN(Cell):
    """The piecewise-linear network: h' = A h + W relu(h) + W_x x + b with A diagonal.

    State: h (n,). Params: `PLRNNParams`, a uniform on [0.5, 0.9], W and W_x uniform on
    [-1/sqrt(n), 1/sqrt(n)], b = 0 (the starts are ours); the diagonal of W starts at zero, as in
    the paper, where A takes its place. `gain` multiplies a and W.

    The Jacobian is A + W D(h > 0): one matrix in each orthant, whatever the input.
    Durstewitz 2017.

    Examples
    --------
    >>> import jax, jax.numpy as jnp, rnndyn as rd
    >>> cell = rd.cells.PLRNN(input_size=3, hidden_size=4)
    >>> params = cell.init(jax.random.key(0))
    >>> quiet = rd.hold(cell, params, jnp.zeros(3))
    >>> found = rd.piecewise_linear(quiet, 3, box=([-5.0] * 4, [5.0] * 4))
    >>> found.complete
    True
    """

    mechanism: ClassVar[str] = "linear in each orthant, decay of each unit"
    paper: ClassVar[str] = "Durstewitz 2017"
    state_shape: ClassVar[str] = "h (n)"
    exact: ClassVar[str] = "J = A + W D(h > 0); all fixed points and cycles"
    checked: ClassVar[str] = "closed form, NumPy loop, cycles in rational arithmetic"

    input_size: int
    hidden_size: int
    input_weights: Initializer = Uniform()
    recurrent_weights: Initializer = Uniform()
    decay: Initializer = Between(0.5, 0.9)
    bias: Initializer = Constant(0.0)

    def init(self, key: jax.Array, *, gain: float | jax.Array = 1.0) -> PLRNNParams:
        n, m = self.hidden_size, self.input_size
        key_x, key_a, key_w, key_b = split(key, 4)
        w = self.recurrent_weights(key_w, (n, n))
        w = jnp.where(jnp.eye(n, dtype=bool), jnp.zeros_like(w), w)
        gain = jnp.asarray(gain, w.dtype)
        return PLRNNParams(
            w_x=self.input_weights(key_x, (n, m)),
            a=gain * self.decay(key_a, (n,)),
            w=gain * w,
            b=self.bias(key_b, (n,)),
        )

    def initial_state(self, params: PLRNNParams) -> ElmanState:
        return ElmanState(h=jnp.zeros((self.hidden_size,), params.w.dtype))

    def step(self, params: PLRNNParams, state: ElmanState, x: jax.Array) -> ElmanState:
        driven = params.w_x @ x + params.b
        return ElmanState(h=params.a * state.h + params.w @ jax.nn.relu(state.h) + driven)

    def output(self, state: ElmanState) -> jax.Array:
        return state.h


@pytree
class ShallowPLRNNParams:
    """w_x : (n, m); a : (n,); w_1 : (n, width); w_2 : (width, n); b_1 : (n,); b_2 : (width,)."""

    w_x: jax.Array
    a: jax.Array
    w_1: jax.Array
    w_2: jax.Array
    b_1: jax.Array
    b_2: jax.Array


@specification
class ShallowPLRNN(Cell):
    """A hidden layer between states: h' = A h + W_1 relu(W_2 h + b_2) + W_x x + b_1, A diagonal.

    State: h (n,). Params: `ShallowPLRNNParams`, a uniform on [0.5, 0.9], weights and b_2 uniform
    on [-1/sqrt(outputs), 1/sqrt(outputs)], b_1 = 0 (the starts are ours). `width` is the number of
    ReLUs, which bend the map along as many hyperplanes in a state space of few dimensions. `gain`
    multiplies a and W_1. Hess et al. 2023.

    The Jacobian is A + W_1 D(W_2 h + b_2 > 0) W_2.

    Examples
    --------
    >>> import jax, rnndyn as rd
    >>> cell = rd.cells.ShallowPLRNN(input_size=3, hidden_size=2, width=10)
    >>> cell.init(jax.random.key(0)).w_2.shape
    (10, 2)
    """

    mechanism: ClassVar[str] = "piecewise linear, decay of each unit"
    paper: ClassVar[str] = "Hess et al. 2023"
    state_shape: ClassVar[str] = "h (n)"
    exact: ClassVar[str] = "J = A + W_1 D(relu') W_2; all fixed points and cycles"
    checked: ClassVar[str] = "closed form, NumPy loop"

    input_size: int
    hidden_size: int
    width: int = 16
    input_weights: Initializer = Uniform()
    recurrent_weights: Initializer = Uniform()
    decay: Initializer = Between(0.5, 0.9)

    def validate(self) -> None:
        validation.require_int("width", self.width, 1, "pass the number of ReLUs")

    def init(self, key: jax.Array, *, gain: float | jax.Array = 1.0) -> ShallowPLRNNParams:
        n, m = self.hidden_size, self.input_size
        key_x, key_a, key_1, key_2, key_b = split(key, 5)
        w_1 = self.recurrent_weights(key_1, (n, self.width))
        gain = jnp.asarray(gain, w_1.dtype)
        return ShallowPLRNNParams(
            w_x=self.input_weights(key_x, (n, m)),
            a=gain * self.decay(key_a, (n,)),
            w_1=gain * w_1,
            w_2=self.recurrent_weights(key_2, (self.width, n)),
            b_1=jnp.zeros((n,), w_1.dtype),
            b_2=self.recurrent_weights(key_b, (self.width,)),
        )

    def initial_state(self, params: ShallowPLRNNParams) -> ElmanState:
        return ElmanState(h=jnp.zeros((self.hidden_size,), params.w_1.dtype))

    def step(self, params: ShallowPLRNNParams, state: ElmanState, x: jax.Array) -> ElmanState:
        units = jax.nn.relu(params.w_2 @ state.h + params.b_2)
        driven = params.w_x @ x + params.b_1
        return ElmanState(h=params.a * state.h + params.w_1 @ units + driven)

    def output(self, state: ElmanState) -> jax.Array:
        return state.h
