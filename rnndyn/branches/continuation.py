"""Branches of fixed points and cycles in one parameter: the public functions."""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rnndyn.branches import states
from rnndyn.branches.arclength import Family, Sizes
from rnndyn.branches.branch import Branch
from rnndyn.branches.following import Problem, follow, follow_all
from rnndyn.branches.kinks import may_have_kinks
from rnndyn.core import validation
from rnndyn.maps import Map

FEW = 32  # coordinates of a state whose eigenvalues cost less than what else a step does


def continuation(
    family: Callable[[jax.Array], Map],
    z0: jax.Array,
    *,
    span: tuple[float, float],
    start: float | None = None,
    period: int = 1,
    method: str = "arclength",
    max_points: int = 1000,
    ds: float = 0.01,
    ds_min: float | None = None,
    ds_max: float = 0.05,
    tol: float | None = None,
    eigenvalues: str | None = None,
) -> Branch:
    """Follow a fixed point or a cycle as a parameter changes, and name its bifurcations.

    Pseudo-arclength continuation (Keller 1977) in u = (z, (p - low) / (high - low)): a step along
    the tangent, then Newton in the hyperplane normal to it. A cycle of period k is a fixed point
    of F^k.

    Parameters
    ----------
    family : callable
        `family(p)` is a Map, for a scalar p that is traced, in the dtype of z0. It is static: a
        fresh lambda compiles again. To sweep other weights with one compilation pass
        `jax.tree_util.Partial(function, weights)` with a module-level `function(weights, p)`.
    z0 : jax.Array, shape (d,)
        A fixed point of `family(start)`, or a point of the cycle; if its residual exceeds tol it
        is corrected by Newton, which may move it by a tenth of 1 + its size.
    span : (low, high)
    start : float, in [low, high]
        By default low. The branch is followed both ways from here.
    period : int, at least 1; static
        Of the cycle. Its branch ends where the cycle shrinks onto one of half the period.
    method : {"arclength", "natural"}
        "natural" holds p fixed while it corrects and so ends at a fold.
    max_points : int, at least 2; static
        Of each of the two directions, and between any two kinks of the map.
    ds, ds_min, ds_max : float
        Length of the first, the smallest and the largest step in u. ds_min is sqrt(eps) ds_max
        by default. Steps grow where Newton takes at most 3 iterations and shrink where it
        takes 7; one that fails, that turns the tangent by more than 14 degrees or whose
        correction exceeds half the step is halved.
    tol : float
        Bound on max |F(z) - z|, relative to max(1, max |z|); by default 1024 eps.
    eigenvalues : {"all", "near"}
        "near" leaves them NaN at points where nothing points to a crossing of the unit circle: the
        eigenvalues at the points around stay off it by twice what their curvature allows, the
        determinants of J - I and J + I keep their signs and tr J and tr J^2 follow the cubics
        through those points (an estimate, not a proof: several pairs whose excursions cancel in
        both sums would be missed). About a tenth of the eigenvalues at d = 64, where most of the
        time would go into them. By default "all" below d = 32, and "near" from there on.

    Returns
    -------
    Branch
        Points, eigenvalues, stability and events, `status` and the reasons for its two ends. An
        event is seen between two points by its eigenvalue (or by the tangent) and located by
        Newton on an extended system, to rounding. Two folds within one step, and an eigenvalue
        that touches the circle without crossing it (a cusp met head-on), are not seen: lower
        ds_max. Kinks of the map (ReLU) are crossed and are events too, also two at one place if
        only one branch leads on from there. The other branches at an event are followed by
        `switch_branch`.
        Cost per step: 2 Jacobians (d + 1 forward derivatives each, less the products of a matrix
        with z, which come as the matrix), 3 LU decompositions and 3 or 4 evaluations of the map;
        for each point one eigenvalue decomposition O(d^3).
        Trimming and events are host-side steps, so the call itself is not jitted.

    Raises
    ------
    ValueError, TypeError
        If a shape, a dtype, the span or an option does not fit.

    Examples
    --------
    >>> import jax.numpy as jnp, rnndyn as rd
    >>> branch = rd.continuation(rd.maps.logistic, jnp.array([0.5]), span=(2.0, 3.4))
    >>> [(event.kind, round(float(event.parameter), 5)) for event in branch.events]
    [('flip', 3.0)]
    >>> branch.stop
    ('left_span', 'left_span')
    """
    z0 = jnp.asarray(z0)
    validation.require_shape("z0", z0, ("d",), "pass one fixed point as a flat vector")
    _require_some("z0", z0)
    problem = pose(
        family,
        z0,
        span=span,
        period=period,
        method=method,
        max_points=max_points,
        ds=ds,
        ds_min=ds_min,
        ds_max=ds_max,
        tol=tol,
        eigenvalues=eigenvalues,
    )
    return follow(problem, jnp.append(z0, _place(span, start, z0.dtype)))


