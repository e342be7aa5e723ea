"""Fixed points in a plane of the state space, by how many directions leave them."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection

from rnndyn.plot.style import COLOURS

UNSTABLE = tuple(COLOURS[name] for name in ("blue", "orange", "vermillion", "purple"))


def fixed_points(
    ax: Axes, points: Any, unstable_dim: Any, *, runs: Any = None, modes: Any = None
) -> list[Any]:
    """Fixed points coloured by their unstable dimension, over the runs that they explain.

    Parameters
    ----------
    ax : Axes
    points : array-like, shape (m, 2)
        Fixed points in the plane that is shown, such as two principal components.
    unstable_dim : array-like, shape (m,), int
        `Stability.unstable_dim`: one colour each for 0, 1, 2, and for 3 or more.
    runs : array-like, shape (s, T + 1, 2), optional
        Trajectories, drawn thin and grey beneath.
    modes : array-like, shape (k, 2, 2), optional
        Segments along unstable directions, end to end.

    Returns
    -------
    list of artists
        The runs and the segments where given, then for each dimension that occurs its points,
        labelled for a legend.
    """
    drawn: list[Any] = []
    if runs is not None:
        thin = LineCollection(list(np.asarray(runs)), colors="0.7", linewidths=0.3, zorder=0)
        drawn.append(ax.add_collection(thin))
    if modes is not None and len(np.asarray(modes)):
        ways = LineCollection(list(np.asarray(modes)), colors="black", linewidths=0.7, zorder=1)
        drawn.append(ax.add_collection(ways))
    places, unstable = np.asarray(points), np.minimum(np.asarray(unstable_dim), len(UNSTABLE) - 1)
    for dim in np.unique(unstable):
        chosen = places[unstable == dim]
        label = f"{dim} or more" if dim == len(UNSTABLE) - 1 else str(dim)
        dots = ax.scatter(*chosen.T, s=14, color=UNSTABLE[dim], label=label, zorder=2)
        drawn.append(dots)
    ax.autoscale_view()
    return drawn
