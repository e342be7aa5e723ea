"""MIST cells: a learned mixture of a few exponentially spaced earlier hidden outputs.

DiPietro, Rupprecht, Navab & Hager, Analyzing and Exploiting NARX Recurrent Neural Networks for
Long-Term Dependencies, arXiv 1702.07805, 2017.
"""

import math
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from rnndyn.cells.base import Affine, Cell
from rnndyn.cells.initializers import Constant, Gaussian, Initializer
from rnndyn.core import validation
from rnndyn.core.keys import split
from rnndyn.core.pytree import pytree, specification


@pytree
class MISTParams:
    """The three affine maps of a `MIST` cell with K delays.

    Attributes
    ----------
    mixture : Affine
        w_x (K, m), w_h (K, n), b (K,): the logits of the weights of the delays.
    reset : Affine
        w_x (n, m), w_h (n, n), b (n,).
    candidate : Affine
        w_x (n, m), w_h (n, n), b (n,); reads the reset mixture in place of h.
    """

    mixture: Affine
    reset: Affine
    candidate: Affine


@pytree
class MISTState:
    """h : jax.Array, shape (longest delay, n), the last outputs, newest first: a shift register."""

    h: jax.Array


@specification
class MIST(Cell):
    """A softmax mixture of delayed hidden outputs, gated and fed to a plain update.

        a = softmax(mixture(x, h_{t-1})),  r = s(reset(x, h_{t-1}))
        h_t = tanh(W_h (r sum_i a_i h_{t-n_i}) + W_x x + b)

    State: h (longest delay, n), newest first, zero at the start. Params: `MISTParams`. DiPietro et
    al. 2017 with their eight delays n_i = 1, 2, 4, ..., 128; their released code draws every
    weight from N(0, 1/n), n the hidden size, and starts biases at 0. Output: the newest h.

    The state is large (128 n coordinates), so a dense Jacobian is too: shorten `delays`, or leave
    the linearization matrix-free. With C = sum_i a_i h_{t-n_i}, H the n x K matrix of delayed
    outputs and D = D(1 - h_t^2), the first block row of J holds a_i D W_h D(r) at lag n_i, and
    D W_h (D(C r (1 - r)) W_reset + D(r) H (D(a) - a a^T) W_mixture) besides at lag 1; below it
    stands the shift. dh_T/dh_t is the newest block of the product.

    Examples
    --------
    >>> import jax, jax.numpy as jnp, rnndyn as rd
    >>> cell = rd.cells.MIST(input_size=3, hidden_size=8, delays=(1, 2, 4))
    >>> params = cell.init(jax.random.key(0))
    >>> rd.simulate(cell, params, jnp.ones((5, 3))).states.h.shape
    (6, 4, 8)
    """

    mechanism: ClassVar[str] = "skip and gate: a mixture of delays 1, 2, 4, ..."
    paper: ClassVar[str] = "DiPietro et al. 2017"
    state_shape: ClassVar[str] = "h (longest delay, n)"
    exact: ClassVar[str] = "first block row of J in closed form, shift below"
    checked: ClassVar[str] = "released code (recorded), closed form, NumPy loop, complex step"

    input_size: int
    hidden_size: int
    delays: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64, 128)
    weights: Initializer | None = None
    bias: Initializer = Constant(0.0)

    def validate(self) -> None:
        advice = "pass for example (1, 2, 4, 8)"
        if not isinstance(self.delays, tuple) or not self.delays:
            expected = "a tuple of whole numbers"
            got = repr(self.delays)
            raise ValueError(validation.sentence("delays", expected, got, advice))
        for i, delay in enumerate(self.delays):
            validation.require_int(f"delays[{i}]", delay, 1, advice)
        if len(set(self.delays)) != len(self.delays):
            got = repr(self.delays)
            raise ValueError(validation.sentence("delays", "distinct delays", got, advice))

    def init(self, key: jax.Array, *, gain: float | jax.Array = 1.0) -> MISTParams:
        n, m = self.hidden_size, self.input_size
        draw = self.weights or Gaussian(1.0 / math.sqrt(n))

        def affine(key: jax.Array, rows: int) -> Affine:
            key_x, key_h, key_b = split(key, 3)
            w_h = draw(key_h, (rows, n))
            return Affine(
                w_x=draw(key_x, (rows, m)),
                w_h=jnp.asarray(gain, w_h.dtype) * w_h,
                b=self.bias(key_b, (rows,)),
            )

        mixture, reset, candidate = split(key, 3)
        return MISTParams(
            mixture=affine(mixture, len(self.delays)),
            reset=affine(reset, n),
            candidate=affine(candidate, n),
        )

    def initial_state(self, params: MISTParams) -> MISTState:
        shape = (max(self.delays), self.hidden_size)
        return MISTState(h=jnp.zeros(shape, params.candidate.w_h.dtype))

    def step(self, params: MISTParams, state: MISTState, x: jax.Array) -> MISTState:
        newest = state.h[0]
        delayed = state.h[np.asarray(self.delays) - 1]
        mixed = jax.nn.softmax(params.mixture(x, newest)) @ delayed
        reset = jax.nn.sigmoid(params.reset(x, newest))
        h = jnp.tanh(params.candidate(x, reset * mixed))
        return MISTState(h=jnp.concatenate([h[None], state.h[:-1]]))

    def output(self, state: MISTState) -> jax.Array:
        return state.h[0]

    def registers(self, state: MISTState) -> tuple[jax.Array, ...]:
        return (state.h,)
