"""Curves of bifurcations in two parameters and their special points, against closed forms."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rnndyn as rd
from tests.branches import families
from tests.branches.test_continuation import close, settle
from tests.tolerances import tol

Partial = jax.tree_util.Partial


def tanh_in_b(b, w):
    return families.scalar_tanh(w, b)


def henon_in_b(b, a):
    return rd.maps.henon(a, b)


def swapped(family, fixed, p):
    return family(p, fixed)


def sheared(p, q):
    """Multipliers 1 at p = 0 and -(1 + q), and a shear between them."""
    return rd.Map(_sheared, (p, q))


def _sheared(z, args):
    p, q = args
    x, y = z
    return jnp.stack([x + p + x**2 + 0.3 * y, -(1 + q) * y + y**3])


def doubling(p, q):
    """y' = -(1 + p) y + y^2 / 2 + q y^3: a flip at p = 0 with c = q + 1/4."""
    return rd.Map(_doubling, (p, q))


def _doubling(y, args):
    p, q = args
    return -(1 + p) * y + 0.5 * y**2 + q * y**3


def circling(p, q):
    """z' = e^i z (1 + p + (q - 1/5) |z|^2 - |z|^4), sheared: Re d changes sign at q = 1/5."""
    return rd.Map(_circling, (p, q))


def _circling(z, args):
    p, q = args
    x, y = z[0] - 0.5 * z[1], z[1]
    r2 = x**2 + y**2
    grown = 1 + p + (q - 0.2) * r2 - r2**2
    c, s = jnp.cos(1.0), jnp.sin(1.0)
    x, y = grown * (c * x - s * y), grown * (s * x + c * y)
    return jnp.stack([x + 0.5 * y, y])


def curve_of(family, kind, z0, *, second, spans, start=None, **options):
    """The curve through the first event of a kind on the branch in the first parameter."""
    alone = Partial(Partial(swapped, family), jnp.asarray(second))
    branch = rd.continuation(alone, jnp.asarray(z0), span=spans[0], start=start)
    event = next(event for event in branch.events if event.kind == kind)
    return rd.bifurcation_curve(family, event, second=second, spans=spans, **options)


def special(curve):
    assert all(int(point.status) == 0 for point in curve.points)
    return [(point.kind, *np.asarray(point.parameters).tolist()) for point in curve.points]


def check_special(curve, *want):
    found = sorted(special(curve))
    assert [point[0] for point in found] == sorted(point[0] for point in want)
    for point, expected in zip(found, sorted(want), strict=True):
        close(point[1:], expected[1:])


def test_fold_curve_of_the_scalar_tanh_and_its_cusp():
    """P02: |b| = w s - artanh s, s = sqrt(1 - 1/w); the cusp at (0, 1), where c = -1/3 (P04)."""
    curve = curve_of(tanh_in_b, "fold", [-0.9999], second=2.0, spans=((-4, 4), (0, 5)))
    assert curve.stop == ("left_span", "left_span") and int(curve.status) == 0
    b, w = np.asarray(curve.parameters).T
    s = np.sqrt(np.maximum(1 - 1 / w, 0))
    close(np.abs(b), w * s - np.arctanh(s))
    assert w.max() == 5 and (b > 0).any() and (b < 0).any()
    check_special(curve, ("cusp", 0.0, 1.0))
    close(curve.points[0].coefficient, -1 / 3, "normal_form")


def test_flip_curve_of_the_scalar_tanh_has_no_special_point():
    """P03 and P04: |b| = artanh s - w s, s = sqrt(1 + 1/w); c = w^2 / 3 never vanishes."""
    curve = curve_of(
        tanh_in_b, "flip", [0.0], second=-3.0, spans=((-4.0, 4.0), (-3.5, 0.0)), start=0.0
    )
    b, w = np.asarray(curve.parameters).T
    s = np.sqrt(np.maximum(1 + 1 / w, 0))
    close(np.abs(b), np.arctanh(s) - w * s)
    assert curve.points == () and w.max() > -1.01


