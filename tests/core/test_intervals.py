"""Interval bounds hold what exact arithmetic gives, to 60 digits, and are hardly wider."""

import fractions

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest

from rnndyn.core import intervals
from rnndyn.core.intervals import Interval, UnboundedError
from rnndyn.core.trace import INLINED, follow, inner
from tests.tolerances import tol

mpmath.mp.dps = 60


def bounds(function, *args):
    """The last result of a function, operation by operation."""
    ends = [arg.low if isinstance(arg, Interval) else arg for arg in args]
    closed = jax.make_jaxpr(function)(*ends)

    def apply(eqn, read):
        if eqn.primitive.name in INLINED:
            return follow(inner(eqn).jaxpr, inner(eqn).consts, read, apply)
        return intervals.apply(eqn, read)

    return follow(closed.jaxpr, closed.consts, list(args), apply)[-1]


# an operation; the same in mpmath; where its operands lie; its extrema inside an interval
ONE = {
    "abs": (jnp.abs, abs, (-1e3, 1e3), [0]),
    "asinh": (jax.lax.asinh, mpmath.asinh, (-1e3, 1e3), []),
    "atan": (jax.lax.atan, mpmath.atan, (-1e3, 1e3), []),
    "cos": (jnp.cos, mpmath.cos, (-60, 60), [mpmath.pi * k for k in range(-20, 21)]),
    "erf": (jax.lax.erf, mpmath.erf, (-7, 7), []),
    "exp": (jnp.exp, mpmath.exp, (-80, 80), []),
    "expm1": (jnp.expm1, mpmath.expm1, (-80, 80), []),
    "inverse": (lambda x: x**-3, lambda x: x**-3, (1e-3, 1e3), []),
    "log": (jnp.log, mpmath.log, (1e-9, 1e9), []),
    "log1p": (jnp.log1p, mpmath.log1p, (-0.99, 1e3), []),
    "log1p at its worst": (jnp.log1p, mpmath.log1p, (-0.4143, -0.4141), []),
    "logistic": (jax.lax.logistic, lambda x: 1 / (1 + mpmath.exp(-x)), (-80, 80), []),
    "cube": (lambda x: x**3, lambda x: x**3, (-1e3, 1e3), []),
    "fourth": (lambda x: x**4, lambda x: x**4, (-1e3, 1e3), [0]),
    "times itself": (lambda x: x * x, lambda x: x * x, (-1e3, 1e3), [0]),
    "sin": (jnp.sin, mpmath.sin, (-60, 60), [mpmath.pi * (k + 0.5) for k in range(-20, 21)]),
    "sqrt": (jnp.sqrt, mpmath.sqrt, (1e-9, 1e9), []),
    "tanh": (jnp.tanh, mpmath.tanh, (-20, 20), []),
}
TWO = {
    "add": (lambda x, y: x + y, lambda x, y: x + y),
    "sub": (lambda x, y: x - y, lambda x, y: x - y),
    "mul": (lambda x, y: x * y, lambda x, y: x * y),
    "div": (lambda x, y: x / y, lambda x, y: x / y),
    "max": (jnp.maximum, max),
    "min": (jnp.minimum, min),
}


def boxes(seed, low, high, dtype, n=24):
    """Of all widths from none to the whole range, many about zero."""
    rng = np.random.default_rng(seed)
    middle = rng.uniform(low, high, n) * 10.0 ** -rng.uniform(0, 9, n)
    half = np.where(np.arange(n) % 3 == 0, 0, (high - low) * 10.0 ** -rng.uniform(0.3, 12, n))
    ends = np.clip([middle - half, middle + half], low, high)
    return Interval(*(jnp.asarray(end, dtype) for end in ends))


