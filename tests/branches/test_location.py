"""Bordered test functions find by themselves what the extended systems find."""

import jax.numpy as jnp
import numpy as np
import pytest

import rnndyn as rd
from rnndyn.branches.continuation import pose
from rnndyn.branches.location import _multiplicity, locate, locate_degenerate
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


def test_multiplicity_is_what_eigenvalues_within_the_cube_root_of_eps_say():
    """Also where no eigenvalue is computed; a matrix that is far from normal."""
    rng = np.random.default_rng(0)
    vectors, level = rng.normal(size=(10, 10)), float(np.cbrt(jnp.finfo(jnp.zeros(()).dtype).eps))
    duals = np.linalg.inv(vectors)
    q = vectors[:, 0] / np.linalg.norm(vectors[:, 0])
    p = duals[0] / (duals[0] @ q)
    for gap, want in ((1e3, 1), (2.0, 1), (0.5, 2), (0.0, 2)):
        values = np.diag([-1, -1 + gap * level, *np.linspace(-0.7, 0.9, 8)])
        matrix = jnp.asarray(vectors @ values @ duals)
        critical = jnp.asarray(np.pi), (jnp.asarray(q), jnp.asarray(p))
        assert int(_multiplicity(matrix, "flip", *critical)) == want
