"""Lyapunov exponents of a run, with what follows from them.

Benettin, Galgani, Giorgilli & Strelcyn (1980): J Q = Q' R at every step; the exponents are the
means of log |diag R|. How those are had without QR at every step is told in `flags`.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from rnndyn.core import validation
from rnndyn.core.pytree import pytree, static
from rnndyn.core.status import Status
from rnndyn.flow import flags, graded
from rnndyn.flow.diagonal import log_modulus
from rnndyn.linearize import Diagonal, Linearization

WINDOWS = 16  # by default; also the most block means that the standard error is taken from


@pytree
class LyapunovCheckpoint:
    """All that a later call needs to go on as if the run had not ended.

    Attributes
    ----------
    carry : flags.Carry
        Where the run stands, and its frame (d, k).
    growth, error : jax.Array, shape (k,)
        Sums over the steps that count, in the order of the frame's columns.
    steps : jax.Array, int
        How many those are.
    windows : jax.Array, shape (w, k)
        Mean growth per step of each window.
    window : int, static
        Steps of one.
    """

    carry: flags.Carry
    growth: jax.Array
    error: jax.Array
    steps: jax.Array
    windows: jax.Array
    window: int = static()


@pytree
class LyapunovSpectrum:
    """Exponents of a run.

    Attributes
    ----------
    exponents : jax.Array, shape (k,)
        Natural logarithm per step, descending; -inf where a step annihilates a direction exactly,
        `error` 0, or to the last digit, `error` inf.
    standard_error : jax.Array, shape (k,)
        Of each exponent as a mean over time, from the scatter of up to 16 block means; inf if
        there is one only, 0 for an exponent of -inf. It does not see the decaying influence of
        the first frame; `warmup` removes that.
    error : jax.Array, shape (k,)
        What rounding may have done to each exponent: the first-order effect of relative errors
        eps in every entry of every product, on its own growth and by turning its direction
        towards the next, from the factors (`flow.flags` derives it). The first is at most `tol`,
        unless even single steps lose more; the second is a property of the run, large where
        neighbours are nearly equal: QR hands as much from one to the other, and their sum does not
        have it. 10 to 1000 times too large as a rule. 0 for diagonal Jacobians, and for an exponent
        of -inf that rows of zeros prove; inf for one of which all digits were lost.
    windows : jax.Array, shape (w, k)
        Finite-time exponents: the mean growth per step in each window, in order of time; columns
        as in `exponents`.
    kaplan_yorke : jax.Array, scalar
        Kaplan-Yorke dimension of the exponents; with k < d and a sum that is not negative, k, a
        lower bound.
    entropy : jax.Array, scalar
        Sum of the positive exponents: Pesin's bound on the entropy per step (Ruelle 1978).
    status : jax.Array, int
        0; -3 if a Jacobian is not finite, and then every number is NaN.
    checkpoint : LyapunovCheckpoint
        Pass it as `resume` to go on from here. A constant to differentiation.
    """

    exponents: jax.Array
    standard_error: jax.Array
    error: jax.Array
    windows: jax.Array
    kaplan_yorke: jax.Array
    entropy: jax.Array
    status: jax.Array
    checkpoint: LyapunovCheckpoint

    @property
    @jax.jit
    def running(self) -> jax.Array:
        """The exponents as they would be after each window, shape (w, k)."""
        count = jnp.arange(1, self.windows.shape[-2] + 1, dtype=self.windows.dtype)
        return jnp.cumsum(self.windows, axis=-2) / jnp.expand_dims(
            count[:, None], tuple(range(self.windows.ndim - 2))
        )


def lyapunov_spectrum(
    lin: Linearization,
    *,
    k: int | None = None,
    warmup: int = 0,
    window: int | None = None,
    adjoint: bool = False,
    tol: float | jax.Array | None = None,
    resume: LyapunovCheckpoint | None = None,
) -> LyapunovSpectrum:
    """The leading k Lyapunov exponents along a run, as QR at every step gives them.

    A frame is pushed along and made triangular again only when its columns have turned towards
    each other so far that rounding could change an exponent by more than `tol`.

    Parameters
    ----------
    lin : Linearization
        Matrix-free (`linearize(..., dense=False)`), the T Jacobians are never stored, only the
        points; `lyapunov_stream` does not store those either.
    k : int, optional
        How many, 1..d; all d by default.
    warmup : int
        Steps at the start that only turn the frame and are left out of the means, 0..T-1.
    window : int, optional
        Steps of one finite-time window, 1..T-warmup; by default one sixteenth of the run. What
        does not fill a window comes before the first, and counts in the exponents only.
    adjoint : bool
        Follow J^T from the last step to the first: the growth of gradients. Its exponents are
        the same in the limit of long runs.
    tol : float, optional
        The error of its own growth, per step, up to which steps are taken together, default
        sqrt(eps)/6: 2.5e-9, in float32 6e-5. With 0 the frame is made triangular at every step.
    resume : LyapunovCheckpoint, optional
        `found.checkpoint` of a run whose last state is the first of this one. The result is that
        of one run over both, to the last bit if this one fills its windows.

    Returns
    -------
    LyapunovSpectrum
        Cost: T products with the Jacobian, and 2 d k^2 a time the frame is made triangular: every
        step at worst, every 32nd at best. The first frame is random, the same at every call.
        Diagonal Jacobians need no frame: O(T d). Differentiable in the Jacobians, in both modes,
        at the cost of QR at every step. For a batch of sequences or seeds, vmap all of it.

    Raises
    ------
    TypeError, ValueError
        If `lin` is not one Linearization or has no steps, or on bad options.

    Examples
    --------
    >>> import jax, jax.numpy as jnp, rnndyn as rd
    >>> map_ = rd.maps.henon()
    >>> lin = rd.linearize(map_, rd.orbit(map_, jnp.zeros(2), 1000))
    >>> round(float(jnp.exp(rd.lyapunov_spectrum(lin).exponents.sum())), 4)
    0.3

    Exponents conditional on the input, of three sequences at once:

    >>> cell = rd.cells.GRU(2, 4)
    >>> params = cell.init(jax.random.key(0))
    >>> def exponents(inputs):
    ...     lin = rd.linearize(cell, params, rd.simulate(cell, params, inputs))
    ...     return rd.lyapunov_spectrum(lin, k=2, warmup=10).exponents
    >>> jax.vmap(exponents)(jax.random.normal(jax.random.key(1), (3, 60, 2))).shape
    (3, 2)
    """
    graded.require_linearization(lin)
    if lin.steps == 0:
        advice = "an exponent is a mean over steps; linearize a longer run"
        raise ValueError(validation.sentence("lin", "at least one step", "T = 0", advice))
    k = require_k(k, lin.size)
    lengths, window = plan(lin.steps, warmup, window, resume)
    source = flags.Stored(lin, bool(adjoint))
    require_frame(resume, lin.size, 0 if isinstance(lin, Diagonal) else k, lin.dtype)
    require_tol(tol)
    return _stored(source, resume, tol, lengths, k, window)


def require_k(k: int | None, size: int) -> int:
    """How many exponents, d if not said."""
    if k is None:
        return size
    advice = f"z has d = {size} coordinates, so 1 to {size} exponents exist"
    k = validation.require_int("k", k, 1, advice)
    validation.require_range("k", k, 1, size, advice)
    return k


def plan(
    steps: int, warmup: int, window: int | None, resume: LyapunovCheckpoint | None
) -> tuple[tuple[int, ...], int]:
    """The lengths of the stretches of a run, of which whole windows come last; and the window.

    The warmup, where there is one, comes first, with a negative length.
    """
    advice = f"this run has T = {steps} steps, and one at least must remain"
    warmup = validation.require_int("warmup", warmup, 0, advice)
    validation.require_range("warmup", warmup, 0, steps - 1, advice)
    counted = steps - warmup
    if window is None:
        window = max(1, counted // WINDOWS) if resume is None else resume.window
    advice = f"{counted} steps count; a window has at least one step and fits into them"
    window = validation.require_int("window", window, 1, advice)
    validation.require_range("window", window, 1, counted, advice)
    if resume is not None:
        if warmup > 0 or window != resume.window or counted % window != 0:
            expected = f"no warmup and whole windows of {resume.window} steps"
            got = f"warmup {warmup}, {counted} steps and window {window}"
            advice = "a run is gone on with as it began; begin it with another window"
            raise ValueError(validation.sentence("resume", expected, got, advice))
    rest = counted % window
    head = [-warmup] * (warmup > 0) + [rest] * (rest > 0)
    return (*head, *[window] * (counted // window)), window


def require_tol(tol: float | jax.Array | None) -> None:
    """Raise unless the tolerance of the frames is at least 0; what is traced passes."""
    if tol is not None and not isinstance(tol, Tracer):
        advice = "an error per step, for example 1e-9; 0 for QR at every step"
        validation.require_range("tol", tol, 0.0, float("inf"), advice)


def require_frame(resume: LyapunovCheckpoint | None, size: int, k: int, dtype: Any) -> None:
    """Raise unless a checkpoint's frame has the shape and dtype that this run needs."""
    if resume is None:
        return
    advice = "go on with a run of the same cell or map and the same k"
    frame = resume.carry.frame
    validation.require_shape("resume.carry.frame", frame, (size, k), advice)
    validation.require_same_dtype("resume.carry.frame", frame, "the run", dtype)


