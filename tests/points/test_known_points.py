"""fixed_points with unique and stability on maps whose points and multipliers are known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
import scipy.optimize

import rnndyn as rd
from rnndyn.points import Kind, PointType, fixed_points
from tests.points.searches import (
    STARTS,
    bistable,
    cube,
    gru_net,
    histogram,
    modes,
    relu_net,
    roots,
    tanh_net,
)
from tests.tolerances import tol

OBLIQUE = np.linalg.qr(np.random.default_rng(5).normal(size=(3, 3)))[0] @ np.array(
    [[1, 0.4, 0], [0, 1, -0.3], [0, 0, 0.8]]
)


def close(got, expected, name="root"):
    return np.allclose(got, expected, rtol=0, atol=tol(name))


@pytest.mark.precision
@pytest.mark.parametrize(
    ("w", "h", "multiplier"),
    [
        (1.1, 0.50294057494464182, 0.8217558558817885),
        (1.5, 0.85855963664011036, 0.3943130254986025),
        (2.0, 0.95750402407726874, 0.16637208775167433),
        (3.0, 0.99490152845262894, 0.030512846047868312),
    ],
)
def test_scalar_tanh_pitchfork(w, h, multiplier):
    """h = tanh(w h): own derivation, mpmath values."""
    map_ = tanh_net([[w]])
    points = roots(map_, 1)
    assert close(points.z[:, 0], [-h, 0, h])
    found = modes(map_, points.z)
    assert close(found.eigenvalues[:, 0], [multiplier, w, multiplier], "multiplier")
    assert points.index.tolist() == [1, -1, 1]


@pytest.mark.parametrize("side", [-1, 1])
def test_counts_on_both_sides_of_a_fold(side):
    """b_fold(2) = 2 s - artanh s, s = sqrt(1/2) (own derivation)."""
    points = roots(tanh_net([[2.0]], 0.53283997535355202 + side * 1e-3), 1)
    assert len(points.z) == (3 if side < 0 else 1)
    assert int(points.index_sum) == 1


def test_flip_and_two_cycle_through_the_second_iterate():
    """h' = tanh(-2 h): the 2-cycle has the amplitude of h = tanh(2 h) (own derivation)."""
    map_ = tanh_net([[-2.0]])
    assert close(roots(map_, 1).z, 0)
    h = 0.95750402407726874
    assert close(roots(rd.iterate(map_, 2), 1).z[:, 0], [-h, 0, h])


@pytest.mark.precision
def test_henon_points():
    """Henon 1976: a x^2 + (1 - b) x = 1, y = b x; multipliers -a x +- sqrt(a^2 x^2 + b)."""
    a, b = 1.4, 0.3
    x = np.array([-1, 1]) * np.sqrt((1 - b) ** 2 + 4 * a) / (2 * a) - (1 - b) / (2 * a)
    map_ = rd.maps.henon(a, b)
    points = roots(map_, 2, size=2.0)
    assert close(points.z, np.stack([x, b * x], axis=1))
    assert points.index.tolist() == [-1, 1]
    root = np.sqrt((a * x) ** 2 + b)
    expected = np.stack([-a * x + np.sign(-x) * root, -a * x - np.sign(-x) * root], axis=1)
    found = modes(map_, points.z)
    assert close(found.eigenvalues, expected, "multiplier")
    assert found.type.tolist() == [PointType.SADDLE, PointType.FLIP_SADDLE]


def test_two_unit_memory():
    """W = 2 I: 9 points, 4 stable, 4 saddles, 1 repeller."""
    map_ = tanh_net(2 * np.eye(2))
    assert histogram(map_, roots(map_, 2)) == [4, 4, 1]


