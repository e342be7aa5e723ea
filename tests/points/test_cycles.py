"""cycles and their multipliers: known cycles, phases, conditioning, derivatives, bad input."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rnndyn as rd
from rnndyn.points import Kind, cycle_stability, cycles, fixed_points, unique
from rnndyn.points.multipliers import product_eigenvalues
from tests.points.searches import STARTS, cube, tanh_net
from tests.tolerances import tol


def line(n=STARTS, low=0.0, high=1.0):
    return jnp.linspace(low, high, n)[:, None]


@pytest.mark.precision
def test_two_cycle_beyond_the_flip():
    """h' = tanh(-2 h): the amplitude is that of h = tanh(2 h), the multiplier its square."""
    h, slope = 0.95750402407726874, 2 * (1 - 0.95750402407726874**2)
    found = cycles(tanh_net([[-2.0]]), line(64, -1.0), period=2)
    assert np.allclose(found.points[:, :, 0], [[-h, h]], rtol=0, atol=tol("root"))
    assert np.allclose(found.multipliers, [[slope**2]], rtol=0, atol=tol("multiplier"))
    assert found.stable.tolist() == [True] and found.index.tolist() == [1]
    assert set(found.minimal_period.tolist()) == {1, 2}
    assert int(found.hits[0]) == int(np.sum(found.minimal_period == 2)) > 20
    assert len(cycles(tanh_net([[-0.9]]), line(64, -1.0), period=2).points) == 0


@pytest.mark.parametrize("period", range(1, 9))
def test_henon_primitive_cycles(period):
    """Biham & Wenzel 1989: 2, 1, 0, 1, 0, 2, 4, 7 at a = 1.4, b = 0.3; all are saddles."""
    map_ = rd.maps.henon()
    starts = cube(2048, 2, 1.3) * jnp.array([[1.0, 0.3]])
    found = cycles(map_, starts, period=period)
    assert len(found.points) == [2, 1, 0, 1, 0, 2, 4, 7][period - 1]
    assert set(found.unstable_dim.tolist()) <= {1}
    product = np.prod(np.asarray(found.multipliers), axis=1)
    assert np.allclose(product, (-0.3) ** period, rtol=tol("multiplier"), atol=0)
    images = jax.vmap(jax.vmap(map_))(found.points)
    gap = np.abs(images - jnp.roll(found.points, -1, axis=1))
    assert np.max(gap, initial=0) <= tol("root")


def test_logistic_cycles_in_closed_form():
    """r = 4: x = sin^2(theta), theta doubles; cycles of period 3 and multipliers -+2^3."""
    found = cycles(rd.maps.logistic(4.0), line(), period=3)
    angles = np.pi * np.array([[1, 2, 4], [1, 2, 4]]) / np.array([[9], [7]])
    expected = np.sin(angles) ** 2
    assert np.allclose(found.points[:, :, 0], expected, rtol=0, atol=tol("root"))
    assert np.allclose(found.multipliers[:, 0], [-8, 8], rtol=0, atol=tol("multiplier"))
    assert found.index.tolist() == [1, -1]
    none = cycles(rd.maps.logistic(3.8), line(), period=3)  # before the fold at 1 + sqrt 8
    assert len(none.points) == 0 and set(none.minimal_period.tolist()) <= {0, 1}


def test_multiple_shooting_where_the_iterate_is_out_of_reach():
    """A cycle of period 20 with multiplier 2^20: F^20 cannot be evaluated to 2^20 eps."""
    period, map_ = 20, rd.maps.logistic(4.0)
    angles = 0b00110101101001011011 * np.pi / (2**period - 1) * 2.0 ** np.arange(period)
    exact = np.sin(angles) ** 2
    near = jnp.asarray(exact[None, :, None] + 1e-7 * np.cos(np.arange(period))[None, :, None])
    found = cycles(map_, near, period=period)
    assert found.status.tolist() == [0] and found.kind.tolist() == [Kind.ROOT]
    expected = np.roll(exact, -np.argmin(exact))
    assert np.allclose(found.points[0, :, 0], expected, rtol=0, atol=tol("long_multiplier"))
    ratio = float(np.real(found.multipliers[0, 0])) / 2.0**period
    assert abs(ratio - 1) < tol("long_multiplier")
    single = fixed_points(rd.iterate(map_, period), jnp.asarray([[exact[0]]]))
    assert single.status.tolist() != [0] or float(single.residual[0]) > 100 * found.residual[0]


def flat(tree):
    return {f.name: np.asarray(getattr(tree, f.name)) for f in dataclasses.fields(tree)}


