"""Layer 3: where a map stands still, and how it moves nearby."""

from rnndyn.points.certify import Kind
from rnndyn.points.fixed_points import FixedPoints, fixed_points
from rnndyn.points.fpf import FixedPointFinderPoints, to_fpf
from rnndyn.points.search import Search, search
from rnndyn.points.stability import PointType, Stability, input_jacobian, stability
from rnndyn.points.unique import UniquePoints, unique

__all__ = [
    "FixedPointFinderPoints",
    "FixedPoints",
    "Kind",
    "PointType",
    "Search",
    "Stability",
    "UniquePoints",
    "fixed_points",
    "input_jacobian",
    "search",
    "stability",
    "to_fpf",
    "unique",
]
