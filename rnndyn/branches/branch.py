"""A branch of fixed points or cycles, and why it ends."""

import jax

from rnndyn.branches.arclength import Stop
from rnndyn.branches.events import Event
from rnndyn.core import validation
from rnndyn.core.pytree import pytree, static
from rnndyn.core.status import Status

STATUS = {
    Stop.LEFT_SPAN: Status.CONVERGED,
    Stop.CLOSED: Status.CONVERGED,
    Stop.SHORTER_PERIOD: Status.CONVERGED,
    Stop.RESONANCE: Status.CONVERGED,
    Stop.MAX_POINTS: Status.MAX_STEPS,
    Stop.STEP_UNDERFLOW: Status.SINGULAR,
    Stop.NONFINITE: Status.NONFINITE,
    Stop.NO_START: Status.STATIONARY,
    Stop.SINGULAR_START: Status.SINGULAR,
    Stop.PARAMETER_IGNORED: Status.SINGULAR,
    Stop.SHORTER_START: Status.STATIONARY,
}
_SENTENCES = {
    "left_span": "the branch leaves the span",
    "closed": "the branch closes on itself",
    "shorter_period": "the cycle shrinks onto one of a shorter period, which flips there or meets a"
    " kink of the map",
    "resonance": "the curve of Neimark-Sacker points ends at a 1:1 or 1:2 resonance",
    "max_points": "the buffer of points is full; increase max_points or ds_max",
    "step_underflow": "no step of at least ds_min can be corrected: the branch ends, jumps or has"
    " several kinks here, or tol is below rounding; decrease ds_min, increase tol",
    "nonfinite": "the map is NaN or infinite beyond this point",
    "no_start": "the start is not a fixed point and Newton finds none near it; solve for one with"
    " fixed_points first",
    "singular_start": "the start is a branch point, where several branches meet; start beside it",
    "shorter_start": "the start belongs to a cycle of a shorter period than the one asked for",
    "parameter_ignored": "the map does not depend on the parameter at the start, so there is"
    " nothing to follow",
}


@pytree
class Branch:
    """A branch of fixed points or cycles, in order along it.

    Attributes
    ----------
    parameter : jax.Array, shape (n,)
        In the order of the branch: not monotonic where the branch folds back.
    z : jax.Array, shape (n, d)
        Fixed points, or one point of each cycle.
    eigenvalues : jax.Array, shape (n, d), complex
        Of dF/dz, or of dF^k/dz of a cycle of period k (its multipliers), by falling modulus. NaN
        where they were left out (`eigenvalues="near"`).
    stable : jax.Array, shape (n,), bool
        Whether all eigenvalues lie inside the unit circle.
    residual : jax.Array, shape (n,)
        Max norm of F(z) - z, or of F^k(z) - z.
    status : jax.Array, int
        Of the branch as a whole, the worse of its two ends: 0 if it left the span, closed or
        shrank onto a shorter cycle, -1
        if the start is no fixed point, -2 if max_points were used up, -3 if the map became NaN or
        infinite, -5 if it could not be followed on (`stop` says why). Every point of it has a
        residual within tol all the same, except the lone point of a start that is not one.
    orbit : jax.Array, shape (n, k, d)
        All points of each cycle in the order of the map, z first; k is the period.
    events : tuple of Event, in order along the branch
    stop : (str, str), static
        Why it ends, at its first point and at its last: a key of `describe_stop`.
    period : int, static
        Of the cycles; 1 for fixed points.
    """

    parameter: jax.Array
    z: jax.Array
    eigenvalues: jax.Array
    stable: jax.Array
    residual: jax.Array
    orbit: jax.Array
    status: jax.Array
    events: tuple[Event, ...]
    stop: tuple[str, str] = static()
    period: int = static(default=1)


def describe_stop(reason: str) -> str:
    """Why a branch ends, in one sentence.

    Parameters
    ----------
    reason : str
        An entry of `Branch.stop`.

    Returns
    -------
    str

    Examples
    --------
    >>> from rnndyn import describe_stop
    >>> describe_stop("closed")
    'the branch closes on itself'
    """
    validation.require_choice("reason", reason, _SENTENCES, "pass an entry of Branch.stop")
    return _SENTENCES[reason]
