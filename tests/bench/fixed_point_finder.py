"""One search by FixedPointFinder (github.com/mattgolub/fixed-point-finder), in its own process.

`bench_points` runs this file with the interpreter that has torch. It reads weights and starts from
an .npz file, searches with the settings that suit the cell best (lr_init 1.0 for tanh as in its
examples, 0.02 for a GRU, which does not converge at 1.0) and writes what it found beside it.
"""

import pathlib
import sys
import time

import numpy as np
import torch

RATES = {"RNN": 1.0, "GRU": 0.02}


def main(checkout, path):
    sys.path.insert(0, checkout)
    from FixedPointFinderTorch import FixedPointFinderTorch

    with np.load(path) as file:
        given = {name: file[name] for name in file}
    starts, kind = given.pop("starts").astype(np.float32), str(given.pop("kind"))
    inputs = given["weight_ih_l0"].shape[1]
    rnn = getattr(torch.nn, kind)(inputs, starts.shape[1], batch_first=True)
    rnn.load_state_dict({name: torch.tensor(a, dtype=torch.float32) for name, a in given.items()})
    options = {"lr_init": RATES[kind], "max_iters": 10000, "outlier_distance_scale": 10.0}
    finder = FixedPointFinderTorch(rnn, verbose=False, super_verbose=False, **options)
    wall, cpu = time.perf_counter(), time.process_time()
    points, _ = finder.find_fixed_points(starts, np.zeros((1, inputs), np.float32))
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    np.savez(pathlib.Path(path).with_suffix(".found.npz"), z=points.xstar, wall=wall, cpu=cpu)


if __name__ == "__main__":
    main(*sys.argv[1:])
