"""Products of diagonal Jacobians: their entries are sums of logs, at O(T d) in all.

The product of D(u_t) is D(prod u_t), whose singular values are |prod u_t| and whose exponents are
the means of log |u_t|: no frame, no rotation, and no d x d matrix.
"""

import jax
import jax.numpy as jnp

from rnndyn.linearize import Diagonal


def log_products(
    lin: Diagonal, lags: tuple[int, ...], coordinates: tuple[int, ...]
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """log |P_ii| of P = dz_T/dz_{T-lag} at the coordinates, by lag.

    Returns
    -------
    tuple
        Logs, shape (L, n), -inf exactly where a step within the lag has a zero, with derivative 0
        there; bounds on their rounding, shape (L, n); and whether all Jacobians within the lag
        are finite, shape (L,).
    """
    newest_first = lin.slices[lin.steps - max(lags) :][::-1]
    at = jnp.asarray(lags)
    finite = _before(~jnp.all(jnp.isfinite(newest_first), axis=1))[at] == 0
    chosen = newest_first[:, jnp.asarray(coordinates)]
    dead = _before(chosen == 0)[at] > 0
    logs = log_modulus(jnp.where(chosen == 0, jnp.ones_like(chosen), chosen))
    depth = 2 + jnp.log2(at + 1).astype(lin.dtype)  # of the tree of sums, and the logs themselves
    size = _before(jnp.abs(jax.lax.stop_gradient(logs)))[at]
    rounding = jnp.finfo(lin.dtype).eps * depth[:, None] * size
    return jnp.where(dead, -jnp.inf, _before(logs)[at]), rounding, finite


def log_modulus(values: jax.Array) -> jax.Array:
    """log |values|, with derivative 0 where a value is zero."""
    zero = values == 0
    return jnp.where(zero, -jnp.inf, jnp.log(jnp.abs(jnp.where(zero, 1, values))))


def _before(steps: jax.Array) -> jax.Array:
    """Sums over the first 0, 1, ..., T steps, shape (T + 1, ...)."""
    sums = jnp.cumsum(steps, axis=0)
    return jnp.concatenate([jnp.zeros((1, *sums.shape[1:]), sums.dtype), sums])
