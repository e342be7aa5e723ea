"""Layer 4: `check_cell`, the conformance suite that every cell passes, a user's own included."""

import jax

from rnndyn.cells.base import Cell
from rnndyn.core import validation
from rnndyn.testing.checks import CHECKS

__all__ = ["CHECKS", "check_cell"]


def check_cell(cell: Cell, *, seed: int = 0) -> None:
    """Check that a cell keeps the contract that simulation and every analysis rely on.

    Parameters
    ----------
    cell : Cell
        Small sizes will do: the cost grows with the cube of the state's size.
    seed : int
        Fixes the params, states and inputs that are tried.

    Raises
    ------
    AssertionError
        On the first check that fails, with its name, what was expected, what was got. The checks
        are in `CHECKS`, name -> function of a cell and a key, to run them one by one.
    TypeError
        If `cell` is not a Cell.

    Examples
    --------
    >>> import rnndyn as rd
    >>> from rnndyn import testing
    >>> testing.check_cell(rd.cells.Vanilla(input_size=3, hidden_size=4))
    """
    if not isinstance(cell, Cell):
        advice = "pass an instance, for example rd.cells.LSTM(3, 4)"
        raise TypeError(validation.sentence("cell", "a Cell", repr(cell), advice))
    for number, check in enumerate(CHECKS.values()):
        check(cell, jax.random.fold_in(jax.random.key(seed), number))
