"""The Jacobians along a run, dense, in parts, diagonal or matrix-free, behind one interface.

Convention: `J[t] = dz_{t+1}/dz_t`, so dz_T/dz_t = J[T-1] ... J[t], newest on the left. Analyses
of gradient flow, spectra and exponents know Linearizations, never cells.
"""

import abc
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from rnndyn.cells.base import Cell
from rnndyn.cells.containers import hidden_indices, require_params, state_shapes
from rnndyn.core import validation
from rnndyn.core.dependence import dependence
from rnndyn.core.pytree import flatten, pytree, static
from rnndyn.core.split import Layout, Split, times_transposed
from rnndyn.maps import Map, require_states
from rnndyn.simulate import CellStep, Trajectory

DENSE_BUDGET = 2**31  # bytes of Jacobians above which `linearize` stays matrix-free
_BLOCK = 2**26  # bytes of Jacobians that are formed at once
_LEAST_SIZE, _MOST_FILL = 64, 0.75  # of Jacobians that are stored in parts


class Linearization(abc.ABC):
    """The derivatives of T successive steps of a map on z (d,).

    A consumer scans over `slices` and asks for products with one step's Jacobian; whether that
    Jacobian is stored is not its business. Four final classes: `Dense`, `InParts` and `Diagonal`
    (of which the analyses of flow/ take advantage) and `MatrixFree`.

    Attributes
    ----------
    hidden : tuple of int
        The coordinates of z that are the hidden output h: the block that dh_T/dh_t means.
    """

    hidden: tuple[int, ...]
    slices: Any

    @property
    @abc.abstractmethod
    def steps(self) -> int:
        """T, the number of steps."""

    @property
    @abc.abstractmethod
    def size(self) -> int:
        """d, the size of z."""

    @property
    @abc.abstractmethod
    def dtype(self) -> Any:
        """The dtype of the Jacobians."""

    @property
    @abc.abstractmethod
    def jacobians(self) -> jax.Array:
        """All Jacobians, shape (T, d, d); formed on demand where they are not stored."""

    @abc.abstractmethod
    def push(self, at: Any, v: jax.Array) -> jax.Array:
        """J v for columns v, shape (d, k), at one step `at`: an entry of `slices`."""

    @abc.abstractmethod
    def pull(self, at: Any, u: jax.Array) -> jax.Array:
        """J^T u for columns u, shape (d, k), at one step `at`: an entry of `slices`."""

    def pull_rows(self, at: Any, u: jax.Array) -> jax.Array:
        """u J for rows u, shape (k, d): what `pull` does, where that needs no transpose."""
        return self.pull(at, u.T).T

    def transposed(self, at: Any) -> jax.Array | Split:
        """J^T itself, (d, d), at one step `at`: an entry of `slices`; in parts if so stored."""
        return self.pull(at, jnp.eye(self.size, dtype=self.dtype))

    @classmethod
    def from_jacobians(cls, jacobians: jax.Array) -> "Linearization":
        """A linearization of given Jacobians, shape (T, d, d), `J[t] = dz_{t+1}/dz_t`.

        All coordinates count as hidden.

        Examples
        --------
        >>> import jax.numpy as jnp, rnndyn as rd
        >>> rd.Linearization.from_jacobians(jnp.ones((7, 2, 2))).steps
        7
        """
        jacobians = jnp.asarray(jacobians)
        advice = "stack the Jacobians of successive steps along axis 0, oldest first"
        validation.require_shape("jacobians", jacobians, ("T", "d", "d"), advice)
        rows, columns = jacobians.shape[1:]
        validation.require_shape("jacobians", jacobians, ("T", rows, rows), advice)
        validation.require_real("jacobians", jacobians)
        return Dense(tuple(range(columns)), jacobians)


@pytree
class Dense(Linearization):
    """Jacobians that are stored: `slices` has shape (T, d, d)."""

    hidden: tuple[int, ...] = static()
    slices: jax.Array

    @property
    def steps(self) -> int:
        return self.slices.shape[-3]

    @property
    def size(self) -> int:
        return self.slices.shape[-1]

    @property
    def dtype(self) -> Any:
        return self.slices.dtype

    @property
    def jacobians(self) -> jax.Array:
        return self.slices

    def push(self, at: jax.Array, v: jax.Array) -> jax.Array:
        return at @ v

    def pull(self, at: jax.Array, u: jax.Array) -> jax.Array:
        return times_transposed(at, u)

    def pull_rows(self, at: jax.Array, u: jax.Array) -> jax.Array:
        return u @ at

    def transposed(self, at: jax.Array) -> jax.Array:
        return at.T


