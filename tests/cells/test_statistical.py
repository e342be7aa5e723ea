"""Statistical and Fourier Recurrent Units: averages, sums, and bounds that do not know T.

Sources: Oliva, Poczos & Schneider 2017; Zhang, Lin, Song & Dhillon 2018; recorded outputs of the
released code of both. The bounds on products are derived in the docstring of `FourierRU`.
"""

import dataclasses
import pathlib
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rnndyn as rd
from rnndyn.cells.statistical import (
    FourierParams,
    FourierRU,
    StatisticalParams,
    StatisticalRU,
)
from tests.cells import recurrences as ref
from tests.tolerances import tol

RELEASED = pathlib.Path(__file__).parent.parent / "reference" / "released_cells.npz"
ALPHAS, FREQUENCIES = (0.0, 0.25, 0.5, 0.9, 0.99), (0.0, 0.5, 1.0, 2.0, 3.0)
SRU = StatisticalRU(3, 4, statistics=5, features=3)
FRU = FourierRU(3, 4, total_steps=50, statistics=5, features=3)


def features(p, summary, x):
    """Pre-activations of r and phi."""
    r = p.w_r @ summary + p.b_r
    return r, p.w_phi @ ref.relu(r) + p.w_x @ x + p.b_phi


def sru_loop(cell, params):
    """mu_k' = alpha_k mu_k + (1 - alpha_k) phi, one scale after another."""
    p, s = ref.arrays(params), cell.statistics_size
    alphas = cell.alphas if p.logit is None else ref.logistic(p.logit)

    def step(t, z, x):
        mu = z[: -cell.hidden_size]
        phi = ref.relu(features(p, mu, x)[1])
        scales = [a * mu[k * s : (k + 1) * s] + (1 - a) * phi for k, a in enumerate(alphas)]
        mu = np.concatenate(scales)
        return np.concatenate([mu, ref.relu(p.w_o @ mu + p.b_o)])

    return step


def fru_loop(cell, params):
    """u_f' = u_f + (1/T) cos(2 pi f t/T + 2 pi theta_f) phi, t = 0 at the first step."""
    p, s = ref.arrays(params), cell.statistics_size
    alone = len(cell.frequencies) == 1

    def step(t, z, x):
        u = z[: -cell.hidden_size]
        phi = ref.relu(features(p, u, x)[1])
        sums = []
        for k, f in enumerate(cell.frequencies):
            wave = np.cos(2 * np.pi * f * t / cell.total_steps + 2 * np.pi * p.phase[k])
            kept = 0.0 if cell.official_zero_freq and f == 0 and not alone else 1.0
            sums.append(kept * u[k * s : (k + 1) * s] + wave * phi / cell.total_steps)
        u = np.concatenate(sums)
        return np.concatenate([u, ref.relu(p.w_o @ u + p.b_o)])

    return step


def feedback(params, summary, x):
    """K = D(phi') W_phi D(r') W_r, shape (s, q)."""
    p = ref.arrays(params)
    r, a = features(p, summary, x)
    return ((a > 0)[:, None] * p.w_phi * (r > 0)[None, :]) @ p.w_r


@pytest.mark.precision
@pytest.mark.parametrize(
    ("cell", "loop"),
    [
        (SRU, sru_loop),
        (StatisticalRU(3, 4, alphas=(0.5, 0.9), learn_alpha=True), sru_loop),
        (FRU, fru_loop),
        (dataclasses.replace(FRU, official_zero_freq=True, total_steps=20), fru_loop),
    ],
    ids=["sru", "sru_learned", "fru", "fru_released_past_its_end"],
)
def test_a_run_equals_the_equations(cell, loop):
    params = ref.random_params(cell)
    ref.assert_equals_recurrence(cell, params, loop(cell, params))


def released(name):
    """Recorded weights as column-vector params, with inputs, states and outputs."""
    with np.load(RELEASED) as stored:
        data = {key.removeprefix(f"{name}/"): stored[key] for key in stored.files}
    x_then_r = data["stats/Matrix"].T
    shared = {
        "w_r": data["recur_feats/Matrix"].T,
        "b_r": data["recur_feats/Bias"],
        "w_phi": x_then_r[:, 2:],
        "w_x": x_then_r[:, :2],
        "b_phi": data["stats/Bias"],
        "w_o": data["output/Matrix"].T,
        "b_o": data["output/Bias"],
    }
    return data, {key: jnp.asarray(value) for key, value in shared.items()}


