"""Cycles, and the branches that meet one at a flip or a branch point, against closed forms."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rnndyn as rd
from tests.branches import families
from tests.branches.test_continuation import close, kinds, places, settle

Partial = jax.tree_util.Partial


def flip_of(branch):
    """The one flip of the branch's own cycles."""
    (event,) = [e for e in branch.events if e.kind == "flip" and e.period == branch.period]
    return event


def test_logistic_cascade_by_switching_alone():
    """Oracle P23: 3, 1 + sqrt 6, 3.544090359551923, 3.564407266095433 and
    3.568759419543826; c = 9 at the first."""
    span, found = (2.0, 3.569), []
    branch = rd.continuation(rd.maps.logistic, jnp.array([0.5]), span=span)
    for period in (2, 4, 8, 16):
        found.append(flip_of(branch))
        (branch,) = rd.switch_branch(rd.maps.logistic, found[-1], span=span)
        assert branch.period == period and branch.stop == ("shorter_period", "left_span")
        born = branch.events[0]
        assert (born.kind, born.period) == ("flip", period // 2)
        close(born.parameter, found[-1].parameter)
        close(born.coefficient, found[-1].coefficient, "normal_form_of_cycle")
        assert np.asarray(branch.stable)[1] and not np.asarray(branch.stable)[-1]
    want = [3, 1 + np.sqrt(6), 3.544090359551923, 3.564407266095433, 3.568759419543826]
    close([float(event.parameter) for event in (*found, flip_of(branch))], want)
    close(found[0].coefficient, 9.0, "normal_form")


def test_the_doubled_branch_is_a_cycle_of_minimal_period():
    """r^2 x^2 - r (r + 1) x + r + 1 = 0, the 2-cycle of the logistic map."""
    branch = rd.continuation(rd.maps.logistic, jnp.array([0.5]), span=(2.0, 3.4))
    (doubled,) = rd.switch_branch(rd.maps.logistic, branch.events[0], span=(2.0, 3.4))
    r, x = np.asarray(doubled.parameter), np.asarray(doubled.z[:, 0])
    assert np.all(r > 3) and r[0] < 3 + 1e-9
    away = r > 3 + 1e-6  # at the flip two cycles of F^2 coincide and x is good to sqrt(tol) only
    assert away.sum() > 20
    close((r**2 * x**2 - r * (r + 1) * x + r + 1)[away], np.zeros(away.sum()))
    close(np.asarray(doubled.eigenvalues)[away, 0], (4 + 2 * r - r**2)[away])


def test_orbit_holds_the_points_of_each_cycle_in_the_order_of_the_map():
    start = settle(families.logistic_four(3.5), [0.4])
    branch = rd.continuation(rd.maps.logistic, start, span=(3.5, 3.55), period=4)
    orbit, r = np.asarray(branch.orbit), np.asarray(branch.parameter)[:, None, None]
    assert orbit.shape == (len(r), 4, 1) and np.array_equal(orbit[:, 0], branch.z)
    close(r * orbit * (1 - orbit), np.roll(orbit, -1, axis=1))
    fixed = rd.continuation(rd.maps.logistic, jnp.array([0.5]), span=(2.0, 2.5))
    assert np.array_equal(fixed.orbit[:, 0], fixed.z)


def test_pitchfork_arms_are_one_branch_through_the_point():
    family = Partial(families.scalar_tanh_in_w, jnp.zeros(()))
    trivial = rd.continuation(family, jnp.zeros(1), span=(-2.0, 2.0), start=0.3)
    flip, fork = trivial.events
    (arms,) = rd.switch_branch(family, fork, span=(-2.0, 2.0))
    assert arms.stop == ("left_span", "left_span") and kinds(arms) == ["branch_point"]
    close(np.sort(np.asarray(arms.z)[[0, -1], 0]), [-0.95750402407726874, 0.95750402407726874])
    assert np.all(np.asarray(arms.stable)[[0, -1]])
    (cycle,) = rd.switch_branch(family, flip, span=(-2.0, 2.0))
    assert cycle.period == 2
    close(np.abs(cycle.z[0 if cycle.parameter[0] == -2 else -1, 0]), 0.95750402407726874)


def test_transcritical_branches_lead_to_each_other():
    trivial = rd.continuation(families.gru_unit, jnp.zeros(1), span=(1.5, 2.5))
    (curved,) = rd.switch_branch(families.gru_unit, trivial.events[0], span=(1.5, 2.5))
    assert kinds(curved) == ["branch_point", "fold"]
    crossing = next(event for event in curved.events if event.kind == "branch_point")
    (back,) = rd.switch_branch(families.gru_unit, crossing, span=(1.5, 2.5))
    assert float(jnp.abs(back.z).max()) < 1e-12 and kinds(back) == ["branch_point"]
    close(np.sort(np.asarray(back.parameter)[[0, -1]]), [1.5, 2.5])


def test_henon_cycle_from_the_flip():
    """Flip at 0.3675; the 2-cycle flips at (1 - b)^2 + (1 + b)^2 / 4 = 0.9125 (P24)."""
    start = settle(rd.maps.henon(0.2), [0.5, 0.1])
    branch = rd.continuation(families.henon, start, span=(0.1, 1.0), start=0.2)
    (cycle,) = rd.switch_branch(families.henon, flip_of(branch), span=(0.1, 1.0))
    close(flip_of(cycle).parameter, 0.9125)
    assert cycle.stop == ("shorter_period", "left_span")


def test_period_as_an_option_equals_the_iterated_family():
    start = settle(families.logistic_four(3.5), [0.4])
    cycle = rd.continuation(rd.maps.logistic, start, span=(3.5, 3.55), period=4)
    close(places(cycle, "flip"), [3.544090359551923])
    assert all(event.period == 4 for event in cycle.events)


def test_a_start_of_a_shorter_period_is_refused():
    branch = rd.continuation(rd.maps.logistic, jnp.array([0.6]), span=(2.5, 3.4), period=2)
    assert branch.stop == ("shorter_start",) * 2 and branch.events == ()
    assert int(branch.status) == rd.Status.STATIONARY
    assert "shorter period" in rd.describe_stop(branch.stop[0])


def test_a_kernel_of_two_dimensions_gives_no_branch():
    matrix = jnp.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.3, 0.0, 0.2]])
    family = Partial(families.gain_times, (matrix, jnp.zeros(3)))
    branch = rd.continuation(family, jnp.zeros(3), span=(0.5, 1.5))
    assert rd.switch_branch(family, branch.events[0], span=(0.5, 1.5)) == ()


def test_misuse_of_switching():
    branch = rd.continuation(families.parabola, -jnp.ones(1), span=(-1.0, 1.0))
    fold = next(event for event in branch.events if event.kind == "fold")
    message = (
        "`event`: expected a branch point or a flip, got 'fold'; the branch goes round a fold by"
        " itself."
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        rd.switch_branch(families.parabola, fold, span=(-1.0, 1.0))
    flip = next(event for event in branch.events if event.kind == "flip")
    with pytest.raises(ValueError, match=r"^`event.parameter`: .*widen the span"):
        rd.switch_branch(families.parabola, flip, span=(0.0, 1.0))
