"""A piecewise-linear map as matrices, read off its own code.

Every continuous piecewise-linear map is an affine function of its input and of ReLUs of affine
functions, each of which may use the ReLUs before it:

    s = P z + Q relu(s) + p,   F(z) = C z + D relu(s) + c,   Q strictly lower triangular

(the abs-normal form of Griewank, Bernt, Radons & Streubel 2015, with relu for abs). The map is
traced, its maxima, minima and absolute values are replaced by new variables y = relu(s), and what
is left must be affine in (z, y).
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Literal

from rnndyn.core import validation
from rnndyn.maps import Map

_ROUNDING = 1024  # multiple of eps to which the rest must be affine


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
        maximum, minimum, abs and clip.
    """
    dtypes = [jnp.result_type(leaf) for leaf in jax.tree.leaves(map_.args)]
    dtypes = [dtype for dtype in dtypes if jnp.issubdtype(dtype, jnp.floating)]
    z = jnp.zeros((size,), jnp.result_type(*dtypes) if dtypes else float)
    traced = jax.make_jaxpr(map_.rule)(z, map_.args)
    rest = jax.tree.leaves(map_.args)

    def opened(z: jax.Array, y: jax.Array | None) -> tuple[jax.Array, jax.Array]:
        kinks = _Kinks(y)
        values = [_Value(z, True), *(_Value(leaf, False) for leaf in rest)]
        (image,) = _evaluate(traced.jaxpr, traced.consts, values, kinks)
        found = [jnp.zeros((0,), z.dtype), *kinks.switches]
        return image.array, jnp.concatenate(found)

    image, switches = opened(z, None)
    advice = "the box must have one bound for each coordinate of z"
    validation.require_shape("F(z)", image, (size,), advice)
    y = jnp.zeros(switches.shape, z.dtype)
    constant = opened(z, y)
    (f_z, f_y), (p_z, p_y) = jax.jacfwd(opened, argnums=(0, 1))(z, y)
    form = ReluForm(*(np.asarray(a, float) for a in (p_z, p_y, constant[1], f_z, f_y, constant[0])))
    _require_affine(opened, form, z.dtype)
    return _folded(form)


def _folded(form: ReluForm) -> ReluForm:
    """The same map without switches that are constant or a multiple of another one.

    relu(c s) is c relu(s) for c > 0 and |c| (relu(s) - s) for c < 0. Positive and negative part
    of a unit would otherwise be two switches, with patterns that exist only on their border.
    """
    n, d = form.p_z.shape
    y_of = np.zeros((n, d + n + 1))  # each relu(s_i) as a row over (z, kept relu, 1)
    kept: list[np.ndarray] = []
    for i in range(n):
        row = form.p_y[i] @ y_of
        row[:d] += form.p_z[i]
        row[-1] += form.p_1[i]
        if not np.any(row[:-1]):
            y_of[i, -1] = max(row[-1], 0.0)
            continue
        scale = np.max(np.abs(row))
        for j, other in enumerate(kept):
            sign = np.sign(row @ other)
            ratio = sign * scale / np.max(np.abs(other))
            if np.max(np.abs(row - ratio * other)) <= 4 * np.finfo(float).eps * scale:
                y_of[i, d + j] = abs(ratio)
                y_of[i] -= abs(ratio) * other * (sign < 0)
                break
        else:
            y_of[i, d + len(kept)] = 1.0
            kept.append(row)
    m = len(kept)
    rows = np.reshape(kept, (m, d + n + 1))
    image = form.f_y @ y_of
    return ReluForm(
        p_z=rows[:, :d],
        p_y=rows[:, d : d + m],
        p_1=rows[:, -1],
        f_z=form.f_z + image[:, :d],
        f_y=image[:, d : d + m],
        f_1=form.f_1 + image[:, -1],
    )


