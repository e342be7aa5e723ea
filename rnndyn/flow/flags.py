"""Nested subspaces carried along a run, and how much each direction of them grows.

The first i columns of a frame F span the i-th space of a flag. J F = F' U with U upper triangular
keeps every one of those spans, whatever the shape of F, so the growth of direction i over a
stretch is the sum of log |u_ii| and log |r_ii| of one QR of the last frame: in exact arithmetic
what QR at every step gives. U here is the triangular factor of Gaussian elimination with row
exchanges (`core.factor`), and rows of very different sizes (saturated units) keep errors of their
own size.

Between two eliminations the columns turn towards each other and log |u_ii| loses digits; how many
the factors themselves say. An error dY of the panel Y = F' U is F' (I + E) U at first order,
E = F'^-1 dY U^-1, and does two things:

- E_ii is added to log |u_ii|. With errors of eps rho_r gamma_j in row r of size rho_r and column j
  of size gamma_j, independent of each other, it is eps a_i b_i, where a_i is the length of row i
  of F'^-1 diag(rho) and b_i that of column i of diag(gamma) U^-1: two triangular solves with a few
  random signs (small-sample condition estimation: Kenney & Laub 1994). A block of steps that would
  spend more than `tol` a step on these is rolled back and made shorter.
- E below the diagonal turns the frame, F' (I + X), and with it what grows later: the next factor U
  makes X into the strictly lower part of U X U^-1, and adds diag(U X U^-1) to log |u_ii|. Where
  exponents are well apart X fades; between neighbours i, j = i + 1 that are nearly equal, or for a
  while in the wrong order, it does not: x_i = |X_ji| becomes |u_jj / u_ii| x_i + eps a_j b_i, and
  |u_ij / u_ii| x_i passes from one exponent to the other. QR in the same precision has the same.

All of it is summed without regard to sign, and taken `SAFETY` times. It is of first order, has
the neighbours for the whole of X and random signs for norms, so no proof; against QR in 20 to 60
digits, in runs of some hundred products of tanh networks, gates, Gaussian, orthogonal and adjoint
ones, rounding did at most 0.6 of it before the factor, and 0.001 of it in the median.
"""

import functools
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rnndyn.core.factor import lu, scaled_columns
from rnndyn.core.pytree import pytree, static
from rnndyn.flow import graded
from rnndyn.flow.diagonal import log_modulus
from rnndyn.linearize import Linearization

LONGEST = 32  # steps between eliminations, which then cost 2 % of the products
SAFETY = 4  # of the error
_PATIENCE = 64  # blocks, at most, between two attempts at an interval that failed
_PROBES = 4


@pytree
class Stored:
    """The steps of a Linearization, in order; or from the last to the first, transposed."""

    lin: Linearization
    adjoint: bool = static(default=False)

    def advance(self, position: jax.Array) -> tuple[Any, jax.Array]:
        """The step at a position, and the position after it."""
        index = self.lin.steps - 1 - position if self.adjoint else position
        return jax.tree.map(lambda leaf: leaf[index], self.lin.slices), position + 1

    def push(self, at: Any, frame: jax.Array) -> jax.Array:
        """J F at one step."""
        return self.lin.pull(at, frame) if self.adjoint else self.lin.push(at, frame)


@pytree
class Pace:
    """How often to eliminate.

    Attributes
    ----------
    interval, wait, patience : jax.Array, int
        Steps from one elimination to the next; blocks to go before a longer interval is tried;
        such blocks after the last failure.
    tol : jax.Array
        The error per step that a block of more than one step may add to an exponent.
    """

    interval: jax.Array
    wait: jax.Array
    patience: jax.Array
    tol: jax.Array


@pytree
class Carry:
    """What one stretch of a run hands to the next.

    Attributes
    ----------
    position : pytree
        Where the source of steps stands.
    frame : jax.Array, shape (d, k)
        Orthonormal.
    tilt : jax.Array, shape (k,)
        By how much rounding may have turned column i of the frame towards column i + 1.
    pace : Pace
        Of the eliminations, as found so far.
    finite : jax.Array, bool
    """

    position: Any
    frame: jax.Array
    tilt: jax.Array
    pace: Pace
    finite: jax.Array


