"""Constraints on weights: what they give, when they leave bits alone, and in an optimiser."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.linalg

import rnndyn as rd
from rnndyn.cells.indrnn import IndRNN
from rnndyn.constraints import (
    ClipGradientNorm,
    ClipSingularValues,
    ClipWeights,
    Orthogonalise,
    SingularBand,
    SpectralNormalisation,
)
from tests.tolerances import tol

GRU = rd.cells.GRU(3, 6, "kanai")
W = {"w_h": jnp.asarray(np.random.default_rng(0).normal(size=(6, 6)))}


def values(w):
    return np.linalg.svd(np.asarray(w), compute_uv=False)


def of(constraint, w=W):
    return constraint(w)["w_h"]


def test_weights_are_clipped_to_gamma_to_the_one_over_t():
    """Li et al. 2018: |u| <= gamma^(1/T); the released code's 10^(log10(gamma)/T)."""
    constraint = ClipWeights(gamma=5.0, steps=784)
    params = IndRNN(3, 6).init(jax.random.key(0), gain=3.0)
    params = jax.tree.map(lambda leaf: leaf.at[0].multiply(-1), params)
    clipped = constraint(params)
    bound = 10 ** (np.log10(5.0) / 784)
    assert np.max(clipped.u) == pytest.approx(bound, rel=tol("step"))
    assert np.array_equal(clipped.w_x, params.w_x)
    np.testing.assert_array_equal(clipped.u, np.clip(params.u, -constraint.bound, constraint.bound))
    assert clipped.u[0] < 0 and constraint.bound == IndRNN(3, 6, steps=784, gamma=5.0).bound


@pytest.mark.precision
def test_singular_values_are_clipped_to_two_minus_delta_and_directions_kept():
    """Kanai, Fujiwara & Iwamura 2017. A port subtracts s - 2 instead: 2, not 2 - delta."""
    before = values(W["w_h"])
    assert before[0] > 2 > before[2]
    clipped = of(ClipSingularValues(delta=0.2))
    expected = np.minimum(before, 1.8)
    np.testing.assert_allclose(values(clipped), expected, rtol=0, atol=tol("constraint"))
    u, s, vh = np.linalg.svd(np.asarray(W["w_h"]))
    np.testing.assert_allclose(clipped, (u * expected) @ vh, rtol=0, atol=tol("constraint"))


def test_only_the_candidate_block_of_a_gru_is_clipped_and_its_origin_is_stable():
    """||U_n|| < 2 gives ||J|| <= 1/2 + ||U_n||/4 < 1 at zero input; unclipped, 0 is unstable."""
    params = GRU.init(jax.random.key(1), gain=8.0)
    clipped = ClipSingularValues(delta=0.1, block=(2, 3))(params)
    assert np.array_equal(clipped.w_h[:12], params.w_h[:12])
    assert values(clipped.w_h[12:])[0] == pytest.approx(1.9) and values(clipped.w_h[:6])[0] > 2
    for weights, stable in ((params, False), (clipped, True)):
        jacobian = rd.hold(GRU, weights, jnp.zeros(3)).jacobian(jnp.zeros(6))
        radius = np.max(np.abs(np.linalg.eigvals(jacobian)))
        assert (radius < 1) == stable
        assert values(jacobian)[0] <= 0.5 + values(weights.w_h[12:])[0] / 4 + tol("constraint")


def test_within_the_bound_weights_keep_every_bit():
    small = {"w_h": 0.5 * W["w_h"] / values(W["w_h"])[0]}
    for constraint in (
        ClipSingularValues(0.2),
        ClipSingularValues(1.49),
        SpectralNormalisation(0.6),
        SingularBand(1.0),
        ClipWeights(2.0, where="w_h"),
    ):
        assert np.array_equal(of(constraint, small), small["w_h"]), constraint


def test_the_weyl_bound_spares_svds_and_never_misses_one():
    """sigma_1(W + dW) <= sigma_1(W) + ||dW||_F, along 60 random steps that reach the bound."""
    constraint, rng = ClipSingularValues(delta=0.5), np.random.default_rng(3)
    params = {"w_h": jnp.asarray(0.1 * rng.normal(size=(6, 6))), "b": jnp.zeros(6)}
    state, update = constraint.init(params), jax.jit(constraint.update)
    spared_until = None
    for step in range(60):
        drift = {"w_h": jnp.asarray(0.05 * rng.normal(size=(6, 6)) + 0.02), "b": jnp.ones(6)}
        updates, state = update(drift, state, params)
        assert np.array_equal(updates["b"], drift["b"])
        if int(state.svds) == 0:
            assert np.array_equal(updates["w_h"], drift["w_h"])
            spared_until = step
        params = optax.apply_updates(params, updates)
        largest = values(params["w_h"])[0]
        assert largest <= 1.5 + tol("constraint")
        assert largest <= float(state.bound) + tol("constraint")
    assert spared_until is not None and 0 < int(state.svds) < 60
    assert largest > 1.4


