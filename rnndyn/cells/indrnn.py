"""Independently recurrent units: each sees its own past only.

Li, Li, Cook, Zhu & Gao, CVPR 2018, arXiv 1803.04831.
"""

import math
from typing import ClassVar

import jax
import jax.numpy as jnp

from rnndyn.cells.base import Cell
from rnndyn.cells.elman import ACTIVATIONS, ElmanState
from rnndyn.cells.initializers import Constant, Initializer
from rnndyn.cells.spectral_initializers import Between, He
from rnndyn.core import validation
from rnndyn.core.keys import split
from rnndyn.core.pytree import pytree, specification

STARTS = ("all", "long")


@pytree
class IndRNNParams:
    """w_x : (n, m); u : (n,), the weight of each unit on itself; b : (n,)."""

    w_x: jax.Array
    u: jax.Array
    b: jax.Array


@specification
class IndRNN(Cell):
    """Units that feed back on themselves alone: h' = relu(W_x x + u h + b), u h entry by entry.

    State: h (n,). Params: `IndRNNParams`, W_x normal with variance 2/m (He), b = 0, and u by
    `start`: "all" uniform on [0, bound]; "long", for the last layer of a task with long memory,
    uniform on [gamma^(-1/steps), bound]. `bound` = gamma^(1/steps), with `steps` the length of the
    sequences trained on, is what `rd.constraints.ClipWeights` keeps |u| to; without `steps` it is
    1 and "all" is the released cell's start. gamma is 2 in the paper's adding task and 5 in the
    released code.

    The Jacobian is D(relu') D(u), so a product over k steps is diagonal and at most u^k: with
    |u| <= bound no gradient over `steps` steps exceeds gamma. The bound is for that length only.
    Units meet through layers (`rd.cells.stack`). At constant input a unit rests at
    (w.x + b)/(1 - u) if w.x + b > 0 and u < 1.

    Examples
    --------
    >>> import jax, rnndyn as rd
    >>> cell = rd.cells.IndRNN(input_size=3, hidden_size=8, steps=100, start="long")
    >>> u = cell.init(jax.random.key(0)).u
    >>> round(cell.bound, 4), bool((u > 0.993).all() and (u < 1.007).all())
    (1.007, True)
    """

    mechanism: ClassVar[str] = "range of each unit's own weight"
    paper: ClassVar[str] = "Li et al. 2018"
    state_shape: ClassVar[str] = "h (n)"
    exact: ClassVar[str] = "J = D(relu') D(u); over `steps` steps at most gamma"
    checked: ClassVar[str] = "arrays of the authors' code, closed form, NumPy loop"

    input_size: int
    hidden_size: int
    activation: str = "relu"
    steps: int | None = None
    gamma: float = 2.0
    start: str = "all"
    input_weights: Initializer = He()
    bias: Initializer = Constant(0.0)

    def validate(self) -> None:
        validation.require_choice("activation", self.activation, ACTIVATIONS)
        validation.require_choice("start", self.start, STARTS)
        advice = "pass the growth of a gradient to allow over `steps` steps, such as 2"
        low = 1.0 if self.start == "long" else 0.0
        validation.require_range(
            "gamma", self.gamma, low, math.inf, advice, open_low=low == 0, open_high=True
        )
        if self.steps is not None:
            advice = "pass the length of the sequences trained on"
            validation.require_int("steps", self.steps, 1, advice)

    @property
    def bound(self) -> float:
        """gamma^(1/steps), the largest |u| under which gradients over `steps` stay below gamma."""
        return 1.0 if self.steps is None else self.gamma ** (1.0 / self.steps)

    @property
    def diagonal(self) -> bool:
        return True

    def init(self, key: jax.Array, *, gain: float | jax.Array = 1.0) -> IndRNNParams:
        n, m = self.hidden_size, self.input_size
        key_x, key_u, key_b = split(key, 3)
        u = Between(1.0 / self.bound if self.start == "long" else 0.0, self.bound)(key_u, (n,))
        return IndRNNParams(
            w_x=self.input_weights(key_x, (n, m)),
            u=jnp.asarray(gain, u.dtype) * u,
            b=self.bias(key_b, (n,)),
        )

    def initial_state(self, params: IndRNNParams) -> ElmanState:
        return ElmanState(h=jnp.zeros((self.hidden_size,), params.u.dtype))

    def step(self, params: IndRNNParams, state: ElmanState, x: jax.Array) -> ElmanState:
        a = params.w_x @ x + params.u * state.h + params.b
        return ElmanState(h=ACTIVATIONS[self.activation](a))

    def output(self, state: ElmanState) -> jax.Array:
        return state.h
