"""Families of maps whose bifurcations are known: module-level, so each compiles once."""

import jax
import jax.numpy as jnp

import rnndyn as rd


def scalar_tanh(w, b):
    """h' = tanh(w h + b)."""
    return rd.maps.tanh_network(jnp.reshape(w, (1, 1)), jnp.reshape(b, (1,)))


def scalar_tanh_in_w(b, w):
    return scalar_tanh(w, b)


def logistic_cycle(r):
    return rd.iterate(rd.maps.logistic(r), 2)


def logistic_four(r):
    return rd.iterate(rd.maps.logistic(r), 4)


def logistic_three(r):
    return rd.iterate(rd.maps.logistic(r), 3)


def henon(a):
    return rd.maps.henon(a, 0.3)


def henon_cycle(a):
    return rd.iterate(rd.maps.henon(a, 0.3), 2)


def rotation(angle):
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    return jnp.stack([jnp.stack([cos, -sin]), jnp.stack([sin, cos])])


def turning(rho):
    """h' = tanh(rho R(1) h)."""
    return rd.maps.tanh_network(rho * rotation(jnp.ones_like(rho)))


def two_units(_, alpha):
    """The GRU with constant gates 1/2 and U = 3 R(alpha) (Jordan, Sokol & Park 2021)."""
    return rd.Map(_half_open, 1.5 * rotation(alpha))


def _half_open(h, w):
    return 0.5 * h + 0.5 * jnp.tanh(w @ h)


def gru_unit(u):
    """One GRU unit, reset before: candidate tanh(u r h), r = sigma(h), z = sigma(0.7 h + 0.3)."""
    return rd.Map(_gru_unit, u)


def _gru_unit(h, u):
    keep = jax.nn.sigmoid(0.7 * h + 0.3)
    return keep * h + (1 - keep) * jnp.tanh(u * jax.nn.sigmoid(h) * h)


def lstm_unit(w):
    """One LSTM unit, state (h, c): zero gate weights, forget bias 1, cell weight w."""
    return rd.Map(_lstm_unit, w)


def _lstm_unit(z, w):
    c = jax.nn.sigmoid(1.0) * z[1] + 0.5 * jnp.tanh(w * z[0])
    return jnp.stack([0.5 * jnp.tanh(c), c])


def bistable_cell(u):
    """The BRC unit with a = 1.5 at input u (Vecoven et al. 2020)."""
    return rd.Map(_bistable_cell, u)


def _bistable_cell(h, u):
    keep = jax.nn.sigmoid(0.3 * h - 0.2)
    return keep * h + (1 - keep) * jnp.tanh(u + 1.5 * h)


def ctrnn(w, current):
    """Euler steps of y' = -y + w sigma(y) + I (Beer 1995)."""
    return rd.Map(_ctrnn, (w, current))


def _ctrnn(y, args):
    w, current = args
    return y + 0.1 * (-y + w * jax.nn.sigmoid(y) + current)


def wang(mu):
    """Two neurons, x' = s(mu (-5x + 5y)), y' = s(mu (-25x + 25y)) (Wang 1991)."""
    return rd.Map(_wang, mu)


def _wang(z, mu):
    gap = mu * (z[1] - z[0])
    return jax.nn.sigmoid(jnp.stack([5 * gap, 25 * gap]))


def circle(omega):
    """x' = x + Omega - K / (2 pi) sin(2 pi x), K = 1/2."""
    return rd.Map(_circle, omega)


def _circle(x, omega):
    return x + omega - 0.25 / jnp.pi * jnp.sin(2 * jnp.pi * x)


def gain_times(w, g):
    """h' = tanh(g W h + b), (W, b) = w."""
    return rd.maps.tanh_network(g * w[0], w[1])


def isola(p):
    """The fixed points are the circle z^2 + p^2 = 1."""
    return rd.Map(_isola, p)


def _isola(z, p):
    return z + 0.5 * (z**2 + p**2 - 1)


def parabola(p):
    return rd.Map(_parabola, p)


def _parabola(z, p):
    return z + z**2 + p


def broken_beyond(p):
    """z = p / 2, and NaN beyond p = 1/2."""
    return rd.Map(_broken_beyond, p)


def _broken_beyond(z, p):
    return jnp.where(p < 0.5, 0.5 * z + 0.25 * p, jnp.nan)


def constant(p):
    del p
    return rd.maps.logistic(2.5)


def turning_by(angle, rho):
    """h' = tanh(rho R(angle) h)."""
    return rd.maps.tanh_network(rho * rotation(angle))


def vanishing(p):
    """z = sqrt(1/2 - p) and its mirror image: no root beyond the fold at p = 1/2."""
    return rd.Map(_vanishing, p)


def _vanishing(z, p):
    return z + 0.3 * (0.5 - p - z**2)


def ending(p):
    """z = sqrt(p) of z' = sqrt(p): the derivative is infinite where the branch ends."""
    return rd.Map(_ending, p)


def _ending(z, p):
    return 0.0 * z + jnp.sqrt(p)
