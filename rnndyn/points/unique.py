"""Distinct points among those that a search returned: NumPy on the host, since sizes vary."""

import dataclasses
from collections.abc import Iterable
from typing import Any

import jax
import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import KDTree

from rnndyn.core import validation
from rnndyn.core.pytree import coded, pytree
from rnndyn.maps import Map
from rnndyn.points import fpf
from rnndyn.points.certify import Kind
from rnndyn.points.fixed_points import FixedPoints
from rnndyn.points.fpf import FixedPointFinderPoints


@pytree
class UniquePoints:
    """Distinct points. Leading axis m: the points, sorted by their coordinates, first to last.

    Attributes
    ----------
    z : jax.Array, shape (m, d)
        Of each cluster the member of least residual.
    hits : jax.Array, shape (m,), int
        How many starts ended there.
    index : jax.Array, shape (m,), int
        sign det(I - J) of a root; 0 of all else.
    index_sum : jax.Array, scalar int
        The sum of `index`. Of a bounded cell it is 1 if no root is missing (Brouwer) and none is
        degenerate; another sum proves that some is missing, but 1 does not prove that none is.
    residual, sigma_min : jax.Array, shape (m,)
    kind : jax.Array, shape (m,), int
        A `Kind`.
    nullity : jax.Array, shape (m,), int
        Of a degenerate point, the local dimension of the continuum that it lies on: the median
        over the starts on it, those at a kink or an end where no singular value is 0 left out.
    label : jax.Array, shape (n,), int
        For each start the row of its point, -1 where it ended at none of them.
    missing : jax.Array, scalar
        Estimate of the number of points that no start found (`rnndyn.points.unique.missing`).
    map_ : Map
        The map that was searched.
    """

    z: jax.Array
    hits: jax.Array
    index: jax.Array
    index_sum: jax.Array
    residual: jax.Array
    sigma_min: jax.Array
    kind: jax.Array = coded(Kind)
    nullity: jax.Array
    label: jax.Array
    missing: jax.Array
    map_: Map | None = None

    def to_fpf(
        self, *, starts: jax.Array | None = None, cond_id: int = 0, tol_unique: float = 1e-3
    ) -> FixedPointFinderPoints:
        """The points under the field names of FixedPointFinder; as `FixedPoints.to_fpf`."""
        return fpf.from_points(self, starts, cond_id, tol_unique)


def missing(hits: Any) -> float:
    """How many points were never hit, from how often the others were: a lower bound on average.

    f1 (f1 - 1) / (2 (f2 + 1)), where f1 points were hit once and f2 twice (Chao 1984, Scand. J.
    Stat. 11, in its bias-corrected form). It needs starts that are drawn independently.

    >>> missing([5, 1, 1, 1, 2])
    1.5
    """
    hits = np.asarray(hits)
    once, twice = int(np.sum(hits == 1)), int(np.sum(hits == 2))
    return once * (once - 1) / (2 * (twice + 1))


def unique(
    found: Any, *, atol: float | None = None, kinds: tuple[Kind, ...] = (Kind.ROOT,)
) -> UniquePoints:
    """The distinct points that a search found; roots only unless asked. A host-side step.

    Parameters
    ----------
    found : FixedPoints
    atol : float, optional
        Distance within which two points are the same, by default sqrt(eps) max(1, |z|). Roots are
        known far better than that; what separates near-by roots is their index, which differs
        for the two roots that are born in a fold however close they are.
    kinds : tuple of Kind
        What to keep; rows whose z is not finite never are. `(Kind.ROOT, Kind.DEGENERATE)` adds
        degenerate points, which count as one where their `radius` makes them touch: a multiple
        root or a continuum is one point.

    Returns
    -------
    UniquePoints
        Independent of the order of the starts.

    Raises
    ------
    ValueError
        If atol is not positive or a kind is unknown.

    Notes
    -----
    Single linkage: two points are linked if they are of one kind and index and their distance is
    at most atol (for degenerate points: or the sum of their radii; for eight or more on a
    continuum: or forty median distances between neighbours on it), and a cluster is a connected
    component. Equal points are merged on a grid first, so 10^5 starts on a few roots are cheap.

    Examples
    --------
    >>> import jax.numpy as jnp, rnndyn as rd
    >>> starts = jnp.linspace(-2.0, 2.0, 9)[:, None]
    >>> points = rd.unique(rd.fixed_points(rd.maps.tanh_network([[1.5]]), starts))
    >>> [f"{z:.6f}" for z in points.z[:, 0]], points.index.tolist(), int(points.index_sum)
    (['-0.858560', '0.000000', '0.858560'], [1, -1, 1], 1)
    """
    if not isinstance(found, FixedPoints):
        advice = "pass what rd.fixed_points returned, one search at a time"
        raise TypeError(validation.sentence("found", "FixedPoints", repr(type(found)), advice))
    validation.require_shape("found.z", found.z, ("n", "d"), "take one search of a vmapped batch")
    if not isinstance(kinds, Iterable):
        advice = "pass (rd.Kind.ROOT,), with its comma"
        raise TypeError(validation.sentence("kinds", "a tuple of rd.Kind", repr(kinds), advice))
    for kind in kinds:
        validation.require_choice("kinds", kind, list(Kind), "pass a tuple of rd.Kind")
    require_atol(atol)
    table = jax.tree.map(np.asarray, dataclasses.replace(found, map_=None))
    finite = np.all(np.isfinite(table.z), axis=1)
    rows = np.flatnonzero(np.isin(table.kind, [int(kind) for kind in kinds]) & finite)
    z = table.z[rows]
    eps = float(np.finfo(table.z.dtype).eps)
    near = np.sqrt(eps) * max(1.0, np.max(np.abs(z), initial=0.0)) if atol is None else atol
    reach = np.where(table.kind[rows] == Kind.DEGENERATE, table.radius[rows], 0.0)
    reach = np.maximum(reach, _spacing(z, table.nullity[rows]))
    label = _clusters(z, table.kind[rows], table.index[rows], reach, near)
    best = _representatives(z, table.residual[rows], table.sigma_min[rows], label, near)
    chosen, hits = rows[best], np.bincount(label, minlength=best.size)[label[best]]
    renamed = np.full(table.z.shape[0], -1)
    position = np.empty(best.size, int)
    position[label[best]] = np.arange(best.size)
    renamed[rows] = position[label]
    columns = {
        "z": table.z[chosen],
        "hits": hits,
        "index": table.index[chosen],
        "index_sum": np.sum(table.index[chosen]),
        "residual": table.residual[chosen],
        "sigma_min": table.sigma_min[chosen],
        "kind": table.kind[chosen],
        "nullity": _dimensions(table.nullity[rows], label)[label[best]],
        "label": renamed,
        "missing": np.asarray(missing(hits)),
    }
    # put there, as jnp.asarray compiles a program for each shape
    return UniquePoints(**jax.device_put(columns), map_=found.map_)


