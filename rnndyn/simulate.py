"""Running a cell over a sequence of inputs, and drawing states from a run."""

from typing import Any

import jax
import jax.numpy as jnp

from rnndyn.cells.base import Cell
from rnndyn.cells.containers import Bidirectional, Directions
from rnndyn.core import status, validation
from rnndyn.core.pytree import flatten, pytree


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
    """

    states: Any
    outputs: jax.Array
    inputs: jax.Array
    status: jax.Array
    keys: jax.Array | None = None


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

    Returns
    -------
    Trajectory
        T + 1 states, T outputs; status -3 where a state is not finite. Cost: T steps. For a
        `Bidirectional` a `BidirectionalRun`, which holds one Trajectory a layer and direction.

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
    """
    if isinstance(cell, Bidirectional):
        return _both_directions(cell, params, inputs, state, key)
    start = cell.initial_state(params)
    inputs = jnp.asarray(inputs)
    advice = "pass one sequence, time first, and vmap over several"
    validation.require_shape("inputs", inputs, ("T", cell.input_size), advice)
    validation.require_real("inputs", inputs)
    validation.require_same_dtype("inputs", inputs, "params", flatten(start).dtype)
    if state is not None:
        advice = "start from cell.initial_state(params) or from a state of an earlier run"
        validation.require_structure("state", state, start, advice)
    if key is not None and not cell.random:
        advice = "leave it out, or give a Stack its dropout"
        raise ValueError(validation.sentence("key", "none for this cell", "a key", advice))
    return _simulate(cell, params, inputs, start if state is None else state, key)


@jax.jit
def _simulate(
    cell: Cell, params: Any, inputs: jax.Array, start: Any, key: jax.Array | None
) -> Trajectory:
    keys = None if key is None else jax.random.split(key, inputs.shape[0])

    def advance(state, at):
        state = one_step(cell, params, state, *at)
        return state, state

    _, later = jax.lax.scan(advance, start, (inputs, keys))
    states = jax.tree.map(lambda a, b: jnp.concatenate([a[None], b]), start, later)
    return Trajectory(
        states=states,
        outputs=jax.vmap(cell.output)(later),
        inputs=inputs,
        status=status.of_finite(jax.vmap(flatten)(states)),
        keys=keys,
    )


def one_step(cell: Cell, params: Any, state: Any, x: jax.Array, key: jax.Array | None) -> Any:
    """The cell's step, with its random key where there is one."""
    extra = () if key is None else (key,)
    return cell.step(params, state, x, *extra)


def _both_directions(
    cells: Bidirectional, params: Directions, inputs: jax.Array, state: Any, key: Any
) -> BidirectionalRun:
    if state is not None or key is not None:
        advice = "run the cells of .forward and .backward by themselves to start them elsewhere"
        raise ValueError(validation.sentence("state, key", "none", "some", advice))
    forward, backward, outputs = [], [], jnp.asarray(inputs)
    for index in range(len(cells.forward)):
        ahead = simulate(cells.forward[index], params.forward[index], outputs)
        back = simulate(cells.backward[index], params.backward[index], outputs[::-1])
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
    noise : float
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
    n = validation.require_int("n", n, 0, "pass how many states to draw")
    lead = run.inputs.ndim - 1
    states = jax.tree.map(lambda leaf: leaf.reshape((-1,) + leaf.shape[lead:]), run.states)
    z = jax.vmap(flatten)(states)
    key_choice, key_noise = jax.random.split(key)
    chosen = z[jax.random.randint(key_choice, (n,), 0, z.shape[0])]
    return chosen + jnp.asarray(noise, z.dtype) * jax.random.normal(
        key_noise, chosen.shape, z.dtype
    )
