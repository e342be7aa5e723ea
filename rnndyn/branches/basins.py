"""Basins of attraction: which attractor each state goes to, and how that changes with parameters.

A batch of states is iterated until each has settled on a cycle or left, in one compiled loop. What
does not settle is looked at through its leading exponent. Attractors are told apart on the host.
"""

import enum
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.spatial import KDTree
from scipy.special import ndtri

from rnndyn.branches import states
from rnndyn.branches.settling import CLOUD, WINDOW, cloud, settle
from rnndyn.core import validation
from rnndyn.core.pytree import coded, pytree
from rnndyn.core.status import Status
from rnndyn.maps import Map

GROWTH = 1000.0  # factor by which a tangent vector must grow, or shrink, within the window


class Attractor(enum.IntEnum):
    """What orbits settle on.

    FIXED_POINT (0), CYCLE (1) : a point that returns after `period` steps.
    QUASI_PERIODIC (2) : neither settled nor drifting, with tangent vectors that neither grow nor
        shrink by a factor of 1000 in 1024 steps: an invariant circle, or the edge of something.
    CHAOTIC (3) : the same, with tangent vectors that grow by more.
    """

    FIXED_POINT = 0
    CYCLE = 1
    QUASI_PERIODIC = 2
    CHAOTIC = 3


@pytree
class Basins:
    """Attractors and their share of the starts. Leading axis m: attractors, the largest first.

    Attributes
    ----------
    z : jax.Array, shape (m, d)
        A point of each attractor; of a cycle the same one whichever start found it.
    kind : jax.Array, shape (m,), int
        An `Attractor`.
    period : jax.Array, shape (m,), int
        Minimal period; 0 of what is not periodic.
    exponent : jax.Array, shape (m,)
        Leading Lyapunov exponent, natural logarithm per step, over 1024 steps.
    count : jax.Array, shape (m,), int
        Starts that settled there.
    fraction : jax.Array, shape (m,)
    interval : jax.Array, shape (m, 2)
        Wilson score interval of the fraction. It holds for starts that were drawn independently;
        of a grid it says only how coarse the grid is.
    escaped, unsettled : jax.Array, scalar
        Fractions of starts that left to infinity (or NaN), and that were still on their way.
        All fractions sum to 1.
    escaped_interval, unsettled_interval : jax.Array, shape (2,)
    label : jax.Array, shape (n,), int
        For each start the row of its attractor; -1 where it reached none.
    steps : jax.Array, shape (n,), int
        Iterations after which it had settled or left, a multiple of `max_period`.
    status : jax.Array, shape (n,), int
        0: on a cycle to tol, or on an aperiodic attractor. -2: still approaching after max_steps
        (increase it, or max_period). -3: NaN, infinite or beyond `bound`.
    """

    z: jax.Array
    kind: jax.Array = coded(Attractor)
    period: jax.Array
    exponent: jax.Array
    count: jax.Array
    fraction: jax.Array
    interval: jax.Array
    escaped: jax.Array
    unsettled: jax.Array
    escaped_interval: jax.Array
    unsettled_interval: jax.Array
    label: jax.Array
    steps: jax.Array
    status: jax.Array


@pytree
class BasinCurve:
    """Basins along a parameter. Leading axes (P, m): parameters, attractors by first appearance.

    Attributes
    ----------
    parameter : jax.Array, shape (P,)
    z : jax.Array, shape (P, m, d)
        NaN where an attractor was not met.
    kind, period : jax.Array, shape (P, m), int
        -1 where not met.
    fraction : jax.Array, shape (P, m)
        0 where not met.
    interval : jax.Array, shape (P, m, 2)
    escaped, unsettled : jax.Array, shape (P,)
    label : jax.Array, shape (P, n), int
    status : jax.Array, shape (P, n), int
        As in `Basins`.
    """

    parameter: jax.Array
    z: jax.Array
    kind: jax.Array = coded(Attractor)
    period: jax.Array
    fraction: jax.Array
    interval: jax.Array
    escaped: jax.Array
    unsettled: jax.Array
    label: jax.Array
    status: jax.Array


