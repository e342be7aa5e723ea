"""Stacks and bidirectional layers."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rnndyn as rd
from tests.tolerances import tol

DEEP = rd.cells.stack(rd.cells.Vanilla(3, 4), rd.cells.Vanilla(4, 5))
STEPS = 9


@pytest.fixture(scope="module")
def params():
    return DEEP.init(jax.random.key(0), gain=1.5)


@pytest.fixture(scope="module")
def inputs():
    return jax.random.normal(jax.random.key(1), (STEPS, 3))


def test_layers_run_one_after_another(params, inputs):
    run = rd.simulate(DEEP, params, inputs)
    first = rd.simulate(DEEP.layers[0], params.layers[0], inputs)
    second = rd.simulate(DEEP.layers[1], params.layers[1], first.outputs)
    np.testing.assert_allclose(run.outputs, second.outputs, rtol=0, atol=tol("step"))
    np.testing.assert_allclose(run.states.layers[0].h[1:], first.outputs, rtol=0, atol=tol("step"))


def test_the_jacobian_is_block_lower_triangular(params, inputs):
    """J = [[D1 W1, 0], [D2 V2 D1 W1, D2 W2]], V2 the weights between the layers."""
    run = rd.simulate(DEEP, params, inputs)
    lin = rd.linearize(DEEP, params, run)
    below, above = params.layers
    for t in range(STEPS):
        d1 = np.diag(1 - np.asarray(run.states.layers[0].h[t + 1]) ** 2)
        d2 = np.diag(1 - np.asarray(run.states.layers[1].h[t + 1]) ** 2)
        first = d1 @ below.w_h
        expected = np.block([[first, np.zeros((4, 5))], [d2 @ above.w_x @ first, d2 @ above.w_h]])
        np.testing.assert_allclose(lin.jacobians[t], expected, rtol=0, atol=tol("jacobian"))
    assert lin.hidden == (4, 5, 6, 7, 8)


def test_eigenvalues_are_the_union_of_the_layers(params):
    """At the joint fixed point 0 of a network without bias or input."""
    quiet = jax.tree.map(lambda leaf: leaf if leaf.ndim == 2 else 0 * leaf, params)
    jacobian = rd.hold(DEEP, quiet, jnp.zeros(3)).jacobian(jnp.zeros(9))
    got = np.sort_complex(np.linalg.eigvals(jacobian))
    union = [np.linalg.eigvals(layer.w_h) for layer in quiet.layers]
    np.testing.assert_allclose(got, np.sort_complex(np.concatenate(union)), atol=tol("jacobian"))


def test_layers_of_different_kinds_and_wrapped_layers(inputs):
    kinds = (
        rd.cells.LSTM(3, 4),
        rd.cells.dilate(rd.cells.GRU(4, 5), 2),
        DEEP.__class__(5, 4, (rd.cells.NARX(5, 4),)),
    )
    mixed = rd.cells.stack(*kinds)
    params = mixed.init(jax.random.key(3))
    run = rd.simulate(mixed, params, inputs)
    lin = rd.linearize(mixed, params, run)
    assert lin.size == 2 * 4 + 2 * 5 + 3 * 4 and len(lin.hidden) == 4
    outputs = inputs
    for cell, its in zip(kinds, params.layers, strict=True):
        outputs = rd.simulate(cell, its, outputs).outputs
    np.testing.assert_allclose(run.outputs, outputs, rtol=0, atol=tol("step"))
    assert len(mixed.registers(mixed.initial_state(params))) == 2


def test_any_wrapper_around_a_stack(inputs):
    cell = rd.cells.dilate(DEEP, 3)
    params = cell.init(jax.random.key(0))
    lin = rd.linearize(cell, params, rd.simulate(cell, params, inputs))
    assert lin.size == 27 and len(lin.hidden) == 5


LINEAR = rd.cells.Vanilla(200, 200, activation="identity")
DROPPED = rd.cells.stack(LINEAR, LINEAR, dropout=0.25)


@pytest.fixture(scope="module")
def through():
    """Two layers that hand on what they read: the output is what dropout left of the input."""
    params = DROPPED.init(jax.random.key(0))
    passing = type(params.layers[0])(jnp.eye(200), jnp.zeros((200, 200)), jnp.zeros(200))
    return type(params)((passing, passing))


def test_dropout_zeroes_and_rescales_between_layers_only(through):
    ones = jnp.ones((50, 200))
    dropped = rd.simulate(DROPPED, through, ones, key=jax.random.key(5))
    outputs = np.asarray(dropped.outputs)
    assert set(np.unique(outputs)) == {0.0, 1 / 0.75}
    share = np.mean(outputs == 0)
    assert abs(share - 0.25) < 5 * np.sqrt(0.25 * 0.75 / outputs.size)
    assert np.array_equal(dropped.states.layers[0].h[1:], ones)  # the lower layer keeps all
    assert not np.array_equal(outputs[0], outputs[1])  # drawn anew at each step


def test_dropout_is_the_keys_alone(through):
    ones = jnp.ones((5, 200))
    run = rd.simulate(DROPPED, through, ones, key=jax.random.key(5))
    again = rd.simulate(DROPPED, through, ones, key=jax.random.key(5))
    other = rd.simulate(DROPPED, through, ones, key=jax.random.key(6))
    assert np.array_equal(run.outputs, again.outputs)
    assert not np.array_equal(run.outputs, other.outputs)
    assert np.array_equal(rd.simulate(DROPPED, through, ones).outputs, ones)


def test_dropout_never_touches_what_a_layer_keeps(through):
    keep = type(through.layers[0])(0 * through.layers[0].w_x, jnp.eye(200), jnp.zeros(200))
    params = type(through)((through.layers[0], keep))
    start = DROPPED.initial_state(params)
    start = type(start)((start.layers[0], type(start.layers[1])(h=jnp.ones(200))))
    run = rd.simulate(DROPPED, params, jnp.ones((5, 200)), start, key=jax.random.key(5))
    assert np.array_equal(run.outputs, jnp.ones((5, 200)))


def test_the_linearization_sees_the_masks_of_the_run(params, inputs):
    cell = rd.cells.stack(*DEEP.layers, dropout=0.5)
    run = rd.simulate(cell, params, inputs, key=jax.random.key(2))
    lin = rd.linearize(cell, params, run)

    state = cell.initial_state(params)
    for t in range(STEPS):
        step = lambda z, t=t, state=state: rd.flatten(  # noqa: E731
            cell.step(params, rd.unflatten(z, state), inputs[t], run.keys[t])
        )
        expected = jax.jacrev(step)(rd.flatten(state))
        np.testing.assert_allclose(lin.jacobians[t], expected, rtol=0, atol=tol("jacobian"))
        state = cell.step(params, state, inputs[t], run.keys[t])
    plain = rd.linearize(DEEP, params, rd.simulate(DEEP, params, inputs))
    assert np.max(np.abs(lin.jacobians - plain.jacobians)) > 0.1


BOTH = rd.cells.Bidirectional(
    forward=(rd.cells.GRU(3, 4), rd.cells.Vanilla(8, 2)),
    backward=(rd.cells.GRU(3, 4), rd.cells.Vanilla(8, 2)),
)


def test_directions_see_the_sequence_from_both_ends(inputs):
    params = BOTH.init(jax.random.key(0))
    run = rd.simulate(BOTH, params, inputs)
    assert run.outputs.shape == (STEPS, 4) and int(run.status) == 0
    ahead = rd.simulate(BOTH.forward[0], params.forward[0], inputs)
    back = rd.simulate(BOTH.backward[0], params.backward[0], inputs[::-1])
    middle = jnp.concatenate([ahead.outputs, back.outputs[::-1]], axis=1)
    top = rd.simulate(BOTH.backward[1], params.backward[1], middle[::-1])
    np.testing.assert_allclose(run.outputs[:, 2:], top.outputs[::-1], rtol=0, atol=tol("step"))
    np.testing.assert_allclose(run.outputs[0, 2:], run.backward[1].outputs[-1], atol=tol("step"))
    # each direction of each layer has its own linearization
    lin = rd.linearize(BOTH.backward[1], params.backward[1], run.backward[1])
    assert lin.jacobians.shape == (STEPS, 2, 2)


def test_the_future_reaches_the_output_only_backward(inputs):
    params = BOTH.init(jax.random.key(0))
    one = rd.cells.Bidirectional(BOTH.forward[:1], BOTH.backward[:1])
    its = type(params)(params.forward[:1], params.backward[:1])
    changed = rd.simulate(one, its, inputs.at[-1].add(1.0)).outputs
    same = rd.simulate(one, its, inputs).outputs
    assert np.array_equal(changed[:-1, :4], same[:-1, :4])
    assert not np.any(np.all(changed[:, 4:] == same[:, 4:], axis=1))


def test_misuse_says_what_to_do(params, inputs):
    vanilla = rd.cells.Vanilla
    both = BOTH.init(jax.random.key(0))
    cases = [
        (
            ValueError,
            lambda: rd.cells.stack(vanilla(3, 4), vanilla(5, 5)),
            "`layers[1].input_size`: expected 4, got 5; each layer reads what the one below gives.",
        ),
        (
            ValueError,
            lambda: rd.cells.Stack(3, 8, (vanilla(3, 4),)),
            "`hidden_size`: expected 4, got 8; each layer reads what the one below gives.",
        ),
        (
            ValueError,
            lambda: rd.cells.stack(),
            "`layers`: expected at least one Cell, got none; "
            "pass for example rd.cells.LSTM(3, 8), rd.cells.LSTM(8, 8).",
        ),
        (
            ValueError,
            lambda: rd.cells.stack(vanilla(3, 4), dropout=1.0),
            "`dropout`: expected a number in [0, 1), got 1.0; "
            "0 is no dropout, 0.5 zeroes half of what a layer hands on.",
        ),
        (
            ValueError,
            lambda: rd.simulate(DEEP, params, inputs, key=jax.random.key(0)),
            "`key`: expected none for this cell, got a key; "
            "leave it out, or give a Stack its dropout.",
        ),
        (
            ValueError,
            lambda: rd.cells.Bidirectional((vanilla(3, 4),), ()),
            "`backward`: expected as many cells, got 1 forward and 0 backward; "
            "give one cell for each direction of each layer.",
        ),
        (
            ValueError,
            lambda: rd.cells.Bidirectional((vanilla(3, 4),) * 2, (vanilla(3, 4),) * 2),
            "`forward[1].input_size`: expected 8, got 3; "
            "each layer reads what the one below gives.",
        ),
        (
            TypeError,
            lambda: rd.hold(BOTH, both, jnp.zeros(3)),
            "`cell`: expected a Cell, got a Bidirectional; its backward half runs against time, "
            "so it has no step and no joint fixed point; use a cell of its .forward or .backward "
            "with that direction's params.",
        ),
        (
            TypeError,
            lambda: rd.cells.stack(BOTH, vanilla(8, 2)),
            "`layers[0]`: expected a Cell, got a Bidirectional; its backward half runs against "
            "time, so it has no step and no joint fixed point; use a cell of its .forward or "
            ".backward with that direction's params.",
        ),
    ]
    for error, call, sentence in cases:
        with pytest.raises(error, match=f"^{re.escape(sentence)}$"):
            call()
