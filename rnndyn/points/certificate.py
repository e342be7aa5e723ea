"""Proof that a root exists near a point, and that it is the only one within a radius."""

import jax
import jax.numpy as jnp

from rnndyn.core import validation
from rnndyn.core.intervals import Interval, UnboundedError, bounds, written_out
from rnndyn.core.pytree import pytree
from rnndyn.core.status import Status
from rnndyn.maps import Map
from rnndyn.points import dense

_TRIES = 8  # radii for existence, each twice the last
_HALVINGS = 20  # of the logarithm of the radius of uniqueness
_REACH = 8.0  # the largest radius tried, in units of 1 + max |z|


@pytree
class Certificate:
    """What is proved of each of m points. Radii are in the maximum norm.

    Attributes
    ----------
    radius : jax.Array, shape (m,)
        A fixed point exists within this distance of z; NaN where none was proved.
    unique_radius : jax.Array, shape (m,)
        No two fixed points exist within this distance of z; NaN where that was proved of none.
    status : jax.Array, shape (m,), int
        0: a fixed point within `radius`, and no other within `unique_radius`. -1: nothing proved,
        since z is too far from a root or the box too small for rounding. -3: NaN or infinity. -5:
        I - dF/dz may be singular however small the box (a fold, a continuum, a kink).
    """

    radius: jax.Array
    unique_radius: jax.Array
    status: jax.Array


def certificate(map_: Map, z: jax.Array) -> Certificate:
    """Prove that fixed points exist, and how far around each there is no other.

    With G(x) = F(x) - x, a box X of radius r around z, and C about the inverse of DG(z): all fixed
    points in X lie in K(X) = z - C G(z) + (I - C DG(X)) (X - z), and if K(X) lies inside X there is
    exactly one (Krawczyk 1969; Moore 1977; Newton and Kantorovich's theorem with bounds in place of
    a Lipschitz constant). DG(X) is enclosed by interval arithmetic along the trace of the map's
    Jacobian, rounded outwards.

    Parameters
    ----------
    map_ : Map
        Made of sums, products, quotients, tanh, logistic, exp, sin, relu, abs and the like; where a
        box leaves a choice open (`jnp.where`) nothing is proved, as it may be a jump. What
        its args alone determine counts as exact as it is computed; elementary functions count as
        right to 16 eps.
    z : jax.Array, shape (m, d)
        Such as `unique(fixed_points(map_, starts)).z`.

    Returns
    -------
    Certificate
        `radius` is within a factor of two of the least that this proves. `unique_radius`, found by
        bisection, is a lower bound, and not a sharp one: a variable that stands several times in a
        formula counts as several (a tenth of the true radius for a trained network). Where the
        boxes of two points do not meet, they are different roots for certain. Cost: 30 Jacobians
        on intervals a point, each three to four times that of a Jacobian, and products O(d^3);
        memory O(d^2).

    Raises
    ------
    ValueError, TypeError
        If z is not real of shape (m, d), or the map contains an operation without a rule (a
        factorisation, a Fourier transform, a loop): the message names it.

    Examples
    --------
    >>> import jax.numpy as jnp, rnndyn as rd
    >>> proved = rd.certificate(rd.maps.logistic(3.0), jnp.array([[2 / 3], [0.5]]))
    >>> proved.status.tolist(), bool(proved.radius[0] < 1e-6)
    ([0, -1], True)
    >>> bool(0.3 < proved.unique_radius[0] < 1 / 3)
    True
    """
    z = jnp.asarray(z)
    validation.require_shape("z", z, ("m", "d"), "stack the points, or pass z[None] for one")
    validation.require_real("z", z)
    try:
        return _certificate(map_, z)
    except UnboundedError as found:
        expected, advice = "a map of operations with bounds", "write that step in other operations"
        said = validation.sentence("map_", expected, f"the operation {found}", advice)
        raise ValueError(said) from None


@jax.jit
def _certificate(map_: Map, z: jax.Array) -> Certificate:
    return Certificate(*jax.lax.map(lambda point: _prove(map_, point), z))


def _prove(map_: Map, z: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    eps = float(jnp.finfo(z.dtype).eps)
    slack = 1 + (2 * z.size + 8) * eps  # for the few sums below that are not rounded outwards
    eye = jnp.eye(z.size, dtype=z.dtype)
    image = written_out(map_)
    jacobian = jax.jacfwd(image)(z)
    finite = jnp.all(jnp.isfinite(jacobian)) & jnp.all(jnp.isfinite(z))
    inverse = dense.inverse(jnp.where(finite, jacobian, 0) - eye).matrix

    def step(x):
        return inverse @ (image(x) - x)

    def contraction(radius):
        """The largest row sum of |I - C DG| over the box."""
        box = Interval(z - radius, z + radius)
        rest = bounds(lambda x: eye - inverse @ (jax.jacfwd(image)(x) - eye), box)
        rows = jnp.sum(jnp.maximum(jnp.abs(rest.low), jnp.abs(rest.high)), axis=1)
        smooth = jnp.all(bounds(image, box, continuous=True).low > -jnp.inf)
        return jnp.where(smooth, slack * jnp.max(rows, initial=0), jnp.inf)

    moved = bounds(step, Interval(z, z))
    off = slack * jnp.max(jnp.maximum(jnp.abs(moved.low), jnp.abs(moved.high)), initial=0)
    scale = 1 + jnp.max(jnp.abs(z), initial=0)
    least = 16 * eps * scale
    first = jnp.maximum(2 * off, least)

    def exists(k, found):
        radius = first * jnp.exp2(k.astype(z.dtype))
        inside = off + contraction(radius) * radius < radius
        return jnp.where(jnp.isnan(found) & inside, radius, found)

    radius = jax.lax.fori_loop(0, _TRIES, exists, jnp.asarray(jnp.nan, z.dtype))
    regular = contraction(least) < 1

    def halve(_, ends):
        low, high = ends
        middle = jnp.sqrt(low * high)
        alone = contraction(middle) < 1
        return jnp.where(alone, middle, low), jnp.where(alone, high, middle)

    alone, _ = jax.lax.fori_loop(0, _HALVINGS, halve, (least, _REACH * scale))
    unique = jnp.where(regular, jnp.maximum(alone, jnp.nan_to_num(radius)), jnp.nan)
    status = jnp.select(
        [~finite, ~jnp.isnan(radius), regular],
        [Status.NONFINITE, Status.CONVERGED, Status.STATIONARY],
        Status.SINGULAR,
    )
    return radius, unique, status.astype(jnp.int32)