@pytree
class InParts(Linearization):
    """Jacobians of one dense block and a few diagonals, of which alone products make use.

    `slices` is a `Split` with T block (T, r, c) and bands (T, length): half the numbers and
    half the flops of the full matrices for an LSTM, 1/L of them for a register of L lags.
    """

    hidden: tuple[int, ...] = static()
    slices: Split

    @property
    def steps(self) -> int:
        return self.slices.block.shape[-3]

    @property
    def size(self) -> int:
        return self.slices.layout.size

    @property
    def dtype(self) -> Any:
        return self.slices.block.dtype

    @property
    def jacobians(self) -> jax.Array:
        return self.slices.full()

    def push(self, at: Split, v: jax.Array) -> jax.Array:
        return at @ v

    def pull(self, at: Split, u: jax.Array) -> jax.Array:
        return at.T @ u

    def pull_rows(self, at: Split, u: jax.Array) -> jax.Array:
        return u @ at

    def transposed(self, at: Split) -> Split:
        return at.T


@pytree
class Diagonal(Linearization):
    """Jacobians that are diagonal, stored as `slices` of shape (T, d): the diagonals."""

    hidden: tuple[int, ...] = static()
    slices: jax.Array

    @property
    def steps(self) -> int:
        return self.slices.shape[-2]

    @property
    def size(self) -> int:
        return self.slices.shape[-1]

    @property
    def dtype(self) -> Any:
        return self.slices.dtype

    @property
    def jacobians(self) -> jax.Array:
        i = jnp.arange(self.size)
        zeros = jnp.zeros((*self.slices.shape, self.size), self.dtype)
        return zeros.at[..., i, i].set(self.slices)

    def push(self, at: jax.Array, v: jax.Array) -> jax.Array:
        return at[:, None] * v

    def pull(self, at: jax.Array, u: jax.Array) -> jax.Array:
        return at[:, None] * u


@pytree
class MatrixFree(Linearization):
    """Jacobians that are applied by forward and reverse derivatives of the step.

    `slices = (points (T, d), per-step data)`; `rule(z, data, args)` is the step itself.
    """

    hidden: tuple[int, ...] = static()
    rule: Callable[[jax.Array, Any, Any], jax.Array] = static()
    args: Any
    slices: tuple[jax.Array, Any]

    @property
    def steps(self) -> int:
        return self.slices[0].shape[-2]

    @property
    def size(self) -> int:
        return self.slices[0].shape[-1]

    @property
    def dtype(self) -> Any:
        return self.slices[0].dtype

    @property
    def jacobians(self) -> jax.Array:
        return _form(self)

    def step_shapes(self) -> tuple[Any, tuple[jax.ShapeDtypeStruct, ...]]:
        """The tree of what `rule` takes at one step, and its leaves: hashable, nothing computed."""
        shape = lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype)  # noqa: E731
        one = jax.tree.map(shape, self.slices)
        leaves, structure = jax.tree.flatten((*one, self.args))
        shapes = (jax.ShapeDtypeStruct(jnp.shape(x), jnp.result_type(x)) for x in leaves)
        return structure, tuple(shapes)

    def push(self, at: tuple[jax.Array, Any], v: jax.Array) -> jax.Array:
        z, data = at
        _, derivative = jax.linearize(lambda z: self.rule(z, data, self.args), z)
        return jax.vmap(derivative, in_axes=1, out_axes=1)(v)

    def pull(self, at: tuple[jax.Array, Any], u: jax.Array) -> jax.Array:
        return self.pull_rows(at, u.T).T

    def pull_rows(self, at: tuple[jax.Array, Any], u: jax.Array) -> jax.Array:
        z, data = at
        _, transposed = jax.vjp(lambda z: self.rule(z, data, self.args), z)
        return jax.vmap(lambda row: transposed(row)[0])(u)


@jax.jit
def _form(free: MatrixFree) -> jax.Array:
    derivative, batch = jax.jacfwd(free.rule), _at_once(free, free.size)
    return jax.lax.map(lambda at: derivative(*at, free.args), free.slices, batch_size=batch)


@jax.jit(static_argnames="layout")
def _form_parts(free: MatrixFree, layout: Layout) -> Split:
    """The parts from one product with each dense column, and one with the sum of all others.

    Where a row has several entries in those others, from all columns (Curtis, Powell & Reid 1974).
    """
    seeds = layout.seeds(free.dtype)
    batch = _at_once(free, seeds.shape[1])
    return jax.lax.map(lambda at: layout.read(free.push(at, seeds)), free.slices, batch_size=batch)


