"""Initial values that are chosen for their spectrum."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg

from rnndyn.cells.spectral_initializers import (
    Between,
    He,
    PositiveDefinite,
    RandomWalk,
    Rotations,
    SkewBlocks,
)
from tests.tolerances import tol

KEY = jax.random.key(8)


@pytest.mark.precision
def test_positive_definite_lies_between_one_over_e_and_one():
    """Talathi & Vartak 2015: (A + I)/e, A = R^T R/n, e the largest eigenvalue of A + I."""
    w = np.asarray(PositiveDefinite()(KEY, (30, 30)))
    r = np.asarray(jax.random.normal(KEY, (30, 30), float), float)
    a = np.einsum("ki,kj->ij", r, r) / 30 + np.eye(30)
    e = np.linalg.eigvalsh(a)[-1]
    np.testing.assert_allclose(w, a / e, rtol=0, atol=tol("spectral_start", w.dtype))
    values = np.linalg.eigvalsh(w)
    margin = tol("spectral_start", w.dtype)
    assert abs(values[-1] - 1) <= margin and values[0] >= 1 / e - margin


def test_positive_definite_follows_marchenko_and_pastur():
    """Ratio 1: A on [0, 4] with mean and variance 1, so W has e = 5, mean 0.4, std 0.2."""
    values = np.linalg.eigvalsh(PositiveDefinite()(KEY, (400, 400)))
    assert abs(values[0] - 0.2) < 0.003 and values[-1] == pytest.approx(1)
    assert abs(values.mean() - 0.4) < 0.01 and abs(values.std() - 0.2) < 0.01


@pytest.mark.parametrize(("n", "alpha"), [(2, 1.97374), (6, 1.97374), (100, 1.43171)])
def test_random_walk_has_the_published_gain(n, alpha):
    """sqrt(2) exp(1.2/(max(n, 6) - 2.4)); misplacing the parenthesis gives 0.16 for n = 6."""
    drawn = RandomWalk()(KEY, (n, 40000 // n))
    assert float(jnp.std(drawn)) * np.sqrt(n) == pytest.approx(alpha, rel=0.02)


@pytest.mark.parametrize("n", [1, 6, 7])
def test_skew_blocks_turn_planes_by_their_angles(n):
    """Under exp by s in [-pi, pi] (Henaff), under Cayley by t in [0, pi/2] (Helfrich et al.)."""
    for angles, width in (("henaff", np.pi), ("cayley", np.pi / 2)):
        a = np.asarray(SkewBlocks(angles)(KEY, (n, n)))
        assert np.array_equal(a, -a.T) and np.count_nonzero(a) == 2 * (n // 2)
        cayley = np.linalg.solve(np.eye(n) + a, np.eye(n) - a)
        turned = np.angle(np.linalg.eigvals(scipy.linalg.expm(a) if angles == "henaff" else cayley))
        assert np.all(np.abs(turned) <= width + tol("spectral_start"))
        expected = np.abs(np.diagonal(a, 1)[::2])
        expected = expected if angles == "henaff" else 2 * np.arctan(expected)
        expected = np.sort(np.concatenate([expected, expected, np.zeros(n % 2)]))
        np.testing.assert_allclose(np.sort(np.abs(turned)), expected, atol=tol("spectral_start"))
        if angles == "cayley":
            assert np.all(np.diagonal(a, 1) <= 0)


def test_rotations_return_after_their_period():
    for n in (6, 7):
        w = np.asarray(Rotations(12)(KEY, (n, n)))
        power = np.linalg.matrix_power(w, 12)
        np.testing.assert_allclose(power, np.eye(n), atol=tol("spectral_start"))
        np.testing.assert_allclose(w.T @ w, np.eye(n), atol=tol("step"))
    assert np.abs(np.linalg.matrix_power(w, 5) - np.eye(n)).max() > 0.5


def test_spreads():
    drawn = np.asarray(Between(0.9, 1.1)(KEY, (5000,)))
    assert 0.9 <= drawn.min() < 0.901 and 1.099 < drawn.max() <= 1.1
    assert np.std(He()(KEY, (500, 32))) == pytest.approx(0.25, rel=0.02)


def test_misuse_is_named():
    said = r"^`shape`: expected \(n, n\), got \(3, 4\); a skew initial value is square.$"
    with pytest.raises(ValueError, match=said):
        SkewBlocks()(KEY, (3, 4))
    with pytest.raises(
        ValueError, match="^`high`: expected a number in .*, got 1.0; pass low <= high"
    ):
        Between(2.0, 1.0)
    said = "^`angles`: expected one of 'henaff', 'cayley', got 'haar'; pass one of them.$"
    with pytest.raises(ValueError, match=said):
        SkewBlocks("haar")
    advice = "pass the number of steps after which the state returns"
    said = f"^`period`: expected a whole number >= 1, got 0; {advice}.$"
    with pytest.raises(ValueError, match=said):
        Rotations(0)
