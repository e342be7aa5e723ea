"""Dilation: interleaved chains, roots of the multipliers, registers, clocks inside."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rnndyn as rd
from rnndyn import cells
from rnndyn.testing import check_cell
from tests.tolerances import tol

INPUTS = jax.random.normal(jax.random.key(1), (12, 3))


@rd.pytree
class Ticking:
    """A state with a clock."""

    h: jax.Array
    clock: jax.Array


@rd.specification
class Alternating(cells.Cell):
    """h' = tanh((+-1) W_h h + W_x x + b), the sign by the parity of an integer clock."""

    input_size: int
    hidden_size: int

    def init(self, key, *, gain=1.0):
        return cells.Vanilla(self.input_size, self.hidden_size).init(key, gain=gain)

    def initial_state(self, params):
        return Ticking(jnp.zeros((self.hidden_size,), params.w_h.dtype), jnp.zeros((), jnp.int32))

    def step(self, params, state, x):
        signed = jnp.where(state.clock == 0, state.h, -state.h)
        return Ticking(jnp.tanh(params(x, signed)), (state.clock + 1) % 2)

    def output(self, state):
        return state.h

    @property
    def period(self):
        return 2


@pytest.mark.parametrize("inner", [cells.Vanilla(3, 4), cells.LSTM(3, 4), Alternating(3, 4)])
def test_a_run_is_the_inner_cell_on_interleaved_inputs(inner):
    cell = cells.dilate(inner, 3)
    params = cell.init(jax.random.key(0))
    outputs = rd.simulate(cell, params, INPUTS).outputs
    for chain in range(3):
        alone = rd.simulate(inner, params, INPUTS[chain::3]).outputs
        np.testing.assert_allclose(outputs[chain::3], alone, atol=tol("step"))


def test_dilation_one_is_the_inner_cell():
    inner = cells.GRU(3, 4)
    params = inner.init(jax.random.key(0))
    one, other = (rd.simulate(c, params, INPUTS).outputs for c in (inner, cells.dilate(inner, 1)))
    np.testing.assert_allclose(one, other, atol=tol("step"))


def test_h_depends_on_h_of_multiples_of_the_dilation_only():
    """Chang et al. 2017: dh_T/dh_t is 0, or a product of (T - t)/d Jacobians of the inner cell."""
    inner, n, d = cells.Vanilla(3, 4), 4, 3
    cell = cells.dilate(inner, d)
    params = cell.init(jax.random.key(0), gain=2.0)
    run = rd.simulate(cell, params, INPUTS)
    jacobians = np.asarray(rd.linearize(cell, params, run).jacobians)
    own = (1 - np.asarray(run.outputs)[:, :, None] ** 2) * np.asarray(params.w_h)
    for start in (3, 4):
        for end in range(start + 1, 13):
            block = functools.reduce(lambda p, j: j @ p, jacobians[start:end])[:n, :n]
            if (end - start) % d:
                assert not np.any(block)
            else:
                chain = functools.reduce(lambda p, j: j @ p, own[start + d - 1 : end : d])
                np.testing.assert_allclose(block, chain, atol=tol("jacobian"))


@pytest.mark.parametrize("d", [2, 4])
def test_multipliers_are_all_dth_roots(d):
    inner = cells.Vanilla(3, 4, bias=rd.initializers.Constant(0.0))
    params = inner.init(jax.random.key(5), gain=1.5)
    origin = rd.hold(cells.dilate(inner, d), params, jnp.zeros(3)).jacobian(jnp.zeros(4 * d))
    got = list(np.linalg.eigvals(np.asarray(origin)))
    own = np.linalg.eigvals(np.asarray(params.w_h)).astype(complex)
    assert np.abs(own).min() > 1e-2
    turns = np.exp(2j * np.pi * np.arange(d) / d)
    for value in (own[:, None] ** (1 / d) * turns).ravel():
        nearest = min(got, key=lambda one: abs(one - value))
        assert abs(nearest - value) < tol("roots")
        got.remove(nearest)


def test_newest_first_and_what_hidden_selects():
    cell = cells.dilate(cells.LSTM(3, 2), 3)
    params = cell.init(jax.random.key(0))
    run = rd.simulate(cell, params, INPUTS)
    last = jax.tree.map(lambda leaf: leaf[-1], run.states)
    assert np.array_equal(last.cells.h, run.outputs[-1:-4:-1])
    names = rd.coordinate_names(last)
    hidden = rd.linearize(cell, params, run).hidden
    assert [names[i] for i in hidden] == ["cells.h[0][0]", "cells.h[0][1]"]
    assert names[6:8] == ["cells.c[0][0]", "cells.c[0][1]"]


def test_a_clock_inside_counts_its_own_chain():
    cell = cells.dilate(Alternating(3, 4), 3)
    assert cell.period == 6
    check_cell(cell)


def test_the_default_cell_is_filled_in():
    assert cells.Dilated(3, 4) == cells.dilate(cells.Vanilla(3, 4), 2)
    assert hash(cells.Dilated(3, 4)) == hash(cells.dilate(cells.Vanilla(3, 4), 2))
    assert not cells.dilate(cells.LSTM1997(3, 4, truncated=True), 2).exact_derivative


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (
            lambda: cells.Dilated(3, 4, dilation=0),
            ValueError,
            "`dilation`: expected a whole number >= 1, got 0; "
            "1 is the inner cell itself, 2 reads every other state.",
        ),
        (
            lambda: cells.Dilated(3, 4, cell=cells.Vanilla(3, 5)),
            ValueError,
            "`cell.hidden_size`: expected 4, got 5; "
            "use rd.cells.dilate(cell, dilation), which takes the sizes from the cell.",
        ),
        (
            lambda: cells.Dilated(2, 5, cell=cells.Vanilla(3, 5)),
            ValueError,
            "`cell.input_size`: expected 2, got 3; "
            "use rd.cells.dilate(cell, dilation), which takes the sizes from the cell.",
        ),
        (
            lambda: cells.dilate("lstm", 2),
            TypeError,
            "`cell`: expected a Cell, got 'lstm'; pass for example rd.cells.LSTM(3, 8).",
        ),
    ],
)
def test_bad_options(make, error, message):
    with pytest.raises(error) as caught:
        make()
    assert str(caught.value) == message
