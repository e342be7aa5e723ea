"""The n-bit flip-flop (Sussillo & Barak 2013).

Each channel receives rare pulses of +1 or -1, and the network must say what the last pulse of each
channel was: n bits of memory. The channels have no pulse in common, so the solution that theory
expects has 3^n fixed points: each bit is held at either of two stable states or rests on the
saddle between them.
"""

import jax
import jax.numpy as jnp


def trials(key: jax.Array, count: int, steps: int, bits: int = 3, probability: float = 0.25):
    """Inputs and targets, each (count, steps, bits); every channel starts with a pulse."""
    key_pulse, key_sign = jax.random.split(key)
    pulse = jax.random.bernoulli(key_pulse, probability, (count, steps, bits))
    pulse = pulse.at[:, 0].set(True)
    sign = jax.random.rademacher(key_sign, (count, steps, bits), float)
    inputs = jnp.where(pulse, sign, 0.0)
    last = jax.lax.cummax(jnp.where(pulse, jnp.arange(steps)[None, :, None], 0), axis=1)
    return inputs, jnp.take_along_axis(inputs, last, axis=1)
