"""Fixed points along checkpoints: closed forms, brute force, and what cannot be followed."""

import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rnndyn as rd
from rnndyn.branches.tracking import track
from rnndyn.cells.gru import GRUParams
from tests.branches import families
from tests.tolerances import tol

LINE = jnp.linspace(-1.0, 1.0, 9)[:, None]
TRACES = []


def network(params):
    return rd.maps.tanh_network(*params)


def scalar(w: Any, b: Any = 0.0):
    """Checkpoints of h' = tanh(w h + b), one for each w or b, stacked."""
    w, b = jnp.broadcast_arrays(jnp.asarray(w, float), jnp.asarray(b, float))
    return w[:, None, None], b[:, None]


def twice(params):
    return rd.iterate(network(params), 2)


def counted(params):
    return rd.Map(_counted, params)


def _counted(z, params):
    TRACES.append(0)
    return jnp.tanh(params[0] @ z + params[1])


def places(found, kind):
    chosen = [event for event in found.events if event.kind == kind]
    assert all(int(event.status) == 0 for event in chosen)
    return [float(event.place) for event in chosen]


def kinds(found):
    return [(event.kind, event.points, event.change) for event in found.events]


def criticality(event):
    return None if event.bifurcation is None else event.bifurcation.criticality


def close(got, want, name="event_position"):
    np.testing.assert_allclose(got, want, rtol=0, atol=tol(name))


def consistent(found):
    """What holds whenever nothing was lost: changes add up, points are roots, life fits."""
    present, life = np.asarray(found.present), np.asarray(found.life)
    counts, steps = present.sum(axis=1), len(present) - 1
    changes = np.zeros(steps, int)
    for event in found.events:
        changes[min(int(event.place), steps - 1)] += event.change
    assert np.array_equal(np.diff(counts), changes)
    k = np.arange(steps + 1)[:, None]
    assert np.array_equal(present, (life[:, 0] <= k) & (k <= life[:, 1]))
    assert np.array_equal(np.isfinite(np.asarray(found.z)).all(axis=2), present)
    assert np.nanmax(np.asarray(found.residual)) <= tol("branch_residual")


# Closed forms


@pytest.mark.precision
def test_pitchfork_of_the_scalar_tanh():
    """At w = 1 two points are born; there the origin loses its stability."""
    found = track(network, scalar([0.5, 0.8, 3.0]), jnp.zeros((1, 1)), starts=LINE)
    assert kinds(found) == [("branch_point", (0, 1, 2), 2)]
    close(places(found, "branch_point"), [1 + 0.2 / 2.2])
    assert criticality(found.events[0]) == "supercritical"
    assert found.present.tolist() == [[True, False, False]] * 2 + [[True] * 3]
    assert found.stable.tolist() == [[True, False, False]] * 2 + [[False, True, True]]
    close(np.sort(np.abs(found.z[2, :, 0])), [0, 0.9949015285, 0.9949015285], "printed_10")
    assert found.index.tolist() == [[1, 0, 0]] * 2 + [[-1, 1, 1]]
    assert found.index_sum.tolist() == [1, 1, 1] and not np.any(found.status)
    assert found.hits[0].tolist() == [9, 0, 0] and int(found.hits[2].sum()) == 9
    close(found.life[:, 0], [0, 1 + 0.2 / 2.2, 1 + 0.2 / 2.2])
    consistent(found)


def test_the_way_back_through_the_pitchfork_ends_the_pair():
    found = track(network, scalar([3.0, 0.5]), jnp.array([[0.0], [-0.99], [0.99]]))
    assert kinds(found) == [("branch_point", (0, 1, 2), -2)]
    close(places(found, "branch_point"), [2.0 / 2.5])
    assert np.all(found.hits == -1)
    consistent(found)


def test_hysteresis_of_the_scalar_tanh():
    """w = 2, b from -1 to 1: folds at -+0.53283997535355202, each point with its own life."""
    fold, b = 0.53283997535355202, np.linspace(-1, 1, 6)
    found = track(network, scalar(2.0, b), jnp.array([[-1.0]]), starts=LINE)
    assert [(event.kind, event.change) for event in found.events] == [("fold", 2), ("fold", -2)]
    born, died = (set(event.points) for event in found.events)
    (saddle,) = born & died
    assert born | died == {0, 1, 2} and 0 in died and saddle != 0
    close(places(found, "fold"), [(1 - fold) / 0.4, (1 + fold) / 0.4])
    close(found.life[0], [0, (1 + fold) / 0.4])
    close(found.life[saddle], [(1 - fold) / 0.4, (1 + fold) / 0.4])
    assert found.present.sum(axis=1).tolist() == [1, 1, 3, 3, 1, 1]
    assert np.all(found.index_sum == 1)
    consistent(found)


