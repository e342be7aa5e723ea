"""singular_spectra: recorded references, closed forms, identities, derivatives, bad input."""

import math
import re

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest

import rnndyn as rd
from rnndyn.flow import jacobi, singular_spectra
from rnndyn.flow.graded_svd import log_singular_values
from rnndyn.flow.sweep import sweep
from rnndyn.linearize import Dense
from tests.flow.recorded import LONG_NAMES, NAMES, long_recorded, recorded
from tests.tolerances import tol

from_jacobians = rd.Linearization.from_jacobians


def gaussian(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape) / math.sqrt(shape[-1])


def product_of(jacobians):
    product = np.eye(jacobians.shape[-1])
    for jacobian in jacobians:
        product = jacobian @ product
    return product


def by_digits(jacobians):
    """The log singular values of the product, in 400 digits."""
    with mpmath.workdps(400):
        product = mpmath.eye(jacobians.shape[-1])
        for jacobian in jacobians:
            product = mpmath.matrix(jacobian.tolist()) * product
        return np.array([float(mpmath.log(v)) for v in mpmath.svd_r(product, compute_uv=False)])


@pytest.mark.parametrize("name", NAMES)
def test_equals_the_recorded_references(name):
    """Multiprecision singular values: make_reference.py; log10 down to -660."""
    jacobians, expected = recorded(name)
    found = singular_spectra(from_jacobians(jacobians), lags=(len(jacobians),))
    assert int(found.status[0]) == 0
    np.testing.assert_array_equal(np.isneginf(found.log_values[0]), np.isneginf(expected))
    finite = np.isfinite(expected)
    got = np.asarray(found.log_values[0])[finite]
    np.testing.assert_allclose(got, expected[finite], rtol=0, atol=tol("log_reference"))
    error, true = np.asarray(found.error[0])[finite], np.abs(got - expected[finite])
    rounded = tol("elementary") * np.abs(expected[finite])
    assert np.all(true <= error + rounded)
    assert np.max(error) <= 1e4 * np.max(true + rounded)  # a bound, but not four decades off
    assert not np.any(found.error[0][~finite])
    if finite.all():
        total = np.linalg.slogdet(jacobians)[1].sum()
        size = np.abs(expected).sum() + 1
        assert abs(got.sum() - total) <= tol("log_sum") * size
    else:
        assert np.isposinf(found.log_condition[0])


@pytest.mark.precision
@pytest.mark.parametrize("name", LONG_NAMES)
def test_equals_the_long_recorded_references(name):
    """64 units, up to 1000 steps, log10 from 70 down to -3300; in float32 within 3e-3 in log10."""
    jacobians, expected = long_recorded(name)
    found = singular_spectra(from_jacobians(jacobians), lags=(len(jacobians),))
    assert int(found.status[0]) == 0
    true = np.abs(np.asarray(found.log_values[0]) - expected)
    if jacobians.dtype == jnp.float64:
        assert np.max(true) <= tol("log_reference")
    else:  # what rounding each step once may do, and a Gaussian one can have condition 4e4
        rounded = np.linalg.norm(np.linalg.cond(np.asarray(jacobians, float)))
        assert np.max(true) <= max(tol("rounded_steps"), 4 * rounded * jnp.finfo(jnp.float32).eps)
    assert np.all(true <= found.error[0]) and np.max(found.error[0]) <= 1e4 * np.max(true)
    total = np.linalg.slogdet(jacobians)[1].sum()
    assert abs(float(jnp.sum(found.log_values[0])) - total) <= tol("log_sum") * abs(total)


def test_a_step_that_loses_everything_is_done_again():
    """Units that saturate in one step, amid steps that elimination handles: against mpmath."""
    jacobians = gaussian(11, 40, 6, 6)
    jacobians[[9, 10, 30]] *= np.logspace(0, -14, 6)[::-1][None, :, None]
    jacobians[20] = np.diag(np.logspace(-12, 3, 6)) @ jacobians[20]
    found = singular_spectra(from_jacobians(jnp.asarray(jacobians)), lags=(40,))
    expected = by_digits(jacobians)
    np.testing.assert_allclose(found.log_values[0], expected, rtol=0, atol=tol("log_reference"))
    assert np.all(np.abs(found.log_values[0] - expected) <= found.error[0])


