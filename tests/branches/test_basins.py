"""Basins against symmetry, closed forms and plain iteration; what escapes or does not settle."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import brentq

import rnndyn as rd
from rnndyn.branches.basins import Attractor, basins, basins_along
from tests.branches import families
from tests.tolerances import tol

KEY = jax.random.key(7)
TANH = rd.maps.tanh_network(jnp.full((1, 1), 2.0))
TRACES = []


def close(got, want, name="event_position"):
    np.testing.assert_allclose(got, want, rtol=0, atol=tol(name))


def square(key, n):
    return jax.random.uniform(key, (n, 2), minval=-2.0, maxval=2.0)


def cube(key, n):
    return jax.random.uniform(key, (n, 3), minval=-1.0)


def whole(found):
    """Fractions sum to 1 and labels, counts and statuses agree."""
    total = float(found.fraction.sum() + found.escaped + found.unsettled)
    assert abs(total - 1) < tol("elementary") * 8
    label = np.asarray(found.label)
    assert np.array_equal(np.bincount(label[label >= 0], minlength=found.z.shape[0]), found.count)
    assert np.array_equal(label >= 0, np.asarray(found.status) == 0)
    assert sorted(found.count.tolist(), reverse=True) == found.count.tolist()
    return found


# Fixed points


@pytest.mark.precision
def test_halves_of_the_scalar_tanh_split_at_zero():
    starts = jnp.linspace(-1.0, 1.0, 200)[:, None]
    found = whole(basins(TANH, starts))
    close(np.sort(found.z[:, 0]), [-0.95750402407726874, 0.95750402407726874], "attractor")
    assert found.count.tolist() == [100, 100] and found.kind.tolist() == [0, 0]
    sign = np.sign(np.asarray(found.z)[np.asarray(found.label), 0])
    assert np.array_equal(sign, np.sign(np.asarray(starts)[:, 0]))
    close(found.exponent, np.log(2 * (1 - 0.95750402407726874**2)), "attractor")


def test_three_bits_are_eight_equal_basins():
    found = whole(basins(rd.maps.tanh_network(jnp.diag(jnp.array([2.0, 1.5, 3.0]))), cube, key=KEY))
    assert found.z.shape == (8, 3) and not np.any(found.status)
    assert len({tuple(row) for row in np.sign(np.asarray(found.z)).tolist()}) == 8
    inside = (found.interval[:, 0] <= 1 / 8) & (found.interval[:, 1] >= 1 / 8)
    assert int(inside.sum()) >= 7, "of eight intervals at 95 %"


def test_wilson_intervals_of_known_counts():
    """Newcombe 1998, table I: 81 of 263 and 0 of 20, score method without correction."""
    starts = jnp.concatenate([jnp.full((81, 1), 0.5), jnp.full((182, 1), -0.5)])
    found = basins(TANH, starts)
    assert np.round(np.asarray(found.interval[1]), 4).tolist() == [0.2553, 0.3662]
    none = basins(TANH, starts[:20])
    assert np.round(np.asarray(none.escaped_interval), 4).tolist() == [0.0, 0.1611]


def test_intervals_cover_at_their_rate():
    """200 samples of 100 starts, true fraction 1/4: 95 % of the intervals hold it."""
    map_ = rd.maps.tanh_network(jnp.diag(jnp.array([2.0, 1.5])))
    covered = 0
    for key in jax.random.split(KEY, 60):
        found = basins(map_, square, n=100, key=key)
        covered += int(jnp.sum((found.interval[:, 0] <= 0.25) & (found.interval[:, 1] >= 0.25)))
    assert 0.90 <= covered / 240 <= 0.99


# Cycles


def test_two_cycle_of_the_logistic_map_and_its_unbounded_outside():
    """r = 3.2: (r + 1 -+ sqrt((r + 1)(r - 3))) / 2r; what starts outside [0, 1] escapes."""
    starts = jnp.linspace(-0.5, 1.5, 402)[:, None]
    found = whole(basins(rd.maps.logistic(3.2), starts))
    assert (found.kind.tolist(), found.period.tolist()) == ([Attractor.CYCLE], [2])
    point = (4.2 - np.sqrt(4.2 * 0.2)) / 6.4
    other = 3.2 * point * (1 - point)
    close(np.abs(found.z[0, 0] - np.array([point, other])).min(), 0, "attractor")
    outside = (np.asarray(starts)[:, 0] < 0) | (np.asarray(starts)[:, 0] > 1)
    assert np.array_equal(np.asarray(found.status) == rd.Status.NONFINITE, outside)
    close(found.escaped, outside.mean(), "elementary")
    close(found.exponent[0], 0.5 * np.log(abs(4 + 2 * 3.2 - 3.2**2)), "attractor")


def test_a_fixed_point_with_multiplier_near_minus_one_is_no_cycle():
    starts = jnp.linspace(0.01, 0.99, 64)[:, None]
    found = whole(basins(rd.maps.logistic(2.95), starts))
    assert (found.kind.tolist(), found.period.tolist()) == ([Attractor.FIXED_POINT], [1])


def test_minimal_period_and_one_point_for_all_phases():
    starts = jnp.linspace(0.01, 0.99, 150)[:, None]
    for r, period in ((3.5, 4), (3.55, 8), (3.835, 3)):
        found = whole(basins(rd.maps.logistic(r), starts))
        assert found.period.tolist() == [period] and found.count.tolist() == [150]
    beyond = basins(rd.maps.logistic(3.55), starts, max_period=4, max_steps=2000)
    assert beyond.z.shape[0] == 0 and float(beyond.unsettled) == 1
    assert set(beyond.status.tolist()) == {int(rd.Status.MAX_STEPS)}


# Neither


def test_henon_has_one_chaotic_attractor_and_escape():
    found = whole(basins(rd.maps.henon(), square, key=KEY, n=300))
    assert found.kind.tolist() == [Attractor.CHAOTIC] and found.period.tolist() == [0]
    assert abs(float(found.exponent[0]) - 0.419) < 0.05
    expected = []
    for z in np.asarray(square(KEY, 300)):
        for _ in range(200):
            z = np.array([1 - 1.4 * z[0] ** 2 + z[1], 0.3 * z[0]])
            if np.max(np.abs(z)) > 1e6:
                break
        expected.append(np.max(np.abs(z)) > 1e6)
    assert np.array_equal(np.asarray(found.status) == rd.Status.NONFINITE, expected)


def test_an_invariant_circle_is_quasi_periodic():
    def near(key, n):
        return jax.random.uniform(key, (n, 2), minval=0.4, maxval=0.6)

    found = whole(basins(rd.maps.delayed_logistic(2.03), near, n=40))
    assert found.kind.tolist() == [Attractor.QUASI_PERIODIC] and found.count.tolist() == [40]


def test_two_chaotic_attractors_are_told_apart():
    """x' = -+ (logistic map on either side of zero): two copies that do not mix."""
    starts = jnp.linspace(-0.9, 0.9, 80)[:, None]
    found = whole(basins(rd.Map(mirrored, jnp.asarray(3.9)), starts))
    assert found.kind.tolist() == [Attractor.CHAOTIC] * 2 and found.count.tolist() == [40, 40]
    sides = np.sign(np.asarray(found.z)[np.asarray(found.label), 0])
    assert np.array_equal(sides, np.sign(np.asarray(starts)[:, 0]))


