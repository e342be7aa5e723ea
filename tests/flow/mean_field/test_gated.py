"""Gated networks: limits in closed form, and cells drawn anew at each step."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rnndyn as rd
from rnndyn.flow.mean_field.memory import squared_singular_values
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


def theory_and_cell(name, gain, n) -> tuple[Any, Any]:
    weights = {"input_weights": GAUSSIAN(), "recurrent_weights": GAUSSIAN(), "bias": ZERO}
    if name == "minimal":
        return MEAN.minimal_rnn(gain, 1.0), rd.cells.MinimalRNN(4, n, **weights)
    if name == "vanilla":
        return MEAN.vanilla(gain, 1.0), rd.cells.Vanilla(4, n, **weights)
    if name == "lstm":
        field = MEAN.lstm(gain, 1.0, forget_bias=1.0)
        return field, rd.cells.LSTM(4, n, forget_bias=1.0, **weights)
    field = MEAN.gru(gain, 1.0, reset_after=name == "torch")
    return field, rd.cells.GRU(4, n, variant=name, **weights)


@pytest.mark.parametrize("gain", [1.0, 3.0, 7.0])
@pytest.mark.parametrize("name", ["torch", "cho_v3", "minimal", "vanilla", "lstm"])
def test_theory_against_cells_drawn_anew_at_each_step(name, gain):
    n = 200
    field, cell = theory_and_cell(name, gain, n)
    found = MEAN.sampled(cell, jax.random.key(1), unit_inputs(150), gain=gain, washout=30)
    assert int(found.status) == int(field.status) == 0
    assert abs(float(found.activity / field.activity) - 1) < 0.06
    slack = 4 * float(found.standard_error) + 4 / n
    assert abs(float(found.exponent - field.exponent)) < slack
    if gain == 1.0:
        assert min(float(found.correlation), float(field.correlation)) > 1 - 1e-9
    if gain == 7.0:
        assert float(field.exponent) > 0
        assert abs(float(found.correlation - field.correlation)) < 0.08


@pytest.mark.parametrize("name", ["torch", "cho_v3", "minimal", "lstm"])
def test_squared_singular_values_of_one_step(name):
    """Mean and relative variance, of cells drawn anew until their states are stationary."""
    n, gain, steps = 300, 4.0, 40
    field, cell = theory_and_cell(name, gain, n)
    inputs = unit_inputs(steps + 1)

    @jax.jit
    def jacobian(key):
        keys = jax.random.split(key, steps + 2)
        start = cell.initial_state(cell.init(key, gain=gain))
        noise = jax.random.normal(keys[0], rd.flatten(start).shape)

        def advance(state, at):
            return cell.step(cell.init(at[0], gain=gain), state, at[1]), None

        state, _ = jax.lax.scan(advance, rd.unflatten(noise, start), (keys[1:-1], inputs[:-1]))
        params = cell.init(keys[-1], gain=gain)
        step = lambda z: rd.flatten(cell.step(params, rd.unflatten(z, state), inputs[-1]))  # noqa: E731
        return jax.jacfwd(step)(rd.flatten(state))

    drawn = [jacobian(jax.random.key(seed)) for seed in range(3)]
    squared = [np.linalg.svd(np.asarray(one), compute_uv=False) ** 2 for one in drawn]
    spread = np.mean([one.var() / one.mean() ** 2 for one in squared])
    assert abs(spread / float(field.relative_variance) - 1) < 0.1
    if name != "lstm":  # whose chi is that of long runs
        assert abs(np.mean(squared) / float(field.chi) - 1) < 0.1


def test_a_carry_alone_and_a_linear_step_have_known_spreads():
    """Gates wide open: J = I. At rest J = z I + (1-z) U/2: g^4 m^2 + 2 z^2 g^2 m, over chi^2."""
    assert abs(float(MEAN.gru(2.0, 1.0, gate_bias=40.0).relative_variance)) < tol("quadrature")
    for after in (True, False):
        field = MEAN.gru(2.0, gate_bias=1.0, reset_after=after)
        z = 1 / (1 + math.exp(-1.0))
        m = (1 - z) ** 2  # 2^2/4 (1-z)^2
        expected = (m**2 + 2 * z**2 * m) / (z**2 + m) ** 2
        np.testing.assert_allclose(field.relative_variance, expected, rtol=tol("order_parameter"))


def test_derivatives_of_the_correlation_in_chaos_equal_differences():

    def numbers(gain):
        field = MEAN.minimal_rnn(gain, 1.0)
        return jnp.stack([field.correlation, field.correlation_length, field.relative_variance])

    h = 1e-4
    c, length, _ = numbers(9.0)
    assert 0 < float(c) < 0.9 and 0 < float(length) < 10
    slopes = jax.jacfwd(numbers)(9.0)
    expected = (numbers(9.0 + h) - numbers(9.0 - h)) / (2 * h)
    np.testing.assert_allclose(slopes, expected, rtol=tol("flow_slope"))


def test_an_lstm_in_order_has_a_slope_in_its_gain():
    """Its two runs are the same one, where sqrt(1 - c^2) has none."""
    chi = lambda gain: MEAN.lstm(gain, 1.0, forget_bias=1.0, units=512, steps=60).chi  # noqa: E731
    h = 1e-4
    expected = (chi(1.0 + h) - chi(1.0 - h)) / (2 * h)
    np.testing.assert_allclose(jax.grad(chi)(1.0), expected, rtol=tol("flow_slope"))


@pytest.mark.precision
def test_the_memory_of_an_lstm_is_part_of_the_state():
    """At rest, i = o = 1/2: c' = f c + (g/4) U c, so chi = f^2 + g^2/16 of c, h follows it."""
    f = 1 / (1 + math.exp(-1.0))
    expected = math.log(f**2 + 1 / 16) / 2
    field, cell = theory_and_cell("lstm", 1.0, 200)
    found = MEAN.sampled(cell, jax.random.key(0), jnp.zeros((150, 4)), gain=1.0, washout=30)
    assert abs(float(found.exponent) - expected) < 4 * float(found.standard_error) + 0.02
    field = MEAN.lstm(1.0, forget_bias=1.0)
    assert int(field.status) == 0 and float(field.activity) == 0 and float(field.correlation) == 1
    np.testing.assert_allclose(field.exponent, expected, rtol=tol("order_parameter"))
    # one step: dc' = f dc + U dh/2, dh' = dc'/2
    k, s, push = 1.25, f**2 + 1 / 4, 1.25 / 4
    expected = 2 * ((k * s) ** 2 + push**2) / (k * s) ** 2 - 1
    np.testing.assert_allclose(field.relative_variance, expected, rtol=tol("order_parameter"))
    assert int(MEAN.lstm(3.0, 1.0, forget_bias=30.0).status) == -2  # its memory never settles


