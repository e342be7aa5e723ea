"""Maps z -> F(z): what every analysis of fixed points and bifurcations works on.

A `Map` is a rule (static, compared by value or identity) with its args (differentiable arrays).
A cell at constant input is one (`hold`), so is the n-th iterate of another (`iterate`), and so
are the textbook maps below, whose fixed points, exponents and bifurcations are known exactly.
"""

import inspect
from collections.abc import Callable, Hashable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rnndyn.cells.base import Cell
from rnndyn.cells.containers import require_cell, require_params
from rnndyn.core import validation
from rnndyn.core.pytree import flatten, pytree, specification, static, unflatten


@pytree
class Map:
    """A map z -> rule(z, args) of flat vectors.

    Attributes
    ----------
    rule : callable, static
        `rule(z, args) -> z`, pure, z of shape (d,). Static in jit: pass a module-level function
        or a hashable object; a fresh lambda is another rule and compiles again.
    args : pytree
        Whatever the rule depends on; analyses differentiate with respect to it.

    Examples
    --------
    >>> import jax.numpy as jnp, rnndyn as rd
    >>> def logistic(z, r):
    ...     return r * z * (1 - z)
    >>> float(rd.Map(logistic, 2.0)(jnp.array([0.25]))[0])
    0.375
    """

    rule: Callable[[jax.Array, Any], jax.Array] = static()
    args: Any = None

    def __post_init__(self) -> None:
        advice = "write it as `def rule(z, args)`, and let it ignore args if it has none"
        if not (callable(self.rule) and isinstance(self.rule, Hashable)):
            expected = "a function that can be hashed"
            raise TypeError(validation.sentence("rule", expected, repr(self.rule), advice))
        if not _takes_two(self.rule):
            got = f"{self.rule!r}, which cannot be called so"
            raise TypeError(validation.sentence("rule", "a function of z and args", got, advice))

    def __call__(self, z: jax.Array) -> jax.Array:
        """F(z), shape (d,)."""
        return self.rule(z, self.args)

    def jacobian(self, z: jax.Array) -> jax.Array:
        """dF/dz at z, shape (d, d): entry (i, j) is dF_i/dz_j. Cost: d forward derivatives."""
        return jax.jacfwd(self.rule)(z, self.args)

    def unflatten(self, z: jax.Array) -> Any:
        """The cell's state whose flat vector is z; z itself for a map that is not a cell's."""
        rule = self.rule.rule if isinstance(self.rule, Iterated) else self.rule
        return rule.state(z, self.args) if isinstance(rule, HeldCell) else z


@specification
class HeldCell:
    """The rule of a cell at constant input, over one full period of its clock."""

    cell: Cell

    def __call__(self, z: jax.Array, args: tuple[Any, jax.Array]) -> jax.Array:
        params, x = args

        def advance(state: Any, _: None) -> tuple[Any, None]:
            return self.cell.step(params, state, x), None

        state = self.state(z, args)
        if self.cell.period == 1:
            return flatten(advance(state, None)[0])
        return flatten(jax.lax.scan(advance, state, length=self.cell.period)[0])

    def state(self, z: jax.Array, args: tuple[Any, jax.Array]) -> Any:
        return unflatten(z, self.cell.initial_state(args[0]))


@specification
class Iterated:
    """The rule of the n-th iterate."""

    rule: Callable[[jax.Array, Any], jax.Array]
    n: int

    def __call__(self, z: jax.Array, args: Any) -> jax.Array:
        return jax.lax.scan(lambda z, _: (self.rule(z, args), None), z, length=self.n)[0]


