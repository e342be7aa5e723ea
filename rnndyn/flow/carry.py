"""The carry: what a step hands on unit by unit, without passing through a sum over units.

A gated step adds two kinds of paths. Along the one a unit is copied, scaled by its gate, bent by
an activation: f c of the LSTM, z h of the GRU, h of a residual step, an entry of a shift register.
The other goes through a matrix of weights, where every unit meets every other. The carry
dF/dz|_C is the derivative along the first kind alone: every operation of the step that sums over
coordinates (a matrix product, a mean, a Fourier transform) is held at its value. No cell states
its carry, and none can state it wrongly: it is read off the step.

For h' = z h + (1 - z) n it is D(z), the gates being functions of U h; for the LSTM D(f) in
dc'/dc and D(o tanh'(c') f) in dh'/dc; and the Jacobian is exactly carry + the rest.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.extend.core as jex
import jax.numpy as jnp

from rnndyn.cells.base import Cell
from rnndyn.cells.containers import require_cell
from rnndyn.core import validation
from rnndyn.core.pytree import flatten, specification
from rnndyn.core.trace import INLINED, bind, follow
from rnndyn.linearize import Dense, Linearization, MatrixFree, linearize
from rnndyn.simulate import CellStep, Trajectory

_SUMS = frozenset(
    "dot_general conv_general_dilated fft reduce_sum reduce_prod reduce_max reduce_min "
    "cumsum cumprod cummax cummin cumlogsumexp reduce_window_sum sort triangular_solve "
    "custom_linear_solve lu qr eigh svd cholesky scatter-add scatter_add ragged_dot_general".split()
)


@specification
class CarryStep:
    """One step of a cell whose derivative is its carry: `CellStep`, with its sums held fixed."""

    cell: Cell

    def __call__(self, z: jax.Array, data: Any, params: Any) -> jax.Array:
        return _evaluate_step(CellStep(self.cell), z, data, params)[0]


def carry(cell: Cell, params: Any, run: Trajectory, *, dense: bool = False) -> Linearization:
    """The carry of each step of a run, as a Linearization: every analysis of a run applies to it.

    Parameters
    ----------
    cell : Cell
    params : pytree
    run : Trajectory
    dense : bool
        Whether to store the T matrices.

    Returns
    -------
    Linearization
        `.jacobians` (T, d, d): the paths of dz_{t+1}/dz_t that pass no sum over coordinates. Their
        product is the carry path of dz_T/dz_t: the constant error carousel of an LSTM, D(prod f).
        What is meant depends on how the step is written, as it must: h + U h carries h,
        (I + U) h does not. Cost: as `linearize`.

    Raises
    ------
    TypeError, ValueError
        If the subject is no Cell or the run none of its, if the cell has no carry (each path
        passes its weights, as in a plain network), or if a sum is hidden inside a loop.

    Examples
    --------
    >>> import jax, jax.numpy as jnp, rnndyn as rd
    >>> cell = rd.cells.LSTM1997(3, 2)
    >>> params = cell.init(jax.random.key(0))
    >>> kept = rd.carry(cell, params, rd.simulate(cell, params, jnp.ones((100, 3))))
    >>> kept.jacobians[0, 2:, 2:].tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """
    require_cell("cell", cell)
    whole = linearize(cell, params, run, dense=False)
    kept = carry_of(cell, whole)
    return Dense(kept.hidden, kept.jacobians) if dense else kept


def carry_of(cell: Cell, whole: Linearization) -> MatrixFree:
    """The carry along a matrix-free linearization of the cell; refused where there is none."""
    assert isinstance(whole, MatrixFree)
    if whole.steps and not _has_carry(cell, *whole.step_shapes()):
        expected = "a cell that hands on part of its state outside its weights"
        got = f"{type(cell).__name__}, in which each path from state to state passes them"
        advice = "use rd.gradient_flow, or a gated, residual or delayed cell"
        raise ValueError(validation.sentence("cell", expected, got, advice))
    return dataclasses.replace(whole, rule=CarryStep(cell))


@functools.cache
def _has_carry(cell: Cell, structure: Any, shapes: tuple[jax.ShapeDtypeStruct, ...]) -> bool:
    """Whether any path of the step avoids all sums over coordinates; nothing is computed."""
    found = []

    def traced(z, data, params):
        out = _evaluate_step(CellStep(cell), z, data, params)
        found.append(_moves(out))
        return out[0]

    jax.eval_shape(traced, *jax.tree.unflatten(structure, shapes))
    return found[0]


Pair = tuple[Any, Any]
"""A value as z moves, and with z held at the state of the step; one object twice if z has no say.

Two values, rather than a stop_gradient, as what is held for this derivative must still move with
params and inputs in the next.
"""


def _moves(pair: Pair) -> bool:
    return pair[0] is not pair[1]


def _evaluate_step(step: Callable, z: jax.Array, data: Any, params: Any) -> Pair:
    closed = jax.make_jaxpr(step)(z, data, params)
    rest = [jnp.asarray(leaf) for leaf in jax.tree.leaves((data, params))]
    pairs = [(z, flatten(data[0])), *((value, value) for value in rest)]
    return _evaluate(closed.jaxpr, closed.consts, pairs)[0]


def _evaluate(jaxpr: Any, consts: Sequence[Any], pairs: Sequence[Pair]) -> list[Pair]:
    """Run a jaxpr, holding each sum of values that move."""
    still = [(value, value) for value in consts]
    return follow(jaxpr, still, pairs, _apply, lambda value: (value, value))


def _apply(eqn: Any, pairs: list[Pair]) -> list[Pair]:
    inner, moving = _inner(eqn), any(map(_moves, pairs))
    if moving and any(map(_sums, inner)):
        if eqn.primitive.name not in INLINED:
            expected, got = "sums over units in the open", f"one inside `{eqn.primitive.name}`"
            advice = "write the step without a loop around its products"
            raise ValueError(validation.sentence("cell", expected, got, advice))
        return _evaluate(inner[0].jaxpr, inner[0].consts, pairs)
    held = bind(eqn, [value for _, value in pairs])
    if not moving or eqn.primitive.name in _SUMS:
        return [(value, value) for value in held]
    moved = bind(eqn, [value for value, _ in pairs])
    both = zip(moved, held, strict=True)
    return [(a if jnp.issubdtype(a.dtype, jnp.inexact) else b, b) for a, b in both]


def _inner(eqn: Any) -> list[Any]:
    """The closed jaxprs among an equation's parameters; of a sum none, as it is held whole."""
    if eqn.primitive.name in _SUMS:
        return []
    leaves = jax.tree.leaves(
        list(eqn.params.values()), is_leaf=lambda leaf: isinstance(leaf, jex.ClosedJaxpr)
    )
    return [leaf for leaf in leaves if isinstance(leaf, jex.ClosedJaxpr)]


def _sums(closed: Any) -> bool:
    return any(
        eqn.primitive.name in _SUMS or any(map(_sums, _inner(eqn))) for eqn in closed.jaxpr.eqns
    )
