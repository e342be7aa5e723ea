"""The linear dynamics at a fixed point of a map: eigenvalues of DF, modes, non-normality.

A fixed point of a map is stable if every |eigenvalue| of J = DF is below 1. Neither the real part
nor the eigenvalues of D(F - id) decide it.
"""

import dataclasses
import enum
from typing import Any

import jax
import jax.numpy as jnp

from rnndyn.core import validation
from rnndyn.core.pytree import coded, pytree
from rnndyn.core.status import Status
from rnndyn.maps import HeldCell, Iterated, Map, require_map, require_states
from rnndyn.points import dense
from rnndyn.points.resolvent import distance_to_instability, kreiss_constant

RESOLVENT_SIZE = 32  # d above which the resolvent is left out unless asked for
_CENTER = 64  # multiple of d eps |J| within which a modulus counts as 1


class PointType(enum.IntEnum):
    """How orbits near a fixed point move.

    NONHYPERBOLIC (0) : some |eigenvalue| is 1 to rounding; the linear part does not decide.
    STABLE_NODE (1), STABLE_FOCUS (2) : all |eigenvalues| < 1, the largest real or complex.
    SADDLE (3), FLIP_SADDLE (4) : some above 1 and some below; a flip saddle has a real
        eigenvalue below -1, so that orbits leave it from alternating sides.
    UNSTABLE_NODE (5), UNSTABLE_FOCUS (6) : all above 1, the largest real or complex.
    """

    NONHYPERBOLIC = 0
    STABLE_NODE = 1
    STABLE_FOCUS = 2
    SADDLE = 3
    FLIP_SADDLE = 4
    UNSTABLE_NODE = 5
    UNSTABLE_FOCUS = 6


@pytree
class Stability:
    """The linear dynamics at each point. Leading axis m: the points. Modes by falling modulus.

    Attributes
    ----------
    eigenvalues : jax.Array, shape (m, d), complex
        Of J = dF/dz; of equal moduli the larger real part first, then the larger imaginary.
    right, left : jax.Array, shape (m, d, d), complex
        Eigenvectors as columns of length 1: J right_k = lambda_k right_k,
        left_k^H J = lambda_k left_k^H.
    unstable_dim, center_dim : jax.Array, shape (m,), int
        How many moduli are above 1, and how many are 1 to rounding (64 d eps |J|).
    stable : jax.Array, shape (m,), bool
        All moduli below 1 by more than rounding.
    spectral_radius : jax.Array, shape (m,)
    type : jax.Array, shape (m,), int
        A `PointType`.
    time_constants : jax.Array, shape (m, d)
        -1 / ln |lambda| in steps: of decay; negative of growth; +infinity at modulus 1.
    rotation : jax.Array, shape (m, d)
        Angle of each eigenvalue in radians a step, in (-pi, pi].
    henrici : jax.Array, shape (m,)
        Departure from normality sqrt(|J|_F^2 - sum |lambda|^2) (Henrici 1962): 0 for a normal J,
        to within sqrt(d eps) |J|_F.
    kreiss : jax.Array, shape (m,)
        A lower bound on the Kreiss constant, sup over |w| > 1 of (|w| - 1) |(w I - J)^-1|, hence
        on the factor max_n |J^n| by which a perturbation of a stable point can grow before it
        decays; infinite where unstable_dim > 0, NaN unless computed (`resolvent`).
    distance_to_instability : jax.Array, shape (m,)
        The smallest complex change of J (spectral norm) that puts an eigenvalue on the unit
        circle; NaN unless computed (`resolvent`).
    status : jax.Array, shape (m,), int
        0: computed. -3: z or J is not finite, or the eigensolver failed.
    """

    eigenvalues: jax.Array
    right: jax.Array
    left: jax.Array
    unstable_dim: jax.Array
    center_dim: jax.Array
    stable: jax.Array
    spectral_radius: jax.Array
    type: jax.Array = coded(PointType)
    time_constants: jax.Array
    rotation: jax.Array
    henrici: jax.Array
    kreiss: jax.Array
    distance_to_instability: jax.Array
    status: jax.Array

    @property
    def stable_dim(self) -> jax.Array:
        """How many moduli are below 1 by more than rounding, shape (m,); 0 where not computed."""
        rest = self.eigenvalues.shape[-1] - self.unstable_dim - self.center_dim
        return jnp.where(self.status == Status.CONVERGED, rest, 0)


