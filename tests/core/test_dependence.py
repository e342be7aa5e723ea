"""dependence: patterns known by hand, and that no entry of a Jacobian lies outside of one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rnndyn as rd
from rnndyn.core.dependence import dependence
from rnndyn.linearize import CellStep

CELLS = ("lstm", "peephole", "projected", "nested", "qrnn", "clockwork", "narx", "tkrnn", "scornn")


def pattern_of(function, *shapes):
    return dependence(function, *(jax.ShapeDtypeStruct(shape, float) for shape in shapes)).tolist()


@pytest.mark.parametrize("name", CELLS)
def test_no_entry_of_a_jacobian_lies_outside(name):
    """And for most cells none inside is zero, at a state in which no unit is idle."""
    cell = rd.cells.CELLS[name](3, 8)
    params, x = cell.init(jax.random.key(0)), jnp.ones(3)
    state = cell.initial_state(params)
    z = jax.random.normal(jax.random.key(1), rd.flatten(state).shape)
    data = (rd.unflatten(z, state), x, None)
    found = dependence(CellStep(cell), z, data, params)
    entries = np.asarray(jax.jacfwd(CellStep(cell))(z, data, params)) != 0
    assert not np.any(entries & ~found)
    if name not in ("projected", "scornn"):  # which know of sums no better than that they are sums
        assert np.array_equal(entries, found)


def test_of_an_lstm_only_the_columns_of_h_are_full():
    cell = rd.cells.LSTM(2, 3)
    params = cell.init(jax.random.key(0))
    state = cell.initial_state(params)
    data = (state, jnp.zeros(2), None)
    found = dependence(CellStep(cell), rd.flatten(state), data, params)
    one, full = np.eye(3, dtype=bool), np.ones((3, 3), bool)
    assert np.array_equal(found, np.block([[full, one], [full, one]]))


def test_products_contract_the_axes_that_they_sum():
    """With z on the left, on the right, and batched; free axes left first."""
    one, three = [True, False, False], [True, True, True]
    left = pattern_of(lambda z, w: (z.reshape(3, 1) @ w).ravel(), (3,), (1, 2))
    assert left == [one, one, [False, True, False], [False, True, False], *2 * [one[::-1]]]
    right = pattern_of(lambda z, w: (w @ z.reshape(1, 3)).ravel(), (3,), (2, 1))
    assert right == 2 * [one, [False, True, False], one[::-1]]
    assert pattern_of(lambda z, w: w @ z, (3,), (2, 3)) == [three, three]
    batched = pattern_of(lambda z, w: jax.vmap(jnp.dot)(w, z[:, None])[:, 0], (3,), (3, 1, 1))
    assert np.array_equal(np.squeeze(batched), np.eye(3, dtype=bool))


def test_shapes_move_their_entries():
    def moved(z):
        table = jnp.stack([z[:2], z[2:]], axis=1)  # [[0, 2], [1, 3]]
        parts = [table.T.ravel()[::-1], jnp.sum(table, axis=0), jnp.zeros(1)]
        return jnp.concatenate(parts)

    found = np.array(pattern_of(moved, (4,)))
    sums = [[True, True, False, False], [False, False, True, True]]
    assert np.array_equal(found, np.array([*np.eye(4, dtype=bool)[::-1], *sums, 4 * [False]]))


def test_what_is_not_known_depends_on_all_it_reads():
    def looped(z, w):
        return jax.lax.fori_loop(0, 3, lambda _, y: y * 2, z[:2]) * w

    assert pattern_of(looped, (3,), (2,)) == 2 * [[True, True, False]]
    assert pattern_of(lambda z: jnp.cumsum(z), (2,)) == 2 * [[True, True]]
    indexed = pattern_of(lambda z, w: z[jnp.argmax(w)][None], (2,), (2,))
    assert indexed == [[True, True]]
    assert pattern_of(lambda z, w: w, (2,), (3,)) == 3 * [[False, False]]


def test_conditions_count_as_both_sides():
    found = pattern_of(lambda z: jnp.where(z[0] > 0, z[1], 0.0)[None], (3,))
    assert found == [[True, True, False]]
