"""How far from normal a matrix is: its resolvent on and outside the unit circle.

The smallest singular value of w I - J says how small a change of J gives it the eigenvalue w
(Trefethen & Embree, Spectra and Pseudospectra, 2005). Both numbers here are extrema over w. They
are found on a grid of angles, which includes those of the leading eigenvalues, and then by a
pattern search around the best grid point, so each is a bound from the side that is stated.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from rnndyn.points import dense

_ANGLES = 17  # from 0 to pi: J is real, so the lower half plane mirrors the upper
_LEADING = 8  # eigenvalues whose angles are tried too
_HEIGHTS = 9  # log(|w| - 1) from -14 to 2
_HALVINGS = 12


def distance_to_instability(jacobian: jax.Array, eigenvalues: jax.Array) -> jax.Array:
    """The least spectral norm of a complex change of J that puts an eigenvalue on the unit circle.

    min over theta of the smallest singular value of e^(i theta) I - J (Van Loan 1985). Found from
    above. Of an unstable J it is the distance to having an eigenvalue on the circle all the same.

    Parameters
    ----------
    jacobian : jax.Array, shape (d, d)
    eigenvalues : jax.Array, shape (d,), by falling modulus

    Returns
    -------
    jax.Array, scalar
    """
    angles = _angles(eigenvalues)
    grid = jnp.stack([angles, jnp.zeros_like(angles)], axis=1)
    widths = jnp.array([jnp.pi / _ANGLES, 0.0], jacobian.dtype)
    return _minimise(lambda at: _smallest(jacobian, at[0], 1.0), grid, widths)


def kreiss_constant(jacobian: jax.Array, eigenvalues: jax.Array, unstable: jax.Array) -> jax.Array:
    """The Kreiss constant, sup over |w| > 1 of (|w| - 1) |(w I - J)^-1|.

    K <= max_n |J^n| <= e d K (Kreiss 1962; Spijker 1991): 1 for a stable normal J, large where a
    stable J amplifies before it forgets, infinite where the spectral radius exceeds 1. Found from
    below.

    Parameters
    ----------
    jacobian : jax.Array, shape (d, d)
    eigenvalues : jax.Array, shape (d,), by falling modulus
    unstable : jax.Array, bool
        Whether the spectral radius exceeds 1 by more than rounding.

    Returns
    -------
    jax.Array, scalar
    """
    angles = _angles(eigenvalues)
    heights = jnp.linspace(-14.0, 2.0, _HEIGHTS, dtype=jacobian.dtype)
    grid = jnp.stack(jnp.meshgrid(angles, heights), axis=-1).reshape(-1, 2)
    widths = jnp.array([jnp.pi / _ANGLES, 16 / _HEIGHTS], jacobian.dtype)

    def reciprocal(at):
        height = jnp.exp(at[1])
        return _smallest(jacobian, at[0], 1 + height) / height

    constant = jnp.maximum(1, 1 / _minimise(reciprocal, grid, widths))
    return jnp.where(unstable, jnp.inf, constant)


def _angles(eigenvalues: jax.Array) -> jax.Array:
    leading = jnp.abs(jnp.angle(eigenvalues[:_LEADING]))
    return jnp.concatenate([jnp.linspace(0.0, jnp.pi, _ANGLES, dtype=leading.dtype), leading])


def _smallest(jacobian: jax.Array, angle: jax.Array, radius: jax.Array | float) -> jax.Array:
    w = jax.lax.complex(radius * jnp.cos(angle), radius * jnp.sin(angle))
    shifted = w * jnp.eye(jacobian.shape[0], dtype=w.dtype) - jacobian.astype(w.dtype)
    return dense.smallest_singular(dense.inverse(shifted).matrix).value


def _minimise(
    objective: Callable[[jax.Array], jax.Array], grid: jax.Array, widths: jax.Array
) -> jax.Array:
    """The least value on a grid (k, 2), then by a pattern search of halving width."""
    values = jax.vmap(objective)(grid)
    best = jnp.argmin(values)
    moves = jnp.array([[1, 0], [-1, 0], [0, 1], [0, -1], [1, 1], [-1, -1], [1, -1], [-1, 1]])
    moves = moves.astype(grid.dtype)

    def halve(_, carry):
        at, value, widths = carry
        trials = at[None, :] + moves * widths[None, :]
        values = jax.vmap(objective)(trials)
        k = jnp.argmin(values)
        better = values[k] < value
        at = jnp.where(better, trials[k], at)
        return at, jnp.where(better, values[k], value), widths / 2

    carry = (grid[best], values[best], widths / 2)
    return jax.lax.fori_loop(0, _HALVINGS, halve, carry)[1]
