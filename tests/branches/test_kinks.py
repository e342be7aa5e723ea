"""Branches of maps with kinks: the border-collision normal form, and ReLU networks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rnndyn as rd
from tests.branches.test_continuation import close, kinds
from tests.tolerances import tol

Partial = jax.tree_util.Partial


def normal_form(sides, mu):
    """x' = tau x + y + mu, y' = -delta x; (tau, delta) by the side of x (Nusse & Yorke 1992)."""
    return rd.Map(_normal_form, (sides, mu))


def _normal_form(z, args):
    sides, mu = args
    tau, delta = jnp.where(z[0] > 0, sides[1], sides[0])
    return jnp.stack([tau * z[0] + z[1] + mu, -delta * z[0]])


def relu_network(weights, p):
    """z' = relu(W z + b + p c)."""
    return rd.Map(_relu_network, (weights, p))


def _relu_network(z, args):
    (w, b, c), p = args
    return jax.nn.relu(w @ z + b + p * c)


def bent(p):
    """z' = z / 2 + p + 0.01 relu(p - 0.3): a kink of less than a degree, within one step."""
    return rd.Map(_bent, p)


def _bent(z, p):
    return 0.5 * z + p + 0.01 * jax.nn.relu(p - 0.3)


def point(sides, mu):
    """x = mu / (1 - tau + delta) on the side where it has the right sign (P21)."""
    x = [mu / (1 - tau + delta) for tau, delta in sides]
    return np.array([[x, -delta * x] for x, (_, delta) in zip(x, sides, strict=True)])


def has_two_cycle(sides, mu):
    """Whether the cycle through both sides exists, by the signs of x."""
    left, right = two_cycle(sides, mu)[:, 0]
    return bool(left < 0 < right)


def two_cycle(sides, mu):
    """The points (left, right) of the cycle through both sides: one linear system."""
    left, right = (np.array([[tau, 1.0], [-delta, 0.0]]) for tau, delta in sides)
    whole = np.block([[np.eye(2), -right], [-left, np.eye(2)]])
    x = np.linalg.solve(whole, [mu, 0.0, mu, 0.0])
    return x.reshape(2, 2)


@pytest.mark.precision
@pytest.mark.parametrize(
    "sides, start, kind",
    [
        ([(0.5, 0.3), (-1.5, 0.4)], (-1.0, 0), "nonsmooth_flip"),
        ([(0.5, 0.3), (-1.5, 0.4)], (1.0, 1), "nonsmooth_flip"),
        ([(0.5, 0.3), (-0.5, 0.4)], (-1.0, 0), "persistence"),
        ([(-1.7, 0.3), (-1.5, 0.4)], (1.0, 1), "persistence"),
        ([(1.7, 0.3), (-1.7, 0.3)], (1.0, 1), "nonsmooth_fold"),
        ([(1.7, 0.3), (-1.7, 0.3)], (1.0, 0), "nonsmooth_fold"),
        ([(-1.7, 0.3), (1.7, 0.3)], (-1.0, 1), "nonsmooth_fold"),
        ([(-1.7, 0.3), (1.7, 0.3)], (-1.0, 0), "nonsmooth_fold"),
    ],
)
def test_the_border_collision_normal_form(sides, start, kind):
    """Feigin: a non-smooth fold where det(I - J) changes sign; otherwise a 2-cycle that there is
    on one side of the event only, or on neither."""
    mu, side = start
    family = Partial(normal_form, jnp.array(sides))
    branch = rd.continuation(
        family, jnp.asarray(point(sides, mu)[side]), span=(-1.0, 1.0), start=mu
    )
    assert branch.stop == ("left_span", "left_span") and kinds(branch) == ["border_collision"]
    (event,) = branch.events
    assert event.criticality == kind and int(event.status) == 0
    close(np.append(event.z, event.parameter), np.zeros(3))
    determinants = [1 - tau + delta for tau, delta in sides]
    assert (np.prod(determinants) < 0) == (kind == "nonsmooth_fold")
    if kind != "nonsmooth_fold":
        assert sum(has_two_cycle(sides, m) for m in (-1, 1)) == (kind == "nonsmooth_flip")
    other = mu if kind == "nonsmooth_fold" else -mu
    want = [np.append(point(sides, m)[s], m) for m, s in ((mu, side), (other, 1 - side))]
    got = np.column_stack([branch.z, branch.parameter])[[0, -1]]
    assert min(np.abs(got - want).max(), np.abs(got[::-1] - want).max()) < tol("event_position")


