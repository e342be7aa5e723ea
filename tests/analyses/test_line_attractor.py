"""The line attractor's theory, where everything is known in closed form."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

import rnndyn as rd
from analyses import line_attractor
from tests.tolerances import tol


def test_the_task_is_to_sum_the_first_channel():
    inputs, targets = line_attractor.trials(jax.random.key(0), 3, 200, 0.25, 0.0)
    assert np.allclose(targets[..., 0], np.cumsum(inputs[..., 0], axis=1), rtol=0, atol=1e-13)
    assert set(np.unique(np.abs(inputs))) == {0.0, 0.25}
    assert 0.05 < np.mean(np.asarray(inputs) != 0) < 0.15


def test_drift_is_the_integral_of_the_eigenvalue():
    """v(s) = 0.01 (s - s^3) has v' = 0.01 (1 - 3 s^2) and is zero at the point amid."""
    at = np.linspace(-0.9, 1.1, 401)
    slow = 1 + 0.01 * (1 - 3 * at**2)
    part = {"at": at, "eigenvalues": slow[:, None], "place": np.array([-1.0, 0.0, 1.0])}
    gap = line_attractor.predicted_drift(part) - 0.01 * (at - at**3)
    assert np.max(np.abs(gap)) < 1e-6
    part["place"] = np.array([5.0])
    assert np.all(np.isnan(line_attractor.predicted_drift(part)))


def test_a_linear_integrator_responds_as_its_left_eigenvector_says():
    """h' = A h + B x, A far from normal, one eigenvalue 0.99 and the others gone in 20 steps."""
    rng = np.random.default_rng(0)
    basis = np.eye(4) + 0.7 * rng.normal(size=(4, 4))
    a = basis @ np.diag([0.99, 0.1, -0.1, 0.05]) @ np.linalg.inv(basis)
    cell = rd.cells.Vanilla(2, 4, activation="identity")
    params = cell.init(jax.random.key(0))
    params = dataclasses.replace(params, w_h=jnp.asarray(a), b=0 * params.b)
    quiet = rd.hold(cell, params, jnp.zeros(2))
    readout = jnp.asarray(rng.normal(size=4))
    line = jnp.linspace(-1.0, 1.0, 3)[:, None] * jnp.asarray(basis[:, 0])[None]
    config = line_attractor.Config()
    part = line_attractor._along(quiet, lambda z: readout @ z, line, config)
    left = np.linalg.inv(basis)[0]
    expected = (readout @ basis[:, 0]) * 0.99**config.settling * (left @ np.asarray(params.w_x))
    assert np.max(np.abs(expected)) > 0.1
    assert np.allclose(part["selected"], expected[None], rtol=0, atol=tol("multiplier"))
    assert np.allclose(part["response"], expected[None], rtol=0, atol=tol("multiplier"))
    drift = -0.01 * (line @ readout)
    assert np.allclose(part["drift"], drift, rtol=0, atol=tol("multiplier"))
