"""Layer 3: how fixed points change with parameters, and how far the nearest bifurcation is."""

from rnndyn.branches.basins import Attractor, BasinCurve, Basins, basins, basins_along
from rnndyn.branches.continuation import Branch, continuation, describe_stop
from rnndyn.branches.events import Event
from rnndyn.branches.margins import Kind
from rnndyn.branches.origin import OriginMargins, origin_margins
from rnndyn.branches.proximity import Proximity, bifurcation_proximity
from rnndyn.branches.tracking import Track, TrackEvent, track

__all__ = [
    "Attractor",
    "BasinCurve",
    "Basins",
    "Branch",
    "Event",
    "Kind",
    "OriginMargins",
    "Proximity",
    "Track",
    "TrackEvent",
    "basins",
    "basins_along",
    "bifurcation_proximity",
    "continuation",
    "describe_stop",
    "origin_margins",
    "track",
]
