"""Branches and events of fixed points, recorded from AUTO-07p (maps, IPS = -1) through bifpy.

Run `python -m tests.branches.make_auto` from the repository root, in an environment with bifpy
(which needs gfortran), to write auto.json again: for each system the events, some points of
the branch, the number of points and the seconds, which are those of Python callbacks and finite
differences.
"""

import json
import pathlib
import sys
import time
from functools import partial

import numpy as np

FILE = pathlib.Path(__file__).parent / "auto.json"
NAMES = {"FOLD": "fold", "BRANCH_POINT": "branch_point", "PERIOD_DOUBLING": "flip"}
NAMES |= {"TORUS": "neimark_sacker", "HOPF_BIFURCATION": "neimark_sacker"}


def sigma(x):
    return 1 / (1 + np.exp(-x))


def logistic(z, r):
    return r * z * (1 - z)


def logistic_cycle(z, r):
    return logistic(logistic(z, r), r)


def henon(z, a):
    return np.array([1 - a * z[0] ** 2 + z[1], 0.3 * z[0]])


def delayed_logistic(z, r):
    return np.array([r * z[0] * (1 - z[1]), z[0]])


def turning(z, rho):
    c, s = np.cos(1), np.sin(1)
    return np.tanh(rho * np.array([[c, -s], [s, c]]) @ z)


def scalar_tanh(w, z, b):
    return np.tanh(w * z + b)


def scalar_tanh_in_w(z, w):
    return np.tanh(w * z)


def gru_unit(z, u):
    keep = sigma(0.7 * z + 0.3)
    return keep * z + (1 - keep) * np.tanh(u * sigma(z) * z)


def lstm_unit(z, w):
    c = sigma(1) * z[1] + 0.5 * np.tanh(w * z[0])
    return np.array([0.5 * np.tanh(c), c])


def bistable_cell(z, u):
    keep = sigma(0.3 * z - 0.2)
    return keep * z + (1 - keep) * np.tanh(u + 1.5 * z)


def ctrnn(z, current):
    return z + 0.1 * (-z + 6 * sigma(z) + current)


def wang(z, mu):
    gap = mu * (z[1] - z[0])
    return sigma(np.array([5 * gap, 25 * gap]))


def network(n):
    """W and b of a random network."""
    rng = np.random.default_rng(3)
    return rng.normal(size=(n, n)) / np.sqrt(n), 0.1 * rng.normal(size=n)


def gain_times(weights, z, g):
    return np.tanh(g * weights[0] @ z + weights[1])


def systems():
    """Name -> (map, a state near the fixed point at the start, span)."""
    return {
        "logistic": (logistic, [0.5], (2.0, 3.4)),
        "logistic_cycle": (logistic_cycle, [0.5130445], (3.2, 3.5)),
        "henon": (henon, [0.9, 0.27], (0.1, 1.0)),
        "delayed_logistic": (delayed_logistic, [1 / 3, 1 / 3], (1.5, 2.2)),
        "turning": (turning, [0.0, 0.0], (0.5, 1.5)),
        "tanh_2": (partial(scalar_tanh, 2.0), [-1.0], (-4.0, 4.0)),
        "tanh_minus_3": (partial(scalar_tanh, -3.0), [-0.9], (-5.0, 5.0)),
        "tanh_in_w": (scalar_tanh_in_w, [0.0], (-2.0, 2.0)),
        "gru_unit": (gru_unit, [0.0], (1.5, 2.5)),
        "lstm_unit": (lstm_unit, [0.0, 0.0], (0.5, 2.0)),
        "bistable_cell": (bistable_cell, [-0.9], (-1.0, 1.0)),
        "ctrnn": (ctrnn, [-8.0], (-8.0, -1.0)),
        "wang": (wang, [0.5, 0.9], (1.0, 1.5)),
        "network_16": (partial(gain_times, network(16)), [0.0] * 16, (0.2, 4.0)),
        "network_64": (partial(gain_times, network(64)), [0.0] * 64, (0.2, 1.6)),
    }


def settled(map_, z, p):
    """The fixed point at p, by iterating (all of these are stable at the start) and Newton."""
    z = np.asarray(z, float)
    for _ in range(500):
        z = map_(z, p)
    return z


def followed(map_, start, span):
    from bifpy import auto

    z0 = settled(map_, start, span[0])

    def equation(state, parameters):
        return list(map_(np.asarray(state), parameters[0]))

    def starting_point(state, parameters, _):
        state[: len(z0)], parameters[0] = list(z0), span[0]

    width = span[1] - span[0]
    settings = {
        "ips": auto.IPS_MAP,
        "ndim": len(z0),
        "npar": 1,
        "nmx": 3000,
        "npr": 1,
        "mxbf": 0,
        "ilp": 1,
        "isp": 2,
        "itmx": 20,
        "itnw": 8,
        "nwtn": 3,
        "jac": 0,
        "iad": 3,
        "iads": 1,
        "ntst": 20,
        "ncol": 4,
        "ds": 0.002 * width,
        "dsmin": 1e-7,
        "dsmax": 0.02 * width,
        "rl0": span[0],
        "rl1": span[1],
        "a0": -1e300,
        "a1": 1e300,
        "epsl": 1e-10,
        "epsu": 1e-10,
        "epss": 1e-9,
    }
    began = time.perf_counter()
    result = auto.run(equation, starting_point, settings, icu=[1])
    seconds = time.perf_counter() - began
    points = result.branches[0].points
    kinds = [NAMES.get(point.point_type.name) for point in points]
    return {
        "events": [
            [kind, point.parameters[0], list(point.state)]
            for kind, point in zip(kinds, points, strict=True)
            if kind
        ],
        "start": list(z0),
        "samples": [[p.parameters[0], list(p.state)] for p in points[5 : -2 : len(points) // 6]],
        "points": len(points),
        "seconds": seconds,
    }


def main():
    found = {}
    for name, (map_, start, span) in systems().items():
        found[name] = followed(map_, start, span)
        events = [(kind, round(p, 9)) for kind, p, _ in found[name]["events"]]
        sys.stdout.write(f"{name} {found[name]['points']} {found[name]['seconds']:.3f} {events}\n")
        sys.stdout.flush()
    FILE.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
