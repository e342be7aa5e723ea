"""Cells with one unsquashed memory that is read, then written: the derivation of the LSTM.

The steps by which "Written Memories: Understanding, Deriving and Extending the LSTM" (R2RT,
2016) goes from the plain network to the LSTM; its GRU and its LSTM are `GRU(variant="cho_v3")` and
`LSTM`. The equations are taken from notes that transcribe the article.
"""

import abc
from typing import ClassVar

import jax
import jax.numpy as jnp

from rnndyn.cells.base import Affine, Cell, init_affine
from rnndyn.cells.initializers import Initializer, Uniform
from rnndyn.core.pytree import pytree, specification


@pytree
class MemoryState:
    """s : jax.Array, shape (n,), the memory and the whole state."""

    s: jax.Array


class WrittenMemory(Cell):
    """s' = settle(f s + i tanh(W (o seen) + U x + b)), where seen = see(s).

    i, f, o = s(W_gate seen + U_gate x + b_gate). The read gate o acts on the *old* memory, inside
    the candidate: reading comes before writing. In the LSTM it comes after, so that what was read
    at t (h_t) is what the candidate of t + 1 gets.
    """

    state_shape: ClassVar[str] = "s (n)"

    input_weights: Initializer
    recurrent_weights: Initializer
    bias: Initializer

    @abc.abstractmethod
    def see(self, s: jax.Array) -> jax.Array:
        """What gates, candidate and read-out see of the memory."""

    def settle(self, s: jax.Array) -> jax.Array:
        """The memory that is kept of what was written."""
        return s

    def init(self, key: jax.Array, *, gain: float | jax.Array = 1.0) -> Affine:
        weights = (self.input_weights, self.recurrent_weights)
        return init_affine(key, self, *weights, self.bias, gates=4, gain=gain)

    def initial_state(self, params: Affine) -> MemoryState:
        return MemoryState(s=jnp.zeros((self.hidden_size,), params.w_h.dtype))

    def step(self, params: Affine, state: MemoryState, x: jax.Array) -> MemoryState:
        seen, gates = self.see(state.s), 3 * self.hidden_size
        from_x = params.w_x @ x + params.b
        i, f, o = jnp.split(jax.nn.sigmoid(from_x[:gates] + params.w_h[:gates] @ seen), 3)
        candidate = jnp.tanh(from_x[gates:] + params.w_h[gates:] @ (o * seen))
        return MemoryState(s=self.settle(f * state.s + i * candidate))

    def output(self, state: MemoryState) -> jax.Array:
        return self.see(state.s)

    def hidden(self, state: MemoryState) -> jax.Array:
        return state.s


@specification
class PrototypeLSTM(WrittenMemory):
    """The prototype: a memory s with gates to write, forget and read, and nothing to bound it.

        i, f, o = s(W s + U x + b) of each, g = tanh(W_g (o s) + U_g x + b_g), s' = f s + i g

    State: s (n,), which is also the output. Params: `Affine` w_x (4n, m), w_h (4n, n), b (4n,),
    rows packed i, f, o, g: the gates, then the candidate, which reads through o. All start
    uniform on [-1/sqrt(n), 1/sqrt(n)]; the article does not say. R2RT 2016.

    The Jacobian is
        D(f) + D(s f(1-f)) W_f + D(g i(1-i)) W_i + D(i (1-g^2)) W_g (D(o) + D(s o(1-o)) W_o).
    At the origin with zero input and biases it is I/2 + W_g/4, the GRU's. f and i are not tied,
    so |s'| <= f |s| + i may exceed 1.

    Examples
    --------
    >>> import jax, rnndyn as rd
    >>> cell = rd.cells.PrototypeLSTM(input_size=3, hidden_size=8)
    >>> params = cell.init(jax.random.key(0))
    >>> cell.step(params, cell.initial_state(params), jax.numpy.ones(3)).s.shape
    (8,)
    """

    mechanism: ClassVar[str] = "gates around one unbounded memory, read before written"
    paper: ClassVar[str] = "R2RT 2016, prototype"
    exact: ClassVar[str] = "J in closed form; J(0) = I/2 + W_g/4 without biases"
    checked: ClassVar[str] = "closed form, NumPy loop, spectrum at the origin"

    input_size: int
    hidden_size: int
    input_weights: Initializer = Uniform()
    recurrent_weights: Initializer = Uniform()
    bias: Initializer = Uniform()

    def see(self, s: jax.Array) -> jax.Array:
        return s


