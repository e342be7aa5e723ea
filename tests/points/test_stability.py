"""stability: eigenvalues, modes, types and non-normality of linear maps that are known."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg

import rnndyn as rd
from rnndyn.points import PointType, stability
from rnndyn.points.resolvent import distance_to_instability
from tests.tolerances import tol

ROWS = 12


def linear(z, a):
    return a @ z


@jax.jit(static_argnames="resolvent")
def _modes(stacked, resolvent):
    origin = jnp.zeros((1, stacked.shape[1]), stacked.dtype)
    modes = jax.vmap(lambda a: stability(rd.Map(linear, a), origin, resolvent=resolvent))(stacked)
    return jax.tree.map(lambda leaf: leaf[:, 0], modes)


def modes_of(*matrices, resolvent=False):
    """Stability of the origin of up to ROWS linear maps of one size, in one compiled shape."""
    stacked = jnp.asarray(np.stack(matrices), float)
    filled = jnp.concatenate([stacked, jnp.zeros((ROWS - len(stacked), *stacked.shape[1:]))])
    return jax.tree.map(lambda leaf: leaf[: len(stacked)], _modes(filled, resolvent))


@pytest.mark.precision
def test_eigenvalues_and_vectors_against_scipy():
    a = np.random.default_rng(0).normal(size=(5, 5))
    modes = modes_of(a)
    values = scipy.linalg.eigvals(a)
    values = values[np.lexsort((-values.imag, -values.real, -np.abs(values).round(12)))]
    assert np.allclose(modes.eigenvalues[0], values, rtol=0, atol=tol("multiplier"))
    right, left = np.asarray(modes.right[0]), np.asarray(modes.left[0])
    assert np.allclose(a @ right, right * values, rtol=0, atol=tol("multiplier"))
    assert np.allclose(left.conj().T @ a, values[:, None] * left.conj().T, atol=tol("multiplier"))
    assert np.allclose(np.linalg.norm(left, axis=0), 1, atol=tol("multiplier"))
    assert modes.eigenvalues.real.dtype == modes.henrici.dtype


def zoo(d):
    """LAPACK's kinds: zero, identity, Jordan, graded, clustered, skewed, far from 1, normal."""
    rng = np.random.default_rng(d)
    eps = float(jnp.finfo(jnp.zeros(()).dtype).eps)
    dense = rng.normal(size=(d, d))
    graded = np.diag(np.geomspace(1, eps, d)) + 0.1 * eps * dense
    basis = np.vander(np.linspace(0.5, 1, d))
    clustered = basis @ np.diag(1 + np.sqrt(eps) * np.arange(d)) @ np.linalg.inv(basis)
    huge = float(jnp.finfo(jnp.zeros(()).dtype).max) ** 0.5 * 1e3
    return [
        np.zeros((d, d)),
        np.eye(d),
        0.5 * np.eye(d) + np.eye(d, k=1),
        graded,
        clustered,
        np.triu(10 * dense),
        huge * dense,
        dense / huge,
        np.linalg.qr(dense)[0],
    ]


@pytest.mark.precision
@pytest.mark.parametrize("d", [1, 4, 16])
def test_backward_error_of_the_matrix_zoo(d):
    """LAPACK dget22: |A E - E W| / (|A| |E| ulp) at most 20, right and left."""
    matrices = zoo(d)
    modes = modes_of(*matrices)
    eps = float(jnp.finfo(modes.henrici.dtype).eps)
    for k, a in enumerate(matrices):
        a = np.asarray(jnp.asarray(a, float), np.float64)
        size = max(np.abs(a).max(), np.finfo(float).tiny)
        a, w = a / size, np.asarray(modes.eigenvalues[k], complex) / size
        scale = 20 * d * eps * max(np.linalg.norm(a), np.finfo(float).tiny)
        for e, b, v in ((modes.right[k], a, w), (modes.left[k], a.T, w.conj())):
            e = np.asarray(e, complex)
            assert np.linalg.norm(b @ e - e * v) <= scale * np.linalg.norm(e), k
        departure = np.sqrt(max(0.0, np.linalg.norm(a) ** 2 - np.sum(np.abs(w) ** 2)))
        assert abs(float(modes.henrici[k]) / size - departure) <= 20 * d * np.sqrt(eps), k
    assert modes.status.tolist() == [0] * len(matrices)


