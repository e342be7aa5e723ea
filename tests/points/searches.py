"""What the tests of points share: starts, searches and modes in few compiled shapes, and maps."""

import jax
import jax.numpy as jnp
import numpy as np

import rnndyn as rd
from rnndyn.points import fixed_points, stability, unique
from tests.tolerances import tol

STARTS = 512
ROWS = 32  # points whose modes are found together, so that one shape serves every count


def cube(n, d, size=1.0, seed=0):
    """Starts (n, d), uniform on [-size, size]^d."""
    return jax.random.uniform(jax.random.key(seed), (n, d), float, -size, size)


def roots(map_, d, size=1.0, n=STARTS):
    """The distinct isolated roots found from the cube."""
    return unique(fixed_points(map_, cube(n, d, size)))


def modes(map_, z):
    """Eigenvalues and all that follows from them at points z (m, d), m <= 32."""
    filled = jnp.concatenate([z, jnp.zeros((ROWS - len(z), z.shape[1]), z.dtype)])
    found = stability(map_, filled, resolvent=False)
    return jax.tree.map(lambda leaf: leaf[: len(z)], found)


def histogram(map_, points):
    """How many points have 0, 1, 2, ... unstable dimensions."""
    return np.bincount(np.asarray(modes(map_, points.z).unstable_dim)).tolist()


def tanh_net(w, b=0.0):
    return rd.maps.tanh_network(jnp.asarray(w, float), jnp.asarray(b, float))


def gru(z, args):
    """Cho et al. 2014, reset before the recurrent product, no input; weights by gate."""
    u_z, u_r, u_h = args
    update, reset = jax.nn.sigmoid(u_z @ z), jax.nn.sigmoid(u_r @ z)
    return update * z + (1 - update) * jnp.tanh(u_h @ (reset * z))


def gru_net(u_z, u_r, u_h):
    return rd.Map(gru, tuple(jnp.asarray(u, float) for u in (u_z, u_r, u_h)))


def relu_net(z, args):
    w, b = args
    return jax.nn.relu(w @ z + b)


def bistable_cell(z, args):
    """BRC, Vecoven et al. 2020, without input."""
    w_a, b_a, w_c = args
    a, c = 1 + jnp.tanh(w_a * z + b_a), jax.nn.sigmoid(w_c * z)
    return c * z + (1 - c) * jnp.tanh(a * z)


def bistable(w_a, b_a, w_c, dtype=float):
    return rd.Map(bistable_cell, tuple(jnp.asarray(x, dtype) for x in (w_a, b_a, w_c)))


def affine(size):
    """A matrix that is far from symmetric, a shift, and the map z -> matrix z + shift."""
    draws = np.random.default_rng(0)
    matrix, shift = np.triu(draws.standard_normal((size, size)), -1), draws.standard_normal(size)
    return matrix, shift, rd.Map(_affine, (jnp.asarray(matrix), jnp.asarray(shift)))


def _affine(z, args):
    matrix, shift = args
    return matrix @ z + shift


def box(d, size):
    return [-size] * d, [size] * d


def assert_same_cycles(got, expected):
    """As sets of cycles, whatever their phase."""
    assert got.shape == expected.shape
    for loop in expected:
        turns = [np.roll(loop, i, axis=0) for i in range(len(loop))]
        gap = min(np.max(np.abs(one - turn)) for one in got for turn in turns)
        assert gap <= tol("exact_cycle", float)
