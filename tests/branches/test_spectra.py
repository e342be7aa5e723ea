"""Which eigenvalues are left out: on paths of eigenvalues made up at random, nothing is missed."""

from types import SimpleNamespace

import numpy as np
import pytest

from rnndyn.branches import spectra

POINTS = 200


def path(rng):
    """Eigenvalues (n, d) along a branch, pairs first: slow moves and excursions of any width."""
    s = np.linspace(0, 10, POINTS)

    def radius():
        r = 0.7 + 0.25 * rng.random() + 0.1 * np.sin(rng.random() * s + 6 * rng.random())
        for width in 10 ** rng.uniform(-1.2, 0.5, size=rng.integers(0, 3)):
            r = r + rng.uniform(-0.2, 0.3) * np.exp(-(((s - rng.uniform(0, 10)) / width) ** 2))
        return r

    columns = []
    for _ in range(rng.integers(1, 4)):
        angle = rng.uniform(0.4, 2.8) + 0.3 * np.sin(0.3 * s + 6 * rng.random())
        pair = radius() * np.exp(1j * angle)
        columns += [pair, pair.conj()]
    columns += [rng.choice([-1, 1]) * radius() + 0j for _ in range(rng.integers(0, 3))]
    return s, np.stack(columns, axis=1)


def known(monkeypatch, s, values):
    """What `spectra` finds out of them, given what the sweep knows at each point."""
    nodes = SimpleNamespace(
        u=np.column_stack([s, np.zeros_like(values, float)]),
        tangent=np.ones((POINTS, 1)),
        orientation=np.sign(np.prod(values - 1, axis=1).real),
        alternation=np.sign(np.prod(values + 1, axis=1).real),
        sums=np.stack([values.sum(axis=1).real, (values**2).sum(axis=1).real], axis=1),
    )
    monkeypatch.setattr(spectra, "_eigenvalues", lambda _, u: values[np.searchsorted(s, u[:, 0])])
    family: object = None
    return spectra.spectra(family, nodes, near=True)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("seed", range(4))
def test_every_point_is_on_the_side_that_all_eigenvalues_say(monkeypatch, seed):
    rng, asked = np.random.default_rng(seed), []
    for _ in range(40):
        s, values = path(rng)
        found = known(monkeypatch, s, values)
        assert np.array_equal(spectra.unstable(found), spectra.unstable(values))
        asked.append(np.mean(~np.isnan(found[:, 0])))
    assert np.mean(asked) < 0.25


def test_a_pair_at_rest_needs_only_the_grid(monkeypatch):
    s = np.linspace(0, 1, POINTS)
    values = np.tile([0.5 + 0.5j, 0.5 - 0.5j], (POINTS, 1))
    found = known(monkeypatch, s, values)
    assert np.sum(~np.isnan(found[:, 0])) == POINTS // spectra.STRIDE + 2


def test_an_excursion_that_cancels_in_both_sums_is_seen_by_its_curvature(monkeypatch):
    """A pair +-i r and +-x with x^2 = r^2 - const: r > 1 between two points of the grid only."""
    s = np.arange(float(POINTS))
    r = 0.9 + 0.2 * np.exp(-(((s - 2.5 * spectra.STRIDE) / 17) ** 2))
    x = np.sqrt(r**2 - 0.56)
    values = np.stack([1j * r, -1j * r, x + 0j, -x + 0j], axis=1)
    assert np.all(r[:: spectra.STRIDE] < 1) and np.all(x < 1)
    found = known(monkeypatch, s, values)
    assert np.array_equal(spectra.unstable(found), np.where(r > 1, 2, 0))
