"""From a branch to the others that meet it: through a branch point, and to a doubled cycle."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rnndyn.branches import kinks, states
from rnndyn.branches.arclength import Family, correct_at, defect
from rnndyn.branches.branch import Branch
from rnndyn.branches.continuation import limits, pose
from rnndyn.branches.events import Event
from rnndyn.branches.following import Problem, follow
from rnndyn.core import validation
from rnndyn.maps import Map

_STRAIGHT = 0.1  # how far it may be from its tangent, relative to the step


def switch_branch(
    family: Callable[[jax.Array], Map],
    event: Event,
    *,
    span: tuple[float, float],
    step: float = 0.01,
    **options: Any,
) -> tuple[Branch, ...]:
    """Follow the other branches at a branch point, or the doubled cycle at a flip.

    Also at a flip where the branch crosses a kink of the map ("nonsmooth_flip").

    At a branch point the kernel of G_u has two dimensions, and its vectors t with
    psi . G_uu(t, t) = 0, psi the left null vector, are the tangents of the branches through it
    (the algebraic bifurcation equation: Keller 1977). At a flip of a k-cycle the doubled cycle
    leaves along the critical vector q of A q = -q, at one parameter to second order. At a kink
    the doubled cycle grows linearly, with one point on either side of the border.

    Parameters
    ----------
    family : callable
        The family of maps in whose branch the event was found.
    event : Event
        A located "branch_point", "flip", or "border_collision" of criticality "nonsmooth_flip".
    span : (low, high)
        For the new branches.
    step : float
        How far from the event, in u as in `continuation`, the new branch is entered; halved as
        long as the branch is not straight over that length.
    **options
        Those of `continuation`, without period and start.

    Returns
    -------
    tuple of Branch
        At a branch point the other branch, which runs through the event on both of its sides; at
        a flip the branch of the 2k-cycle, which begins at the event. Empty where none was found:
        several eigenvalues are critical at once, or the quadratic form has no other root.

    Raises
    ------
    ValueError
        If the event is of another kind, was not located, or lies outside the span.

    Examples
    --------
    >>> import jax.numpy as jnp, rnndyn as rd
    >>> branch = rd.continuation(rd.maps.logistic, jnp.array([0.5]), span=(2.0, 3.5))
    >>> (doubled,) = rd.switch_branch(rd.maps.logistic, branch.events[0], span=(2.0, 3.5))
    >>> doubled.period, [round(float(event.parameter), 5) for event in doubled.events]
    (2, [3.0, 3.44949])
    """
    _require_switchable(event)
    low, high = limits(span)
    validation.require_range("event.parameter", float(event.parameter), low, high, "widen the span")
    advice, infinity = "halved where it is too long; 0.01 is usual", float("inf")
    validation.require_range("step", step, 0, infinity, advice, open_low=True, open_high=True)
    for option in ("period", "start"):
        if option in options:
            got, advice = repr(options[option]), "the event says where and with which period"
            raise ValueError(validation.sentence(option, "no such option", got, advice))
    period = event.period * (1 if event.kind == "branch_point" else 2)
    problem = pose(family, event.z, name="event.z", span=span, period=period, **options)
    if int(event.multiplicity) > 1:
        return ()
    s = (event.parameter - problem.family.low) / problem.family.width
    u = np.append(event.z, s)
    off = defect(problem.iterated(event.period), u)
    states.require_root("event", off, event.z, "pass the family in whose branch it was found")
    along = np.append(event.tangent[:-1], event.tangent[-1] / problem.family.width)
    if event.kind == "flip":
        found = jax.device_get(_doubling(problem.iterated(event.period), u))
    elif event.kind == "border_collision":
        found = kinks.doubling(problem.iterated(event.period), u, along, problem.sizes)
    else:
        kernel, form = jax.device_get(_form(problem.iterated(), u))
        found = _other(kernel, form, along)
    return () if found is None else _entered(problem, u, found, step)


def _entered(problem: Problem, u: Any, tangent: Any, step: float) -> tuple[Branch, ...]:
    """The branch through a point so near to u that the tangent still describes it."""
    family, sizes = problem.iterated(), problem.sizes
    while step > float(sizes.ds_min):
        guess = u + step * tangent
        landed, _, residual, _ = jax.device_get(correct_at(family, guess, tangent, sizes.tol))
        good = residual <= float(sizes.tol) * max(1.0, float(np.max(np.abs(landed[:-1]))))
        if good and np.linalg.norm(landed - guess) <= _STRAIGHT * step:
            small = dataclasses.replace(sizes, ds=jnp.minimum(sizes.ds_max, step).astype(u.dtype))
            return (follow(dataclasses.replace(problem, sizes=small), landed, tangent),)
        step *= 0.5
    return ()


@jax.jit
def _doubling(family: Family, u: jax.Array) -> jax.Array:
    """(q, 0) with A q = -q, |q| = 1."""
    jacobian = family.derivative(u)[1][:, :-1] + jnp.eye(u.size - 1, dtype=u.dtype)
    q = jnp.linalg.svd(jacobian + jnp.eye(u.size - 1, dtype=u.dtype))[2][-1]
    return jnp.append(q, 0)


@jax.jit
def _form(family: Family, u: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Two vectors (2, d + 1) that span the kernel of G_u, and psi . G_uu on them, (2, 2)."""
    slope = family.derivative(u)[1]
    left, _, right = jnp.linalg.svd(slope, full_matrices=True)
    psi, kernel = left[:, -1], right[-2:]

    def quadratic(a, b):
        return psi @ jax.jvp(lambda u: jax.jvp(family, (u,), (a,))[1], (u,), (b,))[1]

    return kernel, jnp.stack(
        [jnp.stack([quadratic(kernel[i], kernel[j]) for j in range(2)]) for i in range(2)]
    )


def _other(kernel: np.ndarray, form: np.ndarray, along: np.ndarray) -> np.ndarray | None:
    """The root of the quadratic form, as a vector of length 1, that is least parallel to `along`.

    In an eigenbasis of the form, x^2 lambda_1 + y^2 lambda_2 = 0 has two real roots if the signs
    differ.
    """
    values, vectors = np.linalg.eigh(form)
    if not values[0] < 0 < values[1]:
        return None
    x, y = np.sqrt(values[1]), np.sqrt(-values[0])
    roots = np.array([[x, y], [x, -y]]) @ vectors.T @ kernel
    roots /= np.linalg.norm(roots, axis=1, keepdims=True)
    return roots[np.argmin(np.abs(roots @ along))]


def _require_switchable(event: Event) -> None:
    states.require_event(event)
    advice = {
        "fold": "the branch goes round a fold by itself",
        "neimark_sacker": "the invariant circle that is born here is no cycle",
        "border_collision": "the branch goes on through a kink by itself",
    }.get(event.kind, "see Event.kind")
    doubles = event.criticality == "nonsmooth_flip"
    if event.kind not in ("branch_point", "flip") and not doubles:
        got = repr(event.kind)
        raise ValueError(validation.sentence("event", "a branch point or a flip", got, advice))
    if int(event.status) != 0:
        got, advice = f"status {int(event.status)}", "lower ds_max in continuation"
        raise ValueError(validation.sentence("event", "a located event", got, advice))
