"""The gated recurrent unit, in the five forms that carry its name.

Cho et al., EMNLP 2014, arXiv 1406.1078, whose versions 1 and 3 differ; Chung et al., arXiv
1412.3555, 2014; the form of cuDNN and PyTorch; Kanai, Fujiwara & Iwamura, NeurIPS 2017.
"""

from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from rnndyn.cells.base import Cell, init_affine
from rnndyn.cells.elman import ElmanState
from rnndyn.cells.initializers import Chrono, Initializer, Uniform
from rnndyn.core import validation
from rnndyn.core.keys import split
from rnndyn.core.pytree import pytree, specification


@pytree
class GRUParams:
    """Weights of a GRU, rows packed r, z, n (PyTorch's order).

    What a variant's equations do not contain is None: not an array, hence never a parameter.

    Attributes
    ----------
    w_x : jax.Array, shape (3n, m)
    w_h : jax.Array, shape (3n, n)
    b : jax.Array, shape (3n,), or None
        The biases outside the reset gate; None for "kanai".
    b_hn : jax.Array, shape (n,), or None
        The candidate's bias inside the reset gate: only "torch" has one.
    """

    w_x: jax.Array
    w_h: jax.Array
    b: jax.Array | None
    b_hn: jax.Array | None


class GRUForm(NamedTuple):
    """What tells the variants apart."""

    reset_after: bool  # r multiplies U h (after the product) rather than h (before it)
    z_writes: bool  # z weighs the candidate rather than the old h
    biases: bool
    inner_bias: bool  # b_hn, inside the reset gate


VARIANTS = {
    "torch": GRUForm(reset_after=True, z_writes=False, biases=True, inner_bias=True),
    "cho_v3": GRUForm(reset_after=False, z_writes=False, biases=True, inner_bias=False),
    "cho_v1": GRUForm(reset_after=True, z_writes=False, biases=True, inner_bias=False),
    "chung": GRUForm(reset_after=False, z_writes=True, biases=True, inner_bias=False),
    "kanai": GRUForm(reset_after=False, z_writes=False, biases=False, inner_bias=False),
}


@specification
class GRU(Cell):
    """The gated recurrent unit: h' is a blend of h and a candidate n, by the gate z.

        r = s(W_r x + U_r h + b_r), z = s(W_z x + U_z h + b_z)
        reset after (torch, cho_v1):          n = tanh(W_n x + b_n + r (U_n h + b_hn))
        reset before (cho_v3, chung, kanai):  n = tanh(W_n x + b_n + U_n (r h))
        h' = z h + (1 - z) n, in chung (1 - z) h + z n

    State: h (n,). Params: `GRUParams`; only "torch" (also cuDNN's form) has b_hn, "kanai" has no
    bias at all. All start uniform on [-1/sqrt(n), 1/sqrt(n)]. With `chrono=t_max` the bias of z
    starts as ln(u), u uniform on [1, t_max - 1], with the sign that makes the unit keep h (Tallec
    & Ollivier 2018). The Jacobian, with Z = z(1-z) and R = r(1-r) the gates' slopes, reads
        before: D(z) + D((h-n) Z) U_z + D((1-z)(1-n^2)) U_n (D(r) + D(h R) U_r)
        after:  D(z) + D((h-n) Z) U_z + D((1-z)(1-n^2)) (D(r) U_n + D((U_n h + b_hn) R) U_r).
    At the origin with zero input and biases it is I/2 + U_n/4 for every variant, and always
    |h'| <= max(|h|, 1).

    Examples
    --------
    >>> import jax, rnndyn as rd
    >>> cell = rd.cells.GRU(input_size=3, hidden_size=8, variant="cho_v3")
    >>> params = cell.init(jax.random.key(0))
    >>> params.w_h.shape, params.b_hn is None
    ((24, 8), True)
    """

    mechanism: ClassVar[str] = "gates, h kept by the update gate"
    paper: ClassVar[str] = "Cho et al. 2014 (v1, v3); Chung et al. 2014; cuDNN; Kanai et al. 2017"
    state_shape: ClassVar[str] = "h (n)"
    exact: ClassVar[str] = "J in closed form for each variant; J(0) = I/2 + U_n/4 without biases"
    checked: ClassVar[str] = "PyTorch arrays, both formulas, NumPy loops, complex step"

    input_size: int
    hidden_size: int
    variant: str = "torch"
    chrono: float | None = None
    input_weights: Initializer = Uniform()
    recurrent_weights: Initializer = Uniform()
    bias: Initializer = Uniform()

    def validate(self) -> None:
        validation.require_choice("variant", self.variant, VARIANTS)
        if self.chrono is not None:
            Chrono(self.chrono)
            with_biases = [name for name, form in VARIANTS.items() if form.biases]
            advice = "a chrono start sets the bias of z, so choose a variant with biases"
            validation.require_choice("variant", self.variant, with_biases, advice)

    def init(self, key: jax.Array, *, gain: float | jax.Array = 1.0) -> GRUParams:
        form, n = VARIANTS[self.variant], self.hidden_size
        key, key_inner, key_chrono = split(key, 3)
        weights = (self.input_weights, self.recurrent_weights)
        drawn = init_affine(key, self, *weights, self.bias, gates=3, gain=gain)
        b = drawn.b
        if self.chrono is not None:
            keep = Chrono(self.chrono)(key_chrono, (n,))
            b = b.at[n : 2 * n].set(-keep if form.z_writes else keep)
        return GRUParams(
            w_x=drawn.w_x,
            w_h=drawn.w_h,
            b=b if form.biases else None,
            b_hn=self.bias(key_inner, (n,)) if form.inner_bias else None,
        )

    def initial_state(self, params: GRUParams) -> ElmanState:
        return ElmanState(h=jnp.zeros((self.hidden_size,), params.w_h.dtype))

    def step(self, params: GRUParams, state: ElmanState, x: jax.Array) -> ElmanState:
        form, h, gates = VARIANTS[self.variant], state.h, 2 * self.hidden_size
        from_x = params.w_x @ x if params.b is None else params.w_x @ x + params.b
        if form.reset_after:
            from_h = params.w_h @ h
            r, z = jnp.split(jax.nn.sigmoid(from_x[:gates] + from_h[:gates]), 2)
            inner = from_h[gates:] if params.b_hn is None else from_h[gates:] + params.b_hn
            recurrent = r * inner
        else:
            r, z = jnp.split(jax.nn.sigmoid(from_x[:gates] + params.w_h[:gates] @ h), 2)
            recurrent = params.w_h[gates:] @ (r * h)
        candidate = jnp.tanh(from_x[gates:] + recurrent)
        keep, write = (1 - z, z) if form.z_writes else (z, 1 - z)
        return ElmanState(h=keep * h + write * candidate)

    def output(self, state: ElmanState) -> jax.Array:
        return state.h