@jax.jit(static_argnames=("lengths", "k", "window"))
def _stored(
    source: flags.Stored,
    resume: LyapunovCheckpoint | None,
    tol: jax.Array | None,
    lengths: tuple[int, ...],
    k: int,
    window: int,
) -> LyapunovSpectrum:
    lin, first = source.lin, jnp.int32(0)
    if isinstance(lin, Diagonal):
        carry = flags.start(first, lin.size, 0, lin.dtype, tol)
        carry = dataclasses.replace(carry, finite=jnp.all(jnp.isfinite(lin.slices)))
        stretches = np.repeat(np.arange(len(lengths)), np.abs(lengths))
        growth = jnp.zeros((len(lengths), lin.size), lin.dtype)
        growth = growth.at[stretches].add(log_modulus(lin.slices))
        error = jnp.zeros_like(growth)
        return summary(carry, growth, error, resume, lengths, k, window)
    carry = flags.start(first, lin.size, k, lin.dtype, tol)
    if resume is not None:
        carry = dataclasses.replace(resume.carry, position=first)
    grown = flags.grow(source, carry, tuple(abs(length) for length in lengths))
    return summary(*grown, resume, lengths, k, window)


def summary(
    carry: flags.Carry,
    growth: jax.Array,
    error: jax.Array,
    before: LyapunovCheckpoint | None,
    lengths: tuple[int, ...],
    k: int,
    window: int,
) -> LyapunovSpectrum:
    """The spectrum from the growth and its error (n, k) in the stretches of a run."""
    skipped = int(lengths[0] < 0)
    kept = len(lengths) - skipped
    rest = int(lengths[skipped] != window)
    windows, steps = growth[skipped + rest :] / window, jnp.int32(sum(lengths[skipped:]))
    sums = (jnp.zeros_like(growth[0]), jnp.zeros_like(growth[0]))
    if before is not None:
        sums, steps = (before.growth, before.error), steps + before.steps
        windows = jnp.concatenate([before.windows, windows])
    added = (growth[skipped:], error[skipped:])  # one by one, so that parts give the same bits
    total, spent = jax.lax.fori_loop(
        0, kept, lambda i, sums: jax.tree.map(lambda s, a: s + a[i], sums, added), sums
    )
    checkpoint = LyapunovCheckpoint(carry, total, spent, steps, windows, window)
    # Divided by, not multiplied by the reciprocal, as a constant would be: the same bits again.
    count = jax.lax.optimization_barrier(steps).astype(growth.dtype)
    means = jnp.where(carry.finite, total / count, jnp.nan)
    order = jnp.argsort(-means)[:k]
    exponents = means[order]
    windows = jnp.where(carry.finite, windows, jnp.nan)[:, order]
    annihilated = jnp.isneginf(exponents)
    rounding = jnp.where(carry.finite, spent / count, jnp.nan)[order]
    return LyapunovSpectrum(
        exponents=exponents,
        standard_error=_standard_error(windows, annihilated),
        error=jnp.where(annihilated & (rounding < jnp.inf), jnp.zeros_like(rounding), rounding),
        windows=windows,
        kaplan_yorke=kaplan_yorke(exponents, error=rounding),
        entropy=jnp.sum(jnp.where(exponents < 0, jnp.zeros_like(exponents), exponents)),
        status=jnp.where(carry.finite, jnp.int32(Status.CONVERGED), jnp.int32(Status.NONFINITE)),
        checkpoint=jax.lax.stop_gradient(checkpoint),
    )