@pytest.mark.precision
def test_the_band_and_the_norm():
    before = values(W["w_h"])
    got = values(of(SingularBand(0.25)))
    np.testing.assert_allclose(got, np.clip(before, 0.75, 1.25), rtol=0, atol=tol("constraint"))
    scaled = of(SpectralNormalisation(0.7))
    expected = np.asarray(W["w_h"]) * 0.7 / before[0]
    np.testing.assert_allclose(scaled, expected, rtol=0, atol=tol("constraint"))


@pytest.mark.precision
def test_polar_is_the_nearest_orthogonal_matrix_and_qr_is_not():
    w = np.asarray(W["w_h"])
    polar, q = of(Orthogonalise()), of(Orthogonalise("qr"))
    for found in (polar, q):
        np.testing.assert_allclose(found.T @ found, np.eye(6), rtol=0, atol=tol("constraint"))
    np.testing.assert_allclose(polar, scipy.linalg.polar(w)[0], rtol=0, atol=tol("constraint"))
    r = np.asarray(q).T @ w
    assert np.all(np.diagonal(r) > 0)
    np.testing.assert_allclose(np.tril(r, -1), 0, atol=tol("constraint"))
    assert np.linalg.norm(w - polar) < np.linalg.norm(w - q)


def test_what_is_orthogonal_already_stays_and_others_than_square_get_rows_or_columns():
    tall = jnp.asarray(np.random.default_rng(1).normal(size=(5, 3)))
    for method in ("polar", "qr"):
        made = of(Orthogonalise(method))
        again = of(Orthogonalise(method), {"w_h": made})
        np.testing.assert_allclose(again, made, rtol=0, atol=tol("constraint"))
        for w in (tall, tall.T):
            found = np.asarray(of(Orthogonalise(method), {"w_h": w}))
            gram = found.T @ found if w is tall else found @ found.T
            np.testing.assert_allclose(gram, np.eye(3), rtol=0, atol=tol("constraint"))


@pytest.mark.parametrize(
    ("constraint", "holds"),
    [
        (ClipSingularValues(0.5), lambda w: values(w)[0] <= 1.5 + 1e-12),
        (SingularBand(0.1), lambda w: np.all(np.abs(values(w) - 1) <= 0.1 + 1e-12)),
        (Orthogonalise(), lambda w: np.abs(w.T @ w - np.eye(6)).max() <= 1e-12),
        (Orthogonalise("qr"), lambda w: np.abs(w.T @ w - np.eye(6)).max() <= 1e-12),
        (SpectralNormalisation(0.8), lambda w: values(w)[0] <= 0.8 + 1e-12),
        (ClipWeights(0.3, where="w_h"), lambda w: np.abs(w).max() <= 0.3 + 1e-12),
    ],
    ids=lambda value: type(value).__name__,
)
def test_after_every_update_of_an_optimiser_the_constraint_holds(constraint, holds):
    """Gradient clip, optimiser, weight constraint, through optax, and what it leaves alone."""
    cell = rd.cells.Vanilla(3, 6)
    params = constraint(cell.init(jax.random.key(0), gain=2.0))
    inputs = jax.random.normal(jax.random.key(1), (8, 3))
    optimiser = optax.chain(ClipGradientNorm(1.0), optax.sgd(0.1, momentum=0.5), constraint)
    bare = optax.chain(ClipGradientNorm(1.0), optax.sgd(0.1, momentum=0.5))

    def loss(params):
        return jnp.sum((rd.simulate(cell, params, inputs).outputs - 0.9) ** 2)

    @jax.jit
    def step(params, state):
        gradients = jax.grad(loss)(params)
        updates, state = optimiser.update(gradients, state, params)
        free, _ = bare.update(gradients, bare.init(params), params)
        return optax.apply_updates(params, updates), state, updates, free

    state, first = optimiser.init(params), loss(params)
    for number in range(12):
        params, state, updates, free = step(params, state)
        assert holds(np.asarray(params.w_h)), number
        if number == 0:
            assert np.array_equal(updates.w_x, free.w_x)
    assert loss(params) < first