@pytest.mark.parametrize("least", [1e-7, 1e-10])
def test_steps_that_no_scale_of_rows_makes_well_conditioned(least):
    """As those of an LSTM: QR and elimination lose the same digits, and `error` says how many."""
    left, right = np.linalg.qr(gaussian(14, 2, 40, 6, 6))[0]
    jacobians = left * np.geomspace(1, least, 6) @ right
    found = singular_spectra(from_jacobians(jnp.asarray(jacobians)), lags=(40,))
    true, error = np.abs(found.log_values[0] - by_digits(jacobians)), found.error[0]
    assert np.all(true <= error)
    assert np.max(error) <= 1e4 * np.max(true)
    assert np.max(true) <= 40 * tol("jacobian") / least


@pytest.mark.precision
@pytest.mark.parametrize("spread", [1.0, 8.0, 30.0])
def test_the_error_knows_directions_that_change_their_order(spread):
    """Weighted permutations: which direction grows most is drawn anew at every step.

    Their singular values are products along paths. A rounding that turns a long direction towards
    a short one is stretched by all steps that bring that one up again.
    """
    rng, n, steps = np.random.default_rng(0), 6, 40
    logs = rng.uniform(-spread, spread, (steps, n))
    orders = np.array([rng.permutation(n) for _ in range(steps)])
    jacobians = np.zeros((steps, n, n))
    jacobians[np.arange(steps)[:, None], np.arange(n), orders] = np.exp(logs)
    lags, expected = (1, 3, 8, 20, 40), []
    for lag in lags:
        path, total = np.arange(n), np.zeros(n)
        for t in range(steps - 1, steps - 1 - lag, -1):
            total, path = total + logs[t, path], orders[t, path]
        expected.append(np.sort(total)[::-1])
    found = singular_spectra(from_jacobians(jnp.asarray(jacobians, float)), lags=lags)
    true = np.abs(np.asarray(found.log_values) - np.array(expected))
    assert np.all(true <= found.error + tol("log_norm") * (1 + np.abs(expected)))
    assert np.all(found.error[0] < 1) and (spread > 1 or np.all(found.error < 1))


def test_a_row_below_the_noise_of_its_matrix_is_told():
    """Two rows of seven that are parallel in float32, beside rows of zeros: no digit is left."""
    rng = np.random.default_rng(0)
    a = np.zeros((11, 11), np.float32)
    a[0, :7] = 1e-3 * rng.normal(size=7)
    a[7, :7] = [*(0.18 * a[0, :2]), *(0.05 * rng.normal(size=5))]
    a[range(2, 7), range(2, 7)] = 0.9
    found = rd.singular_spectra(rd.Linearization.from_jacobians(jnp.asarray(a)[None]), lags=(1,))
    exact = np.log(np.linalg.svd(a.astype(float), compute_uv=False)[:7])
    off = np.abs(np.asarray(found.log_values[0, :7], float) - exact)
    assert off[6] > 0.1 and np.all(off <= np.asarray(found.error[0, :7]))
    assert np.all(np.isneginf(found.log_values[0, 7:])) and np.all(found.error[0, 7:] == 0)


def test_lapack_and_rotations_agree():
    """At once for short products, in windows for long ones; never rotations, which are slow."""
    lin = from_jacobians(jnp.asarray(gaussian(12, 300, 40, 40)))
    swept = sweep(lin, (1, 10, 100, 300), tuple(range(40)))

    @jax.jit
    def both(swept):
        def one(at):
            rows = jacobi.orthogonal_rows(at.factor, at.rank, vectors=False)[0]
            return log_singular_values(at.factor, at.rank), jnp.sort(rows, descending=True)

        return jax.lax.map(one, swept)

    (values, cosine, _), rotated = both(swept)
    assert not jnp.any(cosine)
    np.testing.assert_allclose(values, rotated, rtol=0, atol=tol("two_ways"))
    batched, *_ = jax.jit(jax.vmap(log_singular_values))(swept.factor, swept.rank)
    assert batched.tolist() == values.tolist()


