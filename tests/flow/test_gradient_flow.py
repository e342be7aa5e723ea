"""gradient_flow: against unrolled derivatives, recorded references and closed forms."""

import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rnndyn as rd
from rnndyn.flow import default_lags, gradient_flow
from rnndyn.linearize import Dense
from tests.flow.recorded import NAMES, recorded
from tests.tolerances import tol

CELL = rd.cells.Vanilla(3, 5)
from_jacobians = rd.Linearization.from_jacobians


def along(gain, steps):
    params = CELL.init(jax.random.key(0), gain=gain)
    inputs = jax.random.normal(jax.random.key(1), (steps, 3))
    return params, rd.simulate(CELL, params, inputs)


@pytest.mark.precision
@pytest.mark.parametrize("dense", [True, False])
def test_is_the_norm_of_the_derivative_of_the_unrolled_run(dense):
    """dz_T/dz_{T-lag} by jax.jacrev through the run itself: newest Jacobian on the left."""
    params, run = along(2.0, 9)
    flow = gradient_flow(rd.linearize(CELL, params, run, dense=dense), lags=(0, 1, 4, 9))
    assert flow.lags.tolist() == [0, 1, 4, 9] and flow.status.tolist() == [0] * 4
    for lag, got in zip(flow.lags.tolist(), flow.log_norm, strict=True):
        start = jax.tree.map(lambda leaf, t=9 - lag: leaf[t], run.states)

        def last(h, start=start, lag=lag):
            return rd.simulate(CELL, params, run.inputs[9 - lag :], type(start)(h)).states.h[-1]

        expected = np.log(np.linalg.norm(jax.jacrev(last)(start.h), 2))
        np.testing.assert_allclose(got, expected, rtol=0, atol=tol("jacobian"))


@pytest.mark.parametrize("name", NAMES)
def test_equals_the_largest_recorded_singular_value(name):
    jacobians, expected = recorded(name)
    flow = gradient_flow(from_jacobians(jacobians), lags=(len(jacobians),))
    np.testing.assert_allclose(flow.log_norm[0], expected[0], rtol=0, atol=tol("log_norm"))


@pytest.mark.precision
@pytest.mark.parametrize("gain", [0.5, 3.0])
def test_ten_thousand_steps_neither_under_nor_overflow(gain):
    jacobians = gain * jax.random.normal(jax.random.key(3), (10_000, 4, 4))
    flow = gradient_flow(from_jacobians(jacobians))
    assert flow.lags[-1] == 10_000 and bool(jnp.all(jnp.isfinite(flow.log_norm)))
    newman = 0.5 * math.log(2) + 0.5 * 0.42278433509846714 + math.log(gain)  # psi(2)
    np.testing.assert_allclose(flow.log_norm[-1] / 10_000, newman, atol=0.03)
    np.testing.assert_allclose(flow.slope, newman, atol=0.06)


@pytest.mark.precision
@pytest.mark.parametrize("share", [0.02, 0.3, 0.8])
def test_weights_anywhere_in_the_range_of_the_dtype(share):
    """Weighted permutations: each path's norm is a sum of logs, whatever its way through the range.

    Up to `share` of the range a step, so that blocks of steps leave it and come back; some paths
    end in an exact zero.
    """
    rng = np.random.default_rng(0)
    edge = share * math.log(float(jnp.finfo(jnp.zeros(()).dtype).max))
    jacobians, logs = np.zeros((40, 6, 6)), np.full((40, 6, 6), -np.inf)
    for t, log in enumerate(rng.uniform(-edge, edge, (40, 6))):
        order = rng.permutation(6)
        jacobians[t, np.arange(6), order] = np.exp(log)
        logs[t, np.arange(6), order] = log
    for t in (12, 30):
        jacobians[t, t % 6], logs[t, t % 6] = 0, -np.inf
    lags, paths, expected = (1, 3, 8, 20, 40), np.where(np.eye(6) == 1, 0.0, -np.inf), {}
    for lag in range(1, 41):
        paths = (paths[:, :, None] + logs[40 - lag][None]).max(axis=1)
        expected[lag] = paths.max()
    flow = gradient_flow(from_jacobians(jnp.asarray(jacobians, float)), lags=lags)
    wanted = [expected[lag] for lag in lags]
    np.testing.assert_allclose(flow.log_norm, wanted, rtol=tol("log_norm"), atol=tol("log_norm"))


