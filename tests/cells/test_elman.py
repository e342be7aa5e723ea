"""Vanilla, IRNN and orthogonal networks: Jacobians, products, where the weights start."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rnndyn as rd
from rnndyn import cells
from tests.tolerances import tol

INPUTS = jax.random.normal(jax.random.key(1), (12, 3))


def linearized(cell, gain=1.0, inputs=INPUTS):
    params = cell.init(jax.random.key(0), gain=gain)
    run = rd.simulate(cell, params, inputs)
    return params, run, np.asarray(rd.linearize(cell, params, run).jacobians)


@pytest.mark.precision
def test_jacobian_is_slope_times_weights():
    params, run, jacobians = linearized(cells.Vanilla(3, 5))
    slopes = 1 - run.outputs**2
    expected = slopes[:, :, None] * params.w_h[None]
    np.testing.assert_allclose(jacobians, expected, atol=tol("jacobian"))


@pytest.mark.precision
def test_irnn_products_are_masks_exactly():
    """Le, Jaitly & Hinton 2015: at the start J = D(mask), so singular values are 0 or 1."""
    cell = cells.IRNN(3, 6)
    params, run, jacobians = linearized(cell)
    masks = np.asarray(run.outputs > 0, float)
    assert 0 < masks.mean() < 1
    for t in range(len(jacobians)):
        assert np.array_equal(jacobians[t], np.diag(masks[t]))
    product = functools.reduce(lambda p, j: j @ p, jacobians)
    assert set(np.linalg.svd(product, compute_uv=False)) <= {0.0, 1.0}


def test_alpha_forgets_at_its_rate():
    cell = cells.IRNN(3, 6, alpha=0.5)
    params = cell.init(jax.random.key(0))
    start = cell.initial_state(params)
    start = dataclasses.replace(start, h=start.h + 1)  # far from the kink
    run = rd.simulate(cell, params, jnp.zeros((4, 3)), start)
    product = functools.reduce(lambda p, j: j @ p, rd.linearize(cell, params, run).jacobians)
    assert np.array_equal(product, 0.5**4 * np.eye(6))


@pytest.mark.precision
@pytest.mark.parametrize(
    "cell", [cells.IRNN(3, 4), cells.Vanilla(3, 4, "relu", bias=rd.initializers.Constant(0.0))]
)
def test_the_slope_of_relu_at_its_kink_is_zero(cell):
    params = cell.init(jax.random.key(0))
    quiet = rd.hold(cell, params, jnp.zeros(3))
    assert np.array_equal(quiet.jacobian(jnp.zeros(4)), np.zeros((4, 4)))


def test_irnn_at_zero_input_keeps_every_nonnegative_state():
    cell = cells.IRNN(3, 4)
    quiet = rd.hold(cell, cell.init(jax.random.key(0)), jnp.zeros(3))
    z = jnp.array([0.0, 0.3, 2.0, 7.0])
    assert np.array_equal(quiet(z), z)


def test_a_thousand_orthogonal_steps_keep_every_singular_value():
    """The linear orthogonal network: every product of Jacobians is orthogonal (Saxe 2013)."""
    cell = cells.OrthogonalRNN(3, 6, activation="identity")
    params, _, jacobians = linearized(cell, inputs=jnp.zeros((1000, 3)))
    product = functools.reduce(lambda p, j: j @ p, jacobians)
    values = np.linalg.svd(product, compute_uv=False)
    np.testing.assert_allclose(values, 1, atol=tol("orthogonal_1000"))
    np.testing.assert_allclose(params.w_h.T @ params.w_h, np.eye(6), atol=tol("jacobian"))


@pytest.mark.precision
def test_orthogonal_tanh_products_lie_between_the_slopes():
    _, run, jacobians = linearized(cells.OrthogonalRNN(3, 6))
    slopes = np.asarray(1 - run.outputs**2)
    values = np.linalg.svd(functools.reduce(lambda p, j: j @ p, jacobians), compute_uv=False)
    assert values.max() <= slopes.max(axis=1).prod() * (1 + tol("jacobian"))
    assert values.min() >= slopes.min(axis=1).prod() * (1 - tol("jacobian"))


def test_gradient_of_a_linear_network_is_the_sum_over_time():
    """d(c . h_T)/dW = sum_t (W^T)^(T-1-t) c h_t^T for the linear network."""
    cell, length = cells.Vanilla(3, 5, "identity"), 12
    params, run, _ = linearized(cell)
    c = jnp.arange(1.0, 6.0)

    def loss(params):
        return c @ rd.simulate(cell, params, INPUTS).outputs[-1]

    w, h = np.asarray(params.w_h), np.asarray(run.states.h)
    expected = sum(
        np.outer(np.linalg.matrix_power(w.T, length - 1 - t) @ c, h[t]) for t in range(length)
    )
    np.testing.assert_allclose(jax.grad(loss)(params).w_h, expected, rtol=tol("loop"))


def test_gain_zero_cuts_the_recurrence():
    for cell in (
        cells.Vanilla(3, 4),
        cells.IRNN(3, 4),
        cells.OrthogonalRNN(3, 4),
        cells.NARX(3, 4),
    ):
        assert not np.any(linearized(cell, gain=0.0)[2][:, :4]), cell


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: cells.Vanilla(3, 4, "sigmoid"),
            "`activation`: expected one of 'tanh', 'relu', 'identity', got 'sigmoid'; "
            "pass one of them.",
        ),
        (
            lambda: cells.IRNN(3, 4, alpha=1.5),
            "`alpha`: expected a number in [0, 1], got 1.5; "
            "1 is the IRNN, a smaller alpha forgets at that rate.",
        ),
        (
            lambda: cells.IRNN(3, 4, alpha=float("nan")),
            "`alpha`: expected a number in [0, 1], got nan; "
            "1 is the IRNN, a smaller alpha forgets at that rate.",
        ),
        (
            lambda: cells.Vanilla(0, 4),
            "`input_size`: expected a whole number >= 1, got 0; pass sizes as positive integers.",
        ),
    ],
)
def test_bad_options(make, message):
    with pytest.raises(ValueError) as error:
        make()
    assert str(error.value) == message


@pytest.mark.parametrize("wrong", ["orthogonal", 1.0, None])
def test_weights_are_drawn_by_an_initializer(wrong):
    with pytest.raises(
        TypeError, match=f"^`recurrent_weights`: expected an initializer, got {wrong!r}"
    ):
        cells.Vanilla(3, 4, recurrent_weights=wrong)


@pytest.mark.parametrize("wrong", ["1", jnp.ones(4), None, float("nan")])
def test_numbers_among_options_are_numbers(wrong):
    with pytest.raises(
        (TypeError, ValueError), match="^`forget_bias`: expected a real number, got"
    ):
        cells.LSTM(3, 4, forget_bias=wrong)


@pytest.mark.parametrize("wrong", [0, None, jax.random.split(jax.random.key(0), 2)])
@pytest.mark.parametrize("name", cells.CELLS)
def test_a_cell_is_drawn_by_one_key(name, wrong):
    with pytest.raises(TypeError, match="^`key`: expected one random key of JAX, got"):
        cells.CELLS[name](3, 8).init(wrong)
