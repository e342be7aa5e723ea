"""A piecewise-linear map as matrices, read off its own code.

Every continuous piecewise-linear map is an affine function of its input and of ReLUs of affine
functions, each of which may use the ReLUs before it:

    s = P z + Q relu(s) + p,   F(z) = C z + D relu(s) + c,   Q strictly lower triangular

(the abs-normal form of Griewank, Bernt, Radons & Streubel 2015, with relu for abs). The map is
traced, and each maximum, minimum, absolute value and choice between two values by the sign of s
(`jnp.where(a > b, ...)`) becomes a new variable, jump 1[s > 0], s 1[s > 0] of relu(s). All
other operations must be affine in z and these, and a jump must vanish where s does.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rnndyn.core import validation
from rnndyn.core.trace import bind, follow
from rnndyn.maps import Map

_ROUNDING = 64  # multiple of eps to which the two sides of a choice must meet
_ORDERS = {"gt": 1.0, "ge": 1.0, "lt": -1.0, "le": -1.0}
_MOVES = frozenset("broadcast_in_dim copy expand_dims reshape rev slice squeeze transpose".split())
# affine: in all operands jointly, in those listed, or in any one of them
_LINEAR = _MOVES | frozenset(
    "add add_any concatenate convert_element_type copy_p cumsum device_put name neg".split()
    + "optimization_barrier pad reduce_precision reduce_sum reduce_window_sum".split()
    + "sharding_constraint split stack sub tile unstack".split()
)
_LINEAR_IN = {"div": (0,), "dynamic_slice": (0,), "gather": (0,), "select_n": (1, 2)}
_LINEAR_IN |= {"dynamic_update_slice": (0, 1), "triangular_solve": (1,)}
_LINEAR_IN |= {"scatter": (0, 2), "scatter-add": (0, 2), "scatter-sub": (0, 2)}
_BILINEAR = frozenset({"conv_general_dilated", "dot_general", "mul"})


@dataclasses.dataclass(frozen=True)
class ReluForm:
    """F(z) = C z + D relu(s) + c with s = P z + Q relu(s) + p: d coordinates, n switches.

    Attributes
    ----------
    p_z, p_y, p_1 : np.ndarray, shapes (n, d), (n, n), (n,)
        P, Q and p.
    f_z, f_y, f_1 : np.ndarray, shapes (d, d), (d, n), (d,)
        C, D and c.
    """

    p_z: np.ndarray
    p_y: np.ndarray
    p_1: np.ndarray
    f_z: np.ndarray
    f_y: np.ndarray
    f_1: np.ndarray

    @property
    def finite(self) -> bool:
        return all(np.all(np.isfinite(getattr(self, f.name))) for f in dataclasses.fields(self))

    def __call__(self, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """F(z) and s for points z (..., d)."""
        s = z @ self.p_z.T + self.p_1
        for i in np.flatnonzero(np.any(self.p_y != 0, axis=1)):  # in order: Q is lower triangular
            s[..., i] += np.maximum(s, 0) @ self.p_y[i]
        return z @ self.f_z.T + np.maximum(s, 0) @ self.f_y.T + self.f_1, s

    def bounds(self, low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Bounds of F over a box, by interval arithmetic."""
        centre, radius = (low + high) / 2, (high - low) / 2
        middle = self.p_z @ centre + self.p_1
        spread = np.abs(self.p_z) @ radius
        for i in np.flatnonzero(np.any(self.p_y != 0, axis=1)):
            inner, outer = _relu_range(middle, spread)
            middle[i] += self.p_y[i] @ inner
            spread[i] += np.abs(self.p_y[i]) @ outer
        inner, outer = _relu_range(middle, spread)
        image = self.f_z @ centre + self.f_y @ inner + self.f_1
        width = np.abs(self.f_z) @ radius + np.abs(self.f_y) @ outer
        return image - width, image + width

    def pieces(self, patterns: np.ndarray) -> "Pieces":
        """The affine pieces of patterns (..., n): which switches are on."""
        on = patterns.astype(float)
        inner = np.eye(len(self.p_1)) - self.p_y * on[..., None, :]
        affine = np.concatenate([self.p_z, self.p_1[:, None]], axis=1)
        if np.any(self.p_y):
            affine = np.linalg.solve(
                inner, np.broadcast_to(affine, (*on.shape[:-1], *affine.shape))
            )
        rows = np.broadcast_to(affine, (*on.shape, affine.shape[-1]))
        image = np.concatenate([self.f_z, self.f_1[:, None]], axis=1)
        image = image + (self.f_y * on[..., None, :]) @ rows
        return Pieces(rows[..., :-1], rows[..., -1], image[..., :-1], image[..., -1])

    def in_unit_box(self, low: np.ndarray, high: np.ndarray) -> "ReluForm":
        """The same map in coordinates in which the box is [-1, 1]^d."""
        centre, radius = (low + high) / 2, (high - low) / 2
        return ReluForm(
            p_z=self.p_z * radius,
            p_y=self.p_y,
            p_1=self.p_1 + self.p_z @ centre,
            f_z=self.f_z * radius / radius[:, None],
            f_y=self.f_y / radius[:, None],
            f_1=(self.f_1 + self.f_z @ centre - centre) / radius,
        )


