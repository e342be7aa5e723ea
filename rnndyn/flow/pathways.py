"""Pathways: dz_T/dz_t split into classes of paths through the run, each with its norm by lag.

A step's Jacobian is a sum of parts (its carry and the rest; or its delays), so that the product
over a run is a sum over all words of parts, one letter a step: over paths. A class is a set of
words that a small automaton tells apart while the product grows: `exactly j recurrences`, `delay
3 alone`. Each class is multiplied up by itself, with a logarithmic scale for every row, and never
as a difference of larger products, so a weak rest keeps its digits over any lag beside a strong
carry. (In one step the rest is J - C, entry by entry: known to eps times the entry of C.)

Exact: the classes are disjoint and complete, their matrices sum to dz_T/dz_t. Not exact, for no
definition is: norms of paths do not add. Where two are equally large they may cancel.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rnndyn.cells.base import Cell
from rnndyn.cells.containers import require_cell, state_shapes
from rnndyn.core import validation
from rnndyn.core.pytree import coordinate_names, pytree, static, unflatten
from rnndyn.core.status import Status
from rnndyn.flow import graded
from rnndyn.flow.carry import carry_of
from rnndyn.flow.gradient_flow import _log_norm, default_lags
from rnndyn.linearize import Linearization, linearize
from rnndyn.simulate import Trajectory

Automaton = tuple[tuple[tuple[int, tuple[int, ...]], ...], ...]
"""For each class, which classes it comes from, and by which letters."""


@pytree
class Pathways:
    """Norms of classes of paths from t to T, by lag.

    Attributes
    ----------
    names : tuple of str, static
        The classes: by carry "carry", "1 recurrence", ..., "rest"; by delay "delay 1", ..., "rest".
    lags : jax.Array, shape (L,), int
        As asked for, in that order.
    log_norm : jax.Array, shape (L,)
        Natural logarithm of the spectral norm of the whole block, all paths together.
    log_parts : jax.Array, shape (P, L)
        The same of each class of paths; -inf exactly where it has none.
    path_length : jax.Array, shape (L,)
        The expected number of recurrences (steps through the weights) on a path from t to T that
        is drawn with probability proportional to the modulus of its weight, over all pairs of
        coordinates of the block. In 0..lag; NaN where there is no path.
    status : jax.Array, shape (L,), int
        0; -3 if a Jacobian within the lag is not finite, and then every number is NaN.
    """

    names: tuple[str, ...] = static()
    lags: jax.Array
    log_norm: jax.Array
    log_parts: jax.Array
    path_length: jax.Array
    status: jax.Array

    @property
    def ratio(self) -> jax.Array:
        """Norm of each class over the norm of the whole, (P, L); may exceed 1 where paths cancel.

        The first row, by carry, is the share of the constant error carousel.
        """
        return jnp.exp(self.log_parts - self.log_norm)


def pathways(
    cell: Cell,
    params: Any,
    run: Trajectory,
    *,
    by: str = "carry",
    lags: Sequence[int] | None = None,
    block: str | tuple[str, str] | None = None,
    recurrences: int = 0,
    delays: Sequence[int] | None = None,
) -> Pathways:
    """Log norms of dz_T/dz_{T-lag} by class of paths.

    By carry, each step is C + B, its carry (see `carry`) and the rest, and the classes are the
    coefficients of e^0, e^1, ... in the product of C + e B: no recurrence (the carry alone),
    exactly 1, ..., exactly `recurrences`, and the rest. By delay, for cells with a shift register,
    a step is its shift and, for each delay k, what the newest entry reads from k steps before; the
    classes are the paths that use delay k alone, and the rest, which mixes delays.

    Parameters
    ----------
    cell : Cell
    params : pytree
    run : Trajectory
    by : {"carry", "delay"}
    lags : sequence of int, optional
        Distinct, each in 0..T. Default: `default_lags(T)`.
    block : str or pair of str, optional
        "state", "hidden", or a leaf of the state by its name in `coordinate_names` ("c"); a pair
        is (to, from): ("h", "c") is dh_T/dc_t. By delay always "hidden", where it is newest to
        newest; by carry "state" if not given.
    recurrences : int
        How many exact counts to tell apart beyond none; by carry only.
    delays : sequence of int, optional
        The delays to tell apart, by delay only; all of the register if not given.

    Returns
    -------
    Pathways
        One sweep for all lags. With S classes O(max(lags) S d^2 n) and an SVD a class and lag, n
        the size of the block; one Jacobian and its carry at a time, never T of them.
        Differentiable in params and run.

    Raises
    ------
    TypeError, ValueError
        If the cell has no carry, or no shift register, or on bad options.

    Examples
    --------
    >>> import jax, jax.numpy as jnp, rnndyn as rd
    >>> cell = rd.cells.LSTM1997(3, 8)
    >>> params = cell.init(jax.random.key(0))
    >>> run = rd.simulate(cell, params, jnp.ones((100, 3)))
    >>> paths = rd.pathways(cell, params, run, block="c", lags=(1, 100))
    >>> paths.names, paths.log_parts[0].tolist()  # the constant error carousel
    (('carry', 'rest'), [0.0, 0.0])
    """
    require_cell("cell", cell)
    whole = linearize(cell, params, run, dense=False)
    asked = validation.require_lags(
        default_lags(whole.steps) if lags is None else lags, whole.steps
    )
    validation.require_choice("by", by, ("carry", "delay"))
    advice = "1 tells the paths with one recurrence apart from the rest"
    recurrences = validation.require_int("recurrences", recurrences, 0, advice)
    if by == "carry":
        if delays is not None:
            raise ValueError(_only("delays", "delay"))
        ends = _ends(cell, params, whole, "state" if block is None else block)
        kept, automaton, names = carry_of(cell, whole), *_by_carry(recurrences)
        return _pathways(whole, kept, None, asked, ends, automaton, names)
    if recurrences or block not in (None, "hidden"):
        raise ValueError(_only("recurrences, block", "carry"))
    slots = _slots(cell, params)
    told = _told_apart(cell, delays, int(slots.max()) + 1)
    ends = (whole.hidden, whole.hidden)
    automaton, names = _by_delay(told)
    masks = _letters_of_delays(slots, told)
    return _pathways(whole, None, masks, asked, ends, automaton, names)


def _by_carry(recurrences: int) -> tuple[Automaton, tuple[str, ...]]:
    """Letters: 0 the carry, 1 the rest. Class j counts letter 1; the last one absorbs."""
    rows: list = [((0, (0,)),)]
    rows += [((j, (0,)), (j - 1, (1,))) for j in range(1, recurrences + 1)]
    last = recurrences + 1
    rows.append(((last, (0, 1)), (recurrences, (1,))))
    counts = [f"{j} recurrence" + "s" * (j > 1) for j in range(1, last)]
    return tuple(rows), ("carry", *counts, "rest")


def _by_delay(told: tuple[int, ...]) -> tuple[Automaton, tuple[str, ...]]:
    """Letters: 0 the shift, 1.. the delays told apart, last all others.

    Classes: 0 shifts only (no path between newest entries, so without a name), then each delay
    alone, then the mixture.
    """
    count = len(told)
    letters = range(1, count + 2)
    rows: list = [((0, (0,)),)]
    rows += [((k, (0, k)), (0, (k,))) for k in range(1, count + 1)]
    others = [(k, tuple(j for j in letters if j != k)) for k in range(1, count + 1)]
    rows.append(((count + 1, (0, *letters)), (0, (count + 1,)), *others))
    return tuple(rows), (*(f"delay {k}" for k in told), "rest")


@jax.jit(static_argnames=("asked", "ends", "automaton", "names"))
def _pathways(
    whole: Linearization,
    kept: Linearization | None,
    masks: jax.Array | None,
    asked: tuple[int, ...],
    ends: tuple[tuple[int, ...], tuple[int, ...]],
    automaton: Automaton,
    names: tuple[str, ...],
) -> Pathways:
    store, good = _sweep(whole, kept, masks, asked, ends, automaton)
    classes, lengths = store
    norms = jax.vmap(jax.vmap(_log_norm))(classes)
    norms = jnp.where(good[:, None], norms, jnp.nan).T
    status = jnp.where(good, jnp.int32(Status.CONVERGED), jnp.int32(Status.NONFINITE))
    lengths = jnp.where(good, lengths, jnp.nan)
    parts = norms[len(norms) - len(names) :]
    return Pathways(names, jnp.asarray(asked), norms[0], parts, lengths, status)


def _sweep(whole, kept, masks, asked, ends, automaton):
    """The classes of paths by lag: Rows of (L, 1 + S), the whole first; lengths (L,); finite (L,).

    Pulled backwards, newest step first, as in `gradient_flow`: a class's transposed product grows
    on its old end, letter by letter.
    """
    to, from_ = (np.array(end) for end in ends)
    letters_count = 2 if masks is None else len(masks)
    all_letters = tuple(range(letters_count))
    automaton = (((0, all_letters),), *(tuple((j + 1, k) for j, k in row) for row in automaton))
    units = jnp.eye(whole.size, dtype=whole.dtype)[:, to]
    empty = jnp.zeros_like(units)
    rows = jnp.stack([units, units] + [empty] * (len(automaton) - 2))
    classes = graded.Rows(jnp.zeros(rows.shape[:2], whole.dtype), rows)
    mass_rows = jnp.stack([jnp.sum(units, axis=1, keepdims=True), empty[:, :1]])
    mass = graded.Rows(jnp.zeros(mass_rows.shape[:2], whole.dtype), mass_rows)
    count_letters = (((0, all_letters),), ((1, all_letters), (0, all_letters[1:])))
    start = (_taken(classes, from_), _length(mass, from_))
    store = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (len(asked), *leaf.shape)), start)
    good = jnp.ones((len(asked),), bool)
    if max(asked) == 0:
        return store, good

    def step(carry, entry):
        classes, mass, finite, store, good = carry
        at, slot = entry
        letters = _letters(whole, kept, masks, at)
        finite = finite & jnp.all(jnp.isfinite(letters))
        classes = _advance(letters, classes, automaton)
        mass = _advance(jnp.abs(letters), mass, count_letters)
        found = (_taken(classes, from_), _length(mass, from_))
        store = jax.tree.map(lambda all_, one: all_.at[slot].set(one, mode="drop"), store, found)
        return (classes, mass, finite, store, good.at[slot].set(finite, mode="drop")), None

    carry = (classes, mass, jnp.array(True), store, good)
    (*_, store, good), _ = jax.lax.scan(step, carry, graded.latest(whole, asked), reverse=True)
    return store, good


def _letters(whole, kept, masks, at) -> jax.Array:
    """The parts of one step's Jacobian, transposed, (letters, d, d); they sum to it."""
    transposed = whole.transposed(at)
    if masks is None:
        first = kept.transposed(at)
        return jnp.stack([first, transposed - first])
    return jnp.where(masks, transposed, jnp.zeros_like(transposed))