@pytest.mark.precision
def test_types_are_decided_by_moduli():
    turn = 0.5 * np.array([[0.8, -0.6], [0.6, 0.8]])
    modes = modes_of(
        np.diag([0.5, -0.9]),
        turn,
        np.diag([1.5, -0.2]),
        np.diag([0.3, -1.5]),
        np.diag([-3.0, 2.0]),
        4 * turn,
        np.array([[0.6, -0.8], [0.8, 0.6]]),
        np.diag([-1.0, 0.1]),
    )
    assert modes.type.tolist() == [
        PointType.STABLE_NODE,
        PointType.STABLE_FOCUS,
        PointType.SADDLE,
        PointType.FLIP_SADDLE,
        PointType.UNSTABLE_NODE,
        PointType.UNSTABLE_FOCUS,
        PointType.NONHYPERBOLIC,
        PointType.NONHYPERBOLIC,
    ]
    assert modes.unstable_dim.tolist() == [0, 0, 1, 1, 2, 2, 0, 0]
    assert modes.center_dim.tolist() == [0, 0, 0, 0, 0, 0, 2, 1]
    assert modes.stable_dim.tolist() == [2, 2, 1, 1, 0, 0, 0, 1]
    assert modes.stable.tolist() == [True, True] + [False] * 6
    angle = np.arctan2(0.6, 0.8)
    assert np.allclose(modes.rotation[1], [angle, -angle], rtol=0, atol=tol("multiplier"))
    expected = [-1 / np.log(0.9), -1 / np.log(0.5)]
    assert np.allclose(modes.time_constants[0], expected, rtol=tol("multiplier"))


def test_distance_to_instability_of_a_stable_non_normal_matrix():
    """Min over angles of the least singular value; own value by a fine scan."""
    modes = modes_of([[0.5, 10.0], [0.0, 0.5]], np.diag([0.5, 0.25]), resolvent=True)
    distance = modes.distance_to_instability
    assert np.allclose(distance, [0.024937810560478, 0.5], rtol=tol("resolvent"))
    assert np.allclose(modes.henrici, [10, 0], atol=tol("multiplier"))


def turned(radius, angle):
    return radius * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


def test_distance_to_instability_is_the_global_minimum():
    """A dip of width 1e-6 between wide ones; a random J with several; known values."""
    narrow = np.zeros((4, 4))
    narrow[:2, :2], narrow[2:, 2:] = turned(0.99, 10 * np.pi / 32), turned(1 - 1e-6, 2.0126)
    random = np.random.default_rng(8).normal(size=(4, 4)) / 2
    orthogonal = turned(1.0, 0.7)[[1, 0]] @ np.diag([0.3, 0.3])
    cyclic = 0.9 * np.roll(np.eye(4), 1, axis=0)  # the same value at four angles
    distance = jax.vmap(distance_to_instability)(jnp.stack([narrow, random, cyclic]))
    scan = min(
        np.linalg.svd(np.exp(1j * t) * np.eye(4) - random, compute_uv=False)[-1]
        for t in np.linspace(0, np.pi, 20001)
    )
    assert scan * (1 - 1e-6) < distance[1] <= scan
    assert np.allclose(distance[::2], [1e-6, 0.1], rtol=tol("multiplier"))
    known = [distance_to_instability(jnp.asarray(a)) for a in (np.zeros((2, 2)), orthogonal)]
    assert np.allclose(known, [1.0, 0.7], rtol=tol("multiplier"))
    assert distance_to_instability(jnp.eye(2)) == 0


def test_resolvent_quantities_against_a_brute_scan():
    """scipy.linalg.svdvals on a grid of the whole plane outside the unit circle."""
    a = np.array([[0.4, 2.0, 0.3], [-0.1, 0.5, 3.0], [0.05, 0.0, 0.2]])
    modes = modes_of(a, 2 * np.eye(3), resolvent=True)
    angles = np.linspace(-np.pi, np.pi, 721)
    circle = [np.linalg.svd(np.exp(1j * t) * np.eye(3) - a)[1][-1] for t in angles]
    assert np.isclose(modes.distance_to_instability[0], min(circle), rtol=1e-4)
    heights = np.exp(np.linspace(-8, 3, 111))
    w = (1 + heights[None, :]) * np.exp(1j * angles[::4, None])
    smallest = np.linalg.svd(w[..., None, None] * np.eye(3) - a, compute_uv=False)[..., -1]
    scanned = np.max(heights[None, :] / smallest)
    kreiss = float(modes.kreiss[0])
    assert scanned * (1 - 1e-9) <= kreiss <= 1.001 * scanned
    powers = [np.linalg.norm(np.linalg.matrix_power(a, n), 2) for n in range(200)]
    assert kreiss <= max(powers) <= np.e * 3 * kreiss
    assert float(modes.kreiss[1]) == np.inf


