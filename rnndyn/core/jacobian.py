"""Dense Jacobians by forward mode that knows the identity it starts from.

`jax.jacfwd` pushes all unit vectors at once, as a matrix I, and multiplies W I where the function
multiplies W z: 2 m d^2 flops for W itself. Here a tangent whose entry i depends on z_i alone is
carried as its diagonal, through every operation on entries, up to the first product with a matrix;
from there on the columns are pushed together as usual. A layer tanh(W z + b) so costs m d
multiplications, and no map has to be differentiable in reverse.
"""

import operator
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from rnndyn.core.pytree import pytree
from rnndyn.core.trace import INLINED, bind, follow, inner


@pytree
class _Diagonal:
    """The tangents scale_i e_i, i = 1, ..., d."""

    scale: jax.Array


@pytree
class _Rows:
    """Any d tangents, (d, ...)."""

    stack: jax.Array


def jacobian(
    function: Callable[[jax.Array], jax.Array], z: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """F(z) and its derivatives.

    Parameters
    ----------
    function : callable, (d,) to (m,) or to a number
        Traceable; loops may have any length.
    z : jax.Array, shape (d,)

    Returns
    -------
    value : jax.Array, shape (m,) or ()
    matrix : jax.Array, shape (m, d) or (d,)
        Entry (i, j) is dF_i / dz_j. Cost: d forward derivatives, less the products with I.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> W = jnp.array([[0.0, 2.0], [1.0, 0.0]])
    >>> value, matrix = jacobian(lambda z: W @ z**2, jnp.array([1.0, 3.0]))
    >>> matrix.tolist()
    [[0.0, 12.0], [2.0, 0.0]]
    """
    value, push = jax.linearize(function, z)
    closed = jax.make_jaxpr(push)(z)
    (out,) = follow(closed.jaxpr, closed.consts, [_Diagonal(jnp.ones_like(z))], _apply)
    return value, jnp.moveaxis(_stacked(out, z.size), 0, -1)


def _apply(eqn: Any, read: list[Any]) -> list[Any]:
    """A linear operation: what is no tangent among its operands is a factor, or zero."""
    name = eqn.primitive.name
    if name in INLINED:
        return follow(inner(eqn).jaxpr, inner(eqn).consts, read, _apply)
    kept = any(isinstance(v, _Diagonal) for v in read) and not any(
        isinstance(v, _Rows) for v in read
    )
    if kept and name in _ENTRYWISE:
        scales = [v.scale if isinstance(v, _Diagonal) else v for v in read]
        return [_Diagonal(*bind(eqn, scales))]
    if kept and name == "dot_general":
        summed, batched = eqn.params["dimension_numbers"]
        if any(summed) and not any(batched):
            return [_Rows(_product(eqn, read))]
    sizes = [len(v.scale if isinstance(v, _Diagonal) else v.stack) for v in read if _moves(v)]
    if not sizes:
        return bind(eqn, read)
    axes = [0 if _moves(v) else None for v in read]
    values = [_stacked(v, sizes[0]) if _moves(v) else v for v in read]
    return [_Rows(made) for made in jax.vmap(lambda *v: bind(eqn, v), axes)(*values)]


# Of two diagonals the sum, of one and a factor the product; `select_n` has zeros beside it.
_ENTRYWISE = frozenset("add add_any sub neg mul div convert_element_type select_n copy".split())


def _product(eqn: Any, read: list[Any]) -> jax.Array:
    """Of a diagonal with an array, (d, ...): its slices along the axis that is summed over."""
    side = int(isinstance(read[1], _Diagonal))
    ((axis,), _) = operator.itemgetter(1 - side, side)(eqn.params["dimension_numbers"][0])
    slices = jnp.moveaxis(read[1 - side], axis, 0)
    scale = read[side].scale.reshape(-1, *(1,) * (slices.ndim - 1))
    return (slices * scale).astype(eqn.outvars[0].aval.dtype)


def _moves(value: Any) -> bool:
    return isinstance(value, (_Diagonal, _Rows))


def _stacked(value: Any, d: int) -> jax.Array:
    if isinstance(value, _Rows):
        return value.stack
    if isinstance(value, _Diagonal):
        return jnp.diag(value.scale)
    return jnp.broadcast_to(value, (d, *jnp.shape(value)))
