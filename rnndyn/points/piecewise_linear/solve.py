"""The cycle that follows a given sequence of patterns: one linear system for all its points."""

import dataclasses

import numpy as np

from rnndyn.points.piecewise_linear.form import ReluForm
from rnndyn.points.piecewise_linear.polytopes import MARGIN, deepest

_ROUNDING = 64  # multiple of eps, times the condition of the system, to which points are known
_BLOCK = 2**22  # numbers of matrices decomposed together


@dataclasses.dataclass(frozen=True)
class Box:
    low: np.ndarray
    high: np.ndarray


@dataclasses.dataclass(frozen=True)
class Solved:
    """Cycles of one period, one a row.

    Attributes
    ----------
    points : np.ndarray, shape (m, k, d)
    patterns : np.ndarray, shape (m, k, n), bool
    border : np.ndarray, shape (m,), bool
        Whether a switch is at its kink, to rounding.
    """

    points: np.ndarray
    patterns: np.ndarray
    border: np.ndarray


@dataclasses.dataclass(frozen=True)
class Continuum:
    """A flat piece of cycles that all follow one sequence of patterns.

    Attributes
    ----------
    points : np.ndarray, shape (k, d)
        One of the cycles, deep inside.
    directions : np.ndarray, shape (q, k d)
        Orthonormal; in which all k points together can move.
    patterns : np.ndarray, shape (k, n), bool
    """

    points: np.ndarray
    directions: np.ndarray
    patterns: np.ndarray


