"""A traced function run again, operation by operation, on values of another kind."""

from collections.abc import Callable, Sequence
from typing import Any

import jax.extend.core as jex

INLINED = frozenset("jit pjit closed_call core_call remat checkpoint custom_jvp_call".split())
"""Operations that only call a traced function of their own: `inner`."""


def follow(
    jaxpr: Any,
    consts: Sequence[Any],
    values: Sequence[Any],
    apply: Callable[[Any, list[Any]], Sequence[Any]],
    literal: Callable[[Any], Any] = lambda value: value,
) -> list[Any]:
    """What `apply(equation, values read)`, the values of one equation, makes of a whole jaxpr."""
    known = dict(zip((*jaxpr.constvars, *jaxpr.invars), (*consts, *values), strict=True))

    def read(atom: Any) -> Any:
        return literal(atom.val) if isinstance(atom, jex.Literal) else known[atom]

    for eqn in jaxpr.eqns:
        made = apply(eqn, [read(atom) for atom in eqn.invars])
        known.update(zip(eqn.outvars, made, strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def inner(eqn: Any) -> Any:
    """The closed jaxpr that one of INLINED calls."""
    return next(v for v in eqn.params.values() if isinstance(v, jex.ClosedJaxpr))


def bind(eqn: Any, values: Sequence[Any]) -> list[Any]:
    """The operation itself, on arrays."""
    bound = eqn.primitive.get_bind_params(eqn.params)
    functions, options = bound if isinstance(bound, tuple) else ((), bound)  # by version of JAX
    made = eqn.primitive.bind(*functions, *values, **options)
    return list(made) if eqn.primitive.multiple_results else [made]