@pytree
class _Stretch:
    """A stretch of which `done` steps are behind: their growth (k,) and its error (k,).

    The error is that of the eliminations by themselves; `exchange` (k,) what the tilts of the
    frame made neighbours hand to each other; `lost` (k,) where the growth is -inf and no exact zero
    of a step says so. `hard` says that the next step alone would lose more than `tol` and is to be
    split in two.
    """

    carry: Carry
    done: jax.Array
    growth: jax.Array
    error: jax.Array
    exchange: jax.Array
    lost: jax.Array
    hard: jax.Array


@pytree
class _Elimination:
    """panel = frame U: the frame (d, k), log |u_ii| (k,), and the error of those (k,).

    A tilt x_i of the panel becomes shrink_i x_i + kick_i of the frame, and moves log |u_ii| and
    its neighbour by coupling_i x_i. A pivot is `lost` (k,) if it is zero though the panel has rows
    enough that are not: all its digits cancelled.
    """

    frame: jax.Array
    growth: jax.Array
    error: jax.Array
    lost: jax.Array
    shrink: jax.Array
    coupling: jax.Array
    kick: jax.Array


def start(position: Any, size: int, k: int, dtype: Any, tol: float | jax.Array | None) -> Carry:
    """A random orthonormal frame, the same at every call.

    Unit vectors can lie in an invariant subspace (of block triangular Jacobians) and never turn.
    """
    gaussian = jax.random.normal(jax.random.key(0), (size, k), dtype)
    tol = float(jnp.finfo(dtype).eps) ** 0.5 / 6 if tol is None else tol
    pace = Pace(jnp.int32(1), jnp.int32(0), jnp.int32(1), jnp.asarray(tol, dtype))
    frame = jnp.linalg.qr(gaussian)[0]
    return Carry(position, frame, jnp.zeros_like(frame[0]), pace, jnp.array(True))


def grow(source: Any, carry: Carry, lengths: tuple[int, ...]) -> tuple[Carry, jax.Array, jax.Array]:
    """The growth of every direction over successive stretches of a run.

    Parameters
    ----------
    source : Stored, or anything with its `advance` and `push`
    carry : Carry
        A constant to differentiation, but for its position.
    lengths : tuple of int, at least 1 each; static
        Steps of each of n stretches.

    Returns
    -------
    tuple
        The carry, a constant to differentiation; the growth log |r_ii|, shape (n, k); and the
        error of that, shape (n, k): at most `tol` a step unless single steps lose more; inf where
        rounding left no digit, so also for a growth of -inf, unless a step is exactly singular.
    """
    return _grow(lengths, source, carry)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _grow(lengths: tuple[int, ...], source: Any, carry: Carry):
    # Hard steps have a loop of their own, as a batch computes both branches of a condition.
    def stretch(carry, length):
        def ahead(now):
            return (now.done < length) & now.carry.finite

        def advance(now):
            now = jax.lax.while_loop(
                lambda now: ahead(now) & ~now.hard, lambda now: _attempt(source, now, length), now
            )
            return jax.lax.while_loop(lambda now: now.hard, lambda now: _split(source, now), now)

        zeros = jnp.zeros_like(carry.frame[0])
        none = jnp.zeros(zeros.shape, bool)
        first = _Stretch(carry, jnp.zeros_like(length), zeros, zeros, zeros, none, jnp.array(False))
        made = jax.lax.while_loop(ahead, advance, first)
        frame, r = jnp.linalg.qr(made.carry.frame)
        shrink, coupling = _neighbours(r)
        exchange = made.exchange + _handed(coupling * made.carry.tilt)
        carry = replace(made.carry, frame=frame, tilt=shrink * made.carry.tilt)
        error = made.error + exchange
        unknown = made.lost | jnp.isnan(error)
        error = jnp.where(unknown, jnp.full_like(error, jnp.inf), error)
        return carry, (made.growth + log_modulus(jnp.diagonal(r)), error)

    carry, (growth, error) = jax.lax.scan(stretch, carry, jnp.asarray(lengths, jnp.int32))
    return carry, growth, error


@_grow.defjvp
def _grow_jvp(lengths, primals, tangents):
    """The derivatives of QR at every step: the growth is the same function of the Jacobians."""
    carry, growth, error = _grow(lengths, *primals)
    _, slope = jax.jvp(lambda *given: _grow_by_qr(lengths, *given), primals, tangents)
    constant = jax.tree.map(_no_tangent, carry)
    return (carry, growth, error), (constant, slope, jnp.zeros_like(error))


