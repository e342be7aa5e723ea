"""Covariant Lyapunov vectors: the directions that the dynamics itself maps onto each other.

Ginelli, Poggi, Turchi, Chate, Livi & Politi (2007): forward, J Q = Q' R at every step; backward,
V = Q C with C upper triangular and C = R^-1 C' diag(growth), so that J v_i = growth_i v_i'.
"""

from typing import Any

import jax
import jax.numpy as jnp

from rnndyn.core import validation
from rnndyn.core.pytree import pytree
from rnndyn.core.status import Status
from rnndyn.flow import flags, graded
from rnndyn.flow.diagonal import log_modulus
from rnndyn.flow.lyapunov import require_k
from rnndyn.linearize import Linearization


@pytree
class CovariantVectors:
    """Covariant Lyapunov vectors along the middle of a run, of S + 1 points and S steps.

    Attributes
    ----------
    vectors : jax.Array, shape (S + 1, d, k)
        Unit columns, by falling exponent; J[t] vectors[t, :, i] = +-exp(growth[t, i])
        vectors[t + 1, :, i]. The first point is that before step `warmup`.
    growth : jax.Array, shape (S, k)
        Natural logarithm of the factor by which each step stretches each vector: the local
        exponents, whose means are the exponents.
    exponents : jax.Array, shape (k,)
        Mean growth per step, in the order of the vectors.
    status : jax.Array, int
        0; -3 if a Jacobian is not finite; -5 if a step annihilates one of the k directions, which
        then has no past. NaN in both cases.
    """

    vectors: jax.Array
    growth: jax.Array
    exponents: jax.Array
    status: jax.Array

    @property
    @jax.jit
    def angles(self) -> jax.Array:
        """The angle in [0, pi/2] between each two vectors at each point, shape (S + 1, k, k).

        To the square root of eps; `splitting(j)` tells small angles to the last digit.
        """
        inner = jnp.abs(jnp.swapaxes(self.vectors, -1, -2) @ self.vectors)
        return jnp.arccos(jnp.clip(inner, 0, 1))

    def splitting(self, j: int) -> jax.Array:
        """The smallest angle between the span of the first j vectors and that of the rest.

        0 at a tangency. With j the number of positive exponents and all vectors, it tells a
        hyperbolic run, in which it is bounded away from 0, from one that is not.

        Parameters
        ----------
        j : int, 1..k-1

        Returns
        -------
        jax.Array, shape (S + 1,), in radians
        """
        k = self.vectors.shape[-1]
        advice = f"there are k = {k} vectors to split in two"
        j = validation.require_int("j", j, 1, advice)
        validation.require_range("j", j, 1, k - 1, advice)
        return _splitting(self.vectors, j)


@jax.jit(static_argnames="j")
def _splitting(vectors: jax.Array, j: int) -> jax.Array:
    k = vectors.shape[-1]
    first, rest = vectors[..., :j], vectors[..., j:]
    a, b = jnp.linalg.qr(first)[0], jnp.linalg.qr(rest)[0]
    small = a if j <= k - j else b
    large = b if j <= k - j else a
    inside = jnp.swapaxes(large, -1, -2) @ small
    cosine = jnp.linalg.norm(inside, 2, axis=(-2, -1))
    # The sine too, as the cosine of a small angle has half the digits.
    sine = jnp.linalg.svd(small - large @ inside, compute_uv=False)[..., -1]
    return jnp.arctan2(sine, cosine)


