"""Diagrams of branches and curves draw every point once, in the style that stability asks for."""

from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib.figure import Figure

from rnndyn import plot


@pytest.fixture
def ax():
    return Figure().subplots()


def event(kind, parameter, z):
    return SimpleNamespace(kind=kind, parameter=parameter, z=np.array([0.0, z]))


def branch(second=None):
    stable = np.array([True, True, False, False, True])
    z = np.stack([np.zeros(5), np.arange(5.0)], axis=1)
    events = (event("flip", 1.5, 1.5), event("fold", 3.5, 3.5), event("flip", 0.2, 0.2))
    orbit = z[:, None] if second is None else np.stack([z, z + second], axis=1)
    return SimpleNamespace(parameter=np.arange(5.0) / 2, orbit=orbit, stable=stable, events=events)


def test_stable_stretches_are_solid_and_unstable_ones_dashed(ax):
    *lines, fold, flip = plot.bifurcation_diagram(ax, branch(), coordinate=1, color="black")
    assert [line.get_linestyle() for line in lines] == ["-", "--", "-"]
    drawn = [line.get_ydata().tolist() for line in lines]
    assert drawn == [[0.0, 1.0], [1.0, 2.0, 3.0], [3.0, 4.0]]
    assert lines[1].get_xdata().tolist() == [0.5, 1.0, 1.5]
    assert fold.get_label() == "fold" and fold.get_offsets().tolist() == [[3.5, 3.5]]
    assert flip.get_offsets().tolist() == [[1.5, 1.5], [0.2, 0.2]]
    assert ax.get_ylabel() == "$z_{1}$"


def test_all_points_of_a_cycle_are_drawn(ax):
    *lines, _, _ = plot.bifurcation_diagram(ax, branch(second=10.0), coordinate=1)
    assert len(lines) == 6 and lines[1].get_ydata().tolist() == [10.0, 11.0]


def test_a_branch_of_one_point_and_several_branches_are_drawn(ax):
    one = SimpleNamespace(
        parameter=np.zeros(1), orbit=np.zeros((1, 1, 1)), stable=np.array([True]), events=()
    )
    assert len(plot.bifurcation_diagram(ax, one)) == 1
    assert len(plot.bifurcation_diagram(ax, [branch(), branch()])) == 6 + 2


def test_curves_are_coloured_by_kind_and_their_points_marked(ax):
    point = SimpleNamespace(kind="cusp", parameters=np.array([0.0, 1.0]))
    fold = SimpleNamespace(kind="fold", parameters=np.ones((3, 2)), points=(point,))
    flip = SimpleNamespace(kind="flip", parameters=np.zeros((4, 2)), points=())
    other = SimpleNamespace(kind="fold", parameters=np.ones((3, 2)), points=())
    first, second, third, cusp = plot.bifurcation_map(ax, [fold, flip, other])
    assert first.get_color() == third.get_color() != second.get_color()
    assert [first.get_label(), second.get_label()] == ["fold", "flip"]
    assert third.get_label().startswith("_")  # not twice in a legend
    assert cusp.get_label() == "cusp" and cusp.get_offsets().tolist() == [[0.0, 1.0]]