def test_hopfield_retrieval_and_symmetric_mixtures():
    """Amit, Gutfreund & Sompolinsky 1985: Hadamard patterns, W = (g/N) sum xi xi^T."""
    patterns = scipy.linalg.hadamard(8)[:, [1, 2, 4]].T.astype(float)
    g, m, mixed = 1.5, 0.85855963664011036, 0.349703968835
    map_ = tanh_net(g / 8 * patterns.T @ patterns)
    h = np.tanh(g * mixed * patterns.sum(0))
    wanted = np.stack([m * patterns[0], -m * patterns[1], h])
    noise = 0.02 * np.random.default_rng(0).normal(size=(64, 8))
    found = fixed_points(map_, jnp.asarray(wanted[np.arange(64) % 3] + noise))
    assert np.all(found.kind == Kind.ROOT)
    assert close(found.z[:3], wanted, "root_digits")
    values = modes(map_, found.z[:3]).eigenvalues
    assert close(values[0, :3], [0.39431302549860] * 3, "root_digits")
    q3, q1 = 1 - np.tanh(3 * g * mixed) ** 2, 1 - np.tanh(g * mixed) ** 2
    q, r = (q3 + 3 * q1) / 4, (q3 - q1) / 4
    expected = sorted([g * (q - r)] * 2 + [g * (q + 2 * r)], reverse=True)
    assert close(values[2, :3], expected, "root_digits")


def test_symmetric_mixtures_become_stable_at_a_larger_gain():
    """At g = 2.17488587996623, T = 0.4598 (Amit, Gutfreund & Sompolinsky 1985: 0.461)."""
    patterns = scipy.linalg.hadamard(8)[:, [1, 2, 4]].T.astype(float)
    for g, m, stable in ((2.0, 0.417463336743, False), (3.0, 0.472104983570, True)):
        map_ = tanh_net(g / 8 * patterns.T @ patterns)
        wanted = np.tanh(g * m * patterns.sum(0))
        noise = 0.001 * np.random.default_rng(0).normal(size=(64, 8))
        found = fixed_points(map_, jnp.asarray(wanted + noise))
        assert close(found.z[0], wanted, "root_digits")
        assert bool(modes(map_, found.z[:3]).stable[0]) == stable
    g = 2.17488587996623

    def excess(m):
        return (np.tanh(3 * g * m) + np.tanh(g * m)) / 4 - m

    m = scipy.optimize.brentq(excess, 0.3, 0.6, xtol=1e-15)
    point = jnp.asarray(np.tanh(g * m * patterns.sum(0)))
    found = modes(tanh_net(g / 8 * patterns.T @ patterns), point[None])
    assert close(found.spectral_radius[0], 1, "root_digits")


def rotated_memory(z, args):
    w, basis = args
    return basis @ jnp.tanh(w @ jnp.linalg.solve(basis, z))


def test_three_bit_memory_in_oblique_coordinates():
    """Sussillo & Barak 2013: 27 points with 0, 1, 2, 3 unstable modes 8, 12, 6, 1 times."""
    weights = jnp.diag(jnp.array([2.0, 1.5, 3.0]))
    map_ = rd.Map(rotated_memory, (weights, jnp.asarray(OBLIQUE, float)))
    points = roots(map_, 3, n=2 * STARTS)  # the repeller attracts 1 start in 200
    assert len(points.z) == 27
    assert histogram(map_, points) == [8, 12, 6, 1]
    assert int(points.index_sum) == 1
    assert float(jnp.max(points.residual)) < tol("root")


def test_three_points_although_the_spectral_radius_of_w_is_zero():
    """Yildiz, Jaeger & Kiebel 2012: nilpotent W with input, own numbers."""
    map_ = tanh_net([[2.0, -2.0], [2.0, -2.0]], [-2.0, -10.0])
    points = roots(map_, 2)
    expected = [
        [-0.957504025052, -0.999999995114],
        [4.50141e-7, -0.999999774929],
        [0.957501955032, -0.999989633091],
    ]
    assert close(points.z, expected, "root_digits")
    found = modes(map_, points.z)
    assert close(found.spectral_radius, [0.1663720645, 1.9999990997, 0.1663385448], "printed_10")
    assert found.stable.tolist() == [True, False, True]


