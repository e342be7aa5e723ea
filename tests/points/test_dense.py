"""dense: inverses, signs of determinants and smallest singular values against NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnndyn.points import dense
from tests.tolerances import tol


@jax.jit
def factors(a):
    found = jax.vmap(dense.inverse)(a)
    return found, jax.vmap(dense.smallest_singular)(found.matrix)


@pytest.mark.precision
@pytest.mark.parametrize("complex_", [False, True])
@pytest.mark.parametrize("d", [1, 5])
def test_random_matrices(d, complex_):
    rng = np.random.default_rng(d)
    a = rng.normal(size=(6, d, d)) + 1j * complex_ * rng.normal(size=(6, d, d))
    given = jnp.asarray(a) if complex_ else jnp.asarray(a.real)
    found, smallest = jax.tree.map(np.asarray, factors(given))
    a = np.asarray(given)
    condition = np.max(np.linalg.cond(a))
    unit = condition * tol("root", found.matrix.real.dtype)
    assert np.allclose(found.matrix @ a, np.eye(d), rtol=0, atol=unit)
    determinant = np.linalg.det(a)
    assert np.allclose(found.sign, determinant / np.abs(determinant), rtol=0, atol=unit)
    values = np.linalg.svd(a, compute_uv=False)
    ratio = smallest.value / values[:, -1]
    assert np.all((ratio > 1 - unit) & (ratio < 1.01))
    apart = np.full(6, True) if d == 1 else values[:, -1] < 0.5 * values[:, -2]
    assert apart.any() and np.allclose(ratio[apart], 1, rtol=0, atol=unit)
    pushed = np.einsum("nij,nj->ni", a, smallest.right)
    assert np.allclose(pushed, smallest.value[:, None] * smallest.left, rtol=0, atol=unit)


def test_matrices_that_need_pivots_and_a_singular_one():
    swap, cycle = np.eye(3)[[1, 0, 2]], np.eye(3)[[1, 2, 0]]
    singular = np.array([[1.0, 2, 3], [4, 5, 6], [5, 7, 9]])
    found, smallest = factors(jnp.asarray(np.stack([swap, cycle, np.eye(3), singular])))
    assert found.sign[:3].tolist() == [-1, 1, 1]
    assert np.array_equal(found.matrix[0], swap) and np.array_equal(found.matrix[1], cycle.T)
    assert np.all(np.isfinite(found.matrix))
    assert float(smallest.value[3]) < tol("root")
    null = np.array([1.0, 1, -1]) @ singular
    assert np.array_equal(null, np.zeros(3))
    assert np.allclose(np.abs(smallest.left[3]), 1 / np.sqrt(3), rtol=0, atol=tol("root"))
