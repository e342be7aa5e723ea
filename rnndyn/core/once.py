"""`jax.jit` for what is compiled for every cell anew and run once or twice."""

import functools
from collections.abc import Callable
from typing import Any

import jax


def once(function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
    """`jax.jit(function, **options)`, compiled in a hurry: for the outermost call only.

    On a CPU compiling a step and its derivatives costs far more than a few runs of them, and
    without LLVM's optimisations about half of that; the arithmetic is the same. Elsewhere it is
    `jax.jit`.
    """

    @functools.cache
    def compiled(backend: str) -> Callable[..., Any]:
        hurry = {"xla_backend_optimization_level": 0} if backend == "cpu" else None
        return jax.jit(function, compiler_options=hurry, **options)

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        return compiled(jax.default_backend())(*args, **kwargs)

    return call
