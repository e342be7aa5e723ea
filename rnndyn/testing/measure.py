"""What the checks measure, compiled once a cell, and how they compare and complain."""

import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np

from rnndyn.cells.base import Cell
from rnndyn.core.pytree import flatten, unflatten
from rnndyn.flow.carry import CarryStep
from rnndyn.maps import Map

CANDIDATES = 4  # points to difference at; the smoothest counts, so that no kink is straddled
_DIFFERENCES = 64


def examples(cell: Cell, key: jax.Array) -> tuple[Any, Any, jax.Array]:
    """Params, states moved off a short run by noise in every coordinate, and inputs: 4 of each."""
    params = [cell.init(k) for k in jax.random.split(key, CANDIDATES)]
    params = jax.tree.map(lambda *leaves: jnp.stack(leaves), *params)
    noise = functools.partial(gaussian, key, dtype=jax.tree.leaves(params)[0].dtype)
    size = jax.eval_shape(lambda: flatten(cell.initial_state(cell.init(key)))).size
    inputs = noise((CANDIDATES, 4, cell.input_size))
    return params, _moved(cell, params, inputs[:, 1:], noise((CANDIDATES, size)) / 2), inputs[:, 0]


@jax.jit
def _moved(cell: Cell, params: Any, inputs: jax.Array, noise: jax.Array) -> Any:
    def one(params: Any, inputs: jax.Array, noise: jax.Array) -> Any:
        state = cell.initial_state(params)
        state, _ = jax.lax.scan(lambda s, x: (cell.step(params, s, x), None), state, inputs)
        return unflatten(flatten(state) + noise, state)

    return jax.vmap(one)(params, inputs, noise)


def gaussian(key: jax.Array, shape: tuple[int, ...], dtype: Any) -> jax.Array:
    """Standard normal numbers, drawn on the host: nothing to compile for every shape."""
    generator = np.random.default_rng(np.asarray(jax.random.key_data(key)))
    return jnp.asarray(generator.normal(size=shape), dtype)


def example(cell: Cell, key: jax.Array) -> tuple[Any, Any, jax.Array]:
    """The first of `examples`."""
    return jax.tree.map(lambda leaf: leaf[0], examples(cell, key))


@jax.jit
def step_once(cell: Cell, params: Any, state: Any, x: jax.Array) -> Any:
    return cell.step(params, state, x)


