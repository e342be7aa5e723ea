"""Singular spectra of dz_T/dz_{T-lag}: all log singular values, to high relative accuracy."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from rnndyn.core import validation
from rnndyn.core.pytree import pytree
from rnndyn.core.status import Status
from rnndyn.flow import graded, jacobi
from rnndyn.flow.diagonal import log_products
from rnndyn.flow.graded_svd import log_singular_values
from rnndyn.flow.gradient_flow import default_lags
from rnndyn.flow.sweep import sweep
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
    log_condition : jax.Array, shape (L,)
        Log of the largest over the smallest; inf for a singular product.
    status : jax.Array, shape (L,), int
        0; -2 if the rotations did not end; -3 if a Jacobian within the lag is not finite.
    """

    lags: jax.Array
    log_values: jax.Array
    log_condition: jax.Array
    status: jax.Array


def singular_spectra(
    lin: Linearization, *, lags: Sequence[int] | None = None, block: str = "state"
) -> SingularSpectra:
    """All log singular values of dz_T/dz_{T-lag}, for any set of lags in one sweep.

    The product J[T-1] ... J[T-lag] is pulled backwards as Q diag(exp s) R, with QR at every step
    (rows sorted, the row scales of J taken out first, so that saturated and dead units keep their
    small and zero singular values), and one-sided Jacobi on rows with logarithmic lengths finds
    the values (Bojanczyk, Ewerbring, Luk & Van Dooren 1991; Demmel & Veselic 1992; Oliveira &
    Stewart 2000). Nothing under- or overflows, whatever the lag. Sums of log |diag R|, often used
    instead, are not singular values.

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
        Status 0 means that the rows are orthogonal to n eps in the cosine. Cost O(max(lags) d^3)
        and a few sweeps of O(d^3) a lag; O(max(lags) d) for diagonal Jacobians. Differentiable in
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
    if isinstance(lin, Diagonal):
        values, finite = log_products(lin, lags, coordinates)
        values, enough = jnp.sort(values, axis=1, descending=True), True
    else:
        swept = sweep(lin, lags, coordinates)
        finite = swept.finite
        values, worst, loss = jax.lax.map(
            lambda one: log_singular_values(one.factor, one.rank), swept
        )
        enough = worst <= jacobi.cosine_tolerance(len(coordinates), lin.dtype)
    status = jnp.where(enough, jnp.int32(Status.CONVERGED), jnp.int32(Status.MAX_STEPS))
    status = jnp.where(finite, status, jnp.int32(Status.NONFINITE))
    values = jnp.where(finite[:, None], values, jnp.nan)
    return SingularSpectra(
        lags=jnp.asarray(lags),
        log_values=values,
        log_condition=_log_condition(values),
        status=status,
    )


def _log_condition(values: jax.Array) -> jax.Array:
    smallest = values[:, -1]
    singular = jnp.isneginf(smallest)
    finite = jnp.where(singular, jnp.zeros_like(smallest), smallest)
    largest = jnp.where(singular, jnp.zeros_like(smallest), values[:, 0])
    return jnp.where(singular, jnp.inf, largest - finite)
