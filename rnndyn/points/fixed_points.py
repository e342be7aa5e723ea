"""Fixed points of a map from many starts, each row with its status and its kind."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from rnndyn.core import validation
from rnndyn.core.pytree import coded, pytree
from rnndyn.maps import Map
from rnndyn.points import dense, fpf
from rnndyn.points.certify import Kind, certify, undecided
from rnndyn.points.fpf import FixedPointFinderPoints
from rnndyn.points.solver import begin, descend, evaluate, relax

DEFAULT_TOL = 1000  # multiple of eps; the search always goes on to this where it can
ROUNDS = (1e-2, 1e-4, 0.0)  # residuals at which roots are looked for; 0: all that is left
INNER = 16  # inner iterations of a step before the last round


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
        Steps tried, those of the map itself included; 0 where the residual of the start was
        small enough.
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
    nullity : jax.Array, shape (n,), int
        Of a degenerate point, how many singular values of dF/dz - I are 0 to rounding, or as
        small as the smallest where that is below sqrt(eps): the
        dimension of the continuum (1 a line or ring, 2 a plane) where it lies on one. 0 of all
        else.
    map_ : Map
        The map that was searched: the one field without the leading axis, so that some of the rows
        are `found.rows(index)`.
    """

    z: jax.Array
    residual: jax.Array
    speed: jax.Array
    status: jax.Array
    kind: jax.Array = coded(Kind)
    steps: jax.Array
    sigma_min: jax.Array
    index: jax.Array
    radius: jax.Array
    passage: jax.Array
    nullity: jax.Array
    map_: Map | None = None

    def rows(self, index: Any) -> "FixedPoints":
        """Those rows, a mask or indices, in that order."""
        table = jax.tree.map(lambda leaf: leaf[index], dataclasses.replace(self, map_=None))
        return dataclasses.replace(table, map_=self.map_)

    def to_fpf(
        self, *, starts: jax.Array | None = None, cond_id: int = 0, tol_unique: float = 1e-3
    ) -> FixedPointFinderPoints:
        """The rows under the field names of FixedPointFinder, whatever their kind.

        Parameters
        ----------
        starts : jax.Array, shape (n, d), optional
            Becomes `x_init`.
        cond_id : int
            Which input this is, where the points of several are put together.
        tol_unique : float
            Recorded, not used.

        Returns
        -------
        FixedPointFinderPoints
            Of a held cell, `inputs` and `dFdu` are filled too. Cost: one Jacobian and one
            eigenvalue problem a row.

        Raises
        ------
        ValueError
            If the search was vmapped and this is still the whole batch.

        Examples
        --------
        >>> import jax.numpy as jnp, rnndyn as rd
        >>> found = rd.fixed_points(rd.maps.logistic(2.0), jnp.array([[0.1], [0.7]]))
        >>> fps = found.to_fpf()
        >>> fps.xstar.ravel().round(6).tolist(), fps.is_stable.tolist()
        ([0.0, 0.5], [False, True])
        """
        return fpf.from_points(self, starts, cond_id, tol_unique)


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
    Up to three steps of the map itself, as long as each halves |F(z) - z|, and then
    Levenberg-Marquardt with matrix-free steps (see `points.solver`), which, unlike Newton's
    method, stays in the basin it starts in and reaches saddles as well as stable points. Until the
    last round the components of F(z) - z are divided by the lengths of the rows of dF/dz - I, so
    that closing gates do not pass for roots; the last round lowers q itself. It stops at a
    residual of 1e-2, where the best point of all is polished by Newton steps; if it proves to
    be an isolated root, all starts that one Newton step with its inverse brings four times nearer
    end there too (see `points.certify`). What remains goes on to 1e-4, and then until the residual
    is at most min(tol, 1000 eps), the best step is predicted to lower q by less than 8 eps q and
    does not, 16 steps lower q by less than a factor of ten, or `max_steps` have been made; slow
    rows may end with Newton steps on the gradient of q. Cost: about 6 steps of up to 40 products
    with the Jacobian a start, 12 more on arrival, and for each distinct root d evaluations for the
    Jacobian and 2 d^3 for its inverse, twice. Memory O(n d + d^2).

    `z` is differentiable with respect to `map_.args` to any order by the implicit function
    theorem, dz = (I - J)^-1 dF; rows that are not ROOT are treated as constants, as are the other
    fields. That takes one Jacobian and one inverse a row, in memory O(n d^2).

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
    found = _fixed_points(map_, starts, jnp.asarray(tol, starts.dtype), goal, max_steps)
    return dataclasses.replace(found, map_=map_)


