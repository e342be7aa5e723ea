"""Leading singular values and vectors of dz_T/dz_{T-lag}, without a d x d matrix.

Randomised block power iteration (Halko, Martinsson & Tropp 2011) through the whole chain of
products: a block of columns is pushed from T - lag to T, pulled back, and so on. As in
`flow.sweep`, it is made orthonormal at every step and its triangular factors are kept with
logarithmic scales, so that the k-th value has its digits beside a first one that is any number of
decades larger: Lanczos vectors, normalised as a whole, would lose it.
"""

from typing import Any

import jax
import jax.numpy as jnp

from rnndyn.core import validation
from rnndyn.core.pytree import pytree
from rnndyn.core.status import Status
from rnndyn.flow import graded, jacobi
from rnndyn.flow.graded import Rows
from rnndyn.linearize import Linearization

_OVERSAMPLE = 8  # columns beyond k, which set the rate of convergence


@pytree
class LeadingSingularVectors:
    """The k largest singular values of P = dz_T/dz_{T-lag} and their vectors: P v = sigma u.

    Attributes
    ----------
    log_values : jax.Array, shape (k,)
        Natural logarithms, descending; -inf exactly where zero.
    left, right : jax.Array, shape (d, k)
        u at T, v at T - lag, orthonormal: the perturbation v of the earlier state grows most and
        comes out along u. Constants to differentiation; zero where the value is -inf.
    residual : jax.Array, shape (k,)
        Distance of v from the space of the iteration before. The error of a log value is of the
        order of its square, beside rounding.
    iterations : jax.Array, int
        Times that the block was pushed and pulled.
    status : jax.Array, shape (k,), int
        0 if residual <= tol; -2 if the budget ended first; -3 if a Jacobian is not finite.
    """

    log_values: jax.Array
    left: jax.Array
    right: jax.Array
    residual: jax.Array
    iterations: jax.Array
    status: jax.Array


def leading_singular_vectors(
    lin: Linearization,
    k: int = 1,
    *,
    lag: int | None = None,
    tol: float | None = None,
    max_iterations: int = 100,
) -> LeadingSingularVectors:
    """The k largest singular values of dz_T/dz_{T-lag} with their vectors, for large d.

    Parameters
    ----------
    lin : Linearization
        Matrix-free (`linearize(..., dense=False)`), Jacobians are never formed.
    k : int, 1..d
    lag : int, optional
        0..T; T by default.
    tol : float, optional
        On the residual; the cube root of eps by default, for values to about eps^(2/3).
    max_iterations : int, at least 1

    Returns
    -------
    LeadingSingularVectors
        Cost of an iteration: 2 lag (k + 8) products with a Jacobian and 2 lag QRs of (d, k + 8).
        It converges like (sigma_{k+9} / sigma_k)^2 per iteration: a few at long lags, where
        singular values are far apart, tens at short ones. The log values are differentiable in
        the Jacobians, in both modes (d log sigma = u^T dP v / sigma).

    Raises
    ------
    TypeError, ValueError
        If `lin` is not one Linearization, or on bad k, lag, tol or max_iterations.

    Examples
    --------
    >>> import jax.numpy as jnp, rnndyn as rd
    >>> jacobians = jnp.broadcast_to(jnp.diag(jnp.array([2.0, 0.5, 0.25])), (2000, 3, 3))
    >>> lin = rd.Linearization.from_jacobians(jacobians)
    >>> found = rd.leading_singular_vectors(lin, 2)
    >>> (found.log_values / jnp.log(2.0)).round(2).tolist(), found.status.tolist()
    ([2000.0, -2000.0], [0, 0])
    """
    graded.require_linearization(lin)
    advice = f"z has d = {lin.size} coordinates, so 1 to {lin.size} singular values exist"
    k = validation.require_int("k", k, 1, advice)
    validation.require_range("k", k, 1, lin.size, advice)
    advice = f"this run has T = {lin.steps} steps, so lags 0 to {lin.steps} exist"
    lag = validation.require_int("lag", lin.steps if lag is None else lag, 0, advice)
    validation.require_range("lag", lag, 0, lin.steps, advice)
    tol = float(jnp.finfo(lin.dtype).eps) ** (1 / 3) if tol is None else tol
    validation.require_range("tol", tol, 0, 1, "pass a distance, for example 1e-5", open_low=True)
    advice = "pass how often the block may be pushed and pulled"
    limit = validation.require_int("max_iterations", max_iterations, 1, advice)
    return _leading(lin, k, lag, jnp.asarray(tol, lin.dtype), limit)


@jax.jit(static_argnames=("k", "lag", "limit"))
def _leading(
    lin: Linearization, k: int, lag: int, tol: jax.Array, limit: int
) -> LeadingSingularVectors:
    fixed = jax.lax.stop_gradient(lin)
    size = min(lin.size, k + _OVERSAMPLE)
    gaussian = jax.random.normal(jax.random.key(0), (lin.size, size), lin.dtype)
    start, _ = graded.orthonormalise(gaussian, None)

    def unfinished(carry):
        _, _, residual, iterations = carry
        return jnp.any(residual[:k] > tol) & (iterations < limit)  # NaN ends it

    def iterate(carry):
        _, right, _, iterations = carry
        left, _, _ = _through(fixed, lag, right, forward=True)
        moved, factor, _ = _through(fixed, lag, left, forward=False)
        outside = moved - right @ (right.T @ moved)
        alive = jnp.any(factor.rows != 0, axis=1)
        residual = jnp.where(alive, jnp.sqrt(jnp.sum(outside**2, axis=0)), 0)
        return left, moved, residual, iterations + 1

    carry = (start, start, jnp.full((size,), jnp.inf, lin.dtype), jnp.int32(0))
    left, _, residual, iterations = jax.lax.while_loop(unfinished, iterate, carry)
    # P^T left = right L: at a left space that holds u, constant to first order, so are its values.
    right, factor, finite = _through(lin, lag, left, forward=False)
    values, turn_right, turn_left, _ = jacobi.log_svd(factor, jnp.asarray(size))
    u, v = left @ turn_left.T, jax.lax.stop_gradient(right) @ turn_right
    status = jnp.where(residual[:k] <= tol, Status.CONVERGED, Status.MAX_STEPS)
    alive = values[:k] > -jnp.inf
    return LeadingSingularVectors(
        log_values=jnp.where(finite, values[:k], jnp.nan),
        left=jnp.where(alive[None, :], u[:, :k], 0),
        right=jnp.where(alive[None, :], v[:, :k], 0),
        residual=residual[:k],
        iterations=iterations,
        status=jnp.where(finite, status, Status.NONFINITE).astype(jnp.int32),
    )


def _through(lin: Linearization, lag: int, frame: jax.Array, *, forward: bool):
    """P frame = Q L, or P^T frame: Q, L as graded factor, and whether all was finite."""
    product = lin.push if forward else lin.pull

    def step(carry, at):
        frame, factor, finite = carry
        frame, r = graded.orthonormalise(product(at, frame), None)
        factor = graded.multiply(r, factor, graded.scale_of_dead(r, factor))
        return (frame, factor, finite & jnp.all(jnp.isfinite(r))), None

    size = frame.shape[1]
    start = Rows(jnp.zeros((size,), lin.dtype), jnp.eye(size, dtype=lin.dtype))
    slices: Any = jax.tree.map(lambda leaf: leaf[lin.steps - lag :], lin.slices)
    carry, _ = jax.lax.scan(step, (frame, start, jnp.array(True)), slices, reverse=not forward)
    frame, factor, finite = carry
    return frame, graded.normalise(factor), finite
