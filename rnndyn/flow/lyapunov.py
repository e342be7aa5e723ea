"""Lyapunov exponents of a run, with what follows from them.

Benettin, Galgani, Giorgilli & Strelcyn (1980): J Q = Q' R at every step; the exponents are the
means of log |diag R|.
"""

import jax
import jax.numpy as jnp

from rnndyn.core import validation
from rnndyn.core.pytree import pytree
from rnndyn.core.status import Status
from rnndyn.flow import graded
from rnndyn.flow.diagonal import log_modulus
from rnndyn.linearize import Diagonal, Linearization

_BLOCKS_OF_ERROR = 16  # block means that the standard error is taken from


@pytree
class LyapunovSpectrum:
    """Exponents of a run.

    Attributes
    ----------
    exponents : jax.Array, shape (k,)
        Natural logarithm per step, descending; -inf exactly where a step annihilates a direction.
    standard_error : jax.Array, shape (k,)
        Of each exponent as a mean over time, from the scatter of up to 16 block means; inf if
        there is one step only, 0 for an exponent of -inf. It does not see the decaying influence
        of the first frame; `warmup` removes that.
    kaplan_yorke : jax.Array, scalar
        Kaplan-Yorke dimension of the exponents; with k < d and a sum that is not negative, k, a
        lower bound.
    entropy : jax.Array, scalar
        Sum of the positive exponents: Pesin's bound on the entropy per step (Ruelle 1978).
    status : jax.Array, int
        0; -3 if a Jacobian is not finite, and then every number is NaN.
    """

    exponents: jax.Array
    standard_error: jax.Array
    kaplan_yorke: jax.Array
    entropy: jax.Array
    status: jax.Array


def lyapunov_spectrum(
    lin: Linearization, *, k: int | None = None, warmup: int = 0
) -> LyapunovSpectrum:
    """The leading k Lyapunov exponents along a run, by QR at every step.

    Parameters
    ----------
    lin : Linearization
        Matrix-free (`linearize(..., dense=False)`), the T Jacobians are never stored: the points
        and O(T k) numbers are.
    k : int, optional
        How many, 1..d; all d by default.
    warmup : int
        Steps at the start that only turn the frame and are left out of the means, 0..T-1.

    Returns
    -------
    LyapunovSpectrum
        Cost O(T d k^2), and T products with the Jacobian. The first frame is random, the same at
        every call: a frame of unit vectors can lie in an invariant subspace (of a block triangular
        Jacobian), never turn, and miss the leading exponents. Diagonal Jacobians need no frame:
        O(T d). Differentiable in the Jacobians, in both modes.

    Raises
    ------
    TypeError, ValueError
        If `lin` is not one Linearization or has no steps, or on bad k or warmup.

    Examples
    --------
    >>> import jax.numpy as jnp, rnndyn as rd
    >>> from rnndyn.flow import lyapunov_spectrum
    >>> map_ = rd.maps.henon()
    >>> lin = rd.linearize(map_, rd.orbit(map_, jnp.zeros(2), 1000))
    >>> round(float(jnp.exp(lyapunov_spectrum(lin).exponents.sum())), 4)
    0.3
    """
    graded.require_linearization(lin)
    steps, size = lin.steps, lin.size
    if steps == 0:
        advice = "an exponent is a mean over steps; linearize a longer run"
        raise ValueError(validation.sentence("lin", "at least one step", "T = 0", advice))
    if k is not None:
        advice = f"z has d = {size} coordinates, so 1 to {size} exponents exist"
        k = validation.require_int("k", k, 1, advice)
        validation.require_range("k", k, 1, size, advice)
    advice = f"this run has T = {steps} steps, and one at least must remain"
    warmup = validation.require_int("warmup", warmup, 0, advice)
    validation.require_range("warmup", warmup, 0, steps - 1, advice)
    return _lyapunov_spectrum(lin, size if k is None else k, warmup)


@jax.jit(static_argnames=("k", "warmup"))
def _lyapunov_spectrum(lin: Linearization, k: int, warmup: int) -> LyapunovSpectrum:
    if isinstance(lin, Diagonal):
        growth, finite = log_modulus(lin.slices), jnp.all(jnp.isfinite(lin.slices))
    else:
        growth, finite = _growth(lin, k)
    growth = jnp.where(finite, growth[warmup:], jnp.nan)
    means = jnp.mean(growth, axis=0)
    order = jnp.argsort(-means)[:k]
    exponents = means[order]
    return LyapunovSpectrum(
        exponents=exponents,
        standard_error=_standard_error(growth)[order],
        kaplan_yorke=kaplan_yorke(exponents),
        entropy=jnp.sum(jnp.where(exponents < 0, jnp.zeros_like(exponents), exponents)),
        status=jnp.where(finite, jnp.int32(Status.CONVERGED), jnp.int32(Status.NONFINITE)),
    )


def _growth(lin: Linearization, k: int) -> tuple[jax.Array, jax.Array]:
    """log |diag R| of every step, shape (T, k), and whether all was finite."""

    def step(carry, at):
        frame, finite = carry
        if k == lin.size:
            jacobian = lin.push(at, jnp.eye(k, dtype=lin.dtype))
            fixed = jax.lax.stop_gradient((jacobian, frame))
            frame, r = graded.orthonormalise(jacobian @ frame, fixed)
        else:
            frame, r = graded.orthonormalise(lin.push(at, frame), None)
        return (frame, finite & jnp.all(jnp.isfinite(r))), log_modulus(jnp.diagonal(r))

    start = (_first_frame(lin, k), jnp.array(True))
    (_, finite), growth = jax.lax.scan(step, start, lin.slices)
    return growth, finite


def kaplan_yorke(exponents: jax.Array) -> jax.Array:
    """The Kaplan-Yorke dimension j + (l_1 + ... + l_j)/|l_{j+1}|, j the last sum >= 0.

    Kaplan & Yorke 1979. 0 if the first exponent is negative; k if no sum is.

    Parameters
    ----------
    exponents : jax.Array, shape (k,)
        Descending.

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
    sums = jnp.concatenate([jnp.zeros((1,), exponents.dtype), jnp.cumsum(exponents)])
    j = jnp.sum(jnp.cumprod(sums >= 0)) - 1  # sums rise, then fall: the first negative one ends
    following = jnp.abs(exponents[jnp.minimum(j, k - 1)])
    whole = (j == k) | (following == 0)
    fraction = jnp.where(whole, 0, sums[j] / jnp.where(whole, 1, following))
    dimension = j.astype(exponents.dtype) + fraction
    return jnp.where(jnp.any(jnp.isnan(exponents)), jnp.nan, dimension)


def _first_frame(lin: Linearization, k: int) -> jax.Array:
    gaussian = jax.random.normal(jax.random.key(0), (lin.size, k), lin.dtype)
    return jnp.linalg.qr(gaussian)[0]


def _standard_error(growth: jax.Array) -> jax.Array:
    steps, k = growth.shape
    blocks = min(_BLOCKS_OF_ERROR, steps)
    if blocks < 2:
        return jnp.full((k,), jnp.inf, growth.dtype)
    length = steps // blocks
    used = jax.lax.stop_gradient(growth[steps - blocks * length :])
    means = jnp.mean(used.reshape(blocks, length, k), axis=1)
    annihilated = jnp.isneginf(jnp.sum(growth, axis=0))
    means = jnp.where(annihilated[None, :], jnp.zeros_like(means), means)
    return jnp.std(means, axis=0, ddof=1) / jnp.sqrt(jnp.asarray(blocks, growth.dtype))