def _grow_by_qr(lengths: tuple[int, ...], source: Any, carry: Carry) -> jax.Array:
    size, k = carry.frame.shape

    def step(state, stretch):
        position, frame, growth = state
        at, position = source.advance(position)
        if k == size:
            jacobian = source.push(at, jnp.eye(k, dtype=frame.dtype))
            fixed = jax.lax.stop_gradient((jacobian, frame))
            frame, r = graded.orthonormalise(jacobian @ frame, fixed)
        else:
            frame, r = graded.orthonormalise(source.push(at, frame), None)
        return (position, frame, growth.at[stretch].add(log_modulus(jnp.diagonal(r)))), None

    stretches = jnp.asarray(np.repeat(np.arange(len(lengths), dtype=np.int32), lengths))
    growth = jnp.zeros((len(lengths), k), carry.frame.dtype)
    frame = jax.lax.stop_gradient(carry.frame)
    (_, _, growth), _ = jax.lax.scan(step, (carry.position, frame, growth), stretches)
    return growth


def _no_tangent(primal: jax.Array) -> Any:
    if jnp.issubdtype(primal.dtype, jnp.floating):
        return jnp.zeros_like(primal)
    return np.zeros(primal.shape, jax.dtypes.float0)


def _attempt(source: Any, now: _Stretch, length: jax.Array) -> _Stretch:
    """The next block of steps; or nothing but a shorter interval, if it would lose too much."""
    carry = now.carry
    steps = jnp.minimum(carry.pace.interval, length - now.done)
    position, panel = jax.lax.fori_loop(
        0, steps, lambda _, state: _step(source, *state), (carry.position, carry.frame)
    )
    budget = carry.pace.tol * (now.done + steps).astype(panel.dtype)
    made, size = _eliminate(panel, steps)
    single, finite = steps == 1, jnp.all(jnp.isfinite(size))
    affordable = jnp.max(now.error + made.error) <= budget
    # A zero pivot can be exact after one step; after more it may be what rounding left.
    whole = _in_range(size) & jnp.all(made.growth > -jnp.inf)
    affordable &= finite & ((single & ~jnp.any(made.lost)) | whole)
    square = panel.shape[0] == panel.shape[1]
    hard = single & finite & ~affordable if square else jnp.array(False)
    accepted = (affordable | single) & ~hard
    moved = replace(carry, position=position, frame=made.frame, finite=finite)
    after = _with(made, replace(now, carry=moved, done=now.done + steps))
    after = jax.tree.map(lambda new, old: jnp.where(accepted, new, old), after, now)
    left = budget - jnp.max(after.error)
    pace = _next_pace(carry.pace, steps, accepted | hard, jnp.max(made.error), left)
    return replace(after, carry=replace(after.carry, pace=pace), hard=hard)


def _with(made: _Elimination, now: _Stretch) -> _Stretch:
    """The growth of an elimination, its error, and what it does to the tilts, added."""
    tilt = now.carry.tilt
    return replace(
        now,
        carry=replace(now.carry, tilt=made.shrink * tilt + made.kick),
        growth=now.growth + made.growth,
        error=now.error + made.error,
        exchange=now.exchange + _handed(made.coupling * tilt),
        lost=now.lost | (made.lost & (now.growth > -jnp.inf)),
    )


def _neighbours(upper: jax.Array) -> tuple[jax.Array, jax.Array]:
    """|u_jj / u_ii| and |u_ij / u_ii| with j = i + 1, shape (k,): 0 where a pivot is, and at k."""
    pivots = jnp.abs(jnp.diagonal(upper))
    beside = jnp.abs(jnp.diagonal(upper, 1))
    dead = (pivots[:-1] == 0) | (pivots[1:] == 0)
    safe = jnp.where(dead, jnp.inf, pivots[:-1])
    return jnp.pad(pivots[1:] / safe, (0, 1)), jnp.pad(beside / safe, (0, 1))


def _handed(amount: jax.Array) -> jax.Array:
    """What i gives, i + 1 takes."""
    return amount + jnp.pad(amount[:-1], (1, 0))


def _step(source: Any, position: Any, panel: jax.Array) -> tuple[Any, jax.Array]:
    at, position = source.advance(position)
    return position, source.push(at, panel)


