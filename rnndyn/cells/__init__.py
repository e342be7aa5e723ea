"""Layer 1: the cells, one family a file, and `CELLS`, the one registry.

A new cell is one file here and one line in `CELLS`; the conformance suite, every analysis and
every script then know it.
"""

from rnndyn.cells import table
from rnndyn.cells.base import Affine, Cell
from rnndyn.cells.clockwork import Clockwork
from rnndyn.cells.containers import Bidirectional, Directions, Layers, Stack, stack
from rnndyn.cells.dilated import Dilated, dilate
from rnndyn.cells.elman import IRNN, OrthogonalRNN, Vanilla
from rnndyn.cells.gru import GRU, GRUParams
from rnndyn.cells.highway import RHN, ResidualRNN, RHNParams
from rnndyn.cells.identity import RIN, DiracParams, DiracRNN, NpRNN, RINParams
from rnndyn.cells.indrnn import IndRNN, IndRNNParams
from rnndyn.cells.looks_linear import CReluParams, CReluRNN, MirrorRNN
from rnndyn.cells.lstm import LSTM, LSTM1997
from rnndyn.cells.lstm_variants import (
    CoupledLSTM,
    PeepholeLSTM,
    PeepholeParams,
    ProjectedLSTM,
    ProjectedParams,
)
from rnndyn.cells.minimal import MGU, MinimalParams, MinimalRNN, SimpleParams, SRULei
from rnndyn.cells.mist import MIST, MISTParams
from rnndyn.cells.narx import NARX, NARXParams
from rnndyn.cells.narx_output import NARXOutput, NARXOutputParams
from rnndyn.cells.nested import NestedLSTM, NestedParams
from rnndyn.cells.orthogonal import LTRNN, ExpRNN, ScoRNN, SkewParams
from rnndyn.cells.plrnn import PLRNN, PLRNNParams, ShallowPLRNN, ShallowPLRNNParams
from rnndyn.cells.quasi import QRNN, QRNNParams
from rnndyn.cells.scrnn import SCRNN, SCRNNParams
from rnndyn.cells.statistical import FourierParams, FourierRU, StatisticalParams, StatisticalRU
from rnndyn.cells.tkrnn import TKRNN, TKRNNParams
from rnndyn.cells.unitary import UnitaryParams, UnitaryRNN
from rnndyn.cells.written_memories import NormalisedPrototypeLSTM, PrototypeLSTM, PseudoLSTM

CELLS: dict[str, type[Cell]] = {
    # no mechanism
    "vanilla": Vanilla,
    # gates
    "lstm_1997": LSTM1997,
    "lstm": LSTM,
    "peephole": PeepholeLSTM,
    "projected": ProjectedLSTM,
    "coupled": CoupledLSTM,
    "gru": GRU,
    "prototype": PrototypeLSTM,
    "normalised_prototype": NormalisedPrototypeLSTM,
    "pseudo": PseudoLSTM,
    "nested": NestedLSTM,
    "mgu": MGU,
    "minimal": MinimalRNN,
    "sru_lei": SRULei,
    "qrnn": QRNN,
    "rhn": RHN,
    "residual": ResidualRNN,
    # connections across time scales
    "clockwork": Clockwork,
    "dilated": Dilated,
    "narx": NARX,
    "narx_output": NARXOutput,
    "mist": MIST,
    "tkrnn": TKRNN,
    # special initialisation, and keeping it
    "irnn": IRNN,
    "np_rnn": NpRNN,
    "rin": RIN,
    "dirac": DiracRNN,
    "crelu": CReluRNN,
    "mirror": MirrorRNN,
    "orthogonal": OrthogonalRNN,
    "lt_rnn": LTRNN,
    "unitary": UnitaryRNN,
    "scornn": ScoRNN,
    "exprnn": ExpRNN,
    "indrnn": IndRNN,
    "scrnn": SCRNN,
    "plrnn": PLRNN,
    "shallow_plrnn": ShallowPLRNN,
    # combinations
    "sru_oliva": StatisticalRU,
    "fru": FourierRU,
    # layers
    "stack": Stack,
}


def cells_table() -> str:
    """The registered cells as a Markdown table: mechanism, state, what is exact, how checked."""
    return table.render(CELLS)


__all__ = [
    "Affine",
    "Bidirectional",
    "CELLS",
    "CReluParams",
    "CReluRNN",
    "Cell",
    "Clockwork",
    "CoupledLSTM",
    "Dilated",
    "DiracParams",
    "DiracRNN",
    "Directions",
    "ExpRNN",
    "FourierParams",
    "FourierRU",
    "GRU",
    "GRUParams",
    "IRNN",
    "IndRNN",
    "IndRNNParams",
    "LSTM",
    "LSTM1997",
    "LTRNN",
    "Layers",
    "MGU",
    "MIST",
    "MISTParams",
    "MinimalParams",
    "MinimalRNN",
    "MirrorRNN",
    "NARX",
    "NARXOutput",
    "NARXOutputParams",
    "NARXParams",
    "NestedLSTM",
    "NestedParams",
    "NormalisedPrototypeLSTM",
    "NpRNN",
    "OrthogonalRNN",
    "PLRNN",
    "PLRNNParams",
    "PeepholeLSTM",
    "PeepholeParams",
    "ProjectedLSTM",
    "ProjectedParams",
    "PrototypeLSTM",
    "PseudoLSTM",
    "QRNN",
    "QRNNParams",
    "RHN",
    "RHNParams",
    "RIN",
    "RINParams",
    "ResidualRNN",
    "SCRNN",
    "SCRNNParams",
    "SRULei",
    "ScoRNN",
    "ShallowPLRNN",
    "ShallowPLRNNParams",
    "SimpleParams",
    "SkewParams",
    "Stack",
    "StatisticalParams",
    "StatisticalRU",
    "TKRNN",
    "TKRNNParams",
    "UnitaryParams",
    "UnitaryRNN",
    "Vanilla",
    "cells_table",
    "dilate",
    "stack",
]
