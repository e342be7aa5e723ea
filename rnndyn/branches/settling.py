"""The compiled part of basins: a batch of states iterated until each has settled or left."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from rnndyn.core.pytree import pytree
from rnndyn.maps import Map

WINDOW = 1024  # steps over which the exponent is measured
TAIL = 16  # least number of states kept of the end of each row
CLOUD = 4096  # points of an orbit that stand for an aperiodic attractor


@pytree
class Settled:
    """Where each start ended. Leading axis n.

    Attributes
    ----------
    z : jax.Array, shape (n, d)
        Of a cycle the point lowest along a generic direction; 0 of what left.
    period : jax.Array, shape (n,), int
        0 where the state did not return.
    steps : jax.Array, shape (n,), int
    left : jax.Array, shape (n,), bool
        NaN or out of bounds.
    exponent : jax.Array, shape (n,)
        Leading exponent over the next `WINDOW` steps.
    drifting : jax.Array, shape (n,), bool
        Whether its two halves do not overlap in some coordinate.
    tail : jax.Array, shape (n, k, d)
        The states that follow.
    """

    z: jax.Array
    period: jax.Array
    steps: jax.Array
    left: jax.Array
    exponent: jax.Array
    drifting: jax.Array
    tail: jax.Array


@jax.jit(static_argnames="max_period")
def settle(
    map_: Map,
    starts: jax.Array,
    tol: jax.Array,
    bound: jax.Array,
    max_steps: Any,
    *,
    max_period: int,
) -> Settled:
    """Iterate every start until it returns to itself within max_period steps, or leaves.

    tol and bound as in `basins`. What is done stays as it is while the others go on.
    """
    advance = jax.vmap(map_)
    zero = jnp.zeros(starts.shape[0], jnp.int32)
    carry = (starts, zero, _outside(starts, bound), zero, jnp.asarray(0))
    z, period, left, steps, _ = jax.lax.while_loop(
        lambda carry: (carry[4] < max_steps) & jnp.any((carry[1] == 0) & ~carry[2]),
        lambda carry: _further(advance, carry, tol, bound, max_period),
        carry,
    )
    safe = jnp.where(left[:, None], 0, z)
    exponent, drifting, tail = _watch(advance, safe, max(TAIL, max_period))
    lost = left | (~jnp.all(jnp.isfinite(tail), axis=(1, 2)) & (period == 0))
    return Settled(
        _first_of_cycle(advance, safe, period, max_period),
        period,
        steps,
        lost,
        exponent,
        drifting,
        tail,
    )


def _further(advance: Callable, carry: Any, tol: jax.Array, bound: jax.Array, max_period: int):
    """max_period further steps; a row that is done stays as it is."""
    z, period, left, steps, count = carry
    busy = (period == 0) & ~left

    def step(i, inner):
        now, found, lost, nearest = inner
        now = advance(now)
        far = _size(now - z) / jnp.maximum(1, _size(z))
        # Near a fixed point with multiplier -1 + e the second return is the closer one.
        back = (far <= tol) & (nearest > jnp.sqrt(tol))
        found = jnp.where(back & (found == 0), i + 1, found)
        lost |= _outside(now, bound)
        # What is lost must not go on to NaN, whose arithmetic is slow.
        return jnp.where(lost[:, None], z, now), found, lost, jnp.minimum(nearest, far)

    never = jnp.full_like(z[:, 0], jnp.inf)
    now, found, lost, _ = jax.lax.fori_loop(0, max_period, step, (z, period, left, never))
    moved = busy & ~lost & (found == 0)
    return (
        jnp.where(moved[:, None], now, z),
        jnp.where(busy & ~lost, found, period),
        left | lost,
        steps + max_period * busy.astype(steps.dtype),
        count + max_period,
    )


def _outside(z: jax.Array, bound: jax.Array) -> jax.Array:
    return ~(_size(z) <= bound)  # NaN is outside


def _watch(advance: Callable, z: jax.Array, tail: int) -> tuple[jax.Array, ...]:
    """Leading exponent over the window, whether the orbit drifts, and its last states."""
    d = z.shape[1]
    first = jnp.cos(1 + jnp.arange(d, dtype=z.dtype))
    first = jnp.broadcast_to(first / jnp.linalg.norm(first), z.shape)

    def step(carry, i):
        z, v, growth, low, high = carry
        z, v = jax.jvp(advance, (z,), (v,))
        norm = jnp.linalg.norm(v, axis=1, keepdims=True)
        alive = norm > 0
        v = jnp.where(alive, v / jnp.where(alive, norm, 1), first)
        half = jax.nn.one_hot(i // (WINDOW // 2), 2, dtype=bool)[:, None, None]
        low = jnp.where(half, jnp.minimum(low, z[None]), low)
        high = jnp.where(half, jnp.maximum(high, z[None]), high)
        return (z, v, growth + jnp.log(norm[:, 0]), low, high), None

    infinite = jnp.full((2, *z.shape), jnp.inf, z.dtype)
    carry = (z, first, jnp.zeros_like(z[:, 0]), infinite, -infinite)
    (z, _, growth, low, high), _ = jax.lax.scan(step, carry, jnp.arange(WINDOW))
    apart = (low[0] > high[1]) | (low[1] > high[0])
    _, last = jax.lax.scan(lambda z, _: (advance(z),) * 2, z, length=tail)
    return growth / WINDOW, jnp.any(apart, axis=1), jnp.swapaxes(last, 0, 1)


def _first_of_cycle(advance: Callable, z: jax.Array, period: jax.Array, longest: int) -> jax.Array:
    """Of the points of each cycle the one that is lowest along a generic direction."""
    toward = jnp.cos(1 + jnp.arange(z.shape[1], dtype=z.dtype))

    def step(i, carry):
        now, best, level = carry
        now = advance(now)
        lower = (now @ toward < level) & (i + 1 < period)
        return now, jnp.where(lower[:, None], now, best), jnp.where(lower, now @ toward, level)

    return jax.lax.fori_loop(0, longest - 1, step, (z, z, z @ toward))[1]


def _size(z: jax.Array) -> jax.Array:
    return jnp.max(jnp.abs(z), axis=1)


@jax.jit
def cloud(map_: Map, z: jax.Array) -> jax.Array:
    """The next `CLOUD` states."""

    def step(z, _):
        z = map_(z)
        return z, z

    return jax.lax.scan(step, z, length=CLOUD)[1]
