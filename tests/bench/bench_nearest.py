"""Crossing the nearest bifurcation of trained flip-flops: what happens just before and just after.

Run `OPENBLAS_NUM_THREADS=1 python -m tests.bench.bench_nearest [NETWORK ...]` from the repository
root (gru64: about two minutes of one core). Of all fixed points the one with the nearest
bifurcation is moved there: the weights go along the straight line to 1 - 1e-3 and 1 + 1e-3 of the
distance, all points are followed, and their numbers and unstable eigenvalues are counted. No other
point can change earlier, since each has its own bifurcation further away.
"""

import os
import sys
import time

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402

import rnndyn as rd  # noqa: E402
from tests.points.make_flip_flops import load, starts  # noqa: E402

BESIDE = 1e-3


def distances(map_, points):
    """The proximity of each point, one call a point so that the seconds are those of one."""
    seconds, rows = [], []
    for z in points:
        began = time.process_time()
        rows.append(jax.block_until_ready(rd.bifurcation_proximity(map_, z[None])))
        seconds.append(time.process_time() - began)
    return jax.tree.map(lambda *parts: jnp.concatenate(parts), *rows), seconds


def moved(args, nearest, fraction):
    return jax.tree.map(lambda a, b: a + fraction * (b - a), args, nearest)


def report(name, n=1024):
    cell, _ = load(name)
    map_, begin = starts(name, n)
    x = map_.args[1]

    def at(params):
        return rd.hold(cell, params, x)

    points = rd.unique(rd.fixed_points(map_, begin)).z
    near, seconds = distances(map_, points)
    i = int(jnp.argmin(near.parameter_distance))
    nearest = jax.tree.map(lambda a: a[i], near.nearest[0])
    print(
        f"{name}: {len(points)} points; distances {np.sort(near.parameter_distance).round(4)}\n"
        f"  nearest: point {i}, kind {int(near.nearest_kind[i])}, distance"
        f" {float(near.parameter_distance[i]):.6f} (to first order"
        f" {float(near.first_order_distance[i]):.4f}), residual"
        f" {float(near.critical_residual[i]):.1e}; cpu seconds: first {seconds[0]:.1f}, then"
        f" {np.median(seconds[1:]):.2f} a point",
        flush=True,
    )
    stages = [moved(map_.args[0], nearest, f) for f in (0, 1 - BESIDE, 1 + BESIDE)]
    track = rd.track(at, stages, points)
    for k, fraction in enumerate((0, 1 - BESIDE, 1 + BESIDE)):
        unstable = np.sum(np.abs(track.eigenvalues[k]) > 1, axis=1)[np.asarray(track.present[k])]
        print(
            f"  at {fraction:.3f}: {int(track.present[k].sum())} points, unstable eigenvalues"
            f" {np.bincount(unstable).tolist()}, index sum {int(track.index_sum[k])}"
        )
    for event in track.events:
        where = 1 - BESIDE + 2 * BESIDE * (float(event.place) - 1)
        print(
            f"  {event.kind} of points {event.points}, change {event.change:+d}, at 1"
            f" {where - 1:+.1e} of the distance; {event.reason}",
            flush=True,
        )


def main():
    jax.config.update("jax_enable_x64", True)
    for name in sys.argv[1:] or ("gru16", "gru64"):
        report(name)


if __name__ == "__main__":
    main()
