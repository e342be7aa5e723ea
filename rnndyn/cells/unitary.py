"""The unitary evolution network: a complex state moved by factors that are each unitary.

Arjovsky, Shah & Bengio, ICML 2016, arXiv 1511.06464.
"""

import math
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from rnndyn.cells.base import Cell
from rnndyn.cells.elman import ElmanState
from rnndyn.cells.initializers import Constant, Glorot, Initializer
from rnndyn.cells.modrelu import modrelu
from rnndyn.core import validation
from rnndyn.core.keys import split
from rnndyn.core.pytree import pytree, specification


@pytree
class UnitaryParams:
    """Weights of a unitary network of k = n/2 complex units.

    Attributes
    ----------
    w_x : jax.Array, shape (n, m)
        The complex input weights, real rows first.
    theta : jax.Array, shape (3, k)
        The angles of D_1, D_2, D_3.
    v : jax.Array, shape (2, n)
        The vectors of the reflections R_1, R_2, real parts first.
    b : jax.Array, shape (k,)
    start : jax.Array, shape (n,)
        The state before the first input, which is trained.
    """

    w_x: jax.Array
    theta: jax.Array
    v: jax.Array
    b: jax.Array
    start: jax.Array


@specification
class UnitaryRNN(Cell):
    """The unitary evolution network (uRNN), its complex state carried as [Re z; Im z].

        z' = modReLU(W z + W_x x, b),  W = D_3 R_2 F^-1 D_2 P R_1 F D_1, D_1 acting first

    D_j = diag(exp(i theta_j)); R_j = I - 2 v v*/||v||^2; F the unitary Fourier transform; P a
    fixed permutation. State: h (n,) real, n even, k = n/2 complex units; h is also the output,
    which the paper's read-out sees. Params: `UnitaryParams`: theta uniform on [-pi, pi], v on
    [-1, 1] (its scale has no effect), W_x Glorot, b = 0, the trained start uniform with mean square
    norm 1. `gain` multiplies theta: W stays unitary. Cost of a step: O(n log n + n m).

    P is `numpy.random.RandomState(permutation_seed).permutation(k)`, a stream that NumPy keeps for
    ever; 1234 gives the released code's. It is an option of the cell, not a leaf of params,
    because it is not trained and gradients refuse integers.

    Only W is unitary. A step has the singular values 1 and (|a| + b)/|a| for each active unit, 0
    and 0 for each dead one: at b = 0 it keeps norms exactly; at b < 0 it shrinks; at b > 0
    gradients can grow. The released code differs in two ways, both options: it starts b uniform
    on [-0.01, 0.01] (`bias=Uniform(0.01)`), and divides by |a| + 1e-5 (`eps=1e-5`), so that it
    loses norm even at b = 0. Its reflections use conj(v), which names the same reflections.

    Examples
    --------
    >>> import jax, jax.numpy as jnp, rnndyn as rd
    >>> cell = rd.cells.UnitaryRNN(input_size=3, hidden_size=8)
    >>> params = cell.init(jax.random.key(0))
    >>> run = rd.simulate(cell, params, jnp.zeros((100, 3)))
    >>> norms = jnp.linalg.norm(run.states.h, axis=1)
    >>> bool(jnp.allclose(norms, norms[0], rtol=1e-4))
    True
    """

    mechanism: ClassVar[str] = "unitary by its factors"
    paper: ClassVar[str] = "Arjovsky, Shah & Bengio 2016"
    state_shape: ClassVar[str] = "h (n): n/2 complex units"
    exact: ClassVar[str] = "W* W = I; singular values of J 1 and (|a| + b)/|a|, or 0 and 0"
    checked: ClassVar[str] = "arrays of the authors' code, dense complex factors, NumPy loop"

    input_size: int
    hidden_size: int
    permutation_seed: int = 1234
    eps: float = 0.0
    input_weights: Initializer = Glorot()
    bias: Initializer = Constant(0.0)

    def validate(self) -> None:
        if self.hidden_size % 2:
            expected, advice = "an even number", "each complex unit takes two real entries"
            got = repr(self.hidden_size)
            raise ValueError(validation.sentence("hidden_size", expected, got, advice))
        validation.require_int("permutation_seed", self.permutation_seed, 0, "pass any such number")
        advice = "0 is the paper, 1e-5 the released code"
        validation.require_range("eps", self.eps, 0.0, math.inf, advice, open_high=True)

    def init(self, key: jax.Array, *, gain: float | jax.Array = 1.0) -> UnitaryParams:
        n, m = self.hidden_size, self.input_size
        key_x, key_theta, key_v, key_b, key_start = split(key, 5)
        theta = jax.random.uniform(key_theta, (3, n // 2), float, -math.pi, math.pi)
        bound = math.sqrt(3.0 / n)
        return UnitaryParams(
            w_x=self.input_weights(key_x, (n, m)),
            theta=jnp.asarray(gain, theta.dtype) * theta,
            v=jax.random.uniform(key_v, (2, n), float, -1.0, 1.0),
            b=self.bias(key_b, (n // 2,)),
            start=jax.random.uniform(key_start, (n,), float, -bound, bound),
        )

    def initial_state(self, params: UnitaryParams) -> ElmanState:
        return ElmanState(h=params.start)

    def turned(self, params: UnitaryParams, h: jax.Array) -> jax.Array:
        """W z for z = [Re; Im], shape (n,), as [Re; Im]."""
        z = _paired(h)
        turns = jax.lax.complex(jnp.cos(params.theta), jnp.sin(params.theta))
        first, second = params.v
        # the 1/k of ifft is both transforms' 1/sqrt(k): all that lies between is linear
        z = _reflected(jnp.fft.fft(turns[0] * z), first)
        z = jnp.fft.ifft(turns[1] * z[self._permutation()])
        z = turns[2] * _reflected(z, second)
        return jnp.concatenate([z.real, z.imag])

    def recurrent(self, params: UnitaryParams) -> jax.Array:
        """The real form of W, shape (n, n), an orthogonal matrix."""
        eye = jnp.eye(self.hidden_size, dtype=params.theta.dtype)
        return jax.vmap(lambda h: self.turned(params, h), out_axes=1)(eye)

    def step(self, params: UnitaryParams, state: ElmanState, x: jax.Array) -> ElmanState:
        a = self.turned(params, state.h) + params.w_x @ x
        return ElmanState(h=modrelu(a.reshape(2, -1), params.b, self.eps).ravel())

    def output(self, state: ElmanState) -> jax.Array:
        return state.h

    def _permutation(self) -> np.ndarray:
        return np.random.RandomState(self.permutation_seed).permutation(self.hidden_size // 2)


def _paired(h: jax.Array) -> jax.Array:
    return jax.lax.complex(*jnp.split(h, 2))


def _reflected(z: jax.Array, v: jax.Array) -> jax.Array:
    """z - 2 v v* z/||v||^2 for v given as [Re; Im]."""
    unit = _paired(v / jnp.linalg.norm(v))
    return z - 2 * jnp.vdot(unit, z) * unit
