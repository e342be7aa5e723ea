"""Radii proved, against the distance to the next point, and their cost.

OPENBLAS_NUM_THREADS=1 python -m tests.bench.bench_certificate [NETWORK ...]
"""

import sys
import time

import jax
import numpy as np

import rnndyn as rd
from tests.points.make_flip_flops import NETWORKS, starts

_POINTS = 9  # of those found, so many are timed


def timed(function):
    begin = time.process_time()
    result = jax.block_until_ready(function())
    return result, time.process_time() - begin


def main(names):
    print("network   points  proved  radius / next: least  median  most   first s   ms a point")
    for name in names or NETWORKS:
        map_, begin = starts(name, 1024)
        points = np.asarray(rd.unique(rd.fixed_points(map_, begin)).z)
        gaps = np.max(np.abs(points[:, None] - points[None]), axis=2)
        np.fill_diagonal(gaps, np.inf)
        chosen = np.arange(0, len(points), max(1, len(points) // _POINTS))
        z = jax.numpy.asarray(points[chosen])
        _, first = timed(lambda map_=map_, z=z: rd.certificate(map_, z))
        found, again = timed(lambda map_=map_, z=z: rd.certificate(map_, z))
        part = np.asarray(found.unique_radius) / gaps.min(axis=1)[chosen]
        proved = int(np.sum(np.asarray(found.status) == 0))
        print(
            f"{name:9s} {len(z):6d} {proved:7d} {part.min():22.3f} {np.median(part):7.3f} "
            f"{part.max():6.3f} {first:8.2f} {1e3 * again / len(z):10.1f}",
            flush=True,
        )


if __name__ == "__main__":
    jax.config.update("jax_enable_x64", True)
    main(sys.argv[1:])