def stability(map_: Map, z: jax.Array, *, resolvent: bool | None = None) -> Stability:
    """The eigenvalues of dF/dz at fixed points, and what they and their vectors say.

    Above d = 32 `kreiss` and `distance_to_instability` are NaN unless asked for by
    `resolvent=True`.

    Parameters
    ----------
    map_ : Map
    z : jax.Array, shape (m, d)
        Fixed points, `unique(found).z`. Nothing checks that they are.
    resolvent : bool, optional
        Whether to compute `kreiss` and `distance_to_instability`, which cost about 440 complex
        inverses and a few eigenproblems of size 2 d a point, by default if d <= 32; they are NaN
        otherwise.

    Returns
    -------
    Stability
        One row a point. Where z or J is not finite: status -3, NaN, not stable, unstable_dim and
        center_dim 0, type NONHYPERBOLIC; the other rows are not affected.

    Raises
    ------
    ValueError, TypeError
        If z is not real of shape (m, d) with the d and dtype of the map.

    Notes
    -----
    Eigenvalues, and what is computed from them alone, are differentiable in z and `map_.args`
    while they are simple: d lambda = left^H dJ right / left^H right. Eigenvectors, `kreiss` and
    `distance_to_instability` are treated as constants. On a GPU, JAX leaves an
    eigenproblem with left vectors to LAPACK on the host (`jax_use_magma` may change that), so the
    Jacobians travel there and back; for TPUs it has no such solver. Cost O(m d^3).

    Examples
    --------
    >>> import jax.numpy as jnp, rnndyn as rd
    >>> modes = rd.stability(rd.maps.logistic(3.2), jnp.array([[0.0], [0.6875]]))
    >>> [f"{x:.6f}" for x in modes.eigenvalues[:, 0].real], modes.stable.tolist()
    (['3.200000', '-1.200000'], [False, False])
    """
    z = jnp.asarray(z)
    advice = "pass one point a row, z[None] for a single one"
    validation.require_shape("z", z, ("m", "d"), advice)
    validation.require_real("z", z)
    require_states("z", z, map_)
    if resolvent is None:
        resolvent = z.shape[1] <= RESOLVENT_SIZE
    return _stability(map_, z, bool(resolvent))


@jax.jit
def input_jacobian(map_: Map, z: jax.Array) -> jax.Array:
    """dF/dx at states z of a held cell: how a small input moves the state.

    Parameters
    ----------
    map_ : Map
        From `hold`, or an iterate of such a map (the input then changes in every step).
    z : jax.Array, shape (m, d)

    Returns
    -------
    jax.Array, shape (m, d, size of x)
        Entry (i, j) of a row is dF_i/dx_j at the input that is held.

    Raises
    ------
    ValueError
        If the map is not a held cell's.

    Examples
    --------
    >>> import jax, jax.numpy as jnp, rnndyn as rd
    >>> cell = rd.cells.Vanilla(3, 8)
    >>> quiet = rd.hold(cell, cell.init(jax.random.key(0)), x=jnp.zeros(3))
    >>> rd.input_jacobian(quiet, jnp.zeros((5, 8))).shape
    (5, 8, 3)
    """
    require_map(map_)
    rule = map_.rule.rule if isinstance(map_.rule, Iterated) else map_.rule
    if not isinstance(rule, HeldCell):
        expected, got = "a map made by rd.hold", f"a map with the rule {rule!r}"
        advice = "differentiate map_.rule with respect to map_.args yourself"
        raise ValueError(validation.sentence("map_", expected, got, advice))
    validation.require_shape("z", z, ("m", "d"), "pass one point a row, z[None] for a single one")
    validation.require_real("z", z)
    require_states("z", z, map_)
    params, x = map_.args
    return jax.vmap(jax.jacfwd(lambda x, z: map_.rule(z, (params, x))), (None, 0))(x, z)


@jax.jit(static_argnames="resolvent")
def _stability(map_: Map, z: jax.Array, resolvent: bool) -> Stability:
    jacobians = jax.vmap(map_.jacobian)(z)
    given = jnp.all(jnp.isfinite(z), axis=1)
    jacobians = jnp.where(given[:, None, None], jacobians, jnp.nan)
    modes = jax.vmap(_modes)(jacobians)
    if not resolvent:
        return modes
    frozen = jax.lax.stop_gradient((jacobians, modes.eigenvalues, modes.unstable_dim > 0))
    return dataclasses.replace(
        modes,
        kreiss=jax.lax.map(lambda row: kreiss_constant(*row), frozen),
        distance_to_instability=jax.lax.map(distance_to_instability, frozen[0]),
    )


