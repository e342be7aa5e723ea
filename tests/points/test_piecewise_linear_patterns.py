"""piecewise_linear: cells and activations against every sequence of patterns, empty polytopes."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

import rnndyn as rd
from rnndyn.points import piecewise_linear
from rnndyn.points.piecewise_linear.form import relu_form
from rnndyn.points.piecewise_linear.polytopes import nonempty
from rnndyn.points.piecewise_linear.search import search
from rnndyn.points.piecewise_linear.solve import Box
from tests.points.relu_cells import CELLS, noisy
from tests.points.searches import assert_same_cycles, box


def every_sequence(form, period, size):
    """Primitive cycles within |z| <= size by trying every sequence of patterns, one by one."""
    n, d = form.p_z.shape
    patterns = list(itertools.product((False, True), repeat=n))
    pieces = form.pieces(np.array(patterns))
    found = []
    for word in itertools.product(range(len(patterns)), repeat=period):
        turns = [word[i:] + word[:i] for i in range(period)]
        if word != min(turns) or len(set(turns)) < period:
            continue
        product, shift = np.eye(d), np.zeros(d)
        for p in word:
            product, shift = pieces.jacobians[p] @ product, pieces.jacobians[p] @ shift
            shift = shift + pieces.shifts[p]
        z = np.linalg.solve(np.eye(d) - product, shift)
        loop, fits = [], True
        for p in word:
            loop.append(z)
            fits &= tuple(pieces.rows[p] @ z + pieces.offsets[p] > 0) == patterns[p]
            z = pieces.jacobians[p] @ z + pieces.shifts[p]
        if fits and np.max(np.abs(loop)) <= size:
            found.append(loop)
    return np.reshape(found, (-1, period, d))


@pytest.mark.parametrize("name", ["vanilla", "rin", "crelu", "shallow_plrnn", "stack"])
def test_cells_against_every_sequence_of_patterns(name):
    """Fixed points and 2-cycles of cells whose ReLUs have biases."""
    cell = CELLS[name]
    total = 0
    for seed in range(4):
        params = jax.tree.map(lambda leaf: -1.3 * leaf, noisy(cell, seed))
        form = relu_form(rd.hold(cell, params, jnp.array([0.4, -0.3])), 3)
        found = search(form, Box(np.full(3, -50.0), np.full(3, 50.0)), 2, 20_000)
        assert found.complete_to == 2
        for period in (1, 2):
            expected = every_sequence(form, period, 50.0)
            assert_same_cycles(found.isolated[period].points, expected)
            total += period * len(expected)
    assert total > 0


INF = np.inf
ZONES = {  # of an activation: from, to, slope, value at 0 of the line
    "leaky_relu": (jax.nn.leaky_relu, [(-INF, 0.0, 0.01, 0.0), (0.0, INF, 1.0, 0.0)]),
    "hard_tanh": (
        jax.nn.hard_tanh,
        [(-INF, -1.0, 0.0, -1.0), (-1.0, 1.0, 1.0, 0.0), (1.0, INF, 0.0, 1.0)],
    ),
    "hard_sigmoid": (
        jax.nn.hard_sigmoid,
        [(-INF, -3.0, 0.0, 0.0), (-3.0, 3.0, 1 / 6, 0.5), (3.0, INF, 0.0, 1.0)],
    ),
}


def every_zone(w, b, zones, period):
    """Primitive cycles of z' = f(W z + b) by trying every sequence of zones of all units."""
    d = len(b)
    pieces = [np.array(p) for p in itertools.product(zones, repeat=d)]
    found = []
    for word in itertools.product(range(len(pieces)), repeat=period):
        turns = [word[i:] + word[:i] for i in range(period)]
        if word != min(turns) or len(set(turns)) < period:
            continue
        product, shift = np.eye(d), np.zeros(d)
        for p in word:
            _, _, slope, offset = pieces[p].T
            product = slope[:, None] * (w @ product)
            shift = slope * (w @ shift + b) + offset
        z = np.linalg.solve(np.eye(d) - product, shift)
        loop, fits = [], True
        for p in word:
            loop.append(z)
            low, high, slope, offset = pieces[p].T
            s = w @ z + b
            fits &= bool(np.all((low < s) & (s < high)))
            z = slope * s + offset
        if fits:
            found.append(loop)
    return np.reshape(found, (-1, period, d))


@pytest.mark.parametrize(("name", "d"), [("leaky_relu", 3), ("hard_tanh", 2), ("hard_sigmoid", 2)])
def test_activations_by_a_choice_against_every_sequence_of_zones(name, d):
    activation, zones = ZONES[name]

    def layer(z, args):
        w, b = args
        return activation(w @ z + b)

    rng, total = np.random.default_rng(1), np.zeros(2, int)
    gain = 6.0 if name == "hard_sigmoid" else 1.5
    for _ in range(5):
        w, b = gain * rng.normal(size=(d, d)), rng.normal(size=d)
        found = piecewise_linear(
            rd.Map(layer, (jnp.asarray(w), jnp.asarray(b))), 2, box=box(d, 9.0)
        )
        assert found.complete
        for period in (1, 2):
            expected = every_zone(w, b, zones, period)
            expected = expected[np.max(np.abs(expected), axis=(1, 2), initial=0.0) < 9.0]
            assert_same_cycles(found.cycles[period].points, expected)
            total[period - 1] += len(expected)
    assert np.all(total > 0)


def test_empty_polytopes_against_linear_programming():
    rng = np.random.default_rng(0)
    for d, rows, room in ((2, 6, 0.5), (5, 20, 0.3)):
        a, b = rng.normal(size=(60, rows, d)), 0.5 * rng.normal(size=(60, rows)) + room
        bounds = [(-1, 1)] * d + [(None, None)]
        depths = []
        for one, right in zip(a, b, strict=True):
            matrix = np.column_stack([-one, np.ones(rows)])
            cost = np.append(np.zeros(d), -1.0)
            solved = scipy.optimize.linprog(cost, A_ub=matrix, b_ub=right, bounds=bounds)
            depths.append(-solved.fun)
        assert np.array_equal(nonempty(a, b), np.array(depths) >= 0)
        assert 5 < np.sum(nonempty(a, b)) < 55
