"""The Cayley retraction: it stays on the group, descends, and agrees with the flow it follows."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import rnndyn as rd
from rnndyn.constraints import CayleyRetraction, Orthogonalise
from tests.tolerances import tol

CELL = rd.cells.OrthogonalRNN(3, 6)


def moved(w, step):
    return np.asarray(CayleyRetraction().moved({"w_h": w}, {"w_h": step})["w_h"])


@pytest.mark.precision
def test_it_is_the_published_step():
    """Wen & Yin 2013: (I + A/2)^-1 (I - A/2) W with A = lr (G W^T - W G^T), dW = -lr G."""
    w = np.asarray(CELL.init(jax.random.key(0)).w_h)
    g = np.asarray(jax.random.normal(jax.random.key(1), (6, 6)))
    half, eye = 0.3 * (g @ w.T - w @ g.T) / 2, np.eye(6)
    expected = np.linalg.solve(eye + half, (eye - half) @ w)
    got = moved(jnp.asarray(w), jnp.asarray(-0.3 * g))
    np.testing.assert_allclose(got, expected, rtol=0, atol=tol("constraint"))
    np.testing.assert_allclose(got.T @ got, eye, rtol=0, atol=tol("constraint"))


def test_to_first_order_it_is_the_projection_of_the_step_onto_the_tangent_space():
    w = CELL.init(jax.random.key(0)).w_h
    step = jax.random.normal(jax.random.key(1), (6, 6))
    _, slope = jax.jvp(lambda t: jnp.asarray(_retract(w, t * step)), (0.0,), (1.0,))
    np.testing.assert_allclose(slope, step - w @ step.T @ w, rtol=0, atol=tol("constraint"))


def _retract(w, step):
    return CayleyRetraction().moved({"w_h": w}, {"w_h": step})["w_h"]


def test_training_stays_orthogonal_and_descends():
    """Beside the projection of the same steps, over 100 steps: Cayley does not drift either."""
    target = Orthogonalise()(CELL.init(jax.random.key(5))).w_h
    target = target * jnp.where(jnp.linalg.det(target) < 0, -1.0, 1.0)[None, None]
    optimiser = optax.chain(optax.sgd(0.05), CayleyRetraction())
    params = CELL.init(jax.random.key(2))

    def loss(params):
        return jnp.sum((params.w_h - target) ** 2) + jnp.sum(params.b**2)

    @jax.jit
    def step(params, state):
        updates, state = optimiser.update(jax.grad(loss)(params), state, params)
        return optax.apply_updates(params, updates), state

    state, losses = optimiser.init(params), []
    for _ in range(100):
        losses.append(float(loss(params)))
        params, state = step(params, state)
    assert np.all(np.diff(losses) <= tol("constraint")) and losses[-1] < 0.5 * losses[0]
    gram = params.w_h.T @ params.w_h
    np.testing.assert_allclose(gram, np.eye(6), rtol=0, atol=tol("constraint"))


def test_other_leaves_pass_through():
    params = CELL.init(jax.random.key(0))
    step = jax.tree.map(jnp.ones_like, params)
    updates, _ = CayleyRetraction().update(step, (), params)
    assert np.array_equal(updates.w_x, step.w_x) and np.array_equal(updates.b, step.b)


def test_misuse_is_named():
    said = r"^`w_h`: expected shape \(2, 2\), got \(2, 3\); the Cayley retraction turns a square"
    with pytest.raises(ValueError, match=f"{said} matrix.$"):
        CayleyRetraction().init({"w_h": jnp.ones((2, 3))})
