"""Carry and pathways: against closed forms of the gates and sums over all words of parts."""

import itertools
import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rnndyn as rd
from tests.tolerances import tol

STEPS = 7
INPUTS = jax.random.normal(jax.random.key(1), (STEPS, 3))


def along(cell, gain=2.0, seed=0):
    params = cell.init(jax.random.key(seed), gain=gain)
    return params, rd.simulate(cell, params, INPUTS)


def jacobians(cell, params, run):
    whole = rd.linearize(cell, params, run, dense=True).jacobians
    return np.asarray(whole), np.asarray(rd.carry(cell, params, run, dense=True).jacobians)


def product(matrices):
    total = np.eye(matrices[0].shape[0])
    for matrix in matrices:
        total = matrix @ total
    return total


def log_norm(matrix):
    norm = np.linalg.norm(matrix, 2)
    return math.log(norm) if norm > 0 else -math.inf


def sigmoid(a):
    return 1 / (1 + np.exp(-a))


def diagonals(blocks):
    return np.stack([np.diag(block) for block in blocks])


@pytest.mark.precision
def test_lstm_carries_by_its_forget_gate():
    cell = rd.cells.LSTM(3, 4)
    params, run = along(cell)
    _, kept = jacobians(cell, params, run)
    h, c = np.asarray(run.states.h), np.asarray(run.states.c)
    a = np.asarray(INPUTS @ params.w_x.T) + h[:-1] @ np.asarray(params.w_h).T + np.asarray(params.b)
    _, f, _, o = np.split(a, 4, axis=1)
    f, o = sigmoid(f), sigmoid(o)
    expected = np.zeros((STEPS, 8, 8))
    expected[:, 4:, 4:] = diagonals(f)
    expected[:, :4, 4:] = diagonals(o * (1 - np.tanh(c[1:]) ** 2) * f)
    np.testing.assert_allclose(kept, expected, rtol=0, atol=tol("jacobian"))


@pytest.mark.parametrize("variant", ["torch", "cho_v3", "chung"])
def test_gru_carries_by_its_update_gate(variant):
    cell = rd.cells.GRU(3, 4, variant=variant)
    params, run = along(cell)
    _, kept = jacobians(cell, params, run)
    h, rows = np.asarray(run.states.h)[:-1], slice(4, 8)
    a = np.asarray(INPUTS @ params.w_x[rows].T) + h @ np.asarray(params.w_h[rows]).T
    z = sigmoid(a + np.asarray(params.b[rows]))
    expected = diagonals(1 - z if variant == "chung" else z)
    np.testing.assert_allclose(kept, expected, rtol=0, atol=tol("jacobian"))


def test_what_a_cell_hands_on_is_read_off_its_step():
    """Identity, decay, gates of the memory's own peepholes, copies: and nothing through weights."""
    cases = {
        rd.cells.ResidualRNN(3, 4): np.eye(4),
        rd.cells.ResidualRNN(3, 4, alpha=0.25, leaky=True): 0.75 * np.eye(4),
        rd.cells.SCRNN(3, 4, context_size=2, alpha=0.5): np.diag([0, 0, 0, 0, 0.5, 0.5]),
        rd.cells.NARX(3, 2, order=3): np.eye(6, k=-2),
    }
    for cell, expected in cases.items():
        params, run = along(cell)
        for matrix in jacobians(cell, params, run)[1]:
            np.testing.assert_array_equal(matrix, expected)
    cell = rd.cells.PeepholeLSTM(3, 4)
    params, run = along(cell)
    whole, kept = jacobians(cell, params, run)
    np.testing.assert_allclose(kept[:, 4:, 4:], whole[:, 4:, 4:], atol=tol("jacobian"))


def test_carousel_of_1997_is_the_identity_over_any_span():
    cell = rd.cells.LSTM1997(3, 4)
    params, run = along(cell)
    paths = rd.pathways(cell, params, run, block="c", lags=(1, STEPS))
    assert paths.names == ("carry", "rest") and paths.log_parts[0].tolist() == [0.0, 0.0]
    assert paths.log_parts[1, 0] == -jnp.inf and paths.log_norm[1] != 0.0  # c leaks through h


@pytest.mark.precision
@pytest.mark.parametrize("block", ["state", ("h", "c")])
def test_classes_by_carry_are_sums_over_all_words(block):
    """2^7 products of carry and rest, sorted by how often the rest occurs."""
    cell, lags = rd.cells.LSTM(3, 3), (0, 1, 3, STEPS)
    params, run = along(cell, gain=3.0)
    whole, kept = jacobians(cell, params, run)
    paths = rd.pathways(cell, params, run, lags=lags, block=block, recurrences=2)
    assert paths.names == ("carry", "1 recurrence", "2 recurrences", "rest")
    assert paths.status.tolist() == [0] * 4
    rows, columns = (slice(0, 6),) * 2 if block == "state" else (slice(0, 3), slice(3, 6))
    for index, lag in enumerate(lags):
        start = STEPS - lag
        letters = (kept[start:], whole[start:] - kept[start:])
        classes = np.zeros((4, 6, 6))
        for word in itertools.product((0, 1), repeat=lag):
            matrices = [letters[letter][t] for t, letter in enumerate(word)]
            classes[min(sum(word), 3)] += product(matrices) if lag else np.eye(6)
        expected = [log_norm(part[rows, columns]) for part in classes]
        got = paths.log_parts[:, index]
        np.testing.assert_allclose(got, expected, rtol=0, atol=tol("log_paths"))
        together = log_norm(classes.sum(axis=0)[rows, columns])
        np.testing.assert_allclose(paths.log_norm[index], together, atol=tol("log_paths"))


