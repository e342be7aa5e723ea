"""Clockwork RNN: every phase, the whole period, and what a single phase cannot say.

Source: Koutnik, Greff, Gomez & Schmidhuber 2014, sec. 3.
"""

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rnndyn as rd
from rnndyn.cells.clockwork import Clockwork
from tests.cells import recurrences as ref
from tests.tolerances import tol

CELLS = [Clockwork(3, 8), Clockwork(3, 9, modules=3, periods=(1, 3, 4))]


def loop(cell, params):
    """Module by module, as in the paper: module i fires if t mod T_i = 0 and reads all j >= i."""
    p, size = ref.arrays(params), cell.hidden_size // cell.modules
    blocks = [slice(i * size, (i + 1) * size) for i in range(cell.modules)]
    periods = cell.periods or (1, 2, 4, 8)

    def step(t, h, x):
        new = np.array(h)
        for i, rows in enumerate(blocks):
            if t % periods[i] == 0:
                a = p.w_x[rows] @ x + p.b[rows]
                for columns in blocks[i:]:
                    a = a + p.w_h[rows, columns] @ h[columns]
                new[rows] = np.tanh(a)
        return new

    return step


def masked(cell, params):
    size = cell.hidden_size // cell.modules
    kept = np.kron(np.triu(np.ones((cell.modules, cell.modules))), np.ones((size, size)))
    return np.asarray(params.w_h, float) * kept


def resting(cell, params, x):
    """The fixed point of the network in which every module always fires, by iteration."""
    p, h = ref.arrays(params), np.zeros(cell.hidden_size)
    for _ in range(2000):
        h = np.tanh(masked(cell, params) @ h + p.w_x @ np.asarray(x, float) + p.b)
    return h


