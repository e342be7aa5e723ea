"""One step costs what its equations cost: XLA's own count of operations."""

import pytest

from rnndyn.cells.containers import Stack
from rnndyn.cells.elman import IRNN, OrthogonalRNN
from rnndyn.cells.identity import RIN, DiracRNN, NpRNN
from rnndyn.cells.indrnn import IndRNN
from rnndyn.cells.looks_linear import CReluRNN, MirrorRNN
from rnndyn.cells.orthogonal import LTRNN
from rnndyn.cells.unitary import UnitaryRNN
from tests.cells.recurrences import flops

M, N = 48, 64
K = N // 2
DENSE = 2 * N * (M + N)
FFT = 5 * K * 5  # of K = 2^5 numbers
DIAGONAL, REFLECTION = 6 * K, 20 * K  # a complex product; ||v||, v* z, and z - 2 v v* z

EQUATIONS = {
    IRNN(M, N): DENSE,
    NpRNN(M, N): DENSE,
    OrthogonalRNN(M, N): DENSE,
    Stack(M, N): DENSE + 4 * N * N,
    RIN(M, N): DENSE,
    RIN(M, N, depth=2): DENSE + 2 * N * N,
    DiracRNN(M, N): DENSE + 2 * N * N,  # with the norms of the rows
    CReluRNN(M, N): DENSE + 2 * N * N,
    MirrorRNN(M, N): 2 * DENSE + 4 * N * N,
    LTRNN(M, N): DENSE,
    IndRNN(M, N): 2 * N * M,
    UnitaryRNN(M, N): 2 * N * M + 2 * FFT + 3 * DIAGONAL + 2 * REFLECTION,
}


@pytest.mark.parametrize("cell", EQUATIONS, ids=lambda cell: type(cell).__name__)
def test_a_step_costs_what_its_equations_cost(cell):
    """Between the products alone and 1.3 times those. Orthogonal parameterisations form their
    matrix outside the loop of a run, so one step says nothing about them."""
    assert EQUATIONS[cell] <= flops(cell) <= 1.3 * EQUATIONS[cell]
