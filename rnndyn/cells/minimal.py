"""Gated cells with as few gates as possible.

MGU: Zhou, Wu, Zhang & Zhou, Int. J. Automation and Computing 13(3), 2016, arXiv 1603.09420.
MinimalRNN: Chen, arXiv 1711.06788, 2017. Simple Recurrent Unit: Lei, Zhang, Wang, Dai & Artzi,
EMNLP 2018, arXiv 1709.02755.
"""

import math
from typing import ClassVar

import jax
import jax.numpy as jnp

from rnndyn.cells.base import Affine, Cell, blocks, init_affine
from rnndyn.cells.elman import ACTIVATIONS, ElmanState
from rnndyn.cells.initializers import Constant, Initializer, Uniform
from rnndyn.cells.lstm import LSTMState
from rnndyn.core import validation
from rnndyn.core.keys import split
from rnndyn.core.pytree import pytree, specification


@specification
class MGU(Cell):
    """The minimal gated unit: a GRU whose one gate f both resets and updates.

        f = s(W_f x + U_f h + b_f), n = tanh(W_n x + U_n (f h) + b_n), h' = (1 - f) h + f n

    f is the gate that writes, against its name. State: h (n,). Params: `Affine` w_x (2n, m),
    w_h (2n, n), b (2n,), rows packed f, n; all start uniform on [-1/sqrt(n), 1/sqrt(n)]. Zhou et
    al. 2016.

    The Jacobian is
        D(1-f) + D((n-h) f(1-f)) U_f + D(f (1-n^2)) U_n (D(f) + D(h f(1-f)) U_f).
    At the origin with zero input and biases it is I/2 + U_n/4, as for the GRU, and always
    |h'| <= max(|h|, 1).

    Examples
    --------
    >>> import jax, rnndyn as rd
    >>> rd.cells.MGU(input_size=3, hidden_size=8).init(jax.random.key(0)).w_h.shape
    (16, 8)
    """

    mechanism: ClassVar[str] = "one gate, which resets and updates h"
    paper: ClassVar[str] = "Zhou et al. 2016"
    state_shape: ClassVar[str] = "h (n)"
    exact: ClassVar[str] = "J in closed form; J(0) = I/2 + U_n/4 without biases"
    checked: ClassVar[str] = "closed form, NumPy loop, GRU with tied gates"

    input_size: int
    hidden_size: int
    input_weights: Initializer = Uniform()
    recurrent_weights: Initializer = Uniform()
    bias: Initializer = Uniform()

    def init(self, key: jax.Array, *, gain: float | jax.Array = 1.0) -> Affine:
        weights = (self.input_weights, self.recurrent_weights)
        return init_affine(key, self, *weights, self.bias, gates=2, gain=gain)

    def initial_state(self, params: Affine) -> ElmanState:
        return ElmanState(h=jnp.zeros((self.hidden_size,), params.w_h.dtype))

    def step(self, params: Affine, state: ElmanState, x: jax.Array) -> ElmanState:
        h, n = state.h, self.hidden_size
        from_x = params.w_x @ x + params.b
        f = jax.nn.sigmoid(from_x[:n] + params.w_h[:n] @ h)
        candidate = jnp.tanh(from_x[n:] + params.w_h[n:] @ (f * h))
        return ElmanState(h=h + f * (candidate - h))

    def output(self, state: ElmanState) -> jax.Array:
        return state.h


@pytree
class MinimalParams:
    """Weights of a MinimalRNN.

    Attributes
    ----------
    w_x : jax.Array, shape (n, m)
    b : jax.Array, shape (n,)
        Those of the embedding z = Phi(w_x x + b).
    gate : Affine
        w_x (n, n), which meets z; w_h (n, n), which meets h; b (n,).
    """

    w_x: jax.Array
    b: jax.Array
    gate: Affine


@specification
class MinimalRNN(Cell):
    """The update gate alone: h moves towards an embedding z of the input, which never reads h.

        z = Phi(W_x x + b), u = s(U_h h + U_z z + b_u), h' = u h + (1 - u) z

    State: h (n,). Params: `MinimalParams`. Phi is tanh unless told otherwise; weights start
    uniform on [-1/sqrt(n), 1/sqrt(n)], b_u at 1 as in two public ports; `gain` multiplies U_h.
    Chen 2017.

    The Jacobian is D(u) + D((h - z) u(1-u)) U_h. At constant input h = z is a fixed point, to
    the last bit, and the only one as 0 < u < 1; its Jacobian is D(u), so it is always stable.

    Examples
    --------
    >>> import jax, jax.numpy as jnp, rnndyn as rd
    >>> cell = rd.cells.MinimalRNN(input_size=3, hidden_size=8)
    >>> params, x = cell.init(jax.random.key(0)), jnp.ones(3)
    >>> z = jnp.tanh(params.w_x @ x + params.b)
    >>> bool(jnp.all(rd.hold(cell, params, x)(z) == z))
    True
    """

    mechanism: ClassVar[str] = "one gate, which moves h towards an embedding of x"
    paper: ClassVar[str] = "Chen 2017"
    state_shape: ClassVar[str] = "h (n)"
    exact: ClassVar[str] = "J = D(u) + D((h-z) u(1-u)) U_h; the fixed point is z, bit for bit"
    checked: ClassVar[str] = "closed form, NumPy loop"

    input_size: int
    hidden_size: int
    embedding: str = "tanh"
    input_weights: Initializer = Uniform()
    recurrent_weights: Initializer = Uniform()
    bias: Initializer = Uniform()
    gate_bias: Initializer = Constant(1.0)

    def validate(self) -> None:
        validation.require_choice("embedding", self.embedding, ACTIVATIONS)

    def init(self, key: jax.Array, *, gain: float | jax.Array = 1.0) -> MinimalParams:
        n, m = self.hidden_size, self.input_size
        keys = split(key, 5)
        w_h = self.recurrent_weights(keys[2], (n, n))
        return MinimalParams(
            w_x=self.input_weights(keys[0], (n, m)),
            b=self.bias(keys[1], (n,)),
            gate=Affine(
                w_x=self.input_weights(keys[3], (n, n)),
                w_h=jnp.asarray(gain, w_h.dtype) * w_h,
                b=self.gate_bias(keys[4], (n,)),
            ),
        )

    def initial_state(self, params: MinimalParams) -> ElmanState:
        return ElmanState(h=jnp.zeros((self.hidden_size,), params.w_x.dtype))

    def step(self, params: MinimalParams, state: ElmanState, x: jax.Array) -> ElmanState:
        z = ACTIVATIONS[self.embedding](params.w_x @ x + params.b)
        u = jax.nn.sigmoid(params.gate(z, state.h))
        # not u h + (1 - u) z, which rounds: from h = z this returns z itself
        return ElmanState(h=z + u * (state.h - z))

    def output(self, state: ElmanState) -> jax.Array:
        return state.h