def test_order_phase_and_copies_of_starts_do_not_matter():
    map_, starts = rd.maps.henon(), cube(STARTS, 2, 1.0) * jnp.array([[1.0, 0.3]])
    found = flat(cycles(map_, starts, period=4))
    order = np.random.default_rng(0).permutation(STARTS)
    again = flat(cycles(map_, starts[order], period=4))
    for name, values in found.items():
        per_start = name in ("label", "minimal_period", "status", "kind")
        assert np.array_equal(values[order] if per_start else values, again[name]), name
    loop = jnp.asarray(found["points"])
    turned = jnp.concatenate([jnp.roll(loop, i % 4, axis=1) for i in range(STARTS)])
    copies = cycles(map_, turned, period=4)
    assert copies.hits.tolist() == [STARTS] and set(copies.label.tolist()) == {0}
    assert np.allclose(copies.points, loop, rtol=0, atol=tol("root"))


def test_period_one_is_fixed_points():
    map_, starts = tanh_net([[1.9, -0.6], [0.8, 1.6]]), cube(STARTS, 2)
    points, found = unique(fixed_points(map_, starts)), cycles(map_, starts, period=1)
    assert np.array_equal(found.points[:, 0], points.z)
    assert np.array_equal(found.hits, points.hits) and np.array_equal(found.label, points.label)
    assert np.array_equal(found.index, points.index)


def fates(z, _):
    """z[1] decides: tanh with a 2-cycle, overflow, z + 1, identity."""
    code = z[1]
    image = jnp.where(code > 1, 1e200 * (1 + z[0] ** 2), jnp.tanh(-2.0 * z[0]))
    image = jnp.where(code > 3, z[0] + 1, image)
    image = jnp.where(code > 5, z[0], image)
    return jnp.stack([image, jnp.round(code)])


def test_every_status_in_one_batch():
    good = jnp.stack([jnp.linspace(0.7, 1.0, 5), jnp.zeros(5)], axis=1)
    bad = [[np.nan, 0.0], [np.inf, 0.0], [0.3, 2.0], [0.2, 4.0], [0.2, 6.0]]
    mixed = cycles(rd.Map(fates), jnp.concatenate([good, jnp.array(bad)]), period=2)
    assert mixed.status.tolist() == [0] * 5 + [-3, -3, -3, -1, 0]
    assert mixed.kind.tolist()[-1] == Kind.DEGENERATE
    assert mixed.label.tolist() == [0] * 5 + [-1] * 5
    assert mixed.minimal_period.tolist() == [2] * 5 + [0] * 5
    with pytest.raises(rd.NotConverged, match="3 of 10 with status -3"):
        rd.check(mixed)
    alone = cycles(rd.Map(fates), jnp.concatenate([good, good]), period=2)
    assert np.array_equal(alone.points, mixed.points) and mixed.hits.tolist() == [5]


def test_no_starts():
    found = cycles(tanh_net([[-2.0]]), jnp.zeros((0, 1)), period=2)
    assert found.points.shape == (0, 2, 1) and found.multipliers.shape == (0, 1)
    assert found.status.shape == found.label.shape == (0,)


def graded_jacobians(k, sizes, seed=0):
    """J_i = S_{i+1} D_i S_i^-1, D_i triangular: the multipliers are products of diagonals."""
    rng, d = np.random.default_rng(seed), len(sizes)
    bases = [np.eye(d) + 0.3 * rng.normal(size=(d, d)) for _ in range(k)]
    diagonals = np.array(sizes) * rng.uniform(0.8, 1.25, (k, d)) * rng.choice([-1, 1], (k, d))
    jacobians = []
    for i in range(k):
        middle = np.diag(diagonals[i]) + np.triu(0.3 * rng.normal(size=(d, d)), 1)
        jacobians.append(bases[(i + 1) % k] @ middle @ np.linalg.inv(bases[i]))
    return np.stack(jacobians), np.prod(diagonals, axis=0)


def test_multipliers_far_apart_keep_their_digits():
    jacobians, expected = graded_jacobians(12, [20.0, 1.1, 0.5, 0.02])
    expected = expected[np.argsort(-np.abs(expected))]
    got = np.asarray(product_eigenvalues(jnp.asarray(jacobians))[0])
    assert np.max(np.abs(got / expected - 1)) < tol("graded_multiplier")
    product = np.linalg.multi_dot(jacobians[::-1])
    naive = np.linalg.eigvals(product)
    naive = naive[np.argsort(-np.abs(naive))]
    assert np.abs(naive[-1] / expected[-1] - 1) > 1  # what forming the product would give
    values = np.asarray(product_eigenvalues(1e-4 * jnp.asarray(jacobians))[0])
    assert np.max(np.abs(values / (1e-48 * expected) - 1)) < tol("graded_multiplier")


