"""What happens on a branch: a bifurcation, its kind and criticality."""

from typing import Any

import jax
import numpy as np

from rnndyn.branches.arclength import Family
from rnndyn.core.pytree import pytree, static
from rnndyn.core.status import Status

STRONG = (1, 2, 3, 4)  # resonances at which a Neimark-Sacker bifurcation has no normal form


@pytree
class Event:
    """A bifurcation on a branch.

    Attributes
    ----------
    kind : str, static
        "fold", "branch_point", "flip" (period doubling), "neimark_sacker", or "border_collision"
        (the branch crosses a kink of the map).
    criticality : str, static
        "supercritical" (what is born is stable if the branch was), "subcritical" or
        "transcritical" (a branch point with a quadratic term); "" for a fold, and where the
        coefficient is zero or not defined. Of a border collision "persistence" (the branch goes on
        into the other region), "nonsmooth_flip" (it does, and a cycle of twice the period through
        both regions is born there or dies) or "nonsmooth_fold" (it turns back in the parameter, and
        beyond the event there is neither this fixed point nor the other).
    period : int, static
        Of the cycle that bifurcates; 1 for a fixed point.
    resonance : int, static
        k = 1 to 4 if a Neimark-Sacker multiplier is exp(2 pi i / k) to eps^(1/3): a strong
        resonance, where the coefficient decides nothing. 0 otherwise.
    parameter : jax.Array
    z : jax.Array, shape (d,)
    tangent : jax.Array, shape (d + 1,)
        (dz, dp) along the branch that it was found on, at the last point before it.
    coefficient : jax.Array, complex
        Kuznetsov's, with |q| = <p, q> = 1 (see `normal_forms`): a of a fold or a transcritical
        point, the cubic of a pitchfork, c of a flip, d of a Neimark-Sacker bifurcation. NaN if
        several eigenvalues are critical at once, where no scalar normal form holds.
    angle : jax.Array
        Argument of the critical multiplier; NaN at a border collision.
    multiplicity : jax.Array, int
        How many eigenvalues (or pairs) are critical together. A branch carries one event for each
        that crosses.
    residual : jax.Array
        Max norm of the extended system at the event.
    status : jax.Array, int
        0, or -2 if it was seen between two points but not located; it then stands at the middle
        of an interval that contains it, and the coefficient is NaN.
    """

    kind: str = static()
    criticality: str = static()
    period: int = static()
    resonance: int = static()
    parameter: jax.Array
    z: jax.Array
    tangent: jax.Array
    coefficient: jax.Array
    angle: jax.Array
    multiplicity: jax.Array
    residual: jax.Array
    status: jax.Array


def finish(family: Family, event: dict[str, Any], period: int) -> Event:
    """The public form of what `detection` or `kinks` has found."""
    u, located = event["u"], event["status"] == Status.CONVERGED
    dtype = u.dtype
    negligible = float(np.finfo(dtype).eps ** (1 / 3))
    multiplicity, coefficient, resonance = 1, complex(np.nan, np.nan), 0
    criticality = event.get("criticality", "")
    if located and event["kind"] != "border_collision":
        multiplicity = int(event["multiplicity"])
        if event["kind"] == "neimark_sacker":
            turns = [abs(event["angle"] - 2 * np.pi / k) <= negligible for k in STRONG]
            resonance = STRONG[turns.index(True)] if any(turns) else 0
        if multiplicity == 1:
            coefficient, criticality = _name(event, dtype)
            criticality = "" if resonance else criticality
    low, width = np.asarray(family.low), np.asarray(family.width)
    tangent = event["tangent"].copy()
    tangent[-1] *= width
    numbers: dict[str, Any] = {
        "parameter": low + width * u[-1],
        "z": u[:-1],
        "tangent": tangent,
        "coefficient": np.asarray(coefficient, np.result_type(dtype, np.complex64)),
        "angle": np.asarray(event["angle"], dtype),
        "multiplicity": np.asarray(multiplicity),
        "residual": np.asarray(event["residual"]),
        "status": np.asarray(int(event["status"])),
    }
    return Event(
        kind=event["kind"],
        criticality=criticality,
        period=event.get("period", period),
        resonance=resonance,
        **_on_device(numbers),
    )


@jax.jit
def _on_device(numbers: dict[str, Any]) -> dict[str, Any]:
    """The same as JAX arrays; a compiled call takes a quarter of the time of `device_put`."""
    return numbers


def _name(event: dict[str, Any], dtype: Any) -> tuple[complex, str]:
    """The coefficient that decides, and the criticality it decides for."""
    first, cubic, kind = complex(event["coefficient"]), complex(event["cubic"]), event["kind"]
    if kind == "fold":
        return first, ""
    negligible = float(np.finfo(dtype).eps ** (1 / 3))
    if kind == "branch_point" and abs(first) > negligible * (1 + abs(cubic)):
        return first, "transcritical"
    if kind == "branch_point":
        first = cubic
    stable_if = -first.real if kind != "flip" else first.real
    if not np.isfinite(stable_if) or abs(stable_if) <= negligible:
        return first, ""
    return first, "supercritical" if stable_if > 0 else "subcritical"
