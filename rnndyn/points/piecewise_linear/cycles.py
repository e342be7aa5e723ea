"""All cycles of a piecewise-linear map up to a period: what the search found, as results."""

import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rnndyn.core import validation
from rnndyn.core.pytree import pytree, static
from rnndyn.maps import Map
from rnndyn.points import phases
from rnndyn.points.multipliers import product_eigenvalues
from rnndyn.points.piecewise_linear.form import ReluForm, relu_form
from rnndyn.points.piecewise_linear.search import Search, search
from rnndyn.points.piecewise_linear.solve import Box, Continuum, Solved

_NEAR = 2.0**-26  # relative: points closer than that are in no order


@pytree
class ExactCycles:
    """The cycles of one minimal period k. Leading axis m; NumPy arrays in float64.

    Attributes
    ----------
    points : np.ndarray, shape (m, k, d)
        In the order of time, from the smallest point; sorted as in `Cycles`.
    patterns : np.ndarray, shape (m, k, n), bool
        Which of the n switches (ReLUs that are not multiples of each other) are on.
    multipliers : np.ndarray, shape (m, d), complex
        By falling modulus.
    unstable_dim : np.ndarray, shape (m,), int
        How many multipliers lie outside the unit circle, by more than rounding.
    stable : np.ndarray, shape (m,), bool
        All inside it by more than rounding.
    index : np.ndarray, shape (m,), int
        sign det(I - DF^k).
    margin : np.ndarray, shape (m,)
        The smallest distance of its points from a border on which a switch changes. A border
        collision is where it is zero.
    border : np.ndarray, shape (m,), bool
        The margin is zero to rounding: multipliers are those of one side, stability is undecided.
    residual : np.ndarray, shape (m,)
        max |F(z_i) - z_{i+1}|.
    """

    points: np.ndarray
    patterns: np.ndarray
    multipliers: np.ndarray
    unstable_dim: np.ndarray
    stable: np.ndarray
    index: np.ndarray
    margin: np.ndarray
    border: np.ndarray
    residual: np.ndarray


@pytree
class Continua:
    """Flat pieces filled with cycles of one period k (lines, planes). Leading axis c.

    Attributes
    ----------
    points : np.ndarray, shape (c, k, d)
        One cycle of each piece, deep inside it.
    dimension : np.ndarray, shape (c,), int
    directions : np.ndarray, shape (c, d, k, d)
        The first `dimension` rows are orthonormal and say how the k points can move; the other
        rows are zero.
    patterns : np.ndarray, shape (c, k, n), bool
        One piece for each sequence of patterns: a line through two regions is two pieces.
    """

    points: np.ndarray
    dimension: np.ndarray
    directions: np.ndarray
    patterns: np.ndarray


@pytree
class PiecewiseLinear:
    """All cycles that lie in a box, by minimal period.

    Attributes
    ----------
    cycles : dict of int to ExactCycles
        Keys 1 (fixed points) to max_period.
    continua : dict of int to Continua
        Cycles that are not isolated, because I - DF^k is singular: never counted as cycles.
    complete_to : int, static
        Up to this period nothing is missing; what is listed beyond it may not be all.
    reason : str, static
        Why `complete_to` is less than max_period; else empty.
    """

    cycles: dict[int, ExactCycles]
    continua: dict[int, Continua]
    complete_to: int = static(default=0)
    reason: str = static(default="")

    @property
    def complete(self) -> bool:
        """Whether every cycle in the box up to max_period is there."""
        return self.complete_to == len(self.cycles)

    @property
    def counts(self) -> list[int]:
        """The number of isolated cycles of period 1, 2, ..., max_period."""
        return [len(found.points) for found in self.cycles.values()]


