"""Clockwork cells: modules of one hidden layer that update at different periods.

Koutnik, Greff, Gomez & Schmidhuber, A Clockwork RNN, ICML 2014, arXiv 1402.3511.
"""

import dataclasses
import math
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from rnndyn.cells.base import Affine, Cell, init_affine
from rnndyn.cells.elman import ACTIVATIONS
from rnndyn.cells.initializers import Gaussian, Initializer
from rnndyn.core import validation
from rnndyn.core.pytree import pytree, specification


@pytree
class ClockworkState:
    """h : jax.Array, shape (n,), modules one after another, fastest first.

    clock : jax.Array, int32 scalar, steps since the start modulo the period; not a coordinate.
    """

    h: jax.Array
    clock: jax.Array


@specification
class Clockwork(Cell):
    """Modules that fire when their period divides the clock: faster ones read slower ones.

        h'_i = phi(W_h[i, i:] h[i:] + W_x[i] x + b[i])  if clock mod T_i = 0,  else  h'_i = h_i

    State: h (n,), an integer clock. Params: `Affine` w_x (n, m), w_h (n, n), b (n,); the modules
    have n / modules units each and are sorted by rising period, so w_h is block upper triangular:
    a module reads itself and all slower ones. The blocks below are never read: whatever is stored
    there, their gradient is exactly zero. Defaults: periods 1, 2, 4, ..., every weight N(0, 0.1^2)
    and h = 0 at the start, where the clock is 0 and all modules fire. Koutnik et al. 2014.

    With M the 0/1 diagonal of the units that fire, J = (I - M) + M D(phi') W_h. The period of the
    cell is the least common multiple p of the modules' periods, and `rd.hold` composes p steps. A
    fixed point of the map in which all modules always fire is fixed at every phase; there the p
    steps have the eigenvalues of (D_i W_ii)^(p/T_i) for all modules i together, so the blocks
    between modules never change its stability. A single phase says nothing: units that do not
    fire contribute eigenvalues of exactly 1.

    Examples
    --------
    >>> import jax, jax.numpy as jnp, rnndyn as rd
    >>> cell = rd.cells.Clockwork(input_size=3, hidden_size=8, modules=4)
    >>> cell.period
    8
    >>> run = rd.simulate(cell, cell.init(jax.random.key(0)), jnp.ones((3, 3)))
    >>> bool((run.states.h[1] == run.states.h[2])[2:].all()), run.states.clock.tolist()
    (True, [0, 1, 2, 3])
    """

    mechanism: ClassVar[str] = "time scales: modules that fire every T_i steps"
    paper: ClassVar[str] = "Koutnik et al. 2014"
    state_shape: ClassVar[str] = "h (n), integer clock"
    exact: ClassVar[str] = "J = (I - M) + M D W_h; over a period eig = U_i eig(D_i W_ii)^(p/T_i)"
    checked: ClassVar[str] = "closed forms at every phase, monodromy, NumPy loop"

    input_size: int
    hidden_size: int
    modules: int = 4
    periods: tuple[int, ...] | None = None
    activation: str = "tanh"
    input_weights: Initializer = Gaussian(0.1)
    recurrent_weights: Initializer = Gaussian(0.1)
    bias: Initializer = Gaussian(0.1)

    def validate(self) -> None:
        validation.require_int("modules", self.modules, 1, "1 is the plain network")
        validation.require_choice("activation", self.activation, ACTIVATIONS)
        if self.hidden_size % self.modules:
            expected = f"a multiple of modules = {self.modules}"
            advice = "all modules have the same number of units"
            got = repr(self.hidden_size)
            raise ValueError(validation.sentence("hidden_size", expected, got, advice))
        if self.periods is not None:
            self._validate_periods(self.periods)

    def _validate_periods(self, periods: tuple[int, ...]) -> None:
        advice = "a period counts the steps between two updates of a module"
        if not isinstance(periods, tuple) or len(periods) != self.modules:
            expected = f"None or a tuple of modules = {self.modules} whole numbers"
            raise ValueError(validation.sentence("periods", expected, repr(periods), advice))
        for i, period in enumerate(periods):
            validation.require_int(f"periods[{i}]", period, 1, advice)
        if any(slow <= fast for fast, slow in zip(periods[:-1], periods[1:], strict=True)):
            advice = "sort the modules from the fastest to the slowest"
            raise ValueError(
                validation.sentence("periods", "rising periods", repr(periods), advice)
            )

    @property
    def schedule(self) -> tuple[int, ...]:
        """The period of each module: `periods`, or 1, 2, 4, ... where that is None."""
        return self.periods or tuple(2**i for i in range(self.modules))

    @property
    def period(self) -> int:
        return math.lcm(*self.schedule)

    def init(self, key: jax.Array, *, gain: float | jax.Array = 1.0) -> Affine:
        params = init_affine(
            key, self, self.input_weights, self.recurrent_weights, self.bias, gain=gain
        )
        units = self.hidden_size // self.modules
        read = np.kron(np.triu(np.ones((self.modules,) * 2)), np.ones((units, units))) > 0
        return dataclasses.replace(params, w_h=jnp.where(read, params.w_h, 0.0))

    def initial_state(self, params: Affine) -> ClockworkState:
        h = jnp.zeros((self.hidden_size,), params.w_h.dtype)
        return ClockworkState(h=h, clock=jnp.zeros((), jnp.int32))

    def step(self, params: Affine, state: ClockworkState, x: jax.Array) -> ClockworkState:
        units = self.hidden_size // self.modules
        starts = range(0, self.hidden_size, units)
        recurrent = [params.w_h[i : i + units, i:] @ state.h[i:] for i in starts]
        a = params.w_x @ x + jnp.concatenate(recurrent) + params.b
        fires = state.clock % jnp.asarray(self.schedule, jnp.int32) == 0
        h = jnp.where(jnp.repeat(fires, units), ACTIVATIONS[self.activation](a), state.h)
        return ClockworkState(h=h, clock=(state.clock + 1) % self.period)

    def output(self, state: ClockworkState) -> jax.Array:
        return state.h
