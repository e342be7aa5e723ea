"""A root and its neighbourhood: whether it is isolated, and its digits.

A root counts as isolated if A = dF/dz - I is regular and changes by less than half its smallest
singular value over the distance to which the residual determines the root (the condition of Newton
and Kantorovich, checked along the weakest direction). At an m-fold root it fails at every distance,
since the relative change is at least (m - 1)/m.
"""

import jax
import jax.numpy as jnp

from rnndyn.core.pytree import pytree
from rnndyn.maps import Map, evaluate
from rnndyn.points import dense

_REGULAR = 8  # multiple of d eps |J| below which a singular value counts as zero
_NOISE = 4  # multiple of eps max(1, |z|) to which F(z) - z is known
_CHORD = 24  # most Newton steps with one inverse


@pytree
class Local:
    """F(z) - z at a point and its derivative: what every test of this module starts from."""

    z: jax.Array
    g: jax.Array
    jacobian: jax.Array
    noise: jax.Array
    inverse: dense.Inverse
    smallest: dense.Smallest


def approach(map_: Map, z: jax.Array, movable: jax.Array) -> tuple[jax.Array, Local, jax.Array]:
    """An isolated root near z by Newton's method, `Local` data next to it, and whether it is one.

    Newton steps with the inverse at z; again with the inverse at the result cut to half its
    digits, which is one point for all starts of a root, so that its last bits do not depend on
    where they began; and again with the inverse there. Where that point is no longer next to this
    one isolated root it is not used.
    """

    def advance(carry):
        i, z, _, _ = carry
        at = _linearize(map_, jnp.where(i == 1, _half(z), z))
        isolated = finite(at) & _isolated(map_, at)
        return i + 1, jnp.where(isolated & movable, _polish(map_, at, z), z), at, isolated

    def unfinished(carry):
        i, _, _, isolated = carry
        return (i < 3) & ((i != 1) | (isolated & movable))

    empty = jax.eval_shape(_linearize, map_, z)
    empty = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), empty)
    return jax.lax.while_loop(unfinished, advance, (0, z, empty, jnp.asarray(False)))[1:]


def _half(z: jax.Array) -> jax.Array:
    """z to half its digits, in units of a power of two that its largest component sets."""
    size = jnp.maximum(1, jnp.max(jnp.abs(z), initial=0))
    unit = jnp.exp2(jnp.ceil(jnp.log2(size)) - jnp.finfo(z.dtype).nmant // 2)
    short = jnp.round(z / unit) * unit
    return jnp.where(short == 0, 0, short)  # and never -0


def finite(at: Local) -> jax.Array:
    return jnp.all(jnp.isfinite(at.g)) & jnp.all(jnp.isfinite(at.jacobian))


def singular(at: Local) -> jax.Array:
    """The level up to which a singular value of dF/dz - I counts as zero."""
    norm = jnp.maximum(1, jnp.max(jnp.sum(jnp.abs(at.jacobian), axis=1)))
    return _REGULAR * at.z.shape[0] * jnp.finfo(at.z.dtype).eps * norm


def _linearize(map_: Map, z: jax.Array) -> Local:
    d = z.shape[0]
    eye = jnp.eye(d, dtype=z.dtype)
    jacobian = jax.jacfwd(evaluate, argnums=1)(map_, z)
    a = jacobian - eye
    inverse = dense.inverse(jnp.where(jnp.all(jnp.isfinite(a)), a, eye))
    scale = jnp.maximum(1, jnp.max(jnp.abs(z)))
    return Local(
        z=z,
        g=evaluate(map_, z) - z,
        jacobian=jacobian,
        noise=_NOISE * jnp.finfo(z.dtype).eps * scale,
        inverse=inverse,
        smallest=dense.smallest_singular(inverse.matrix),
    )


def reach(at: Local) -> jax.Array:
    """How far from z the root may lie: twice the Newton step and the error of the residual."""
    step = jnp.linalg.norm(at.inverse.matrix @ at.g)
    return 2 * (step + at.noise / at.smallest.value)


def _isolated(map_: Map, at: Local) -> jax.Array:
    value, v = at.smallest.value, at.smallest.right
    regular = value > singular(at)

    ends = at.z[None] + reach(at) * jnp.stack([v, -v])
    there = jax.vmap(derivative, (None, 0, None))(map_, ends, v)
    change = jnp.linalg.norm(there - (at.jacobian @ v)[None], axis=1)
    return regular & jnp.all(change <= value / 2)


def _polish(map_: Map, at: Local, near: jax.Array) -> jax.Array:
    """Newton steps with the one inverse, as long as they lower q; if they leave `near`, that."""

    def advance(carry):
        i, z, g, _ = carry
        trial = z - at.inverse.matrix @ g
        h = evaluate(map_, trial) - trial
        better = jnp.sum(h * h) < jnp.sum(g * g)
        return i + 1, jnp.where(better, trial, z), jnp.where(better, h, g), better

    carry = (jnp.int32(0), at.z, at.g, jnp.asarray(True))
    busy = lambda carry: carry[3] & (carry[0] < _CHORD)  # noqa: E731
    z = jax.lax.while_loop(busy, advance, carry)[1]
    return jnp.where(jnp.linalg.norm(z - near) <= reach(at), z, near)


def derivative(map_: Map, z: jax.Array, v: jax.Array) -> jax.Array:
    return jax.jvp(lambda z: evaluate(map_, z), (z,), (v,))[1]
