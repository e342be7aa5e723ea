"""What theory says about the leading exponent, per step and in natural logarithms."""

import math

import numpy as np

_NODES = np.linspace(-10.0, 10.0, 4001)  # Gauss-Hermite misses the narrow peak at high gain
_WEIGHTS = np.exp(-(_NODES**2) / 2) * (_NODES[1] - _NODES[0]) / math.sqrt(2.0 * math.pi)


def tanh_network(gain: float, input_variance: float, order: int = 1) -> float:
    """Mean field of h_t = tanh(sum_k W_k h_{t-k} + input), W_k entries N(0, g^2 / (K^2 n)).

    The variance of a pre-activation solves q = (g^2/K) E[tanh^2] + s^2, and the mean squared
    derivative G of a unit with respect to an earlier one G(l) = (g^2/K^2) E[sech^4] sum_k G(l-k):
    so the exponent is half the logarithm of the root of x^K = a (1 + x + ... + x^(K-1)), for
    K = 1 Molgedey, Schuchhardt & Schuster 1992, Phys. Rev. Lett. 69.
    """
    q, before = 1.0 + input_variance, math.inf
    while abs(q - before) > 1e-10 * q:
        before = q
        q = gain**2 / order * _mean(np.tanh(math.sqrt(q) * _NODES) ** 2) + input_variance
    a = (gain / order) ** 2 * _mean(np.cosh(math.sqrt(q) * _NODES) ** -4.0)
    roots = np.roots([1.0] + order * [-a])
    return 0.5 * math.log(max(abs(roots)))


def gru_at_rest(gain: float, bias: float) -> float:
    """The GRU at the origin: J = z I + (1 - z) U/2, whose disc of eigenvalues ends at this."""
    z = 1.0 / (1.0 + math.exp(-bias))
    return math.log(z + (1.0 - z) * gain / 2.0)


def lstm_at_rest(gain: float, bias: float) -> float:
    """The LSTM at the origin: eigenvalues f + u/4, u those of U_g, which fill the disc |u| < g."""
    return math.log(1.0 / (1.0 + math.exp(-bias)) + gain / 4.0)


def _mean(values: np.ndarray) -> float:
    return float(_WEIGHTS @ values)
