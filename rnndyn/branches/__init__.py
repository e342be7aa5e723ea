"""Layer 3: how fixed points change with parameters, and how far the nearest bifurcation is."""

from rnndyn.branches.branch import Branch, describe_stop
from rnndyn.branches.continuation import continuation, continuations
from rnndyn.branches.curves import Curve, CurvePoint, bifurcation_curve
from rnndyn.branches.events import Event
from rnndyn.branches.margins import Kind
from rnndyn.branches.proximity import Proximity, bifurcation_proximity
from rnndyn.branches.switching import switch_branch

__all__ = [
    "Branch",
    "Curve",
    "CurvePoint",
    "Event",
    "Kind",
    "Proximity",
    "bifurcation_curve",
    "bifurcation_proximity",
    "continuation",
    "continuations",
    "describe_stop",
    "switch_branch",
]
