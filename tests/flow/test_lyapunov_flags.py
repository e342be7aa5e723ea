"""The frame that is not orthonormalised at every step: the same numbers, and an honest error."""

import math

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest

import rnndyn as rd
from tests.tolerances import tol

from_jacobians = rd.Linearization.from_jacobians
SIZE, STEPS = 24, 160


def tanh_jacobians(gain, seed=0, size=SIZE, steps=STEPS):
    rng = np.random.default_rng(seed)
    w = gain * rng.normal(size=(size, size)) / math.sqrt(size)
    z, out = rng.normal(size=size), []
    for _ in range(steps + 50):
        z = np.tanh(w @ z)
        out.append((1 - z * z)[:, None] * w)
    return np.array(out[50:])


def first_frame(size, k):
    return np.asarray(jnp.linalg.qr(jax.random.normal(jax.random.key(0), (size, k)))[0])


def growth_by_qr(jacobians, k):
    """log |diag R| of QR at every step, rows sorted by size, shape (T, k)."""
    frame, growth = first_frame(jacobians.shape[1], k), []
    for jacobian in jacobians:
        panel = jacobian @ frame
        order = np.argsort(-np.abs(panel).max(axis=1))
        q, r = np.linalg.qr(panel[order])
        frame = np.zeros_like(q)
        frame[order] = q
        with np.errstate(divide="ignore"):
            growth.append(np.log(np.abs(np.diag(r))))
    return np.array(growth)


def growth_by_digits(jacobians):
    """Mean log |r_ii| in 500 digits: QR of the whole product, nothing in between."""
    with mpmath.workdps(500):
        product = mpmath.matrix(first_frame(jacobians.shape[1], jacobians.shape[1]).tolist())
        for jacobian in jacobians:
            product = mpmath.matrix(jacobian.tolist()) * product
        _, r = mpmath.qr(product)
        size = jacobians.shape[1]
        logs = [float(mpmath.log(abs(r[i, i]))) for i in range(size)]
    return np.array(logs) / len(jacobians)


GAINS = (0.8, 2.0, 5.0, 12.0)


def test_equals_qr_at_every_step():
    """Within 1e-8, from contraction to saturated units that are exactly dead; all in one call."""
    jacobians = np.stack([tanh_jacobians(gain) for gain in GAINS])
    found = jax.vmap(lambda j: rd.lyapunov_spectrum(from_jacobians(j), window=40))(
        jnp.asarray(jacobians)
    )
    for row, gain in enumerate(GAINS):
        growth = growth_by_qr(jacobians[row], SIZE)
        expected = growth.mean(axis=0)
        order = np.argsort(-expected)
        alive = np.isfinite(expected[order])
        assert np.isfinite(found.exponents[row]).tolist() == alive.tolist(), gain
        assert np.sum(~alive) > 0 or gain < 12
        off = np.abs(found.exponents[row] - expected[order])[alive]
        assert np.all(off <= tol("exponent_equal")), gain
        assert np.all(off <= np.maximum(found.error[row][alive], tol("log_sum"))), gain
        windows = growth.reshape(4, 40, SIZE).mean(axis=1)[:, order]
        np.testing.assert_allclose(
            found.windows[row][:, alive], windows[:, alive], rtol=0, atol=tol("exponent_equal")
        )
    assert np.all(found.status == 0)
    assert np.max(found.error) <= tol("exponent_equal")


def test_the_error_bounds_what_rounding_did_to_networks():
    """Every exponent, forward and adjoint, against 500 digits; not one far from its bound."""
    forward = np.stack([tanh_jacobians(3.0, seed, size=12, steps=60) for seed in range(2)])
    jacobians = np.concatenate([forward, np.swapaxes(forward[:, ::-1], 2, 3)])
    expected = np.stack([60 * growth_by_digits(steps) for steps in jacobians])
    spectra = jax.vmap(lambda j, t: rd.lyapunov_spectrum(from_jacobians(j), tol=t), (0, None))
    for limit, most in ((1e-8, 10 * tol("exponent_equal")), (0.0, tol("exponent_digits"))):
        found = spectra(jnp.asarray(jacobians), limit)
        assert np.all(np.abs(found.checkpoint.growth - expected) <= found.checkpoint.error)
        assert np.max(found.error) <= most


