"""The origin of gated cells: closed forms beside the Jacobian itself, and what is refused."""

import re
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rnndyn as rd
from rnndyn.branches.origin import origin_margins
from rnndyn.cells.initializers import Constant
from tests.tolerances import tol

N = 4
WEIGHTS = np.array(
    [[1.0, -2.0, 0.3, 0.0], [1.5, 0.4, 0.0, 0.2], [0.0, 0.7, -1.1, 0.5], [0.2, 0.0, 0.3, 0.6]]
)


def close(got, want, name="origin_margin"):
    np.testing.assert_allclose(got, want, rtol=0, atol=tol(name))


def gru(candidate, variant="cho_v3", b_z=0.0, b_r=0.0):
    """Gates with random recurrent weights, the candidate as given."""
    n = len(candidate)
    cell = rd.cells.GRU(2, n, variant, bias=Constant(0.0))
    params = cell.init(jax.random.key(1), gain=3.0)
    params = replace(params, w_h=params.w_h.at[2 * n :].set(jnp.asarray(candidate)))
    if params.b is not None:
        gates = jnp.repeat(jnp.array([b_r, b_z, 0.0]), n)
        params = replace(params, b=gates)
    return cell, params


def lstm(candidate, b_f=1.0, b_i=0.0, b_o=0.0):
    n = len(candidate)
    cell = rd.cells.LSTM(2, n, bias=Constant(0.0))
    params = cell.init(jax.random.key(1), gain=3.0)
    w_h = params.w_h.at[2 * n : 3 * n].set(jnp.asarray(candidate))
    return cell, replace(params, w_h=w_h, b=jnp.repeat(jnp.array([b_i, b_f, 0.0, b_o]), n))


def eigenvalues(cell, params):
    map_ = rd.hold(cell, params, jnp.zeros(2))
    z = jnp.zeros_like(rd.flatten(cell.initial_state(params)))
    close(map_(z), z)
    return np.linalg.eigvals(np.asarray(map_.jacobian(z)))


def scaled(cell, params, gain):
    n = cell.hidden_size
    block = slice(2 * n, 3 * n)
    return replace(params, w_h=params.w_h.at[block].multiply(gain))


CASES = {
    "kanai": gru(WEIGHTS, "kanai"),
    "torch": gru(WEIGHTS, "torch"),
    "chung": gru(WEIGHTS, "chung", b_z=0.7, b_r=-0.4),
    "cho_v3": gru(WEIGHTS, "cho_v3", b_z=0.7, b_r=-0.4),
    "cho_v1": gru(-WEIGHTS, "cho_v1", b_z=-0.3, b_r=0.4),
    "lstm": lstm(WEIGHTS, 1.0, -0.2, 0.6),
}


@pytest.mark.parametrize("name", CASES)
def test_eigenvalues_are_those_of_the_whole_jacobian(name):
    cell, params = CASES[name]
    found, expected = origin_margins(cell, params), eigenvalues(cell, params)
    got = np.asarray(found.eigenvalues)
    if name == "lstm":
        got = np.concatenate([got, np.zeros(N)])
    distance = np.abs(got[:, None] - expected[None])
    # n zeros of one Jordan block each are known to the root of rounding
    close(distance.min(axis=1).max(), 0, "double_root" if name == "lstm" else "origin_margin")
    assert (float(found.exact) > 0) == (np.abs(expected).max() < 1)


@pytest.mark.parametrize("name", CASES)
def test_the_critical_gain_puts_an_eigenvalue_on_the_circle(name):
    cell, params = CASES[name]
    found = origin_margins(cell, params)
    at = eigenvalues(cell, scaled(cell, params, found.critical_gain))
    close(np.abs(at).max(), 1)
    close(np.abs(at - complex(found.critical)).min(), 0)
    close(origin_margins(cell, scaled(cell, params, found.critical_gain)).exact, 0)


def test_kanais_margin_and_the_exact_condition_without_biases():
    """2 - sigma_max(U) and 4 - max |lambda + 2|."""
    found = origin_margins(*CASES["kanai"])
    close(found.sufficient, 2 - np.linalg.norm(WEIGHTS, 2))
    close(found.exact, 4 - np.abs(np.linalg.eigvals(WEIGHTS) + 2).max())


