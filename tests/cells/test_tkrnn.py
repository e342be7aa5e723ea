"""Temporal-kernel RNN: the recursion is the sum over all lags, and nothing else.

Source: Sutskever & Hinton 2010, eq. 7 and its recursions.
"""

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rnndyn as rd
from rnndyn import testing
from rnndyn.cells.tkrnn import TKRNN
from tests.cells import recurrences as ref
from tests.tolerances import tol

PHI = {"tanh": np.tanh, "logistic": ref.logistic, "identity": lambda a: a}


def kernel_sums(cell, params, inputs):
    """eq. 7 without recursions: y_t = f(sum_k W_y D(l_y)^(k-1) y_{t-k} + the same for x + b)."""
    p = ref.arrays(params)
    decay_y, decay_x = ref.logistic(p.logit_y), ref.logistic(p.logit_x)
    ys, first = [], cell.input_delay
    for t in range(len(inputs)):
        s_y = sum((decay_y ** (k - 1) * ys[t - k] for k in range(1, t + 1)), np.zeros(p.b.size))
        lags = range(first, t + 1)
        s_x = sum((decay_x ** (k - first) * inputs[t - k] for k in lags), 0 * inputs[0])
        ys.append(PHI[cell.activation](p.w_y @ s_y + p.w_x @ s_x + p.b))
    return np.stack(ys)


def expected_jacobian(cell, params, slope, read_now=True):
    """[[D W, D W L, D W_x L_x], [I, L, 0], [0, 0, L_x]]; without delay of the inputs."""
    p, n, m = ref.arrays(params), cell.hidden_size, cell.input_size
    decay_y, decay_x = np.diag(ref.logistic(p.logit_y)), np.diag(ref.logistic(p.logit_x))
    from_x = p.w_x @ decay_x if read_now else p.w_x
    rows = [
        [slope @ p.w_y, slope @ p.w_y @ decay_y, slope @ from_x],
        [np.eye(n), decay_y, np.zeros((n, m))],
        [np.zeros((m, n)), np.zeros((m, n)), decay_x],
    ]
    return np.block(rows)


@pytest.mark.precision
@pytest.mark.parametrize("activation", ["tanh", "logistic"])
@pytest.mark.parametrize("delay", [0, 1])
def test_fifty_steps_equal_the_explicit_sum_over_all_lags(delay, activation):
    cell = TKRNN(3, 8, input_delay=delay, activation=activation)
    params, inputs = ref.random_params(cell), ref.random_inputs(cell, 50)
    run = rd.simulate(cell, params, inputs)
    expected = kernel_sums(cell, params, np.asarray(inputs, float))
    np.testing.assert_allclose(run.outputs, expected, rtol=0, atol=tol("cell_loop"))
    assert np.std(expected[-1]) > 0.05


@pytest.mark.precision
@pytest.mark.parametrize("delay", [0, 1])
def test_the_jacobian_and_its_spectrum(delay):
    cell = TKRNN(3, 5, input_delay=delay)
    params = ref.random_params(cell)
    run = rd.simulate(cell, params, ref.random_inputs(cell, 4))
    jacobians = rd.linearize(cell, params, run).jacobians
    for t in range(4):
        slope = np.diag(1 - np.asarray(run.states.y[t + 1], float) ** 2)
        expected = expected_jacobian(cell, params, slope, read_now=delay == 0)
        np.testing.assert_allclose(jacobians[t], expected, rtol=0, atol=tol("jacobian"))


def test_the_eigenvalues_are_zeros_those_of_dw_plus_lambda_and_the_input_decays():
    cell = TKRNN(3, 5)
    params = ref.random_params(cell)
    run = rd.simulate(cell, params, ref.random_inputs(cell, 4))
    jacobian = np.asarray(rd.linearize(cell, params, run).jacobians[3])
    slope = 1 - np.asarray(run.outputs[3]) ** 2
    slow = np.linalg.eigvals(slope[:, None] * params.w_y + np.diag(params.decay_y))
    expected = [*np.zeros(5), *slow, *params.decay_x]
    assert np.linalg.matrix_rank(jacobian[:10, :10]) == 5
    ref.assert_same_spectrum(np.linalg.eigvals(jacobian), expected)


@pytest.mark.precision
@pytest.mark.parametrize("delay", [0, 1])
def test_at_rest_the_trace_is_the_output_over_one_minus_lambda(delay):
    cell, x = TKRNN(3, 5, input_delay=delay), jnp.array([0.3, -0.5, 0.2])
    params = ref.random_params(cell, scale=0.2)
    p, y = ref.arrays(params), np.zeros(5)
    left_y, left_x = 1 - ref.logistic(p.logit_y), 1 - ref.logistic(p.logit_x)
    trace_x = np.asarray(x, float) / left_x
    for _ in range(2000):
        y = np.tanh(p.w_y @ (y / left_y) + p.w_x @ trace_x + p.b)
    z = jnp.asarray(np.concatenate([y, y / left_y, trace_x]), float)
    np.testing.assert_allclose(rd.hold(cell, params, x)(z), z, rtol=0, atol=tol("fixed_point"))


