"""Plot functions draw what they are given, where they are told, and touch nothing else."""

import math
import subprocess
import sys
from types import SimpleNamespace

import matplotlib
import numpy as np
import pytest
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure

from rnndyn import plot

LN10 = math.log(10.0)


@pytest.fixture
def ax():
    return Figure().subplots()


@pytest.fixture(autouse=True)
def nothing_global_changes():
    before = dict(matplotlib.rcParams)
    yield
    assert dict(matplotlib.rcParams) == before
    pyplot = sys.modules.get("matplotlib.pyplot")
    assert pyplot is None or pyplot.get_fignums() == []


def decay(rates, lags):
    """Gradient flow of pure exponentials, one draw a rate, log10 norm = -rate * lag."""
    lags = np.asarray(lags)
    return SimpleNamespace(lags=lags, log_norm=-LN10 * np.multiply.outer(np.asarray(rates), lags))


def test_gradient_flow_draws_median_and_band_in_decimal_logarithms(ax):
    flow = decay(np.linspace(0.0, 1.0, 11), [1, 10, 100])
    line, band = plot.gradient_flow(ax, flow, label="lstm")
    assert line.axes is ax and band.axes is ax
    np.testing.assert_allclose(line.get_ydata(), [-0.5, -5.0, -50.0])
    edges = band.get_paths()[0].vertices
    at_end = edges[edges[:, 0] == 100][:, 1]
    np.testing.assert_allclose([at_end.min(), at_end.max()], [-90.0, -10.0])
    assert line.get_label() == "lstm"


def test_gradient_flow_sorts_lags_and_accepts_one_draw(ax):
    flow = SimpleNamespace(lags=np.array([10, 1]), log_norm=LN10 * np.array([-10.0, -1.0]))
    line, _ = plot.gradient_flow(ax, flow)
    np.testing.assert_allclose(line.get_xydata(), [[1, -1], [10, -10]])


def test_any_leading_axes_are_draws(ax):
    lags = np.arange(1, 5)
    values = np.random.default_rng(0).normal(size=(3, 2, 4))
    line, _ = plot.gradient_flow(ax, SimpleNamespace(lags=lags, log_norm=values))
    np.testing.assert_allclose(line.get_ydata(), np.median(values.reshape(6, 4), axis=0) / LN10)


def test_the_exponents_slope_is_anchored_at_the_last_finite_lag(ax):
    flow = decay([1.0], [1, 2, 3, 4])
    flow.log_norm[0, 3] = -np.inf
    _, _, dashed = plot.gradient_flow(ax, flow, exponent=np.array([-2.0 * LN10, 0.0, -9.0]))
    np.testing.assert_allclose(dashed.get_xydata(), [[1, 1.0], [3, -3.0]])
    assert dashed.is_dashed()


def test_exact_zeros_are_not_drawn(ax):
    flow = SimpleNamespace(lags=np.arange(3), log_norm=np.array([[0.0, -np.inf, -1.0]] * 3))
    line, _ = plot.gradient_flow(ax, flow)
    np.testing.assert_array_equal(np.isnan(line.get_ydata()), [False, True, False])


def test_slope_is_natural_per_step_on_a_decimal_axis(ax):
    (line,) = plot.slope(ax, math.log(0.5), [0, 10], intercept=1.0, label="theory")
    np.testing.assert_allclose(line.get_ydata(), [1.0, 1.0 + 10 * math.log10(0.5)])
    assert line.get_linestyle() == ":"


def test_singular_spectrum_is_one_curve_a_lag(ax):
    values = -LN10 * np.array([[[0.0, 1.0], [0.0, 10.0]], [[0.0, 3.0], [0.0, 30.0]]])
    spectra = SimpleNamespace(lags=np.array([1, 10]), log_values=values)
    first, band, second, _ = plot.singular_spectrum(ax, spectra, colors=["red", "blue"])
    np.testing.assert_allclose(first.get_xydata(), [[0.5, 0.0], [1.0, -2.0]])
    np.testing.assert_allclose(second.get_ydata(), [0.0, -20.0])
    assert (first.get_label(), second.get_label()) == ("1", "10")
    assert (first.get_color(), second.get_color()) == ("red", "blue")
    assert to_hex(band.get_facecolor()[0]) == to_hex("red")