def test_two_runs_of_an_lstm_in_chaos_forget_their_starts_within_the_correlation_length():
    """Pairs of runs in NumPy, from related and from independent memories, on the same draws."""
    gain, n, steps = 8.0, 200_000, 12
    field = MEAN.lstm(gain, 0.5, forget_bias=1.0)
    assert float(field.chi) > 1 and float(field.correlation) < 0.1
    rng = np.random.default_rng(0)
    sigmoid = lambda a: 1 / (1 + np.exp(-a))  # noqa: E731
    (alone, fresh), square = rng.standard_normal((2, n)), 0.1
    others, together = np.stack([(alone + fresh) / math.sqrt(2), fresh]), np.array([0.07, 0.0])
    apart = []
    for _ in range(steps):
        own, fresh = rng.standard_normal((2, 4, n))
        variance = gain**2 * square + 0.5
        shared = ((gain**2 * together + 0.5) / variance)[:, None, None]
        drawn = np.concatenate([own[None], shared * own + np.sqrt(1 - shared**2) * fresh])
        f, i, o, g = np.moveaxis(np.sqrt(variance) * drawn, 1, 0)
        memory = np.stack([alone, *others])
        memory = sigmoid(f + 1.0) * memory + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(memory)
        alone, others = memory[0], memory[1:]
        square, together = (h[0] ** 2).mean(), (h[1:] * h[0]).mean(axis=1)
        apart.append(together[0] - together[1])
    rate = np.polyfit(range(4, steps), np.log(apart[4:]), 1)[0]
    assert abs(-1 / rate / float(field.correlation_length) - 1) < 0.05


