"""Record outputs of PyTorch's recurrent networks: layers, directions, projections, biases.

Run where torch (2.13.0, CPU) is installed: `python tests/reference/make_torch_containers.py`
writes torch_containers.npz: for each case its state_dict, inputs (batch first) and outputs in
float64, and the final states h_n, c_n.
"""

import json
import pathlib

import numpy as np
import torch

SIZES = {"input_size": 3, "hidden_size": 4}
CASES = {
    "rnn_tanh": {"class": "RNN", "nonlinearity": "tanh"},
    "rnn_relu_2_layers": {"class": "RNN", "nonlinearity": "relu", "num_layers": 2},
    "lstm": {"class": "LSTM"},
    "lstm_2_layers": {"class": "LSTM", "num_layers": 2, "batch_first": True},
    "lstm_projected": {"class": "LSTM", "proj_size": 2, "num_layers": 2},
    "lstm_projected_both": {
        "class": "LSTM",
        "proj_size": 2,
        "num_layers": 2,
        "bidirectional": True,
    },
    "lstm_no_bias": {"class": "LSTM", "bias": False},
    "gru": {"class": "GRU"},
    "gru_both_3_layers": {"class": "GRU", "num_layers": 3, "bidirectional": True},
    "gru_no_bias": {"class": "GRU", "bias": False, "num_layers": 2},
}


def main() -> None:
    torch.manual_seed(0)
    arrays = {}
    for name, case in CASES.items():
        case = SIZES | case
        made = {key: value for key, value in case.items() if key != "class"}
        network = getattr(torch.nn, case["class"])(**made).double()
        for parameter in network.parameters():
            torch.nn.init.normal_(parameter, std=0.7)
        batch = torch.randn(2, 6, SIZES["input_size"], dtype=torch.float64)
        first = made.get("batch_first", False)
        with torch.no_grad():
            outputs, final = network(batch if first else batch.transpose(0, 1))
        final = final if isinstance(final, tuple) else (final,)
        arrays |= {f"{name}/{key}": value.numpy() for key, value in network.state_dict().items()}
        arrays[f"{name}/inputs"] = batch.numpy()
        arrays[f"{name}/outputs"] = (outputs if first else outputs.transpose(0, 1)).numpy()
        for key, value in zip(("h_n", "c_n"), final, strict=False):
            arrays[f"{name}/{key}"] = value.numpy()
    cases = json.dumps({name: SIZES | case for name, case in CASES.items()})
    path = pathlib.Path(__file__).parent / "torch_containers.npz"
    np.savez_compressed(path, cases=np.array(cases), **arrays)


if __name__ == "__main__":
    main()
