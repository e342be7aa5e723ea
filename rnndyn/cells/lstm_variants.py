"""LSTMs that differ from the LSTM with a forget gate in one thing: peepholes, a projection of h,
or one gate that both forgets and writes.

Gers & Schmidhuber, IJCNN 2000; Gers, Schraudolph & Schmidhuber, JMLR 3, 2002; Sak, Senior &
Beaufays, arXiv 1402.1128, 2014; Greff et al., IEEE TNNLS 28(10), 2017, arXiv 1503.04069.
"""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp

from rnndyn.cells.base import Affine, blocks, init_affine
from rnndyn.cells.elman import ACTIVATIONS
from rnndyn.cells.initializers import Chrono, Initializer, Uniform
from rnndyn.cells.lstm import LSTM, LSTMCell, LSTMState
from rnndyn.core import validation
from rnndyn.core.keys import split
from rnndyn.core.pytree import pytree, specification


@pytree
class PeepholeParams:
    """Weights of an LSTM with peepholes.

    Attributes
    ----------
    gates : Affine
        w_x (4n, m), w_h (4n, n), b (4n,), rows packed i, f, g, o.
    p_i, p_f, p_o : jax.Array, shape (n,)
        The peepholes: each gate sees its own unit's memory only.
    """

    gates: Affine
    p_i: jax.Array
    p_f: jax.Array
    p_o: jax.Array


@specification
class PeepholeLSTM(LSTMCell):
    """The LSTM whose gates see the memory: i and f the old c, o the new one.

        i = s(a_i + p_i c), f = s(a_f + p_f c), g = tanh(a_g),
        c' = f c + i g, o = s(a_o + p_o c'), h' = o tanh(c'),
        (a_i, a_f, a_g, a_o) = W_x x + W_h h + b, packed in this order

    State: h (n,), c (n,). Params: `PeepholeParams`; the peepholes p are vectors, so diagonal
    matrices. Gers & Schmidhuber 2000 in the form of Graves, arXiv 1308.0850, 2013;
    `squash="identity"` gives h' = o c', the read-out of Gers et al. 2002. The gates start as the
    `LSTM`'s do, the peepholes uniform on [-0.1, 0.1]; `gain` multiplies W_h and the peepholes.

    With q = o tanh'(c') the Jacobian's blocks are the LSTM's, but for
        dc'/dc = D(f + c f(1-f) p_f + g i(1-i) p_i), still diagonal,
        dh'/dc = D(q + tanh(c') o(1-o) p_o) dc'/dc,
        dh'/dh = D(q + tanh(c') o(1-o) p_o) dc'/dh + D(tanh(c') o(1-o)) U_o.
    The peepholes leave the spectrum at the origin as it is.

    Examples
    --------
    >>> import jax, jax.numpy as jnp, rnndyn as rd
    >>> cell = rd.cells.PeepholeLSTM(input_size=3, hidden_size=8)
    >>> params = cell.init(jax.random.key(0))
    >>> rd.simulate(cell, params, jnp.ones((5, 3))).states.c.shape
    (6, 8)
    """

    mechanism: ClassVar[str] = "gates that see the memory they carry"
    paper: ClassVar[str] = "Gers & Schmidhuber 2000; Graves 2013"
    exact: ClassVar[str] = "dc'/dc at fixed h = D(f + c f(1-f) p_f + g i(1-i) p_i)"
    checked: ClassVar[str] = "block formulas, NumPy loop, spectrum at the origin"

    input_size: int
    hidden_size: int
    forget_bias: float = 1.0
    chrono: float | None = None
    squash: str = "tanh"
    input_weights: Initializer = Uniform()
    recurrent_weights: Initializer = Uniform()
    peepholes: Initializer = Uniform(0.1)
    bias: Initializer = Uniform()

    def validate(self) -> None:
        validation.require_choice("squash", self.squash, ("tanh", "identity"))
        _gates(self)

    def init(self, key: jax.Array, *, gain: float | jax.Array = 1.0) -> PeepholeParams:
        key, *keys = split(key, 4)
        drawn = (self.peepholes(k, (self.hidden_size,)) for k in keys)
        peepholes = (jnp.asarray(gain, p.dtype) * p for p in drawn)
        return PeepholeParams(_gates(self).init(key, gain=gain), *peepholes)

    def initial_state(self, params: PeepholeParams) -> LSTMState:
        return super().initial_state(params.gates)

    def step(self, params: PeepholeParams, state: LSTMState, x: jax.Array) -> LSTMState:
        a_i, a_f, a_g, a_o = jnp.split(params.gates(x, state.h), 4)
        i = jax.nn.sigmoid(a_i + params.p_i * state.c)
        f = jax.nn.sigmoid(a_f + params.p_f * state.c)
        c = f * state.c + i * jnp.tanh(a_g)
        o = jax.nn.sigmoid(a_o + params.p_o * c)
        return LSTMState(h=o * ACTIVATIONS[self.squash](c), c=c)


