"""Runs in parallel over time against runs step by step: Newton steps, times, differences.

`OPENBLAS_NUM_THREADS=1 python -m tests.bench.bench_evaluation` from the repository root measures
on JAX's default device. The two ways are interleaved, and the fastest of each counts. With the
argument `gpu` it is a check of an accelerator: it also asserts that the runs agree, and measures
in both precisions whether the automatic choice is the faster way; without one it says so and stops.
"""

import functools
import os
import sys
import time
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402

import rnndyn as rd  # noqa: E402

ROUNDS = 4
CASES = [  # name, size, gain, strength of the input
    ("vanilla", 16, 1.0, 1.0),
    ("vanilla", 64, 1.0, 1.0),
    ("gru", 32, 1.0, 1.0),
    ("gru", 32, 4.0, 4.0),
    ("lstm", 16, 1.0, 1.0),
    ("lstm", 64, 1.0, 1.0),
    ("indrnn", 512, 1.0, 1.0),
    ("clockwork", 32, 1.0, 1.0),
    ("vanilla", 32, 4.0, 1.0),
]


def case(name, size, gain, strength, steps, dtype):
    cls: Any = rd.cells.CELLS[name]
    cell = cls(3, size)
    params = cell.init(jax.random.key(0), gain=gain)
    inputs = strength * jax.random.normal(jax.random.key(1), (steps, 3))
    params, inputs = jax.tree.map(lambda leaf: leaf.astype(dtype), (params, inputs))
    return cell, params, inputs


def seconds(call):
    started = time.perf_counter()
    jax.block_until_ready(call())
    return time.perf_counter() - started


def measure(steps, dtype, assured):
    title = f"T={steps} {jnp.dtype(dtype).name}"
    sys.stdout.write(f"{title:32}{'by step [ms]':>13}{'at once [ms]':>13}{'difference':>12}\n")
    for name, size, gain, strength in CASES:
        given = case(name, size, gain, strength, steps, dtype)
        run = functools.partial(rd.simulate, *given)
        ways = {way: functools.partial(run, parallel=way) for way in (False, True)}
        best = dict.fromkeys(ways, float("inf"))
        for _ in range(ROUNDS + 1):  # the first compiles
            best = {way: min(best[way], seconds(call)) for way, call in ways.items()}
        by_step, at_once = ways[False](), ways[True]()
        gap = float(jnp.max(jnp.abs(by_step.outputs - at_once.outputs)))
        said = at_once.evaluation.explain()
        label = f"{name} n={size} gain {gain:g} input {strength:g}"
        times = f"{1e3 * best[False]:13.2f}{1e3 * best[True]:13.2f}"
        sys.stdout.write(f"{label:32}{times}{gap:12.1e}  {said}\n")
        if assured:
            error = np.nan_to_num(float(at_once.evaluation.error))
            assert gap <= 1e3 * error + 1e3 * float(jnp.finfo(dtype).eps), label
            choice = run().evaluation
            faster = "at once" if best[True] < best[False] else "by step"
            sys.stdout.write(f"    the choice: {choice.explain()} Faster: {faster}.\n")
        sys.stdout.flush()


def main():
    jax.config.update("jax_enable_x64", True)
    check = "gpu" in sys.argv
    sys.stdout.write(f"JAX {jax.__version__}, {jax.devices()[0].device_kind}\n")
    if check and jax.default_backend() == "cpu":
        sys.stdout.write("No accelerator is present: nothing was checked.\n")
        return
    if check:  # the default product of a GPU rounds float32 to TF32, in runs step by step as well
        jax.config.update("jax_default_matmul_precision", "highest")
    for dtype in (jnp.float64, jnp.float32) if check else (jnp.float64,):
        for steps in (1000, 10_000) if check else (1000,):
            measure(steps, dtype, check)


if __name__ == "__main__":
    main()
