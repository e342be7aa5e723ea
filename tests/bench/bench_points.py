"""Fixed points of trained flip-flops: times of the search, and FixedPointFinder in the same run.

Run `OPENBLAS_NUM_THREADS=1 python -m tests.bench.bench_points [NETWORK ...]` from the repository
root. FixedPointFinder is searched too if FPF_CHECKOUT names a checkout of it and FPF_PYTHON an
interpreter with torch (by default the present one); OMP_NUM_THREADS=1 keeps threads that only wait
out of its CPU seconds. "first" includes compiling, "steady" is the least of several calls, both in
CPU seconds, which alone can be compared on a machine that others use too. The floor is what 40
products with dF/dz for each of 6 steps take at the rate at which the machine multiplies the starts
by W_h. A point of FixedPointFinder is true if a search from it ends at a root within 0.01.
"""

import os
import pathlib
import subprocess
import sys
import tempfile
import time

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import jax  # noqa: E402
import numpy as np  # noqa: E402

import rnndyn as rd  # noqa: E402
from rnndyn import interop  # noqa: E402
from tests.points.make_flip_flops import load, starts  # noqa: E402

NETWORKS = ("tanh128", "gru128")
SIZES = (1024, 4096)  # starts; FixedPointFinder takes the first number only
REPEATS = 3
PRODUCTS = 240  # of a start: 6 steps of 16 inner iterations and 8 probes
TIMEOUT = 600  # seconds for FixedPointFinder on one network
HEADER = (
    f"{'network':9}{'starts':>7}{'points':>8}{'residual':>10}{'first':>8}{'steady':>8}{'(wall)':>8}"
    f"{'us/start':>10}{'of floor':>10}{'FPF true':>10}{'FPF cpu':>9}{'(wall)':>8}{'ratio':>7}"
)


def timed(work, repeats):
    """The result, and the least CPU and wall seconds."""
    times = []
    for _ in range(repeats):
        wall, cpu = time.perf_counter(), time.process_time()
        result = jax.block_until_ready(work())
        times.append((time.process_time() - cpu, time.perf_counter() - wall))
    return result, min(t[0] for t in times), min(t[1] for t in times)


def peer(name, begin):
    """True points, CPU and wall seconds of FixedPointFinder; None where it cannot run."""
    checkout = os.environ.get("FPF_CHECKOUT")
    if checkout is None:
        return None
    cell, params = load(name)
    kind = "GRU" if isinstance(cell, rd.cells.GRU) else "RNN"
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "given.npz"
        np.savez(path, starts=begin, kind=kind, **interop.to_torch(cell, params))
        script = pathlib.Path(__file__).with_name("fixed_point_finder.py")
        command = [os.environ.get("FPF_PYTHON", sys.executable), script, checkout, path]
        try:
            subprocess.run(command, check=True, capture_output=True, timeout=TIMEOUT)
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
            sys.stderr.write(f"FixedPointFinder on {name}: {error}\n")
            return None
        with np.load(path.with_suffix(".found.npz")) as file:
            z, cpu, wall = file["z"], float(file["cpu"]), float(file["wall"])
    map_, _ = starts(name, 1)
    found = rd.fixed_points(map_, jax.numpy.asarray(z, begin.dtype))
    stayed = np.max(np.abs(np.asarray(found.z) - z), axis=1) < 0.01
    return len(rd.unique(found.rows(stayed)).z), cpu, wall


def report(name, n):
    """One line of the table."""
    map_, begin = starts(name, n)
    _, first, _ = timed(lambda: rd.fixed_points(map_, begin), 1)
    found, steady, wall = timed(lambda: rd.fixed_points(map_, begin), REPEATS)
    points = rd.unique(found)
    w_h = map_.args[0].w_h
    product = jax.jit(lambda z: z @ w_h.T)
    _, floor, _ = timed(lambda: product(begin), 20)
    line = (
        f"{name:9}{n:7}{len(points.z):8}{float(np.max(points.residual)):10.1e}{first:8.2f}"
        f"{steady:8.3f}{wall:8.3f}{1e6 * steady / n:10.0f}{PRODUCTS * floor / steady:10.0%}"
    )
    other = peer(name, begin) if n == SIZES[0] else None
    if other is not None:
        true, cpu, elapsed = other
        line += f"{true:10}{cpu:9.1f}{elapsed:8.1f}{cpu / steady:6.0f}x"
    return line


def main():
    jax.config.update("jax_enable_x64", True)
    jax.config.update("jax_enable_compilation_cache", False)
    sys.stdout.write(HEADER + "\n")
    for name in sys.argv[1:] or NETWORKS:
        for n in SIZES:
            sys.stdout.write(report(name, n) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
