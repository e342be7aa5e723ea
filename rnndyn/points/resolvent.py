"""How far from normal a matrix is: its resolvent on and outside the unit circle.

The smallest singular value of w I - J says how small a change of J gives it the eigenvalue w
(Trefethen & Embree, Spectra and Pseudospectra, 2005). Both numbers here are extrema over w: on the
circle the global one, outside it the best of a grid and a pattern search.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from rnndyn.points import dense

_ANGLES = 17  # from 0 to pi: J is real, so the lower half plane mirrors the upper
_LEADING = 8  # eigenvalues whose angles are tried too
_HEIGHTS = 9  # log(|w| - 1) from -14 to 2
_HALVINGS = 12
_CROSSINGS = 16  # angles between which one round looks for a lower value
_ROUNDS = 32


def distance_to_instability(jacobian: jax.Array) -> jax.Array:
    """The least spectral norm of a complex change of J that puts an eigenvalue on the unit circle.

    min over theta of s(theta), the smallest singular value of e^(i theta) I - J (Van Loan 1985): at
    most the distance of the eigenvalues from the circle, far below it where J is not normal. Of an
    unstable J it is the distance to having an eigenvalue on the circle all the same.

    Found by level sets (Byers 1988; Boyd & Balakrishnan 1990): a level e is a singular value at
    theta just where e^(i theta) is an eigenvalue of the pencil

        ([[J, e I], [0, I]], [[I, 0], [e I, J^T]]),

    so the angles at which s falls below the lowest value so far are known all at once, and s in the
    middle between neighbours is the next level. This converges quadratically, to the global
    minimum: it ends where no angle is lower by more than eps^(3/4) of it and rounding.

    Parameters
    ----------
    jacobian : jax.Array, shape (d, d)

    Returns
    -------
    jax.Array, scalar
        A constant to differentiation. Cost: usually 3 to 5 eigenproblems of size 2 d and some 20
        complex singular value problems of size d.
    """
    return _level_sets(jax.lax.stop_gradient(jacobian))


@jax.custom_batching.sequential_vmap  # batches of LAPACK's calls in a loop can wait for each other
def _level_sets(jacobian: jax.Array) -> jax.Array:
    eps = float(jnp.finfo(jacobian.dtype).eps)
    rounding = 16 * eps * (1 + jnp.linalg.norm(jacobian))
    grid = jnp.linspace(0.0, jnp.pi, _ANGLES // 2 + 1, dtype=jacobian.dtype)
    at_grid = jax.lax.map(lambda angle: _least(jacobian, angle), grid)

    def unfinished(carry):
        level, before, rounds = carry
        return (before - level > eps**0.75 * level + rounding) & (rounds < _ROUNDS)

    def lower(carry):
        level, _, rounds = carry
        angles = _crossings(jacobian, (1 - eps**0.75) * level, at_grid[0] < at_grid[-1])
        middles, apart = (angles[1:] + angles[:-1]) / 2, jnp.diff(angles) > 0
        found = jax.lax.map(
            lambda at: jax.lax.cond(at[1], _least, lambda *_: level, jacobian, at[0]),
            (middles, apart),
        )
        return jnp.minimum(level, jnp.min(found)), level, rounds + 1

    start = (jnp.min(at_grid), jnp.asarray(jnp.inf, jacobian.dtype), jnp.int32(0))
    return jax.lax.while_loop(unfinished, lower, start)[0]


def _crossings(jacobian: jax.Array, level: jax.Array, flip: jax.Array) -> jax.Array:
    """The angles in [0, pi] at which `level` is a singular value, rising, between 0 and pi.

    The Cayley transform z = (1 + s)/(1 - s) makes an ordinary eigenproblem of the pencil unless
    the level is one at z = -1; with `flip` the angles are those of -J, so that it is not.
    """
    d, dtype = jacobian.shape[0], jacobian.dtype
    sign = jnp.where(flip, 1, -1).astype(dtype)
    eye, zero = jnp.eye(d, dtype=dtype), jnp.zeros((d, d), dtype)
    first = jnp.block([[sign * jacobian, level * eye], [zero, eye]])
    second = jnp.block([[eye, zero], [level * eye, sign * jacobian.T]])
    s = jnp.linalg.eigvals(jnp.linalg.solve(first + second, first - second))
    z = (1 + s) / (1 - s)
    off = jnp.where(z.imag >= 0, jnp.abs(jnp.log(jnp.abs(z))), jnp.inf)
    nearest = jnp.argsort(off)[: min(2 * d, _CROSSINGS)]
    angles = jnp.where(flip, jnp.angle(z), jnp.pi - jnp.angle(z))[nearest]
    angles = jnp.where(off[nearest] < jnp.finfo(dtype).eps ** 0.25, angles, 0)
    return jnp.sort(jnp.concatenate([angles, jnp.array([0.0, jnp.pi], dtype)]))


def _least(jacobian: jax.Array, angle: jax.Array) -> jax.Array:
    w = jax.lax.complex(jnp.cos(angle), jnp.sin(angle))
    shifted = w * jnp.eye(jacobian.shape[0], dtype=w.dtype) - jacobian.astype(w.dtype)
    return jnp.linalg.svd(shifted, compute_uv=False)[-1]


@jax.custom_batching.sequential_vmap
def kreiss_constant(jacobian: jax.Array, eigenvalues: jax.Array, unstable: jax.Array) -> jax.Array:
    """The Kreiss constant, sup over |w| > 1 of (|w| - 1) |(w I - J)^-1|.

    K <= max_n |J^n| <= e d K (Kreiss 1962; Spijker 1991): 1 for a stable normal J, large where a
    stable J amplifies before it forgets, infinite where the spectral radius exceeds 1. Found from
    below: on a grid of heights and angles, which includes those of the leading eigenvalues, and by
    a pattern search around its best point.

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
    """The least value on a grid (k, 2), then by a pattern search of halving width.

    The grid is taken in parts of as many points as the search has moves, so that the objective is
    compiled once.
    """
    moves = jnp.array([[1, 0], [-1, 0], [0, 1], [0, -1], [1, 1], [-1, -1], [1, -1], [-1, 1]])
    moves = moves.astype(grid.dtype)
    parts = -(-len(grid) // len(moves))
    grid = jnp.pad(grid, ((0, parts * len(moves) - len(grid)), (0, 0)), mode="edge")
    grid = grid.reshape(parts, *moves.shape)

    def advance(i, carry):
        at, value, widths = carry
        searching = i >= parts
        trials = jnp.where(searching, at[None, :] + moves * widths[None, :], grid[i])
        values = jax.vmap(objective)(trials)
        k = jnp.argmin(values)
        better = (values[k] < value) | (~searching & jnp.isnan(values[k]))
        at, value = jnp.where(better, trials[k], at), jnp.where(better, values[k], value)
        return at, value, jnp.where(searching, widths / 2, widths)

    carry = (grid[0, 0], jnp.asarray(jnp.inf, grid.dtype), widths / 2)
    return jax.lax.fori_loop(0, parts + _HALVINGS, advance, carry)[1]