def piecewise_linear(
    map_: Map, max_period: int = 1, *, box: tuple[Any, Any], max_words: int = 20_000
) -> PiecewiseLinear:
    """All fixed points and cycles of a ReLU network in a box, with proof. A host-side step.

    Parameters
    ----------
    map_ : Map
        Continuous and piecewise linear: affine operations and relu, maximum, minimum, abs, clip
        and where by an order (leaky_relu, hard_tanh), nested as you like. `rd.hold` of a `Vanilla`
        with relu, `IRNN`, `NpRNN`, `RIN`, `IndRNN`, `CReluRNN`, `PLRNN`, `ShallowPLRNN` or a stack
        of them, or an iterate.
    max_period : int, at least 1
    box : tuple of array_like, shapes (d,)
        (lo, hi), finite, lo < hi: cycles all of whose points lie in it are found.
    max_words : int, at least 1
        How many regions, or sequences of regions, may be listed before the proof is given up and
        a search from 512 random starts takes over for the periods that are left.

    Returns
    -------
    PiecewiseLinear
        `complete` says whether all was proved. Empty and not complete if params are not finite.

    Raises
    ------
    ValueError
        If the map is not of this kind (one that jumps at a `jnp.where` is not), or max_period, box
        or max_words do not fit.

    Notes
    -----
    The map is turned into matrices from its trace (`ReluForm`): no cell has code for this. Words,
    sequences of activation patterns, grow pattern by pattern; one is dropped when a linear program
    proves that no point of the box follows it and stays in the box (weights of its constraints
    that sum to a contradiction by more than 1e-9), or when it lies on no closed walk in the graph
    of words. A closed word gives its cycle by one linear system for all k points, and it is kept
    if its patterns are those of the word. Borders count to both sides, so none is lost there.

    Cost: n switches in d coordinates make at most sum_{i <= d} C(n, i) regions, and the words of
    L steps grow with L as the number of recurrent orbits does, e^(topological entropy) a step;
    each costs a linear program of L (n + 2 d) rows in d variables, about 10 L (n + 2 d) d^2
    multiplications for each of 10 iterations, in batches. 2^10 words of 10 steps for d = 2 take a
    second. Smaller boxes are faster.

    Examples
    --------
    >>> import jax.numpy as jnp, rnndyn as rd
    >>> def tent(z, _):
    ...     return 1 - 2 * jnp.abs(z)
    >>> found = rd.piecewise_linear(rd.Map(tent), 6, box=([-2.0], [2.0]))
    >>> found.counts, found.complete
    ([2, 1, 2, 3, 6, 9], True)
    """
    low, high = _require_box(box)
    form = relu_form(map_, len(low))
    return _assembled(form, _searched(form, low, high, max_period, max_words))


def piecewise_linear_cycles(
    A: Any, W: Any, h: Any, max_period: int, box: tuple[Any, Any], *, max_words: int = 20_000
) -> dict[int, np.ndarray]:
    """All cycles of z' = A z + W relu(z) + h inside a box: the points only.

    Parameters
    ----------
    A, W : array_like, shapes (d, d)
    h : array_like, shape (d,)
    max_period : int, at least 1
    box : tuple of array_like, shapes (d,)
        (lo, hi).
    max_words : int, at least 1
        As in `piecewise_linear`, which gives everything else too.

    Returns
    -------
    dict of int to np.ndarray, shape (m, k, d)
        For each minimal period k from 1 to max_period its m isolated cycles.

    Raises
    ------
    ValueError
        If shapes do not fit.

    Warns
    -----
    RuntimeWarning
        If the proof of completeness was given up, from which period on, and why.

    Examples
    --------
    >>> import rnndyn as rd
    >>> found = rd.piecewise_linear_cycles([[2.0]], [[-4.0]], [1.0], 2, ([-2.0], [2.0]))
    >>> found[1].ravel().round(6).tolist(), found[2].ravel().round(6).tolist()
    ([-1.0, 0.333333], [-0.2, 0.6])
    """
    h = np.asarray(h, float)
    validation.require_shape("h", h, ("d",), "pass one entry for each coordinate of z")
    matrices = []
    for name, matrix in (("A", A), ("W", W)):
        matrices.append(np.asarray(matrix, float))
        advice = "pass a square matrix, np.diag(a) for a diagonal one"
        validation.require_shape(name, matrices[-1], (len(h), len(h)), advice)
    low, high = _require_box(box)
    validation.require_shape("box[0]", low, h.shape, "the box must have the size of h")
    eye = np.eye(len(h))
    form = ReluForm(eye, 0 * eye, 0 * h, matrices[0], matrices[1], h)
    found = _searched(form, low, high, max_period, max_words)
    if found.complete_to < max_period:
        text = f"cycles of period above {found.complete_to} may be missing: {found.reason}"
        warnings.warn(text, RuntimeWarning, stacklevel=2)
    return {k: _arranged(some).points for k, some in found.isolated.items()}


def _searched(form: ReluForm, low: Any, high: Any, max_period: int, max_words: int) -> Search:
    max_period = validation.require_int("max_period", max_period, 1, "1 gives the fixed points")
    max_words = validation.require_int("max_words", max_words, 1, "pass for example 20000")
    if form.finite:
        return search(form, Box(low, high), max_period, max_words)
    nothing = {k: _nothing(form, k) for k in range(1, max_period + 1)}
    continua: dict[int, list[Continuum]] = {k: [] for k in nothing}
    return Search(nothing, continua, 0, "params or inputs are not finite")


