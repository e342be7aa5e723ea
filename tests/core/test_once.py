"""What is compiled in a hurry computes the same, and is compiled once."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from rnndyn.core.once import once


def test_equals_jit_and_is_traced_once_a_static_argument():
    traced = []

    def power(x, n):
        """x^n."""
        traced.append(n)
        return x**n

    fast = once(power, static_argnames="n")
    for n in (2, 3, 2, 3):
        np.testing.assert_array_equal(fast(jnp.arange(3.0), n), np.arange(3.0) ** n)
    assert traced == [2, 3]
    assert (fast.__name__, fast.__doc__) == ("power", "x^n.")


def test_only_a_cpu_is_told_to_hurry(monkeypatch):
    asked = []
    monkeypatch.setattr(jax, "jit", lambda f, compiler_options: asked.append(compiler_options) or f)
    for backend in ("cpu", "gpu", "cpu"):
        monkeypatch.setattr(jax, "default_backend", functools.partial(str, backend))
        once(jnp.sin)(0.0)
    assert asked == [{"xla_backend_optimization_level": 0}, None] + asked[:1]
