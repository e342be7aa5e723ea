"""leading_singular_vectors: against full spectra, P v = sigma u, derivatives, failures."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rnndyn as rd
from rnndyn.flow import leading_singular_vectors, singular_spectra
from rnndyn.flow.leading import LeadingSingularVectors
from tests.tolerances import tol

D, STEPS, K = 24, 60, 3
from_jacobians = rd.Linearization.from_jacobians
leading = jax.jit(
    lambda jacobians: leading_singular_vectors(from_jacobians(jacobians), K, lag=STEPS)
)


@pytest.fixture(scope="module")
def jacobians():
    found = np.random.default_rng(0).normal(size=(STEPS, D, D)) / np.sqrt(D)
    return jnp.asarray(found)


def test_values_and_vectors_are_those_of_the_product(jacobians):
    """The dominant one is right in the product as it stands, and all in the full spectrum."""
    found = leading(jacobians)
    assert found.status.tolist() == [0] * K
    full = singular_spectra(from_jacobians(jacobians), lags=(STEPS,)).log_values[0, :K]
    np.testing.assert_allclose(found.log_values, full, rtol=0, atol=tol("leading"))
    product = np.linalg.multi_dot(list(np.asarray(jacobians)[::-1]))
    left, right = np.asarray(found.left), np.asarray(found.right)
    for vectors in (left, right):
        np.testing.assert_allclose(vectors.T @ vectors, np.eye(K), atol=tol("many_steps"))
    sigma = np.exp(np.asarray(found.log_values))
    moved, back = product @ right / sigma, product.T @ left / sigma
    near = 10 * float(jnp.finfo(float).eps) ** (1 / 3)  # vectors are right to the residual
    np.testing.assert_allclose(moved, left, atol=near)
    np.testing.assert_allclose(back, right, atol=near)


def test_matrix_free_and_a_short_lag():
    """Through jvp and vjp of a GRU; one step, where singular values lie close together."""
    cell = rd.cells.GRU(3, D)
    params = cell.init(jax.random.key(0))
    run = rd.simulate(cell, params, jax.random.normal(jax.random.key(1), (20, 3)))
    free = rd.linearize(cell, params, run, dense=False)
    found = leading_singular_vectors(free, K, lag=1)
    assert found.status.tolist() == [0] * K
    step = np.asarray(rd.linearize(cell, params, run).jacobians[-1])
    expected = np.log(np.linalg.svd(step, compute_uv=False)[:K])
    np.testing.assert_allclose(found.log_values, expected, rtol=0, atol=tol("leading"))


def test_many_decades_apart_and_zeros():
    """diag(2, 1/2, 0) over 3000 steps: logs +-3000 log 2 and -inf, exact vectors."""
    none = leading_singular_vectors(from_jacobians(jnp.zeros((0, 3, 3))), 3)
    np.testing.assert_allclose(none.log_values, np.zeros(3), atol=tol("many_steps"))
    steps = jnp.broadcast_to(jnp.diag(jnp.array([0.5, 0.0, 2.0])), (3000, 3, 3))
    found = leading_singular_vectors(from_jacobians(steps), 3)
    expected = [3000 * np.log(2), -3000 * np.log(2), -np.inf]
    np.testing.assert_allclose(found.log_values, expected, rtol=tol("many_steps"))
    assert found.status.tolist() == [0, 0, 0]
    exact = np.array([[0.0, 1, 0], [0, 0, 0], [1, 0, 0]])
    np.testing.assert_allclose(np.abs(found.right), exact, atol=tol("many_steps"))


def test_derivatives_equal_differences(jacobians):
    direction, h = jnp.asarray(np.random.default_rng(1).normal(size=jacobians.shape)), 1e-6

    def total(jacobians):
        return jnp.sum(leading(jacobians).log_values * jnp.array([1.0, 2.0, 3.0]))

    slope = jax.jit(jax.grad(total))(jacobians)
    backward = jnp.sum(slope * direction)
    expected = (total(jacobians + h * direction) - total(jacobians - h * direction)) / (2 * h)
    np.testing.assert_allclose(backward, expected, rtol=tol("flow_slope"))


def test_failures_are_reported(jacobians):
    lin = from_jacobians(jacobians)
    short = leading_singular_vectors(lin, K, lag=1, tol=1e-14, max_iterations=2)
    assert int(short.iterations) == 2 and -2 in short.status.tolist()
    bad = leading(jacobians.at[5, 1, 2].set(jnp.nan))
    assert bad.status.tolist() == [-3] * K and bool(jnp.all(jnp.isnan(bad.log_values)))


@pytest.mark.parametrize(
    "keywords, name",
    [({"k": 0}, "k"), ({"k": D + 1}, "k"), ({"lag": STEPS + 1}, "lag"), ({"tol": 0.0}, "tol")],
)
def test_misuse(jacobians, keywords, name):
    with pytest.raises(ValueError, match=f"^{re.escape(f'`{name}`: expected')}"):
        leading_singular_vectors(from_jacobians(jacobians), **keywords)


def test_batches_map(jacobians):
    """One result a run under vmap; a NaN in one leaves the other bit for bit the same."""
    pair = jnp.stack([jacobians, jacobians.at[5, 1, 2].set(jnp.nan)])
    same = jnp.stack([jacobians, jacobians])
    batched = jax.jit(jax.vmap(leading))
    bad, clean = (batched(both) for both in (pair, same))
    assert isinstance(bad, LeadingSingularVectors)
    assert bad.status.tolist() == [[0] * K, [-3] * K]
    assert bad.log_values[0].tolist() == clean.log_values[0].tolist()
