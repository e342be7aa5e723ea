"""Mean field of gated networks whose weights are drawn anew at each step.

With independent gates and candidate, E[h'^2] and the mean squared gradient obey closed scalar
equations (Chen, Pennington & Schoenholz 2018; Gilboa et al. 2019).
"""

from typing import Any

import jax
import jax.numpy as jnp

from rnndyn.core import validation
from rnndyn.core.status import Status
from rnndyn.flow.mean_field.field import MeanField
from rnndyn.flow.mean_field.quadrature import (
    FLOOR,
    fixed_variance,
    floats,
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
        `variance` is v. Of correlations, what the ordered phase implies: 1, with length
        1/|ln chi|; NaN beyond.

    Examples
    --------
    >>> import rnndyn as rd
    >>> field = rd.mean_field.minimal_rnn(1.0, gate_bias=4.0)
    >>> round(float(field.correlation_length), 1)
    23.1
    """
    return _minimal_rnn(*floats(gain, input_variance, gate_bias, embedding_gain))


@jax.jit
def _minimal_rnn(gain, s2, bias, w) -> MeanField:
    embedded = normal_mean(lambda z: jnp.tanh(jnp.sqrt(s2) * z) ** 2, s2.dtype)

    def received(activity):
        return gain**2 * activity + w**2 * embedded

    def following(activity):
        keep, write, _ = _gate(received(activity), bias)
        return keep * activity + write * embedded

    activity, status = fixed_variance(following, jnp.ones_like(s2))
    variance = received(activity)
    keep, _, slope = _gate(variance, bias)
    return _field(variance, activity, keep + gain**2 * (activity + embedded) * slope, status)


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
        `variance` is that of a gate. Of correlations, what the ordered phase implies: 1, with
        length 1/|ln chi|; NaN beyond.

    Examples
    --------
    >>> import rnndyn as rd
    >>> round(float(rd.mean_field.gru(2.0).chi), 6)  # at rest: 1/4 + g^2/16
    0.5
    """
    validation.require_choice("reset_after", reset_after, (True, False))
    return _gru(*floats(gain, input_variance, gate_bias), reset_after)


@jax.jit(static_argnames="reset_after")
def _gru(gain, s2, bias, reset_after) -> MeanField:
    dtype = s2.dtype

    def candidate(activity):
        """E[n^2] and N."""
        own = gain**2 * activity
        if not reset_after:
            reset, _, slope = _gate(own + s2, jnp.zeros_like(bias))
            size = jnp.sqrt(jnp.maximum(s2 + own * reset, FLOOR))
            square = normal_mean(lambda a: jnp.tanh(size * a) ** 2, dtype)
            steep = normal_mean(lambda a: jnp.cosh(size * a) ** -4.0, dtype)
            return square, gain**2 * steep * (reset + own * slope)

        def parts(from_gate, from_candidate):
            r = jax.nn.sigmoid(jnp.sqrt(jnp.maximum(own + s2, FLOOR)) * from_gate)
            variance = jnp.maximum(s2 + r**2 * own, FLOOR)
            n = jnp.tanh(jnp.sqrt(variance) * from_candidate)
            share = r**2 * own / variance  # of the candidate's input that is recurrent
            inner = own * (1 - share + share * from_candidate**2)  # E[(U h)^2 | input]
            return n**2, (1 - n**2) ** 2 * (r**2 + (r * (1 - r)) ** 2 * inner)

        square = plane_mean(lambda a, b: parts(a, b)[0], dtype)
        return square, gain**2 * plane_mean(lambda a, b: parts(a, b)[1], dtype)

    def following(activity):
        keep, write, _ = _gate(gain**2 * activity + s2, bias)
        return keep * activity + write * candidate(activity)[0]

    activity, status = fixed_variance(following, jnp.ones_like(s2))
    variance = gain**2 * activity + s2
    square, through = candidate(activity)
    keep, write, slope = _gate(variance, bias)
    chi = keep + gain**2 * (activity + square) * slope + write * through
    return _field(variance, activity, chi, status)


def _gate(variance, bias):
    """E[g^2], E[(1-g)^2] and E[g'^2] of a gate g = s(a), a normal."""
    size = jnp.sqrt(jnp.maximum(variance, FLOOR))
    mean = lambda f: normal_mean(lambda z: f(jax.nn.sigmoid(size * z + bias)), variance.dtype)  # noqa: E731
    return mean(lambda g: g**2), mean(lambda g: (1 - g) ** 2), mean(lambda g: (g * (1 - g)) ** 2)


def _field(variance, activity, chi, status) -> MeanField:
    good, calm = status == Status.CONVERGED, chi < 1
    open_ = jnp.full_like(chi, jnp.nan)
    length = jnp.where(calm, 1 / jnp.abs(jnp.log(chi)), jnp.nan)
    correlation = jnp.where(calm, jnp.ones_like(chi), jnp.nan)
    numbers = (variance, activity, correlation, length, chi, jnp.log(chi) / 2, open_)
    return MeanField(*(jnp.where(good, number, jnp.nan) for number in numbers), status=status)