def _at_once(free: MatrixFree, columns: int) -> int:
    bytes_each = free.size * columns * jnp.dtype(free.dtype).itemsize
    return max(1, min(free.steps, _BLOCK // max(bytes_each, 1)))


def _layout(free: MatrixFree) -> Layout | None:
    """How to store Jacobians in parts, read off the step's trace; None if it does not pay."""
    if free.size < _LEAST_SIZE or free.steps == 0:
        return None
    return _traced_layout(free.rule, *free.step_shapes())


@functools.lru_cache(maxsize=128)
def _traced_layout(rule: Callable, structure: Any, shapes: tuple) -> Layout | None:
    layout = Layout.of(dependence(rule, *jax.tree.unflatten(structure, shapes)))
    return layout if layout is not None and layout.fill <= _MOST_FILL else None


@jax.jit
def _form_diagonals(free: MatrixFree) -> jax.Array:
    """The diagonals (T, d) of Jacobians that are diagonal: each is J times the vector of ones."""
    ones = jnp.ones((free.size, 1), free.dtype)
    return jax.vmap(lambda at: free.push(at, ones)[:, 0])(free.slices)


def _map_step(z: jax.Array, data: None, map_: Map) -> jax.Array:
    del data  # a step of an autonomous map has none of its own
    return map_(z)


def linearize(
    subject: Cell | Map, params: Any, run: Trajectory | None = None, *, dense: bool | None = None
) -> Linearization:
    """The Jacobians along a run of a cell, or along an orbit of a map.

    Parameters
    ----------
    subject : Cell or Map
    params : pytree, or jax.Array of shape (T + 1, d)
        `linearize(cell, params, run)` or `linearize(map_, points)`; an orbit of T + 1 points has
        T steps.
    run : Trajectory, for a cell only
    dense : bool, optional
        Whether to store the Jacobians in full. By default only their diagonals if the cell is
        `diagonal`; from d = 64 on, a dense block and diagonals if the step's trace shows that all
        other entries are zero whatever the parameters (LSTM, shift registers); and otherwise all
        of them. Matrix-free if that took more than 2 GiB.

    Returns
    -------
    Linearization
        `J[t] = dz_{t+1}/dz_t`. Cost when dense: T d forward derivatives of the step; when
        diagonal: T.

    Raises
    ------
    ValueError, TypeError
        If the subject, shapes or dtypes do not fit.

    Examples
    --------
    >>> import jax.numpy as jnp, rnndyn as rd
    >>> map_ = rd.maps.logistic(2.0)
    >>> rd.linearize(map_, rd.orbit(map_, jnp.array([0.25]), 3)).jacobians.ravel().tolist()
    [1.0, 0.5, 0.125]
    """
    if isinstance(subject, Map):
        free = _along_orbit(subject, params)
    elif isinstance(subject, Cell):
        free = _along_run(subject, params, run)
    else:
        expected, advice = "a Cell or a Map", "wrap a function as rd.Map(rule, args)"
        raise TypeError(validation.sentence("subject", expected, repr(type(subject)), advice))
    if dense is None and isinstance(subject, Cell) and subject.diagonal:
        return Diagonal(free.hidden, _form_diagonals(free))
    layout = _layout(free) if dense is None else None
    if dense is None:
        stored = free.size**2 * (1.0 if layout is None else layout.fill)
        dense = free.steps * stored * jnp.dtype(free.dtype).itemsize <= DENSE_BUDGET
    if not dense:
        return free
    if layout is not None:
        return InParts(free.hidden, _form_parts(free, layout))
    return Dense(free.hidden, free.jacobians)


def _along_orbit(map_: Map, points: jax.Array) -> MatrixFree:
    points = jnp.asarray(points)
    validation.require_shape("points", points, ("T + 1", "d"), "pass the points of rd.orbit")
    validation.require_real("points", points)
    if points.shape[0] == 0:
        advice = "an orbit has at least its start"
        raise ValueError(validation.sentence("points", "shape (T + 1, d)", "(0, d)", advice))
    require_states("points", points, map_)
    hidden = tuple(range(points.shape[1]))
    return MatrixFree(hidden, _map_step, map_, (points[:-1], None))


def _along_run(cell: Cell, params: Any, run: Trajectory | None) -> MatrixFree:
    if not isinstance(run, Trajectory):
        advice = "pass run = rd.simulate(cell, params, inputs)"
        raise TypeError(validation.sentence("run", "a Trajectory", repr(type(run)), advice))
    require_params(cell, params)
    advice = "pass the run of this cell with these params"
    like = state_shapes(cell, params)
    expected, got = (jax.tree.structure(tree) for tree in (like, run.states))
    if expected != got:
        raise ValueError(validation.sentence("run.states", str(expected), str(got), advice))
    z, states = _before_steps(run.states)
    hidden = hidden_indices(cell, params)
    return MatrixFree(hidden, CellStep(cell), params, (z, (states, run.inputs, run.keys)))


@jax.jit
def _before_steps(states: Any) -> tuple[jax.Array, Any]:
    """The flat vectors (T, d) from which the steps of a run set out, and the states themselves."""
    before = jax.tree.map(lambda leaf: leaf[:-1], states)
    return jax.vmap(flatten)(before), before
