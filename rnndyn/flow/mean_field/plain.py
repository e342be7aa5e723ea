"""Mean field of plain networks, with one or several delays."""

from typing import Any

import jax
import jax.numpy as jnp
from jax.core import Tracer

from rnndyn.core import validation
from rnndyn.core.status import Status
from rnndyn.flow.mean_field.field import MeanField
from rnndyn.flow.mean_field.quadrature import (
    FLOOR,
    ROUNDS,
    Activation,
    fixed_variance,
    floats,
    function_of,
    nonnegative,
    normal_mean,
    plane_mean,
    slope_of,
)


def vanilla(
    gain: Any,
    input_variance: Any = 0.0,
    *,
    activation: Activation = "tanh",
    order: int = 1,
    input_correlation: Any = 1.0,
    weights: str = "gaussian",
) -> MeanField:
    """Mean field of h_t = phi(sum_k W_k h_{t-k} + input), W_k of variance (g/K)^2 / n, k = 1..K.

        q = (g^2/K) E[phi(sqrt(q) z)^2] + s^2
        q c = (g^2/K) E[phi(u1) phi(u2)] + s^2 c_in,   u1, u2 normal, variance q, correlation c

    The mean squared derivative of a unit by an earlier one obeys G(l) = a sum_k G(l - k), with
    a = (g/K)^2 E[phi'^2]: so chi solves chi^K = a (1 + chi + ... + chi^(K-1)), and is g^2 E[phi'^2]
    for K = 1 (Molgedey, Schuchhardt & Schuster 1992). One step has the squared singular values'
    relative variance E[phi'^4]/E[phi'^2]^2, less 1 if the weights are orthogonal.

    Parameters
    ----------
    gain : float
        g.
    input_variance : float
        s^2, of what external input and biases together add to a unit; independent over time.
    activation : {"tanh", "relu", "identity"} or callable
        phi, elementwise; static.
    order : int
        K, of a `NARX`; 1 is the plain network.
    input_correlation : float
        c_in, between the inputs of two runs; 1 is the same input.
    weights : {"gaussian", "orthogonal"}

    Returns
    -------
    MeanField
        Scalars. Differentiable in gain and input_variance; use `jax.vmap` over many of them.

    Raises
    ------
    ValueError
        If a number is no scalar or a gain or variance negative (traced: NaN and status -2), or on
        an unknown option.

    Examples
    --------
    >>> import rnndyn as rd
    >>> field = rd.mean_field.vanilla(1.5)
    >>> round(float(field.variance), 4), round(float(field.chi), 4)
    (0.7934, 1.1393)
    """
    order = validation.require_int("order", order, 1, "1 is the plain network")
    validation.require_choice("weights", weights, ("gaussian", "orthogonal"))
    advice = "1 is the same input in both runs"
    if not isinstance(input_correlation, Tracer):
        validation.require_range("input_correlation", input_correlation, -1, 1, advice)
    numbers = nonnegative(gain=gain, input_variance=input_variance)
    return _vanilla(*floats(*numbers, input_correlation), function_of(activation), order, weights)


@jax.jit(static_argnames=("phi", "order", "weights"))
def _vanilla(gain, s2, c_in, phi, order, weights) -> MeanField:
    strength = gain**2 / order
    dtype = strength.dtype

    def received(q):
        return strength * normal_mean(lambda z: phi(jnp.sqrt(q) * z) ** 2, dtype) + s2

    q, status = fixed_variance(received, 1.0 + s2 + gain**2)
    slopes = slope_of(phi)
    second, fourth = _powers(slopes, q, dtype)
    exponent = _exponent(strength / order * second, order)
    c, chi_c = _correlation(phi, slopes, q, strength, s2 * c_in)
    good = status == Status.CONVERGED
    spread = fourth / second**2 - (1.0 if weights == "orthogonal" else 0.0)
    spread = spread if order == 1 else jnp.full_like(spread, jnp.nan)
    activity = jnp.where(q == 0, phi(jnp.zeros_like(q)) ** 2, (q - s2) / strength)
    numbers = (q, activity, c, 1 / jnp.abs(jnp.log(chi_c)), jnp.exp(2 * exponent), exponent, spread)
    return MeanField(*(jnp.where(good, number, jnp.nan) for number in numbers), status=status)


def _powers(slopes, q, dtype):
    """E[phi'^2] and E[phi'^4]."""
    squares = lambda z: slopes(jnp.sqrt(jnp.maximum(q, FLOOR)) * z) ** 2  # noqa: E731
    return normal_mean(squares, dtype), normal_mean(lambda z: squares(z) ** 2, dtype)


def _exponent(a: jax.Array, order: int) -> jax.Array:
    """Half the log of the positive root of x^K = a (1 + ... + x^(K-1)): sum_j a x^-j = 1.

    In y = ln x, ln a + logsumexp(-j y) is convex and falls: Newton from its left rises to it.
    """
    powers = jnp.arange(1, order + 1, dtype=a.dtype)
    log_a = jnp.log(a)
    y = jnp.maximum(log_a, log_a / order)
    for _ in range(0 if order == 1 else 60):
        share = jax.nn.softmax(-powers * y)
        y = y + (log_a + jax.nn.logsumexp(-powers * y)) / jnp.sum(share * powers)
    return y / 2


def _correlation(phi, slopes, q, strength, shared) -> tuple[jax.Array, jax.Array]:
    """The smallest c >= 0 that reproduces itself, and the slope of the map there.

    The map is convex with slope (g^2/K) E[phi'(u1) phi'(u2)] (Price's theorem): Newton from 0
    rises to the fixed point that two independent runs reach.
    """
    dtype, size = q.dtype, jnp.maximum(q, FLOOR)

    def together(c, function):
        below = c < 1
        apart = jnp.where(below, jnp.sqrt(1 - jnp.where(below, c, 0) ** 2), 0)
        at = lambda z: function(jnp.sqrt(size) * z)  # noqa: E731
        return strength * plane_mean(lambda z1, z2: at(z1) * at(c * z1 + apart * z2), dtype)

    def newton(c):
        slope = jax.lax.stop_gradient(together(c, slopes))
        residual = (together(c, phi) + shared) / size - c
        moved = c + residual / jnp.maximum(1 - slope, jnp.finfo(dtype).eps)
        return jnp.clip(jnp.where(q == 0, 1, moved), 0, 1)

    def unfinished(carry):
        c, before, rounds = carry
        return (jnp.abs(c - before) > 4 * jnp.finfo(dtype).eps) & (rounds < ROUNDS)

    start = jax.lax.stop_gradient((jnp.zeros_like(size), jnp.full_like(size, jnp.inf), 0))
    c = jax.lax.while_loop(
        unfinished,
        lambda carry: (jax.lax.stop_gradient(newton(carry[0])), carry[0], carry[2] + 1),
        start,
    )[0]
    c = newton(jax.lax.stop_gradient(c))
    return c, together(c, slopes)