@jax.jit
def carried(cell: Cell, params: Any, state: Any, x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The value and the derivative of the step along its carry."""
    rule = CarryStep(cell)
    slope = jax.jacfwd(rule)(flatten(state), (state, x, None), params)
    return rule(flatten(state), (state, x, None), params), slope


@jax.jit
def held(map_: Map, z: jax.Array) -> tuple[jax.Array, jax.Array]:
    return map_(z), map_.jacobian(z)


@jax.jit
def jacobians(cell: Cell, params: Any, states: Any, xs: jax.Array) -> tuple[jax.Array, ...]:
    """Forward, reverse, and differences of two lengths, at each of `examples`."""

    def one(params: Any, state: Any, x: jax.Array) -> tuple[jax.Array, ...]:
        z = flatten(state)

        def step(z: jax.Array) -> jax.Array:
            return flatten(cell.step(params, unflatten(z, state), x))

        def differences(width: float) -> jax.Array:
            moves = width * jnp.eye(z.size, dtype=z.dtype)
            slope = jax.vmap(lambda move: (step(z + move) - step(z - move)) / (2 * width))
            return slope(moves).T

        width = _width(z.dtype)
        both = differences(width), differences(2 * width)
        return jax.jacfwd(step)(z), jax.jacrev(step)(z), *both

    return jax.vmap(one)(params, states, xs)


@jax.jit
def slopes(
    cell: Cell, params: Any, states: Any, xs: jax.Array, targets: jax.Array, weights: jax.Array
) -> tuple[Any, jax.Array, jax.Array, jax.Array]:
    """Gradient of a loss of a run, its slope in a direction, and differences of two lengths.

    The loss is the sum of targets times outputs; the direction is made of `weights`.
    """

    def loss(params: Any, state: Any) -> jax.Array:
        def advance(state, x):
            state = cell.step(params, state, x)
            return state, cell.output(state)

        return jnp.sum(targets * jax.lax.scan(advance, state, xs)[1])

    def one(params: Any, state: Any) -> tuple[Any, jax.Array, jax.Array, jax.Array]:
        flat, rebuild = jax.flatten_util.ravel_pytree(params)
        direction = jnp.resize(weights, flat.shape) / flat.size**0.5

        def difference(width: float) -> jax.Array:
            ahead = loss(rebuild(flat + width * direction), state)
            return (ahead - loss(rebuild(flat - width * direction), state)) / (2 * width)

        width = _width(flat.dtype)
        gradient = jax.grad(loss)(params, state)
        slope = jax.flatten_util.ravel_pytree(gradient)[0] @ direction
        return gradient, slope, difference(width), difference(2 * width)

    return jax.vmap(one)(params, states)


@jax.jit
def poisoned(
    cell: Cell, params: Any, state: Any, x: jax.Array, nan: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Per coordinate, input and leaf of params: NaN came out; the next state depends on it."""
    # nan is an argument because XLA may fold a constant NaN away

    def step(z: jax.Array, x: jax.Array, params: Any) -> jax.Array:
        return flatten(cell.step(params, unflatten(z, state), x))

    def one_by_one(vector: jax.Array, replaced: Callable[[jax.Array], jax.Array]) -> jax.Array:
        rows = jnp.where(jnp.eye(vector.size, dtype=bool), nan.astype(vector.dtype), vector[None])
        return jax.vmap(lambda row: jnp.any(jnp.isnan(replaced(row))))(rows)

    z = flatten(state)
    leaves, structure = jax.tree.flatten(params)
    seen_leaves = []
    for number, leaf in enumerate(leaves):
        poisoned = leaves[:number] + [jnp.full_like(leaf, nan)] + leaves[number + 1 :]
        after = step(z, x, jax.tree.unflatten(structure, poisoned))
        seen_leaves.append(jnp.any(jnp.isnan(after)))
    by_z, by_x, by_params = jax.jacrev(step, argnums=(0, 1, 2))(z, x, params)
    matters = [jnp.any(by_z != 0, axis=0), jnp.any(by_x != 0, axis=0)]
    matters += [jnp.any(leaf != 0)[None] for leaf in jax.tree.leaves(by_params)]
    seen = [one_by_one(z, lambda row: step(row, x, params))]
    seen += [one_by_one(x, lambda row: step(z, row, params)), jnp.stack(seen_leaves)]
    return jnp.concatenate(seen), jnp.concatenate(matters)


@jax.jit
def products(free: Any, v: jax.Array) -> tuple[jax.Array, jax.Array]:
    push = jax.vmap(lambda at: free.push(at, v))
    pull = jax.vmap(lambda at: free.pull(at, v))
    return push(free.slices), pull(free.slices)


def _width(dtype: Any) -> float:
    return float(jnp.finfo(dtype).eps) ** (1 / 3)


def smoothest(fine: jax.Array, coarse: jax.Array) -> int:
    """The point whose differences depend least on their length: no kink between its ends."""
    return int(np.argmin(np.abs(fine - coarse).reshape(len(fine), -1).max(axis=1)))


def require(passed: Any, expected: Any, got: Any) -> None:
    if not passed:
        raise AssertionError(f"expected {expected}, got {got}")


def close(what: str, got: Any, expected: Any, multiple: float) -> None:
    _within(what, got, expected, multiple * float(jnp.finfo(expected.dtype).eps))


def close_to_differences(what: str, got: jax.Array, expected: jax.Array) -> None:
    _within(what, got, expected, _DIFFERENCES * float(jnp.finfo(expected.dtype).eps) ** (2 / 3))


def _within(what: str, got: Any, expected: Any, relative: float) -> None:
    error = float(np.max(np.abs(np.asarray(got) - np.asarray(expected)), initial=0.0))
    allowed = relative * max(1.0, float(np.max(np.abs(expected), initial=0.0)))
    said = f"{what} within {allowed:.1e} of {np.asarray(expected)}"
    require(error <= allowed, said, f"{np.asarray(got)} (off by {error:.1e})")


def described(tree: Any) -> list[str]:
    return [
        f"{jax.tree_util.keystr(path)}: {leaf.dtype}{list(leaf.shape)}"
        + (" of weak type" if getattr(leaf, "weak_type", False) else "")
        for path, leaf in jax.tree.leaves_with_path(tree)
    ]


def declared(node: Any) -> Iterator[Any]:
    """The leaves by declared fields, not by what the class told JAX."""
    if dataclasses.is_dataclass(node):
        for field in dataclasses.fields(node):
            if not field.metadata.get("static"):
                yield from declared(getattr(node, field.name))
    else:
        yield from jax.tree.leaves(node)


def integers(state: Any) -> list[np.ndarray]:
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(state)]
    return [leaf for leaf in leaves if not jnp.issubdtype(leaf.dtype, jnp.inexact)]


def vector(params: Any) -> np.ndarray:
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(params)])


def identical(one: Any, other: Any) -> bool:
    same = jax.tree.structure(one) == jax.tree.structure(other)
    pairs = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=False)
    return same and all(np.array_equal(a, b) for a, b in pairs)
