"""Each check lets the good value through and says expected, got and what to do otherwise."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnndyn.core import validation


def says(error, sentence):
    return pytest.raises(error, match=f"^{re.escape(sentence)}$")


def test_shape():
    validation.require_shape("inputs", jnp.zeros((5, 3)), ("T", 3), "advice")
    for wrong in (jnp.zeros((5, 4)), jnp.zeros(3), jnp.zeros((1, 5, 3))):
        got = validation.shape_text(wrong.shape)
        with says(ValueError, f"`inputs`: expected shape (T, 3), got {got}; do this."):
            validation.require_shape("inputs", wrong, ("T", 3), "do this")


def test_real():
    validation.require_real("x", jnp.zeros(2))
    with says(
        TypeError,
        "`x`: expected real floating-point values, got dtype int8; "
        "convert it with jnp.asarray(..., float).",
    ):
        validation.require_real("x", jnp.zeros(2, jnp.int8))
    with pytest.raises(TypeError):
        validation.require_real("x", jnp.zeros(2, jnp.complex64))


def test_same_dtype():
    validation.require_same_dtype("x", jnp.zeros(2, jnp.float32), "params", jnp.float32)
    with says(
        TypeError,
        "`x`: expected dtype float32 as `params`, got dtype bfloat16; "
        "cast one with .astype(float32).",
    ):
        validation.require_same_dtype(
            "x", jnp.zeros(2, jnp.bfloat16), "params", jnp.dtype("float32")
        )


@pytest.mark.parametrize("wrong", [0, -3, 2.5, True, "4", None])
def test_int(wrong):
    assert validation.require_int("n", 4, 1, "advice") == 4
    with says(ValueError, f"`n`: expected a whole number >= 1, got {wrong!r}; do this."):
        validation.require_int("n", wrong, 1, "do this")


@pytest.mark.parametrize("wrong", [-0.1, 1.0, float("nan"), float("inf")])
def test_range(wrong):
    validation.require_range("alpha", 0.0, 0.0, 1.0, "advice", open_high=True)
    with says(ValueError, f"`alpha`: expected a number in [0, 1), got {wrong!r}; do this."):
        validation.require_range("alpha", wrong, 0.0, 1.0, "do this", open_high=True)


def test_choice():
    validation.require_choice("kind", "a", ["a", "b"])
    with says(ValueError, "`kind`: expected one of 'a', 'b', got 'c'; pass one of them."):
        validation.require_choice("kind", "c", ["a", "b"])


@pytest.mark.parametrize("wrong", [(), (1, 1), (-1,), (11,), (1.5,), 3])
def test_lags(wrong):
    assert validation.require_lags((0, 10, 3), 10) == (0, 10, 3)
    advice = "this run has T = 10 steps, so lags 0 to 10 exist; give each once."
    with pytest.raises(ValueError, match=re.escape(advice)):
        validation.require_lags(wrong, 10)


def test_structure():
    like = (jnp.zeros(2), jnp.zeros(3))
    validation.require_structure("state", (jnp.ones(2), jnp.ones(3)), like, "advice")
    with pytest.raises(ValueError, match=r"^`state`: expected structure PyTreeDef"):
        validation.require_structure("state", [jnp.ones(2)], like, "advice")
    with says(ValueError, "`state[1]`: expected shape (3,), got (4,); do this."):
        validation.require_structure("state", (jnp.ones(2), jnp.ones(4)), like, "do this")


def test_nonnegative():
    validation.require_nonnegative("noise", 0.0, "advice")
    validation.require_nonnegative("noise", float("nan"), "advice")  # becomes a status
    jax.vmap(lambda x: validation.require_nonnegative("noise", x, "advice"))(jnp.array([-1.0]))
    for wrong in (-1e-9, [0.1, -0.1]):
        with says(ValueError, f"`noise`: expected nothing below 0, got {wrong!r}; do this."):
            validation.require_nonnegative("noise", wrong, "do this")


def test_key():
    typed = jax.random.key(0)
    for good in (typed, jax.random.PRNGKey(0), jax.random.key_data(typed)):
        validation.require_key("key", good)
    jax.vmap(lambda key: validation.require_key("key", key))(jax.random.split(typed, 2))
    advice = "pass jax.random.key(0), and vmap over several."
    for wrong, got in (
        (0, "0"),
        (None, "None"),
        (jnp.zeros(3), f"dtype {jnp.zeros(3).dtype} of shape (3,)"),
        (jax.random.split(typed, 2), f"dtype {typed.dtype} of shape (2,)"),
    ):
        with says(TypeError, f"`key`: expected one random key of JAX, got {got}; {advice}"):
            validation.require_key("key", wrong)


@pytest.mark.parametrize("wrong", ["1e-3", [0.1, 0.2]])
def test_a_range_is_of_one_number(wrong):
    with says(ValueError, f"`tol`: expected a number in [0, 1], got {wrong!r}; do this."):
        validation.require_range("tol", wrong, 0.0, 1.0, "do this")


def test_number():
    for good in (1, 0.5, float("inf"), np.float32(2.0)):
        validation.require_number("alpha", good, "advice")
    for wrong in ("1", None, True, 1j, jnp.ones(2)):
        with says(TypeError, f"`alpha`: expected a real number, got {wrong!r}; do this."):
            validation.require_number("alpha", wrong, "do this")
    with says(ValueError, "`alpha`: expected a real number, got nan; do this."):
        validation.require_number("alpha", float("nan"), "do this")
