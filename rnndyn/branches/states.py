"""What is asked of maps, families, states and events before anything is followed."""

from typing import Any

import jax
import numpy as np

from rnndyn.branches.events import Event
from rnndyn.core import validation
from rnndyn.core.dependence import dependence
from rnndyn.maps import Map, evaluate, require_map

FLAT = "is a flat vector of the state, rd.flatten(state)"


def require_event(event: Any) -> None:
    """Raise TypeError unless the value is an Event."""
    if not isinstance(event, Event):
        advice = "pass one of branch.events"
        raise TypeError(validation.sentence("event", "an Event", _kind(event), advice))


def require_root(name: str, defect: Any, z: Any, second: str) -> None:
    """Raise ValueError unless an event is a fixed point, to the cube root of eps, of its family."""
    reach = np.cbrt(np.finfo(np.asarray(z).dtype).eps) * (1 + np.max(np.abs(z)))
    if not float(defect) <= reach:
        got = f"max |F(z) - z| = {float(defect):.1e} there"
        raise ValueError(validation.sentence(name, "an event of this family", got, second))


def built(family: Any, *parameters: Any) -> Map:
    """family(*parameters); raises TypeError unless it can be called so and returns a Map."""
    n = len(parameters)
    arguments = "family(p)" if n == 1 else "family(first, second)"
    advice = "return for example rd.hold(cell, params, x=p * direction)"
    if not callable(family):
        expected = f"a function with {arguments} a Map"
        raise TypeError(validation.sentence("family", expected, _kind(family), advice))
    try:
        made = family(*parameters)
    except TypeError as error:
        if _of_ours(error):
            raise
        advice = "what it is given is traced: use jax.numpy, not float() or if"
        expected = f"a function of {n} argument{'s' * (n > 1)}"
        raise TypeError(
            validation.sentence("family", expected, f"the error {_first(error)!r}", advice)
        ) from error
    if not isinstance(made, Map):
        expected = f"a Map from {arguments}"
        raise TypeError(validation.sentence("family", expected, repr(type(made)), advice))
    return made


def image(name: str, map_: Any, z: Any) -> jax.ShapeDtypeStruct:
    """The shape and dtype of F(z); raises where the map does not take vectors of that size."""
    require_map(map_)
    z = jax.ShapeDtypeStruct(z.shape, z.dtype)
    try:
        return jax.eval_shape(evaluate, map_, z)
    except (TypeError, ValueError, IndexError) as error:
        raise refused(name, z, error) from error


def refused(name: str, z: Any, error: Exception) -> Exception:
    """The error to raise where a map does not take a state, from the one that it raised."""
    if _of_ours(error):
        return error
    got = f"shape {validation.shape_text(z.shape)} of {z.dtype} and the error {_first(error)!r}"
    return ValueError(validation.sentence(name, "a state of the map", got, f"{name} {FLAT}"))


def require_coupled(name: str, map_: Map, z: Any) -> None:
    """Raise ValueError where a map of one variable is given several, each of them by itself."""
    if z.shape[0] < 2:
        return
    one = jax.ShapeDtypeStruct((1,), z.dtype)
    try:
        alone = jax.eval_shape(evaluate, map_, one).shape == (1,)
    except (TypeError, ValueError, IndexError):
        return
    pattern = dependence(lambda z: evaluate(map_, z), z)
    if alone and np.array_equal(pattern, np.eye(z.shape[0], dtype=bool)):
        got = validation.shape_text(z.shape)
        advice = "this map takes each entry by itself: follow them one by one, or `continuations`"
        raise ValueError(validation.sentence(name, "shape (1,)", got, advice))


def require_number(name: str, value: Any) -> float:
    """The value as a float; raises ValueError unless it is one number."""
    validation.require_range(name, value, -np.inf, np.inf, "pass one number")
    return float(value)


def _of_ours(error: Exception) -> bool:
    """Whether an error already says what was expected, got and to be done."""
    return str(error).startswith("`")


def _first(error: Exception) -> str:
    return str(error).split("\n")[0]


def _kind(value: Any) -> str:
    return f"a {type(value).__name__}"
