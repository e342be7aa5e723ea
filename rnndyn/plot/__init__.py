"""Layer 4: results drawn on given axes, in one style; the only importer of matplotlib's artists.

Every function takes an `Axes` first and a result second, draws, and returns the artists. None
computes more than quantiles, none saves, none touches pyplot or the global rcParams.
"""

from rnndyn.plot.branches import bifurcation_diagram, bifurcation_map
from rnndyn.plot.pathways import PATH_COLOURS, pathways, singular_ribbon
from rnndyn.plot.plane import eigenvalues
from rnndyn.plot.points import UNSTABLE, fixed_points
from rnndyn.plot.spectra import gradient_flow, lyapunov_spectrum, singular_spectrum, slope
from rnndyn.plot.style import COLOURS, DOUBLE, SINGLE, figure, label_panels, shades, style, tints
from rnndyn.plot.tracking import events

__all__ = [
    "COLOURS",
    "DOUBLE",
    "PATH_COLOURS",
    "SINGLE",
    "UNSTABLE",
    "bifurcation_diagram",
    "bifurcation_map",
    "eigenvalues",
    "events",
    "figure",
    "fixed_points",
    "gradient_flow",
    "label_panels",
    "lyapunov_spectrum",
    "pathways",
    "shades",
    "singular_ribbon",
    "singular_spectrum",
    "slope",
    "style",
    "tints",
]
