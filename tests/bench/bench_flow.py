"""Times of the analyses of a run, compilation and steady state apart.

Run `OPENBLAS_NUM_THREADS=1 python -m tests.bench.bench_flow` from the repository root; with
`ratios [T]` for singular_spectra against the plain chain, interleaved, and the share of the rate
of matrix products that each reaches (two minutes and 5 GiB with T = 1000, the default); with
`large` for the matrix-free leading vectors. The plain
chain, a product of Jacobians with one SVD a lag, is the baseline; it loses all but the largest
singular values after a few dozen steps, so its time is a floor and not an alternative.
"""

import os
import statistics
import sys
import time

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402

import rnndyn as rd  # noqa: E402

REPEATS = 5


def tanh_run(n, steps, gain=2.0):
    """The Jacobians along a run of a random tanh network, stored."""
    w = gain * jax.random.normal(jax.random.key(0), (n, n)) / jnp.sqrt(n)
    map_ = rd.maps.tanh_network(w)
    start = jax.random.normal(jax.random.key(1), (n,))
    return rd.linearize(map_, rd.orbit(map_, start, steps), dense=True)


def independent_run(n, steps):
    """The diagonals along a run of an IndRNN."""
    cell = rd.cells.CELLS["indrnn"](1, n, steps=steps, start="long")
    params = cell.init(jax.random.key(0))
    return rd.linearize(cell, params, rd.simulate(cell, params, jnp.ones((steps, 1))))


def chain_lags(steps, count=20):
    return tuple(round(steps * (i + 1) / count) for i in range(count))


@jax.jit(static_argnames="lags")
def plain_chain(lin, lags):
    """Singular values of products formed as they stand, one SVD a lag; of equally spaced lags."""
    stretch = lags[0]
    newest = jax.tree.map(lambda leaf: leaf[lin.steps - max(lags) :], lin.slices)
    stretches = jax.tree.map(lambda leaf: leaf.reshape(-1, stretch, *leaf.shape[1:]), newest)

    def step(product, at):
        return lin.pull_rows(at, product), None

    def extend(product, ats):
        product, _ = jax.lax.scan(step, product, ats, reverse=True)
        return product, product

    eye = jnp.eye(lin.size, dtype=lin.dtype)
    _, products = jax.lax.scan(extend, eye, stretches, reverse=True)
    return jnp.linalg.svd(products, compute_uv=False) if len(lags) > 1 else products


def cases():
    lin, lags = tanh_run(64, 500), chain_lags(500)
    yield "plain chain and 20 SVDs, N=64 T=500", lambda: plain_chain(lin, lags)
    yield "singular_spectra, 20 lags, N=64 T=500", lambda: rd.singular_spectra(lin, lags=lags)
    yield "gradient_flow, 20 lags, N=64 T=500", lambda: rd.gradient_flow(lin, lags=lags)
    for n in (64, 128):
        run = tanh_run(n, 500)
        for k in (n, 5):
            title = f"lyapunov_spectrum, k={k}, N={n} T=500"
            yield title, lambda run=run, k=k: rd.lyapunov_spectrum(run, k=k)
    wide = independent_run(4096, 1000)
    yield "IndRNN singular_spectra, N=4096 T=1000", lambda: rd.singular_spectra(wide, lags=(1000,))
    yield "IndRNN gradient_flow, N=4096 T=1000", lambda: rd.gradient_flow(wide)
    yield "IndRNN lyapunov_spectrum, N=4096 T=1000", lambda: rd.lyapunov_spectrum(wide)


def seconds(call):
    started = time.perf_counter()
    jax.block_until_ready(call())
    return time.perf_counter() - started


def matmul(n, count=50):
    """The rate to hold the others against: products of n x n matrices one after another."""
    a = jax.random.normal(jax.random.key(2), (n, n)) / jnp.sqrt(n)
    return jax.jit(lambda a: jax.lax.scan(lambda c, _: (a @ c, None), a, length=count)[0]), a, count


def lstm_run(n, steps, dtype=None, *, dense):
    cell = rd.cells.LSTM(3, n)
    params = cell.init(jax.random.key(0))
    inputs = jax.random.normal(jax.random.key(1), (steps, 3))
    params, inputs = jax.tree.map(lambda leaf: leaf.astype(dtype), (params, inputs))
    return rd.linearize(cell, params, rd.simulate(cell, params, inputs), dense=dense)


