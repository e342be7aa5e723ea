"""Layer 3: where a map stands still, and how it moves nearby."""

from rnndyn.points.certify import Kind
from rnndyn.points.fixed_points import FixedPoints, fixed_points
from rnndyn.points.stability import PointType, Stability, stability
from rnndyn.points.unique import UniquePoints, unique

__all__ = [
    "FixedPoints",
    "Kind",
    "PointType",
    "Stability",
    "UniquePoints",
    "fixed_points",
    "stability",
    "unique",
]
