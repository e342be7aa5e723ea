"""Gradient clips, alone and in an optimiser's chain."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rnndyn.constraints import ClipGradientNorm, ClipGradientValue
from tests.tolerances import tol

GRADIENTS = {"a": jnp.array([3.0, -4.0]), "b": (jnp.array([[12.0]]),)}  # norm 13


@pytest.mark.precision
def test_the_norm_is_that_of_all_leaves_together():
    clipped = ClipGradientNorm(6.5)(GRADIENTS)
    np.testing.assert_allclose(clipped["a"], [1.5, -2.0], rtol=tol("elementary"))
    np.testing.assert_allclose(clipped["b"][0], [[6.0]], rtol=tol("elementary"))
    for kept in (ClipGradientNorm(13.5)(GRADIENTS), ClipGradientNorm(1e30)(GRADIENTS)):
        assert jax.tree.all(jax.tree.map(np.array_equal, kept, GRADIENTS))


@pytest.mark.precision
def test_huge_tiny_and_zero_gradients_neither_over_nor_underflow():
    info = jnp.finfo(jnp.zeros(()).dtype)
    huge = jnp.full(4, float(info.max) / 4)
    np.testing.assert_allclose(ClipGradientNorm(1.0)(huge), 0.5, rtol=tol("elementary"))
    tiny = jnp.full(4, 4 * float(info.tiny))
    assert np.array_equal(ClipGradientNorm(1.0)(tiny), tiny)
    limit = 4 * float(info.tiny)
    np.testing.assert_allclose(ClipGradientNorm(limit)(tiny), tiny / 2, rtol=tol("elementary"))
    assert np.array_equal(ClipGradientNorm(1.0)(jnp.zeros(3)), np.zeros(3))
    assert ClipGradientNorm(1.0)(()) == ()


def test_nan_and_infinity_are_not_silenced():
    for bad in (jnp.nan, jnp.inf):
        gradients = [jnp.array([1.0, bad]), jnp.array([2.0])]
        assert all(np.isnan(leaf).all() for leaf in ClipGradientNorm(1.0)(gradients))
    assert np.isnan(ClipGradientValue(1.0)(jnp.array([jnp.nan]))).all()


def test_every_leaf_keeps_its_dtype():
    mixed = {"a": jnp.ones(3, jnp.float32), "b": jnp.ones(3, jnp.float16)}
    clipped = ClipGradientNorm(0.1)(mixed)
    assert {k: v.dtype for k, v in clipped.items()} == {k: v.dtype for k, v in mixed.items()}
    norm = np.sqrt(sum(np.sum(np.asarray(v, float) ** 2) for v in clipped.values()))
    assert norm == pytest.approx(0.1, rel=1e-3)


def test_values_are_clamped_entry_by_entry():
    clipped = ClipGradientValue(3.5)(GRADIENTS)
    assert np.array_equal(clipped["a"], [3.0, -3.5]) and np.array_equal(clipped["b"][0], [[3.5]])


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (ClipGradientNorm(2.0), optax.clip_by_global_norm(2.0)),
        (ClipGradientValue(2.0), optax.clip(2.0)),
    ],
)
def test_in_a_chain_they_do_what_optax_does(ours, theirs):
    params = jax.tree.map(jnp.ones_like, GRADIENTS)
    moved = []
    for clip in (ours, theirs):
        optimiser = optax.chain(clip, optax.sgd(0.1))
        updates, _ = optimiser.update(GRADIENTS, optimiser.init(params), params)
        moved.append(optax.apply_updates(params, updates))
    for got, expected in zip(*map(jax.tree.leaves, moved), strict=True):
        np.testing.assert_allclose(got, expected, rtol=tol("elementary"))


def test_misuse_is_named():
    advice = "pass the largest norm to let through"
    said = rf"^`max_norm`: expected a number in \(0, inf\), got 0.0; {advice}.$"
    with pytest.raises(ValueError, match=said):
        ClipGradientNorm(0.0)
    advice = "pass the largest entry to let through"
    said = rf"^`max_value`: expected a number in \(0, inf\), got nan; {advice}.$"
    with pytest.raises(ValueError, match=said):
        ClipGradientValue(float("nan"))
