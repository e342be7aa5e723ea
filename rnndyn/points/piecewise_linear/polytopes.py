"""Which of many small polytopes are empty, with proof: a batch of linear programs in NumPy."""

import numpy as np

_ITERATIONS = 40  # of an interior-point method that gains at least a digit in two or three
_BLOCK = 4_000_000  # numbers of constraints treated together
_GAP = 1e-13  # of slack times weight, at which a program counts as solved
_SLACK = 1e-15
MARGIN = 1e-9  # relative: by how much a proof of emptiness must exceed rounding


def nonempty(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Whether a_i u + b_i >= 0 for some u in [-1, 1]^d: False only where there is a proof.

    Parameters
    ----------
    a : np.ndarray, shape (N, m, d)
    b : np.ndarray, shape (N, m)

    Returns
    -------
    np.ndarray, shape (N,), bool
        True where a point was found, or where the sets only touch and rounding cannot decide.

    Notes
    -----
    For all weights w >= 0 a point of the polytope has 0 <= w (a u + b) <= w b + |w a|_1: weights
    for which that is negative prove that there is none (Farkas). They come from a primal-dual
    interior-point method for max t, a u + b >= t. Cost: O(m d^2) an iteration and polytope.
    """
    block = max(1, _BLOCK // max(1, a.shape[1] * (a.shape[2] + 1)))
    parts = [deepest(a[i : i + block], b[i : i + block])[0] for i in range(0, len(a), block)]
    return np.concatenate([np.zeros(0, bool), *parts])


def deepest(a: np.ndarray, b: np.ndarray, *, to_the_end: bool = False):
    """As `nonempty`, and the point u (N, d) and depth t (N,) reached.

    `to_the_end` goes on to the point of greatest depth, min over rows of (a u + b) / |a|_1.
    """
    count, _, d = a.shape
    size = np.sum(np.abs(a), axis=2)
    flat = size == 0
    alive = ~np.any(flat & (b < -MARGIN), axis=1)
    size = np.where(flat, 1.0, size)
    a, b = a / size[:, :, None], np.clip(b / size, -4.0, 4.0)
    b = np.where(flat, 4.0, b)
    alive &= ~np.any(b < -1 - MARGIN, axis=1)
    point, depth = np.zeros((count, d)), np.min(b, axis=1, initial=1.0)
    rows = np.flatnonzero(alive & ((depth <= 0) | to_the_end))
    box = np.broadcast_to(np.concatenate([np.eye(d), -np.eye(d)]), (len(rows), 2 * d, d))
    a = np.concatenate([a[rows], box, np.zeros((len(rows), 0, d))], axis=1)
    b = np.concatenate([b[rows], np.ones((len(rows), 2 * d))], axis=1)
    a = np.concatenate([a, -np.ones((*a.shape[:2], 1))], axis=2)
    x = np.concatenate([point[rows], depth[rows, None] - 1], axis=1)
    weights = np.full(b.shape, 1 / max(1, b.shape[1]))
    for _ in range(_ITERATIONS):
        if len(rows) == 0:
            break
        x, weights, gap = _step(a, b, x, weights)
        point[rows], depth[rows] = x[:, :d], x[:, d]
        empty = _certified(a[:, : -2 * d, :d], b[:, : -2 * d], weights[:, : -2 * d])
        alive[rows[empty]] = False
        going = ~empty & (gap > _GAP) & (to_the_end | (x[:, d] <= 0))
        rows, a, b, x, weights = rows[going], a[going], b[going], x[going], weights[going]
    return alive, point, depth


def _step(a, b, x, weights):
    """One step towards max t subject to a x + b >= 0, from strictly inside; and the gap before."""
    slack = np.maximum(_times(a, x) + b, _SLACK)
    gap = np.mean(slack * weights, axis=1)
    centring = 0.1 * gap[:, None]
    scaled = weights / slack
    turned = np.swapaxes(a, 1, 2)
    hessian = (turned * scaled[:, None, :]) @ a
    trace = np.trace(hessian, axis1=1, axis2=2)[:, None, None]
    slope = _times(turned, centring / slack)
    slope[:, -1] += 1
    change = np.linalg.solve(hessian + 1e-14 * trace * np.eye(x.shape[1]), slope[..., None])[..., 0]
    moved = _times(a, change)
    heavier = centring / slack - weights - scaled * moved
    x = x + _reach(slack, moved) * change
    return x, weights + _reach(weights, heavier) * heavier, gap


def _times(matrices: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    return (matrices @ vectors[..., None])[..., 0]


def _reach(values: np.ndarray, change: np.ndarray) -> np.ndarray:
    """The longest step up to 1 that keeps all values positive, shortened a little."""
    ratio = np.where(change < 0, -values / np.where(change < 0, change, -1.0), np.inf)
    return np.minimum(1.0, 0.95 * np.min(ratio, axis=1, keepdims=True))


def _certified(a: np.ndarray, b: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Whether the weights prove that no u in the box has a u + b >= 0."""
    reach = np.sum(np.abs(_times(np.swapaxes(a, 1, 2), weights)), axis=1)
    bound = np.sum(b * weights, axis=1) + reach
    return bound < -MARGIN * np.sum(weights, axis=1)
