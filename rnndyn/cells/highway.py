"""Cells that add to h rather than replace it: recurrent highways and residuals in time.

Zilly, Srivastava, Koutnik & Schmidhuber, ICML 2017, arXiv 1607.03474; Jaeger, Lukosevicius,
Popovici & Siewert, Neural Networks 20(3), 2007, for the leaky form.
"""

import math
from typing import ClassVar

import jax
import jax.numpy as jnp

from rnndyn.cells.base import Affine, Cell, blocks, init_affine
from rnndyn.cells.elman import ElmanState
from rnndyn.cells.initializers import Constant, Initializer, Uniform
from rnndyn.core import validation
from rnndyn.core.keys import split
from rnndyn.core.pytree import pytree, specification


@pytree
class RHNParams:
    """Weights of a recurrent highway network, rows packed candidate, transform gate.

    Attributes
    ----------
    w_x : jax.Array, shape (2n, m)
        Read in the first of the `depth` layers only.
    w_h : jax.Array, shape (depth, 2n, n)
    b : jax.Array, shape (depth, 2n)
    """

    w_x: jax.Array
    w_h: jax.Array
    b: jax.Array


@specification
class RHN(Cell):
    """The recurrent highway network: `depth` gated layers between one h and the next.

        s_0 = h;  for l = 1 .. depth, with W x in layer 1 only:
            g = tanh(W_g x + R_g^l s + b_g^l), t = s(W_t x + R_t^l s + b_t^l)
            s_l = (1 - t) s_{l-1} + t g
        h' = s_depth

    The carry gate is 1 - t (coupled, as in the paper's experiments). State: h (n,). Params:
    `RHNParams`; weights and b_g start uniform on [-0.04, 0.04], b_t at -2, as in the authors'
    code for Penn Treebank (depth 10 there; 3 is that code's own default). Zilly et al. 2017.

    The Jacobian is the product over l, last layer on the left, of
        D(1-t) + D(t (1-g^2)) R_g^l + D((g-s) t(1-t)) R_t^l.
    At the origin with zero input and b_g = 0 a factor is (1-t) I + t R_g^l. Always
    |h'| <= max(|h|, 1).

    Examples
    --------
    >>> import jax, rnndyn as rd
    >>> rd.cells.RHN(input_size=3, hidden_size=8, depth=4).init(jax.random.key(0)).w_h.shape
    (4, 16, 8)
    """

    mechanism: ClassVar[str] = "gates, h carried through layers within a step"
    paper: ClassVar[str] = "Zilly et al. 2017"
    state_shape: ClassVar[str] = "h (n)"
    exact: ClassVar[str] = "J is the product of the layers' closed forms; |h'| <= max(|h|, 1)"
    checked: ClassVar[str] = "arrays of the authors' code, closed form, NumPy loop"

    input_size: int
    hidden_size: int
    depth: int = 3
    input_weights: Initializer = Uniform(0.04)
    recurrent_weights: Initializer = Uniform(0.04)
    bias: Initializer = Uniform(0.04)
    transform_bias: Initializer = Constant(-2.0)

    def validate(self) -> None:
        validation.require_int("depth", self.depth, 1, "pass the number of layers within a step")

    def init(self, key: jax.Array, *, gain: float | jax.Array = 1.0) -> RHNParams:
        n, m, depth = self.hidden_size, self.input_size, self.depth
        key_x, key_h, key_b = split(key, 3)
        w_h = blocks(key_h, [self.recurrent_weights] * 2 * depth, (n, n))
        b = blocks(key_b, [self.bias, self.transform_bias] * depth, (n,))
        return RHNParams(
            w_x=blocks(key_x, [self.input_weights] * 2, (n, m)),
            w_h=jnp.asarray(gain, w_h.dtype) * w_h.reshape(depth, 2 * n, n),
            b=b.reshape(depth, 2 * n),
        )

    def initial_state(self, params: RHNParams) -> ElmanState:
        return ElmanState(h=jnp.zeros((self.hidden_size,), params.w_h.dtype))

    def step(self, params: RHNParams, state: ElmanState, x: jax.Array) -> ElmanState:
        s = state.h
        for layer in range(self.depth):
            a = params.w_h[layer] @ s + params.b[layer]
            a_g, a_t = jnp.split(a + params.w_x @ x if layer == 0 else a, 2)
            s = s + jax.nn.sigmoid(a_t) * (jnp.tanh(a_g) - s)
        return ElmanState(h=s)

    def output(self, state: ElmanState) -> jax.Array:
        return state.h


@specification
class ResidualRNN(Cell):
    """A residual connection along time: h' = h + alpha tanh(W_x x + W_h h + b).

    With `leaky=True` h' = (1 - alpha) h + alpha tanh(...), the leaky integrator (Jaeger et al.
    2007). State: h (n,). Params: `Affine`, all started uniform on [-1/sqrt(n), 1/sqrt(n)]. The
    name and the default alpha are ours: the residual layer of He et al. 2016, shared by all steps
    and scaled by alpha, which is also an Euler step of length alpha of dh/dt = tanh(...).

    The Jacobian is I + alpha D W_h, D = D(1 - tanh^2), in the leaky form
    (1 - alpha) I + alpha D W_h. |h'| <= |h| + alpha, in the leaky form |h'| <= max(|h|, 1).

    Attributes
    ----------
    alpha : float > 0, in the leaky form at most 1
    leaky : bool

    Examples
    --------
    >>> import jax, jax.numpy as jnp, rnndyn as rd
    >>> cell = rd.cells.ResidualRNN(input_size=3, hidden_size=2, alpha=0.5)
    >>> params = cell.init(jax.random.key(0), gain=0.0)
    >>> run = rd.simulate(cell, params, jnp.ones((1, 3)))
    >>> rd.linearize(cell, params, run).jacobians[0].tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """

    mechanism: ClassVar[str] = "h is added to, not replaced"
    paper: ClassVar[str] = "ours, after He et al. 2016; leaky: Jaeger et al. 2007"
    state_shape: ClassVar[str] = "h (n)"
    exact: ClassVar[str] = "J = I + alpha D(phi') W_h; leaky (1 - alpha) I + alpha D(phi') W_h"
    checked: ClassVar[str] = "closed form, NumPy loop"

    input_size: int
    hidden_size: int
    alpha: float = 0.1
    leaky: bool = False
    input_weights: Initializer = Uniform()
    recurrent_weights: Initializer = Uniform()
    bias: Initializer = Uniform()

    def validate(self) -> None:
        validation.require_choice("leaky", self.leaky, (True, False))
        advice = "pass the length of a step" if not self.leaky else "1 is the plain network"
        high = 1.0 if self.leaky else math.inf
        validation.require_range(
            "alpha", self.alpha, 0.0, high, advice, open_low=True, open_high=not self.leaky
        )

    def init(self, key: jax.Array, *, gain: float | jax.Array = 1.0) -> Affine:
        weights = (self.input_weights, self.recurrent_weights)
        return init_affine(key, self, *weights, self.bias, gain=gain)

    def initial_state(self, params: Affine) -> ElmanState:
        return ElmanState(h=jnp.zeros((self.hidden_size,), params.w_h.dtype))

    def step(self, params: Affine, state: ElmanState, x: jax.Array) -> ElmanState:
        h, moved = state.h, jnp.tanh(params(x, state.h))
        return ElmanState(h=h + self.alpha * (moved - h if self.leaky else moved))

    def output(self, state: ElmanState) -> jax.Array:
        return state.h
