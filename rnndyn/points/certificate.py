"""Proof that a fixed point exists near a point, and that it is the only one within a radius."""

from typing import Any

import jax
import jax.numpy as jnp

from rnndyn.core import intervals, validation
from rnndyn.core.intervals import Interval, UnboundedError
from rnndyn.core.pytree import pytree
from rnndyn.core.slopes import Slopes, slopes
from rnndyn.core.status import Status
from rnndyn.maps import Map, require_states
from rnndyn.points import dense
from rnndyn.points.shooting import closed

_TRIES = 6  # boxes for existence
_HALVINGS = 10  # of the logarithm of the radius of uniqueness
_REACH = 8.0  # the largest radius tried, in units of 1 + max |z|
_ROUNDS = 8  # of shrinking one box
_PROGRESS = 0.9  # a round that leaves every side longer than this is the last
_MARGIN = 1.001
_POWERS = 10  # of the matrix M, towards its Perron vector


@pytree
class Certificate:
    """What is proved of each of m points. Radii are in the maximum norm.

    Attributes
    ----------
    radius : jax.Array, shape (m,)
        A fixed point exists within this distance of z; NaN where none was proved.
    unique_radius : jax.Array, shape (m,)
        It is the only one within this distance of z; NaN where that was not proved.
    status : jax.Array, shape (m,), int
        0: both are proved. -6: not proved, since z is too far from a root for how much F bends
        there, or for rounding. -5: I - dF/dz may be singular however small the box: a fold, a
        continuum, a kink or a jump. -3: z or F(z) is NaN or infinite.
    """

    radius: jax.Array
    unique_radius: jax.Array
    status: jax.Array


def certificate(map_: Map, z: jax.Array) -> Certificate:
    """Prove that fixed points exist, and how far around each there is no other.

    Parameters
    ----------
    map_ : Map
        Made of sums, products, quotients, tanh, logistic, exp, sin, relu, abs and the like, in
        loops of fixed length. It is taken at its word: derivative rules of its own and
        `stop_gradient` are ignored. What its args alone determine counts as exact as it is
        computed; elementary functions count as right to 16 eps.
    z : jax.Array, shape (m, d) or (m, k, d)
        Such as `unique(fixed_points(map_, starts)).z`, or `cycles(...).points`: the k points of a
        cycle are one fixed point of the map of all k (`cycles`), and its radii are for all points.

    Returns
    -------
    Certificate

    Raises
    ------
    ValueError, TypeError
        If z is not real of one of the two shapes, or the map contains an operation without a rule
        (sort, a factorisation, a Fourier transform, complex numbers): the message names it.

    Notes
    -----
    For all x of a box X around c, F(x) - F(c) = L (u, w) with u = x - c and w = delta p,
    p = P (u, w), one w and one |delta| <= D for each operation that is not linear (`core.slopes`;
    every bound is rounded outwards). With the parts L_u, L_w, P_u, P_w, C about (I - L_u)^-1 and
    u = C v,

        F(x) - x = F(c) - c  <=>  v = E v + L_w w,     E = I - (I - L_u) C, of rounding's size,
        hence  p = N w,  |w| <= M |w|,                 N = P_u C L_w + P_w,  M = D |N|

    (E adds to M). So c is the only root in X if M y < y for one y > 0 (the spectral radius of M is
    less than one); y is sought by powers of M. Else the box is made smaller, as roots are in F(X)
    and |u| <= |C L_w| |w|, and that is tried again. A root exists within ||C|| s of z, s = max
    |F(z) - z + L_w w|, if that box lies in X (Brouwer), as in the theorem of Newton and
    Kantorovich; Krawczyk 1969 for boxes. c is any point of the box of the root.

    No proof of a `unique_radius` can exceed the distance to the next root. For one unit
    h = tanh(w h) and for the logistic map that is reached, and for trained networks a fifth of it
    (tanh, 16 units) or a tenth (GRU, 16); less with more units, as a box in the maximum norm has
    its corners far out. Found to 4 %; the largest tried is 8 (1 + max |z|). Cost: 16 to 86
    evaluations of slopes a point, each 2 d^3 + 10 K d (d + K) flops and 30 K (d + K) numbers, K
    the number of operations that are not linear (d for a tanh network, 6 d for a GRU), one point
    after another. The result is a constant for derivatives.

    Examples
    --------
    >>> import jax.numpy as jnp, rnndyn as rd
    >>> proved = rd.certificate(rd.maps.logistic(3.0), jnp.array([[2 / 3], [0.5]]))
    >>> proved.status.tolist(), bool(proved.radius[0] < 1e-6)
    ([0, -6], True)
    >>> bool(0.65 < proved.unique_radius[0] < 2 / 3)  # the other root is at zero
    True

    The cycle +-0.9575 of h = tanh(-2 h), whose next root is the fixed point 0.

    >>> starts = jnp.linspace(-1.0, 1.0, 64)[:, None]
    >>> cycle = rd.cycles(rd.maps.tanh_network([[-2.0]]), starts, period=2)
    >>> proved = rd.certificate(rd.maps.tanh_network([[-2.0]]), cycle.points)
    >>> bool(0.8 < proved.unique_radius[0] < 0.9575)
    True
    """
    z = jnp.asarray(z)
    shape = ("m", "k", "d") if z.ndim == 3 else ("m", "d")
    validation.require_shape("z", z, shape, "stack the points, or pass z[None] for one")
    validation.require_real("z", z)
    require_states("z", z, map_)
    if z.ndim == 3:
        map_, z = closed(map_, z.shape[1]), z.reshape(len(z), -1)
    try:
        return _certificate(map_, z)
    except UnboundedError as found:
        expected, advice = "a map of operations with bounds", "write that step in other operations"
        said = validation.sentence("map_", expected, f"the operation {found}", advice)
        raise ValueError(said) from None


