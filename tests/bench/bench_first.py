"""What the first call of each public analysis costs, and whether the second compiles anything.

Run `OPENBLAS_NUM_THREADS=1 python -m tests.bench.bench_first [CASE ...]` from the repository root
(all cases: about four minutes of CPU). Each case has a process of its own and no compilation cache.
The second call has other numbers of the same shapes and must trace and compile nothing: the columns
"again" count what it did. "programs" are those that XLA compiled in the first call; "eager" those
of them of one operation outside any jitted function, which cost 20 to 40 ms each; "twice" names
whatever was compiled more than once. Tracing, lowering and compiling are wall seconds, the rest of
a first call is the analysis itself.
"""

import collections
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402

import rnndyn as rd  # noqa: E402

N, STEPS, INPUTS, STARTS = 32, 200, 3, 64
TRACE, LOWER, COMPILE = (
    f"/jax/core/compile/{name}_duration"
    for name in ("jaxpr_trace", "jaxpr_to_mlir_module", "backend_compile")
)
MODULES = (jnp, jax.lax, jnp.linalg, jax.random)
OPERATIONS = {name for module in MODULES for name in dir(module)} | {
    *("broadcast_arrays", "reduce_all", "reduce_any", "reduce_sum", "stage"),
    *("threefry_fold_in", "threefry_seed", "threefry_split"),
}
HEADER = (
    f"{'case':34}{'first':>7}{'(cpu)':>7}{'second':>8}{'trace':>7}{'lower':>7}{'compile':>8}"
    f"{'traces':>8}{'programs':>9}{'eager':>6}{'again':>9}  twice\n"
)


def normal(seed, *shape):
    """Drawn on the host: nothing compiles."""
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape))


def driven(kind: Any):
    """A cell, its params and an input."""

    def make(seed):
        cell = kind(INPUTS, N)
        return cell, cell.init(jax.random.key(seed), gain=1.2), normal(seed, STEPS, INPUTS)

    return make


def cell_run(kind, seed):
    cell, params, inputs = driven(kind)(seed)
    return cell, params, rd.simulate(cell, params, inputs)


def tanh_run(seed):
    return cell_run(rd.cells.Vanilla, seed)


def gru_run(seed):
    return cell_run(rd.cells.GRU, seed)


def resting_gru():
    return rd.cells.GRU(INPUTS, N, bias=rd.initializers.Constant(0.0))


def lstm_run(seed):
    return cell_run(rd.cells.LSTM, seed)


def held(run):
    """The map of a cell at rest, its states as starts, and one point of it as good as fixed."""

    def make(seed):
        cell, params, run_ = run(seed)
        states = jax.tree.map(lambda leaf: np.asarray(leaf)[-STARTS:], run_.states)
        starts = np.concatenate(jax.tree.leaves(states), axis=1)
        return rd.hold(cell, params, jnp.zeros(cell.input_size)), jnp.asarray(starts)

    return make


def linearized(run):
    return lambda seed: rd.linearize(*run(seed))


def of_run(analysis):
    return lambda given: analysis(*given)


def squares(outputs):
    return jnp.sum(outputs**2)


def scaled(w, gain):
    return rd.maps.tanh_network(gain * w)


def biased(w, gain, bias):
    return rd.maps.tanh_network(gain * w, bias)


def cusp(seed):
    """A bistable network of 8 units: of w = I there is a pitchfork at gain 1."""
    return jnp.eye(8) + 0.01 * normal(seed, 8, 8) / 8


def family(seed):
    return jax.tree_util.Partial(scaled, cusp(seed)), normal(seed, 8) + 1


def checkpoints(seed):
    gains = jnp.asarray([0.5, 1.5, 2.5])[:, None, None]
    return gains * cusp(seed), jnp.zeros((1, 8)), normal(seed, 9, 8)


def relu_map(seed):
    cls: Any = rd.cells.CELLS["irnn"]
    cell = cls(INPUTS, 6)
    return rd.hold(cell, cell.init(jax.random.key(seed)), jnp.asarray([0.1, -0.2, 0.3]))


def theory(name, *fixed, **options):
    return lambda gain: getattr(rd.mean_field, name)(gain, *fixed, **options)


Case = tuple[Callable[[int], Any], Callable[[Any], Any]]  # what is prepared, and what is measured


def given_gain(seed):
    return 1.2 + 0.1 * seed