def solve(form: ReluForm, patterns: np.ndarray, primitive: np.ndarray, box: Box):
    """The cycles in the box that follow the sequences of patterns (N, k, n).

    Returns
    -------
    tuple
        `Solved`, and a list of `Continuum` where I - C is singular: of a sequence that repeats a
        shorter one (not `primitive`), only where it adds a dimension to what that one gives.
        Cost: O((k d)^3) each.
    """
    count, k, n = patterns.shape
    d = len(box.low)
    block = max(1, _BLOCK // (k * d) ** 2)
    isolated, continua = [], []
    for start in range(0, count, block):
        rows = slice(start, start + block)
        some, flat = _solve(form, patterns[rows], primitive[rows], box)
        isolated.append(some)
        continua += flat
    empty = Solved(np.zeros((0, k, d)), np.zeros((0, k, n), bool), np.zeros(0, bool))
    fields = [field.name for field in dataclasses.fields(Solved)]
    parts = [empty, *isolated]
    continua = _largest(form, continua)
    joined = Solved(*(np.concatenate([getattr(p, name) for p in parts]) for name in fields))
    return _distinct(form, joined, continua), continua


def _solve(form: ReluForm, patterns: np.ndarray, primitive: np.ndarray, box: Box):
    count, k, _ = patterns.shape
    d = len(box.low)
    pieces = form.pieces(patterns)
    system = np.zeros((count, k, d, k, d))
    system[:, np.arange(k), :, np.arange(k), :] += np.eye(d)
    following = (np.arange(k) + 1) % k
    system[:, following, :, np.arange(k), :] -= np.swapaxes(pieces.jacobians, 0, 1)
    system = system.reshape(count, k * d, k * d)
    right = np.roll(pieces.shifts, 1, axis=1).reshape(count, k * d)
    u, sizes, v = np.linalg.svd(system)
    eps = np.finfo(float).eps
    floor = _ROUNDING * k * d * eps * np.maximum(1.0, sizes[:, 0])
    missing = np.sum(sizes <= floor[:, None], axis=1)
    inverse = np.where(sizes > floor[:, None], 1 / np.maximum(sizes, floor[:, None]), 0.0)
    z = np.zeros((count, k * d))
    for _ in range(2):  # the second time to refine
        gap = right - np.einsum("nij,nj->ni", system, z)
        z += np.einsum("nij,ni->nj", v, inverse * np.einsum("nij,ni->nj", u, gap))
    error = (
        _ROUNDING * eps * sizes[:, 0] * np.max(inverse, axis=1) * (1 + np.max(np.abs(z), axis=1))
    )
    points = z.reshape(count, k, d)
    fits, border = _fit(pieces, patterns, points, error, box)
    kept = np.flatnonzero(fits & (missing == 0) & primitive)
    found = Solved(points[kept], patterns[kept], border[kept])
    flat = []
    for i in np.flatnonzero(missing > 0):
        basis, left = v[i, k * d - missing[i] :], u[i, :, k * d - missing[i] :]
        solvable = np.max(np.abs(left.T @ right[i])) <= floor[i] * (1 + np.max(np.abs(right[i])))
        if solvable and (primitive[i] or missing[i] > _inherited(form, patterns[i])):
            piece = _continuum(pieces, i, patterns[i], points[i], basis, box)
            flat += [] if piece is None else [piece]
    return found, flat


def _fit(pieces, patterns, points, error, box) -> tuple[np.ndarray, np.ndarray]:
    """Whether points have the patterns and lie in the box, to rounding; and which at a kink."""
    s = np.einsum("nkij,nkj->nki", pieces.rows, points) + pieces.offsets
    slack = error[:, None, None] * (1 + np.sum(np.abs(pieces.rows), axis=3))
    border = np.abs(s) <= slack
    follows = np.all(border | ((s > 0) == patterns), axis=(1, 2))
    room = error[:, None, None]
    inside = np.all((points >= box.low - room) & (points <= box.high + room), axis=(1, 2))
    return follows & inside, np.any(border, axis=(1, 2))


def _inherited(form: ReluForm, patterns: np.ndarray) -> int:
    """Dimensions of solutions that a repeated sequence has from the shorter ones in it."""
    k = len(patterns)
    most = 0
    for p in range(1, k):
        if k % p == 0 and np.array_equal(patterns, np.roll(patterns, p, axis=0)):
            jacobians = form.pieces(patterns[:p]).jacobians
            d = jacobians.shape[1]
            product = np.eye(d)
            for jacobian in jacobians:
                product = jacobian @ product
            sizes = np.linalg.svd(np.eye(d) - product, compute_uv=False)
            floor = _ROUNDING * d * p * np.finfo(float).eps * max(1.0, sizes[0])
            most = max(most, int(np.sum(sizes <= floor)))
    return most


def _continuum(pieces, i, patterns, points, basis, box) -> Continuum | None:
    """The solutions points + a basis, a in R^q, if some of them have the patterns strictly."""
    q = len(basis)
    k, d = points.shape
    moves = basis.reshape(q, k, d)
    reach = np.sqrt(k) * np.linalg.norm(np.maximum(np.abs(box.low), np.abs(box.high)))
    reach += np.linalg.norm(points)
    signs = np.where(patterns, 1.0, -1.0)
    s = np.einsum("kij,kj->ki", pieces.rows[i], points) + pieces.offsets[i]
    turns = signs[..., None] * np.einsum("kij,qkj->kiq", pieces.rows[i], moves)
    along = np.moveaxis(moves, 0, 2)
    a = np.concatenate([turns.reshape(-1, q), along.reshape(-1, q), -along.reshape(-1, q)])
    b = [signs * s, points - box.low, box.high - points]
    b = np.concatenate([rows.ravel() for rows in b])
    a = np.where(np.abs(a) <= _ROUNDING * np.finfo(float).eps * np.max(np.abs(a)), 0.0, a)
    alive, at, depth = deepest(reach * a[None], b[None], to_the_end=True)
    if not alive[0] or depth[0] <= MARGIN:
        return None
    moved = points + reach * np.tensordot(at[0], moves, axes=1)
    return Continuum(moved, basis, patterns)


def _distinct(form: ReluForm, found: Solved, continua: list[Continuum]) -> Solved:
    """Without copies: at a kink several patterns give one cycle, or the end of a continuum."""
    loops, k = found.points, found.points.shape[1]
    kept: list[int] = []
    for i in range(len(loops)):
        near = 1e3 * _ROUNDING * np.finfo(float).eps * (1 + np.max(np.abs(loops[i]), initial=0.0))
        if found.border[i]:
            turns = [np.roll(loops[i], shift, axis=0) for shift in range(k)]
            others = [loops[j] for j in kept if found.border[j]]
            copies = [np.max(np.abs(other - turn)) for other in others for turn in turns]
            copies += [np.max(np.abs(loops[i] - turn)) for turn in turns[1:]]
            if min(copies, default=np.inf) <= near:
                continue
            if any(_belongs(form, c, turn, near) for c in continua for turn in turns):
                continue
        kept.append(i)
    rows = np.array(kept, int)
    return Solved(loops[rows], found.patterns[rows], found.border[rows])


def _largest(form: ReluForm, continua: list[Continuum]) -> list[Continuum]:
    """Without those that are part of one of higher dimension, whose border they are."""
    kept: list[Continuum] = []
    for piece in sorted(continua, key=lambda one: -len(one.directions)):
        near = 1e-9 * (1 + np.max(np.abs(piece.points)))
        k = len(piece.points)
        turns = [np.roll(piece.points, shift, axis=0) for shift in range(k)]
        larger = [other for other in kept if len(other.directions) > len(piece.directions)]
        if not any(_belongs(form, other, turn, near) for other in larger for turn in turns):
            kept.append(piece)
    return kept


def _belongs(form: ReluForm, continuum: Continuum, points: np.ndarray, near: float) -> bool:
    """Whether the points are one of the cycles of a continuum, its border included."""
    gap = np.ravel(points - continuum.points)
    outside = gap - continuum.directions.T @ (continuum.directions @ gap)
    s = np.where(continuum.patterns, 1.0, -1.0) * form(points)[1]
    return bool(np.max(np.abs(outside)) <= near and np.all(s >= -near))
