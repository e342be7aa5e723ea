"""ReLU networks that start near the identity, or stay near it by how they are written.

np-RNN (Talathi & Vartak 2015) is a start; the residual form of Hu et al. 2018 and the Dirac form of
Zagoruyko & Komodakis 2017 keep the identity outside the trained weights.
"""

from typing import ClassVar

import jax
import jax.numpy as jnp

from rnndyn.cells.base import Affine, Cell, init_affine
from rnndyn.cells.elman import ACTIVATIONS, ElmanCell, ElmanState
from rnndyn.cells.initializers import Constant, Gaussian, Initializer, Uniform
from rnndyn.cells.spectral_initializers import PositiveDefinite, RandomWalk
from rnndyn.core import validation
from rnndyn.core.keys import split
from rnndyn.core.pytree import pytree, specification


@specification
class NpRNN(ElmanCell):
    """The ReLU network that starts from a positive definite W_h whose largest eigenvalue is 1.

        h' = relu(W_x x + W_h h + b)

    State: h (n,). Params: `Affine`, W_h by `PositiveDefinite`, W_x by `RandomWalk`, b = 0. At the
    start one direction of the state is marginal and all others contract without oscillation: the
    eigenvalues are real, in [1/e, 1]. Talathi & Vartak, arXiv 1511.03771, 2015.

    Examples
    --------
    >>> import jax, jax.numpy as jnp, rnndyn as rd
    >>> w = rd.cells.NpRNN(3, 8).init(jax.random.key(0)).w_h
    >>> bool(jnp.allclose(jnp.linalg.eigvalsh(w)[-1], 1.0, atol=1e-5))
    True
    """

    mechanism: ClassVar[str] = "special start: positive definite"
    paper: ClassVar[str] = "Talathi & Vartak 2015"
    exact: ClassVar[str] = "eigenvalues of W_h real, in [1/e, 1], the largest 1"
    checked: ClassVar[str] = "spectrum, Marchenko-Pastur limits, NumPy loop"

    input_size: int
    hidden_size: int
    activation: str = "relu"
    input_weights: Initializer = RandomWalk()

    def init(self, key: jax.Array, *, gain: float | jax.Array = 1.0) -> Affine:
        weights = (self.input_weights, PositiveDefinite(), Constant(0.0))
        return init_affine(key, self, *weights, gain=gain)


@pytree
class RINParams:
    """w_x : (n, m); u : (depth, n, n), what is added to the identity; b : (depth, n)."""

    w_x: jax.Array
    u: jax.Array
    b: jax.Array


@specification
class RIN(Cell):
    """The residual recurrent network: h' = relu(W_x x + (U + I) h + b), I not trained.

    State: h (n,). Params: `RINParams`, W_x and U ~ N(0, 0.001^2), b = 0 (the paper writes
    N(0, 1e-3); the standard deviation is our reading). With `depth` = 2 or more (RIN-DT) the
    step goes on with h <- relu((U_k + I) h + b_k), and x enters the first transition only. `gain`
    multiplies U. Hu et al., arXiv 1801.06105, 2018.

    The Jacobian is the product of D(relu') (U_k + I), newest transition on the left; where all
    units are active its eigenvalues for depth 1 are 1 + those of U. At the start the network
    nearly equals an `IRNN`, but weight decay pulls the recurrence to I here and to 0 there.

    Examples
    --------
    >>> import jax, rnndyn as rd
    >>> rd.cells.RIN(input_size=3, hidden_size=8, depth=2).init(jax.random.key(0)).u.shape
    (2, 8, 8)
    """

    mechanism: ClassVar[str] = "identity kept outside the weights"
    paper: ClassVar[str] = "Hu et al. 2018"
    state_shape: ClassVar[str] = "h (n)"
    exact: ClassVar[str] = "J = D(relu') (U + I), at depth 2 the product of two"
    checked: ClassVar[str] = "closed form, eigenvalues 1 + eig U, NumPy loop"

    input_size: int
    hidden_size: int
    depth: int = 1
    input_weights: Initializer = Gaussian(0.001)
    recurrent_weights: Initializer = Gaussian(0.001)

    def validate(self) -> None:
        advice = "1 is RIN, 2 is RIN-DT with two transitions a step"
        validation.require_int("depth", self.depth, 1, advice)

    def init(self, key: jax.Array, *, gain: float | jax.Array = 1.0) -> RINParams:
        n, m = self.hidden_size, self.input_size
        key_x, key_u = split(key)
        keys = jax.random.split(key_u, self.depth)
        u = jnp.stack([self.recurrent_weights(k, (n, n)) for k in keys])
        w_x = self.input_weights(key_x, (n, m))
        return RINParams(w_x, jnp.asarray(gain, u.dtype) * u, jnp.zeros((self.depth, n), u.dtype))

    def initial_state(self, params: RINParams) -> ElmanState:
        return ElmanState(h=jnp.zeros((self.hidden_size,), params.u.dtype))

    def step(self, params: RINParams, state: ElmanState, x: jax.Array) -> ElmanState:
        h = state.h
        for k in range(self.depth):
            a = params.u[k] @ h + h + params.b[k]
            h = jax.nn.relu(a + params.w_x @ x if k == 0 else a)
        return ElmanState(h=h)

    def output(self, state: ElmanState) -> jax.Array:
        return state.h