def test_classes_by_delay_are_sums_over_all_words():
    cell = rd.cells.NARX(3, 2, order=2)
    params, run = along(cell, gain=4.0)
    whole, kept = jacobians(cell, params, run)
    paths = rd.pathways(cell, params, run, by="delay", lags=(1, 2, 5))
    assert paths.names == ("delay 1", "delay 2", "rest")
    read = np.zeros((2, STEPS, 4, 4))
    for k in range(2):
        read[k][:, :2, 2 * k : 2 * k + 2] = whole[:, :2, 2 * k : 2 * k + 2]
    for index, lag in enumerate((1, 2, 5)):
        classes = np.zeros((3, 2, 2))
        for word in itertools.product((0, 1, 2), repeat=lag):
            used = set(word) - {0}
            matrices = [
                kept[t] if letter == 0 else read[letter - 1][t]
                for t, letter in enumerate(word, start=STEPS - lag)
            ]
            if used:
                classes[2 if len(used) == 2 else used.pop() - 1] += product(matrices)[:2, :2]
        expected = [log_norm(part) for part in classes]
        np.testing.assert_allclose(paths.log_parts[:, index], expected, atol=tol("log_paths"))
        whole_block = product(whole[STEPS - lag :])[:2, :2]
        np.testing.assert_allclose(classes.sum(axis=0), whole_block, atol=tol("log_paths"))
    assert paths.log_parts[1, 0] == -jnp.inf and paths.log_parts[0, 0] == paths.log_norm[0]


def test_delays_that_are_not_told_apart_are_mixed_with_the_rest():
    cell = rd.cells.NARX(3, 2, order=3)
    params, run = along(cell)
    all_, two = (
        rd.pathways(cell, params, run, by="delay", lags=(2, 6), delays=told)
        for told in (None, (2,))
    )
    assert two.names == ("delay 2", "rest")
    np.testing.assert_array_equal(two.log_parts[0], all_.log_parts[1])
    np.testing.assert_array_equal(two.log_norm, all_.log_norm)
    np.testing.assert_array_equal(two.path_length, all_.path_length)


def test_path_length_is_the_mean_over_all_words_and_topology_where_that_decides():
    cell = rd.cells.GRU(3, 3)
    params, run = along(cell, gain=3.0)
    whole, kept = jacobians(cell, params, run)
    letters = (np.abs(kept), np.abs(whole - kept))
    weight = counted = 0.0
    for word in itertools.product((0, 1), repeat=STEPS):
        one = product([letters[letter][t] for t, letter in enumerate(word)]).sum()
        weight, counted = weight + one, counted + sum(word) * one
    found = rd.pathways(cell, params, run, lags=(STEPS,)).path_length[0]
    np.testing.assert_allclose(found, counted / weight, rtol=tol("log_paths"))
    cell = rd.cells.dilate(rd.cells.Vanilla(3, 3), 3)
    params, run = along(cell)
    found = rd.pathways(cell, params, run, by="delay", lags=(2, 3, 6)).path_length
    np.testing.assert_allclose(found, [np.nan, 1.0, 2.0], rtol=tol("jacobian"))


def test_a_weak_rest_keeps_its_digits_beside_a_strong_carry():
    """h' = h + alpha tanh(w h), w of order 1e-30 and off the diagonal: the rest is lag alpha w."""
    cell = rd.cells.ResidualRNN(3, 2, alpha=0.5)
    params, run = along(cell, gain=0.0)
    weak = 1e-30 * jnp.array([[0.0, 2.0], [0.0, 0.0]])
    params = type(params)(0 * params.w_x, weak, 0 * params.b)
    paths = rd.pathways(cell, params, rd.simulate(cell, params, INPUTS), lags=(STEPS,))
    expected = math.log(STEPS * 0.5) + log_norm(np.asarray(weak))
    np.testing.assert_allclose(paths.log_parts[1, 0], expected, rtol=tol("log_paths"))


@pytest.mark.precision
def test_two_thousand_steps_do_not_underflow():
    """LSTM at rest, forget bias -3: the carry is sigmoid(-3)^T, far below any float."""
    cell = rd.cells.LSTM(3, 2, forget_bias=-3.0, bias=rd.initializers.Constant(0.0))
    params = cell.init(jax.random.key(0))
    run = rd.simulate(cell, params, jnp.zeros((2000, 3)))
    paths = rd.pathways(cell, params, run, block="c", lags=(2000,))
    expected = -2000 * math.log1p(math.exp(3.0))
    np.testing.assert_allclose(paths.log_parts[0, 0], expected, rtol=tol("long_power"))
    assert bool(jnp.isfinite(paths.log_norm[0])) and 0 < float(paths.path_length[0]) < 2000