def driven_run(n, steps, gain=1.5):
    """The Jacobians along a driven run of a random tanh network, stored."""
    cell = rd.cells.Vanilla(3, n)
    params = cell.init(jax.random.key(0), gain=gain)
    inputs = jax.random.normal(jax.random.key(1), (steps, 3))
    return rd.linearize(cell, params, rd.simulate(cell, params, inputs), dense=True)


def against_the_chain(title, lin, repeats, parts=None):
    """singular_spectra and gradient_flow against the plain chain, interleaved; the fastest of each.

    Flops of the chain: 2 T d^3; the share of the matmul rate counts no others for any of them.
    """
    lags = chain_lags(lin.steps)
    product, a, count = matmul(lin.size)
    calls = {
        "matmul": lambda: product(a),
        "chain": lambda: plain_chain(lin, lags[-1:]),
        "chain, 20 SVDs": lambda: plain_chain(lin, lags),
        "singular_spectra": lambda: rd.singular_spectra(lin, lags=lags),
        "gradient_flow": lambda: rd.gradient_flow(lin, lags=lags),
    }
    if parts is not None:
        calls |= {
            "chain, parts": lambda: plain_chain(parts, lags[-1:]),
            "spectra, parts": lambda: rd.singular_spectra(parts, lags=lags),
            "flow, parts": lambda: rd.gradient_flow(parts, lags=lags),
        }
    best = {name: float("inf") for name in calls}
    for _ in range(repeats + 1):  # the first compiles
        best = {name: min(best[name], seconds(call)) for name, call in calls.items()}
    flops = 2 * lin.size**3
    limit = count * flops / best["matmul"]
    sys.stdout.write(f"{title}: matmul {limit / 1e9:.0f} GF/s\n")
    for name in list(calls)[1:]:
        fill = parts.slices.layout.fill if "parts" in name else 1.0
        ratio = best[name] / best["chain, 20 SVDs"]
        done = fill * lin.steps * flops
        share = done / best[name] / limit
        sys.stdout.write(
            f"  {name:18}{1e3 * best[name]:9.0f} ms{ratio:8.2f} x{done / 1e9:9.1f} GF{share:7.0%}\n"
        )
    sys.stdout.flush()


def ratios(steps):
    sys.stdout.write(
        "20 lags: time, against chain and SVDs, flops of the products, their rate against matmul\n"
    )
    against_the_chain(f"tanh N=128 T={steps}", driven_run(128, steps), repeats=4)
    lstm = [lstm_run(64, steps, float, dense=dense) for dense in (True, None)]
    against_the_chain(f"LSTM N=64 (d=128) T={steps}", lstm[0], 4, lstm[1])
    against_the_chain(f"tanh N=512 T={steps}", driven_run(512, steps), repeats=1)


def large():
    """Leading values and vectors of an LSTM of 4096 units (d = 8192), in float32."""
    lin = lstm_run(4096, 20, jnp.float32, dense=False)
    for title in ("first", "steady"):
        started = time.perf_counter()
        found = jax.block_until_ready(rd.leading_singular_vectors(lin, 4))
        sys.stdout.write(
            f"leading 4, LSTM N=4096 T=20, {title}: {time.perf_counter() - started:.1f} s, "
            f"{int(found.iterations)} iterations, status {found.status.tolist()}\n"
        )


def main():
    jax.config.update("jax_enable_x64", True)
    sys.stdout.write(f"JAX {jax.__version__}, {jax.devices()[0].device_kind}, float64\n")
    if "ratios" in sys.argv:
        ratios(int(sys.argv[-1]) if sys.argv[-1].isdigit() else 1000)
        return
    if "large" in sys.argv:
        large()
        return
    sys.stdout.write(f"{'':44}{'first [s]':>10}{'steady [ms]':>13}{'fastest [ms]':>14}\n")
    for title, call in cases():
        first, later = seconds(call), [seconds(call) for _ in range(REPEATS)]
        steady, fastest = 1e3 * statistics.median(later), 1e3 * min(later)
        sys.stdout.write(f"{title:44}{first:10.2f}{steady:13.1f}{fastest:14.1f}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
