"""What theory says about the leading exponent, per step and in natural logarithms."""

import math

import jax

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


def tanh_dimension(gain: float) -> float:
    """Kaplan-Yorke dimension per unit of the undriven tanh network, by free probability."""
    with jax.enable_x64(True):
        return float(_dimension(float(gain)))


@jax.jit
def _dimension(gain):
    variance = rd.mean_field.vanilla(gain).variance
    return rd.mean_field.exponent_density(gain, variance, k=64).kaplan_yorke
