"""Mean field of gated networks whose weights are drawn anew at each step.

With independent gates and candidate, E[h'^2] and the mean squared gradient obey closed scalar
equations (Chen, Pennington & Schoenholz 2018; Gilboa et al. 2019). One step has the Jacobian
J = D(a) + D(sqrt(b)) W: the carry a, and for what all recurrent blocks add to row i of the rest
together variance g^2 b_i/n in each entry. With W independent of a and b, the squared singular
values have, by Wick's theorem at large n,

    mean    chi = E[a^2] + g^2 E[b]
    mean^2  E[a^4] + 2 g^2 (E[a^2 b] + E[a^2] E[b]) + g^4 (E[b^2] + E[b]^2) + R,

R = 0 but where a block is itself a product. Two runs on the same input have the correlation c of
their states that reproduces itself; the map of c has no negative coefficient in c, so it is
convex, and two independent runs end at its smallest fixed point, below 1 in chaos.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from rnndyn.core import validation
from rnndyn.core.status import Status
from rnndyn.flow.mean_field.field import MeanField
from rnndyn.flow.mean_field.quadrature import (
    FLOOR,
    ROUNDS,
    coarse_nodes,
    fixed_variance,
    floats,
    nonnegative,
    normal_mean,
    plane_mean,
)


def minimal_rnn(
    gain: Any,
    input_variance: Any = 1.0,
    *,
    gate_bias: Any = 1.0,
    embedding_gain: Any = 1.0,
) -> MeanField:
    """Mean field of the MinimalRNN, z = tanh(W x), u = s(U h + V z + b), h' = u h + (1 - u) z.

        v = g^2 E[h^2] + w^2 E[z^2]   what the gate receives
        E[h^2] = E[u^2] E[h^2] + E[(1-u)^2] E[z^2]
        chi = E[u^2] + g^2 E[(h - z)^2] E[u'^2]

    Parameters
    ----------
    gain : float
        g, of U.
    input_variance : float
        s^2, of W x.
    gate_bias : float
        b.
    embedding_gain : float
        w, of V.

    Returns
    -------
    MeanField
        `variance` is v; correlations are those of h.

    Examples
    --------
    >>> import rnndyn as rd
    >>> field = rd.mean_field.minimal_rnn(1.0, gate_bias=4.0)
    >>> round(float(field.correlation_length), 1)
    23.1
    """
    numbers = nonnegative(gain=gain, input_variance=input_variance, embedding_gain=embedding_gain)
    return _minimal_rnn(*floats(numbers[0], numbers[1], gate_bias, numbers[2]))


@jax.jit
def _minimal_rnn(gain, s2, bias, w) -> MeanField:
    dtype = s2.dtype
    embed = lambda power: normal_mean(lambda z: jnp.tanh(jnp.sqrt(s2) * z) ** power, dtype)  # noqa: E731
    embedded, embedded_fourth = embed(2), embed(4)

    def received(activity):
        return gain**2 * activity + w**2 * embedded

    def following(activity):
        u = _gate(received(activity), bias)
        return u(2, 0) * activity + u(0, 2) * embedded

    activity, status = fixed_variance(following, jnp.ones_like(s2))
    variance = received(activity)
    u = _gate(variance, bias)
    fourth = _fourth_moment(u, activity, embedded, embedded_fourth)
    apart = activity + embedded  # E[(h - z)^2]
    moments = _Moments(
        carry=u(2, 0),
        carry_square=u(4, 0),
        rest=apart * u(2, 2),
        rest_square=(fourth + 6 * activity * embedded + embedded_fourth) * u(4, 4),
        both=apart * u(4, 2),
    )

    def mapped(c):
        both, neither = _gates(variance, bias, received(c * activity) / variance)
        return both * c + neither * embedded / jnp.maximum(activity, FLOOR)

    return _field(gain, variance, activity, moments, mapped, status)


def gru(
    gain: Any,
    input_variance: Any = 0.0,
    *,
    gate_bias: Any = 0.0,
    reset_after: bool = True,
) -> MeanField:
    """Mean field of the GRU, h' = z h + (1 - z) n, all recurrent blocks of variance g^2/n.

        E[h^2] = E[z^2] E[h^2] + E[(1-z)^2] E[n^2]
        chi = E[z^2] + g^2 E[(h - n)^2] E[z'^2] + E[(1-z)^2] N
        N = g^2 E[n'^2 (r^2 + r'^2 p^2)]   reset after, r p with p = U h
        N = g^2 E[n'^2] (E[r^2] + g^2 E[h^2] E[r'^2])   reset before, U (r h)

    Parameters
    ----------
    gain : float
        g.
    input_variance : float
        s^2, that input adds to each gate and to the candidate.
    gate_bias : float
        b of z; the other biases are 0.
    reset_after : bool
        As in "torch" and "cho_v1"; otherwise as in "cho_v3" and "kanai".

    Returns
    -------
    MeanField
        `variance` is that of a gate; correlations are those of h.

    Examples
    --------
    >>> import rnndyn as rd
    >>> round(float(rd.mean_field.gru(2.0).chi), 6)  # at rest: 1/4 + g^2/16
    0.5
    """
    validation.require_choice("reset_after", reset_after, (True, False))
    numbers = nonnegative(gain=gain, input_variance=input_variance)
    return _gru(*floats(*numbers, gate_bias), reset_after)


@jax.jit(static_argnames="reset_after")
def _gru(gain, s2, bias, reset_after) -> MeanField:
    candidate = _reset_after if reset_after else _reset_before

    def following(activity):
        z = _gate(gain**2 * activity + s2, bias)
        return z(2, 0) * activity + z(0, 2) * candidate(gain, s2, activity).square

    activity, status = fixed_variance(following, jnp.ones_like(s2))
    variance = gain**2 * activity + s2
    z, n = _gate(variance, bias), candidate(gain, s2, activity)
    fourth = _fourth_moment(z, activity, n.square, n.fourth)
    apart = activity + n.square  # E[(h - n)^2]
    mixed = activity * n.through + n.square_through  # E[(h - n)^2 n'^2 ...]
    apart_fourth = fourth + 6 * activity * n.square + n.fourth
    moments = _Moments(
        carry=z(2, 0),
        carry_square=z(4, 0),
        rest=apart * z(2, 2) + z(0, 2) * n.through,
        rest_square=apart_fourth * z(4, 4) + 2 * mixed * z(2, 4) + n.through_square * z(0, 4),
        both=apart * z(4, 2) + z(2, 2) * n.through,
        product=(z(0, 2) * n.steep) ** 2 * n.product(fourth),
    )

    def mapped(c):
        both, neither = _gates(variance, bias, (gain**2 * c * activity + s2) / variance)
        return both * c + neither * n.together(c) / jnp.maximum(activity, FLOOR)

    return _field(gain, variance, activity, moments, mapped, status)


class _Candidate(NamedTuple):
    """Moments of n, and of n'^2 v where g^2 v is a row's variance in what comes through n."""

    square: jax.Array  # E[n^2]
    fourth: jax.Array  # E[n^4]
    steep: jax.Array  # E[n'^2]
    through: jax.Array  # E[n'^2 v]
    square_through: jax.Array  # E[n^2 n'^2 v]
    through_square: jax.Array  # E[(n'^2 v)^2]
    product: Callable[[jax.Array], jax.Array]  # variance of a factor's sigma^2, of E[h^4]
    together: Callable[[jax.Array], jax.Array]  # E[n_1 n_2] of two runs, of c


def _reset_before(gain, s2, activity) -> _Candidate:
    """n = tanh(W x + U (r h)): dn/dh = D(n') U G, G = D(r) + D(q) U_r with q = h r'."""
    own = gain**2 * activity
    r = _gate(own + s2, jnp.zeros_like(s2))
    variance = jnp.maximum(s2 + own * r(2, 0), FLOOR)
    v = r(2, 0) + own * r(2, 2)

    def mean(n_power, slope_power):
        def function(z):
            n = jnp.tanh(jnp.sqrt(variance) * z)
            return n**n_power * (1 - n**2) ** slope_power

        return normal_mean(function, s2.dtype)

    def product(fourth):
        kept, pushed = r(2, 0), own * r(2, 2)
        square = r(4, 0) + 2 * (own * r(4, 2) + kept * pushed)
        return square + gain**4 * fourth * r(4, 4) + pushed**2 - v**2

    def together(c):
        both, _ = _gates(
            own + s2, jnp.zeros_like(s2), (own * c + s2) / jnp.maximum(own + s2, FLOOR)
        )
        shared = (s2 + own * c * both) / variance
        at = lambda z: jnp.tanh(jnp.sqrt(variance) * z)  # noqa: E731
        return _pair_mean(at, shared, s2.dtype)

    return _Candidate(
        mean(2, 0),
        mean(4, 0),
        mean(0, 2),
        mean(0, 2) * v,
        mean(2, 2) * v,
        mean(0, 4) * v**2,
        product,
        together,
    )


def _reset_after(gain, s2, activity) -> _Candidate:
    """n = tanh(W x + r p), p = U h: v = r^2 + r'^2 p^2, p normal given r and what n receives."""
    own, dtype = gain**2 * activity, s2.dtype

    def mean(function):
        def at(from_gate, from_candidate):
            r = jax.nn.sigmoid(jnp.sqrt(jnp.maximum(own + s2, FLOOR)) * from_gate)
            variance = jnp.maximum(s2 + r**2 * own, FLOOR)
            n = jnp.tanh(jnp.sqrt(variance) * from_candidate)
            share = r**2 * own / variance  # of what n receives that is recurrent
            known, left = own * share * from_candidate**2, own * (1 - share)
            slope = (r * (1 - r)) ** 2
            v = r**2 + slope * (known + left)
            spread = slope**2 * (4 * known * left + 2 * left**2)  # of v, p unknown
            return function(n, (1 - n**2) ** 2, v, spread)

        return plane_mean(at, dtype)

    return _Candidate(
        mean(lambda n, steep, v, spread: n**2),
        mean(lambda n, steep, v, spread: n**4),
        mean(lambda n, steep, v, spread: steep),
        mean(lambda n, steep, v, spread: steep * v),
        mean(lambda n, steep, v, spread: n**2 * steep * v),
        mean(lambda n, steep, v, spread: steep**2 * (v**2 + spread)),
        jnp.zeros_like,
        lambda c: _both_after(own, s2, c),
    )


def _both_after(own, s2, c):
    """E[n_1 n_2], over both reset gates and what is received given them."""

    def one(first):
        a, weight = first
        at, weights = coarse_nodes(s2.dtype)
        shared = (own * c + s2) / jnp.maximum(own + s2, FLOOR)
        size = jnp.sqrt(jnp.maximum(own + s2, FLOOR))
        r = jax.nn.sigmoid(size * a)
        other = jax.nn.sigmoid(size * (shared * a + jnp.sqrt(1 - shared**2) * at[:, None, None]))
        spread = jnp.sqrt(jnp.maximum(s2 + own * r**2, FLOOR))
        along = (s2 + own * r * other * c) / spread
        across = jnp.sqrt(jnp.maximum(s2 + own * other**2 - along**2, FLOOR))
        y = at[None, :, None]
        n = jnp.tanh(along * y + across * at[None, None, :]) @ weights
        return weight * (weights @ (n * jnp.tanh(spread * at)[None, :]) @ weights)

    return jnp.sum(jax.lax.map(one, coarse_nodes(s2.dtype)))


class _Moments(NamedTuple):
    """E[a^2], E[a^4], E[b], E[b^2], E[a^2 b], and R/g^4."""

    carry: jax.Array
    carry_square: jax.Array
    rest: jax.Array
    rest_square: jax.Array
    both: jax.Array
    product: jax.Array | float = 0.0


def _gate(variance, bias) -> Callable[[int, int], jax.Array]:
    """E[g^p (1-g)^q] of a gate g = s(a), a normal, as a function of p and q; g' = g (1-g)."""
    size = jnp.sqrt(jnp.maximum(variance, FLOOR))

    def mean(p, q):
        def function(z):
            a = size * z + bias
            return jax.nn.sigmoid(a) ** p * jax.nn.sigmoid(-a) ** q

        return normal_mean(function, variance.dtype)

    return mean


def _gates(variance, bias, shared) -> tuple[jax.Array, jax.Array]:
    """E[g_1 g_2] and E[(1-g_1) (1-g_2)] of two gates of correlation `shared`, below 1."""
    at = lambda z: jax.nn.sigmoid(jnp.sqrt(jnp.maximum(variance, FLOOR)) * z + bias)  # noqa: E731
    both = _pair_mean(at, shared, variance.dtype)
    return both, 1 - 2 * normal_mean(at, variance.dtype) + both


def _pair_mean(function, shared, dtype):
    """E f(z_1) f(z_2) of two standard normals of correlation `shared`, below 1."""
    apart = jnp.sqrt(1 - shared**2)
    return plane_mean(lambda a, b: function(a) * function(shared * a + apart * b), dtype)


def _fourth_moment(g, square, candidate, candidate_fourth):
    """E[h^4] of h' = g h + (1-g) n in its stationary state."""
    written = 6 * g(2, 2) * square * candidate + g(0, 4) * candidate_fourth
    return written / jnp.maximum(1 - g(4, 0), jnp.finfo(square.dtype).eps)


def _field(gain, variance, activity, moments, mapped, status) -> MeanField:
    good = status == Status.CONVERGED
    chi = moments.carry + gain**2 * moments.rest
    square = moments.carry_square + 2 * gain**2 * (moments.both + moments.carry * moments.rest)
    square += gain**4 * (moments.rest_square + moments.rest**2 + moments.product)
    correlation, rate = jax.lax.cond(
        good & (chi > 1), lambda: _apart(mapped, chi), lambda: (jnp.ones_like(chi), chi)
    )
    length = 1 / jnp.abs(jnp.log(rate))
    spread = square / chi**2 - 1
    numbers = (variance, activity, correlation, length, chi, jnp.log(chi) / 2, spread)
    return MeanField(*(jnp.where(good, number, jnp.nan) for number in numbers), status=status)


def _apart(mapped, like) -> tuple[jax.Array, jax.Array]:
    """The smallest c with c = mapped(c), by Newton from 0, from where it rises; the slope there."""
    eps = float(jnp.finfo(like.dtype).eps)

    def newton(c):
        value, slope = jax.jvp(mapped, (c,), (jnp.ones_like(c),))
        rise = (value - c) / jnp.maximum(1 - jax.lax.stop_gradient(slope), eps)
        return jnp.clip(c + rise, 0, 1 - eps**0.5)

    def unfinished(carry):
        c, before, rounds = carry
        return (jnp.abs(c - before) > 16 * eps) & (rounds < ROUNDS)

    def advance(carry):
        return jax.lax.stop_gradient(newton(carry[0])), carry[0], carry[2] + 1

    start = jax.lax.stop_gradient((jnp.zeros_like(like), jnp.full_like(like, jnp.inf), 0))
    c = newton(jax.lax.stop_gradient(jax.lax.while_loop(unfinished, advance, start)[0]))
    return c, jax.jvp(mapped, (c,), (jnp.ones_like(c),))[1]
