"""modReLU, which shrinks or stretches the modulus and keeps the direction."""

import jax
import jax.numpy as jnp


def modrelu(a: jax.Array, b: jax.Array, eps: float = 0.0) -> jax.Array:
    """a relu(|a| + b)/|a|, per unit (Arjovsky, Shah & Bengio 2016, eq. 8).

    Parameters
    ----------
    a : jax.Array, shape (k, units)
        The parts of each unit's value: one row is real, two are real and imaginary part.
    b : jax.Array, shape (units,)
    eps : float, at least 0
        Added to the denominator |a|. With 0 and b = 0 the function is the identity, bit for bit.

    Returns
    -------
    jax.Array, shape (k, units)
        At a = 0 it is 0, and its derivative there the identity for b = 0 and zero for b < 0. For
        b > 0 the modulus jumps to b: there is no derivative, and JAX's is finite.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> modrelu(jnp.array([[6.0, 0.0], [8.0, 0.0]]), jnp.array([-5.0, -5.0])).tolist()
    [[3.0, 0.0], [4.0, 0.0]]
    """
    square = jnp.sum(a * a, axis=0)
    zero = square == 0
    modulus = jnp.sqrt(jnp.where(zero, jnp.ones_like(square), square))  # sqrt'(0) is infinite
    away = jax.nn.relu(modulus + b) / (modulus + eps)
    at_zero = jax.nn.relu(b) / eps if eps > 0 else jax.nn.relu(1 + jnp.sign(b))
    return jnp.where(zero, at_zero, away)[None, :] * a
