"""What the tests of special starts and parameterisations share: noise on a start, recordings."""

import dataclasses
import pathlib

import jax
import jax.numpy as jnp
import numpy as np

import rnndyn as rd
from tests.cells.recurrences import points

RECORDED = np.load(pathlib.Path(__file__).parents[1] / "reference" / "special_authors.npz")


def noisy_params(cell, scale):
    """The cell's own start and noise of size `scale`/sqrt(n) in every entry: nothing is zero."""
    rng, width = np.random.default_rng(0), scale / np.sqrt(cell.hidden_size)
    return jax.tree.map(
        lambda leaf: leaf + jnp.asarray(width * rng.normal(size=leaf.shape), leaf.dtype),
        cell.init(jax.random.key(0)),
    )


def recorded(case):
    """The arrays of one case, by name."""
    return {
        name.removeprefix(f"{case}_"): jnp.asarray(RECORDED[name])
        for name in RECORDED.files
        if name.startswith(f"{case}_")
    }


def run_from(cell, params, h0, inputs):
    """The states after each input of a run that starts at h0."""
    start = dataclasses.replace(cell.initial_state(params), h=h0)
    return points(rd.simulate(cell, params, inputs, start))[1:]
