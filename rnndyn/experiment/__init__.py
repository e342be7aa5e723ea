"""Layer 5: from a script's Config and four functions to a figure with its provenance.

A script is one question and one figure. It defines a `Config`, `compute(config) -> Result`,
`draw(result) -> Figure` and `claims(result) -> dict`, and ends in
`run(__doc__, Config, compute, draw, claims)`.
"""

from rnndyn.experiment.runner import run
from rnndyn.experiment.settings import Config, setting
from rnndyn.experiment.store import Result, parts

__all__ = ["Config", "Result", "parts", "run", "setting"]
