"""Eigenvalues along a branch, at every point or only where a crossing could hide. A host step.

At d = 64 the eigenvalues of a point cost four times as much as finding the point, and most of
them say only that nothing has happened.
"""

from typing import Any

import jax
import numpy as np
from scipy.optimize import linear_sum_assignment

from rnndyn.branches.arclength import Family

STRIDE = 8  # points between two spectra where nothing is near
_CHUNK = 2**22  # numbers of all Jacobians that are held at once


def spectra(family: Family, nodes: Any, *, near: bool) -> Any:
    """Eigenvalues of dF/dz (n, d) at nodes in order; NaN in the rows that were left out.

    With `near`, every eighth point and the two ends come first. Between two of them all points in
    the middle follow, recursively, unless the step is calm: the tangent and the bordered
    determinant keep their signs, and each eigenvalue, matched to its successor, has moved by less
    than its distance from the unit circle.
    """
    n, width = nodes.u.shape
    values = np.full((n, width - 1), np.nan + 0j, np.result_type(nodes.u, np.complex64))
    if not near:
        values[:] = _eigenvalues(family, nodes.u)
        return values
    flips = np.flatnonzero(changes(nodes))
    wanted = {*range(0, n, STRIDE), n - 1, *flips, *(flips + 1)}
    known: list[int] = []
    while wanted:
        rows = np.array(sorted(wanted))
        values[rows] = _eigenvalues(family, nodes.u[rows])
        known = sorted({*known, *wanted})
        wanted = {
            (i + j) // 2
            for i, j in zip(known[:-1], known[1:], strict=True)
            if j > i + 1 and not _calm(values[i], values[j])
        }
    return values


def changes(nodes: Any) -> Any:
    """Whether the tangent's parameter component or the determinant changes sign, (n - 1,)."""
    turned = nodes.tangent[:, -1] >= 0
    branched = nodes.orientation >= 0
    return (turned[1:] != turned[:-1]) | (branched[1:] != branched[:-1])


def matched(before: Any, after: Any) -> tuple[Any, Any]:
    """Eigenvalues at two points, in an order of least total distance."""
    rows, columns = linear_sum_assignment(np.abs(before[:, None] - after[None]))
    return before[rows], after[columns]


def unstable(values: Any) -> Any:
    """How many eigenvalues lie outside the circle; rows left out count as those before them."""
    count = np.sum(np.abs(values) >= 1, axis=1)
    rows = np.where(np.isnan(values[:, 0]), 0, np.arange(len(values)))
    return count[np.maximum.accumulate(rows)]


def _calm(before: Any, after: Any) -> bool:
    a, b = matched(before, after)
    margin = np.minimum(np.abs(np.abs(a) - 1), np.abs(np.abs(b) - 1))
    same = (np.abs(a) > 1) == (np.abs(b) > 1)
    return bool(np.all(same & (np.abs(a - b) <= margin)))


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

    return jax.vmap(lambda u: jax.jacfwd(family.rule(u[-1]))(u[:-1]))(points)
