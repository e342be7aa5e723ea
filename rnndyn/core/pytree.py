"""Data that flows through JAX, and states as flat vectors.

States, params and results are frozen, slotted dataclasses. Unlike a dict they keep the declared
order of their fields, which is the order of the coordinates of the flat vector z; unlike a
NamedTuple they refuse to be added, stacked or unpacked by accident.
"""

import dataclasses
import enum
from typing import Any, TypeVar, dataclass_transform

import jax
import jax.numpy as jnp
import numpy as np

from rnndyn.core import validation
from rnndyn.core.summary import summary

T = TypeVar("T")


def static(**options: Any) -> Any:
    """A dataclass field that belongs to the structure of a `pytree`, not to its arrays."""
    return dataclasses.field(metadata={"static": True}, **options)


def coded(codes: type[enum.IntEnum]) -> Any:
    """A dataclass field of integers that are `codes`: its summary counts them by name."""
    return dataclasses.field(metadata={"codes": codes})


@dataclass_transform(
    frozen_default=True, eq_default=False, field_specifiers=(static, coded, dataclasses.field)
)
def pytree(cls: type[T]) -> type[T]:
    """Make a class a frozen, slotted dataclass whose fields are the children of a pytree.

    A field made with `static` is part of the tree's structure instead: it must be hashable, and
    another value means another trace. At the prompt it shows a summary, not its numbers.
    """
    if "__repr__" not in vars(cls):
        cls.__repr__ = summary  # pyright: ignore[reportAttributeAccessIssue]
    made = dataclasses.dataclass(frozen=True, slots=True, eq=False, repr=False)(cls)
    return jax.tree_util.register_dataclass(made)


@dataclass_transform(frozen_default=True)
def specification(cls: type[T]) -> type[T]:
    """Make a class a frozen dataclass without arrays: equal and hashable by value, static in jit.

    Two equal specifications share one compiled function, which closures and bound methods
    (compared by identity) do not.
    """
    made = dataclasses.dataclass(frozen=True)(cls)
    return jax.tree_util.register_static(made)


def flatten(state: Any) -> jax.Array:
    """The flat vector z of a state.

    Parameters
    ----------
    state : pytree
        Any state. Its floating-point leaves must share one dtype. Integer and boolean leaves (a
        clock) are not coordinates and are left out.

    Returns
    -------
    jax.Array, shape (d,)
        The leaves one after another, in declared field order, each in row-major order.

    Raises
    ------
    TypeError
        If a leaf is complex (carry it as real pairs) or if floating-point dtypes are mixed.

    Examples
    --------
    >>> import jax.numpy as jnp, rnndyn as rd
    >>> rd.flatten((jnp.zeros(2), jnp.ones((2, 1)), 7)).tolist()
    [0.0, 0.0, 1.0, 1.0]
    """
    leaves = _coordinates(state)
    if not leaves:
        return jnp.zeros((0,))
    return jnp.concatenate([jnp.ravel(leaf) for leaf in leaves])


def unflatten(z: jax.Array, like: Any) -> Any:
    """The state whose flat vector is z: the inverse of `flatten`.

    Parameters
    ----------
    z : jax.Array, shape (d,)
    like : pytree
        A state that gives structure and shapes, and the values of the leaves that are not
        coordinates (clocks).

    Returns
    -------
    pytree
        As `like`, with its floating-point leaves taken from z, in the dtype of z.

    Raises
    ------
    ValueError
        If z does not have the size of the state.

    Examples
    --------
    >>> import jax.numpy as jnp, rnndyn as rd
    >>> rd.unflatten(jnp.array([3.0, 4.0]), {"h": jnp.zeros(2), "clock": 7})["h"].tolist()
    [3.0, 4.0]
    """
    leaves, structure = jax.tree.flatten(like)
    expected = sum(np.size(leaf) for leaf in leaves if _is_coordinate(leaf))
    validation.require_shape(
        "z", z, (expected,), "flatten a state of the same cell to see its size"
    )
    filled, start = [], 0
    for leaf in leaves:
        if _is_coordinate(leaf):
            size = np.size(leaf)
            filled.append(jnp.reshape(z[start : start + size], np.shape(leaf)))
            start += size
        else:
            filled.append(leaf)
    return jax.tree.unflatten(structure, filled)


def coordinate_names(state: Any) -> list[str]:
    """The name of each coordinate of z, such as `h[0]` or `c[3]`; d strings."""
    names = []
    for path, leaf in jax.tree_util.tree_leaves_with_path(state):
        if _is_coordinate(leaf):
            label = jax.tree_util.keystr(path, simple=True, separator=".")
            names += [
                label + "".join(f"[{i}]" for i in index) for index in np.ndindex(np.shape(leaf))
            ]
    return names


def _is_coordinate(leaf: Any) -> bool:
    return jnp.issubdtype(jnp.result_type(leaf), jnp.inexact)


def _coordinates(state: Any) -> list[Any]:
    leaves = [leaf for leaf in jax.tree.leaves(state) if _is_coordinate(leaf)]
    validation.require_one_real_dtype("state", leaves)
    return leaves