def test_henon_resonances_on_the_neimark_sacker_line():
    """P25: b = -1, a = cos^2 - 2 cos of the angle; Re d is zero throughout and no Chenciner."""
    curve = curve_of(
        henon_in_b,
        "neimark_sacker",
        [0.56, -0.28],
        second=0.5,
        spans=((-1.2, -0.5), (-3.0, 4.0)),
        start=-0.5,
    )
    assert curve.stop == ("resonance", "resonance") and int(curve.status) == 0
    angle = np.asarray(curve.angle)
    close(curve.parameters[:, 0], np.full(len(angle), -1.0))
    close(curve.parameters[:, 1], np.cos(angle) ** 2 - 2 * np.cos(angle))
    check_special(
        curve,
        ("resonance_1_1", -1.0, -1.0),
        ("resonance_1_2", -1.0, 3.0),
        ("resonance_1_3", -1.0, 1.25),
        ("resonance_1_4", -1.0, 0.0),
    )


@pytest.mark.parametrize(
    "kind, start, begin, law, point",
    [
        ("fold", [0.5, 0.1], 0.2, lambda b: -((1 - b) ** 2) / 4, ("resonance_1_1", -1.0, -1.0)),
        ("flip", [0.9, 0.2], 0.2, lambda b: 3 * (1 - b) ** 2 / 4, ("resonance_1_2", 3.0, -1.0)),
    ],
)
def test_henon_fold_and_flip_curves(kind, start, begin, law, point):
    """P24 for every b; at b = -1 the other multiplier, -b / (+-1), is critical too."""
    spans = ((-1.5, 4.0), (-1.5, 0.5))
    start = settle(rd.maps.henon(begin), start)
    curve = curve_of(rd.maps.henon, kind, start, second=0.3, spans=spans, start=begin)
    a, b = np.asarray(curve.parameters).T
    close(a, law(b))
    check_special(curve, point)


def test_a_curve_of_flips_of_a_cycle():
    """P24: the 2-cycle flips at a = (1 - b)^2 + (1 + b)^2 / 4."""
    begin = settle(rd.maps.henon(0.2), [0.5, 0.1])
    branch = rd.continuation(families.henon, begin, span=(0.1, 1.0), start=0.2)
    (flip,) = [event for event in branch.events if event.kind == "flip"]
    (cycle,) = rd.switch_branch(families.henon, flip, span=(0.1, 1.0))
    (event,) = [event for event in cycle.events if event.period == 2]
    curve = rd.bifurcation_curve(rd.maps.henon, event, second=0.3, spans=((0.0, 3.0), (-0.5, 0.5)))
    assert curve.period == 2
    a, b = np.asarray(curve.parameters).T
    close(a, (1 - b) ** 2 + (1 + b) ** 2 / 4)


@pytest.mark.parametrize(
    "family, kind, z0, point",
    [
        (sheared, "fold", [-0.5, 0.0], ("fold_flip", 0.0, 0.0)),
        (doubling, "flip", [0.0], ("generalised_flip", 0.0, -0.25)),
        (circling, "neimark_sacker", [0.0, 0.0], ("chenciner", 0.0, 0.2)),
    ],
)
def test_points_of_maps_made_to_have_them(family, kind, z0, point):
    start = -0.25 if kind == "fold" else -0.3
    spans = ((-0.4, 0.5), (-0.6, 0.6))
    curve = curve_of(family, kind, z0, second=0.5, spans=spans, start=start)
    check_special(curve, point)
    close(curve.parameters[:, 0], np.zeros(len(curve.angle)))
    assert np.asarray(curve.residual).max() < tol("branch_residual")


def test_misuse_of_curves():
    branch = rd.continuation(rd.maps.logistic, jnp.array([0.5]), span=(2.0, 3.4))
    (flip,) = branch.events
    with pytest.raises(ValueError, match=r"^`second`: expected a number in \[0, 1\], got 2.0"):
        rd.bifurcation_curve(tanh_in_b, flip, second=2.0, spans=((2.0, 4.0), (0.0, 1.0)))
    family = Partial(families.scalar_tanh_in_w, jnp.zeros(()))
    trivial = rd.continuation(family, jnp.zeros(1), span=(-2.0, 2.0), start=0.3)
    message = (
        "`event.kind`: expected one of 'fold', 'flip', 'neimark_sacker', got 'branch_point';"
        " follow one of these."
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        rd.bifurcation_curve(
            tanh_in_b, trivial.events[1], second=0.0, spans=((-4.0, 4.0), (-3.0, 3.0))
        )
