"""Reference singular spectra, recorded from mpmath with digits far beyond their range.

Run `python -m tests.flow.make_reference` from the repository root to write reference.npz again.
Each case is a product of given float64 Jacobians; the singular values are square roots of the
eigenvalues of P P^T, with enough digits for the square of the smallest.
"""

import pathlib
import sys

import mpmath
import numpy as np

FILE = pathlib.Path(__file__).parent / "reference.npz"


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


def main():
    recorded = {}
    for name, jacobians in cases():
        recorded[f"{name}/jacobians"] = jacobians
        recorded[f"{name}/log_values"] = log_singular_values(jacobians)
        sys.stderr.write(f"{name}: {recorded[f'{name}/log_values'][[0, -1]] / np.log(10)}\n")
    np.savez_compressed(FILE, **recorded)


if __name__ == "__main__":
    main()
