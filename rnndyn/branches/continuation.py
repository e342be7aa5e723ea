"""Branches of fixed points in one parameter: the public function and its result."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rnndyn.branches.arclength import Family, Node, Sizes, Stop, sweep
from rnndyn.branches.events import Event, find_events
from rnndyn.core import validation
from rnndyn.core.pytree import pytree, static
from rnndyn.core.status import Status
from rnndyn.maps import Map

_STATUS = {
    Stop.LEFT_SPAN: Status.CONVERGED,
    Stop.CLOSED: Status.CONVERGED,
    Stop.MAX_POINTS: Status.MAX_STEPS,
    Stop.STEP_UNDERFLOW: Status.SINGULAR,
    Stop.NONFINITE: Status.NONFINITE,
    Stop.NO_START: Status.STATIONARY,
    Stop.SINGULAR_START: Status.SINGULAR,
    Stop.PARAMETER_IGNORED: Status.SINGULAR,
}
_SENTENCES = {
    "left_span": "the branch leaves the span",
    "closed": "the branch closes on itself",
    "max_points": "the buffer of points is full; increase max_points or ds_max",
    "step_underflow": "no step of at least ds_min can be corrected: the branch ends, jumps or has"
    " a kink here, or tol is below rounding; decrease ds_min, increase tol",
    "nonfinite": "the map is NaN or infinite beyond this point",
    "no_start": "the start is not a fixed point and Newton finds none near it; solve for one with"
    " fixed_points first",
    "singular_start": "the start is a branch point, where several branches meet; start beside it",
    "parameter_ignored": "the map does not depend on the parameter at the start, so there is"
    " nothing to follow",
}


@pytree
class Branch:
    """A branch of fixed points, in order along it.

    Attributes
    ----------
    parameter : jax.Array, shape (n,)
        In the order of the branch: not monotonic where the branch folds back.
    z : jax.Array, shape (n, d)
    eigenvalues : jax.Array, shape (n, d), complex
        Of dF/dz, by falling modulus.
    stable : jax.Array, shape (n,), bool
        Whether all eigenvalues lie inside the unit circle.
    residual : jax.Array, shape (n,)
        Max norm of F(z) - z.
    status : jax.Array, int
        Of the branch as a whole, the worse of its two ends: 0 if it left the span or closed, -1
        if the start is no fixed point, -2 if max_points were used up, -3 if the map became NaN or
        infinite, -5 if it could not be followed on (`stop` says why). Every point of it has a
        residual within tol all the same, except the lone point of a start that is not one.
    events : tuple of Event, in order along the branch
    stop : (str, str), static
        Why it ends, at its first point and at its last: a key of `describe_stop`.
    """

    parameter: jax.Array
    z: jax.Array
    eigenvalues: jax.Array
    stable: jax.Array
    residual: jax.Array
    status: jax.Array
    events: tuple[Event, ...]
    stop: tuple[str, str] = static()


def describe_stop(reason: str) -> str:
    """Why a branch ends, in one sentence.

    Parameters
    ----------
    reason : str
        An entry of `Branch.stop`.

    Returns
    -------
    str

    Examples
    --------
    >>> from rnndyn import describe_stop
    >>> describe_stop("closed")
    'the branch closes on itself'
    """
    return _SENTENCES[reason]


def continuation(
    family: Callable[[jax.Array], Map],
    z0: jax.Array,
    *,
    span: tuple[float, float],
    start: float | None = None,
    method: str = "arclength",
    max_points: int = 1000,
    ds: float = 0.01,
    ds_min: float | None = None,
    ds_max: float = 0.05,
    tol: float | None = None,
) -> Branch:
    """Follow a fixed point as a parameter changes, round folds, and name its bifurcations.

    Pseudo-arclength continuation (Keller 1977) in u = (z, (p - low) / (high - low)): a step along
    the tangent, then Newton in the hyperplane normal to it. A cycle of period k is a fixed point
    of `iterate(map_, k)`.

    Parameters
    ----------
    family : callable
        `family(p)` is a Map, for a scalar p that is traced, in the dtype of z0. It is static: a
        fresh lambda compiles again. To sweep other weights with one compilation pass
        `jax.tree_util.Partial(function, weights)` with a module-level `function(weights, p)`.
    z0 : jax.Array, shape (d,)
        A fixed point of `family(start)`; if its residual exceeds tol it is corrected by Newton,
        which may move it by a tenth of 1 + its size.
    span : (low, high)
    start : float, in [low, high]
        By default low. The branch is followed both ways from here.
    method : {"arclength", "natural"}
        "natural" holds p fixed while it corrects and so ends at a fold.
    max_points : int, at least 2; static
        Of each of the two directions.
    ds, ds_min, ds_max : float
        Length of the first, the smallest and the largest step in u. ds_min is sqrt(eps) ds_max
        by default. Steps grow where Newton takes at most 2 iterations and shrink where it
        takes 5; one that fails, that turns the tangent by more than 14 degrees or whose
        correction exceeds half the step is halved.
    tol : float
        Bound on max |F(z) - z|, relative to max(1, max |z|); by default 1024 eps.

    Returns
    -------
    Branch
        Points, eigenvalues, stability and events, `status` and the reasons for its two ends. An
        event is seen between two points by its eigenvalue (or by the tangent) and located by
        Newton on an extended system, to rounding. Two folds within one step, and an eigenvalue
        that touches the circle without crossing it (a cusp met head-on), are not seen: lower
        ds_max. ReLU kinks end a branch (`step_underflow`); branches are not switched.
        Cost per step: 2 to 4 Jacobians (d + 1 forward derivatives each), as many LU
        decompositions, one eigenvalue decomposition O(d^3). Trimming and events are host-side
        steps, so the call itself is not jitted.

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
    validation.require_real("z0", z0)
    low, high = _span(span)
    begin = low if start is None else float(start)
    validation.require_range("start", begin, low, high, "start inside the span")
    validation.require_choice("method", method, ("arclength", "natural"))
    advice = "a branch has at least its start and one more point"
    max_points = validation.require_int("max_points", max_points, 2, advice)
    sizes = _sizes(z0.dtype, ds, ds_min, ds_max, tol)
    make = family if isinstance(family, jax.tree_util.Partial) else jax.tree_util.Partial(family)
    scaled = Family(make, jnp.asarray(low, z0.dtype), jnp.asarray(high - low, z0.dtype))
    _require_family(make, z0, scaled.low)
    u0 = jnp.append(z0, jnp.asarray((begin - low) / (high - low), z0.dtype))
    nodes, counts, stops = sweep(
        scaled, u0, sizes, max_points=max_points, natural=method == "natural"
    )
    nodes, counts, stops = jax.device_get((nodes, counts, stops))
    return _assemble(scaled, nodes, counts, stops, sizes.tol)


