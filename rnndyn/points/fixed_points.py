"""Fixed points of a map from many starts, each row with its status and its kind."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from rnndyn.core import validation
from rnndyn.core.progress import Progress
from rnndyn.core.pytree import coded, pytree
from rnndyn.maps import Map, evaluate, require_states
from rnndyn.points import dense, fpf
from rnndyn.points.certify import Certified, Kind, certify, describe, minimise, undecided
from rnndyn.points.fpf import FixedPointFinderPoints
from rnndyn.points.solver import FEW, SLOW, Descent, begin, descend, relax

DEFAULT_TOL = 1000  # multiple of eps; the search always goes on to this where it can
INNER = 16  # inner iterations of a step before the last round
# The rounds before the last: whether to go back to the starts, how many steps of the map come
# first, the factor by which each must lower |F(z) - z|, and the residual to descend to.
ROUNDS = ((False, 3, 0.5, 1e-2), (False, 0, 0.0, 1e-4), (True, 10, 1.0, 1e-3))


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
        above by 12 inverse iterations (to rounding where the second smallest is twice as large).
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
    map_: Map,
    starts: jax.Array,
    *,
    tol: float | None = None,
    max_steps: int = 500,
    chunk: int | None = None,
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
    chunk : int, at least 1, optional
        How many starts are searched together, all by default. Then memory beside the rows is that
        of one chunk, one program serves any number of starts, and a search of more than two
        seconds says on stderr how long it still takes. Under transformations all go together.

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
    that closing gates do not pass for roots, and a float64 search runs in float32 where the map
    can (its args are cast; a rule with float64 constants of its own stays in float64). It stops at
    a residual of 1e-2, where the best point of all is polished by Newton steps in the dtype of the
    starts; if it proves to be an isolated root, all starts that one Newton step with its inverse
    brings four times nearer become that root too, bit for bit (see `points.certify`). What remains
    goes on to 1e-4; then once more from its start, after as many as ten steps of the map that lower
    |F(z) - z|; then on q itself in the dtype of the starts, until the residual is at most
    min(tol, 1000 eps), the best step is predicted to lower q by less than 8 eps q and does not, 16
    steps lower q by less than a factor of ten, or `max_steps` have been made; slow rows may end
    with Newton steps on the gradient of q. Cost: about 6 steps of up to 43 products with the
    Jacobian a start, 12 more on arrival, and for each distinct root d evaluations for the Jacobian
    and 8/3 d^3 for its inverse, twice. Memory O(n d + d^2). Outside of `jax.jit` and other
    transformations the rounds are driven from the host, and what no row needs is not compiled.

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
    if chunk is not None:
        chunk = validation.require_int("chunk", chunk, 1, "a few thousand starts fill a machine")
    require_states("starts", starts, map_)
    goal = jnp.asarray(min(tol, default), starts.dtype)
    given = (map_, starts, jnp.asarray(tol, starts.dtype), goal, max_steps)
    if any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(given)):
        now = _all_rounds(*jax.tree.map(jax.lax.stop_gradient, given))
        z = jax.vmap(_implicit, (None, 0, 0))(map_, now.table.z, now.table.kind == Kind.ROOT)
        return _result(map_, now.table, now.descent.steps, z)
    found = _found(*given) if chunk is None else _in_chunks(chunk, *given)
    return _result(map_, *found, found[0].z)


@pytree
class _Search:
    """What one round hands to the next; `left` is the number of pending rows.

    After the last round those are pending that are still to be told what they are.
    """

    descent: Descent
    table: Certified
    pending: jax.Array
    left: jax.Array


def _result(map_: Map, table: Certified, steps: jax.Array, z: jax.Array) -> FixedPoints:
    names = {field.name for field in dataclasses.fields(table)} - {"z"}
    columns = {name: getattr(table, name) for name in names}
    return FixedPoints(z=z, steps=steps, map_=map_, **columns)


def _found(map_: Map, starts: Any, *rules: Any) -> tuple[Certified, jax.Array]:
    now = _needed_rounds(map_, starts, *rules)
    return now.table, now.descent.steps


def _in_chunks(chunk: int, map_: Map, starts: Any, *rules: Any) -> tuple[Certified, jax.Array]:
    """Rows and steps, some starts at a time; the last chunk is filled up with copies."""
    given, n = np.asarray(starts), starts.shape[0]
    progress, parts = Progress("fixed_points", max(1, -(-n // chunk))), []
    try:
        for first in range(0, max(n, 1), chunk):
            end = min(first + chunk, n)
            rows = np.arange(first, end)
            padded = np.resize(rows, chunk) if n > chunk else rows
            found = _found(map_, jnp.asarray(given[padded]), *rules)
            parts.append(jax.tree.map(lambda a, own=end - first: np.asarray(a)[:own], found))
            progress.advance(f"{end} of {n} starts")
    finally:
        progress.close()
    return jax.tree.map(lambda *parts: jnp.asarray(np.concatenate(parts)), *parts)


def _needed_rounds(
    map_: Map, starts: jax.Array, tol: jax.Array, goal: jax.Array, max_steps: int
) -> _Search:
    """Until no row is left, driven from the host: what no row needs is not even compiled."""
    given, now = (map_, starts, goal, max_steps), _begin(map_, starts)
    for at in zip(*_schedule(starts), strict=True):
        now = _certified(map_, _round(*given, now, *at), max_steps, tol, final=False)
        if not int(now.left):
            return now
    now = _certified(map_, _rest(*given, now), max_steps, tol, final=True)
    return _described(map_, now) if int(now.left) else now


def _all_rounds(
    map_: Map, starts: jax.Array, tol: jax.Array, goal: jax.Array, max_steps: int
) -> _Search:
    """The same in one trace."""
    given, now = (map_, starts, goal, max_steps), _begin(map_, starts)

    def step(now, at):
        return _certified(map_, _round(*given, now, *at), max_steps, tol, final=False), None

    now = _rest(*given, jax.lax.scan(step, now, _schedule(starts))[0])
    return _described(map_, _certified(map_, now, max_steps, tol, final=True))


def _schedule(starts: jax.Array) -> list[np.ndarray]:
    kinds = (np.bool_, np.int32, starts.dtype, starts.dtype)
    return [np.array(list(column), kind) for column, kind in zip(zip(*ROUNDS), kinds)]  # noqa: B905


@jax.jit
def _begin(map_: Map, starts: jax.Array) -> _Search:
    descent = begin(starts.astype(_working_precision(map_, starts)))
    pending = jnp.ones(starts.shape[:1], bool)
    return _Search(descent, undecided(starts), pending, jnp.sum(pending))


def _working_precision(map_: Map, starts: jax.Array) -> Any:
    """float32 if the map can be evaluated in it, else the dtype of the starts."""
    if starts.dtype != jnp.float64:
        return starts.dtype
    row = jax.ShapeDtypeStruct(starts.shape[1:], jnp.float32)
    try:
        with np.errstate(over="raise", under="raise"):
            image = jax.eval_shape(evaluate, _cast(map_, jnp.float32), row)
    except (TypeError, ValueError, FloatingPointError):  # the rule has constants that do not fit
        return starts.dtype
    return image.dtype


def _cast(map_: Map, dtype: Any) -> Map:
    floating = lambda a: jnp.issubdtype(a.dtype, jnp.floating)  # noqa: E731
    return jax.tree.map(lambda a: a.astype(dtype) if floating(a) else a, map_)


@jax.jit
def _round(
    map_: Map,
    starts: jax.Array,
    goal: jax.Array,
    max_steps: jax.Array,
    now: _Search,
    again: jax.Array,
    most: jax.Array,
    factor: jax.Array,
    level: jax.Array,
) -> _Search:
    """One of ROUNDS; rows that the descent leaves where they are keep all their digits."""
    pending, steps, low = now.pending, now.descent.steps, now.descent.z.dtype
    cheap = _cast(map_, low)
    z = jnp.where(again & pending[:, None], starts, now.table.z)
    fresh = begin(z.astype(low))
    damping = jnp.where(again, fresh.damping, now.descent.damping)
    descent = dataclasses.replace(fresh, steps=steps, damping=damping)
    level = jnp.maximum(level, goal).astype(low)
    most = jnp.where(pending, jnp.minimum(most, max_steps - steps), 0)
    descent = relax(cheap, descent, most, factor.astype(low), level)
    inner = jnp.minimum(2 * starts.shape[1], INNER)
    descent = descend(cheap, descent, pending, level, max_steps, inner, jnp.asarray(True))
    moved = jnp.any(descent.z != fresh.z, axis=1, keepdims=True)
    return _descended(now, descent, jnp.where(moved, descent.z.astype(z.dtype), z))


@jax.jit
def _rest(
    map_: Map, starts: jax.Array, goal: jax.Array, max_steps: jax.Array, now: _Search
) -> _Search:
    """The last round, on q itself and in full precision."""
    descent = dataclasses.replace(begin(now.table.z), steps=now.descent.steps)
    inner = jnp.minimum(2 * starts.shape[1], 2 * INNER)
    scaled = jnp.asarray(False)
    descent = descend(map_, descent, now.pending, goal, max_steps, inner, scaled, lanes=FEW)
    slow = now.pending & (descent.status == SLOW) & (max_steps > 0)
    z, status = minimise(map_, descent.z, descent.status, slow)
    return _descended(now, dataclasses.replace(descent, status=status), z)


def _descended(now: _Search, descent: Descent, z: jax.Array) -> _Search:
    z = jnp.where(now.pending[:, None], z, now.table.z)
    status = jnp.where(now.pending, descent.status, now.table.status)
    table = dataclasses.replace(now.table, z=z, status=status)
    return dataclasses.replace(now, descent=descent, table=table)


def _certified(map_: Map, now: _Search, max_steps: Any, tol: jax.Array, *, final: Any) -> _Search:
    """Where a descent ended."""
    table, pending, left = certify(map_, now.table, now.pending, max_steps > 0, tol, final)
    return _Search(now.descent, table, pending, left)


def _described(map_: Map, now: _Search) -> _Search:
    """What rows are that proved to be no isolated roots."""
    table = describe(map_, now.table, now.pending)
    return dataclasses.replace(now, table=table, pending=jnp.zeros_like(now.pending))


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
