"""What a point is where the descent ended: an isolated root, a degenerate one, a ghost, or nothing.

A residual alone proves little: where gates saturate |F(z) - z| rounds to zero far from any fixed
point. A root counts as isolated if A = dF/dz - I is regular and changes by less than half its
smallest singular value over the distance to which the residual determines the root (the condition
of Newton and Kantorovich, checked along the weakest direction). At an m-fold root it fails
at every distance, since the relative change is at least (m - 1)/m.
"""

import enum

import jax
import jax.numpy as jnp

from rnndyn.core.pytree import pytree
from rnndyn.core.status import Status
from rnndyn.maps import Map
from rnndyn.points import dense
from rnndyn.points.solver import evaluate

_REGULAR = 8  # multiple of d eps |J| below which a singular value counts as zero
_NOISE = 4  # multiple of eps max(1, |z|) to which F(z) - z is known
_PLATEAU = 64.0  # a degenerate root reaches as far as the residual stays below this multiple
_BLOCK = 2**20  # bytes of Jacobians eliminated together, which should fit a cache


class Kind(enum.IntEnum):
    """What a point is.

    ROOT (0) : an isolated fixed point; its index is the sign of det(I - J).
    Q_MINIMUM (1) : a local minimum of the speed q that is not a fixed point.
    GHOST (2) : such a minimum that a fold left behind: to second order F(z) - z along the null
        direction is a parabola that misses zero.
    DEGENERATE (3) : the residual is at most `tol`, but no isolated root is determined by it: a
        multiple root, a point of a continuum, a saturated region, or a kink of F.
    NONE (4) : none of these (budget ended, NaN, a maximum or saddle of q).
    """

    ROOT = 0
    Q_MINIMUM = 1
    GHOST = 2
    DEGENERATE = 3
    NONE = 4


@pytree
class Certified:
    """A point and what it is; one row each.

    z (n, d), residual, speed, kind, sigma_min, index, radius, passage: as in `FixedPoints`.
    inverse (n, d, d): (dF/dz - I)^-1 where the point is a root, else zero.
    """

    z: jax.Array
    residual: jax.Array
    speed: jax.Array
    kind: jax.Array
    sigma_min: jax.Array
    index: jax.Array
    radius: jax.Array
    passage: jax.Array
    inverse: jax.Array


@pytree
class _Local:
    """F(z) - z at a point and its derivative: what every test of this module starts from."""

    z: jax.Array
    g: jax.Array
    jacobian: jax.Array
    noise: jax.Array
    inverse: dense.Inverse
    smallest: dense.Smallest