@jax.jit
def _fixed_points(
    map_: Map, starts: jax.Array, tol: jax.Array, goal: jax.Array, max_steps: jax.Array
) -> FixedPoints:
    frozen = jax.tree.map(jax.lax.stop_gradient, map_)
    starts = jax.lax.stop_gradient(starts)
    n, d = starts.shape
    goals = jnp.maximum(jnp.asarray(ROUNDS, starts.dtype), goal).at[-1].set(goal)
    inner = jnp.minimum(2 * d, jnp.asarray([INNER] * (len(ROUNDS) - 1) + [2 * INNER]))
    last = jnp.arange(len(ROUNDS)) == len(ROUNDS) - 1

    def search(carry, at):
        descent, table, pending = carry
        level, inner, last = at
        descent = descend(frozen, descent, pending, level, max_steps, inner, ~last)
        z = jnp.where(pending[:, None], descent.z, table.z)
        status = jnp.where(pending, descent.status, table.status)
        table = dataclasses.replace(table, z=z, status=status)
        table, pending = certify(frozen, table, pending, max_steps > 0, last, tol)
        return (descent, table, pending), None

    descent = relax(frozen, begin(starts), goal, max_steps)
    carry = (descent, undecided(starts), jnp.ones((n,), bool))
    (descent, table, _), _ = jax.lax.scan(search, carry, (goals, inner, last))
    return FixedPoints(
        z=jax.vmap(_implicit, (None, 0, 0))(map_, table.z, table.kind == Kind.ROOT),
        residual=table.residual,
        speed=table.speed,
        status=table.status,
        kind=table.kind,
        steps=descent.steps,
        sigma_min=table.sigma_min,
        index=table.index,
        radius=table.radius,
        passage=table.passage,
        nullity=table.nullity,
    )


@jax.custom_jvp
def _implicit(map_: Map, z: jax.Array, root: jax.Array) -> jax.Array:
    """z, which depends on map_ by F(z) - z = 0 where it is a root, and not otherwise."""
    del map_, root
    return z


@_implicit.defjvp
def _(primals: Any, tangents: Any) -> tuple[jax.Array, jax.Array]:
    map_, z, root = primals
    z = _implicit(map_, z, root)
    change = jax.jvp(lambda map_: evaluate(map_, z), (map_,), (tangents[0],))[1]

    def defect(v):
        moved = jax.jvp(lambda z: evaluate(map_, z), (z,), (v,))[1] - v
        return jnp.where(root, moved, v)

    def solve(matvec, b):
        columns = jax.vmap(matvec, 1, 1)(jnp.eye(z.size, dtype=z.dtype))
        return dense.inverse(columns).matrix @ b

    right = jnp.where(root, -change, 0)
    return z, jax.lax.custom_linear_solve(defect, right, solve, transpose_solve=solve)


def _require_endomorphism(map_: Map, starts: jax.Array) -> None:
    """Raise unless the map sends a row of starts to a vector of the same shape and dtype."""
    row = jax.ShapeDtypeStruct(starts.shape[1:], starts.dtype)
    image = jax.eval_shape(evaluate, map_, row)
    advice = "starts must be flat states of this map (rd.flatten, rd.sample_states)"
    validation.require_shape("F(z)", image, row.shape, advice)
    validation.require_same_dtype("starts", starts, "F(z)", image.dtype)
