"""piecewise_linear: exact counts, continua, borders, giving up, misuse."""

import dataclasses
import itertools
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rnndyn as rd
from rnndyn.points import piecewise_linear, piecewise_linear_cycles
from tests.points.searches import assert_same_cycles, box, relu_net
from tests.tolerances import tol


def plrnn(z, args):
    a, w, h = args
    return a @ z + w @ jax.nn.relu(z) + h


def plrnn_map(a, w, h):
    return rd.Map(plrnn, tuple(jnp.asarray(np.array(x, float)) for x in (a, w, h)))


def counts(found):
    return [len(points) for points in found.values()]


def brute_force(a, w, h, period):
    """Primitive cycles by trying every sequence of orthants in rational arithmetic: (m, k, d)."""
    d = len(h)
    a, w, h = (np.vectorize(Fraction, otypes=[object])(np.array(x, object)) for x in (a, w, h))
    orthants = list(itertools.product((0, 1), repeat=d))
    found = []
    for word in itertools.product(orthants, repeat=period):
        turns = [word[i:] + word[:i] for i in range(period)]
        if word != min(turns) or len(set(turns)) < period:
            continue
        product, shift = np.vectorize(Fraction, otypes=[object])(np.eye(d, dtype=int)), 0 * h
        for p in word:
            jacobian = a + w * np.array(p)
            product, shift = jacobian @ product, jacobian @ shift + h
        z = rational_solve(np.eye(d, dtype=int) - product, shift)
        if z is None:
            continue
        orbit = [z]
        for _ in range(period):
            orbit.append(a @ orbit[-1] + w @ np.maximum(orbit[-1], 0) + h)
        if all(tuple(int(x > 0) for x in z) == p for z, p in zip(orbit, word, strict=False)):
            found.append(np.array(orbit[:-1], float))
    return np.array(found).reshape(-1, period, d)


def rational_solve(matrix, right):
    rows = [[*row, r] for row, r in zip(matrix.tolist(), right, strict=True)]
    for i in range(len(rows)):
        pivot = next((j for j in range(i, len(rows)) if rows[j][i] != 0), None)
        if pivot is None:
            return None
        rows[i], rows[pivot] = rows[pivot], rows[i]
        rows[i] = [x / rows[i][i] for x in rows[i]]
        for j in range(len(rows)):
            if j != i:
                rows[j] = [x - rows[j][i] * y for x, y in zip(rows[j], rows[i], strict=True)]
    return np.array([row[-1] for row in rows], object)


SYSTEMS = {
    "S1": ([["1/2", 0], [0, "2/5"]], [[0, "-3/2"], [2, 0]], [1, "-1/2"], [1, 0, 0, 0, 0, 2]),
    "S2": ([["3/10", 0], [0, "3/10"]], [[-2, "3/2"], ["-3/2", -2]], [1, 1], [1, 0, 2, 2, 2, 1]),
    "S3": ([[0, 0], [0, 0]], [[-1, 2], [2, -1]], ["1/2", "-1/4"], [0, 0, 0, 0, 0, 0]),
}


@pytest.mark.parametrize("name", SYSTEMS)
def test_against_brute_force_in_rational_arithmetic(name):
    """Two units, all cycles up to 6; S3 has singular I - J in some orthants, and no cycle."""
    a, w, h, expected = SYSTEMS[name]
    numbers = (np.array([[float(Fraction(x)) for x in row] for row in m]) for m in (a, w, [h]))
    a_, w_, h_ = numbers
    found = piecewise_linear_cycles(a_, w_, h_[0], 6, box(2, 20.0))
    assert counts(found) == expected
    for period in range(1, 5):
        assert_same_cycles(found[period], brute_force(a, w, h, period))


def test_two_six_cycles_in_fractions():
    """S1: through points with known numerators, and the moduli of their multipliers."""
    a, w, h, _ = SYSTEMS["S1"]
    a, w = (np.array([[float(Fraction(x)) for x in row] for row in m]) for m in (a, w))
    found = piecewise_linear(plrnn_map(a, w, [1, -0.5]), 6, box=box(2, 20.0))
    assert np.allclose(np.abs(found.cycles[1].multipliers), 1.788854, rtol=0, atol=1e-6)
    assert np.allclose(found.cycles[1].points, [[[9 / 22, 35 / 66]]], rtol=1e-12)
    for point, moduli in (
        ((-1358738 / 714101, -304635 / 1428202), (1.140381, 8.98e-4)),
        ((-1892 / 4889, -169555 / 361786), (2.638211, 0.00621)),
    ):
        gaps = np.max(np.abs(found.cycles[6].points - np.array(point)), axis=2)
        assert np.min(gaps) <= tol("exact_cycle", float)
        row = np.argmin(np.min(gaps, axis=1))
        assert np.allclose(np.abs(found.cycles[6].multipliers[row]), moduli, rtol=1e-3)


