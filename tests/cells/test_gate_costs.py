"""One step costs what its equations cost: XLA's own count of operations."""

import jax
import jax.numpy as jnp
import pytest

from rnndyn.cells.highway import RHN, ResidualRNN
from rnndyn.cells.lstm_variants import CoupledLSTM, PeepholeLSTM, ProjectedLSTM
from rnndyn.cells.minimal import MGU, MinimalRNN, SRULei
from rnndyn.cells.nested import NestedLSTM
from rnndyn.cells.quasi import QRNN
from rnndyn.cells.written_memories import NormalisedPrototypeLSTM, PrototypeLSTM, PseudoLSTM

M, N, P = 48, 64, 32
DENSE = 2 * N * (M + N)  # operations of one gate that reads x and h

EQUATIONS = {
    PeepholeLSTM(M, N): 4 * DENSE,
    ProjectedLSTM(M, N, P): 4 * 2 * N * (M + P) + 2 * P * N,
    CoupledLSTM(M, N): 3 * DENSE,
    PrototypeLSTM(M, N): 4 * DENSE,
    NormalisedPrototypeLSTM(M, N): 4 * DENSE,
    PseudoLSTM(M, N): 4 * DENSE,
    NestedLSTM(M, N): 4 * DENSE + 4 * 2 * N * 2 * N,
    MGU(M, N): 2 * DENSE,
    MinimalRNN(M, N): DENSE + 2 * N * N,
    SRULei(M, N): 4 * 2 * N * M,
    QRNN(M, N): 3 * 2 * N * 2 * M,
    RHN(M, N): 2 * DENSE + 2 * 2 * 2 * N * N,
    ResidualRNN(M, N): DENSE,
}


@pytest.mark.parametrize("cell", EQUATIONS, ids=lambda cell: type(cell).__name__)
def test_a_step_costs_what_its_equations_cost(cell):
    """Between the matrix products alone and 1.3 times those."""
    params = jax.eval_shape(cell.init, jax.random.key(0))
    state = jax.eval_shape(cell.initial_state, params)
    x = jax.ShapeDtypeStruct((M,), jnp.zeros(()).dtype)
    cost = jax.jit(cell.step).lower(params, state, x).compile().cost_analysis()
    assert EQUATIONS[cell] <= cost["flops"] <= 1.3 * EQUATIONS[cell]
