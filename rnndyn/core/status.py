"""Status codes: one per item of a batch, numbered as SciPy's elementwise solvers are.

Status 0 means one thing everywhere: the residual, evaluated again at the returned point in the
returned precision, is at most the tolerance.
"""

import enum
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rnndyn.core import validation


class Status(enum.IntEnum):
    """What became of one item.

    CONVERGED (0) : the residual at the returned point is at most `tol`.
    STATIONARY (-1) : no step lowers the speed q any further, yet the residual exceeds `tol`: a
        local minimum of q or a ghost, not a root.
    MAX_STEPS (-2) : the step budget ended first.
    NONFINITE (-3) : NaN or infinity in what was given, or met on the way.
    SINGULAR (-5) : a linear system that must be solved is singular.
    UNPROVED (-6) : bounds on all that may happen neither prove nor refute it.
    """

    CONVERGED = 0
    STATIONARY = -1
    MAX_STEPS = -2
    NONFINITE = -3
    SINGULAR = -5
    UNPROVED = -6


_SENTENCES = {
    Status.CONVERGED: "converged: the residual is at most tol",
    Status.STATIONARY: "stationary: a minimum of the speed q that is not a root; start elsewhere",
    Status.MAX_STEPS: "step budget ended; increase max_steps or loosen tol",
    Status.NONFINITE: "NaN or infinity met; check params, inputs and starts",
    Status.SINGULAR: "a linear system is singular; the point is not isolated or is a bifurcation",
    Status.UNPROVED: "neither proved nor refuted; polish the point, in float64 if it is not",
}


class NotConverged(RuntimeError):
    """Raised by `check`; the message counts the items by status."""


def describe(status: int) -> str:
    """What a status code means and what to do about it, in one sentence.

    >>> describe(-2)
    'step budget ended; increase max_steps or loosen tol'
    """
    advice = "pass one entry of a result's status"
    validation.require_choice("status", int(status), [int(code) for code in Status], advice)
    return _SENTENCES[Status(int(status))]


def of_finite(*trees: Any) -> jax.Array:
    """CONVERGED if every number in the trees is finite, NONFINITE otherwise; an int32 scalar."""
    finite = jnp.array(True)
    for leaf in jax.tree.leaves(trees):
        finite &= jnp.all(jnp.isfinite(leaf))
    return jnp.where(finite, jnp.int32(Status.CONVERGED), jnp.int32(Status.NONFINITE))


def check(result: Any) -> Any:
    """Return the result unchanged if every item has status 0; raise `NotConverged` otherwise.

    A host-side step: call it outside jit, on any result that has a `status`.

    Parameters
    ----------
    result : a result of an analysis
        Its `.status` is an integer array of any shape.

    Raises
    ------
    NotConverged
        With the number of items per status.
    TypeError
        If there is no `status` to check.
    """
    if not hasattr(result, "status"):
        advice = "pass the result itself, for example that of rd.fixed_points"
        said = validation.sentence("result", "a result with a status", repr(type(result)), advice)
        raise TypeError(said)
    codes, counts = np.unique(np.asarray(result.status), return_counts=True)
    if np.any(codes != Status.CONVERGED):
        total = int(counts.sum())
        parts = [
            f"{count} of {total} with status {code} ({describe(code)})"
            for code, count in zip(codes, counts, strict=True)
            if code != Status.CONVERGED
        ]
        raise NotConverged("; ".join(parts) + ".")
    return result
