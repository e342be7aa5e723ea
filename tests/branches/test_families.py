"""Many branches in one call, and eigenvalues only where they matter: the same events."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rnndyn as rd
from rnndyn.branches.arclength import Node
from rnndyn.branches.detection import Spot, _candidates
from tests.branches import families
from tests.branches.test_continuation import close, settle

Partial = jax.tree_util.Partial


def networks(count, n):
    rng = np.random.default_rng(0)
    w = jnp.asarray(rng.normal(size=(count, n, n)) / np.sqrt(n))
    b = jnp.asarray(0.3 * rng.normal(size=(count, n)))
    start = jax.vmap(lambda w, b: rd.orbit(families.gain_times((w, b), 0.2), b, 200)[-1])(w, b)
    return w, b, start


def same_events(a, b):
    names = [[(event.kind, event.criticality) for event in x.events] for x in (a, b)]
    assert names[0] == names[1]
    for one, other in zip(a.events, b.events, strict=True):
        close(one.parameter, other.parameter)
        close(one.z, other.z)


def test_a_thousand_branches_in_one_call_are_those_of_single_runs():
    w, b, start = networks(1000, 2)
    options = {"span": (0.2, 3.0), "max_points": 200}
    found = rd.continuations(
        Partial(families.gain_times, (w, b)), start, stacked=True, eigenvalues="near", **options
    )
    assert len(found) == 1000 and all(int(branch.status) == 0 for branch in found)
    assert sum(len(branch.events) for branch in found) > 300
    for i in range(0, 1000, 50):
        alone = rd.continuation(Partial(families.gain_times, (w[i], b[i])), start[i], **options)
        same_events(found[i], alone)
        assert found[i].parameter.shape == alone.parameter.shape
        assert np.array_equal(found[i].stable, alone.stable)


def test_branches_of_one_family_and_a_neighbour_that_fails():
    family = Partial(families.scalar_tanh, jnp.asarray(2.0))
    low = settle(families.scalar_tanh(jnp.asarray(2.0), jnp.asarray(-4.0)), [-1.0], 200)
    starts = jnp.stack([low, jnp.array([jnp.nan]), jnp.array([9.0]), -low])
    found = rd.continuations(family, starts, span=(-4.0, 4.0), start=jnp.array([-4, -4, 0, 4.0]))
    assert [int(branch.status) for branch in found] == [0, -3, -1, 0]
    alone = rd.continuation(family, low, span=(-4.0, 4.0))
    assert np.array_equal(found[0].z, alone.z)
    close(
        [float(e.parameter) for e in found[3].events], [0.53283997535355202, -0.53283997535355202]
    )


def test_larger_systems_run_one_after_another_to_the_same():
    w, b, start = networks(2, 10)
    options = {"span": (0.2, 2.0), "max_points": 100}
    found = rd.continuations(Partial(families.gain_times, (w, b)), start, stacked=True, **options)
    for i in range(2):
        alone = rd.continuation(Partial(families.gain_times, (w[i], b[i])), start[i], **options)
        same_events(found[i], alone)


def test_near_looks_at_every_point_around_a_crossing():
    """The flip at -1 changes neither the tangent nor the determinant."""
    family = Partial(families.scalar_tanh_in_w, jnp.zeros(()))
    branch = rd.continuation(
        family, jnp.zeros(1), span=(-2.0, 2.0), start=0.3, ds_max=0.01, eigenvalues="near"
    )
    assert [event.kind for event in branch.events] == ["flip", "branch_point"]
    assert np.array_equal(branch.stable, np.abs(np.asarray(branch.parameter)) < 1)
    known = ~np.isnan(np.asarray(branch.eigenvalues)[:, 0])
    assert known.mean() < 0.5


BUMP = 0.04  # width in p of an excursion that lies between two points eight steps apart


def bump(angle, p):
    """Multipliers r exp(+-i angle), r = 0.9 but for a bump of 1.1 at p = 1/2."""
    return rd.Map(_bump, (angle, p))


def _bump(z, args):
    angle, p = args
    return (0.9 + 0.2 * jnp.exp(-(((p - 0.5) / BUMP) ** 2))) * families.rotation(angle) @ z


def dip(p):
    """A multiplier of -0.9 that dips to -1.1 at p = 1/2, and two that keep tr J and tr J^2."""
    return rd.Map(_dip, p)


def _dip(z, p):
    shift = 0.2 * jnp.exp(-(((p - 0.5) / BUMP) ** 2))
    apart = jnp.sqrt(0.36 - 0.9 * shift - 0.75 * shift**2)
    return jnp.stack([-0.9 - shift, 0.5 * shift + apart, 0.5 * shift - apart]) * z


@pytest.mark.parametrize(
    "family, d, kind",
    [
        (Partial(bump, jnp.asarray(1.1)), 2, "neimark_sacker"),
        (Partial(bump, jnp.asarray(np.pi / 4)), 2, "neimark_sacker"),  # tr J^2 is 0 throughout
        (Partial(bump, jnp.asarray(np.pi / 2)), 2, "neimark_sacker"),  # tr J is
        (dip, 3, "flip"),  # det(J + I) alone shows it
    ],
)
def test_near_sees_what_goes_out_and_comes_back_within_a_stride(family, d, kind):
    options = {"span": (0.0, 1.0), "eigenvalues": "near"}
    branch = rd.continuation(family, jnp.zeros(d), **options)
    assert [event.kind for event in branch.events] == [kind] * 2
    half = BUMP * np.sqrt(np.log(2))
    close([float(event.parameter) for event in branch.events], [0.5 - half, 0.5 + half])
    assert np.isnan(np.asarray(branch.eigenvalues)[:, 0]).any()


def test_near_leaves_out_eigenvalues_but_no_event_and_no_stability():
    rng = np.random.default_rng(3)
    weights, bias = rng.normal(size=(16, 16)) / 4, 0.1 * rng.normal(size=16)
    family = Partial(families.gain_times, (jnp.asarray(weights), jnp.asarray(bias)))
    start = settle(family(jnp.asarray(0.2)), np.zeros(16), 200)
    options = {"span": (0.2, 4.0), "ds_max": 0.02}
    every = rd.continuation(family, start, **options)
    near = rd.continuation(family, start, eigenvalues="near", **options)
    same_events(every, near)
    assert np.array_equal(every.stable, near.stable)
    known = ~np.isnan(np.asarray(near.eigenvalues)[:, 0])
    assert known[0] and known[-1] and 0.05 < known.mean() < 0.9
    assert np.array_equal(np.asarray(near.eigenvalues)[known], np.asarray(every.eigenvalues)[known])


@pytest.mark.parametrize("imag", [1.0, -1.0])
def test_a_pair_that_turns_real_across_the_circle_is_looked_at_again(imag):
    """Whichever of the pair is matched to the eigenvalue that has come inside."""
    one, two = np.ones(()), np.zeros(2)
    node = Node(np.zeros(3), np.array([0.0, 0.0, 1.0]), one, np.zeros(()), two, one)
    before = Spot(node, np.array([-1.24 + 0.09j * imag, -1.24 - 0.09j * imag]))
    for after in ([-1.54 + 0j, -0.996 + 0j], [-0.996 + 0j, -1.54 + 0j]):
        candidates, clear = _candidates(before, Spot(node, np.array(after)))
        assert candidates and not clear


def test_misuse_of_stacks():
    message = (
        "`family`: expected arguments with a leading axis of 3, got shape (2,); pass"
        " jax.tree_util.Partial(function, arguments) with a leading axis on each array."
    )
    family = Partial(families.scalar_tanh, jnp.ones(2))
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        rd.continuations(family, jnp.zeros((3, 1)), span=(0.0, 1.0), stacked=True)
    with pytest.raises(ValueError, match="^`family`: expected a Partial with arguments"):
        rd.continuations(rd.maps.logistic, jnp.zeros((3, 1)), span=(0.0, 1.0), stacked=True)
    with pytest.raises(ValueError, match="^`z0`: expected shape"):
        rd.continuations(rd.maps.logistic, jnp.zeros(3), span=(0.0, 1.0))
    with pytest.raises(ValueError, match="^`eigenvalues`: expected one of 'all', 'near'"):
        rd.continuation(rd.maps.logistic, jnp.ones(1), span=(2.0, 3.0), eigenvalues="few")