def test_isometry_and_rank_have_no_range():
    """sigma = 2^T (1, 1, 1/2, 0): effective rank, moments of sigma^2, at T = 1 and 5000."""
    steps = jnp.broadcast_to(jnp.diag(jnp.array([2.0, 2.0, 2.0, 0.0])), (5000, 4, 4))
    steps = steps.at[-1, 2, 2].set(1.0)
    found = singular_spectra(from_jacobians(steps), lags=(1, 5000))
    share = np.array([0.4, 0.4, 0.2])
    rank = np.exp(-np.sum(share * np.log(share)))
    mean, fourth = (1 + 1 + 1 / 4) / 4, (1 + 1 + 1 / 16) / 4
    np.testing.assert_allclose(found.effective_rank, [rank] * 2, rtol=tol("many_steps"))
    grown = math.log(mean) + 2 * math.log(2) * np.array([1, 5000])
    np.testing.assert_allclose(found.log_mean_square, grown, rtol=tol("many_steps"))
    variance = fourth / mean**2 - 1
    np.testing.assert_allclose(found.relative_variance, [variance] * 2, rtol=tol("many_steps"))
    assert np.all(np.isposinf(found.log_condition))
    nothing = singular_spectra(from_jacobians(jnp.zeros((5000, 4, 4))), lags=(1, 5000))
    assert nothing.effective_rank.tolist() == [0, 0]
    turn = np.linalg.qr(gaussian(13, 4, 4))[0]
    same = from_jacobians(jnp.broadcast_to(jnp.asarray(turn), (5000, 4, 4)))
    same = singular_spectra(same, lags=(1, 5000))
    np.testing.assert_allclose(same.relative_variance, [0, 0], atol=tol("many_steps"))
    np.testing.assert_allclose(same.effective_rank, [4, 4], rtol=tol("many_steps"))


@pytest.mark.precision
@pytest.mark.parametrize("name", ["tanh_6", "graded_ascending"])
def test_float32_is_right_to_2e_3_in_log10(name):
    jacobians, expected = recorded(name, jnp.float32)
    found = singular_spectra(from_jacobians(jacobians), lags=(len(jacobians),)).log_values
    assert found.dtype == jnp.float32
    error = np.abs(np.asarray(found[0], np.float64) - expected)
    assert np.max(error) / math.log(10) <= tol("graded_digits", jnp.float32)


def test_gaussian_products_and_hidden_blocks_are_those_of_numpy():
    """All lags of one sweep, in the order asked for; the block is that of the product."""
    jacobians = gaussian(1, 7, 5, 5)
    lags = (3, 0, 7)
    whole = singular_spectra(from_jacobians(jnp.asarray(jacobians)), lags=lags)
    block = singular_spectra(Dense((1, 3), jnp.asarray(jacobians)), lags=lags, block="hidden")
    assert whole.lags.tolist() == list(lags)
    for row, lag in enumerate(lags):
        product = product_of(jacobians[7 - lag :])
        expected = np.log(np.linalg.svd(product, compute_uv=False))
        digits = tol("log_block")
        np.testing.assert_allclose(whole.log_values[row], expected, rtol=0, atol=digits)
        spread = expected[0] - expected[-1]
        np.testing.assert_allclose(whole.log_condition[row], spread, rtol=0, atol=digits)
        expected = np.log(np.linalg.svd(product[np.ix_([1, 3], [1, 3])], compute_uv=False))
        np.testing.assert_allclose(block.log_values[row], expected, rtol=0, atol=digits)


def test_closed_form_of_a_nonnormal_power():
    """[[.9, 1], [0, .9]]^T in closed form: det = .81^T, Frobenius norm; to T = 10,000."""
    steps, lags = 10_000, (10, 100, 1000, 10_000)
    jacobian = jnp.array([[0.9, 1.0], [0.0, 0.9]])
    lin = from_jacobians(jnp.broadcast_to(jacobian, (steps, 2, 2)))
    found = singular_spectra(lin, lags=lags)
    printed = [[0.591658382519859, -1.50680819373336], [-2.52995639192714, -6.62154172020788]]
    np.testing.assert_allclose(found.log_values[:2] / math.log(10), printed, rtol=tol("jacobian"))
    with mpmath.workdps(2000):
        for row, lag in enumerate(lags):
            a = mpmath.mpf(0.9) ** lag
            norm2 = 2 * a**2 + (lag * a / mpmath.mpf(0.9)) ** 2
            top = (norm2 + mpmath.sqrt(norm2**2 - 4 * a**4)) / 2
            first, second = mpmath.log(top) / 2, mpmath.log(a**2) - mpmath.log(top) / 2
            expected = [float(first), float(second)]
            np.testing.assert_allclose(found.log_values[row], expected, rtol=tol("log_product"))


@pytest.mark.precision
def test_aligned_graded_steps():
    """A_t = Q_{t+1} diag(s) Q_t^T, s = 10^linspace(2, -2, 8): log10 values 400, ..., -400."""
    frames = np.linalg.qr(gaussian(2, 201, 8, 8))[0]
    steps = frames[1:] * np.logspace(2, -2, 8) @ np.swapaxes(frames[:-1], 1, 2)
    found = singular_spectra(from_jacobians(jnp.asarray(steps, float)), lags=(200,))
    digits = tol("graded_digits")
    expected = np.linspace(400, -400, 8)
    np.testing.assert_allclose(found.log_values[0] / math.log(10), expected, rtol=0, atol=digits)


