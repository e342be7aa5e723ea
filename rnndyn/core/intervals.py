"""Interval arithmetic: bounds of what one traced operation returns, given bounds of its operands.

Moore, Interval Analysis, 1966. All bounds are rounded outwards, by 4 eps and the smallest normal
number after a sum, product or quotient (XLA multiplies by reciprocals and flushes denormals), by
(n + 4) eps of the moduli after a sum of n products (Higham, Accuracy and Stability of Numerical
Algorithms, 2002, ch. 3), and by 16 eps after an elementary function (512 after log1p). NaN bounds
nothing.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from rnndyn.core.pytree import pytree
from rnndyn.core.trace import bind

_BASIC = 4  # eps, of sums, products and quotients
_ACCURACY = 16  # eps, of XLA's elementary functions; at most 3.5 was met
_LOG1P = 512  # eps: XLA's is wrong by 122 at -0.414 in float64
_PLACES = {
    "dynamic_slice": slice(1, None),
    "dynamic_update_slice": slice(2, None),
    "gather": slice(1, None),
    "scatter": slice(1, 2),
}  # of their operands, those that say where
_EXACT = frozenset(
    "broadcast_in_dim ceil clamp concatenate copy dynamic_slice dynamic_update_slice expand_dims "
    "floor gather max min optimization_barrier pad reduce_and reduce_max reduce_min reduce_or "
    "reshape rev round scatter sign slice split squeeze stack stop_gradient transpose "
    "unstack".split()
)  # moves and monotone operations without rounding: they act on both ends alike
_ROUNDED = frozenset({"add", "add_any", "sqrt"})
_ELEMENTARY = frozenset("asinh atan erf exp expm1 log log1p logistic tanh".split())


@pytree
class Interval:
    """All numbers from `low` to `high`, entry by entry; of booleans, surely and possibly true."""

    low: jax.Array
    high: jax.Array


class UnboundedError(ValueError):
    """An operation without a rule for its bounds; the message is its name."""


def apply(eqn: Any, read: list[Any]) -> list[Any]:
    """Bounds of the results of one equation of a jaxpr, some of whose operands are Intervals.

    Parameters
    ----------
    eqn : jax.extend.core.JaxprEqn
    read : list of arrays and Intervals
        Arrays are exact.

    Returns
    -------
    list of Interval, or of arrays if no operand is an Interval

    Raises
    ------
    UnboundedError
        If there is no rule for the operation.

    Examples
    --------
    >>> import jax, jax.numpy as jnp
    >>> (eqn,) = jax.make_jaxpr(lambda x: x * x)(1.0).eqns
    >>> (found,) = apply(eqn, [Interval(jnp.array(-1.0), jnp.array(2.0))] * 2)
    >>> f"{found.low:.3f} {found.high:.3f}"  # one variable: `square`
    '-0.000 4.000'
    """
    name = eqn.primitive.name
    if not any(isinstance(value, Interval) for value in read):
        return bind(eqn, read)
    if not _has_rule(eqn):
        raise UnboundedError(name)
    if any(isinstance(value, Interval) for value in read[_PLACES.get(name, slice(0))]):
        raise UnboundedError(f"{name} at places that depend on the box")
    if name in _RULES:
        same = len(eqn.invars) == 2 and eqn.invars[0] is eqn.invars[1]
        return [_SAME[name](read[0]) if same and name in _SAME else _RULES[name](eqn, *read)]
    lows, highs = ([getattr(wide(value), end) for value in read] for end in ("low", "high"))
    pairs = list(zip(bind(eqn, lows), bind(eqn, highs), strict=True))
    if name in _EXACT:
        return [Interval(*pair) for pair in pairs]
    units = _LOG1P if name == "log1p" else _ACCURACY if name in _ELEMENTARY else _BASIC
    return [rounded(*pair, units) for pair in pairs]


def _has_rule(eqn: Any) -> bool:
    """Bits and whole numbers are moved and compared, but not computed with."""
    name = eqn.primitive.name
    if name in ("and", "or", "not"):
        return eqn.outvars[0].aval.dtype == bool
    real = is_real(*eqn.invars, *eqn.outvars)
    return name in _EXACT or name in _CHOICES or (real and name in _RULES.keys() | _MONOTONE)


def is_real(*variables: Any) -> bool:
    """Whether all are of real floating point."""
    return all(jnp.issubdtype(variable.aval.dtype, jnp.floating) for variable in variables)


def wide(value: Any) -> Interval:
    """An array as an Interval of no width."""
    return value if isinstance(value, Interval) else Interval(value, value)


def rounded(low: jax.Array, high: jax.Array, units: float = _BASIC) -> Interval:
    """Outwards by so many eps of the modulus, and by the smallest normal number."""
    info = jnp.finfo(low.dtype)
    eps, tiny = units * float(info.eps), float(info.tiny)
    return Interval(low - (eps * jnp.abs(low) + tiny), high + (eps * jnp.abs(high) + tiny))


def magnitude(x: Interval) -> jax.Array:
    """The largest modulus."""
    return jnp.maximum(jnp.abs(x.low), jnp.abs(x.high))


def common(x: Interval, y: Interval) -> Interval:
    """What lies in both."""
    return Interval(jnp.maximum(x.low, y.low), jnp.minimum(x.high, y.high))


def negative(x: Interval) -> Interval:
    return Interval(-x.high, -x.low)


def add(x: Any, y: Any) -> Interval:
    x, y = wide(x), wide(y)
    return rounded(x.low + y.low, x.high + y.high)


def subtract(x: Any, y: Any) -> Interval:
    x, y = wide(x), wide(y)
    return rounded(x.low - y.high, x.high - y.low)


def multiply(x: Any, y: Any) -> Interval:
    x, y = wide(x), wide(y)
    ends = (x.low * y.low, x.low * y.high, x.high * y.low, x.high * y.high)
    low = jnp.minimum(jnp.minimum(ends[0], ends[1]), jnp.minimum(ends[2], ends[3]))
    high = jnp.maximum(jnp.maximum(ends[0], ends[1]), jnp.maximum(ends[2], ends[3]))
    return rounded(low, high)


def divide(x: Any, y: Any) -> Interval:
    """Without bounds where the divisor may be zero."""
    y = wide(y)
    away = (y.low > 0) | (y.high < 0)
    one = jnp.ones_like(y.low)
    low, high = jnp.where(away, y.low, one), jnp.where(away, y.high, one)
    found = multiply(x, rounded(1 / high, 1 / low))
    return Interval(jnp.where(away, found.low, -jnp.inf), jnp.where(away, found.high, jnp.inf))


def root(x: Interval) -> Interval:
    """The square root; NaN where x may be negative."""
    return rounded(jnp.sqrt(x.low), jnp.sqrt(x.high))


def exponential(x: Interval) -> Interval:
    return rounded(jnp.exp(x.low), jnp.exp(x.high), _ACCURACY)


def power(x: Interval, n: int) -> Interval:
    """x^n for a whole number n."""
    if n < 0:
        return divide(jnp.ones_like(x.low), power(x, -n))
    ends = x if n % 2 else modulus(x)
    return rounded(ends.low**n, ends.high**n, n + _BASIC)


def modulus(x: Interval) -> Interval:
    inside = (x.low <= 0) & (x.high >= 0)
    least = jnp.where(inside, 0, jnp.minimum(jnp.abs(x.low), jnp.abs(x.high)))
    return Interval(least, magnitude(x))


def cosine(x: Interval) -> Interval:
    return _wave(x, 0.0, jnp.cos)


def sine(x: Interval) -> Interval:
    return _wave(x, math.pi / 2, jnp.sin)


def _wave(x: Interval, top: float, wave: Callable) -> Interval:
    """A wave with its maxima at top + 2 pi k; the turns are looked for a little further out."""
    slack = 8 * float(jnp.finfo(x.low.dtype).eps)
    wider = rounded(x.low, x.high, _ACCURACY)

    def holds(turn):
        first = jnp.ceil((wider.low - turn) / (2 * math.pi) - slack)
        return first <= (wider.high - turn) / (2 * math.pi) + slack

    a, b = wave(x.low), wave(x.high)
    found = rounded(jnp.minimum(a, b), jnp.maximum(a, b), _ACCURACY)
    low = jnp.where(holds(top + math.pi), -1, found.low)
    return Interval(jnp.maximum(low, -1), jnp.minimum(jnp.where(holds(top), 1, found.high), 1))


def dot(x: Any, y: Any, numbers: Any = (((1,), (0,)), ((), ()))) -> Interval:
    """`dot_general`, by default of matrices, by middles and radii (Rump 1999)."""

    def product(a, b):
        highest = jax.lax.Precision.HIGHEST  # a GPU would round to TF32
        return jax.lax.dot_general(a, b, numbers, precision=highest)

    (mid_x, rad_x), (mid_y, rad_y) = middle(x), middle(y)
    info = jnp.finfo(mid_x.dtype)
    count = math.prod(mid_x.shape[axis] for axis in numbers[0][0])
    slack = (count + 4) * float(info.eps)
    found = product(mid_x, mid_y)
    spread = product(jnp.abs(mid_x), rad_y + slack * jnp.abs(mid_y))
    if isinstance(x, Interval):
        spread = spread + product(rad_x, jnp.abs(mid_y) + rad_y)
    spread = spread * (1 + 2 * slack) + 4 * count * float(info.tiny)
    return rounded(found - spread, found + spread)


def middle(x: Any) -> tuple[jax.Array, jax.Array]:
    """A point of each interval, and how far from it the interval reaches at most."""
    if not isinstance(x, Interval):
        return x, jnp.zeros_like(x)
    centre = x.low / 2 + x.high / 2
    radius = jnp.maximum(centre - x.low, x.high - centre)
    return centre, rounded(radius, radius).high


def _sum(eqn: Any, x: Interval) -> Interval:
    """Along some axes, or of all terms up to each."""
    axes = eqn.params["axes"] if "axes" in eqn.params else (eqn.params["axis"],)
    info, count = jnp.finfo(x.low.dtype), math.prod(x.low.shape[axis] for axis in axes)
    slack, tiny = (count + 4) * float(info.eps), count * float(info.tiny)
    low, high, size_low, size_high = (
        bind(eqn, [end])[0] for end in (x.low, x.high, jnp.abs(x.low), jnp.abs(x.high))
    )
    return rounded(low - (slack * size_low + tiny), high + (slack * size_high + tiny))


def _choice(eqn: Any, which: Any, *cases: Any) -> Interval:
    lows, highs = ([getattr(wide(case), end) for case in cases] for end in ("low", "high"))
    if not isinstance(which, Interval):
        return Interval(bind(eqn, [which, *lows])[0], bind(eqn, [which, *highs])[0])
    if which.low.dtype != bool:
        raise UnboundedError("select_n of more than two cases that depends on the box")
    lowest, highest = jnp.minimum(*lows), jnp.maximum(*highs)
    low, high = (bind(eqn, [which.low, *ends])[0] for ends in (lows, highs))
    closed = jnp.broadcast_to(which.low == which.high, low.shape)
    return Interval(jnp.where(closed, low, lowest), jnp.where(closed, high, highest))


def _greater(x: Any, y: Any, or_equal: bool = False) -> Interval:
    x, y = wide(x), wide(y)
    compare = jnp.greater_equal if or_equal else jnp.greater
    return Interval(compare(x.low, y.high), compare(x.high, y.low))


def _equal(x: Any, y: Any) -> Interval:
    x, y = wide(x), wide(y)
    surely = (x.low == x.high) & (y.low == y.high) & (x.low == y.low)
    return Interval(surely, (x.low <= y.high) & (y.low <= x.high))


def _itself(x: Interval) -> Interval:
    """x == x, which is false of NaN alone."""
    return Interval(x.low == x.low, jnp.ones_like(x.low, bool))


def _not(x: Interval) -> Interval:
    return Interval(~x.high, ~x.low)


def _converted(eqn: Any, x: Interval) -> Interval:
    """Between kinds of floating point, and from a boolean; another rounding is another function."""
    dtype = eqn.params["new_dtype"]
    low, high = (bind(eqn, [end])[0] for end in (x.low, x.high))
    if is_real(*eqn.invars, *eqn.outvars):
        return rounded(low, high)
    if x.low.dtype != bool:
        raise UnboundedError(f"convert_element_type from {x.low.dtype} to {dtype}")
    return Interval(low, high)


def _both_ends(eqn: Any, x: Any, y: Any) -> Interval:
    return Interval(*(bind(eqn, [getattr(wide(v), e) for v in (x, y)])[0] for e in ("low", "high")))


_SAME: dict[str, Callable[[Interval], Interval]] = {
    "eq": _itself,
    "mul": lambda x: power(x, 2),
    "ne": lambda x: _not(_itself(x)),
}
_CHOICES: dict[str, Callable[..., Interval]] = {
    "and": _both_ends,
    "convert_element_type": _converted,
    "eq": lambda eqn, x, y: _equal(x, y),
    "ge": lambda eqn, x, y: _greater(x, y, True),
    "gt": lambda eqn, x, y: _greater(x, y),
    "le": lambda eqn, x, y: _greater(y, x, True),
    "lt": lambda eqn, x, y: _greater(y, x),
    "ne": lambda eqn, x, y: _not(_equal(x, y)),
    "not": lambda eqn, x: _not(x),
    "or": _both_ends,
    "select_n": _choice,
}
_RULES: dict[str, Callable[..., Interval]] = {
    **_CHOICES,
    "abs": lambda eqn, x: modulus(x),
    "cos": lambda eqn, x: cosine(x),
    "cumsum": _sum,
    "div": lambda eqn, x, y: divide(x, y),
    "dot_general": lambda eqn, x, y: dot(x, y, eqn.params["dimension_numbers"]),
    "integer_pow": lambda eqn, x: power(x, eqn.params["y"]),
    "mul": lambda eqn, x, y: multiply(x, y),
    "neg": lambda eqn, x: negative(x),
    "reduce_sum": _sum,
    "sin": lambda eqn, x: sine(x),
    "square": lambda eqn, x: power(x, 2),
    "sub": lambda eqn, x, y: subtract(x, y),
}
_MONOTONE = _ROUNDED | _ELEMENTARY