def test_without_decay_it_is_the_plain_network_exactly():
    cell, plain = TKRNN(3, 8), rd.cells.Vanilla(3, 8)
    params, inputs = ref.random_params(cell), ref.random_inputs(cell, 20)
    never = jnp.full_like(params.logit_y, -jnp.inf)
    params = dataclasses.replace(params, logit_y=never, logit_x=never[:3])
    same = rd.cells.Affine(w_x=params.w_x, w_h=params.w_y, b=params.b)
    outputs = rd.simulate(cell, params, inputs).outputs
    expected = rd.simulate(plain, same, inputs).outputs
    np.testing.assert_allclose(outputs, expected, rtol=0, atol=tol("elementary"))
    gradient = jax.grad(lambda p: jnp.sum(rd.simulate(cell, p, inputs).outputs))(params)
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(gradient))


def test_the_total_derivative_has_the_direct_path_of_every_lag():
    """G_k = D_k W_y sum_{j=1..k} L^(j-1) G_(k-j): direct paths D W L^(k-1), and all detours."""
    cell = TKRNN(2, 3)
    params, inputs = ref.random_params(cell), ref.random_inputs(cell, 6)
    run = rd.simulate(cell, params, inputs)
    w, decay = np.asarray(params.w_y), np.diag(params.decay_y)
    through, product, blocks = [np.eye(3)], np.eye(8), np.eye(3)
    for t, jacobian in enumerate(np.asarray(rd.linearize(cell, params, run).jacobians)):
        slope = np.diag(1 - np.asarray(run.outputs[t]) ** 2)
        lags = [np.linalg.matrix_power(decay, j) @ g for j, g in enumerate(reversed(through))]
        through.append(slope @ w @ sum(lags))
        product, blocks = jacobian @ product, jacobian[:3, :3] @ blocks
        np.testing.assert_allclose(product[:3, :3], through[-1], atol=tol("cell_product"))
    assert np.max(np.abs(blocks - through[-1])) > 0.01


def test_the_paper_s_delay_is_the_same_network_on_inputs_one_step_later():
    now, later = TKRNN(3, 4), TKRNN(3, 4, input_delay=1)
    params, inputs = ref.random_params(now), ref.random_inputs(now, 10)
    padded = jnp.concatenate([jnp.zeros((1, 3)), inputs[:-1]])
    got = rd.simulate(later, params, inputs).outputs
    expected = rd.simulate(now, params, padded).outputs
    np.testing.assert_allclose(got, expected, rtol=0, atol=tol("step"))


def test_time_constants_start_log_uniform_and_the_gain_of_a_constant_is_one():
    cell = TKRNN(3, 3000, time_scale=50.0)
    params = cell.init(jax.random.key(0))
    decay = np.asarray(params.decay_y)
    share = -np.log1p(-decay) / np.log(50.0)
    assert 0 < share.min() and share.max() <= 1 + 1e-12
    counts = np.histogram(share, bins=4, range=(0, 1))[0]
    assert np.all(np.abs(counts / 750 - 1) < 0.15)
    drawn = dataclasses.replace(cell, unit_gain=False).init(jax.random.key(0))
    left_y, left_x = 1 - decay, 1 - np.asarray(params.decay_x)
    np.testing.assert_allclose(params.w_y / left_y[None], drawn.w_y, atol=tol("step"))
    np.testing.assert_allclose(params.w_x / left_x[None], drawn.w_x, atol=tol("step"))


@pytest.mark.precision
def test_the_conformance_suite_with_the_paper_s_options():
    testing.check_cell(TKRNN(2, 3, input_delay=1, activation="logistic", unit_gain=False))


def test_flops():
    n, m = 64, 16
    equations = 2 * n * n + 2 * n * m + 10 * n + 10 * m
    assert ref.flops(TKRNN(m, n)) <= 1.3 * equations


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (
            {"input_delay": 2},
            "`input_delay`: expected one of 0, 1, got 2; "
            "1 is the paper's equation, 0 reads the present input as other cells do.",
        ),
        (
            {"activation": "sine"},
            "`activation`: expected one of 'tanh', 'relu', 'identity', 'logistic', got 'sine'; "
            "pass one of them.",
        ),
        (
            {"time_scale": 1.0},
            "`time_scale`: expected a number in (1, inf), got 1.0; "
            "pass the longest time constant, in steps, to start from.",
        ),
        (
            {"unit_gain": None},
            "`unit_gain`: expected one of True, False, got None; pass one of them.",
        ),
    ],
)
def test_misuse_is_answered_in_a_sentence(options, sentence):
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        TKRNN(3, 8, **options)
