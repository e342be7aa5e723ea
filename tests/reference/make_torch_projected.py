"""Record outputs of PyTorch's LSTM with a projection.

Run where torch (2.13.0, CPU) is installed: `python tests/reference/make_torch_projected.py`
writes torch_projected.npz, in float64: the state_dict of `nn.LSTM(2, 10, proj_size=5)` with the
forget bias raised by 1, inputs (50, 2), outputs (50, 5) and the final states h_n (5,), c_n (10,).
"""

import pathlib

import numpy as np
import torch


def main() -> None:
    torch.manual_seed(0)
    network = torch.nn.LSTM(2, 10, proj_size=5).double()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    with torch.no_grad():
        network.bias_ih_l0[10:20] += 1
        inputs = torch.randn(50, 2, dtype=torch.float64)
        outputs, (h_n, c_n) = network(inputs)
    arrays = {key: value.numpy() for key, value in network.state_dict().items()}
    path = pathlib.Path(__file__).parent / "torch_projected.npz"
    np.savez_compressed(path, inputs=inputs, outputs=outputs, h_n=h_n[0], c_n=c_n[0], **arrays)


if __name__ == "__main__":
    main()
