"""Bordered test functions find by themselves what the extended systems find."""

import jax.numpy as jnp
import numpy as np
import pytest

import rnndyn as rd
from rnndyn.branches.continuation import pose
from rnndyn.branches.location import locate, locate_degenerate
from tests.branches import families
from tests.tolerances import tol


@pytest.mark.parametrize(
    "kind, family, span, u, angle",
    [
        ("flip", families.henon, (0.0, 1.0), (0.97, 0.29, 0.36), np.pi),
        ("fold", families.henon, (-1.0, 1.0), (2.8, 0.84, 0.44), 0.0),
        ("branch_point", rd.maps.logistic, (0.0, 2.0), (0.02, 0.51), 0.0),
        ("neimark_sacker", rd.maps.delayed_logistic, (1.0, 3.0), (0.49, 0.51, 0.49), 1.0),
    ],
)
def test_both_methods_find_the_same(kind, family, span, u, angle):
    u = jnp.asarray(u)
    system = pose(family, u[:-1], span=span).iterated()
    one, two = (f(system, kind, u, jnp.asarray(angle)) for f in (locate, locate_degenerate))
    assert float(one.residual) < tol("branch_residual")
    np.testing.assert_allclose(one.u, two.u, rtol=0, atol=tol("event_position"))
    np.testing.assert_allclose(one.angle, two.angle, rtol=0, atol=tol("event_position"))
    for name in ("coefficient", "cubic"):
        got, want = getattr(one, name), getattr(two, name)
        np.testing.assert_allclose(got, want, rtol=tol("normal_form"), atol=tol("normal_form"))
