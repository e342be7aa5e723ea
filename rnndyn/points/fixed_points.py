"""Fixed points of a map from many starts, each row with its status and its kind."""

from typing import Any

import jax
import jax.numpy as jnp

from rnndyn.core import validation
from rnndyn.core.pytree import pytree
from rnndyn.core.status import Status
from rnndyn.maps import Map
from rnndyn.points.certify import certify
from rnndyn.points.solver import descend, evaluate

DEFAULT_TOL = 1000  # multiple of eps; the search always goes on to this where it can


@pytree
class FixedPoints:
    """Where each start ended. Leading axis n: the starts, in the order given.

    Attributes
    ----------
    z : jax.Array, shape (n, d)
    residual : jax.Array, shape (n,)
        max |F(z) - z|, evaluated at the returned z in its dtype.
    speed : jax.Array, shape (n,)
        q = |F(z) - z|^2 / 2 (Sussillo & Barak 2013): a sum, not a mean.
    status : jax.Array, shape (n,), int
        0: residual at most `tol`. -1: no step lowers q any further. -2: the budget of steps ended.
        -3: NaN or infinity at the start or on the way.
    kind : jax.Array, shape (n,), int
        A `Kind`: ROOT 0, Q_MINIMUM 1, GHOST 2, DEGENERATE 3, NONE 4. Only status 0 can be a ROOT
        or DEGENERATE; trust no point as a fixed point whose kind is not ROOT.
    steps : jax.Array, shape (n,), int
        Steps tried; 0 where the residual of the start was small enough.
    sigma_min : jax.Array, shape (n,)
        Smallest singular value of dF/dz - I, which says how isolated the point is. Found from
        above by 12 inverse iterations (to rounding where the second smallest is twice as large),
        at the point before its last two Newton steps.
    index : jax.Array, shape (n,), int
        sign det(I - dF/dz) of a root, +1 or -1; 0 of all else. Over all fixed points of a
        bounded cell the indices sum to 1 (Brouwer).
    radius : jax.Array, shape (n,)
        Of a root, a distance within which it lies; of a degenerate point, how far the residual
        stays as small along its weakest direction. NaN of all else.
    passage : jax.Array, shape (n,)
        Of a ghost, the predicted number of steps that passing it takes; NaN of all else. A ghost
        is a fold away by a constant of length sqrt(2 speed) added to F, to second order.
    """

    z: jax.Array
    residual: jax.Array
    speed: jax.Array
    status: jax.Array
    kind: jax.Array
    steps: jax.Array
    sigma_min: jax.Array
    index: jax.Array
    radius: jax.Array
    passage: jax.Array


def fixed_points(
    map_: Map, starts: jax.Array, *, tol: float | None = None, max_steps: int = 500
) -> FixedPoints:
    """Search for a fixed point F(z) = z from each start.

    Parameters
    ----------
    map_ : Map
    starts : jax.Array, shape (n, d)
        n may be 0. Different args for each start (one input each, say): `jax.vmap` over both.
    tol : float, optional
        On the residual max |F(z) - z|, in the units of z; by default 1000 eps of the dtype
        (2e-13 in float64, 1e-4 in float32). A larger tol accepts more but is not faster.
    max_steps : int, at least 0
        Steps for each start; 0 only judges the starts as they are.

    Returns
    -------
    FixedPoints
        One row a start. Finding a point from some start says nothing about those not found:
        compare `unique(found).index_sum` and the hits.

    Raises
    ------
    ValueError, TypeError
        If starts are not real of shape (n, d), tol is not positive or the map changes the size
        or dtype of z.

    Notes
    -----
    Levenberg-Marquardt on q with matrix-free steps (see `points.solver`), which, unlike Newton's
    method, stays in the basin it starts in and reaches saddles as well as stable points. A start
    stops when its residual is at most min(tol, 1000 eps), when the best step is predicted to
    lower q by less than 8 eps q and does not, or after `max_steps`. Isolated roots then get two
    Newton steps with one inverse of dF/dz - I (Gauss-Jordan elimination), which also gives index
    and sigma_min. Cost: about 10 steps of 2 k evaluations a start, k <= 2 d inner iterations, then
    d evaluations for the Jacobian and 2 d^3 for its inverse: together about 4 d^3 where an
    evaluation is one product with a d x d matrix.

    `z` is differentiable with respect to `map_.args` by the implicit function theorem,
    dz = (I - J)^-1 dF; rows that are not ROOT are treated as constants, as are the other fields.

    Examples
    --------
    >>> import jax.numpy as jnp, rnndyn as rd
    >>> found = rd.fixed_points(rd.maps.logistic(2.0), jnp.array([[0.1], [0.7]]))
    >>> [f"{z:.3f}" for z in found.z[:, 0]], found.status.tolist(), found.index.tolist()
    (['0.000', '0.500'], [0, 0], [-1, 1])
    """
    starts = jnp.asarray(starts)
    advice = "pass one flat vector a row, starts[None] for a single one"
    validation.require_shape("starts", starts, ("n", "d"), advice)
    validation.require_real("starts", starts)
    default = DEFAULT_TOL * float(jnp.finfo(starts.dtype).eps)
    tol = default if tol is None else tol
    advice = f"pass for example {default:.0e}"
    validation.require_range("tol", tol, 0.0, float("inf"), advice, open_low=True, open_high=True)
    max_steps = validation.require_int("max_steps", max_steps, 0, "0 only judges the starts")
    _require_endomorphism(map_, starts)
    goal = jnp.asarray(min(tol, default), starts.dtype)
    return _fixed_points(map_, starts, jnp.asarray(tol, starts.dtype), goal, max_steps)


@jax.jit
def _fixed_points(
    map_: Map, starts: jax.Array, tol: jax.Array, goal: jax.Array, max_steps: jax.Array
) -> FixedPoints:
    frozen = jax.tree.map(jax.lax.stop_gradient, map_)
    ended = descend(frozen, jax.lax.stop_gradient(starts), goal, max_steps)
    at = certify(frozen, ended.z, ended.status, max_steps > 0, tol)
    status = jnp.where(at.residual <= tol, Status.CONVERGED, ended.status)
    return FixedPoints(
        z=jax.vmap(_implicit, (None, 0, 0))(map_, at.z, at.inverse),
        residual=at.residual,
        speed=at.speed,
        status=status.astype(jnp.int32),
        kind=at.kind,
        steps=ended.steps,
        sigma_min=at.sigma_min,
        index=at.index,
        radius=at.radius,
        passage=at.passage,
    )


@jax.custom_jvp
def _implicit(map_: Map, z: jax.Array, inverse: jax.Array) -> jax.Array:
    """z, which depends on map_ by G(z) = F(z) - z = 0; inverse = (dG/dz)^-1."""
    del map_, inverse
    return z


@_implicit.defjvp
def _(primals: Any, tangents: Any) -> tuple[jax.Array, jax.Array]:
    map_, z, inverse = primals
    change = jax.jvp(lambda map_: evaluate(map_, z), (map_,), (tangents[0],))[1]
    return z, -inverse @ change


def _require_endomorphism(map_: Map, starts: jax.Array) -> None:
    """Raise unless the map sends a row of starts to a vector of the same shape and dtype."""
    row = jax.ShapeDtypeStruct(starts.shape[1:], starts.dtype)
    image = jax.eval_shape(evaluate, map_, row)
    advice = "starts must be flat states of this map (rd.flatten, rd.sample_states)"
    validation.require_shape("F(z)", image, row.shape, advice)
    validation.require_same_dtype("starts", starts, "F(z)", image.dtype)
