"""Quasi-recurrent cells: gates that read the input alone, and a memory that only they move.

Bradbury, Merity, Xiong & Socher, ICLR 2017, arXiv 1611.01576.
"""

from typing import ClassVar

import jax
import jax.numpy as jnp

from rnndyn.cells.base import Cell, blocks
from rnndyn.cells.initializers import Initializer, Uniform
from rnndyn.core import validation
from rnndyn.core.keys import split
from rnndyn.core.pytree import pytree, specification

POOLINGS = {"f": 2, "fo": 3, "ifo": 4}
"""Pooling -> how many of z, f, o, i it has."""


@pytree
class QRNNParams:
    """Weights of a QRNN, rows packed z, f, o, i, as many of them as the pooling has.

    Attributes
    ----------
    w_x : jax.Array, shape (gates * n, width * m)
        The filters; columns in the order x_t, x_{t-1}, ...
    b : jax.Array, shape (gates * n,), or None
    """

    w_x: jax.Array
    b: jax.Array | None


@pytree
class QRNNState:
    """The state of a QRNN.

    Attributes
    ----------
    h : jax.Array, shape (n,)
        The hidden output, never read again.
    c : jax.Array, shape (n,)
        The memory.
    x : jax.Array, shape (width - 1, m)
        The last inputs, newest first: a shift register.
    """

    h: jax.Array
    c: jax.Array
    x: jax.Array


@specification
class QRNN(Cell):
    """Gates from a convolution over the last `width` inputs X, and pooling in place of recurrence.

        z = tanh(W_z X), f = s(W_f X), o = s(W_o X), i = s(W_i X)
        "f":   c' = f c + (1 - f) z, h' = c'
        "fo":  c' = f c + (1 - f) z, h' = o c'
        "ifo": c' = f c + i z,       h' = o c'

    State: h (n,), c (n,), x (width - 1, m), the inputs before the first counted as zero; h is
    never read, so dh_T/dh_t here means dc_T/dc_t. Params: `QRNNParams`; the paper writes no bias,
    so b is None unless `bias` is given. The filters start uniform on [-1/sqrt(k m), 1/sqrt(k m)],
    k = `width`, as a linear layer of PyTorch in the authors' code. There are no recurrent weights,
    so `gain` has nothing to act on. Bradbury et al. 2017; zoneout is f = 1 at random units and
    belongs to training.

    dc'/dc = D(f) exactly, and f depends on the input only: dc_T/dc_t is the diagonal of the
    product of the f's, and c can neither bifurcate nor oscillate. At constant input the one
    fixed point is c = z (f, fo) or i z / (1 - f) (ifo). The register is nilpotent.

    Attributes
    ----------
    width : int, at least 1
        k, the number of inputs that the filters span.
    pooling : "f", "fo" or "ifo"
    f_writes : bool
        The sense of the code salesforce/pytorch-qrnn, where f weighs what is written:
        c' = f z + (1 - f) c. Not for "ifo", which that code does not have.

    Examples
    --------
    >>> import jax, jax.numpy as jnp, rnndyn as rd
    >>> cell = rd.cells.QRNN(input_size=3, hidden_size=8, width=4)
    >>> params = cell.init(jax.random.key(0))
    >>> params.w_x.shape, cell.initial_state(params).x.shape
    ((24, 12), (3, 3))
    """

    mechanism: ClassVar[str] = "gates that read the input alone"
    paper: ClassVar[str] = "Bradbury et al. 2017"
    state_shape: ClassVar[str] = "h (n), c (n), x (width - 1, m)"
    exact: ClassVar[str] = "dc_T/dc_t = D(product of f), diagonal over any span"
    checked: ClassVar[str] = "arrays of the authors' code, closed form, NumPy loop"
    has_recurrent_weights: ClassVar[bool] = False

    input_size: int
    hidden_size: int
    width: int = 2
    pooling: str = "fo"
    f_writes: bool = False
    input_weights: Initializer | None = None
    bias: Initializer | None = None

    def validate(self) -> None:
        advice = "1 reads the present input alone, k the last k inputs"
        validation.require_int("width", self.width, 1, advice)
        validation.require_choice("pooling", self.pooling, POOLINGS)
        validation.require_choice("f_writes", self.f_writes, (True, False))
        if self.f_writes:
            advice = "ifo pooling has i for what is written and f for what is kept"
            validation.require_choice("pooling", self.pooling, ("f", "fo"), advice)

    def init(self, key: jax.Array, *, gain: float | jax.Array = 1.0) -> QRNNParams:
        del gain  # no weight is recurrent
        n, gates = self.hidden_size, POOLINGS[self.pooling]
        key_x, key_b = split(key)
        filters = (n, self.width * self.input_size)
        drawn = self.input_weights
        if drawn is None:
            drawn = Uniform(filters[1] ** -0.5)
        return QRNNParams(
            w_x=blocks(key_x, [drawn] * gates, filters),
            b=None if self.bias is None else blocks(key_b, [self.bias] * gates, (n,)),
        )

    def initial_state(self, params: QRNNParams) -> QRNNState:
        dtype = params.w_x.dtype
        zero = jnp.zeros((self.hidden_size,), dtype)
        return QRNNState(h=zero, c=zero, x=jnp.zeros((self.width - 1, self.input_size), dtype))

    def step(self, params: QRNNParams, state: QRNNState, x: jax.Array) -> QRNNState:
        window = jnp.concatenate([x[None], state.x])
        a = params.w_x @ window.ravel()
        if params.b is not None:
            a = a + params.b
        a_z, a_f, *a_rest = jnp.split(a, POOLINGS[self.pooling])
        z, rest = jnp.tanh(a_z), [jax.nn.sigmoid(each) for each in a_rest]
        f = jax.nn.sigmoid(-a_f if self.f_writes else a_f)  # 1 - s(a) = s(-a)
        c = f * state.c + rest[1] * z if self.pooling == "ifo" else z + f * (state.c - z)
        return QRNNState(h=rest[0] * c if rest else c, c=c, x=window[:-1])

    def output(self, state: QRNNState) -> jax.Array:
        return state.h

    def hidden(self, state: QRNNState) -> jax.Array:
        return state.c

    def registers(self, state: QRNNState) -> tuple[jax.Array, ...]:
        return (state.x,)
