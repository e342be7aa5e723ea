"""fixed_points: statuses, batches, derivatives, precision, compile counts, bad input."""

import dataclasses
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

import rnndyn as rd
from rnndyn.points import fixed_points, stability, unique
from rnndyn.points.certify import Kind, certify
from rnndyn.points.solver import LANES
from tests.points.searches import STARTS, bistable, cube, tanh_net
from tests.tolerances import tol


def many_fates(z, fate):
    """Good, overflowing, rootless, identity: one map, the fate of a start in its last coordinate.

    The last coordinate itself is a fixed number for each fate.
    """
    del fate
    code = z[1]
    good = jnp.tanh(1.5 * z[0] + 0.1)
    overflow = 1e200 * (1 + z[0] ** 2)
    image = jnp.where(code > 3, z[0] + 1, jnp.where(code > 1, overflow, good))
    return jnp.stack([image, jnp.tanh(code) * 0 + jnp.round(code)])


def test_every_status_in_one_batch_and_neighbours_bit_unchanged():
    map_ = rd.Map(many_fates)
    root = scipy.optimize.brentq(lambda x: np.tanh(1.5 * x + 0.1) - x, 0.5, 1, xtol=1e-16)
    good = jnp.stack([jnp.linspace(-1.0, 1.0, 6), jnp.zeros(6)], axis=1)
    bad = jnp.array([[jnp.nan, 0.0], [jnp.inf, 0.0], [0.3, 2.0], [0.2, 4.0]])
    tame = jnp.full((4, 2), 0.5).at[:, 1].set(0.0)
    before = jnp.concatenate([good[:3], jnp.array([[root, 0.0]])])
    mixed = fixed_points(map_, jnp.concatenate([before, bad, good[3:]]))
    alone = fixed_points(map_, jnp.concatenate([before, tame, good[3:]]))
    assert mixed.status.tolist() == [0, 0, 0, 0, -3, -3, -3, -1, 0, 0, 0]
    assert int(mixed.steps[3]) == 0
    rows = np.array([0, 1, 2, 3, 8, 9, 10])
    for field in dataclasses.fields(mixed)[:-1]:  # the last is the map
        left, right = (np.asarray(getattr(f, field.name))[rows] for f in (mixed, alone))
        assert left.tobytes() == right.tobytes(), field.name
    spent = fixed_points(map_, jnp.concatenate([before, tame, good[3:]]), max_steps=0)
    assert spent.status.tolist() == [-2] * 3 + [0] + [-2] * 7


def test_the_residual_is_that_of_the_returned_point():
    map_ = tanh_net([[1.9, -0.6], [0.8, 1.4]], [0.1, -0.2])
    for options in ({}, {"max_steps": 3}, {"tol": 0.1}):
        found = fixed_points(map_, cube(STARTS, 2), **options)
        z = np.asarray(found.z)
        gap = np.tanh(z @ np.array([[1.9, 0.8], [-0.6, 1.4]]) + np.array([0.1, -0.2])) - z
        assert np.allclose(found.residual, np.abs(gap).max(1), rtol=1e-9, atol=tol("root"))
        assert np.allclose(found.speed, np.sum(gap**2, axis=1) / 2, rtol=1e-9, atol=tol("root"))
        solved = np.asarray(found.residual) <= options.get("tol", 1000 * np.finfo(float).eps)
        assert np.array_equal(np.asarray(found.status) == 0, solved)


def test_damping_brings_distant_and_flat_starts_home():
    """From tanh's plateau a plain Gauss-Newton step flies off: at z = 4 the slope is 1e-4."""
    starts = jnp.linspace(-6.0, 6.0, STARTS)[:, None]
    found = fixed_points(rd.Map(steep, jnp.asarray(1.0)), starts)
    assert set(found.status.tolist()) == {0}
    assert np.allclose(found.z, 0, atol=tol("root"))
    assert int(jnp.max(found.steps)) < 60


