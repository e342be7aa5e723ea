"""Map, hold, iterate, orbit, and the textbook maps."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rnndyn as rd
from tests.tolerances import tol


def asymmetric(n, seed=0):
    return jax.random.normal(jax.random.key(seed), (n, n))


@pytest.mark.precision
def test_jacobian_is_not_transposed():
    w = asymmetric(4)
    z = jnp.linspace(-0.5, 0.5, 4)
    expected = (1 - np.tanh(w @ z) ** 2)[:, None] * np.asarray(w)
    got = rd.maps.tanh_network(w).jacobian(z)
    np.testing.assert_allclose(got, expected, rtol=0, atol=tol("jacobian"))
    assert np.max(np.abs(got - expected.T)) > 0.1


def test_hold_is_one_step_at_constant_input():
    cell = rd.cells.Vanilla(3, 5)
    params = cell.init(jax.random.key(0))
    x, z = jnp.array([1.0, -2.0, 0.5]), jnp.linspace(-1, 1, 5)
    held = rd.hold(cell, params, x)
    expected = np.tanh(params.w_x @ x + params.w_h @ z + params.b)
    np.testing.assert_allclose(held(z), expected, rtol=tol("step"))
    assert np.array_equal(held.unflatten(z).h, z)
    assert np.array_equal(rd.iterate(held, 3).unflatten(z).h, z)


@rd.pytree
class ClockState:
    h: jax.Array
    clock: jax.Array


@rd.specification
class Metronome(rd.cells.Cell):
    """Adds 1 on even steps, halves on odd ones: period 2, with an integer clock in the state."""

    input_size: int
    hidden_size: int

    @property
    def period(self):
        return 2

    def init(self, key, *, gain=1.0):
        return jnp.zeros(())

    def initial_state(self, params):
        return ClockState(h=jnp.zeros(self.hidden_size, params.dtype), clock=jnp.array(0))

    def step(self, params, state, x):
        h = jnp.where(state.clock % 2 == 0, state.h + 1.0, state.h / 2.0)
        return ClockState(h=h, clock=state.clock + 1)

    def output(self, state):
        return state.h


def test_a_clocked_cell_is_held_over_a_full_period():
    cell = Metronome(1, 2)
    held = rd.hold(cell, cell.init(jax.random.key(0)), jnp.zeros(1))
    assert held(jnp.array([1.0, 3.0])).tolist() == [1.0, 2.0]
    assert held.jacobian(jnp.array([1.0, 3.0])).tolist() == [[0.5, 0.0], [0.0, 0.5]]


def test_the_linearization_of_a_clocked_cell_follows_its_clock():
    cell = Metronome(1, 2)
    params = cell.init(jax.random.key(0))
    lin = rd.linearize(cell, params, rd.simulate(cell, params, jnp.zeros((4, 1))))
    assert lin.jacobians[:, 0, 0].tolist() == [1.0, 0.5, 1.0, 0.5]


def test_iterate_composes():
    map_ = rd.maps.henon()
    z = jnp.array([0.1, 0.2])
    six = map_(map_(map_(map_(map_(map_(z))))))
    np.testing.assert_allclose(rd.iterate(map_, 6)(z), six, rtol=tol("elementary"))
    assert rd.iterate(rd.iterate(map_, 2), 3).rule == rd.iterate(map_, 6).rule
    chain = map_.jacobian(map_(z)) @ map_.jacobian(z)
    np.testing.assert_allclose(rd.iterate(map_, 2).jacobian(z), chain, rtol=tol("elementary"))


def test_orbit_starts_at_its_start():
    map_ = rd.maps.logistic(3.2)
    points = rd.orbit(map_, jnp.array([0.3]), 3)
    expected = [0.3]
    for _ in range(3):
        expected.append(3.2 * expected[-1] * (1 - expected[-1]))
    np.testing.assert_allclose(points[:, 0], expected, rtol=tol("elementary"))
    assert rd.orbit(map_, jnp.array([0.3]), 0).tolist() == [[0.3]]


def test_derivatives_reach_the_args():
    gradient = jax.grad(lambda r: rd.maps.logistic(r)(jnp.array([0.25]))[0])(2.0)
    assert float(gradient) == 0.25 * 0.75


def test_known_fixed_points_of_the_textbook_maps():
    r, a, b = 3.3, 1.4, 0.3
    z = jnp.array([1 - 1 / r])
    np.testing.assert_allclose(rd.maps.logistic(r)(z), z, rtol=tol("elementary"))
    x = (-(1 - b) + np.sqrt((1 - b) ** 2 + 4 * a)) / (2 * a)
    z = jnp.array([x, b * x])
    np.testing.assert_allclose(rd.maps.henon(a, b)(z), z, rtol=tol("elementary"))
    np.testing.assert_allclose(
        jnp.linalg.det(rd.maps.henon(a, b).jacobian(z)), -b, rtol=tol("elementary")
    )
    z = jnp.array([0.5, 0.5])
    np.testing.assert_allclose(rd.maps.delayed_logistic(2.0)(z), z, rtol=tol("elementary"))
    assert rd.maps.cat()(jnp.array([0.75, 0.5])).tolist() == [0.0, 0.25]
    assert rd.maps.cat().jacobian(jnp.array([0.7, 0.4])).tolist() == [[2.0, 1.0], [1.0, 1.0]]


def test_the_skew_tent_has_the_entropy_of_its_symbols_as_exponent():
    """With 1/a + 1/|b| = 1 it maps an interval onto itself twice: sides of lengths p and 1 - p."""
    p = 0.3
    map_ = rd.maps.skew_tent(1 / p, -1 / (1 - p))
    z = np.asarray(rd.orbit(map_, jnp.array([0.123]), 100_000))[:, 0]
    assert 1 - 1 / (1 - p) <= z.min() and z.max() <= 1
    slopes = jax.vmap(map_.jacobian)(jnp.array([[-0.2], [0.2]])).ravel()
    assert slopes.tolist() == pytest.approx([1 / p, -1 / (1 - p)])
    measured = np.mean(np.log(np.abs(np.where(z <= 0, *slopes))))
    deviation = abs(np.log((1 - p) / p)) * np.sqrt(p * (1 - p) / len(z))
    entropy = -p * np.log(p) - (1 - p) * np.log(1 - p)
    assert abs(measured - entropy) < 4 * deviation


def test_sides_of_a_border_collision():
    sides = (0.5, 0.3), (-1.5, 0.4)
    for mu, x, (tau, delta) in ((-1.0, -1.25, sides[0]), (1.0, 1 / 2.9, sides[1])):
        map_ = rd.maps.border_collision(*sides, mu)
        z = jnp.array([x, -delta * x])  # x = mu / (1 - tau + delta)
        np.testing.assert_allclose(map_(z), z, rtol=tol("elementary"))
        jacobian = map_.jacobian(z)
        np.testing.assert_allclose(jacobian, [[tau, 1.0], [-delta, 0.0]], rtol=tol("elementary"))


def test_misuse_says_what_to_do():
    cell = rd.cells.Vanilla(3, 5)
    params = cell.init(jax.random.key(0))
    cases = [
        (
            lambda: rd.hold(cell, params, jnp.zeros(4)),
            "`x`: expected shape (3,), got (4,); hold one input of the cell's input_size.",
        ),
        (
            lambda: rd.iterate(rd.maps.henon(), 0),
            "`n`: expected a whole number >= 1, got 0; a cycle has at least one point.",
        ),
        (
            lambda: rd.orbit(rd.maps.henon(), jnp.zeros((3, 2)), 5),
            "`z0`: expected shape (d,), got (3, 2); pass one flat vector and vmap over several.",
        ),
        (
            lambda: rd.orbit(rd.maps.henon(), jnp.zeros(2), -1),
            "`steps`: expected a whole number >= 0, got -1; 0 gives the start alone.",
        ),
    ]
    for call, sentence in cases:
        with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
            call()
    with pytest.raises(TypeError, match="^`x`: expected real floating-point values, got dtype int"):
        rd.hold(cell, params, jnp.zeros(3, int))


@pytest.mark.parametrize(
    "call", [lambda f: rd.iterate(f, 2), lambda f: rd.orbit(f, jnp.ones(2), 3)]
)
def test_a_function_is_no_map(call):
    with pytest.raises(TypeError, match="^`map_`: expected a Map, got a ufunc; .*rd.Map"):
        call(np.sin)


def test_a_list_can_be_held():
    cell = rd.cells.Vanilla(3, 5)
    params, z = cell.init(jax.random.key(0)), jnp.ones(5)
    listed, array = (rd.hold(cell, params, x)(z) for x in ([1.0, 2.0, 3.0], jnp.arange(1.0, 4.0)))
    assert np.array_equal(listed, array)


@pytest.mark.parametrize("rule", [3.0, lambda z: z / 2, lambda z, args, time: z, [np.sin]])
def test_a_rule_takes_z_and_args(rule):
    with pytest.raises(TypeError, match="^`rule`: expected a function .*write it as `def rule"):
        rd.Map(rule)


def test_a_rule_may_have_more_arguments_with_defaults():
    map_ = rd.Map(lambda z, args, scale=2.0: scale * z + args, 1.0)
    assert map_(jnp.array([3.0])).tolist() == [7.0]
    assert rd.Map(np.add, 1.0)(np.array([3.0])).tolist() == [4.0]


@pytest.mark.parametrize(
    "make, sentence",
    [
        (lambda: rd.maps.tanh_network(jnp.ones(3)), "`w`: expected shape (d, d), got (3,); pass"),
        (lambda: rd.maps.tanh_network(jnp.ones((3, 2))), "`w`: expected shape (3, 3), got (3, 2)"),
        (
            lambda: rd.maps.tanh_network(jnp.eye(3), jnp.ones(2)),
            "`b`: expected shape (3,), got (2,)",
        ),
        (
            lambda: rd.maps.border_collision((1.0,), (2.0, 3.0)),
            "`left`: expected shape (2,), got (1,); pass the pair (trace, determinant).",
        ),
        (
            lambda: rd.orbit(rd.maps.henon(), jnp.zeros(3), 2),
            "`F(z)`: expected shape (3,), got (2,); z0 must be flat states of this map",
        ),
    ],
)
def test_sizes_that_do_not_fit(make, sentence):
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}"):
        make()