def basins(
    map_: Map,
    starts: jax.Array | Callable[[jax.Array, int], jax.Array],
    *,
    n: int = 1024,
    key: jax.Array | None = None,
    max_steps: int = 10_000,
    max_period: int = 16,
    tol: float | None = None,
    atol: float = 1e-4,
    bound: float = 1e6,
    confidence: float = 0.95,
) -> Basins:
    """The attractors that states go to, and which fraction of them goes to each.

    Parameters
    ----------
    map_ : Map
    starts : jax.Array, shape (n, d), or callable
        States, or a sampler `starts(key, n)` that draws them.
    n, key
        Of a sampler: how many to draw (1024) and a JAX random key (`jax.random.key(0)`).
    max_steps : int, at least 1
        After which what has not settled is judged by its exponent.
    max_period : int, at least 1; static
        Longest cycle that is recognised.
    tol : float, optional
        A start has settled with period p where max |F^p(z) - z| <= tol max(1, max |z|) and no
        earlier iterate is within sqrt(tol); by default 1024 eps.
    atol : float
        Distance, relative to max(1, max |z|), within which cycles of one period are one.
    bound : float
        What exceeds it in a coordinate has escaped.
    confidence : float, in (0, 1)
        Of the Wilson score intervals (1927).

    Returns
    -------
    Basins
        Only attractors that some start met. A settled row must be there still 1024 steps later;
        a start that is exactly on an unstable point stays there and shows by its exponent > 0.
        An orbit whose first and second half of 1024 steps do not overlap in some coordinate is
        drifting and counts as unsettled, and so does one whose tangent vectors shrink a
        thousandfold. Aperiodic rows belong together where the last states of one lie about as
        near to 2048 points of the other as 2048 more of its own points do.
        Cost: n (steps + 1024) evaluations, of which 1024 with a forward derivative. The loop
        stops when all have settled. Telling attractors apart is a host-side step, so the call is
        not jitted; equal shapes do not compile again.

    Raises
    ------
    ValueError, TypeError
        If starts are not real of shape (n, d) or an option does not fit.

    Examples
    --------
    >>> import jax, jax.numpy as jnp, rnndyn as rd
    >>> def sampler(key, n):
    ...     return jax.random.uniform(key, (n, 1), minval=-1.0)
    >>> found = rd.basins(rd.maps.tanh_network([[2.0]]), sampler, n=400)
    >>> [f"{z:.4f}" for z in sorted(found.z[:, 0])], int(found.count.sum())
    (['-0.9575', '0.9575'], 400)
    >>> bool((found.interval[:, 0] < 0.5).all() and (found.interval[:, 1] > 0.5).all())
    True
    """
    if callable(starts):
        n = validation.require_int("n", n, 1, "pass how many states to draw")
        starts = starts(jax.random.key(0) if key is None else key, n)
        validation.require_shape("starts(key, n)", starts, (n, "d"), "draw n flat states")
    starts = jnp.asarray(starts)
    advice = "pass one flat state a row, or a sampler starts(key, n)"
    validation.require_shape("starts", starts, ("n", "d"), advice)
    validation.require_real("starts", starts)
    got = states.image("starts", map_, jax.ShapeDtypeStruct(starts.shape[1:], starts.dtype))
    validation.require_shape("F(z)", got, starts.shape[1:], "starts must be states of this map")
    validation.require_same_dtype("starts", starts, "F(z)", got.dtype)
    max_steps = validation.require_int("max_steps", max_steps, 1, "10000 is usual")
    max_period = validation.require_int("max_period", max_period, 1, "1 knows fixed points only")
    tol = 1024 * float(jnp.finfo(starts.dtype).eps) if tol is None else tol
    limits = (("tol", tol, np.inf), ("atol", atol, np.inf), ("bound", bound, np.inf))
    for name, value, high in (*limits, ("confidence", confidence, 1.0)):
        advice = f"pass a number between 0 and {high:g}"
        validation.require_range(name, value, 0.0, high, advice, open_low=True, open_high=True)
    numbers = (jnp.asarray(value, starts.dtype) for value in (tol, bound))
    settled = jax.device_get(settle(map_, starts, *numbers, max_steps, max_period=max_period))
    return _gather(map_, settled, atol, confidence)


