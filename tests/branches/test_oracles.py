"""Bifurcations with closed forms that the other files leave out: gated units, kinked and spiral."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

import rnndyn as rd
from rnndyn.cells.gru import GRUParams
from tests.branches import families
from tests.branches.test_continuation import close, settle
from tests.branches.test_kinks import normal_form
from tests.tolerances import tol


def gru(turn, gain):
    """The GRU of `rd.cells` with gates constant 1/2 and candidate weights gain * turn."""
    n = len(turn)
    w_h = jnp.concatenate([jnp.zeros((2 * n, n)), gain * turn])
    params = GRUParams(w_x=jnp.zeros((3 * n, 1)), w_h=w_h, b=jnp.zeros(3 * n), b_hn=None)
    return rd.hold(rd.cells.GRU(1, n, "cho_v3"), params, jnp.zeros(1))


def bistable_in_a(a):
    """The BRC unit at zero input, h' = c h + (1 - c) tanh(a h)."""
    return rd.Map(_bistable_in_a, a)


def _bistable_in_a(h, a):
    keep = jax.nn.sigmoid(0.3 * h - 0.2)
    return keep * h + (1 - keep) * jnp.tanh(a * h)


def ctrnn_centred(w):
    """Euler steps of 1/10 with I = -w/2, so that y = 0 is fixed."""
    return families.ctrnn(w, -0.5 * w)


def euler(w, dt, current):
    """Euler steps dt of y' = -y + w sigma(y) + I."""
    return rd.Map(_euler, (w, dt, current))


def _euler(y, args):
    w, dt, current = args
    return y + dt * (-y + w * jax.nn.sigmoid(y) + current)


def right_trace(trace):
    sides = jnp.stack([jnp.array([0.5, 0.3]), jnp.stack([trace, jnp.full_like(trace, 0.4)])])
    return normal_form(sides, jnp.ones_like(trace))


def right_determinant(delta):
    sides = jnp.stack([jnp.array([0.5, 0.3]), jnp.stack([jnp.full_like(delta, -0.5), delta])])
    return normal_form(sides, jnp.ones_like(delta))


def check(branch, *want):
    """(kind, criticality, parameter, coefficient) of each event, in order of the parameter."""
    found = sorted(branch.events, key=lambda event: float(event.parameter))
    assert [(event.kind, event.criticality) for event in found] == [each[:2] for each in want]
    assert all(int(event.status) == 0 for event in found)
    close([float(event.parameter) for event in found], [each[2] for each in want])
    close(
        [complex(event.coefficient) for event in found], [each[3] for each in want], "normal_form"
    )


def test_the_origin_of_a_gru_unit_flips_at_minus_six_and_forks_at_two():
    """P11, P12: h' = h/2 + tanh(u h/2)/2, whose cubic coefficient is -u^3 / 48."""
    branch = rd.continuation(
        Partial(gru, jnp.ones((1, 1))), jnp.zeros(1), span=(-7.0, 3.0), start=0.0
    )
    check(
        branch,
        ("flip", "supercritical", -6.0, 4.5),
        ("branch_point", "supercritical", 2.0, -1 / 6),
    )


def test_a_pair_of_gru_units_turns_where_its_eigenvalue_plus_two_has_modulus_four():
    """P11 with U = g R(2): g^2 + 4 g cos 2 = 12."""
    cos, sin = np.cos(2.0), np.sin(2.0)
    turn = jnp.array([[cos, -sin], [sin, cos]])
    branch = rd.continuation(Partial(gru, turn), jnp.zeros(2), span=(0.0, 6.0), start=1.0)
    (event,) = branch.events
    gain = -2 * cos + np.sqrt(4 * cos**2 + 12)
    assert (event.kind, event.criticality, event.resonance) == (
        "neimark_sacker",
        "supercritical",
        0,
    )
    close(event.parameter, gain)
    close(event.angle, np.angle(0.5 + 0.25 * gain * np.exp(2j)))


def test_bistable_cell_forks_at_one():
    """P15: (1 - c) (tanh h - h) begins with -(1 - c) h^3 / 3, and c is not constant."""
    branch = rd.continuation(bistable_in_a, jnp.zeros(1), span=(0.5, 1.5))
    coefficient = -1 / (1 + np.exp(-0.2)) / 3
    check(branch, ("branch_point", "supercritical", 1.0, coefficient))


def test_euler_steps_flip_where_the_continuous_unit_does_not():
    """P16: w = 4 (dt - 2) / dt = -76 at dt = 1/10; c = dt w s'''(0) / 6 with s''' = -1/8."""
    branch = rd.continuation(ctrnn_centred, jnp.zeros(1), span=(-80.0, -70.0))
    check(branch, ("flip", "supercritical", -76.0, 7.6 / 48))