@jax.jit
def _certificate(map_: Map, z: jax.Array) -> Certificate:
    map_, z = jax.tree.map(jax.lax.stop_gradient, (map_, z))
    return jax.lax.map(lambda point: _prove(map_, point), z)


def _prove(map_: Map, z: jax.Array) -> Certificate:
    """Boxes of growing size around z for existence, then of all sizes around the root's box."""
    eps = float(jnp.finfo(z.dtype).eps)
    scale = 1 + jnp.max(jnp.abs(z), initial=0)
    least, nan = 16 * eps * scale, jnp.full((), jnp.nan, z.dtype)

    def attempt(carry, existence):
        half, found, low, high, regular, unique = carry
        centre = jnp.where(existence, 0, found)
        side = jnp.where(existence, half, jnp.sqrt(low * high))
        rounds = jnp.where(existence, 1, _ROUNDS)
        alone, needed = _try_box(map_, z, side, centre, rounds)
        exists = existence & (needed <= half) & jnp.isfinite(needed) & jnp.isnan(found)
        found = jnp.where(exists, needed, found)
        half = 2 * jnp.where(jnp.isfinite(needed), jnp.maximum(half, needed), half)
        low = jnp.where(
            exists, jnp.maximum(needed, least), jnp.where(existence | ~alone, low, side)
        )
        high = jnp.where(existence | alone, high, side)
        unique = jnp.where(alone & ~existence, side, unique)
        return (half, found, low, high, regular | (alone & existence), unique), None

    no = jnp.array(False)
    start = (least, nan, nan, _REACH * scale, no, nan)
    phases = jnp.arange(_TRIES + _HALVINGS) < _TRIES
    (_, radius, _, _, regular, unique), _ = jax.lax.scan(attempt, start, phases)
    finite = jnp.all(jnp.isfinite(z)) & jnp.all(jnp.isfinite(map_(z)))
    proved = finite & ~jnp.isnan(unique)
    status = jnp.select(
        [~finite, proved, regular],
        [Status.NONFINITE, Status.CONVERGED, Status.UNPROVED],
        Status.SINGULAR,
    )
    return Certificate(
        jnp.where(finite, radius, nan), jnp.where(proved, unique, nan), status.astype(jnp.int32)
    )


