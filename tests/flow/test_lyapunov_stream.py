"""lyapunov_stream: equal to the stored run, resumed to the last bit, memory without T."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rnndyn as rd
from rnndyn.flow import stream
from tests.tolerances import tol

CELL = rd.cells.LSTM(2, 4)
PARAMS = CELL.init(jax.random.key(0), gain=2.0)
INPUTS = jax.random.normal(jax.random.key(1), (240, 2))
HENON, START = rd.maps.henon(), jnp.array([0.1, 0.1])


def noise(key):
    return jax.random.normal(key, (2,))


def same_bits(one, other):
    return all(
        np.array_equal(a, b)
        for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    )


def test_henon():
    """0.41922, -1.62319 and their sum ln 0.3, without a point of the orbit stored."""
    found = rd.lyapunov_stream(HENON, START, steps=150_000, warmup=100)
    np.testing.assert_allclose(found.exponents, [0.41922, -1.62319], rtol=0, atol=4e-3)
    assert abs(jnp.sum(found.exponents) - np.log(0.3)) <= jnp.sum(found.error)
    np.testing.assert_allclose(found.kaplan_yorke, 1.25827, atol=3e-3)


def test_equals_the_stored_run():
    """Of a cell whose step depends on a clock."""
    cell = rd.cells.CELLS["clockwork"](2, 4)
    params = cell.init(jax.random.key(0))
    lin = rd.linearize(cell, params, rd.simulate(cell, params, INPUTS), dense=True)
    stored = rd.lyapunov_spectrum(lin, warmup=40)
    found = rd.lyapunov_stream(cell, params, INPUTS, warmup=40)
    np.testing.assert_allclose(
        found.exponents, stored.exponents, rtol=0, atol=tol("exponent_equal")
    )
    assert found.windows.shape == stored.windows.shape == (16, 4)
    # Two steps of identity rows between: what rounding cancels is not taken for a dead unit.
    assert jnp.all(jnp.isfinite(found.exponents))


@pytest.mark.parametrize("form", ["inputs", "stored"])
def test_resumed_runs_have_the_bits_of_one(form):
    """150 and 90 steps in windows of 30, against 240 at once: every field, and the checkpoint."""
    lin = rd.linearize(CELL, PARAMS, rd.simulate(CELL, PARAMS, INPUTS), dense=True)

    def run(first, last, **options):
        if form == "inputs":
            return rd.lyapunov_stream(CELL, PARAMS, INPUTS[first:last], k=5, **options)
        part = rd.Linearization.from_jacobians(lin.jacobians[first:last])
        return rd.lyapunov_spectrum(part, k=5, **options)

    whole, half = run(0, 240, window=30), run(0, 150, window=30)
    both = run(150, 240, resume=half.checkpoint)
    for field in ("exponents", "error", "windows", "standard_error", "kaplan_yorke"):
        assert np.array_equal(getattr(both, field), getattr(whole, field)), field
    if form == "inputs":  # a stored run's position is within what was given, not in the whole
        assert same_bits(both.checkpoint, whole.checkpoint)
    assert both.checkpoint.steps == 240 and both.windows.shape[0] == 8
    assert not np.array_equal(both.exponents, half.exponents)


def test_drawn_inputs_are_those_of_the_keys_also_after_a_resume():
    key = jax.random.key(5)
    keys = jax.vmap(lambda t: jax.random.fold_in(key, t))(jnp.arange(120))
    half = rd.lyapunov_stream(CELL, PARAMS, noise, steps=60, key=key, k=3, window=20)
    drawn = rd.lyapunov_stream(CELL, PARAMS, noise, steps=60, key=key, k=3, resume=half.checkpoint)
    given = rd.lyapunov_stream(CELL, PARAMS, jax.vmap(noise)(keys), k=3, window=20)
    np.testing.assert_allclose(drawn.exponents, given.exponents, rtol=tol("log_product"))


def test_memory_does_not_depend_on_the_steps():
    """What the compiled program holds besides its arguments: the same for 10^3 and 10^6 steps."""

    def held(steps):
        lengths = (steps // 16,) * 16
        run = functools.partial(stream._stream, lengths=lengths, k=64, window=steps // 16)
        map_ = rd.maps.tanh_network(jnp.eye(64))
        lowered = jax.jit(run).lower(stream.Orbit(map_), jnp.ones(64), None, None)
        return lowered.compile().memory_analysis()

    short, long = held(1000), held(1_000_000)
    assert long.temp_size_in_bytes == short.temp_size_in_bytes > 0
    assert long.output_size_in_bytes == short.output_size_in_bytes < 2**20


def test_batches_over_starts_and_seeds():
    starts = jnp.array([[0.1, 0.1], [0.1, 0.2], [jnp.nan, 0.0]])
    found = jax.vmap(lambda z: rd.lyapunov_stream(HENON, z, steps=64, window=8))(starts)
    assert found.status.tolist() == [0, 0, -3]
    assert found.running.shape == (3, 8, 2)
    np.testing.assert_allclose(found.running[:2, -1], found.exponents[:2], rtol=1e-12)
    np.testing.assert_allclose(found.exponents[:2].sum(axis=1), np.log(0.3), rtol=1e-7)
    assert jnp.all(jnp.isnan(found.exponents[2])) and jnp.all(jnp.isnan(found.error[2]))


def test_derivatives_equal_differences():
    """With respect to the map's args and to the start, over few steps of chaos."""

    @jax.jit
    def leading(args, z):
        map_ = rd.Map(HENON.rule, args)
        return rd.lyapunov_stream(map_, z, steps=8, warmup=2, window=3).exponents[0]

    args, z = HENON.args, START
    h, ones = 1e-6, jnp.array([1.0, -2.0])
    up = leading((args[0] + h, args[1]), z + h * ones)
    down = leading((args[0] - h, args[1]), z - h * ones)
    tangents = ((jnp.array(1.0), jnp.array(0.0)), ones)
    _, forward = jax.jvp(leading, (args, z), tangents)
    np.testing.assert_allclose(forward, (up - down) / (2 * h), rtol=tol("flow_slope"))