def test_kreiss_constant_of_a_jordan_block():
    """sup of (r - 1) times the norm of the resolvent of [[1/2, 10], [0, 1/2]] on w = r > 1."""
    modes = modes_of([[0.5, 10.0], [0.0, 0.5]], np.diag([0.5, 0.25]), resolvent=True)
    r = 1 + np.exp(np.linspace(-5, 2, 20001))
    x = 1 / (r - 0.5)
    norm = x * (10 * x + np.sqrt((10 * x) ** 2 + 4)) / 2
    assert np.isclose(modes.kreiss[0], np.max((r - 1) * norm), rtol=1e-6)
    assert np.isclose(modes.kreiss[1], 1.0, rtol=tol("resolvent"))


def test_orthogonal_matrices_amplify_nothing_whatever_rounding_says_of_their_moduli():
    """|lambda| = 1 + 2e-16 is no instability; a Jordan block on the circle does grow for ever."""
    angles = np.linspace(0.1, 3.0, ROWS - 2)
    turns = [[[np.cos(x), -np.sin(x)], [np.sin(x), np.cos(x)]] for x in angles]
    modes = modes_of(*turns, np.eye(2), [[1.0, 1.0], [0.0, 1.0]], resolvent=True)
    assert np.max(modes.spectral_radius) > 1 and not np.any(modes.unstable_dim)
    assert np.allclose(modes.kreiss[:-1], 1.0, rtol=tol("resolvent")) and modes.kreiss[-1] > 1e5
    assert np.all(np.asarray(modes.time_constants)[-2:] == np.inf)


def halved(z, _):
    return 0.5 * z


def test_an_lstm_at_rest_in_the_parts_of_its_state():
    """Gates 1/2, own derivation: c' = c/2 + W h/2 and h' = c'/2, so that with W r = w r the
    spectrum is n zeros and 1/2 + w/4, right vectors are (r/2, r) and left ones (W^T l, l)."""
    n, rng = 3, np.random.default_rng(4)
    cell = rd.cells.LSTM(1, n, forget_bias=0.0)
    weights = 2.5 * rng.normal(size=(2, n, n))

    def at_rest(w):
        params = jax.tree.map(jnp.zeros_like, cell.init(jax.random.key(0)))
        w_h = params.w_h.at[2 * n : 3 * n].set(w)
        return rd.hold(cell, dataclasses.replace(params, w_h=w_h), jnp.zeros(1))

    modes = jax.vmap(lambda w: stability(at_rest(w), jnp.zeros((1, 2 * n))))(jnp.asarray(weights))
    for i, w in enumerate(weights):
        inner, right = np.linalg.eig(w)
        values = np.asarray(modes.eigenvalues[i, 0])
        for k, value in enumerate(0.5 + inner / 4):
            row = np.argmin(np.abs(values - value))
            assert abs(values[row] - value) < tol("multiplier")
            state = at_rest(w).unflatten(modes.right[i, 0, :, row])
            assert np.allclose(state.h, state.c / 2, rtol=0, atol=64 * tol("multiplier"))
            overlap = np.vdot(right[:, k], state.c) / np.linalg.norm(state.c)
            assert abs(abs(overlap) - 1) < 64 * tol("multiplier")
            left = at_rest(w).unflatten(modes.left[i, 0, :, row])
            expected = w.T @ np.asarray(left.c)
            assert np.allclose(left.h, expected, rtol=0, atol=64 * tol("multiplier"))
        assert np.sum(np.abs(values) < tol("multiplier")) == n
        outside = np.sum(np.abs(0.5 + inner / 4) > 1)
        assert int(modes.unstable_dim[i, 0]) == outside
    assert set(modes.unstable_dim.ravel().tolist()) != {0}


