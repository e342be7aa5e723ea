"""A whole run at once: Newton's method on all states z_1, ..., z_T together.

The run solves r_t = z_t - f_t(z_{t-1}) = 0. With A_t = df_t/dz at z_{t-1} one Newton step is the
affine recurrence

    delta_t = A_t delta_{t-1} - r_t,

which an associative scan solves in depth log T (Lim et al. 2024, DEER). Each step makes at least
one more state exact, and in a run that forgets its start, one with a negative leading Lyapunov
exponent, few steps make all of them so; in a chaotic run they come one by one (Gonzalez et al.
2025). Two things help where products of Jacobians at a guess grow though those of the run do not:

- Once the defect has grown, A_t min(1, beta/||A_t||_F) replaces A_t: beta = 1, whose products stay
  bounded, and four times more after each step that lowers the defect. This damps as the Kalman
  smoother of Gonzalez et al. 2024 (ELK) does, at the cost of the plain scan; cells that do not
  saturate need it.
- Each step ends with z_t <- f_t(z_{t-1}), which brings states back to where f can map to, and
  makes one more state exact.
"""

import enum
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rnndyn.core.pytree import coded, pytree

MAX_STEPS = 40
PREFIX = 64  # steps at the start from which the leading exponent is guessed
LEAST_STEPS = 4 * PREFIX
LARGEST_SIZE = 128
BUDGET = 2**31  # bytes of Jacobians and what the scan makes of them
_ARRAYS = 12  # of the size of the Jacobians, alive at once
_DEFECT = 64  # eps
_NEAR = 1e-2  # a defect from which Newton's method goes on undamped

Rule = Callable[[jax.Array, Any, Any], jax.Array]


class Reason(enum.IntEnum):
    """Why a run was evaluated in the way it was; only the first is in parallel."""

    PARALLEL = 0
    ASKED = 1
    DEVICE = 2
    SHORT = 3
    SIZE = 4
    UNPREDICTABLE = 5
    MAX_STEPS = 6
    NONFINITE = 7
    TRACED = 8


_SENTENCES = {
    Reason.PARALLEL: "in parallel over time",
    Reason.ASKED: "step by step, as asked",
    Reason.DEVICE: "step by step: a CPU has too few cores to gain from more flops",
    Reason.SHORT: f"step by step: fewer than {LEAST_STEPS} steps gain nothing",
    Reason.SIZE: f"step by step: beyond d = {LARGEST_SIZE} the flops of d x d products outweigh",
    Reason.UNPREDICTABLE: "step by step: small differences grow, so that runs need not agree",
    Reason.MAX_STEPS: f"step by step: {MAX_STEPS} Newton steps did not suffice",
    Reason.NONFINITE: "step by step: NaN or infinity met",
    Reason.TRACED: "step by step: a batch is not seen under a transformation; ask for parallel",
}


@pytree
class Evaluation:
    """How a run was evaluated, and why.

    Attributes
    ----------
    reason : jax.Array, int
        A `Reason`: 0 in parallel over time, otherwise step by step; `explain()` says it in words.
    newton_steps : jax.Array, int
        How many were taken, in all windows together, whether or not they led anywhere.
    defect : jax.Array
        max |z_t - f_t(z_{t-1})| / (1 + |z_t|) where Newton's method ended; NaN without it.
    error : jax.Array
        What rounding may have made of the states: their largest deviation under errors of one eps
        and random sign in each step, over 1 + |z|. A run in parallel has at most sqrt(eps).
    exponent : jax.Array
        The guess of the leading exponent that the automatic choice was made by; NaN without it.
    """

    reason: jax.Array = coded(Reason)
    newton_steps: jax.Array
    defect: jax.Array
    error: jax.Array
    exponent: jax.Array

    def explain(self) -> str:
        """One sentence; of one run, outside jit."""
        said = _SENTENCES[Reason(int(self.reason))]
        if int(self.newton_steps):
            said += f" ({int(self.newton_steps)} Newton steps, defect {float(self.defect):.1e}"
            said += f", error {float(self.error):.1e})"
        if not np.isnan(float(self.exponent)):
            said += f"; leading exponent about {float(self.exponent):.2g} a step"
        return said + "."


def sequentially(reason: Reason, dtype: Any) -> Evaluation:
    """The evaluation of a run that was never tried in parallel."""
    unknown = jnp.asarray(jnp.nan, dtype)
    return Evaluation(jnp.int32(reason), jnp.int32(0), unknown, unknown, unknown)


def reason_against(
    parallel: bool | None, steps: int, size: int, diagonal: bool, traced: bool
) -> Reason | None:
    """What shapes, device and the caller have against running in parallel, if anything.

    One Newton step costs about 6 T d^3 flops in log T launches, where a step by itself takes a
    few launches: on an accelerator the former wins for small d and large T only. A batch under
    `jax.vmap` fills the device without it, would multiply the memory, and pays for both ways of
    each condition; since what is traced may be one, only a call on arrays themselves chooses.
    """
    if parallel is False:
        return Reason.ASKED
    if parallel:
        return Reason.SHORT if steps < 2 else None
    if jax.default_backend() == "cpu":
        return Reason.DEVICE
    if traced:
        return Reason.TRACED
    if steps < LEAST_STEPS:
        return Reason.SHORT
    return Reason.SIZE if size > LARGEST_SIZE and not diagonal else None