def test_the_error_sees_what_neighbours_hand_to_each_other():
    """Two exponents in the wrong order for half of the run: rounding decides when they turn.

    After n steps at ratio 1/4 and n at 4 the frame's turn, of order 1, has errors of eps 4^n.
    """
    turn = np.linalg.qr(np.random.default_rng(2).normal(size=(2, 2)))[0]
    slopes = np.concatenate([np.tile([2.0, 0.5], (16, 1)), np.tile([0.5, 2.1], (24, 1))])
    jacobians = turn * slopes[:, None, :] @ turn.T
    found = rd.lyapunov_spectrum(from_jacobians(jnp.asarray(jacobians)), tol=0.0)
    growth, error = found.checkpoint.growth, found.checkpoint.error
    off = np.abs(growth - 40 * growth_by_digits(jacobians))
    assert np.min(off) > 1e3 * 40 * jnp.finfo(float).eps  # far beyond the rounding of each step
    assert np.all(off <= error) and np.max(error) <= 1e4 * np.max(off)
    assert abs(np.sum(growth) - 16 * 0.0 - 24 * math.log(1.05)) <= tol("log_product")


def test_windows_of_one_step_are_the_growth_of_each():
    k, jacobians = 3, tanh_jacobians(2.0, steps=40)
    found = rd.lyapunov_spectrum(from_jacobians(jnp.asarray(jacobians)), k=k, window=1)
    growth = growth_by_qr(jacobians, k)
    order = np.argsort(-growth.mean(axis=0))
    np.testing.assert_allclose(found.windows, growth[:, order], atol=tol("exponent_digits"))
    np.testing.assert_allclose(found.running[-1], found.exponents, atol=tol("exponent_digits"))
    np.testing.assert_allclose(found.running[1], growth[:2, order].mean(axis=0), rtol=1e-6)


def graded(kind, steps=24, size=5):
    """Jacobians with columns, or rows, of sizes from 1 to 1e-12, or neither."""
    rng = np.random.default_rng(1)
    jacobians = rng.normal(size=(steps, size, size))
    sizes = np.stack([rng.permutation(10.0 ** -np.linspace(0, 12, size)) for _ in range(steps)])
    scale = {"columns": sizes[:, None, :], "rows": sizes[:, :, None], "none": 1.0}[kind]
    return jacobians * scale


@pytest.mark.parametrize("kind", ["columns", "rows", "none"])
def test_the_error_bounds_what_rounding_did(kind):
    """Against 500 digits. Columns of any size take two eliminations a step; rows take one."""
    jacobians = graded(kind)
    found = rd.lyapunov_spectrum(from_jacobians(jnp.asarray(jacobians)))
    expected = np.sort(growth_by_digits(jacobians))[::-1]
    off = np.abs(found.exponents - expected)
    assert np.all(off <= tol("exponent_equal"))
    assert np.all(off <= found.error)


def burst(steps=200):
    """Isometries with three steps of condition 1e5 in a row, far apart."""
    rng = np.random.default_rng(2)
    turns, others = np.linalg.qr(rng.normal(size=(2, steps, 6, 6)))[0]
    for t in (90, 91, 92, 150, 151, 152):
        turns[t] = turns[t] @ np.diag(10.0 ** -np.linspace(0, 5, 6)) @ others[t]
    return turns


def test_a_block_that_would_lose_digits_is_taken_again():
    """The interval has grown to 32 when the burst comes, which alone would lose everything."""
    jacobians = burst()
    found = rd.lyapunov_spectrum(from_jacobians(jnp.asarray(jacobians)), window=200)
    expected = np.sort(growth_by_qr(jacobians, 6).mean(axis=0))[::-1]
    np.testing.assert_allclose(found.exponents, expected, rtol=0, atol=tol("exponent_equal"))
    assert np.max(found.error) <= tol("exponent_equal")
    calm = rd.lyapunov_spectrum(from_jacobians(jnp.asarray(jacobians[:80])), window=80)
    assert calm.checkpoint.carry.pace.interval == rd.flow.flags.LONGEST
    assert np.max(calm.error) <= tol("log_sum")


