"""Random keys, split."""

import jax

from rnndyn.core import validation


def split(key: jax.Array, num: int | tuple[int, ...] = 2) -> jax.Array:
    """`jax.random.split`, which says what a key is when it gets none (an int, most often)."""
    validation.require_key("key", key)
    return jax.random.split(key, num)
