"""The leaf, and the block of its rows, that a constraint acts on."""

import dataclasses
import math
from typing import Any

import jax

from rnndyn.core import validation


def leaf_at(tree: Any, where: str) -> Any:
    """The part of a tree at a path of field names, keys and indices, such as "layers.0.w_h".

    Raises
    ------
    ValueError
        If there is no such part; the message names what is there.
    """
    for name in where.split("."):
        names = _children(tree)
        if name not in names:
            expected = f"a path through {', '.join(names) or 'no names'} at `{name}`"
            advice = "name a leaf by its fields, such as 'layers.0.w_h'"
            raise ValueError(validation.sentence("where", expected, repr(where), advice))
        tree = names[name]
    return tree


def replace_leaf(tree: Any, where: str, value: Any) -> Any:
    """The tree with the part at a path replaced, all else as it was."""
    name, _, rest = where.partition(".")
    child = leaf_at(tree, name)
    value = replace_leaf(child, rest, value) if rest else value
    if isinstance(tree, dict):
        return type(tree)({key: value if str(key) == name else old for key, old in tree.items()})
    if hasattr(tree, "_replace"):
        return tree._replace(**{name: value})
    if isinstance(tree, (tuple, list)):
        return type(tree)(value if str(i) == name else old for i, old in enumerate(tree))
    return dataclasses.replace(tree, **{name: value})


def _children(tree: Any) -> dict[str, Any]:
    if dataclasses.is_dataclass(tree):
        return {field.name: getattr(tree, field.name) for field in dataclasses.fields(tree)}
    if isinstance(tree, dict):
        return {str(key): child for key, child in tree.items()}
    if hasattr(tree, "_fields"):
        return {name: getattr(tree, name) for name in tree._fields}
    if isinstance(tree, (tuple, list)):
        return {str(index): child for index, child in enumerate(tree)}
    return {}


def current(where: str, updates: Any, params: Any) -> tuple[jax.Array, jax.Array]:
    if params is None:
        advice = "call update(updates, state, params): the constraint is on the params"
        raise ValueError(validation.sentence("params", "the params", "None", advice))
    return leaf_at(params, where), leaf_at(updates, where)


def block_of(leaf: jax.Array, block: tuple[int, int]) -> jax.Array:
    index, count = block
    if leaf.ndim != 2 or leaf.shape[0] % count:
        expected = f"a matrix of {count} equal blocks of rows"
        got = f"shape {validation.shape_text(leaf.shape)}"
        raise ValueError(validation.sentence("where", expected, got, "name another leaf or block"))
    rows = leaf.shape[0] // count
    return leaf[index * rows : (index + 1) * rows]


def with_block(leaf: jax.Array, block: tuple[int, int], value: jax.Array) -> jax.Array:
    index, count = block
    rows = leaf.shape[0] // count
    return leaf.at[index * rows : (index + 1) * rows].set(value)


def require_positive(name: str, value: float, advice: str) -> None:
    validation.require_range(name, value, 0.0, math.inf, advice, open_low=True, open_high=True)


def require_block(block: Any) -> None:
    whole = isinstance(block, tuple) and len(block) == 2 and all(type(i) is int for i in block)
    if not whole or not 0 <= block[0] < block[1]:
        advice = "(2, 3) is the third of three blocks of rows, (0, 1) the whole leaf"
        got = repr(block)
        expected = "(index, count) with 0 <= index < count"
        raise ValueError(validation.sentence("block", expected, got, advice))