def require_atol(atol: float | None) -> None:
    """Raise unless atol is None or positive and finite."""
    if atol is not None:
        advice = "pass for example 1e-6"
        validation.require_range(
            "atol", atol, 0.0, float("inf"), advice, open_low=True, open_high=True
        )


def _spacing(z: np.ndarray, nullity: np.ndarray) -> np.ndarray:
    """How far each point of a continuum reaches along it; 0 for all others.

    Twenty median distances to the nearest neighbour of the same nullity: random points on a curve
    leave gaps of about that. Fewer than 8 points are too few to tell.
    """
    reach = np.zeros(len(z))
    for k in np.unique(nullity[nullity > 0]):
        on = np.flatnonzero(nullity == k)
        if len(on) >= 8:
            nearest = KDTree(z[on]).query(z[on], k=2)[0][:, 1]
            reach[on] = 20 * np.median(nearest)
    return reach


def _clusters(
    z: np.ndarray, kind: np.ndarray, index: np.ndarray, reach: np.ndarray, atol: float
) -> np.ndarray:
    """The number of each row's cluster, from 0 to m - 1."""
    if len(z) == 0:
        return np.zeros(0, int)
    cells = np.round(z / (atol / (2 * np.sqrt(z.shape[1]))))
    cells = np.column_stack([cells, kind, index]) + 0.0  # -0.0 becomes 0.0
    _, first, cell = np.unique(cells, axis=0, return_index=True, return_inverse=True)
    cell = cell.ravel()
    far = np.zeros(len(first))
    np.maximum.at(far, cell, reach)
    z, kind, index = z[first], kind[first], index[first]
    tree = KDTree(z)
    links = tree.query_pairs(max(atol, 2 * float(np.max(far))), output_type="ndarray")
    a, b = links[:, 0], links[:, 1]
    near = np.linalg.norm(z[a] - z[b], axis=1) <= np.maximum(atol, far[a] + far[b])
    linked = near & (kind[a] == kind[b]) & (index[a] == index[b])
    a, b = a[linked], b[linked]
    graph = coo_array((np.ones(len(a)), (a, b)), shape=(len(z), len(z)))
    return connected_components(graph, directed=False)[1][cell]


def _dimensions(nullity: np.ndarray, label: np.ndarray) -> np.ndarray:
    """The median nullity of each cluster over those of its rows where it is not 0."""
    dimension = np.zeros(np.max(label, initial=-1) + 1, int)
    for cluster in np.unique(label[nullity > 0]):
        dimension[cluster] = np.median(nullity[(label == cluster) & (nullity > 0)])
    return dimension


def _representatives(
    z: np.ndarray, residual: np.ndarray, sigma_min: np.ndarray, label: np.ndarray, atol: float
) -> np.ndarray:
    """One row of each cluster, of least residual, sorted by coordinates rounded to atol."""
    if len(z) == 0:
        return np.zeros(0, int)
    order = np.lexsort((sigma_min, *z.T[::-1], residual, label))
    best = order[np.unique(label[order], return_index=True)[1]]
    rounded = np.round(z[best] / atol) + 0.0
    return best[np.lexsort(rounded.T[::-1])]