def certify(map_: Map, z: jax.Array, status: jax.Array, movable: jax.Array, tol: jax.Array):
    """Polish roots by Newton steps and say what each point is.

    Parameters
    ----------
    map_ : Map
    z : jax.Array, shape (n, d)
    status : jax.Array, shape (n,)
        How the descent ended.
    movable : jax.Array, scalar, bool
        Whether points may be polished.
    tol : jax.Array, scalar

    Returns
    -------
    Certified
        Cost: one Jacobian (d evaluations) and one inverse (2 d^3) a row.
    """
    n, d = z.shape
    block = max(1, _BLOCK // max(1, d * d * z.dtype.itemsize))

    def one(row):
        z, status = row
        return _certify(map_, z, status, movable, tol)

    rows = (z, status)
    return jax.vmap(one)(rows) if n <= block else jax.lax.map(one, rows, batch_size=block)


def _certify(map_, z, status, movable, tol) -> Certified:
    at = _local(map_, z)
    finite = jnp.all(jnp.isfinite(at.g)) & jnp.all(jnp.isfinite(at.jacobian))
    isolated = finite & _isolated(map_, at)
    polished = jnp.where(isolated & movable, _polish(map_, at), z)
    g = evaluate(map_, polished) - polished
    residual = jnp.max(jnp.abs(g), initial=0)
    minimum, ghost, passage = _ghost(map_, at)
    kind = jnp.where(minimum, jnp.where(ghost, Kind.GHOST, Kind.Q_MINIMUM), Kind.NONE)
    kind = jnp.where(finite & (status == Status.STATIONARY), kind, Kind.NONE)
    found = jnp.where(isolated, Kind.ROOT, Kind.DEGENERATE)
    kind = jnp.where(finite & (residual <= tol), found, kind).astype(jnp.int32)
    root, degenerate = kind == Kind.ROOT, kind == Kind.DEGENERATE
    even = 1 if z.shape[0] % 2 == 0 else -1
    return Certified(
        z=polished,
        residual=residual,
        speed=0.5 * jnp.sum(g * g),
        kind=kind,
        sigma_min=jnp.where(finite, at.smallest.value, jnp.nan),
        index=jnp.where(root, even * at.inverse.sign, 0).astype(jnp.int32),
        radius=jnp.where(root, _reach(at), jnp.where(degenerate, _plateau(map_, at), jnp.nan)),
        passage=jnp.where(kind == Kind.GHOST, passage, jnp.nan),
        inverse=jnp.where(root, at.inverse.matrix, 0),
    )


def _local(map_: Map, z: jax.Array) -> _Local:
    d = z.shape[0]
    eye = jnp.eye(d, dtype=z.dtype)
    jacobian = jax.jacfwd(evaluate, argnums=1)(map_, z)
    a = jacobian - eye
    inverse = dense.inverse(jnp.where(jnp.all(jnp.isfinite(a)), a, eye))
    scale = jnp.maximum(1, jnp.max(jnp.abs(z)))
    return _Local(
        z=z,
        g=evaluate(map_, z) - z,
        jacobian=jacobian,
        noise=_NOISE * jnp.finfo(z.dtype).eps * scale,
        inverse=inverse,
        smallest=dense.smallest_singular(inverse.matrix),
    )


def _reach(at: _Local) -> jax.Array:
    """How far from z the root may lie: twice the Newton step and the error of the residual."""
    step = jnp.linalg.norm(at.inverse.matrix @ at.g)
    return 2 * (step + at.noise / at.smallest.value)


def _isolated(map_: Map, at: _Local) -> jax.Array:
    d = at.z.shape[0]
    value, v = at.smallest.value, at.smallest.right
    norm = jnp.maximum(1, jnp.max(jnp.sum(jnp.abs(at.jacobian), axis=1)))
    regular = value > _REGULAR * d * jnp.finfo(at.z.dtype).eps * norm

    def change(distance):
        there = at.z + distance * v
        return jnp.linalg.norm(_derivative(map_, there, v) - at.jacobian @ v)

    reach = _reach(at)
    return regular & (change(reach) <= value / 2) & (change(-reach) <= value / 2)


def _polish(map_: Map, at: _Local) -> jax.Array:
    """Two Newton steps with the one Jacobian, each kept only if it lowers q."""
    z, g = at.z, at.g
    for _ in range(2):
        trial = z - at.inverse.matrix @ g
        h = evaluate(map_, trial) - trial
        better = jnp.sum(h * h) < jnp.sum(g * g)
        z, g = jnp.where(better, trial, z), jnp.where(better, h, g)
    return z


def _plateau(map_: Map, at: _Local) -> jax.Array:
    """The largest distance, by powers of two up to max(1, |z|), to which the residual stays small.

    Measured along the weakest direction, on the side where it reaches further, against 64 times
    the larger of the residual and its rounding error: far enough to reach a root of multiplicity
    up to four.
    """
    level = _PLATEAU * jnp.maximum(jnp.max(jnp.abs(at.g)), at.noise)
    distances = jnp.maximum(1, jnp.max(jnp.abs(at.z))) * 0.5 ** jnp.arange(40, dtype=at.z.dtype)

    def small(distance):
        ends = at.z + distance * at.smallest.right, at.z - distance * at.smallest.right
        sizes = [jnp.max(jnp.abs(evaluate(map_, end) - end)) for end in ends]
        return jnp.minimum(*sizes) <= level

    return jnp.max(jnp.where(jax.lax.map(small, distances), distances, 0))


def _ghost(map_: Map, at: _Local) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Whether q has a minimum here, whether it is a ghost, and the steps that passing it takes.

    At a stationary point of q the residual g is a left null vector u of A. Along the right null
    vector v it is |g| + a t^2 / 2, a = <u, D^2 F(v, v)>: q has a minimum if a >= 0, and a ghost
    if the parabola holds as far as it doubles |g|. Then t grows by (|g| + a t^2 / 2) / <u, v> a
    step, which takes pi <u, v> sqrt(2 / (|g| a)) steps from end to end (Strogatz 1994, sec. 4.3).
    """
    v = at.smallest.right
    size = jnp.linalg.norm(at.g)
    u = at.g / jnp.where(size > 0, size, 1)
    bend = jnp.dot(u, jax.jvp(lambda z: _derivative(map_, z, v), (at.z,), (v,))[1])
    eps = jnp.finfo(at.z.dtype).eps
    width = jnp.sqrt(2 * size / jnp.maximum(bend, eps))

    def height(t):
        there = at.z + t * v
        return jnp.dot(u, evaluate(map_, there) - there) / size

    fits = (abs(height(width) - 2) < 0.5) & (abs(height(-width) - 2) < 0.5)
    bent = bend > jnp.sqrt(eps) * size
    passage = jnp.pi * jnp.abs(jnp.dot(u, v)) * jnp.sqrt(2 / (size * jnp.maximum(bend, eps)))
    return bend >= -jnp.sqrt(eps), bent & fits, passage


def _derivative(map_: Map, z: jax.Array, v: jax.Array) -> jax.Array:
    return jax.jvp(lambda z: evaluate(map_, z), (z,), (v,))[1]