def basins_along(
    family: Callable[[jax.Array], Map],
    parameters: Sequence[float] | jax.Array,
    starts: jax.Array | Callable[[jax.Array, int], jax.Array],
    **options: Any,
) -> BasinCurve:
    """Basins at each of several parameters, attractors matched from one to the next.

    Parameters
    ----------
    family : callable
        `family(p)` is a Map, of one rule for all p, so that nothing compiles again.
    parameters : array-like, shape (P,)
        In the order in which to match.
    starts
        As in `basins`; the same states at every parameter.
    **options
        Of `basins`.

    Returns
    -------
    BasinCurve
        Attractors at neighbouring parameters are one where their basins share most starts (the
        assignment of largest total overlap); an attractor that shares none is new. So a cycle
        that doubles its period stays one column. Cost: P calls of `basins`.

    Raises
    ------
    ValueError, TypeError
        As `basins`, and if there are no parameters.

    Examples
    --------
    >>> import jax.numpy as jnp, rnndyn as rd
    >>> line = jnp.linspace(0.05, 0.95, 50)[:, None]
    >>> curve = rd.basins_along(rd.maps.logistic, [2.8, 3.2, 3.5], line)
    >>> curve.period[:, 0].tolist(), curve.fraction[:, 0].tolist()
    ([1, 2, 4], [1.0, 1.0, 1.0])
    """
    values = jnp.asarray(parameters, float)
    validation.require_shape("parameters", values, ("P",), "pass a list of numbers")
    if values.size == 0:
        advice = "pass at least one"
        raise ValueError(validation.sentence("parameters", "numbers", "none", advice))
    found = [basins(states.built(family, p), starts, **options) for p in values]
    columns, count = _columns(found)
    rows, size = len(found), found[0].z.shape[1]
    z = np.full((rows, count, size), np.nan, found[0].z.dtype)
    kind, period = np.full((2, rows, count), -1)
    fraction, interval = np.zeros((rows, count)), np.zeros((rows, count, 2))
    label = np.full((rows, found[0].label.size), -1)
    for i, (one, column) in enumerate(zip(found, columns, strict=True)):
        missing = _wilson(np.zeros(count), one.label.size, options.get("confidence", 0.95))
        interval[i] = missing
        z[i, column], kind[i, column], period[i, column] = one.z, one.kind, one.period
        fraction[i, column], interval[i, column] = one.fraction, one.interval
        label[i] = np.append(column, -1)[np.asarray(one.label)]
    alike = ("escaped", "unsettled", "status")
    shares = {name: np.stack([getattr(one, name) for one in found]) for name in alike}
    table = {"z": z, "kind": kind, "period": period, "fraction": fraction, "interval": interval}
    return BasinCurve(parameter=values, **jax.device_put(table | shares | {"label": label}))


def _columns(found: list[Basins]) -> tuple[list[np.ndarray], int]:
    """For each parameter the column of each of its attractors, and how many columns there are."""
    columns = [np.arange(found[0].count.size)]
    count = found[0].count.size
    for before, after in zip(found[:-1], found[1:], strict=True):
        m, labels = after.count.size, (np.asarray(before.label), np.asarray(after.label))
        both = (labels[0] >= 0) & (labels[1] >= 0)
        shared = np.zeros((before.count.size, m))
        np.add.at(shared, (labels[0][both], labels[1][both]), 1)
        column = np.full(m, -1)
        for i, j in zip(*linear_sum_assignment(-shared), strict=True):
            if shared[i, j] > 0:
                column[j] = columns[-1][i]
        fresh = np.flatnonzero(column < 0)
        column[fresh] = count + np.arange(fresh.size)
        count += fresh.size
        columns.append(column)
    return columns, count


