"""ReLU networks that start as linear ones: positive and negative part of each unit, mirrored.

Balduzzi et al., The shattered gradients problem, ICML 2017, arXiv 1702.08591, for feed-forward
networks; the two recurrent forms are ours. max(a, 0) has derivative 1/2 at a = 0 here, the mean of
both sides: with mirrored weights the network is linear, and so is its derivative, at zero too.
"""

from typing import ClassVar

import jax
import jax.numpy as jnp

from rnndyn.cells.base import Affine, Cell
from rnndyn.cells.elman import ElmanState
from rnndyn.cells.initializers import Initializer, Orthogonal, Uniform
from rnndyn.core.keys import split
from rnndyn.core.pytree import pytree, specification


@pytree
class CReluParams:
    """w_x : (n, m); v : (n, 2n), meets positive parts first; b : (n,)."""

    w_x: jax.Array
    v: jax.Array
    b: jax.Array


@specification
class CReluRNN(Cell):
    """The concatenated-ReLU network: h' = V [max(h, 0); max(-h, 0)] + W_x x + b.

    State: h (n,). Params: `CReluParams`; V starts as [Q, -Q] with Q orthogonal, W_x uniform on
    [-1/sqrt(n), 1/sqrt(n)], b = 0. At the start h' = Q h + W_x x exactly, so the Jacobian is Q at
    every h and x, and a product of k of them Q^k. In general, V = [V_+, V_-], column i of the
    Jacobian is that of V_+ where h_i > 0, minus that of V_- where h_i < 0.

    Examples
    --------
    >>> import jax, jax.numpy as jnp, rnndyn as rd
    >>> cell = rd.cells.CReluRNN(input_size=3, hidden_size=4)
    >>> params = cell.init(jax.random.key(0))
    >>> quiet = rd.hold(cell, params, jnp.zeros(3))
    >>> bool(jnp.allclose(quiet.jacobian(jnp.zeros(4)), params.v[:, :4]))
    True
    """

    mechanism: ClassVar[str] = "special start: a linear network in ReLUs"
    paper: ClassVar[str] = "Balduzzi et al. 2017 (recurrent form ours)"
    state_shape: ClassVar[str] = "h (n)"
    exact: ClassVar[str] = "at the start J = Q for every h and x, at h = 0 too"
    checked: ClassVar[str] = "J = Q bit for bit, Q^k over a run, NumPy loop"

    input_size: int
    hidden_size: int
    input_weights: Initializer = Uniform()
    recurrent_weights: Initializer = Orthogonal()

    def init(self, key: jax.Array, *, gain: float | jax.Array = 1.0) -> CReluParams:
        n, m = self.hidden_size, self.input_size
        key_x, key_q = split(key)
        q = self.recurrent_weights(key_q, (n, n))
        v = jnp.asarray(gain, q.dtype) * jnp.concatenate([q, -q], axis=1)
        return CReluParams(self.input_weights(key_x, (n, m)), v, jnp.zeros((n,), q.dtype))

    def initial_state(self, params: CReluParams) -> ElmanState:
        return ElmanState(h=jnp.zeros((self.hidden_size,), params.v.dtype))

    def step(self, params: CReluParams, state: ElmanState, x: jax.Array) -> ElmanState:
        parts = _relu(jnp.concatenate([state.h, -state.h]))
        return ElmanState(h=params.v @ parts + params.w_x @ x + params.b)

    def output(self, state: ElmanState) -> jax.Array:
        return state.h


@pytree
class MirrorState:
    """s : jax.Array, shape (2n,), the n units and after them their mirror images."""

    s: jax.Array


@specification
class MirrorRNN(Cell):
    """A ReLU network of 2n units in mirrored pairs: s' = max(W_x x + W_h s + b, 0).

    State: s (2n,). Params: `Affine` w_x (2n, m), w_h (2n, 2n), b (2n,), which start as [U; -U],
    [[Q, -Q], [-Q, Q]] with Q orthogonal, and 0. Output: h = s_+ - s_-, shape (n,); the hidden
    coordinates are all of s. At the start h' = Q h + U x exactly. The Jacobian of s is not
    orthogonal: where no unit is at its kink, it and all its products have the singular values
    sqrt(2) and 0, n times each; isometric is only what it does to h.

    Examples
    --------
    >>> import jax, jax.numpy as jnp, rnndyn as rd
    >>> cell = rd.cells.MirrorRNN(input_size=3, hidden_size=4)
    >>> run = rd.simulate(cell, cell.init(jax.random.key(0)), jnp.ones((5, 3)))
    >>> run.states.s.shape, run.outputs.shape
    ((6, 8), (5, 4))
    """

    mechanism: ClassVar[str] = "special start: a linear network in mirrored ReLUs"
    paper: ClassVar[str] = "Balduzzi et al. 2017 (recurrent form ours)"
    state_shape: ClassVar[str] = "s (2n)"
    exact: ClassVar[str] = "at the start h' = Q h + U x; singular values of J sqrt(2) and 0"
    checked: ClassVar[str] = "linear run, singular values of products, NumPy loop"

    input_size: int
    hidden_size: int
    input_weights: Initializer = Uniform()
    recurrent_weights: Initializer = Orthogonal()

    def init(self, key: jax.Array, *, gain: float | jax.Array = 1.0) -> Affine:
        n, m = self.hidden_size, self.input_size
        key_x, key_q = split(key)
        u = self.input_weights(key_x, (n, m))
        q = self.recurrent_weights(key_q, (n, n))
        return Affine(
            w_x=jnp.concatenate([u, -u]),
            w_h=jnp.asarray(gain, q.dtype) * jnp.block([[q, -q], [-q, q]]),
            b=jnp.zeros((2 * n,), q.dtype),
        )

    def initial_state(self, params: Affine) -> MirrorState:
        return MirrorState(s=jnp.zeros((2 * self.hidden_size,), params.w_h.dtype))

    def step(self, params: Affine, state: MirrorState, x: jax.Array) -> MirrorState:
        return MirrorState(s=_relu(params(x, state.s)))

    def output(self, state: MirrorState) -> jax.Array:
        units, mirrored = jnp.split(state.s, 2)
        return units - mirrored

    def hidden(self, state: MirrorState) -> jax.Array:
        return state.s


def _relu(a: jax.Array) -> jax.Array:
    return jnp.maximum(a, 0)  # not jax.nn.relu, whose derivative at 0 is 0
