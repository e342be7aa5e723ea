"""Slopes of a function over a box: F(x) - F(c) as a linear form of x - c, for all x of the box.

Not derivatives: c stays where it is, which halves the width (Krawczyk and Neumaier, SIAM J. Numer.
Anal. 22, 1985), and no derivative rule of the function is asked for. Where an operation has slopes
between s - D and s + D, s is carried on and the rest becomes a variable of its own,

    w_k = delta_k p_k,   |delta_k| <= D_k,   p = P (x - c, w),   F(x) - F(c) = L (x - c, w),

so that what comes back on two paths cancels as it should: affine arithmetic (de Figueiredo and
Stolfi 2004), or the small-gain form of robust control (Doyle 1982).
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from rnndyn.core import intervals
from rnndyn.core.curves import CURVES, of_relu, of_square
from rnndyn.core.intervals import Interval, UnboundedError, wide
from rnndyn.core.pytree import pytree
from rnndyn.core.trace import INLINED, bind, follow, inner


@pytree
class Moving:
    """What depends on x: its values for all x of the box, that at c, and the form of the change.

    Attributes
    ----------
    value, centre : Interval, shape s
    form : Interval, shape (n, *s), or None
        Coefficients of the d entries of x - c and the n - d variables w so far. None of what is
        not of floating point.
    """

    value: Interval
    centre: Interval
    form: Any


@pytree
class Slopes:
    """F over a box.

    Attributes
    ----------
    value, centre : Interval, shape (m,)
        F(x) for all x of the box, F(c) for all centres.
    form : Interval, shape (d + K, m)
        L: coefficients of x - c and of the K variables w.
    source : Interval, shape (d + K, K)
        P: those of p, where column k has zeros from row d + k on.
    spread : jax.Array, shape (K,)
        D, infinite or NaN where an operation has no bounds.
    reach : jax.Array, shape (K,)
        Bounds of |p| over the box.
    """

    value: Interval
    centre: Interval
    form: Interval
    source: Interval
    spread: jax.Array
    reach: jax.Array


def slopes(function: Callable[[jax.Array], jax.Array], box: Interval, centre: Interval) -> Slopes:
    """The change of `function` from any c of `centre` to any x of `box`, which holds `centre`.

    Parameters
    ----------
    function : callable, (d,) to (m,)
        Loops of fixed length are unrolled. What does not depend on x counts as exact as computed.
    box, centre : Interval, shape (d,)

    Returns
    -------
    Slopes
        If they are finite, the function is continuous over the box: where a choice (`jnp.where`)
        is open they are not. Cost: of a product with a matrix 2 (d + K) times its own, K the
        number of all curved operations before it; memory O((d + K)^2).

    Raises
    ------
    UnboundedError
        At an operation that has no rule here.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> box = Interval(jnp.array([0.0]), jnp.array([1.0]))
    >>> found = slopes(lambda x: x * x, box, Interval(jnp.array([0.5]), jnp.array([0.5])))
    >>> slope, half = found.form.low[0, 0], found.spread[0]  # x + c, from 0.5 to 1.5
    >>> f"{slope:.2f} {half:.2f} {found.reach[0]:.2f}"
    '1.00 0.50 0.50'
    """
    (d,), dtype = box.low.shape, box.low.dtype
    closed = jax.make_jaxpr(function)(box.low)
    tape = _Tape(d)
    start = Moving(box, centre, wide(jnp.eye(d, dtype=dtype)))
    (out,) = follow(closed.jaxpr, closed.consts, [start], functools.partial(_apply, tape))
    out = tape.moving(out, closed.out_avals[0].shape, dtype)
    source = wide(jnp.zeros((tape.size, 0), dtype))
    sources = [source, *(tape.padded(form) for form in tape.sources)]
    none = [jnp.zeros(0, dtype)]
    return Slopes(
        out.value,
        out.centre,
        out.form,
        jax.tree.map(lambda *parts: jnp.concatenate(parts, axis=1), *sources),
        jnp.concatenate(none + tape.spread),
        jnp.concatenate(none + tape.reach),
    )


class _Tape:
    """The variables so far: x - c, and each w with its p."""

    def __init__(self, size: int):
        self.size = size
        self.sources: list[Interval] = []
        self.spread: list[jax.Array] = []
        self.reach: list[jax.Array] = []

    def scaled(self, slope: Interval, form: Interval, change: Interval) -> Interval:
        """The form of slope * p, where p has a form and is within `change`."""
        middle, radius = intervals.middle(slope)
        n = math.prod(middle.shape)
        kept = self.padded(intervals.multiply(middle[None], form))
        own = jnp.eye(n, dtype=middle.dtype).reshape(n, *middle.shape)
        self.sources.append(jax.tree.map(lambda end: end.reshape(-1, n), form))
        self.spread.append(radius.ravel())
        self.reach.append(intervals.magnitude(change).ravel())
        self.size += n
        return jax.tree.map(lambda end: jnp.concatenate([end, own]), kept)

    def padded(self, form: Interval) -> Interval:
        """With zeros for the variables that came later."""

        def pad(end):
            return jnp.pad(end, [(0, self.size - end.shape[0])] + [(0, 0)] * (end.ndim - 1))

        return jax.tree.map(pad, form)

    def moving(self, x: Any, shape: tuple[int, ...], dtype: Any) -> Moving:
        """Of a shape (a number may stand for an array), and with all variables."""
        if not isinstance(x, Moving):
            x = jnp.broadcast_to(jnp.asarray(x, dtype), shape)
            return Moving(wide(x), wide(x), wide(jnp.zeros((self.size, *shape), dtype)))

        def spread(end):
            return jnp.broadcast_to(end, shape) if end.shape != shape else end

        def spread_form(end):
            ones = (1,) * (1 + len(shape) - end.ndim)
            return jnp.broadcast_to(end.reshape(-1, *ones, *end.shape[1:]), (self.size, *shape))

        form = jax.tree.map(spread_form, self.padded(x.form))
        return Moving(jax.tree.map(spread, x.value), jax.tree.map(spread, x.centre), form)


def _apply(tape: _Tape, eqn: Any, read: list[Any]) -> list[Any]:
    name = eqn.primitive.name
    if not any(isinstance(v, Moving) for v in read):
        return bind(eqn, read)
    again = functools.partial(_apply, tape)
    if name in INLINED or name == "custom_vjp_call":  # the function, not its derivative rule
        return follow(inner(eqn).jaxpr, inner(eqn).consts, read, again)
    if name == "scan":
        return _unrolled(tape, eqn, read)
    if name in _REWRITTEN and _REWRITTEN[name][0](read):
        shapes = [jax.ShapeDtypeStruct(v.aval.shape, v.aval.dtype) for v in eqn.invars]
        closed = jax.make_jaxpr(functools.partial(_REWRITTEN[name][1], eqn))(*shapes)
        return follow(closed.jaxpr, closed.consts, read, again)
    values, centres = (
        intervals.apply(eqn, [getattr(v, end) if isinstance(v, Moving) else v for v in read])
        for end in ("value", "centre")
    )
    centres = [intervals.common(*pair) for pair in zip(centres, values, strict=True)]
    forms = _forms(tape, eqn, read, values)
    return [Moving(*parts) for parts in zip(values, centres, forms, strict=True)]


def _forms(tape: _Tape, eqn: Any, read: list[Any], values: list[Interval]) -> list[Any]:
    name, (out, *_) = eqn.primitive.name, eqn.outvars
    if not intervals.is_real(*eqn.outvars):
        return [None] * len(values)
    if name == "select_n":
        which, *cases = read
        cases = [tape.moving(case, out.aval.shape, out.aval.dtype) for case in cases]
        return [_chosen(which, [case.form for case in cases])]
    if any(v.form is None for v in read if isinstance(v, Moving)):
        return [_held(tape, value) for value in values]
    if name in CURVES:
        (x,) = read
        slope = CURVES[name](eqn, x.value, x.centre)
        return [tape.scaled(slope, x.form, intervals.subtract(x.value, x.centre))]
    if name in _BINARY:
        exact = [not isinstance(v, Moving) for v in read]
        operands = [tape.moving(v, out.aval.shape, out.aval.dtype) for v in read]
        return [_BINARY[name](tape, eqn, *operands, exact)]
    if name in _LINEAR:
        return _linear(tape, eqn, read)
    return [_held(tape, value) for value in values]


def _held(tape: _Tape, value: Interval) -> Interval:
    """Of what is constant over the box; without bounds otherwise."""
    same = (value.low == value.high) & jnp.isfinite(value.low)
    edge = jnp.where(same, 0, jnp.inf).astype(value.low.dtype)
    edge = jnp.broadcast_to(edge, (tape.size, *edge.shape))
    return Interval(-edge, edge)


def _linear(tape: _Tape, eqn: Any, read: list[Any]) -> list[Interval]:
    """The operation on every coefficient; what is exact has none."""

    def form(value, variable):
        if isinstance(value, Moving):
            return tape.padded(value.form)
        if intervals.is_real(variable):
            return jnp.zeros((tape.size, *variable.aval.shape), variable.aval.dtype)
        return value

    pairs = list(zip(read, eqn.invars, strict=True))
    both = [eqn.primitive.name == "dot_general" and not isinstance(v, Moving) for v in read]
    forms = [v if kept else form(v, var) for (v, var), kept in zip(pairs, both, strict=True)]
    axes = [
        None if kept or not intervals.is_real(var) else 0
        for (_, var), kept in zip(pairs, both, strict=True)
    ]
    return jax.vmap(lambda *forms: [wide(x) for x in intervals.apply(eqn, list(forms))], axes)(
        *forms
    )


def _sum(tape: _Tape, eqn: Any, x: Moving, y: Moving, exact: list[bool]) -> Interval:
    return y.form if exact[0] else x.form if exact[1] else intervals.add(x.form, y.form)


def _difference(tape: _Tape, eqn: Any, x: Moving, y: Moving, exact: list[bool]) -> Interval:
    if exact[1]:
        return x.form
    return intervals.negative(y.form) if exact[0] else intervals.subtract(x.form, y.form)


def _product(tape: _Tape, eqn: Any, x: Moving, y: Moving, exact: list[bool]) -> Interval:
    """x y - cx cy = x (y - cy) + cy (x - cx), or with x and y exchanged."""
    if any(exact):
        factor, other = (x, y) if exact[0] else (y, x)
        return intervals.multiply(factor.value.low[None], other.form)
    if eqn.invars[0] is eqn.invars[1]:
        change = intervals.subtract(x.value, x.centre)
        return tape.scaled(of_square(x.value, x.centre), x.form, change)
    width_x, width_y = (v.value.high - v.value.low for v in (x, y))
    size_x, size_y = (jnp.sum(intervals.magnitude(v.form), axis=0) for v in (x, y))
    as_is = width_x * size_y <= width_y * size_x

    def pick(a, b):
        return jax.tree.map(lambda a, b: jnp.where(as_is, a, b), a, b)

    wider, other = pick(x, y), pick(y, x)
    change = intervals.subtract(other.value, other.centre)
    first = tape.scaled(wider.value, other.form, change)
    second = intervals.multiply(jax.tree.map(lambda end: end[None], other.centre), wider.form)
    return intervals.add(first, tape.padded(second))


def _quotient(tape: _Tape, eqn: Any, x: Moving, y: Moving, exact: list[bool]) -> Interval:
    """x / y - cx / cy = (x - cx - (cx / cy) (y - cy)) / y."""
    one = jnp.ones_like(y.value.low)
    inverse = intervals.divide(one, y.value)
    if exact[1]:
        return intervals.multiply(jax.tree.map(lambda end: end[None], inverse), x.form)
    ratio = intervals.divide(x.centre, y.centre)
    rows = jax.tree.map(lambda end: end[None], ratio)
    form = intervals.subtract(x.form, intervals.multiply(rows, y.form))
    change_x, change_y = (intervals.subtract(v.value, v.centre) for v in (x, y))
    change = intervals.subtract(change_x, intervals.multiply(ratio, change_y))
    return tape.scaled(inverse, form, change)


def _larger(tape: _Tape, eqn: Any, x: Moving, y: Moving, exact: list[bool]) -> Interval:
    """max(x, y) = y + relu(x - y), of which the slope may be surely one or zero."""
    one, none = x.value.low >= y.value.high, x.value.high <= y.value.low
    decided = one | none
    off = intervals.subtract(x.value, y.value)
    off = jax.tree.map(lambda end: jnp.where(decided, 0, end), off)
    centre = intervals.common(intervals.subtract(x.centre, y.centre), off)
    centre = jax.tree.map(lambda end: jnp.where(decided, 0, end), centre)
    slope = of_relu(off, centre)
    slope = jax.tree.map(lambda end: jnp.where(decided, one.astype(end.dtype), end), slope)
    change = intervals.subtract(off, centre)
    form = tape.scaled(slope, intervals.subtract(x.form, y.form), change)
    return intervals.add(tape.padded(y.form), form)


def _smaller(tape: _Tape, eqn: Any, x: Moving, y: Moving, exact: list[bool]) -> Interval:
    x, y = (Moving(*map(intervals.negative, (v.value, v.centre, v.form))) for v in (x, y))
    return intervals.negative(_larger(tape, eqn, x, y, exact))


def _chosen(which: Any, forms: list[Interval]) -> Interval:
    """Without bounds where the choice is open: it may be a jump."""
    low = which.value.low if isinstance(which, Moving) else which
    high = which.value.high if isinstance(which, Moving) else which

    def choose(*cases):
        return jax.vmap(lambda *cases: jax.lax.select_n(low, *cases))(*cases)

    form = jax.tree.map(choose, *forms)
    closed = jnp.broadcast_to(low == high, form.low.shape[1:])[None]
    return Interval(jnp.where(closed, form.low, -jnp.inf), jnp.where(closed, form.high, jnp.inf))


def _unrolled(tape: _Tape, eqn: Any, read: list[Any]) -> list[Any]:
    """A loop of fixed length."""
    fixed, carried, length = (eqn.params[key] for key in ("num_consts", "num_carry", "length"))
    body = eqn.params["jaxpr"]
    consts, carry, xs = read[:fixed], read[fixed : fixed + carried], read[fixed + carried :]
    if any(isinstance(x, Moving) for x in xs):
        raise UnboundedError("scan over what depends on the box")
    if len(eqn.outvars) > carried:
        raise UnboundedError("scan that stacks its results")
    for i in reversed(range(length)) if eqn.params["reverse"] else range(length):
        now = [*consts, *carry, *(x[i] for x in xs)]
        carry = follow(body.jaxpr, body.consts, now, functools.partial(_apply, tape))
    return carry


def _clamped(eqn: Any, low: jax.Array, x: jax.Array, high: jax.Array) -> jax.Array:
    low, high = (jnp.broadcast_to(end, x.shape) for end in (low, high))
    return jnp.minimum(jnp.maximum(x, low), high)


def _largest(eqn: Any, x: jax.Array) -> jax.Array:
    """`reduce_max`, pair by pair."""
    for axis in sorted(eqn.params["axes"], reverse=True):
        x = functools.reduce(jnp.maximum, (jnp.take(x, i, axis) for i in range(x.shape[axis])))
    return x


def _contracted(eqn: Any, x: jax.Array, y: jax.Array) -> jax.Array:
    """`dot_general` as a sum of products."""
    (along_x, along_y), (batch_x, batch_y) = eqn.params["dimension_numbers"]

    def ordered(x, along, batch):
        free = [axis for axis in range(x.ndim) if axis not in (*along, *batch)]
        shape = [math.prod(x.shape[axis] for axis in axes) for axes in (batch, free, along)]
        return jnp.transpose(x, (*batch, *free, *along)).reshape(shape)

    x, y = ordered(x, along_x, batch_x), ordered(y, along_y, batch_y)
    return jnp.sum(x[:, :, None] * y[:, None], axis=3).reshape(eqn.outvars[0].aval.shape)


def _all_moving(read: list[Any]) -> bool:
    return all(isinstance(v, Moving) for v in read)


_REWRITTEN: dict[str, tuple[Callable[[list[Any]], bool], Callable[..., jax.Array]]] = {
    "clamp": (lambda read: True, _clamped),
    "dot_general": (_all_moving, _contracted),
    "reduce_max": (_all_moving, _largest),
}
_BINARY: dict[str, Callable[..., Interval]] = {
    "add": _sum,
    "add_any": _sum,
    "div": _quotient,
    "max": _larger,
    "min": _smaller,
    "mul": _product,
    "sub": _difference,
}
_LINEAR = frozenset(
    "broadcast_in_dim concatenate convert_element_type copy cumsum dot_general dynamic_slice "
    "dynamic_update_slice expand_dims gather neg optimization_barrier pad reduce_sum reshape rev "
    "scatter slice split squeeze stack stop_gradient transpose unstack".split()
)