def mirrored(z, r):
    return r * z * (1 - jnp.abs(z))


def test_slow_approach_is_not_an_attractor():
    """At the pitchfork z falls as t^(-1/2); past a fold the ghost takes long to pass."""
    found = whole(basins(rd.maps.tanh_network(jnp.ones((1, 1))), jnp.array([[0.5], [-0.9]])))
    assert found.z.shape[0] == 0 and found.status.tolist() == [rd.Status.MAX_STEPS] * 2


def test_a_chance_return_of_a_chaotic_orbit_is_no_cycle():
    """With a loose tol, as float32 has, orbits come back by chance, and then go on."""
    starts = jnp.linspace(0.01, 0.99, 64)[:, None]
    found = whole(basins(rd.maps.logistic(3.9), starts, tol=1e-3))
    assert found.kind.tolist() == [Attractor.CHAOTIC] and found.count.tolist() == [64]
    assert int(found.steps.min()) < 10_000, "some did return"


def test_a_start_on_an_unstable_point_stays_and_shows_it():
    found = whole(basins(TANH, jnp.array([[0.0], [0.3]])))
    at_zero = found.label[0]
    assert float(found.z[at_zero, 0]) == 0 and float(found.exponent[at_zero]) > 0.69


def test_nan_in_one_start_changes_no_other_bit():
    starts = square(KEY, 50)
    good = basins(rd.maps.henon(), starts)
    bad = basins(rd.maps.henon(), starts.at[3].set(jnp.nan))
    assert int(bad.status[3]) == rd.Status.NONFINITE and int(bad.label[3]) == -1
    kept = np.arange(50) != 3
    assert np.array_equal(np.asarray(good.status)[kept], np.asarray(bad.status)[kept])
    assert np.array_equal(np.asarray(good.steps)[kept], np.asarray(bad.steps)[kept])
    if int(good.label[3]) != 0:
        assert np.array_equal(good.z, bad.z)