@pytest.mark.parametrize("name", ["sru_oliva", "sru_fru", "sru_oliva_learned", "fru", "fru_single"])
def test_outputs_of_the_released_code(name):
    data, shared = released(name)
    sizes = {"input_size": 2, "hidden_size": 5, "statistics": 4, "features": 3}
    if name.startswith("fru"):
        frequencies = tuple(float(f) for f in data["frequency"])
        cell = FourierRU(**sizes, total_steps=12, frequencies=frequencies, official_zero_freq=True)
        params = FourierParams(**shared, phase=jnp.asarray(data["phase"]))
    else:
        learned = name.endswith("learned")
        alphas = (0.1, 0.5, 0.9) if learned else ALPHAS
        cell = StatisticalRU(**sizes, alphas=alphas, learn_alpha=learned)
        logit = jnp.asarray(data["logit_alphas"]) if learned else None
        params = StatisticalParams(**shared, logit=logit)
    run = rd.simulate(cell, params, jnp.asarray(data["inputs"]))
    summaries = np.asarray(jax.vmap(cell.hidden)(run.states))[1:]
    np.testing.assert_allclose(summaries, data["states"], rtol=0, atol=tol("released_code"))
    np.testing.assert_allclose(run.outputs, data["outputs"], rtol=0, atol=tol("released_code"))


@pytest.mark.precision
def test_the_statistical_unit_s_jacobian_is_a_sum_of_kronecker_products():
    params = ref.random_params(SRU)
    run = rd.simulate(SRU, params, ref.random_inputs(SRU, 6))
    z, alphas = ref.points(run).astype(float), np.array(ALPHAS)
    found = 0
    for t, jacobian in enumerate(np.asarray(rd.linearize(SRU, params, run).jacobians)):
        k = feedback(params, z[t][:25], np.asarray(run.inputs[t], float))
        expected = np.kron(np.diag(alphas), np.eye(5)) + np.kron((1 - alphas)[:, None], k)
        np.testing.assert_allclose(jacobian[:25, :25], expected, rtol=0, atol=tol("jacobian"))
        assert not np.any(jacobian[:, 25:])
        found += np.any(k != 0)
    assert found >= 3


def test_without_features_every_scale_decays_at_its_alpha():
    params = ref.random_params(SRU)
    params = dataclasses.replace(params, w_r=jnp.zeros_like(params.w_r))
    run = rd.simulate(SRU, params, ref.random_inputs(SRU, 12))
    product = np.eye(29)
    for jacobian in np.asarray(rd.linearize(SRU, params, run).jacobians):
        product = jacobian @ product
    expected = np.kron(np.diag(np.array(ALPHAS) ** 12), np.eye(5))
    np.testing.assert_allclose(product[:25, :25], expected, rtol=0, atol=tol("cell_product"))
    assert np.array_equal(product[:25, :25] != 0, expected != 0)


@pytest.mark.precision
def test_at_rest_every_average_is_phi():
    params, x = ref.random_params(SRU, seed=4, scale=0.2), jnp.array([1.0, -0.5, 0.25])
    p, phi = ref.arrays(params), np.zeros(5)
    for _ in range(500):
        phi = ref.relu(features(p, np.tile(phi, 5), np.asarray(x, float))[1])
    assert np.count_nonzero(phi) >= 2
    mu = np.tile(phi, 5)
    z = jnp.asarray(np.concatenate([mu, ref.relu(p.w_o @ mu + p.b_o)]), float)
    np.testing.assert_allclose(rd.hold(SRU, params, x)(z), z, rtol=0, atol=tol("fixed_point"))


def test_a_scale_of_zero_is_the_present_statistic():
    params = ref.random_params(SRU)
    run = rd.simulate(SRU, params, ref.random_inputs(SRU, 4))
    z, p = ref.points(run), ref.arrays(params)
    phi = ref.relu(features(p, z[3][:25], np.asarray(run.inputs[3]))[1])
    np.testing.assert_allclose(run.states.mu[4][0], phi, rtol=0, atol=tol("step"))


