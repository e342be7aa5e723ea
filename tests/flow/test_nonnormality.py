"""non_normality and transient_growth: closed forms, normal matrices, bounds, bad input."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg

import rnndyn as rd
from tests.tolerances import tol

from_jacobians = rd.Linearization.from_jacobians


def jordan_norm(a, e, n):
    """|[[a, e], [0, a]]^n| in closed form: its entries are a^n and n e a^(n-1)."""
    p, q = a**n, n * e * a ** (n - 1)
    total = 2 * p * p + q * q
    return np.sqrt((total + np.sqrt(total**2 - 4 * p**4)) / 2)


@pytest.mark.parametrize("a, e", [(0.9, 1.0), (-0.99, 5.0), (0.3, 0.1)])
def test_growth_of_a_jordan_block(a, e):
    norms = [1.0] + [jordan_norm(a, e, n) for n in range(1, 3000)]
    found = rd.transient_growth(jnp.array([[a, e], [0.0, a]]))
    assert found.status == 0 and found.step == int(np.argmax(norms))
    np.testing.assert_allclose(found.log_growth, np.log(max(norms)), atol=tol("log_product"))


def test_growth_against_powers_and_the_kreiss_bounds():
    w = np.random.default_rng(0).normal(size=(8, 8))
    w *= 0.95 / np.max(np.abs(np.linalg.eigvals(w)))
    w = scipy.linalg.schur(w)[0] + 3 * np.triu(np.ones((8, 8)), 2)  # the same eigenvalues
    norms = [np.linalg.norm(np.linalg.matrix_power(w, n), 2) for n in range(300)]
    found = rd.transient_growth(jnp.asarray(w))
    assert found.step == int(np.argmax(norms)) > 1
    np.testing.assert_allclose(found.log_growth, np.log(max(norms)), rtol=tol("log_product"))
    map_ = rd.maps.tanh_network(jnp.asarray(w))
    kreiss = rd.stability(map_, jnp.zeros((1, 8))).kreiss[0]
    assert jnp.log(kreiss) <= found.log_growth <= jnp.log(kreiss * np.e * 8)


def test_normal_matrices_do_not_grow():
    turn = np.linalg.qr(np.random.default_rng(1).normal(size=(5, 5)))[0]
    found = rd.transient_growth(jnp.asarray(0.99 * turn))
    assert (found.log_growth, found.step, found.status) == (0.0, 0, 0)
    run = rd.non_normality(from_jacobians(jnp.asarray(np.stack([3 * turn, turn + turn.T]))))
    assert jnp.max(run.relative) <= np.sqrt(tol("spectrum"))
    np.testing.assert_allclose(run.log_norm, run.log_radius, atol=tol("spectrum"))
    np.testing.assert_allclose(run.log_norm[0], np.log(3), rtol=tol("spectrum"))


def test_what_never_decays_is_said_so():
    """In one batch: an expanding, a nilpotent, a zero, a huge and a broken matrix."""
    batch = jnp.array(
        [
            [[1.1, 0.0], [0.3, 0.2]],
            [[0.0, 4.0], [0.0, 0.0]],
            [[0.0, 0.0], [0.0, 0.0]],
            [[0.0, 1e200], [0.0, 0.0]],
            [[jnp.nan, 0.0], [0.0, 0.0]],
        ]
    )
    found = jax.vmap(lambda j: rd.transient_growth(j, max_steps=50))(batch)
    assert found.status.tolist() == [-2, 0, 0, 0, -3]
    assert found.step.tolist() == [50, 1, 0, 1, 0]
    expected = np.log([np.linalg.norm(np.linalg.matrix_power(batch[0], 50), 2), 4, 1, 1e200])
    np.testing.assert_allclose(found.log_growth[:4], expected, rtol=tol("log_product"))
    assert jnp.isnan(found.log_growth[4])
    run = rd.non_normality(from_jacobians(batch))
    assert run.status.tolist() == [0, 0, 0, 0, -3]
    np.testing.assert_allclose(run.henrici[1:4], [4, 0, 1e200], rtol=tol("jacobian"))
    np.testing.assert_allclose(run.relative[1:4], [1, 0, 1], rtol=tol("jacobian"))
    assert jnp.isneginf(run.log_norm[2]) and jnp.isnan(run.henrici[4])


def test_along_a_run():
    """Each step against its Schur form; matrix-free, and of a diagonal cell."""
    map_ = rd.maps.tanh_network(jax.random.normal(jax.random.key(0), (6, 6)))
    lin = rd.linearize(map_, rd.orbit(map_, jnp.ones(6), 8), dense=False)
    found = rd.non_normality(lin)
    for t, jacobian in enumerate(np.asarray(lin.jacobians)):
        triangle = scipy.linalg.schur(jacobian, output="complex")[0]
        expected = np.linalg.norm(np.triu(triangle, 1))
        np.testing.assert_allclose(found.henrici[t], expected, rtol=tol("spectrum"))
    cell = rd.cells.CELLS["indrnn"](1, 4)
    params = cell.init(jax.random.key(0))
    diagonal = rd.linearize(cell, params, rd.simulate(cell, params, jnp.ones((5, 1))))
    assert not jnp.any(rd.non_normality(diagonal).henrici)


@pytest.mark.parametrize(
    "call, sentence",
    [
        (lambda: rd.transient_growth(jnp.ones((2, 3))), "`jacobian`: expected shape (2, 2), got "
         "(2, 3); pass one square matrix and vmap over several."),
        (lambda: rd.transient_growth(jnp.eye(2), max_steps=0), "`max_steps`: expected a whole "
         "number >= 1, got 0; try one power at least."),
    ],
)  # fmt: skip
def test_misuse(call, sentence):
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        call()