@pytest.mark.precision
@pytest.mark.parametrize("cell", CELLS, ids=["powers_of_two", "other_periods"])
def test_a_run_equals_the_modules_one_by_one_whatever_is_below_the_blocks(cell):
    params = ref.random_params(cell)
    assert np.all(np.tril(params.w_h, -cell.hidden_size // cell.modules)[-1, :3] != 0)
    run = ref.assert_equals_recurrence(cell, params, loop(cell, params))
    assert run.states.clock.tolist() == [t % cell.period for t in range(51)]


def test_the_paper_s_example_at_step_6_fires_the_first_two_modules():
    cell = CELLS[0]
    run = rd.simulate(cell, ref.random_params(cell), ref.random_inputs(cell, 7))
    moved = np.asarray(run.states.h[7] != run.states.h[6])
    assert moved.tolist() == [True] * 4 + [False] * 4
    assert np.all(run.states.h[1] != run.states.h[0])


def test_the_blocks_below_start_at_zero_and_get_no_gradient():
    cell = CELLS[0]
    drawn = cell.init(jax.random.key(0))
    assert np.array_equal(drawn.w_h, masked(cell, drawn))
    assert np.count_nonzero(drawn.w_h) == 40
    inputs = ref.random_inputs(cell, 9)
    params = ref.random_params(cell)
    gradient = jax.grad(lambda p: jnp.sum(rd.simulate(cell, p, inputs).outputs))(params).w_h
    assert np.array_equal(gradient, masked(cell, dataclasses.replace(params, w_h=gradient)))
    assert np.count_nonzero(gradient) == 40


@pytest.mark.precision
def test_the_jacobian_of_every_phase():
    cell = CELLS[0]
    params = ref.random_params(cell)
    run = rd.simulate(cell, params, ref.random_inputs(cell, 9))
    w, p, h = masked(cell, params), ref.arrays(params), ref.points(run).astype(float)
    jacobians = rd.linearize(cell, params, run).jacobians
    for t in range(9):
        fires = np.repeat([t % period == 0 for period in (1, 2, 4, 8)], 2).astype(float)
        a = w @ h[t] + p.w_x @ np.asarray(run.inputs[t], float) + p.b
        slope = np.diag(1 - np.tanh(a) ** 2)
        expected = np.eye(8) - np.diag(fires) + np.diag(fires) @ slope @ w
        np.testing.assert_allclose(jacobians[t], expected, rtol=0, atol=tol("jacobian"))


@pytest.mark.precision
def test_a_rest_of_the_always_on_network_is_fixed_at_every_phase():
    cell = CELLS[0]
    params, x = ref.random_params(cell, scale=0.3), jnp.array([0.5, -1.0, 0.25])
    h = resting(cell, params, x)
    start = cell.initial_state(params)
    state = dataclasses.replace(start, h=jnp.asarray(h, start.h.dtype))
    run = rd.simulate(cell, params, jnp.broadcast_to(x, (8, 3)), state)
    np.testing.assert_allclose(run.states.h - h[None], 0, atol=tol("fixed_point"))


@pytest.mark.parametrize("cell", CELLS, ids=["powers_of_two", "other_periods"])
def test_the_monodromy_has_the_spectra_of_the_modules_to_their_powers(cell):
    params, x = ref.random_params(cell, scale=0.3), jnp.array([0.5, -1.0, 0.25])
    h = resting(cell, params, x)
    size, w = cell.hidden_size // cell.modules, masked(cell, params)
    expected = []
    for i, period in enumerate(cell.schedule):
        rows = slice(i * size, (i + 1) * size)
        own = np.linalg.eigvals((1 - h[rows] ** 2)[:, None] * w[rows, rows])
        expected += list(own.astype(complex) ** (cell.period // period))
    monodromy = rd.hold(cell, params, x).jacobian(jnp.asarray(h))
    ref.assert_same_spectrum(np.linalg.eigvals(monodromy), expected)


def test_blocks_between_modules_never_change_stability():
    cell = CELLS[0]
    params = dataclasses.replace(ref.random_params(cell), b=jnp.zeros(8))
    between = np.kron(np.triu(np.ones((4, 4)), 1), np.ones((2, 2)))
    stronger = dataclasses.replace(params, w_h=params.w_h * (1 + 4 * between))
    quiet = [
        rd.hold(cell, each, jnp.zeros(3)).jacobian(jnp.zeros(8)) for each in (params, stronger)
    ]
    assert np.max(np.abs(quiet[0] - quiet[1])) > 0.1
    ref.assert_same_spectrum(*(np.linalg.eigvals(each) for each in quiet))


def test_a_single_phase_has_spurious_continua_and_the_held_map_has_none():
    cell = CELLS[0]
    params = ref.random_params(cell, scale=0.3)
    run = rd.simulate(cell, params, jnp.zeros((2, 3)))
    phase = np.asarray(rd.linearize(cell, params, run).jacobians[1])
    assert np.array_equal(phase[2:], np.eye(8)[2:])
    assert np.linalg.matrix_rank(phase - np.eye(8)) == 2
    held = rd.hold(cell, params, jnp.zeros(3)).jacobian(run.states.h[1])
    assert np.min(np.abs(np.linalg.eigvals(held) - 1)) > 0.1


def test_the_period_is_the_least_common_multiple():
    assert CELLS[0].period == 8
    assert Clockwork(1, 3, modules=3, periods=(4, 6, 9)).period == 36
    assert Clockwork(1, 4, modules=1).period == 1


def test_one_module_of_period_one_is_the_plain_network():
    cell, plain = Clockwork(3, 5, modules=1), rd.cells.Vanilla(3, 5)
    params, inputs = ref.random_params(plain), ref.random_inputs(plain, 5)
    one, other = (rd.simulate(each, params, inputs).outputs for each in (cell, plain))
    np.testing.assert_allclose(one, other, rtol=0, atol=tol("step"))


def test_the_paper_s_initial_values():
    params = Clockwork(40, 400).init(jax.random.key(0), gain=2.0)
    drawn = params.w_h[np.triu(np.ones((400, 400), bool))]
    assert abs(float(jnp.std(drawn)) / 0.2 - 1) < 0.02
    assert abs(float(jnp.std(params.w_x)) / 0.1 - 1) < 0.03
    assert not np.any(Clockwork(3, 8).initial_state(params).h)


def test_no_flops_are_spent_below_the_blocks():
    n, m = 64, 16
    equations = 2 * n * n * 5 / 8 + 2 * n * m + 4 * n
    assert ref.flops(Clockwork(m, n)) <= 1.3 * equations


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (
            {"hidden_size": 10},
            "`hidden_size`: expected a multiple of modules = 4, got 10; "
            "all modules have the same number of units.",
        ),
        (
            {"modules": 0},
            "`modules`: expected a whole number >= 1, got 0; 1 is the plain network.",
        ),
        (
            {"periods": (1, 2, 4)},
            "`periods`: expected None or a tuple of modules = 4 whole numbers, got (1, 2, 4); "
            "a period counts the steps between two updates of a module.",
        ),
        (
            {"periods": (1, 2, -4, 8)},
            "`periods[2]`: expected a whole number >= 1, got -4; "
            "a period counts the steps between two updates of a module.",
        ),
        (
            {"periods": (1, 4, 2, 8)},
            "`periods`: expected rising periods, got (1, 4, 2, 8); "
            "sort the modules from the fastest to the slowest.",
        ),
    ],
)
def test_misuse_is_answered_in_a_sentence(options, sentence):
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        Clockwork(**{"input_size": 3, "hidden_size": 8, **options})
