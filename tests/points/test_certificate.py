"""Proofs of existence and uniqueness: known radii, refusals; trained networks: test_flip_flops."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rnndyn as rd
from rnndyn.core.status import describe
from rnndyn.points import certificate
from tests.tolerances import tol

UNIT = 0.9575040240772687  # tanh(2 z) = z


@pytest.mark.precision
def test_the_radius_of_the_logistic_map_is_the_best_possible():
    """From 2/3 to the other root 0, and back; a point near by is at least that far from its root.

    The radius of existence holds the root, and is no more than four times its distance.
    """
    off = 1e-3
    found = certificate(rd.maps.logistic(3.0), jnp.array([[2 / 3], [0.0], [2 / 3 + off]]))
    assert found.status.tolist() == [0, 0, 0]
    assert np.all(np.asarray(found.radius[:2]) < tol("root"))
    assert off <= float(found.radius[2]) <= 4 * off
    radius = np.asarray(found.unique_radius)
    assert np.all(radius < 2 / 3 + off) and np.all(radius > 0.64) and np.all(radius[:2] < 2 / 3)


def test_a_cycle_is_a_root_of_all_its_points():
    """h = tanh(-2 h) jumps between +-0.9575; its other root is 0, the cycle's other phase far."""
    points = jnp.array([[[UNIT], [-UNIT]], [[0.0], [0.0]], [[0.9], [-0.5]]])
    found = certificate(rd.maps.tanh_network([[-2.0]]), points)
    assert found.status.tolist() == [0, 0, -6]
    radius = np.asarray(found.unique_radius)[:2]
    assert np.all(radius > 0.8 * UNIT) and np.all(radius < UNIT)


@jax.custom_jvp
def surrogate(x):
    return jnp.tanh(2 * x)


@jax.custom_vjp
def reversed_surrogate(x):
    return jnp.tanh(2 * x)


surrogate.defjvp(lambda primals, tangents: (surrogate(*primals), 0.5 * tangents[0]))
reversed_surrogate.defvjp(lambda x: (surrogate(x), None), lambda _, g: (0.5 * g,))

CASES = {
    # a rule, a point, its status, and how far another root, a jump or a fold is at most
    "a jump; roots 0 and 2": (lambda z: 0.5 * z + jnp.where(z > 1, 1.0, 0.0), 0.0, 0, 1.0),
    "beyond it": (lambda z: 0.5 * z + jnp.where(z > 1, 1.0, 0.0), 2.0, 0, 1.0),
    "on it": (lambda z: 0.5 * z + jnp.where(z > 1, 1.0, 0.5), 1.0, -5, None),
    "a slope held": (lambda z: z * jax.lax.stop_gradient(3 * (1 - z)), 0.0, 0, 2 / 3),
    "a false rule": (surrogate, 0.0, 0, UNIT),
    "a false reverse rule": (reversed_surrogate, 0.0, 0, UNIT),
    "clipped; roots -1, 0, 1": (lambda z: jnp.clip(3 * z, -1.0, 1.0), 0.0, 0, 1.0),
    "no root of it": (lambda z: jnp.clip(3 * z, -1.0, 1.0), 0.4, -6, None),
    "whole numbers": (jnp.floor, 0.5, -6, None),
    "just at a whole number": (jnp.floor, 1.0, -5, None),
    "rounded to whole numbers": (jnp.round, 0.0, 0, 0.5),
    "a fold": (lambda z: z + z * z, 0.0, -5, None),
    "near a fold": (lambda z: z + z * z - 1e-6, 1e-3, 0, 2e-3),
    "past a fold": (lambda z: z + z * z + 1e-9, 0.0, -5, None),
    "a pitchfork": (lambda z: z + z**3, 0.0, -5, None),
    "identity": (lambda z: 1.0 * z, 0.5, -5, None),
    "no root at all": (lambda z: z + 1.0, 0.0, -5, None),
    "no root here": (lambda z: jnp.tanh(2 * z), 0.3, -6, None),
    "huge weights": (lambda z: jnp.tanh(1e30 * z), 0.0, -5, None),
    "huge weights, saturated": (lambda z: jnp.tanh(1e30 * z), 1.0, 0, 1.0),
    "a gentle kink": (lambda z: 0.25 * jax.nn.relu(2 * z), 0.0, 0, np.inf),
    "a steep kink": (lambda z: jax.nn.relu(2 * z), 0.0, -5, None),
    "not a number beyond 1": (lambda z: jnp.where(z > 1, jnp.nan, 0.5 * z), 0.0, 0, 1.0),
}


def any_case(z, which):
    return jax.lax.select_n(which, *(rule(z[0]) for rule, *_ in CASES.values()))[None]


def test_nothing_false_is_proved_and_what_is_not_gets_a_status():
    """One map for all, so that it compiles once; its args say which it is."""
    which, z = jnp.arange(len(CASES)), jnp.array([at for _, at, *_ in CASES.values()])
    run = jax.jit(jax.vmap(lambda i, z: certificate(rd.Map(any_case, i), z[None, None])))
    found = jax.tree.map(lambda leaf: np.asarray(leaf)[:, 0], run(which, z))
    for i, (name, (*_, status, most)) in enumerate(CASES.items()):
        assert found.status[i] == status and describe(status), name
        if status == 0:
            assert 0.4 * min(most, 9) < found.unique_radius[i] <= most, name
            assert found.radius[i] < found.unique_radius[i], name
        else:
            assert np.isnan(found.unique_radius[i]), name


def test_neighbours_are_left_alone():
    many = jnp.array([[0.0], [0.3], [jnp.nan]])
    found = certificate(rd.maps.logistic(1.0), many)  # at 0 a branch point
    assert found.status.tolist() == [-5, -6, -3]
    assert np.all(np.isnan(found.radius)) and np.all(np.isnan(found.unique_radius))
    one, two = (
        certificate(rd.maps.logistic(3.0), jnp.array([[0.0], [x], [jnp.inf]]))
        for x in (0.0, jnp.nan)
    )
    assert one.status.tolist() == [0, 0, -3] and two.status.tolist() == [0, -3, -3]
    assert np.array_equal(one.unique_radius[:1], two.unique_radius[:1])


@pytest.mark.parametrize(
    "rule, name",
    [
        (lambda z: jnp.sort(z), "sort"),
        (lambda z: z * jnp.argmax(z).astype(z.dtype), "argmax"),
        (lambda z: z.astype(bool).astype(z.dtype), "convert_element_type"),
        (lambda z: jax.lax.cond(z[0] > 0, jnp.sin, jnp.cos, z), "cond"),
    ],
)
def test_an_operation_without_bounds_is_named(rule, name):
    with pytest.raises(ValueError, match=f"`map_`: .* the operation {name}"):
        certificate(rd.Map(lambda z, _: rule(z)), jnp.zeros((1, 2)))