def _advance(letters: jax.Array, classes: graded.Rows, automaton: Automaton) -> graded.Rows:
    """One step more for every class: the sum over its origins of letters times their products."""
    made = []
    for index, row in enumerate(automaton):
        matrix = jnp.concatenate([sum(letters[k] for k in chosen) for _, chosen in row], axis=1)
        factor = graded.Rows(
            jnp.concatenate([classes.scale[origin] for origin, _ in row]),
            jnp.concatenate([classes.rows[origin] for origin, _ in row]),
        )
        made.append(graded.multiply(matrix, factor, classes.scale[index]))
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *made)


def _taken(classes: graded.Rows, from_: np.ndarray) -> graded.Rows:
    return graded.Rows(classes.scale[:, from_], classes.rows[:, from_])


def _length(mass: graded.Rows, from_: np.ndarray) -> jax.Array:
    """Weight times recurrences over weight, both summed over where paths begin."""
    rows = mass.rows[:, from_, 0]
    scale = jnp.where(rows == 0, -jnp.inf, mass.scale[:, from_])
    largest = jnp.max(scale)
    largest = jnp.where(jnp.isneginf(largest), jnp.zeros_like(largest), largest)
    weight, counted = jnp.sum(rows * jnp.exp(scale - largest), axis=1)
    return jnp.where(weight == 0, jnp.nan, counted / jnp.where(weight == 0, 1, weight))