@pytree
class DiracParams:
    """w_x : (n, m); w : (n, n), of which only the rows' directions count; alpha, beta, b : (n,)."""

    w_x: jax.Array
    w: jax.Array
    alpha: jax.Array
    beta: jax.Array
    b: jax.Array


@specification
class DiracRNN(Cell):
    """Identity plus normalised weights, each with a trained scale: the Dirac parameterisation.

        h' = relu(W_x x + W_h h + b),  W_h = D(alpha) + D(beta) N(w),  N: rows of norm 1

    State: h (n,). Params: `DiracParams`, alpha = 1, beta = 0.1 as released, w normal (its scale
    has no effect), W_x uniform on [-1/sqrt(n), 1/sqrt(n)], b = 0. `gain` multiplies alpha and
    beta, hence W_h. A row of zeros normalises to zeros. Zagoruyko & Komodakis, arXiv 1706.00388,
    2017, use it for convolutions; the recurrent use is ours.

    The Jacobian is D(relu') W_h, and ||W_h - D(alpha)||_F = ||beta||.

    Examples
    --------
    >>> import jax, jax.numpy as jnp, rnndyn as rd
    >>> cell = rd.cells.DiracRNN(input_size=3, hidden_size=4)
    >>> w_h = cell.recurrent(cell.init(jax.random.key(0)))
    >>> bool(jnp.isclose(jnp.linalg.norm(w_h - jnp.eye(4)), 0.2))
    True
    """

    mechanism: ClassVar[str] = "identity kept outside the weights, scales trained"
    paper: ClassVar[str] = "Zagoruyko & Komodakis 2017 (recurrent use ours)"
    state_shape: ClassVar[str] = "h (n)"
    exact: ClassVar[str] = "J = D(relu') (D(alpha) + D(beta) N(w)); ||W_h - D(alpha)||_F = ||beta||"
    checked: ClassVar[str] = "arrays of the authors' code, closed form, NumPy loop"

    input_size: int
    hidden_size: int
    alpha: float = 1.0
    beta: float = 0.1
    activation: str = "relu"
    input_weights: Initializer = Uniform()
    recurrent_weights: Initializer = Gaussian()

    def validate(self) -> None:
        validation.require_choice("activation", self.activation, ACTIVATIONS)

    def init(self, key: jax.Array, *, gain: float | jax.Array = 1.0) -> DiracParams:
        n, m = self.hidden_size, self.input_size
        key_x, key_w = split(key)
        w = self.recurrent_weights(key_w, (n, n))
        scale = jnp.asarray(gain, w.dtype) * jnp.ones((n,), w.dtype)
        return DiracParams(
            w_x=self.input_weights(key_x, (n, m)),
            w=w,
            alpha=self.alpha * scale,
            beta=self.beta * scale,
            b=jnp.zeros((n,), w.dtype),
        )

    def initial_state(self, params: DiracParams) -> ElmanState:
        return ElmanState(h=jnp.zeros((self.hidden_size,), params.w.dtype))

    def recurrent(self, params: DiracParams) -> jax.Array:
        """W_h, shape (n, n)."""
        return jnp.diag(params.alpha) + (params.beta / _row_norms(params.w))[:, None] * params.w

    def step(self, params: DiracParams, state: ElmanState, x: jax.Array) -> ElmanState:
        mixed = params.beta * (params.w @ state.h) / _row_norms(params.w)
        a = params.w_x @ x + params.alpha * state.h + mixed + params.b
        return ElmanState(h=ACTIVATIONS[self.activation](a))

    def output(self, state: ElmanState) -> jax.Array:
        return state.h


def _row_norms(w: jax.Array) -> jax.Array:
    """The norm of each row, 1 for a row of zeros, at which the norm has no derivative."""
    square = jnp.sum(w * w, axis=1)
    return jnp.sqrt(jnp.where(square == 0, jnp.ones_like(square), square))
