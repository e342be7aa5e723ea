"""Every registered cell, and every option that changes equations, through every check."""

import jax
import pytest

from rnndyn import cells
from rnndyn.cells import initializers
from rnndyn.testing import CHECKS

# odd, unequal sizes: a transposed or swapped matrix has the wrong shape
REGISTERED = {name: cls(input_size=3, hidden_size=4) for name, cls in cells.CELLS.items()}
OPTIONS = {
    "gru_cho_v3": cells.GRU(3, 4, "cho_v3"),
    "gru_kanai": cells.GRU(3, 4, "kanai"),
    "lstm_1997_truncated": cells.LSTM1997(3, 4, truncated=True),
    "dilated_lstm": cells.dilate(cells.LSTM(3, 4), 2),
    "dilated_projected": cells.dilate(cells.ProjectedLSTM(3, 4, 2), 2),
    "stack_of_kinds": cells.stack(cells.LSTM(3, 4), cells.Clockwork(4, 4)),
    "peephole_identity": cells.PeepholeLSTM(3, 4, squash="identity"),
    "nested_3": cells.NestedLSTM(3, 4, depth=3),
    "qrnn_f": cells.QRNN(3, 4, width=1, pooling="f"),
    "qrnn_ifo": cells.QRNN(3, 4, width=3, pooling="ifo"),
    "sru_lei_square": cells.SRULei(4, 4),
    "residual_leaky": cells.ResidualRNN(3, 4, leaky=True),
    "rin_dt": cells.RIN(3, 4, depth=2, recurrent_weights=initializers.Gaussian(0.5)),
    "scornn_reflected": cells.ScoRNN(3, 4, negative=1),
    "fru_official": cells.FourierRU(3, 4, total_steps=5, official_zero_freq=True),
    "sru_oliva_learned": cells.StatisticalRU(3, 4, alphas=(0.5, 0.9), learn_alpha=True),
}


@pytest.mark.precision
@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("name", REGISTERED)
def test_conforms(name, check):
    CHECKS[check](REGISTERED[name], jax.random.key(11))


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("name", OPTIONS)
def test_options_conform(name, check):
    CHECKS[check](OPTIONS[name], jax.random.key(11))


def test_every_registered_cell_describes_itself():
    table = cells.cells_table()
    lines = table.splitlines()
    assert lines[0].startswith("| name | class | mechanism | state | exact |")
    assert len(lines) == 2 + len(cells.CELLS)
    for line, (name, cls) in zip(lines[2:], cells.CELLS.items(), strict=True):
        entries = [entry.strip() for entry in line.strip("|").split(" | ")]
        assert entries[0] == f"`{name}`" and entries[1] == f"`{cls.__name__}`"
        assert len(entries) == 7 and all(entries), name