def _modes(jacobian: jax.Array) -> Stability:
    d = jacobian.shape[0]
    finite = jnp.all(jnp.isfinite(jacobian))
    safe = jnp.where(finite, jacobian, jnp.zeros_like(jacobian))
    fixed = jax.lax.stop_gradient(safe)
    scale = _scale(fixed)
    values, left, right = dense.modes(fixed / scale)
    values *= scale.astype(values.dtype)
    order = jnp.lexsort((-values.imag, -values.real, -jnp.abs(values)))
    left, right = left[:, order], right[:, order]
    values = _eigenvalues(safe, values[order], left, right)
    finite &= jnp.all(jnp.isfinite(values))
    modulus = jnp.abs(values)
    eps = jnp.finfo(jacobian.dtype).eps
    margin = _CENTER * d * eps * jnp.maximum(1, scale * jnp.linalg.norm(fixed / scale))
    unstable = jnp.sum(modulus > 1 + margin)
    center = jnp.sum(jnp.abs(modulus - 1) <= margin)
    excess = jnp.sum(jnp.square(safe / scale)) - jnp.sum(jnp.square(modulus / scale))
    nan = jnp.asarray(jnp.nan, jacobian.dtype)
    return Stability(
        eigenvalues=jnp.where(finite, values, jnp.nan),
        right=jnp.where(finite, right, jnp.nan),
        left=jnp.where(finite, left, jnp.nan),
        unstable_dim=jnp.where(finite, unstable, 0).astype(jnp.int32),
        center_dim=jnp.where(finite, center, 0).astype(jnp.int32),
        stable=finite & (unstable + center == 0),
        spectral_radius=jnp.where(finite, modulus[0], nan),
        type=jnp.where(finite, _type(values, unstable, center, margin), 0).astype(jnp.int32),
        time_constants=jnp.where(finite, 1 / (0.0 - jnp.log(modulus)), nan),
        rotation=jnp.where(finite, jnp.angle(values), nan),
        henrici=jnp.where(finite, scale * _root(excess), nan),
        kreiss=nan,
        distance_to_instability=nan,
        status=jnp.where(finite, jnp.int32(Status.CONVERGED), jnp.int32(Status.NONFINITE)),
    )


def _scale(a: jax.Array) -> jax.Array:
    """The power of two for which max |a / scale| is in [2, 4): the division does not round.

    Squares of the quotient do not overflow, and LAPACK's own scaling of matrices far from 1 (in
    float32 beyond 1e12 or below 1e-12) stays idle: some builds of it forget to undo it.
    """
    size = jnp.max(jnp.abs(a))
    scale = jnp.ldexp(jnp.ones_like(size), jnp.frexp(size)[1] - 2)
    return jnp.maximum(scale, jnp.finfo(a.dtype).tiny)


def _root(x: jax.Array) -> jax.Array:
    """The square root, 0 with derivative 0 where x is not positive."""
    positive = x > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, x, 1)), 0)


def _type(values: jax.Array, unstable: jax.Array, center: jax.Array, margin: jax.Array):
    complex_ = (jnp.abs(values[0].imag) > 0).astype(jnp.int32)
    flips = jnp.any((values.real < -1 - margin) & (values.imag == 0))
    saddle = jnp.where(flips, PointType.FLIP_SADDLE, PointType.SADDLE)
    kind = jnp.where(unstable == 0, PointType.STABLE_NODE + complex_, saddle)
    kind = jnp.where(unstable == values.size, PointType.UNSTABLE_NODE + complex_, kind)
    return jnp.where(center > 0, PointType.NONHYPERBOLIC, kind)


@jax.custom_jvp
def _eigenvalues(jacobian: jax.Array, values: jax.Array, left: jax.Array, right: jax.Array):
    """The eigenvalues, which depend on the Jacobian."""
    del jacobian, left, right
    return values


@_eigenvalues.defjvp
def _(primals: Any, tangents: Any) -> tuple[jax.Array, jax.Array]:
    _, values, left, right = primals
    change = tangents[0].astype(values.dtype)
    overlap = jnp.sum(jnp.conj(left) * right, axis=0)
    return values, jnp.sum(jnp.conj(left) * (change @ right), axis=0) / overlap
