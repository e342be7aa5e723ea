"""IndRNN: diagonal Jacobians, the bound gamma^(1/T), released code, an independent loop."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rnndyn as rd
from rnndyn.cells.indrnn import IndRNN, IndRNNParams
from tests.cells.recurrences import arrays, assert_equals_recurrence, random_inputs
from tests.cells.special import noisy_params, recorded, run_from
from tests.tolerances import tol


def test_it_equals_a_loop():
    cell = IndRNN(3, 6)
    params = noisy_params(cell, 0.3)
    params = dataclasses.replace(params, u=jnp.linspace(-0.9, 0.9, 6))
    w = arrays(params)

    def step(t, h, x):
        a = w.w_x @ x + w.b
        return np.array([max(a[i] + w.u[i] * h[i], 0.0) for i in range(6)])

    assert_equals_recurrence(cell, params, step)


@pytest.mark.precision
def test_the_jacobian_is_diagonal_and_equal_to_u_where_active():
    """Li et al. 2018: J = D(relu') D(u), every entry exact; a product is u^k times masks."""
    cell = IndRNN(3, 5)
    params = noisy_params(cell, 0.5)
    run = rd.simulate(cell, params, random_inputs(cell, 12))
    jacobians = np.asarray(rd.linearize(cell, params, run).jacobians)
    active = np.asarray(run.outputs) > 0
    assert 0.2 < active.mean() < 0.9
    for jacobian, mask in zip(jacobians, active, strict=True):
        assert np.array_equal(jacobian, np.diag(mask * np.asarray(params.u)))


@pytest.mark.precision
@pytest.mark.parametrize("gamma", [2.0, 5.0])
def test_over_the_training_length_a_gradient_grows_gamma_times_and_no_more(gamma):
    steps = 100
    cell = IndRNN(3, 4, steps=steps, gamma=gamma)
    params = cell.init(jax.random.key(0))
    params = dataclasses.replace(params, u=jnp.full(4, cell.bound), b=jnp.ones(4))
    run = rd.simulate(cell, params, jnp.zeros((steps, 3)))
    flow = np.linalg.multi_dot(np.asarray(rd.linearize(cell, params, run).jacobians)[::-1])
    np.testing.assert_allclose(np.diag(flow), gamma, rtol=tol("bound_power"))
    np.testing.assert_allclose(cell.bound, 10 ** (np.log10(gamma) / steps), rtol=tol("step"))


def test_over_another_length_the_bound_is_another():
    """gamma holds for the length that was trained on: over twice as many steps it is gamma^2."""
    cell = IndRNN(3, 4, steps=50, gamma=2.0)
    params = cell.init(jax.random.key(0))
    params = dataclasses.replace(params, u=jnp.full(4, cell.bound), b=jnp.ones(4))
    lin = rd.linearize(cell, params, rd.simulate(cell, params, jnp.zeros((100, 3))))
    norms = np.exp(rd.gradient_flow(lin, lags=(50, 100)).log_norm)
    np.testing.assert_allclose(norms, [2.0, 4.0], rtol=tol("bound_power"))


def test_a_unit_rests_where_its_line_meets_the_diagonal():
    cell = IndRNN(3, 4)
    params = IndRNNParams(
        w_x=jnp.zeros((4, 3)),
        u=jnp.array([0.5, -0.5, 0.5, 0.9]),
        b=jnp.array([1.0, 3.0, -1.0, 0.3]),
    )
    rest = np.array([2.0, 2.0, 0.0, 3.0])  # b/(1 - u) where b > 0
    got = rd.hold(cell, params, jnp.zeros(3))(jnp.asarray(rest))
    np.testing.assert_allclose(got, rest, rtol=tol("elementary"))


@pytest.mark.parametrize(("start", "low"), [("all", 0.0), ("long", 2 ** (-1 / 50))])
def test_u_starts_between_its_bounds(start, low):
    cell = IndRNN(3, 400, steps=50, start=start)
    u = np.asarray(cell.init(jax.random.key(4)).u)
    width = cell.bound - low
    assert low <= u.min() < low + 0.02 * width
    assert cell.bound - 0.02 * width < u.max() <= cell.bound
    assert IndRNN(3, 8).bound == 1.0


def test_it_equals_the_released_code():
    """Sunnydreamrain/IndRNN_pytorch behind a linear layer: `special_authors.npz`."""
    r = recorded("ind")
    cell = IndRNN(3, 7)
    params = IndRNNParams(r["W"], r["u"], r["bias"])
    got = run_from(cell, params, r["h0"], r["inputs"])
    np.testing.assert_allclose(got, r["hidden"], rtol=0, atol=tol("released_code"))


def test_a_long_run_of_many_units_stays_matrix_free():
    """4096 units over 1000 steps: the stored Jacobians would take 134 GB in float64."""
    cell = IndRNN(1, 4096, steps=1000, start="long")
    params = cell.init(jax.random.key(0))
    params = dataclasses.replace(params, b=jnp.ones(4096))
    run = rd.simulate(cell, params, jnp.zeros((1000, 1)))
    lin = rd.linearize(cell, params, run)

    def pull(u, at):
        return lin.pull(at, u), None

    gradient = jax.lax.scan(pull, jnp.ones((4096, 1)), lin.slices, reverse=True)[0][:, 0]
    np.testing.assert_allclose(gradient, params.u**1000, rtol=tol("bound_power"))


def test_misuse_is_named():
    advice = "pass the growth of a gradient to allow over `steps` steps, such as 2"
    said = rf"^`gamma`: expected a number in \(0, inf\), got 0.0; {advice}.$"
    with pytest.raises(ValueError, match=said):
        IndRNN(3, 4, gamma=0.0)
    said = rf"^`gamma`: expected a number in \[1, inf\), got 0.5; {advice}.$"
    with pytest.raises(ValueError, match=said):
        IndRNN(3, 4, gamma=0.5, start="long")
    advice = "pass the length of the sequences trained on"
    with pytest.raises(ValueError, match=f"^`steps`: .* whole number >= 1, got 0; {advice}.$"):
        IndRNN(3, 4, steps=0)
    with pytest.raises(
        ValueError, match="^`start`: expected one of 'all', 'long', got 'last'; pass"
    ):
        IndRNN(3, 4, start="last")