def covariant_vectors(
    lin: Linearization, *, k: int | None = None, warmup: int, cooldown: int
) -> CovariantVectors:
    """The covariant Lyapunov vectors along a run, with their local growth and angles.

    Parameters
    ----------
    lin : Linearization
    k : int, optional
        How many, 1..d; all d by default.
    warmup, cooldown : int
        Steps at the start in which the frame turns forward, and at the end in which the
        coefficients turn backward, towards their limits, by e^(-gap) a step with the gap between
        neighbouring exponents. At least one step must remain between them.

    Returns
    -------
    CovariantVectors
        Of the S = T - warmup - cooldown steps between. Cost: T products with the Jacobian and T
        QRs, O(T d k^2); memory O(T d k). Only the spans of vectors with equal exponents are
        defined.

    Raises
    ------
    TypeError, ValueError
        If `lin` is not one Linearization, or on bad k, warmup or cooldown.

    Examples
    --------
    >>> import jax.numpy as jnp, rnndyn as rd
    >>> cat = jnp.broadcast_to(jnp.array([[2.0, 1.0], [1.0, 1.0]]), (60, 2, 2))
    >>> lin = rd.Linearization.from_jacobians(cat)
    >>> found = rd.covariant_vectors(lin, warmup=25, cooldown=25)
    >>> (found.exponents.round(4) + 0.0).tolist(), float(found.splitting(1)[0].round(4))
    ([0.9624, -0.9624], 1.5708)
    """
    graded.require_linearization(lin)
    k = require_k(k, lin.size)
    advice = f"this run has T = {lin.steps} steps, and one at least must remain"
    warmup = validation.require_int("warmup", warmup, 0, advice)
    cooldown = validation.require_int("cooldown", cooldown, 0, advice)
    between = "warmup + cooldown"
    validation.require_range(between, warmup + cooldown, 0, lin.steps - 1, advice)
    return _covariant_vectors(lin, k, warmup, cooldown)


@jax.jit(static_argnames=("k", "warmup", "cooldown"))
def _covariant_vectors(lin: Linearization, k: int, warmup: int, cooldown: int) -> CovariantVectors:
    kept = lin.steps - warmup - cooldown
    frame = flags.start(jnp.int32(0), lin.size, k, lin.dtype, None).frame

    def turn(q, at):
        return graded.orthonormalise(lin.push(at, q), None)[0], None

    def forward(q, at):
        after, r = graded.orthonormalise(lin.push(at, q), None)
        return after, (q, r)

    frame, _ = jax.lax.scan(turn, frame, _part(lin, 0, warmup))

    last, (frames, r) = jax.lax.scan(forward, frame, _part(lin, warmup, lin.steps))
    frames = jnp.concatenate([frames[:kept], (frames[kept] if cooldown else last)[None]])
    # Ones above the diagonal: a start that no vector is orthogonal to.
    coefficients = jnp.triu(jnp.ones((k, k), lin.dtype))
    coefficients, _ = jax.lax.scan(_back, coefficients, r[kept:], reverse=True)
    coefficients = coefficients / jnp.linalg.norm(coefficients, axis=0)[None, :]
    _, (before, growth) = jax.lax.scan(_back, coefficients, r[:kept], reverse=True)
    coefficients = jnp.concatenate([before, coefficients[None]])
    finite = jnp.all(jnp.isfinite(r))
    regular = jnp.all(jnp.diagonal(r, axis1=1, axis2=2) != 0)
    status = jnp.where(regular, jnp.int32(Status.CONVERGED), jnp.int32(Status.SINGULAR))
    good = finite & regular
    return CovariantVectors(
        vectors=jnp.where(good, frames @ coefficients, jnp.nan),
        growth=jnp.where(good, growth, jnp.nan),
        exponents=jnp.where(good, jnp.mean(growth, axis=0), jnp.nan),
        status=jnp.where(finite, status, jnp.int32(Status.NONFINITE)),
    )


def _part(lin: Linearization, start: int, stop: int) -> Any:
    return jax.tree.map(lambda leaf: leaf[start:stop], lin.slices)


def _back(coefficients: jax.Array, r: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    """The unit coefficients one step earlier, and the log growth of each over the step."""
    i = jnp.arange(r.shape[0])
    pivots = jnp.diagonal(r)
    safe = r.at[i, i].set(jnp.where(pivots == 0, jnp.ones_like(pivots), pivots))
    solve = jax.lax.linalg.triangular_solve
    before = jnp.triu(solve(safe, coefficients, left_side=True))
    length = jnp.linalg.norm(before, axis=0)
    before = before / length[None, :]
    return before, (before, -log_modulus(length))
