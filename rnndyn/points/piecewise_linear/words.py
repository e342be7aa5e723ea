"""Which sequences of activation patterns a cycle in the box can follow: words and their graph.

A word of length L is admissible if some point of the box stays in the box for L steps and has its
patterns. Words of length L are the edges of a graph on words of length L - 1, from what leaves
out the last pattern to what leaves out the first; a cycle runs around it for ever, so only edges
within strongly connected components matter. Longer words are joined from these alone, and their
number grows no faster than that of the orbits that recur.
"""

import dataclasses

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from rnndyn.points.piecewise_linear.form import Pieces, ReluForm
from rnndyn.points.piecewise_linear.polytopes import nonempty


class TooMany(Exception):
    """More words than allowed; the message says what of."""


@dataclasses.dataclass(frozen=True)
class Words:
    """Admissible words, one a row, in the coordinates in which the box is [-1, 1]^d.

    Attributes
    ----------
    symbols : np.ndarray, shape (N, L), int
        Numbers of patterns.
    jacobians, shifts : np.ndarray, shapes (N, d, d), (N, d)
        Where the first point is after L steps.
    a, b : np.ndarray, shapes (N, rows, d), (N, rows)
        a u + b >= 0 are the first points u that follow the word.
    """

    symbols: np.ndarray
    jacobians: np.ndarray
    shifts: np.ndarray
    a: np.ndarray
    b: np.ndarray

    def only(self, rows: np.ndarray) -> "Words":
        fields = dataclasses.fields(self)
        return Words(*(getattr(self, field.name)[rows] for field in fields))


def region_patterns(form: ReluForm, limit: int) -> np.ndarray:
    """The patterns (R, n) that occur in the unit box, found switch by switch."""
    n, d = form.p_z.shape
    bits = np.zeros((1, 0), bool)
    a, b = np.zeros((1, 0, d)), np.zeros((1, 0))
    for i in range(n):
        on = form.p_y[i, :i] * bits
        signs = np.where(bits, 1.0, -1.0)
        row = form.p_z[i] + np.einsum("nj,njd->nd", on * signs, a)
        offset = form.p_1[i] + np.sum(on * signs * b, axis=1)
        bits = np.concatenate([np.insert(bits, i, bit, axis=1) for bit in (False, True)])
        a = np.concatenate([np.insert(a, i, sign * row, axis=1) for sign in (-1, 1)])
        b = np.concatenate([np.insert(b, i, sign * offset, axis=1) for sign in (-1, 1)])
        _require(len(bits) <= 2 * limit, f"{limit} activation patterns")
        kept = nonempty(a, b)
        bits, a, b = bits[kept], a[kept], b[kept]
    return bits


def single_words(pieces: Pieces, patterns: np.ndarray) -> Words:
    """The words of length 1."""
    count, _, d = pieces.rows.shape
    start = Words(
        symbols=np.zeros((count, 0), int),
        jacobians=np.broadcast_to(np.eye(d), (count, d, d)),
        shifts=np.zeros((count, d)),
        a=np.zeros((count, 0, d)),
        b=np.zeros((count, 0)),
    )
    return _followed(start, np.arange(count), pieces, patterns)


def longer_words(words: Words, pieces: Pieces, patterns: np.ndarray, limit: int) -> Words:
    """The words that are one pattern longer and lie on closed walks."""
    tails, heads = _ends(words.symbols)
    order = np.argsort(heads, kind="stable")
    first = np.searchsorted(heads[order], tails, "left")
    counts = np.searchsorted(heads[order], tails, "right") - first
    listed = f"{limit} words of {words.symbols.shape[1] + 1} steps"
    _require(int(np.sum(counts)) <= 4 * limit, listed)
    before = np.repeat(np.arange(len(tails)), counts)
    offsets = np.arange(len(before)) - np.repeat(np.cumsum(counts) - counts, counts)
    after = order[first[before] + offsets]
    longer = _followed(words.only(before), words.symbols[after, -1], pieces, patterns)
    longer = longer.only(recurrent(longer.symbols))
    _require(len(longer.symbols) <= limit, listed)
    return longer


def recurrent(symbols: np.ndarray) -> np.ndarray:
    """Which words lie on a closed walk."""
    tails, heads = _ends(symbols)
    nodes = max(np.max(tails, initial=-1), np.max(heads, initial=-1)) + 1
    graph = coo_array((np.ones(len(tails)), (heads, tails)), shape=(nodes, nodes))
    component = connected_components(graph, connection="strong")[1] if nodes else tails
    return component[tails] == component[heads]


def necklaces(symbols: np.ndarray) -> np.ndarray:
    """The words (N, k) that can be repeated for ever, one of each set of rotations."""
    count, k = symbols.shape
    smallest = np.ones(count, bool)
    for shift in range(1, k):
        gap = np.roll(symbols, -shift, axis=1) - symbols
        smallest &= gap[np.arange(count), np.argmax(gap != 0, axis=1)] >= 0
    alive = {row.tobytes() for row in symbols}
    chosen = [
        i
        for i in np.flatnonzero(smallest)
        if all(np.roll(symbols[i], shift).tobytes() in alive for shift in range(1, k))
    ]
    return symbols[np.array(chosen, int)]


def simple_loops(symbols: np.ndarray) -> list[np.ndarray] | None:
    """The closed walks, if no two meet: each one as a word; None if some meet."""
    tails, heads = _ends(symbols)
    if len(np.unique(heads)) < len(heads):
        return None
    following = dict(zip(heads.tolist(), range(len(heads)), strict=True))
    loops, seen = [], np.zeros(len(heads), bool)
    for start in range(len(heads)):
        walk, at = [], start
        while not seen[at]:
            seen[at] = True
            walk.append(symbols[at, 0])
            at = following[int(tails[at])]
        if walk:
            loops.append(np.array(walk, int))
    return loops


def smallest_period(word: np.ndarray) -> int:
    """The length of the word of which this one is a power."""
    k = len(word)
    return next(p for p in range(1, k + 1) if k % p == 0 and np.array_equal(word, np.roll(word, p)))


def _ends(symbols: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each word the number of what is left without its first, and without its last pattern."""
    count, length = symbols.shape
    if length == 1:
        return np.zeros(count, int), np.zeros(count, int)
    ends = np.concatenate([symbols[:, 1:], symbols[:, :-1]])
    numbers = np.unique(ends, axis=0, return_inverse=True)[1].ravel()
    return numbers[:count], numbers[count:]


def _followed(words: Words, last: np.ndarray, pieces: Pieces, patterns: np.ndarray) -> Words:
    """The words with one more pattern each, of those that are admissible."""
    signs = np.where(patterns[last], 1.0, -1.0)
    rows, jacobians = pieces.rows[last], pieces.jacobians[last]
    switched = signs[..., None] * (rows @ words.jacobians)
    reached = jacobians @ words.jacobians
    at = np.einsum("nij,nj->ni", rows, words.shifts) + pieces.offsets[last]
    image = np.einsum("nij,nj->ni", jacobians, words.shifts) + pieces.shifts[last]
    longer = Words(
        symbols=np.concatenate([words.symbols, last[:, None]], axis=1),
        jacobians=reached,
        shifts=image,
        a=np.concatenate([words.a, switched, reached, -reached], axis=1),
        b=np.concatenate([words.b, signs * at, 1 + image, 1 - image], axis=1),
    )
    return longer.only(nonempty(longer.a, longer.b))


def _require(holds: bool, what: str) -> None:
    if not holds:
        raise TooMany(f"more than {what}")
