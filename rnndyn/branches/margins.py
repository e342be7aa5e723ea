"""How near the eigenvalues of a fixed point are to the unit circle, by kind of bifurcation."""

import enum
from collections.abc import Callable

import jax
import jax.numpy as jnp

from rnndyn.branches.normal_forms import critical_vectors


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
