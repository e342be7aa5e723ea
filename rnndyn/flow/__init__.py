"""Layer 3: what moves along a run: gradient flow, singular spectra, Lyapunov exponents."""

from rnndyn.flow.covariant import CovariantVectors, covariant_vectors
from rnndyn.flow.gradient_flow import GradientFlow, default_lags, gradient_flow
from rnndyn.flow.lyapunov import (
    LyapunovCheckpoint,
    LyapunovSpectrum,
    kaplan_yorke,
    lyapunov_spectrum,
)
from rnndyn.flow.nonnormality import (
    NonNormality,
    TransientGrowth,
    non_normality,
    transient_growth,
)
from rnndyn.flow.singular_spectra import SingularSpectra, singular_spectra
from rnndyn.flow.stream import lyapunov_stream

__all__ = [
    "CovariantVectors",
    "GradientFlow",
    "LyapunovCheckpoint",
    "LyapunovSpectrum",
    "NonNormality",
    "SingularSpectra",
    "TransientGrowth",
    "covariant_vectors",
    "default_lags",
    "gradient_flow",
    "kaplan_yorke",
    "lyapunov_spectrum",
    "lyapunov_stream",
    "non_normality",
    "singular_spectra",
    "transient_growth",
]