@pytest.mark.parametrize("mu, side", [(-1.0, 0), (1.0, 1)])
def test_the_cycle_that_is_born_at_a_border_is_followed(mu, side):
    """P21: linear in mu from the event on, as the linear system of its two points says."""
    sides = [(0.5, 0.3), (-1.5, 0.4)]
    family, span = Partial(normal_form, jnp.array(sides)), (-1.0, 1.0)
    branch = rd.continuation(family, jnp.asarray(point(sides, mu)[side]), span=span, start=mu)
    (doubled,) = rd.switch_branch(family, branch.events[0], span=span)
    assert doubled.period == 2 and sorted(doubled.stop) == ["left_span", "shorter_period"]
    assert int(doubled.status) == 0 and doubled.events == ()
    p = np.asarray(doubled.parameter)
    assert np.all(p > 0) and p.min() < tol("end_at_kink") and p.max() == 1
    orbit = np.asarray(doubled.orbit)
    orbit = orbit if orbit[-1, 0, 0] < 0 else orbit[:, ::-1]
    want = two_cycle(sides, 1.0) * p[:, None, None]
    assert np.abs(orbit - want).max() < tol("event_position")


def test_the_two_cycle_of_a_skew_tent_is_born_at_its_kink():
    """x_R = mu (1 + a) / (1 - a b) > 0 > x_L = mu (1 + b) / (1 - a b), for mu > 0 and b < -1."""
    a, b = 0.5, -1.5
    family = Partial(rd.maps.skew_tent, jnp.asarray(a), jnp.asarray(b))
    branch = rd.continuation(family, jnp.array([-2.0]), span=(-1.0, 1.0))
    (event,) = branch.events
    assert event.criticality == "nonsmooth_flip"
    (doubled,) = rd.switch_branch(family, event, span=(-1.0, 1.0))
    p = np.asarray(doubled.parameter)
    want = np.array([1 + b, 1 + a]) / (1 - a * b) * p[:, None]
    assert np.abs(np.sort(doubled.orbit[..., 0], axis=1) - want).max() < tol("event_position")
    assert p.max() == 1 and bool(doubled.stable[-1])


def test_every_border_of_a_relu_network_is_an_event():
    """Against NumPy: pre-activations vanish at the events and change sign nowhere else."""
    rng = np.random.default_rng(1)
    w, b, c = 0.8 * rng.normal(size=(6, 6)) / np.sqrt(6), rng.normal(size=6), rng.normal(size=6)
    family = Partial(relu_network, tuple(map(jnp.asarray, (w, b, c))))
    start = rd.orbit(family(jnp.zeros(())), jnp.zeros(6), 300)[-1]
    branch = rd.continuation(family, start, span=(-3.0, 3.0), start=0.0)
    assert branch.stop == ("left_span", "left_span") and len(branch.events) >= 5
    for event in branch.events:
        assert (event.kind, event.criticality) == ("border_collision", "persistence")
        before = w @ np.asarray(event.z) + b + float(event.parameter) * c
        assert np.sort(np.abs(before))[0] < tol("event_position") < np.sort(np.abs(before))[1]
    p = np.asarray(branch.parameter)
    active = np.asarray(branch.z) @ w.T + b + p[:, None] * c > 0
    assert np.abs(np.diff(active.astype(int), axis=0)).sum() == len(branch.events)
    assert np.all(np.diff(p) > 0)
    reached = np.maximum(np.asarray(branch.z) @ w.T + b + p[:, None] * c, 0)
    assert np.abs(reached - np.asarray(branch.z)).max() < tol("branch_residual")


def test_a_small_kink_within_a_step_is_seen_and_a_smooth_bend_is_not():
    branch = rd.continuation(bent, jnp.zeros(1), span=(0.0, 1.0))
    (event,) = branch.events
    assert (event.kind, event.criticality) == ("border_collision", "persistence")
    close([float(event.parameter), float(event.z[0])], [0.3, 0.6])
    smooth = rd.continuation(hinted, jnp.zeros(1), span=(0.0, 1.0))
    assert smooth.events == () and smooth.stop == ("left_span", "left_span")


