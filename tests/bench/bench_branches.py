"""Times of continuation: first call, steady state, and per point, beside recorded AUTO-07p.

Run `OPENBLAS_NUM_THREADS=1 python -m tests.bench.bench_branches` from the repository root. AUTO's
times (tests/branches/auto.json, through bifpy) are those of Python callbacks, with finite
differences and eigenvalues at every point, and include about 0.12 s a call for its process. The
least of several calls.
"""

import os
import sys
import time

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402

import rnndyn as rd  # noqa: E402
from rnndyn.branches.arclength import sweep  # noqa: E402
from rnndyn.branches.continuation import pose  # noqa: E402
from tests.branches import families, make_auto, test_auto  # noqa: E402

REPEATS = 7


def seconds(call):
    began = time.perf_counter()
    jax.block_until_ready(call())
    return time.perf_counter() - began


def timed(call):
    return seconds(call), min(seconds(call) for _ in range(REPEATS))


def beside_auto(name):
    recorded, span = test_auto.RECORDED[name], make_auto.systems()[name][2]
    family, start = test_auto.OURS[name], jnp.asarray(recorded["start"])
    problem = pose(family, start, span=span)
    u0 = jnp.append(start, 0.0)

    def swept():
        options = {"max_points": problem.max_points, "natural": False}
        return sweep(problem.iterated(), u0, jnp.zeros_like(u0), problem.sizes, **options)

    first, every = timed(lambda: rd.continuation(family, start, span=span))
    _, near = timed(lambda: rd.continuation(family, start, span=span, eigenvalues="near"))
    _, bare = timed(swept)
    points = int(np.sum(jax.device_get(swept())[1])) - 1
    micro = [1e6 * t / points for t in (bare, near, every)]
    auto = recorded["seconds"]
    times = [*micro, 1e3 * near, 1e6 * auto / recorded["points"], 1e3 * auto]
    return f"{name:18}{points:7}{first:10.2f}" + "".join(f"{t:10.0f}" for t in times)


def many(count):
    rng = np.random.default_rng(0)
    w = jnp.asarray(rng.normal(size=(count, 2, 2)) / np.sqrt(2))
    b = jnp.asarray(0.3 * rng.normal(size=(count, 2)))
    start = jax.vmap(lambda w, b: rd.orbit(families.gain_times((w, b), 0.2), b, 200)[-1])(w, b)
    options = {"span": (0.2, 3.0), "max_points": 200}
    family = jax.tree_util.Partial(families.gain_times, (w, b))
    together = timed(lambda: rd.continuations(family, start, stacked=True, **options))
    alone = seconds(
        lambda: [
            rd.continuation(
                jax.tree_util.Partial(families.gain_times, (w[i], b[i])), start[i], **options
            )
            for i in range(0, count, 10)
        ]
    )
    return (
        f"{count} branches, d = 2: {together[1]:.2f} s in one call, {10 * alone:.1f} s one by one"
    )


def main():
    jax.config.update("jax_enable_x64", True)
    write = sys.stdout.write
    write(
        f"JAX {jax.__version__}, {jax.devices()[0].device_kind}, float64; us a point, ms a call\n"
    )
    titles = ("first [s]", "sweep", "near", "all", "call", "AUTO", "call")
    write(f"{'':18}{'points':>7}{titles[0]:>10}" + "".join(f"{t:>10}" for t in titles[1:]) + "\n")
    for name in test_auto.OURS:
        write(beside_auto(name) + "\n")
        sys.stdout.flush()
    write(many(1000) + "\n")


if __name__ == "__main__":
    main()