@pytest.mark.parametrize(("n", "counts"), [(2, [2, 1]), (3, [0, 2, 1]), (4, [2, 2, 4, 1])])
def test_row_vector_nets_of_fixed_point_finder(n, counts):
    """mattgolub/fixed-point-finder, test/ground-truth: h' = tanh(h W), W[i] = -roll(...)."""
    row = np.linspace(-1, 1, n)
    map_ = tanh_net(np.stack([-np.roll(row, -i) for i in range(n)]).T)
    points = roots(map_, n)
    assert histogram(map_, points) == counts
    found = modes(map_, points.z)
    if n == 3:
        pair = [0.949795711387, -0.425502295113, -0.879894003155]
        assert close(points.z[::2], np.outer([-1, 1], pair), "root_digits")
    if n == 4:
        # Every Re lambda is below 1 here, yet the map leaves this pair along an alternating mode.
        pair = [0.962891906718, 0.525235230965, -0.962891906718, -0.525235230965]
        saddles = np.asarray(found.unstable_dim) == 1
        assert set(np.asarray(found.type)[saddles].tolist()) == {PointType.FLIP_SADDLE}
        assert close(np.asarray(points.z)[saddles], np.outer([-1, 1], pair), "root_digits")
        assert close(np.asarray(found.eigenvalues)[saddles, 0], -1.04743024067470914, "root_digits")
        h = scipy.optimize.brentq(lambda x: np.tanh(4 * x / 3) - x, 0.1, 1, xtol=1e-15)
        settled = np.outer([-1, 1], h * np.array([1, -1, 1, -1]))
        assert close(np.asarray(points.z)[np.asarray(found.stable)], settled)


def test_indices_of_random_nets_sum_to_one():
    """Brouwer degree of a bounded map, 12 seeds; roots against scipy.optimize.root."""
    for seed in range(12):
        rng = np.random.default_rng(seed)
        w = (2.5 * rng.standard_normal((3, 3))).round(2)
        b = (0.5 * rng.standard_normal(3)).round(2)
        points = roots(tanh_net(w, b), 3)
        assert int(points.index_sum) == 1, seed
        solved = [
            scipy.optimize.root(lambda z, w=w, b=b: np.tanh(w @ z + b) - z, start, tol=1e-13)
            for start in rng.uniform(-1, 1, (20, 3))
        ]
        solved = [s.x for s in solved if s.success and np.abs(s.fun).max() < 1e-12]
        assert len(solved) >= 5, seed
        gaps = np.linalg.norm(np.asarray(points.z)[None] - np.array(solved)[:, None], axis=2)
        assert np.max(np.min(gaps, axis=1)) < tol("root_digits"), seed


def test_gru_origin_spectrum():
    """Kanai et al. 2017: J(0) = I/2 + U_h/4 whatever the gates' weights."""
    u_z, u_r, u_h = np.random.default_rng(0).normal(size=(3, 4, 4))
    found = modes(gru_net(u_z, u_r, u_h), jnp.zeros((1, 4)))
    expected = 0.5 + np.linalg.eigvals(u_h) / 4
    expected = expected[np.lexsort((-expected.imag, -expected.real, -np.abs(expected)))]
    assert close(found.eigenvalues[0], expected, "multiplier")
    assert bool(found.stable[0]) == bool(np.all(np.abs(np.linalg.eigvals(u_h) + 2) < 4))


def published(u_z, u_r, u_h):
    """The same unit as a cell of the library, at zero input."""
    n = len(u_h)
    cell = rd.cells.GRU(1, n, variant="cho_v3")
    params = cell.init(jax.random.key(0))
    w_h = jnp.concatenate([jnp.asarray(u, float) for u in (u_r, u_z, u_h)])
    zeros = jnp.zeros_like
    params = type(params)(zeros(params.w_x), w_h, zeros(params.b), params.b_hn)
    return rd.hold(cell, params, jnp.zeros(1))


