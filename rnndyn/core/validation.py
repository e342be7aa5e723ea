"""Every message of misuse: what was expected, what was got, what to do.

These checks look at shapes, dtypes and options only, so they run while tracing and cost nothing
afterwards. What depends on numbers (NaN, no convergence) is a status code, not an exception.
"""

import numbers
import operator
from collections.abc import Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer


def sentence(name: str, expected: str, got: str, advice: str) -> str:
    """The one form of an error message.

    >>> sentence("tol", "a positive number", "-1.0", "pass for example 1e-10")
    '`tol`: expected a positive number, got -1.0; pass for example 1e-10.'
    """
    return f"`{name}`: expected {expected}, got {got}; {advice}."


def require_shape(name: str, array: Any, shape: Sequence[int | str], advice: str) -> None:
    """Raise ValueError unless the shape matches; a string stands for a size that is free."""
    got = np.shape(array)
    matches = len(got) == len(shape) and all(
        isinstance(want, str) or want == have for want, have in zip(shape, got, strict=False)
    )
    if not matches:
        raise ValueError(sentence(name, f"shape {shape_text(shape)}", shape_text(got), advice))


def require_real(name: str, array: Any, advice: str = "convert it with jnp.asarray(..., float)"):
    """Raise TypeError unless the array is real floating point."""
    dtype = jnp.result_type(array)
    if not jnp.issubdtype(dtype, jnp.floating):
        raise TypeError(sentence(name, "real floating-point values", f"dtype {dtype}", advice))


def require_one_real_dtype(name: str, tree: Any) -> None:
    """Raise TypeError unless all floating-point leaves are real and share one dtype."""
    dtypes = {jnp.result_type(leaf) for leaf in jax.tree.leaves(tree)}
    dtypes = {dtype for dtype in dtypes if jnp.issubdtype(dtype, jnp.inexact)}
    listed = ", ".join(sorted(str(dtype) for dtype in dtypes))
    if any(jnp.issubdtype(dtype, jnp.complexfloating) for dtype in dtypes):
        advice = "carry complex values as pairs of real ones"
        raise TypeError(sentence(name, "real leaves", listed, advice))
    if len(dtypes) > 1:
        advice = "cast all leaves to one of them"
        raise TypeError(sentence(name, "leaves of one floating-point dtype", listed, advice))


def require_same_dtype(name: str, array: Any, like: str, dtype: Any) -> None:
    """Raise TypeError unless the array has the dtype of what it is used with."""
    got = jnp.result_type(array)
    if got != dtype:
        expected = f"dtype {jnp.dtype(dtype)} as `{like}`"
        raise TypeError(sentence(name, expected, f"dtype {got}", f"cast one with .astype({dtype})"))


def require_structure(name: str, tree: Any, like: Any, advice: str) -> None:
    """Raise unless a pytree has the structure, shapes and dtypes of another."""
    if jax.tree.structure(tree) != jax.tree.structure(like):
        expected, got = str(jax.tree.structure(like)), str(jax.tree.structure(tree))
        raise ValueError(sentence(name, f"structure {expected}", got, advice))
    for (path, want), have in zip(
        jax.tree_util.tree_leaves_with_path(like), jax.tree.leaves(tree), strict=True
    ):
        leaf = name + jax.tree_util.keystr(path)
        require_shape(leaf, have, np.shape(want), advice)
        require_same_dtype(leaf, have, "params", jnp.result_type(want))


def require_int(name: str, value: Any, minimum: int, advice: str) -> int:
    """The value as an int; raise unless it is a whole number of at least `minimum`."""
    try:
        number = operator.index(value)
    except TypeError:
        number = None
    if number is None or isinstance(value, bool) or number < minimum:
        raise ValueError(sentence(name, f"a whole number >= {minimum}", repr(value), advice))
    return number


def require_range(
    name: str,
    value: Any,
    low: float,
    high: float,
    advice: str,
    *,
    open_low: bool = False,
    open_high: bool = False,
) -> None:
    """Raise ValueError unless a Python number lies in an interval; NaN never does."""
    try:
        inside_low = value > low if open_low else value >= low
        inside_high = value < high if open_high else value <= high
        inside = bool(inside_low and inside_high)
    except jax.errors.ConcretizationTypeError:
        raise
    except (TypeError, ValueError):  # no number, or several
        inside = False
    if not inside:
        interval = f"{'(' if open_low else '['}{low:g}, {high:g}{')' if open_high else ']'}"
        raise ValueError(sentence(name, f"a number in {interval}", repr(value), advice))


def require_number(name: str, value: Any, advice: str) -> None:
    """Raise TypeError unless it is a real Python number, and ValueError if it is NaN."""
    if not isinstance(value, numbers.Real) or isinstance(value, bool):
        raise TypeError(sentence(name, "a real number", repr(value), advice))
    if value != value:
        raise ValueError(sentence(name, "a real number", "nan", advice))


def require_nonnegative(name: str, value: Any, advice: str) -> None:
    """Raise ValueError if an entry of a number or array is negative; what is traced passes."""
    if not isinstance(value, Tracer) and np.any(np.asarray(value) < 0):
        raise ValueError(sentence(name, "nothing below 0", repr(value), advice))


def require_key(name: str, key: Any) -> None:
    """Raise TypeError unless it is one random key of JAX, typed or raw."""
    dtype, shape = getattr(key, "dtype", None), np.shape(key)
    typed = dtype is not None and jnp.issubdtype(dtype, jax.dtypes.prng_key)
    if not (typed and shape == () or dtype == jnp.uint32 and len(shape) == 1):
        got = repr(key) if dtype is None else f"dtype {dtype} of shape {shape_text(shape)}"
        advice = "pass jax.random.key(0), and vmap over several"
        raise TypeError(sentence(name, "one random key of JAX", got, advice))


def require_choice(name: str, value: Any, choices: Iterable[Any], advice: str = "pass one of them"):
    """Raise ValueError unless the value is one of the choices."""
    choices = list(choices)
    if value not in choices:
        listed = ", ".join(repr(choice) for choice in choices)
        raise ValueError(sentence(name, f"one of {listed}", repr(value), advice))


def require_lags(lags: Any, steps: int) -> tuple[int, ...]:
    """The lags as a tuple of ints; raise unless they are distinct and lie in 0..T."""
    advice = f"this run has T = {steps} steps, so lags 0 to {steps} exist; give each once"
    numbers = np.asarray(lags)
    if numbers.ndim != 1 or numbers.size == 0 or not np.issubdtype(numbers.dtype, np.integer):
        raise ValueError(sentence("lags", "a list of whole numbers", repr(lags), advice))
    found = tuple(int(lag) for lag in numbers)
    if len(set(found)) != len(found) or min(found) < 0 or max(found) > steps:
        raise ValueError(sentence("lags", "distinct lags of the run", repr(found), advice))
    return found


def shape_text(shape: Sequence[int | str]) -> str:
    """A shape as text, `(T, 3)`."""
    return "(" + ", ".join(str(size) for size in shape) + ("," if len(shape) == 1 else "") + ")"
