"""Layer 3: where a map stands still, and how it moves nearby."""

from rnndyn.points.certificate import Certificate, certificate
from rnndyn.points.certify import Kind
from rnndyn.points.cycles import Cycles, cycles
from rnndyn.points.fixed_points import FixedPoints, fixed_points
from rnndyn.points.fpf import FixedPointFinderPoints
from rnndyn.points.multipliers import CycleStability, cycle_stability
from rnndyn.points.piecewise_linear import (
    Continua,
    ExactCycles,
    PiecewiseLinear,
    piecewise_linear,
    piecewise_linear_cycles,
)
from rnndyn.points.search import Search, search
from rnndyn.points.stability import PointType, Stability, input_jacobian, stability
from rnndyn.points.unique import UniquePoints, unique

__all__ = [
    "Certificate",
    "Continua",
    "CycleStability",
    "Cycles",
    "ExactCycles",
    "FixedPointFinderPoints",
    "FixedPoints",
    "Kind",
    "PiecewiseLinear",
    "PointType",
    "Search",
    "Stability",
    "UniquePoints",
    "certificate",
    "cycle_stability",
    "cycles",
    "fixed_points",
    "input_jacobian",
    "piecewise_linear",
    "piecewise_linear_cycles",
    "search",
    "stability",
    "unique",
]
