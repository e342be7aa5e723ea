"""All cycles of a piecewise-linear map: a proof where the words can be listed, a hunt elsewhere."""

import dataclasses

import numpy as np

from rnndyn.points.piecewise_linear import words as symbolic
from rnndyn.points.piecewise_linear.form import ReluForm
from rnndyn.points.piecewise_linear.solve import Box, Continuum, Solved, solve

_SHRINKS = 50
_STARTS = 512  # of a hunt
_ROUNDS = 32  # in which a start of a hunt goes from a cycle that is not there to its patterns


@dataclasses.dataclass
class Search:
    """What a search found, by period, and up to which period it is known to be everything."""

    isolated: dict[int, Solved]
    continua: dict[int, list[Continuum]]
    complete_to: int
    reason: str


def search(form: ReluForm, box: Box, max_period: int, max_words: int) -> Search:
    """All cycles up to `max_period`, as far as lists of at most `max_words` words go."""
    found = Search({}, {}, 0, "")
    try:
        _prove(found, form, box, max_period, max_words)
    except symbolic.TooMany as error:
        found.reason = f"{error}; longer cycles come from a hunt, which may miss some"
    for k in range(found.complete_to + 1, max_period + 1):
        patterns = _hunted(form, box, k)
        found.isolated[k], found.continua[k] = solve(
            form, patterns, np.ones(len(patterns), bool), box
        )
    return found


def _prove(found: Search, form: ReluForm, box: Box, max_period: int, max_words: int) -> None:
    smaller = _shrunk(form, box)
    if smaller is None:
        none = np.zeros((1, len(form.p_1)), bool)
        for k in range(1, max_period + 1):
            _record(found, form, box, none, np.zeros((0, k), int))
        return
    unit = form.in_unit_box(smaller.low, smaller.high)
    patterns = symbolic.region_patterns(unit, max_words)
    pieces = unit.pieces(patterns)
    words = symbolic.single_words(pieces, patterns)
    for k in range(1, max_period + 1):
        _record(found, form, box, patterns, symbolic.necklaces(words.symbols))
        loops = symbolic.simple_loops(words.symbols)
        if loops is not None:
            for period in range(k + 1, max_period + 1):
                repeated = [np.tile(u, period // len(u)) for u in loops if period % len(u) == 0]
                rest = np.array(repeated, int).reshape(len(repeated), period)
                _record(found, form, box, patterns, rest)
            return
        if k < max_period:
            words = symbolic.longer_words(words, pieces, patterns, max_words)


def _shrunk(form: ReluForm, box: Box) -> Box | None:
    """A smaller box with the same cycles: each of their points is an image of a point of the box.

    By interval arithmetic, to a thousandth of the box at least, which keeps the scales tame. None
    if every point leaves the box, so that there is no cycle in it.
    """
    low, high = box.low, box.high
    least = 1e-3 * (high - low)
    for _ in range(_SHRINKS):
        below, above = form.bounds(low, high)
        if np.any((below > high) | (above < low)):
            return None
        low, high = np.maximum(low, below), np.minimum(high, above)
        centre, radius = (low + high) / 2, np.maximum((high - low) / 2, least / 2)
        low, high = centre - radius, centre + radius
    return Box(low, high)


def _record(found: Search, form: ReluForm, box: Box, patterns: np.ndarray, words: np.ndarray):
    k = words.shape[1]
    primitive = np.array([symbolic.smallest_period(word) == k for word in words], bool)
    found.isolated[k], found.continua[k] = solve(form, patterns[words], primitive, box)
    found.complete_to = k


def _hunted(form: ReluForm, box: Box, k: int) -> np.ndarray:
    """Sequences of patterns (N, k, n) met by solving for a cycle, following it, solving again.

    From the patterns of orbits the linear system gives points that need not have these patterns;
    their own are tried next (Eisenmann et al. 2023). Each sequence is returned once, in one phase.
    """
    rng = np.random.default_rng(0)
    z = rng.uniform(box.low, box.high, (_STARTS, len(box.low)))
    loops = []
    for _ in range(k):
        loops.append(z)
        z = np.clip(form(z)[0], box.low, box.high)
    points, tried, primitive = np.stack(loops, axis=1), set(), []
    for _ in range(_ROUNDS):
        fresh = []
        for pattern in form(points)[1] > 0:
            if pattern.tobytes() not in tried:
                turns = {np.roll(pattern, shift, axis=0).tobytes() for shift in range(k)}
                tried |= turns
                fresh += [pattern] if len(turns) == k else []
        if not fresh:
            break
        primitive += fresh
        points = _virtual(form, np.array(fresh))
    return np.array(primitive, bool).reshape(-1, k, len(form.p_1))


def _virtual(form: ReluForm, patterns: np.ndarray) -> np.ndarray:
    """The points (N, k, d) that would be a cycle if they had these patterns."""
    pieces = form.pieces(patterns)
    count, k, d = pieces.shifts.shape
    product, shift = np.broadcast_to(np.eye(d), (count, d, d)), np.zeros((count, d))
    for i in range(k):
        shift = np.einsum("nij,nj->ni", pieces.jacobians[:, i], shift) + pieces.shifts[:, i]
        product = pieces.jacobians[:, i] @ product
    z = np.einsum("nij,nj->ni", np.linalg.pinv(np.eye(d) - product), shift)
    loops = []
    for i in range(k):
        loops.append(z)
        z = np.einsum("nij,nj->ni", pieces.jacobians[:, i], z) + pieces.shifts[:, i]
    return np.stack(loops, axis=1)