def flow_cases() -> dict[str, Case]:
    dense, gated = linearized(tanh_run), linearized(gru_run)
    lstm = linearized(lstm_run)
    cases: dict[str, Case] = {
        "cell.init": (jax.random.key, rd.cells.Vanilla(INPUTS, N).init),
        "cell.init gru": (jax.random.key, rd.cells.GRU(INPUTS, N).init),
        "cell.init lstm": (jax.random.key, rd.cells.LSTM(INPUTS, N).init),
        "simulate": (driven(rd.cells.Vanilla), of_run(rd.simulate)),
        "simulate gru": (driven(rd.cells.GRU), of_run(rd.simulate)),
        "simulate parallel": (
            driven(rd.cells.GRU),
            lambda given: rd.simulate(*given, parallel=True),
        ),
        "sample_states": (
            tanh_run,
            lambda run: rd.sample_states(jax.random.key(1), run[2], 50, noise=0.1),
        ),
        "orbit": (held(tanh_run), lambda given: rd.orbit(given[0], given[1][0], STEPS)),
        "linearize": (tanh_run, of_run(rd.linearize)),
        "linearize lstm": (lstm_run, of_run(rd.linearize)),
        "gradient_flow": (dense, rd.gradient_flow),
        "gradient_flow lstm": (lstm, rd.gradient_flow),
        "gradient_flow parallel": (dense, lambda lin: rd.gradient_flow(lin, parallel=True)),
        "singular_spectra": (dense, rd.singular_spectra),
        "singular_spectra lstm": (lstm, rd.singular_spectra),
        "lyapunov_spectrum": (dense, rd.lyapunov_spectrum),
        "lyapunov_spectrum k=5": (gated, lambda lin: rd.lyapunov_spectrum(lin, k=5)),
        "lyapunov_stream": (
            held(gru_run),
            lambda given: rd.lyapunov_stream(given[0], given[1][0], steps=STEPS, k=5),
        ),
        "covariant_vectors": (
            dense,
            lambda lin: rd.covariant_vectors(lin, warmup=50, cooldown=50),
        ),
        "kaplan_yorke": (lambda seed: -np.sort(-normal(seed, N)), rd.kaplan_yorke),
        "leading_singular_vectors": (dense, lambda lin: rd.leading_singular_vectors(lin, 2)),
        "contributions": (gru_run, lambda run: rd.contributions(*run, squares)),
        "pathways": (lstm_run, of_run(rd.pathways)),
        "carry": (gru_run, of_run(rd.carry)),
        "non_normality": (dense, rd.non_normality),
        "transient_growth": (
            lambda seed: 0.5 * normal(seed, N, N) / N**0.5,
            rd.transient_growth,
        ),
        "shattering": (
            lambda seed: normal(seed, 1, N) * jnp.linspace(-1.0, 1.0, 256)[:, None],
            lambda points: rd.shattering(squares, points),
        ),
    }
    theories = {
        "vanilla": theory("vanilla", 0.1),
        "minimal_rnn": theory("minimal_rnn"),
        "gru": theory("gru", 0.1),
        "lstm": theory("lstm", 0.1),
        "critical_gain": lambda gain: rd.mean_field.critical_gain(gain / 10),
        "critical_line": lambda gain: rd.mean_field.critical_line(gain / 10),
        "exponent_density": lambda gain: rd.mean_field.exponent_density(gain, 0.1),
    }
    cases["mean_field.sampled"] = (
        lambda seed: (jax.random.key(seed), normal(seed, 50, INPUTS)),
        lambda given: rd.mean_field.sampled(rd.cells.Vanilla(INPUTS, 100), *given),
    )
    return cases | {f"mean_field.{name}": (given_gain, call) for name, call in theories.items()}


def point_cases() -> dict[str, Case]:
    tanh, gru = held(tanh_run), held(gru_run)
    return {
        "fixed_points": (tanh, of_run(rd.fixed_points)),
        "fixed_points gru": (gru, of_run(rd.fixed_points)),
        "unique": (lambda seed: rd.fixed_points(*tanh(seed)), rd.unique),
        "stability": (tanh, lambda given: rd.stability(given[0], given[1][:4])),
        "stability no resolvent": (
            gru,
            lambda given: rd.stability(given[0], given[1][:4], resolvent=False),
        ),
        "input_jacobian": (gru, lambda given: rd.input_jacobian(given[0], given[1][:4])),
        "certificate": (gru, lambda given: rd.certificate(given[0], given[1][:4])),
        "cycles": (tanh, lambda given: rd.cycles(*given, period=2)),
        "cycle_stability": (
            tanh,
            lambda given: rd.cycle_stability(given[0], given[1][:8].reshape(4, 2, -1)),
        ),
        "search": (
            tanh,
            lambda given: rd.search(*given, key=jax.random.key(0), max_rounds=2),
        ),
        "piecewise_linear": (
            relu_map,
            lambda map_: rd.piecewise_linear(map_, 2, box=(np.full(6, -9.0), np.full(6, 9.0))),
        ),
    }


