"""NARX cells: the next hidden output depends directly on several earlier ones.

Lin, Horne, Tino & Giles, IEEE Transactions on Neural Networks 7(6), 1996.
"""

from typing import ClassVar

import jax
import jax.numpy as jnp

from rnndyn.cells.base import Cell
from rnndyn.cells.elman import ACTIVATIONS
from rnndyn.cells.initializers import Initializer, Uniform
from rnndyn.core import validation
from rnndyn.core.keys import split
from rnndyn.core.pytree import pytree, specification


@pytree
class NARXParams:
    """w_x : (n, m); w_h : (order, n, n), `w_h[k]` meets h of k + 1 steps before; b : (n,)."""

    w_x: jax.Array
    w_h: jax.Array
    b: jax.Array


@pytree
class NARXState:
    """h : jax.Array, shape (order, n), the last hidden outputs, newest first: a shift register."""

    h: jax.Array


@specification
class NARX(Cell):
    """The hidden output from its last `order` values: h_t = phi(sum_k W_k h_{t-k} + W_x x_t + b).

    State: h (order, n), newest first. Params: `NARXParams` w_x (n, m), w_h (order, n, n), b (n,),
    drawn as a `Vanilla` cell's with W_k divided by `order`, which keeps the gain. Output: the
    newest h. This is the hidden form, which feeds h back; Lin et al. 1996 feed back the output.

    The Jacobian is a block companion matrix: first block row D(phi') W_1, ..., D(phi') W_order,
    ones below. Its eigenvalues at a fixed point solve det(l^K I - sum_k l^(K-k) D(phi') W_k) = 0,
    K = order. dh_T/dh_t (older lags held fixed) is the newest block of the product of Jacobians,
    which is not the product of their newest blocks.

    Examples
    --------
    >>> import jax, jax.numpy as jnp, rnndyn as rd
    >>> cell = rd.cells.NARX(input_size=3, hidden_size=8, order=4)
    >>> params = cell.init(jax.random.key(0))
    >>> rd.simulate(cell, params, jnp.ones((5, 3))).states.h.shape
    (6, 4, 8)
    """

    mechanism: ClassVar[str] = "skip: reads the last `order` outputs"
    paper: ClassVar[str] = "Lin et al. 1996 (hidden form)"
    state_shape: ClassVar[str] = "h (order, n)"
    exact: ClassVar[str] = "J is block companion: eigenvalues solve the matrix polynomial"
    checked: ClassVar[str] = "matrix polynomial, total derivative of the loop, complex step"

    input_size: int
    hidden_size: int
    order: int = 3
    activation: str = "tanh"
    input_weights: Initializer = Uniform()
    recurrent_weights: Initializer = Uniform()
    bias: Initializer = Uniform()

    def validate(self) -> None:
        advice = "1 is the plain network, K reads the last K outputs"
        validation.require_int("order", self.order, 1, advice)
        validation.require_choice("activation", self.activation, ACTIVATIONS)

    def init(self, key: jax.Array, *, gain: float | jax.Array = 1.0) -> NARXParams:
        n, m = self.hidden_size, self.input_size
        key_x, key_h, key_b = split(key, 3)
        keys = jax.random.split(key_h, self.order)
        w_h = jnp.stack([self.recurrent_weights(k, (n, n)) for k in keys])
        return NARXParams(
            w_x=self.input_weights(key_x, (n, m)),
            w_h=jnp.asarray(gain, w_h.dtype) * (w_h / self.order),
            b=self.bias(key_b, (n,)),
        )

    def initial_state(self, params: NARXParams) -> NARXState:
        return NARXState(h=jnp.zeros((self.order, self.hidden_size), params.w_h.dtype))

    def step(self, params: NARXParams, state: NARXState, x: jax.Array) -> NARXState:
        recurrent = jnp.einsum("kij,kj->i", params.w_h, state.h)
        newest = ACTIVATIONS[self.activation](params.w_x @ x + recurrent + params.b)
        return NARXState(h=jnp.concatenate([newest[None], state.h[:-1]]))

    def output(self, state: NARXState) -> jax.Array:
        return state.h[0]

    def registers(self, state: NARXState) -> tuple[jax.Array, ...]:
        return (state.h,)
