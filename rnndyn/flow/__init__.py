"""Layer 3: what moves along a run: gradient flow, singular spectra, Lyapunov exponents."""

from rnndyn.flow.carry import carry
from rnndyn.flow.gradient_flow import GradientFlow, default_lags, gradient_flow
from rnndyn.flow.lyapunov import LyapunovSpectrum, kaplan_yorke, lyapunov_spectrum
from rnndyn.flow.pathways import Pathways, pathways
from rnndyn.flow.singular_spectra import SingularSpectra, singular_spectra

__all__ = [
    "GradientFlow",
    "LyapunovSpectrum",
    "Pathways",
    "SingularSpectra",
    "carry",
    "default_lags",
    "gradient_flow",
    "kaplan_yorke",
    "lyapunov_spectrum",
    "pathways",
    "singular_spectra",
]
