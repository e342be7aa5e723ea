"""Records torch.npz: runs, Jacobians and gradients of PyTorch's recurrent modules, in float64.

Run `python tests/reference/make_torch.py` with PyTorch installed (recorded with 2.13.0, CPU).
One layer each of nn.RNN (tanh, relu), nn.LSTM and nn.GRU, m = 3, n = 5, T = 12, one sequence,
from a random state, with PyTorch's own initial weights at seed 0. For every module NAME:

    NAME.weight_ih, .weight_hh, .bias_ih, .bias_hh    the weights, in PyTorch's packed order
    NAME.state (d,)       the start: h0, for the LSTM h0 and c0 one after the other
    NAME.outputs (T, n)   h after every step
    NAME.final (d,)       the last state
    NAME.jacobian (d, d)  of the last state with respect to the first, by PyTorch's autograd
    NAME.grad_hh          of sum(outputs^2)/2 with respect to weight_hh
    inputs (T, m)         shared
"""

import pathlib

import numpy as np
import torch

M, N, T = 3, 5, 12


def record(name, module, inputs, start):
    def outputs_and_final(z):
        parts = tuple(part[None] for part in z.reshape(-1, N))
        outputs, final = module(inputs, parts if len(parts) > 1 else parts[0])
        return outputs, torch.cat(final, 0).reshape(-1) if len(parts) > 1 else final.reshape(-1)

    outputs, final = outputs_and_final(start)
    (grad_hh,) = torch.autograd.grad((outputs**2).sum() / 2, module.weight_hh_l0)
    arrays = {
        "weight_ih": module.weight_ih_l0,
        "weight_hh": module.weight_hh_l0,
        "bias_ih": module.bias_ih_l0,
        "bias_hh": module.bias_hh_l0,
        "state": start,
        "outputs": outputs,
        "final": final,
        "jacobian": torch.autograd.functional.jacobian(lambda z: outputs_and_final(z)[1], start),
        "grad_hh": grad_hh,
    }
    return {f"{name}.{key}": value.detach().numpy() for key, value in arrays.items()}


def make():
    """All arrays, by name."""
    torch.manual_seed(0)
    torch.set_default_dtype(torch.float64)
    inputs = torch.randn(T, M)
    arrays = {"inputs": inputs.numpy()}
    modules = {
        "rnn_tanh": torch.nn.RNN(M, N, nonlinearity="tanh"),
        "rnn_relu": torch.nn.RNN(M, N, nonlinearity="relu"),
        "lstm": torch.nn.LSTM(M, N),
        "gru": torch.nn.GRU(M, N),
    }
    for name, module in modules.items():
        start = torch.rand(2 * N if name == "lstm" else N) + 0.1
        arrays |= record(name, module, inputs, start)
    torch.set_default_dtype(torch.float32)
    return arrays


if __name__ == "__main__":
    np.savez_compressed(pathlib.Path(__file__).with_name("torch.npz"), **make())
