"""How near the eigenvalues of a fixed point are to the unit circle, by kind of bifurcation."""

import enum
from collections.abc import Callable

import jax
import jax.numpy as jnp

from rnndyn.branches.normal_forms import critical_vectors

GRID = 33
GOLDEN_STEPS = 24


class Kind(enum.IntEnum):
    """The bifurcation that a multiplier leads to: at +1, at -1, or a complex pair elsewhere."""

    NEIMARK_SACKER = 0
    FOLD = 1
    FLIP = -1


ORDER = (Kind.FOLD, Kind.FLIP, Kind.NEIMARK_SACKER)


def margins(jacobian: jax.Array) -> tuple[jax.Array, jax.Array]:
    """min |lambda - 1|, min |lambda + 1| and, over complex pairs, min ||lambda| - 1|; shape (3,).

    The third is infinite where no eigenvalue is complex. Returns with them the three eigenvalues,
    that of a complex pair with positive imaginary part. Not differentiable: see `margin`.
    """
    eigenvalues = jnp.linalg.eigvals(jacobian)
    paired = eigenvalues.imag > 0
    distances = jnp.stack(
        [
            jnp.abs(eigenvalues - 1),
            jnp.abs(eigenvalues + 1),
            jnp.where(paired, jnp.abs(jnp.abs(eigenvalues) - 1), jnp.inf),
        ]
    )
    nearest = jnp.argmin(distances, axis=1)
    return jnp.min(distances, axis=1), eigenvalues[nearest]


def functional(
    jacobian: jax.Array, eigenvalue: jax.Array, toward: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Real (w, v), each (2, d), with d Re(conj(toward) eigenvalue) = sum_i w_i . dJ v_i.

    It is Re(conj(toward) p^H dJ q) for left and right eigenvectors with <p, q> = 1.
    """
    matrix = jax.lax.complex(jacobian, jnp.zeros_like(jacobian))
    q, p = critical_vectors(matrix, eigenvalue)
    w = toward.conj() * p.conj()
    return jnp.stack([w.real, -w.imag]), jnp.stack([q.real, q.imag])


def apply(F: Callable, z: jax.Array, w: jax.Array, v: jax.Array) -> jax.Array:
    """sum_i w_i . J(z) v_i, by forward derivatives."""
    return jnp.sum(w * jax.vmap(lambda v: jax.jvp(F, (z,), (v,))[1])(v))


def robust_margin(jacobian: jax.Array) -> jax.Array:
    """min over angles of the least singular value of e^{i angle} I - J.

    The distance, in the spectral norm, of J to a (complex) matrix with an eigenvalue on the unit
    circle: at most the distance of the eigenvalues, and far below it where J is not normal. Found
    on 33 angles in [0, pi] and refined by golden section to about 1e-6 in the angle, which leaves
    an error of second order; a narrower minimum between two angles would be missed.
    """
    jacobian = jax.lax.stop_gradient(jacobian)
    eye = jnp.eye(jacobian.shape[0], dtype=jacobian.dtype)

    def least(angle):
        matrix = jax.lax.complex(jnp.cos(angle) * eye - jacobian, jnp.sin(angle) * eye)
        return jnp.linalg.svd(matrix, compute_uv=False)[-1]

    angles = jnp.linspace(0, jnp.pi, GRID, dtype=jacobian.dtype)
    at_grid = jax.lax.map(least, angles)
    best, spacing = angles[jnp.argmin(at_grid)], angles[1]
    ratio = 0.5 * (5**0.5 - 1)

    def narrow(_, bracket):
        low, high = bracket
        left, right = high - ratio * (high - low), low + ratio * (high - low)
        lower = least(left) < least(right)
        return jnp.where(lower, low, left), jnp.where(lower, right, high)

    low, high = jax.lax.fori_loop(0, GOLDEN_STEPS, narrow, (best - spacing, best + spacing))
    return jnp.minimum(least(0.5 * (low + high)), jnp.min(at_grid))