def _relu_range(middle: np.ndarray, spread: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    low, high = np.maximum(middle - spread, 0), np.maximum(middle + spread, 0)
    return (low + high) / 2, (high - low) / 2


@dataclasses.dataclass(frozen=True)
class Pieces:
    """Affine pieces: s = rows z + offsets, F = jacobians z + shifts; leading axes as asked for."""

    rows: np.ndarray
    offsets: np.ndarray
    jacobians: np.ndarray
    shifts: np.ndarray


def relu_form(map_: Map, size: int) -> ReluForm:
    """The matrices of a piecewise-linear map of z (size,).

    Raises
    ------
    ValueError
        If the map changes the size of z, or is not piecewise linear and continuous in relu,
        maximum, minimum, abs, clip and where.
    """
    dtypes = [jnp.result_type(leaf) for leaf in jax.tree.leaves(map_.args)]
    dtypes = [dtype for dtype in dtypes if jnp.issubdtype(dtype, jnp.floating)]
    z = jnp.zeros((size,), jnp.result_type(*dtypes) if dtypes else float)
    traced = jax.make_jaxpr(map_.rule)(z, map_.args)
    rest = jax.tree.leaves(map_.args)

    def opened(z: jax.Array, y: jax.Array | None) -> list[jax.Array]:
        kinks = _Kinks(y)
        values = [_Value(z, True), *(_Value(leaf, False) for leaf in rest)]
        (image,) = _evaluate(traced.jaxpr, traced.consts, values, kinks)
        none = jnp.zeros((0,), z.dtype)
        lists = (kinks.switches, kinks.above, kinks.below)
        return [image.array, *(jnp.concatenate([none, *some]) for some in lists)]

    image, switches, *_ = opened(z, None)
    advice = "the box must have one bound for each coordinate of z"
    validation.require_shape("F(z)", image, (size,), advice)
    y = jnp.zeros(switches.shape, z.dtype)
    slopes = jax.jacfwd(opened, argnums=(0, 1))(z, y)
    rows = (
        np.concatenate([np.asarray(a, float) for a in (*parts, constant[:, None])], axis=1)
        for parts, constant in zip(slopes, opened(z, y), strict=True)
    )
    return _folded(*rows, eps=float(jnp.finfo(z.dtype).eps))


def _folded(image: np.ndarray, switches: np.ndarray, above: np.ndarray, below: np.ndarray, eps):
    """The form, from rows over (z, the variables (above - below) 1[s > 0], 1).

    Without switches that are constant or a multiple of another one: relu(c s) is c relu(s) for
    c > 0 and |c| (relu(s) - s) for c < 0. Positive and negative part of a unit would otherwise be
    two switches, with patterns that exist only on their border.
    """
    d, n = len(image), len(switches)
    y_of = np.zeros((n, d + n + 1))  # each variable as a row over (z, kept relu, 1)
    kept: list[np.ndarray] = []

    def over(rows: np.ndarray) -> np.ndarray:
        made = rows[..., d:-1] @ y_of
        made[..., :d] += rows[..., :d]
        made[..., -1] += rows[..., -1]
        return made

    for i in range(n):
        row, yes, no = over(switches[i]), over(above[i]), over(below[i])
        if not np.any(row[:-1]) and (row[-1] != 0 or np.array_equal(yes, no)):
            y_of[i] = (yes - no) * (row[-1] > 0)
            continue
        tolerance = _ROUNDING * eps * np.max(np.abs([yes, no]))
        slope, y_of[i] = _opening(yes - no, row, kept, d, tolerance)
        j, ratio = _multiple(row, kept)
        y_of[i, d + j] += slope * abs(ratio)
        if j == len(kept):
            kept.append(row)
        elif ratio < 0:
            y_of[i] += slope * ratio * kept[j]
    m = len(kept)
    rows, image = np.reshape(kept, (m, d + n + 1)), over(image)
    return ReluForm(
        p_z=rows[:, :d],
        p_y=rows[:, d : d + m],
        p_1=rows[:, -1],
        f_z=image[:, :d],
        f_y=image[:, d : d + m],
        f_1=image[:, -1],
    )


def _multiple(row: np.ndarray, kept: list[np.ndarray]) -> tuple[int, float]:
    """The number of a kept row and its multiple that this row is; that of a new one, and 1."""
    scale = np.max(np.abs(row))
    for j, other in enumerate(kept):
        ratio = np.sign(row @ other) * scale / np.max(np.abs(other))
        if np.max(np.abs(row - ratio * other)) <= 4 * np.finfo(float).eps * scale:
            return j, float(ratio)
    return len(kept), 1.0


def _opening(
    jump: np.ndarray, row: np.ndarray, kept: list[np.ndarray], d: int, tolerance: float
) -> tuple[float, np.ndarray]:
    """c and r for which jump 1[s > 0] = c relu(s) + r y, where s = row y and y = (z, kept, 1).

    Where s > 0 a switch that is a multiple of s, plus a constant, is open, or closed, or has its
    kink there; then the part beyond its kink, which is 0 for s <= 0, goes to r. What is left of the
    jump must be a multiple of s.
    """
    inside, beyond = jump.copy(), np.zeros_like(jump)
    slopes, small = row[:-1], np.finfo(float).tiny
    for j in reversed(range(len(kept))):
        other, weight = kept[j], inside[d + j]
        ratio = other[:-1] @ slopes / max(slopes @ slopes, small)
        gap = np.max(np.abs(other[:-1] - ratio * slopes))
        if weight == 0 or np.abs(weight) * gap > tolerance:
            continue
        unit = np.zeros_like(row)
        unit[d + j] = 1.0
        part = unit if ratio > 0 else unit - other  # relu of the switch, or of minus the switch
        if ratio * (other[-1] - ratio * row[-1]) >= 0:
            part = unit - other if ratio > 0 else unit
        else:
            beyond += weight * part
        inside -= weight * part
    slope = inside @ row / max(row @ row, small)
    if np.max(np.abs(inside - slope * row)) > tolerance:
        advice = "its two values must be equal where the condition changes"
        got = "one that jumps at the condition of a jnp.where"
        raise ValueError(validation.sentence("map_", "a continuous rule", got, advice))
    return float(slope), beyond


class _Kinks:
    """Collects the choices by the sign of s in the order met, and hands out a variable for each."""

    def __init__(self, y: jax.Array | None):
        self.y = y
        self.switches: list[jax.Array] = []
        self.above: list[jax.Array] = []
        self.below: list[jax.Array] = []
        self.count = 0

    def relu(self, s: jax.Array) -> jax.Array:
        return self.choice(s, s, jnp.zeros_like(s))

    def choice(self, s: jax.Array, above: jax.Array, below: jax.Array) -> jax.Array:
        """`above` where s > 0, else `below`."""
        start, self.count = self.count, self.count + s.size
        lists = (self.switches, self.above, self.below)
        for some, array in zip(lists, (s, above, below), strict=True):
            some.append(jnp.ravel(array))
        y = jnp.zeros(s.shape, s.dtype) if self.y is None else self.y[start : self.count]
        return below + jnp.reshape(y, s.shape)

    def apply(self, name: str, values: Sequence[Any]) -> Any:
        """max, min, abs and clamp by relu alone."""
        if name == "max":
            return values[1] + self.relu(values[0] - values[1])
        if name == "min":
            return values[0] - self.relu(values[0] - values[1])
        if name == "abs":
            return 2 * self.relu(values[0]) - values[0]
        low, x, high = values
        return self.apply("max", [self.apply("min", [x, high]), jnp.broadcast_to(low, x.shape)])


@dataclasses.dataclass(frozen=True)
class _Value:
    """An array, whether it depends on z, and whether it stands for the condition array > 0."""

    array: Any
    moving: bool
    condition: bool = False


def _evaluate(jaxpr: Any, consts: Sequence[Any], values: Sequence[_Value], kinks: _Kinks):
    """Run a traced function step by step, with the kinks opened: a list of `_Value`."""
    still = [_Value(const, False) for const in consts]
    return follow(
        jaxpr,
        still,
        values,
        lambda equation, read: _apply(equation, read, kinks),
        lambda value: _Value(value, False),
    )


def _apply(equation: Any, values: list[_Value], kinks: _Kinks) -> Sequence[_Value]:
    name, params = equation.primitive.name, equation.params
    arrays = [value.array for value in values]
    moving = any(value.moving for value in values)
    if name == "scan":
        return _scan(params, values, kinks)
    inner = params.get("jaxpr", params.get("call_jaxpr"))
    if inner is not None:
        closed = hasattr(inner, "consts")
        jaxpr, consts = (inner.jaxpr, inner.consts) if closed else (inner, ())
        return _evaluate(jaxpr, consts, values, kinks)
    if moving and name in ("max", "min", "abs", "clamp"):
        return [_Value(kinks.apply(name, arrays), True)]
    if moving and name in _ORDERS:
        return [_Value(_ORDERS[name] * (arrays[0] - arrays[1]), True, condition=True)]
    if any(value.condition for value in values) or (moving and name in ("cond", "while")):
        return [_conditional(equation, values, kinks)]
    if name == "cond":
        branch = params["branches"][int(arrays[0])]
        return _evaluate(branch.jaxpr, branch.consts, values[1:], kinks)
    if moving:
        _require_linear(name, params, values)
    return [_Value(result, moving) for result in bind(equation, arrays)]


def _conditional(equation: Any, values: list[_Value], kinks: _Kinks) -> _Value:
    """A choice by a condition that depends on z, or a condition that is moved about or negated."""
    name, arrays = equation.primitive.name, [value.array for value in values]
    if name == "select_n" and not any(value.condition for value in values[1:]):
        s, no, yes = arrays
        s = jnp.broadcast_to(s, no.shape)
        return _Value(kinks.choice(s, yes, no), True)
    if name in _MOVES:
        return _Value(bind(equation, arrays)[0], True, condition=True)
    if name == "not":
        return _Value(-arrays[0], True, condition=True)
    advice = "write kinks with relu, maximum, minimum, abs, clip or jnp.where(a > b, ...)"
    got = f"`{name}` on a condition that depends on z"
    raise ValueError(validation.sentence("map_", "a continuous rule", got, advice))


def _require_linear(name: str, params: dict[str, Any], values: list[_Value]) -> None:
    """Raise unless the operation is affine in those of its operands that depend on z."""
    moving = [i for i, value in enumerate(values) if value.moving]
    linear = name in _LINEAR or set(moving) <= set(_LINEAR_IN.get(name, ()))
    if name == "convert_element_type":
        linear = jnp.issubdtype(params["new_dtype"], jnp.floating)
    if not linear and not (name in _BILINEAR and len(moving) == 1):
        got = f"`{name}`, which is not affine in z"
        advice = "its nonlinearities may be relu, maximum, minimum, abs, clip and where only"
        raise ValueError(validation.sentence("map_", "a piecewise-linear map", got, advice))


def _scan(params: dict[str, Any], values: list[_Value], kinks: _Kinks) -> list[_Value]:
    """A scan, unrolled."""
    fixed, carried = params["num_consts"], params["num_carry"]
    body, length = params["jaxpr"], params["length"]
    consts, carry, xs = values[:fixed], values[fixed : fixed + carried], values[fixed + carried :]
    results: list[Any] = [None] * length
    for i in reversed(range(length)) if params["reverse"] else range(length):
        given = [*consts, *carry, *(dataclasses.replace(x, array=x.array[i]) for x in xs)]
        made = _evaluate(body.jaxpr, body.consts, given, kinks)
        carry, results[i] = made[:carried], made[carried:]
    stacked = [
        _Value(
            jnp.stack([y.array for y in column]),
            any(y.moving for y in column),
            any(y.condition for y in column),
        )
        for column in zip(*results, strict=True)
    ]
    return [*carry, *stacked]
