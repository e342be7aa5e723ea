"""Border collisions: where a branch crosses a kink of its map, as a ReLU cell has many.

Across a kink F is continuous and dF jumps by a matrix of rank one, a n^T, whose n is the normal
of the border in u = (z, s). So nothing need be known of the map: beyond the border the branch
goes on in the kernel of the other G_u, on the side that n names. Where two borders meet it goes on
in the one sector that contains a kernel vector of its own G_u. It persists where the parameter
goes on in the same direction and is a non-smooth fold, the end of two fixed points, where it turns
back; where det(I + J) has opposite signs on the two sides, a cycle of twice the period that visits
both is born there or dies (Feigin 1978; di Bernardo et al., Piecewise-smooth Dynamical Systems,
2008, sec. 3.3). A host step.
"""

from typing import Any

import jax
import numpy as np

from rnndyn.branches.arclength import Family, Node, Sizes, between, correct_at
from rnndyn.core.status import Status

AHEAD = 64  # in ds_min: how far beyond the last point the other side is looked at
RANK = 1e-3  # a second singular value of the jump below this, relative to the first, is rounding
SECTORS = 64  # directions in which the surroundings of a corner are looked at
TURN = 1e-5  # a turn of the tangent over some ds_min that no smooth branch makes
_KINKED = {"max", "min", "abs", "sign", "select_n", "clamp", "floor", "ceil", "round", "rem"}


def may_have_kinks(jaxpr: Any) -> bool:
    """Whether a traced function contains an operation with a kink."""
    for equation in jaxpr.eqns:
        if equation.primitive.name in _KINKED:
            return True
        for value in equation.params.values():
            for inner in value if isinstance(value, tuple | list) else (value,):
                inner = getattr(inner, "jaxpr", inner)
                if hasattr(inner, "eqns") and may_have_kinks(inner):
                    return True
    return False


def beyond(family: Family, last: Node, sizes: Sizes) -> tuple[Any, Any] | None:
    """A point and the tangent of the branch behind the kink that `last` has stopped at.

    None where there is none, three or more coincide, several branches lead on from two, or the
    branch runs along the border.
    """
    step = float(sizes.ds_min) * AHEAD
    here, there = jax.device_get(_slopes(family, last.u, last.u + step * last.tangent))
    if not np.all(np.isfinite(there)):
        return None
    jump, normals = np.linalg.svd(there - here)[1:]
    rank = int(np.sum(jump > RANK * jump[0]))
    if jump[0] < TURN or rank > 2:
        return None
    if rank == 2:
        way = _round(family, last, here, normals[:2], step)
    else:
        way = _across(last, there, normals[0])
    if way is None:
        return None
    tangent, behind = way
    reach = float(np.sqrt(sizes.ds_min * sizes.ds_max))
    guess = last.u + step * last.tangent * (rank == 1) + reach * tangent
    u, slope, residual, _ = jax.device_get(correct_at(family, guess, tangent, sizes.tol))
    other = np.max(np.abs(slope - behind), initial=0) > 0.1 * jump[0]
    if other or not residual <= float(sizes.tol) * max(1.0, float(np.max(np.abs(u[:-1])))):
        return None
    return u, tangent


def _across(last: Node, there: Any, normal: Any) -> tuple[Any, Any] | None:
    """The tangent behind one border, and G_u there."""
    tangent = np.linalg.svd(there)[2][-1]
    before, after = normal @ last.tangent, normal @ tangent
    if min(abs(before), abs(after)) < TURN:
        return None
    return tangent * np.sign(before * after), there


def _round(family: Family, last: Node, here: Any, plane: Any, step: float):
    """The tangent behind a corner, where two borders meet, and G_u there; None if not the only one.

    Around a corner F is linear in each of up to four sectors. A half-branch leaves along t if t
    is in the kernel of the G_u of a sector and in the sector itself. The way through the corner
    flips both normals, so they span the rows of the jump, and a circle in that plane meets all
    sectors that are not narrower than its step.
    """
    angles = (np.arange(SECTORS) + 0.5) * 2 * np.pi / SECTORS
    circle = np.stack([np.cos(angles), np.sin(angles)], axis=1) @ plane
    sectors = [here]
    for slope in jax.device_get(_slopes_at(family, last.u + step * circle)):
        if all(np.max(np.abs(slope - other)) > TURN for other in sectors):
            sectors.append(slope)
    ways = []
    for slope in sectors:
        tangent = np.linalg.svd(slope)[2][-1].astype(last.u.dtype)
        seen = jax.device_get(_slopes(family, last.u + step * tangent, last.u - step * tangent))
        for way, found in zip((tangent, -tangent), seen, strict=True):
            came = slope is here and way @ last.tangent < 0
            if not came and np.max(np.abs(found - slope)) < TURN:
                ways.append((way, slope))
    return ways[0] if len(ways) == 1 else None


