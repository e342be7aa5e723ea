"""Layer 3: how fixed points change with parameters, and how far the nearest bifurcation is."""

from rnndyn.branches.basins import Attractor, BasinCurve, Basins, basins, basins_along
from rnndyn.branches.branch import Branch, describe_stop
from rnndyn.branches.continuation import continuation, continuations
from rnndyn.branches.curves import Curve, CurvePoint, bifurcation_curve
from rnndyn.branches.events import Event
from rnndyn.branches.margins import Kind
from rnndyn.branches.origin import OriginMargins, origin_margins
from rnndyn.branches.proximity import Proximity, bifurcation_proximity
from rnndyn.branches.switching import switch_branch
from rnndyn.branches.tracking import Track, TrackEvent, track

__all__ = [
    "Attractor",
    "BasinCurve",
    "Basins",
    "Branch",
    "Curve",
    "CurvePoint",
    "Event",
    "Kind",
    "OriginMargins",
    "Proximity",
    "Track",
    "TrackEvent",
    "basins",
    "basins_along",
    "bifurcation_curve",
    "bifurcation_proximity",
    "continuation",
    "continuations",
    "describe_stop",
    "origin_margins",
    "switch_branch",
    "track",
]
