"""The checks of `CHECKS`: what holds for every cell.

Each is a function of a cell and a key that raises AssertionError. The equations of one cell are
its own tests' business. Tolerances are multiples of eps of the default dtype: 256 eps for two
ways of computing one step, 1024 eps for products along a run, 64 eps^(2/3) for central
differences of length eps^(1/3), each relative to the largest entry or 1.
"""

import dataclasses
import functools
import pickle
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rnndyn.cells.base import Cell
from rnndyn.cells.containers import hidden_indices
from rnndyn.core import validation
from rnndyn.core.once import once
from rnndyn.core.pytree import coordinate_names, flatten, unflatten
from rnndyn.linearize import linearize
from rnndyn.maps import hold
from rnndyn.simulate import simulate
from rnndyn.testing.measure import (
    carried,
    close,
    close_to_differences,
    declared,
    described,
    example,
    examples,
    gaussian,
    held,
    identical,
    integers,
    jacobians,
    poisoned,
    products,
    require,
    row,
    slopes,
    smoothest,
    step_once,
    vector,
)

CHECKS: dict[str, Callable[[Cell, jax.Array], None]] = {}
"""Name -> check(cell, key), in the order in which `check_cell` runs them."""

_STEP, _RUN = 256, 1024


def _check(function: Callable[[Cell, jax.Array], None]) -> Callable[[Cell, jax.Array], None]:
    """Register a check under its name, and put that name in front of what it says."""
    name = function.__name__.removeprefix("_")

    @functools.wraps(function)
    def check(cell: Cell, key: jax.Array) -> None:
        try:
            function(cell, key)
        except AssertionError as failure:
            raise AssertionError(f"check `{name}` of {cell!r}: {failure}") from None
        except Exception as error:
            got = f"{type(error).__name__}: {error}"
            said = f"check `{name}` of {cell!r}: expected no exception, got {got}"
            raise AssertionError(said) from error

    CHECKS[name] = check
    return check


@_check
def _specification(cell: Cell, key: jax.Array) -> None:
    """Frozen, sizes first, defaults after; equal copies are equal, hash equal and share a trace."""
    require(dataclasses.is_dataclass(cell), "a class decorated with rd.specification", "none")
    names = [field.name for field in dataclasses.fields(cell)]  # pyright: ignore
    require(names[:2] == ["input_size", "hidden_size"], "sizes as the first two fields", names)
    made: Any = type(cell)
    made(input_size=cell.input_size, hidden_size=cell.hidden_size)
    copy = dataclasses.replace(cell)  # pyright: ignore
    require(copy == cell and hash(copy) == hash(cell), "an equal copy with an equal hash", copy)
    traces = []

    @jax.jit
    def counted(cell: Cell, params: Any, state: Any, x: jax.Array) -> Any:
        traces.append(cell)
        return cell.step(params, state, x)

    # looked up by shapes, as a call would be, but nothing is compiled
    jax.eval_shape(counted, cell, *example(cell, key))
    jax.eval_shape(counted, copy, *row(examples(cell, key), 1))
    require(len(traces) == 1, "one trace for equal cells and new values", len(traces))


@_check
def _structure(cell: Cell, key: jax.Array) -> None:
    """Shapes and dtypes are kept by `step`, in every precision, and `output` has shape (n,)."""
    drawn = jax.eval_shape(cell.init, key)
    validation.require_one_real_dtype("params", drawn)
    for dtype in {jnp.dtype("float32"), jnp.zeros(()).dtype}:

        def cast(leaf, dtype=dtype):
            real = jnp.issubdtype(leaf.dtype, jnp.floating)
            return jax.ShapeDtypeStruct(leaf.shape, dtype if real else leaf.dtype)

        params, x = jax.tree.map(cast, drawn), jax.ShapeDtypeStruct((cell.input_size,), dtype)
        state = jax.eval_shape(cell.initial_state, params)
        after = jax.eval_shape(cell.step, params, state, x)
        require(dataclasses.is_dataclass(state), "a dataclass (rd.pytree) as state", type(state))
        require(described(after) == described(state), described(state), described(after))
        kinds = {leaf.dtype for leaf in jax.tree.leaves(state)}
        wrong = {kind for kind in kinds if jnp.issubdtype(kind, jnp.inexact) and kind != dtype}
        require(not wrong, f"a state in the dtype of params, {dtype}", wrong)
        output = jax.eval_shape(cell.output, state)
        wanted = described(jax.ShapeDtypeStruct((cell.output_size,), dtype))
        require(described(output) == wanted, f"output {wanted}", described(output))


