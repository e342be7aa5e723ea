"""The web of points and curves, on branches that are made up: who becomes whom, and conflicts."""

from typing import Any

import numpy as np
import pytest

from rnndyn.branches.branch import Branch
from rnndyn.branches.lineage import Web
from rnndyn.core.status import Status


def branch(parameters, z, stop="left_span", status=0):
    """A branch in one coordinate, made up; as continuation gives it, in the order of the curve."""
    parameters, z = np.asarray(parameters, float), np.asarray(z, float)[:, None]
    made: dict[str, Any] = dict(
        parameter=parameters,
        z=z,
        eigenvalues=np.full(z.shape, 0.5 + 0j),
        stable=np.ones(len(z), bool),
        residual=np.zeros(len(z)),
        orbit=z[:, None, :],
        status=np.asarray(status),
        events=(),
        stop=("left_span", stop),
    )
    return Branch(**made)


class Script:
    """`follow` that plays curves from a table, keyed by (segment, z, start)."""

    def __init__(self, table):
        self.table, self.calls = table, []

    def __call__(self, k, z, start, fine):
        self.calls.append((k, float(z[0]), start, fine))
        made = self.table[(k, float(z[0]), start)]
        return made(fine) if callable(made) else made


def grown(checkpoints, table, *points):
    script = Script(table)
    web = Web(checkpoints, script, 1e-6, relative=False)
    for checkpoint, z in points:
        web.add(checkpoint, np.array([z]))
    web.grow()
    return web, script, web.name()


def known(web):
    return sorted((p.checkpoint, float(p.z[0]), p.name) for p in web.points())


def test_one_point_through_three_checkpoints_is_one_name():
    table = {
        (0, 0.0, 0.0): branch([0, 1], [0.0, 0.1]),
        (1, 0.1, 0.0): branch([0, 1], [0.1, 0.2]),
    }
    web, script, count = grown(3, table, (0, 0.0))
    assert known(web) == [(0, 0.0, 0), (1, 0.1, 0), (2, 0.2, 0)] and count == 1
    assert len(script.calls) == 2, "a curve is walked once, not from both ends"
    assert web.life(1).tolist() == [[0, 2]]


def test_a_search_at_the_end_gets_its_history_backwards():
    """As continuation orders it, the start at s = 1 is the last node."""
    table = {
        (1, 0.2, 1.0): branch([0, 1], [0.1, 0.2], "left_span"),
        (0, 0.1, 1.0): branch([0, 1], [0.0, 0.1], "left_span"),
    }
    web, _, count = grown(3, table, (2, 0.2))
    assert known(web) == [(0, 0.0, 0), (1, 0.1, 0), (2, 0.2, 0)] and count == 1


def test_a_pair_that_is_born_and_one_that_ends_turn_where_the_curve_does():
    table = {
        (0, 0.3, 1.0): branch([1, 0.4, 1], [-0.3, 0.0, 0.3]),
        (1, 0.3, 0.0): branch([0, 0.7, 0], [0.3, 0.0, -0.3]),
    }
    web, _, count = grown(3, table, (1, 0.3))
    assert count == 2 and known(web) == [(1, -0.3, 1), (1, 0.3, 0)]
    np.testing.assert_allclose(web.life(2), [[0.4, 1.7], [0.4, 1.7]])


def test_two_curves_to_one_point_are_walked_again_with_finer_steps():
    """The coarse step jumps from one curve to the other; the fine one stays on its own."""
    table = {
        (0, 0.0, 0.0): branch([0, 1], [0.0, 0.0]),
        (0, 0.5, 0.0): lambda fine: branch([0, 1], [0.5, 0.6 if fine else 0.0]),
    }
    web, script, count = grown(2, table, (0, 0.0), (0, 0.5))
    assert (0, 0.5, 0.0, True) in script.calls and count == 2
    assert known(web) == [(0, 0.0, 0), (0, 0.5, 1), (1, 0.0, 0), (1, 0.6, 1)]
    assert web.events() == []


def test_a_conflict_that_stays_is_said():
    table = {
        (0, 0.0, 0.0): branch([0, 1], [0.0, 0.0]),
        (0, 0.5, 0.0): branch([0, 1], [0.5, 0.0]),
    }
    web, _, count = grown(2, table, (0, 0.0), (0, 0.5))
    (event,) = web.events()
    assert (event.kind, event.reason, event.points) == ("vanished", "conflict", {1})
    assert event.status == Status.MAX_STEPS and count == 2


@pytest.mark.parametrize("reason, status", [("nonfinite", -3), ("step_underflow", -5)])
def test_a_curve_that_ends_in_between_is_a_loss(reason, status):
    table = {(0, 0.0, 0.0): branch([0, 0.5], [0.0, 0.1], reason, status)}
    web, _, _ = grown(2, table, (0, 0.0))
    (event,) = web.events()
    assert (event.kind, event.place, event.change, event.status) == ("vanished", 0.5, -1, status)
    assert web.life(1).tolist() == [[0, 0.5]]