def _require_box(box: Any) -> tuple[np.ndarray, np.ndarray]:
    advice = "pass (lo, hi), each with one number for each coordinate of z"
    try:
        low, high = (np.asarray(side, float) for side in box)
    except (TypeError, ValueError):
        got = validation.sentence("box", "two arrays of shape (d,)", repr(box), advice)
        raise ValueError(got) from None
    validation.require_shape("box[0]", low, ("d",), advice)
    validation.require_shape("box[1]", high, low.shape, advice)
    if not np.all(np.isfinite(low) & np.isfinite(high) & (low < high)):
        got = f"{low.tolist()}, {high.tolist()}"
        raise ValueError(validation.sentence("box", "finite lo < hi", got, advice))
    return low, high


def _nothing(form: ReluForm, k: int) -> Solved:
    n, d = form.p_z.shape
    return Solved(np.zeros((0, k, d)), np.zeros((0, k, n), bool), np.zeros(0, bool))


def _assembled(form: ReluForm, found: Search) -> PiecewiseLinear:
    """Phases, multipliers and margins of what was found."""
    n, d = form.p_z.shape
    solved = {k: _arranged(some) for k, some in found.isolated.items()}
    multipliers, unstable, stable = _multipliers(form, list(solved.values()))
    cycles, start = {}, 0
    for k, some in solved.items():
        rows = slice(start, start + len(some.points))
        start = rows.stop
        image, s = form(some.points)
        steepness = np.linalg.norm(form.pieces(some.patterns).rows, axis=3)
        with np.errstate(divide="ignore"):
            distance = np.abs(s) / steepness
        gap = np.abs(image - np.roll(some.points, -1, axis=1))
        cycles[k] = ExactCycles(
            points=some.points,
            patterns=some.patterns,
            multipliers=multipliers[rows],
            unstable_dim=unstable[rows],
            stable=stable[rows] & ~some.border,
            index=np.sign(np.prod(1 - multipliers[rows], axis=1).real).astype(int),
            margin=np.min(distance, axis=(1, 2), initial=np.inf),
            border=some.border,
            residual=np.max(gap, axis=(1, 2), initial=0.0),
        )
    continua = {k: _continua(found.continua[k], k, n, d) for k in cycles}
    return PiecewiseLinear(cycles, continua, found.complete_to, found.reason)


def _arranged(some: Solved) -> Solved:
    """Each cycle from its smallest point, cycles sorted."""
    near = _NEAR * max(1.0, np.max(np.abs(some.points), initial=0.0))
    first = phases.from_smallest(some.points, near)
    points, patterns = (phases.advance(rows, first) for rows in (some.points, some.patterns))
    order = phases.in_order(points, near)
    return Solved(points[order], patterns[order], some.border[order])


def _continua(pieces: list[Continuum], k: int, n: int, d: int) -> Continua:
    directions = np.zeros((len(pieces), d, k, d))
    for i, piece in enumerate(pieces):
        directions[i, : len(piece.directions)] = piece.directions.reshape(-1, k, d)
    return Continua(
        points=np.array([piece.points for piece in pieces]).reshape(-1, k, d),
        dimension=np.array([len(piece.directions) for piece in pieces], int),
        directions=directions,
        patterns=np.array([piece.patterns for piece in pieces], bool).reshape(-1, k, n),
    )


def _multipliers(form: ReluForm, all_: list[Solved]) -> tuple[np.ndarray, ...]:
    """Multipliers, unstable_dim and stable of all cycles in a row.

    Jacobians are padded with identities, and rows, to powers of two: one compiled shape.
    """
    d = form.p_z.shape[1]
    total = sum(len(some.points) for some in all_)
    longest = max(8, 1 << (len(all_) - 1).bit_length())
    rows = max(16, 1 << max(total - 1, 0).bit_length())
    jacobians = np.tile(np.eye(d), (rows, longest, 1, 1))
    start = 0
    for k, some in enumerate(all_, 1):
        stop = start + len(some.points)
        jacobians[start:stop, :k] = form.pieces(some.patterns).jacobians
        start = stop
    with jax.enable_x64(True):
        found = _product_eigenvalues(jnp.asarray(jacobians))
        values, margin = (np.asarray(leaf)[:total] for leaf in found)
    excess = np.abs(values) - 1
    return values, np.sum(excess > margin, axis=1), np.all(excess < -margin, axis=1)


@jax.jit
def _product_eigenvalues(jacobians: jax.Array) -> tuple[jax.Array, jax.Array]:
    return jax.vmap(product_eigenvalues)(jacobians)