@pytree
class SimpleParams:
    """Weights of a Simple Recurrent Unit.

    Attributes
    ----------
    w_x : jax.Array, shape (3n, m), or (4n, m) where m is not n
        Rows packed: candidate, f, r and, where x has another size than h, the skip.
    v_f, v_r : jax.Array, shape (n,)
        What the gates read of their own unit's memory.
    b : jax.Array, shape (2n,)
        Biases of f and r.
    """

    w_x: jax.Array
    v_f: jax.Array
    v_r: jax.Array
    b: jax.Array


@specification
class SRULei(Cell):
    """The Simple Recurrent Unit: gates that read the memory unit by unit, and a highway for x.

        f = s(W_f x + v_f c + b_f), r = s(W_r x + v_r c + b_r)
        c' = f c + (1 - f) W x,  h' = r c' + (1 - r) a x

    Not the Statistical Recurrent Unit of Oliva et al., which has the same initials. Where m is
    not n, W_s x takes the place of a x (the authors' code). State: h (n,), c (n,); h is never
    read, so dh_T/dh_t here means dc_T/dc_t. Params: `SimpleParams`. a = sqrt(1 + 2 exp(b))
    keeps the variance of h that of x for b the initial bias of r (`highway_bias`); a = 1 with
    `rescale=False`. Weights start as in the authors' code: uniform with variance 1/m for W and
    W_s (times a^2 for W_s), 1/(2m) for the gates' and 1/2 for v. `gain` multiplies v. Lei et al.
    2018.

    dc'/dc = D(f + (c - W x) f(1-f) v_f) exactly: diagonal, so units never mix over time.

    Examples
    --------
    >>> import jax, rnndyn as rd
    >>> rd.cells.SRULei(input_size=8, hidden_size=8).init(jax.random.key(0)).w_x.shape
    (24, 8)
    """

    mechanism: ClassVar[str] = "gates that read the memory unit by unit"
    paper: ClassVar[str] = "Lei et al. 2018"
    state_shape: ClassVar[str] = "h (n), c (n)"
    exact: ClassVar[str] = "dc'/dc = D(f + (c - W x) f(1-f) v_f), diagonal"
    checked: ClassVar[str] = "arrays of the authors' code, closed form, NumPy loop"

    input_size: int
    hidden_size: int
    highway_bias: float = 0.0
    rescale: bool = True

    def validate(self) -> None:
        validation.require_choice("rescale", self.rescale, (True, False))

    @property
    def scale(self) -> float:
        """a, the factor of x in the highway."""
        return math.sqrt(1 + 2 * math.exp(self.highway_bias)) if self.rescale else 1.0

    def init(self, key: jax.Array, *, gain: float | jax.Array = 1.0) -> SimpleParams:
        n, m = self.hidden_size, self.input_size
        key_x, key_f, key_r = split(key, 3)
        bound, half = math.sqrt(3 / m), math.sqrt(0.5)
        bounds = [bound, half * bound, half * bound]
        bounds += [] if m == n else [self.scale * bound]
        v_f, v_r = (Uniform(half * math.sqrt(3))(k, (n,)) for k in (key_f, key_r))
        gain = jnp.asarray(gain, v_f.dtype)
        highway = Constant(self.highway_bias)
        return SimpleParams(
            w_x=blocks(key_x, [Uniform(each) for each in bounds], (n, m)),
            v_f=gain * v_f,
            v_r=gain * v_r,
            b=jnp.concatenate([jnp.zeros_like(v_f), highway(key, (n,))]),
        )

    def initial_state(self, params: SimpleParams) -> LSTMState:
        zero = jnp.zeros((self.hidden_size,), params.w_x.dtype)
        return LSTMState(h=zero, c=zero)

    def step(self, params: SimpleParams, state: LSTMState, x: jax.Array) -> LSTMState:
        n, from_x = self.hidden_size, params.w_x @ x
        candidate, a_f, a_r = from_x[:n], from_x[n : 2 * n], from_x[2 * n : 3 * n]
        skip = self.scale * x if self.input_size == n else from_x[3 * n :]
        f = jax.nn.sigmoid(a_f + params.v_f * state.c + params.b[:n])
        r = jax.nn.sigmoid(a_r + params.v_r * state.c + params.b[n:])
        c = candidate + f * (state.c - candidate)
        return LSTMState(h=skip + r * (c - skip), c=c)

    def output(self, state: LSTMState) -> jax.Array:
        return state.h

    def hidden(self, state: LSTMState) -> jax.Array:
        return state.c
