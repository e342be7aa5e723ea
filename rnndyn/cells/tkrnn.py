"""Temporal-kernel cells: every unit acts on all later steps with its own exponential decay.

Sutskever & Hinton, Temporal-Kernel Recurrent Neural Networks, Neural Networks 23(2), 2010.
"""

import math
from typing import ClassVar

import jax
import jax.numpy as jnp

from rnndyn.cells.base import Cell
from rnndyn.cells.elman import ACTIVATIONS
from rnndyn.cells.initializers import Initializer, Uniform
from rnndyn.core import validation
from rnndyn.core.keys import split
from rnndyn.core.pytree import pytree, specification

TKRNN_ACTIVATIONS = {**ACTIVATIONS, "logistic": jax.nn.sigmoid}


@pytree
class TKRNNParams:
    """Weights and decays of a `TKRNN`.

    Attributes
    ----------
    w_x : jax.Array, shape (n, m)
    w_y : jax.Array, shape (n, n)
    b : jax.Array, shape (n,)
    logit_y : jax.Array, shape (n,)
        lambda_y = s(logit_y), the decay per step of what unit j sends; -inf is exactly 0.
    logit_x : jax.Array, shape (m,)
        lambda_x = s(logit_x), the same for the inputs.
    """

    w_x: jax.Array
    w_y: jax.Array
    b: jax.Array
    logit_y: jax.Array
    logit_x: jax.Array

    @property
    def decay_y(self) -> jax.Array:
        """lambda_y, shape (n,), in [0, 1)."""
        return jax.nn.sigmoid(self.logit_y)

    @property
    def decay_x(self) -> jax.Array:
        """lambda_x, shape (m,), in [0, 1)."""
        return jax.nn.sigmoid(self.logit_x)


@pytree
class TKRNNState:
    """Output and traces of a `TKRNN`.

    Attributes
    ----------
    y : jax.Array, shape (n,)
        The hidden output.
    s_y : jax.Array, shape (n,)
        Decaying sum of the earlier outputs, y excluded.
    s_x : jax.Array, shape (m,)
        Decaying sum of the inputs so far; a function of the inputs alone.
    """

    y: jax.Array
    s_y: jax.Array
    s_x: jax.Array


@specification
class TKRNN(Cell):
    """Outputs that read decaying sums of all earlier outputs and inputs.

        s_y' = y + lambda_y s_y,  s_x' = x + lambda_x s_x,  y' = phi(W_y s_y' + W_x s_x' + b)

    so that y acts k steps later with weight W_y D(lambda_y)^(k-1). State: y (n,), s_y (n,),
    s_x (m,), all zero at the start. Params: `TKRNNParams`, the decays through their logits so that
    they stay in (0, 1). Sutskever & Hinton 2010, eq. 7, reads inputs of one or more steps before:
    `input_delay=1` (y' reads s_x instead of s_x'); the default 0 is the same network on inputs
    that come one step earlier. The paper's units are logistic (`activation="logistic"`); its
    initial values are not known to us. Here 1/(1 - lambda) starts log-uniform on [1, time_scale],
    and with `unit_gain` the columns of W_y and W_x are multiplied by 1 - lambda, which makes the
    response to a constant that of a plain network with the weights as drawn.

    In (y, s_y), with D = D(phi') and L = D(lambda_y), J = [[D W_y, D W_y L], [I, L]], of rank n;
    its eigenvalues are 0 (n times) and those of D W_y + L. s_x adds lambda_x. At a fixed point
    s_y = y/(1 - lambda_y). With lambda = 0 this is the plain network exactly.

    Examples
    --------
    >>> import jax, jax.numpy as jnp, rnndyn as rd
    >>> cell = rd.cells.TKRNN(input_size=3, hidden_size=8)
    >>> params = cell.init(jax.random.key(0))
    >>> cell.step(params, cell.initial_state(params), jnp.ones(3)).s_x.tolist()
    [1.0, 1.0, 1.0]
    """

    mechanism: ClassVar[str] = "time scales: a decaying trace of each unit"
    paper: ClassVar[str] = "Sutskever & Hinton 2010"
    state_shape: ClassVar[str] = "y (n), s_y (n), s_x (m)"
    exact: ClassVar[str] = "eig J = 0 (n times), eig(D W_y + L), lambda_x; lambda = 0 is vanilla"
    checked: ClassVar[str] = "closed form, explicit sum over all lags in NumPy"

    input_size: int
    hidden_size: int
    input_delay: int = 0
    activation: str = "tanh"
    time_scale: float = 100.0
    unit_gain: bool = True
    input_weights: Initializer = Uniform()
    recurrent_weights: Initializer = Uniform()
    bias: Initializer = Uniform()

    def validate(self) -> None:
        advice = "1 is the paper's equation, 0 reads the present input as other cells do"
        validation.require_choice("input_delay", self.input_delay, (0, 1), advice)
        validation.require_choice("activation", self.activation, TKRNN_ACTIVATIONS)
        validation.require_choice("unit_gain", self.unit_gain, (True, False))
        advice = "pass the longest time constant, in steps, to start from"
        validation.require_range(
            "time_scale", self.time_scale, 1.0, math.inf, advice, open_low=True, open_high=True
        )

    def init(self, key: jax.Array, *, gain: float | jax.Array = 1.0) -> TKRNNParams:
        n, m = self.hidden_size, self.input_size
        key_x, key_y, key_b, key_decay = split(key, 4)
        # log of a time constant, in (0, log(time_scale)]: tau = 1 has no finite logit
        log_tau = math.log(self.time_scale) * (1 - jax.random.uniform(key_decay, (n + m,), float))
        logit = jnp.log(jnp.expm1(log_tau))
        share = jnp.exp(-log_tau) if self.unit_gain else jnp.ones_like(log_tau)
        w_y = self.recurrent_weights(key_y, (n, n)) * share[None, :n]
        return TKRNNParams(
            w_x=self.input_weights(key_x, (n, m)) * share[None, n:],
            w_y=jnp.asarray(gain, w_y.dtype) * w_y,
            b=self.bias(key_b, (n,)),
            logit_y=logit[:n],
            logit_x=logit[n:],
        )

    def initial_state(self, params: TKRNNParams) -> TKRNNState:
        zero = jnp.zeros((self.hidden_size,), params.w_y.dtype)
        return TKRNNState(y=zero, s_y=zero, s_x=jnp.zeros((self.input_size,), params.w_y.dtype))

    def step(self, params: TKRNNParams, state: TKRNNState, x: jax.Array) -> TKRNNState:
        s_y = state.y + params.decay_y * state.s_y
        s_x = x + params.decay_x * state.s_x
        read = state.s_x if self.input_delay else s_x
        y = TKRNN_ACTIVATIONS[self.activation](params.w_y @ s_y + params.w_x @ read + params.b)
        return TKRNNState(y=y, s_y=s_y, s_x=s_x)

    def output(self, state: TKRNNState) -> jax.Array:
        return state.y