def gru_unit(u):
    """Reset weight 1, candidate weight u, all else 0."""
    w_h = jnp.array([[1.0], [0.0], [u]])
    return GRUParams(w_x=jnp.zeros((3, 1)), w_h=w_h, b=jnp.zeros(3), b_hn=None)


def held_gru(params):
    return rd.hold(rd.cells.GRU(1, 1, "cho_v3"), params, jnp.zeros(1))


def test_gru_unit_through_its_fold_and_its_transcritical_point():
    """Fold at U = 1.76353336158 and transcritical at U = 2; counts 1, 3, 3."""
    checkpoints = [gru_unit(u) for u in (1.5, 1.9, 2.5)]
    found = track(held_gru, checkpoints, jnp.zeros((1, 1)), starts=LINE)
    assert [(event.kind, event.change) for event in found.events] == [
        ("fold", 2),
        ("branch_point", 0),
    ]
    close(places(found, "fold"), [(1.76353336158 - 1.5) / 0.4], "published_digits")
    close(places(found, "branch_point"), [1 + 0.1 / 0.6])
    transcritical = found.events[1]
    assert criticality(transcritical) == "transcritical"
    assert len(transcritical.points) == 2 and 0 in transcritical.points
    other = next(i for i in transcritical.points if i != 0)
    assert float(found.z[1, other, 0]) > 0 > float(found.z[2, other, 0])
    assert found.stable[:, 0].tolist() == [True, True, False] and bool(found.stable[2, other])
    assert found.present.sum(axis=1).tolist() == [1, 3, 3]
    consistent(found)


def relu_unit(params):
    return rd.Map(_relu_unit, params)


def _relu_unit(z, params):
    w, b = params
    return jax.nn.relu(w * z + b)


@pytest.mark.parametrize(
    "w, kind, counts", [(0.5, "persistence", [1, 1]), (2.0, "nonsmooth_fold", [2, 0])]
)
def test_border_collisions_of_a_relu_unit(w, kind, counts):
    """z = 0 while b < 0, and z = b / (1 - w) while that is positive; they meet at b = 0."""
    checkpoints = (jnp.full((2, 1), w), jnp.array([[-0.5], [1.5]]))
    found = track(relu_unit, checkpoints, jnp.zeros((1, 1)), starts=jnp.linspace(0, 2, 9)[:, None])
    assert [event.kind for event in found.events] == ["border_collision"]
    assert criticality(found.events[0]) == kind
    assert found.events[0].change == counts[1] - counts[0]
    close(places(found, "border_collision"), [0.25])
    assert found.present.sum(axis=1).tolist() == counts
    consistent(found)


def test_flip_and_cycle_that_is_born_in_it():
    """w from -0.5 to -3: a flip at w = -1, where the second iterate has a pitchfork."""
    plain = track(network, scalar([-0.5, -3.0]), jnp.zeros((1, 1)), starts=LINE)
    assert kinds(plain) == [("flip", (0,), 0)]
    close(places(plain, "flip"), [0.2])
    doubled = track(twice, scalar([-0.5, -3.0]), jnp.zeros((1, 1)), starts=LINE)
    assert kinds(doubled) == [("branch_point", (0, 1, 2), 2)]
    close(places(doubled, "branch_point"), [0.2])
    close(doubled.z[1, 1], -np.asarray(doubled.z[1, 2]))
    consistent(doubled)


def test_an_event_at_a_checkpoint_is_seen_from_both_sides_and_named_once():
    found = track(network, scalar([-0.5, -1.0, -1.5]), jnp.zeros((1, 1)))
    assert kinds(found) == [("flip", (0,), 0)]
    close(places(found, "flip"), [1])


def test_neimark_sacker_of_the_rotating_pair():
    found = track(families.turning, jnp.array([0.5, 1.5]), jnp.zeros((1, 2)))
    assert kinds(found) == [("neimark_sacker", (0,), 0)]
    close(places(found, "neimark_sacker"), [0.5])
    assert found.stable.tolist() == [[True], [False]]


