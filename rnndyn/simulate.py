"""Running a cell over a sequence of inputs, and drawing states from a run."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from rnndyn.cells.base import Cell
from rnndyn.cells.containers import Bidirectional, Directions, require_cell, require_params
from rnndyn.core import status, validation
from rnndyn.core.pytree import flatten, pytree, specification, unflatten
from rnndyn.evaluation import (
    PREFIX,
    Evaluation,
    Reason,
    leading_exponent,
    newton,
    reason_against,
    sequentially,
    window_of,
)


@pytree
class Trajectory:
    """A run of a cell.

    Attributes
    ----------
    states : pytree, leading axis T + 1
        The states from before the first input to after the last.
    outputs : jax.Array, shape (T, n)
        The hidden output after each input.
    inputs : jax.Array, shape (T, m)
    status : jax.Array, int
        0, or -3 if a state is NaN or infinite.
    keys : jax.Array, shape (T,), or None
        The random keys of the steps, of a run with dropout.
    evaluation : Evaluation, or None
        Whether the run was evaluated in parallel over time, and why; None in a run made by hand.
    """

    states: Any
    outputs: jax.Array
    inputs: jax.Array
    status: jax.Array
    keys: jax.Array | None = None
    evaluation: Evaluation | None = None


@pytree
class BidirectionalRun:
    """A run of a `Bidirectional`; every direction of every layer is a run of its own.

    Attributes
    ----------
    forward, backward : tuples of Trajectory, one a layer
        The backward ones in their own time: their first input is the sequence's last.
    outputs : jax.Array, shape (T, 2 n)
        Of the top layer, forward beside backward, in the sequence's time.
    status : jax.Array, int
        0, or -3 if a state is NaN or infinite.
    """

    forward: tuple[Trajectory, ...]
    backward: tuple[Trajectory, ...]
    outputs: jax.Array
    status: jax.Array


def simulate(
    cell: Cell | Bidirectional,
    params: Any,
    inputs: jax.Array,
    state: Any = None,
    *,
    key: jax.Array | None = None,
    parallel: bool | None = None,
) -> Any:
    """Run a cell over a sequence of inputs.

    Parameters
    ----------
    cell : Cell, or Bidirectional
    params : pytree
        As `cell.init` gives them.
    inputs : jax.Array, shape (T, m)
        T may be 0. Several sequences: `jax.vmap` over `inputs`.
    state : pytree, optional
        The state to start from; `cell.initial_state(params)` if not given.
    key : jax.Array, optional
        A random key: run with dropout, as in training. `linearize` then sees the same masks.
    parallel : bool, optional
        Whether to evaluate all steps at once by Newton's method over the sequence (DEER: Lim et
        al. 2024; damped as Gonzalez et al. 2024), to rounding: defect max |z_t - f_t(z_{t-1})| at
        most 64 eps, and deviation from the run step by step estimated at most sqrt(eps). Where
        that fails, as it must in chaos, the run is made step by step, to the last bit. By default
        tried on an accelerator, for T >= 256 and d <= 128, if the leading exponent over the first
        64 steps is negative; never on a CPU, nor under `jax.jit`, `vmap` or `grad`, where a batch
        could hide: ask for it there. `run.evaluation` tells what was done and why.

    Returns
    -------
    Trajectory
        T + 1 states, T outputs; status -3 where a state is not finite. Cost: T steps. For a
        `Bidirectional` a `BidirectionalRun`, which holds one Trajectory a layer and direction.
        In parallel: K Newton steps, commonly 4 to 20 and never more than 40, of 6 T d^3 flops in
        depth 2 log2(T) each, and 12 T d^2 numbers of memory in windows of at most 2 GiB; with the
        cell's Jacobian `diagonal` T d of both. Differentiable to any order either way. Under
        `jax.vmap` items of a batch that fail cost the others a run step by step.

    Raises
    ------
    ValueError, TypeError
        If shapes, structure or dtypes do not fit the cell and its params.

    Examples
    --------
    >>> import jax, jax.numpy as jnp, rnndyn as rd
    >>> cell = rd.cells.Vanilla(3, 8)
    >>> run = rd.simulate(cell, cell.init(jax.random.key(0)), jnp.ones((5, 3)))
    >>> run.states.h.shape, run.outputs.shape, int(run.status)
    ((6, 8), (5, 8), 0)
    >>> run = rd.simulate(cell, cell.init(jax.random.key(0)), jnp.ones((500, 3)), parallel=True)
    >>> print(run.evaluation.explain()[:40])
    in parallel over time (4 Newton steps, d
    """
    validation.require_choice("parallel", parallel, (None, True, False))
    if isinstance(cell, Bidirectional):
        return _both_directions(cell, params, inputs, state, key, parallel)
    require_cell("cell", cell)
    require_params(cell, params)
    start = cell.initial_state(params)
    inputs = jnp.asarray(inputs)
    advice = "pass one sequence, time first, and vmap over several"
    validation.require_shape("inputs", inputs, ("T", cell.input_size), advice)
    validation.require_real("inputs", inputs)
    validation.require_same_dtype("inputs", inputs, "params", flatten(start).dtype)
    if state is not None:
        advice = "start from cell.initial_state(params) or from a state of an earlier run"
        validation.require_structure("state", state, start, advice)
    if key is not None:
        validation.require_key("key", key)
    if key is not None and not cell.random:
        advice = "leave it out, or give a Stack its dropout"
        raise ValueError(validation.sentence("key", "none for this cell", "a key", advice))
    steps, z = inputs.shape[0], flatten(start)
    given = jax.tree.leaves((params, inputs, state, key))
    traced = any(isinstance(leaf, Tracer) for leaf in given)
    against = reason_against(parallel, steps, z.size, cell.diagonal, traced)
    window = window_of(steps, z.size, z.dtype.itemsize, cell.diagonal)
    guess = parallel is None
    return _simulate(
        cell, params, inputs, start if state is None else state, key, against, window, guess
    )


@jax.jit(static_argnames=("against", "window", "guess"))
def _simulate(
    cell: Cell,
    params: Any,
    inputs: jax.Array,
    start: Any,
    key: jax.Array | None,
    against: Reason | None,
    window: int,
    guess: bool,
) -> Trajectory:
    keys = None if key is None else jax.random.split(key, inputs.shape[0])

    def advance(state, at):
        state = one_step(cell, params, state, *at)
        return state, state

    def step_by_step():
        return jax.lax.scan(advance, start, (inputs, keys))[1]

    if against is None:
        z, like, found = _at_once(cell, params, inputs, start, keys, window, guess)
        at_once = lambda: jax.vmap(unflatten)(z, like)  # noqa: E731
        later = jax.lax.cond(found.reason == Reason.PARALLEL, at_once, step_by_step)
    else:
        later, found = step_by_step(), sequentially(against, inputs.dtype)
    states = jax.tree.map(lambda a, b: jnp.concatenate([a[None], b]), start, later)
    return Trajectory(
        states=states,
        outputs=jax.vmap(cell.output)(later),
        inputs=inputs,
        status=status.of_finite(jax.vmap(flatten)(states)),
        keys=keys,
        evaluation=found,
    )


def _at_once(cell, params, inputs, start, keys, window, guess):
    """z_1, ..., z_T by Newton's method, states with their clocks, and the evaluation."""
    rule, z0 = CellStep(cell), flatten(start)
    clocked = _clocks(cell, params, inputs, start, keys)
    like = jax.tree.map(lambda leaf: leaf[1:], clocked)
    data = (jax.tree.map(lambda leaf: leaf[:-1], clocked), inputs, keys)

    def attempt():
        # products rounded to TF32, a GPU's default in float32, have no fixed point to 64 eps
        with jax.default_matmul_precision("highest"):
            return newton(rule, z0, data, params, window, cell.diagonal)

    if not guess:
        z, found = attempt()
        return z, like, found
    exponent = leading_exponent(rule, z0, jax.tree.map(lambda leaf: leaf[:PREFIX], data), params)

    def refuse():
        z = jnp.zeros((inputs.shape[0], z0.size), z0.dtype)
        return z, sequentially(Reason.UNPREDICTABLE, z0.dtype)

    z, found = jax.lax.cond(exponent < 0, attempt, refuse)
    return z, like, dataclasses.replace(found, exponent=exponent)


def _clocks(cell: Cell, params: Any, inputs: jax.Array, start: Any, keys: Any) -> Any:
    """T + 1 states, right in their integer leaves alone: clocks run without the rest."""
    steps = inputs.shape[0]
    whole = min(steps, steps if cell.period is None else cell.period)

    def advance(state, at):
        state = one_step(cell, params, state, *at)
        return state, state

    def stacked(leaf, later):
        if jnp.issubdtype(leaf.dtype, jnp.inexact):
            return jnp.broadcast_to(leaf, (steps + 1, *leaf.shape))
        at = np.arange(steps + 1)
        return jnp.concatenate([leaf[None], later])[at if steps == whole else at % whole]

    if cell.period == 1:
        later = start
    else:
        _, later = jax.lax.scan(advance, start, jax.tree.map(lambda a: a[:whole], (inputs, keys)))
    return jax.tree.map(stacked, start, later)


def one_step(cell: Cell, params: Any, state: Any, x: jax.Array, key: jax.Array | None) -> Any:
    """The cell's step, with its random key where there is one."""
    extra = () if key is None else (key,)
    return cell.step(params, state, x, *extra)


@specification
class CellStep:
    """One step of a cell on flat vectors; the data of a step: its state (for clocks), x, key."""

    cell: Cell

    def __call__(self, z: jax.Array, data: tuple[Any, jax.Array, Any], params: Any) -> jax.Array:
        state, x, key = data
        return flatten(one_step(self.cell, params, unflatten(z, state), x, key))


def _both_directions(
    cells: Bidirectional,
    params: Directions,
    inputs: jax.Array,
    state: Any,
    key: Any,
    parallel: bool | None,
) -> BidirectionalRun:
    if state is not None or key is not None:
        advice = "run the cells of .forward and .backward by themselves to start them elsewhere"
        raise ValueError(validation.sentence("state, key", "none", "some", advice))
    forward, backward, outputs = [], [], jnp.asarray(inputs)
    for index in range(len(cells.forward)):
        ahead = simulate(cells.forward[index], params.forward[index], outputs, parallel=parallel)
        back = simulate(
            cells.backward[index], params.backward[index], outputs[::-1], parallel=parallel
        )
        outputs = jnp.concatenate([ahead.outputs, back.outputs[::-1]], axis=1)
        forward.append(ahead)
        backward.append(back)
    finite = status.of_finite([run.states for run in forward + backward])
    return BidirectionalRun(tuple(forward), tuple(backward), outputs, finite)


def sample_states(
    key: jax.Array, run: Trajectory, n: int, *, noise: float | jax.Array = 0.0
) -> jax.Array:
    """Draw states of a run, with replacement, as starts for a search.

    Parameters
    ----------
    key : jax.Array
        A JAX random key.
    run : Trajectory
        Leading axes before time (a vmapped run) are allowed.
    n : int, at least 0
        How many.
    noise : float, at least 0
        Standard deviation of Gaussian noise added to every coordinate.

    Returns
    -------
    jax.Array, shape (n, d)
        Flat vectors z.

    Examples
    --------
    >>> import jax, jax.numpy as jnp, rnndyn as rd
    >>> cell = rd.cells.Vanilla(3, 8)
    >>> run = rd.simulate(cell, cell.init(jax.random.key(0)), jnp.ones((5, 3)))
    >>> rd.sample_states(jax.random.key(1), run, 20, noise=0.1).shape
    (20, 8)
    """
    validation.require_key("key", key)
    if not isinstance(run, Trajectory):
        advice = "pass run = rd.simulate(cell, params, inputs)"
        raise TypeError(validation.sentence("run", "a Trajectory", repr(type(run)), advice))
    n = validation.require_int("n", n, 0, "pass how many states to draw")
    validation.require_nonnegative("noise", noise, "it is a standard deviation")
    none = not isinstance(noise, jax.Array) and noise == 0
    return _sample_states(key, run.states, run.inputs.ndim - 1, n, None if none else noise)


@jax.jit(static_argnames=("lead", "n"))
def _sample_states(key: jax.Array, states: Any, lead: int, n: int, noise: Any) -> jax.Array:
    states = jax.tree.map(lambda leaf: leaf.reshape((-1,) + leaf.shape[lead:]), states)
    z = jax.vmap(flatten)(states)
    key_choice, key_noise = jax.random.split(key)
    chosen = z[jax.random.randint(key_choice, (n,), 0, z.shape[0])]
    if noise is None:
        return chosen
    return chosen + jnp.asarray(noise, z.dtype) * jax.random.normal(
        key_noise, chosen.shape, z.dtype
    )