def branch_cases() -> dict[str, Case]:
    tanh = held(tanh_run)
    return {
        "bifurcation_proximity": (
            tanh,
            lambda given: rd.bifurcation_proximity(given[0], given[1][:2]),
        ),
        "continuation": (
            family,
            lambda given: rd.continuation(*given, span=(0.5, 2.0), start=2.0),
        ),
        "track": (
            checkpoints,
            lambda given: rd.track(rd.maps.tanh_network, *given[:2], starts=given[2]),
        ),
        "basins": (tanh, of_run(rd.basins)),
        "origin_margins": (
            lambda seed: resting_gru().init(jax.random.key(seed)),
            lambda params: rd.origin_margins(resting_gru(), params),
        ),
    }


def cases() -> dict[str, Case]:
    return flow_cases() | point_cases() | branch_cases()


class Recorder:
    """What JAX reports of tracing, lowering and compiling, until it is read."""

    def __init__(self):
        self.names = collections.defaultdict(list)
        self.spans = collections.defaultdict(list)
        jax.monitoring.register_event_time_span_listener(self.note)

    def note(self, event: str, start_time: float, end_time: float, **about: Any) -> None:
        self.names[event].append(about.get("fun_name", "?"))
        self.spans[event].append((start_time, end_time))

    def seconds(self, event):
        """Of the union of the spans, as a trace within a trace is reported too."""
        total, reached = 0.0, 0.0
        for start, stop in sorted(self.spans[event]):
            total += max(0.0, stop - max(start, reached))
            reached = max(reached, stop)
        return total

    def clear(self):
        self.names.clear()
        self.spans.clear()


def timed(call, given):
    wall, cpu = time.perf_counter(), time.process_time()
    jax.block_until_ready(call(given))
    return time.perf_counter() - wall, time.process_time() - cpu


def measure(name):
    """One line of the table, as JSON; with the names of all programs."""
    jax.config.update("jax_enable_compilation_cache", False)
    prepare, call = cases()[name]
    givens = [jax.block_until_ready(prepare(seed)) for seed in (0, 1)]
    recorder = Recorder()
    first, cpu = timed(call, givens[0])
    programs = recorder.names[COMPILE]
    found = {
        "case": name,
        "first": first,
        "cpu": cpu,
        "traces": len(recorder.names[TRACE]),
        "programs": programs,
        **{key: recorder.seconds(key) for key in (TRACE, LOWER, COMPILE)},
    }
    recorder.clear()
    found["second"], _ = timed(call, givens[1])
    found["again"] = [recorder.names[TRACE], recorder.names[COMPILE]]
    return found


def eager(names):
    """Programs of one operation, by the names that jax.numpy and jax.lax give them."""
    plain = [name.removeprefix("jit(").removesuffix(")").lstrip("_") for name in names]
    return [name for name in plain if name in OPERATIONS]


def row(found):
    counts = collections.Counter(found["programs"])
    twice = ", ".join(f"{name} x{count}" for name, count in counts.items() if count > 1)
    again = "/".join(str(len(names)) for names in found["again"])
    return (
        f"{found['case']:34}{found['first']:7.2f}{found['cpu']:7.2f}{found['second']:8.3f}"
        f"{found[TRACE]:7.2f}{found[LOWER]:7.2f}{found[COMPILE]:8.2f}{found['traces']:8}"
        f"{len(found['programs']):9}{len(eager(found['programs'])):6}{again:>9}  {twice}\n"
    )


def main(arguments):
    if arguments[:1] == ["--measure"]:
        sys.stdout.write(json.dumps(measure(arguments[1])) + "\n")
        return
    verbose = "-v" in arguments
    chosen = [name for name in arguments if name != "-v"] or list(cases())
    sys.stdout.write(HEADER)
    for name in chosen:
        command = [sys.executable, "-m", "tests.bench.bench_first", "--measure", name]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        if done.returncode:
            sys.stdout.write(f"{name:34}{done.stderr.strip().splitlines()[-1]}\n")
            continue
        found = json.loads(done.stdout.splitlines()[-1])
        sys.stdout.write(row(found))
        if verbose:
            sys.stdout.write(f"  {found['programs']}\n  again {found['again']}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