def window_of(steps: int, size: int, itemsize: int, diagonal: bool) -> int:
    """How many steps to solve for at once, in as few equal windows as fit the memory."""
    bytes_each = _ARRAYS * size * (1 if diagonal else size) * itemsize
    most = max(1, BUDGET // max(bytes_each, 1))
    return -(-steps // max(1, -(-steps // most)))


def leading_exponent(rule: Rule, start: jax.Array, data: Any, args: Any) -> jax.Array:
    """Growth of a random tangent vector per step, over the second half of the given steps."""
    v = jax.random.normal(jax.random.key(0), start.shape, start.dtype)

    def step(carry, at):
        z, v = carry
        z, v = jax.jvp(lambda z: rule(z, at, args), (z,), (v,))
        length = jnp.sqrt(jnp.sum(v**2))
        return (z, v / jnp.where(length == 0, 1, length)), jnp.log(length)

    _, growth = jax.lax.scan(step, (start, v / jnp.sqrt(jnp.sum(v**2))), data)
    return jax.lax.stop_gradient(jnp.mean(growth[growth.shape[0] // 2 :]))


def newton(
    rule: Rule, start: jax.Array, data: Any, args: Any, window: int, diagonal: bool
) -> tuple[jax.Array, Evaluation]:
    """The states z_1, ..., z_T of z_t = rule(z_{t-1}, data_t, args), all at once.

    Parameters
    ----------
    rule : callable
        `rule(z, data, args) -> z`, z of shape (d,).
    start : jax.Array, shape (d,)
    data : pytree, leading axis T
    args : pytree
    window : int
        Steps that are solved for at once; windows follow one another.
    diagonal : bool
        Whether the Jacobians are diagonal.

    Returns
    -------
    tuple of jax.Array, shape (T, d), and Evaluation
        The states are right if `reason` is PARALLEL only: the defect at them is at most 64 eps and
        the error at most sqrt(eps). Differentiable to any order, by the linear recurrence of the
        tangents. Per Newton step T d derivatives of the rule, 4 T d^3 flops of products in depth
        2 log2(window), and about 12 window d^2 numbers; T d and window d where diagonal.
    """
    steps = jax.tree.leaves(data)[0].shape[0]
    windowed, inside = _windows(data, steps, window)
    frozen = jax.lax.stop_gradient((start, windowed, args))

    def next_window(carry, at):
        z0, e0, good = carry
        part, real = at
        z, e, *found = _solve(rule, z0, part, frozen[2], real, e0, good, diagonal)
        return (z[-1], e[-1], found[0]), (z, e, *found)

    carry = (frozen[0], jnp.zeros_like(start), jnp.array(True))
    _, (z, e, good, taken, defect) = jax.lax.scan(next_window, carry, (frozen[1], inside))
    z, e = (part.reshape(-1, start.shape[0])[:steps] for part in (z, e))
    error = jnp.where(jnp.all(good), jnp.max(jnp.abs(e) / _sizes(z)), jnp.nan)
    agrees = error <= jnp.sqrt(jnp.finfo(z.dtype).eps)
    reason = jnp.where(agrees, Reason.PARALLEL, Reason.UNPREDICTABLE)
    reason = jnp.where(jnp.all(good), reason, Reason.MAX_STEPS)
    reason = jnp.where(jnp.all(jnp.isfinite(defect)), reason, Reason.NONFINITE)
    unknown = jnp.asarray(jnp.nan, z.dtype)
    found = (
        reason.astype(jnp.int32),
        jnp.sum(taken, dtype=jnp.int32),
        jnp.max(defect),
        error,
        unknown,
    )
    return _attached(rule, window, diagonal, z, start, data, args), Evaluation(*found)


def _windows(tree: Any, steps: int, window: int) -> tuple[Any, jax.Array]:
    """Windows of equal length, the last one filled up with the last step; and which are real."""
    count = -(-steps // window)
    at = np.arange(count * window).reshape(count, window)
    filled = jax.tree.map(lambda leaf: leaf[np.minimum(at, steps - 1)], tree)
    return filled, jnp.asarray(at < steps)


def _solve(rule, start, data, args, real, deviation, go, diagonal):
    """One window: states, deviations, whether they are right, Newton steps, defect."""
    eps = jnp.finfo(start.dtype).eps
    signs = jax.random.rademacher(jax.random.key(1), (real.shape[0], start.shape[0]), start.dtype)

    def residual_of(z):
        return z - _image(rule, _before(z, start), data, args)

    def defect_of(z, residual):
        return jnp.max(jnp.where(real[:, None], jnp.abs(residual) / _sizes(z), 0))

    def step(carry):
        z, _, residual, defect, beta, _, taken = carry
        matrices = _jacobians(rule, _before(z, start), data, args, diagonal)
        noise = eps * signs * _sizes(z)
        noise = noise.at[0].add(_times(matrices[0], deviation[:, None])[:, 0])
        norm = jnp.sqrt(jnp.sum(matrices**2, axis=tuple(range(1, matrices.ndim)), keepdims=True))
        calmed = matrices * jnp.minimum(1, beta / jnp.where(norm == 0, 1, norm))
        moves = _recurrence(calmed, jnp.stack([-residual, noise], axis=2))
        moved = _finite_or(z + moves[..., 0], z)
        moved = _finite_or(_image(rule, _before(moved, start), data, args), moved)
        residual = residual_of(moved)
        after = defect_of(moved, residual)
        following = jnp.where(after < _NEAR, jnp.inf, jnp.where(after <= defect, 4 * beta, 1))
        return moved, moves[..., 1], residual, after, following, jnp.isinf(beta), taken + 1

    def unfinished(carry):
        _, _, _, defect, _, plain, taken = carry
        done = (defect <= _DEFECT * eps) & plain
        return ~done & begun & (taken < MAX_STEPS)

    z = jnp.broadcast_to(start, signs.shape)
    residual = residual_of(z)
    first = defect_of(z, residual)
    begun = jnp.isfinite(first) & go
    beta = jnp.full_like(first, jnp.inf)
    carry = (z, jnp.zeros_like(z), residual, first, beta, jnp.array(False), jnp.int32(0))
    z, moves, _, defect, _, plain, taken = jax.lax.while_loop(unfinished, step, carry)
    return z, moves, (defect <= _DEFECT * eps) & plain, taken, defect


@functools.partial(jax.custom_jvp, nondiff_argnums=(0, 1, 2))
def _attached(rule, window, diagonal, z, start, data, args):
    """z itself, states found without derivatives, as the function of start, data and args."""
    return z


@_attached.defjvp
def _attached_jvp(rule, window, diagonal, primals, tangents):
    """dz_t = A_t dz_{t-1} + (df_t/ddata) ddata_t + (df_t/dargs) dargs."""
    z = _attached(rule, window, diagonal, *primals)
    _, start, data, args = primals
    _, moved_start, *moved = tangents
    before = _before(z, start)
    pushed = jax.jvp(lambda *at: _image(rule, before, *at), (data, args), tuple(moved))[1]
    steps = z.shape[0]
    windows, real = _windows((before, data, pushed), steps, window)

    @jax.checkpoint
    def next_window(carry, at):
        (before, data, pushed), real = at
        matrices = _jacobians(rule, before, data, args, diagonal)
        pushed = pushed.at[0].add(_times(matrices[0], carry[:, None])[:, 0])
        tangent = _recurrence(matrices, pushed[..., None])[..., 0]
        return tangent[-1], tangent

    _, tangent = jax.lax.scan(next_window, moved_start, (windows, real))
    return z, tangent.reshape(-1, z.shape[1])[:steps]


def _recurrence(matrices: jax.Array, b: jax.Array) -> jax.Array:
    """y_t = A_t y_{t-1} + b_t from y_0 = 0, for columns b (T, d, k); A (T, d, d), or diagonals."""

    def later_after_earlier(earlier, later):
        (first, b_first), (second, b_second) = earlier, later
        product = second * first if first.ndim < b.ndim else second @ first
        return product, _times(second, b_first) + b_second

    return jax.lax.associative_scan(later_after_earlier, (matrices, b))[1]


def _times(matrices: jax.Array, b: jax.Array) -> jax.Array:
    return matrices[..., None] * b if matrices.ndim < b.ndim else matrices @ b


def _before(z: jax.Array, start: jax.Array) -> jax.Array:
    return jnp.concatenate([start[None], z[:-1]])


def _image(rule: Rule, z: jax.Array, data: Any, args: Any) -> jax.Array:
    return jax.vmap(rule, in_axes=(0, 0, None))(z, data, args)


def _jacobians(rule: Rule, z: jax.Array, data: Any, args: Any, diagonal: bool) -> jax.Array:
    """(T, d, d), or where they are diagonal (T, d): their products with the vector of ones."""
    if diagonal:
        return jax.jvp(lambda z: _image(rule, z, data, args), (z,), (jnp.ones_like(z),))[1]
    return jax.vmap(jax.jacfwd(rule), in_axes=(0, 0, None))(z, data, args)


def _sizes(z: jax.Array) -> jax.Array:
    return 1 + jnp.max(jnp.abs(z), axis=1, keepdims=True)


def _finite_or(z: jax.Array, otherwise: jax.Array) -> jax.Array:
    return jnp.where(jnp.isfinite(z), z, otherwise)
