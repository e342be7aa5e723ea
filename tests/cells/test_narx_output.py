"""NARX network in its original form: only the output is fed back.

Source: Lin, Horne, Tino & Giles 1996, eq. 1 with a network of one hidden layer.
"""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rnndyn as rd
from rnndyn import testing
from rnndyn.cells.narx_output import NARXOutput
from tests.cells import recurrences as ref
from tests.tolerances import tol

CELL = NARXOutput(2, 3, order=3, input_order=2, units=5)


def hidden_layer(cell, p, z, x):
    n, m = cell.hidden_size, cell.input_size
    ys = z[: cell.order * n].reshape(-1, n)
    xs = [x, *z[cell.order * n :].reshape(-1, m)]
    a = p.b + sum(w @ u for w, u in zip(p.w_x, xs, strict=True))
    return np.tanh(a + sum(w @ y for w, y in zip(p.w_y, ys, strict=True))), ys, xs


def loop(cell, params):
    p = ref.arrays(params)

    def step(t, z, x):
        v, ys, xs = hidden_layer(cell, p, z, x)
        y = p.w_o @ v + p.b_o
        y = np.tanh(y) if cell.activation == "tanh" else y
        parts = [y, *ys[:-1], *(xs[:-1] if cell.input_order else [])]
        return np.concatenate(parts)

    return step


@pytest.mark.precision
@pytest.mark.parametrize(
    "cell",
    [CELL, NARXOutput(2, 1, order=4, input_order=0, units=6, activation="tanh")],
    ids=["inputs_too", "zero_input_order"],
)
def test_a_run_equals_the_equations(cell):
    params = ref.random_params(cell)
    ref.assert_equals_recurrence(cell, params, loop(cell, params))


@pytest.mark.precision
def test_the_jacobian_is_block_companion_and_nilpotent_on_the_inputs():
    params = ref.random_params(CELL)
    run = rd.simulate(CELL, params, ref.random_inputs(CELL, 5))
    p, z = ref.arrays(params), ref.points(run).astype(float)
    jacobian = np.asarray(rd.linearize(CELL, params, run).jacobians[4])
    v, _, _ = hidden_layer(CELL, p, z[4], np.asarray(run.inputs[4], float))
    back = p.w_o * (1 - v**2)[None]
    first = [back @ w for w in (*p.w_y, *p.w_x[1:])]
    np.testing.assert_allclose(jacobian[:3], np.concatenate(first, 1), atol=tol("jacobian"))
    assert np.array_equal(jacobian[3:9], np.eye(13)[:6])
    assert not np.any(jacobian[9:, :9])
    assert not np.any(np.linalg.matrix_power(jacobian[9:, 9:], CELL.input_order))


def test_the_eigenvalues_solve_the_matrix_polynomial():
    """det(l^3 I - l^2 A_1 - l A_2 - A_3) = 0, besides zeros for the register of inputs."""
    params = ref.random_params(CELL)
    run = rd.simulate(CELL, params, ref.random_inputs(CELL, 5))
    jacobian = np.asarray(rd.linearize(CELL, params, run).jacobians[4])
    blocks = np.split(jacobian[:3, :9], 3, axis=1)
    found = np.linalg.eigvals(jacobian[:9, :9])
    for value in found:
        powers = value**3 * np.eye(3) - sum(value ** (2 - k) * a for k, a in enumerate(blocks))
        assert np.linalg.svd(powers, compute_uv=False)[-1] < tol("spectrum")
    ref.assert_same_spectrum(np.linalg.eigvals(jacobian), [*found, *[0] * 4], "root_spectrum")


def test_at_rest_every_copy_is_equal():
    x, params = jnp.array([0.5, -0.25]), ref.random_params(CELL, scale=0.15)
    p, y = ref.arrays(params), np.zeros(3)
    for _ in range(500):
        a = p.w_x.sum(0) @ np.asarray(x) + p.w_y.sum(0) @ y + p.b
        y = p.w_o @ np.tanh(a) + p.b_o
    z = jnp.asarray(np.concatenate([y, y, y, np.asarray(x), np.asarray(x)]))
    np.testing.assert_allclose(rd.hold(CELL, params, x)(z), z, rtol=0, atol=tol("fixed_point"))


def test_the_start_keeps_the_gain_whatever_the_order():
    wide = NARXOutput(2, 200, order=5, units=300)
    params = wide.init(jax.random.key(0), gain=2.0)
    assert params.w_x.shape == (2, 300, 2) and params.w_y.shape == (5, 300, 200)
    largest = 2.0 / (5 * np.sqrt(300))
    assert 0.99 * largest < float(jnp.max(jnp.abs(params.w_y))) <= largest
    assert NARXOutput(2, 7).init(jax.random.key(0)).w_o.shape == (7, 7)


@pytest.mark.precision
def test_the_conformance_suite_without_a_register_of_inputs():
    testing.check_cell(NARXOutput(2, 2, order=1, input_order=0, units=3))


def test_flops():
    n, m, units = 48, 16, 64
    cell = NARXOutput(m, n, order=3, input_order=2, units=units)
    equations = 2 * units * (3 * n + 3 * m + n)
    assert ref.flops(cell) <= 1.3 * equations


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (
            {"order": 0},
            "`order`: expected a whole number >= 1, got 0; "
            "1 reads the last output only, K reads the last K outputs.",
        ),
        (
            {"input_order": -1},
            "`input_order`: expected a whole number >= 0, got -1; "
            "0 reads the present input only, K reads K earlier inputs too.",
        ),
        (
            {"units": 0},
            "`units`: expected a whole number >= 1, got 0; None makes it hidden_size.",
        ),
    ],
)
def test_misuse_is_answered_in_a_sentence(options, sentence):
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        NARXOutput(3, 8, **options)