def test_four_symmetric_folds_are_four_events():
    """9 points become 1 at alpha = 0.147822070679066."""
    grid = jnp.stack(jnp.meshgrid(*[jnp.linspace(-1, 1, 7)] * 2), axis=-1).reshape(-1, 2)
    found = track(half_open, jnp.array([0.05, 0.25]), jnp.zeros((1, 2)), starts=grid)
    assert [event.kind for event in found.events if event.change] == ["fold"] * 4
    close(places(found, "fold"), [(0.147822070679066 - 0.05) / 0.2] * 4)
    assert found.present.sum(axis=1).tolist() == [9, 1]
    consistent(found)


def half_open(alpha):
    return families.two_units(None, alpha)


# Against brute force


def brute_force_count(w, b):
    """Roots of tanh(W z + b) = z: Newton in NumPy from a fine grid, and their index sum."""
    grid = np.linspace(-1, 1, 61)
    z = np.stack(np.meshgrid(grid, grid), axis=-1).reshape(-1, 2)
    for _ in range(60):
        value = np.tanh(z @ w.T + b)
        jacobian = (1 - value**2)[:, :, None] * w - np.eye(2)
        step = np.linalg.solve(jacobian + 1e-14 * np.eye(2), (value - z)[..., None])[..., 0]
        z = np.clip(z - step, -1, 1)
    value = np.tanh(z @ w.T + b)
    z = z[np.max(np.abs(value - z), axis=1) < 1e-12]
    roots = []
    for root in z:
        if all(np.max(np.abs(root - other)) > 1e-6 for other in roots):
            roots.append(root)
    slopes = [np.eye(2) - (1 - root**2)[:, None] * w for root in roots]
    return len(roots), int(sum(np.sign(np.linalg.det(slope)) for slope in slopes))


def test_counts_of_a_two_unit_network_at_every_checkpoint():
    rng = np.random.default_rng(9)
    w = np.cumsum(np.concatenate([[1.2 * np.eye(2)], 0.7 * rng.normal(size=(9, 2, 2))]), axis=0)
    b = np.cumsum(0.1 * rng.normal(size=(10, 2)), axis=0)
    starts = jnp.asarray(rng.uniform(-1, 1, size=(64, 2)))
    first = rd.unique(rd.fixed_points(network((jnp.asarray(w[0]), jnp.asarray(b[0]))), starts)).z
    found = track(network, (jnp.asarray(w), jnp.asarray(b)), first, starts=starts)
    expected = [brute_force_count(*stage) for stage in zip(w, b, strict=True)]
    got = list(zip(found.present.sum(axis=1).tolist(), found.index_sum.tolist(), strict=True))
    assert got == expected
    assert all(count % 2 == 1 and total == 1 for count, total in got)
    assert len({count for count, _ in got}) >= 3, "the walk must cross folds"
    assert not any(event.kind in ("vanished", "appeared") for event in found.events)
    # A change of stability has its event: eigenvalues outside the circle change in between only.
    z = np.asarray(found.z)
    for k, i in np.argwhere(np.asarray(found.present)):
        jacobian = (1 - z[k, i] ** 2)[:, None] * w[k]
        close(
            np.sort_complex(np.asarray(found.eigenvalues[k, i])),
            np.sort_complex(np.linalg.eigvals(jacobian)),
            "branch_eigenvalues",
        )
    consistent(found)


def test_what_the_search_overlooked_at_first_gets_its_history():
    """At the first three checkpoints only the origin is sought; the pair was there all along."""
    near, far = jnp.zeros((9, 1)), LINE
    starts = jnp.stack([near, near, near, far])
    found = track(network, scalar([1.5, 2.0, 2.5, 3.0]), jnp.zeros((1, 1)), starts=starts)
    assert found.events == () and bool(found.present.all())
    close(np.sort(found.z[0, :, 0]), [-0.85855963664, 0, 0.85855963664], "printed")
    assert found.hits[:3, 1:].tolist() == [[0, 0]] * 3 and int(found.hits[3].sum()) == 9
    alone = track(network, scalar([1.5, 2.0, 2.5, 3.0]), jnp.zeros((1, 1)))
    assert alone.z.shape == (4, 1, 1) and alone.index_sum.tolist() == [-1] * 4


# The same however it is given


