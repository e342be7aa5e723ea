"""Record outputs of the code that authors of gated cells published.

Run with torch 2.13.0 (CPU) installed, from the root, with four checkouts:

    python tests/reference/make_gate_authors.py QRNN SRU NLSTM RHN

QRNN   salesforce/pytorch-qrnn at 1634991: torchqrnn, on its CPU path (`use_cuda=False`)
SRU    asappresearch/sru at 9ddc8da: sru, on its pure Python path
NLSTM  hannw/nlstm at aa6e96c: rnn_cell.py
RHN    julian121266/RecurrentHighwayNetworks at 9ab03a3: rhn.py

The first two run under PyTorch, with their CUDA imports and compiled kernels replaced by nothing.
The last two were written for TensorFlow 1: their files are executed unchanged, on NumPy functions
that stand in for the TensorFlow ones they call. Writes gate_authors.npz: for each case weights,
inputs (50, m) and outputs (50, ...) in float64. Nothing of their code is kept.
"""

import contextlib
import importlib
import pathlib
import sys
import types

import numpy as np
import torch

STEPS = 50
RNG = np.random.default_rng(0)


class Symbols(types.ModuleType):
    """A module in which every name that is not set is a class that does nothing."""

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {"__init__": lambda self, *args, **kwargs: None})


def stand_in(name: str, **symbols) -> None:
    """Put a module under a dotted name, and packages above it."""
    parts = name.split(".")
    for end in range(1, len(parts) + 1):
        path = ".".join(parts[:end])
        module = sys.modules.setdefault(path, Symbols(path))
        module.__path__ = []
        if end > 1:
            setattr(sys.modules[".".join(parts[: end - 1])], parts[end - 1], module)
    for symbol, value in symbols.items():
        setattr(sys.modules[name], symbol, value)


def normal(*shape: int, std: float = 0.7) -> np.ndarray:
    return std * RNG.standard_normal(shape)


def qrnn(folder: str) -> dict[str, np.ndarray]:
    stand_in("cupy.cuda")
    stand_in("pynvrtc.compiler")
    sys.path.insert(0, folder)
    layer = importlib.import_module("torchqrnn.qrnn").QRNNLayer
    arrays = {}
    for case, window, output_gate in (("qrnn_fo", 2, True), ("qrnn_f", 1, False)):
        network = layer(3, 4, window=window, output_gate=output_gate, use_cuda=False).double()
        weight, bias = normal(*network.linear.weight.shape), normal(*network.linear.bias.shape)
        inputs = normal(STEPS, 3, std=1.0)
        with torch.no_grad():
            network.linear.weight.copy_(torch.tensor(weight))
            network.linear.bias.copy_(torch.tensor(bias))
            outputs, c_n = network(torch.tensor(inputs)[:, None])
        case_arrays = {"weight": weight, "bias": bias, "inputs": inputs}
        case_arrays |= {"outputs": outputs[:, 0].numpy(), "c_n": c_n[0, 0].numpy()}
        arrays |= {f"{case}/{key}": value for key, value in case_arrays.items()}
    return arrays


def sru(folder: str) -> dict[str, np.ndarray]:
    import torch.utils.cpp_extension

    torch.utils.cpp_extension.load = lambda **options: None
    torch.jit.script = lambda function: function
    sys.path.insert(0, folder)
    stand_in("sru.cuda_functional")
    sys.modules["sru"].__path__ = [f"{folder}/sru"]
    cell = importlib.import_module("sru.modules").SRUCell
    arrays = {}
    for case, size in (("sru_skip_matrix", 3), ("sru_skip_input", 4)):
        network = cell(size, 4, highway_bias=-1.0).double()
        names = ("weight", "weight_c", "bias")
        drawn = {name: normal(*getattr(network, name).shape) for name in names}
        inputs = normal(STEPS, size, std=1.0)
        with torch.no_grad():
            for name, value in drawn.items():
                getattr(network, name).copy_(torch.tensor(value))
        # float32 in their buffer: the value that their factor means
        network.scale_x = torch.tensor([(1 + 2 * np.exp(-1.0)) ** 0.5])
        outputs, c_n = network(torch.tensor(inputs)[:, None])
        drawn |= {"inputs": inputs, "outputs": outputs[:, 0].detach().numpy()}
        drawn["c_n"] = c_n[0].detach().numpy()
        arrays |= {f"{case}/{key}": value for key, value in drawn.items()}
    return arrays