def test_large_points_leave_the_resolvent_out_unless_asked():
    modes = stability(rd.Map(halved), jnp.zeros((1, 33)))
    assert np.isnan(modes.kreiss[0]) and np.isnan(modes.distance_to_instability[0])


def test_random_gru_origin_edge():
    """Own mean-field derivation: at g = 2 the disc z + (1 - z) g/2 touches 1 for any gate z."""
    n = 400
    g = np.random.default_rng(0).normal(size=(n, n)) / np.sqrt(n)
    map_ = rd.Map(linear, jnp.asarray(0.5 * np.eye(n) + 0.5 * g))
    edge = stability(map_, jnp.zeros((1, n)), resolvent=False).spectral_radius[0]
    assert abs(edge - 1) < 0.05


def explosive(z, _):
    return jnp.where(z > 8, jnp.exp(z**4), 0.5 * z)


def test_rows_that_are_not_finite_are_named_and_harm_no_other():
    """NaN and infinity where the Jacobian alone is finite, and a Jacobian that overflows."""
    rows = np.array([[0.1, 0.2], [np.nan, 0.2], [-np.inf, 0.2], [9.0, 0.2], [0.3, 0.4]])
    modes = stability(rd.Map(explosive), jnp.asarray(rows))
    assert modes.status.tolist() == [0, -3, -3, -3, 0]
    assert modes.stable.tolist() == [True, False, False, False, True]
    assert modes.unstable_dim.tolist() == modes.center_dim.tolist() == [0] * 5
    assert modes.stable_dim.tolist() == [2, 0, 0, 0, 2]
    assert modes.type.tolist() == [1, 0, 0, 0, 1]
    rows[1:4] = 0.5
    alone = stability(rd.Map(explosive), jnp.asarray(rows))
    for field in dataclasses.fields(modes):
        left, right = (np.asarray(getattr(m, field.name)) for m in (modes, alone))
        assert left[[0, 4]].tobytes() == right[[0, 4]].tobytes(), field.name
        if np.issubdtype(left.dtype, np.inexact):
            assert np.all(np.isnan(left[1:4])), field.name


def test_no_points():
    modes = stability(rd.Map(explosive), jnp.zeros((0, 2)))
    assert modes.eigenvalues.shape == (0, 2) and modes.status.shape == (0,)


def test_bad_input():
    with pytest.raises(ValueError) as caught:
        stability(rd.maps.logistic(2.0), jnp.zeros(1))
    assert str(caught.value) == (
        "`z`: expected shape (m, d), got (1,); pass one point a row, z[None] for a single one."
    )


@pytest.mark.parametrize(
    "call",
    [
        stability,
        lambda map_, z: rd.cycle_stability(map_, z[:, None]),
        lambda map_, z: rd.cycles(map_, z, period=2),
        rd.certificate,
    ],
    ids=["stability", "cycle_stability", "cycles", "certificate"],
)
def test_states_of_another_map_and_what_is_no_map(call):
    with pytest.raises(ValueError, match=r"^`F\(z\)`: expected shape \(3,\), got \(2,\); .*flat"):
        call(rd.maps.henon(), jnp.zeros((1, 3)))
    with pytest.raises(TypeError, match="^`map_`: expected a Map, got a Vanilla.*hold a cell by"):
        call(rd.cells.Vanilla(2, 3), jnp.zeros((1, 3)))


def test_the_input_jacobian_is_of_a_held_cell_at_its_states():
    cell = rd.cells.Vanilla(2, 3)
    quiet = rd.hold(cell, cell.init(jax.random.key(0)), jnp.zeros(2))
    with pytest.raises(TypeError, match="^`map_`: expected a Map, got a Vanilla"):
        rd.input_jacobian(cell, jnp.zeros((1, 3)))
    with pytest.raises(TypeError, match="^`z`: expected real floating-point values, got dtype int"):
        rd.input_jacobian(quiet, jnp.zeros((1, 3), int))
    with pytest.raises(ValueError, match="^`map_`: expected a map made by rd.hold, got"):
        rd.input_jacobian(rd.Map(linear, jnp.eye(3)), jnp.zeros((1, 3)))