@pytest.mark.precision
def test_a_path_below_the_range_of_the_dtype_comes_back():
    """Beside one of norm 1: tiny^0.32 tiny^0.7 is flushed to zero where it is formed."""
    tiny = float(jnp.finfo(jnp.zeros(()).dtype).tiny)
    powers = np.array([0.32, 0.7, -0.95, -0.7])  # newest first
    jacobians = [jnp.diag(jnp.array([1.0, tiny**power])) for power in powers[::-1]]
    flow = gradient_flow(from_jacobians(jnp.stack(jacobians)), lags=(2, 4))
    expected = np.array([0.0, math.log(tiny) * powers.sum()])
    np.testing.assert_allclose(flow.log_norm, expected, rtol=tol("log_norm"), atol=tol("log_norm"))


def test_hidden_is_the_block_of_the_product():
    jacobians = np.random.default_rng(4).normal(size=(6, 4, 4))
    flow = gradient_flow(Dense((0, 2), jnp.asarray(jacobians)), lags=(6,), block="hidden")
    product = np.linalg.multi_dot(list(jacobians[::-1]))[np.ix_([0, 2], [0, 2])]
    np.testing.assert_allclose(
        flow.log_norm[0], np.log(np.linalg.norm(product, 2)), atol=tol("log_norm")
    )


def test_a_fast_block_beside_a_slow_one_keeps_its_digits():
    """[[0.9, 1], [0, 0.01]]: the second coordinate's block is 0.01^T exactly, at e^-4500 of all."""
    jacobian = jnp.array([[0.9, 1.0], [0.0, 0.01]])
    lin = Dense((1,), jnp.broadcast_to(jacobian, (1000, 2, 2)))
    flow = gradient_flow(lin, lags=(1000,), block="hidden")
    np.testing.assert_allclose(flow.log_norm[0], 1000 * math.log(0.01), rtol=tol("long_power"))


def test_bounded_gain_of_an_independent_unit():
    """IndRNN: |u| = 2^(1/T) doubles over T = 100 steps (Li et al. 2018)."""
    gain = 1.0069555500567189
    flow = gradient_flow(from_jacobians(jnp.full((100, 1, 1), gain)), lags=(100,))
    np.testing.assert_allclose(flow.log_norm[0], math.log(2), rtol=tol("jacobian"))


@pytest.mark.precision
def test_a_hundred_thousand_equal_steps_do_not_drift():
    """LSTM cell path, all gates at sigmoid(1), T = 1e5 (Hochreiter & Schmidhuber 1997)."""
    decay = jnp.full((100_000, 1, 1), jax.nn.sigmoid(1.0))
    found = gradient_flow(from_jacobians(decay), lags=(100_000,)).log_norm[0]
    expected = -13604.782228086495 * math.log(10)
    np.testing.assert_allclose(found, expected, rtol=tol("long_power"))


def test_nothing_left_is_minus_infinity():
    shift = jnp.broadcast_to(jnp.eye(3, k=-1), (5, 3, 3))
    flow = gradient_flow(from_jacobians(shift), lags=(2, 3, 5))
    assert flow.log_norm.tolist() == [0.0, -math.inf, -math.inf]
    assert flow.status.tolist() == [0, 0, 0] and bool(jnp.isnan(flow.slope))
    norm = lambda j: gradient_flow(from_jacobians(j), lags=(5,)).log_norm[0]  # noqa: E731
    assert not jnp.any(jax.grad(norm)(shift))


