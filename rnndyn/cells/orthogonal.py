"""Cells whose recurrence is orthogonal: by a linear transition, or by how it is written.

Henaff, Szlam & LeCun, ICML 2016, arXiv 1602.06662; Helfrich, Willmott & Ye, ICML 2018, arXiv
1707.09520; Lezcano-Casado & Martinez-Rubio, ICML 2019, arXiv 1901.08428. For W_h that is a free
matrix and is kept orthogonal by the optimiser, see `rnndyn.constraints`.
"""

import abc
from typing import ClassVar

import jax
import jax.numpy as jnp

from rnndyn.cells.base import Affine, Cell, init_affine
from rnndyn.cells.elman import ACTIVATIONS, ElmanCell, ElmanState
from rnndyn.cells.initializers import Constant, Initializer, Orthogonal, Uniform
from rnndyn.cells.modrelu import modrelu
from rnndyn.cells.spectral_initializers import He, SkewBlocks
from rnndyn.core import validation
from rnndyn.core.keys import split
from rnndyn.core.pytree import pytree, specification


@specification
class LTRNN(ElmanCell):
    """The linear-transition network: h' = V h + phi(U x + b), the nonlinearity on the input only.

    State: h (n,). Params: `Affine` with w_x = U, w_h = V, b; V starts orthogonal, U uniform on
    [-1/sqrt(n), 1/sqrt(n)], b = 0. The Jacobian is V at every h and x, so dh_T/dh_t = V^lag.
    Henaff, Szlam & LeCun 2016, who show two exact solutions: one unit with V = 1, U = (1, 1),
    b = -1 and phi = relu solves the adding task; with V of `Rotations` by angles 2 pi l/period,
    what was written comes back after `period` steps.

    Examples
    --------
    >>> import jax, jax.numpy as jnp, rnndyn as rd
    >>> cell = rd.cells.LTRNN(input_size=3, hidden_size=4)
    >>> params = cell.init(jax.random.key(0))
    >>> quiet = rd.hold(cell, params, jnp.ones(3))
    >>> bool((quiet.jacobian(jnp.ones(4)) == params.w_h).all())
    True
    """

    mechanism: ClassVar[str] = "linear transition, orthogonal at the start"
    paper: ClassVar[str] = "Henaff, Szlam & LeCun 2016"
    exact: ClassVar[str] = "J = V everywhere; zero error on the adding task with one unit"
    checked: ClassVar[str] = "the paper's solutions of adding and copying, NumPy loop"

    input_size: int
    hidden_size: int
    activation: str = "relu"
    input_weights: Initializer = Uniform()
    recurrent_weights: Initializer = Orthogonal()

    def init(self, key: jax.Array, *, gain: float | jax.Array = 1.0) -> Affine:
        weights = (self.input_weights, self.recurrent_weights, Constant(0.0))
        return init_affine(key, self, *weights, gain=gain)

    def step(self, params: Affine, state: ElmanState, x: jax.Array) -> ElmanState:
        written = ACTIVATIONS[self.activation](params.w_x @ x + params.b)
        return ElmanState(h=params.w_h @ state.h + written)


@pytree
class SkewParams:
    """w_x : (n, m); skew : (n (n - 1)/2,), A above its diagonal, row by row; b : (n,)."""

    w_x: jax.Array
    skew: jax.Array
    b: jax.Array


class SkewCell(Cell):
    """h' = modReLU(W_h h + W_x x, b) with W_h orthogonal for every value of the skew matrix A.

    With a = W_h h + W_x x the Jacobian is D(|a| + b > 0) W_h: singular values 1 and 0, for any b.
    `gain` multiplies A: it scales how far a step turns, and W_h stays orthogonal.
    """

    state_shape: ClassVar[str] = "h (n)"

    input_weights: Initializer
    skew: Initializer
    bias: Initializer

    def init(self, key: jax.Array, *, gain: float | jax.Array = 1.0) -> SkewParams:
        n, m = self.hidden_size, self.input_size
        key_x, key_a, key_b = split(key, 3)
        a = self.skew(key_a, (n, n))[jnp.triu_indices(n, 1)]
        return SkewParams(
            w_x=self.input_weights(key_x, (n, m)),
            skew=jnp.asarray(gain, a.dtype) * a,
            b=self.bias(key_b, (n,)),
        )

    def initial_state(self, params: SkewParams) -> ElmanState:
        return ElmanState(h=jnp.zeros((self.hidden_size,), params.w_x.dtype))

    def skew_matrix(self, params: SkewParams) -> jax.Array:
        """A, shape (n, n), with A^T = -A."""
        n = self.hidden_size
        above = jnp.zeros((n, n), params.skew.dtype).at[jnp.triu_indices(n, 1)].set(params.skew)
        return above - above.T

    @abc.abstractmethod
    def recurrent(self, params: SkewParams) -> jax.Array:
        """W_h, shape (n, n)."""

    def step(self, params: SkewParams, state: ElmanState, x: jax.Array) -> ElmanState:
        # W_h does not depend on h: over a run XLA forms it once, outside the loop
        a = self.recurrent(params) @ state.h + params.w_x @ x
        return ElmanState(h=modrelu(a[None, :], params.b)[0])

    def output(self, state: ElmanState) -> jax.Array:
        return state.h