def test_full_tent():
    """z' = 2 z - 4 relu(z) + 1: as many primitive cycles as necklaces, multipliers +-2^k."""
    found = piecewise_linear(rd.maps.skew_tent(2.0, -2.0), 8, box=box(1, 2.0))
    assert found.complete and found.counts == [2, 1, 2, 3, 6, 9, 18, 30]
    assert counts(piecewise_linear_cycles([[2.0]], [[-4.0]], [1.0], 10, box(1, 2.0))) == [
        *found.counts,
        56,
        99,
    ]
    for k, cycles in found.cycles.items():
        assert np.allclose(np.abs(cycles.multipliers), 2.0**k, rtol=tol("exact_cycle", float))
        assert np.all(cycles.residual <= tol("exact_cycle", float))
        assert np.array_equal(cycles.index, np.sign(1 - cycles.multipliers[:, 0].real))
        assert not np.any(cycles.border) and np.all(cycles.margin > 1e-3)
        steps = cycles.points[:, 1:] - (1 - 2 * np.abs(cycles.points[:, :-1]))
        assert np.max(np.abs(steps), initial=0.0) <= tol("exact_cycle", float)


@pytest.mark.parametrize(
    ("a", "k", "b", "exists", "stable"),
    [
        (0.5, 2, -0.98, False, False),
        (0.5, 2, -1.02, True, True),
        (0.5, 2, -1.98, True, True),
        (0.5, 2, -2.02, True, False),
        (0.5, 3, -2.98, False, False),
        (0.5, 3, -3.02, True, True),
        (0.3, 3, -4.32, False, False),
        (0.3, 3, -11.0, True, True),
        (0.3, 3, -11.2, True, False),
    ],
)
def test_attracting_cycles_of_a_skew_tent(a, k, b, exists, stable):
    """Nusse & Yorke 1995: R L^(k-1) exists below a threshold in b, is stable above another."""
    cycles = piecewise_linear(rd.maps.skew_tent(a, b), k, box=box(1, 40.0)).cycles[k]
    chosen = np.sum(cycles.patterns, axis=(1, 2)) == 1
    assert np.any(chosen) == exists and np.any(cycles.stable[chosen]) == stable


@pytest.mark.parametrize(
    ("period", "a", "w", "loops"),
    [
        (
            16,
            (0.8377689000000008, 0.96461297),
            (-0.6437499999999996, 0.52505308),
            [
                ((1.48240111, -0.04296182), (0.51889964, 0.51889964)),
                ((1.50406815, -0.07615264), (1.61021821, 0.23715753)),
            ],
        ),
        (
            27,
            (0.9777689, 0.96461297),
            (-0.14375, 0.52505308),
            [
                ((-0.00626927, -0.03602863), (0.69317057, 0.69317057)),
                ((-0.13346851, 3.75323824), (1.13195804, 0.45844097)),
            ],
        ),
    ],
)
def test_long_cycles_of_a_plrnn(period, a, w, loops):
    """Eisenmann et al. 2023: one fixed point, two long cycles, and nothing else up to k + 2."""
    map_ = plrnn_map(np.diag(a), [[0, w[0]], [w[1], 0]], [0.37298253000000087, -0.97931491])
    found = piecewise_linear(map_, period + 2, box=box(2, 40.0))
    assert found.complete
    assert np.flatnonzero(found.counts).tolist() == [0, period - 1]
    assert found.counts[0] == 1 and found.counts[period - 1] == 2
    cycles = found.cycles[period]
    for point, moduli in loops:
        gaps = np.max(np.abs(cycles.points - np.array(point)), axis=2)
        row = np.argmin(np.min(gaps, axis=1))
        assert np.min(gaps) <= tol("printed_8", float)
        assert np.allclose(np.abs(cycles.multipliers[row]), moduli, atol=tol("printed_8", float))
        assert cycles.stable[row] == (max(moduli) < 1)


def test_winner_take_all():
    w, b = jnp.array([[0.5, -1.0], [-1.0, 0.5]]), jnp.ones(2)
    found = piecewise_linear(rd.Map(relu_net, (w, b)), 4, box=box(2, 5.0))
    assert found.complete and found.counts == [3, 0, 0, 0]
    points = found.cycles[1]
    expected = [[0, 2], [2 / 3, 2 / 3], [2, 0]]
    assert np.allclose(points.points[:, 0], expected, rtol=0, atol=tol("exact_cycle", float))
    assert points.stable.tolist() == [True, False, True]
    assert np.allclose(points.multipliers[1], [1.5, -0.5], rtol=0, atol=tol("exact_cycle", float))


@pytest.mark.parametrize(
    ("left", "right", "mu", "expected"),
    [
        ((0.5, 0.3), (-1.5, 0.4), 1.0, [1, 1, 0, 1, 0, 0, 0, 1]),
        ((0.5, 0.3), (-1.5, 0.4), -1.0, [1, 0, 0, 0, 0, 0, 0, 0]),
        ((1.7, 0.3), (-1.7, 0.3), 1.0, [2, 1, 2, 3, 4, 3, 8, 6]),
        ((1.7, 0.3), (-1.7, 0.3), -1.0, [0, 0, 0, 0, 0, 0, 0, 0]),
    ],
)
def test_border_collision_normal_form(left, right, mu, expected):
    found = piecewise_linear(rd.maps.border_collision(left, right, mu), 8, box=box(2, 10.0))
    assert found.complete and found.counts == expected