def steep(z, gain):
    """The fixed point is the zero of tanh, whose Newton steps diverge beyond |z| = 1.09."""
    return z + jnp.tanh(gain * z)


def test_more_starts_than_lanes_equal_singles():
    n = 2 * LANES + 3
    map_ = tanh_net([[1.9, -0.6], [0.8, 1.4]], [0.1, -0.2])
    start = cube(n, 2)
    batch = fixed_points(map_, start)
    single = jax.lax.map(lambda z: jax.tree.map(lambda x: x[0], fixed_points(map_, z[None])), start)
    assert np.array_equal(batch.status, single.status)
    solved = np.asarray(batch.status) == 0
    assert solved.sum() > n / 2
    assert np.allclose(batch.z[solved], single.z[solved], rtol=0, atol=tol("root"))


def test_one_input_for_each_start():
    cell = rd.cells.Vanilla(2, 3)
    params = cell.init(jax.random.key(0))
    x, start = cube(5, 2, seed=3), cube(5, 3, seed=4)

    def search(x, z):
        return fixed_points(rd.hold(cell, params, x), z[None])

    found = jax.vmap(search)(x, start)
    assert found.z.shape == (5, 1, 3)
    z = np.asarray(found.z[:, 0])
    drive = np.asarray(x) @ np.asarray(params.w_x).T + np.asarray(params.b)
    gap = np.tanh(z @ np.asarray(params.w_h).T + drive) - z
    assert np.allclose(found.residual[:, 0], np.abs(gap).max(1), rtol=1e-9, atol=tol("root"))
    assert int(jnp.sum(found.status == 0)) >= 2


def test_gradient_through_a_root_equals_differences():
    start = cube(3, 4, seed=1)

    @jax.jit
    @jax.value_and_grad
    def slopes(w):
        map_ = rd.maps.tanh_network(w, 0.3)
        z = fixed_points(map_, start).z
        modes = stability(map_, z, resolvent=False)
        return jnp.sum(z**2) + jnp.sum(modes.spectral_radius) + jnp.sum(modes.henrici)

    w = jax.random.normal(jax.random.key(3), (4, 4))
    direction = jax.random.normal(jax.random.key(9), (4, 4))
    ahead, behind = slopes(w + 1e-5 * direction)[0], slopes(w - 1e-5 * direction)[0]
    slope = jnp.vdot(slopes(w)[1], direction)
    assert abs(slope - (ahead - behind) / 2e-5) < tol("root_slope") * abs(slope)


def test_second_derivatives_through_a_root():
    """z = 1 - 1/r of the logistic map: dz/dr = 1/r^2, d^2z/dr^2 = -2/r^3, both ways round."""

    def root(r):
        return fixed_points(rd.Map(quadratic, r), jnp.array([[0.55], [0.0]])).z[0, 0]

    r = jnp.asarray(2.3)
    for first in (jax.grad(root), jax.jacfwd(root)):
        assert abs(first(r) - r**-2) < tol("root")
    assert abs(jax.jit(jax.jacfwd(jax.grad(root)))(r) + 2 * r**-3) < tol("root")


def quadratic(z, r):
    return r * z * (1 - z)


@pytest.mark.precision
def test_dtype_is_kept():
    for dtype in {jnp.float32, jnp.zeros(()).dtype.type}:
        found = fixed_points(bistable(2.0, -0.3, 0.8, dtype), jnp.array([[0.9], [0.2]], dtype))
        for field in dataclasses.fields(found)[:-1]:  # the last is the map
            leaf = getattr(found, field.name)
            assert leaf.dtype in (dtype, jnp.int32), field.name
        assert found.status.tolist() == [0, 0]
        assert float(jnp.max(found.residual)) < tol("root", dtype)


def test_traces_once_and_not_again_for_new_values():
    count = []

    def counted(z, w):
        count.append(1)
        return jnp.tanh(w @ z)

    start = cube(7, 3)
    fixed_points(rd.Map(counted, jnp.eye(3) * 1.5), start)
    assert len(count) <= 4
    count.clear()
    fixed_points(rd.Map(counted, jnp.eye(3) * 1.2), start + 0.1, tol=1e-9, max_steps=7)
    assert len(count) == 0