def test_one_unit_gru_counts_around_its_fold():
    """w_r = 1: transcritical at u = 2 and a fold at u = 1.76353 (own derivation, mpmath)."""
    fold, h = 1.76353336157931042, 0.46719218072381618
    for u, count in ((fold - 0.01, 1), (fold + 0.01, 3), (2.1, 3)):
        unit = [[0.7]], [[1.0]], [[u]]
        points = roots(gru_net(*unit), 1)
        assert len(points.z) == count and int(points.index_sum) == 1
        assert close(jax.vmap(published(*unit))(points.z), points.z)
    near = roots(gru_net([[0.7]], [[1.0]], [[fold + 1e-8]]), 1).z[1:, 0]
    assert close(np.mean(near), h, "fold_middle")
    found = modes(gru_net([[0.7]], [[1.0]], [[fold]]), jnp.array([[h]]))
    assert close(found.eigenvalues[0, 0], 1)


def test_one_unit_gru_without_reset_weight():
    """w_r = 0: the reset gate is 1/2, so u = 2.2 has the points of h = tanh(1.1 h)."""
    points = roots(gru_net([[0.7]], [[0.0]], [[2.2]]), 1)
    h = 0.50294057494464182
    assert close(points.z[:, 0], [-h, 0, h])


@pytest.mark.parametrize(("shift", "counts"), [(-1e-3, [4, 4, 1]), (1e-3, [0, 0, 1])])
def test_two_unit_gru_with_four_simultaneous_folds(shift, counts):
    """Jordan, Sokol & Park 2021 (construction), numbers own: U_h = 3 R(alpha)."""
    c, s = np.cos(0.147822070679066 + shift), np.sin(0.147822070679066 + shift)
    unit = np.zeros((2, 2)), np.zeros((2, 2)), 3 * np.array([[c, -s], [s, c]])
    map_ = gru_net(*unit)
    points = roots(map_, 2)
    assert histogram(map_, points) == counts
    assert int(points.index_sum) == 1
    assert close(jax.vmap(published(*unit))(points.z), points.z)


def lstm_unit(z, args):
    w, b_f = args
    h, c = z
    c = jax.nn.sigmoid(b_f) * c + 0.5 * jnp.tanh(w * h)
    return jnp.stack([0.5 * jnp.tanh(c), c])


def test_one_unit_lstm_in_both_coordinates():
    """Gates constant, forget bias 1, w = 3 (own derivation): the state is (h, c)."""
    map_ = rd.Map(lstm_unit, (jnp.asarray(3.0), jnp.asarray(1.0)))
    points = roots(map_, 2, size=2.0)
    state = np.array([0.4639217562157517, 1.6426600535791398])
    assert close(points.z, np.outer([-1, 0, 1], state))
    found = modes(map_, points.z)
    assert close(found.eigenvalues[2], [0.75394062, 0], "printed_8")
    assert points.index.tolist() == [1, -1, 1]


def test_bistable_recurrent_cell():
    """Vecoven et al. 2020: constant a = 1.5 for every c, and a case with all three weights."""
    h, w_c = 0.85855963664011036, 0.8
    map_ = bistable(0.0, np.arctanh(0.5), w_c)
    points = roots(map_, 1)
    assert close(points.z[:, 0], [-h, 0, h])
    c = 1 / (1 + np.exp(-w_c * h * np.array([-1, 0, 1])))
    expected = c + (1 - c) * 1.5 * (1 - np.array([h, 0, h]) ** 2)
    assert close(modes(map_, points.z).eigenvalues[:, 0], expected, "multiplier")
    expected = [0, 0.15401052429229892, 0.9492227876399901]
    assert close(roots(bistable(2.0, -0.3, w_c), 1).z[:, 0], expected)


