"""Cycles whatever their phase: one order of points and of cycles for all who list them."""

import numpy as np


def from_smallest(loops: np.ndarray, near: float) -> np.ndarray:
    """How many steps into each cycle (m, k, d) its smallest point is, shape (m,).

    Points are compared by their first coordinate, then by the next, rounded to `near`.
    """
    rounded = np.round(loops / near) + 0.0  # -0.0 becomes 0.0
    return np.array([np.lexsort(rows.T[::-1])[0] for rows in rounded], int)


def advance(rows: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """Rows (m, k, ...) each some steps later in its cycle."""
    m, k = rows.shape[:2]
    return rows[np.arange(m)[:, None], (steps[:, None] + np.arange(k)) % k]


def in_order(loops: np.ndarray, near: float) -> np.ndarray:
    """The rows sorted by their points one after another, rounded to `near`."""
    if len(loops) == 0:
        return np.zeros(0, int)
    flat = np.round(loops.reshape(len(loops), -1) / near) + 0.0
    return np.lexsort(flat.T[::-1])


def smallest_periods(loops: np.ndarray, near: float) -> np.ndarray:
    """The smallest divisor p of k for which z_{i+p} = z_i to within `near`, for each row."""
    m, k, _ = loops.shape
    smallest = np.full(m, k)
    for p in range(k - 1, 0, -1):
        if k % p == 0:
            gap = np.roll(loops, -p, axis=1) - loops
            smallest[np.sqrt(np.sum(gap**2, axis=(1, 2))) <= near] = p
    return smallest