@pytest.mark.parametrize("u, exact, gain, critical", [(1.5, 0.5, 4 / 3, 1), (-5.0, 1.0, 1.2, -1)])
def test_one_gru_unit(u, exact, gain, critical):
    """Critical at U = 2 and U = -6; U = -5 is stable with a negative sufficient margin."""
    found = origin_margins(*gru(np.array([[u]])))
    close(found.exact, exact)
    close(found.critical_gain, gain)
    close(complex(found.critical), critical)
    close(found.sufficient, 2 - abs(u))


def test_one_lstm_unit_loses_stability_at_four_times_one_minus_f():
    """w = 1.0757656854799804 for b_f = 1."""
    found = origin_margins(*lstm(np.array([[1.0]])))
    close(found.critical_gain, 1.0757656854799804)
    close(found.sufficient, 0.0757656854799804)


def test_rotation_is_critical_in_a_complex_pair():
    """|lambda + 2| = 4 for U = g R: Neimark-Sacker."""
    angle = 2.0
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    found = origin_margins(*gru(turn))
    gain = -2 * np.cos(angle) + np.sqrt(4 * np.cos(angle) ** 2 + 12)
    close(found.critical_gain, gain)
    assert complex(found.critical).imag > 0.1


def test_sufficient_never_exceeds_exact():
    rng = np.random.default_rng(0)
    many = jnp.asarray(rng.normal(size=(200, 3, 3)))
    cell, params = gru(np.eye(3))

    def both(candidate):
        found = origin_margins(cell, replace(params, w_h=params.w_h.at[6:].set(candidate)))
        return found.sufficient, found.exact

    sufficient, exact = jax.vmap(both)(many)
    assert bool(jnp.all(exact >= sufficient - tol("origin_margin")))
    assert bool(jnp.any((sufficient < 0) & (exact > 0)))


def test_other_points_can_exist_while_both_margins_are_positive():
    """U = 1.9 with reset weight 1: fold at 1.7635, so three fixed points before U = 2."""
    cell, params = gru(np.array([[1.9]]))
    params = replace(params, w_h=jnp.array([[1.0], [0.0], [1.9]]))
    found = origin_margins(cell, params)
    assert float(found.sufficient) > 0 and float(found.exact) > 0
    line = jnp.linspace(-1, 1, 21)[:, None]
    points = rd.unique(rd.fixed_points(rd.hold(cell, params, jnp.zeros(2)), line))
    assert points.z.shape == (3, 1)


def test_zero_and_nilpotent_weights_have_no_critical_gain():
    for weights in (np.zeros((2, 2)), np.array([[0.0, 5.0], [0.0, 0.0]])):
        found = origin_margins(*gru(weights))
        assert float(found.critical_gain) == np.inf and float(found.exact) == 2.0
        close(found.sufficient, 2 - np.linalg.norm(weights, 2))


def test_it_is_a_penalty():
    cell, params = gru(WEIGHTS)

    def margin(candidate):
        changed = replace(params, w_h=params.w_h.at[2 * N :].set(candidate))
        return origin_margins(cell, changed).sufficient

    slope = jax.jit(jax.grad(margin))(jnp.asarray(WEIGHTS))
    left, _, right = np.linalg.svd(WEIGHTS)
    close(slope, -np.outer(left[:, 0], right[0]))


def test_what_it_does_not_apply_to_is_refused():
    cell, params = gru(WEIGHTS, "torch")
    assert params.b is not None and params.b_hn is not None
    with pytest.raises(ValueError, match=re.escape("`params`: expected no bias on the candidate")):
        origin_margins(cell, replace(params, b_hn=params.b_hn.at[1].set(0.1)))
    uneven = replace(params, b=params.b.at[N].set(0.1))
    with pytest.raises(ValueError, match="gate biases equal for all units"):
        origin_margins(cell, uneven)
    traced = jax.jit(lambda p: origin_margins(cell, p))(uneven)
    assert all(bool(jnp.all(jnp.isnan(leaf))) for leaf in jax.tree.leaves(traced))
    vanilla = rd.cells.Vanilla(2, 3)
    with pytest.raises(TypeError, match="expected a GRU or an LSTM, got Vanilla"):
        origin_margins(vanilla, vanilla.init(jax.random.key(0)))