def test_the_kink_cuts_the_recurrent_path_at_the_start():
    """With zero bias the first step sits on the kink of ReLU, whose derivative is taken as 0."""
    params = SRU.init(jax.random.key(0))
    run = rd.simulate(SRU, params, ref.random_inputs(SRU, 2))
    first, second = np.asarray(rd.linearize(SRU, params, run).jacobians)
    assert np.array_equal(first[:25, :25], np.kron(np.diag(ALPHAS), np.eye(5)))
    assert not np.array_equal(second[:25, :25], first[:25, :25])


def test_learned_alphas_start_where_they_are_told_to_and_are_learned_one_by_one():
    fixed = dataclasses.replace(SRU, alphas=(0.25, 0.5, 0.9))
    learned = dataclasses.replace(fixed, learn_alpha=True)
    inputs, key = ref.random_inputs(fixed, 10), jax.random.key(0)
    one = rd.simulate(learned, learned.init(key), inputs).states.mu
    other = rd.simulate(fixed, fixed.init(key), inputs).states.mu
    np.testing.assert_allclose(one, other, rtol=0, atol=tol("step"))

    def loss(params):
        return jnp.sum(rd.simulate(learned, params, inputs).states.mu ** 2)

    slopes = np.asarray(jax.grad(loss)(learned.init(key)).logit)
    assert np.all(np.isfinite(slopes) & (slopes != 0)) and len(np.unique(slopes)) == 3


@pytest.mark.precision
@pytest.mark.parametrize("official", [False, True], ids=["paper", "released"])
def test_the_fourier_unit_s_jacobian_follows_its_clock(official):
    cell = dataclasses.replace(FRU, official_zero_freq=official, total_steps=6)
    params = ref.random_params(cell)
    run = rd.simulate(cell, params, ref.random_inputs(cell, 6))
    z, phase = ref.points(run).astype(float), np.asarray(params.phase, float)
    kept = np.diag([0.0, 1, 1, 1, 1]) if official else np.eye(5)
    for t, jacobian in enumerate(np.asarray(rd.linearize(cell, params, run).jacobians)):
        k = feedback(params, z[t][:25], np.asarray(run.inputs[t], float))
        wave = np.cos(2 * np.pi * (np.array(FREQUENCIES) * t / 6 + phase))[:, None]
        expected = np.kron(kept, np.eye(5)) + np.kron(wave, k) / 6
        np.testing.assert_allclose(jacobian[:25, :25], expected, rtol=0, atol=tol("jacobian"))
        assert not np.any(jacobian[:, 25:])


def test_a_constant_statistic_leaves_its_mean_and_nothing_at_whole_frequencies():
    """Over exactly T steps the cosines of whole frequencies sum to zero, the constant to T."""
    cell = FourierRU(3, 4, total_steps=40, frequencies=(0.0, 1.0, 2.0, 3.0))
    params = ref.random_params(cell)
    params = dataclasses.replace(
        params,
        w_r=jnp.zeros_like(params.w_r),
        b_phi=jnp.array([1.0, 2.0, 3.0, -9.0]),
        phase=jnp.array([0.0, 0.1, 0.25, -0.3]),
    )
    x = jnp.array([1.0, -0.5, 0.25])
    u = rd.simulate(cell, params, jnp.broadcast_to(x, (40, 3))).states.u[-1]
    p = ref.arrays(params)
    phi = ref.relu(features(p, np.zeros(16), np.asarray(x))[1])
    assert np.count_nonzero(phi) == 3
    expected = np.stack([phi, 0 * phi, 0 * phi, 0 * phi])
    np.testing.assert_allclose(u, expected, rtol=0, atol=tol("cell_loop"))


def test_products_keep_within_bounds_that_do_not_know_the_length():
    """prod (1 - k|c|/T) <= s_min, s_max <= prod (1 + k|c|/T) <= exp(k sqrt F), for every T."""
    widest = []
    for steps in (16, 64, 256):
        cell = FourierRU(3, 4, total_steps=steps, statistics=5, features=3)
        params = ref.random_params(cell, seed=3)
        run = rd.simulate(cell, params, 3 * ref.random_inputs(cell, steps))
        z, phase = ref.points(run), np.asarray(params.phase)
        product, lower, upper, k = np.eye(25), 1.0, 1.0, 0.0
        for t in range(steps):
            k = max(k, np.linalg.norm(feedback(params, z[t][:25], np.asarray(run.inputs[t])), 2))
        for t, jacobian in enumerate(np.asarray(rd.linearize(cell, params, run).jacobians)):
            wave = np.cos(2 * np.pi * (np.array(FREQUENCIES) * t / steps + phase))
            product = jacobian[:25, :25] @ product
            lower *= 1 - k * np.linalg.norm(wave) / steps
            upper *= 1 + k * np.linalg.norm(wave) / steps
        largest, *_, smallest = np.linalg.svd(product, compute_uv=False)
        assert k * np.sqrt(5) / steps <= 0.5
        assert np.exp(-2 * k * np.sqrt(5)) <= lower <= smallest < 0.95
        assert 1.05 < largest <= upper <= np.exp(k * np.sqrt(5))
        widest.append(largest)
    assert max(widest) < 2 * min(widest)


