"""rnndyn: gradient flow, spectra, fixed points and bifurcations of recurrent networks, in JAX."""

import importlib
from typing import Any

from rnndyn import cells, constraints, interop, maps, testing
from rnndyn.branches import (
    Attractor,
    BasinCurve,
    Basins,
    Branch,
    Event,
    OriginMargins,
    Proximity,
    Track,
    TrackEvent,
    basins,
    basins_along,
    bifurcation_proximity,
    continuation,
    describe_stop,
    origin_margins,
    track,
)
from rnndyn.cells import initializers
from rnndyn.core.pytree import coordinate_names, flatten, pytree, specification, unflatten
from rnndyn.core.status import NotConverged, Status, check, describe
from rnndyn.flow import (
    Contributions,
    CovariantVectors,
    GradientFlow,
    LyapunovCheckpoint,
    LyapunovSpectrum,
    NonNormality,
    Pathways,
    Shattering,
    SingularSpectra,
    TransientGrowth,
    carry,
    contributions,
    covariant_vectors,
    default_lags,
    gradient_flow,
    kaplan_yorke,
    lyapunov_spectrum,
    lyapunov_stream,
    mean_field,
    non_normality,
    pathways,
    shattering,
    singular_spectra,
    transient_growth,
)
from rnndyn.linearize import Linearization, linearize
from rnndyn.maps import Map, hold, iterate, orbit
from rnndyn.points import (
    FixedPoints,
    Kind,
    PointType,
    Stability,
    UniquePoints,
    fixed_points,
    stability,
    unique,
)
from rnndyn.simulate import BidirectionalRun, Trajectory, sample_states, simulate

__version__ = "0.1.0"

__all__ = [
    "Attractor",
    "BasinCurve",
    "Basins",
    "BidirectionalRun",
    "Branch",
    "Contributions",
    "CovariantVectors",
    "Event",
    "FixedPoints",
    "GradientFlow",
    "Kind",
    "Linearization",
    "LyapunovCheckpoint",
    "LyapunovSpectrum",
    "Map",
    "NonNormality",
    "NotConverged",
    "Pathways",
    "OriginMargins",
    "PointType",
    "Proximity",
    "Shattering",
    "SingularSpectra",
    "Stability",
    "Status",
    "Track",
    "TrackEvent",
    "Trajectory",
    "TransientGrowth",
    "UniquePoints",
    "basins",
    "basins_along",
    "bifurcation_proximity",
    "carry",
    "cells",
    "check",
    "constraints",
    "continuation",
    "contributions",
    "coordinate_names",
    "covariant_vectors",
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
    "lyapunov_stream",
    "maps",
    "mean_field",
    "non_normality",
    "orbit",
    "pathways",
    "origin_margins",
    "pytree",
    "sample_states",
    "shattering",
    "simulate",
    "singular_spectra",
    "specification",
    "stability",
    "testing",
    "transient_growth",
    "track",
    "unflatten",
    "unique",
]


def __getattr__(name: str) -> Any:
    """`rd.plot` and `rd.experiment`, imported when first used: they need matplotlib."""
    if name in ("plot", "experiment"):
        return importlib.import_module(f"rnndyn.{name}")
    raise AttributeError(f"module 'rnndyn' has no attribute {name!r}")
