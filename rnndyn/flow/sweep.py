"""One sweep for all lags: products of Jacobians as graded factors, at the cost of a plain chain.

P^T E = F L, with P = dz_T/dz_{T-lag} and E the unit vectors of the coordinates, is pulled
backwards: J^T F = F' R gives L' = R L. The frame F must be well conditioned, and be renewed before
its columns lose their digits to the leading ones. That need not be at every step, nor by QR:

- after `interval` steps F is renewed by Gaussian elimination, a quarter of the cost of QR;
- what that loses is known afterwards (`graded.losses`); the interval is halved where it exceeds
  eps^(-0.3), doubled where there is room, and a block of steps that lost more than eps^(-3/8)
  is done again (times (n / 128)^3 and (n / 128)^2 for larger n: a few 1e-9 in a value at n = 512);
- then, and where one step alone loses as much (saturated or dead units), every step has two QRs
  with the sizes of the rows of J taken out (`graded.orthonormalise`);
- where those lose hardly less (steps that are ill conditioned whatever the scale of their rows,
  as those of an LSTM are), elimination at every step is let lose as much.
"""

from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rnndyn.core.factor import eliminate, triangular_product
from rnndyn.core.pytree import pytree
from rnndyn.core.split import largest_of_rows
from rnndyn.flow import graded
from rnndyn.flow.graded import Rows
from rnndyn.linearize import Linearization

BLOCK = 8  # steps that are done again when they lost too much; the longest interval
_SIZE = 128  # beyond it elimination may lose more, as the condition of two steps grows with n^2
_CONDITION = 8  # of a frame by elimination, by which its triangle is worse than that of QR


@pytree
class Sweep:
    """P[c, c]^T = F diag(exp scale) rows so far, of n coordinates.

    Attributes
    ----------
    factor : Rows
        scale (n,), rows (n, n).
    rank : jax.Array, int
        The most singular values that can differ from zero, from the pattern of exact zeros.
    finite : jax.Array, bool
        Whether all Jacobians so far are.
    rounding : jax.Array, shape (n,)
        First-order bound on the relative error of each row of the factor.
    """

    factor: Rows
    rank: jax.Array
    finite: jax.Array
    rounding: jax.Array


@pytree
class _Carry:
    frame: jax.Array  # F (d, n)
    factor: Rows  # L
    pattern: jax.Array  # (d, n): 1 where an entry of P^T E may differ from zero
    finite: jax.Array
    rounding: jax.Array
    turned: jax.Array  # (n, n): how far rounding may have turned column j of F towards column i
    interval: jax.Array  # steps between eliminations; 0: QR at every step
    loss: jax.Array  # the largest of the block
    limit: jax.Array  # what elimination may lose


def sweep(lin: Linearization, lags: tuple[int, ...], coordinates: tuple[int, ...]) -> Sweep:
    """The block P[c, c]^T of P = dz_T/dz_{T-lag} as graded factors, for all lags in one pass.

    Returns
    -------
    Sweep
        With a leading axis of lags; its singular values are those of the block. Cost O(max(lags)
        d^3), without storing the Jacobians in another order or the factors of other lags.
    """
    chosen, n = np.array(coordinates), len(coordinates)
    frame, start = _first_frame(lin, chosen)
    zero = jnp.zeros((n,), lin.dtype)
    first = Sweep(graded.normalise(start), jnp.asarray(n), jnp.array(True), zero)
    store = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (len(lags), *leaf.shape)), first)
    if max(lags) == 0:
        return store
    most, aim = _limits(n, lin.dtype)

    def block(carry, entry):
        carry, store = carry
        newest, length, slot = entry
        lose = jnp.asarray(jnp.inf, lin.dtype)
        tried = jax.lax.cond(
            carry.interval > 0,
            partial(_by_elimination, lin, newest, length),
            lambda carry: replace(carry, loss=lose),
            carry,
        )
        kept = tried.loss <= carry.limit
        carry = jax.lax.cond(
            kept,
            lambda carry, tried: tried,
            lambda carry, tried: _by_qr(lin, newest, length, most, carry),
            carry,
            tried,
        )
        carry = replace(carry, interval=_next_interval(carry, kept, aim))
        kept = jax.lax.cond(
            slot < len(lags), partial(_restricted, chosen), lambda carry: first, carry
        )
        store = jax.tree.map(lambda all_, one: all_.at[slot].set(one, mode="drop"), store, kept)
        return (carry, store), None

    finite, limit = jnp.array(True), jnp.asarray(most, lin.dtype)
    turned = jnp.zeros((n, n), lin.dtype)
    rest = (jnp.int32(2), zero[0], limit)
    start = _Carry(frame, start, _pattern(frame), finite, zero, turned, *rest)
    (_, store), _ = jax.lax.scan(block, (start, store), graded.blocks(lin.steps, lags, BLOCK))
    return store