def test_a_line_attractor_is_one_continuum():
    """W = 0.5 everywhere: each (s, s), s >= 0 is a fixed point, 0 among them."""
    map_ = rd.Map(relu_net, (0.5 * jnp.ones((2, 2)), jnp.zeros(2)))
    found = piecewise_linear(map_, 2, box=box(2, 3.0))
    assert found.complete and found.counts == [0, 0]
    line = found.continua[1]
    assert line.dimension.tolist() == [1] and len(found.continua[2].dimension) == 0
    assert (
        np.allclose(np.abs(line.directions[0, 0]), np.sqrt(0.5)) and not line.directions[0, 1].any()
    )
    assert np.allclose(line.points[0, 0], 1.5, rtol=0, atol=1e-6)


def test_degenerate_fold_flip_and_centre_fill_with_cycles():
    """At tau = delta = 1 a rotation by a sixth; at tau = -(1 + delta) a line of 2-cycles."""
    centre = piecewise_linear(
        rd.maps.border_collision((1.0, 1.0), (-1.5, 0.4), -1.0), 6, box=box(2, 3.0)
    )
    assert centre.counts[0] == 1 and centre.continua[6].dimension.tolist() == [2]
    assert not centre.cycles[1].stable[0] and centre.cycles[1].unstable_dim[0] == 0
    flip = piecewise_linear(
        rd.maps.border_collision((-1.3, 0.3), (0.5, 0.4), -1.0), 2, box=box(2, 3.0)
    )
    assert flip.counts == [1, 0] and flip.continua[2].dimension.tolist() == [1]


def test_a_cycle_on_a_border_is_flagged_and_counted_once():
    """z' = 0.5 relu(z) - 0.3 relu(-z) rests at its kink: two patterns, one point."""

    def kinked(z, _):
        return 0.5 * jax.nn.relu(z) - 0.3 * jax.nn.relu(-z)

    found = piecewise_linear(rd.Map(kinked), 2, box=box(1, 1.0))
    assert found.counts == [1, 0]
    (border,) = found.cycles[1].border
    assert border and found.cycles[1].margin[0] == 0 and not found.cycles[1].stable[0]
    assert found.cycles[1].points.tolist() == [[[0.0]]]


def test_giving_up_says_so_and_hunts():
    map_ = plrnn_map([[2]], [[-4]], [1])
    found = piecewise_linear(map_, 6, box=box(1, 2.0), max_words=4)
    assert not found.complete and found.complete_to == 2
    assert found.reason.startswith("more than 4 words of 3 steps")
    assert found.counts[:2] == [2, 1]
    exact = [2, 1, 2, 3, 6, 9]
    assert all(0 < got <= most for got, most in zip(found.counts, exact, strict=True))
    with pytest.warns(RuntimeWarning, match="cycles of period above 2 may be missing"):
        piecewise_linear_cycles([[2.0]], [[-4.0]], [1.0], 6, box(1, 2.0), max_words=4)


def test_params_that_are_not_finite():
    found = piecewise_linear(plrnn_map([[np.nan]], [[-4]], [1]), 2, box=box(1, 2.0))
    assert found.counts == [0, 0] and not found.complete
    assert found.reason == "params or inputs are not finite"


def test_cycles_outside_the_box_are_not_listed():
    inside = piecewise_linear_cycles([[2.0]], [[-4.0]], [1.0], 2, ([-0.5], [2.0]))
    assert counts(inside) == [1, 1]


def smooth(z, _):
    return jnp.tanh(z)


def jumps(z, _):
    return jnp.where(z > 0, z, 2 * z - 1)


@pytest.mark.parametrize(
    ("rule", "box_", "message"),
    [
        (
            smooth,
            ([-1.0], [1.0]),
            "`map_`: expected a piecewise-linear map, got `tanh`, which is not affine in z; its "
            "nonlinearities may be relu, maximum, minimum, abs, clip and where only.",
        ),
        (
            jumps,
            ([-1.0], [1.0]),
            "`map_`: expected a continuous rule, got one that jumps at the condition of a "
            "jnp.where; its two values must be equal where the condition changes.",
        ),
        (
            smooth,
            ([1.0], [1.0]),
            "`box`: expected finite lo < hi, got [1.0], [1.0]; pass (lo, hi), each with one "
            "number for each coordinate of z.",
        ),
        (
            smooth,
            ([-1.0, 0.0], [1.0]),
            "`box[1]`: expected shape (2,), got (1,); pass (lo, hi), each with one number for "
            "each coordinate of z.",
        ),
    ],
)
def test_bad_input(rule, box_, message):
    with pytest.raises(ValueError) as caught:
        piecewise_linear(rd.Map(rule), 2, box=box_)
    assert str(caught.value) == message


def test_results_are_pytrees():
    found = piecewise_linear(plrnn_map([[2]], [[-4]], [1]), 2, box=box(1, 2.0))
    doubled = jax.tree.map(lambda leaf: leaf, found)
    assert dataclasses.asdict(doubled)["complete_to"] == 2
