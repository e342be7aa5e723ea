"""Elman cells, h' = phi(W_x x + W_h h + b): one map, told apart by where their weights start.

Elman, Finding structure in time, Cognitive Science 14, 1990.
"""

from typing import ClassVar

import jax
import jax.numpy as jnp

from rnndyn.cells.base import Affine, Cell, init_affine
from rnndyn.cells.initializers import (
    Constant,
    Gaussian,
    Identity,
    Initializer,
    Orthogonal,
    Uniform,
)
from rnndyn.core import validation
from rnndyn.core.pytree import pytree, specification

ACTIVATIONS = {"tanh": jnp.tanh, "relu": jax.nn.relu, "identity": lambda a: a}


@pytree
class ElmanState:
    """h : jax.Array, shape (n,), the hidden output and the whole state."""

    h: jax.Array


class ElmanCell(Cell):
    """h' = phi(W_x x + W_h h + b); the Jacobian is D(phi'(a)) W_h at the pre-activation a.

    The derivative of ReLU at its kink is taken as 0: at h = 0 with zero bias and input the
    Jacobian of a ReLU cell is zero, not W_h.
    """

    state_shape: ClassVar[str] = "h (n)"

    activation: str

    def validate(self) -> None:
        validation.require_choice("activation", self.activation, ACTIVATIONS)

    def initial_state(self, params: Affine) -> ElmanState:
        return ElmanState(h=jnp.zeros((self.hidden_size,), params.w_h.dtype))

    def step(self, params: Affine, state: ElmanState, x: jax.Array) -> ElmanState:
        return ElmanState(h=ACTIVATIONS[self.activation](params(x, state.h)))

    def output(self, state: ElmanState) -> jax.Array:
        return state.h


@specification
class Vanilla(ElmanCell):
    """The plain recurrent network, h' = tanh(W_x x + W_h h + b) or its ReLU form.

    State: h (n,). Params: `Affine` w_x (n, m), w_h (n, n), b (n,), uniform on
    [-1/sqrt(n), 1/sqrt(n)] unless told otherwise (PyTorch's default). Elman 1990.

    Examples
    --------
    >>> import jax, rnndyn as rd
    >>> cell = rd.cells.Vanilla(input_size=3, hidden_size=8)
    >>> params = cell.init(jax.random.key(0), gain=1.5)
    >>> cell.step(params, cell.initial_state(params), jax.numpy.ones(3)).h.shape
    (8,)
    """

    mechanism: ClassVar[str] = "none (baseline)"
    paper: ClassVar[str] = "Elman 1990"
    exact: ClassVar[str] = "J = D(phi') W_h"
    checked: ClassVar[str] = "PyTorch arrays, NumPy loop, complex step"

    input_size: int
    hidden_size: int
    activation: str = "tanh"
    input_weights: Initializer = Uniform()
    recurrent_weights: Initializer = Uniform()
    bias: Initializer = Uniform()

    def init(self, key: jax.Array, *, gain: float | jax.Array = 1.0) -> Affine:
        return init_affine(
            key, self, self.input_weights, self.recurrent_weights, self.bias, gain=gain
        )


@specification
class IRNN(ElmanCell):
    """The ReLU network that starts from the identity, W_h = alpha I, b = 0, W_x ~ N(0, 0.001^2).

    State: h (n,). Params: `Affine`. With alpha = 1 everything in the state is remembered and
    copied; alpha < 1 forgets at the rate alpha per step (the paper's alpha I). At the start the
    Jacobian is alpha D(mask), and a product of k steps alpha^k D(product of masks).
    Le, Jaitly & Hinton, arXiv 1504.00941, 2015. The paper writes N(0, 1e-3) for W_x; the standard
    deviation is our reading.

    Examples
    --------
    >>> import jax, rnndyn as rd
    >>> rd.cells.IRNN(3, 2, alpha=0.5).init(jax.random.key(0)).w_h.tolist()
    [[0.5, 0.0], [0.0, 0.5]]
    """

    mechanism: ClassVar[str] = "special start: identity"
    paper: ClassVar[str] = "Le, Jaitly & Hinton 2015"
    exact: ClassVar[str] = "at the start dh_T/dh_t = alpha^lag D(product of masks), entries exact"
    checked: ClassVar[str] = "closed form bit for bit, NumPy loop"

    input_size: int
    hidden_size: int
    alpha: float = 1.0
    activation: str = "relu"
    input_weights: Initializer = Gaussian(0.001)

    def validate(self) -> None:
        validation.require_choice("activation", self.activation, ACTIVATIONS)
        advice = "1 is the IRNN, a smaller alpha forgets at that rate"
        validation.require_range("alpha", self.alpha, 0.0, 1.0, advice)

    def init(self, key: jax.Array, *, gain: float | jax.Array = 1.0) -> Affine:
        return init_affine(
            key, self, self.input_weights, Identity(self.alpha), Constant(0.0), gain=gain
        )


@specification
class OrthogonalRNN(ElmanCell):
    """A network that starts from a random orthogonal W_h, uniform on the orthogonal group.

    State: h (n,). Params: `Affine`, W_x uniform on [-1/sqrt(n), 1/sqrt(n)], b = 0. Only the start
    is orthogonal: training moves W_h away unless it is constrained. With `activation="identity"`
    every product of Jacobians is orthogonal; with tanh its singular values lie between the
    products of the smallest and the largest phi'. Saxe et al., arXiv 1312.6120, 2013; Henaff,
    Szlam & LeCun, arXiv 1602.06662, 2016.

    Examples
    --------
    >>> import jax, jax.numpy as jnp, rnndyn as rd
    >>> w = rd.cells.OrthogonalRNN(3, 8).init(jax.random.key(0)).w_h
    >>> bool(jnp.allclose(w.T @ w, jnp.eye(8), atol=1e-5))
    True
    """

    mechanism: ClassVar[str] = "special start: orthogonal"
    paper: ClassVar[str] = "Saxe et al. 2013; Henaff et al. 2016"
    exact: ClassVar[str] = "W_h^T W_h = I; singular values in [prod min phi', prod max phi']"
    checked: ClassVar[str] = "1000 linear steps keep every singular value 1; Haar eigenangles"

    input_size: int
    hidden_size: int
    activation: str = "tanh"
    input_weights: Initializer = Uniform()

    def init(self, key: jax.Array, *, gain: float | jax.Array = 1.0) -> Affine:
        return init_affine(key, self, self.input_weights, Orthogonal(), Constant(0.0), gain=gain)
