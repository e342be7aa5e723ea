"""Extended systems along a curve of bifurcations in two parameters, and what degenerates on it.

A fold or flip: G = 0, A v = m v, |v| = 1 with m = +-1 (Moore & Spence 1980). A Neimark-Sacker
point: G = 0, (A^2 - 2 kappa A + I) v = 0, |v| = 1, l . v = 0, where kappa = cos(angle) is an
unknown like the others, so that the system stays regular at the strong resonances (Kuznetsov 2004,
sec. 10.2; l is any vector not orthogonal to the critical plane). They have one unknown more than
equations and are swept like a branch.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from rnndyn.branches import normal_forms
from rnndyn.branches.arclength import correct
from rnndyn.core.jacobian import jacobian
from rnndyn.core.pytree import pytree, static

MULTIPLIER = {"fold": 1, "flip": -1}
TESTS = {
    "fold": ("cusp", "resonance_1_1", "fold_flip"),
    "flip": ("generalised_flip", "resonance_1_2", "fold_flip"),
    "neimark_sacker": (
        "resonance_1_1",
        "resonance_1_2",
        "resonance_1_3",
        "resonance_1_4",
        "chenciner",
    ),
}


@pytree
class Extended:
    """The system of one kind, as a function of u = (z, v, [kappa,] first, second parameter).

    Both parameters are fractions of their spans. It stands in for a `Family` in a sweep.
    """

    make: Any
    low: jax.Array
    width: jax.Array
    plane: jax.Array
    kind: str = static()

    def rule(self, u: jax.Array) -> Callable[[jax.Array], jax.Array]:
        """z -> F(z) at the parameters of u."""
        first, second = self.low + self.width * u[-2:]
        return self.make(first, second)

    def parts(self, u: jax.Array) -> tuple[jax.Array, jax.Array]:
        """z and v."""
        d = self.plane.size
        return u[:d], u[d : 2 * d]

    def __call__(self, u: jax.Array) -> jax.Array:
        return self.system(*self.parts(u), u[2 * self.plane.size :])

    def system(self, z: jax.Array, v: jax.Array, others: jax.Array) -> jax.Array:
        """The equations in z, v and ([kappa,] first, second parameter)."""
        value, push = jax.linearize(self.rule(others), z)
        scale = (v @ v - 1)[None]
        if self.kind in MULTIPLIER:
            return jnp.concatenate([value - z, push(v) - MULTIPLIER[self.kind] * v, scale])
        pushed = push(v)
        turned = push(pushed) - 2 * others[0] * pushed + v
        return jnp.concatenate([value - z, turned, scale, (self.plane @ v)[None]])

    def derivative(self, u: jax.Array) -> tuple[jax.Array, jax.Array]:
        """The value and the Jacobian; the three parts apart, as in `Family.derivative`."""
        z, v = self.parts(u)
        others = u[2 * self.plane.size :]

        by_z = jacobian(lambda z: self.system(z, v, others), z)[1]
        by_v = jacobian(lambda v: self.system(z, v, others), v)[1]
        by_others = jacobian(lambda others: self.system(z, v, others), others)[1]
        return self(u), jnp.concatenate([by_z, by_v, by_others], axis=1)


def start(system: Extended, z: jax.Array, place: jax.Array, angle: jax.Array):
    """The system with its plane, and the unknowns at an event; `place` is (first, second)."""
    rule = system.rule(place)
    A = jacobian(rule, z)[1]
    if system.kind in MULTIPLIER:
        v, _ = normal_forms.critical_vectors(A, jnp.asarray(MULTIPLIER[system.kind], z.dtype))
        return system, jnp.concatenate([z, v, place])
    matrix = jax.lax.complex(A, jnp.zeros_like(A))
    q, _ = normal_forms.critical_vectors(matrix, jax.lax.complex(jnp.cos(angle), jnp.sin(angle)))
    v = q.real / jnp.linalg.norm(q.real)
    across = q.imag - (q.imag @ v) * v
    system = Extended(
        system.make, system.low, system.width, across / jnp.linalg.norm(across), system.kind
    )
    return system, jnp.concatenate([z, v, jnp.cos(angle)[None], place])


def tests(system: Extended, u: jax.Array, reference: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Functions whose simple zeros are the points named in TESTS, and the left null vector.

    That vector is of length 1 and turned to the side of `reference`, so that the functions are
    continuous along the curve. With v of length 1 they have the zeros of the normal-form
    coefficients but no pole where <p, v> = 0.
    """
    rule, (z, v) = system.rule(u), system.parts(u)
    A = jacobian(rule, z)[1]
    eye = jnp.eye(z.size, dtype=z.dtype)
    if system.kind == "neimark_sacker":
        kappa = u[-3]
        angle = jnp.arccos(jnp.clip(kappa, -1, 1))
        levels = kappa - jnp.cos(2 * jnp.pi / jnp.arange(1, 5, dtype=z.dtype))
        d = normal_forms.neimark_sacker(rule, z, angle)
        turning = jnp.where(jnp.abs(kappa) < 1, d.real / (1 + jnp.abs(d)), jnp.nan)
        return jnp.append(levels, turning), reference
    m = MULTIPLIER[system.kind]
    p = jnp.linalg.svd(A - m * eye)[0][:, -1]
    p = jnp.where(p @ reference < 0, -p, p)
    curved = normal_forms.second(rule, z, v, v)
    other = jnp.linalg.det(A + m * eye)
    if system.kind == "fold":
        return jnp.stack([p @ curved, p @ v, other]), p
    h = jnp.linalg.solve(eye - A, curved)
    cubic = normal_forms.third(rule, z, v, v, v) + 3 * normal_forms.second(rule, z, v, h)
    return jnp.stack([p @ cubic, p @ v, other]), p


@jax.jit
def tests_along(system: Extended, points: jax.Array) -> tuple[jax.Array, jax.Array]:
    """`tests` at points in order, (n, k), and the left null vector that each hands to the next."""

    def step(reference, u):
        values, p = tests(system, u, reference)
        return p, (values, p)

    first = tests(system, points[0], system.parts(points[0])[1])[1]
    return jax.lax.scan(step, first, points)[1]


@jax.jit
def between(
    system: Extended, a: jax.Array, b: jax.Array, along: jax.Array, reference: jax.Array, tol: Any
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The point of the curve at a fraction of the chord from a to b, its tests and residual."""
    chord = b - a
    u, _, residual, _ = correct(system, a + along * chord, chord / jnp.linalg.norm(chord), tol)
    return u, tests(system, u, reference)[0], residual


@jax.jit
def cusp_coefficient(system: Extended, u: jax.Array) -> jax.Array:
    return normal_forms.fold(system.rule(u), system.parts(u)[0])[1]
