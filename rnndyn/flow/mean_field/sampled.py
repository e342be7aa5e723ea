"""Mean field of any cell, by drawing it: wide, with new weights at each step."""

from typing import Any

import jax
import jax.numpy as jnp

from rnndyn.cells.base import Cell
from rnndyn.cells.containers import require_cell
from rnndyn.core import validation
from rnndyn.core.pytree import flatten, pytree, unflatten
from rnndyn.core.status import Status
from rnndyn.simulate import CellStep


@pytree
class SampledField:
    """Order parameters of a cell, measured on a wide untied network.

    Attributes
    ----------
    activity : jax.Array
        E[h^2] per unit of the output.
    correlation : jax.Array
        Of the outputs of two runs from independent starts: E[h1 h2]/E[h^2].
    chi : jax.Array
        exp(2 exponent): growth of the mean squared gradient per step.
    exponent : jax.Array
        Mean growth of ln ||v|| per step, v a tangent vector of the whole state.
    standard_error : jax.Array
        Of the exponent, from its scatter over steps.
    status : jax.Array, int
        0; -3 if a state was not finite.
    """

    activity: jax.Array
    correlation: jax.Array
    chi: jax.Array
    exponent: jax.Array
    standard_error: jax.Array
    status: jax.Array


def sampled(
    cell: Cell,
    key: jax.Array,
    inputs: jax.Array,
    *,
    gain: Any = 1.0,
    washout: int = 0,
    other_inputs: jax.Array | None = None,
) -> SampledField:
    """Order parameters of a cell by its own step, with `cell.init` drawn anew at each step.

    That is the network of mean-field theory at a finite width: errors are O(1/sqrt(n T)) random
    and O(1/n).

    Parameters
    ----------
    cell : Cell
        Of the width to sample, a few hundred units.
    key : jax.Array
    inputs : jax.Array, shape (T, m)
    gain : float
        As in `cell.init`.
    washout : int
        Steps at the start that are left out of the means, 0..T-1.
    other_inputs : jax.Array, shape (T, m), optional
        What drives the second run; the same inputs if not given.

    Returns
    -------
    SampledField
        Cost: T draws of params, 2 T steps and T forward derivatives. One cell of several leaves
        is no special case: v is a tangent of the whole state.

    Raises
    ------
    TypeError, ValueError
        If shapes do not fit, or on a bad washout.

    Examples
    --------
    >>> import jax, jax.numpy as jnp, rnndyn as rd
    >>> cell = rd.cells.Vanilla(1, 200, recurrent_weights=rd.initializers.Gaussian())
    >>> found = rd.mean_field.sampled(cell, jax.random.key(0), jnp.zeros((50, 1)), gain=0.5)
    >>> abs(float(found.exponent) - float(jnp.log(0.5))) < 0.05
    True
    """
    require_cell("cell", cell)
    validation.require_key("key", key)
    inputs = jnp.asarray(inputs, float)
    advice = "pass one sequence, time first"
    validation.require_shape("inputs", inputs, ("T", cell.input_size), advice)
    steps = inputs.shape[0]
    others = inputs if other_inputs is None else jnp.asarray(other_inputs, float)
    validation.require_shape("other_inputs", others, inputs.shape, "as long as `inputs`")
    advice = f"this run has T = {steps} steps, and one at least must remain"
    washout = validation.require_int("washout", washout, 0, advice)
    validation.require_range("washout", washout, 0, steps - 1, advice)
    return _sampled(cell, key, inputs, others, gain, washout)


@jax.jit(static_argnames="washout")
def _sampled(cell, key, inputs, others, gain, washout) -> SampledField:
    key_start, key_steps = jax.random.split(key)
    start = cell.initial_state(cell.init(key_start, gain=gain))
    z0 = flatten(start)
    noise = jax.random.normal(key_start, (3, *z0.shape), z0.dtype)
    rule = CellStep(cell)

    def step(carry, at):
        state, other, v = carry
        x, y, key = at
        params = cell.init(key, gain=gain)
        (_, after) = jax.jvp(lambda z: rule(z, (state, x, None), params), (flatten(state),), (v,))
        length = jnp.sqrt(jnp.sum(after**2))
        state, other = cell.step(params, state, x), cell.step(params, other, y)
        h, g = cell.output(state), cell.output(other)
        found = (jnp.log(length), jnp.mean(h**2), jnp.mean(g**2), jnp.mean(h * g))
        return (state, other, after / jnp.where(length == 0, 1, length)), found

    states = (unflatten(z0 + noise[0], start), unflatten(z0 + noise[1], start))
    carry = (*states, noise[2] / jnp.sqrt(jnp.sum(noise[2] ** 2)))
    slices = (inputs, others, jax.random.split(key_steps, inputs.shape[0]))
    _, (growth, *moments) = jax.lax.scan(step, carry, slices)
    growth = growth[washout:]
    own, other, both = (jnp.mean(moment[washout:]) for moment in moments)
    exponent = jnp.mean(growth)
    finite = jnp.isfinite(own) & jnp.isfinite(other) & ~jnp.isnan(exponent)
    numbers = (
        own,
        both / jnp.sqrt(own * other),
        jnp.exp(2 * exponent),
        exponent,
        jnp.std(growth) / jnp.sqrt(jnp.asarray(growth.shape[0], growth.dtype)),
    )
    status = jnp.where(finite, jnp.int32(Status.CONVERGED), jnp.int32(Status.NONFINITE))
    return SampledField(*(jnp.where(finite, number, jnp.nan) for number in numbers), status=status)
