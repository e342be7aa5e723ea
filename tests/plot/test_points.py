"""Fixed points in a plane: one colour for each unstable dimension, runs and modes beneath."""

import numpy as np
from matplotlib.colors import to_rgba

from rnndyn import plot


def axes():
    return plot.figure(1, 1)[1][0, 0]


def test_points_are_coloured_by_their_unstable_dimension():
    places = np.array([[0.0, 1.0], [2.0, 3.0], [4.0, 5.0], [6.0, 7.0]])
    drawn = plot.fixed_points(axes(), places, np.array([1, 0, 1, 5]))
    assert [dots.get_label() for dots in drawn] == ["0", "1", "3 or more"]
    assert [dots.get_offsets().tolist() for dots in drawn] == [
        [[2.0, 3.0]],
        [[0.0, 1.0], [4.0, 5.0]],
        [[6.0, 7.0]],
    ]
    for dots, color in zip(drawn, (0, 1, 3), strict=True):
        assert tuple(dots.get_facecolor()[0]) == to_rgba(plot.UNSTABLE[color])


def test_runs_and_modes_lie_beneath_the_points():
    runs, modes = np.arange(12.0).reshape(2, 3, 2), np.arange(4.0).reshape(1, 2, 2)
    thin, ways, dots = plot.fixed_points(axes(), [[0.0, 0.0]], [1], runs=runs, modes=modes)
    assert [path.vertices.tolist() for path in thin.get_paths()] == runs.tolist()
    assert [path.vertices.tolist() for path in ways.get_paths()] == modes.tolist()
    assert thin.get_zorder() < ways.get_zorder() < dots.get_zorder()


def test_no_points_and_no_modes_draw_nothing_but_the_runs():
    drawn = plot.fixed_points(
        axes(), np.zeros((0, 2)), [], runs=np.zeros((1, 2, 2)), modes=np.zeros((0, 2, 2))
    )
    assert len(drawn) == 1
