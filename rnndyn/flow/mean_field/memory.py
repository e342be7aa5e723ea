"""Mean field of the LSTM whose weights are drawn anew at each step.

The memory c' = f c + i g has no density in closed form: it is followed as a population of units
that share the statistics of their gates (the way of Gilboa et al. 2019 to its distribution).
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from rnndyn.core import validation
from rnndyn.core.status import Status
from rnndyn.flow.mean_field.field import MeanField
from rnndyn.flow.mean_field.quadrature import FLOOR, floats, nonnegative

_AGES = 16  # steps over which a push to a memory is followed


class _Units(NamedTuple):
    """Memories of two runs (2, units), E[dc^2] of each unit, E[dh^2] and E[h_1 h_2] of all."""

    c: jax.Array
    moved_c: jax.Array
    moved_h: jax.Array
    products: jax.Array  # E[h_1^2], E[h_1 h_2]


def lstm(
    gain: Any,
    input_variance: Any = 0.0,
    *,
    forget_bias: Any = 0.0,
    units: int = 8192,
    steps: int = 200,
    key: jax.Array | None = None,
) -> MeanField:
    """Mean field of the LSTM, c' = f c + i g, h' = o tanh(c'), each block of variance g^2/n.

    A unit's mean squared gradient obeys, with H = E[dh^2] over all units,

        E[dc'^2] = f^2 E[dc^2] + g^2 b H,      b = (c f_a)^2 + (g i_a)^2 + (i g_a)^2
        E[dh'^2] = e^2 E[dc'^2] + g^2 y H,     e = o (1 - tanh(c')^2), y = (tanh(c') o_a)^2

    f_a the slope of f. It is correlated with c, so both are followed together. One step maps (dh,
    dc) by J: with K = ((1 + e^2, e), (e, 1)) and S = diag(f^2 + g^2 b, g^2 y) of each unit,
    tr J J^T = n E tr KS and tr (J J^T)^2 = n E tr (KS)^2 + n (E tr KG)^2, where G is S without f^2.

    Parameters
    ----------
    gain : float
        g.
    input_variance : float
        s^2, that input adds to each gate and to the candidate; the same in both runs.
    forget_bias : float
        b of f; the other biases are 0.
    units : int
        The size of the population.
    steps : int
        How many are followed; means are over the second half.
    key : jax.Array, optional
        Of what is drawn, `jax.random.key(0)` if not given.

    Returns
    -------
    MeanField
        `variance` is that of a gate; `activity` and `correlation` are those of h; `chi` is the
        growth of E[dc^2] + E[dh^2], and `relative_variance` is of all 2 n squared singular values
        of one step of the whole state, whose mean is not chi. The length is that of a small
        difference in r = E[h_1 h_2]: 1/|ln chi| in order, 1/|ln u| in chaos, where sum_k R_k u^-k
        = 1 for what a push to r adds to r k steps later through the memory. Random errors are of
        order 1/sqrt(units). Status 0: E[h^2] is the same in the last two quarters, to 5 %, and the
        memory of the start is gone, E[f^2]^(steps/2) <= 1 %; -2 otherwise: take more steps.

    Examples
    --------
    >>> import rnndyn as rd
    >>> round(float(rd.mean_field.lstm(1.0, forget_bias=1.0).chi), 2)  # at rest: f^2 + g^2/16
    0.6
    """
    units = validation.require_int("units", units, 2, "a few thousand give two digits")
    steps = validation.require_int("steps", steps, 8, "longer than the memory lasts")
    key = jax.random.key(0) if key is None else key
    validation.require_key("key", key)
    numbers = nonnegative(gain=gain, input_variance=input_variance)
    return _lstm(*floats(*numbers, forget_bias), key, units, steps)


@jax.jit(static_argnames=("units", "steps"))
def _lstm(gain, s2, bias, key, units, steps) -> MeanField:
    key, key_start = jax.random.split(key)
    start = _Units(
        c=jax.random.normal(key_start, (2, units), s2.dtype),
        moved_c=jnp.ones((units,), s2.dtype),
        moved_h=jnp.ones((), s2.dtype),
        products=jnp.stack([jnp.full_like(s2, 0.25), jnp.zeros_like(s2)]),
    )
    pushes = jnp.zeros((_AGES - 1, units), s2.dtype)
    step = lambda carry, key: _respond(gain, s2, bias, carry, key)  # noqa: E731
    _, (found, responses) = jax.lax.scan(step, (start, pushes), jax.random.split(key, steps))
    last = jax.tree.map(lambda leaf: jnp.mean(leaf[steps // 2 :], axis=0), found)
    before, after = found[0][steps // 2 : 3 * steps // 4], found[0][3 * steps // 4 :]
    steady = jnp.abs(jnp.mean(after) - jnp.mean(before)) <= 0.05 * jnp.mean(before) + FLOOR
    activity, together, exponent, mean, square, kept = last
    rest = activity <= FLOOR
    activity = jnp.where(rest, 0, activity)
    chi = jnp.exp(2 * exponent)
    correlation = jnp.where(rest, 1, together / jnp.where(rest, 1, activity))
    length = 1 / jnp.abs(jnp.where(chi < 1, 2 * exponent, _rate(responses[steps // 2 :])))
    spread = square / mean**2 - 1
    numbers = (gain**2 * activity + s2, activity, correlation, length, chi, exponent, spread)
    forgotten = steps // 2 * jnp.log(kept) <= jnp.log(0.01)
    good = steady & forgotten & jnp.isfinite(chi)
    status = jnp.where(good, jnp.int32(Status.CONVERGED), jnp.int32(Status.MAX_STEPS))
    return MeanField(*(jnp.where(good, number, jnp.nan) for number in numbers), status=status)


def _respond(gain, s2, bias, carry, key):
    """One step of the units, and what each unit's c_2 keeps of a push to E[h_1 h_2], by age."""
    units, pushes = carry
    push = jax.tree.map(jnp.zeros_like, units)
    push = push._replace(products=push.products.at[1].set(1))
    follow = lambda units: _advance(gain, s2, bias, units, key)  # noqa: E731
    (after, numbers, (kept, read)), (pushed, _, _) = jax.jvp(follow, (units,), (push,))
    older = kept[None] * pushes
    responses = jnp.concatenate([pushed.products[1:], older @ read / read.size])
    pushes = jnp.concatenate([pushed.c[1:], older[:-1]])
    return (after, pushes), (numbers, responses)


def _rate(responses):
    """ln u with sum_k R_k u^-k = 1, of responses (T, ages).

    Responses fall geometrically soon; those that their noise hides are continued in that way.
    """
    mean, noise = jnp.mean(responses, axis=0), jnp.std(responses, axis=0)
    seen = jnp.cumprod(mean > 8 * noise / responses.shape[0] ** 0.5)
    last = jnp.maximum(jnp.sum(seen) - 1, 0)
    seen = jnp.where(seen > 0, mean, 0)
    ratio = jnp.sum(seen[2:]) / jnp.maximum(jnp.sum(seen[1:]) - seen[last], FLOOR)
    ages = jnp.arange(1, 16 * _AGES + 1, dtype=mean.dtype)
    beyond = jnp.maximum(ages - 1 - last.astype(mean.dtype), 0)
    curve = jnp.where(beyond > 0, seen[last], jnp.pad(seen, (0, 15 * _AGES))) * ratio**beyond

    def newton(_, rate):
        terms = curve * jnp.exp(-ages * rate)
        total = jnp.sum(terms)
        return rate + total * jnp.log(total) / jnp.sum(ages * terms)

    return jax.lax.fori_loop(0, 32, newton, jnp.log(jnp.sum(curve)))


def _advance(gain, s2, bias, units, key):
    """One step; E[h_1^2], E[h_1 h_2], the growth, moments of one step, E[f^2]; f_2, h_1 dh_2/dc.

    The last two are of each unit.
    """
    square, together = units.products
    variance = jnp.maximum(gain**2 * square + s2, FLOOR)
    shared = jnp.clip((gain**2 * together + s2) / variance, -1, 1)
    first, apart = jax.random.normal(key, (2, 4, units.c.shape[1]), s2.dtype)
    left = jnp.where(shared < 1, 1 - shared**2, 1)  # no slope of sqrt at 0
    other = shared * first + jnp.where(shared < 1, jnp.sqrt(left), 0) * apart
    a_f, a_i, a_o, a_g = jnp.sqrt(variance) * jnp.stack([first, other], axis=1)
    f, i, o = jax.nn.sigmoid(a_f + bias), jax.nn.sigmoid(a_i), jax.nn.sigmoid(a_o)
    g = jnp.tanh(a_g)
    c = f * units.c + i * g
    h = o * jnp.tanh(c)
    slopes = (units.c * f * (1 - f)) ** 2 + (g * i * (1 - i)) ** 2 + (i * (1 - g**2)) ** 2
    carried, pushed = f[0] ** 2, gain**2 * slopes[0]
    e = (o * (1 - jnp.tanh(c) ** 2))[0]
    opened = gain**2 * ((h * (1 - o)) ** 2)[0]
    moved_c = carried * units.moved_c + pushed * units.moved_h
    moved_h = jnp.mean(e**2 * moved_c + opened * units.moved_h)
    before = jnp.mean(units.moved_c) + units.moved_h
    growth = (jnp.mean(moved_c) + moved_h) / before
    products = jnp.stack([jnp.mean(h**2), jnp.mean(h[0] * h[1])])
    after = _Units(c, moved_c / growth, moved_h / growth, products)
    mean, square = squared_singular_values(carried, pushed, e, opened)
    numbers = (*products, jnp.log(growth) / 2, mean, square, jnp.mean(carried))
    return after, numbers, (f[1], h[0] * (o * (1 - jnp.tanh(c) ** 2))[1])


def squared_singular_values(carried, pushed, e, opened) -> tuple[jax.Array, jax.Array]:
    """Their mean and mean square in one step, of f^2, g^2 b, e and g^2 y of each unit."""
    s, k = carried + pushed, 1 + e**2
    mean = jnp.mean(k * s + opened)
    own = jnp.mean((k * s) ** 2 + 2 * e**2 * s * opened + opened**2)
    return mean / 2, (own + jnp.mean(k * pushed + opened) ** 2) / 2
