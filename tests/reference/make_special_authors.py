"""Record outputs of the code that authors of unitary, orthogonal and identity cells published.

Run with torch 2.13.0 (CPU) installed, from the root, with five checkouts:

    python tests/reference/make_special_authors.py COMPLEX SCO EXP IND DIRAC

COMPLEX amarshah/complex_RNN at 3537fbf: models.py
SCO     SpartinStuff/scoRNN at d390c9b: scoRNN.py
EXP     Lezcano/expRNN at 830ec83: orthogonal.py, initialization.py, trivializations.py
IND     Sunnydreamrain/IndRNN_pytorch at 9b9cb4c: IndRNN_onlyrecurrent.py
DIRAC   szagoruyko/diracnets at 3c6f986: diracconv.py

The last three run under PyTorch; two functions that it has since renamed are given their old names.
The first two were written for Theano and TensorFlow 1: their files are executed unchanged, on NumPy
functions that stand in for those they call. Writes special_authors.npz: for each case weights,
inputs (20, 3), start (n,) and outputs (20, n) in float64. Nothing of their code is kept.
"""

import builtins
import contextlib
import pathlib
import sys
import types

import numpy as np
import torch

STEPS, N = 20, 7
RNG = np.random.default_rng(20260)


def stand_in(name, **symbols):
    """Put a module of that name, with those symbols, where imports find it."""
    sys.modules[name] = types.ModuleType(name)
    sys.modules[name].__dict__.update(symbols)
    return sys.modules[name]


def load(checkout, name, **symbols):
    path = pathlib.Path(checkout, name)
    module = {"__name__": path.stem, **symbols}
    exec(compile(path.read_text().expandtabs(8), path.name, "exec"), module)
    return types.SimpleNamespace(**module)


class Tensor(np.ndarray):
    """An array with the one method of Theano's that NumPy lacks."""

    def dimshuffle(self, *axes):
        moved = np.transpose(self, [axis for axis in axes if axis != "x"])
        return np.expand_dims(moved, [i for i, axis in enumerate(axes) if axis == "x"])


def tensor(value, name=None):
    return np.array(value, dtype=float).view(Tensor)


def copying(function):
    return lambda *args, **kwargs: tensor(function(*args, **kwargs))


def add_to(view, amount):
    view += amount
    return view.base.view(Tensor)


def transformed(fft, scale):
    def apply(pairs):
        z = fft(pairs[..., 0] + 1j * pairs[..., 1], axis=1) * scale(pairs.shape[1])
        return tensor(np.stack([z.real, z.imag], -1))

    return apply


def unitary(checkout):
    states = []

    def scan(fn, sequences, non_sequences, outputs_info):
        state = [tensor(outputs_info[0]), *outputs_info[1:]]
        for row in zip(*sequences, strict=False):
            state = list(fn(*row, state[0].copy(), *state[1:], *non_sequences))
            states.append(np.array(state[0][0]))
        return [tensor(states)[:, None], np.zeros(1), np.zeros(1)], None

    names = ("concatenate", "sqrt", "cos", "sin", "reshape", "dot", "outer", "maximum", "tile")
    copied = {name: copying(getattr(np, name)) for name in names}
    ops = stand_in("theano.tensor", **copied, inc_subtensor=add_to, nnet=types.SimpleNamespace())
    config = types.SimpleNamespace(floatX="float64")
    stand_in("theano", tensor=ops, config=config, shared=tensor, scan=scan)
    forward, backward = transformed(np.fft.fft, lambda n: 1), transformed(np.fft.ifft, lambda n: n)
    stand_in("fftconv", cufft=forward, cuifft=backward)
    stand_in("cPickle")
    inputs = tensor(RNG.normal(size=(STEPS, 1, 3)))
    model = load(checkout, "models.py").complex_RNN
    model.__globals__["initialize_data_nodes"] = lambda *_: (inputs, tensor(np.zeros((1, 2))))
    model.__globals__["compute_cost_t"] = lambda *_: (0.0, 0.0)
    params = model(3, 6, 2, input_type="real", loss_function="MSE")[1]
    v, _, bias, reflection, _, theta, h0 = params
    return {
        "V": v, "bias": bias, "reflection": reflection, "theta": theta,
        "inputs": inputs[:, 0], "h0": h0[0], "hidden": np.stack(states),
    }  # fmt: skip