def test_a_tolerance_of_zero_takes_every_step_alone():
    calm = jnp.asarray(burst()[:80])
    found = rd.lyapunov_spectrum(from_jacobians(calm), window=80, tol=0.0)
    assert found.checkpoint.carry.pace.interval == 1
    np.testing.assert_allclose(found.exponents, 0.0, atol=tol("log_product"))


def test_a_direction_that_dies_in_the_middle_of_a_block():
    jacobians = burst()[:80]
    jacobians[60, 2] = 0  # a row: the unit is dead for one step
    found = rd.lyapunov_spectrum(from_jacobians(jnp.asarray(jacobians)), window=80)
    assert np.isneginf(found.exponents).tolist() == [False] * 5 + [True]
    assert found.status == 0 and found.error[-1] == 0


@pytest.mark.parametrize("spread", [30.0, 300.0])
def test_a_zero_that_rounding_left_is_not_claimed_to_be_exact(spread):
    """Nonsingular steps whose values span exp(+-spread): pivots cancel, and nobody knows them."""
    left, right = np.linalg.qr(np.random.default_rng(1).normal(size=(2, 80, 6, 6)))[0]
    jacobians = left * np.exp(np.linspace(spread, -spread, 6)) @ right
    found = rd.lyapunov_spectrum(from_jacobians(jnp.asarray(jacobians)), window=80)
    zero = np.isneginf(found.exponents)
    assert found.status == 0 and np.any(zero) and np.all(np.isposinf(found.error[zero]))
    assert abs(found.exponents[0] - spread) < 10 and found.error[0] <= tol("exponent_equal")


@pytest.mark.parametrize("size", [1e-100, 1e100])
def test_growth_beyond_the_range_of_the_dtype(size):
    """Thirty-two steps of 1e100 overflow, of 1e-100 are denormal or zero: neither is taken."""
    jacobians = size * burst()[:80]
    found = rd.lyapunov_spectrum(from_jacobians(jnp.asarray(jacobians)), window=80)
    np.testing.assert_allclose(found.exponents, [math.log(size)] * 6, rtol=tol("log_product"))
    assert found.status == 0


@pytest.mark.precision
def test_single_precision_knows_its_own_error():
    """Within the error of the exponents in float64 (NumPy); at most 1e-2 of them lost."""
    jacobians = tanh_jacobians(1.5, size=12, steps=100)
    found = rd.lyapunov_spectrum(from_jacobians(jnp.asarray(jacobians, jnp.float32)), window=100)
    assert found.exponents.dtype == found.error.dtype == jnp.float32
    rounded = jacobians.astype(np.float32).astype(float)
    q, _ = np.linalg.qr(np.asarray(jax.random.normal(jax.random.key(0), (12, 12), jnp.float32)))
    frame, growth = q.astype(float), 0
    for jacobian in rounded:
        frame, r = np.linalg.qr(jacobian @ frame)
        growth = growth + np.log(np.abs(np.diag(r))) / 100
    off = np.abs(np.asarray(found.exponents, float) - np.sort(growth)[::-1])
    assert np.all(off <= np.asarray(found.error)) and np.max(found.error) <= 1e-2


def test_forward_equals_backward():
    """The exponents of the adjoint: log |eig| at a fixed point, and of a long driven product."""
    w = np.random.default_rng(3).normal(size=(5, 5))
    expected = np.sort(np.log(np.abs(np.linalg.eigvals(w))))[::-1]
    still = from_jacobians(jnp.broadcast_to(jnp.asarray(w), (4000, 5, 5)))
    for adjoint in (False, True):
        found = rd.lyapunov_spectrum(still, warmup=1000, adjoint=adjoint)
        np.testing.assert_allclose(found.exponents, expected, rtol=0, atol=2e-3)
    moving = from_jacobians(jnp.asarray(np.random.default_rng(4).normal(size=(4000, 5, 5))))
    ahead = rd.lyapunov_spectrum(moving, warmup=1000)
    back = rd.lyapunov_spectrum(moving, warmup=1000, adjoint=True)
    spread = jnp.hypot(ahead.standard_error, back.standard_error)
    assert jnp.all(jnp.abs(ahead.exponents - back.exponents) <= 4 * spread)
    assert jnp.max(spread) <= 0.03