def digits(x):
    return [mpmath.mpf(float(v)) for v in np.ravel(x)]


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_functions_of_one_variable_hold_the_true_range_and_no_more(dtype):
    where = {name: boxes(i, *ONE[name][2], dtype) for i, name in enumerate(sorted(ONE))}
    found = jax.jit(lambda b: {name: bounds(ONE[name][0], b[name]) for name in ONE})(where)
    info = jnp.finfo(dtype)
    for name, (_, exact, _, extrema) in ONE.items():
        box = where[name]
        ends = zip(
            *map(digits, (box.low, box.high, found[name].low, found[name].high)), strict=True
        )
        for low, high, least, most in ends:
            inside = [x for x in extrema if low < x < high]
            values = [exact(x) for x in (low, high, *inside, (low + 2 * high) / 3)]
            assert least <= min(values) and max(values) <= most, (name, low, high)
            size = max(map(abs, values))
            slack = tol("log1p" if "log1p" in name else "interval", dtype) * size + 4 * float(
                info.tiny
            )
            assert most - least <= max(values) - min(values) + slack, (name, low, high)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_functions_of_two_variables_hold_the_true_range_and_no_more(dtype):
    x, y = boxes(1, -1e3, 1e3, dtype), boxes(2, 1e-3, 1e3, dtype)
    found = jax.jit(lambda x, y: {name: bounds(TWO[name][0], x, y) for name in TWO})(x, y)
    for name, (_, exact) in TWO.items():
        parts = (x.low, x.high, y.low, y.high, found[name].low, found[name].high)
        for a, b, c, d, least, most in zip(*map(digits, parts), strict=True):
            values = [exact(p, q) for p in (a, b) for q in (c, d)]
            assert least <= min(values) and max(values) <= most, (name, a, b, c, d)
            slack = tol("interval", dtype) * max(map(abs, (a, b, c, d, *values)))
            assert most - least <= max(values) - min(values) + slack, (name, a, b, c, d)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_what_underflows_or_cancels_is_held(dtype):
    tiny = jnp.asarray(jnp.finfo(dtype).tiny, dtype)
    small = bounds(lambda x: x * x, Interval(tiny, tiny))
    grown = intervals.multiply(small, jnp.asarray(1e30, dtype))
    assert small.low <= 0 and small.high > 0 and grown.high > 1e25 * tiny
    weights, ones = jnp.asarray([1e17, 1.0, -1e17], dtype), jnp.ones(3, dtype)
    found = bounds(lambda x: weights @ x, Interval(ones, ones))
    total = bounds(lambda x: jnp.sum(x * weights), Interval(ones, ones))
    for held in (found, total):
        assert held.low <= 1 <= held.high


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_products_and_sums_of_many_terms_hold_what_fractions_give(dtype):
    rng = np.random.default_rng(0)
    matrix, vector = rng.normal(size=(3, 50)), rng.normal(size=50)
    matrix, vector = (np.asarray(x, np.dtype(dtype)) for x in (matrix, vector))
    exact = [[fractions.Fraction(float(v)) for v in row] for row in (*matrix, vector)]
    x = intervals.wide(jnp.asarray(vector))
    product = bounds(lambda x: jnp.asarray(matrix) @ x, x)
    sums = bounds(lambda x: jnp.cumsum(x), x)
    for i in range(3):
        true = sum(a * b for a, b in zip(exact[i], exact[3], strict=True))
        assert float(product.low[i]) <= true <= float(product.high[i])
    assert np.max(product.high - product.low) < tol("interval_sum", dtype)
    for i in (0, 30, 49):
        true = sum(exact[3][: i + 1])
        assert float(sums.low[i]) <= true <= float(sums.high[i])


def test_a_product_of_two_interval_matrices_holds_all_products():
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(3, 4)), rng.normal(size=(4, 2))
    wide_x, wide_y = (Interval(jnp.asarray(v - 0.1), jnp.asarray(v + 0.3)) for v in (x, y))
    found = intervals.dot(wide_x, wide_y)
    for _ in range(50):
        a, b = x + rng.choice([-0.1, 0.3], x.shape), y + rng.choice([-0.1, 0.3], y.shape)
        assert np.all(found.low <= a @ b) and np.all(a @ b <= found.high)


@pytest.mark.parametrize(
    "function, low, high, expected",
    [
        (lambda x: 1 / x, -1.0, 4.0, (-np.inf, np.inf)),
        (jnp.floor, -0.5, 1.5, (-1, 1)),
        (lambda x: jnp.clip(x, 0.0, 1.0), -1.0, 0.5, (0, 0.5)),
        (lambda x: jnp.where(x > 1, 3.0, x), 0.0, 2.0, (0, 3)),
        (lambda x: jnp.where(x > 1, 3.0, x), 0.0, 0.5, (0, 0.5)),
        (lambda x: jnp.where(x <= 1, 3.0, x), 1.5, 2.0, (1.5, 2)),
        (lambda x: (x >= 1) | (x < -1), 0.0, 2.0, (False, True)),
        (lambda x: ~(x == 1), 2.0, 3.0, (True, True)),
        (jnp.isnan, 2.0, 3.0, (False, False)),
        (lambda x: (x > 0).astype(float), 2.0, 3.0, (1, 1)),
        (lambda x: jnp.max(jnp.stack([x, -x])), -1.0, 2.0, (-1, 2)),
    ],
)
def test_choices_and_jumps(function, low, high, expected):
    found = bounds(function, Interval(jnp.array(low), jnp.array(high)))
    assert found.low <= expected[0] and found.high >= expected[1]
    if np.all(np.isfinite(expected)):
        np.testing.assert_allclose(
            np.asarray([found.low, found.high], float), expected, atol=tol("interval")
        )


@pytest.mark.parametrize(
    "function, name",
    [
        (jnp.sort, "sort"),
        (jnp.argmax, "argmax"),
        (lambda x: x.astype(bool), "convert_element_type"),  # not monotone: true below zero
        (lambda x: x.astype(int), "convert_element_type"),
        (lambda x: (x > 0).astype(int) * 2, "mul"),
        (lambda x: jnp.ones(2)[(x[0] > 0).astype(int)], "add|at places"),
        (lambda x: x.astype(complex), "convert_element_type"),
    ],
)
def test_what_has_no_rule_is_refused_by_name(function, name):
    with pytest.raises(UnboundedError, match=name):
        bounds(function, intervals.wide(jnp.ones(2)))
