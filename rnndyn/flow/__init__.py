"""Layer 3: what moves along a run: gradient flow, singular spectra, Lyapunov exponents."""

from rnndyn.flow import mean_field
from rnndyn.flow.carry import carry
from rnndyn.flow.contributions import Contributions, contributions
from rnndyn.flow.gradient_flow import GradientFlow, default_lags, gradient_flow
from rnndyn.flow.lyapunov import LyapunovSpectrum, kaplan_yorke, lyapunov_spectrum
from rnndyn.flow.pathways import Pathways, pathways
from rnndyn.flow.shattering import Shattering, brown_autocorrelation, shattering
from rnndyn.flow.singular_spectra import SingularSpectra, singular_spectra

__all__ = [
    "Contributions",
    "GradientFlow",
    "LyapunovSpectrum",
    "Pathways",
    "Shattering",
    "SingularSpectra",
    "brown_autocorrelation",
    "carry",
    "contributions",
    "default_lags",
    "gradient_flow",
    "kaplan_yorke",
    "lyapunov_spectrum",
    "mean_field",
    "pathways",
    "shattering",
    "singular_spectra",
]
