"""Shattering: whether the gradients at neighbouring inputs have anything to do with each other.

Balduzzi, Frean, Leary, Lewis, Ma & McWilliams, The Shattered Gradients Problem, ICML 2017: along
a line of inputs, the gradient of a shallow rectifier network moves like brown noise, that of a
deep plain one jumps like white noise, that of a residual one lies between. Gradients that have
shattered are large and useless: a step along one helps for no other input.
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from rnndyn.core import validation
from rnndyn.core.pytree import pytree
from rnndyn.core.status import Status


@pytree
class Shattering:
    """How gradients at inputs along a line resemble each other, by the distance on that line.

    Attributes
    ----------
    lags : jax.Array, shape (L,), int
        Distances, in points of the line.
    autocorrelation : jax.Array, shape (L,)
        Of the gradients less their mean over the line, as Balduzzi et al. draw it: 1 at lag 0;
        NaN if the gradient is the same everywhere, as that of a linear network is.
    cosine : jax.Array, shape (L,)
        Of the gradients themselves, nothing subtracted: the mean over pairs at that distance of
        their product, over the mean of their squares. 1 of a linear network.
    status : jax.Array, int
        0; -3 if a gradient is not finite; -5 if all are equal, so that nothing is left to
        correlate (`cosine` holds).
    """

    lags: jax.Array
    autocorrelation: jax.Array
    cosine: jax.Array
    status: jax.Array


def shattering(
    function: Callable[[jax.Array], jax.Array],
    points: jax.Array,
    *,
    lags: Sequence[int] | None = None,
) -> Shattering:
    """Autocorrelation of the gradient of a function across inputs on a line.

        R(k) = sum_i <g_i - g, g_{i+k} - g> / sum_i ||g_i - g||^2,   g_i = grad f(x_i)

    Parameters
    ----------
    function : callable
        `function(x)`, scalar, of one point: the last output of a run, say, as a function of its
        first input or of its first state.
    points : jax.Array, shape (M, m)
        Evenly spaced, in order, M at least 2.
    lags : sequence of int, optional
        Distinct, each in 0..M-1; by default 0 to M/4.

    Returns
    -------
    Shattering
        Compare with `brown_autocorrelation(M, lags)` and, for white noise, with -1/M at any lag
        but 0. Cost: M gradients. Average over draws of the network before judging.

    Raises
    ------
    TypeError, ValueError
        If points or lags do not fit, or the function is not scalar.

    Examples
    --------
    >>> import jax.numpy as jnp, rnndyn as rd
    >>> line = jnp.linspace(-1.0, 1.0, 64)[:, None]
    >>> found = rd.shattering(lambda x: jnp.sum(x**3), line, lags=(0, 8))
    >>> found.autocorrelation[0].item()
    1.0
    """
    points = jnp.asarray(points)
    advice = "stack the inputs of a line along axis 0"
    validation.require_shape("points", points, ("M", "m"), advice)
    validation.require_real("points", points)
    count = points.shape[0]
    if count < 2:
        raise ValueError(validation.sentence("points", "at least two", str(count), advice))
    default = range(count // 4 + 1)
    asked = validation.require_lags(list(default if lags is None else lags), count - 1)
    return _correlate(jax.vmap(jax.grad(function))(points), asked)


def brown_autocorrelation(count: int, lags: Sequence[int]) -> np.ndarray:
    """What `shattering` gives of Brownian motion with `count` points: its mean over its mean.

    With C_ij = min(i, j) and the mean over the line subtracted, C -> P C P, P = I - 1 1^T / M, the
    expectation of the numerator at lag k is the sum of the k-th diagonal, of the denominator the
    trace.

    Parameters
    ----------
    count : int, at least 2
        M.
    lags : sequence of int

    Returns
    -------
    numpy.ndarray, shape (L,)

    Examples
    --------
    >>> from rnndyn.flow import brown_autocorrelation
    >>> brown_autocorrelation(256, (0, 32)).round(3).tolist()
    [1.0, 0.465]
    """
    count = validation.require_int("count", count, 2, "pass the number of points of the line")
    asked = validation.require_lags(list(lags), count - 1)
    index = np.arange(1.0, count + 1)
    covariance = np.minimum(index[:, None], index[None, :])
    covariance -= covariance.mean(axis=0, keepdims=True)
    covariance -= covariance.mean(axis=1, keepdims=True)
    return np.array([np.trace(covariance, lag) for lag in asked]) / np.trace(covariance)


@jax.jit(static_argnames="lags")
def _correlate(gradients: jax.Array, lags: tuple[int, ...]) -> Shattering:
    finite = jnp.all(jnp.isfinite(gradients))
    largest = jnp.max(jnp.abs(gradients))
    largest = jnp.where((largest == 0) | ~finite, jnp.ones_like(largest), largest)
    unit = gradients / largest  # squares of shattered gradients overflow easily
    centred = unit - jnp.mean(unit, axis=0, keepdims=True)
    size = jnp.asarray(unit.size, unit.dtype)
    rounding = (8 * jnp.finfo(unit.dtype).eps) ** 2 * size
    flat = jnp.sum(centred**2) <= rounding
    total = jnp.where(flat, jnp.ones_like(largest), jnp.sum(centred**2))
    square = jnp.sum(unit**2)
    count, numbers = gradients.shape[0], np.array(lags, np.int32)

    def products(series: jax.Array) -> jax.Array:
        """sum_i <s_i, s_{i+lag}> by lag, nothing beyond the end: a loop, not a term a lag."""
        beyond = jnp.pad(series, ((0, count), (0, 0)))
        moved = lambda lag: jax.lax.dynamic_slice_in_dim(beyond, lag, count)  # noqa: E731
        return jax.lax.map(lambda lag: jnp.sum(series * moved(lag)), numbers)

    correlated = products(centred) / total
    cosine = products(unit) / square * jnp.asarray(count / (count - numbers), unit.dtype)
    status = jnp.where(flat, jnp.int32(Status.SINGULAR), jnp.int32(Status.CONVERGED))
    return Shattering(
        lags=jnp.asarray(np.array(lags)),
        autocorrelation=jnp.where(finite & ~flat, correlated, jnp.nan),
        cosine=jnp.where(finite, cosine, jnp.nan),
        status=jnp.where(finite, status, jnp.int32(Status.NONFINITE)),
    )