def test_derivatives_equal_differences():
    """In the gain of the weights, through the run and the linearization; both modes."""
    params, _ = along(1.5, 12)
    inputs = jax.random.normal(jax.random.key(1), (12, 3))

    @jax.jit
    def norms(params):
        lin = rd.linearize(CELL, params, rd.simulate(CELL, params, inputs))
        return jnp.sum(gradient_flow(lin, lags=(3, 12)).log_norm)

    direction = jax.tree.map(
        lambda leaf: jnp.cos(jnp.arange(leaf.size)).reshape(leaf.shape), params
    )
    slope = jax.grad(norms)(params)
    backward = sum(
        jnp.sum(a * b) for a, b in zip(*map(jax.tree.leaves, (slope, direction)), strict=True)
    )
    _, forward = jax.jvp(norms, (params,), (direction,))
    move = lambda h: norms(jax.tree.map(lambda a, b: a + h * b, params, direction))  # noqa: E731
    expected = (move(1e-5) - move(-1e-5)) / 2e-5
    np.testing.assert_allclose([forward, backward], [expected] * 2, rtol=tol("flow_slope"))


def test_a_bad_item_of_a_batch_stays_alone_and_new_values_do_not_retrace():
    jacobians = jax.random.normal(jax.random.key(5), (3, 6, 4, 4))
    traced = []

    @jax.jit
    @jax.vmap
    def flows(jacobians):
        traced.append(1)
        return gradient_flow(from_jacobians(jacobians), lags=(2, 6))

    clean, bad = flows(jacobians), flows(jacobians.at[1, 1, 2, 3].set(jnp.nan))
    assert len(traced) == 1
    assert bad.status.tolist() == [[0, 0], [0, -3], [0, 0]]
    assert bool(jnp.isnan(bad.log_norm[1, 1]))
    for item in ((0,), (2,), (1, 0)):
        assert bad.log_norm[item].tolist() == clean.log_norm[item].tolist()


def test_parallel_in_time_changes_rounding_only():
    """Prefix products by an associative scan, in any order of lags; -3 where a NaN is reached."""
    lags, jacobians = (120, 0, 3, 1), recorded("tanh_6")[0]

    def flow(jacobians, parallel):
        lin = Dense((0, 3), jacobians)
        return gradient_flow(lin, lags=lags, block="hidden", parallel=parallel)

    expected = flow(jacobians, False).log_norm
    found = flow(jacobians, True).log_norm
    np.testing.assert_allclose(found, expected, rtol=0, atol=tol("log_norm"))
    bad = flow(jacobians.at[50, 2, 1].set(jnp.nan), True)
    assert bad.status.tolist() == [-3, 0, 0, 0] and bool(jnp.isnan(bad.log_norm[0]))
    assert bad.log_norm[1:].tolist() == found[1:].tolist()
    slope = jax.jit(jax.grad(lambda j, p: flow(j, p).log_norm[0]), static_argnums=1)
    want = slope(jacobians, False)
    at = tol("transposed_slope") * float(jnp.max(jnp.abs(want)))
    np.testing.assert_allclose(slope(jacobians, True), want, rtol=0, atol=at)


def test_default_lags():
    lags = default_lags(10_000)
    assert lags[0] == 1 and lags[-1] == 10_000 and 30 <= len(lags) <= 40
    assert default_lags(0) == (0,) and default_lags(1) == (1,) and default_lags(3) == (1, 2, 3)


def test_lags_beyond_the_run():
    sentence = (
        "`lags`: expected distinct lags of the run, got (1,); "
        "this run has T = 0 steps, so lags 0 to 0 exist; give each once."
    )
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        gradient_flow(from_jacobians(jnp.zeros((0, 2, 2))), lags=(1,))
    assert gradient_flow(from_jacobians(jnp.zeros((0, 2, 2)))).log_norm.tolist() == [0.0]