@_check
def _coordinates(cell: Cell, key: jax.Array) -> None:
    """Declared field order is the order of z; `flatten` and `unflatten` are inverse."""
    _, state, _ = example(cell, key)
    z = flatten(state)
    real = [leaf for leaf in declared(state) if jnp.issubdtype(leaf.dtype, jnp.inexact)]
    in_order = np.concatenate([np.ravel(leaf) for leaf in real])
    require(np.array_equal(in_order, z), f"z in declared order, {in_order}", z)
    back = unflatten(z, state)
    require(identical(back, state), "unflatten(flatten(state), state) equal to state", back)
    shifted = flatten(unflatten(z + 1, state))
    require(np.array_equal(shifted, z + 1), f"flatten(unflatten(z, state)) = {z + 1}", shifted)
    names = coordinate_names(state)
    require(len(set(names)) == z.size, f"{z.size} distinct coordinate names", names)


@_check
def _jit(cell: Cell, key: jax.Array) -> None:
    """A compiled step equals the step."""
    arguments = example(cell, key)
    compiled, eager = step_once(cell, *arguments), cell.step(*arguments)
    close("the compiled step", vector(compiled), vector(eager), _STEP)
    same = identical(integers(compiled), integers(eager))
    require(same, f"integer leaves {integers(eager)}", integers(compiled))


@_check
def _vmap(cell: Cell, key: jax.Array) -> None:
    """A batch of steps equals the steps one by one."""
    arguments = examples(cell, key)
    batched = jax.jit(jax.vmap(cell.step))(*arguments)
    for number in range(3):
        one, alone = row(batched, number), step_once(cell, *row(arguments, number))
        close(f"row {number} of a batch", vector(one), vector(alone), _STEP)


@_check
def _jacobian(cell: Cell, key: jax.Array) -> None:
    """Forward, reverse and, for an exact derivative, difference Jacobians of a step agree."""
    measured = jacobians(cell, *examples(cell, key))
    forward, reverse, fine, coarse = (np.asarray(part) for part in measured)
    close("jacfwd against jacrev", forward, reverse, _STEP)
    if cell.exact_derivative:
        at = smoothest(fine, coarse)
        close_to_differences("jacfwd against differences", forward[at], fine[at])


@_check
def _hidden(cell: Cell, key: jax.Array) -> None:
    """`hidden` selects distinct coordinates of z."""
    params, state, _ = example(cell, key)
    indices = list(hidden_indices(cell, params))
    distinct = len(set(indices)) == len(indices) > 0
    require(distinct, "distinct coordinates from `hidden`", indices)
    chosen = np.take(vector(state), indices, mode="clip")  # one that is none differs
    hidden = np.ravel(cell.hidden(state))
    same = np.array_equal(chosen, hidden)
    require(same, f"coordinates {indices} of z, {chosen}", hidden)


@_check
def _clock(cell: Cell, key: jax.Array) -> None:
    """The integer leaves return after `period` steps, a whole number >= 1 (or None: never)."""
    period = cell.period
    if period is None:
        return
    validation.require_int("period", period, 1, "1 is a cell without a clock")
    params, _, x = example(cell, key)
    start = state = cell.initial_state(params)
    for _ in range(period):
        state = step_once(cell, params, state, x)
    same = identical(integers(state), integers(start))
    require(same, f"integer leaves {integers(start)} again after {period} steps", integers(state))


@_check
def _registers(cell: Cell, key: jax.Array) -> None:
    """Every shift register moves by one entry a step, newest first."""
    params, state, x = example(cell, key)
    before, after = cell.registers(state), cell.registers(step_once(cell, params, state, x))
    for number, pair in enumerate(zip(before, after, strict=True)):
        old, new = (np.asarray(register) for register in pair)
        kept = np.array_equal(new[1:], old[:-1])
        require(kept, f"register {number} shifted by one, newest first: {old[:-1]}", new[1:])


@_check
def _determinism(cell: Cell, key: jax.Array) -> None:
    """`init` depends on its key and on nothing else, `step` on its arguments alone."""
    first, again = cell.init(key), cell.init(key)
    require(identical(first, again), "the same params from the same key", "other params")
    other = cell.init(jax.random.fold_in(key, 1))
    require(not identical(first, other), "other params from another key", "the same params")
    arguments = example(cell, key)
    same = identical(cell.step(*arguments), cell.step(*arguments))
    require(same, "the same state from the same arguments", "another state")


@_check
def _gain(cell: Cell, key: jax.Array) -> None:
    """`gain`, traced or not, multiplies some of the params and leaves the others alone."""

    def of(gain):
        return cell.init(key, gain=gain)

    none, one, two = (vector(of(gain)) for gain in (0.0, 1.0, 2.0))
    scaled, kept = (two == 2 * one) & (none == 0), (two == one) & (none == one)
    require(np.all(scaled | kept), "each entry of params kept or multiplied by gain", (one, two))
    if cell.has_recurrent_weights:
        require(np.any(scaled & (one != 0)), "recurrent weights multiplied by gain", "none")
    close("gain as a number against traced", vector(once(of)(jnp.asarray(2.0))), two, _STEP)