def test_constraints_are_functions_that_compose_and_vmap():
    both = functools.reduce(
        lambda params, constraint: constraint(params),
        [SpectralNormalisation(3.0), ClipSingularValues(0.5), ClipWeights(0.4, where="w_h")],
        W,
    )
    assert np.abs(both["w_h"]).max() <= 0.4
    stack = {"w_h": jnp.stack([W["w_h"], 0.1 * W["w_h"]])}
    clipped = jax.jit(jax.vmap(ClipSingularValues(0.5)))(stack)["w_h"]
    np.testing.assert_allclose(values(clipped[0])[0], 1.5, rtol=tol("constraint"))
    np.testing.assert_allclose(clipped[1], stack["w_h"][1], rtol=0, atol=tol("constraint"))
    assert ClipSingularValues(0.5) == ClipSingularValues(0.5)
    assert hash(Orthogonalise("qr")) == hash(Orthogonalise("qr"))


def test_a_path_reaches_into_layers_dicts_and_tuples():
    deep = rd.cells.stack(rd.cells.Vanilla(3, 6), rd.cells.Vanilla(6, 6))
    params = deep.init(jax.random.key(0), gain=4.0)
    tree = {"cell": params, "out": [jnp.ones(2)]}
    clipped = ClipSingularValues(0.5, where="cell.layers.1.w_h")(tree)
    assert values(clipped["cell"].layers[1].w_h)[0] <= 1.5 + tol("constraint")
    assert clipped["cell"].layers[0] is params.layers[0] and clipped["out"] is tree["out"]


def test_nan_stays():
    bad = {"w_h": W["w_h"].at[0, 0].set(jnp.nan)}
    for constraint in (
        ClipSingularValues(),
        SingularBand(),
        SpectralNormalisation(),
        Orthogonalise(),
    ):
        assert np.isnan(of(constraint, bad)).any(), constraint


@pytest.mark.parametrize("delta", [0.0, 2.0, -0.5, float("nan")])
def test_delta_lies_between_zero_and_two(delta):
    advice = "singular values are kept to at most 2 - delta"
    said = rf"^`delta`: expected a number in \(0, 2\), got {delta}; {advice}.$"
    with pytest.raises(ValueError, match=said):
        ClipSingularValues(delta)


def test_misuse_is_named():
    advice = "pass the growth to allow over `steps` steps"
    said = rf"^`gamma`: expected a number in \(0, inf\), got -1.0; {advice}.$"
    with pytest.raises(ValueError, match=said):
        ClipWeights(gamma=-1.0)
    advice = "pass the length of the training sequences"
    with pytest.raises(ValueError, match=f"^`steps`: .* number >= 1, got 0; {advice}.$"):
        ClipWeights(steps=0)
    said = r"^`margin`: expected a number in \[0, 1\], got 1.5; 0 is orthogonal, and 1 lets all"
    with pytest.raises(ValueError, match=f"{said} values below 2 pass.$"):
        SingularBand(1.5)
    said = "^`method`: expected one of 'polar', 'qr', got 'svd'; pass one of them.$"
    with pytest.raises(ValueError, match=said):
        Orthogonalise("svd")
    advice = r"\(2, 3\) is the third of three blocks of rows, \(0, 1\) the whole leaf"
    said = rf"^`block`: expected \(index, count\) with 0 <= index < count, got \(3, 3\); {advice}.$"
    with pytest.raises(ValueError, match=said):
        SingularBand(block=(3, 3))
    said = (
        r"^`where`: expected a matrix of 4 equal blocks of rows, got shape \(6, 6\); name another"
    )
    with pytest.raises(ValueError, match=f"{said} leaf or block.$"):
        SingularBand(block=(0, 4))(W)
    said = "^`where`: expected a path through w_h at `v`, got 'v'; name a leaf by its fields, such"
    with pytest.raises(ValueError, match=f"{said} as 'layers.0.w_h'.$"):
        SingularBand(where="v")(W)
    said = r"^`params`: expected the params, got None; call update\(updates, state, params\): the"
    with pytest.raises(ValueError, match=f"{said} constraint is on the params.$"):
        SingularBand().update(W, ())
