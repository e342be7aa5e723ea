"""Eigenvalues along a branch, at every point or only where a crossing could hide. A host step.

At d = 64 the eigenvalues of a point cost four times as much as finding the point, and most of
them say only that nothing has happened. What the sweep has at hand says as much at most points:
the signs of determinants, which show each passage through +1 or -1, and the sums tr J and tr J^2,
which a pair cannot leave and come back without.
"""

from typing import Any

import jax
import numpy as np
from scipy.optimize import linear_sum_assignment

from rnndyn.branches.arclength import Family
from rnndyn.core.jacobian import jacobian

STRIDE = 32  # points between two spectra where nothing is near
_CHUNK = 2**22  # numbers of all Jacobians that are held at once


def spectra(family: Family, nodes: Any, *, near: bool) -> Any:
    """Eigenvalues of dF/dz (n, d) at nodes in order; NaN in the rows that were left out.

    With `near`, every 32nd point (of a short branch every quarter) and the two ends come first, and
    both points of a step over which a determinant or the direction of the parameter changes its
    sign. Stretches between two of them that are not calm are looked at more closely, again and
    again (see `_Path`).
    """
    n, width = nodes.u.shape
    values = np.full((n, width - 1), np.nan + 0j, np.result_type(nodes.u, np.complex64))
    if not near:
        values[:] = _eigenvalues(family, nodes.u)
        return values
    flips = np.flatnonzero(changes(nodes))
    stride = max(1, min(STRIDE, n // 4))
    wanted = np.unique(np.concatenate([np.arange(0, n, stride), [n - 1], flips, flips + 1]))
    path, known = _Path(nodes, values), np.zeros(n, bool)
    while wanted.size:
        values[wanted] = _eigenvalues(family, nodes.u[wanted])
        known[wanted] = True
        wanted = path.wanted(np.flatnonzero(known))
    return values


class _Path:
    """Where an eigenvalue can have crossed the circle between points whose spectra are known.

    On the straight way from one point to the next, t from 0 to 1, an eigenvalue is at least
    (1 - t) m_0 + t m_1 off the circle on its side (inside m_0 and m_1 are its distances at the
    ends; outside the distance is measured in one direction), and the way itself is at most
    t (1 - t) w^2 |lambda''| / 2 off the straight one: w is the arclength and lambda'' / 2 the
    larger of the second divided differences with the known points before and behind. A stretch is
    calm if, first, twice that stays below the margin for all t, which is the same as

        w^2 |lambda''| < (sqrt(m_0) + sqrt(m_1))^2;

    and if, second, at each of its points twice what the sums of the eigenvalues and of their
    squares are off the cubics through the four known points around is within the least margin
    there. (A pair at angle a that leaves by e and comes back changes them by 2 e cos a and
    4 e cos 2 a, of which one is above e in size.)
    """

    def __init__(self, nodes: Any, values: Any) -> None:
        lengths = np.linalg.norm(np.diff(nodes.u, axis=0), axis=1)
        self.along = np.append(0.0, np.cumsum(lengths))
        self.sums, self.values = nodes.sums, values
        self.orders = np.zeros(values.shape, int)
        self.until = np.zeros(len(values), int)

    def wanted(self, known: Any) -> Any:
        """Rows that must be known as well: around an expected crossing, else halfway."""
        i, j = known[:-1], known[1:]
        if not np.any(j > i + 1):
            return i[:0]
        orders = self._orders(i, j)
        a, b = self.values[i], np.take_along_axis(self.values[j], orders, axis=1)
        one, two = np.abs(a), np.abs(b)
        crossed = (one > 1) != (two > 1)
        *ends, room = _margins(a, b)
        restless = (crossed | ~(2 * _bend(self.along[known], a, b, orders) < room)).any(axis=1)
        restless |= self._strays(known, ends)
        restless &= j > i + 1
        halved = restless & ~crossed.any(axis=1)
        at, which = np.nonzero(crossed & restless[:, None])
        part = (1 - one[at, which]) / (two - one)[at, which]
        first = i[at] + (part * (j - i)[at]).astype(int)
        around = [np.clip(rows, i[at] + 1, j[at] - 1) for rows in (first, first + 1)]
        return np.unique(np.concatenate([(i + j)[halved] // 2, *around]))

    def _strays(self, known: Any, ends: Any) -> Any:
        """Whether the sums leave the cubics between known points, by the margins at their ends."""
        s, answer = self.along[known], np.zeros(len(known) - 1, bool)
        between = np.ones(known[-1] + 1, bool)
        between[known] = False
        inside = np.flatnonzero(between)
        k = np.searchsorted(known, inside) - 1
        t = ((self.along[inside] - s[k]) / (s[k + 1] - s[k]))[:, None]
        margin = np.min((1 - t) * ends[0][k] + t * ends[1][k], axis=1)
        expected = _interpolated(s, self.sums[known], self.along[inside], k)
        off = np.max(np.abs(expected - self.sums[inside]), axis=1)
        answer[k[~(2 * off <= margin)]] = True
        return answer

    def _orders(self, i: Any, j: Any) -> Any:
        """The eigenvalues at rows j in the order of those at rows i."""
        new = np.flatnonzero(self.until[i] != j)
        self.orders[i[new]] = assigned(self.values[i[new]], self.values[j[new]])
        self.until[i] = j
        return self.orders[i]


def _bend(s: Any, a: Any, b: Any, orders: Any) -> Any:
    """w^2 |lambda''| / 2 of each way from a to b (k, d), between the arclengths s (k + 1,)."""
    width = np.diff(s)[:, None]
    slope = (b - a) / width
    if len(a) == 1:
        return np.abs(slope) * width
    before = np.empty_like(slope[1:])
    np.put_along_axis(before, orders[:-1], slope[:-1], axis=1)
    turn = np.abs(slope[1:] - before) / (s[2:] - s[:-2])[:, None]
    second = np.zeros_like(turn, shape=a.shape)
    second[1:] = turn
    second[:-1] = np.maximum(second[:-1], np.take_along_axis(turn, orders[:-1], axis=1))
    return second * width**2


def _margins(a: Any, b: Any) -> tuple[Any, Any, Any]:
    """m_0 and m_1 of each way from a to b, and (sqrt(m_0) + sqrt(m_1))^2; -1 if there are none.

    Outside the circle the best of three directions counts, those of a, of b and of the point of
    the way that is nearest to 0.
    """
    one, two, step = np.abs(a), np.abs(b), np.abs(b - a) ** 2
    tiny = np.finfo(one.dtype).tiny
    across = (a.conj() * b).real
    at = np.clip((one**2 - across) / np.maximum(step, tiny), 0, 1)
    least = np.abs(a + at * (b - a)) - 1
    first = np.stack([one - 1, across / np.maximum(two, tiny) - 1, least])
    last = np.stack([across / np.maximum(one, tiny) - 1, two - 1, least])
    inside = np.maximum(one, two) <= 1
    first, last = np.where(inside, 1 - one, first), np.where(inside, 1 - two, last)
    room = (np.sqrt(np.maximum(first, 0)) + np.sqrt(np.maximum(last, 0))) ** 2
    room[np.minimum(first, last) < 0] = -1
    best = np.argmax(room, axis=0)[None]
    first, last, room = (np.take_along_axis(x, best, axis=0)[0] for x in (first, last, room))
    return first, last, room


def _interpolated(s: Any, values: Any, at: Any, k: Any) -> Any:
    """The cubics through the values (m, 2) at s at the four points around interval k of each `at`.

    Of lower degree at the ends.
    """
    rows = k[:, None] + np.arange(-1, 3)
    there = (rows >= 0) & (rows < len(s))
    rows = np.clip(rows, 0, len(s) - 1)
    nodes = s[rows]
    other = there[:, None, :] & ~np.eye(4, dtype=bool)
    gaps = np.where(other, at[:, None, None] - nodes[:, None, :], 1)
    scale = np.where(other, nodes[:, :, None] - nodes[:, None, :], 1)
    scale = np.where(scale == 0, 1, scale)
    weights = np.where(there, np.prod(gaps / scale, axis=2), 0)
    return np.einsum("nj,njm->nm", weights, values[rows])


def changes(nodes: Any) -> Any:
    """Whether the parameter turns or a determinant changes its sign, (n - 1,)."""
    turned = nodes.tangent[:, -1] >= 0
    branched = nodes.orientation >= 0
    alternated = nodes.alternation >= 0
    return np.any([x[1:] != x[:-1] for x in (turned, branched, alternated)], axis=0)


def may_cross(values: Any) -> Any:
    """Where an eigenvalue may have crossed the circle between successive rows (n, d): (n - 1,).

    None has if all lie inside at both or all outside, or if to stay on one's side and to go to
    the nearest of the next row is the same: where nearest successors are all different they are
    the assignment of least total distance.
    """
    outside = np.abs(values) > 1
    one, two = outside[:-1], outside[1:]
    answer = (one != one[:, :1]).any(axis=1) | (two != one[:, :1]).any(axis=1)
    rows, d = np.flatnonzero(answer), values.shape[1]
    most = max(1, _CHUNK // (d * d))
    for part in (rows[i : i + most] for i in range(0, len(rows), most)):
        gaps = np.abs(values[part, :, None] - values[part + 1, None, :])
        nearest = gaps.argmin(axis=2)
        different = (np.sort(nearest, axis=1) == np.arange(d)).all(axis=1)
        same_side = np.take_along_axis(two[part], nearest, axis=1) == one[part]
        answer[part] = ~(different & same_side.all(axis=1))
    return answer


def assigned(before: Any, after: Any) -> Any:
    """The orders of least total distance of rows `after` (n, d) from those of `before`."""
    orders = np.empty(before.shape, int)
    for order, *pair in zip(orders, before, after, strict=True):
        order[:] = _assigned(*pair)
    return orders


def _assigned(before: Any, after: Any) -> Any:
    """The order of least total distance from `before`.

    Of complex pairs, which stand side by side, the upper members suffice unless one turns real.
    """
    one, two = (np.flatnonzero(values.imag >= 0) for values in (before, after))
    if one.size == two.size:
        columns = two[_least(before[one], after[two])]
        paired = before.imag[one] > 0
        if np.array_equal(paired, after.imag[columns] > 0):
            order = np.empty(len(before), int)
            order[one] = columns
            order[one[paired] + 1] = columns[paired] + 1
            return order
    return _least(before, after)


def _least(before: Any, after: Any) -> Any:
    return linear_sum_assignment(np.abs(before[:, None] - after[None]))[1]


def unstable(values: Any) -> Any:
    """How many eigenvalues lie outside the circle; rows left out count as those before them."""
    count = np.sum(np.abs(values) >= 1, axis=1)
    rows = np.where(np.isnan(values[:, 0]), 0, np.arange(len(values)))
    return count[np.maximum.accumulate(rows)]


def _eigenvalues(family: Family, points: Any) -> Any:
    d = points.shape[1] - 1
    most = max(1, min(256, _CHUNK // (d * d)))
    parts = []
    for start in range(0, len(points), most):
        rows = points[start : start + most]
        jacobians: Any = np.asarray(_jacobians(family, filled(rows)))[: len(rows)]
        usable: Any = np.isfinite(jacobians).all(axis=(1, 2))
        found = np.linalg.eigvals(np.where(usable[:, None, None], jacobians, 0)).astype(complex)
        parts.append(np.where(usable[:, None], found, np.nan))
    return np.concatenate(parts)


def filled(rows: Any) -> Any:
    """The rows, the last one repeated up to a power of two from 32 on: few compilations."""
    size = max(32, 1 << (len(rows) - 1).bit_length())
    return np.concatenate([rows, np.repeat(rows[-1:], size - len(rows), axis=0)])


@jax.jit
def _jacobians(family: Family, points: jax.Array) -> jax.Array:
    """dF/dz at each of the points u, (n, d, d)."""

    return jax.vmap(lambda u: jacobian(family.rule(u[-1]), u[:-1])[1])(points)
