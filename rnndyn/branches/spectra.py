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

STRIDE = 8  # points between two spectra where nothing is near
_CHUNK = 2**22  # numbers of all Jacobians that are held at once


def spectra(family: Family, nodes: Any, *, near: bool) -> Any:
    """Eigenvalues of dF/dz (n, d) at nodes in order; NaN in the rows that were left out.

    With `near`, every eighth point and the two ends come first, and both points of a step over
    which a determinant or the direction of the parameter changes its sign. Between two of them
    the point in the middle follows, recursively, unless the stretch is calm (see `_Path`).
    """
    n, width = nodes.u.shape
    values = np.full((n, width - 1), np.nan + 0j, np.result_type(nodes.u, np.complex64))
    if not near:
        values[:] = _eigenvalues(family, nodes.u)
        return values
    flips = np.flatnonzero(changes(nodes))
    wanted = {*range(0, n, STRIDE), n - 1, *flips, *(flips + 1)}
    path = _Path(nodes, values)
    known: list[int] = []
    while wanted:
        rows = np.array(sorted(wanted))
        values[rows] = _eigenvalues(family, nodes.u[rows])
        known = sorted({*known, *wanted})
        wanted = {
            (known[k] + known[k + 1]) // 2
            for k in range(len(known) - 1)
            if known[k + 1] > known[k] + 1 and not path.calm(known, k)
        }
    return values


class _Path:
    """Whether an eigenvalue can have crossed the circle between points whose spectra are known.

    Not if, first, each stays on its side of the circle on a straight way from one of the two
    points to the next, by a margin of twice the distance (s_j - s_i)^2 |lambda''| / 8 that it can
    be off that way (s is the arclength and lambda'' the larger of the second divided differences
    with the known points before and behind); and if, second, the sums of the eigenvalues and of
    their squares follow the cubics through those four points to within the least margin. (A pair
    at angle a that leaves by e and comes back changes them by 2 e cos a and 4 e cos 2 a, of which
    one is above e in size.)
    """

    def __init__(self, nodes: Any, values: Any) -> None:
        lengths = np.linalg.norm(np.diff(nodes.u, axis=0), axis=1)
        self.along = np.append(0.0, np.cumsum(lengths))
        self.sums, self.values = nodes.sums, values
        self.matches: dict[tuple[int, int], Any] = {}

    def calm(self, known: list[int], k: int) -> bool:
        i, j = known[k], known[k + 1]
        a, b = self.values[i], self.values[j][self._order(i, j)]
        if np.any((np.abs(a) > 1) != (np.abs(b) > 1)):
            return False
        margin = _margins(a, b)
        if not np.all(2 * self._bend(known, k) < margin):
            return False
        around = known[max(0, k - 1) : k + 3]
        inside = np.arange(i + 1, j)
        expected = _interpolated(self.along[around], self.sums[around], self.along[inside])
        return bool(np.max(np.abs(expected - self.sums[inside])) <= np.min(margin))

    def _bend(self, known: list[int], k: int) -> Any:
        """How far each eigenvalue can be off its straight way from known[k] to the next."""
        i, j = known[k], known[k + 1]
        order, s = self._order(i, j), self.along
        a, b = self.values[i], self.values[j][order]
        slope, width = (b - a) / (s[j] - s[i]), s[j] - s[i]
        second = np.zeros(len(a)) if len(known) > 2 else np.abs(slope) / width
        if k > 0:
            h = known[k - 1]
            before = np.empty_like(a)
            before[self._order(h, i)] = self.values[h]
            second = np.abs(slope - (a - before) / (s[i] - s[h])) / (s[j] - s[h])
        if k + 2 < len(known):
            m = known[k + 2]
            after = self.values[m][self._order(j, m)][order]
            behind = np.abs((after - b) / (s[m] - s[j]) - slope) / (s[m] - s[i])
            second = np.maximum(second, behind)
        return second * width**2 / 4

    def _order(self, i: int, j: int) -> Any:
        """The eigenvalues at j in the order of those at i."""
        if (i, j) not in self.matches:
            self.matches[i, j] = _assigned(self.values[i], self.values[j])
        return self.matches[i, j]


def _margins(a: Any, b: Any) -> Any:
    """Distance of the straight ways from a to b, on one side of the circle, from it."""
    step = b - a
    square = np.abs(step) ** 2
    at = np.clip(-(a.conj() * step).real / np.where(square > 0, square, 1), 0, 1)
    return np.where(np.abs(a) > 1, np.abs(a + at * step) - 1, 1 - np.maximum(np.abs(a), np.abs(b)))


def _interpolated(s: Any, values: Any, at: Any) -> Any:
    """The polynomial through the values (k, m) at s, (n, m)."""
    gaps = at[:, None] - s
    weights = np.prod(s[:, None] - s + np.eye(len(s)), axis=1)
    return np.prod(gaps, axis=1, keepdims=True) / (gaps * weights) @ values


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


def matched(before: Any, after: Any) -> tuple[Any, Any]:
    """Eigenvalues at two points, in an order of least total distance."""
    return before, after[_assigned(before, after)]


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
    """The rows, the last one repeated up to a power of two: few shapes, few compilations."""
    size = 1 << (len(rows) - 1).bit_length()
    return np.concatenate([rows, np.repeat(rows[-1:], size - len(rows), axis=0)])


@jax.jit
def _jacobians(family: Family, points: jax.Array) -> jax.Array:
    """dF/dz at each of the points u, (n, d, d)."""

    return jax.vmap(lambda u: jacobian(family.rule(u[-1]), u[:-1])[1])(points)
