"""Margins, and distances in parameters against closed forms and brute force."""

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import minimize

import rnndyn as rd
from rnndyn.branches.proximity import bifurcation_proximity
from tests.branches import families
from tests.tolerances import tol


def settle(map_, z, steps=5000):
    return rd.orbit(map_, jnp.asarray(z), steps)[-1]


def close(got, want, name="event_position"):
    np.testing.assert_allclose(got, want, rtol=0, atol=tol(name))


def linear(matrix):
    return rd.Map(_linear, jnp.asarray(matrix))


def _linear(z, matrix):
    return matrix @ z


# Margins


def test_margins_by_kind():
    turn = 0.7 * np.array([[np.cos(2), -np.sin(2)], [np.sin(2), np.cos(2)]])
    matrix = np.zeros((4, 4))
    matrix[:2, :2], matrix[2, 2], matrix[3, 3], matrix[0, 3] = turn, 0.8, -0.95, 3.0
    near = bifurcation_proximity(linear(matrix), jnp.zeros((1, 4)), distance=False)
    close(near.margins[0], [0.2, 0.05, 0.3], "margin")
    close(near.margin[0], 0.05, "margin")
    assert near.kind.tolist() == [-1] and near.status.tolist() == [0]
    assert near.parameter_distance is None and near.nearest is None


def test_margin_outside_the_circle_and_without_complex_pairs():
    near = bifurcation_proximity(
        linear([[1.3, 5.0], [0.0, 0.2]]), jnp.zeros((1, 2)), distance=False
    )
    close(near.margins[0], [0.3, 1.2, np.inf], "margin")
    assert near.kind.tolist() == [1]


def test_robust_margin_of_a_non_normal_jacobian():
    """min over angles of the least singular value; 0.0249 although the spectral radius is 1/2."""
    near = bifurcation_proximity(
        linear([[0.5, 10.0], [0.0, 0.5]]), jnp.zeros((1, 2)), distance=False
    )
    close(near.robust_margin[0], 0.024937810560478, "margin")


def test_robust_margin_is_least_over_a_fine_grid_of_angles():
    matrix = np.random.default_rng(0).normal(size=(5, 5)) / 3
    near = bifurcation_proximity(linear(matrix), jnp.zeros((1, 5)), distance=False)
    turns = np.exp(1j * np.linspace(0, np.pi, 20001))[:, None, None] * np.eye(5)
    grid = np.linalg.svd(turns - matrix, compute_uv=False)[:, -1].min()
    assert grid - 1e-6 < float(near.robust_margin[0]) <= grid


# Distances


@pytest.mark.precision
@pytest.mark.parametrize(
    "w, b, z, distance, place",
    [
        (2.0, 0.0, 0.9, 0.4400138685625, (1.75845532575, -0.36778849203)),
        (2.0, 0.0, 0.0, 0.4400138685625, None),
        (1.5, 0.1, -0.8, 0.0935048664095, None),
        (0.5, 0.0, 0.0, 0.5, (1.0, 0.0)),
    ],
)
def test_distance_of_the_scalar_tanh_to_its_fold_curve(w, b, z, distance, place):
    """In the (w, b) plane; (1/2, 0) is nearest to the cusp."""
    map_ = families.scalar_tanh(jnp.asarray(w), jnp.asarray(b))
    near = bifurcation_proximity(map_, settle(map_, [z], 200)[None])
    assert near.status.tolist() == [0] and near.nearest_kind.tolist() == [1]
    close(near.parameter_distance[0], distance, "parameter_distance")
    if place is not None:
        found = [float(near.nearest[0][0, 0, 0]), float(near.nearest[1][0, 0])]
        close(found, place, "nearest_parameters")