def hold(cell: Cell, params: Any, x: jax.Array) -> Map:
    """The autonomous map of a cell at constant input.

    Parameters
    ----------
    cell : Cell
    params : pytree
    x : jax.Array, shape (m,)
        The input that is held.

    Returns
    -------
    Map
        On flat vectors z (d,), with `args = (params, x)`. Of a clocked cell it is the map over
        one full period, started at the clock of `initial_state` (stroboscopic map).

    Raises
    ------
    ValueError, TypeError
        If x does not have shape (m,) or is not real floating point, or if the cell's clock never
        returns (`cell.period` is None).

    Examples
    --------
    >>> import jax, jax.numpy as jnp, rnndyn as rd
    >>> cell = rd.cells.Vanilla(3, 8)
    >>> quiet = rd.hold(cell, cell.init(jax.random.key(0)), x=jnp.zeros(3))
    >>> quiet(jnp.zeros(8)).shape
    (8,)
    """
    require_cell("cell", cell)
    if cell.period is None:
        expected, got = "a cell whose clock returns", f"{type(cell).__name__}, with period None"
        advice = "its step depends on absolute time, so it has no autonomous map; linearize a run"
        raise ValueError(validation.sentence("cell", expected, got, advice))
    require_params(cell, params)
    x = jnp.asarray(x)
    validation.require_shape("x", x, (cell.input_size,), "hold one input of the cell's input_size")
    validation.require_real("x", x)
    return Map(HeldCell(cell), (params, x))


def iterate(map_: Map, n: int) -> Map:
    """The n-th iterate z -> F(F(...F(z))): a cycle of period n is a fixed point of it.

    Parameters
    ----------
    map_ : Map
    n : int, at least 1

    Returns
    -------
    Map
        With the same args, so derivatives with respect to them mean the same thing.

    Examples
    --------
    >>> import jax.numpy as jnp, rnndyn as rd
    >>> float(rd.iterate(rd.maps.logistic(2.0), 2)(jnp.array([0.25]))[0])
    0.46875
    """
    require_map(map_)
    n = validation.require_int("n", n, 1, "a cycle has at least one point")
    if isinstance(map_.rule, Iterated):
        return Map(Iterated(map_.rule.rule, map_.rule.n * n), map_.args)
    return Map(Iterated(map_.rule, n), map_.args)


def orbit(map_: Map, z0: jax.Array, steps: int) -> jax.Array:
    """The points z0, F(z0), F(F(z0)), ...

    Parameters
    ----------
    map_ : Map
    z0 : jax.Array, shape (d,)
    steps : int, at least 0; static

    Returns
    -------
    jax.Array, shape (steps + 1, d)

    Examples
    --------
    >>> import jax.numpy as jnp, rnndyn as rd
    >>> rd.orbit(rd.maps.logistic(2.0), jnp.array([0.25]), 2).ravel().tolist()
    [0.25, 0.375, 0.46875]
    """
    require_map(map_)
    steps = validation.require_int("steps", steps, 0, "0 gives the start alone")
    z0 = jnp.asarray(z0)
    validation.require_shape("z0", z0, ("d",), "pass one flat vector and vmap over several")
    validation.require_real("z0", z0)
    require_states("z0", z0, map_)
    return _orbit(map_, z0, steps)


def require_map(map_: Any) -> None:
    """Raise TypeError unless it is a Map."""
    if not isinstance(map_, Map):
        advice = "wrap a function of z and args as rd.Map(rule, args), hold a cell by rd.hold"
        raise TypeError(validation.sentence("map_", "a Map", f"a {type(map_).__name__}", advice))


def require_states(name: str, z: jax.Array, map_: Any) -> None:
    """Raise unless `map_` is a Map that sends vectors like the rows of z to vectors like them."""
    require_map(map_)
    row = jax.ShapeDtypeStruct(z.shape[-1:], z.dtype)
    image = jax.eval_shape(evaluate, map_, row)
    advice = f"{name} must be flat states of this map (rd.flatten, rd.sample_states)"
    validation.require_shape("F(z)", image, row.shape, advice)
    validation.require_same_dtype(name, z, "F(z)", image.dtype)


@jax.jit
def evaluate(map_: Map, z: jax.Array) -> jax.Array:
    """F(z). As a jitted function it is traced once however often an analysis mentions it."""
    return map_(z)


