"""Layer 3: what moves along a run: gradient flow, singular spectra, Lyapunov exponents."""

from rnndyn.flow import mean_field
from rnndyn.flow.carry import carry
from rnndyn.flow.contributions import Contributions, contributions
from rnndyn.flow.covariant import CovariantVectors, covariant_vectors
from rnndyn.flow.gradient_flow import GradientFlow, default_lags, gradient_flow
from rnndyn.flow.leading import LeadingSingularVectors, leading_singular_vectors
from rnndyn.flow.lyapunov import (
    LyapunovCheckpoint,
    LyapunovSpectrum,
    kaplan_yorke,
    lyapunov_spectrum,
)
from rnndyn.flow.nonnormality import NonNormality, TransientGrowth, non_normality, transient_growth
from rnndyn.flow.pathways import Pathways, pathways
from rnndyn.flow.shattering import Shattering, brown_autocorrelation, shattering
from rnndyn.flow.singular_spectra import SingularSpectra, singular_spectra
from rnndyn.flow.stream import lyapunov_stream

__all__ = [
    "Contributions",
    "CovariantVectors",
    "GradientFlow",
    "LeadingSingularVectors",
    "LyapunovCheckpoint",
    "LyapunovSpectrum",
    "NonNormality",
    "Pathways",
    "Shattering",
    "SingularSpectra",
    "TransientGrowth",
    "brown_autocorrelation",
    "carry",
    "contributions",
    "covariant_vectors",
    "default_lags",
    "gradient_flow",
    "kaplan_yorke",
    "leading_singular_vectors",
    "lyapunov_spectrum",
    "lyapunov_stream",
    "mean_field",
    "non_normality",
    "pathways",
    "shattering",
    "singular_spectra",
    "transient_growth",
]
