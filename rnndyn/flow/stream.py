"""Lyapunov exponents of a run that is made while they are measured: memory independent of T."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from rnndyn.cells.base import Cell
from rnndyn.cells.containers import require_params
from rnndyn.core import validation
from rnndyn.core.pytree import flatten, pytree, static
from rnndyn.flow import flags
from rnndyn.flow.lyapunov import (
    LyapunovCheckpoint,
    LyapunovSpectrum,
    plan,
    require_frame,
    require_k,
    require_tol,
    summary,
)
from rnndyn.linearize import MatrixFree
from rnndyn.maps import Map, require_states
from rnndyn.simulate import CellStep, one_step


@pytree
class Orbit:
    """The steps of a map, made as they are asked for; a position is a point z."""

    map_: Map

    def advance(self, position: jax.Array) -> tuple[jax.Array, jax.Array]:
        return position, self.map_(position)

    def push(self, at: jax.Array, frame: jax.Array) -> jax.Array:
        return _push(_rule, self.map_, at, None, frame)


@pytree
class Driven:
    """The steps of a driven cell; a position is a state and the number of steps before it.

    `inputs` (T, m) are those from step `first` on; where `draw` is given, the input of step t is
    `draw(fold_in(key, t))`.
    """

    cell: Cell
    draw: Any = static()
    params: Any
    inputs: Any
    first: Any
    key: Any

    def advance(self, position: tuple[Any, jax.Array]) -> tuple[Any, Any]:
        state, t = position
        x = self._input(t)
        after = one_step(self.cell, self.params, state, x, None)
        return (state, x), (after, t + 1)

    def push(self, at: tuple[Any, jax.Array], frame: jax.Array) -> jax.Array:
        state, x = at
        data = (state, x, None)
        return _push(CellStep(self.cell), self.params, flatten(state), data, frame)

    def _input(self, t: jax.Array) -> jax.Array:
        if self.draw is not None:
            return self.draw(jax.random.fold_in(self.key, t))
        return self.inputs[t - self.first]


def _rule(z: jax.Array, data: None, map_: Map) -> jax.Array:
    del data
    return map_(z)


def _push(rule: Any, args: Any, z: jax.Array, data: Any, frame: jax.Array) -> jax.Array:
    return MatrixFree((), rule, args, (z[None], None)).push((z, data), frame)


def lyapunov_stream(
    subject: Map | Cell,
    start: Any,
    inputs: jax.Array | Callable[[jax.Array], jax.Array] | None = None,
    *,
    steps: int | None = None,
    state: Any = None,
    key: jax.Array | None = None,
    k: int | None = None,
    warmup: int = 0,
    window: int | None = None,
    tol: float | jax.Array | None = None,
    resume: LyapunovCheckpoint | None = None,
) -> LyapunovSpectrum:
    """The leading k Lyapunov exponents of a run that is never stored, neither points nor Jacobians.

    Parameters
    ----------
    subject : Map or Cell
    start : jax.Array of shape (d,), or pytree
        `lyapunov_stream(map_, z0, steps=T)` or `lyapunov_stream(cell, params, inputs)`.
    inputs : jax.Array, shape (T, m), or callable, for a cell only
        A callable gives the input of a step: `inputs(key) -> x`, shape (m,), with a key of its own
        for each step. Static in jit: pass a module-level function.
    steps : int, optional
        T; the length of `inputs` where that is an array.
    state : pytree, for a cell only, optional
        The state to start from; `cell.initial_state(params)` if not given.
    key : jax.Array, optional
        The random key that those of a callable `inputs` come from.
    k, warmup, window, tol
        As in `lyapunov_spectrum`.
    resume : LyapunovCheckpoint, optional
        `found.checkpoint` of an earlier call: go on from its last state. The result is that of
        one run over both, to the last bit if this one fills its windows; `z0` or `state` are then
        not looked at.

    Returns
    -------
    LyapunovSpectrum
        Memory O(d k) and w k for w windows. Cost: T steps, and the rest as `lyapunov_spectrum`.
        Forward derivatives take no more memory; reverse ones store T frames.

    Raises
    ------
    TypeError, ValueError
        If the subject, shapes or dtypes do not fit, or on bad options.

    Examples
    --------
    >>> import jax, jax.numpy as jnp, rnndyn as rd
    >>> map_, z0 = rd.maps.henon(), jnp.zeros(2)
    >>> half = rd.lyapunov_stream(map_, z0, steps=5000, window=500)
    >>> whole = rd.lyapunov_stream(map_, z0, steps=5000, resume=half.checkpoint)
    >>> round(float(whole.kaplan_yorke), 1)
    1.3

    A cell under noise that is drawn step by step:

    >>> cell = rd.cells.Vanilla(2, 16)
    >>> def noise(key):
    ...     return jax.random.normal(key, (2,))
    >>> params, key = cell.init(jax.random.key(0)), jax.random.key(1)
    >>> rd.lyapunov_stream(cell, params, noise, steps=1000, key=key, k=3).windows.shape
    (16, 3)
    """
    if isinstance(subject, Map):
        source, position, first, steps = _orbit(subject, start, inputs, steps, state, key, resume)
    elif isinstance(subject, Cell):
        source, position, first, steps = _driven(subject, start, inputs, steps, state, key, resume)
    else:
        expected, advice = "a Cell or a Map", "wrap a function as rd.Map(rule, args)"
        raise TypeError(validation.sentence("subject", expected, repr(type(subject)), advice))
    k = require_k(k, first.shape[0])
    lengths, window = plan(steps, warmup, window, resume)
    require_frame(resume, first.shape[0], k, first.dtype)
    require_tol(tol)
    return _stream(source, position, resume, tol, lengths, k, window)


def _orbit(map_, z0, inputs, steps, state, key, resume):
    if inputs is not None or state is not None or key is not None:
        advice = "a map has none; make a map with inputs a Cell"
        got = "some of them"
        raise ValueError(validation.sentence("inputs, state, key", "none", got, advice))
    z0 = jnp.asarray(z0)
    validation.require_shape("start", z0, ("d",), "pass one flat vector and vmap over several")
    validation.require_real("start", z0)
    require_states("start", z0, map_)
    steps = validation.require_int("steps", steps, 1, "pass how many steps to take")
    return Orbit(map_), z0 if resume is None else resume.carry.position, z0, steps


def _driven(cell, params, inputs, steps, state, key, resume):
    require_params(cell, params)
    start = cell.initial_state(params)
    z0 = flatten(start)
    if state is not None:
        advice = "start from cell.initial_state(params) or from a state of an earlier run"
        validation.require_structure("state", state, start, advice)
        start = state
    position = (start, jnp.int32(0)) if resume is None else resume.carry.position
    if callable(inputs):
        steps = validation.require_int("steps", steps, 1, "pass how many inputs to draw")
        if key is None:
            advice = "pass key=jax.random.key(0)"
            raise ValueError(validation.sentence("key", "a random key", "None", advice))
        validation.require_key("key", key)
        drawn = jax.eval_shape(inputs, key)
        advice = "the function gives one input of the cell"
        validation.require_shape("inputs(key)", drawn, (cell.input_size,), advice)
        validation.require_same_dtype("inputs(key)", drawn, "params", z0.dtype)
        return Driven(cell, inputs, params, None, None, key), position, z0, steps
    inputs = jnp.asarray(inputs)
    advice = "pass one sequence, time first, and vmap over several"
    validation.require_shape("inputs", inputs, ("T", cell.input_size), advice)
    validation.require_same_dtype("inputs", inputs, "params", z0.dtype)
    if inputs.shape[0] == 0 or steps not in (None, inputs.shape[0]):
        got, advice = f"{steps} and {inputs.shape[0]} inputs", "leave `steps` out"
        raise ValueError(validation.sentence("steps", "as many as inputs, >= 1", got, advice))
    return Driven(cell, None, params, inputs, position[1], None), position, z0, inputs.shape[0]


@jax.jit(static_argnames=("lengths", "k", "window"))
def _stream(
    source: Orbit | Driven,
    position: Any,
    resume: LyapunovCheckpoint | None,
    tol: jax.Array | None,
    lengths: tuple[int, ...],
    k: int,
    window: int,
) -> LyapunovSpectrum:
    z = flatten(position if isinstance(source, Orbit) else position[0])
    carry = flags.start(position, z.shape[0], k, z.dtype, tol) if resume is None else resume.carry
    grown = flags.grow(source, carry, tuple(abs(length) for length in lengths))
    return summary(*grown, resume, lengths, k, window)