def _gather(map_: Map, rows: Any, atol: float, confidence: float) -> Basins:
    """Attractors from what each start settled on. NumPy on the host."""
    total = rows.period.size
    period, kind, reach, left_over = _judge(rows, atol)
    label, chosen = np.full(total, -1), []
    while np.any(left_over):
        first = int(np.argmax(left_over))
        same = left_over & (period == period[first])
        like = same & _like(map_, rows, first, same, reach[first] if period[first] else None)
        like[first] = True
        label[like], left_over = len(chosen), left_over & ~like
        chosen.append(first)
    count = np.bincount(label[label >= 0], minlength=len(chosen))
    order = np.argsort(-count, kind="stable")
    chosen, count = np.asarray(chosen, int)[order], count[order]
    label = np.where(label < 0, -1, np.argsort(order)[label] if len(chosen) else -1)
    status = np.select([rows.left, label < 0], [Status.NONFINITE, Status.MAX_STEPS], 0)
    lost = [np.sum(status == code) for code in (Status.NONFINITE, Status.MAX_STEPS)]
    intervals = _wilson(np.asarray(lost), total, confidence)
    whole = max(total, 1)
    columns = {
        "z": rows.z[chosen],
        "kind": kind[chosen],
        "period": period[chosen],
        "exponent": rows.exponent[chosen],
        "count": count,
        "fraction": count / whole,
        "interval": _wilson(count, total, confidence),
        "escaped": lost[0] / whole,
        "unsettled": lost[1] / whole,
        "escaped_interval": intervals[0],
        "unsettled_interval": intervals[1],
        "label": label,
        "steps": rows.steps,
        "status": status,
    }
    return Basins(**jax.device_put(columns))


def _judge(rows: Any, atol: float) -> tuple[np.ndarray, ...]:
    """For each row its period and kind, the reach of its cycle, and whether it has settled."""
    limit = np.log(GROWTH) / WINDOW
    reach = atol * np.maximum(1.0, np.max(np.abs(rows.z), axis=1, initial=0.0))
    away = np.min(np.max(np.abs(rows.tail - rows.z[:, None]), axis=2), axis=1)
    periodic = ~rows.left & (rows.period > 0) & (away <= reach)
    aperiodic = ~(rows.left | periodic | rows.drifting) & (rows.exponent > -limit)
    period = np.where(periodic, rows.period, 0)
    kind = np.where(period == 1, Attractor.FIXED_POINT, Attractor.CYCLE)
    wild = np.where(rows.exponent > limit, Attractor.CHAOTIC, Attractor.QUASI_PERIODIC)
    return period, np.where(periodic, kind, wild), reach, periodic | aperiodic


def _like(map_: Map, rows: Any, first: int, same: np.ndarray, reach: Any) -> np.ndarray:
    """Which of the rows in `same` are on the attractor of row `first`; no reach: aperiodic."""
    if reach is not None:
        return np.max(np.abs(rows.z - rows.z[first]), axis=1) <= reach
    orbit = np.asarray(cloud(map_, jnp.asarray(rows.tail[first, -1])))
    tree = KDTree(orbit[: CLOUD // 2])
    far = np.full(len(same), np.inf)
    far[same] = np.max(tree.query(rows.tail[same])[0], axis=1)
    return far <= 2 * np.max(tree.query(orbit[CLOUD // 2 :])[0])


def _wilson(count: np.ndarray, total: int, confidence: float) -> np.ndarray:
    """Score intervals, shape (..., 2), of count successes in total trials."""
    q = float(ndtri(0.5 + confidence / 2)) ** 2
    total = max(total, 1)
    share = np.asarray(count) / total
    middle = share + q / (2 * total)
    half = np.sqrt(q * share * (1 - share) / total + (q / (2 * total)) ** 2)
    ends = np.stack([middle - half, middle + half], axis=-1) / (1 + q / total)
    return np.clip(ends, 0.0, 1.0)
