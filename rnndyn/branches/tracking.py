"""Fixed points along training: followed from checkpoint to checkpoint, and what happens between.

Between two checkpoints the weights move on the straight line (1 - s) theta_k + s theta_{k+1}. The
fixed points over it are curves that begin and end at the two checkpoints: a curve from one to the
other is a point that stays, a curve that returns is a pair that a fold or a branch point makes or
ends. Every known point is followed into both its neighbouring segments, so each curve is walked
once and its far end is matched with the points known there.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rnndyn.branches import lineage, states
from rnndyn.branches.branch import Branch
from rnndyn.branches.continuation import continuation, lengths
from rnndyn.branches.events import Event
from rnndyn.core import validation
from rnndyn.core.pytree import pytree, specification, static
from rnndyn.maps import Map
from rnndyn.points.fixed_points import fixed_points
from rnndyn.points.unique import unique

FINER = 8  # by how much steps shrink where two curves seem to end at one point


@pytree
class TrackEvent:
    """Something that happens to fixed points between two checkpoints.

    Attributes
    ----------
    kind : str, static
        Of a bifurcation the kind of `Event` ("fold", "branch_point", "flip", "neimark_sacker",
        ...); "vanished" or "appeared" if a point could not be followed on, or back.
    points : tuple of int, static
        The tracked points (columns of `Track`) that meet in it.
    change : int, static
        How many fixed points there are after it minus before: 2 or -2 at a fold, non-smooth or
        not, and at a pitchfork, 0 at a transcritical point, a flip or a Neimark-Sacker
        bifurcation, 1 or -1 of "appeared" and "vanished". Between two checkpoints the changes add
        up to the difference of their numbers of points.
    reason : str, static
        Why a point could not be followed: a key of `describe_stop`, or "conflict" where two
        curves end at one point even with finer steps. "" of a bifurcation.
    place : jax.Array
        k + s: between checkpoint k and k + 1 at the fraction s of the straight line.
    z : jax.Array, shape (d,)
    status : jax.Array, int
        0: located to rounding. -2: seen but not located. Of "vanished" and "appeared" the status
        of the branch.
    bifurcation : Event or None
        With coefficient, criticality, angle and residual; its `parameter` is s.
    """

    kind: str = static()
    points: tuple[int, ...] = static()
    change: int = static()
    reason: str = static()
    place: jax.Array
    z: jax.Array
    status: jax.Array
    bifurcation: Event | None


@pytree
class Track:
    """Fixed points along K checkpoints. Leading axes (K, m): checkpoints, tracked points.

    Attributes
    ----------
    z : jax.Array, shape (K, m, d)
        NaN where a point does not exist. Column i is one point as far as it can be followed; the
        columns are in the order in which points come to exist, those of z0 first.
    present : jax.Array, shape (K, m), bool
    eigenvalues : jax.Array, shape (K, m, d), complex
        Of dF/dz, by falling modulus; NaN where absent.
    stable : jax.Array, shape (K, m), bool
        Present, and all eigenvalues inside the unit circle.
    index : jax.Array, shape (K, m), int
        sign det(I - dF/dz), 0 where absent.
    index_sum : jax.Array, shape (K,), int
        1 at every checkpoint of a bounded cell if no point is missing (Brouwer).
    hits : jax.Array, shape (K, m), int
        How many starts of the fresh search ended there: 0 where only continuation found it, -1
        without a search.
    residual : jax.Array, shape (K, m)
        Max norm of F(z) - z; NaN where absent.
    life : jax.Array, shape (m, 2)
        The places between which a point exists: 0 and K - 1 at the ends of training, else the
        event at which it begins or ends.
    status : jax.Array, shape (K, m), int
        0: absent, or followed into both neighbouring segments (or at the ends of training into
        one). Otherwise the status of the branch that could not be followed; an event says why.
    events : tuple of TrackEvent, by place
    """

    z: jax.Array
    present: jax.Array
    eigenvalues: jax.Array
    stable: jax.Array
    index: jax.Array
    index_sum: jax.Array
    hits: jax.Array
    residual: jax.Array
    life: jax.Array
    status: jax.Array
    events: tuple[TrackEvent, ...]


@specification
class Segment:
    """`family` at the fraction s of the straight line between two checkpoints, exact at both."""

    family: Callable[[Any], Map]

    def __call__(self, ends: tuple[Any, Any], s: jax.Array) -> Map:
        def blend(a, b):
            if not jnp.issubdtype(jnp.result_type(a), jnp.inexact):
                return a
            at = s.astype(jnp.result_type(a))
            return (1 - at) * a + at * b

        return self.family(jax.tree.map(blend, *ends))


def track(
    family: Callable[[Any], Map],
    checkpoints: Any,
    z0: jax.Array,
    *,
    starts: jax.Array | None = None,
    atol: float | None = None,
    tol: float | None = None,
    ds: float = 0.05,
    ds_max: float = 0.2,
    max_points: int = 400,
) -> Track:
    """Follow every fixed point along training, and name and place what happens to it.

    Parameters
    ----------
    family : callable
        `family(params)` is a Map, such as `rd.hold(cell, params, x)`. For cycles of period n pass
        `rd.iterate(rd.hold(cell, params, x), n)`. It is static: one compilation serves all
        checkpoints and points, and a module-level function all calls.
    checkpoints : list of params, or params with a leading axis K
        At least two, in the order of training. A list is a list of checkpoints; any other pytree
        is one whose leaves are stacked.
    z0 : jax.Array, shape (m, d)
        Distinct fixed points at the first checkpoint, `unique(found).z`; m may be 0 if there are
        starts.
    starts : jax.Array, shape (n, d) or (K, n, d), optional
        For a fresh search at every checkpoint. What it finds and continuation had not reached is
        followed too, ahead and back, so a point that was overlooked at first gets its history.
        Without it only what is connected with z0 is known.
    atol : float, optional
        Distance within which two points at one checkpoint are the same, by default
        sqrt(eps) max(1, |z|).
    tol, ds, ds_max, max_points
        As in `continuation`; lengths are in units of z and of one checkpoint.

    Returns
    -------
    Track
        The straight line stands for the way that training took, so the places are those of the
        events on it; take checkpoints close enough that the count of events no longer changes.
        What exists only between two checkpoints (a closed branch) is not seen. Cost: a branch for
        each point and segment, usually 10 to 30 steps of 2 to 4 Jacobians and one eigenvalue
        decomposition, and a search of n starts for each checkpoint. Matching is a host-side
        step, so the call is not jitted.

    Raises
    ------
    ValueError, TypeError
        If the checkpoints differ in structure or are fewer than two, or a shape does not fit.

    Examples
    --------
    >>> import jax.numpy as jnp, rnndyn as rd
    >>> family = lambda w: rd.maps.tanh_network(w)
    >>> starts = jnp.linspace(-1.0, 1.0, 9)[:, None]
    >>> weights = jnp.array([[[0.5]], [[1.5]], [[2.5]]])
    >>> found = rd.track(family, weights, jnp.zeros((1, 1)), starts=starts)
    >>> [(event.kind, event.points, event.change) for event in found.events]
    [('branch_point', (0, 1, 2), 2)]
    >>> f"{float(found.events[0].place):.4f}", found.present.sum(axis=1).tolist()
    ('0.5000', [1, 3, 3])
    """
    z0 = jnp.asarray(z0)
    validation.require_shape("z0", z0, ("m", "d"), "stack the fixed points, or pass z[None]")
    validation.require_real("z0", z0)
    params = _stages(checkpoints)
    state = jax.ShapeDtypeStruct(z0.shape[1:], z0.dtype)
    got = states.image("z0", states.built(family, params[0]), state)
    validation.require_shape("z0", z0, ("m", *got.shape), "pass fixed points of family(params)")
    searches = _searches(starts, z0, len(params))
    near = float(np.sqrt(jnp.finfo(z0.dtype).eps)) if atol is None else atol
    advice = "pass for example 1e-6"
    validation.require_range("atol", near, 0.0, float("inf"), advice, open_low=True)
    lengths(z0.dtype, ds, None, ds_max, tol)
    _require_distinct(np.asarray(z0), near, searched=bool(searches))
    options = {"tol": tol, "ds": ds, "ds_max": ds_max, "max_points": max_points}
    follow = _follower(Segment(family), params, **options)
    web = lineage.Web(len(params), follow, near, relative=atol is None)
    for z in np.asarray(z0):
        web.start(z)
    web.grow()
    for k, given in enumerate(searches):
        found = unique(fixed_points(family(params[k]), given))
        for z, hits in zip(np.asarray(found.z), np.asarray(found.hits), strict=True):
            web.add(k, z, int(hits))
        web.grow()
    return _assemble(web, z0.shape[1], z0.dtype, bool(searches))


def _follower(segment: Segment, params: list[Any], *, ds: float, ds_max: float, **options: Any):
    """The branch over segment k from a point at the fraction `start`, by finer steps if asked."""

    def follow(k: int, z: Any, start: float, fine: bool) -> Branch:
        make = jax.tree_util.Partial(segment, (params[k], params[k + 1]))
        shrink = FINER if fine else 1
        steps = {"ds": ds / shrink, "ds_max": ds_max / shrink, **options}
        branch = continuation(
            make, jnp.asarray(z), span=(0.0, 1.0), start=start, eigenvalues="all", **steps
        )
        return jax.device_get(branch)

    return follow


def _stages(checkpoints: Any) -> list[Any]:
    """The checkpoints one by one."""
    advice = "pass a list of params, or params whose leaves are stacked along a leading axis"
    if isinstance(checkpoints, list):
        stages = checkpoints
        for k, stage in enumerate(stages[1:], start=1):
            validation.require_structure(f"checkpoints[{k}]", stage, stages[0], advice)
    else:
        sizes = {np.shape(leaf)[:1] for leaf in jax.tree.leaves(checkpoints)}
        if len(sizes) != 1 or () in sizes:
            got = f"leading axes {sorted(sizes)}"
            raise ValueError(validation.sentence("checkpoints", "one leading axis", got, advice))
        stages = [
            jax.tree.map(lambda leaf, k=k: leaf[k], checkpoints) for k in range(sizes.pop()[0])
        ]
    if len(stages) < 2:
        expected, got = "at least two checkpoints", str(len(stages))
        raise ValueError(validation.sentence("checkpoints", expected, got, advice))
    for k, stage in enumerate(stages[1:], start=1):
        for before, after in zip(jax.tree.leaves(stages[0]), jax.tree.leaves(stage), strict=True):
            whole = not jnp.issubdtype(jnp.result_type(before), jnp.inexact)
            if whole and not np.array_equal(before, after):
                got, advice = f"others in checkpoints[{k}]", "convert weights to floating point"
                expected = "the same integers in all checkpoints"
                raise ValueError(validation.sentence("checkpoints", expected, got, advice))
    return [jax.tree.map(jnp.asarray, stage) for stage in stages]


def _require_distinct(z0: Any, near: float, *, searched: bool) -> None:
    if len(z0) == 0 and not searched:
        advice = "pass starts for a search, or a fixed point"
        raise ValueError(validation.sentence("z0", "fixed points", "none", advice))
    gaps = np.abs(z0[:, None] - z0[None]).max(axis=2, initial=0)
    same = np.argwhere(np.triu(gaps < near, 1))
    if same.size:
        i, j = same[0].tolist()
        got, advice = f"the same in rows {i} and {j}", "pass unique(found).z, or a smaller atol"
        raise ValueError(validation.sentence("z0", "distinct fixed points", got, advice))


def _searches(starts: Any, z0: jax.Array, count: int) -> list[jax.Array]:
    """The starts of the search at each checkpoint; none without starts."""
    if starts is None:
        return []
    starts = jnp.asarray(starts)
    validation.require_same_dtype("starts", starts, "z0", z0.dtype)
    advice = "pass flat states for all checkpoints, or one set of them for each"
    if starts.ndim == 3:
        validation.require_shape("starts", starts, (count, "n", z0.shape[1]), advice)
        return list(starts)
    validation.require_shape("starts", starts, ("n", z0.shape[1]), advice)
    return [starts] * count


def _assemble(web: lineage.Web, size: int, dtype: Any, searched: bool) -> Track:
    count, checkpoints = web.name(), web.checkpoints
    shape = (checkpoints, count)
    z = np.full((*shape, size), np.nan, dtype)
    eigenvalues = np.full((*shape, size), np.nan, np.result_type(dtype, np.complex64))
    residual, hits = np.full(shape, np.nan, dtype), np.full(shape, 0 if searched else -1)
    present, status = np.zeros(shape, bool), np.zeros(shape, int)
    for point in web.points():
        at = (point.checkpoint, point.name)
        status[at] = web.status(point)
        present[at] = point.exists
        if point.exists:
            z[at], eigenvalues[at], residual[at] = point.z, point.eigenvalues, point.residual
            hits[at] = point.hits if searched else -1
    index = np.where(present, np.sign(np.prod(1 - eigenvalues, axis=2).real), 0).astype(int)
    stable = present & np.all(np.abs(eigenvalues) < 1, axis=2)
    columns = {
        "z": z,
        "present": present,
        "eigenvalues": eigenvalues,
        "stable": stable,
        "index": index,
        "index_sum": index.sum(axis=1),
        "hits": hits,
        "residual": residual,
        "life": np.asarray(web.life(count), dtype),
        "status": status,
    }
    events = tuple(_event(found, dtype) for found in web.events())
    return Track(**jax.device_put(columns), events=events)


def _event(found: lineage.Happening, dtype: Any) -> TrackEvent:
    numbers = {
        "place": np.asarray(found.place, dtype),
        "z": np.asarray(found.z),
        "status": np.asarray(int(found.status)),
    }
    return TrackEvent(
        kind=found.kind,
        points=tuple(sorted(found.points)),
        change=found.change,
        reason=found.reason,
        bifurcation=found.bifurcation,
        **jax.device_put(numbers),
    )