# Along a parameter


def pair(b):
    return families.scalar_tanh(jnp.asarray(2.0), b)


def test_one_basin_takes_over_as_the_bias_rises():
    """w = 2: the saddle at b gives the share of [-1, 1]; at the fold b = 0.5328 one is left."""
    starts = jnp.linspace(-1.0, 1.0, 201)[:, None]
    values = [0.0, 0.2, 0.4, 0.6]
    curve = basins_along(pair, values, starts)
    assert curve.z.shape == (4, 2, 1)
    upper = int(np.argmax(np.asarray(curve.z[0, :, 0])))
    shares = [np.mean(np.asarray(starts) > saddle_of(b)) for b in values[1:3]]
    close(curve.fraction[1:3, upper], shares, "elementary")
    assert abs(float(curve.fraction[0, upper]) - 0.5) < 0.01
    assert float(curve.fraction[3, upper]) == 1 and float(curve.fraction[3, 1 - upper]) == 0
    assert np.isnan(float(curve.z[3, 1 - upper, 0])) and int(curve.kind[3, 1 - upper]) == -1
    assert np.all(np.asarray(curve.z[:, upper, 0]) > 0)


def saddle_of(b):
    """The middle root of tanh(2 z + b) = z."""
    turn = np.sqrt(0.5)  # where the slope of tanh(2 z + b) - z vanishes: |z| = sqrt(1 - 1/w)
    return brentq(lambda z: np.arctanh(z) - 2 * z - b, -turn, turn, xtol=1e-14)


def test_no_recompiling_along_a_parameter():
    def family(p):
        return rd.Map(counted, p)

    starts = jnp.linspace(-0.9, 0.9, 12)[:, None]
    basins(family(jnp.asarray(1.7, float)), starts)
    before = len(TRACES)
    basins_along(family, [1.8, 1.9, 2.0], starts)
    assert len(TRACES) - before <= 3, "one abstract evaluation for each parameter"


def counted(z, p):
    TRACES.append(0)
    return jnp.tanh(p * z)


@pytest.mark.parametrize(
    "starts, options, error, said",
    [
        (jnp.zeros(2), {}, ValueError, "`starts`: expected shape (n, d), got (2,)"),
        (jnp.zeros((3, 2), int), {}, TypeError, "`starts`: expected real"),
        (jnp.zeros((3, 2)), {"tol": 0.0}, ValueError, "`tol`: expected a number in (0, inf)"),
        (jnp.zeros((3, 2)), {"confidence": 1.0}, ValueError, "`confidence`: expected"),
        (jnp.zeros((3, 2)), {"max_period": 0}, ValueError, "`max_period`: expected"),
        (square, {"n": 0}, ValueError, "`n`: expected a whole number >= 1"),
    ],
)
def test_misuse(starts, options, error, said):
    with pytest.raises(error, match=re.escape(said)):
        basins(rd.maps.henon(), starts, **options)


def test_no_parameters():
    with pytest.raises(ValueError, match="`parameters`: expected numbers, got none"):
        basins_along(rd.maps.logistic, [], jnp.zeros((3, 1)))
