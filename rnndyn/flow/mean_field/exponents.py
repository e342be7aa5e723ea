"""All Lyapunov exponents of wide plain networks, by free probability."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from rnndyn.core import validation
from rnndyn.core.pytree import pytree
from rnndyn.flow.lyapunov import kaplan_yorke
from rnndyn.flow.mean_field.quadrature import (
    FLOOR,
    Activation,
    floats,
    function_of,
    node_mean,
    nodes,
    nonnegative,
    slope_of,
)

_HALVINGS = 60


@pytree
class ExponentDensity:
    """The Lyapunov spectrum of an infinitely wide plain network.

    Attributes
    ----------
    rank : jax.Array, shape (k,)
        (i - 1/2)/k, i = 1..k: the fraction of exponents above.
    exponents : jax.Array, shape (k,)
        Natural logarithm per step, descending.
    kaplan_yorke : jax.Array, scalar
        The Kaplan-Yorke dimension per unit: where the integral of the exponents returns to 0.
    """

    rank: jax.Array
    exponents: jax.Array
    kaplan_yorke: jax.Array


def exponent_density(
    gain: Any, variance: Any, *, activation: Activation = "tanh", k: int = 200
) -> ExponentDensity:
    """The density of Lyapunov exponents of h' = phi(W h + input), W ~ N(0, g^2/n), n large.

    The Jacobians D_t W are treated as free: then the exponents follow from the S-transform of one
    step (Newman 1986; Kargin 2008), lambda(t) = -ln S_{JJ^T}(-t)/2 at rank t in (0, 1), which is

        lambda(t) = ln g + ln(t/y)/2,   E[y phi'^2/(1 + y phi'^2)] = t.

    At t -> 0 that is the leading exponent ln(g^2 E[phi'^2])/2; for a linear network it is Newman's
    law ln g + ln(1 - t)/2. That W is the same at all steps does not matter at large n (it is
    R-diagonal: Haagerup & Larsen 2000); that the D_t are correlated over time is neglected.

    Parameters
    ----------
    gain : float
        g.
    variance : float
        q, as `vanilla` gives it.
    activation : {"tanh", "relu", "identity"} or callable
    k : int
        How many ranks.

    Returns
    -------
    ExponentDensity
        By bisection in ln y, to rounding. Exponents are -inf at ranks that exceed the fraction of
        units with phi' > 0.

    Examples
    --------
    >>> import rnndyn as rd
    >>> found = rd.mean_field.exponent_density(1.0, 0.0, k=4)
    >>> [round(float(each), 3) for each in found.exponents]  # ln(7/8)/2, ...
    [-0.067, -0.235, -0.49, -1.04]
    """
    k = validation.require_int("k", k, 1, "pass how many ranks")
    numbers = floats(*nonnegative(gain=gain, variance=variance))
    return _exponent_density(*numbers, function_of(activation), k)


@jax.jit(static_argnames=("phi", "k"))
def _exponent_density(gain: jax.Array, variance: jax.Array, phi: Callable, k: int):
    dtype = variance.dtype
    ranks = (jnp.arange(k, dtype=dtype) + 0.5) / k
    size = jnp.sqrt(jnp.maximum(variance, FLOOR))

    squares = nodes(lambda z: 2 * jnp.log(jnp.abs(slope_of(phi)(size * z))), dtype)

    def counted(log_y):
        return node_mean(jax.nn.sigmoid(log_y + squares))

    def rate(rank):
        def halve(_, ends):
            low, high = ends
            middle = (low + high) / 2
            above = counted(middle) > rank
            return jnp.where(above, low, middle), jnp.where(above, middle, high)

        reach = jnp.asarray(700.0 if dtype == jnp.float64 else 80.0, dtype)
        low, high = jax.lax.fori_loop(0, _HALVINGS, halve, (-reach, reach))
        full = counted(reach) > rank
        return jnp.where(full, jnp.log(gain) + (jnp.log(rank) - (low + high) / 2) / 2, -jnp.inf)

    exponents = jax.lax.map(rate, ranks)
    return ExponentDensity(ranks, exponents, kaplan_yorke(exponents) / k)
