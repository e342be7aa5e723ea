"""What a result looks like at the prompt: a line a field, shapes and ranges instead of numbers.

A spectrum of 64 values at 34 lags is 2000 numbers; their range, how many of them are not finite and
how many items converged is what one wants to know of it. Nothing here ever fails or waits for
another host: what cannot be looked at (a tracer, a deleted buffer) is told by dtype and shape.
"""

import dataclasses
import enum
from collections import Counter
from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from rnndyn.core.status import Status

_ARRAYS = np.ndarray | np.generic | jax.Array | jax.ShapeDtypeStruct
_FEW = 6  # entries that are told one by one
_WIDTH = 60  # characters of a value that is no array


def summary(tree: Any) -> str:
    """A dataclass, its name first, then a line for each field; nested ones are indented.

    >>> import numpy as np, rnndyn as rd
    >>> rd.Map(rd.maps.henon, np.arange(24.0))
    Map
      rule  henon
      args  float64 (24,), 0 to 23
    """
    fields = dataclasses.fields(tree)
    width = max((len(field.name) for field in fields), default=0)
    lines = [type(tree).__name__]
    for field in fields:
        codes = field.metadata.get("codes", Status if field.name == "status" else None)
        told = _told(getattr(tree, field.name), codes)
        first, *rest = told.split("\n")
        lines += [f"  {field.name:<{width}}  {first}".rstrip(), *("  " + line for line in rest)]
    return "\n".join(lines)


def _told(value: Any, codes: type[enum.IntEnum] | None = None) -> str:
    if isinstance(value, _ARRAYS):
        return _array(value, codes)
    if isinstance(value, tuple | list) and any(map(_is_long, value)):
        return _counted(Counter(map(_what, value)).items())
    if type(value).__repr__ is summary:
        return summary(value)
    told = getattr(value, "__qualname__", repr(value))
    return told if len(told) <= _WIDTH else told[: _WIDTH - 3] + "..."


def _is_long(item: Any) -> bool:
    return isinstance(item, _ARRAYS) or dataclasses.is_dataclass(item)


def _what(item: Any) -> str:
    """An event's kind, an array's shape, of all else the class."""
    kind = getattr(item, "kind", None)
    if isinstance(kind, str):
        return kind
    return _shape(item) if isinstance(item, _ARRAYS) else type(item).__name__


def _shape(value: Any) -> str:
    return f"{value.dtype} {value.shape}" if value.shape else str(value.dtype)


def _array(value: Any, codes: type[enum.IntEnum] | None) -> str:
    kind, numbers = _shape(value), _numbers(value)
    if numbers is None or not numbers.size:
        return kind
    if codes is not None and numbers.dtype.kind == "i":
        return _named(numbers, codes)
    if numbers.dtype.kind == "b" and numbers.ndim:
        return f"{kind}, {int(numbers.sum())} true"
    if not numbers.ndim:
        return _short(numbers.item())
    if numbers.ndim == 1 and numbers.size <= _FEW:
        return f"[{' '.join(map(_short, numbers.tolist()))}]"
    return f"{kind}, {_range(numbers)}"


def _numbers(value: Any) -> np.ndarray | None:
    """The numbers on the host; None if they are not there to be looked at."""
    if isinstance(value, np.ndarray | np.generic):
        return np.asarray(value)
    hidden = isinstance(value, Tracer | jax.ShapeDtypeStruct)
    if hidden or not isinstance(value, jax.Array) or value.is_deleted():
        return None
    if not value.is_fully_addressable or jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
        return None
    return np.asarray(value)


def _named(numbers: np.ndarray, codes: type[enum.IntEnum]) -> str:
    names = {int(code): code.name.lower().replace("_", " ") for code in codes}
    found = Counter(numbers.ravel().tolist()).most_common()
    told = [(names.get(code, f"unknown ({code})"), count) for code, count in found]
    return _counted(told) if numbers.ndim else told[0][0]


def _counted(kinds: Iterable[tuple[str, int]]) -> str:
    return ", ".join(f"{count} {kind}" for kind, count in kinds)


def _short(number: Any) -> str:
    return f"{number:.4g}" if isinstance(number, float | complex) else str(number)


def _range(numbers: np.ndarray) -> str:
    sizes = np.abs(numbers) if numbers.dtype.kind == "c" else numbers
    finite = sizes[np.isfinite(sizes)]
    modulus = "modulus " if sizes is not numbers else ""
    parts = []
    if finite.size:
        low, high = _short(finite.min().item()), _short(finite.max().item())
        parts = [modulus + (f"all {low}" if low == high else f"{low} to {high}")]
    parts += [
        f"{int(found.sum())} {word}"
        for word, found in (
            ("nan", np.isnan(sizes)),
            ("inf", np.isposinf(sizes)),
            ("-inf", np.isneginf(sizes)),
        )
        if found.any()
    ]
    return ", ".join(parts)
