"""The figures show every cell, at the weights that the table promises."""

import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rnndyn as rd
from analyses import table

GATED = [name for name in table.GATED if table.has_keeping_gate(name)]


def test_every_cell_is_in_a_figure():
    shown = [
        importlib.import_module(f"analyses.{name}").Config().table
        for name in ("gated", "skip_connected", "initialisation")
    ]
    assert set().union(*shown) == set(rd.cells.CELLS)


@pytest.mark.parametrize("name", rd.cells.CELLS)
def test_the_table_builds_the_cell_of_that_name(name):
    cell = table.build(name, 5, 8)
    assert type(cell) is rd.cells.CELLS[name]
    assert (cell.input_size, cell.hidden_size) == (5, 8)


@pytest.mark.parametrize("name", ["vanilla", "lstm", "gru", "narx", "clockwork"])
def test_gains_are_comparable(name):
    """N(0, 1/n): the squares of the entries of one recurrent block sum to n, of NARX to n/K."""
    n, order = 64, table.REACH if name == "narx" else 1
    params = table.build(name, 3, n).init(jax.random.key(0))
    blocks = np.asarray(params.w_h).reshape(-1, n, n)
    entries = blocks[blocks != 0]
    assert abs(np.mean(entries**2) * n * order**2 - 1) < 6 * np.sqrt(2 / len(entries))
    assert not np.any(params.b)


@pytest.mark.parametrize("name", GATED)
def test_the_bias_opens_the_gate_that_keeps(name):
    """Without recurrent weights and input the memory fades by s(bias), once a layer of a step."""
    cell, bias = table.build(name, 5, 4), 1.5
    params = cell.init(jax.random.key(1), gain=0.0)
    params = table.open_gate(cell, params, bias)
    jacobian = rd.hold(cell, params, jnp.zeros(5))
    state = cell.initial_state(params)
    eigenvalues = jnp.linalg.eigvals(jax.jacfwd(jacobian)(rd.flatten(state)))
    layers = cell.depth if name == "rhn" else 1
    expected = (1 / (1 + np.exp(-bias))) ** layers
    assert abs(np.max(np.abs(eigenvalues)) - expected) < 1e-6
    assert np.sum(np.abs(np.abs(eigenvalues) - expected) < 1e-6) == 4


def test_a_cell_without_such_a_gate_stays_as_it_is():
    cell = table.build("lstm_1997", 5, 4)
    params = cell.init(jax.random.key(0))
    assert table.open_gate(cell, params, 4.0) is params
