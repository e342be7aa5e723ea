"""Layer 1: what keeps gradients and weights within bounds while a network is trained.

Every constraint is a specification, hashable and equal by value, that is used in two ways. Called,
it is a pure function: of gradients for the two gradient clips, of params for all others; such
functions compose. In an optimiser it has the pair `init(params)`, `update(updates, state, params)`
that optax asks of a gradient transformation, without needing optax. Chain them in this order:
gradient clip, optimiser, weight constraints::

    optax.chain(ClipGradientNorm(1.0), optax.adam(1e-3), ClipSingularValues(block=(2, 3)))

A weight constraint turns the updates into those that lead to constrained params; the sum
params + updates then satisfies it to rounding. Call it on the params to have it to the last bit.
`where` names the leaf it acts on by a path such as "w_h" or "layers.0.w_h".
"""

from rnndyn.constraints.gradients import ClipGradientNorm, ClipGradientValue, GradientConstraint
from rnndyn.constraints.retractions import CayleyRetraction
from rnndyn.constraints.weights import (
    ClipSingularValues,
    ClipWeights,
    Orthogonalise,
    SingularBand,
    SpectralNormalisation,
    WeightConstraint,
)

__all__ = [
    "CayleyRetraction",
    "ClipGradientNorm",
    "ClipGradientValue",
    "ClipSingularValues",
    "ClipWeights",
    "GradientConstraint",
    "Orthogonalise",
    "SingularBand",
    "SpectralNormalisation",
    "WeightConstraint",
]