def _assemble(family: Family, nodes: Node, counts: Any, stops: Any, tol: jax.Array) -> Branch:
    """One branch from the two directions, the backward one reversed."""
    forward, backward = (Stop(int(stop)) for stop in stops)
    if forward == Stop.CLOSED:
        chosen, ends = [(0, i, 1) for i in range(counts[0])], (forward, forward)
    else:
        chosen = [(1, i, -1) for i in range(counts[1] - 1, 0, -1)]
        chosen += [(0, i, 1) for i in range(counts[0])]
        ends = (backward, forward)
    rows, places, signs = (np.asarray(column) for column in zip(*chosen, strict=True))
    nodes = jax.tree.map(lambda a: a[rows, places], nodes)
    signs = signs.astype(nodes.u.dtype)
    nodes = Node(
        nodes.u,
        nodes.tangent * signs[:, None],
        nodes.eigenvalues,
        nodes.orientation * signs,
        nodes.residual,
    )
    alone = (Stop.NONFINITE, Stop.NO_START, Stop.PARAMETER_IGNORED)
    nothing = len(chosen) == 1 and forward in alone
    events = () if nothing else find_events(family, nodes, tol)
    eigenvalues = np.asarray(nodes.eigenvalues)
    order = np.argsort(-np.abs(eigenvalues), axis=1, kind="stable")
    eigenvalues = np.take_along_axis(eigenvalues, order, axis=1)
    statuses = [int(_STATUS[end]) for end in ends]
    return Branch(
        parameter=family.low + family.width * jnp.asarray(nodes.u[:, -1]),
        z=jnp.asarray(nodes.u[:, :-1]),
        eigenvalues=jnp.asarray(eigenvalues),
        stable=jnp.asarray(np.all(np.abs(eigenvalues) < 1, axis=1)),
        residual=jnp.asarray(nodes.residual),
        status=jnp.asarray(min(statuses)),
        events=events,
        stop=(ends[0].name.lower(), ends[1].name.lower()),
    )


def _span(span: Any) -> tuple[float, float]:
    advice = "pass (low, high) with low < high"
    try:
        low, high = (float(end) for end in span)
    except (TypeError, ValueError):
        message = validation.sentence("span", "two numbers", repr(span), advice)
        raise ValueError(message) from None
    if not (np.isfinite(low) and np.isfinite(high) and low < high):
        raise ValueError(validation.sentence("span", "an interval", repr((low, high)), advice))
    return low, high


def _sizes(dtype: Any, ds: float, ds_min: float | None, ds_max: float, tol: float | None) -> Sizes:
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
    return Sizes(*(jnp.asarray(number, dtype) for number in (ds, smallest, ds_max, tol)))


def _require_family(make: Callable, z0: jax.Array, parameter: jax.Array) -> None:
    """Raise unless family(p) is a Map on vectors like z0."""
    advice = "return for example rd.hold(cell, params, x=p * direction)"
    kind = []

    def value(p, z):
        map_ = make(p)
        kind.append(type(map_))
        return map_(z) if isinstance(map_, Map) else z

    got = jax.eval_shape(value, parameter, z0)
    if kind and not issubclass(kind[-1], Map):
        raise TypeError(
            validation.sentence("family", "a Map from family(p)", repr(kind[-1]), advice)
        )
    advice = "z0 is a flat vector of the state, rd.flatten(state)"
    validation.require_shape("z0", z0, got.shape, advice)
    validation.require_same_dtype("z0", z0, "family(p)(z)", got.dtype)