class Array(np.ndarray):
    """A NumPy array with the one method of a tensor that is called."""

    def get_shape(self):
        return types.SimpleNamespace(as_list=lambda: list(self.shape))


def sigmoid(a: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-a))


def nlstm(folder: str) -> dict[str, np.ndarray]:
    class RNNCell:
        def __init__(self, **options):
            pass

    ops = "tensorflow.python.ops"
    stand_in("tensorflow.python.framework.constant_op", constant=lambda v, dtype: dtype.type(v))
    stand_in("tensorflow.python.framework.dtypes", int32=np.dtype("int32"))
    stand_in(f"{ops}.rnn_cell_impl", RNNCell=RNNCell)
    stand_in(
        f"{ops}.array_ops",
        concat=lambda arrays, axis: np.concatenate(arrays, axis),
        split=lambda value, num_or_size_splits, axis: np.split(
            value, num_or_size_splits, int(axis)
        ),
        identity=lambda a: a,
    )
    stand_in(f"{ops}.init_ops")
    stand_in(f"{ops}.nn_ops", bias_add=np.add)
    arithmetic = {"matmul": np.matmul, "add": np.add, "multiply": np.multiply}
    stand_in(f"{ops}.math_ops", tanh=np.tanh, sigmoid=sigmoid, **arithmetic)
    stand_in("tensorflow.python.platform.tf_logging")
    stand_in("tensorflow.python.layers.base")
    sys.path.insert(0, folder)
    module = importlib.import_module("rnn_cell")
    arrays = {}
    for depth in (1, 2, 3):
        cell, n, m = module.NLSTMCell(4, depth), 4, 3
        sizes = [m + n] + [2 * n] * (depth - 1)
        cell._kernels = [normal(size, 4 * n) for size in sizes]
        cell._biases = [normal(4 * n) for _ in sizes]
        inputs, state, outputs = normal(STEPS, m, std=1.0), (np.zeros((1, n)),) * (depth + 1), []
        for x in inputs:
            _, state = cell.call(x[None], state)
            outputs.append(np.concatenate(state, 1)[0])
        case = f"nlstm_{depth}"
        arrays |= {f"{case}/kernel_{k}": value for k, value in enumerate(cell._kernels)}
        arrays |= {f"{case}/bias_{k}": value for k, value in enumerate(cell._biases)}
        arrays |= {f"{case}/inputs": inputs, f"{case}/states": np.array(outputs)}
    return arrays


def rhn(folder: str) -> dict[str, np.ndarray]:
    variables, scopes = {}, []

    @contextlib.contextmanager
    def variable_scope(name):
        scopes.append(name)
        yield
        scopes.pop()

    def get_variable(name, shape, dtype=None, initializer=None):
        key = f"{scopes[0]}/{name}"
        return variables.setdefault(key, normal(*shape).view(Array))

    ops = "tensorflow.python.ops"
    scoped = {"variable_scope": variable_scope}
    nothing = {"constant_initializer": lambda *args, **options: None}
    stand_in("tensorflow", tanh=np.tanh, sigmoid=sigmoid, **scoped, **nothing)
    stand_in(f"{ops}.variable_scope", get_variable=get_variable, **scoped)
    stand_in(f"{ops}.math_ops", matmul=np.matmul)
    stand_in(f"{ops}.array_ops", concat=lambda axis, arrays: np.concatenate(arrays, axis))
    stand_in("tensorflow.python.util.nest", is_sequence=lambda a: isinstance(a, list))
    stand_in(f"{ops}.nn.rnn_cell", RNNCell=object)
    sys.path.insert(0, folder)
    cell = importlib.import_module("rhn").RHNCell(4, 3, False, depth=3, forget_bias=-2.0)
    inputs, h, outputs = normal(STEPS, 3, std=1.0), np.zeros((1, 4)).view(Array), []
    for x in inputs:
        h, _ = cell(x[None].view(Array), [h, 1.0, 1.0])
        outputs.append(np.asarray(h)[0])
    arrays = {f"rhn/{key}": np.asarray(value) for key, value in variables.items()}
    return arrays | {"rhn/inputs": inputs, "rhn/outputs": np.array(outputs)}


def main() -> None:
    arrays = {}
    for record, folder in zip((qrnn, sru, nlstm, rhn), sys.argv[1:], strict=True):
        arrays |= record(folder)
    np.savez_compressed(pathlib.Path(__file__).parent / "gate_authors.npz", **arrays)


if __name__ == "__main__":
    main()