def test_squared_singular_values_of_drawn_blocks():
    """dc' = D(a) dc + D(sqrt(b)) W dh, dh' = D(e) dc' + D(sqrt(y)) W_o dh: any a, b, e, y."""
    rng, n = np.random.default_rng(0), 600
    a, b, e, y = rng.uniform(0, (1.0, 2.0, 1.5, 3.0), (n, 4)).T
    w, w_o = rng.standard_normal((2, n, n)) / math.sqrt(n)
    above = np.hstack([np.sqrt(b)[:, None] * w, np.diag(a)])
    below = e[:, None] * above + np.hstack([np.sqrt(y)[:, None] * w_o, np.zeros((n, n))])
    squared = np.linalg.svd(np.vstack([below, above]), compute_uv=False) ** 2
    found = squared_singular_values(*map(jnp.asarray, (a**2, b, e, y)))
    np.testing.assert_allclose(found, [squared.mean(), (squared**2).mean()], rtol=0.02)


def test_critical_gains_of_any_theory():
    """The plain one's and its slope; an LSTM's on input; a GRU at rest jumps past the edge."""

    def plain(input_variance):
        return MEAN.critical_gain_of(lambda gain: MEAN.vanilla(gain, input_variance))

    got, want = (jax.value_and_grad(found)(0.3) for found in (plain, MEAN.critical_gain))
    np.testing.assert_allclose(got[0], want[0], rtol=tol("order_parameter"))
    np.testing.assert_allclose(got[1], want[1], rtol=tol("flow_slope"))
    theory = lambda gain: MEAN.lstm(gain, 1.0, forget_bias=1.0, units=512, steps=60)  # noqa: E731
    found = MEAN.critical_gain_of(theory, span=(2.0, 6.0))
    assert 3.5 < float(found) < 4.1 and abs(float(theory(found).chi) - 1) < 1e-6
    below, above = (MEAN.gru(math.sqrt(12) - move) for move in (0.05, 0.0))
    assert float(below.activity) == 0 and float(below.chi) < 1
    assert float(above.activity) > 0.01 and float(above.chi) > 1.05
    assert bool(jnp.isnan(MEAN.critical_gain_of(MEAN.gru)))


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
    with pytest.raises(ValueError, match="`k`: expected a whole number >= 1, got 0"):
        MEAN.exponent_density(1.0, 0.0, k=0)
    with pytest.raises(TypeError, match="`key`: expected one random key of JAX, got 3"):
        MEAN.sampled(cell, 3, inputs)
    with pytest.raises(TypeError, match="`key`: expected one random key of JAX, got 3"):
        MEAN.lstm(1.0, key=3)


@pytest.mark.parametrize(
    "theory, options",
    [
        (MEAN.vanilla, ("gain", "input_variance")),
        (MEAN.minimal_rnn, ("gain", "input_variance", "embedding_gain")),
        (MEAN.gru, ("gain", "input_variance")),
        (MEAN.lstm, ("gain", "input_variance")),
        (MEAN.exponent_density, ("gain", "variance")),
        (MEAN.critical_gain, ("input_variance",)),
        (MEAN.critical_line, ("variance",)),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_deviations_and_variances_are_not_negative(theory, options):
    for name in options:
        given = dict.fromkeys(options, 0.5) | {name: -0.5}
        with pytest.raises(ValueError, match=f"^`{name}`: expected nothing below 0, got -0.5; "):
            theory(**given)
        if theory is not MEAN.critical_line:
            with pytest.raises(ValueError, match=rf"^`{name}`: expected shape \(\), got \(2,\);"):
                theory(**given | {name: jnp.ones(2)})


def test_a_negative_variance_that_is_traced_is_told():
    fields = jax.vmap(lambda s2: MEAN.vanilla(0.5, s2))(jnp.array([0.5, -0.5]))
    assert fields.status.tolist() == [0, -2] and bool(jnp.isnan(fields.chi[1]))
    with pytest.raises(ValueError, match=r"^`input_correlation`: expected a number in \[-1, 1\]"):
        MEAN.vanilla(1.5, 0.1, input_correlation=1.5)
