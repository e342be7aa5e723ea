"""A root and its neighbourhood: whether it is isolated, and its digits.

A root counts as isolated if A = dF/dz - I is regular and changes by less than half its smallest
singular value over the distance to which the residual determines the root (the condition of Newton
and Kantorovich, checked along the weakest direction). At an m-fold root it fails at every distance,
since the relative change is at least (m - 1)/m.
"""

import jax
import jax.numpy as jnp

from rnndyn.core.jacobian import jacobian
from rnndyn.core.pytree import pytree
from rnndyn.maps import Map, evaluate
from rnndyn.points import dense

_REGULAR = 8  # multiple of d eps |J| below which a singular value counts as zero
_NOISE = 4  # multiple of eps max(1, |z|) to which F(z) - z is known
_CHORD = 24  # most Newton steps with one inverse


@pytree
class Local:
    """F(z) - z at a point and its derivative: what every test of this module starts from.

    Attributes
    ----------
    z, g : jax.Array, shape (d,)
        The point, and F(z) - z there.
    jacobian : jax.Array, shape (d, d)
        dF/dz.
    inverse, smallest
        Of A = dF/dz - I.
    finite : jax.Array, bool
        Whether g and the Jacobian are.
    noise : jax.Array
        To what g is known.
    """

    z: jax.Array
    g: jax.Array
    jacobian: jax.Array
    inverse: dense.Inverse
    smallest: dense.Smallest
    finite: jax.Array
    noise: jax.Array


def approach(
    map_: Map, z: jax.Array, movable: jax.Array
) -> tuple[jax.Array, jax.Array, Local, jax.Array]:
    """An isolated root near z, F(z) - z there, `Local` data next to it, and whether it is one.

    Newton steps with the inverse at z; and again, from the result cut to half its digits, which is
    one point for all starts of a root, so that its last bits do not depend on where they began.
    Where that point is no longer next to this one isolated root it is not used, and what counts is
    the first result and its own neighbourhood.
    """

    def advance(carry):
        i, z, g, _, _ = carry
        at = linearize(map_, jnp.where(i == 1, _half(z), z))
        isolated = at.finite & _isolated(map_, at)
        g = jnp.where(i == 1, g, at.g)
        end, left = _polish(map_, at)
        there = isolated & movable & (_length(end - z) <= reach(at, at.g))
        return i + 1, jnp.where(there, end, z), jnp.where(there, left, g), at, isolated

    def unfinished(carry):
        i, _, _, _, isolated = carry
        return (i == 0) | ((i == 1) & isolated & movable) | ((i == 2) & ~isolated)

    empty = jax.eval_shape(linearize, map_, z)
    empty = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), empty)
    return jax.lax.while_loop(unfinished, advance, (0, z, z, empty, jnp.asarray(False)))[1:]


def _half(z: jax.Array) -> jax.Array:
    """z to half its digits, in units of a power of two that its largest component sets."""
    size = jnp.maximum(1, jnp.max(jnp.abs(z), initial=0))
    unit = jnp.exp2(jnp.ceil(jnp.log2(size)) - jnp.finfo(z.dtype).nmant // 2)
    short = jnp.round(z / unit) * unit
    return jnp.where(short == 0, 0, short)  # and never -0


def singular(at: Local) -> jax.Array:
    """The level up to which a singular value of dF/dz - I counts as zero."""
    norm = jnp.maximum(1, jnp.max(jnp.sum(jnp.abs(at.jacobian), axis=1)))
    return _REGULAR * at.z.shape[0] * jnp.finfo(at.z.dtype).eps * norm


def linearize(map_: Map, z: jax.Array) -> Local:
    eye = jnp.eye(z.shape[0], dtype=z.dtype)
    image, matrix = jacobian(lambda z: evaluate(map_, z), z)
    g = image - z
    size, residual = jnp.max(jnp.abs(jnp.stack([z, g])), axis=1)
    finite = jnp.isfinite(residual) & jnp.isfinite(jnp.max(jnp.abs(matrix)))
    inverse = dense.inverse(jnp.where(finite, matrix - eye, eye))
    smallest = dense.smallest_singular(inverse.matrix)
    noise = _NOISE * jnp.finfo(z.dtype).eps * jnp.maximum(1, size)
    return Local(z, g, matrix, inverse, smallest, finite, noise)


def reach(at: Local, g: jax.Array) -> jax.Array:
    """How far the root may lie from where F(z) - z is g: twice the Newton step and the noise."""
    return 2 * (_length(at.inverse.matrix @ g) + at.noise / at.smallest.value)


def _isolated(map_: Map, at: Local) -> jax.Array:
    value, v = at.smallest.value, at.smallest.right
    regular = value > singular(at)

    ends = at.z[None] + reach(at, at.g) * jnp.stack([v, -v])
    there = jax.vmap(derivative, (None, 0, None))(map_, ends, v)
    change = jnp.linalg.norm(there - (at.jacobian @ v)[None], axis=1)
    return regular & jnp.all(change <= value / 2)


def _polish(map_: Map, at: Local) -> tuple[jax.Array, jax.Array]:
    """Newton steps with the one inverse, as long as they lower q: z, and F(z) - z there."""

    def advance(carry):
        i, z, g, _ = carry
        trial = z - at.inverse.matrix @ g
        h = evaluate(map_, trial) - trial
        better = jnp.dot(h, h) < jnp.dot(g, g)
        return i + 1, jnp.where(better, trial, z), jnp.where(better, h, g), better

    carry = (jnp.int32(0), at.z, at.g, jnp.asarray(True))
    busy = lambda carry: carry[3] & (carry[0] < _CHORD)  # noqa: E731
    return jax.lax.while_loop(busy, advance, carry)[1:3]


def _length(v: jax.Array) -> jax.Array:
    return jnp.sqrt(jnp.dot(v, v))


def derivative(map_: Map, z: jax.Array, v: jax.Array) -> jax.Array:
    return jax.jvp(lambda z: evaluate(map_, z), (z,), (v,))[1]