def _try_box(
    map_: Map, z: jax.Array, side: jax.Array, centre: jax.Array, rounds: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Whether a root in z +- centre is the only one in z +- side, and where one is for sure.

    The second is a distance from z, to be trusted if centre is zero and it is at most side.
    """
    around = intervals.rounded(z - centre, z + centre)
    around = jax.tree.map(lambda end: jnp.where(centre > 0, end, z), around)

    def shrink(carry):
        sides, _, _, _, count = carry
        box = intervals.rounded(z - sides, z + sides)
        over = slopes(map_, box, around)
        alone, needed, change = _prove_of(over, z)
        within = intervals.magnitude(intervals.subtract(over.value, z))
        least = jnp.minimum(intervals.add(change, centre).high, within)
        least = jnp.where(least < sides, jnp.maximum(least, centre), sides)
        return least, alone, needed, jnp.any(least < _PROGRESS * sides), count + 1

    def unfinished(carry):
        _, alone, _, progress, count = carry
        return ~alone & progress & (count < rounds)

    start = (jnp.full_like(z, side), jnp.array(False), side, jnp.array(True), 0)
    _, alone, needed, _, _ = jax.lax.while_loop(unfinished, shrink, start)
    return alone, needed


def _prove_of(over: Slopes, z: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Whether M has a spectral radius below one, ||C|| s, and bounds of |u| of all roots."""
    eye = jnp.eye(z.size, dtype=z.dtype)
    form_u, form_w = _split(over.form, z.size)
    source_u, source_w = _split(over.source, z.size)
    gap = intervals.subtract(eye, form_u)
    rough = intervals.middle(gap)[0]
    inverse = dense.inverse(jnp.where(jnp.isfinite(rough), rough, 0)).matrix
    error = intervals.magnitude(intervals.subtract(eye, intervals.dot(gap, inverse)))
    error = _most(error, jnp.ones_like(z))
    sound = jnp.max(error, initial=0) <= 0.5
    through = intervals.dot(source_u, inverse)
    direct = intervals.magnitude(intervals.add(intervals.dot(through, form_w), source_w))
    stray = _most(intervals.magnitude(through), error)
    into, onto = intervals.magnitude(form_w), intervals.magnitude(intervals.dot(inverse, form_w))
    growth = _above(1 / (1 - jnp.max(error, initial=0)))

    def largest(w: jax.Array, more: Any = 0.0) -> jax.Array:
        """Of |v|, where |v| is at most more + |E| |v| + |L_w| w."""
        return _above(growth * _above(more + jnp.max(_most(into, w), initial=0)))

    def gain(w: jax.Array) -> jax.Array:
        """M w."""
        return _above(over.spread * _above(_most(direct, w) + _above(stray * largest(w))))

    def grow(_, y):
        image = gain(y)
        return 0.5 * (y + image / jnp.maximum(jnp.max(image, initial=0), jnp.finfo(z.dtype).tiny))

    vector = jax.lax.fori_loop(0, _POWERS, grow, jnp.ones_like(over.spread))
    vector = jax.lax.fori_loop(
        0, _POWERS // 2, lambda _, y: jnp.maximum(y, _MARGIN * gain(y)), vector
    )  # what only follows the others may have to be far larger
    alone = sound & jnp.all(gain(vector) < vector)
    bound = _above(over.spread * over.reach)
    off = jnp.max(intervals.magnitude(intervals.subtract(over.centre, z)), initial=0)
    norm = jnp.max(_most(jnp.abs(inverse), jnp.ones_like(z)), initial=0)
    needed = jnp.where(sound, _above(norm * largest(bound, off)), jnp.inf)
    bound = jax.lax.fori_loop(0, _POWERS, lambda _, w: jnp.minimum(w, gain(w)), bound)
    change = _most(onto, bound) + _most(jnp.abs(inverse), error) * largest(bound)
    return alone, needed, jnp.where(sound, _above(change), jnp.inf)


def _split(form: Interval, d: int) -> tuple[Interval, Interval]:
    """Columns of the coefficients of u and of w."""
    return jax.tree.map(lambda end: end[:d].T, form), jax.tree.map(lambda end: end[d:].T, form)


def _most(matrix: jax.Array, vector: jax.Array) -> jax.Array:
    """At least the product of a matrix and a vector that are not negative."""
    product = jnp.matmul(matrix, vector, precision=jax.lax.Precision.HIGHEST)
    return _above(product, vector.shape[0])


def _above(x: jax.Array, terms: int = 1) -> jax.Array:
    """At least what a sum of so many products x, none of them negative, is without rounding."""
    info = jnp.finfo(x.dtype)
    return x * (1 + (terms + 8) * float(info.eps)) + terms * float(info.tiny)
