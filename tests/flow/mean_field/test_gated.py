"""Gated networks: limits in closed form, and cells drawn anew at each step."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rnndyn as rd
from tests.tolerances import tol

MEAN = rd.mean_field
GAUSSIAN, ZERO = rd.initializers.Gaussian, rd.initializers.Constant(0.0)


def unit_inputs(steps):
    """|x|^2 = 4 in R^4, so that weights N(0, 1/4) give a unit variance 1 at every step."""
    x = jax.random.normal(jax.random.key(5), (steps, 4))
    return 2 * x / jnp.linalg.norm(x, axis=1, keepdims=True)


@pytest.mark.precision
@pytest.mark.parametrize("after", [True, False])
def test_gru_at_rest(after):
    """J = z I + (1-z) U/2: mean squared singular value z^2 + (1-z)^2 g^2/4."""
    for gain, bias in ((1.5, 0.0), (2.0, 1.0)):
        field = MEAN.gru(gain, gate_bias=bias, reset_after=after)
        z = 1 / (1 + math.exp(-bias))
        expected = z**2 + (1 - z) ** 2 * gain**2 / 4
        assert int(field.status) == 0 and float(field.activity) == 0.0
        np.testing.assert_allclose(field.chi, expected, rtol=tol("order_parameter"))
    for gain, chaos in ((3.4, False), (3.5, True)):  # sqrt(12), where the untied one gives way
        assert (float(MEAN.gru(gain, reset_after=after).chi) > 1) == chaos


def test_gates_wide_open_carry_everything():
    np.testing.assert_allclose(MEAN.gru(2.0, 1.0, gate_bias=40.0).chi, 1.0, rtol=tol("quadrature"))
    shut = MEAN.minimal_rnn(2.0, 1.0, gate_bias=-40.0)  # h is the embedding
    assert abs(float(shut.chi)) < tol("quadrature")
    np.testing.assert_allclose(shut.activity, 0.394294489, rtol=tol("printed_8"))  # E tanh^2


@pytest.mark.parametrize("gain", [1.0, 3.0])
@pytest.mark.parametrize("name", ["torch", "cho_v3", "minimal", "vanilla"])
def test_theory_against_cells_drawn_anew_at_each_step(name, gain):
    n, sizes = 200, (4, 200)
    weights = {"input_weights": GAUSSIAN(), "recurrent_weights": GAUSSIAN(), "bias": ZERO}
    if name == "minimal":
        cell, field = rd.cells.MinimalRNN(*sizes, **weights), MEAN.minimal_rnn(gain, 1.0)
    elif name == "vanilla":
        cell, field = rd.cells.Vanilla(*sizes, **weights), MEAN.vanilla(gain, 1.0)
    else:
        cell = rd.cells.GRU(*sizes, variant=name, **weights)
        field = MEAN.gru(gain, 1.0, reset_after=name == "torch")
    found = MEAN.sampled(cell, jax.random.key(1), unit_inputs(150), gain=gain, washout=30)
    assert int(found.status) == 0
    assert abs(float(found.activity / field.activity) - 1) < 0.05
    slack = 4 * float(found.standard_error) + 4 / n
    assert abs(float(found.exponent - field.exponent)) < slack
    if gain == 1.0:
        assert min(float(found.correlation), float(field.correlation)) > 1 - 1e-9


def test_the_memory_of_an_lstm_is_part_of_the_state():
    """At rest, i = o = 1/2: c' = f c + (g/4) U c, so chi = f^2 + g^2/16 of c, h follows it."""
    cell = rd.cells.LSTM(
        1, 200, forget_bias=1.0, input_weights=ZERO, recurrent_weights=GAUSSIAN(), bias=ZERO
    )
    found = MEAN.sampled(cell, jax.random.key(0), jnp.zeros((150, 1)), gain=1.0, washout=50)
    f = 1 / (1 + math.exp(-1.0))
    expected = math.log(f**2 + 1 / 16) / 2
    assert abs(float(found.exponent) - expected) < 4 * float(found.standard_error) + 0.02


def test_nan_is_told_and_misuse_refused():
    cell = rd.cells.GRU(4, 8)
    inputs = unit_inputs(5)
    bad = MEAN.sampled(cell, jax.random.key(0), inputs.at[2].set(jnp.nan))
    assert int(bad.status) == -3 and bool(jnp.isnan(bad.exponent))
    with pytest.raises(ValueError, match="`washout`: expected a number in"):
        MEAN.sampled(cell, jax.random.key(0), inputs, washout=5)
    with pytest.raises(ValueError, match="`inputs`: expected shape"):
        MEAN.sampled(cell, jax.random.key(0), inputs[:, :2])
    with pytest.raises(ValueError, match="`order`: expected a whole number >= 1, got 0"):
        MEAN.vanilla(1.0, order=0)
