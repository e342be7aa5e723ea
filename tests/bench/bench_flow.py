"""Times of the analyses of a run, compilation and steady state apart.

Run `OPENBLAS_NUM_THREADS=1 python -m tests.bench.bench_flow` from the repository root. The plain
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
def plain_chain(jacobians, lags):
    """Singular values of products formed as they stand, one SVD a lag."""

    def step(product, jacobian):
        product = product @ jacobian
        return product, product

    eye = jnp.eye(jacobians.shape[-1], dtype=jacobians.dtype)
    _, products = jax.lax.scan(step, eye, jacobians[::-1])
    return jnp.linalg.svd(products[jnp.asarray(lags) - 1], compute_uv=False)


def cases():
    lin, lags = tanh_run(64, 500), chain_lags(500)
    yield "plain chain and 20 SVDs, N=64 T=500", lambda: plain_chain(lin.jacobians, lags)
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


def main():
    jax.config.update("jax_enable_x64", True)
    sys.stdout.write(f"JAX {jax.__version__}, {jax.devices()[0].device_kind}, float64\n")
    sys.stdout.write(f"{'':44}{'first [s]':>10}{'steady [ms]':>13}{'fastest [ms]':>14}\n")
    for title, call in cases():
        first, later = seconds(call), [seconds(call) for _ in range(REPEATS)]
        steady, fastest = 1e3 * statistics.median(later), 1e3 * min(later)
        sys.stdout.write(f"{title:44}{first:10.2f}{steady:13.1f}{fastest:14.1f}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