def _eliminate(panel: jax.Array, steps: jax.Array | int = 1) -> tuple[_Elimination, jax.Array]:
    """Gaussian elimination, with row pivoting, of a panel that took some steps to make.

    Zero rows give exact zeros at the end of U, and those log |u_ii| = -inf without error. The
    sizes of the panel's columns are returned too, NaN or infinite where it is not finite.
    """
    k = panel.shape[1]
    frame, packed, order = lu(panel)
    size = jnp.max(jnp.abs(panel), axis=0)
    unit_size = 1 / jnp.where(size == 0, jnp.ones_like(size), size)
    row_sizes = jnp.max(jnp.abs(panel) * unit_size[None, :], axis=1)
    row_size = row_sizes[order[:k]]
    factors = packed[:k]
    pivots = jnp.diagonal(factors)
    i = jnp.arange(k)
    safe = factors.at[i, i].set(jnp.where(pivots == 0, jnp.inf, pivots))
    signs = np.random.default_rng(0).choice([-1.0, 1.0], (k, _PROBES))
    signs = jnp.asarray(signs, panel.dtype)
    solve = jax.lax.linalg.triangular_solve
    left = solve(factors, row_size[:, None] * signs, left_side=True, lower=True, unit_diagonal=True)
    right = solve(safe, size[:, None] * signs, left_side=True, transpose_a=True)
    left, right = (jnp.max(jnp.abs(side), axis=1) for side in (left, right))
    relative = SAFETY * float(jnp.finfo(panel.dtype).eps) * jnp.asarray(steps, panel.dtype)
    shrink, coupling = _neighbours(factors)
    kick = jnp.pad(relative * left[1:] * right[:-1], (0, 1))
    lost = (pivots == 0) & (i < jnp.sum(row_sizes > 0))
    made = (log_modulus(pivots), relative * left * right, lost, shrink, coupling, kick)
    return _Elimination(frame, *made), size


def _split(source: Any, now: _Stretch) -> _Stretch:
    """One step in two parts: J = B diag(s), diag(s) F = F1 U1, B F1 = F2 U2, so U = U2 U1.

    Columns of J of very different sizes (a saturated unit's) then do no harm.
    """
    carry = now.carry
    at, position = source.advance(carry.position)
    jacobian = source.push(at, jnp.eye(carry.frame.shape[0], dtype=carry.frame.dtype))
    scaled, sizes = scaled_columns(jacobian)

    def part(_, state):
        panel, now = state
        made, _ = _eliminate(panel)
        now = replace(now, carry=replace(now.carry, frame=made.frame))
        return scaled @ made.frame, _with(made, now)

    state = (sizes[:, None] * carry.frame, now)
    now = jax.lax.fori_loop(0, 2, part, state)[1]
    moved = replace(now.carry, position=position)
    return replace(now, carry=moved, done=now.done + 1, hard=jnp.array(False))


def _in_range(size: jax.Array) -> jax.Array:
    """Whether no column came near the ends of the dtype's range."""
    limits = jnp.finfo(size.dtype)
    return jnp.all((size >= limits.tiny**0.5) & (size <= limits.max**0.5))


def _next_pace(
    pace: Pace, steps: jax.Array, accepted: jax.Array, error: jax.Array, left: jax.Array
) -> Pace:
    """The interval whose error, growing as it did, takes half of what is left of the budget.

    After an interval that failed, as many accepted blocks as `patience`, which doubles at each
    failure, must go by before a longer one is tried.
    """
    taken, eps = steps.astype(error.dtype), SAFETY * float(jnp.finfo(error.dtype).eps)
    error = jnp.where(jnp.isfinite(error), error, 1 / eps)
    rate = jnp.maximum(jnp.log(error / eps), 1) / taken
    least = pace.tol * taken / 2
    reach = jnp.log(jnp.maximum(left / 2, least) / eps) / rate
    reach = jnp.minimum(reach, LONGEST).astype(jnp.int32)
    wait = jnp.maximum(pace.wait - 1, 0)
    highest = jnp.where(wait > 0, pace.interval, jnp.maximum(pace.interval, 2 * steps))
    proved = accepted & (steps > 1)
    patience = jnp.where(proved, jnp.maximum(pace.patience // 2, 1), pace.patience)
    doubled = jnp.minimum(2 * pace.patience, _PATIENCE)
    return Pace(
        jnp.clip(reach, 1, jnp.where(accepted, highest, jnp.maximum(steps - 1, 1))),
        jnp.where(accepted, wait, doubled),
        jnp.where(accepted, patience, doubled),
        pace.tol,
    )