def sco(checkout):
    weights = {}

    class Rows(np.ndarray):
        def get_shape(self):
            return self.shape

    def variable(name, shape, initializer):
        return weights.setdefault(name, initializer(shape))

    def constant(value=0.0):
        return lambda shape: np.array(np.broadcast_to(value, shape), float)

    def uniform(low, high):
        return lambda shape: RNG.uniform(low, high, shape)

    def relu(a):
        return np.maximum(a, 0)

    nn, space = types.SimpleNamespace, contextlib.nullcontext
    stand_in("tensorflow", get_variable=variable, nn=nn(relu=relu), abs=np.abs, sign=np.sign)
    stand_in("tensorflow.python")
    stand_in(
        "tensorflow.python.ops",
        init_ops=nn(constant_initializer=constant, random_uniform_initializer=uniform),
        math_ops=nn(matmul=np.matmul),
        nn_ops=nn(bias_add=np.add),
        variable_scope=nn(variable_scope=space, get_variable=variable),
    )
    stand_in("tensorflow.python.ops.rnn_cell_impl", RNNCell=object)
    lists = {"zip": lambda *rows: list(builtins.zip(*rows, strict=True))}  # as in Python 2
    np.random.seed(5)  # noqa: NPY002  (their code draws from the global stream)
    signs = np.diag([1.0] * (N - 3) + [-1.0] * 3)
    cell = load(checkout, "scoRNN.py", **lists).scoRNNCell(N, D=signs)
    weights["b"][:] = RNG.uniform(-0.1, 0.1, N)
    inputs, h = RNG.normal(size=(STEPS, 1, 3)), np.full((1, N), 0.5)
    start, states = h[0], []
    for x in inputs:
        h, _ = cell(x.view(Rows), np.asarray(h))
        states.append(h[0])
    return {
        "A": weights["A"], "W": weights["W"], "U": weights["U"], "bias": weights["b"],
        "inputs": inputs[:, 0], "h0": start, "hidden": np.stack(states),
    }  # fmt: skip


def exponential(checkout, start):
    sys.path.insert(0, checkout)
    torch.solve = lambda b, a: (torch.linalg.solve(a, b), None)
    from initialization import cayley_init_, henaff_init_
    from orthogonal import OrthogonalRNN
    from trivializations import expm

    first = {"henaff": henaff_init_, "cayley": cayley_init_}[start]
    rnn = OrthogonalRNN(3, N, first, "static", expm)
    if start == "henaff":  # a full A too, not blocks alone
        rnn.recurrent_kernel.A.add_(0.4 * torch.randn(N, N))
    rnn.nonlinearity.b.uniform_(-0.1, 0.1)
    inputs, h = torch.randn(STEPS, 1, 3), torch.full((1, N), 0.3)
    h0, states = h[0], []
    for x in inputs:
        _, h = rnn(x, h)
        states.append(h[0])
    kernel = rnn.recurrent_kernel
    return {
        "A": kernel.A, "B": kernel.B, "U": rnn.input_kernel.weight, "bias": rnn.nonlinearity.b,
        "inputs": inputs[:, 0], "h0": h0, "hidden": torch.stack(states),
    }  # fmt: skip


def independent(checkout):
    torch.nn.init.uniform = torch.nn.init.uniform_
    rnn = load(checkout, "IndRNN_onlyrecurrent.py").IndRNN_onlyrecurrent(N)
    before = torch.nn.Linear(3, N)
    inputs, h0 = torch.randn(STEPS, 1, 3), torch.rand(1, N)
    return {
        "W": before.weight, "bias": before.bias, "u": rnn.indrnn_cell.weight_hh,
        "inputs": inputs[:, 0], "h0": h0[0], "hidden": rnn(before(inputs), h0)[:, 0],
    }  # fmt: skip


def dirac(checkout):
    conv = load(checkout, "diracconv.py").DiracConv1d(N, N, 1)
    conv.alpha.uniform_(0.2, 0.8)
    conv.beta.uniform_(-0.5, 0.5)
    before = torch.nn.Linear(3, N, bias=False)
    inputs, h = torch.randn(STEPS, 1, 3), torch.rand(1, N)
    h0, states = h[0], []
    for x in inputs:
        h = torch.relu(conv(h[:, :, None])[:, :, 0] + before(x))
        states.append(h[0])
    return {
        "U": before.weight, "w": conv.weight[:, :, 0], "alpha": conv.alpha, "beta": conv.beta,
        "bias": conv.bias, "matrix": conv.transform_weight()[:, :, 0],
        "inputs": inputs[:, 0], "h0": h0, "hidden": torch.stack(states),
    }  # fmt: skip


def detached(value):
    return np.asarray(value.detach() if isinstance(value, torch.Tensor) else value, float)


def main(complex_rnn, sco_rnn, exp_rnn, ind_rnn, diracnets):
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(3)
    with torch.no_grad():
        cases = {
            "unitary": unitary(complex_rnn),
            "sco": sco(sco_rnn),
            "exp_henaff": exponential(exp_rnn, "henaff"),
            "exp_cayley": exponential(exp_rnn, "cayley"),
            "ind": independent(ind_rnn),
            "dirac": dirac(diracnets),
        }
    flat = {f"{case}_{k}": detached(v) for case, d in cases.items() for k, v in d.items()}
    np.savez_compressed(pathlib.Path(__file__).with_name("special_authors.npz"), **flat)


if __name__ == "__main__":
    main(*sys.argv[1:])