@pytest.mark.parametrize("dt", [0.1, 0.5])
def test_folds_of_euler_steps_do_not_depend_on_the_step(dt):
    """P16 at w = 5; only the flips move with dt."""
    family = Partial(euler, jnp.asarray(5.0), jnp.asarray(dt))
    branch = rd.continuation(family, settle(family(-3.0), [-2.6], 400), span=(-3.0, -2.0))
    events = sorted(float(event.parameter) for event in branch.events)
    assert [event.kind for event in branch.events] == ["fold"] * 2
    close(events, [-2.655610338630688, -2.344389661369312])


@pytest.mark.parametrize("method, status", [("arclength", -2), ("natural", -5)])
def test_a_point_that_goes_to_infinity_has_a_status_and_no_event(method, status):
    """P21, the degenerate transcritical point tau = 1 + delta: x = mu / (1 - tau + delta)."""
    start, span = jnp.array([1.0, -0.4]) / 0.9, (0.5, 2.0)
    branch = rd.continuation(right_trace, start, span=span, method=method)
    assert int(branch.status) == status and branch.events == ()
    gap = 1.4 - np.asarray(branch.parameter)
    assert np.all(gap > 0) and np.all(np.isfinite(branch.z))
    off = np.abs(np.asarray(branch.z) * gap[:, None] - [1.0, -0.4]) / gap[:, None]
    assert np.all(off <= tol("branch_residual") * (1 + np.abs(branch.z)) / gap[:, None])


@pytest.mark.parametrize(
    "family, begin, span, kind, at",
    [
        (right_trace, [1 / 2.0, -0.4 / 2.0], (-2.0, -0.6), "flip", -1.4),
        (right_determinant, [1 / 2.0, -0.5 / 2.0], (0.5, 1.3), "neimark_sacker", 1.0),
    ],
)
def test_linear_bifurcations_of_the_border_collision_normal_form(family, begin, span, kind, at):
    """P21: where nothing is curved no criticality is named: tau = -(1 + delta), and delta = 1."""
    start = span[1] if kind == "flip" else span[0]
    branch = rd.continuation(family, jnp.asarray(begin), span=span, start=start)
    check(branch, (kind, "", at, 0.0))


def test_wang_cascade_by_switching_alone():
    """P28: flips of period 1, 2 and 4; multipliers {0, -1} at the first."""
    span = (1.0, 2.55)
    branch = rd.continuation(families.wang, settle(families.wang(1.0), [0.5, 0.9]), span=span)
    found = []
    for period in (1, 2, 4):
        own = [e for e in branch.events if e.kind == "flip" and e.period == period]
        found.append(own[0])
        if period < 4:
            (branch,) = rd.switch_branch(families.wang, own[0], span=span)
    close(
        [float(event.parameter) for event in found],
        [1.250756879656671, 2.187360652319632, 2.502686186518817],
    )
    assert [event.criticality for event in found] == ["supercritical"] * 3
    map_ = families.wang(found[0].parameter)
    close(np.sort(np.linalg.eigvals(np.asarray(map_.jacobian(found[0].z))).real), [-1, 0])


@pytest.mark.parametrize(
    "family, z0, span, beyond, within",
    [
        (rd.maps.delayed_logistic, [1 / 3, 1 / 3], (1.5, 2.2), 2.01, 0.01),
        (families.turning, [0.0, 0.0], (0.5, 1.5), 1.01, 0.03),
    ],
)
def test_the_circle_that_is_born_has_the_size_that_d_says(family, z0, span, beyond, within):
    """P26, P27: <|z|^2> = -(|lambda| - 1) / Re d beyond the event, z = <p, h - h*>."""
    (event,) = rd.continuation(family, jnp.asarray(z0), span=span).events
    map_ = family(jnp.asarray(beyond))
    rest = settle_newton(map_, event.z)
    values, right = np.linalg.eig(np.asarray(map_.jacobian(jnp.asarray(rest))))
    k = int(np.argmax(values.imag))
    q, p = right[:, k], np.linalg.inv(right)[k]  # of length 1, and p . q = 1
    assert abs(np.linalg.norm(q) - 1) < 1e-12
    orbit = np.asarray(rd.orbit(map_, jnp.asarray(rest + 0.05), 20000))[4000:] - rest
    size = np.mean(np.abs(orbit @ p) ** 2)
    expected = -(np.abs(values[k]) - 1) / complex(event.coefficient).real
    np.testing.assert_allclose(size, expected, rtol=within)


def settle_newton(map_, z):
    z = np.asarray(z)
    for _ in range(20):
        slope = np.asarray(map_.jacobian(jnp.asarray(z))) - np.eye(z.size)
        z = z - np.linalg.solve(slope, np.asarray(map_(jnp.asarray(z))) - z)
    return z
