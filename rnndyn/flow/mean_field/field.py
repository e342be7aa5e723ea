"""The order parameters that every mean-field theory here gives."""

import jax

from rnndyn.core.pytree import pytree


@pytree
class MeanField:
    """The order parameters of a wide random network in its stationary state.

    What a theory leaves open is NaN: the relative variance of plain networks with several delays.

    Attributes
    ----------
    variance : jax.Array
        q, of what a unit (a gate) receives: recurrent and external input.
    activity : jax.Array
        E[h^2] per unit.
    correlation : jax.Array
        c, of what two runs from independent starts receive; of gated networks, of their states h.
    correlation_length : jax.Array
        xi = 1/|ln chi_c| in steps, chi_c the growth of a small difference about c: over how many
        steps two runs forget theirs. inf at the critical point.
    chi : jax.Array
        Growth of the mean squared gradient per step; after T steps the mean squared singular value
        of dh_T/dh_t is chi^T. Order for chi < 1, chaos for chi > 1.
    exponent : jax.Array
        ln(chi)/2, the leading Lyapunov exponent per step.
    relative_variance : jax.Array
        Of the squared singular values of one step, over their mean squared; over T steps of a
        plain network it is T times that (Pennington, Schoenholz & Ganguli 2017).
    status : jax.Array, int
        0: the variance reproduces itself to 64 eps; -2: none was found, as where it grows without
        bound.
    """

    variance: jax.Array
    activity: jax.Array
    correlation: jax.Array
    correlation_length: jax.Array
    chi: jax.Array
    exponent: jax.Array
    relative_variance: jax.Array
    status: jax.Array
