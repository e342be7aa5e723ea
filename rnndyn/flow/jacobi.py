"""Log singular values of a graded matrix, by one-sided Jacobi on rows with logarithmic lengths.

Demmel & Veselic (1992): one-sided Jacobi finds all singular values of diag(exp s) R to a relative
accuracy that depends on the condition of R alone. The lengths are kept as logarithms, so the
grading may span any number of decades.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rnndyn.flow.graded import Rows

MAX_SWEEPS = 40


@jax.custom_jvp
def log_svd(factor: Rows, rank: jax.Array) -> tuple[jax.Array, ...]:
    """diag(exp s) R = W diag(exp values) Z^T by rotations.

    Returns
    -------
    tuple
        Values (n,), descending, -inf exactly where zero; W (n, n); Z^T (n, k); and the largest
        |cosine| that the last sweep met. The values are differentiable, also where they are equal:
        d log sigma_i = w_i^T dA z_i / sigma_i; W and Z count as constants.
    """
    lengths, units, mix, worst = orthogonal_rows(factor, rank, vectors=True)
    order = jnp.argsort(-lengths)
    scale = jnp.where(lengths > -jnp.inf, lengths, jnp.zeros_like(lengths))
    ratio = scale[:, None] - factor.scale[None, :]
    left = mix * jnp.exp(jnp.where(mix == 0, jnp.zeros_like(ratio), ratio))
    return lengths[order], left[order].T, units[order], worst


@log_svd.defjvp
def _log_svd_jvp(primals: Any, tangents: Any) -> Any:
    lengths, units, mix, _ = orthogonal_rows(*primals, vectors=True)
    # mix_ij = w_ij exp(s_j) / sigma_i, accumulated in scaled variables.
    values_dot = jnp.sum((mix @ tangents[0].rows) * units, axis=1)
    values_dot = jnp.where(jnp.isneginf(lengths), jnp.zeros_like(lengths), values_dot)
    primal = log_svd(*primals)
    constants = (jnp.zeros_like(leaf) for leaf in primal[1:])
    return primal, (values_dot[jnp.argsort(-lengths)], *constants)


def cosine_tolerance(n: int, dtype: Any) -> float:
    """The largest |cosine| between rows that counts as orthogonal: n eps."""
    return max(n, 4) * float(jnp.finfo(dtype).eps)


def orthogonal_rows(factor: Rows, rank: jax.Array, *, vectors: bool) -> tuple[jax.Array, ...]:
    """Rotate the rows of diag(exp s) R until they are orthogonal.

    Two rows p, q, with p the longer, rho = |q|/|p| and c the cosine between them, are rotated by
    the angle theta with tan theta = rho tau, tau = 2c/(1 - rho^2 + sqrt((1 - rho^2)^2 +
    4 rho^2 c^2)): in unit vectors p + tau rho^2 q and q - tau p, both times cos theta, which needs
    no number outside the range of the dtype; rho = 0 gives a step of Gram-Schmidt. Pairs follow
    a round robin, n/2 at once. A row that is parallel to another to 16 n eps, of
    which rounding has left no more than a digit, becomes zero.

    Parameters
    ----------
    factor : Rows, n rows of length k
    rank : jax.Array, int
        How many values can differ from zero; the others are set to -inf, and what rounding made
        of them is not waited for.
    vectors : bool
        Whether to accumulate what was mixed.

    Returns
    -------
    tuple
        Log lengths (n,), -inf exactly where zero; unit rows (n, k); what was mixed, (n, n) or
        (n, 0); and the largest |cosine| that the last sweep met, which says whether the sweeps
        (at most MAX_SWEEPS) were enough.
    """
    n, width = factor.rows.shape
    lengths = jnp.where(jnp.any(factor.rows != 0, axis=1), factor.scale, -jnp.inf)
    order = jnp.argsort(-lengths)
    rows = factor.rows[order]
    if vectors:
        rows = jnp.concatenate([rows, jnp.eye(n, dtype=rows.dtype)[order]], axis=1)
    rows = jnp.concatenate([rows, jnp.zeros((n % 2, rows.shape[1]), rows.dtype)])
    lengths = jnp.concatenate([lengths[order], jnp.full((n % 2,), -jnp.inf, rows.dtype)])
    tolerance = cosine_tolerance(n, rows.dtype)
    pairs = jnp.asarray(_round_robin(n + n % 2))

    def unfinished(carry):
        _, _, worst, sweeps = carry
        return (worst > tolerance) & (sweeps < MAX_SWEEPS)

    def one_sweep(carry):
        rows, lengths, _, sweeps = carry
        least = jnp.sort(lengths, descending=True)[rank - 1]
        start = (rows, lengths, jnp.zeros((), rows.dtype), least)
        (rows, lengths, worst, _), _ = jax.lax.scan(rotate, start, pairs)
        return rows, lengths, worst, sweeps + 1

    def rotate(carry, pair):
        rows, lengths, worst, least = carry
        counts = jnp.minimum(lengths[pair[0]], lengths[pair[1]]) >= least
        rows, lengths, cosines = _rotate(rows, lengths, pair, width)
        cosine = jnp.max(jnp.where(counts, jnp.abs(cosines), jnp.zeros_like(cosines)))
        return (rows, lengths, jnp.maximum(worst, cosine), least), None

    start = (rows, lengths, jnp.full((), jnp.inf, rows.dtype), jnp.int32(0))
    rows, lengths, worst, _ = jax.lax.while_loop(unfinished, one_sweep, start)
    lengths = lengths[:n]
    order = jnp.argsort(-lengths)
    ranked = jnp.zeros((n,), int).at[order].set(jnp.arange(n))
    lengths = jnp.where(ranked < rank, lengths, -jnp.inf)
    return lengths, rows[:n, :width], rows[:n, width:], worst


def _rotate(rows: jax.Array, lengths: jax.Array, pair: jax.Array, width: int):
    """Make each pair of rows orthogonal; the cosines before."""
    first, second = pair
    swapped = lengths[first] < lengths[second]
    p, q = jnp.where(swapped, second, first), jnp.where(swapped, first, second)
    log_rho = jnp.where(jnp.isneginf(lengths[q]), -jnp.inf, lengths[q] - lengths[p])
    rho2, gap = jnp.exp(2 * log_rho), -jnp.expm1(2 * log_rho)
    cosine = jnp.sum(rows[p, :width] * rows[q, :width], axis=1)
    below = gap + jnp.sqrt(gap**2 + 4 * rho2 * cosine**2)
    tau = jnp.where(below == 0, jnp.zeros_like(below), 2 * cosine / jnp.where(below == 0, 1, below))
    log_cos = -0.5 * jnp.log1p(rho2 * tau**2)
    longer = rows[p] + (tau * rho2)[:, None] * rows[q]
    shorter = rows[q] - tau[:, None] * rows[p]
    for index, made in ((p, longer), (q, shorter)):
        length = jnp.sqrt(jnp.sum(made[:, :width] ** 2, axis=1))
        parallel = length <= 16 * cosine_tolerance(len(rows), rows.dtype)  # rounding is left
        length = jnp.where(parallel, jnp.inf, length)
        rows = rows.at[index].set(made / length[:, None])
        lengths = lengths.at[index].add(jnp.where(parallel, -jnp.inf, jnp.log(length) + log_cos))
    return rows, lengths, cosine


def _round_robin(n: int) -> np.ndarray:
    """All pairs of n (even) players in n - 1 rounds, shape (n - 1, 2, n / 2)."""
    circle, rounds = list(range(n)), []
    for _ in range(n - 1):
        rounds.append([circle[: n // 2], circle[: n // 2 - 1 : -1]])
        circle = [circle[0], circle[-1], *circle[1:-1]]
    return np.array(rounds, np.int32).reshape(n - 1, 2, n // 2)
