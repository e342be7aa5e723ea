"""Bounds of what a function returns over a box: interval arithmetic along its own trace.

Moore, Interval Analysis, 1966. All bounds are rounded outwards: by one unit in the last place after
a sum, product or quotient, by (n + 2) eps of the moduli after a sum of n products (Higham, Accuracy
and Stability of Numerical Algorithms, 2002, ch. 3), and by 16 eps after an elementary function.
What does not depend on the box counts as exact, just as it comes out in floating point.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from rnndyn.core.pytree import pytree
from rnndyn.core.trace import INLINED, bind, follow, inner

_ACCURACY = 16  # eps, of XLA's elementary functions
_EXACT = frozenset(
    "broadcast_in_dim concatenate convert_element_type copy dynamic_slice dynamic_update_slice "
    "expand_dims gather pad reshape rev scatter slice split squeeze stack stop_gradient "
    "transpose unstack and or max min reduce_max reduce_min reduce_and reduce_or floor ceil round "
    "sign clamp optimization_barrier".split()
)  # moves and monotone operations without rounding: they act on both ends alike
_JUMPS = frozenset("floor ceil round sign rem".split())
_ROUNDED = frozenset({"add", "add_any", "sqrt"})
_ELEMENTARY = frozenset("tanh logistic exp exp2 expm1 log log1p erf atan asinh sinh cbrt".split())


@pytree
class Interval:
    """All numbers from `low` to `high`, entry by entry; of booleans, surely and possibly true."""

    low: jax.Array
    high: jax.Array


class UnboundedError(ValueError):
    """An operation without a rule for its bounds; the message is its name."""


def bounds(function: Callable[..., Any], *args: Any, continuous: bool = False) -> Any:
    """What `function(*args)` may return, where some leaves of args are Intervals.

    Parameters
    ----------
    function : callable, of arrays to a pytree of arrays
    args : pytrees with arrays and Intervals as leaves
    continuous : bool
        Whether to answer NaN where the box leaves a choice open, at which the function may jump.

    Returns
    -------
    pytree
        As of the function, of Intervals. NaN or infinite ends bound nothing. Bounds are not sharp
        where a variable stands twice in a formula. Cost: that of about three calls of the function.

    Raises
    ------
    UnboundedError
        At an operation that has no rule here.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> found = bounds(lambda x: x * (1 - x), Interval(jnp.array(0.25), jnp.array(0.5)))
    >>> round(float(found.low), 6), round(float(found.high), 6)
    (0.125, 0.375)
    """
    leaves, structure = jax.tree.flatten(args, is_leaf=_is_interval)
    points = [leaf.low if _is_interval(leaf) else leaf for leaf in leaves]

    def flat(*points):
        return function(*jax.tree.unflatten(structure, points))

    closed, shape = jax.make_jaxpr(flat, return_shape=True)(*points)
    apply = functools.partial(_apply, continuous)
    found = follow(closed.jaxpr, closed.consts, leaves, apply)
    return jax.tree.unflatten(jax.tree.structure(shape), map(_wide, found))


def written_out(function: Callable[[jax.Array], Any]) -> Callable[[jax.Array], Any]:
    """The same values, of which all derivatives are true: no rules of one's own, nothing held."""

    def apply(eqn, read):
        if eqn.primitive.name == "stop_gradient":
            return read
        if eqn.primitive.name in INLINED:
            return follow(inner(eqn).jaxpr, inner(eqn).consts, read, apply)
        if eqn.primitive.name.startswith("custom_"):
            raise UnboundedError(eqn.primitive.name)
        return bind(eqn, read)

    def plain(x):
        closed = jax.make_jaxpr(function)(x)
        (value,) = follow(closed.jaxpr, closed.consts, [x], apply)
        return value

    return plain


def _is_interval(leaf: Any) -> bool:
    return isinstance(leaf, Interval)


def _wide(value: Any) -> Interval:
    return value if _is_interval(value) else Interval(value, value)


def _rounded(low: jax.Array, high: jax.Array, eps: float = 0.0) -> Interval:
    """One unit outwards, and eps of the modulus."""
    if eps:
        low, high = low - eps * jnp.abs(low), high + eps * jnp.abs(high)
    infinity = jnp.asarray(jnp.inf, low.dtype)
    return Interval(jnp.nextafter(low, -infinity), jnp.nextafter(high, infinity))


