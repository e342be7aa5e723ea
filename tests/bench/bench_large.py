"""Large searches for fixed points: 10^5 starts, and a state of 1024 numbers.

Run `OPENBLAS_NUM_THREADS=1 python -m tests.bench.bench_large` from the repository root. The first
part searches the 64-unit tanh flip-flop from ever more starts, chunk by chunk, since what a root
costs is paid again by each chunk but what follows a root is sought among the rows of one chunk
only; a chunk is one part of the progress bar. The peak of the resident set, which includes what
compiling takes, may grow with the starts by their rows alone, which are listed beside it. The
second part searches an LSTM of 512 units, random but for three directions that its memory holds,
from 64 starts: its steps are matrix-free, and one Jacobian (8 MB) is formed for each distinct
root, and for each start that ends at none.
"""

import dataclasses
import os
import resource
import sys
import time

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402

import rnndyn as rd  # noqa: E402
from tests.points.make_flip_flops import starts  # noqa: E402

CHUNK = 4000
SIZES = (4_000, 20_000, 100_000)
UNITS = 512  # of the LSTM
GAINS = (6.0, 5.4, 4.8)  # of the directions that it holds


def peak():
    """Largest resident set so far, in MB (Linux counts in kB)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def say(line):
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def searched(map_, begin):
    """All rows, and the CPU seconds."""
    cpu = time.process_time()
    found = jax.block_until_ready(rd.fixed_points(map_, begin, chunk=CHUNK))
    return found, time.process_time() - cpu


def many():
    map_, begin = starts("tanh64", max(SIZES))
    say(f"{'starts':>8}{'points':>8}{'cpu s':>8}{'us/start':>10}{'peak MB':>9}{'rows MB':>9}")
    for n in SIZES:
        found, cpu = searched(map_, begin[:n])
        points = rd.unique(found)
        rows = dataclasses.replace(found, map_=None)
        size = sum(leaf.nbytes for leaf in jax.tree.leaves(rows)) / 2**20
        line = f"{n:8}{len(points.z):8}{cpu:8.2f}{1e6 * cpu / n:10.0f}{peak():9.0f}{size:9.0f}"
        say(line)


def wide():
    cell = rd.cells.LSTM(1, UNITS)
    params = cell.init(jax.random.key(0))
    held = jnp.linalg.qr(jax.random.normal(jax.random.key(1), (UNITS, 3)))[0]
    memory = jnp.s_[2 * UNITS : 3 * UNITS]
    w_h = params.w_h.at[memory].add(held * jnp.array([GAINS]) @ held.T)
    map_ = rd.hold(cell, dataclasses.replace(params, w_h=w_h), jnp.zeros(1))
    keys = jax.random.split(jax.random.key(2))
    c = jnp.tanh(0.4 * UNITS**0.5 * jax.random.normal(keys[0], (64, 3)) @ held.T)
    begin = jnp.concatenate([c / 2, c], axis=1)
    begin = begin + 0.05 * jax.random.normal(keys[1], begin.shape)
    before = peak()
    for call in ("first call", "second call"):
        cpu = time.process_time()
        found = jax.block_until_ready(rd.fixed_points(map_, begin))
        cpu = time.process_time() - cpu
        kinds = {kind.name: int(np.sum(found.kind == kind)) for kind in rd.Kind}
        say(f"LSTM, d = {2 * UNITS}, {len(begin)} starts, {call}: {cpu:.1f} s cpu, {kinds}")
    points = rd.unique(found)
    residual, steps = np.max(points.residual, initial=0), np.mean(found.steps)
    say(f"{len(points.z)} points, residual {residual:.1e}, mean steps {steps:.1f}")
    say(f"index sum {int(points.index_sum)}, peak {before:.0f} -> {peak():.0f} MB")


if __name__ == "__main__":
    jax.config.update("jax_enable_x64", True)
    jax.config.update("jax_enable_compilation_cache", False)
    for part in sys.argv[1:] or ("many", "wide"):
        {"many": many, "wide": wide}[part]()
