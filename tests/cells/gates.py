"""What the tests of gated cells share: an example, a run, a Jacobian, and NumPy's own functions."""

import jax
import jax.numpy as jnp
import numpy as np
import scipy.optimize

import rnndyn as rd
from rnndyn.core.pytree import flatten, unflatten
from tests.tolerances import tol

M, N, STEPS = 3, 4, 50  # the sizes of the recorded arrays, so that runs are compiled once


@jax.jit
def start(cell, key, gain=1.0):
    """Params and state as the cell starts them."""
    params = cell.init(key, gain=gain)
    return params, cell.initial_state(params)


def example(cell, seed=0, std=0.4):
    """Params as `init` draws them and noise on every entry, a state, inputs; none symmetric."""
    rng = np.random.default_rng(seed)

    def noisy(leaf):
        return leaf + jnp.asarray(std * rng.standard_normal(leaf.shape), leaf.dtype)

    params, state = jax.tree.map(noisy, start(cell, jax.random.key(seed)))
    inputs = jnp.asarray(rng.standard_normal((STEPS, cell.input_size)), float)
    return params, state, inputs


def quiet(cell, seed=0):
    """Params with every vector at 0 and matrices as in `example`, the origin, and zero input."""
    params, _, _ = example(cell, seed)
    params = jax.tree.map(lambda leaf: leaf if leaf.ndim > 1 else 0 * leaf, params)
    return params, cell.initial_state(params), jnp.zeros((cell.input_size,))


@jax.jit
def jacobian(cell, params, state, x):
    """dz'/dz of one step, and the state after it."""

    def step(z):
        after = cell.step(params, unflatten(z, state), x)
        return flatten(after), after

    return jax.jacfwd(step, has_aux=True)(flatten(state))


def numbers(tree):
    """The same tree in NumPy, in double precision."""
    return jax.tree.map(lambda leaf: np.asarray(leaf, float), tree)


def assert_runs_as(cell, reference, seed=0):
    """A run of 50 steps against a loop `reference(params, state, x) -> leaves of the state`."""
    params, state, inputs = example(cell, seed)
    run = rd.simulate(cell, params, inputs, state)
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(run.states)]
    now, weights = jax.tree.leaves(numbers(state)), numbers(params)
    for t, x in enumerate(numbers(inputs)):
        now = reference(weights, now, x)
        for got, expected in zip(leaves, now, strict=True):
            np.testing.assert_allclose(got[t + 1], expected, rtol=0, atol=tol("gate_loop"))


def assert_spectrum(got, expected):
    """The same eigenvalues with the same multiplicities, in any order."""
    found, wanted = np.linalg.eigvals(np.asarray(got, float)), np.asarray(expected)
    assert found.shape == wanted.shape
    distance = np.abs(found[:, None] - wanted[None, :])
    rows, columns = scipy.optimize.linear_sum_assignment(distance)
    assert distance[rows, columns].max() <= tol("gate_origin")


def s(a):
    return 1 / (1 + np.exp(-a))


def slope(gate):
    """s'(a) where s(a) = gate."""
    return gate * (1 - gate)


def d(vector):
    return np.diag(vector)