def diamond(centre, p):
    """The fixed points are the square |z - c| + |p| = 1; its corners are kinks of the map."""
    return rd.Map(_diamond, (centre, p))


def _diamond(z, args):
    centre, p = args
    return z + 0.3 * (1 - jnp.abs(z - centre) - jnp.abs(p))


@pytest.mark.parametrize("start, side", [(0.3, 1), (-0.5, -1)])
def test_a_branch_that_closes_across_kinks_goes_round_once(start, side):
    """Two corners are folds, where 1 - 0.3 sign(z - c) passes 1; at the others p changes sign."""
    family = Partial(diamond, jnp.asarray(0.25))
    z0 = jnp.array([0.25 + side * (1 - abs(start))])
    branch = rd.continuation(family, z0, span=(-2.0, 2.0), start=start)
    assert branch.stop == ("closed", "closed") and int(branch.status) == 0
    corners = np.array([(float(e.parameter), float(e.z[0]) - 0.25) for e in branch.events])
    close(corners, np.round(corners))
    assert sorted(np.round(corners).tolist()) == [[-1, 0], [0, -1], [0, 1], [1, 0]]
    named = {round(float(e.parameter)): e.criticality for e in branch.events}
    assert named == {-1: "nonsmooth_fold", 0: "persistence", 1: "nonsmooth_fold"}
    z, p = np.asarray(branch.z)[:, 0] - 0.25, np.asarray(branch.parameter)
    assert np.abs(np.abs(z) + np.abs(p) - 1).max() < tol("branch_residual")
    turns = np.diff(np.unwrap(np.arctan2(z, p)))
    assert np.all(turns * np.sign(turns[0]) > 0) and abs(abs(turns.sum()) - 2 * np.pi) < 1e-6
    assert np.array_equal(branch.z[0], branch.z[-1])


def hinted(p):
    """Smooth on the whole branch, though a kink is in the program."""
    return rd.Map(_hinted, p)


def _hinted(z, p):
    return (
        0.5 * z + jnp.tanh(8 * (p - 0.5)) - jnp.tanh(jnp.full_like(p, -4.0)) + jax.nn.relu(z - 99)
    )


@pytest.mark.parametrize("coupling", [0.0, 0.2, -0.3])
def test_two_kinks_at_one_place_are_passed(coupling):
    """Both units fall silent at p = 1, and on either side there is one fixed point only."""
    weights = (jnp.array([[0.5, coupling], [coupling, 0.5]]), jnp.ones(2), -jnp.ones(2))
    z0 = jnp.full(2, 1 / (0.5 - coupling))
    branch = rd.continuation(Partial(relu_network, weights), z0, span=(0.0, 2.0))
    assert branch.stop == ("left_span", "left_span") and int(branch.status) == 0
    (event,) = branch.events
    assert (event.kind, event.criticality) == ("border_collision", "persistence")
    close([*event.z, event.parameter], [0, 0, 1])
    p = np.asarray(branch.parameter)
    wanted = np.maximum(0, 1 - p) / (0.5 - coupling)
    np.testing.assert_allclose(branch.z, np.stack([wanted] * 2, 1), atol=tol("branch_residual"))
    assert np.array_equal(branch.stable, np.ones(len(p), bool))


@pytest.mark.parametrize("units, inhibition", [(3, 0.0), (2, -2.0)])
def test_three_kinks_or_several_ways_on_end_the_branch(units, inhibition):
    """Of two units that inhibit each other so much both, or either alone, wake up at p = 1."""
    w = jnp.where(jnp.eye(units) == 1, 0.5, inhibition)
    b, z0 = jnp.full(units, -1.0), jnp.zeros(units)
    family = Partial(relu_network, (w, b, jnp.ones(units)))
    branch = rd.continuation(family, z0, span=(0.0, 2.0))
    assert branch.stop[1] == "step_underflow" and int(branch.status) == rd.Status.SINGULAR
    assert "kinks" in rd.describe_stop("step_underflow")
    assert abs(float(branch.parameter[-1]) - 1) < 1e-6
