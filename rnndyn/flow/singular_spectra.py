"""Singular spectra of dz_T/dz_{T-lag}: all log singular values, to high relative accuracy."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from rnndyn.core import validation
from rnndyn.core.pytree import pytree
from rnndyn.core.status import Status
from rnndyn.flow import graded, jacobi
from rnndyn.flow.diagonal import log_products
from rnndyn.flow.graded_svd import log_singular_values
from rnndyn.flow.gradient_flow import default_lags
from rnndyn.flow.sweep import Sweep, sweep
from rnndyn.linearize import Diagonal, Linearization


@pytree
class SingularSpectra:
    """Singular values of dz_T/dz_{T-lag}, by lag.

    Attributes
    ----------
    lags : jax.Array, shape (L,), int
        As asked for, in that order.
    log_values : jax.Array, shape (L, n)
        Natural logarithms, descending, -inf exactly where zero; n = d, or the number of hidden
        coordinates. NaN where the status is -3.
    error : jax.Array, shape (L, n)
        First-order bound on the error of each log value, so on the relative error of each
        singular value: what rounding did in the sweep, magnified by the condition of the
        triangular factors and where later steps undo how earlier ones stretched; commonly 10 to
        1000 times too large. 0 for exact zeros; above 1, or inf, the value is not known.
    status : jax.Array, shape (L,), int
        0; -2 if the rotations did not end; -3 if a Jacobian within the lag is not finite.
    """

    lags: jax.Array
    log_values: jax.Array
    error: jax.Array
    status: jax.Array

    @property
    @jax.jit
    def log_condition(self) -> jax.Array:
        """Log of the largest over the smallest, shape (L,); inf for a singular product."""
        smallest = self.log_values[..., -1]
        singular = jnp.isneginf(smallest)
        spread = self.log_values[..., 0] - jnp.where(singular, jnp.zeros_like(smallest), smallest)
        return jnp.where(singular, jnp.inf, spread)

    @property
    @jax.jit
    def effective_rank(self) -> jax.Array:
        """exp of the entropy of sigma / sum sigma (Roy & Vetterli 2007), 1 to n; 0 if all are 0."""
        share = self.log_values - _log_sum(self.log_values)[..., None]
        alive = jnp.isfinite(share)
        terms = jnp.exp(share) * jnp.where(alive, share, jnp.zeros_like(share))
        rank = jnp.exp(-jnp.sum(terms, axis=-1))
        return jnp.where(jnp.isneginf(self.log_values[..., 0]), jnp.zeros_like(rank), rank)

    @property
    @jax.jit
    def log_mean_square(self) -> jax.Array:
        """Log of the mean of sigma^2, shape (L,): 0 under dynamical isometry."""
        return _log_sum(2 * self.log_values) - _log_size(self.log_values)

    @property
    @jax.jit
    def relative_variance(self) -> jax.Array:
        """Variance of sigma^2 over the square of its mean, shape (L,), 0 to n - 1.

        0 where all singular values are equal: dynamical isometry (Saxe, McClelland & Ganguli
        2013; Pennington, Schoenholz & Ganguli 2017). NaN if all are 0.
        """
        fourth = _log_sum(4 * self.log_values) - _log_size(self.log_values)
        return jnp.expm1(fourth - 2 * self.log_mean_square)


def _log_sum(logs: jax.Array) -> jax.Array:
    return jax.nn.logsumexp(logs, axis=-1)


def _log_size(logs: jax.Array) -> jax.Array:
    return jnp.log(jnp.asarray(logs.shape[-1], logs.dtype))


def singular_spectra(
    lin: Linearization, *, lags: Sequence[int] | None = None, block: str = "state"
) -> SingularSpectra:
    """All log singular values of dz_T/dz_{T-lag}, for any set of lags in one sweep.

    The product J[T-1] ... J[T-lag] is pulled backwards as F diag(exp s) R (`flow.sweep`): the
    frame F is renewed as often as the condition of the steps asks for, by elimination or, at
    saturated and dead units, by QR with the row scales of J taken out first. The values of the
    graded factor come from LAPACK once QR has turned it into nearly diagonal form, or from
    one-sided Jacobi rotations of rows with logarithmic lengths (`flow.graded_svd`; Bojanczyk,
    Ewerbring, Luk & Van Dooren 1991; Demmel & Veselic 1992; Oliveira & Stewart 2000; Drmac &
    Veselic 2008). Nothing under- or overflows, whatever the lag. Sums of log |diag R|, often
    used instead, are not singular values.

    Every step is rounded by about ten eps times its own condition, and the worst ones decide. So
    float32 is good for 3e-3 in log10 where those conditions are moderate (a thousand steps of tanh
    networks of 64 units), and for 1e-2 where they reach 4e4 (Gaussian matrices). float64 gives 1e-9
    in both, and on a CPU takes no longer, as it can eliminate where float32 needs QR.

    Parameters
    ----------
    lin : Linearization
        Dense or matrix-free; of the latter one Jacobian is formed at a time.
    lags : sequence of int, optional
        Distinct, each in 0..T; lag 0 is the identity. Default: `default_lags(T)`.
    block : {"state", "hidden"}
        Of all of z, or of the hidden coordinates' block of the product. A block whose norm is
        below eps times that of its columns has no correct digits.

    Returns
    -------
    SingularSpectra
        Status 0 means that the rows are orthogonal to n eps in the cosine, by rotations or by
        LAPACK. Cost O(max(lags) d^3), about that of the product and of its elimination every
        other step, and O(d^3) a lag; O(max(lags) d) for diagonal Jacobians. Differentiable in
        the Jacobians, in both modes, also where singular values are equal; the derivative of a
        value of -inf is given as 0.

    Raises
    ------
    TypeError, ValueError
        If `lin` is not one Linearization, or on bad lags or block.

    Examples
    --------
    >>> import jax.numpy as jnp, rnndyn as rd
    >>> from rnndyn.flow import singular_spectra
    >>> jacobians = jnp.broadcast_to(jnp.diag(jnp.array([2.0, 0.5])), (9, 2, 2))
    >>> lin = rd.Linearization.from_jacobians(jacobians)
    >>> (singular_spectra(lin, lags=(1, 9)).log_values / jnp.log(2.0)).round(3).tolist()
    [[1.0, -1.0], [9.0, -9.0]]
    """
    graded.require_linearization(lin)
    asked = validation.require_lags(default_lags(lin.steps) if lags is None else lags, lin.steps)
    return _singular_spectra(lin, asked, graded.block_coordinates(lin, block))


@jax.jit(static_argnames=("lags", "coordinates"))
def _singular_spectra(
    lin: Linearization, lags: tuple[int, ...], coordinates: tuple[int, ...]
) -> SingularSpectra:
    n, eps = len(coordinates), jnp.finfo(lin.dtype).eps
    if isinstance(lin, Diagonal):
        values, error, finite = log_products(lin, lags, coordinates)
        order = jnp.argsort(values, axis=1, descending=True)
        values, error = (jnp.take_along_axis(a, order, axis=1) for a in (values, error))
        enough, zeros = True, jnp.full((len(lags),), n)
    else:
        swept = sweep(lin, lags, coordinates)
        finite = swept.finite
        values, worst, loss = jax.lax.map(
            lambda one: log_singular_values(one.factor, one.rank), swept
        )
        unit = jnp.asarray(np.sqrt(n) * eps, lin.dtype)
        error = jax.vmap(_spread)(swept, values) + (unit * loss)[:, None]
        zeros = n - swept.rank  # exact ones, by the pattern; others may be what rounding left
        enough = worst <= jacobi.cosine_tolerance(n, lin.dtype)
    status = jnp.where(enough, jnp.int32(Status.CONVERGED), jnp.int32(Status.MAX_STEPS))
    status = jnp.where(finite, status, jnp.int32(Status.NONFINITE))
    values = jnp.where(finite[:, None], values, jnp.nan)
    exact = jnp.arange(n)[None, :] >= n - zeros[:, None]
    error = jnp.where(jnp.isneginf(values), jnp.where(exact, 0.0, jnp.inf), error)
    error = jax.lax.stop_gradient(error)
    error = jnp.where(finite[:, None], error, jnp.nan)
    return SingularSpectra(lags=jnp.asarray(lags), log_values=values, error=error, status=status)


def _spread(swept: Sweep, values: jax.Array) -> jax.Array:
    """The rounding of rows as it shows in values: a value mixes rows of about its own size.

    A pivot that is zero but for rounding has none, where there are more rows than the rank.
    """
    alive = jnp.any(swept.factor.rows != 0, axis=1)
    scale = jnp.where(alive, swept.factor.scale, -jnp.inf)
    noise = (jnp.sum(alive) > swept.rank) & (swept.rounding > 0.01)
    apart = jnp.abs(scale[None, :] - values[:, None])
    apart = apart - jnp.min(apart, axis=1, keepdims=True)
    weights = jnp.where((scale > -jnp.inf)[None, :], jnp.exp(-apart), 0)
    most = jnp.max(jnp.where(noise, jnp.zeros_like(swept.rounding), swept.rounding))
    error = weights @ jnp.where(noise, most, swept.rounding)
    return jnp.where(jnp.isnan(error), jnp.inf, error)
