"""Layer 3: what moves along a run: gradient flow, singular spectra, Lyapunov exponents."""

from rnndyn.flow.gradient_flow import GradientFlow, default_lags, gradient_flow
from rnndyn.flow.lyapunov import (
    LyapunovCheckpoint,
    LyapunovSpectrum,
    kaplan_yorke,
    lyapunov_spectrum,
)
from rnndyn.flow.singular_spectra import SingularSpectra, singular_spectra
from rnndyn.flow.stream import lyapunov_stream

__all__ = [
    "GradientFlow",
    "LyapunovCheckpoint",
    "LyapunovSpectrum",
    "SingularSpectra",
    "default_lags",
    "gradient_flow",
    "kaplan_yorke",
    "lyapunov_spectrum",
    "lyapunov_stream",
    "singular_spectra",
]
