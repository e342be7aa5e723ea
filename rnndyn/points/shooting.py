"""Multiple shooting: all k points of a cycle as one fixed point.

A point of a cycle is a fixed point of F^k, but one that rounding determines badly: F^k multiplies
errors by the largest multiplier, so already F^k(z) - z cannot be evaluated to better than that
times eps. The map (z_0, ..., z_{k-1}) -> (F(z_{k-1}), F(z_0), ..., F(z_{k-2})) of all points at
once has the cycle as a fixed point, no step of it applies F more than once, and
det(I - C) = det(I - DF^k) for its Jacobian C.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from rnndyn.core.pytree import specification
from rnndyn.maps import Map, evaluate
from rnndyn.points import dense


@specification
class Shooting:
    """The rule of the map of all points of a cycle, z of shape (period * d,)."""

    rule: Callable[[jax.Array, Any], jax.Array]
    period: int

    def __call__(self, z: jax.Array, args: Any) -> jax.Array:
        points = jnp.reshape(z, (self.period, -1))
        images = jax.vmap(self.rule, (0, None))(points, args)
        return jnp.ravel(jnp.roll(images, 1, axis=0))


def closed(map_: Map, period: int) -> Map:
    """The map whose fixed points are the cycles of this period, and of its divisors."""
    return map_ if period == 1 else Map(Shooting(map_.rule, period), map_.args)


@jax.custom_jvp
def settle(map_: Map, z: jax.Array) -> jax.Array:
    """A fixed point z, which depends on the map's args by the implicit function theorem."""
    del map_
    return z


@settle.defjvp
def _(primals: Any, tangents: Any) -> tuple[jax.Array, jax.Array]:
    map_, z = primals
    gap = map_.jacobian(z) - jnp.eye(z.shape[0], dtype=z.dtype)
    change = jax.jvp(lambda map_: evaluate(map_, z), (map_,), (tangents[0],))[1]
    return z, -dense.inverse(gap).matrix @ change
