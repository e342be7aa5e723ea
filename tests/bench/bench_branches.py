"""Times of continuation beside AUTO-07p: first call, and CPU time per point and per call.

Run `OPENBLAS_NUM_THREADS=1 python -m tests.bench.bench_branches [system ...]` from the root. Where
bifpy is installed AUTO runs in turn with ours, in the same minute; else its recorded wall times
(tests/branches/auto.json) are printed, without ratios. AUTO has Python callbacks, finite
differences and eigenvalues at every point; its CPU time includes that of its process, some 20 ms a
call. Whole calls with all events, the least of several. As AUTO puts more points on the same
branch, the last two columns take as many as it does, by a smaller ds_max: there the ratio by point
is that by call.
"""

import importlib.util
import os
import resource
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
LIVE = importlib.util.find_spec("bifpy") is not None


def cpu():
    """Seconds of this process and of those that it started."""
    kinds = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return sum(used.ru_utime + used.ru_stime for used in map(resource.getrusage, kinds))


def seconds(call, clock=time.perf_counter):
    began = clock()
    jax.block_until_ready(call())
    return clock() - began


def as_many(followed, count):
    """The ds_max, at most the default, with which a branch has `count` points to 5 %."""
    ds_max, points = 0.05, followed().parameter.size
    for _ in range(20):
        if points >= 0.95 * count and (points <= 1.05 * count or ds_max == 0.05):
            break
        ds_max = min(0.05, ds_max * points / count)
        points = followed(ds=min(0.01, ds_max), ds_max=ds_max).parameter.size
    return ds_max, points


def beside_auto(name):
    recorded, (map_, begin, span) = test_auto.RECORDED[name], make_auto.systems()[name]
    family, start = test_auto.OURS[name], jnp.asarray(recorded["start"])
    problem = pose(family, start, span=span)
    u0 = jnp.append(start, 0.0)

    def swept():
        options = {"max_points": problem.max_points, "natural": False}
        return sweep(problem.iterated(), u0, jnp.zeros_like(u0), problem.sizes, **options)

    def followed(**options):
        return rd.continuation(family, start, span=span, **options)

    first = seconds(followed)
    points = followed().parameter.size
    ds_max, equal = as_many(followed, recorded["points"])
    calls = {
        "sweep": swept,
        "near": lambda: followed(eigenvalues="near"),
        "all": lambda: followed(eigenvalues="all"),
        "default": followed,
        "equal": lambda: followed(ds=min(0.01, ds_max), ds_max=ds_max),
    }
    auto = make_auto.followed if LIVE else None
    least = dict.fromkeys([*calls, "AUTO"], np.inf)
    for call in calls.values():
        call()
    for repeat in range(REPEATS):
        for key, call in calls.items():
            least[key] = min(least[key], seconds(call, cpu))
        if auto and repeat < 3:
            began = cpu()
            auto(map_, begin, span)
            least["AUTO"] = min(least["AUTO"], cpu() - began)
    micro = {key: 1e6 * least[key] / (equal if key == "equal" else points) for key in calls}
    line = f"{name:18}{points:7}{first:10.2f}"
    line += "".join(f"{micro[key]:9.0f}" for key in ("sweep", "near", "all", "default"))
    if not auto:
        each = 1e6 * recorded["seconds"] / recorded["points"]
        return line + f"{each:9.0f} (recorded), {equal} points: {micro['equal']:.0f}"
    each = 1e6 * least["AUTO"] / recorded["points"]
    ratios = each / micro["default"], least["AUTO"] / least["default"]
    line += f"{each:9.0f}{ratios[0]:9.1f}{ratios[1]:9.1f}"
    return line + f"{equal:9}{micro['equal']:9.0f}{each / micro['equal']:9.1f}"


def many(count):
    rng = np.random.default_rng(0)
    w = jnp.asarray(rng.normal(size=(count, 2, 2)) / np.sqrt(2))
    b = jnp.asarray(0.3 * rng.normal(size=(count, 2)))
    start = jax.vmap(lambda w, b: rd.orbit(families.gain_times((w, b), 0.2), b, 200)[-1])(w, b)
    options = {"span": (0.2, 3.0), "max_points": 200}
    family = jax.tree_util.Partial(families.gain_times, (w, b))

    def all_at_once():
        return rd.continuations(family, start, stacked=True, **options)

    all_at_once()
    together = min(seconds(all_at_once) for _ in range(3))
    alone = seconds(
        lambda: [
            rd.continuation(
                jax.tree_util.Partial(families.gain_times, (w[i], b[i])), start[i], **options
            )
            for i in range(0, count, 10)
        ]
    )
    return f"{count} branches, d = 2: {together:.2f} s in one call, {10 * alone:.1f} s one by one"


def main():
    jax.config.update("jax_enable_x64", True)
    write = sys.stdout.write
    write(
        f"JAX {jax.__version__}, {jax.devices()[0].device_kind}, float64; CPU us a point of whole"
        " calls (sweep: of the sweep alone); ratios by point and by call\n"
    )
    titles = ("sweep", "near", "all", "default", "AUTO", "by point", "by call")
    titles += ("equal", "us", "ratio")
    write(f"{'':18}{'points':>7}{'first [s]':>10}" + "".join(f"{t:>9}" for t in titles) + "\n")
    for name in sys.argv[1:] or test_auto.OURS:
        write(beside_auto(name) + "\n")
        sys.stdout.flush()
    if not sys.argv[1:]:
        write(many(1000) + "\n")


if __name__ == "__main__":
    main()