@specification
class NormalisedPrototypeLSTM(WrittenMemory):
    """The prototype with its memory divided by sqrt(Var(s) + 1) after each write.

    As `PrototypeLSTM`, then s' <- s' / sqrt(Var(s') + 1), without subtracting a mean. The
    variance is taken over the n units of one sample, population variance, after the write: our
    reading, which keeps the cell a map of one sample (one public port takes it over the batch).
    So Var(s') < 1 always. State: s (n,), which is also the output. Params: as `PrototypeLSTM`.
    R2RT 2016.

    With v = Var(s') of the written memory and s0 = s' - mean(s'), the Jacobian is
    (I - s' s0^T / (n (v + 1))) / sqrt(v + 1) times the prototype's, and the same at the origin.

    Examples
    --------
    >>> import jax, rnndyn as rd
    >>> cell = rd.cells.NormalisedPrototypeLSTM(input_size=3, hidden_size=8)
    >>> params = cell.init(jax.random.key(0))
    >>> cell.step(params, cell.initial_state(params), jax.numpy.ones(3)).s.shape
    (8,)
    """

    mechanism: ClassVar[str] = "gates around one memory, bounded by its variance"
    paper: ClassVar[str] = "R2RT 2016, normalised prototype"
    exact: ClassVar[str] = "J in closed form; the variance of s over the units stays below 1"
    checked: ClassVar[str] = "closed form, NumPy loop, spectrum at the origin"

    input_size: int
    hidden_size: int
    input_weights: Initializer = Uniform()
    recurrent_weights: Initializer = Uniform()
    bias: Initializer = Uniform()

    def see(self, s: jax.Array) -> jax.Array:
        return s

    def settle(self, s: jax.Array) -> jax.Array:
        return s / jnp.sqrt(jnp.var(s) + 1)


@specification
class PseudoLSTM(WrittenMemory):
    """The pseudo LSTM: every read of the memory, the output too, goes through tanh.

        i, f, o = s(W tanh(s) + U x + b) of each,
        g = tanh(W_g (o tanh(s)) + U_g x + b_g), s' = f s + i g

    State: s (n,). Output: tanh(s), while dh_T/dh_t here means ds_T/ds_t: the memory is the state.
    Params: `Affine` w_x (4n, m), w_h (4n, n), b (4n,), rows packed i, f, o, g, started as the
    `PrototypeLSTM`'s. R2RT 2016.

    With y = tanh(s) and E = D(1 - y^2) the Jacobian is
        D(f) + (D(s f(1-f)) W_f + D(g i(1-i)) W_i + D(i (1-g^2)) W_g (D(o) + D(y o(1-o)) W_o)) E.
    At the origin with zero input and biases it is I/2 + W_g/4, the GRU's.

    Examples
    --------
    >>> import jax, jax.numpy as jnp, rnndyn as rd
    >>> cell = rd.cells.PseudoLSTM(input_size=3, hidden_size=8)
    >>> run = rd.simulate(cell, cell.init(jax.random.key(0)), jnp.ones((5, 3)))
    >>> bool(jnp.all(run.outputs == jnp.tanh(run.states.s[1:])))
    True
    """

    mechanism: ClassVar[str] = "gates around one memory, read through tanh before written"
    paper: ClassVar[str] = "R2RT 2016, pseudo LSTM"
    exact: ClassVar[str] = "J in closed form; J(0) = I/2 + W_g/4 without biases"
    checked: ClassVar[str] = "closed form, NumPy loop, spectrum at the origin"

    input_size: int
    hidden_size: int
    input_weights: Initializer = Uniform()
    recurrent_weights: Initializer = Uniform()
    bias: Initializer = Uniform()

    def see(self, s: jax.Array) -> jax.Array:
        return jnp.tanh(s)
