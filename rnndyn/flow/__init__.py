"""Layer 3: what moves along a run: gradient flow, singular spectra, Lyapunov exponents."""

from rnndyn.flow.gradient_flow import GradientFlow, default_lags, gradient_flow
from rnndyn.flow.leading import LeadingSingularVectors, leading_singular_vectors
from rnndyn.flow.lyapunov import LyapunovSpectrum, kaplan_yorke, lyapunov_spectrum
from rnndyn.flow.singular_spectra import SingularSpectra, singular_spectra

__all__ = [
    "GradientFlow",
    "LeadingSingularVectors",
    "LyapunovSpectrum",
    "SingularSpectra",
    "default_lags",
    "gradient_flow",
    "kaplan_yorke",
    "leading_singular_vectors",
    "lyapunov_spectrum",
    "singular_spectra",
]