def test_singular_spectrum_without_band(ax):
    spectra = SimpleNamespace(lags=np.array([1]), log_values=np.zeros((1, 3)))
    assert len(plot.singular_spectrum(ax, spectra, band=False)) == 1


def test_singular_spectrum_per_step_divides_by_the_lag(ax):
    values = LN10 * np.array([[1.0, -1.0], [20.0, -40.0]])
    spectra = SimpleNamespace(lags=np.array([1, 10]), log_values=values)
    first, second = plot.singular_spectrum(ax, spectra, band=False, per_step=True)
    np.testing.assert_allclose(first.get_ydata(), [1.0, -1.0])
    np.testing.assert_allclose(second.get_ydata(), [2.0, -4.0])
    assert "lag" in ax.get_ylabel()


def test_tints_end_at_the_full_colour():
    pale, full = plot.tints("#0072B2", 2)
    assert to_hex(full) == "#0072b2" and sum(pale) > sum(full)
    assert [to_hex(tint) for tint in plot.tints("red", 1)] == ["#ff0000"]


def test_lyapunov_spectrum_stays_in_natural_logarithms(ax):
    spectrum = SimpleNamespace(exponents=np.array([0.5, -1.0]))
    line, _, zero = plot.lyapunov_spectrum(ax, spectrum)
    np.testing.assert_allclose(line.get_xydata(), [[0.5, 0.5], [1.0, -1.0]])
    np.testing.assert_array_equal(zero.get_ydata(), [0.0, 0.0])


def test_eigenvalues_are_told_apart_by_modulus_not_real_part(ax):
    values = np.array([[0.5, -1.5, 0.3 + 1.2j, 1.0]])
    inner, outer, circle = plot.eigenvalues(ax, SimpleNamespace(eigenvalues=values))
    np.testing.assert_allclose(inner.get_offsets(), [[0.5, 0.0], [1.0, 0.0]])
    np.testing.assert_allclose(outer.get_offsets(), [[-1.5, 0.0], [0.3, 1.2]])
    assert circle.radius == 1.0 and tuple(circle.center) == (0.0, 0.0)
    assert ax.get_aspect() == 1.0


@pytest.mark.parametrize("draw", ["gradient_flow", "singular_spectrum", "lyapunov_spectrum"])
def test_axes_have_names_and_units(ax, draw):
    result = SimpleNamespace(
        lags=np.arange(1, 3),
        log_norm=np.zeros(2),
        log_values=np.zeros((2, 2)),
        exponents=np.zeros(2),
    )
    getattr(plot, draw)(ax, result)
    assert ax.get_xlabel() and ax.get_ylabel()
    assert ("steps" in ax.get_xlabel()) or ("rank" in ax.get_xlabel())
    assert ("log_{10}" in ax.get_ylabel()) or ("per step" in ax.get_ylabel())


def test_the_style_ends_with_its_block_even_on_an_error():
    before = dict(matplotlib.rcParams)
    with pytest.raises(ZeroDivisionError), plot.style():
        assert matplotlib.rcParams["font.size"] == 8.0
        raise ZeroDivisionError
    assert dict(matplotlib.rcParams) == before


def test_nothing_in_a_figure_is_smaller_than_seven_points():
    with plot.style():
        figure, axes = plot.figure(1, 2, width=plot.SINGLE)
        plot.gradient_flow(axes[0, 0], decay([1.0], [1, 2]), label="a")
        axes[0, 0].legend()
        plot.label_panels(axes.flat)
        texts = figure.findobj(matplotlib.text.Text)
    assert figure.get_size_inches()[0] == plot.SINGLE
    assert min(text.get_fontsize() for text in texts) >= 7.0


def test_panels_are_lettered_in_order():
    _, axes = plot.figure(2, 2)
    assert [text.get_text() for text in plot.label_panels(axes.flat)] == list("abcd")


def test_shades_darken_steadily():
    luminance = [np.dot(to_rgb(shade), [0.2126, 0.7152, 0.0722]) for shade in plot.shades(4)]
    assert np.all(np.diff(luminance) < -0.05)


def test_importing_plot_leaves_pyplot_alone():
    code = "import rnndyn.plot, sys; assert 'matplotlib.pyplot' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