def _limits(n: int, dtype: Any) -> tuple[float, float]:
    """What a block of steps may lose, and what the interval aims at."""
    eps, wide = float(jnp.finfo(dtype).eps), max(1.0, n / _SIZE) ** 2
    return wide * eps**-0.375, wide**1.5 * eps**-0.3


def _by_elimination(lin: Linearization, newest: Any, length: Any, carry: _Carry) -> _Carry:
    """The steps of a block, with Gaussian elimination after every interval."""

    def step(carry, index):
        within = index < length
        at = graded.slice_at(lin, newest - index)
        pulled = jax.lax.cond(within, lambda frame: lin.pull(at, frame), lambda f: f, carry.frame)
        carry = replace(carry, frame=pulled)
        due = within & (((index + 1) % carry.interval == 0) | (index + 1 == length))
        return jax.lax.cond(due, renew, lambda carry: carry, carry), None

    def renew(carry):
        frame, r = eliminate(carry.frame)
        return _renewed(carry, frame, r, graded.losses(r))

    carry = replace(carry, loss=jnp.zeros_like(carry.loss))
    carry, _ = jax.lax.scan(step, carry, jnp.arange(BLOCK, dtype=jnp.int32))
    # Nonsingular Jacobians: which entries are zero is not followed, only which columns are.
    alive = jnp.any(carry.pattern != 0, axis=0)
    pattern = jnp.broadcast_to(alive[None, :], carry.pattern.shape)
    return replace(carry, pattern=pattern.astype(carry.pattern.dtype))


def _by_qr(lin: Linearization, newest: Any, length: Any, most: float, carry: _Carry) -> _Carry:
    """The steps of a block, with QR at each; the loss is what elimination would have had.

    Of which elimination may have, from then on, `_CONDITION` times what the two QRs had.
    """

    def step(carry, index):
        return jax.lax.cond(index < length, renew, lambda carry, _: carry, carry, index), None

    def renew(carry, index):
        transposed = lin.transposed(graded.slice_at(lin, newest - index))
        pattern = jnp.sign(_pattern(transposed) @ carry.pattern)
        fixed = jax.lax.stop_gradient((transposed, carry.frame))
        frame, r, lost = graded.orthonormalise_with_losses(transposed @ carry.frame, fixed)
        share = jnp.max(lost) / jnp.max(graded.losses(r))  # of it that the QRs had
        limit = jnp.maximum(carry.limit, _CONDITION * share * graded.grading(r))
        carry = _renewed(carry, frame, r, lost)
        finite = carry.finite & jnp.all(jnp.isfinite(r))
        return replace(carry, pattern=pattern, finite=finite, limit=limit)

    usual = jnp.full_like(carry.loss, most)
    carry = replace(carry, loss=jnp.zeros_like(carry.loss), limit=usual)
    carry = jax.lax.scan(step, carry, jnp.arange(BLOCK, dtype=jnp.int32))[0]
    # Beyond eps^(-3/4) a pivot may be one that is zero: only the pattern, which QR follows, knows.
    sound = carry.limit <= float(jnp.finfo(usual.dtype).eps) ** -0.75
    return replace(carry, limit=jnp.where(sound, carry.limit, usual))


def _renewed(carry: _Carry, frame: jax.Array, r: jax.Array, lost: jax.Array) -> _Carry:
    factor = _extended(r, carry.factor)
    turned, passed = _turned(carry.turned, r, lost, factor.scale)
    return replace(
        carry,
        frame=frame,
        factor=factor,
        rounding=carry.rounding + _unit(r) * lost + passed,
        turned=turned,
        loss=jnp.maximum(carry.loss, graded.grading(r)),
    )


