"""Linear forms of F(x) - F(c): what a function does over a box is within them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rnndyn as rd
from rnndyn.core.intervals import Interval, UnboundedError, rounded
from rnndyn.core.slopes import slopes
from tests.tolerances import tol

# for their steps: complex numbers
REFUSED = {"unitary": "convert_element_type|complex"}


def held(name, key=None):
    """A cell's Map, and a point."""
    cell = rd.cells.CELLS[name](2, 4)
    key = jax.random.key(0) if key is None else key
    params = cell.init(key, gain=1.5)
    map_ = rd.hold(cell, params, jnp.array([0.3, -0.4]))
    size = rd.flatten(cell.initial_state(params)).size
    return map_, 0.5 * jax.random.normal(key, (size,))


def around(z, half):
    return rounded(z - half, z + half)


def outside(found, d, x, c, image, base):
    """By how much F(x) - F(c) - L_u (x - c) is beyond |L_w| D |p|, and F(x) beyond its bounds."""
    form = np.stack([np.asarray(found.form.low), np.asarray(found.form.high)])
    size = np.max(np.abs(form), axis=0)[d:]
    bent = (np.asarray(found.spread) * np.asarray(found.reach)) @ size
    off = np.abs(image - base - (x - c) @ form.mean(axis=0)[:d]) - bent
    return max(np.max(off), np.max(found.value.low - image), np.max(image - found.value.high))


@pytest.mark.parametrize("name", [name for name in rd.cells.CELLS if name != "fru"])
def test_every_cell_has_slopes_or_is_refused_by_name(name):
    """fru has no Map: its clock never returns."""

    def traced(key):
        map_, z = held(name, key)
        return slopes(map_, Interval(z, z), Interval(z, z)), z

    if name in REFUSED:
        with pytest.raises(UnboundedError, match=REFUSED[name]):
            jax.eval_shape(traced, jax.random.key(0))
        return
    found, z = jax.eval_shape(traced, jax.random.key(0))
    assert found.form.low.shape == (z.size + found.spread.size, z.size)


def attention(z):
    """A quotient, a product of two arrays, an absolute value, a power, a minimum."""
    keys = jnp.reshape(jnp.concatenate([z, -2 * z]), (2, 4))
    weights = keys @ z
    return jnp.abs(weights @ keys) / (1 + z * z) + jnp.minimum(z**3, z[::-1])


def product(z):
    return z * z[::-1]


def ratio(z):
    return (2 + z) / (3 + z[::-1])


@pytest.mark.parametrize("which", ["irnn", attention, product, ratio])
def test_what_a_map_does_is_within_its_slopes(which):
    function, z = held(which) if isinstance(which, str) else (which, held("gru")[1])
    size, d = 0.05, z.size

    @jax.jit
    def run(z):
        found = slopes(function, around(z, size), around(z, 1e-3))
        moves = jax.random.uniform(jax.random.key(2), (2, 64, d), minval=-1, maxval=1)
        x, c = z[None] + size * moves[0], z[None] + 1e-3 * moves[1]
        return found, x, c, jax.vmap(function)(x), jax.vmap(function)(c)

    found, *rows = jax.tree.map(np.asarray, run(z))
    assert np.all(np.isfinite(found.spread)) and np.max(found.spread) < 1
    for x, c, image, base in zip(*rows, strict=True):
        assert outside(found, d, x, c, image, base) < tol("elementary")


def square(x):
    return x * x


def gate(x):
    """A leak towards x2, and x0 itself."""
    open_ = jax.nn.sigmoid(x[0])
    return jnp.stack([x[0], (1 - open_) * x[1] + open_ * x[2]])


def test_the_variable_of_a_square_is_the_deviation_of_its_slope():
    """x + c over 0 to 1, from 1/4: 3/4 and at most 1/2 more or less, times x - c."""
    box, c = Interval(jnp.array([0.0]), jnp.array([1.0])), jnp.array([0.25])
    found = jax.jit(lambda box, c: slopes(square, box, Interval(c, c)))(box, c)
    expected = [[0.75, 1.0], [0.5], [1.0, 0.0], [0.75]]
    parts = found.form.low[:, 0], found.spread, found.source.low[:, 0], found.reach
    for part, value in zip(parts, expected, strict=True):
        np.testing.assert_allclose(part, value, atol=tol("interval"))


def test_paths_that_cancel_do():
    """d/dx0 = (x2 - x1) sigma', zero where they are equal, though each path alone is not."""
    z = jnp.array([0.3, 1.5, 1.5])
    found = jax.jit(lambda z: slopes(gate, around(z, 1e-3), Interval(z, z)))(z)
    assert abs(float(found.form.low[0, 1])) < tol("interval")
    assert float(found.spread.max()) < 2e-3


CHOICES = [
    # a function, and its slope over 0.6 to 1.4, from 0.7; infinite where it is not held
    (lambda x: jnp.where(x > 1, 3.0, x), np.inf),
    (lambda x: jnp.where(x > 3, 3.0, 2 * x), 2.0),
    (lambda x: jnp.where(x <= 3, 3.0, 2 * x), 0.0),
    (jnp.floor, np.inf),
    (lambda x: jnp.floor(x + 8.5), 0.0),
    (jnp.sign, 0.0),
    (lambda x: (x > 1).astype(float), np.inf),
    (jax.lax.stop_gradient, 1.0),
    (lambda x: jnp.maximum(x, -jnp.inf), 1.0),
    (lambda x: jnp.clip(x, 0.0, 0.5), 0.0),
    (lambda x: jnp.max(jnp.stack([x, x - 9, 3 - 9 * x]), axis=0), 1.0),
    (lambda x: x.astype(jnp.float16).astype(float), 1.0),
]


def test_choices_jumps_and_what_is_held():
    @jax.jit
    def run(low, high, c):
        box, centre = Interval(low, high), Interval(c, c)
        return [slopes(function, box, centre) for function, _ in CHOICES]

    found = run(*(jnp.array([x]) for x in (0.6, 1.4, 0.7)))
    for one, (_, slope) in zip(found, CHOICES, strict=True):
        assert np.max(one.spread, initial=0) < tol("interval")
        atol = tol("interval", jnp.float16)
        np.testing.assert_allclose(one.form.high[0, 0], slope, atol=atol if slope else 1e-12)


def test_loops_of_fixed_length_are_unrolled_and_others_refused():
    z = jnp.array([0.6])
    thrice = rd.iterate(rd.maps.logistic(3.0), 3)
    found = jax.jit(lambda z: slopes(thrice, around(z, 1e-4), Interval(z, z)))(z)
    np.testing.assert_allclose(found.form.low[0], jax.jacfwd(thrice)(z)[0], rtol=1e-2)

    def forever(z):
        return jax.lax.while_loop(lambda z: z[0] < 9, lambda z: 2 * z, z)

    with pytest.raises(UnboundedError, match="while"):
        slopes(forever, Interval(z, z), Interval(z, z))