def continuations(
    family: Callable[[jax.Array], Map],
    z0: jax.Array,
    *,
    span: tuple[float, float],
    start: float | jax.Array | None = None,
    stacked: bool = False,
    **options: Any,
) -> tuple[Branch, ...]:
    """Follow many fixed points or cycles in one call: of one family of maps, or one each of many.

    As `continuation` of each of them; up to d = 7 they advance together under `vmap`. Each branch
    has its own status, and one that fails changes nothing in the others.

    Parameters
    ----------
    family : callable
        As in `continuation`.
    z0 : jax.Array, shape (b, d)
        One start a branch.
    span : (low, high)
        For all.
    start : float or jax.Array of shape (b,)
        By default low.
    stacked : bool; static
        Whether the arguments of `family`, then a `jax.tree_util.Partial`, have a leading axis b
        as well: one family of maps a branch.
    **options
        Those of `continuation`. The buffer holds 2 b max_points (d + 1) numbers twice, so lower
        max_points if b is large.

    Returns
    -------
    tuple of Branch, of length b

    Raises
    ------
    ValueError, TypeError
        If a shape, a dtype, the span or an option does not fit.

    Examples
    --------
    >>> import jax, jax.numpy as jnp, rnndyn as rd
    >>> def biased(w, b):
    ...     return rd.maps.tanh_network(w[None, None], b[None])
    >>> family = jax.tree_util.Partial(biased, jnp.array([1.5, 2.0]))
    >>> both = rd.continuations(family, -jnp.ones((2, 1)), span=(-4.0, 4.0), stacked=True)
    >>> [round(float(branch.events[0].parameter), 5) for branch in both]
    [0.20755, 0.53284]
    """
    z0 = jnp.asarray(z0)
    validation.require_shape("z0", z0, ("b", "d"), "stack the starts, one row a branch")
    _require_some("z0", z0)
    if start is not None and np.ndim(start) > 0:
        validation.require_shape("start", start, z0.shape[:1], "pass one start for all or one each")
    if stacked:
        _require_stacked(family, z0.shape[0])
    problem = pose(family, z0[0], span=span, stacked=stacked, **options)
    places = [
        _place(span, s, z0.dtype) for s in np.broadcast_to(np.asarray(start), z0.shape[:1]).tolist()
    ]
    return follow_all(problem, jnp.column_stack([z0, jnp.stack(places)]), stacked=stacked)


def pose(
    family: Callable,
    z0: jax.Array,
    *,
    name: str = "z0",
    span: Any,
    period: int = 1,
    method: str = "arclength",
    max_points: int = 1000,
    ds: float = 0.01,
    ds_min: float | None = None,
    ds_max: float = 0.05,
    tol: float | None = None,
    eigenvalues: str | None = None,
    stacked: bool = False,
) -> Problem:
    """The problem that the options of `continuation` describe; raises where they do not fit.

    `name` is what messages call z0.
    """
    validation.require_real(name, z0)
    low, high = limits(span)
    validation.require_choice("method", method, ("arclength", "natural"))
    if eigenvalues is None:
        eigenvalues = "all" if z0.size < FEW else "near"
    validation.require_choice("eigenvalues", eigenvalues, ("all", "near"))
    advice = "a branch has at least its start and one more point"
    max_points = validation.require_int("max_points", max_points, 2, advice)
    period = validation.require_int("period", period, 1, "1 is a fixed point")
    sizes = lengths(z0.dtype, ds, ds_min, ds_max, tol)
    make = family if isinstance(family, jax.tree_util.Partial) else partial_of(family)
    numbers: Any = np.asarray(low, z0.dtype), np.asarray(high - low, z0.dtype)
    leaves, structure = jax.tree.flatten(make)
    skip = 1 if stacked else 0
    kinds = tuple((np.shape(leaf)[skip:], jnp.result_type(leaf)) for leaf in leaves)
    return Problem(
        family=Family(make, *numbers),
        sizes=sizes,
        period=period,
        max_points=max_points,
        natural=method == "natural",
        near=eigenvalues == "near",
        kinked=_inspected(structure, kinds, z0.shape, z0.dtype, name),
    )