@_check
def _pickle(cell: Cell, key: jax.Array) -> None:
    """A cell, its params and its state survive pickling."""
    params, state, _ = example(cell, key)
    loaded = pickle.loads(pickle.dumps((cell, params, state)))
    require(loaded[0] == cell, f"{cell!r} from its pickle", loaded[0])
    require(identical(loaded[1:], (params, state)), "the same arrays from their pickle", loaded)


@_check
def _nan(cell: Cell, key: jax.Array) -> None:
    """NaN in anything that the next state depends on gives NaN in the next state."""
    params, state, x = example(cell, key)
    seen, matters = poisoned(cell, params, state, x, jnp.asarray(jnp.nan))
    leaves = [f"params{jax.tree_util.keystr(p)}" for p, _ in jax.tree.leaves_with_path(params)]
    names = coordinate_names(state) + [f"x[{i}]" for i in range(x.size)] + leaves
    masked = [n for n, s, m in zip(names, seen, matters, strict=True) if m and not s]
    require(not masked, "NaN in the next state", f"none from NaN in {', '.join(masked)}")


@_check
def _gradient(cell: Cell, key: jax.Array) -> None:
    """The gradient of a loss of a run with respect to params is finite and equals differences."""
    params, states, xs = examples(cell, key)
    targets = gaussian(key, (len(xs), cell.output_size), xs.dtype)
    weights = gaussian(jax.random.fold_in(key, 1), (97,), xs.dtype)
    gradients, *measured = slopes(cell, params, states, xs, targets, weights)
    along, fine, coarse = (np.asarray(part) for part in measured)
    finite = all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(gradients))
    require(finite, "a finite gradient", gradients)
    if cell.exact_derivative:
        at = smoothest(fine, coarse)
        close_to_differences("gradient against differences", along[at], fine[at])


@_check
def _analyses(cell: Cell, key: jax.Array) -> None:
    """`simulate` and `linearize` take the cell, and dense and matrix-free agree."""
    params, x, run = _run(cell, key)
    require(int(run.status) == 0, "status 0 from simulate", int(run.status))
    one = vector(step_once(cell, params, cell.initial_state(params), x))
    close("the first state of simulate", vector(row(run.states, 1)), one, _STEP)
    dense, free = (linearize(cell, params, run, dense=stored) for stored in (True, False))
    v = gaussian(key, (free.size, 2), one.dtype)
    pushed, pulled = products(free, v)
    jacobians_ = np.asarray(dense.jacobians)
    close("matrix-free push against J v", pushed, jacobians_ @ v, _STEP)
    close("matrix-free pull against J^T u", pulled, np.swapaxes(jacobians_, 1, 2) @ v, _STEP)


@_check
def _carry(cell: Cell, key: jax.Array) -> None:
    """Holding the step's sums fixed keeps its value, and couples no two units of one leaf."""
    params, state, x = example(cell, key)
    value, kept = carried(cell, params, state, x)
    close("the step with its sums held", value, vector(step_once(cell, params, state, x)), _STEP)
    leaves = [leaf for leaf in jax.tree.leaves(state) if jnp.issubdtype(leaf.dtype, jnp.inexact)]
    ends = np.cumsum([leaf.size for leaf in leaves])[:-1]
    for leaf, part in zip(leaves, np.split(np.asarray(kept) != 0, ends, axis=1), strict=True):
        most, slots = int(part.sum(axis=1).max(initial=0)), int(np.prod(leaf.shape[:-1]))
        require(most <= slots, f"a carry from at most {slots} coordinates of a leaf", most)


@_check
def _hold(cell: Cell, key: jax.Array) -> None:
    """At constant input the cell is a Map: its steps over one period, and their Jacobians."""
    if cell.period is None:
        return
    params, x, run = _run(cell, key)
    start, end = (vector(row(run.states, at)) for at in (0, cell.period))
    map_ = hold(cell, params, x)
    moved, jacobian = held(map_, jnp.asarray(start))
    close("hold over a period against simulate", moved, end, _RUN)
    along = np.asarray(linearize(cell, params, run).jacobians)[: cell.period]
    product = functools.reduce(lambda p, j: j @ p, along)
    close("its Jacobian against the product", jacobian, product, _RUN)
    restored = map_.unflatten(jnp.asarray(start))
    require(identical(restored, cell.initial_state(params)), "the state back from z", restored)


def _run(cell: Cell, key: jax.Array) -> tuple[Any, jax.Array, Any]:
    """Params, a constant input, and the run on it over a period or three steps."""
    params, _, x = example(cell, key)
    return params, x, simulate(cell, params, jnp.stack([x] * max(3, cell.period or 1)))
