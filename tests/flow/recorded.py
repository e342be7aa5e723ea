"""The recorded references, with runs of one length for each size, so that few shapes compile."""

import pathlib

import jax.numpy as jnp
import numpy as np

from tests.flow.make_reference import jacobians_of

_RECORDED = np.load(pathlib.Path(__file__).parent / "reference.npz")
_LONG = np.load(pathlib.Path(__file__).parent / "long_reference.npz")
_LENGTHS = {8: 60, 12: 120, 16: 200, 32: 50}

NAMES = sorted(name.split("/")[0] for name in _RECORDED if name.endswith("/log_values"))
LONG_NAMES = sorted(name.split("/")[0] for name in _LONG if name.endswith("/log_values"))


def recorded(name, dtype=None):
    """Jacobians (T, d, d), the first ones identities, which no product notices; log values (d,)."""
    jacobians = _RECORDED[f"{name}/jacobians"]
    steps, d = jacobians.shape[:2]
    before = np.broadcast_to(np.eye(d), (_LENGTHS[d] - steps, d, d))
    return jnp.asarray(np.concatenate([before, jacobians]), dtype), _RECORDED[f"{name}/log_values"]


def long_recorded(name):
    """As `recorded`, of 64 units and 1000 steps."""
    keys = ("weights", "slopes", "seed")
    made = {key: _LONG[f"{name}/{key}"] for key in keys if f"{name}/{key}" in _LONG}
    jacobians = jacobians_of(made)
    before = np.broadcast_to(np.eye(64), (1000 - len(jacobians), 64, 64))
    return jnp.asarray(np.concatenate([before, jacobians])), _LONG[f"{name}/log_values"]