def _apply(continuous: bool, eqn: Any, read: list[Any]) -> list[Any]:
    name = eqn.primitive.name
    if not any(map(_is_interval, read)):
        return bind(eqn, read)
    if name in INLINED:
        return follow(
            inner(eqn).jaxpr, inner(eqn).consts, read, functools.partial(_apply, continuous)
        )
    if continuous and name in _JUMPS:
        raise UnboundedError(name)
    if continuous and name == "convert_element_type" and not _keeps_kind(eqn):
        raise UnboundedError("convert_element_type from or to whole numbers")
    if continuous and name == "select_n" and _is_interval(read[0]):
        open_ = read[0].low != read[0].high
        found = _choice(eqn, *read)
        return [Interval(*(jnp.where(open_, jnp.nan, end) for end in (found.low, found.high)))]
    if name in _RULES:
        same = len(eqn.invars) == 2 and eqn.invars[0] is eqn.invars[1]
        return [_powered(read[0], 2) if name == "mul" and same else _RULES[name](eqn, *read)]
    if name not in _EXACT | _ROUNDED | _ELEMENTARY:
        raise UnboundedError(name)
    lows, highs = ([getattr(_wide(v), end) for v in read] for end in ("low", "high"))
    if name in ("gather", "scatter", "dynamic_slice", "dynamic_update_slice"):
        count = 1 if name in ("gather", "dynamic_slice") else 3 if name == "scatter" else 2
        places = [1] if name == "scatter" else range(count, len(read))
        if any(_is_interval(read[place]) for place in places):
            raise UnboundedError(f"{name} at places that depend on the box")
    pairs = list(zip(bind(eqn, lows), bind(eqn, highs), strict=True))
    if name in _EXACT:
        return [Interval(*pair) for pair in pairs]
    eps = _ACCURACY * float(jnp.finfo(pairs[0][0].dtype).eps) if name in _ELEMENTARY else 0.0
    return [_rounded(*pair, eps) for pair in pairs]


def _product(eqn: Any, x: Any, y: Any) -> Interval:
    x, y = _wide(x), _wide(y)
    ends = (x.low * y.low, x.low * y.high, x.high * y.low, x.high * y.high)
    low = jnp.minimum(jnp.minimum(ends[0], ends[1]), jnp.minimum(ends[2], ends[3]))
    high = jnp.maximum(jnp.maximum(ends[0], ends[1]), jnp.maximum(ends[2], ends[3]))
    return _rounded(low, high)


def _quotient(eqn: Any, x: Any, y: Any) -> Interval:
    y = _wide(y)
    away = (y.low > 0) | (y.high < 0)
    safe = Interval(jnp.where(away, y.low, 1), jnp.where(away, y.high, 1))
    found = _product(eqn, x, _rounded(1 / safe.high, 1 / safe.low))
    return Interval(jnp.where(away, found.low, -jnp.inf), jnp.where(away, found.high, jnp.inf))


def _power(eqn: Any, x: Interval) -> Interval:
    n = eqn.params["y"]
    if n < 0:
        one = jnp.ones_like(x.low)
        return _quotient(eqn, one, _powered(x, -n))
    return _powered(x, n)


def _keeps_kind(eqn: Any) -> bool:
    kinds = [jnp.issubdtype(v.aval.dtype, jnp.inexact) for v in (*eqn.invars, *eqn.outvars)]
    return all(kinds)


def _powered(x: Interval, n: int) -> Interval:
    ends = x if n % 2 else _modulus(None, x)
    return _rounded(ends.low**n, ends.high**n, n * float(jnp.finfo(x.low.dtype).eps))


def _sum(eqn: Any, x: Interval) -> Interval:
    axes = tuple(eqn.params["axes"])
    count = 1
    for axis in axes:
        count *= x.low.shape[axis]
    slack = (count + 2) * float(jnp.finfo(x.low.dtype).eps)
    low, high = jnp.sum(x.low, axes), jnp.sum(x.high, axes)
    return _rounded(
        low - slack * jnp.sum(jnp.abs(x.low), axes), high + slack * jnp.sum(jnp.abs(x.high), axes)
    )


def _dot(eqn: Any, x: Any, y: Any) -> Interval:
    """By middles and radii (Rump 1999): three products of arrays."""
    (mid_x, rad_x), (mid_y, rad_y) = _middle(x), _middle(y)

    def dot(a, b):
        numbers, most = eqn.params["dimension_numbers"], jax.lax.Precision.HIGHEST
        return jax.lax.dot_general(a, b, numbers, precision=most)  # a GPU would round to TF32

    middle = dot(mid_x, mid_y)
    (contracted, _), _ = eqn.params["dimension_numbers"]
    count = 1
    for axis in contracted:
        count *= mid_x.shape[axis]
    slack = (count + 4) * float(jnp.finfo(middle.dtype).eps)
    size_y = jnp.abs(mid_y) + rad_y
    spread = dot(jnp.abs(mid_x), rad_y) + dot(rad_x, size_y)
    spread = spread * (1 + slack) + slack * dot(jnp.abs(mid_x), jnp.abs(mid_y))
    return _rounded(middle - spread, middle + spread)


