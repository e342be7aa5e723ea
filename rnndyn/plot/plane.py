"""The complex plane: eigenvalues of a map's Jacobian and the unit circle that bounds stability."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Circle

from rnndyn.plot.style import COLOURS


def eigenvalues(ax: Axes, modes: Any, *, label: str | None = None, **scatter: Any) -> list[Any]:
    """Eigenvalues with the unit circle: outside of it, filled, the directions that grow.

    Parameters
    ----------
    ax : Axes
    modes : Stability
        Or anything with `.eigenvalues` (..., d), complex: of fixed points of a map, so that what
        counts is their modulus, not their real part.

    Returns
    -------
    list of artists
        Points inside or on the circle, points outside, the circle.
    """
    values: Any = np.ravel(np.asarray(modes.eigenvalues))
    outside = np.abs(values) > 1.0
    options: dict[str, Any] = {"s": 9.0, "linewidths": 0.7} | scatter
    calm, grow = COLOURS["blue"], COLOURS["vermillion"]
    inner = values[~outside]
    drawn: list[Any] = [
        ax.scatter(inner.real, inner.imag, facecolors="none", edgecolors=calm, **options),
        ax.scatter(values[outside].real, values[outside].imag, color=grow, label=label, **options),
        ax.add_patch(Circle((0.0, 0.0), 1.0, fill=False, color="black", linewidth=0.6)),
    ]
    ax.set_aspect("equal", adjustable="datalim")
    ax.autoscale_view()
    ax.set_xlabel(r"$\mathrm{Re}\,\lambda$")
    ax.set_ylabel(r"$\mathrm{Im}\,\lambda$")
    return drawn
