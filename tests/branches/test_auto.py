"""The same branches and events as AUTO-07p on fifteen systems (recorded by `make_auto`)."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rnndyn as rd
from tests.branches import families, make_auto
from tests.tolerances import tol

Partial = jax.tree_util.Partial
RECORDED = json.loads(make_auto.FILE.read_text())


def network(n):
    return Partial(families.gain_times, tuple(map(jnp.asarray, make_auto.network(n))))


OURS = {
    "logistic": rd.maps.logistic,
    "logistic_cycle": families.logistic_cycle,
    "henon": families.henon,
    "delayed_logistic": rd.maps.delayed_logistic,
    "turning": families.turning,
    "tanh_2": Partial(families.scalar_tanh, jnp.asarray(2.0)),
    "tanh_minus_3": Partial(families.scalar_tanh, jnp.asarray(-3.0)),
    "tanh_in_w": Partial(families.scalar_tanh_in_w, jnp.zeros(())),
    "gru_unit": families.gru_unit,
    "lstm_unit": families.lstm_unit,
    "bistable_cell": families.bistable_cell,
    "ctrnn": Partial(families.ctrnn, jnp.asarray(6.0)),
    "wang": families.wang,
    "network_16": network(16),
    "network_64": network(64),
}
# AUTO passes over this pair of eigenvalues, which does cross the circle.
MISSED_BY_AUTO = {"network_16": 1}


@pytest.mark.parametrize("eigenvalues", ["all", "near"])
@pytest.mark.parametrize("name", sorted(OURS))
def test_events_and_points_are_those_of_auto(name, eigenvalues):
    """Also where the eigenvalues of most points are never computed: no event is lost by that."""
    recorded, span = RECORDED[name], make_auto.systems()[name][2]
    branch = rd.continuation(
        OURS[name], jnp.asarray(recorded["start"]), span=span, eigenvalues=eigenvalues
    )
    assert branch.stop == ("left_span", "left_span")
    left = list(branch.events)
    shown = min(branch.z.shape[1], 6)  # AUTO writes out six coordinates of a point
    for kind, parameter, z in recorded["events"]:
        place = np.append(z[:shown], parameter)
        gaps = [
            np.abs(np.append(event.z[:shown], event.parameter) - place).max()
            + 9 * (event.kind != kind)
            for event in left
        ]
        assert min(gaps) < tol("auto"), (kind, parameter)
        left.pop(int(np.argmin(gaps)))
    assert len(left) == MISSED_BY_AUTO.get(name, 0)
    for event in left:
        assert critical_by_numpy(make_auto.systems()[name][0], event) < tol("event_position")
    path = np.column_stack([branch.z[:, :shown], branch.parameter])
    for parameter, z in recorded["samples"]:
        assert distance(np.append(z[:shown], parameter), path) < tol("auto_path")


def distance(point, path):
    """Of a point from the polygon through the branch."""
    a, step = path[:-1], np.diff(path, axis=0)
    along = np.clip(np.sum((point - a) * step, axis=1) / np.sum(step**2, axis=1), 0, 1)
    return np.linalg.norm(a + along[:, None] * step - point, axis=1).min()


def critical_by_numpy(map_, event):
    """Least distance of an eigenvalue from exp(i angle), by central differences."""
    z, h = np.asarray(event.z), 1e-6
    columns = [
        (map_(z + h * e, float(event.parameter)) - map_(z - h * e, float(event.parameter)))
        / (2 * h)
        for e in np.eye(z.size)
    ]
    values = np.linalg.eigvals(np.array(columns).T)
    return np.abs(values - np.exp(1j * float(event.angle))).min()
