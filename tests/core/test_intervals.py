"""Interval bounds: known answers, and every cell's step and Jacobian inside of them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rnndyn as rd
from rnndyn.core.intervals import Interval, UnboundedError, bounds
from tests.tolerances import tol

# for their steps: a loop within one, complex numbers
REFUSED = {"clockwork": "scan", "unitary": "complex"}


@pytest.mark.parametrize(
    "function, low, high, expected",
    [
        (lambda x: x * x, -1.0, 2.0, (0, 4)),
        (lambda x: x**3, -1.0, 2.0, (-1, 8)),
        (lambda x: x**-2, 1.0, 2.0, (0.25, 1)),
        (lambda x: 1 / x, 2.0, 4.0, (0.25, 0.5)),
        (lambda x: 1 / x, -1.0, 4.0, (-np.inf, np.inf)),
        (lambda x: x - x, 0.0, 1.0, (-1, 1)),  # not sharp: it does not see one variable
        (jnp.abs, -3.0, 2.0, (0, 3)),
        (jnp.abs, -3.0, -2.0, (2, 3)),
        (jnp.sin, 0.0, np.pi, (0, 1)),
        (jnp.sin, 3.0, 6.0, (-1, np.sin(3.0))),
        (jnp.cos, 1.0, 2.0, (np.cos(2.0), np.cos(1.0))),
        (jnp.cos, 5.0, 20.0, (-1, 1)),
        (jax.nn.relu, -1.0, 2.0, (0, 2)),
        (jax.grad(jax.nn.relu), -1.0, 2.0, (0, 1)),
        (jax.grad(jax.nn.relu), 1.0, 2.0, (1, 1)),
        (jnp.tanh, -1.0, 2.0, (np.tanh(-1.0), np.tanh(2.0))),
        (lambda x: jnp.where(x > 1, 3.0, x), 0.0, 2.0, (0, 3)),
        (lambda x: jnp.where(x > 1, 3.0, x), 0.0, 0.5, (0, 0.5)),
        (lambda x: jnp.sum(jnp.stack([x, -2 * x])), -1.0, 2.0, (-5, 4)),
    ],
)
def test_known_bounds_and_no_wider(function, low, high, expected):
    found = bounds(function, Interval(jnp.array(low), jnp.array(high)))
    assert found.low <= expected[0] and found.high >= expected[1]
    np.testing.assert_allclose((found.low, found.high), expected, rtol=1e-14, atol=1e-14)


def test_a_dot_product_holds_what_exact_arithmetic_gives():
    """Its terms cancel to 1 in 1e17, and floating point says 0."""
    weights, x = jnp.array([1e17, 1.0, -1e17]), jnp.ones(3)
    found = bounds(lambda x: weights @ x, Interval(x, x))
    assert found.low <= 1 <= found.high


def held(name):
    """A cell's Map and its Jacobian, and a point."""
    cell = rd.cells.CELLS[name](2, 4)
    params = cell.init(jax.random.key(0), gain=1.5)
    map_ = rd.hold(cell, params, jnp.array([0.3, -0.4]))
    size = rd.flatten(cell.initial_state(params)).size
    middle = 0.5 * jax.random.normal(jax.random.key(1), (size,))
    return (lambda z: (map_(z), jax.jacfwd(map_)(z))), middle


@pytest.mark.parametrize("name", [name for name in rd.cells.CELLS if name != "fru"])
def test_every_cell_has_bounds_or_is_refused_by_name(name):
    """fru has no Map: its clock never returns."""
    both, middle = held(name)
    if name in REFUSED:
        with pytest.raises(UnboundedError, match=REFUSED[name]):
            jax.eval_shape(lambda z: bounds(both, Interval(z, z)), middle)
        return
    jax.eval_shape(lambda z: bounds(both, Interval(z, z)), middle)


@pytest.mark.parametrize("name", "vanilla lstm gru normalised_prototype mist irnn crelu".split())
def test_steps_and_jacobians_lie_within(name):
    both, middle = held(name)
    found = jax.jit(lambda box: bounds(both, box))(Interval(middle - 0.1, middle + 0.1))
    moves = jax.random.uniform(jax.random.key(2), (64, middle.size), minval=-0.1, maxval=0.1)
    for bound, values in zip(found, jax.vmap(both)(middle[None] + moves), strict=True):
        low, high, values = (np.asarray(part) for part in (bound.low, bound.high, values))
        rounded = tol("jacobian") * np.abs(values)
        assert np.all(low <= values + rounded) and np.all(values - rounded <= high)
        assert np.max(high - low) < 50
