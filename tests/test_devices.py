"""A batch sharded over several devices gives the numbers of one device."""

import subprocess
import sys

PROGRAM = """
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import NamedSharding, PartitionSpec
import rnndyn as rd

jax.config.update("jax_enable_x64", True)
assert jax.device_count() == 2
cell = rd.cells.LSTM(3, 4)
params = cell.init(jax.random.key(0), gain=2.0)
batch = jax.random.normal(jax.random.key(1), (4, 30, 3))

def flow(inputs):
    run = rd.simulate(cell, params, inputs)
    lin = rd.linearize(cell, params, run)
    return run.outputs, rd.gradient_flow(lin, lags=(1, 30)).log_norm

mesh = jax.make_mesh((2,), ("batch",), axis_types=(jax.sharding.AxisType.Auto,))
spread = jax.device_put(batch, NamedSharding(mesh, PartitionSpec("batch")))
many = jax.jit(jax.vmap(flow))
outputs, log_norm = many(spread)
assert len(outputs.sharding.device_set) == 2
alone = many(batch)
np.testing.assert_allclose(outputs, alone[0], rtol=0, atol=1e-15)
np.testing.assert_allclose(log_norm, alone[1], rtol=1e-12)
"""


def test_two_devices_agree_with_one():
    import os

    environment = dict(os.environ, XLA_FLAGS="--xla_force_host_platform_device_count=2")
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