def _turned(
    turned: jax.Array, r: jax.Array, lost: jax.Array, scale: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Entries X_ij of rounding (I + X) between R and F, and what those let go do to rows.

    F (I + X) R L is F R (I + R^-1 X R) L: entry ij grows by |r_ii / r_jj| with the steps to come.
    On the other side of L it is exp(l_j - l_i) as large, so wherever row i is the longer it goes
    there and stays. What is left is a turn between directions that grow in the wrong order; only
    where that is undone by later steps it counts.
    """
    r, scale = jax.lax.stop_gradient((r, scale))
    pivots = jnp.abs(jnp.diagonal(r))
    alive = (pivots[:, None] > 0) & (pivots[None, :] > 0)
    pivots = jnp.where(pivots > 0, pivots, jnp.ones_like(pivots))
    eps = jnp.asarray(jnp.finfo(r.dtype).eps, r.dtype)
    turned = turned * (pivots[:, None] / pivots[None, :]) + eps * lost[None, :]
    turned = jnp.where(jnp.isnan(turned), jnp.full_like(turned, jnp.inf), turned)
    turned = jnp.where(alive, turned, jnp.zeros_like(turned))
    gap = scale[None, :] - scale[:, None]
    gone = jnp.where(gap <= 0, turned * jnp.exp(jnp.minimum(gap, 0)), jnp.zeros_like(turned))
    return jnp.where(gap <= 0, jnp.zeros_like(turned), turned), _of_pairs(gone)


def _of_pairs(turned: jax.Array) -> jax.Array:
    """What an entry ij moves of row i it takes from row j: of all entries, by row, shape (n,)."""
    square = turned**2
    return jnp.sqrt(jnp.sum(square, axis=0) + jnp.sum(square, axis=1))


def _extended(r: jax.Array, factor: Rows) -> Rows:
    dead = graded.scale_of_dead(r, factor)
    return graded.multiply(r, factor, dead, triangular_product)


def _unit(r: jax.Array) -> jax.Array:
    """Rounding of a step: products, factors and their own product, a few sqrt(n) eps each."""
    return jnp.asarray(4 * np.sqrt(len(r)) * jnp.finfo(r.dtype).eps, r.dtype)


def _next_interval(carry: _Carry, kept: jax.Array, aim: float) -> jax.Array:
    now, loss = carry.interval, carry.loss
    slower = jnp.where(loss > aim, jnp.maximum(now // 2, 1), now)
    room = loss * jnp.sqrt(loss) <= aim  # twice the steps: the square
    passed = jnp.where(room, jnp.minimum(2 * now, BLOCK), slower)
    failed = jnp.where(now > 1, now // 2, (loss <= carry.limit).astype(now.dtype))
    return jnp.where(kept, passed, failed)


def _restricted(chosen: np.ndarray, carry: _Carry) -> Sweep:
    """The rows of the chosen coordinates, as a graded factor behind an orthonormal one."""
    _, r, lost = graded.orthonormalise_with_losses(carry.frame[chosen], None)
    factor = _extended(r, carry.factor)
    pattern = carry.pattern[chosen]
    rows, columns = (jnp.sum(jnp.any(pattern != 0, axis=axis)) for axis in (1, 0))
    return Sweep(
        factor=graded.normalise(factor),
        rank=jnp.minimum(rows, columns),
        finite=carry.finite,
        rounding=carry.rounding + _unit(r) * lost + _of_pairs(carry.turned),
    )


def _first_frame(lin: Linearization, chosen: np.ndarray) -> tuple[jax.Array, Rows]:
    """The unit vectors, sorted by how much the last step stretches them, so L starts graded.

    What L stands for has its columns in that order, which no singular value sees.
    """
    n = len(chosen)
    order = jnp.arange(n)
    if lin.steps > 0:
        last = lin.transposed(jax.tree.map(lambda leaf: leaf[-1], lin.slices))
        sizes = largest_of_rows(jax.tree.map(jnp.abs, jax.lax.stop_gradient(last.T)))
        order = jnp.argsort(-sizes[chosen])
    units = jnp.eye(lin.size, dtype=lin.dtype)[:, chosen]
    eye = jnp.eye(n, dtype=lin.dtype)
    return units[:, order], Rows(jnp.zeros((n,), lin.dtype), eye)


def _pattern(matrix: Any) -> Any:
    """1 where an entry is not exactly zero; the signs of products of patterns bound a product's."""
    fixed = jax.lax.stop_gradient(matrix)
    return jax.tree.map(lambda part: (part != 0).astype(part.dtype), fixed)