def _middle(x: Any) -> tuple[jax.Array, jax.Array]:
    if not _is_interval(x):
        return x, jnp.zeros_like(x)
    middle = x.low / 2 + x.high / 2
    radius = jnp.maximum(middle - x.low, x.high - middle)
    return middle, _rounded(radius, radius).high


def _cosine(eqn: Any, x: Interval) -> Interval:
    return _wave(x, 0.0, jnp.cos)


def _sine(eqn: Any, x: Interval) -> Interval:
    return _wave(x, jnp.pi / 2, jnp.sin)


def _wave(x: Interval, top: float, wave: Callable) -> Interval:
    """A wave with its maxima at top + 2 pi k; the turns are looked for a little further out."""
    eps = _ACCURACY * float(jnp.finfo(x.low.dtype).eps)
    wider = _rounded(x.low, x.high, eps)

    def holds(turn):
        first = jnp.ceil((wider.low - turn) / (2 * jnp.pi) - 8 * eps)
        return first <= (wider.high - turn) / (2 * jnp.pi) + 8 * eps

    a, b = wave(x.low), wave(x.high)
    found = _rounded(jnp.minimum(a, b), jnp.maximum(a, b), eps)
    low = jnp.where(holds(top + jnp.pi), -1, found.low)
    high = jnp.where(holds(top), 1, found.high)
    return Interval(jnp.maximum(low, -1), jnp.minimum(high, 1))


def _modulus(eqn: Any, x: Interval) -> Interval:
    a, b = jnp.abs(x.low), jnp.abs(x.high)
    inside = (x.low <= 0) & (x.high >= 0)
    return Interval(jnp.where(inside, 0, jnp.minimum(a, b)), jnp.maximum(a, b))


def _difference(eqn: Any, x: Any, y: Any) -> Interval:
    x, y = _wide(x), _wide(y)
    return _rounded(x.low - y.high, x.high - y.low)


def _choice(eqn: Any, which: Any, *cases: Any) -> Interval:
    wide = [_wide(case) for case in cases]
    if not _is_interval(which):
        lows, highs = ([getattr(case, end) for case in wide] for end in ("low", "high"))
        return Interval(bind(eqn, [which, *lows])[0], bind(eqn, [which, *highs])[0])
    if len(wide) != 2:
        raise UnboundedError("select_n of more than two cases that depends on the box")
    no, yes = wide
    low = jnp.where(which.low, yes.low, jnp.where(which.high, jnp.minimum(no.low, yes.low), no.low))
    highest = jnp.maximum(no.high, yes.high)
    return Interval(low, jnp.where(which.low, yes.high, jnp.where(which.high, highest, no.high)))


def _above(eqn: Any, x: Any, y: Any, strict: bool = True) -> Interval:
    x, y = _wide(x), _wide(y)
    if strict:
        return Interval(x.low > y.high, x.high > y.low)
    return Interval(x.low >= y.high, x.high >= y.low)


def _equal(eqn: Any, x: Any, y: Any) -> Interval:
    x, y = _wide(x), _wide(y)
    surely = (x.low == x.high) & (y.low == y.high) & (x.low == y.low)
    return Interval(surely, (x.low <= y.high) & (y.low <= x.high))


def _not(eqn: Any, x: Interval) -> Interval:
    return Interval(~x.high, ~x.low)


_RULES: dict[str, Callable[..., Interval]] = {
    "abs": _modulus,
    "cos": _cosine,
    "div": _quotient,
    "dot_general": _dot,
    "eq": _equal,
    "ge": lambda eqn, x, y: _above(eqn, x, y, False),
    "gt": _above,
    "integer_pow": _power,
    "le": lambda eqn, x, y: _above(eqn, y, x, False),
    "lt": lambda eqn, x, y: _above(eqn, y, x),
    "mul": _product,
    "ne": lambda eqn, x, y: _not(eqn, _equal(eqn, x, y)),
    "neg": lambda eqn, x: Interval(-x.high, -x.low),
    "not": _not,
    "reduce_sum": _sum,
    "select_n": _choice,
    "sin": _sine,
    "square": lambda eqn, x: _powered(x, 2),
    "sub": _difference,
}