def test_distance_along_one_argument_of_henon():
    """Only a counts: the flip at 3 (1 - b)^2 / 4 = 0.3675."""
    map_ = rd.maps.henon(0.3, 0.3)
    near = bifurcation_proximity(map_, settle(map_, [0.5, 0.1])[None], wrt=(True, False))
    close(near.parameter_distance[0], 0.0675)
    close(near.nearest[0][0], 0.3675)
    assert float(near.nearest[1][0]) == 0.3 and float(near.direction[1][0]) == 0
    close(near.direction[0][0], 1)
    assert near.nearest_kind.tolist() == [-1]


def candidate_alone(z, args):
    """A GRU at rest whose parameters are the recurrent weights of its candidate."""
    candidate, params = args
    params = dataclasses.replace(params, w_h=params.w_h.at[12:].set(candidate))
    return rd.hold(rd.cells.GRU(2, 6, "kanai"), params, jnp.zeros(2))(z)


@pytest.mark.parametrize("centre", [0.5, 6.0])
def test_a_point_that_no_parameter_moves(centre):
    """J(0) = I/2 + U/4, so the nearest branch point is sigma_min(U - 2 I) away (Eckart & Young
    1936): from below and from far beyond."""
    cell = rd.cells.GRU(2, 6, "kanai", bias=rd.initializers.Constant(0.0))
    params = cell.init(jax.random.key(3))
    u = 0.5 * params.w_h[12:] + centre * jnp.eye(6)
    map_ = rd.Map(candidate_alone, (u, params))
    near = rd.bifurcation_proximity(map_, jnp.zeros((1, 6)), wrt=(True, False))
    expected = np.linalg.svd(u - 2 * np.eye(6), compute_uv=False)[-1]
    assert near.nearest_kind.tolist() == [1] and near.status.tolist() == [0]
    close(near.parameter_distance[0], expected)
    assert not np.any(near.nearest_z)


def two_units(seed):
    rng = np.random.default_rng(seed)
    weights, bias = rng.normal(size=(2, 2)) * 0.9, 0.3 * rng.normal(size=2)
    map_ = rd.maps.tanh_network(jnp.asarray(weights), jnp.asarray(bias))
    return map_, weights, bias, settle(map_, np.zeros(2))


def brute_force(weights, bias, z):
    """Least distance over many starts of SLSQP, in closed form for two units: J = D(1 - z^2) W,
    with b = artanh z - W z eliminated; a multiplier +-1 or a pair with det J = 1, |tr J| < 2."""

    def parts(x):
        w, state = x[:4].reshape(2, 2), x[4:]
        jacobian = (1 - state**2)[:, None] * w
        return w, np.arctanh(state) - w @ state, np.linalg.det(jacobian), np.trace(jacobian)

    def cost(x):
        w, b, _, _ = parts(x)
        return np.sum((w - weights) ** 2) + np.sum((b - bias) ** 2)

    def critical(sign):
        return {"type": "eq", "fun": lambda x: 1 - sign * parts(x)[3] + parts(x)[2]}

    pair = [
        {"type": "eq", "fun": lambda x: parts(x)[2] - 1},
        {"type": "ineq", "fun": lambda x: 4 - parts(x)[3] ** 2},
    ]
    rng, best = np.random.default_rng(0), np.inf
    for constraints in ([critical(1)], [critical(-1)], pair):
        for _ in range(8):
            start = np.concatenate([weights.ravel(), z]) + 0.2 * rng.normal(size=6)
            start[4:] = np.clip(start[4:], -0.9, 0.9)
            found = minimize(
                cost,
                start,
                method="SLSQP",
                constraints=constraints,
                bounds=[(-9, 9)] * 4 + [(-0.999, 0.999)] * 2,
                options={"ftol": 1e-15, "maxiter": 500},
            )
            if found.success:
                best = min(best, np.sqrt(found.fun))
    return best


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("seed", [0, 5, 11, 12])
def test_distance_of_two_unit_networks_by_brute_force(seed):
    map_, weights, bias, z = two_units(seed)
    near = bifurcation_proximity(map_, z[None])
    assert near.status.tolist() == [0]
    np.testing.assert_allclose(
        float(near.parameter_distance[0]), brute_force(weights, bias, np.asarray(z)), rtol=1e-6
    )


