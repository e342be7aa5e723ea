"""Structurally constrained RNN: the context is exactly linear, exactly triangular.

Source: Mikolov, Joulin, Chopra, Mathieu & Ranzato 2014, sec. 3, and their released code.
"""

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rnndyn as rd
from rnndyn import testing
from rnndyn.cells.scrnn import SCRNN
from tests.cells import recurrences as ref
from tests.tolerances import tol


def loop(cell, params):
    """s_t = (1 - alpha) B x_t + alpha s_{t-1}; h_t = sigmoid(P s_t + A x_t + R h_{t-1})."""
    p, n = ref.arrays(params), cell.hidden_size
    alpha = cell.alpha if p.beta is None else ref.logistic(p.beta)

    def step(t, z, x):
        h, s = z[:n], z[n:]
        new = (1 - alpha) * (p.b @ x) + alpha * s
        return np.concatenate([ref.logistic(p.p @ new + p.a @ x + p.r @ h), new])

    return step


def released_loop(cell, params):
    """The graph of the released code: a scaled embedding, a slow projection alpha I, and a fast
    unit that sums its embedding, its own projection, and that of the slow units' last values."""
    p, n = ref.arrays(params), cell.hidden_size
    semb_scale = 1 - cell.alpha
    proj_slow = (1 - semb_scale) * np.eye(cell.contexts)

    def step(t, z, x):
        prev_fast, prev_slow = z[:n], z[n:]
        slow = semb_scale * (p.b @ x) + proj_slow @ prev_slow
        fast = ref.logistic(p.a @ x + p.r @ prev_fast + p.p @ prev_slow)
        return np.concatenate([fast, slow])

    return step


@pytest.mark.precision
@pytest.mark.parametrize(
    ("cell", "step"),
    [
        (SCRNN(3, 8), loop),
        (SCRNN(3, 5, context_size=4, learn_alpha=True), loop),
        (SCRNN(3, 8, slow_lag=1), released_loop),
    ],
    ids=["paper", "learned", "released"],
)
def test_a_run_equals_the_equations(cell, step):
    params = ref.random_params(cell)
    ref.assert_equals_recurrence(cell, params, step(cell, params))


def test_the_lag_of_the_released_code_matters():
    now, later = SCRNN(3, 5), SCRNN(3, 5, slow_lag=1)
    params, inputs = ref.random_params(now), ref.random_inputs(now, 5)
    one, other = (rd.simulate(cell, params, inputs).outputs for cell in (now, later))
    assert np.max(np.abs(one - other)) > 1e-3


@pytest.mark.precision
@pytest.mark.parametrize("lag", [0, 1])
def test_the_jacobian_and_its_spectrum(lag):
    cell = SCRNN(3, 5, context_size=4, alpha=0.75, slow_lag=lag)
    params = ref.random_params(cell)
    run = rd.simulate(cell, params, ref.random_inputs(cell, 3))
    p = ref.arrays(params)
    for t, jacobian in enumerate(np.asarray(rd.linearize(cell, params, run).jacobians)):
        h = np.asarray(run.outputs[t], float)
        slope = np.diag(h * (1 - h))
        read = 1.0 if lag else 0.75
        expected = np.block(
            [[slope @ p.r, read * slope @ p.p], [np.zeros((4, 5)), 0.75 * np.eye(4)]]
        )
        np.testing.assert_allclose(jacobian, expected, rtol=0, atol=tol("jacobian"))
        eigenvalues = [*np.linalg.eigvals(slope @ p.r), *[0.75] * 4]
        ref.assert_same_spectrum(np.linalg.eigvals(jacobian), eigenvalues)


@pytest.mark.precision
def test_the_context_decays_at_alpha_exactly_whatever_the_inputs():
    cell = SCRNN(3, 5, context_size=2)
    params, steps = ref.random_params(cell), 20
    run = rd.simulate(cell, params, 10 * ref.random_inputs(cell, steps))
    product = np.eye(7, dtype=run.outputs.dtype)
    for jacobian in np.asarray(rd.linearize(cell, params, run).jacobians):
        product = jacobian @ product
    assert not np.any(product[5:, :5])
    alpha = np.asarray(0.95, product.dtype)
    repeated = np.prod(np.full(steps, alpha))
    np.testing.assert_allclose(
        product[5:, 5:], repeated * np.eye(2), rtol=tol("elementary"), atol=0
    )
    np.testing.assert_allclose(repeated, 0.95**steps, rtol=steps * tol("elementary"))