def ctrnn(y, args):
    w, drive, dt = args
    return y + dt * (-y + w * jax.nn.sigmoid(y) + drive)


@pytest.mark.parametrize(
    ("w", "low", "high"),
    [
        (5.0, -2.655610338630688, -2.344389661369312),
        (6.0, -3.41509291064406, -2.58490708935594),
        (10.0, -6.80954627731186, -3.19045372268814),
    ],
)
def test_ctrnn_fold_counts(w, low, high):
    """Beer 1995: saturation folds of one self-excited node."""
    counts = []
    for drive in (low - 1e-3, low + 1e-3, high - 1e-3, high + 1e-3):
        map_ = rd.Map(ctrnn, (jnp.asarray(w), jnp.asarray(drive), jnp.asarray(0.1)))
        counts.append(len(roots(map_, 1, size=12.0).z))
    assert counts == [1, 3, 3, 1]


def test_euler_steps_of_a_ctrnn_flip_where_its_flow_does_not():
    """At the centre the multiplier is 1 + dt (w / 4 - 1): -1 at w = 4 (dt - 2) / dt = -76."""
    for w, flips in ((-75.0, False), (-77.0, True)):
        map_ = rd.Map(ctrnn, (jnp.asarray(w), jnp.asarray(-w / 2), jnp.asarray(0.1)))
        points = roots(map_, 1, size=12.0)
        assert close(points.z, [[0.0]])
        assert close(modes(map_, points.z).eigenvalues, [[1 + 0.1 * (w / 4 - 1)]], "multiplier")
        assert modes(map_, points.z).unstable_dim.tolist() == [int(flips)]


@pytest.mark.precision
def test_winner_take_all():
    """ReLU competition: two winners and the saddle between them (own derivation)."""
    w = jnp.array([[0.5, -1.0], [-1.0, 0.5]])
    map_ = rd.Map(relu_net, (w, jnp.ones(2)))
    points = roots(map_, 2, size=3.0)
    assert close(points.z, [[0, 2], [2 / 3, 2 / 3], [2, 0]])
    found = modes(map_, points.z)
    assert close(found.eigenvalues[1], [1.5, -0.5], "multiplier")
    assert found.unstable_dim.tolist() == [0, 1, 0]


def test_border_collision_normal_form():
    """Nusse & Yorke 1992: x = mu / (1 - tau + delta) on the side where it is admissible."""
    sides = (1.7, 0.3), (-1.7, 0.3)
    points = roots(rd.maps.border_collision(*sides, 1.0), 2, size=4.0)
    x = np.array([1 / (1 - 1.7 + 0.3), 1 / (1 + 1.7 + 0.3)])
    assert close(points.z, np.stack([x, -0.3 * x], axis=1))
    none = roots(rd.maps.border_collision(*sides, -1.0), 2, size=4.0)
    assert len(none.z) == 0


def circle_map(z, args):
    omega, k = args
    return z + omega - k / (2 * jnp.pi) * jnp.sin(2 * jnp.pi * z)


def test_circle_map_fold():
    """Arnold's circle map has fixed points while Omega < K / 2 pi."""
    edge = 0.9 / (2 * np.pi)
    counts = []
    for omega in (edge - 1e-4, edge + 1e-4):
        found = roots(rd.Map(circle_map, (jnp.asarray(omega), jnp.asarray(0.9))), 1, size=0.5)
        counts.append(int(np.sum(np.abs(found.z[:, 0]) < 0.5)))
    assert counts == [2, 0]


def test_every_start_is_accounted_for():
    """The hits of all roots are the starts of status 0: none twice, none dropped."""
    map_ = tanh_net([[2.0, -0.3], [0.4, 1.8]])
    found = fixed_points(map_, cube(STARTS, 2))
    solved = int(np.sum(np.asarray(found.kind) == Kind.ROOT))
    assert int(jnp.sum(roots(map_, 2).hits)) == solved > STARTS // 2
