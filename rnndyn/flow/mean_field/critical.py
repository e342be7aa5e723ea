"""The edge of chaos of plain networks, and starting there."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from rnndyn.cells.elman import ACTIVATIONS
from rnndyn.cells.initializers import Gaussian, Initializer
from rnndyn.core import validation
from rnndyn.core.pytree import specification
from rnndyn.flow.mean_field.field import MeanField
from rnndyn.flow.mean_field.quadrature import (
    Activation,
    floats,
    function_of,
    nonnegative,
    normal_mean,
    slope_of,
)


def critical_line(variance: Any, *, activation: Activation = "tanh") -> tuple[jax.Array, jax.Array]:
    """The gain and the input variance at which a plain network is critical, chi = 1, by q.

        g^2 = 1/E[phi'(sqrt(q) z)^2],   s^2 = q - g^2 E[phi(sqrt(q) z)^2]

    Parameters
    ----------
    variance : float or jax.Array, any shape
        q > 0, of what a unit receives: the line's parameter.
    activation : {"tanh", "relu", "identity"} or callable

    Returns
    -------
    tuple of jax.Array
        g and s^2, in the shape of `variance`; s^2 < 0 where no input makes that q critical.

    Examples
    --------
    >>> import rnndyn as rd
    >>> gain, input_variance = rd.mean_field.critical_line(0.7)
    >>> round(float(rd.mean_field.vanilla(gain, input_variance).chi), 6)
    1.0
    """
    validation.require_nonnegative("variance", variance, "a unit receives a variance above 0")
    return _critical_line(*floats(variance), function_of(activation))


@jax.jit(static_argnames="phi")
def _critical_line(variance: jax.Array, phi: Callable) -> tuple[jax.Array, jax.Array]:
    dtype = variance.dtype

    def at(q):
        second = normal_mean(lambda z: slope_of(phi)(jnp.sqrt(q) * z) ** 2, dtype)
        mean_square = normal_mean(lambda z: phi(jnp.sqrt(q) * z) ** 2, dtype)
        return jnp.stack([1 / jnp.sqrt(second), q - mean_square / second])

    gain, input_variance = jax.lax.map(at, variance.reshape(-1)).T
    return gain.reshape(variance.shape), input_variance.reshape(variance.shape)


def critical_gain(input_variance: Any = 0.0, *, activation: Activation = "tanh") -> jax.Array:
    """The gain at which chi = 1 for a given variance of the input: the edge of chaos.

    Parameters
    ----------
    input_variance : float
        s^2.
    activation : {"tanh", "relu", "identity"} or callable
        With s^2 > 0 only saturating ones have a critical gain.

    Returns
    -------
    jax.Array, scalar
        NaN if there is none for q up to e^9. By bisection in ln q on `critical_line`, whose s^2
        rises with q for a saturating phi, and one Newton step: differentiable.

    Examples
    --------
    >>> import rnndyn as rd
    >>> round(float(rd.mean_field.critical_gain(0.05) ** 2), 3)  # Schoenholz et al. 2017: 1.76
    1.761
    """
    return _critical_gain(*nonnegative(input_variance=input_variance), function_of(activation))


@jax.jit(static_argnames="phi")
def _critical_gain(s2: jax.Array, phi: Callable) -> jax.Array:
    excess = lambda q: _critical_line(q, phi)[1] - s2  # noqa: E731
    low, high = jnp.full_like(s2, -16.0), jnp.full_like(s2, 9.0)

    def halve(_, ends):
        low, high = ends
        middle = (low + high) / 2
        above = excess(jnp.exp(middle)) > 0
        return jnp.where(above, low, middle), jnp.where(above, middle, high)

    low, high = jax.lax.stop_gradient((low, high))
    q = jnp.exp(jax.lax.stop_gradient(jax.lax.fori_loop(0, 60, halve, (low, high))[1]))
    found = jnp.where(s2 == 0, True, (q < 8000.0) & (q > 2e-7))
    q = q - excess(q) / jax.lax.stop_gradient(jax.grad(excess)(q))
    at_rest = 1 / jnp.abs(slope_of(phi)(jnp.zeros_like(s2)))
    gain = jnp.where(s2 == 0, at_rest, _critical_line(q, phi)[0])
    return jnp.where(found & jnp.isfinite(gain), gain, jnp.nan)


def critical_gain_of(
    theory: Callable[[jax.Array], MeanField], *, span: tuple[float, float] = (0.1, 20.0)
) -> jax.Array:
    """The gain at which a theory of any cell has chi = 1: its edge of chaos.

    Parameters
    ----------
    theory : callable
        `theory(gain) -> MeanField`, for example `lambda g: rd.mean_field.gru(g, 1.0)`. Where it
        finds no stationary state it counts as chaotic.
    span : tuple of float
        Gains between which to look: ordered at the lower end and chaotic at the upper one.

    Returns
    -------
    jax.Array, scalar
        NaN if |ln chi| is above 1e-6 at what was found: chi may jump past 1, as that of the
        undriven GRU does just below sqrt(12), where an active state appears beside the one at
        rest. By 30 halvings of ln g and one Newton step: differentiable in what the theory closes
        over. Cost: 33 times the theory's.

    Examples
    --------
    >>> import rnndyn as rd
    >>> gain = rd.mean_field.critical_gain_of(lambda g: rd.mean_field.minimal_rnn(g, 1.0))
    >>> round(float(rd.mean_field.minimal_rnn(gain, 1.0).chi), 9)
    1.0
    """
    low, high = span
    validation.require_range("span[0]", low, 0.0, high, "gains are positive", open_low=True)
    rate = lambda log_gain: theory(jnp.exp(log_gain)).exponent  # noqa: E731

    def halve(_, ends):
        low, high = ends
        middle = (low + high) / 2
        ordered = rate(middle) < 0
        return jnp.where(ordered, middle, low), jnp.where(ordered, high, middle)

    ends = tuple(jnp.log(end) for end in floats(low, high))
    found = jax.lax.stop_gradient(jax.lax.fori_loop(0, 30, halve, ends)[0])
    value, slope = jax.jvp(rate, (found,), (jnp.ones_like(found),))
    gain = jnp.exp(found - value / jax.lax.stop_gradient(slope))
    return jnp.where(jnp.abs(value) <= 5e-7, gain, jnp.nan)


@specification
class Critical(Initializer):
    """Normal recurrent weights at the edge of chaos: std g/sqrt(inputs), with chi(g) = 1.

    A wide plain network that starts here keeps gradients over as many steps as its width allows:
    its leading exponent is 0 up to O(1/n), on input of the given variance.

    Attributes
    ----------
    input_variance : float
        s^2, that input and biases add to a unit: ||x||^2 times the variance of an input weight.
    activation : str
        phi of the cell, as in `ACTIVATIONS`.

    Examples
    --------
    >>> import jax, rnndyn as rd
    >>> start = rd.mean_field.Critical(input_variance=1.0)
    >>> cell = rd.cells.Vanilla(3, 400, recurrent_weights=start)
    >>> round(float(cell.init(jax.random.key(0)).w_h.std() * 20.0), 1)
    1.9
    """

    input_variance: float = 0.0
    activation: str = "tanh"

    def __post_init__(self) -> None:
        validation.require_choice("activation", self.activation, ACTIVATIONS)
        advice = "pass the variance that a unit receives from input and bias"
        validation.require_range("input_variance", self.input_variance, 0.0, 1e3, advice)
        with jax.ensure_compile_time_eval():
            gain = critical_gain(self.input_variance, activation=self.activation)
            if not bool(jnp.isfinite(gain)):
                got = f"{self.activation} on input of variance {self.input_variance:g}"
                advice = "only a saturating activation has one on input"
                raise ValueError(validation.sentence("activation", "a critical gain", got, advice))

    def __call__(self, key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        drawn = Gaussian()(key, shape)
        gain = critical_gain(self.input_variance, activation=self.activation)
        return gain.astype(drawn.dtype) * drawn
