"""NARX: block companion Jacobian, matrix polynomial, total derivatives."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rnndyn as rd
from rnndyn import cells
from tests.cells import equations
from tests.tolerances import tol

N, ORDER = 4, 3
CELL = cells.NARX(3, N, ORDER)
INPUTS = jax.random.normal(jax.random.key(1), (12, 3))


@functools.cache
def linearized():
    params = CELL.init(jax.random.key(0), gain=4.0)
    run = rd.simulate(CELL, params, INPUTS)
    return params, run, np.asarray(rd.linearize(CELL, params, run).jacobians)


@pytest.mark.precision
def test_jacobian_is_block_companion():
    params, run, jacobians = linearized()
    slopes = 1 - np.asarray(run.outputs) ** 2
    for t in (0, 6, 11):
        top = np.concatenate([np.diag(slopes[t]) @ w for w in np.asarray(params.w_h)], axis=1)
        shift = np.eye(ORDER * N)[:-N]
        np.testing.assert_allclose(jacobians[t][:N], top, atol=tol("jacobian"))
        assert np.array_equal(jacobians[t][N:], shift)


def test_eigenvalues_solve_the_matrix_polynomial():
    """det(l^K I - sum_k l^(K-k) D W_k) = 0, here at the origin, D = I."""
    params = CELL.init(jax.random.key(0), gain=4.0)
    params = cells.NARXParams(params.w_x, params.w_h, jnp.zeros(N))
    jacobian = rd.hold(CELL, params, jnp.zeros(3)).jacobian(jnp.zeros(N * ORDER))
    values = np.linalg.eigvals(np.asarray(jacobian))
    assert len(values) == N * ORDER and np.abs(values).min() > 1e-2
    for value in values:
        powers = value ** np.arange(ORDER - 1, -1, -1)
        matrix = value**ORDER * np.eye(N) - np.einsum("k,kij->ij", powers, params.w_h)
        assert np.linalg.svd(matrix, compute_uv=False)[-1] < tol("origin_spectrum")


def test_the_total_derivative_is_the_block_of_the_product():
    """dh_T/dh_t by complex step through the loop, older lags held; not the product of blocks."""
    params, run, jacobians = linearized()
    start = np.asarray(run.states.h[2]).reshape(-1)
    columns = []
    for i in range(N):
        z = start.astype(complex)
        z[i] += 1e-30j
        columns.append(equations.run(equations.narx, CELL, params, z, INPUTS[2:7])[-1][:N].imag)
    total = np.stack(columns, axis=1) / 1e-30
    product = functools.reduce(lambda p, j: j @ p, jacobians[2:7])[:N, :N]
    of_blocks = functools.reduce(lambda p, j: j @ p, jacobians[2:7, :N, :N])
    np.testing.assert_allclose(product, total, atol=tol("jacobian"))
    assert np.abs(of_blocks - total).max() > 1e-2


def test_the_shortest_path_is_the_lag_over_the_order():
    """Only W_K: h_T depends on h_t exactly at multiples of K."""
    params, _, _ = linearized()
    only = cells.NARXParams(params.w_x, params.w_h.at[:-1].set(0.0), params.b)
    run = rd.simulate(CELL, only, INPUTS)
    jacobians = np.asarray(rd.linearize(CELL, only, run).jacobians)
    for lag in range(1, 8):
        block = functools.reduce(lambda p, j: j @ p, jacobians[3 : 3 + lag])[:N, :N]
        assert np.any(block) == (lag % ORDER == 0), lag


def test_a_fixed_point_is_that_of_the_summed_matrix_but_stability_is_not():
    w = jnp.stack([1.9 * jnp.eye(N), -0.95 * jnp.eye(N), jnp.zeros((N, N))])
    params = cells.NARXParams(jnp.zeros((N, 3)), w, jnp.zeros(N))
    jacobian = rd.hold(CELL, params, jnp.zeros(3)).jacobian(jnp.zeros(N * ORDER))
    radius = np.abs(np.linalg.eigvals(np.asarray(jacobian))).max()
    assert radius == pytest.approx(np.sqrt(0.95), abs=tol("double_root"))
    assert abs(radius - 0.95) > 0.02  # that of the summed matrix


def test_order_one_is_the_plain_network():
    one, plain = cells.NARX(3, N, order=1), cells.Vanilla(3, N)
    params = plain.init(jax.random.key(0))
    same = cells.NARXParams(params.w_x, params.w_h[None], params.b)
    outputs = rd.simulate(one, same, INPUTS).outputs
    np.testing.assert_allclose(
        outputs, rd.simulate(plain, params, INPUTS).outputs, atol=tol("step")
    )


def test_weights_start_with_the_gain_shared_out():
    w_h = cells.NARX(3, 200, order=4).init(jax.random.key(0), gain=2.0).w_h
    bound = 2 / np.sqrt(200) / 4
    assert w_h.shape == (4, 200, 200)
    assert 0.99 * bound < np.abs(w_h).max() <= bound
    assert np.abs(w_h[0] - w_h[1]).max() > bound / 2


def test_output_and_hidden_are_the_newest_row():
    _, run, _ = linearized()
    assert np.array_equal(run.states.h[-1], run.outputs[-1 : -1 - ORDER : -1])
    params, run, _ = linearized()
    assert rd.linearize(CELL, params, run).hidden == tuple(range(N))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"order": 0},
            "`order`: expected a whole number >= 1, got 0; "
            "1 is the plain network, K reads the last K outputs.",
        ),
        (
            {"activation": "sine"},
            "`activation`: expected one of 'tanh', 'relu', 'identity', got 'sine'; "
            "pass one of them.",
        ),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError) as caught:
        cells.NARX(3, 4, **options)
    assert str(caught.value) == message
