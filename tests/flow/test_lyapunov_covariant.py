"""covariant_vectors: vectors known in advance, tangencies, covariance, derivatives of the run."""

import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rnndyn as rd
from tests.tolerances import tol

from_jacobians = rd.Linearization.from_jacobians


def up_to_sign(found, expected):
    """Largest difference of unit columns, each with the better of its two signs."""
    found, expected = np.asarray(found), np.asarray(expected)
    signs = np.sign(np.sum(found * expected, axis=-2, keepdims=True))
    return np.max(np.abs(found - signs * expected))


def known_run(steps=400, d=4):
    """Jacobians V' diag(growth) V^-1 of vectors and growth that were drawn beforehand."""
    rng = np.random.default_rng(0)
    vectors = np.eye(d) + 0.4 * rng.normal(size=(steps + 1, d, d))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    growth = np.array([0.6, 0.1, -0.4, -1.0]) + 0.1 * rng.normal(size=(steps, d))
    jacobians = vectors[1:] @ (np.exp(growth)[:, :, None] * np.linalg.inv(vectors[:-1]))
    return vectors, growth, jnp.asarray(jacobians)


@pytest.mark.parametrize("k", [4, 2])
def test_recovers_the_vectors_a_run_was_made_from(k):
    vectors, growth, jacobians = known_run()
    found = rd.covariant_vectors(from_jacobians(jacobians), k=k, warmup=120, cooldown=150)
    assert found.vectors.shape == (131, 4, k) and found.growth.shape == (130, k)
    assert up_to_sign(found.vectors, vectors[120:251, :, :k]) <= tol("covariant")
    np.testing.assert_allclose(found.growth, growth[120:250, :k], atol=tol("covariant"))
    np.testing.assert_allclose(found.exponents, growth[120:250, :k].mean(axis=0), atol=1e-9)
    inner = np.abs(np.einsum("tia,tib->tab", vectors, vectors))[120:251, :k, :k]
    angles = np.arccos(np.minimum(inner, 1))
    np.testing.assert_allclose(found.angles, angles, atol=4 * math.sqrt(np.finfo(float).eps))


def test_the_splitting_is_the_least_angle_between_the_spans():
    vectors, _, jacobians = known_run()
    found = rd.covariant_vectors(from_jacobians(jacobians), warmup=120, cooldown=150)
    at = vectors[170]
    first, rest = np.linalg.qr(at[:, :1])[0], np.linalg.qr(at[:, 1:])[0]
    expected = math.acos(np.linalg.norm(first.T @ rest, 2))
    np.testing.assert_allclose(found.splitting(1)[50], expected, rtol=1e-9)
    first, rest = np.linalg.qr(at[:, :3])[0], np.linalg.qr(at[:, 3:])[0]
    expected = math.acos(np.linalg.norm(first.T @ rest, 2))
    np.testing.assert_allclose(found.splitting(3)[50], expected, rtol=1e-9)


def test_eigenvectors_at_a_fixed_point():
    """Of an asymmetric Jacobian with real eigenvalues of distinct moduli, one of them negative."""
    w = jnp.array([[0.9, 0.5, 0.1], [0.0, -0.6, 0.3], [0.2, 0.0, 0.2]])
    map_ = rd.maps.tanh_network(w)
    lin = rd.linearize(map_, jnp.zeros((301, 3)), dense=False)
    found = rd.covariant_vectors(lin, warmup=120, cooldown=120)
    values, vectors = np.linalg.eig(np.asarray(w))
    order = np.argsort(-np.abs(values))
    for t in (0, 30, 60):
        assert up_to_sign(found.vectors[t], vectors.real[:, order]) <= tol("covariant")
    expected = np.log(np.abs(values[order]))
    np.testing.assert_allclose(found.growth[17], expected, rtol=tol("covariant"))


def test_the_cat_map_is_hyperbolic_and_the_henon_map_is_not():
    """Cat: orthogonal eigenvectors everywhere. Henon: homoclinic tangencies, angles near zero."""
    cat = jnp.broadcast_to(jnp.array([[2.0, 1.0], [1.0, 1.0]]), (200, 2, 2))
    found = rd.covariant_vectors(from_jacobians(cat), warmup=50, cooldown=50)
    golden = (1 + math.sqrt(5)) / 2
    expected = np.array([[golden, 1.0], [1.0, -golden]]) / math.hypot(1, golden)
    assert up_to_sign(found.vectors, expected) <= tol("covariant")
    np.testing.assert_allclose(found.splitting(1), math.pi / 2, rtol=tol("covariant"))

    map_ = rd.maps.henon()
    lin = rd.linearize(map_, rd.orbit(map_, jnp.array([0.1, 0.1]), 20_000))
    found = rd.covariant_vectors(lin, warmup=100, cooldown=100)
    np.testing.assert_allclose(found.exponents, [0.41922, -1.62319], rtol=0, atol=2e-2)
    angle = found.splitting(1)
    assert jnp.min(angle) < 1e-3 and jnp.max(angle) > 1.5
    at = 100 + 7000  # covariance, against the Jacobian of the step
    moved = lin.jacobians[at] @ found.vectors[7000]
    expected = found.vectors[7001] * jnp.exp(found.growth[7000])[None, :]
    np.testing.assert_allclose(jnp.abs(moved), jnp.abs(expected), rtol=0, atol=1e-9)


def test_bad_items_of_a_batch_stay_alone():
    jacobians = known_run(60)[2]
    dead = jacobians.at[20, 1:3].set(0.0)
    batch = jnp.stack([jacobians, jacobians.at[3, 1, 1].set(jnp.inf), dead, jacobians])
    vectors = jax.vmap(lambda j: rd.covariant_vectors(from_jacobians(j), warmup=9, cooldown=9))
    found, clean = vectors(batch), vectors(jnp.stack([jacobians] * 4))
    assert found.status.tolist() == [0, -3, -5, 0]
    assert jnp.all(jnp.isnan(found.vectors[1:3])) and jnp.all(jnp.isnan(found.growth[1:3]))
    for row in (0, 3):
        np.testing.assert_array_equal(found.vectors[row], clean.vectors[row])


@pytest.mark.parametrize(
    "options, sentence",
    [
        ({"warmup": 3, "cooldown": 2}, "`warmup + cooldown`: expected a number in [0, 4], got 5; "
         "this run has T = 5 steps, and one at least must remain."),
        ({"warmup": 1, "cooldown": 1, "k": 3}, "`k`: expected a number in [1, 2], got 3; "
         "z has d = 2 coordinates, so 1 to 2 exponents exist."),
        ({"warmup": -1, "cooldown": 1}, "`warmup`: expected a whole number >= 0, got -1; "
         "this run has T = 5 steps, and one at least must remain."),
    ],
)  # fmt: skip
def test_misuse(options, sentence):
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        rd.covariant_vectors(from_jacobians(jnp.ones((5, 2, 2))), **options)
