"""Slopes of elementary functions: all that exact arithmetic finds, and hardly more."""

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest

from rnndyn.core import curves
from rnndyn.core.intervals import Interval
from tests.core.test_intervals import ONE
from tests.tolerances import tol

mpmath.mp.dps = 40

# an operation in ONE, where x lies, and how much wider than the true range the slopes may be
WHERE = {
    "abs": ("abs", (-3, 3), 1.1),
    "asinh": ("asinh", (-9, 9), 1.5),
    "atan": ("atan", (-9, 9), 1.4),
    "cos": ("cos", (-9, 9), 4.0),
    "cube": ("integer_pow", (-3, 3), 4.0),
    "erf": ("erf", (-3, 3), 2.0),
    "exp": ("exp", (-5, 5), 1.1),
    "expm1": ("expm1", (-5, 5), 1.1),
    "inverse": ("integer_pow", (0.1, 9), np.inf),
    "log": ("log", (0.1, 9), 1.1),
    "log1p": ("log1p", (-0.9, 9), 1.2),
    "logistic": ("logistic", (-9, 9), 1.1),
    "sin": ("sin", (-9, 9), 3.0),
    "sqrt": ("sqrt", (0.1, 9), 1.1),
    "tanh": ("tanh", (-5, 5), 1.1),
    "times itself": ("square", (-3, 3), 1.0),
}


def boxes(seed, low, high, dtype, n=12):
    """Boxes and centres in them, some at an end; of all widths, the widest the whole range."""
    rng = np.random.default_rng(seed)
    at = rng.uniform(low, high, n)
    half = (high - low) * 10.0 ** -np.concatenate([rng.uniform(0, 1, n - 4), [3, 6, 9, 13]])
    x = np.asarray(np.clip([at - half * rng.uniform(0, 1, n), at + half], low, high), dtype)
    c = np.asarray(at, dtype)
    return Interval(*map(jnp.asarray, x)), Interval(jnp.asarray(c), jnp.asarray(c))


def equation(name):
    (eqn,) = jax.make_jaxpr(ONE[name][0])(jnp.ones(())).eqns
    return eqn


def sampled(exact, low, high, c):
    """The slopes from c to many points."""
    points = [low + (high - low) * mpmath.mpf(i) / 24 for i in range(25)]
    return [(exact(x) - exact(c)) / (x - c) for x in points if x != c]


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_all_true_slopes_are_within_and_little_else(dtype):
    where = {name: boxes(i, *WHERE[name][1], dtype) for i, name in enumerate(WHERE)}
    rules = {name: curves.CURVES[WHERE[name][0]] for name in WHERE}
    eqns = {name: equation(name) if WHERE[name][0] != "square" else None for name in WHERE}
    found = jax.jit(lambda w: {name: rules[name](eqns[name], *w[name]) for name in rules})(where)
    for name, (box, centre) in where.items():
        arrays = box.low, box.high, centre.low, found[name].low, found[name].high
        for ends in zip(*(np.asarray(a, float) for a in arrays), strict=True):
            low, high, c, least, most = map(mpmath.mpf, ends)
            values = sampled(ONE[name][1], low, high, c)
            if not values:
                continue
            assert least <= min(values) and max(values) <= most, (name, ends)
            allowed = WHERE[name][2] * (max(values) - min(values))
            slack = tol("slope", dtype) * (1 + abs(c)) * max(map(abs, values))
            assert high - low < 0.1 or most - least <= allowed + slack, (name, ends)


def test_the_slope_of_tanh_knows_where_the_line_touches_the_curve():
    """From c = 3 the steepest line touches at -0.967 with slope 0.4388; tanh' reaches 1."""
    x, c = (Interval(jnp.array(a), jnp.array(b)) for a, b in ((-4.0, 6.0), (3.0, 3.0)))
    (eqn,) = jax.make_jaxpr(jnp.tanh)(1.0).eqns
    touching = mpmath.findroot(
        lambda t: mpmath.sech(t) ** 2 * (3 - t) - mpmath.tanh(3) + mpmath.tanh(t), -1
    )
    steepest = float(mpmath.sech(touching) ** 2)
    rule = jax.jit(lambda x, c: curves.CURVES["tanh"](eqn, x, c))
    for sign in (1, -1):
        turned = [v if sign > 0 else Interval(-v.high, -v.low) for v in (x, c)]
        found = rule(*turned)
        assert steepest <= found.high < 1.03 * steepest


@pytest.mark.parametrize("at, expected", [(-1.0, (0, 0.5)), (0.0, (0, 1)), (1.0, (0.5, 1))])
def test_slopes_of_relu(at, expected):
    x = Interval(jnp.array(-1.0), jnp.array(1.0))
    found = curves.of_relu(x, Interval(jnp.array(at), jnp.array(at)))
    np.testing.assert_allclose([found.low, found.high], expected, atol=tol("interval"))
    assert found.low <= expected[0] and expected[1] <= found.high