@pytree
class ProjectedState:
    """h : jax.Array, shape (p,), the projected output; c : jax.Array, shape (n,), the memory."""

    h: jax.Array
    c: jax.Array


@pytree
class ProjectedParams:
    """Weights of an LSTM with a projection.

    Attributes
    ----------
    gates : Affine
        w_x (4n, m), w_h (4n, p), b (4n,), rows packed i, f, g, o.
    w_hr : jax.Array, shape (p, n)
        The projection.
    """

    gates: Affine
    w_hr: jax.Array


@specification
class ProjectedLSTM(LSTMCell):
    """The LSTM with n memory cells that feeds back p < n numbers: h' = W_hr (o tanh(c')).

        i = s(a_i), f = s(a_f), g = tanh(a_g), o = s(a_o), c' = f c + i g,
        (a_i, a_f, a_g, a_o) = W_x x + W_h h + b, packed in this order

    n is `hidden_size`, the number of memory cells, as in PyTorch; p is `proj_size`, the size of
    h and of the output, here also `output_size`. State: h (p,), c (n,). Params:
    `ProjectedParams`; the projection has no bias. All start uniform on [-1/sqrt(n), 1/sqrt(n)],
    and `forget_bias` and `chrono` act as in `LSTM`; `gain` multiplies W_h only. Sak, Senior &
    Beaufays 2014, in PyTorch's form: their peepholes and their second projection, which is not
    fed back, are left out.

    With q = o tanh'(c') the Jacobian, (p + n) by (p + n), has the LSTM's dc'/dh and dc'/dc and
        dh'/dc = W_hr D(q f),  dh'/dh = W_hr (D(q) dc'/dh + D(tanh(c') o(1-o)) U_o).
    At the origin, with zero input and no bias but the forget gate's, its eigenvalues are 0, p
    times, and those of f I + U_g W_hr / 4.

    Attributes
    ----------
    proj_size : int, at least 1 and less than hidden_size
        Half the hidden_size, rounded down, if not given.

    Examples
    --------
    >>> import jax, jax.numpy as jnp, rnndyn as rd
    >>> cell = rd.cells.ProjectedLSTM(input_size=2, hidden_size=10, proj_size=5)
    >>> run = rd.simulate(cell, cell.init(jax.random.key(0)), jnp.ones((4, 2)))
    >>> run.outputs.shape, run.states.c.shape
    ((4, 5), (5, 10))
    """

    mechanism: ClassVar[str] = "gates, with fewer numbers fed back than remembered"
    paper: ClassVar[str] = "Sak, Senior & Beaufays 2014 (PyTorch's proj_size)"
    state_shape: ClassVar[str] = "h (p), c (n)"
    exact: ClassVar[str] = "the four blocks of J in closed form, (p + n) x (p + n)"
    checked: ClassVar[str] = "PyTorch arrays, block formulas, NumPy loop, spectrum at the origin"

    input_size: int
    hidden_size: int
    proj_size: int | None = None
    forget_bias: float = 1.0
    chrono: float | None = None
    input_weights: Initializer = Uniform()
    recurrent_weights: Initializer = Uniform()
    projection: Initializer | None = None
    bias: Initializer = Uniform()

    def validate(self) -> None:
        if self.proj_size is None:
            # equal specifications must compare equal, so the default is filled in
            object.__setattr__(self, "proj_size", max(1, self.hidden_size // 2))
        advice = "pass the size of h; without a projection use LSTM"
        p = validation.require_int("proj_size", self.proj_size, 1, advice)
        if p >= self.hidden_size:
            expected = f"a whole number < hidden_size = {self.hidden_size}"
            raise ValueError(validation.sentence("proj_size", expected, repr(p), advice))
        _gates(self)

    @property
    def output_size(self) -> int:
        """p, the size of the hidden output h."""
        assert self.proj_size is not None
        return self.proj_size

    def init(self, key: jax.Array, *, gain: float | jax.Array = 1.0) -> ProjectedParams:
        n, p = self.hidden_size, self.output_size
        # by default as PyTorch: bounded by the number of cells, not by the size of h
        projection = Uniform(n**-0.5) if self.projection is None else self.projection
        key, key_h, key_hr = split(key, 3)
        w_h = blocks(key_h, [self.recurrent_weights] * 4, (n, p))
        gates = dataclasses.replace(_gates(self).init(key), w_h=jnp.asarray(gain, w_h.dtype) * w_h)
        return ProjectedParams(gates=gates, w_hr=projection(key_hr, (p, n)))

    def initial_state(self, params: ProjectedParams) -> ProjectedState:
        p, n = params.w_hr.shape
        dtype = params.w_hr.dtype
        return ProjectedState(h=jnp.zeros((p,), dtype), c=jnp.zeros((n,), dtype))

    def step(self, params: ProjectedParams, state: ProjectedState, x: jax.Array) -> ProjectedState:
        inner = LSTMState(h=state.h, c=state.c)
        after = _gates(self).step(params.gates, inner, x)
        return ProjectedState(h=params.w_hr @ after.h, c=after.c)


@specification
class CoupledLSTM(LSTMCell):
    """The LSTM whose input gate is 1 - f (CIFG): what is not kept is overwritten.

        c' = f c + (1 - f) g, h' = o tanh(c'), f = s(a_f), g = tanh(a_g), o = s(a_o),
        (a_f, a_g, a_o) = W_x x + W_h h + b, packed in this order

    State: h (n,), c (n,). Params: `Affine` w_x (3n, m), w_h (3n, n), b (3n,), which start as the
    `LSTM`'s do; with `chrono=t_max` the forget gate's bias starts as ln(u), u uniform on
    [1, t_max - 1]. Greff et al. 2017.

    The Jacobian's blocks are the LSTM's, but for
        dc'/dh = D((c - g) f(1-f)) U_f + D((1-f)(1-g^2)) U_g;  dc'/dc = D(f) as before.
    Always |c'| <= max(|c|, 1). At the origin, with zero input and no bias but the forget gate's,
    the eigenvalues are 0, n times, and those of f I + (1-f) U_g / 2: a real eigenvalue w of U_g
    destabilises it beyond w = 2, whatever the forget gate.

    Examples
    --------
    >>> import jax, jax.numpy as jnp, rnndyn as rd
    >>> cell = rd.cells.CoupledLSTM(input_size=3, hidden_size=8)
    >>> cell.init(jax.random.key(0)).w_h.shape
    (24, 8)
    """

    mechanism: ClassVar[str] = "gates, one for both forgetting and writing"
    paper: ClassVar[str] = "Greff et al. 2017"
    exact: ClassVar[str] = "the four blocks of J in closed form; |c'| <= max(|c|, 1)"
    checked: ClassVar[str] = "block formulas, NumPy loop, spectrum at the origin"

    input_size: int
    hidden_size: int
    forget_bias: float = 1.0
    chrono: float | None = None
    input_weights: Initializer = Uniform()
    recurrent_weights: Initializer = Uniform()
    bias: Initializer = Uniform()

    def validate(self) -> None:
        if self.chrono is not None:
            Chrono(self.chrono)

    def init(self, key: jax.Array, *, gain: float | jax.Array = 1.0) -> Affine:
        key, key_chrono = split(key)
        weights = (self.input_weights, self.recurrent_weights)
        params = init_affine(key, self, *weights, self.bias, gates=3, gain=gain)
        n = self.hidden_size
        if self.chrono is None:
            b_f = params.b[:n] + self.forget_bias
        else:
            b_f = Chrono(self.chrono)(key_chrono, (n,))
        return dataclasses.replace(params, b=params.b.at[:n].set(b_f))

    def step(self, params: Affine, state: LSTMState, x: jax.Array) -> LSTMState:
        a_f, a_g, a_o = jnp.split(params(x, state.h), 3)
        g = jnp.tanh(a_g)
        c = g + jax.nn.sigmoid(a_f) * (state.c - g)
        return LSTMState(h=jax.nn.sigmoid(a_o) * jnp.tanh(c), c=c)


def _gates(cell: PeepholeLSTM | ProjectedLSTM) -> LSTM:
    """The plain LSTM of the same sizes and start, whose gates these cells use."""
    return LSTM(
        cell.input_size,
        cell.hidden_size,
        cell.forget_bias,
        cell.chrono,
        cell.input_weights,
        cell.recurrent_weights,
        cell.bias,
    )
