"""rnndyn: gradient flow, spectra, fixed points and bifurcations of recurrent networks, in JAX."""

import importlib
from typing import Any

from rnndyn import cells, constraints, interop, maps, testing
from rnndyn.branches import (
    Branch,
    Event,
    Proximity,
    bifurcation_proximity,
    continuation,
    describe_stop,
)
from rnndyn.cells import initializers
from rnndyn.core.pytree import coordinate_names, flatten, pytree, specification, unflatten
from rnndyn.core.status import NotConverged, Status, check, describe
from rnndyn.flow import (
    GradientFlow,
    LyapunovSpectrum,
    SingularSpectra,
    default_lags,
    gradient_flow,
    kaplan_yorke,
    lyapunov_spectrum,
    singular_spectra,
)
from rnndyn.linearize import Linearization, linearize
from rnndyn.maps import Map, hold, iterate, orbit
from rnndyn.points import (
    Continua,
    Cycles,
    CycleStability,
    ExactCycles,
    FixedPoints,
    Kind,
    PiecewiseLinear,
    PointType,
    Stability,
    UniquePoints,
    cycle_stability,
    cycles,
    fixed_points,
    piecewise_linear,
    piecewise_linear_cycles,
    stability,
    unique,
)
from rnndyn.simulate import BidirectionalRun, Trajectory, sample_states, simulate

__version__ = "0.1.0"

__all__ = [
    "BidirectionalRun",
    "Branch",
    "Continua",
    "CycleStability",
    "Cycles",
    "Event",
    "ExactCycles",
    "FixedPoints",
    "GradientFlow",
    "Kind",
    "Linearization",
    "LyapunovSpectrum",
    "Map",
    "NotConverged",
    "PiecewiseLinear",
    "PointType",
    "Proximity",
    "SingularSpectra",
    "Stability",
    "Status",
    "Trajectory",
    "UniquePoints",
    "bifurcation_proximity",
    "cells",
    "check",
    "constraints",
    "continuation",
    "coordinate_names",
    "cycle_stability",
    "cycles",
    "default_lags",
    "describe",
    "describe_stop",
    "fixed_points",
    "flatten",
    "gradient_flow",
    "hold",
    "initializers",
    "interop",
    "iterate",
    "kaplan_yorke",
    "linearize",
    "lyapunov_spectrum",
    "maps",
    "orbit",
    "piecewise_linear",
    "piecewise_linear_cycles",
    "pytree",
    "sample_states",
    "simulate",
    "singular_spectra",
    "specification",
    "stability",
    "testing",
    "unflatten",
    "unique",
]


def __getattr__(name: str) -> Any:
    """`rd.plot` and `rd.experiment`, imported when first used: they need matplotlib."""
    if name in ("plot", "experiment"):
        return importlib.import_module(f"rnndyn.{name}")
    raise AttributeError(f"module 'rnndyn' has no attribute {name!r}")