def _ends(cell, params, whole, block) -> tuple[tuple[int, ...], tuple[int, ...]]:
    pair: tuple[Any, Any] = block if isinstance(block, tuple) else (block, block)
    validation.require_shape("block", np.zeros(len(pair)), (2,), "a pair is (to, from)")
    shapes = state_shapes(cell, params)
    named: dict[str, tuple[int, ...]] = {}
    for index, name in enumerate(coordinate_names(shapes)):
        leaf = name.split("[")[0]
        named[leaf] = (*named.get(leaf, ()), index)
    named |= {"state": tuple(range(whole.size)), "hidden": whole.hidden}
    for name in pair:
        validation.require_choice("block", name, named, "pass one of them, or a pair (to, from)")
    return named[pair[0]], named[pair[1]]


def _slots(cell: Cell, params: Any) -> np.ndarray:
    """For each coordinate of z its place in its shift register, 0 the newest; -1 outside."""
    shapes = state_shapes(cell, params)
    size = len(coordinate_names(shapes))
    with jax.ensure_compile_time_eval():
        like = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
        numbered = unflatten(jnp.arange(size, dtype=float), like)
        slots = np.full((size,), -1)
        for register in cell.registers(numbered):
            entries = np.asarray(register, int)
            for slot, entry in enumerate(entries):
                slots[entry] = slot
    if slots.max() < 0:
        got = f"{type(cell).__name__}, whose state has none"
        advice = 'split it by="carry", or use for example rd.cells.NARX'
        raise ValueError(validation.sentence("cell", "a cell with a shift register", got, advice))
    return slots


def _told_apart(cell: Cell, delays: Sequence[int] | None, longest: int) -> tuple[int, ...]:
    told = tuple(range(1, longest + 1)) if delays is None else tuple(delays)
    advice = f"the register of {type(cell).__name__} reaches {longest} steps back; give each once"
    for delay in told:
        validation.require_int("delays", delay, 1, advice)
    if not told or len(set(told)) != len(told) or max(told) > longest:
        raise ValueError(validation.sentence("delays", "distinct delays", repr(told), advice))
    return told


def _letters_of_delays(slots: np.ndarray, told: tuple[int, ...]) -> jax.Array:
    """Where each letter may be nonzero in J^T: its rows are what is read, its columns what is made.

    Letter 0 is all that makes no newest entry of a register, or reads from outside of any.
    """
    made, read = slots[None, :] == 0, slots[:, None]
    picked = [made & (read == delay - 1) for delay in told]
    shift = (~made & np.ones_like(read, bool)) | (made & (read == -1))
    others = ~np.any([shift, *picked], axis=0)
    return jnp.asarray(np.stack([shift, *picked, others]))


def _only(name: str, by: str) -> str:
    advice = f'these belong to by="{by}"'
    return validation.sentence(name, "the defaults", "others", advice)
