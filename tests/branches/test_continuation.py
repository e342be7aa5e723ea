"""Branches and their events against closed forms, and what happens where there is no branch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import brentq

import rnndyn as rd
from rnndyn.branches import continuation, describe_stop
from rnndyn.branches.arclength import sweep
from tests.branches import families
from tests.tolerances import tol

Partial = jax.tree_util.Partial


def settle(map_, z, steps=20000):
    return rd.orbit(map_, jnp.asarray(z), steps)[-1]


def places(branch, kind):
    """The parameters of the events of one kind, ascending; all located."""
    chosen = [event for event in branch.events if event.kind == kind]
    assert all(int(event.status) == 0 for event in chosen)
    return np.sort([float(event.parameter) for event in chosen])


def kinds(branch):
    return sorted(event.kind for event in branch.events)


def close(got, want, name="event_position"):
    np.testing.assert_allclose(got, want, rtol=0, atol=tol(name))


def coefficient(branch, kind):
    return [complex(event.coefficient) for event in branch.events if event.kind == kind]


# One eigenvalue at +1 or -1


@pytest.mark.precision
def test_trivial_branch_of_the_scalar_tanh_has_a_pitchfork_and_a_flip():
    family = Partial(families.scalar_tanh_in_w, jnp.zeros(()))
    branch = continuation(family, jnp.zeros(1), span=(-2.0, 2.0), start=0.3)
    assert [event.kind for event in branch.events] == ["flip", "branch_point"]
    assert [event.criticality for event in branch.events] == ["supercritical"] * 2
    close([event.parameter for event in branch.events], [-1, 1])
    close([event.coefficient for event in branch.events], [1 / 3, -1 / 3], "normal_form")
    assert branch.stop == ("left_span", "left_span") and int(branch.status) == 0
    inside = np.abs(np.asarray(branch.parameter)) < 1
    assert np.array_equal(branch.stable, inside)
    assert branch.parameter[0] == -2 and branch.parameter[-1] == 2


def test_the_curved_branch_passes_the_pitchfork_once():
    family = Partial(families.scalar_tanh_in_w, jnp.zeros(()))
    start = jnp.array([0.95750402407726874])
    branch = continuation(family, start, span=(-2.0, 2.0), start=2.0)
    assert kinds(branch) == ["branch_point"]
    close(places(branch, "branch_point"), [1])
    close(np.sort(branch.z[jnp.array([0, -1]), 0]), [-start[0], start[0]])


@pytest.mark.parametrize(
    "w, fold",
    [
        (1.2, 0.05639058531135305),
        (1.5, 0.20754645532203029),
        (2.0, 0.53283997535355202),
        (3.0, 1.3032739080025893),
        (5.0, 3.0285004798207691),
    ],
)
def test_folds_of_the_scalar_tanh(w, fold):
    """|b| = w s - artanh s, s = sqrt(1 - 1/w); a = -w h."""
    family = Partial(families.scalar_tanh, jnp.asarray(w))
    start = settle(families.scalar_tanh(jnp.asarray(w), jnp.asarray(-4.0)), [-1.0], 200)
    branch = continuation(family, start, span=(-4.0, 4.0))
    assert kinds(branch) == ["fold", "fold"]
    close(places(branch, "fold"), [-fold, fold])
    for event in branch.events:
        close(complex(event.coefficient), -w * float(event.z[0]), "normal_form")
    close(abs(branch.events[0].z[0]), np.sqrt(1 - 1 / w))


@pytest.mark.parametrize(
    "w, flip", [(-1.5, 1.524504352246847), (-2.0, 2.2955871493926381), (-3.0, 3.5957055777637669)]
)
def test_flips_of_the_scalar_tanh(w, flip):
    """c = w^2 / 3 on the whole curve."""
    family = Partial(families.scalar_tanh, jnp.asarray(w))
    branch = continuation(family, jnp.zeros(1), span=(-4.0, 4.0), start=0.0)
    assert kinds(branch) == ["flip", "flip"]
    close(places(branch, "flip"), [-flip, flip])
    close(coefficient(branch, "flip"), [w**2 / 3] * 2, "normal_form")
    assert [event.criticality for event in branch.events] == ["supercritical"] * 2


def test_logistic_period_three_window():
    """Period 3 is born at 1 + sqrt 8; the flips are in test_switching."""
    window = continuation(
        families.logistic_three,
        settle(families.logistic_three(3.835), [0.5]),
        span=(3.8, 3.84),
        start=3.835,
    )
    close(places(window, "fold"), [1 + np.sqrt(8)])


def test_henon_fold_flip_and_flip_of_the_cycle():
    start = settle(rd.maps.henon(0.2), [0.5, 0.1])
    branch = continuation(families.henon, start, span=(-0.3, 1.0), start=0.2, max_points=300)
    close(places(branch, "fold"), [-0.1225])
    close(places(branch, "flip"), [0.3675])
    # Beyond the fold the other root goes to infinity as a rises to 0.
    assert branch.stop == ("max_points", "left_span")
    cycle = continuation(
        families.henon_cycle, settle(families.henon_cycle(0.5), [0.9, 0.0]), span=(0.5, 1.0)
    )
    close(places(cycle, "flip"), [0.9125])


def test_circle_map_locks_at_k_over_two_pi():
    branch = continuation(families.circle, jnp.zeros(1), span=(-0.05, 0.2), start=0.0)
    close(places(branch, "fold"), [0.25 / np.pi])


# Complex pairs


def test_delayed_logistic_neimark_sacker():
    """At r = 2, multipliers exp(+-i pi/3), d = -1 - i sqrt 3 (Kuznetsov, sec. 4.7)."""
    branch = continuation(rd.maps.delayed_logistic, jnp.array([1 / 3, 1 / 3]), span=(1.5, 2.2))
    assert kinds(branch) == ["neimark_sacker"]
    (event,) = branch.events
    close(event.parameter, 2)
    close(event.angle, np.pi / 3)
    close(complex(event.coefficient), -1 - 1j * np.sqrt(3), "normal_form")
    assert event.criticality == "supercritical"


def test_rotating_tanh_pair_has_d_minus_one_half():
    branch = continuation(families.turning, jnp.zeros(2), span=(0.5, 1.5))
    assert kinds(branch) == ["neimark_sacker"]
    close(branch.events[0].parameter, 1)
    close(complex(branch.events[0].coefficient), -0.5, "normal_form")


@pytest.mark.parametrize("k", [3, 4, 5])
def test_strong_resonances_are_flagged_and_decide_nothing(k):
    family = Partial(families.turning_by, jnp.asarray(2 * np.pi / k))
    branch = continuation(family, jnp.zeros(2), span=(0.5, 1.5))
    (event,) = branch.events
    assert event.kind == "neimark_sacker"
    close(event.parameter, 1)
    close(event.angle, 2 * np.pi / k)
    assert event.resonance == (k if k < 5 else 0)
    assert event.criticality == ("" if k < 5 else "supercritical")


# Recurrent cells


def test_gru_unit_has_a_transcritical_point_and_a_fold():
    """With reset weight 1: transcritical at U = 2, fold at U = 1.76353336158, h = 0.46719218461."""
    trivial = continuation(families.gru_unit, jnp.zeros(1), span=(1.5, 2.5))
    (event,) = trivial.events
    assert (event.kind, event.criticality) == ("branch_point", "transcritical")
    close(event.parameter, 2)
    start = settle(families.gru_unit(2.5), [0.9])
    curved = continuation(families.gru_unit, start, span=(1.5, 2.5), start=2.5)
    assert kinds(curved) == ["branch_point", "fold"]
    close(places(curved, "fold"), [1.76353336158], "published_digits")
    fold = next(event for event in curved.events if event.kind == "fold")
    state = brentq(_gru_fold, 0.3, 0.7, xtol=1e-15)
    close(fold.z[0], state)
    close(fold.parameter, np.arctanh(state) * (1 + np.exp(-state)) / state)


def _gru_fold(h):
    """d/dh of U(h) = artanh(h) (1 + exp(-h)) / h on the branch away from h = 0, times h^2."""
    grown = 1 + np.exp(-h)
    return h * (grown / (1 - h**2) - np.arctanh(h) * np.exp(-h)) - np.arctanh(h) * grown


def test_lstm_unit_pitchfork():
    branch = continuation(families.lstm_unit, jnp.zeros(2), span=(0.5, 2.0))
    (event,) = branch.events
    assert (event.kind, event.criticality) == ("branch_point", "supercritical")
    close(event.parameter, 1.0757656854799804)


def test_bistable_cell_hysteresis():
    start = settle(families.bistable_cell(-1.0), [-0.9])
    branch = continuation(families.bistable_cell, start, span=(-1.0, 1.0))
    assert kinds(branch) == ["fold", "fold"]
    close(places(branch, "fold"), [-0.20754645532203029, 0.20754645532203029])


@pytest.mark.parametrize(
    "w, edges",
    [
        (5.0, [-2.655610338630688, -2.344389661369312]),
        (6.0, [-3.41509291064406, -2.58490708935594]),
        (10.0, [-6.80954627731186, -3.19045372268814]),
    ],
)
def test_ctrnn_folds(w, edges):
    """Beer 1995, the edges of bistability in the input."""
    family = Partial(families.ctrnn, jnp.asarray(w))
    start = settle(families.ctrnn(jnp.asarray(w), jnp.asarray(-8.0)), [-8.0], 2000)
    branch = continuation(family, start, span=(-8.0, -1.0))
    assert kinds(branch) == ["fold", "fold"]
    close(places(branch, "fold"), edges)


# Several at once


def test_four_symmetric_folds_are_on_four_branches():
    corner = 0.85855963664011036
    family = Partial(families.two_units, jnp.zeros(()))
    found = []
    for first in (corner, -corner):
        for second in (corner, -corner):
            branch = continuation(family, jnp.array([first, second]), span=(0.0, 0.3))
            folds = [event for event in branch.events if event.kind == "fold"]
            close(folds[0].parameter, 0.147822070679066)
            found.append(np.asarray(folds[0].z))
    turn = np.array([[0.0, -1.0], [1.0, 0.0]])
    point = np.array([0.896755619546, -0.565513954536])
    orbit = np.array([np.linalg.matrix_power(turn, k) @ point for k in range(4)])
    distances = np.abs(np.array(found)[:, None] - orbit[None]).max(axis=2)
    assert np.all(distances.min(axis=0) < tol("published_digits"))
    assert np.all(distances.min(axis=1) < tol("published_digits"))


@pytest.mark.parametrize("sign, kind", [(1.0, "branch_point"), (-1.0, "flip")])
def test_two_equal_eigenvalues_are_two_events(sign, kind):
    matrix = sign * jnp.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.3, 0.0, 0.2]])
    family = Partial(families.gain_times, (matrix, jnp.zeros(3)))
    branch = continuation(family, jnp.zeros(3), span=(0.5, 1.5))
    assert kinds(branch) == [kind, kind]
    assert [int(event.multiplicity) for event in branch.events] == [2, 2]
    assert all(np.isnan(complex(event.coefficient)) for event in branch.events)
    close(places(branch, kind), [1, 1])


def test_random_network_events_account_for_every_change_of_stability():
    """Against NumPy: points, eigenvalues, and the number outside the circle between events."""
    rng = np.random.default_rng(3)
    weights, bias = rng.normal(size=(16, 16)) / 4, 0.1 * rng.normal(size=16)
    family = Partial(families.gain_times, (jnp.asarray(weights), jnp.asarray(bias)))
    start = settle(family(jnp.asarray(0.2)), np.zeros(16), 200)
    branch = continuation(family, start, span=(0.2, 4.0))
    assert branch.stop == ("left_span", "left_span") and len(branch.events) >= 3
    g, z = np.asarray(branch.parameter), np.asarray(branch.z)
    value = np.tanh(g[:, None] * (z @ weights.T) + bias)
    assert np.abs(value - z).max() < tol("branch_residual")
    slopes = (1 - value**2)[:, :, None] * g[:, None, None] * weights
    expected = np.sort_complex(np.linalg.eigvals(slopes))
    close(np.sort_complex(np.asarray(branch.eigenvalues)), expected, "branch_eigenvalues")
    for event in branch.events:
        at = np.tanh(float(event.parameter) * weights @ np.asarray(event.z) + bias)
        close(at, event.z, "branch_residual")
        slope = (1 - at**2)[:, None] * float(event.parameter) * weights
        critical = np.exp(1j * float(event.angle))
        assert np.abs(np.linalg.eigvals(slope) - critical).min() < tol("event_position")
    weight = {"neimark_sacker": 2}
    moved = np.abs(np.diff((np.abs(np.asarray(branch.eigenvalues)) > 1).sum(axis=1))).sum()
    assert moved == sum(weight.get(event.kind, 1) for event in branch.events)


# Where there is no branch, or it ends


def test_a_start_on_a_flip_and_on_a_fold_finds_it_once():
    flip = continuation(rd.maps.logistic, jnp.array([2 / 3]), span=(3.0, 3.4))
    assert kinds(flip) == ["flip"]
    within = continuation(rd.maps.logistic, jnp.array([2 / 3]), span=(2.6, 3.4), start=3.0)
    assert kinds(within) == ["flip"]
    fold = continuation(families.parabola, jnp.zeros(1), span=(-1.0, 1.0), start=0.0)
    assert kinds(fold) == ["flip", "fold"]
    edge = continuation(families.parabola, jnp.zeros(1), span=(0.0, 1.0))
    assert kinds(edge) == ["fold"]


def test_a_start_on_a_branch_point_is_not_followed():
    family = Partial(families.scalar_tanh_in_w, jnp.zeros(()))
    branch = continuation(family, jnp.zeros(1), span=(-2.0, 2.0), start=1.0)
    assert branch.stop == ("singular_start",) * 2 and int(branch.status) == rd.Status.SINGULAR
    assert branch.z.shape == (1, 1) and kinds(branch) == ["branch_point"]


def test_a_start_that_is_no_fixed_point_is_corrected_or_refused():
    near = continuation(rd.maps.logistic, jnp.array([0.52]), span=(2.0, 2.5))
    close(near.z[0, 0], 0.5)
    refused = continuation(rd.maps.logistic, jnp.array([7.0]), span=(2.0, 2.5))
    assert refused.stop == ("no_start",) * 2 and int(refused.status) == rd.Status.STATIONARY
    vanished = continuation(families.parabola, jnp.zeros(1), span=(0.5, 1.0))
    assert vanished.stop == ("no_start",) * 2 and vanished.events == ()


def test_a_parameter_that_the_map_ignores_is_named():
    branch = continuation(families.constant, jnp.array([0.6]), span=(0.0, 1.0))
    assert branch.stop == ("parameter_ignored",) * 2 and int(branch.status) == rd.Status.SINGULAR
    assert branch.z.shape == (1, 1) and branch.events == ()


def test_nan_beyond_a_parameter_ends_the_branch_there():
    branch = continuation(families.broken_beyond, jnp.zeros(1), span=(-1.0, 1.0), start=0.0)
    assert branch.stop == ("left_span", "nonfinite") and int(branch.status) == rd.Status.NONFINITE
    assert 0.49 < float(branch.parameter[-1]) <= 0.5
    assert np.all(np.isfinite(np.asarray(branch.z)))
    nan = continuation(families.broken_beyond, jnp.array([jnp.nan]), span=(-1.0, 1.0), start=0.0)
    assert nan.stop == ("nonfinite",) * 2


def test_a_vanishing_root_is_followed_round_its_fold_and_no_further():
    branch = continuation(families.vanishing, jnp.ones(1), span=(-0.5, 2.0))
    assert branch.stop == ("left_span", "left_span")
    close(places(branch, "fold"), [0.5])
    assert float(branch.parameter.max()) <= 0.5 + tol("event_position")
    close(np.sort(np.asarray(branch.z)[[0, -1], 0]), [-1, 1])


def test_where_the_derivative_ends_so_does_the_branch():
    branch = continuation(families.ending, jnp.ones(1), span=(-1.0, 1.0), start=1.0)
    assert int(branch.status) != 0 and branch.stop[1] == "left_span"
    assert branch.stop[0] in ("nonfinite", "step_underflow")
    assert np.all(np.isfinite(np.asarray(branch.z))) and float(branch.parameter.min()) >= 0
    close(branch.z[:, 0] ** 2, branch.parameter, "branch_residual")


def test_a_closed_branch_is_recognised():
    branch = continuation(families.isola, jnp.ones(1), span=(-2.0, 2.0), start=0.0)
    assert branch.stop == ("closed", "closed") and int(branch.status) == 0
    close(places(branch, "fold"), [-1, 1])
    close(branch.z[0], branch.z[-1])
    close(branch.z[:, 0] ** 2 + branch.parameter**2, np.ones(len(branch.z)), "branch_residual")
    turns = np.unwrap(np.arctan2(np.asarray(branch.z[:, 0]), np.asarray(branch.parameter)))
    close(abs(turns[-1] - turns[0]), 2 * np.pi)


def test_natural_continuation_ends_at_a_fold_where_arclength_turns():
    turned = continuation(families.parabola, jnp.ones(1), span=(-1.0, 1.0))
    close(turned.z[jnp.array([0, -1]), 0], [1, -1])
    ended = continuation(families.parabola, jnp.ones(1), span=(-1.0, 1.0), method="natural")
    assert ended.stop == ("left_span", "step_underflow")
    assert float(ended.parameter.max()) <= 0 and np.all(np.diff(ended.parameter) > 0)


def test_the_point_budget_is_a_reason():
    branch = continuation(rd.maps.logistic, jnp.array([0.5]), span=(2.0, 3.4), max_points=5)
    assert branch.stop == ("left_span", "max_points")
    assert int(branch.status) == rd.Status.MAX_STEPS and branch.z.shape == (5, 1)
    assert "max_points" in describe_stop(branch.stop[1])


def test_steps_are_bounded_and_points_within_the_span():
    branch = continuation(rd.maps.logistic, jnp.array([0.5]), span=(2.0, 3.4), ds_max=0.02)
    u = np.column_stack([branch.z, (np.asarray(branch.parameter) - 2.0) / 1.4])
    steps = np.linalg.norm(np.diff(u, axis=0), axis=1)
    assert steps.max() < 0.021 and steps.min() > 0
    assert branch.parameter.min() == 2.0 and branch.parameter.max() == 3.4
    assert np.all(np.asarray(branch.residual) < tol("branch_residual"))


def test_new_weights_do_not_compile_again():
    start = jnp.array([-0.9999])
    continuation(Partial(families.scalar_tanh, jnp.asarray(2.0)), start, span=(-4.0, 4.0))
    before = sweep._cache_size()
    continuation(Partial(families.scalar_tanh, jnp.asarray(2.5)), start, span=(-3.9, 4.0))
    assert sweep._cache_size() == before
