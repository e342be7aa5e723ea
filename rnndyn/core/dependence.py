"""Which outputs of a function may depend on which inputs, read off its trace.

Every value of the trace is followed as a set of inputs for each of its entries (Griewank &
Walther 2008, section 7.1): an operation on each entry unites the sets of its operands there, a
sum those along its axes, a change of shape moves them, and whatever is not known unites all. So an
entry of the Jacobian outside of the pattern is zero for every value of inputs and parameters; one
inside of it may be zero too.
"""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from rnndyn.core.trace import INLINED, follow, inner

Sets = np.ndarray | None
"""Booleans, shape (*shape, d): whether an entry may depend on input j; None: it depends on none."""

_ENTRYWISE = frozenset(
    "abs acos acosh add add_any and asin asinh atan atan2 atanh cbrt ceil clamp complex conj "
    "convert_element_type copy cos cosh digamma div eq erf erf_inv erfc exp exp2 expm1 floor ge gt "
    "imag integer_pow is_finite le lgamma log log1p logistic lt max min mul ne neg nextafter not "
    "or pow real reduce_precision rem round rsqrt select_n sign sin sinh sqrt square "
    "stop_gradient sub tan tanh xor".split()
)
_SUMS = frozenset("reduce_sum reduce_prod reduce_max reduce_min argmax argmin".split())


def dependence(function: Callable[..., jax.Array], z: Any, *constants: Any) -> np.ndarray:
    """Whether output i of `function(z, *constants)` may depend on z_j, for vectors.

    Parameters
    ----------
    function : callable
    z : jax.Array or ShapeDtypeStruct, shape (d,)
    constants : pytrees of the like
        Of which any value is possible.

    Returns
    -------
    numpy.ndarray, shape (n, d), bool
        Nothing is computed but one trace. Loops and conditions count as if all their outputs
        depended on all that they read.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> dependence(lambda z, w: z * jnp.tanh(w @ z[:1]), jnp.ones(2), jnp.ones((2, 1))).tolist()
    [[True, False], [True, True]]
    """
    closed = jax.make_jaxpr(function)(z, *constants)
    sets: list[Sets] = [None] * len(closed.jaxpr.invars)
    sets[0] = np.eye(z.shape[0], dtype=bool)
    (found,) = _follow(closed.jaxpr, sets)
    (out,) = closed.out_avals
    return np.zeros((*out.shape, z.shape[0]), bool) if found is None else found


def _follow(jaxpr: Any, sets: list[Sets]) -> list[Sets]:
    return follow(jaxpr, [None] * len(jaxpr.constvars), sets, _apply, lambda value: None)


def _apply(eqn: Any, read: list[Sets]) -> list[Sets]:
    if all(s is None for s in read):
        return [None] * len(eqn.outvars)
    name, shapes = eqn.primitive.name, [variable.aval.shape for variable in eqn.outvars]
    if name in INLINED:
        return _follow(inner(eqn).jaxpr, read)
    if name in _ENTRYWISE:
        return [_united([np.broadcast_to(s, (*shapes[0], s.shape[-1])) for s in _present(read)])]
    if name in _SUMS and read[0] is not None:
        return [np.asarray(np.any(read[0], axis=tuple(eqn.params["axes"])))]
    if name == "dot_general":
        return [_product(eqn, read)]
    if name in ("concatenate", "stack"):
        return [_joined(eqn, read)]
    if name in _MOVES and read[0] is not None and all(s is None for s in read[1:]):
        return _MOVES[name](read[0], eqn.params, shapes)
    together = _united([np.any(s.reshape(-1, s.shape[-1]), axis=0) for s in _present(read)])
    return [np.broadcast_to(together, (*shape, together.shape[0])) for shape in shapes]


def _present(read: list[Sets]) -> list[np.ndarray]:
    return [s for s in read if s is not None]


def _united(sets: list[Any]) -> np.ndarray:
    return np.logical_or.reduce(sets)


def _product(eqn: Any, read: list[Sets]) -> np.ndarray:
    """Batch axes, then those of the left factor, then those of the right, as `dot_general` has."""
    contracted, batch = eqn.params["dimension_numbers"]
    free = [
        operand.aval.ndim - len(axes) - len(shared)
        for operand, axes, shared in zip(eqn.invars, contracted, batch, strict=True)
    ]
    shape, parts = eqn.outvars[0].aval.shape, []
    for side, sets in enumerate(read):
        if sets is None:
            continue
        rest = [
            axis for axis in range(sets.ndim - 1) if axis not in (*contracted[side], *batch[side])
        ]
        summed = sets.any(axis=tuple(contracted[side]), keepdims=True)
        order = (*batch[side], *rest, *contracted[side], sets.ndim - 1)
        moved = np.transpose(summed, order)
        moved = moved.reshape(*moved.shape[: len(batch[side]) + len(rest)], sets.shape[-1])
        missing = tuple(
            len(batch[side]) + (0 if side else free[0]) + axis for axis in range(free[1 - side])
        )
        moved = np.expand_dims(moved, missing)
        parts.append(np.broadcast_to(moved, (*shape, sets.shape[-1])))
    return _united(parts)


def _joined(eqn: Any, read: list[Sets]) -> np.ndarray:
    size = _present(read)[0].shape[-1]
    parts = [
        np.zeros((*variable.aval.shape, size), bool) if sets is None else sets
        for variable, sets in zip(eqn.invars, read, strict=True)
    ]
    if eqn.primitive.name == "stack":
        return np.stack(parts, axis=eqn.params["axis"])
    return np.concatenate(parts, axis=eqn.params["dimension"])


def _spread(sets: np.ndarray, params: Any, shapes: Any) -> list[Sets]:
    """The axes of the operand are those of `broadcast_dimensions`; the others are new."""
    kept = [1] * len(shapes[0])
    for axis, size in zip(params["broadcast_dimensions"], sets.shape[:-1], strict=True):
        kept[axis] = size
    return [np.broadcast_to(sets.reshape(*kept, sets.shape[-1]), (*shapes[0], sets.shape[-1]))]


def _cut(sets: np.ndarray, params: Any, shapes: Any) -> list[Sets]:
    strides = params["strides"] or [1] * len(shapes[0])
    bounds = zip(params["start_indices"], params["limit_indices"], strides, strict=True)
    return [sets[tuple(slice(*bound) for bound in bounds)]]


def _parted(sets: np.ndarray, params: Any, shapes: Any) -> list[Sets]:
    return list(np.split(sets, np.cumsum(params["sizes"])[:-1], axis=params["axis"]))


def _shaped(sets: np.ndarray, params: Any, shapes: Any) -> list[Sets]:
    return [sets.reshape(*shapes[0], sets.shape[-1])]


_MOVES: dict[str, Callable[[np.ndarray, Any, Any], list[Sets]]] = {
    "broadcast_in_dim": _spread,
    "slice": _cut,
    "split": _parted,
    "reshape": _shaped,
    "squeeze": _shaped,
    "expand_dims": _shaped,
    "rev": lambda sets, params, _: [np.flip(sets, params["dimensions"])],
    "transpose": lambda sets, params, _: [sets.transpose(*params["permutation"], sets.ndim - 1)],
}
