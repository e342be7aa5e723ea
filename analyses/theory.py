"""What theory says about the leading exponent, per step and in natural logarithms."""

import math

import jax
import numpy as np

import rnndyn as rd


def tanh_network(gain: float, input_variance: float, order: int = 1) -> float:
    """Mean field of h_t = tanh(sum_k W_k h_{t-k} + input), W_k entries N(0, g^2 / (K^2 n))."""
    with jax.enable_x64(True):
        return float(_exponent(float(gain), float(input_variance), order))


@jax.jit(static_argnums=2)
def _exponent(gain, input_variance, order):
    return rd.mean_field.vanilla(gain, input_variance, order=order).exponent


def untied_gru(gain: float, input_variance: float = 0.0) -> float:
    """Mean field of the GRU (torch's form, biases 0) whose weights change at each step."""
    with jax.enable_x64(True):
        return float(_gru_exponent(float(gain), float(input_variance)))


@jax.jit
def _gru_exponent(gain, input_variance):
    return rd.mean_field.gru(gain, input_variance).exponent


def gru_at_rest(gain: float, bias: float) -> float:
    """The GRU at the origin: J = z I + (1 - z) U/2, whose disc of eigenvalues ends at this."""
    z = 1.0 / (1.0 + math.exp(-bias))
    return math.log(z + (1.0 - z) * gain / 2.0)


def lstm_at_rest(gain: float, bias: float) -> float:
    """The LSTM at the origin: eigenvalues f + u/4, u those of U_g, which fill the disc |u| < g."""
    return math.log(1.0 / (1.0 + math.exp(-bias)) + gain / 4.0)


def slowest(matrix: np.ndarray) -> float:
    """ln of the spectral radius: how a product of equal Jacobians grows per step."""
    return math.log(np.max(np.abs(np.linalg.eigvals(matrix))))


def clockwork_at_rest(blocks: list[np.ndarray], periods: tuple[int, ...]) -> float:
    """A module of period T_i moves once in T_i steps: the slowest of rho(D_i W_ii)^(1/T_i).

    The monodromy is block triangular, so what lies between the modules has no part in it.
    """
    return max(slowest(b) / period for b, period in zip(blocks, periods, strict=True))


def narx_at_rest(weights: np.ndarray) -> float:
    """The root of det(l^K I - sum_k l^(K-k) D W_k) = 0 of largest modulus; D W_k are (K, n, n)."""
    order, n = weights.shape[:2]
    return slowest(np.vstack([np.hstack(weights), np.eye((order - 1) * n, order * n)]))


def sru_at_rest(alphas: np.ndarray, feedback: np.ndarray) -> float:
    """mu' = alpha mu + (1 - alpha) phi, feedback K = dphi/dmu (s, scales s).

    J = D(alpha) (x) I + (1 - alpha) (x) K.
    """
    carried = np.kron(np.diag(alphas), np.eye(len(feedback)))
    return slowest(carried + np.kron(1.0 - alphas[:, None], feedback))


def fru_bounds(largest: float, cosines: np.ndarray) -> np.ndarray:
    """Bounds of the log singular values over the last 0, 1, ..., T steps: (2, T + 1), lower first.

    J_t = I + (1/T) c_t (x) K_t with ||K_t|| <= `largest`, cosines (T, F): the singular values of a
    product lie between those of prod (1 -+ largest ||c_t||/T); -inf once a factor is not positive.
    """
    pushes = largest * np.linalg.norm(cosines, axis=1)[::-1] / len(cosines)
    with np.errstate(divide="ignore"):
        factors = np.log([np.maximum(1.0 - pushes, 0.0), 1.0 + pushes])
    return np.concatenate([np.zeros((2, 1)), np.cumsum(factors, axis=1)], axis=1)


def tanh_dimension(gain: float) -> float:
    """Kaplan-Yorke dimension per unit of the undriven tanh network, by free probability."""
    with jax.enable_x64(True):
        return float(_dimension(float(gain)))


@jax.jit
def _dimension(gain):
    variance = rd.mean_field.vanilla(gain).variance
    return rd.mean_field.exponent_density(gain, variance, k=64).kaplan_yorke
