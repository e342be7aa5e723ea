"""Reference singular spectra, recorded from mpmath with digits far beyond their range.

Run `python -m tests.flow.make_reference` from the repository root to write reference.npz again,
and `python -m tests.flow.make_reference long [NAME ...]` for long_reference.npz, of 64 units and up
to 1000 steps, or for those of its cases; that needs python-flint (products with 10,000 bits) and
gmpy2, and some minutes a case. Each case is a product of given float64 Jacobians. Those of the
long cases are not stored: they are weights (64, 64) with their rows multiplied by slopes (T, 64),
both numbers of float32, so that the products are exact; or Gaussian numbers from a seed.
"""

import pathlib
import sys

import mpmath
import numpy as np

FILE = pathlib.Path(__file__).parent / "reference.npz"
LONG = pathlib.Path(__file__).parent / "long_reference.npz"


def jacobians_of(made):
    """The Jacobians (T, 64, 64) of a long case, the same to the last bit everywhere.

    Gaussian ones, in units of 2^-10 / 8, from the generator whose stream NumPy never changes.
    """
    if "seed" in made:
        numbers = np.random.RandomState(made["seed"]).standard_normal((1000, 64, 64))
        return np.rint(1024 * numbers) / 8192
    return made["slopes"].astype(float)[:, :, None] * made["weights"].astype(float)


def tanh_jacobians(rng, d, steps, gain):
    w, h, found = gain * rng.normal(size=(d, d)) / np.sqrt(d), rng.normal(size=d), []
    for _ in range(steps):
        h = np.tanh(w @ h + 0.3 * rng.normal(size=d))
        found.append((1 - h**2)[:, None] * w)
    return np.array(found)


def orthogonal(rng, d):
    q, r = np.linalg.qr(rng.normal(size=(d, d)))
    return q * np.sign(np.diag(r))


def graded(rng, d, steps, order):
    scales = np.logspace(0, -9, d)
    gaussian = rng.normal(size=(steps, d, d)) / np.sqrt(d)
    rows = {"descending": scales, "ascending": scales[::-1]}
    return np.array(
        [(rows[order] if order in rows else rng.permutation(scales))[:, None] * g for g in gaussian]
    )


def cases():
    rng = np.random.default_rng(20)
    yield "gaussian", rng.normal(size=(60, 8, 8)) / np.sqrt(8)
    yield "tanh_0.6", tanh_jacobians(rng, 12, 120, 0.6)
    yield "tanh_1.5", tanh_jacobians(rng, 16, 200, 1.5)
    yield "tanh_6", tanh_jacobians(rng, 12, 100, 6.0)
    yield "tanh_1.5_wide", tanh_jacobians(rng, 32, 50, 1.5)
    for order in ("descending", "ascending", "shuffled"):
        yield f"graded_{order}", graded(rng, 8, 40, order)
    yield "nilpotent", np.array([np.triu(rng.normal(size=(8, 8)), 1) for _ in range(4)])
    dead = rng.normal(size=(12, 8, 8))
    dead *= (rng.uniform(size=(12, 8)) < 0.85)[:, :, None]
    yield "dead_units", dead
    yield "orthogonal", np.array([orthogonal(rng, 8) for _ in range(50)])


def log_singular_values(jacobians):
    """Natural logarithms, descending; -inf where the product has a zero singular value."""
    spread = sum(np.log10(np.linalg.norm(j, 2)) for j in jacobians)
    digits = 60 + int(2 * abs(spread)) + 45 * len(jacobians)
    mpmath.mp.dps = min(digits, 2600)
    product = mpmath.eye(jacobians.shape[-1])
    for jacobian in jacobians:
        product = mpmath.matrix(jacobian.tolist()) * product
    values = mpmath.svd_r(product, compute_uv=False)
    top = max(values[i] for i in range(len(values)))
    floor = top * mpmath.mpf(10) ** (-mpmath.mp.dps * 0.9)
    logs = [float(mpmath.log(v)) if v > floor else -np.inf for v in values]
    return np.sort(np.array(logs))[::-1]


