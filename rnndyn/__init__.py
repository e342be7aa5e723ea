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
    FixedPoints,
    Kind,
    PointType,
    Search,
    Stability,
    UniquePoints,
    fixed_points,
    input_jacobian,
    search,
    stability,
    to_fpf,
    unique,
)
from rnndyn.simulate import BidirectionalRun, Trajectory, sample_states, simulate

__version__ = "0.1.0"

__all__ = [
    "BidirectionalRun",
    "Branch",
    "Event",
    "FixedPoints",
    "GradientFlow",
    "Kind",
    "Linearization",
    "LyapunovSpectrum",
    "Map",
    "NotConverged",
    "PointType",
    "Proximity",
    "Search",
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
    "default_lags",
    "describe",
    "describe_stop",
    "fixed_points",
    "flatten",
    "gradient_flow",
    "hold",
    "initializers",
    "input_jacobian",
    "interop",
    "iterate",
    "kaplan_yorke",
    "linearize",
    "lyapunov_spectrum",
    "maps",
    "orbit",
    "pytree",
    "sample_states",
    "search",
    "simulate",
    "singular_spectra",
    "specification",
    "stability",
    "testing",
    "to_fpf",
    "unflatten",
    "unique",
]


def __getattr__(name: str) -> Any:
    """`rd.plot` and `rd.experiment`, imported when first used: they need matplotlib."""
    if name in ("plot", "experiment"):
        return importlib.import_module(f"rnndyn.{name}")
    raise AttributeError(f"module 'rnndyn' has no attribute {name!r}")
