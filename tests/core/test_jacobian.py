"""Jacobians without products with the identity: those of `jax.jacfwd`, in fewer operations."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnndyn.core.jacobian import jacobian
from tests.tolerances import tol

rng = np.random.default_rng(4)
W, V = (jnp.asarray(rng.normal(size=(3, 3))) for _ in range(2))
z = jnp.asarray(rng.normal(size=3))


def gated(z):
    gate = jax.nn.sigmoid(V @ z - z)
    return gate * z + (1 - gate) * jnp.tanh(W @ (gate * z) / 3)


def looped(z):
    """As many steps as z asks for, which no reverse mode follows."""

    def more(carry):
        return jnp.sum(carry[1] ** 2) > 1e-3

    def step(carry):
        total, part = carry
        return total + part, 0.4 * jnp.tanh(W @ part)

    return jax.lax.while_loop(more, step, (jnp.zeros_like(z), z))[0]


@jax.custom_jvp
def tripled(z):
    return 3.0 * z


tripled.defjvp(lambda primals, tangents: (tripled(*primals), 3.0 * tangents[0]))

FUNCTIONS = {
    "layer": lambda z: jnp.tanh(1.3 * W @ z + 0.1) - z,
    "row_times_matrix": lambda z: (z**2) @ W,
    "relu": lambda z: W @ jnp.maximum(z, 0) + jnp.where(z > 0, z, 0),
    "gated": gated,
    "looped": looped,
    "scanned": lambda z: jax.lax.scan(lambda z, _: (jnp.sin(W @ z), None), z, length=3)[0],
    "batched": lambda z: jnp.einsum("nij,j->ni", jnp.stack([W, V]), z).ravel(),
    "rearranged": lambda z: jnp.concatenate([z[1:], -z[:1] / 2, z[::-1]]),
    "summed": lambda z: jnp.sum(W * z[None] * z[:, None], axis=0),
    "outer": lambda z: W[0] @ jnp.einsum("i,j->ij", z, V[0] * z[::-1]),
    "outer_from_left": lambda z: (jnp.einsum("i,j->ij", V[0], jnp.sin(z)) @ z) ** 2,
    "constant": lambda z: jnp.sign(z[:2]),
    "number": lambda z: z @ W @ z,
    "custom": lambda z: V @ tripled(jax.jit(jnp.tanh)(z)),
    "itself": lambda z: z,
    "both": lambda z: jnp.multiply(W @ z, z) - (z - V @ z),
    "product": lambda z: jax.jvp(gated, (z,), (V[0],))[1],
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_value_and_derivatives_are_those_of_jacfwd(name):
    function = FUNCTIONS[name]
    value, matrix = jax.jit(lambda z: jacobian(function, z))(z)
    np.testing.assert_allclose(value, function(z), rtol=tol("jacobian_of"), atol=tol("jacobian_of"))
    want = jax.jacfwd(function)(z)
    assert matrix.shape == want.shape and matrix.dtype == want.dtype
    np.testing.assert_allclose(matrix, want, rtol=tol("jacobian_of"), atol=tol("jacobian_of"))


def test_it_composes_with_vmap_and_derivatives():
    points = jnp.stack([z, 2 * z])
    matrices = jax.vmap(lambda z: jacobian(gated, z)[1])(points)
    want = jax.vmap(jax.jacfwd(gated))(points)
    np.testing.assert_allclose(matrices, want, rtol=tol("jacobian_of"), atol=tol("jacobian_of"))
    second = jax.jacfwd(lambda z: jacobian(gated, z)[1])(z)
    want = jax.jacfwd(jax.jacfwd(gated))(z)
    np.testing.assert_allclose(second, want, rtol=tol("jacobian_of"), atol=tol("jacobian_of"))


def test_a_layer_multiplies_no_matrices():
    def products(function):
        traced = jax.make_jaxpr(lambda z: jacobian(function, z)[1])(z).jaxpr
        found = [eqn for eqn in traced.eqns if eqn.primitive.name == "dot_general"]
        return sum(eqn.outvars[0].aval.ndim > 1 for eqn in found)

    assert products(FUNCTIONS["layer"]) == products(FUNCTIONS["relu"]) == 0
    assert products(lambda z: V @ jnp.tanh(W @ z)) == 1
