"""Slopes (f(x) - f(c)) / (x - c) of elementary functions, for all x and c of two intervals.

Sharp up to rounding for what is convex, and to 3 % for tanh and logistic.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from rnndyn.core import intervals
from rnndyn.core.intervals import Interval, wide

_NEARER = (1.0, 1.02, 1.04, 1.06)  # times a guess: the largest that is still good
Function = Callable[[Interval], Interval]


def of_square(x: Interval, c: Interval) -> Interval:
    return intervals.add(x, c)


def of_relu(x: Interval, c: Interval) -> Interval:
    """Of max(x, 0), which is convex."""
    zero = jnp.zeros_like(x.low)

    def relu(x):
        return Interval(jnp.maximum(x.low, 0), jnp.maximum(x.high, 0))

    rising = Interval(jnp.where(x.low > 0, 1, zero), jnp.where(x.high < 0, zero, 1))
    return _monotone(relu, rising, x, c)


def of_modulus(x: Interval, c: Interval) -> Interval:
    one = jnp.ones_like(x.low)
    rising = Interval(jnp.where(x.low > 0, one, -1), jnp.where(x.high < 0, -1, one))
    return _monotone(intervals.modulus, rising, x, c)


def _monotone(
    function: Function, slopes: Interval, x: Interval, c: Interval, sign: int = 1
) -> Interval:
    """Of a convex function (a concave one for -1): the slopes rise (fall) with x and with c.

    They are also within those at the ends of x, which is better where x and c meet.
    """
    at = wide(x.low if sign > 0 else x.high), wide(x.high if sign > 0 else x.low)
    least, most = (_between(function, point, c) for point in at)
    return intervals.common(Interval(least.low, most.high), slopes)


def _between(function: Function, x: Interval, c: Interval) -> Interval:
    rise = intervals.subtract(function(x), function(c))
    return intervals.divide(rise, intervals.subtract(x, c))


def _sigmoid(
    function: Function, derivative: Function, x: Interval, c: Interval, unit: float = 1.0
) -> Interval:
    """Of f with f' even and falling on both sides of zero, by f's symmetry for c >= 0.

    From c >= 0 on to the left, the slope rises until x = t <= 0, where the line through c touches
    the curve, f'(t) = slope(t), and falls thereafter: it is least at an end of x, and at most that
    at x.low if t <= x.low, and f'(t) otherwise. Any t with slope(t) <= f'(t) is on the right of
    the one where they are equal, and will do; 0 always does. For tanh, -asinh(c) / 2 is 0 to 7 %
    too near to zero.
    """
    flip = c.low + c.high < 0
    x, c = (
        Interval(jnp.where(flip, -v.high, v.low), jnp.where(flip, -v.low, v.high)) for v in (x, c)
    )
    ahead = c.low >= 0
    guess = -jnp.arcsinh(unit * jnp.maximum(c.low, 0)) / (2 * unit)
    size = intervals.modulus(x)
    points = [x.low, x.high, size.low, size.high, *(guess * factor for factor in _NEARER)]
    points = wide(jnp.stack(points))
    slope = _between(function, points, jax.tree.map(lambda end: end[None], c))
    steep = derivative(points)
    touches = ahead[None] & (slope.high[4:] <= steep.low[4:])
    zero = derivative(wide(jnp.zeros_like(guess))).high
    most = jnp.min(jnp.where(touches, steep.high[4:], zero[None]), axis=0)
    touch = jnp.min(jnp.where(touches, points.low[4:], 0), axis=0)
    least = jnp.minimum(slope.low[0], slope.low[1])
    found = Interval(least, jnp.where(ahead & (touch <= x.low), slope.high[0], most))
    return intervals.common(found, Interval(steep.low[3], steep.high[2]))


def _one(x: Interval) -> Interval:
    return wide(jnp.ones_like(x.low))


def _plus_square(x: Interval) -> Interval:
    """1 + x^2."""
    return intervals.add(_one(x), intervals.power(x, 2))


def _inverse(x: Interval) -> Interval:
    return intervals.divide(_one(x), x)


def _scaled(x: Interval, factor: float) -> Interval:
    return intervals.multiply(jnp.full_like(x.low, factor), x)


def _tanh(f: Function, x: Interval) -> Interval:
    value = f(x)
    return intervals.multiply(intervals.subtract(_one(x), value), intervals.add(_one(x), value))


def _logistic(f: Function, x: Interval) -> Interval:
    return intervals.multiply(f(x), f(intervals.negative(x)))


def _erf(f: Function, x: Interval) -> Interval:
    falling = intervals.exponential(intervals.negative(intervals.power(x, 2)))
    return _scaled(falling, 2 / math.sqrt(math.pi))


def _curve(kind: Callable[..., Interval], derivative: Callable[..., Interval], **options: Any):
    """A rule for an equation of one operand."""

    def rule(eqn: Any, x: Interval, c: Interval) -> Interval:
        def function(x):
            return intervals.apply(eqn, [x])[0]

        return kind(function, lambda x: derivative(function, x), x, c, **options)

    return rule


def _ends(function: Function, derivative: Function, x: Interval, c: Interval, sign: int):
    """Of a convex or concave function, from its derivative at the ends."""
    low, high = derivative(wide(x.low)), derivative(wide(x.high))
    slopes = Interval(low.low, high.high) if sign > 0 else Interval(high.low, low.high)
    return _monotone(function, slopes, x, c, sign)


def _mean_value(function: Function, derivative: Function, x: Interval, c: Interval) -> Interval:
    """Of any smooth function: its derivatives over x, which holds c."""
    return derivative(x)


def _whole_power(eqn: Any, x: Interval, c: Interval) -> Interval:
    n = eqn.params["y"]
    if n == 2:
        return of_square(x, c)
    return _scaled(intervals.power(x, n - 1), float(n))


CURVES: dict[str, Callable[[Any, Interval, Interval], Interval]] = {
    "abs": lambda eqn, x, c: of_modulus(x, c),
    "asinh": _curve(_sigmoid, lambda f, x: _inverse(intervals.root(_plus_square(x)))),
    "atan": _curve(_sigmoid, lambda f, x: _inverse(_plus_square(x))),
    "cos": _curve(_mean_value, lambda f, x: intervals.negative(intervals.sine(x))),
    "erf": _curve(_sigmoid, _erf),
    "exp": _curve(_ends, lambda f, x: f(x), sign=1),
    "expm1": _curve(_ends, lambda f, x: intervals.exponential(x), sign=1),
    "integer_pow": _whole_power,
    "log": _curve(_ends, lambda f, x: _inverse(x), sign=-1),
    "log1p": _curve(_ends, lambda f, x: _inverse(intervals.add(_one(x), x)), sign=-1),
    "logistic": _curve(_sigmoid, _logistic, unit=0.5),
    "sin": _curve(_mean_value, lambda f, x: intervals.cosine(x)),
    "sqrt": _curve(_ends, lambda f, x: _scaled(_inverse(f(x)), 0.5), sign=-1),
    "square": lambda eqn, x, c: of_square(x, c),
    "tanh": _curve(_sigmoid, _tanh),
}
"""By the name of the operation. x must hold c."""