def test_complex_and_zero_multipliers():
    rng = np.random.default_rng(3)
    jacobians = rng.normal(size=(3, 4, 4))
    jacobians[1, :, 2] = 0.0  # so that one multiplier is zero
    expected = np.linalg.eigvals(jacobians[2] @ jacobians[1] @ jacobians[0])
    got = np.asarray(product_eigenvalues(jnp.asarray(jacobians))[0])
    assert np.min(np.abs(got)) < tol("multiplier") and np.any(np.abs(got.imag) > 0.1)
    expected = expected[np.lexsort((-expected.imag, -expected.real, -np.abs(expected).round(9)))]
    assert np.allclose(got, expected, rtol=0, atol=64 * tol("multiplier"))


def test_derivatives_of_multipliers():
    """Logistic 2-cycle: mu = 4 + 2 r - r^2; a network's against differences, both directions."""
    r = jnp.array([3.1, 3.3, 3.4])
    middle, half = (r + 1) / (2 * r), jnp.sqrt((r - 3) * (r + 1)) / (2 * r)
    two = jnp.stack([middle - half, middle + half], axis=1)[:, None, :, None]

    def multiplier(r, points):
        return cycle_stability(rd.maps.logistic(r), points).multipliers[0, 0].real

    value, slope = jax.vmap(jax.value_and_grad(multiplier))(r, two)
    assert np.allclose(value, 4 + 2 * r - r**2, rtol=0, atol=tol("multiplier"))
    assert np.allclose(slope, 2 - 2 * r, rtol=0, atol=tol("multiplier"))
    w, direction = np.array([[-1.9, 0.3], [0.1, -1.4]]), np.array([[0.3, -0.7], [0.2, 0.5]])

    def stable_cycle(w):
        """Where orbits end, and the moduli of its multipliers."""
        z = np.array([0.7, 0.4])
        for _ in range(1000):
            z = np.tanh(w @ z)
        other = np.tanh(w @ z)
        product = np.diag(1 - z**2) @ w @ np.diag(1 - other**2) @ w
        return np.stack([z, other]), np.sum(np.abs(np.linalg.eigvals(product)))

    points = jnp.asarray(stable_cycle(w)[0])[None]

    def radius(w):
        return jnp.sum(jnp.abs(cycle_stability(tanh_net(w), points).multipliers))

    value, forward = jax.jvp(radius, (jnp.asarray(w),), (jnp.asarray(direction),))
    assert abs(value - stable_cycle(w)[1]) < tol("multiplier")
    backward = jnp.vdot(jax.grad(radius)(jnp.asarray(w)), jnp.asarray(direction))
    step = 1e-5
    ends = [stable_cycle(w + sign * step * direction)[1] for sign in (1, -1)]
    assert abs(forward - (ends[0] - ends[1]) / (2 * step)) < tol("root_slope") * abs(forward)
    assert abs(forward - backward) < tol("transposed_slope") * abs(forward)


def test_what_is_not_a_cycle_shows():
    points = jnp.array([[[0.2], [0.7]], [[jnp.nan], [0.1]]])
    found = cycle_stability(tanh_net([[-2.0]]), points)
    assert found.status.tolist() == [0, -3] and found.stable.tolist()[1] is False
    assert abs(float(found.residual[0]) - abs(np.tanh(-1.4) - 0.2)) < tol("elementary")
    assert np.isnan(found.multipliers[1, 0])


@pytest.mark.parametrize(
    ("starts", "options", "message"),
    [
        (
            np.zeros((2, 1)),
            {"period": 0},
            "`period`: expected a whole number >= 1, got 0; 1 gives the fixed points.",
        ),
        (
            np.zeros(2),
            {"period": 2},
            "`starts`: expected shape (n, d), got (2,); pass one flat vector a row, starts[None] "
            "for a single one.",
        ),
        (
            np.zeros((2, 3, 1)),
            {"period": 2},
            "`starts`: expected shape (n, 2, d), got (2, 3, 1); pass k points for each start, or "
            "one point each, shape (n, d).",
        ),
        (
            np.zeros((2, 1)),
            {"period": 2, "atol": 0.0},
            "`atol`: expected a number in (0, inf), got 0.0; pass for example 1e-6.",
        ),
    ],
)
def test_bad_input(starts, options, message):
    with pytest.raises(ValueError) as caught:
        cycles(tanh_net([[-2.0]]), starts, **options)
    assert str(caught.value) == message