CHECKPOINT = functools.cache(
    lambda: rd.lyapunov_stream(HENON, START, steps=64, window=8).checkpoint
)


@pytest.mark.parametrize(
    "call, sentence",
    [
        (lambda: rd.lyapunov_stream(HENON, START), "`steps`: expected a whole number >= 1, got "
         "None; pass how many steps to take."),
        (lambda: rd.lyapunov_stream(HENON, START, steps=0), "`steps`: expected a whole number >= "
         "1, got 0; pass how many steps to take."),
        (lambda: rd.lyapunov_stream(HENON, START, INPUTS, steps=9), "`inputs, state, key`: "
         "expected none, got some of them; a map has none; make a map with inputs a Cell."),
        (lambda: rd.lyapunov_stream(CELL, PARAMS, noise, steps=9), "`key`: expected a random key, "
         "got None; pass key=jax.random.key(0)."),
        (lambda: rd.lyapunov_stream(CELL, PARAMS, INPUTS[:0]), "`steps`: expected as many as "
         "inputs, >= 1, got None and 0 inputs; leave `steps` out."),
        (lambda: rd.lyapunov_stream(CELL, PARAMS, INPUTS[:, :1]), "`inputs`: expected shape "
         "(T, 2), got (240, 1); pass one sequence, time first, and vmap over several."),
        (lambda: rd.lyapunov_stream(HENON, START, steps=9, k=3), "`k`: expected a number in [1, "
         "2], got 3; z has d = 2 coordinates, so 1 to 2 exponents exist."),
        (lambda: rd.lyapunov_stream(HENON, START, steps=9, window=10), "`window`: expected a "
         "number in [1, 9], got 10; 9 steps count; a window has at least one step and fits into "
         "them."),
        (lambda: rd.lyapunov_stream(HENON, START, steps=9, resume=CHECKPOINT()), "`resume`: "
         "expected no warmup and whole windows of 8 steps, got warmup 0, 9 steps and window 8; a "
         "run is gone on with as it began; begin it with another window."),
        (lambda: rd.lyapunov_stream(HENON, START, steps=8, k=1, resume=CHECKPOINT()),
         "`resume.carry.frame`: expected shape (2, 1), got (2, 2); go on with a run of the same "
         "cell or map and the same k."),
    ],
)  # fmt: skip
def test_misuse(call, sentence):
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        call()


def test_only_cells_and_maps():
    with pytest.raises(TypeError, match=r"^`subject`: expected a Cell or a Map, got "):
        rd.lyapunov_stream(noise, START, steps=3)


def test_a_start_of_another_size_is_refused():
    with pytest.raises(ValueError, match=r"^`F\(z\)`: expected shape \(3,\), got \(2,\)"):
        rd.lyapunov_stream(HENON, jnp.zeros(3), steps=4)