def test_a_cell_of_absolute_time_cannot_be_held():
    assert FRU.period is None
    sentence = (
        "`cell`: expected a cell whose clock returns, got FourierRU, with period None; "
        "its step depends on absolute time, so it has no autonomous map; linearize a run."
    )
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        rd.hold(FRU, FRU.init(jax.random.key(0)), jnp.zeros(3))


def test_the_same_state_at_another_time_goes_elsewhere():
    params = ref.random_params(FRU)
    start, x = FRU.initial_state(params), jnp.array([1.0, -0.5, 0.25])
    later = dataclasses.replace(start, clock=jnp.asarray(7, jnp.int32))
    one, other = (FRU.step(params, state, x) for state in (start, later))
    assert np.any(one.u != other.u) and int(other.clock) == 8


def test_the_sizes_and_the_start_of_the_released_code():
    for cell in (StatisticalRU(3, 200), FourierRU(3, 200)):
        params = cell.init(jax.random.key(0), gain=2.0)
        assert params.w_r.shape == (60, 1000) and params.w_phi.shape == (200, 60)
        assert params.w_o.shape == (200, 1000)
        truncated = 0.1 * 0.8796  # the deviation of a standard normal cut at two
        assert abs(float(jnp.std(params.w_r)) / (2 * truncated) - 1) < 0.02
        assert abs(float(jnp.std(params.w_o)) / truncated - 1) < 0.02
        assert float(jnp.max(jnp.abs(params.w_o))) <= 0.2
        assert not any(np.any(bias) for bias in (params.b_r, params.b_phi, params.b_o))
    assert np.all(np.abs(rd.initializers.TruncatedGaussian(3.0)(jax.random.key(0), (99,))) <= 6.0)


@pytest.mark.parametrize("cls", [StatisticalRU, FourierRU])
def test_flops(cls):
    n, m = 60, 16
    cell = cls(m, n)
    s, k, q = 60, 18, 300
    equations = 2 * (k * q + s * k + s * m + n * q) + 3 * q + 2 * (k + s + n)
    assert ref.flops(cell) <= 1.3 * equations


SIZE = "expected a whole number >= 1, got 0; None chooses it"


@pytest.mark.parametrize(
    ("cls", "options", "sentence"),
    [
        (StatisticalRU, {"statistics": 0}, f"`statistics`: {SIZE}."),
        (FourierRU, {"features": 0}, f"`features`: {SIZE}."),
        (
            StatisticalRU,
            {"alphas": (0.5, 1.0)},
            "`alphas[1]`: expected a number in [0, 1), got 1.0; "
            "a moving average forgets at the rate alpha per step.",
        ),
        (
            StatisticalRU,
            {"learn_alpha": True},
            "`alphas[0]`: expected a number in (0, 1), got 0.0; "
            "a learned alpha starts inside, where its logit is finite.",
        ),
        (
            StatisticalRU,
            {"alphas": ()},
            "`alphas`: expected a tuple of numbers, got (); pass for example (0.0, 0.5, 0.99).",
        ),
        (
            FourierRU,
            {"total_steps": 0},
            "`total_steps`: expected a whole number >= 1, got 0; "
            "pass T, the number of steps of the whole run.",
        ),
        (
            FourierRU,
            {"frequencies": (0.0, -1.0)},
            "`frequencies[1]`: expected a number in [0, inf), got -1.0; "
            "a frequency counts the cycles in T steps.",
        ),
        (
            FourierRU,
            {"official_zero_freq": "yes"},
            "`official_zero_freq`: expected one of True, False, got 'yes'; pass one of them.",
        ),
    ],
)
def test_misuse_is_answered_in_a_sentence(cls, options, sentence):
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        cls(3, 8, **options)