def closing(family: Family, first: Node, piece: Node, sizes: Sizes) -> int | None:
    """How many points of a piece lie before the branch comes back to its first node, if it does."""
    off = piece.u - first.u
    ahead = off @ first.tangent
    near = np.linalg.norm(off, axis=1) <= 2 * float(sizes.ds_max)
    passed = (ahead[:-1] < 0) & (ahead[1:] >= 0) & near[:-1] & near[1:]
    reach = float(np.sqrt(np.finfo(off.dtype).eps)) * (1 + float(np.max(np.abs(first.u))))
    for i in np.flatnonzero(passed).tolist():
        guess = piece.u[i] + ahead[i] / (ahead[i] - ahead[i + 1]) * (piece.u[i + 1] - piece.u[i])
        u = np.asarray(correct_at(family, guess, first.tangent, sizes.tol)[0])
        if np.linalg.norm(u - first.u) <= reach:
            return i + 1
    return None


def split(family: Family, nodes: Node, sizes: Sizes) -> list[Node]:
    """Pieces of a branch between the kinks that its steps have passed over."""
    smallest = 4 * float(sizes.ds_min)
    pieces, start, n = [], 0, nodes.residual.size
    rows = [jax.tree.map(lambda a, i=i: a[i], nodes) for i in range(n)]
    inserted: list[Node] = []
    for i in range(n - 1):
        for a, b in _brackets(family, rows[i], rows[i + 1], sizes.tol, smallest):
            pieces.append(_stacked([*inserted, *rows[start : i + 1], a]))
            inserted, start = [b], i + 1
    return [*pieces, _stacked([*inserted, *rows[start:]])]


def collision(family: Family, before: Node, after: Node, tol: Any) -> dict[str, Any]:
    """The event between the last point before a kink and the first behind it.

    Its place is where the two tangents meet, corrected by Newton.
    """
    sides = np.stack([before.tangent, -after.tangent], axis=1)
    along = np.linalg.lstsq(sides, after.u - before.u, rcond=None)[0]
    meeting = before.u + along[0] * before.tangent
    u, _, residual, _ = jax.device_get(correct_at(family, meeting, before.tangent, tol))
    good = residual <= float(tol) * max(1.0, float(np.max(np.abs(u[:-1]))))
    return {
        "kind": "border_collision",
        "criticality": _classified(family, before, after),
        "u": u,
        "tangent": before.tangent,
        "angle": np.nan,
        "residual": residual,
        "status": Status.CONVERGED if good else Status.MAX_STEPS,
        "along": 0.0,
    }


def _classified(family: Family, before: Node, after: Node) -> str:
    """Feigin's kind of a border collision between two points close to it on either side."""
    if before.tangent[-1] * after.tangent[-1] <= 0:
        return "nonsmooth_fold"
    eye = np.eye(before.u.size - 1, dtype=before.u.dtype)
    slopes = jax.device_get(_slopes(family, before.u, after.u))
    signs = [np.linalg.slogdet(slope[:, :-1] + 2 * eye)[0] for slope in slopes]
    return "nonsmooth_flip" if signs[0] * signs[1] < 0 else "persistence"


def doubling(family: Family, u: Any, along: Any, sizes: Sizes) -> Any:
    """The unit vector along which a point of the 2-cycle leaves a non-smooth flip at u, or None.

    With J and f the derivatives in z and s on the two sides of the border, x' = J_a x + f_a s and
    x = J_b x' + f_b s; x has to lie on side a and x' on side b, which decides the sign of s.
    """
    step = float(sizes.ds_min) * AHEAD
    one, two = jax.device_get(_slopes(family, u - step * along, u + step * along))
    normal = np.linalg.svd(two - one)[2][0]
    eye = np.eye(u.size - 1, dtype=u.dtype)
    (a, fa), (b, fb) = ((slope[:, :-1] + eye, slope[:, -1]) for slope in (one, two))
    here = np.append(np.linalg.solve(eye - b @ a, b @ fa + fb), 1)
    there = np.append(a @ here[:-1] + fa, 1)
    sides = np.sign([-(normal @ along) * (normal @ here), (normal @ along) * (normal @ there)])
    return None if sides[0] != sides[1] else sides[0] * here / np.linalg.norm(here)


def _brackets(family, a: Node, b: Node, tol: Any, smallest: float) -> list[tuple[Node, Node]]:
    """Pairs of nodes close together on either side of each kink between two nodes.

    A smooth branch turns as much in the first half of a step as in the second.
    """
    if np.linalg.norm(b.tangent - a.tangent) < TURN:
        return []
    low, high = a, b
    while np.linalg.norm(high.u - low.u) > smallest:
        middle, good = jax.device_get(between(family, low, high, tol))
        first, second = (
            float(np.linalg.norm(y.tangent - x.tangent)) for x, y in ((low, middle), (middle, high))
        )
        if not good or abs(first - second) <= 0.5 * (first + second):
            return []
        low, high = (low, middle) if first > second else (middle, high)
    if np.linalg.norm(high.tangent - low.tangent) < TURN:
        return []
    before = _brackets(family, a, low, tol, smallest)
    return [*before, (low, high), *_brackets(family, high, b, tol, smallest)]


def _stacked(rows: list[Node]) -> Node:
    return jax.tree.map(lambda *parts: np.stack(parts), *rows)


@jax.jit
def _slopes(family: Family, u: jax.Array, v: jax.Array) -> tuple[jax.Array, jax.Array]:
    return family.derivative(u)[1], family.derivative(v)[1]


@jax.jit
def _slopes_at(family: Family, u: jax.Array) -> jax.Array:
    return jax.vmap(lambda u: family.derivative(u)[1])(u)
