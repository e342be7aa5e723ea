"""Log singular values of a graded matrix diag(exp s) R, to high relative accuracy.

One-sided Jacobi (`jacobi`) always finds them, at many passes over the matrix. QR finds them too,
faster: R = L Q turns diag(exp s) R into (diag(exp s) L) Q, whose transpose is triangular with
entries that fall with the ratio of the scales, and every further turn multiplies them by that
ratio again (Drmac & Veselic 2008 precondition Jacobi so). After TURNS of them rows whose scales
differ by more than `cap` no longer see each other in the precision at hand:

- gaps between scales beyond `cap` are shortened to it, so that the range of the dtype holds many;
- a triangular matrix that is graded from large to small in rows and columns is bidiagonalised
  row by row stably, and its values are then found by dqds (Fernando & Parlett 1994), so that
  LAPACK's values keep their relative accuracy over the 500 nats that the squares of float64 hold;
- longer spectra are cut into overlapping windows of which the middle halves count.

Where neither holds (rows that depend on each other to rounding, a rank known to be smaller), the
Jacobi rotations do it. tests/flow/ compares both with multiprecision.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rnndyn.flow import jacobi
from rnndyn.flow.graded import Rows

TURNS = 2
_SMALLEST_QUARTER = 4


@jax.custom_jvp
def log_singular_values(factor: Rows, rank: jax.Array) -> tuple[jax.Array, ...]:
    """Natural logarithms of the singular values of diag(exp s) R.

    Parameters
    ----------
    factor : Rows, n rows of length n
    rank : jax.Array, int
        How many values can differ from zero; the others are -inf.

    Returns
    -------
    tuple
        Values (n,), descending, -inf exactly where zero; the largest |cosine| between rows that
        the rotations left, 0 without rotations; and the largest loss of digits in R, which is
        1 / (the distance of a unit row from the span of the longer ones). Differentiable: d log
        sigma_i = u_i^T dA v_i / sigma_i, also where singular values are equal.
    """
    return _values(factor, rank)


@log_singular_values.defjvp
def _log_singular_values_jvp(primals: Any, tangents: Any) -> Any:
    factor, rank = primals
    (values, _, _, worst), (values_dot, *_) = jax.jvp(
        lambda rows: jacobi.log_svd(Rows(factor.scale, rows), rank),
        (factor.rows,),
        (tangents[0].rows,),
    )
    _, pivots = _turn(_with_dead(factor))
    zero = jnp.zeros_like(worst)
    return (values, worst, _loss(pivots, rank)), (values_dot, zero, zero)


@jax.custom_batching.sequential_vmap
def _values(factor: Rows, rank: jax.Array) -> tuple[jax.Array, ...]:
    """One factor at a time under vmap too, so that only the way that is taken is paid."""
    n, eps = len(factor.scale), float(jnp.finfo(factor.scale.dtype).eps)
    turned, pivots = jax.lax.scan(lambda f, _: _turn(f), _with_dead(factor), length=TURNS)
    loss = _loss(pivots[0], rank)
    alive = jnp.sum(turned.scale > -jnp.inf)
    shortened, lift = _shortened(turned, alive)
    possible, ways = _ways(shortened, alive)
    independent = jnp.where(jnp.arange(n) < alive, pivots[0], 1) > 16 * n * eps
    possible &= (alive <= rank) & jnp.all(independent)
    way = jnp.where(jnp.any(possible), jnp.argmax(possible), len(ways))

    def by_lapack(values_of):
        values = values_of(shortened) - lift
        values = jnp.where(jnp.arange(n) < alive, values, -jnp.inf)
        return jnp.sort(values, descending=True), jnp.zeros_like(loss)

    def by_rotations():
        lengths, _, _, worst = jacobi.orthogonal_rows(factor, rank, vectors=False)
        return jnp.sort(lengths, descending=True), worst

    branches = [partial(by_lapack, values_of) for values_of in ways]
    values, worst = jax.lax.switch(way, [*branches, by_rotations])
    return values, worst, loss


def _with_dead(factor: Rows) -> Rows:
    return Rows(jnp.where(jnp.any(factor.rows != 0, axis=1), factor.scale, -jnp.inf), factor.rows)


def _turn(factor: Rows) -> tuple[Rows, jax.Array]:
    """(diag(exp s) L)^T of diag(exp s) R = diag(exp s) L Q, rows sorted; and |diag L|."""
    order = jnp.argsort(-factor.scale)
    scale, rows = factor.scale[order], factor.rows[order]
    lower = jnp.linalg.qr(rows.T, mode="r").T
    pivots = jnp.abs(jnp.diagonal(lower))
    alive = (scale > -jnp.inf) & (pivots > 0)
    finite = jnp.where(alive, scale, jnp.min(jnp.where(alive, scale, jnp.inf)))
    weights = jnp.exp(jnp.minimum(finite[None, :] - finite[:, None], 0))
    upper = jnp.where(alive[:, None] & alive[None, :], jnp.triu(lower.T) * weights, 0)
    length = jnp.sqrt(jnp.sum(upper**2, axis=1))
    length = jnp.where(alive, length, jnp.ones_like(length))
    scale = jnp.where(alive, finite + jnp.log(length), -jnp.inf)
    return Rows(scale, upper / length[:, None]), pivots


def _loss(pivots: jax.Array, rank: jax.Array) -> jax.Array:
    """The condition of unit rows: 1 / |pivot|, of as many as count."""
    least = jnp.sort(pivots, descending=True)[jnp.maximum(rank, 1) - 1]
    return jnp.where(rank > 0, 1 / least, jnp.zeros_like(least))


def _shortened(turned: Rows, alive: jax.Array) -> tuple[Rows, jax.Array]:
    """Scales with gaps of at most `cap` between rows above and below; by how much they rose.

    A shorter gap g changes a value by a factor of 1 + O(exp(-2 g) c^2), with the cosine c between
    the rows, of order exp(-TURNS gap).
    """
    cap = _digits(turned.scale.dtype) / (2 * (1 + TURNS)) + 1
    least = jnp.min(jnp.where(turned.scale > -jnp.inf, turned.scale, jnp.inf))
    scale = jnp.where(turned.scale > -jnp.inf, turned.scale, least - 2 * cap)
    above = jax.lax.cummin(scale)
    below = jax.lax.cummax(scale, reverse=True)
    rise = jnp.cumsum(jnp.maximum(above[:-1] - below[1:] - cap, 0))
    lift = jnp.concatenate([jnp.zeros_like(scale[:1]), rise])
    index = jnp.arange(len(scale))
    dead = index >= alive
    unit = jnp.where(dead[:, None], jnp.eye(len(scale), dtype=scale.dtype), turned.rows)
    return Rows(scale + lift, unit), lift


def _ways(graded: Rows, alive: jax.Array) -> tuple[jax.Array, list[Any]]:
    """Windows from narrow to the whole matrix: which of them are possible, and their values."""
    n, dtype = len(graded.scale), graded.scale.dtype
    widest = 0.42 * float(np.log(jnp.finfo(dtype).max) - np.log(jnp.finfo(dtype).tiny))
    margin = _digits(dtype) / (2 * TURNS) + 2
    possible, ways = [], []
    for quarter in sorted({-(-n // parts) for parts in (64, 32, 16, 8)}):
        if quarter < _SMALLEST_QUARTER or 2 * quarter >= n:
            continue
        windows = _windows(n, quarter)
        scale = graded.scale[np.minimum(windows, n - 1)]
        narrow = jnp.max(jnp.max(scale, axis=1) - jnp.min(scale, axis=1)) <= widest
        above = jax.lax.cummin(graded.scale)[:-quarter]
        below = jax.lax.cummax(graded.scale, reverse=True)[quarter:]
        apart = (above - below >= margin) | (jnp.arange(quarter, n) >= alive)
        possible.append(narrow & jnp.all(apart))
        ways.append(partial(_by_windows, windows))
    possible.append(jnp.max(graded.scale) - jnp.min(graded.scale) <= widest)
    return jnp.array(possible), [*ways, _at_once]


def _windows(n: int, quarter: int) -> np.ndarray:
    """Rows of windows four quarters wide that begin two quarters apart and cover 0..n-1."""
    count = max(-(-n // (2 * quarter)) - 1, 1)
    return 2 * quarter * np.arange(count)[:, None] + np.arange(4 * quarter)[None, :]


def _by_windows(windows: np.ndarray, graded: Rows) -> jax.Array:
    """The values of the middle halves of windows, and of the outer quarters of all."""
    n, quarter = len(graded.scale), windows.shape[1] // 4
    padding = windows[-1, -1] + 1 - n
    scale = jnp.pad(graded.scale, (0, padding), mode="edge")[windows]
    rows = jnp.pad(graded.rows, (0, padding))
    i = np.arange(n, n + padding)
    rows = rows.at[i, i].set(1)
    top = scale[:, :1]
    blocks = rows[windows[:, :, None], windows[:, None, :]] * jnp.exp(scale - top)[:, :, None]
    logs = jnp.log(jnp.linalg.svd(blocks, compute_uv=False)) + top
    middle = logs[:, quarter : 3 * quarter].ravel()
    return jnp.concatenate([logs[0, :quarter], middle, logs[-1, 3 * quarter :]])[:n]


def _at_once(graded: Rows) -> jax.Array:
    top = graded.scale[0]
    weights = jnp.exp(graded.scale - top)
    return jnp.log(jnp.linalg.svd(weights[:, None] * graded.rows, compute_uv=False)) + top


def _digits(dtype: Any) -> float:
    return -float(np.log(jnp.finfo(dtype).eps))
