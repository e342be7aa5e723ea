"""Training of a cell and its linear read-out on fresh trials of a task."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

import rnndyn as rd
from rnndyn.core.pytree import pytree


@pytree
class Trained:
    """A trained network.

    Attributes
    ----------
    params : pytree, of the cell
    readout : jax.Array, shape (targets, n)
    losses : jax.Array, shape (steps,)
        Mean squared error of each batch.
    """

    params: Any
    readout: jax.Array
    losses: jax.Array


def train(
    key: jax.Array,
    cell: rd.cells.Cell,
    trials: Callable[[jax.Array, int, int], tuple[jax.Array, jax.Array]],
    *,
    gain: float = 1.0,
    steps: int = 2000,
    rate: float = 3e-3,
    batch: int = 64,
    length: int = 40,
) -> Trained:
    """Adam with a cosine-decayed rate on fresh trials, gradients clipped to norm 1.

    `trials(key, count, length)` draws inputs (count, length, m) and targets (count, length, k).
    """
    key_cell, key_readout, key_trials = jax.random.split(key, 3)
    outputs = jax.eval_shape(lambda key: trials(key, batch, length), key)[1].shape[-1]
    readout = jax.random.normal(key_readout, (outputs, cell.hidden_size))
    weights = cell.init(key_cell, gain=gain), readout / jnp.sqrt(cell.hidden_size)
    schedule = optax.cosine_decay_schedule(rate, steps, alpha=0.02)
    optimiser = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(schedule))

    def loss(weights, key):
        params, readout = weights
        inputs, targets = trials(key, batch, length)
        outputs = jax.vmap(lambda x: rd.simulate(cell, params, x).outputs)(inputs)
        return jnp.mean((outputs @ readout.T - targets) ** 2)

    def advance(carry, key):
        weights, state = carry
        value, slope = jax.value_and_grad(loss)(weights, key)
        with jax.numpy_dtype_promotion("standard"):  # optax relies on it
            change, state = optimiser.update(slope, state, weights)
        return (optax.apply_updates(weights, change), state), value

    @jax.jit
    def run(weights, keys):
        return jax.lax.scan(advance, (weights, optimiser.init(weights)), keys)

    ((params, readout), _), losses = run(weights, jax.random.split(key_trials, steps))
    return Trained(params, readout, losses)