def test_the_nearest_parameters_are_critical_and_a_step_beyond_changes_stability():
    map_, _, _, z = two_units(5)
    near = bifurcation_proximity(map_, z[None])
    weights, bias = (np.asarray(leaf[0]) for leaf in near.nearest)
    state = np.asarray(near.nearest_z[0])
    close(np.tanh(weights @ state + bias), state, "branch_residual")
    moduli = np.abs(np.linalg.eigvals((1 - state**2)[:, None] * weights))
    close(np.abs(moduli - 1).min(), 0)
    assert float(near.critical_residual[0]) < tol("branch_residual")
    step = [np.asarray(leaf[0]) for leaf in near.direction]
    close(sum(np.sum(part**2) for part in step), 1)
    length = float(near.parameter_distance[0])
    close(weights, np.asarray(map_.args[0]) + length * step[0])
    stable = []
    for factor in (1 - 1e-3, 1 + 1e-3):
        moved = [np.asarray(a) + factor * length * d for a, d in zip(map_.args, step, strict=True)]
        there = settle(rd.maps.tanh_network(*map(jnp.asarray, moved)), state, 20000)
        slope = (1 - np.asarray(there) ** 2)[:, None] * moved[0]
        stays = np.abs(np.asarray(there) - state).max() < 0.3
        stable.append(bool(stays and np.abs(np.linalg.eigvals(slope)).max() < 1 - 1e-7))
        residual = np.abs(np.tanh(moved[0] @ np.asarray(there) + moved[1]) - there).max()
        stable[-1] &= residual < 1e-6
    assert stable == [True, False]


def test_a_held_cell_counts_its_params_but_not_its_input():
    cell = rd.cells.Vanilla(3, 2)
    map_ = rd.hold(cell, cell.init(jax.random.key(1)), x=jnp.ones(3))
    z = settle(map_, [0.1, 0.2])[None]
    near = bifurcation_proximity(map_, z)
    assert np.array_equal(near.direction[1], np.zeros((1, 3)))
    assert np.array_equal(near.nearest[1], np.ones((1, 3)))
    both = bifurcation_proximity(map_, z, wrt=True)
    assert float(both.parameter_distance[0]) < float(near.parameter_distance[0])
    close(both.margin, near.margin, "margin")


# Derivatives


def margin_after(theta, which):
    """The margin of the fixed point that is solved for anew, independent of the library."""
    weights, bias = theta[:4].reshape(2, 2), theta[4:]
    z = np.asarray(which)
    for _ in range(50):
        slope = (1 - np.tanh(weights @ z + bias) ** 2)[:, None] * weights
        z = z - np.linalg.solve(slope - np.eye(2), np.tanh(weights @ z + bias) - z)
    found = np.linalg.eigvals((1 - z**2)[:, None] * weights)
    paired = np.abs(np.abs(found) - 1)[found.imag > 0]
    return min(np.abs(found - 1).min(), np.abs(found + 1).min(), *paired)


@pytest.mark.parametrize("seed", [0, 5])
def test_margin_gradient_and_first_order_distance(seed):
    """Against central differences of the margin of the re-solved point."""
    map_, weights, bias, z = two_units(seed)
    theta = np.concatenate([weights.ravel(), bias])
    step = 1e-6
    differences = [
        (margin_after(theta + step * e, z) - margin_after(theta - step * e, z)) / (2 * step)
        for e in np.eye(6)
    ]

    def margin(args):
        return bifurcation_proximity(rd.Map(map_.rule, args), z[None], distance=False).margin[0]

    value, (by_weights, by_bias) = jax.jit(jax.value_and_grad(margin))(map_.args)
    got = np.concatenate([np.ravel(by_weights), by_bias])
    np.testing.assert_allclose(got, differences, atol=1e-7)
    near = bifurcation_proximity(map_, z[None], distance=False)
    expected = margin_after(theta, z) / np.linalg.norm(differences)
    np.testing.assert_allclose(near.first_order_distance[0], expected, rtol=1e-6)
    close(value, margin_after(theta, z), "margin")