def test_orthogonal_steps_keep_all_singular_values_and_their_derivatives():
    """1000 orthogonal steps: every singular value 1 (Saxe et al. 2013), d sum = tr(J^-1 dJ)."""
    jacobian = np.linalg.qr(gaussian(3, 6, 6))[0]
    steps = jnp.broadcast_to(jnp.asarray(jacobian), (1000, 6, 6))

    def total(scale):
        return jnp.sum(singular_spectra(from_jacobians(scale * steps), lags=(1000,)).log_values)

    value, slope = jax.value_and_grad(total)(1.0)
    assert abs(value) <= 6 * tol("many_steps")
    np.testing.assert_allclose(slope, 6000, rtol=tol("many_steps"))


def test_masks_give_singular_values_zero_and_one_exactly():
    """The identity-started ReLU network: J = diag(masks) (Le, Jaitly & Hinton 2015)."""
    masks = np.random.default_rng(4).uniform(size=(5, 9)) < 0.85
    found = singular_spectra(from_jacobians(jnp.asarray(masks[:, :, None] * np.eye(9))), lags=(5,))
    alive = int(masks.all(axis=0).sum())
    assert 0 < alive < 9
    assert found.log_values[0].tolist() == [0.0] * alive + [-math.inf] * (9 - alive)


@pytest.mark.precision
def test_power_of_a_diagonal():
    """SRU (a^T) and the LSTM's cell path, sigmoid(1)^T at T = 1e5: log10 = -13604.782228086495.

    Scales are whole numbers while the product grows: a running sum of 1e5 equal logs would drift.
    """
    decay = jax.nn.sigmoid(jnp.array([1.0, -2.0]))
    lin = from_jacobians(jnp.broadcast_to(jnp.diag(decay), (100_000, 2, 2)))
    found = singular_spectra(lin, lags=(100_000,)).log_values[0]
    expected = -13604.782228086495 * math.log(10)
    np.testing.assert_allclose(found[0], expected, rtol=tol("long_power"))
    np.testing.assert_allclose(found[1], 1e5 * math.log(decay[1]), rtol=tol("long_power"))


def test_moments_of_gaussian_products():
    """Fuss-Catalan moments: (1/N) tr(PP^T)^k = C((L+1)k, k)/(Lk+1); 16 samples at N = 64."""
    jacobians = jnp.asarray(gaussian(5, 16, 3, 64, 64))
    log_values = jax.lax.map(
        lambda j: singular_spectra(from_jacobians(j), lags=(1, 2, 3)).log_values, jacobians
    )
    for power, tolerance in ((1, 0.05), (2, 0.12)):
        got = jnp.mean(jnp.exp(2 * power * log_values), axis=(0, 2))
        want = [math.comb((lag + 1) * power, power) / (lag * power + 1) for lag in (1, 2, 3)]
        np.testing.assert_allclose(got, want, rtol=tolerance)


def test_condition_number_grows_as_newman_says():
    """N = 4 Gaussian: d ln(condition)/dT = lambda_1 - lambda_4 = 1.19315 (Newman 1986)."""
    lin = from_jacobians(jnp.asarray(gaussian(6, 20_000, 4, 4)))
    found = singular_spectra(lin, lags=(20_000,))
    np.testing.assert_allclose(found.log_condition[0] / 20_000, 1.1931471805599454, atol=0.03)


def test_orthogonal_coordinates_and_matrix_free_change_nothing():
    cell = rd.cells.Vanilla(3, 5)
    params = cell.init(jax.random.key(0), gain=2.0)
    run = rd.simulate(cell, params, jax.random.normal(jax.random.key(1), (30, 3)))
    dense = rd.linearize(cell, params, run)
    lags = (1, 30)
    expected = singular_spectra(dense, lags=lags).log_values
    free = singular_spectra(rd.linearize(cell, params, run, dense=False), lags=lags).log_values
    np.testing.assert_allclose(free, expected, rtol=0, atol=tol("log_reference"))
    turn = np.linalg.qr(gaussian(7, 5, 5))[0]
    turned = from_jacobians(jnp.asarray(turn @ np.asarray(dense.jacobians) @ turn.T))
    turned = singular_spectra(turned, lags=lags).log_values
    np.testing.assert_allclose(turned, expected, rtol=0, atol=tol("log_reference"))


