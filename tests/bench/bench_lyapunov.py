"""Lyapunov spectra against other codes, in one run, as ratios; and the memory of a long stream.

`OPENBLAS_NUM_THREADS=1 python -m tests.bench.bench_lyapunov` from the repository root compares
with QR at every step in NumPy and in JAX, and with chaotax and clvlib where they can be
imported. All see the same network z' = tanh(g W z) and the same start, in float64, and all form
the Jacobian at each step. The rounds of the codes are interleaved, and the fastest of each counts.
`python -m tests.bench.bench_lyapunov memory 1000000` runs one stream of 64 exponents over that
many steps and prints the peak resident size of its process.
"""

import os
import resource
import sys
import time

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("TQDM_DISABLE", "1")  # of clvlib

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402

import rnndyn as rd  # noqa: E402

SIZE, STEPS, ROUNDS = 200, 960, 5


def network(gain, size=SIZE):
    """The map, and a point after its transient."""
    w = gain * jax.random.normal(jax.random.key(0), (size, size)) / jnp.sqrt(size)
    map_ = rd.maps.tanh_network(w)
    return map_, rd.orbit(map_, jax.random.normal(jax.random.key(1), (size,)), 300)[-1]


def numpy_qr(map_, z, k):
    """QR at every step, as it is usually written."""
    w, z = np.asarray(map_.args[0]), np.asarray(z)
    frame = np.linalg.qr(np.random.default_rng(0).normal(size=(z.size, k)))[0]

    def run():
        now, q, sums = z, frame, np.zeros(k)
        for _ in range(STEPS):
            now = np.tanh(w @ now)
            q, r = np.linalg.qr(((1 - now * now)[:, None] * w) @ q)
            with np.errstate(divide="ignore"):
                sums += np.log(np.abs(np.diag(r)))
        return sums / STEPS

    return run


def jax_qr(map_, z, k):
    """The same in one scan."""
    frame = jnp.linalg.qr(jax.random.normal(jax.random.key(0), (z.size, k)))[0]

    @jax.jit
    def run(map_, z):
        def step(carry, _):
            z, q = carry
            q, r = jnp.linalg.qr(map_.jacobian(z) @ q)
            return (map_(z), q), jnp.log(jnp.abs(jnp.diagonal(r)))

        return jnp.mean(jax.lax.scan(step, (z, frame), length=STEPS)[1], axis=0)

    return lambda: run(map_, z)


def products_only(map_, z, k):
    """J times the frame and nothing else: the floor of every method of this kind."""
    frame = jnp.linalg.qr(jax.random.normal(jax.random.key(0), (z.size, k)))[0]

    @jax.jit
    def run(map_, z):
        def step(carry, _):
            z, q = carry
            push = jax.linearize(map_, z)[1]
            return (map_(z), 0.3 * jax.vmap(push, in_axes=1, out_axes=1)(q)), None

        return jax.lax.scan(step, (z, frame), length=STEPS)[0][1]

    return lambda: run(map_, z)


def streamed(map_, z, k):
    return lambda: rd.lyapunov_stream(map_, z, steps=STEPS, k=k)


def stored(map_, z, k):
    lin = rd.linearize(map_, rd.orbit(map_, z, STEPS), dense=True)
    return lambda: rd.lyapunov_spectrum(lin, k=k)


def chaotax(map_, z, k):
    import chaotax as library

    spectrum = library.lyapunov_spectrum(
        map_, rollout_steps=STEPS, warmup_steps=0, discard_steps=0, num_exponents=k
    )
    return lambda: spectrum(z, key=jax.random.key(0))


def clvlib(map_, z, k):
    from clvlib.numpy import lyap_exp_from_ic

    w, times = np.asarray(map_.args[0]), np.arange(STEPS + 1.0)

    def step(_, x):
        return np.tanh(w @ x)

    def jacobian(_, x):
        return (1 - np.tanh(w @ x) ** 2)[:, None] * w

    def run():
        start = np.array(z)
        return lyap_exp_from_ic(step, jacobian, start, times, stepper="discrete", n_lyap=k)[0]

    return run