@pytest.mark.parametrize("penalised", [False, True])
def test_as_a_penalty_it_keeps_training_away_from_a_bifurcation(penalised):
    """Weights drawn towards others that lie beyond a fold, flip or Neimark-Sacker point."""
    weights, goal = jnp.asarray(0.3 * gaussian(1)), jnp.asarray(2 * gaussian(1))
    bias, least = jnp.array([0.1, -0.2, 0.05]), 0.2

    def loss(weights):
        map_ = rd.maps.tanh_network(weights, bias)
        z = jax.lax.stop_gradient(rd.orbit(map_, jnp.zeros(3), 200)[-1])
        near = bifurcation_proximity(map_, z[None], distance=False)
        short = jnp.maximum(2 * least - near.margin[0], 0)
        return jnp.sum((weights - goal) ** 2) + 30 * penalised * short**2, near.margin[0]

    step = jax.jit(jax.value_and_grad(loss, has_aux=True))
    margins = []
    for _ in range(150):
        (_, margin), slope = step(weights)
        margins.append(float(margin))
        weights = weights - 0.01 * slope
    assert margins[0] > 2 * least
    assert (np.nanmin(margins) > least) == penalised  # NaN once the point has given way to a cycle


def gaussian(seed):
    return np.random.default_rng(seed).normal(size=(3, 3)) / np.sqrt(3)


def test_distance_falls_one_to_one_towards_the_nearest():
    map_, _, _, z = two_units(5)

    def distance(args):
        return bifurcation_proximity(rd.Map(map_.rule, args), z[None]).parameter_distance[0]

    slope = jax.grad(distance)(map_.args)
    near = bifurcation_proximity(map_, z[None])
    for part, direction in zip(slope, near.direction, strict=True):
        close(part, -direction[0], "margin")


# Statuses


def test_statuses_of_one_batch_and_neighbours_untouched():
    map_, _, _, z = two_units(5)
    batch = jnp.stack([z, z * jnp.nan, z + 3.0, z + 1e-4])
    near = bifurcation_proximity(map_, batch)
    assert near.status.tolist() == [0, rd.Status.NONFINITE, rd.Status.STATIONARY, 0]
    for field in (near.margin, near.parameter_distance, near.first_order_distance):
        assert np.array_equal(np.isnan(field), [False, True, True, False])
    alone = bifurcation_proximity(map_, jnp.stack([z] * 4))
    assert np.array_equal(near.parameter_distance[:1], alone.parameter_distance[:1])
    close(near.z[3], z, "branch_residual")
    early = bifurcation_proximity(map_, z[None], max_steps=1)
    assert early.status.tolist() == [rd.Status.MAX_STEPS]


def test_no_points_give_an_empty_result():
    map_, _, _, _ = two_units(5)
    near = bifurcation_proximity(map_, jnp.zeros((0, 2)))
    assert near.margin.shape == (0,) and near.nearest[0].shape == (0, 2, 2)


@pytest.mark.parametrize(
    "z, options, message",
    [
        (
            jnp.zeros(2),
            {},
            "`z`: expected shape (m, d), got (2,); stack the fixed points, or pass z[None] for"
            " one.",
        ),
        (
            jnp.zeros((1, 2)),
            {"wrt": (False, False)},
            "`wrt`: expected at least one floating-point leaf, got (False, False); choose a"
            " parameter, or change args.",
        ),
        (
            jnp.zeros((1, 2)),
            {"wrt": (1.0, True)},
            "`wrt`: expected booleans, got (1.0, True); pass booleans in the structure of"
            " map_.args or of the top of it.",
        ),
        (
            jnp.zeros((1, 2)),
            {"max_steps": 0},
            "`max_steps`: expected a whole number >= 1, got 0; 100 is usual.",
        ),
    ],
)
def test_misuse(z, options, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        bifurcation_proximity(rd.maps.henon(), z, **options)