def _takes_two(rule: Callable) -> bool:
    try:
        inspect.signature(rule).bind(None, None)
    except ValueError:  # a builtin that does not tell
        return True
    except TypeError:
        return False
    return True


@jax.jit(static_argnames="steps")
def _orbit(map_: Map, z0: jax.Array, steps: int) -> jax.Array:
    def advance(z, _):
        z = map_(z)
        return z, z

    _, points = jax.lax.scan(advance, z0, length=steps)
    return jnp.concatenate([z0[None], points])


def logistic(r: float | jax.Array) -> Map:
    """z' = r z (1 - z) (May 1976)."""
    return Map(_logistic, jnp.asarray(r, float))


def henon(a: float | jax.Array = 1.4, b: float | jax.Array = 0.3) -> Map:
    """x' = 1 - a x^2 + y, y' = b x; the Jacobian's determinant is -b (Henon 1976)."""
    return Map(_henon, (jnp.asarray(a, float), jnp.asarray(b, float)))


def delayed_logistic(r: float | jax.Array) -> Map:
    """x' = r x (1 - y), y' = x: Neimark-Sacker at r = 2 (Kuznetsov 2004, sec. 4.7)."""
    return Map(_delayed_logistic, jnp.asarray(r, float))


def cat() -> Map:
    """Arnold's cat map (x, y) -> (2x + y, x + y) mod 1: exponents +-ln((3 + sqrt 5)/2)."""
    return Map(_cat, None)


def skew_tent(a: float | jax.Array, b: float | jax.Array, mu: float | jax.Array = 1.0) -> Map:
    """z' = mu + a z for z <= 0, mu + b z for z > 0 (Nusse & Yorke 1995); (2, -2) is the tent."""
    return Map(_skew_tent, tuple(jnp.asarray(x, float) for x in (a, b, mu)))


def border_collision(
    left: tuple[Any, Any], right: tuple[Any, Any], mu: float | jax.Array = 1.0
) -> Map:
    """x' = tau x + y + mu, y' = -delta x, with (tau, delta) = left for x <= 0 and right for x > 0.

    The normal form of a border collision in the plane (Nusse & Yorke 1992); the Jacobians have
    trace tau and determinant delta.
    """
    for name, side in (("left", left), ("right", right)):
        validation.require_shape(name, side, (2,), "pass the pair (trace, determinant)")
    sides = (jnp.stack([jnp.asarray(x, float) for x in side]) for side in (left, right))
    return Map(_border_collision, (*sides, jnp.asarray(mu, float)))


def tanh_network(w: jax.Array, b: jax.Array | float = 0.0) -> Map:
    """z' = tanh(W z + b), W of shape (d, d)."""
    w = jnp.asarray(w, float)
    advice = "pass one square matrix, and b of its size or one number"
    validation.require_shape("w", w, ("d", "d"), advice)
    validation.require_shape("w", w, (len(w), len(w)), advice)
    validation.require_shape("b", b, (len(w),) if np.ndim(b) else (), advice)
    return Map(_tanh_network, (w, jnp.broadcast_to(jnp.asarray(b, float), w.shape[:1])))


def _logistic(z, r):
    return r * z * (1 - z)


def _henon(z, args):
    a, b = args
    return jnp.stack([1 - a * z[0] ** 2 + z[1], b * z[0]])


def _delayed_logistic(z, r):
    return jnp.stack([r * z[0] * (1 - z[1]), z[0]])


def _cat(z, _):
    return jnp.stack([2 * z[0] + z[1], z[0] + z[1]]) % 1.0


def _skew_tent(z, args):
    a, b, mu = args
    return mu + a * jnp.minimum(z, 0) + b * jnp.maximum(z, 0)


def _border_collision(z, args):
    left, right, mu = args
    tau, delta = left * jnp.minimum(z[0], 0) + right * jnp.maximum(z[0], 0)
    return jnp.stack([tau + z[1] + mu, -delta])


def _tanh_network(z, args):
    w, b = args
    return jnp.tanh(w @ z + b)