def long_tanh(rng, gain, steps, d=64):
    """Weights, and the slopes 1 - h^2 along a driven run, rounded to float32."""
    w, h, slopes = gain * rng.normal(size=(d, d)) / np.sqrt(d), rng.normal(size=d), []
    w = w.astype(np.float32)
    for _ in range(steps):
        u = w.astype(float) @ h + 0.3 * rng.normal(size=d)
        h = np.tanh(u)
        slopes.append((np.cosh(u) ** -2.0).astype(np.float32))  # never rounded to 0
    return {"weights": w, "slopes": np.array(slopes)}


def long_cases():
    rng = np.random.default_rng(21)
    for gain, steps in ((6.0, 200), (0.6, 1000), (1.5, 1000)):
        yield f"long_tanh_{gain}", long_tanh(rng, gain, steps)
    yield "long_gaussian", {"seed": np.array(22)}


def long_log_singular_values(jacobians, digits):
    """The product in integers, of which the leading `digits` are kept; exact factors 2^k aside."""
    import flint  # noqa: PLC0415  only this needs it

    mpmath.mp.dps = digits
    bits, exponent = mpmath.mp.prec + 64, 0
    product = flint.fmpz_mat(np.eye(jacobians.shape[1], dtype=int).tolist())
    for jacobian in jacobians:
        whole, down = np.frompyfunc(lambda x: x.as_integer_ratio(), 1, 2)(jacobian.astype(object))
        most = int(max(down.ravel()))  # all powers of two
        product = flint.fmpz_mat((whole * (most // down)).tolist()) * product
        exponent -= most.bit_length() - 1
        excess = max(abs(int(x)).bit_length() for x in product.entries()) - bits
        if excess > 64:
            shifted = [[int(x) >> excess for x in row] for row in product.tolist()]
            product, exponent = flint.fmpz_mat(shifted), exponent + excess
    entries = [[mpmath.ldexp(mpmath.mpf(int(x)), exponent) for x in r] for r in product.tolist()]
    values = mpmath.svd_r(mpmath.matrix(entries), compute_uv=False)
    return np.array([float(mpmath.log(v)) for v in values])


def range_of(jacobians):
    """Decades between the largest and the smallest singular value, roughly."""
    frame, logs = np.eye(jacobians.shape[1]), 0
    for jacobian in jacobians:
        frame, r = np.linalg.qr(jacobian @ frame)
        logs = logs + np.log10(np.abs(np.diag(r)))
    return np.ptp(logs)


def write_long(names):
    recorded = dict(np.load(LONG)) if names else {}
    for name, made in long_cases():
        if names and name not in names:
            continue
        jacobians = jacobians_of(made)
        logs = long_log_singular_values(jacobians, int(1.1 * range_of(jacobians)) + 200)
        total = np.linalg.slogdet(jacobians)[1].sum()
        assert abs(logs.sum() - total) < 1e-10 * abs(total)
        recorded |= {f"{name}/{key}": value for key, value in made.items()}
        recorded[f"{name}/log_values"] = logs
        sys.stderr.write(f"{name}: {logs[[0, -1]] / np.log(10)}\n")
        np.savez_compressed(LONG, **recorded)


def main():
    if sys.argv[1:2] == ["long"]:
        write_long(sys.argv[2:])
        return
    recorded = {}
    for name, jacobians in cases():
        recorded[f"{name}/jacobians"] = jacobians
        recorded[f"{name}/log_values"] = log_singular_values(jacobians)
        sys.stderr.write(f"{name}: {recorded[f'{name}/log_values'][[0, -1]] / np.log(10)}\n")
    np.savez_compressed(FILE, **recorded)


if __name__ == "__main__":
    main()