def test_derivatives_equal_differences():
    cell = rd.cells.GRU(3, 3)

    @jax.jit
    def value(gain):
        params, run = along(cell, gain=gain)
        paths = rd.pathways(cell, params, run, lags=(2, STEPS))
        return jnp.sum(paths.log_parts) + jnp.sum(paths.path_length)

    expected = (value(2.0 + 1e-5) - value(2.0 - 1e-5)) / 2e-5
    np.testing.assert_allclose(jax.grad(value)(2.0), expected, rtol=tol("flow_slope"))


def test_a_bad_run_of_a_batch_stays_alone():
    cell = rd.cells.GRU(3, 3)
    params = cell.init(jax.random.key(0))

    @jax.jit
    @jax.vmap
    def paths(inputs):
        return rd.pathways(cell, params, rd.simulate(cell, params, inputs), lags=(1, 3))

    inputs = jax.random.normal(jax.random.key(2), (3, 5, 3))
    clean, bad = paths(inputs), paths(inputs.at[1, 2].set(jnp.nan))
    assert bad.status.tolist() == [[0, 0], [-3, -3], [0, 0]]
    assert bool(jnp.all(jnp.isnan(bad.log_parts[1]))) and bool(jnp.isnan(bad.path_length[1, 0]))
    for row in (0, 2):
        assert bad.log_parts[row].tolist() == clean.log_parts[row].tolist()
        assert bad.path_length[row].tolist() == clean.path_length[row].tolist()


SPLIT = "`cell`: expected a cell that hands on part of its state outside its weights, got Vanilla"
SLOTS = "`cell`: expected a cell with a shift register, got GRU, whose state has none"


@pytest.mark.parametrize(
    "cell, options, said",
    [
        (rd.cells.Vanilla(3, 2), {}, SPLIT),
        (rd.cells.UnitaryRNN(3, 2), {}, SPLIT.replace("Vanilla", "UnitaryRNN")),
        (rd.cells.GRU(3, 2), {"by": "delay"}, SLOTS),
        (rd.cells.GRU(3, 2), {"by": "gate"}, "`by`: expected one of 'carry', 'delay'"),
        (rd.cells.GRU(3, 2), {"block": "c"}, "`block`: expected one of 'h', 'state', 'hidden'"),
        (rd.cells.GRU(3, 2), {"delays": (1,)}, "`delays`: expected the defaults"),
        (rd.cells.GRU(3, 2), {"recurrences": -1}, "`recurrences`: expected a whole number >= 0"),
        (rd.cells.NARX(3, 2), {"by": "delay", "delays": (4,)}, "`delays`: expected distinct"),
        (rd.cells.NARX(3, 2), {"by": "delay", "block": "state"}, "`recurrences, block`: expected"),
    ],
)
def test_misuse(cell, options, said):
    params, run = along(cell, gain=1.0)
    with pytest.raises(ValueError, match=f"^{re.escape(said)}"):
        rd.pathways(cell, params, run, **options)


@rd.specification
class Looped(rd.cells.Cell):
    """A step that hides its matrix product in a scan."""

    input_size: int = 3
    hidden_size: int = 2

    def init(self, key, *, gain=1.0):
        return rd.cells.Vanilla(3, 2).init(key, gain=gain)

    def initial_state(self, params):
        return {"h": jnp.zeros((2,), params.w_h.dtype)}

    def step(self, params, state, x):
        return {"h": jax.lax.scan(lambda h, _: (params(x, h), None), state["h"], length=2)[0]}

    def output(self, state):
        return state["h"]


def test_a_sum_inside_a_loop_is_refused():
    params, run = along(Looped())
    with pytest.raises(ValueError, match="got one inside `scan`; write the step without a loop"):
        rd.carry(Looped(), params, run)


TRACES = []


@rd.specification
class Counted(rd.cells.Cell):
    """A residual step that notes each of its traces."""

    input_size: int = 3
    hidden_size: int = 2

    def init(self, key, *, gain=1.0):
        return rd.cells.Vanilla(3, 2).init(key, gain=gain)

    def initial_state(self, params):
        return {"h": jnp.zeros((2,), params.w_h.dtype)}

    def step(self, params, state, x):
        TRACES.append(x)
        return {"h": state["h"] + jnp.tanh(params(x, state["h"]))}

    def output(self, state):
        return state["h"]


def test_no_retrace_for_new_values_or_an_equal_cell():
    counts = []
    for seed in range(3):
        params, run = along(Counted(), seed=seed)
        before = len(TRACES)
        rd.pathways(Counted(), params, run, lags=(1, 3))
        counts.append(len(TRACES) - before)
    assert 0 < counts[0] <= 4 and counts[1:] == [0, 0]