def kaplan_yorke(exponents: jax.Array, *, error: jax.Array | float = 0.0) -> jax.Array:
    """The Kaplan-Yorke dimension j + (l_1 + ... + l_j)/|l_{j+1}|, j the last sum >= 0.

    Kaplan & Yorke 1979. 0 if the first exponent is negative; k if no sum is.

    Parameters
    ----------
    exponents : jax.Array, shape (k,)
        In any order.
    error : jax.Array, shape (k,), or float
        Of each exponent. A sum that is negative by less than its errors counts as 0, so that
        exponents that vanish but for rounding (an orthogonal network) have the whole dimension.

    Returns
    -------
    jax.Array, scalar

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from rnndyn.flow import kaplan_yorke
    >>> round(float(kaplan_yorke(jnp.array([0.5, 0.1, -0.2, -1.0]))), 6)
    3.4
    """
    exponents = jnp.asarray(exponents)
    validation.require_shape("exponents", exponents, ("k",), "pass one spectrum, descending")
    validation.require_real("exponents", exponents)
    k = exponents.shape[0]
    validation.require_range("len(exponents)", k, 1, float("inf"), "pass one exponent at least")
    return _kaplan_yorke(exponents, jnp.asarray(error, exponents.dtype))


@jax.jit
def _kaplan_yorke(exponents: jax.Array, error: jax.Array) -> jax.Array:
    k = exponents.shape[0]
    order = jnp.argsort(-exponents)
    exponents = exponents[order]
    slack = jnp.broadcast_to(error, exponents.shape)[order]
    slack = jnp.where(jnp.isfinite(slack), slack, 0)
    start = jnp.zeros((1,), exponents.dtype)
    sums = jnp.concatenate([start, jnp.cumsum(exponents)])
    slack = jnp.concatenate([start, jnp.cumsum(jax.lax.stop_gradient(slack))])
    j = jnp.sum(jnp.cumprod(sums >= -slack)) - 1  # they rise, then fall: the first below ends
    sums = jnp.maximum(sums, 0)
    following = jnp.abs(exponents[jnp.minimum(j, k - 1)])
    whole = (j == k) | (following == 0)
    fraction = jnp.where(whole, 0, sums[j] / jnp.where(whole, 1, following))
    dimension = j.astype(exponents.dtype) + fraction
    return jnp.where(jnp.any(jnp.isnan(exponents)), jnp.nan, dimension)


def _standard_error(windows: jax.Array, annihilated: jax.Array) -> jax.Array:
    count, k = windows.shape
    blocks = min(WINDOWS, count)
    if blocks < 2:
        return jnp.full((k,), jnp.inf, windows.dtype)
    length = count // blocks
    used = jax.lax.stop_gradient(windows[count - blocks * length :])
    means = jnp.mean(used.reshape(blocks, length, k), axis=1)
    means = jnp.where(annihilated[None, :], jnp.zeros_like(means), means)
    return jnp.std(means, axis=0, ddof=1) / jnp.sqrt(jnp.asarray(blocks, windows.dtype))
