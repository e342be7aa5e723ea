"""How far Jacobians are from normal: what their eigenvalues alone do not say about growth.

The powers of a normal matrix grow or fade as its spectral radius does from the first step on. A
matrix that is not normal may amplify for a while although all its eigenvalues are below 1
(Trefethen & Embree, Spectra and Pseudospectra, 2005).
"""

import jax
import jax.numpy as jnp

from rnndyn.core import validation
from rnndyn.core.pytree import pytree
from rnndyn.core.status import Status
from rnndyn.flow import graded
from rnndyn.linearize import Diagonal, Linearization


@pytree
class NonNormality:
    """Departure from normality of each step of a run.

    Attributes
    ----------
    henrici : jax.Array, shape (T,)
        sqrt(|J|_F^2 - sum |lambda|^2) (Henrici 1962): 0 for a normal J, to within
        sqrt(d eps) |J|_F. NaN where the status is -3.
    relative : jax.Array, shape (T,)
        henrici / |J|_F, in [0, 1]; 1 for a nilpotent J, 0 for J = 0.
    log_norm, log_radius : jax.Array, shape (T,)
        Natural logarithms of the spectral norm and of the spectral radius, equal for a normal J:
        what one step can stretch, and what it would if repeated for ever. -inf for 0.
    status : jax.Array, shape (T,), int
        0; -3 if the Jacobian is not finite.
    """

    henrici: jax.Array
    relative: jax.Array
    log_norm: jax.Array
    log_radius: jax.Array
    status: jax.Array


@pytree
class TransientGrowth:
    """The largest norm of a power of a matrix.

    Attributes
    ----------
    log_growth : jax.Array, scalar
        Natural logarithm of max over n >= 0 of |J^n|, at least 0.
    step : jax.Array, int
        The n at which it is reached first.
    status : jax.Array, int
        0: some |J^m| <= 1 was met, and no later power exceeds those before it. -2: none within
        `max_steps`, and the growth is that of the powers tried, a lower bound. -3: J is not
        finite, and the growth NaN.
    """

    log_growth: jax.Array
    step: jax.Array
    status: jax.Array


def non_normality(lin: Linearization) -> NonNormality:
    """The departure from normality of each Jacobian along a run.

    Parameters
    ----------
    lin : Linearization
        Of one matrix: `rd.Linearization.from_jacobians(J[None])`.

    Returns
    -------
    NonNormality
        Constants to differentiation. Cost: T eigenproblems and T singular value problems of size
        d, one Jacobian at a time; O(T d) for diagonal Jacobians, which are normal.

    Raises
    ------
    TypeError, ValueError
        If `lin` is not one Linearization.

    Examples
    --------
    >>> import jax.numpy as jnp, rnndyn as rd
    >>> lin = rd.Linearization.from_jacobians(jnp.array([[[0.5, 3.0], [0.0, 0.5]]]))
    >>> found = rd.non_normality(lin)
    >>> float(found.henrici[0].round(3)), float(jnp.exp(found.log_radius[0]).round(3))
    (3.0, 0.5)
    """
    graded.require_linearization(lin)
    return _non_normality(jax.lax.stop_gradient(lin))


@jax.jit
def _non_normality(lin: Linearization) -> NonNormality:
    if isinstance(lin, Diagonal):
        finite = jnp.all(jnp.isfinite(lin.slices), axis=1)
        size = jnp.log(jnp.max(jnp.abs(lin.slices), axis=1))
        zero = jnp.zeros_like(size)
        return _where_finite(finite, zero, zero, size, size)
    eye = jnp.eye(lin.size, dtype=lin.dtype)
    return jax.lax.map(lambda at: _departure(lin.push(at, eye)), lin.slices)


def _departure(jacobian: jax.Array) -> NonNormality:
    finite = jnp.all(jnp.isfinite(jacobian))
    largest = jnp.max(jnp.abs(jacobian))
    scale = jnp.where(finite & (largest > 0), largest, 1)
    unit = jnp.where(finite, jacobian / scale, jnp.zeros_like(jacobian))
    moduli = jnp.abs(jnp.linalg.eigvals(unit))
    square = jnp.sum(unit**2)
    departure = jnp.sqrt(jnp.maximum(square - jnp.sum(moduli**2), 0))
    relative = departure / jnp.sqrt(jnp.where(square == 0, 1, square))
    log_scale = jnp.log(scale)
    norm = jnp.log(jnp.linalg.norm(unit, 2)) + log_scale
    return _where_finite(
        finite, scale * departure, relative, norm, jnp.log(jnp.max(moduli)) + log_scale
    )


