"""Every cell that is piecewise linear, small, and params in which no entry is zero."""

import jax
import jax.numpy as jnp
import numpy as np

import rnndyn as rd

CELLS = {
    "vanilla": rd.cells.Vanilla(2, 3, activation="relu"),
    "irnn": rd.cells.IRNN(2, 3),
    "np_rnn": rd.cells.NpRNN(2, 3),
    "rin": rd.cells.RIN(2, 3),
    "rin_dt": rd.cells.RIN(2, 3, depth=2),
    "dirac": rd.cells.DiracRNN(2, 3),
    "indrnn": rd.cells.IndRNN(2, 3),
    "crelu": rd.cells.CReluRNN(2, 3),
    "mirror": rd.cells.MirrorRNN(2, 2),
    "plrnn": rd.cells.PLRNN(2, 3),
    "shallow_plrnn": rd.cells.ShallowPLRNN(2, 3, width=5),
    "stack": rd.cells.stack(rd.cells.IRNN(2, 2), rd.cells.NpRNN(2, 1)),
    "dilated": rd.cells.dilate(rd.cells.IRNN(2, 2), 2),
}


def noisy(cell, seed=0, scale=0.8):
    rng = np.random.default_rng(seed)
    params = cell.init(jax.random.key(seed))
    return jax.tree.map(
        lambda leaf: 0.7 * leaf + scale * jnp.asarray(rng.normal(size=leaf.shape), leaf.dtype),
        params,
    )