def test_all_rounds_are_one_compiled_search_and_one_compiled_certificate():
    def rootless(z, w):
        return z + jnp.square(w @ z) + 1.0

    stages = sys.modules["rnndyn.points.fixed_points"]._round, certify
    before = [stage._cache_size() for stage in stages]
    found = fixed_points(rd.Map(rootless, jnp.eye(3) + 0.5), cube(7, 3))
    assert Kind.ROOT not in found.kind.tolist() and np.all(found.steps > 0)
    assert [stage._cache_size() - b for stage, b in zip(stages, before, strict=True)] == [1, 1]


def test_chunks_give_the_same_rows_and_are_one_program(capsys):
    stage = sys.modules["rnndyn.points.fixed_points"]._round
    map_, before = bistable(2.0, -0.3, 0.8), stage._cache_size()
    start = jnp.linspace(-2.0, 2.0, 10)[:, None]
    whole, few = fixed_points(map_, start), fixed_points(map_, start[:7], chunk=4)
    assert stage._cache_size() - before <= 2
    parts = fixed_points(map_, start, chunk=4)
    assert stage._cache_size() - before <= 2
    for name in ("z", "kind", "status", "index"):
        assert np.array_equal(getattr(parts, name), getattr(whole, name))
        assert np.array_equal(getattr(few, name), getattr(whole, name)[:7])
    assert len(set(parts.z.ravel().tolist())) == 3
    assert fixed_points(map_, start[:0], chunk=4).z.shape == (0, 1)
    assert capsys.readouterr().err == ""
    with pytest.raises(ValueError, match="`chunk`: expected a whole number >= 1, got 0"):
        fixed_points(map_, start, chunk=0)


def test_no_starts():
    found = fixed_points(tanh_net([[1.5]]), jnp.zeros((0, 1)))
    assert found.z.shape == (0, 1) and found.status.shape == (0,)
    assert unique(found).z.shape == (0, 1)


@pytest.mark.parametrize(
    ("starts", "options", "message"),
    [
        (
            np.zeros(1),
            {},
            "`starts`: expected shape (n, d), got (1,); pass one flat vector a row, starts[None] "
            "for a single one.",
        ),
        (
            np.zeros((2, 1), int),
            {},
            "`starts`: expected real floating-point values, got dtype int64; convert it with "
            "jnp.asarray(..., float).",
        ),
        (
            np.zeros((2, 1)),
            {"tol": -1.0},
            "`tol`: expected a number in (0, inf), got -1.0; pass for example 2e-13.",
        ),
        (
            np.zeros((2, 1)),
            {"tol": float("nan")},
            "`tol`: expected a number in (0, inf), got nan; pass for example 2e-13.",
        ),
        (
            np.zeros((2, 1)),
            {"tol": 0.0},
            "`tol`: expected a number in (0, inf), got 0.0; pass for example 2e-13.",
        ),
        (
            np.zeros((2, 1)),
            {"max_steps": -1},
            "`max_steps`: expected a whole number >= 0, got -1; 0 only judges the starts.",
        ),
    ],
)
def test_bad_input(starts, options, message):
    with pytest.raises((ValueError, TypeError)) as caught:
        fixed_points(tanh_net([[1.5]]), starts, **options)
    assert str(caught.value) == message


def test_a_cell_is_no_map():
    with pytest.raises(TypeError, match="^`map_`: expected a Map, got a LSTM; .*hold a cell by"):
        fixed_points(rd.cells.LSTM(1, 2), jnp.zeros((3, 4)))


def test_map_that_changes_the_size():
    with pytest.raises(ValueError, match=r"`F\(z\)`: expected shape \(2,\), got \(1,\); starts"):
        fixed_points(rd.Map(lambda z, _: z[:1]), jnp.zeros((3, 2)))
