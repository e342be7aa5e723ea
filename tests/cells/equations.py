"""The equations of every cell a second time: NumPy loops written from the papers.

Independent of the library: weights come unpacked, gate by gate, states are plain arrays, and
everything accepts complex numbers, so that Jacobians follow by complex step.
"""

import numpy as np


def sigmoid(a):
    return 1 / (1 + np.exp(-a))


def relu(a):
    return np.where(a.real > 0, a, 0)


PHI = {"tanh": np.tanh, "relu": relu, "identity": lambda a: a}


def gates(params, count):
    """(W, U, b) of each gate, from packed params; b is zero where there is none."""
    w_x, w_h = np.asarray(params.w_x), np.asarray(params.w_h)
    b = np.zeros(len(w_x)) if params.b is None else np.asarray(params.b)
    n = w_h.shape[1]
    return [(w_x[k * n :][:n], w_h[k * n :][:n], b[k * n :][:n]) for k in range(count)]


def elman(cell, params, h, x):
    ((w, u, b),) = gates(params, 1)
    return PHI[cell.activation](w @ x + u @ h + b)


def lstm_1997(cell, params, z, x):
    h, c = np.split(z, 2)
    a_i, a_g, a_o = (w @ x + u @ h + b for w, u, b in gates(params, 3))
    if cell.squash == "paper":
        g, squash = 4 * sigmoid(a_g) - 2, lambda c: 2 * sigmoid(c) - 1
    else:
        g, squash = np.tanh(a_g), np.tanh
    c = c + sigmoid(a_i) * g
    return np.concatenate([sigmoid(a_o) * squash(c), c])


def lstm(cell, params, z, x):
    h, c = np.split(z, 2)
    a_i, a_f, a_g, a_o = (w @ x + u @ h + b for w, u, b in gates(params, 4))
    c = sigmoid(a_f) * c + sigmoid(a_i) * np.tanh(a_g)
    return np.concatenate([sigmoid(a_o) * np.tanh(c), c])


def gru(cell, params, h, x):
    (w_r, u_r, b_r), (w_z, u_z, b_z), (w, u, b) = gates(params, 3)
    r = sigmoid(w_r @ x + u_r @ h + b_r)
    z = sigmoid(w_z @ x + u_z @ h + b_z)
    match cell.variant:
        case "torch":
            n = np.tanh(w @ x + b + r * (u @ h + np.asarray(params.b_hn)))
        case "cho_v1":
            n = np.tanh(w @ x + b + r * (u @ h))
        case "cho_v3" | "chung" | "kanai":
            n = np.tanh(w @ x + u @ (r * h) + b)
    return (1 - z) * h + z * n if cell.variant == "chung" else z * h + (1 - z) * n


def narx(cell, params, z, x):
    lags = z.reshape(cell.order, cell.hidden_size)
    a = np.asarray(params.w_x) @ x + np.asarray(params.b)
    for k in range(cell.order):
        a = a + np.asarray(params.w_h[k]) @ lags[k]
    return np.concatenate([PHI[cell.activation](a), *lags[:-1]])


def dilated(inner):
    """The loop of a dilated cell whose inner state has one or more leaves of size n."""

    def step(cell, params, z, x):
        n, d = cell.hidden_size, cell.dilation
        leaves = z.reshape(-1, d, n)  # leaf, age, unit
        newest = inner(cell.cell, params, leaves[:, -1].reshape(-1), x).reshape(-1, 1, n)
        return np.concatenate([newest, leaves[:, :-1]], axis=1).reshape(-1)

    return step


def run(step, cell, params, z, inputs):
    points = [np.asarray(z)]
    for x in np.asarray(inputs):
        points.append(step(cell, params, points[-1], x))
    return np.stack(points)


def jacobian(step, cell, params, z, x):
    """By complex step: no difference is taken, so it is exact to rounding."""
    columns = []
    for i in range(len(z)):
        moved = np.array(z, complex)
        moved[i] += 1e-30j
        columns.append(step(cell, params, moved, np.asarray(x)).imag / 1e-30)
    return np.stack(columns, axis=1)