CODES = [products_only, numpy_qr, jax_qr, streamed, stored, chaotax, clvlib]


def seconds(call):
    started = time.perf_counter()
    jax.block_until_ready(call())
    return time.perf_counter() - started


def measure(gain, k, codes):
    """The first call and the fastest later round of each code that can be imported and runs."""
    map_, z = network(gain)
    calls, first = {}, {}
    for make in codes:
        try:
            calls[make.__name__] = make(map_, z, k)
            first[make.__name__] = seconds(calls[make.__name__])
        except Exception as error:
            calls.pop(make.__name__, None)
            sys.stdout.write(f"   {make.__name__}: {type(error).__name__}: {error}\n"[:160])
    best = dict.fromkeys(calls, np.inf)
    for _ in range(ROUNDS):
        for name, call in calls.items():
            best[name] = min(best[name], seconds(call))
    return first, best, calls


def flops(k, size=SIZE):
    """Of one product, and of one QR with its Q (geqrf and orgqr)."""
    return 2 * size**2 * k, 4 * size * k**2 - 4 * k**3 / 3


def report(gain, k, codes):
    sys.stdout.write(f"\ng = {gain:g}, leading {k} of {SIZE}, {STEPS} steps\n")
    first, best, calls = measure(gain, k, codes)
    product, factorise = flops(k)
    floor = best["products_only"]
    sys.stdout.write(
        f"   {'':14}{'first [s]':>10}{'[ms/step]':>11}{'numpy/this':>12}{'floor/this':>12}"
        f"{'GF/s':>8}\n"
    )
    for name, spent in best.items():
        work = product + (factorise if "qr" in name else 0)
        sys.stdout.write(
            f"   {name:14}{first[name]:10.2f}{1e3 * spent / STEPS:11.3f}"
            f"{best['numpy_qr'] / spent:12.2f}{floor / spent:12.2f}"
            f"{work * STEPS / spent / 1e9:8.1f}\n"
        )
    found = calls["streamed"]()
    every = rd.lyapunov_stream(*network(gain), steps=STEPS, k=k, tol=0.0)
    alive = np.isfinite(every.exponents)
    off = np.max(np.abs(found.exponents - every.exponents)[alive])
    sys.stdout.write(
        f"   every step against `tol`: exponents differ by {off:.1e}, error "
        f"{np.max(found.error):.1e}, interval {found.checkpoint.carry.pace.interval}\n"
    )
    sys.stdout.flush()
    return best


def memory(steps, size=64):
    map_, z = network(2.0, size)
    started = time.perf_counter()
    found = jax.block_until_ready(rd.lyapunov_stream(map_, z, steps=steps))
    spent = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    sys.stdout.write(
        f"{steps} steps of {size} exponents: {spent:.1f} s, peak {peak:.0f} MiB; the Jacobians "
        f"alone would be {steps * size**2 * 8 / 2**20:.0f} MiB; leading exponent "
        f"{found.exponents[0]:.5f} +- {found.standard_error[0]:.5f}\n"
    )


def main():
    jax.config.update("jax_enable_x64", True)
    if sys.argv[1:2] == ["memory"]:
        memory(int(sys.argv[2]))
        return
    sys.stdout.write(f"JAX {jax.__version__}, {jax.devices()[0].device_kind}, float64\n")
    full = report(2.0, SIZE, CODES)
    report(5.0, SIZE, CODES)
    leading = report(2.0, 20, CODES)
    for name in ("streamed", "stored"):
        ratio = full[name] / leading[name]
        sys.stdout.write(f"{name}: leading 20 {ratio:.1f} times faster than all {SIZE}\n")


if __name__ == "__main__":
    main()
