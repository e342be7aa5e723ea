"""The n-bit flip-flop (Sussillo & Barak 2013), and cells trained on it.

Each channel receives rare pulses of +1 or -1, and the network must say what the last pulse of each
channel was: n bits of memory. The channels have no pulse in common, so the solution that theory
expects has 3^n fixed points: each bit is held at either of two stable states or rests on the
saddle between them.
"""

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
    readout : jax.Array, shape (bits, n)
    losses : jax.Array, shape (steps,)
        Mean squared error of each batch.
    """

    params: Any
    readout: jax.Array
    losses: jax.Array


def trials(key: jax.Array, count: int, steps: int, bits: int, probability: float = 0.25):
    """Inputs and targets, each (count, steps, bits); every channel starts with a pulse."""
    key_pulse, key_sign = jax.random.split(key)
    pulse = jax.random.bernoulli(key_pulse, probability, (count, steps, bits))
    pulse = pulse.at[:, 0].set(True)
    sign = jax.random.rademacher(key_sign, (count, steps, bits), float)
    inputs = jnp.where(pulse, sign, 0.0)
    last = jax.lax.cummax(jnp.where(pulse, jnp.arange(steps)[None, :, None], 0), axis=1)
    return inputs, jnp.take_along_axis(inputs, last, axis=1)


def train(
    key: jax.Array,
    cell: rd.cells.Cell,
    *,
    gain: float = 1.0,
    steps: int = 2000,
    rate: float = 3e-3,
    batch: int = 64,
    length: int = 40,
) -> Trained:
    """Adam with a cosine-decayed rate on fresh trials, gradients clipped to norm 1."""
    key_cell, key_readout, key_trials = jax.random.split(key, 3)
    bits, n = cell.input_size, cell.hidden_size
    readout = jax.random.normal(key_readout, (bits, n)) / jnp.sqrt(n)
    weights = cell.init(key_cell, gain=gain), readout
    schedule = optax.cosine_decay_schedule(rate, steps, alpha=0.02)
    optimiser = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(schedule))

    def loss(weights, key):
        params, readout = weights
        inputs, targets = trials(key, batch, length, bits)
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
