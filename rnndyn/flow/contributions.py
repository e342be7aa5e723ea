"""What a loss sends back through a run: dL/dh_t by lag, and each step's share of dL/dparams.

    u_t = dL/dz_t = J[t]^T u_{t+1} + (what the output at t sends),   dL/dparams = sum_t g_t,
    g_t = (dF_t/dparams)^T u_{t+1},

backpropagation with its sum over time left open (Werbos 1990). u_t is kept as a vector of moderate
size and a logarithm, so that norms that have left the range of the dtype are still told.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from rnndyn.cells.base import Cell
from rnndyn.cells.containers import hidden_indices, require_cell
from rnndyn.core import validation
from rnndyn.core.pytree import flatten, pytree, unflatten
from rnndyn.core.status import Status
from rnndyn.simulate import CellStep, Trajectory


@pytree
class Contributions:
    """The gradient of a loss of a run, resolved in time.

    Attributes
    ----------
    loss : jax.Array, scalar
    lags : jax.Array, shape (T,), int
        T - t of each step t = 0 .. T-1, hence T, ..., 1: the time order of the other fields.
    log_hidden : jax.Array, shape (T,)
        Natural logarithm of ||dL/dh_t||, h_t the hidden coordinates of the state that step t
        reads; later outputs and the memory's detours included. -inf exactly where zero.
    log_params : jax.Array, shape (T,)
        The same of g_t, the part of dL/dparams that comes from the use of params in step t: over
        all params as one vector.
    log_leaves : pytree of jax.Array, shape (T,)
        The same for each leaf of params by itself.
    gradient : pytree
        The sum of g_t over t: dL/dparams, as `jax.grad` gives it.
    per_step : pytree, leading axis T, or None
        g_t itself, if it was asked for: T times the size of params.
    status : jax.Array, int
        0; -3 if a number was not finite, and then no logarithm is to be trusted (NaN).
    """

    loss: jax.Array
    lags: jax.Array
    log_hidden: jax.Array
    log_params: jax.Array
    log_leaves: Any
    gradient: Any
    per_step: Any
    status: jax.Array


def contributions(
    cell: Cell,
    params: Any,
    run: Trajectory,
    loss: Callable[[jax.Array], jax.Array],
    *,
    per_step: bool = False,
) -> Contributions:
    """Gradient of a loss with respect to each h_t, and each step's contribution to dL/dparams.

    Parameters
    ----------
    cell : Cell
    params : pytree
    run : Trajectory
        As `simulate` gives it; the state that it starts from counts as a constant.
    loss : callable
        `loss(outputs)`, of the run's outputs (T, n), a scalar; of the last output alone, say,
        `lambda outputs: outputs[-1] @ readout`. Static: a fresh lambda compiles again.
    per_step : bool
        Whether to return the contributions themselves beside their norms.

    Returns
    -------
    Contributions
        Cost: T vector-Jacobian products of the step, as backpropagation itself; without
        `per_step` the memory of one contribution. Unlike those of `gradient`, the logarithms do
        not under- or overflow.

    Raises
    ------
    TypeError, ValueError
        If cell and run do not fit, the run has no steps, or the loss is no scalar.

    Examples
    --------
    >>> import jax, jax.numpy as jnp, rnndyn as rd
    >>> def last(outputs):
    ...     return outputs[-1].sum()
    >>> cell = rd.cells.IRNN(3, 8, alpha=0.5, input_weights=rd.initializers.Constant(1.0))
    >>> params = cell.init(jax.random.key(0))
    >>> run = rd.simulate(cell, params, jnp.ones((2000, 3)))
    >>> back = rd.contributions(cell, params, run, last)
    >>> round(float(back.log_hidden[1] - back.log_hidden[0]), 4), int(back.lags[0])  # ln 2
    (0.6931, 2000)
    """
    require_cell("cell", cell)
    if not isinstance(run, Trajectory):
        advice = "pass run = rd.simulate(cell, params, inputs)"
        raise TypeError(validation.sentence("run", "a Trajectory", repr(type(run)), advice))
    if run.inputs.shape[0] == 0:
        advice = "a loss needs an output; simulate a longer run"
        raise ValueError(validation.sentence("run", "at least one step", "T = 0", advice))
    advice = "sum or average it to one number"
    if not callable(loss):
        raise TypeError(validation.sentence("loss", "a function", repr(loss), advice))
    value = jax.eval_shape(_value, run.outputs, loss)
    if not isinstance(value, jax.ShapeDtypeStruct):
        raise TypeError(validation.sentence("loss", "a scalar array", repr(value), advice))
    validation.require_shape("loss", value, (), advice)
    hidden = hidden_indices(cell, params)
    return _contributions(cell, params, run, loss, hidden, per_step)


@jax.jit(static_argnames=("loss", "hidden", "per_step"))
def _contributions(
    cell: Cell,
    params: Any,
    run: Trajectory,
    loss: Callable[[jax.Array], jax.Array],
    hidden: tuple[int, ...],
    per_step: bool,
) -> Contributions:
    value, sent = jax.value_and_grad(_value)(run.outputs, loss)
    before = jax.tree.map(lambda leaf: leaf[:-1], run.states)
    after = jax.tree.map(lambda leaf: leaf[1:], run.states)
    z = flatten(jax.tree.map(lambda leaf: leaf[0], before))
    start = (jnp.zeros((), z.dtype), jnp.zeros_like(z), jax.tree.map(jnp.zeros_like, params))

    def step(carry, at):
        scale, u, total = carry
        scale, u, share = _pull(cell, params, scale, u, at)
        true = jax.tree.map(lambda leaf: jnp.exp(scale) * leaf, share)
        total = jax.tree.map(jnp.add, total, true)
        leaves = jax.tree.map(lambda leaf: scale + _log_norm(leaf), share)
        found = (scale + _log_norm(u[jnp.asarray(hidden)]), leaves, true if per_step else None)
        length = jax.lax.stop_gradient(jnp.sqrt(jnp.sum(u**2)))
        length = jnp.where(length == 0, jnp.ones_like(length), length)
        return (scale + jnp.log(length), u / length, total), found

    slices = (before, after, run.inputs, run.keys, sent)
    (_, _, total), (back, leaves, kept) = jax.lax.scan(step, start, slices, reverse=True)
    whole = jax.nn.logsumexp(2 * jnp.stack(jax.tree.leaves(leaves)), axis=0) / 2
    norms, finite = (back, whole, leaves), jnp.isfinite(value)
    for leaf in jax.tree.leaves(norms):
        finite &= ~jnp.any(jnp.isnan(leaf) | jnp.isposinf(leaf))
    back, whole, leaves = jax.tree.map(lambda leaf: jnp.where(finite, leaf, jnp.nan), norms)
    status = jnp.where(finite, jnp.int32(Status.CONVERGED), jnp.int32(Status.NONFINITE))
    lags = jnp.arange(len(sent), 0, -1)
    return Contributions(value, lags, back, whole, leaves, total, kept, status)


@jax.jit(static_argnames="loss")
def _value(outputs: jax.Array, loss: Callable[[jax.Array], jax.Array]) -> jax.Array:
    return loss(outputs)


def _pull(cell: Cell, params: Any, scale: jax.Array, u: jax.Array, at: Any) -> tuple:
    """From exp(scale) u after a step, with what its output sends, to before it; and to params."""
    state, made, x, key, from_output = at
    rule = CellStep(cell)
    _, pull_output = jax.vjp(lambda z: cell.output(unflatten(z, made)), flatten(made))
    scale, u = _add(scale, u, pull_output(from_output)[0])
    _, pull = jax.vjp(lambda z, params: rule(z, (state, x, key), params), flatten(state), params)
    return scale, *pull(u)


def _add(scale: jax.Array, u: jax.Array, sent: jax.Array) -> tuple[jax.Array, jax.Array]:
    """exp(scale) u + sent on the larger of both scales; u has length one, or is zero."""
    own = _log_norm(u) + scale
    other = _log_norm(sent)
    larger = jax.lax.stop_gradient(jnp.maximum(own, other))
    larger = jnp.where(jnp.isneginf(larger), jnp.zeros_like(larger), larger)
    # in two halves, as exp(-larger) alone may overflow; of nothing sent no multiple is taken
    half = jnp.exp(-jnp.where(jnp.isneginf(other), jnp.zeros_like(larger), larger) / 2)
    return larger, u * jnp.exp(jnp.minimum(scale - larger, 0)) + sent * half * half


def _log_norm(array: jax.Array) -> jax.Array:
    """log ||array||_2 without overflow of the squares, -inf with derivative 0 at zero."""
    largest = jax.lax.stop_gradient(jnp.max(jnp.abs(array), initial=0))
    zero = largest == 0
    safe = jnp.where(zero, jnp.ones_like(array), array / jnp.where(zero, 1, largest))
    return jnp.where(zero, -jnp.inf, jnp.log(largest) + jnp.log(jnp.sum(safe**2)) / 2)