def partial_of(family: Any) -> jax.tree_util.Partial:
    """The family as a pytree; raises unless it can be called."""
    if not callable(family):
        states.built(family, None)
    return jax.tree_util.Partial(family)


@lru_cache(maxsize=256)
def _inspected(structure: Any, kinds: tuple, shape: tuple[int, ...], dtype: Any, name: str) -> bool:
    """Raise unless family(p) is a Map on vectors like z0; whether that map may have kinks."""
    z = jax.ShapeDtypeStruct(shape, dtype)

    def value(leaves, p, z):
        map_ = states.built(jax.tree.unflatten(structure, leaves), p)
        states.require_coupled(name, map_, z)
        try:
            return map_(z)
        except (TypeError, ValueError, IndexError) as error:
            raise states.refused(name, z, error) from error

    leaves = [jax.ShapeDtypeStruct(*each) for each in kinds]
    traced, got = jax.make_jaxpr(value, return_shape=True)(
        leaves, jax.ShapeDtypeStruct((), dtype), z
    )
    validation.require_shape(name, z, got.shape, f"{name} {states.FLAT}")
    validation.require_same_dtype(name, z, "family(p)(z)", got.dtype)
    return may_have_kinks(traced.jaxpr)


def _require_some(name: str, z0: jax.Array) -> None:
    if z0.size == 0:
        got, advice = validation.shape_text(z0.shape), "pass at least one start"
        raise ValueError(validation.sentence(name, "numbers", f"shape {got}", advice))


def _require_stacked(family: Any, count: int) -> None:
    advice = "pass jax.tree_util.Partial(function, arguments) with a leading axis on each array"
    if not isinstance(family, jax.tree_util.Partial) or not jax.tree.leaves(family):
        raise ValueError(
            validation.sentence("family", "a Partial with arguments", repr(family), advice)
        )
    for leaf in jax.tree.leaves(family):
        if np.shape(leaf)[:1] != (count,):
            got = validation.shape_text(np.shape(leaf))
            expected = f"arguments with a leading axis of {count}"
            raise ValueError(validation.sentence("family", expected, f"shape {got}", advice))


def _place(span: Any, start: float | None, dtype: Any) -> jax.Array:
    """The start as a fraction of the span."""
    low, high = limits(span)
    begin = low if start is None else start
    validation.require_range("start", begin, low, high, "start inside the span")
    return jnp.asarray((float(begin) - low) / (high - low), dtype)


def limits(span: Any) -> tuple[float, float]:
    """(low, high) as floats; raises unless they are an interval."""
    advice = "pass (low, high) with low < high"
    try:
        low, high = (float(end) for end in span)
    except (TypeError, ValueError):
        message = validation.sentence("span", "two numbers", repr(span), advice)
        raise ValueError(message) from None
    if not (np.isfinite(low) and np.isfinite(high) and low < high):
        raise ValueError(validation.sentence("span", "an interval", repr((low, high)), advice))
    return low, high


def lengths(dtype: Any, ds: float, ds_min: float | None, ds_max: float, tol: float | None) -> Sizes:
    """The step lengths and the tolerance, with their defaults; raises where they do not fit."""
    eps = float(jnp.finfo(dtype).eps)
    infinity = float("inf")
    advice = "lengths are in units of the state and of the span"
    validation.require_range("ds_max", ds_max, 0, infinity, advice, open_low=True, open_high=True)
    smallest = eps**0.5 * ds_max if ds_min is None else ds_min
    validation.require_range("ds_min", smallest, 0, ds_max, advice, open_low=True)
    validation.require_range("ds", ds, smallest, ds_max, advice)
    tol = 1024 * eps if tol is None else tol
    advice = "pass for example 1e-10, or leave it out for 1024 eps"
    validation.require_range("tol", tol, 0, infinity, advice, open_low=True, open_high=True)
    numbers: Any = [np.asarray(number, dtype) for number in (ds, smallest, ds_max, tol)]
    return Sizes(*numbers)
