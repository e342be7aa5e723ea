"""Structurally constrained cells: a slow linear context beside the fast hidden units.

Mikolov, Joulin, Chopra, Mathieu & Ranzato, Learning Longer Memory in Recurrent Neural Networks,
arXiv 1412.7753, 2014.
"""

import math
from typing import ClassVar

import jax
import jax.numpy as jnp

from rnndyn.cells.base import Cell
from rnndyn.cells.initializers import Gaussian, Initializer
from rnndyn.core import validation
from rnndyn.core.keys import split
from rnndyn.core.pytree import pytree, specification


@pytree
class SCRNNParams:
    """Weights of an `SCRNN`, named as in the paper; there are no biases.

    Attributes
    ----------
    a : jax.Array, shape (n, m)
        From the input to the hidden units.
    b : jax.Array, shape (k, m)
        From the input to the context.
    p : jax.Array, shape (n, k)
        From the context to the hidden units.
    r : jax.Array, shape (n, n)
        Among the hidden units.
    beta : jax.Array, shape (k,), or None
        alpha = s(beta) for each context unit, where alpha is learned.
    """

    a: jax.Array
    b: jax.Array
    p: jax.Array
    r: jax.Array
    beta: jax.Array | None


@pytree
class SCRNNState:
    """h : jax.Array, shape (n,), the hidden output; s : jax.Array, shape (k,), the context."""

    h: jax.Array
    s: jax.Array


@specification
class SCRNN(Cell):
    """Hidden units beside context units that only average the input.

        s' = (1 - alpha) B x + alpha s,  h' = sigmoid(P s' + A x + R h)

    State: h (n,), s (k,), both starting at `initial_value`. Params: `SCRNNParams`. Mikolov et al.
    2014: alpha = 0.95 fixed (or, with `learn_alpha`, one per context unit through a logistic
    function), no biases, k = `context_size`, by default a fifth of n (20 beside 100 in an example
    of the released code). That code draws weights from N(0, 0.05^2), starts both layers at 0.1,
    and lets h' read the context of one step before: `slow_lag=1`. The output is h; the paper's
    read-out sees s as well, so add it from the state.

    In (h, s), with D = D(h' (1 - h')), J = [[D R, alpha D P], [0, alpha I]], and
    [[D R, D P], [0, alpha I]] with `slow_lag=1`; eigenvalues are those of D R, and alpha k times.
    ds_T/ds_t = alpha^lag I whatever the inputs, a half-life of ln(1/2)/ln(alpha) steps: 13.5 at
    0.95. At constant input s rests at B x.

    Examples
    --------
    >>> import jax, jax.numpy as jnp, rnndyn as rd
    >>> cell = rd.cells.SCRNN(input_size=3, hidden_size=8, context_size=2, alpha=0.5)
    >>> params = cell.init(jax.random.key(0))
    >>> run = rd.simulate(cell, params, jnp.ones((5, 3)))
    >>> rd.linearize(cell, params, run).jacobians[0, 8:, 8:].tolist()
    [[0.5, 0.0], [0.0, 0.5]]
    """

    mechanism: ClassVar[str] = "time scales: a linear context that decays at alpha"
    paper: ClassVar[str] = "Mikolov et al. 2014"
    state_shape: ClassVar[str] = "h (n), s (k)"
    exact: ClassVar[str] = "J block triangular: eig = eig(D R) and alpha; ds_T/ds_t = alpha^lag I"
    checked: ClassVar[str] = "released equations, closed forms, NumPy loop"

    input_size: int
    hidden_size: int
    context_size: int | None = None
    alpha: float = 0.95
    learn_alpha: bool = False
    slow_lag: int = 0
    initial_value: float = 0.1
    weights: Initializer = Gaussian(0.05)

    def validate(self) -> None:
        if self.context_size is not None:
            validation.require_int("context_size", self.context_size, 1, "None chooses it")
        advice = "the context forgets at the rate alpha per step"
        validation.require_range(
            "alpha", self.alpha, 0.0, 1.0, advice, open_low=self.learn_alpha, open_high=True
        )
        validation.require_choice("learn_alpha", self.learn_alpha, (True, False))
        advice = "0 is the paper's equation, 1 the released code's"
        validation.require_choice("slow_lag", self.slow_lag, (0, 1), advice)
        advice = "0.1 in the released code"
        validation.require_range(
            "initial_value",
            self.initial_value,
            -math.inf,
            math.inf,
            advice,
            open_low=True,
            open_high=True,
        )

    @property
    def contexts(self) -> int:
        """k, the number of context units: `context_size`, or a fifth of n."""
        return self.context_size or max(1, self.hidden_size // 5)

    def init(self, key: jax.Array, *, gain: float | jax.Array = 1.0) -> SCRNNParams:
        n, m, k = self.hidden_size, self.input_size, self.contexts
        shapes = [(n, m), (k, m), (n, k), (n, n)]
        keys = split(key, len(shapes))
        a, b, p, r = (self.weights(one, shape) for one, shape in zip(keys, shapes, strict=True))
        beta = None
        if self.learn_alpha:
            beta = jnp.full((k,), math.log(self.alpha / (1.0 - self.alpha)), r.dtype)
        return SCRNNParams(a=a, b=b, p=p, r=jnp.asarray(gain, r.dtype) * r, beta=beta)

    def initial_state(self, params: SCRNNParams) -> SCRNNState:
        start = jnp.full((self.hidden_size + self.contexts,), self.initial_value, params.r.dtype)
        return SCRNNState(h=start[: self.hidden_size], s=start[self.hidden_size :])

    def step(self, params: SCRNNParams, state: SCRNNState, x: jax.Array) -> SCRNNState:
        alpha = self.alpha if params.beta is None else jax.nn.sigmoid(params.beta)
        s = (1 - alpha) * (params.b @ x) + alpha * state.s
        read = state.s if self.slow_lag else s
        return SCRNNState(
            h=jax.nn.sigmoid(params.p @ read + params.a @ x + params.r @ state.h), s=s
        )

    def output(self, state: SCRNNState) -> jax.Array:
        return state.h