def test_the_half_life_is_13_and_a_half_steps():
    cell = SCRNN(3, 5, initial_value=1.0)
    run = rd.simulate(cell, ref.random_params(cell), jnp.zeros((14, 3)))
    assert np.all(run.states.s[13] > 0.5) and np.all(run.states.s[14] < 0.5)
    assert round(np.log(0.5) / np.log(0.95), 1) == 13.5


@pytest.mark.precision
def test_at_rest_the_context_is_b_x():
    cell, x = SCRNN(3, 5), jnp.array([0.3, -0.5, 0.2])
    params = ref.random_params(cell)
    p, h = ref.arrays(params), np.zeros(5)
    s = p.b @ np.asarray(x, float)
    for _ in range(500):
        h = ref.logistic(p.p @ s + p.a @ np.asarray(x, float) + p.r @ h)
    z = jnp.asarray(np.concatenate([h, s]), float)
    np.testing.assert_allclose(rd.hold(cell, params, x)(z), z, rtol=0, atol=tol("fixed_point"))


def test_learned_rates_start_at_alpha_and_are_learned_unit_by_unit():
    fixed = SCRNN(3, 10, alpha=0.9, context_size=4)
    learned = dataclasses.replace(fixed, learn_alpha=True)
    drawn = learned.init(jax.random.key(0))
    inputs = ref.random_inputs(fixed, 10)
    one = rd.simulate(learned, drawn, inputs).outputs
    other = rd.simulate(fixed, fixed.init(jax.random.key(0)), inputs).outputs
    np.testing.assert_allclose(one, other, rtol=0, atol=tol("step"))

    def loss(beta):
        params = dataclasses.replace(drawn, beta=beta)
        return jnp.sum(rd.simulate(learned, params, inputs).states.s[-1] ** 2)

    slopes = jax.grad(loss)(drawn.beta)
    assert np.all(slopes != 0) and len(np.unique(slopes)) == 4


def test_the_start_and_the_sizes_of_paper_and_code():
    cell = SCRNN(50, 100)
    params = cell.init(jax.random.key(0), gain=2.0)
    assert cell.contexts == 20 and SCRNN(3, 4).contexts == 1 and params.beta is None
    for leaf, std in ((params.a, 0.05), (params.b, 0.05), (params.p, 0.05), (params.r, 0.1)):
        assert abs(float(jnp.std(leaf)) / std - 1) < 0.05
    assert np.all(rd.flatten(cell.initial_state(params)) == 0.1)


@pytest.mark.precision
def test_the_conformance_suite_with_other_options():
    testing.check_cell(SCRNN(2, 3, slow_lag=1, learn_alpha=True, context_size=2))


def test_flops():
    n, m = 64, 16
    k = SCRNN(m, n).contexts
    equations = 2 * n * (n + m + k) + 2 * k * m + 6 * n + 3 * k
    assert ref.flops(SCRNN(m, n)) <= 1.3 * equations


RATE = "the context forgets at the rate alpha per step"


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"alpha": 1.0}, f"`alpha`: expected a number in [0, 1), got 1.0; {RATE}."),
        ({"alpha": -0.1}, f"`alpha`: expected a number in [0, 1), got -0.1; {RATE}."),
        ({"alpha": float("nan")}, f"`alpha`: expected a number in [0, 1), got nan; {RATE}."),
        (
            {"alpha": 0.0, "learn_alpha": True},
            f"`alpha`: expected a number in (0, 1), got 0.0; {RATE}.",
        ),
        (
            {"slow_lag": 2},
            "`slow_lag`: expected one of 0, 1, got 2; "
            "0 is the paper's equation, 1 the released code's.",
        ),
        (
            {"context_size": 0},
            "`context_size`: expected a whole number >= 1, got 0; None chooses it.",
        ),
        (
            {"initial_value": float("inf")},
            "`initial_value`: expected a number in (-inf, inf), got inf; 0.1 in the released code.",
        ),
    ],
)
def test_misuse_is_answered_in_a_sentence(options, sentence):
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        SCRNN(3, 8, **options)