def _require_affine(opened: Callable, form: ReluForm, dtype: Any) -> None:
    d, n = form.f_y.shape
    matrix = np.block([[form.f_z, form.f_y], [form.p_z, form.p_y]])
    constant = np.concatenate([form.f_1, form.p_1])
    rng = np.random.default_rng(0)
    for _ in range(2):
        point = np.asarray(3 * rng.normal(size=d + n), dtype)
        got = np.concatenate([np.asarray(a) for a in opened(point[:d], point[d:])])
        gap = np.abs(got - matrix @ point - constant)
        scale = np.abs(matrix) @ np.abs(point) + np.abs(constant)
        if np.any(gap > _ROUNDING * float(np.finfo(dtype).eps) * np.maximum(scale, 1)):
            raise ValueError(
                validation.sentence(
                    "map_",
                    "a piecewise-linear map",
                    "one that is not affine between its kinks",
                    "its nonlinearities may be relu, maximum, minimum, abs and clip only",
                )
            )


class _Kinks:
    """Collects the switches s in the order met, and hands out y in place of relu(s)."""

    def __init__(self, y: jax.Array | None):
        self.y = y
        self.switches: list[jax.Array] = []
        self.count = 0

    def relu(self, s: jax.Array) -> jax.Array:
        start, self.count = self.count, self.count + s.size
        self.switches.append(jnp.ravel(s))
        y = jnp.zeros(s.shape, s.dtype) if self.y is None else self.y[start : self.count]
        return jnp.reshape(y, s.shape)

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
    """An array, and whether it depends on z."""

    array: Any
    moving: bool


def _evaluate(jaxpr: Any, consts: Sequence[Any], values: Sequence[_Value], kinks: _Kinks):
    """Run a traced function step by step, with the kinks opened: a list of `_Value`."""
    known: dict[Any, _Value] = {}
    known.update(zip(jaxpr.constvars, (_Value(const, False) for const in consts), strict=True))
    known.update(zip(jaxpr.invars, values, strict=True))

    def read(var: Any) -> _Value:
        return _Value(var.val, False) if isinstance(var, Literal) else known[var]

    for equation in jaxpr.eqns:
        results = _apply(equation, [read(var) for var in equation.invars], kinks)
        known.update(zip(equation.outvars, results, strict=True))
    return [read(var) for var in jaxpr.outvars]


def _apply(equation: Any, values: list[_Value], kinks: _Kinks) -> Sequence[_Value]:
    name, params = equation.primitive.name, equation.params
    arrays = [value.array for value in values]
    moving = any(value.moving for value in values)
    if name == "scan":
        return _scan(params, values, kinks)
    if moving and name in ("max", "min", "abs", "clamp"):
        return [_Value(kinks.apply(name, arrays), True)]
    if moving and ((name in ("select_n", "cond") and values[0].moving) or name == "while"):
        advice = "write kinks with jax.nn.relu, jnp.maximum, jnp.minimum, jnp.abs or jnp.clip"
        got = f"`{name}` on a condition that depends on z"
        raise ValueError(validation.sentence("map_", "a continuous rule", got, advice))
    if name == "cond":
        branch = params["branches"][int(arrays[0])]
        return _evaluate(branch.jaxpr, branch.consts, values[1:], kinks)
    inner = params.get("jaxpr", params.get("call_jaxpr"))
    if inner is not None:
        closed = hasattr(inner, "consts")
        jaxpr, consts = (inner.jaxpr, inner.consts) if closed else (inner, ())
        return _evaluate(jaxpr, consts, values, kinks)
    results = equation.primitive.bind(*arrays, **params)
    results = results if equation.primitive.multiple_results else [results]
    return [_Value(result, moving) for result in results]


def _scan(params: dict[str, Any], values: list[_Value], kinks: _Kinks) -> list[_Value]:
    """A scan, unrolled."""
    fixed, carried = params["num_consts"], params["num_carry"]
    body, length = params["jaxpr"], params["length"]
    consts, carry, xs = values[:fixed], values[fixed : fixed + carried], values[fixed + carried :]
    results: list[Any] = [None] * length
    for i in reversed(range(length)) if params["reverse"] else range(length):
        given = [*consts, *carry, *(_Value(x.array[i], x.moving) for x in xs)]
        made = _evaluate(body.jaxpr, body.consts, given, kinks)
        carry, results[i] = made[:carried], made[carried:]
    stacked = [
        _Value(jnp.stack([y.array for y in column]), any(y.moving for y in column))
        for column in zip(*results, strict=True)
    ]
    return [*carry, *stacked]
