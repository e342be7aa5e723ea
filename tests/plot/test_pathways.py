"""Pathways and ribbons: what is drawn is what was given, in decimal logarithms."""

from types import SimpleNamespace

import numpy as np

from rnndyn import plot

LN10 = np.log(10.0)


def axes():
    return plot.figure(1, 1)[1][0, 0]


def test_every_class_is_a_line_and_empty_classes_are_not_drawn():
    parts = LN10 * np.array([[[0.0, -1.0], [-np.inf, -2.0]]] * 3)
    whole = LN10 * np.array([[0.0, -0.5]] * 3)
    fields = {"lags": np.array([1, 5]), "log_norm": whole, "log_parts": parts}
    ax = axes()
    plot.pathways(ax, SimpleNamespace(names=("carry", "rest"), **fields))
    lines = ax.get_lines()
    assert [line.get_label() for line in lines] == ["all paths", "carry", "rest"]
    np.testing.assert_allclose(lines[1].get_ydata(), [0.0, -1.0])
    assert np.isnan(lines[2].get_ydata()[0]) and lines[2].get_ydata()[1] == -2.0
    colors = [line.get_color() for line in lines]
    assert colors == ["black", *plot.PATH_COLOURS[:2]]


def test_a_ribbon_runs_from_least_to_largest_by_rising_lag():
    values = LN10 * np.array([[[4.0, 2.0, 0.0], [3.0, 1.0, -np.inf], [-np.inf] * 3]])
    ax = axes()
    whole, _, median = plot.singular_ribbon(
        ax, SimpleNamespace(lags=np.array([7, 2, 1]), log_values=values)
    )
    np.testing.assert_array_equal(median.get_xdata(), [1, 2, 7])
    np.testing.assert_allclose(median.get_ydata(), [np.nan, 1.0, 2.0])
    heights = whole.get_paths()[0].vertices[:, 1]
    assert heights.max() == 4.0 and heights.min() < -100