@specification
class ScoRNN(SkewCell):
    """The scaled Cayley network: W_h = (I + A)^-1 (I - A) D, A skew, D fixed signs.

        h' = sign(a) relu(|a| + b),  a = W_h h + W_x x

    State: h (n,). Params: `SkewParams`, A by `SkewBlocks("cayley")`, W_x uniform on [-0.01, 0.01],
    b = 0. D ends in `negative` entries -1, a hyperparameter (half of n in the paper's copying
    task): without them no W_h has the eigenvalue -1. W_h is orthogonal with det (-1)^negative.
    Forming W_h takes 8/3 n^3 operations, once a run. Helfrich, Willmott & Ye 2018.

    Examples
    --------
    >>> import jax, jax.numpy as jnp, rnndyn as rd
    >>> cell = rd.cells.ScoRNN(input_size=3, hidden_size=4, negative=1)
    >>> w_h = cell.recurrent(cell.init(jax.random.key(0)))
    >>> round(float(jnp.linalg.det(w_h)), 4)
    -1.0
    """

    mechanism: ClassVar[str] = "orthogonal by the scaled Cayley transform"
    paper: ClassVar[str] = "Helfrich, Willmott & Ye 2018"
    exact: ClassVar[str] = "W_h^T W_h = I, det W_h = (-1)^negative, J = D(|a| + b > 0) W_h"
    checked: ClassVar[str] = "arrays of the authors' code, Cayley identities, NumPy loop"

    input_size: int
    hidden_size: int
    negative: int = 0
    input_weights: Initializer = Uniform(0.01)
    skew: Initializer = SkewBlocks("cayley")
    bias: Initializer = Constant(0.0)

    def validate(self) -> None:
        advice = "pass how many of the n signs are -1"
        negative = validation.require_int("negative", self.negative, 0, advice)
        validation.require_range("negative", negative, 0, self.hidden_size, advice)

    def recurrent(self, params: SkewParams) -> jax.Array:
        n = self.hidden_size
        a, eye = self.skew_matrix(params), jnp.eye(n, dtype=params.skew.dtype)
        signs = jnp.where(jnp.arange(n) < n - self.negative, 1.0, -1.0).astype(a.dtype)
        return jnp.linalg.solve(eye + a, (eye - a) * signs[None, :])


@specification
class ExpRNN(SkewCell):
    """The exponential network: W_h = exp(A), A skew.

        h' = sign(a) relu(|a| + b),  a = W_h h + W_x x

    State: h (n,). Params: `SkewParams`, A by `SkewBlocks("henaff")` or `SkewBlocks("cayley")`, W_x
    normal with variance 2/m (He), b uniform on [-0.01, 0.01]. Every W_h is a rotation: orthogonal
    with det +1, and every rotation is one. Forming W_h, once a run, takes one `exp_skew`.
    Lezcano-Casado & Martinez-Rubio 2019.

    Examples
    --------
    >>> import jax, jax.numpy as jnp, rnndyn as rd
    >>> cell = rd.cells.ExpRNN(input_size=3, hidden_size=4)
    >>> w_h = cell.recurrent(cell.init(jax.random.key(0)))
    >>> round(float(jnp.linalg.det(w_h)), 4)
    1.0
    """

    mechanism: ClassVar[str] = "orthogonal by the matrix exponential"
    paper: ClassVar[str] = "Lezcano-Casado & Martinez-Rubio 2019"
    exact: ClassVar[str] = "W_h^T W_h = I, det W_h = 1, J = D(|a| + b > 0) W_h"
    checked: ClassVar[str] = "arrays of the authors' code, plane angles, NumPy loop"

    input_size: int
    hidden_size: int
    input_weights: Initializer = He()
    skew: Initializer = SkewBlocks("henaff")
    bias: Initializer = Uniform(0.01)

    def recurrent(self, params: SkewParams) -> jax.Array:
        return exp_skew(self.skew_matrix(params))


@jax.custom_jvp
def exp_skew(a: jax.Array) -> jax.Array:
    """exp(A) of a real skew matrix, orthogonal to rounding.

    Parameters
    ----------
    a : jax.Array, shape (n, n)
        Skew; symmetric parts are not looked at.

    Returns
    -------
    jax.Array, shape (n, n)
        V diag(exp(-i mu)) V* from the eigendecomposition iA = V diag(mu) V*: A is normal, so V is
        unitary and nothing is lost however large A is. Cost: one Hermitian eigenproblem.
        The derivative along E is V (Phi * V* E V) V* with the divided differences of exp,
        Phi_jk = exp(-i (mu_j + mu_k)/2) sinc((mu_j - mu_k)/2) (Daleckii & Krein 1965), exact for
        repeated eigenvalues too.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> turn = exp_skew(jnp.array([[0.0, -1.0], [1.0, 0.0]]))
    >>> bool(jnp.allclose(turn[1], jnp.array([jnp.sin(1.0), jnp.cos(1.0)])))
    True
    """
    mu, v = _skew_eigen(a)
    turns = jax.lax.complex(jnp.cos(mu), -jnp.sin(mu))
    return ((v * turns[None, :]) @ v.conj().T).real


@exp_skew.defjvp
def _exp_skew_jvp(primals: tuple, tangents: tuple) -> tuple[jax.Array, jax.Array]:
    (a,), (e,) = primals, tangents
    mu, v = _skew_eigen(a)
    middle = (mu[:, None] + mu[None, :]) / 2
    differences = jnp.sinc((mu[:, None] - mu[None, :]) / (2 * jnp.pi))
    phi = jax.lax.complex(jnp.cos(middle) * differences, -jnp.sin(middle) * differences)
    inner = v.conj().T @ jax.lax.complex(e, jnp.zeros_like(e)) @ v
    return exp_skew(a), (v @ (phi * inner) @ v.conj().T).real


def _skew_eigen(a: jax.Array) -> tuple[jax.Array, jax.Array]:
    skew = (a - a.T) / 2
    return jnp.linalg.eigh(jax.lax.complex(jnp.zeros_like(skew), skew))
