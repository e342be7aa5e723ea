"""Times of the search for fixed points, first call and steady state, of trained flip-flops.

Run `OPENBLAS_NUM_THREADS=1 python -m tests.bench.bench_points [NETWORK ...]` from the repository
root. Wall and CPU seconds are the least of several; on a machine that others use too, only CPU
seconds can be compared. The floor is what the products with W_h alone would take, at the speed
that the machine multiplies matrices of that size.
"""

import os
import sys
import time

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import jax  # noqa: E402
import numpy as np  # noqa: E402

import rnndyn as rd  # noqa: E402
from tests.points.make_flip_flops import NETWORKS, starts  # noqa: E402

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_enable_compilation_cache", False)
REPEATS = 5


def timed(work, repeats):
    """The result, and the least wall and CPU seconds."""
    times = []
    for _ in range(repeats):
        wall, cpu = time.perf_counter(), time.process_time()
        result = jax.block_until_ready(work())
        times.append((time.perf_counter() - wall, time.process_time() - cpu))
    return result, min(t[0] for t in times), min(t[1] for t in times)


def report(name, n):
    """One line: times, points and their index histogram, residual and speed."""
    map_, begin = starts(name, n)
    _, first, first_cpu = timed(lambda: rd.fixed_points(map_, begin), 1)
    found, steady, cpu = timed(lambda: rd.fixed_points(map_, begin), REPEATS)
    points = rd.unique(found)
    modes = rd.stability(map_, points.z, resolvent=False)
    indices = np.bincount(np.asarray(modes.unstable_dim)).tolist()
    w_h = map_.args[0].w_h
    product = jax.jit(lambda z: z @ w_h.T)
    _, _, floor = timed(lambda: product(begin), 20)
    kinds = np.bincount(np.asarray(found.kind), minlength=5).tolist()
    print(
        f"{name:8s} {n:5d} starts: first {first:6.2f} s (cpu {first_cpu:6.2f}), steady "
        f"{steady:6.3f} s (cpu {cpu:6.3f}), {1e6 * cpu / n:6.1f} us cpu a start = "
        f"{cpu / max(floor, 1e-9):5.0f} products; {len(points.z)} points {indices}, index sum "
        f"{int(points.index_sum)}, residual {float(np.max(points.residual)):.1e}, missing "
        f"{float(points.missing):.1f}, kinds {kinds}, mean steps {float(found.steps.mean()):.0f}",
        flush=True,
    )


def main():
    for name in sys.argv[1:] or NETWORKS:
        for n in (1024, 4096) if name.endswith("128") else (1024,):
            report(name, n)


if __name__ == "__main__":
    main()