def test_derivatives_equal_differences():
    """Both modes. Where a dead unit's zero row moves: of the leading values."""
    direction, h = jnp.asarray(gaussian(9, 6, 4, 4)), 1e-5

    def values(jacobians):
        lin = Dense((0, 2), jacobians)
        return singular_spectra(lin, lags=(3, 6), block="state").log_values

    @jax.jit
    def derivatives(jacobians, weights):
        _, forward = jax.jvp(values, (jacobians,), (direction,))
        _, back = jax.vjp(values, jacobians)
        return forward, jnp.sum(back(weights)[0] * direction)

    for dead, leading in ((False, 2), (True, 1)):
        jacobians = gaussian(8, 6, 4, 4)
        if dead:
            jacobians[[2, 4, 5], [1, 3, 3]] = 0
        jacobians = jnp.asarray(jacobians)
        weights = jnp.zeros_like(values(jacobians)).at[:, :leading].set(1.0)
        moved = values(jacobians + h * direction), values(jacobians - h * direction)
        expected = (moved[0] - moved[1])[:, :leading] / (2 * h)
        forward, backward = derivatives(jacobians, weights)
        forward = forward[:, :leading]
        np.testing.assert_allclose(forward, expected, rtol=tol("flow_slope"), atol=1e-7)
        np.testing.assert_allclose(backward, jnp.sum(forward), rtol=tol("transposed_slope"))


def test_a_bad_item_of_a_batch_stays_alone():
    """NaN at an old step: -3 only for the lags that reach it, neighbours bit for bit the same."""
    jacobians = jnp.asarray(gaussian(10, 3, 6, 4, 4))
    spectra = jax.vmap(lambda j: singular_spectra(from_jacobians(j), lags=(2, 6)))
    clean, bad = spectra(jacobians), spectra(jacobians.at[1, 1, 2, 3].set(jnp.nan))
    assert bad.status.tolist() == [[0, 0], [0, -3], [0, 0]]
    assert bool(jnp.all(jnp.isnan(bad.log_values[1, 1])))
    for item in (0, 2):
        assert bad.log_values[item].tolist() == clean.log_values[item].tolist()
    assert bad.log_values[1, 0].tolist() == clean.log_values[1, 0].tolist()
    infinite = spectra(jacobians.at[1, 1, 2, 3].set(jnp.inf))
    assert infinite.status.tolist() == bad.status.tolist()


@pytest.mark.parametrize(
    "lags, got",
    [((1, 8), "(1, 8)"), ((-1,), "(-1,)"), ((2, 2), "(2, 2)")],
)
def test_lags_that_do_not_exist(lags, got):
    advice = "this run has T = 7 steps, so lags 0 to 7 exist; give each once"
    sentence = f"`lags`: expected distinct lags of the run, got {got}; {advice}."
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        singular_spectra(from_jacobians(jnp.ones((7, 2, 2))), lags=lags)


def test_other_misuse():
    lin = from_jacobians(jnp.ones((7, 2, 2)))
    sentence = "`block`: expected one of 'state', 'hidden', got 'h'; pass one of them."
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        singular_spectra(lin, lags=(1,), block="h")
    sentence = "`lags`: expected a list of whole numbers, got (); "
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}"):
        singular_spectra(lin, lags=())
    sentence = (
        "`lin`: expected a Linearization, got <class 'int'>; "
        "pass rd.linearize(...) or rd.Linearization.from_jacobians(J)."
    )
    with pytest.raises(TypeError, match=f"^{re.escape(sentence)}$"):
        singular_spectra(3, lags=(1,))
    batch = Dense((0, 1), jnp.ones((3, 7, 2, 2)))
    sentence = (
        "`lin`: expected one Linearization, got a batch of them; "
        "use jax.vmap over its leading axes."
    )
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        singular_spectra(batch, lags=(1,))


def test_no_steps_and_one_step():
    none = singular_spectra(from_jacobians(jnp.zeros((0, 3, 3))))
    assert (none.lags.tolist(), none.log_values.tolist()) == ([0], [[0.0, 0.0, 0.0]])
    one = singular_spectra(from_jacobians(2 * jnp.eye(3)[None]))
    assert one.lags.tolist() == [1]
    np.testing.assert_allclose(one.log_values, math.log(2) * np.ones((1, 3)), rtol=1e-15)
