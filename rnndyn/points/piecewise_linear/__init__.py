"""All fixed points and cycles of ReLU networks in a box, exactly."""

from rnndyn.points.piecewise_linear.cycles import (
    Continua,
    ExactCycles,
    PiecewiseLinear,
    piecewise_linear,
    piecewise_linear_cycles,
)

__all__ = [
    "Continua",
    "ExactCycles",
    "PiecewiseLinear",
    "piecewise_linear",
    "piecewise_linear_cycles",
]
