"""Mean field: what wide random networks do on average, before any of them is drawn.

A unit of a network with many Gaussian weights W_ij ~ N(0, g^2/n) receives a Gaussian input. Its
variance q, the correlation c of two runs, and the growth chi of the mean squared gradient per step
then obey scalar equations (Sompolinsky, Crisanti & Sommers 1988; Poole et al. 2016; Schoenholz et
al. 2017; Chen, Pennington & Schoenholz 2018).
For plain networks weights that are shared by all steps give the same equations at large n. For
gated ones they do not: what is known (Chen et al. 2018; Gilboa et al. 2019), and given here, is
the untied network, whose weights are drawn anew at each step. A tied GRU at rest is unstable at
g = 2, the untied one at g = sqrt(12).
"""

from rnndyn.flow.mean_field.critical import (
    Critical,
    critical_gain,
    critical_gain_of,
    critical_line,
)
from rnndyn.flow.mean_field.exponents import ExponentDensity, exponent_density
from rnndyn.flow.mean_field.field import MeanField
from rnndyn.flow.mean_field.gated import gru, minimal_rnn
from rnndyn.flow.mean_field.memory import lstm
from rnndyn.flow.mean_field.plain import vanilla
from rnndyn.flow.mean_field.sampled import SampledField, sampled

__all__ = [
    "Critical",
    "ExponentDensity",
    "MeanField",
    "SampledField",
    "critical_gain",
    "critical_gain_of",
    "critical_line",
    "exponent_density",
    "gru",
    "lstm",
    "minimal_rnn",
    "sampled",
    "vanilla",
]