def test_adjoint_is_the_transposed_and_reversed_run():
    jacobians = jnp.asarray(tanh_jacobians(2.0, size=6, steps=30))
    found = rd.lyapunov_spectrum(from_jacobians(jacobians), adjoint=True).exponents
    turned = jnp.swapaxes(jacobians, 1, 2)[::-1]
    expected = rd.lyapunov_spectrum(from_jacobians(turned)).exponents
    np.testing.assert_allclose(found, expected, rtol=0, atol=tol("log_product"))


def test_flossing_lets_a_network_learn_over_a_delay():
    """Gradient flossing (Engelken 2023): descent on the mean squared exponent, before training.

    The task is y_t = x_{t-10} of random signs. A tanh network of gain 1/2 has exponents near -0.9:
    gradients over the delay are e^-9 of what they were, and 300 steps of Adam leave most of the
    error. The same start, with half of its exponents brought to zero first, has learnt the task.
    """
    n, delay, steps = 16, 10, 40
    zero = rd.initializers.Constant(0.0)
    cell = rd.cells.Vanilla(1, n, recurrent_weights=rd.initializers.Gaussian(), bias=zero)

    def signs(key):
        return jnp.where(jax.random.bernoulli(key, shape=(16, steps, 1)), 1.0, -1.0)

    def error(weights, key):
        x = signs(key)
        h = jax.vmap(lambda x: rd.simulate(cell, weights[0], x).outputs)(x)
        return jnp.mean((h[:, delay:] @ weights[1] - x[:, :-delay, 0]) ** 2)

    def penalty(weights, key):
        run = rd.simulate(cell, weights[0], signs(key)[0])
        lin = rd.linearize(cell, weights[0], run)
        return jnp.mean(rd.lyapunov_spectrum(lin, k=n // 2).exponents ** 2)

    def descend(loss, weights, count, rate):
        def step(carry, key):  # Adam
            weights, mean, square, t = carry
            value, slope = jax.value_and_grad(loss)(weights, key)
            mean = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, mean, slope)
            square = jax.tree.map(lambda v, g: 0.99 * v + 0.01 * g**2, square, slope)
            rise, size = 1 / (1 - 0.9**t), 1 / (1 - 0.99**t)
            move = lambda w, m, v: w - rate * rise * m / (jnp.sqrt(size * v) + 1e-8)  # noqa: E731
            return (jax.tree.map(move, weights, mean, square), mean, square, t + 1), value

        still = jax.tree.map(jnp.zeros_like, weights)
        keys = jax.random.split(jax.random.key(7), count)
        (weights, *_), values = jax.lax.scan(step, (weights, still, still, 1.0), keys)
        return weights, values

    @jax.jit
    @jax.vmap
    def learn(key):
        start = (cell.init(key, gain=0.5), jnp.zeros(n))
        flossed, penalties = descend(penalty, start, 100, 0.01)
        both = jax.tree.map(lambda *ways: jnp.stack(ways), start, flossed)
        plain, helped = jax.vmap(lambda weights: descend(error, weights, 300, 3e-3)[1])(both)
        return penalties, plain, helped

    penalties, plain, helped = learn(jax.random.split(jax.random.key(0), 3))
    assert jnp.all(penalties[:, 0] > 0.5) and jnp.all(penalties[:, -1] < 1e-2)
    assert jnp.all(jnp.mean(plain[:, -20:], axis=1) > 0.2)
    assert jnp.all(jnp.mean(helped[:, -20:], axis=1) < 0.1)
