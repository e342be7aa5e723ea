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
from rnndyn.core.once import once
from rnndyn.core.pytree import flatten, unflatten
from rnndyn.flow.carry import CarryStep
from rnndyn.maps import Map

CANDIDATES = 4  # points to difference at; the smoothest counts, so that no kink is straddled
_DIFFERENCES = 64


def examples(cell: Cell, key: jax.Array) -> tuple[Any, Any, jax.Array]:
    """Params, states moved off a short run by noise in every coordinate, and inputs: 4 of each."""
    data = tuple(jax.random.key_data(key).tolist())
    return _examples(cell, data, jax.random.key_impl(key), jnp.zeros(()).dtype)


@functools.lru_cache(maxsize=4)  # every check of a cell wants the same
def _examples(
    cell: Cell, data: tuple[int, ...], impl: Any, dtype: Any
) -> tuple[Any, Any, jax.Array]:
    del dtype  # tells what is kept in one precision from what is asked for in another
    key = jax.random.wrap_key_data(jnp.array(data, jnp.uint32), impl=impl)
    drawn = [cell.init(jax.random.fold_in(key, number)) for number in range(CANDIDATES)]
    params = jax.tree.map(lambda *leaves: jnp.asarray(np.stack(leaves)), *drawn)
    noise = functools.partial(gaussian, key, dtype=jax.tree.leaves(params)[0].dtype)
    size = jax.eval_shape(lambda params: flatten(cell.initial_state(params)), drawn[0]).size
    inputs = np.asarray(noise((CANDIDATES, 4, cell.input_size)))
    first, later = jnp.asarray(inputs[:, 0]), jnp.asarray(inputs[:, 1:])
    return params, _moved(cell, params, later, noise((CANDIDATES, size)) / 2), first


@once
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
    return row(examples(cell, key), 0)


def row(tree: Any, number: int) -> Any:
    """One entry of every leaf, taken on the host: nothing to compile for every shape."""
    return jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf)[number]), tree)


@jax.jit
def step_once(cell: Cell, params: Any, state: Any, x: jax.Array) -> Any:
    return cell.step(params, state, x)


@once
def carried(cell: Cell, params: Any, state: Any, x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The value and the derivative of the step along its carry."""
    rule = CarryStep(cell)
    slope = jax.jacfwd(rule)(flatten(state), (state, x, None), params)
    return rule(flatten(state), (state, x, None), params), slope


@once
def held(map_: Map, z: jax.Array) -> tuple[jax.Array, jax.Array]:
    return map_(z), map_.jacobian(z)


@once
def jacobians(cell: Cell, params: Any, states: Any, xs: jax.Array) -> tuple[jax.Array, ...]:
    """Forward, reverse, and differences of two lengths, at each of `examples`."""

    def one(params: Any, state: Any, x: jax.Array) -> tuple[jax.Array, ...]:
        z = flatten(state)

        def step(z: jax.Array) -> jax.Array:
            return flatten(cell.step(params, unflatten(z, state), x))

        slopes = _differences(step, z, jnp.eye(z.size, dtype=z.dtype))
        return jax.jacfwd(step)(z), jax.jacrev(step)(z), *slopes.mT

    return jax.vmap(one)(params, states, xs)


@once
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
        # one program for all five places: the loss is traced and compiled once
        moves = jnp.pad(_lengths(flat.dtype), (1, 0))[:, None] * direction[None]
        ask = jax.value_and_grad(lambda flat: loss(rebuild(flat), state))
        values, gradients = jax.vmap(ask)(flat[None] + moves)
        return rebuild(gradients[0]), gradients[0] @ direction, *_quotients(values[1:])

    return jax.vmap(one)(params, states)


def _differences(f: Callable[[jax.Array], jax.Array], at: jax.Array, moves: jax.Array) -> jax.Array:
    """(2, moves, ...): central differences of two lengths along each move; f is traced once."""
    ends = at[None, None] + _lengths(at.dtype)[:, None, None] * moves[None]
    return _quotients(jax.vmap(jax.vmap(f))(ends))


def _lengths(dtype: Any) -> jax.Array:
    width = float(jnp.finfo(dtype).eps) ** (1 / 3)
    return jnp.asarray([width, -width, 2 * width, -2 * width], dtype)


def _quotients(ends: jax.Array) -> jax.Array:
    """(2, ...): central differences of values at the four `_lengths`."""
    width = float(jnp.finfo(ends.dtype).eps) ** (1 / 3)
    return jnp.stack([(ends[0] - ends[1]) / (2 * width), (ends[2] - ends[3]) / (4 * width)])


@once
def poisoned(
    cell: Cell, params: Any, state: Any, x: jax.Array, nan: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Per coordinate, input and leaf of params: NaN came out; the next state depends on it."""
    # nan is an argument because XLA may fold a constant NaN away

    def step(z: jax.Array, x: jax.Array, params: Any) -> jax.Array:
        return flatten(cell.step(params, unflatten(z, state), x))

    z = flatten(state)
    leaves, structure = jax.tree.flatten(params)

    def seen(number: jax.Array) -> jax.Array:
        """Whether NaN comes out where coordinate, input or leaf `number` is NaN."""

        def poison(vector: jax.Array, first: int) -> jax.Array:
            chosen = first + jnp.arange(vector.size) == number
            return jnp.where(chosen, nan.astype(vector.dtype), vector)

        bad = [
            jnp.where(number == z.size + x.size + place, nan.astype(leaf.dtype), leaf)
            for place, leaf in enumerate(leaves)
        ]
        after = step(poison(z, 0), poison(x, z.size), jax.tree.unflatten(structure, bad))
        return jnp.any(jnp.isnan(after))

    by_z, by_x, by_params = jax.jacrev(step, argnums=(0, 1, 2))(z, x, params)
    matters = [jnp.any(by_z != 0, axis=0), jnp.any(by_x != 0, axis=0)]
    matters += [jnp.any(leaf != 0)[None] for leaf in jax.tree.leaves(by_params)]
    return jax.vmap(seen)(jnp.arange(z.size + x.size + len(leaves))), jnp.concatenate(matters)


@once
def products(free: Any, v: jax.Array) -> tuple[jax.Array, jax.Array]:
    push = jax.vmap(lambda at: free.push(at, v))
    pull = jax.vmap(lambda at: free.pull(at, v))
    return push(free.slices), pull(free.slices)


def smoothest(fine: np.ndarray, coarse: np.ndarray) -> int:
    """The point whose differences depend least on their length: no kink between its ends."""
    return int(np.argmin(np.abs(fine - coarse).reshape(len(fine), -1).max(axis=1)))


def require(passed: Any, expected: Any, got: Any) -> None:
    if not passed:
        raise AssertionError(f"expected {expected}, got {got}")


def close(what: str, got: Any, expected: Any, multiple: float) -> None:
    _within(what, got, expected, multiple * float(jnp.finfo(expected.dtype).eps))


def close_to_differences(what: str, got: Any, expected: Any) -> None:
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


def vector(tree: Any) -> np.ndarray:
    """The real leaves one after another, joined on the host."""
    leaves = [leaf for leaf in jax.tree.leaves(tree) if jnp.issubdtype(leaf.dtype, jnp.inexact)]
    return np.concatenate([np.ravel(leaf) for leaf in leaves])


def identical(one: Any, other: Any) -> bool:
    same = jax.tree.structure(one) == jax.tree.structure(other)
    pairs = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=False)
    return same and all(np.array_equal(a, b) for a, b in pairs)
