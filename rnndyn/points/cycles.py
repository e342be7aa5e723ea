"""Cycles of a given minimal period, one row an orbit: a jitted search, then NumPy on the host."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import KDTree

from rnndyn.core import validation
from rnndyn.core.pytree import coded, pytree
from rnndyn.maps import Map, require_states
from rnndyn.points import phases
from rnndyn.points.certify import Kind
from rnndyn.points.fixed_points import fixed_points
from rnndyn.points.multipliers import cycle_stability
from rnndyn.points.shooting import closed
from rnndyn.points.unique import UniquePoints, require_atol, unique


@pytree
class Cycles:
    """Distinct cycles (leading axis m), and where each start ended (leading axis n).

    Attributes
    ----------
    points : jax.Array, shape (m, k, d)
        In the order of time, from the smallest point (by its first coordinate, then the next);
        cycles sorted by that point.
    multipliers : jax.Array, shape (m, d), complex
        Eigenvalues of DF^k, by falling modulus.
    unstable_dim : jax.Array, shape (m,), int
        How many multipliers lie outside the unit circle.
    stable : jax.Array, shape (m,), bool
        All multipliers inside it by more than rounding.
    index : jax.Array, shape (m,), int
        sign det(I - DF^k).
    hits : jax.Array, shape (m,), int
        How many starts ended on the cycle, at whichever phase.
    residual : jax.Array, shape (m,)
        max |F(z_i) - z_{i+1}| over the cycle.
    sigma_min : jax.Array, shape (m,)
        Smallest singular value of C - I, C the Jacobian of all k points: how isolated it is.
    label : jax.Array, shape (n,), int
        For each start the row of its cycle, -1 where it ended on none of minimal period k.
    minimal_period : jax.Array, shape (n,), int
        Of the cycle on which the start ended: k, or a divisor of it (1: a fixed point); 0 where
        it ended on none.
    status, kind : jax.Array, shape (n,), int
        As in `FixedPoints`, of the k points as one fixed point. A continuum is DEGENERATE.
    """

    points: jax.Array
    multipliers: jax.Array
    unstable_dim: jax.Array
    stable: jax.Array
    index: jax.Array
    hits: jax.Array
    residual: jax.Array
    sigma_min: jax.Array
    label: jax.Array
    minimal_period: jax.Array
    status: jax.Array
    kind: jax.Array = coded(Kind)


def cycles(
    map_: Map,
    starts: jax.Array,
    *,
    period: int,
    tol: float | None = None,
    max_steps: int = 500,
    atol: float | None = None,
) -> Cycles:
    """The cycles of one minimal period that a search from many starts finds. A host-side step.

    Parameters
    ----------
    map_ : Map
    starts : jax.Array, shape (n, d) or (n, k, d)
        The search sets out from the first k points of the orbit of each z (d,), or from k points
        as they are given, which need not be an orbit.
    period : int, at least 1
        k.
    tol : float, optional
        On max |F(z_i) - z_{i+1}|; as in `fixed_points`.
    max_steps : int, at least 0
        As in `fixed_points`.
    atol : float, optional
        As in `unique`: distance of all k points together within which two cycles are the same, and
        a cycle the same as itself some steps later, by default sqrt(eps) max(1, |z|).

    Returns
    -------
    Cycles
        Only isolated ones, each once whatever its phase; independent of the order of the starts.
        Nothing says that there are no others; for ReLU networks `piecewise_linear` does.

    Raises
    ------
    ValueError, TypeError
        If starts are not real of one of the two shapes, tol or atol are not positive, period is
        not a whole number or the map changes the size of z.

    Notes
    -----
    Multiple shooting: `fixed_points` on (z_0, ..., z_{k-1}) -> (F(z_{k-1}), F(z_0), ...), whose
    condition does not grow with the multipliers, while a search on F^k ends at a residual of eps
    times the largest one. Cost: that of `fixed_points` at dimension k d, which is about 10 steps of
    at most 2 k d evaluations of k points a start, and 2 (k d)^3 for its certificate.

    Examples
    --------
    >>> import jax.numpy as jnp, rnndyn as rd
    >>> starts = jnp.linspace(-1.0, 1.0, 64)[:, None]
    >>> found = rd.cycles(rd.maps.tanh_network([[-2.0]]), starts, period=2)
    >>> [f"{z:.6f}" for z in found.points[0, :, 0]], found.stable.tolist()
    (['-0.957504', '0.957504'], [True])
    """
    starts = jnp.asarray(starts)
    period = validation.require_int("period", period, 1, "1 gives the fixed points")
    validation.require_real("starts", starts)
    require_atol(atol)
    if starts.ndim == 3:
        advice = "pass k points for each start, or one point each, shape (n, d)"
        validation.require_shape("starts", starts, ("n", period, "d"), advice)
    else:
        advice = "pass one flat vector a row, starts[None] for a single one"
        validation.require_shape("starts", starts, ("n", "d"), advice)
    require_states("starts", starts, map_)
    loops = starts if starts.ndim == 3 else _orbits(map_, starts, period)
    n, _, d = loops.shape
    found = fixed_points(
        closed(map_, period), loops.reshape(n, period * d), tol=tol, max_steps=max_steps
    )
    return _distinct(map_, found, unique(found, atol=atol), period, atol)


@jax.jit(static_argnames="period")
def _orbits(map_: Map, starts: jax.Array, period: int) -> jax.Array:
    """The first k points of each orbit, shape (n, k, d)."""

    def advance(z, _):
        return jax.vmap(map_)(z), z

    return jnp.swapaxes(jax.lax.scan(advance, starts, length=period)[1], 0, 1)


def _distinct(map_: Map, found: Any, points: UniquePoints, period: int, atol: float | None):
    """Leave out what has a smaller period, and keep one phase of the rest."""
    table = jax.tree.map(np.asarray, dataclasses.replace(points, map_=None))
    loops = table.z.reshape(len(table.z), period, found.z.shape[1] // period)
    eps = float(np.finfo(loops.dtype).eps)
    near = np.sqrt(eps) * max(1.0, np.max(np.abs(loops), initial=0.0)) if atol is None else atol
    minimal = phases.smallest_periods(loops, near)
    rows = np.flatnonzero(minimal == period)
    orbit = _orbit_numbers(loops[rows], table.index[rows], near)
    loops = phases.advance(loops[rows], phases.from_smallest(loops[rows], near))
    best = _best(loops, table.residual[rows], orbit, near)
    renumbered = np.full(len(minimal), -1)
    renumbered[rows] = np.argsort(orbit[best])[orbit] if len(rows) else orbit
    known = table.label >= 0
    label = np.full(table.label.shape, -1)
    label[known] = renumbered[table.label[known]]
    reached = np.zeros(table.label.shape, int)
    reached[known] = minimal[table.label[known]]
    modes = _padded_stability(map_, loops[best])
    chosen = rows[best]
    columns = {
        "points": loops[best],
        "multipliers": modes.multipliers,
        "unstable_dim": modes.unstable_dim,
        "stable": modes.stable,
        "index": table.index[chosen],
        "hits": np.bincount(label[label >= 0], minlength=len(best)),
        "residual": table.residual[chosen],
        "sigma_min": table.sigma_min[chosen],
        "label": label,
        "minimal_period": reached,
    }
    return Cycles(**jax.device_put(columns), status=found.status, kind=found.kind)


def _orbit_numbers(loops: np.ndarray, index: np.ndarray, near: float) -> np.ndarray:
    """The number of each row's orbit, from 0: a shift in time makes its rows equal."""
    m, k, _ = loops.shape
    links = [np.zeros((2, 0), int)]
    for sign in np.unique(index):
        rows = np.flatnonzero(index == sign)
        tree = KDTree(loops[rows].reshape(len(rows), -1))
        for shift in range(1, k):
            moved = np.roll(loops[rows], shift, axis=1).reshape(len(rows), -1)
            distance, other = tree.query(moved, distance_upper_bound=2 * near)
            links.append(np.stack([rows, rows[other % len(rows)]])[:, np.isfinite(distance)])
    a, b = np.concatenate(links, axis=1)
    graph = coo_array((np.ones(len(a)), (a, b)), shape=(m, m))
    return connected_components(graph, directed=False)[1] if m else np.zeros(0, int)


def _best(loops: np.ndarray, residual: np.ndarray, orbit: np.ndarray, near: float) -> np.ndarray:
    """One row of each orbit, of least residual, sorted by its points rounded to `near`."""
    if len(loops) == 0:
        return np.zeros(0, int)
    flat = loops.reshape(len(loops), -1)
    order = np.lexsort((*flat.T[::-1], residual, orbit))
    best = order[np.unique(orbit[order], return_index=True)[1]]
    return best[phases.in_order(loops[best], near)]


def _padded_stability(map_: Map, loops: np.ndarray):
    """Of the cycles, padded to a power of two so that few counts compile anew."""
    m = len(loops)
    filled = np.zeros((max(8, 1 << max(m - 1, 0).bit_length()), *loops.shape[1:]), loops.dtype)
    filled[:m] = loops
    modes = cycle_stability(map_, jax.device_put(filled))
    return jax.tree.map(lambda leaf: np.asarray(leaf)[:m], modes)
