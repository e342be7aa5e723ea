"""NARX cells in their original form: a network of one hidden layer that feeds its output back.

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
class NARXOutputParams:
    """Weights of a `NARXOutput` with `units` units.

    Attributes
    ----------
    w_x : jax.Array, shape (input_order + 1, units, m)
        `w_x[k]` meets the input of k steps before.
    w_y : jax.Array, shape (order, units, n)
        `w_y[k]` meets the output of k + 1 steps before.
    b : jax.Array, shape (units,)
    w_o : jax.Array, shape (n, units)
    b_o : jax.Array, shape (n,)
    """

    w_x: jax.Array
    w_y: jax.Array
    b: jax.Array
    w_o: jax.Array
    b_o: jax.Array


@pytree
class NARXOutputState:
    """Two shift registers, newest first.

    Attributes
    ----------
    y : jax.Array, shape (order, n)
        The last outputs.
    x : jax.Array, shape (input_order, m)
        The last inputs.
    """

    y: jax.Array
    x: jax.Array


@specification
class NARXOutput(Cell):
    """The output from its own last values and the last inputs, through one hidden layer.

        y_t = psi(W_o tanh(sum_k W_y[k] y_{t-k} + sum_k W_x[k] x_{t-k} + b) + b_o)

    with k = 1..`order` for the outputs and k = 0..`input_order` for the inputs. State: y (order,
    n) and x (input_order, m), newest first. Params: `NARXOutputParams`. Output: the newest y; only
    it is fed back, not the `units` units of the hidden layer (by default n of them), which is the
    difference to `NARX`. Lin et al. 1996, who leave the network open; one hidden layer, and the
    identity for psi unless told otherwise, are our choices. Weights start as a `Vanilla` cell's,
    W_y divided by `order`, which keeps the gain.

    On y the Jacobian is a block companion matrix with first block row A_k = D(psi') W_o D(1 - v^2)
    W_y[k], v the hidden layer; the register of inputs is nilpotent. The eigenvalues at a fixed
    point are 0 (input_order m times) and the roots of det(l^K I - sum_k l^(K-k) A_k), K = order.

    Examples
    --------
    >>> import jax, jax.numpy as jnp, rnndyn as rd
    >>> cell = rd.cells.NARXOutput(input_size=3, hidden_size=1, units=8, order=4)
    >>> run = rd.simulate(cell, cell.init(jax.random.key(0)), jnp.ones((5, 3)))
    >>> run.states.y.shape, run.states.x.shape
    ((6, 4, 1), (6, 1, 3))
    """

    mechanism: ClassVar[str] = "skip: reads the last `order` read-outs"
    paper: ClassVar[str] = "Lin et al. 1996"
    state_shape: ClassVar[str] = "y (order, n), x (input_order, m)"
    exact: ClassVar[str] = "J is block companion on y, nilpotent on x"
    checked: ClassVar[str] = "matrix polynomial, NumPy loop"

    input_size: int
    hidden_size: int
    order: int = 3
    input_order: int = 1
    units: int | None = None
    activation: str = "identity"
    input_weights: Initializer = Uniform()
    recurrent_weights: Initializer = Uniform()
    output_weights: Initializer = Uniform()
    bias: Initializer = Uniform()

    def validate(self) -> None:
        advice = "1 reads the last output only, K reads the last K outputs"
        validation.require_int("order", self.order, 1, advice)
        advice = "0 reads the present input only, K reads K earlier inputs too"
        validation.require_int("input_order", self.input_order, 0, advice)
        if self.units is not None:
            validation.require_int("units", self.units, 1, "None makes it hidden_size")
        validation.require_choice("activation", self.activation, ACTIVATIONS)

    @property
    def units_size(self) -> int:
        """The size of the hidden layer: `units`, or n."""
        return self.units or self.hidden_size

    def init(self, key: jax.Array, *, gain: float | jax.Array = 1.0) -> NARXOutputParams:
        n, m, units = self.hidden_size, self.input_size, self.units_size
        key_x, key_y, key_b, key_o, key_c = split(key, 5)
        keys_x = jax.random.split(key_x, self.input_order + 1)
        keys_y = jax.random.split(key_y, self.order)
        w_y = jnp.stack([self.recurrent_weights(one, (units, n)) for one in keys_y])
        return NARXOutputParams(
            w_x=jnp.stack([self.input_weights(one, (units, m)) for one in keys_x]),
            w_y=jnp.asarray(gain, w_y.dtype) * (w_y / self.order),
            b=self.bias(key_b, (units,)),
            w_o=self.output_weights(key_o, (n, units)),
            b_o=self.bias(key_c, (n,)),
        )

    def initial_state(self, params: NARXOutputParams) -> NARXOutputState:
        return NARXOutputState(
            y=jnp.zeros((self.order, self.hidden_size), params.w_y.dtype),
            x=jnp.zeros((self.input_order, self.input_size), params.w_y.dtype),
        )

    def step(
        self, params: NARXOutputParams, state: NARXOutputState, x: jax.Array
    ) -> NARXOutputState:
        inputs = jnp.concatenate([x[None], state.x])
        a = jnp.einsum("kij,kj->i", params.w_x, inputs)
        a = a + jnp.einsum("kij,kj->i", params.w_y, state.y) + params.b
        y = ACTIVATIONS[self.activation](params.w_o @ jnp.tanh(a) + params.b_o)
        return NARXOutputState(y=jnp.concatenate([y[None], state.y[:-1]]), x=inputs[:-1])

    def output(self, state: NARXOutputState) -> jax.Array:
        return state.y[0]

    def registers(self, state: NARXOutputState) -> tuple[jax.Array, ...]:
        return (state.y, state.x)