def _where_finite(
    finite: jax.Array,
    henrici: jax.Array,
    relative: jax.Array,
    log_norm: jax.Array,
    log_radius: jax.Array,
) -> NonNormality:
    return NonNormality(
        henrici=jnp.where(finite, henrici, jnp.nan),
        relative=jnp.where(finite, relative, jnp.nan),
        log_norm=jnp.where(finite, log_norm, jnp.nan),
        log_radius=jnp.where(finite, log_radius, jnp.nan),
        status=jnp.where(finite, jnp.int32(Status.CONVERGED), jnp.int32(Status.NONFINITE)),
    )


def transient_growth(jacobian: jax.Array, *, max_steps: int = 10_000) -> TransientGrowth:
    """The largest norm max over n of |J^n|: what a perturbation can grow by before it decays.

    Once |J^m| <= 1, every later power is a product of J^m and of powers tried already, so the
    largest of those is the largest of all.

    Parameters
    ----------
    jacobian : jax.Array, shape (d, d)
        Of a fixed point, `map_.jacobian(z)`; vmap over several.
    max_steps : int
        Powers to try; about log |J^n| / -log(spectral radius) are needed.

    Returns
    -------
    TransientGrowth
        Bounded from below by the Kreiss constant of `rd.stability`. A constant to
        differentiation. Cost: O(d^3) a power.

    Raises
    ------
    ValueError, TypeError
        If J is not a real square matrix, or on bad max_steps.

    Examples
    --------
    >>> import jax.numpy as jnp, rnndyn as rd
    >>> found = rd.transient_growth(jnp.array([[0.9, 1.0], [0.0, 0.9]]))
    >>> float(jnp.exp(found.log_growth).round(2)), int(found.step), int(found.status)
    (3.91, 9, 0)
    """
    jacobian = jnp.asarray(jacobian)
    advice = "pass one square matrix and vmap over several"
    validation.require_shape("jacobian", jacobian, ("d", "d"), advice)
    validation.require_shape("jacobian", jacobian, (jacobian.shape[0],) * 2, advice)
    validation.require_real("jacobian", jacobian)
    max_steps = validation.require_int("max_steps", max_steps, 1, "try one power at least")
    return _transient_growth(jax.lax.stop_gradient(jacobian), jnp.int32(max_steps))


@jax.jit
def _transient_growth(jacobian: jax.Array, max_steps: jax.Array) -> TransientGrowth:
    finite = jnp.all(jnp.isfinite(jacobian))
    scale = jnp.max(jnp.abs(jacobian))
    scale = jnp.where(finite & (scale > 0), scale, 1)
    unit = jnp.where(finite, jacobian / scale, jnp.zeros_like(jacobian))
    zero = jnp.zeros((), jacobian.dtype)

    def go_on(state):
        _, _, n, norm, _, _ = state
        return ((n == 0) | (norm > 0)) & (n < max_steps)

    def power(state):
        product, log_scale, n, _, best, step = state
        product = unit @ product
        size = jnp.max(jnp.abs(product))
        size = jnp.where(size == 0, 1, size)
        product = product / size
        log_scale += jnp.log(scale) + jnp.log(size)
        norm = jnp.log(jnp.linalg.norm(product, 2)) + log_scale
        better = norm > best
        best, step = jnp.where(better, norm, best), jnp.where(better, n + 1, step)
        return product, log_scale, n + 1, norm, best, step

    eye = jnp.eye(jacobian.shape[0], dtype=jacobian.dtype)
    state = (eye, zero, jnp.int32(0), zero, zero, jnp.int32(0))
    _, _, _, norm, best, step = jax.lax.while_loop(go_on, power, state)
    status = jnp.where(norm <= 0, jnp.int32(Status.CONVERGED), jnp.int32(Status.MAX_STEPS))
    return TransientGrowth(
        log_growth=jnp.where(finite, best, jnp.nan),
        step=jnp.where(finite, step, 0),
        status=jnp.where(finite, status, jnp.int32(Status.NONFINITE)),
    )
