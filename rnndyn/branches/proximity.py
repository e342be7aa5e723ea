"""How far a fixed point is from its nearest bifurcation, in eigenvalues and in parameters."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from rnndyn.branches import states
from rnndyn.branches.margins import ORDER, Kind, apply, functional, margins
from rnndyn.branches.nearest import search
from rnndyn.core import validation
from rnndyn.core.pytree import coded, pytree
from rnndyn.core.status import Status
from rnndyn.maps import HeldCell, Iterated, Map
from rnndyn.points.resolvent import distance_to_instability

PUSH = 0.1  # how far along the critical direction the further searches start
NEWTON_STEPS = 8
_NOT_SOUGHT = dict.fromkeys(
    ("parameter_distance", "nearest_z", "nearest", "direction", "critical_residual")
)


@pytree
class Proximity:
    """How far each of m fixed points is from its nearest bifurcation.

    Attributes
    ----------
    z : jax.Array, shape (m, d)
        The points, corrected by Newton where their residual exceeded tol.
    margin : jax.Array, shape (m,)
        Least distance of an eigenvalue from where it would be critical.
    kind : jax.Array, shape (m,), int
        What that eigenvalue leads to: 1 fold or branch point, -1 flip, 0 Neimark-Sacker.
    margins : jax.Array, shape (m, 3)
        min |lambda - 1|, min |lambda + 1| and, over complex pairs, min ||lambda| - 1| (infinite
        where there is none).
    robust_margin : jax.Array, shape (m,)
        Distance of the Jacobian from a matrix with an eigenvalue on the unit circle.
    first_order_distance : jax.Array, shape (m,)
        margin / |d margin / d parameters|, the motion of the point included.
    parameter_distance : jax.Array, shape (m,), or None
        |nearest - args|, the least Euclidean distance found to parameters where the fixed point
        is critical; infinite where no search reached any.
    nearest_kind : jax.Array, shape (m,), int, or None
    nearest_z : jax.Array, shape (m, d), or None
        The critical fixed point.
    nearest : pytree like `map_.args`, leading axis m, or None
    direction : pytree like `map_.args`, leading axis m, or None
        From args to nearest, of length 1; zero in what does not count as a parameter.
    residual : jax.Array, shape (m,)
        Max |F(z) - z|.
    critical_residual : jax.Array, shape (m,), or None
        Evaluated again at the nearest parameters: the larger of max |F(z) - z| and the distance
        from criticality (least singular value of J -+ I, or ||lambda| - 1|).
    status : jax.Array, shape (m,), int
        0; -1 not a fixed point; -2 the search ended early, so `nearest` is critical but perhaps
        not nearest (or infinitely far, if none was reached); -3 NaN or
        infinity in z or the map. In the rows with -1 or -3 all numbers are NaN.
    """

    z: jax.Array
    margin: jax.Array
    kind: jax.Array = coded(Kind)
    margins: jax.Array
    robust_margin: jax.Array
    first_order_distance: jax.Array
    parameter_distance: jax.Array | None
    nearest_kind: jax.Array | None = coded(Kind)
    nearest_z: jax.Array | None
    nearest: Any
    direction: Any
    residual: jax.Array
    critical_residual: jax.Array | None
    status: jax.Array


def bifurcation_proximity(
    map_: Map,
    z: jax.Array,
    *,
    wrt: Any = None,
    distance: bool = True,
    tol: float | None = None,
    max_steps: int = 100,
) -> Proximity:
    """How far fixed points are from their nearest bifurcation, and in which parameters.

    Eigenvalue margins by kind; a margin that holds for non-normal Jacobians; the distance in
    parameters to first order, and by constrained optimisation in all of them at once (Dobson
    1992).

    Parameters
    ----------
    map_ : Map
    z : jax.Array, shape (m, d)
        Fixed points. A residual above tol is first removed by Newton.
    wrt : pytree of bool, optional
        What counts as parameters: a prefix of `map_.args`, such as (True, False) for the first
        of two args. By default all floating-point leaves, but of a held cell, args = (params, x),
        the params alone.
    distance : bool; static
        Whether to search for the nearest parameters; False leaves those fields None and makes a
        cheap penalty.
    tol : float
        Bound on the residuals, relative to max(1, max |z|); by default 1024 eps.
    max_steps : int, at least 1; static
        Of each search.

    Returns
    -------
    Proximity
        One row a point. `parameter_distance` is the best of seven searches (fold and flip from the
        point and from both sides along its critical direction, and the nearest complex pair):
        certified by `critical_residual`, hence an upper bound on the distance to the bifurcation
        set, but not proved to be the global minimum. A point that none of the parameters moves
        (the origin, in recurrent weights alone) is held where it is. Nor is the critical point
        proved to be what this fixed point becomes on the straight way there: follow it with
        `continuation`.
        `margin` and `parameter_distance` can be differentiated in `map_.args` (the motion of the
        fixed point is included; the derivative in z is zero), once and where the nearest
        eigenvalue is simple. Cost: the eigenvalues, those of 3 to 5 matrices of twice the size and
        some 20 singular value decompositions O(d^3) a point, and for each step of a search d + 1
        reverse derivatives in P parameters, a Hessian in z and O(d^3 + d^2 P).

    Raises
    ------
    ValueError, TypeError
        If shapes, dtypes, `wrt` or an option do not fit.

    Examples
    --------
    >>> import jax, jax.numpy as jnp, rnndyn as rd
    >>> map_ = rd.maps.henon(0.3, 0.3)
    >>> z = (-0.7 + (0.7**2 + 1.2) ** 0.5) / 2 / jnp.array([0.3, 1.0])
    >>> z = jnp.array([[z[0], 0.3 * z[0]]])
    >>> near = rd.bifurcation_proximity(map_, z, wrt=(True, False))
    >>> near.kind.tolist(), round(float(near.parameter_distance[0]), 10)
    ([-1], 0.0675)
    """
    z = jnp.asarray(z)
    validation.require_shape("z", z, ("m", "d"), "stack the fixed points, or pass z[None] for one")
    validation.require_real("z", z)
    advice = "z must have the size and dtype of the map's state"
    got = states.image("z", map_, jax.ShapeDtypeStruct(z.shape[1:], z.dtype))
    validation.require_shape("z", z, ("m", *got.shape), advice)
    validation.require_same_dtype("z", z, "map_(z)", got.dtype)
    max_steps = validation.require_int("max_steps", max_steps, 1, "100 is usual")
    validation.require_choice("distance", distance, (True, False))
    chosen = _chosen(map_, wrt)
    advice = "pass for example 1e-10, or leave it out for 1024 eps"
    tol = 1024 * float(jnp.finfo(z.dtype).eps) if tol is None else tol
    validation.require_range("tol", tol, 0, float("inf"), advice, open_low=True, open_high=True)
    return _proximity(
        map_,
        z,
        jnp.asarray(tol, z.dtype),
        chosen=chosen,
        distance=bool(distance),
        max_steps=max_steps,
    )


def _chosen(map_: Map, wrt: Any) -> tuple[bool, ...]:
    """For each leaf of args, whether it counts as a parameter."""
    rule = map_.rule.rule if isinstance(map_.rule, Iterated) else map_.rule
    if wrt is None:
        wrt = (True, False) if isinstance(rule, HeldCell) else True
    advice = "pass booleans in the structure of map_.args or of the top of it"
    try:
        flags = jax.tree.map(lambda flag, part: jax.tree.map(lambda _: flag, part), wrt, map_.args)
    except (ValueError, TypeError):
        expected = f"a prefix of {jax.tree.structure(map_.args)}"
        raise ValueError(validation.sentence("wrt", expected, repr(wrt), advice)) from None
    flags = tuple(jax.tree.leaves(flags))
    leaves = jax.tree.leaves(map_.args)
    if not all(isinstance(flag, bool | np.bool_) for flag in flags):
        raise ValueError(validation.sentence("wrt", "booleans", repr(wrt), advice))
    kept = tuple(
        bool(flag) and jnp.issubdtype(jnp.result_type(leaf), jnp.floating)
        for flag, leaf in zip(flags, leaves, strict=True)
    )
    if not any(kept):
        expected, advice = "at least one floating-point leaf", "choose a parameter, or change args"
        raise ValueError(validation.sentence("wrt", expected, repr(wrt), advice))
    validation.require_one_real_dtype(
        "args", [leaf for leaf, keep in zip(leaves, kept, strict=True) if keep]
    )
    return kept


@jax.jit(static_argnames=("chosen", "distance", "max_steps"))
def _proximity(map_, z, tol, *, chosen, distance, max_steps) -> Proximity:
    leaves, structure = jax.tree.flatten(map_.args)
    theta, restore = ravel_pytree([leaf for leaf, keep in zip(leaves, chosen, strict=True) if keep])

    def rebuild(theta, others):
        parts = iter(restore(theta))
        filled = [
            next(parts) if keep else other for keep, other in zip(chosen, others, strict=True)
        ]
        return jax.tree.unflatten(structure, filled)

    @jax.jit
    def F(z, theta):
        return map_.rule(z, rebuild(theta, leaves))

    def one(z):
        return _row(F, z, theta, tol, distance, max_steps)

    row = jax.lax.map(one, z)
    if distance:
        zeros = [jnp.zeros_like(leaf) for leaf in leaves]
        row["nearest"] = jax.vmap(lambda t: rebuild(t, leaves))(row["nearest"])
        row["direction"] = jax.vmap(lambda t: rebuild(t, zeros))(row["direction"])
    return Proximity(**row)


def _row(F, z, theta, tol, distance, max_steps) -> dict[str, Any]:
    fixed = jax.lax.stop_gradient(theta)
    finite = jnp.all(jnp.isfinite(F(z, fixed))) & jnp.all(jnp.isfinite(z))
    point = _polish(lambda z: F(z, fixed), jax.lax.stop_gradient(z), tol)
    residual = jnp.max(jnp.abs(F(point, fixed) - point))
    jacobian = jax.jacfwd(F)(point, fixed)
    usable = finite & jnp.all(jnp.isfinite(jacobian))
    root = usable & (residual <= _allowed(point, tol))
    measured, least, eigenvalues = _measure(F, point, theta, jnp.where(usable, jacobian, 0))
    row = {"z": point, "residual": residual, **measured, **_NOT_SOUGHT}
    kind, found = None, jnp.asarray(True)
    if distance:

        def look(theta):
            return _nearest(F, point, theta, eigenvalues, tol, max_steps)

        # A row that is no fixed point must not cost the searches.
        empty = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), jax.eval_shape(look, theta))
        nearest, kind, found = jax.lax.cond(root, look, lambda _: empty, theta)
        row.update(nearest)
    row = jax.tree.map(lambda a: jnp.where(root, a, jnp.nan), row)
    row["kind"] = jnp.asarray(ORDER)[least]
    row["nearest_kind"] = kind
    row["status"] = jnp.select(
        [~usable, ~root, ~found],
        [Status.NONFINITE, Status.STATIONARY, Status.MAX_STEPS],
        Status.CONVERGED,
    )
    return row


def _measure(F, z, theta, jacobian):
    """Margins and the first-order distance; which margin is least; the eigenvalues of the three."""
    fixed = jax.lax.stop_gradient(theta)
    by_kind, eigenvalues = margins(jacobian)
    least = jnp.argmin(by_kind)
    margin, slope = jax.value_and_grad(
        lambda theta: _margin(F, z, theta, jacobian, eigenvalues[least], least)
    )(fixed)
    measured = {
        "margin": margin + _first_order(slope, theta, fixed),
        "margins": by_kind,
        "robust_margin": distance_to_instability(jacobian),
        "first_order_distance": jnp.where(margin == 0, 0, margin / jnp.linalg.norm(slope)),
    }
    return measured, least, eigenvalues


def _first_order(slope: jax.Array, theta: jax.Array, fixed: jax.Array) -> jax.Array:
    """Zero, with a given derivative in theta."""
    return jax.lax.stop_gradient(slope) @ (theta - fixed)


def _allowed(z: jax.Array, tol: jax.Array) -> jax.Array:
    return tol * jnp.maximum(1, jnp.max(jnp.abs(z)))


def _polish(F, z: jax.Array, tol: jax.Array) -> jax.Array:
    """Newton on F(z) = z until the residual is at most tol; a start further than that stays."""
    eye = jnp.eye(z.size, dtype=z.dtype)

    def unsettled(carry):
        z, steps = carry
        return (steps < NEWTON_STEPS) & (jnp.max(jnp.abs(F(z) - z)) > _allowed(z, tol))

    def improve(carry):
        z, steps = carry
        return z - jnp.linalg.solve(jax.jacfwd(F)(z) - eye, F(z) - z), steps + 1

    root = jax.lax.while_loop(unsettled, improve, (z, jnp.asarray(0)))[0]
    reach = PUSH * (1 + jnp.max(jnp.abs(z)))
    return jnp.where(jnp.max(jnp.abs(root - z)) <= reach, root, z)


def _margin(F, z, theta, jacobian, eigenvalue, which) -> jax.Array:
    """The margin as a function of theta, exact in value and first derivative at this theta.

    One Newton step carries the motion of the point, first-order perturbation the eigenvalue's.
    """
    eye = jnp.eye(z.size, dtype=z.dtype)
    moved = z + jnp.linalg.solve(eye - jacobian, F(z, theta) - z)
    target = jnp.where(which == 0, 1, -1).astype(eigenvalue.dtype)
    offset = eigenvalue - target
    radial = jnp.sign(eigenvalue) * jnp.sign(jnp.abs(eigenvalue) - 1).astype(eigenvalue.dtype)
    toward = jnp.where(which == 2, radial, jnp.sign(offset))
    value = jnp.where(which == 2, jnp.abs(jnp.abs(eigenvalue) - 1), jnp.abs(offset))
    w, v = functional(jacobian, eigenvalue, toward)
    change = apply(lambda z: F(z, theta), moved, w, v)
    return value + change - jax.lax.stop_gradient(change)


def _nearest(F, z, theta, eigenvalues, tol, max_steps):
    """The best of seven searches."""
    fixed = jax.lax.stop_gradient(theta)
    starts, targets, kinds = _starts(jax.jacfwd(F)(z, fixed), z)
    targets = targets.astype(eigenvalues.dtype)

    def run(bound, at, pair=False):
        found, settled = search(
            F, at[0], fixed, at[1], pair=pair, tol=tol, max_steps=max_steps, bound=bound
        )
        size = jnp.maximum(1, jnp.max(jnp.abs(found.z)))
        distance = jnp.linalg.norm(found.theta - fixed)
        distance = jnp.where(found.violation <= tol * size, distance, jnp.inf)
        return jnp.minimum(bound, distance), (found, settled, distance)

    nothing = jnp.asarray(jnp.inf, z.dtype)
    bound, tried = jax.lax.scan(run, nothing, (starts, targets))
    if z.size > 1:
        _, last = run(bound, (z, eigenvalues[2]), pair=True)
        tried = jax.tree.map(lambda a, b: jnp.concatenate([a, b[None]]), tried, last)
        kinds.append(Kind.NEIMARK_SACKER)
    found, settled, distances = tried
    gone = found.theta - fixed[None]
    best = jnp.argmin(distances)
    length = distances[best]
    direction = gone[best] / jnp.where(length > 0, length, 1)
    nearest = {
        # The envelope theorem: moving args towards the nearest shortens the way one to one.
        "parameter_distance": length + _first_order(-direction, theta, fixed),
        "nearest_z": found.z[best],
        "nearest": found.theta[best],
        "direction": direction,
        "critical_residual": found.violation[best],
    }
    return nearest, jnp.asarray(kinds)[best], settled[best] & jnp.isfinite(length)


def _starts(jacobian, z) -> tuple[jax.Array, jax.Array, list[Kind]]:
    """Starts for the real kinds, their targets +1 and -1, and their names."""
    starts, kinds = [], []
    for kind in (Kind.FOLD, Kind.FLIP):
        matrix = jacobian - int(kind) * jnp.eye(z.size, dtype=z.dtype)
        critical = jnp.linalg.svd(jnp.where(jnp.isfinite(matrix), matrix, 0))[2][-1]
        for side in (0.0, PUSH, -PUSH):
            starts.append(z + side * critical)
            kinds.append(kind)
    return jnp.stack(starts), jnp.asarray([float(kind) for kind in kinds], z.dtype), kinds
