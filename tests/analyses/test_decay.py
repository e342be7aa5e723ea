"""What theory expects at rest is what is measured at rest."""

import numpy as np
import pytest

from analyses import decay, time_scales


def small(name, value, **sizes):
    sizes = {"hidden_size": 4, "steps": 48, "washout": 120} | sizes
    config = time_scales.Config(input="noise", seeds=1, sequences=2, **sizes)
    cell, block = time_scales._cell(name, config, value), time_scales._block(name, config, value)
    return decay.Decay(cell, config, 0.9, block)


@pytest.mark.parametrize("name, value", [("clockwork", 4), ("narx", 3), ("tkrnn", 6.0)])
def test_the_rate_at_rest(name, value):
    """Over half a run of 48 steps; complex eigenvalues turn, and the norm with them."""
    part = decay.measure(small(name, value))
    np.testing.assert_allclose(part["rest_rate"], part["expected"], rtol=0.2)
    assert np.all(part["rate"] < 0) and np.all(part["expected"] < -0.02)


def test_the_slowest_scale_of_sru_rules_in_the_end():
    """Through W_r the others follow it."""
    case = small("sru_oliva", 0.5, hidden_size=16, steps=96, alphas=(0.5, 0.8))
    part = decay.measure(case)
    np.testing.assert_allclose(part["rest_rate"], part["expected"], rtol=0.1)
    assert np.all(np.abs(part["expected"] - np.log(0.8)) < 0.1)


def test_the_singular_values_of_fru_stay_within_their_bounds():
    part = decay.measure_bounded(small("fru", 20, hidden_size=8))
    lower, upper = np.moveaxis(part["bounds"], 2, 0)
    assert np.all(lower - 1e-9 <= part["log_smallest"]) and np.all(part["log_norm"] <= upper + 1e-9)
    assert np.min(part["log_smallest"]) < -1e-3 and np.max(part["log_norm"]) > 1e-3
    assert tuple(part["lags"]) == (1, 5, 10, 20)
