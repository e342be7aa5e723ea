"""Independent recurrences: NumPy steps on flat vectors, run and differentiated without JAX.

A recurrence is a function `step(t, z, x) -> z` of NumPy arrays that also takes complex z, so that
its Jacobian by the complex step is exact to rounding.
"""

import jax
import jax.numpy as jnp
import numpy as np
import scipy.optimize

import rnndyn as rd
from tests.tolerances import tol

STEP = 1e-100


def random_params(cell, seed=0, scale=0.4):
    """Params with every entry random, zero-initialised ones too, so that no term can hide."""
    rng = np.random.default_rng(seed)

    def draw(leaf):
        return jnp.asarray(scale * rng.normal(size=leaf.shape), leaf.dtype)

    return jax.tree.map(draw, jax.eval_shape(cell.init, jax.random.key(seed)))


def arrays(params):
    """Params with NumPy leaves in float64."""
    return jax.tree.map(lambda leaf: np.asarray(leaf, float), params)


def random_inputs(cell, steps, seed=1):
    rng = np.random.default_rng(seed)
    return jnp.asarray(rng.normal(size=(steps, cell.input_size)), float)


def points(run):
    """The states of a run as flat vectors, shape (T + 1, d)."""
    return np.asarray(jax.vmap(rd.flatten)(run.states))


def assert_equals_recurrence(cell, params, step, steps=50):
    """A run of the cell equals the recurrence, all coordinates at all steps."""
    inputs = random_inputs(cell, steps)
    run = rd.simulate(cell, params, inputs)
    assert int(run.status) == 0
    z = points(run)
    expected = [np.asarray(z[0], float)]
    for t, x in enumerate(np.asarray(inputs, float)):
        expected.append(step(t, expected[-1], x))
    assert np.std(expected[-1]) > 1e-3
    np.testing.assert_allclose(z, np.stack(expected), rtol=0, atol=tol("cell_loop"))
    return run


def complex_step(function, z):
    """The Jacobian of a NumPy function at a real vector."""
    columns = [np.imag(function(z + 1j * STEP * unit)) / STEP for unit in np.eye(z.size)]
    return np.stack(columns, axis=1)


def relu(a):
    return np.where(np.real(a) > 0, a, 0.0)


def logistic(a):
    return 1 / (1 + np.exp(-a))


def assert_same_spectrum(got, expected, name="spectrum"):
    """Two lists of eigenvalues are equal in the best matching."""
    got, expected = np.asarray(got), np.asarray(expected)
    assert got.shape == expected.shape
    distance = np.abs(got[:, None] - expected[None, :])
    pairs = scipy.optimize.linear_sum_assignment(distance)
    assert np.max(distance[pairs]) <= tol(name) * max(1.0, np.max(np.abs(expected)))


def flops(cell):
    """Floating-point operations of one compiled step, as XLA counts them."""
    params = jax.eval_shape(cell.init, jax.random.key(0))
    state = jax.eval_shape(cell.initial_state, params)
    x = jax.ShapeDtypeStruct((cell.input_size,), jnp.zeros(()).dtype)
    return jax.jit(cell.step).lower(params, state, x).compile().cost_analysis()["flops"]
