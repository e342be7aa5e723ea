"""Train the networks of flip_flops.npz on the flip-flop and record their weights.

Run `python -m tests.points.make_flip_flops [NAME ...]` from the repository root (about a minute
for all; the others stay as they are). A network has as many bits as inputs. Weights are rounded to
float16 so that the file stays small; the networks that are analysed are the rounded ones. Which
seeds give 27 fixed points was found by search; other counts occur.
"""

import functools
import pathlib
import sys

import jax
import numpy as np

import rnndyn as rd
from analyses import flip_flop, training

FILE = pathlib.Path(__file__).with_name("flip_flops.npz")
# name: (cell, seed, gain, steps, rate)
NETWORKS = {
    "tanh16": (rd.cells.Vanilla(3, 16), 0, 1.5, 2000, 3e-3),
    "tanh64": (rd.cells.Vanilla(3, 64), 0, 1.0, 1500, 2e-3),
    "tanh128": (rd.cells.Vanilla(3, 128), 0, 1.7, 2500, 2e-3),
    "two_bits": (
        rd.cells.Vanilla(2, 12, recurrent_weights=rd.initializers.Orthogonal()),
        0,
        0.9,
        4000,
        3e-3,
    ),
    "gru16": (rd.cells.GRU(3, 16), 1, 1.0, 2500, 1e-2),
    "gru64": (rd.cells.GRU(3, 64), 0, 1.0, 800, 5e-3),
    "gru128": (rd.cells.GRU(3, 128), 0, 1.0, 800, 3e-3),
}


def load(name):
    """The cell and its params in the default dtype, from the file."""
    cell = NETWORKS[name][0]
    with np.load(FILE) as file:
        leaves = [file[f"{name}.{i}"] for i in range(4) if f"{name}.{i}" in file]
    shape = jax.eval_shape(cell.init, jax.random.key(0))
    dtype = jax.numpy.zeros(()).dtype
    leaves = [jax.numpy.asarray(leaf, dtype) for leaf in leaves]
    return cell, jax.tree.unflatten(jax.tree.structure(shape), leaves)


def readout(name):
    """The trained read-out (bits, n) of a network that has it on record."""
    with np.load(FILE) as file:
        return file[f"{name}.readout"]


def starts(name, n, noise=0.5):
    """The held map at zero input, and n starts: states of runs on the task, and noise."""
    cell, params = load(name)
    inputs, _ = flip_flop.trials(jax.random.key(99), 64, 64, bits=cell.input_size)
    runs = jax.vmap(lambda x: rd.simulate(cell, params, x))(inputs)
    map_ = rd.hold(cell, params, jax.numpy.zeros_like(inputs[0, 0]))
    return map_, rd.sample_states(jax.random.key(1), runs, n, noise=noise)


def main(names):
    with np.load(FILE) as file:
        arrays = dict(file)
    for name in names or NETWORKS:
        cell, seed, gain, steps, rate = NETWORKS[name]
        trials = functools.partial(flip_flop.trials, bits=cell.input_size)
        key = jax.random.key(seed)
        trained = training.train(key, cell, trials, gain=gain, steps=steps, rate=rate)
        for i, leaf in enumerate(jax.tree.leaves(trained.params)):
            arrays[f"{name}.{i}"] = np.asarray(leaf, np.float16)
        arrays[f"{name}.readout"] = np.asarray(trained.readout, np.float16)
        print(name, "loss", float(trained.losses[-20:].mean()))
    np.savez_compressed(FILE, **arrays)


if __name__ == "__main__":
    main(sys.argv[1:])