def test_a_list_is_the_stacked_tree_and_compiles_once():
    rng = np.random.default_rng(1)
    w, b = jnp.asarray(0.3 * rng.normal(size=(5, 2, 2))), jnp.asarray(rng.normal(size=(5, 2)))
    z0 = rd.orbit(network((w[0], b[0])), jnp.zeros(2), 500)[-1:]
    track(counted, (w[:2], b[:2]), z0)
    traced = len(TRACES)
    stacked = track(counted, (w, b), z0)
    listed = track(counted, list(zip(w, b, strict=True)), z0)
    jax.tree.map(np.testing.assert_array_equal, stacked, listed)
    assert stacked.events == () and bool(stacked.present.all())
    assert 0 < len(TRACES) - traced <= 8, "of each of 8 curves only the check of its shapes"


# What cannot be followed


def broken(p):
    return families.broken_beyond(p)


def test_nan_ends_a_point_with_a_reason():
    found = track(broken, jnp.array([0.0, 0.4, 1.0]), jnp.zeros((1, 1)))
    (event,) = found.events
    assert (event.kind, event.change, event.reason) == ("vanished", -1, "nonfinite")
    assert int(event.status) == rd.Status.NONFINITE
    assert 1.1 < float(event.place) <= 1 + 0.1 / 0.6 + tol("elementary")
    assert found.present[:, 0].tolist() == [True, True, False]
    assert found.status[:, 0].tolist() == [0, rd.Status.NONFINITE, 0]
    assert rd.describe_stop(event.reason).startswith("the map is NaN")


def test_a_point_that_only_the_search_reaches_has_appeared():
    found = track(broken, jnp.array([1.0, 0.4]), jnp.zeros((0, 1)), starts=jnp.zeros((2, 1)))
    (event,) = found.events
    assert (event.kind, event.change, event.reason) == ("appeared", 1, "nonfinite")
    assert found.hits.tolist() == [[0], [2]]
    assert float(found.life[0, 0]) == float(event.place)


def test_what_is_no_fixed_point_is_absent_and_said_so():
    family, checkpoints = rd.maps.logistic, jnp.array([2.5, 2.6])
    found = track(family, checkpoints, jnp.array([[7.0], [0.6]]))
    assert found.present.tolist() == [[False, True], [False, True]]
    assert [(e.kind, e.points, e.reason) for e in found.events] == [("vanished", (0,), "no_start")]
    assert found.status.tolist() == [[rd.Status.STATIONARY, 0], [0, 0]]
    close(found.z[:, 1, 0], [0.6, 1 - 1 / 2.6])


def test_checkpoints_without_change_keep_their_points():
    found = track(network, scalar([2.0, 2.0]), jnp.array([[0.0], [0.957504024077269]]))
    assert found.events == () and bool(found.present.all()) and not np.any(found.status)
    close(found.z[1], found.z[0])


def test_a_checkpoint_on_a_branch_point_is_named():
    found = track(network, scalar([1.0, 2.0]), jnp.zeros((1, 1)))
    assert ("vanished", "singular_start") in [(e.kind, e.reason) for e in found.events]
    assert int(found.status[0, 0]) == rd.Status.SINGULAR


@pytest.mark.parametrize(
    "checkpoints, z0, options, error, said",
    [
        ([scalar([1.0])], jnp.zeros((1, 1)), {}, ValueError, "expected at least two checkpoints"),
        (scalar([1.0, 2.0]), jnp.zeros(1), {}, ValueError, "`z0`: expected shape (m, d)"),
        (
            (jnp.zeros((2, 1, 1)), jnp.zeros((3, 1))),
            jnp.zeros((1, 1)),
            {},
            ValueError,
            "`checkpoints`: expected one leading axis",
        ),
        (
            [{"w": jnp.zeros(1)}, {"v": jnp.zeros(1)}],
            jnp.zeros((1, 1)),
            {},
            ValueError,
            "`checkpoints[1]`: expected structure",
        ),
        (
            scalar([1.0, 2.0]),
            jnp.zeros((1, 1)),
            {"starts": jnp.zeros((5, 3, 1))},
            ValueError,
            "`starts`: expected shape (2, n, 1)",
        ),
        (
            scalar([1.0, 2.0]),
            jnp.zeros((1, 1)),
            {"starts": jnp.zeros((3, 1), jnp.float32)},
            TypeError,
            "`starts`: expected dtype float64",
        ),
        (scalar([1.0, 2.0]), jnp.zeros((1, 1)), {"atol": 0.0}, ValueError, "`atol`: expected"),
    ],
)
def test_misuse(checkpoints, z0, options, error, said):
    with pytest.raises(error, match=re.escape(said)):
        track(network, checkpoints, z0, **options)
