"""Averages over normal variables, and the variance that reproduces itself.

Averages over a standard normal z are sums over 4000 midpoints of [-10, 10], two-dimensional ones
over 240^2 of [-7.2, 7.2]^2. For functions of a z that are analytic, as tanh is, midpoint sums are
exact up to exp(-pi^2/(a spacing)): to rounding for a < 50 and a < 4, and to 1e-4 for a < 200 and
a < 18. Gauss-Hermite nodes miss the narrow peak of phi' at high gain.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from rnndyn.cells.elman import ACTIVATIONS
from rnndyn.core import validation
from rnndyn.core.status import Status

Activation = str | Callable[[jax.Array], jax.Array]
FLOOR = 1e-20  # a variance below it is zero
ROUNDS = 100


def _midpoints(count: int, reach: float) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights; none at 0, where derivatives of rectifiers jump."""
    nodes = (np.arange(count) + 0.5) * (2 * reach / count) - reach
    weights = np.exp(-(nodes**2) / 2)
    return nodes, weights / weights.sum()


_LINE, _PLANE, _COARSE = _midpoints(4000, 10.0), _midpoints(240, 7.2), _midpoints(32, 5.5)


def normal_mean(function: Callable[[jax.Array], jax.Array], dtype: Any = None) -> jax.Array:
    """E f(z), z standard normal; `function` maps nodes (..., 4000) elementwise."""
    return node_mean(nodes(function, dtype))


def nodes(function: Callable[[jax.Array], jax.Array], dtype: Any = None) -> jax.Array:
    """f at the nodes of a standard normal, shape (4000,)."""
    return function(jnp.asarray(_LINE[0], dtype))


def node_mean(values: jax.Array) -> jax.Array:
    """The mean of values at the nodes."""
    return values @ jnp.asarray(_LINE[1], values.dtype)


def plane_mean(function: Callable[[jax.Array, jax.Array], jax.Array], dtype: Any) -> jax.Array:
    """E f(z1, z2) of two independent standard normals."""
    at, weights = (jnp.asarray(part, dtype) for part in _PLANE)
    return weights @ function(at[:, None], at[None, :]) @ weights


def coarse_nodes(dtype: Any) -> tuple[jax.Array, jax.Array]:
    """32 nodes and weights, for means over four normals: to 1e-4 for slopes a < 4."""
    return jnp.asarray(_COARSE[0], dtype), jnp.asarray(_COARSE[1], dtype)


def fixed_variance(received: Callable, start: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The largest q with q = received(q), by Newton from above; its derivative is implicit."""

    def newton(q):
        value, slope = jax.value_and_grad(received)(q)
        steep = jnp.abs(1 - slope) < jnp.finfo(q.dtype).eps
        moved = q + (value - q) / jnp.where(steep, 1, 1 - slope)
        return jnp.maximum(moved, FLOOR)

    def unfinished(carry):
        q, before, rounds = carry
        return (jnp.abs(q - before) > 2 * jnp.finfo(q.dtype).eps * q) & (rounds < ROUNDS)

    start = jax.lax.stop_gradient(start)
    frozen = jax.lax.while_loop(
        unfinished,
        lambda carry: (jax.lax.stop_gradient(newton(carry[0])), carry[0], carry[2] + 1),
        (start, jnp.full_like(start, jnp.inf), 0),
    )[0]
    frozen = jax.lax.stop_gradient(frozen)
    dead = frozen <= 2 * FLOOR
    residual = jnp.abs(received(frozen) - frozen)
    close = residual <= 64 * jnp.finfo(frozen.dtype).eps * frozen + 2 * FLOOR
    slope = jax.lax.stop_gradient(jax.grad(received)(frozen))
    steep = jnp.abs(1 - slope) < jnp.finfo(frozen.dtype).eps
    q = frozen + (received(frozen) - frozen) / jnp.where(steep, 1, 1 - slope)
    # of a linear map with slope above 1 zero is a fixed point that any activity leaves
    close = close & (slope <= 1 + jnp.sqrt(jnp.finfo(frozen.dtype).eps))
    status = jnp.where(close, jnp.int32(Status.CONVERGED), jnp.int32(Status.MAX_STEPS))
    return jnp.where(dead, jnp.zeros_like(q), q), status


def slope_of(phi: Callable) -> Callable:
    """phi' of an array of any shape."""
    return lambda a: jax.jvp(phi, (a,), (jnp.ones_like(a),))[1]


def function_of(activation: Activation) -> Callable:
    if callable(activation):
        return activation
    validation.require_choice("activation", activation, ACTIVATIONS, "or pass a function")
    return ACTIVATIONS[activation]


def nonnegative(**numbers: Any) -> list[Any]:
    """The scalars; raise on one below 0, and make it NaN where it is traced."""
    found = []
    for name, number in numbers.items():
        validation.require_shape(name, number, (), "pass one number and vmap over several")
        advice = "pass a standard deviation or a variance of the network's weights or input"
        validation.require_nonnegative(name, number, advice)
        (number,) = floats(number)
        traced = isinstance(number, Tracer)
        found.append(jnp.where(number < 0, jnp.nan, number) if traced else number)
    return found


def floats(*numbers: Any) -> list[Any]:
    """In the default floating dtype, on the host where they are not JAX's: nothing to compile."""
    own = lambda number: isinstance(number, jax.Array)  # noqa: E731
    return [(jnp if own(n) else np).asarray(n, jnp.result_type(float)) for n in numbers]
