"""Cells that remember statistics: moving averages, or Fourier sums, of recurrent features.

Oliva, Poczos & Schneider, The Statistical Recurrent Unit, ICML 2017, arXiv 1703.00381; Zhang,
Lin, Song & Dhillon, Learning Long Term Dependencies via Fourier Recurrent Units, ICML 2018, arXiv
1803.06585. Not the Simple Recurrent Unit of Lei et al., which is abbreviated SRU too.
"""

import math
from typing import ClassVar

import jax
import jax.numpy as jnp

from rnndyn.cells.base import Cell
from rnndyn.cells.elman import ACTIVATIONS
from rnndyn.cells.initializers import Initializer, TruncatedGaussian
from rnndyn.core import validation
from rnndyn.core.keys import split
from rnndyn.core.pytree import pytree, specification


@pytree
class SummaryParams:
    """Weights that both units share, named as in the papers; q is the size of the summary.

    Attributes
    ----------
    w_r : jax.Array, shape (k, q)
    b_r : jax.Array, shape (k,)
        From the summary to the k recurrent features r.
    w_phi : jax.Array, shape (s, k)
    w_x : jax.Array, shape (s, m)
    b_phi : jax.Array, shape (s,)
        From r and the input to the s statistics phi.
    w_o : jax.Array, shape (n, q)
    b_o : jax.Array, shape (n,)
        From the new summary to the hidden output.
    """

    w_r: jax.Array
    b_r: jax.Array
    w_phi: jax.Array
    w_x: jax.Array
    b_phi: jax.Array
    w_o: jax.Array
    b_o: jax.Array


@pytree
class StatisticalParams(SummaryParams):
    """logit : jax.Array, shape (scales,), of alpha where that is learned, otherwise None."""

    logit: jax.Array | None


@pytree
class FourierParams(SummaryParams):
    """phase : jax.Array, shape (frequencies,), theta in turns: cos(2 pi (f t/T + theta))."""

    phase: jax.Array


@pytree
class StatisticalState:
    """mu : shape (scales, s), the moving averages; h : shape (n,), the output, never fed back."""

    mu: jax.Array
    h: jax.Array


@pytree
class FourierState:
    """u : shape (frequencies, s), the Fourier sums; h : shape (n,), the output, never fed back.

    clock : int32 scalar, t, the steps since the start; not a coordinate.
    """

    u: jax.Array
    h: jax.Array
    clock: jax.Array


class SummaryCell(Cell):
    """Features r = f(W_r m + b_r) of a summary m, then phi = f(W_phi r + W_x x + b_phi)."""

    statistics: int | None
    features: int | None
    activation: str
    weights: Initializer

    def validate(self) -> None:
        for name in ("statistics", "features"):
            if getattr(self, name) is not None:
                validation.require_int(name, getattr(self, name), 1, "None chooses it")
        validation.require_choice("activation", self.activation, ACTIVATIONS)

    @property
    def statistics_size(self) -> int:
        """s: `statistics`, or n."""
        return self.statistics or self.hidden_size

    @property
    def features_size(self) -> int:
        """k: `features`, or three tenths of s, rounded up."""
        return self.features or -(-3 * self.statistics_size // 10)

    def _draw(self, key: jax.Array, copies: int, gain: float | jax.Array) -> dict[str, jax.Array]:
        """The fields of `SummaryParams` for a summary of `copies` times s numbers."""
        n, m, s, k = self.hidden_size, self.input_size, self.statistics_size, self.features_size
        keys = split(key, 4)
        w_r = self.weights(keys[0], (k, copies * s))
        return {
            "w_r": jnp.asarray(gain, w_r.dtype) * w_r,
            "b_r": jnp.zeros((k,), w_r.dtype),
            "w_phi": self.weights(keys[1], (s, k)),
            "w_x": self.weights(keys[2], (s, m)),
            "b_phi": jnp.zeros((s,), w_r.dtype),
            "w_o": self.weights(keys[3], (n, copies * s)),
            "b_o": jnp.zeros((n,), w_r.dtype),
        }

    def _phi(self, params: SummaryParams, summary: jax.Array, x: jax.Array) -> jax.Array:
        f = ACTIVATIONS[self.activation]
        r = f(params.w_r @ summary.ravel() + params.b_r)
        return f(params.w_phi @ r + params.w_x @ x + params.b_phi)

    def _read(self, params: SummaryParams, summary: jax.Array) -> jax.Array:
        return ACTIVATIONS[self.activation](params.w_o @ summary.ravel() + params.b_o)


@specification
class StatisticalRU(SummaryCell):
    """The Statistical Recurrent Unit: moving averages of statistics at several scales.

        r = f(W_r mu + b_r),  phi = f(W_phi r + W_x x + b_phi)
        mu_i' = alpha_i mu_i + (1 - alpha_i) phi,  h' = f(W_o mu' + b_o)

    State: mu (scales, s), flattened scale by scale, and the output h (n,), which nothing reads
    back; zero at the start. Params: `StatisticalParams`. Oliva, Poczos & Schneider 2017, f = ReLU;
    alphas, sizes (s = n and k = 0.3 n features, 200 and 60 at n = 200) and the start (truncated
    normal of deviation 0.1, biases 0) are those of the Fourier unit's released code. With
    `learn_alpha` the alphas, which must then start above 0, are s(logit), as in both released
    codes. `gain` multiplies W_r.

    On mu, J = D(alpha) (x) I + (1 - alpha) (x) K with K = D(phi') W_phi D(r') W_r, shape (s, q);
    h adds n zero eigenvalues. With W_r = 0, dmu_T/dmu_t = D(alpha^lag) (x) I. At a fixed point all
    mu_i are equal to phi. The derivative of ReLU at its kink is taken as 0: at mu = 0 and r = 0
    with zero bias the recurrent path is cut, so linearize elsewhere.

    Examples
    --------
    >>> import jax, jax.numpy as jnp, rnndyn as rd
    >>> cell = rd.cells.StatisticalRU(input_size=3, hidden_size=8)
    >>> params = cell.init(jax.random.key(0))
    >>> rd.simulate(cell, params, jnp.ones((5, 3))).states.mu.shape
    (6, 5, 8)
    """

    mechanism: ClassVar[str] = "combination: moving averages at several scales"
    paper: ClassVar[str] = "Oliva, Poczos & Schneider 2017"
    state_shape: ClassVar[str] = "mu (scales, s), h (n)"
    exact: ClassVar[str] = "J = D(alpha) (x) I + (1 - alpha) (x) K on mu; W_r = 0: alpha^lag"
    checked: ClassVar[str] = "released code (recorded), Kronecker form, NumPy loop"

    input_size: int
    hidden_size: int
    alphas: tuple[float, ...] = (0.0, 0.25, 0.5, 0.9, 0.99)
    statistics: int | None = None
    features: int | None = None
    learn_alpha: bool = False
    activation: str = "relu"
    weights: Initializer = TruncatedGaussian()

    def validate(self) -> None:
        super().validate()
        _require_numbers("alphas", self.alphas, "pass for example (0.0, 0.5, 0.99)")
        advice = "a moving average forgets at the rate alpha per step"
        if self.learn_alpha:
            advice = "a learned alpha starts inside, where its logit is finite"
        for i, alpha in enumerate(self.alphas):
            validation.require_range(
                f"alphas[{i}]", alpha, 0.0, 1.0, advice, open_low=self.learn_alpha, open_high=True
            )
        validation.require_choice("learn_alpha", self.learn_alpha, (True, False))

    def init(self, key: jax.Array, *, gain: float | jax.Array = 1.0) -> StatisticalParams:
        logit = None
        if self.learn_alpha:
            alphas = jnp.asarray(self.alphas, dtype=float)
            logit = jnp.log(alphas / (1 - alphas))
        return StatisticalParams(**self._draw(key, len(self.alphas), gain), logit=logit)

    def initial_state(self, params: StatisticalParams) -> StatisticalState:
        shape = (len(self.alphas), self.statistics_size)
        zero = jnp.zeros((self.hidden_size,), params.w_r.dtype)
        return StatisticalState(mu=jnp.zeros(shape, zero.dtype), h=zero)

    def step(
        self, params: StatisticalParams, state: StatisticalState, x: jax.Array
    ) -> StatisticalState:
        alpha = jnp.asarray(self.alphas, params.w_r.dtype)
        if params.logit is not None:
            alpha = jax.nn.sigmoid(params.logit)
        alpha = alpha[:, None]
        phi = self._phi(params, state.mu, x)
        mu = alpha * state.mu + (1 - alpha) * phi[None, :]
        return StatisticalState(mu=mu, h=self._read(params, mu))

    def output(self, state: StatisticalState) -> jax.Array:
        return state.h

    def hidden(self, state: StatisticalState) -> jax.Array:
        return state.mu.ravel()


@specification
class FourierRU(SummaryCell):
    """The Fourier Recurrent Unit: sums of statistics weighted by cosines over a run of T steps.

        r = f(W_r u + b_r),  phi = f(W_phi r + W_x x + b_phi)
        u_i' = u_i + (1/T) cos(2 pi (f_i t/T + theta_i)) phi,  h' = f(W_o u' + b_o)

    State: u (frequencies, s), flattened frequency by frequency, the output h (n,), which nothing
    reads back, and the clock t, 0 at the first step as in the released code. Params:
    `FourierParams`; the phases theta are learned, the frequencies are not. Zhang et al. 2018,
    f = ReLU; frequencies, sizes and start as in their code, whose default T is the number of
    steps of its data set, here the 784 pixels of MNIST. `official_zero_freq=True` is their code's
    deviation: beside other frequencies, the sum at frequency 0 is overwritten, not added to. After
    T steps the cosines simply continue. `gain` multiplies W_r.

    On u, J_t = I + (1/T) (c_t (x) K_t), c_t the cosines and K_t as for `StatisticalRU`; h adds n
    zero eigenvalues. With k >= ||K_t||, the singular values of a product over at most T steps are
    at most prod (1 + k ||c_t||/T) <= exp(k sqrt(F)), F frequencies, and at least
    prod (1 - k ||c_t||/T) >= exp(-2 k sqrt(F)) if k sqrt(F)/T <= 1/2: bounds without T, though not
    without k (derived here; the paper's theorems are of this kind).

    The step depends on absolute time, so there is no autonomous map, no fixed point and no
    `rd.hold`: only what `rd.linearize` says of the single steps of a run is meaningful.

    Examples
    --------
    >>> import jax, jax.numpy as jnp, rnndyn as rd
    >>> cell = rd.cells.FourierRU(input_size=3, hidden_size=8, total_steps=5)
    >>> params = cell.init(jax.random.key(0))
    >>> rd.simulate(cell, params, jnp.ones((5, 3))).states.clock.tolist()
    [0, 1, 2, 3, 4, 5]
    """

    mechanism: ClassVar[str] = "combination: Fourier sums over the whole run"
    paper: ClassVar[str] = "Zhang et al. 2018"
    state_shape: ClassVar[str] = "u (frequencies, s), h (n), integer clock"
    exact: ClassVar[str] = "J_t = I + (1/T) c_t (x) K_t on u; bounds free of T"
    checked: ClassVar[str] = "released code (recorded), Kronecker form, both bounds, NumPy loop"

    input_size: int
    hidden_size: int
    total_steps: int = 784
    frequencies: tuple[float, ...] = (0.0, 0.5, 1.0, 2.0, 3.0)
    statistics: int | None = None
    features: int | None = None
    official_zero_freq: bool = False
    activation: str = "relu"
    weights: Initializer = TruncatedGaussian()

    def validate(self) -> None:
        super().validate()
        advice = "pass T, the number of steps of the whole run"
        validation.require_int("total_steps", self.total_steps, 1, advice)
        _require_numbers("frequencies", self.frequencies, "pass for example (0.0, 0.5, 1.0)")
        for i, frequency in enumerate(self.frequencies):
            advice = "a frequency counts the cycles in T steps"
            validation.require_range(
                f"frequencies[{i}]", frequency, 0.0, math.inf, advice, open_high=True
            )
        validation.require_choice("official_zero_freq", self.official_zero_freq, (True, False))

    @property
    def period(self) -> None:
        """None: the cosines do not repeat within the T steps of a run."""
        return None

    def init(self, key: jax.Array, *, gain: float | jax.Array = 1.0) -> FourierParams:
        key, key_phase = split(key)
        phase = self.weights(key_phase, (len(self.frequencies),))
        return FourierParams(**self._draw(key, len(self.frequencies), gain), phase=phase)

    def initial_state(self, params: FourierParams) -> FourierState:
        shape = (len(self.frequencies), self.statistics_size)
        zero = jnp.zeros((self.hidden_size,), params.w_r.dtype)
        return FourierState(u=jnp.zeros(shape, zero.dtype), h=zero, clock=jnp.zeros((), jnp.int32))

    def step(self, params: FourierParams, state: FourierState, x: jax.Array) -> FourierState:
        phi = self._phi(params, state.u, x)
        wave = self._cosines(params, state.clock) / self.total_steps
        u = self._carried(state.u) + wave[:, None] * phi[None, :]
        return FourierState(u=u, h=self._read(params, u), clock=state.clock + 1)

    def _cosines(self, params: FourierParams, clock: jax.Array) -> jax.Array:
        turns = jnp.asarray(self.frequencies, params.phase.dtype) / self.total_steps
        return jnp.cos(2 * math.pi * (turns * clock.astype(turns.dtype) + params.phase))

    def _carried(self, u: jax.Array) -> jax.Array:
        if not self.official_zero_freq or len(self.frequencies) == 1:
            return u
        kept = jnp.asarray([float(f != 0) for f in self.frequencies], u.dtype)
        return kept[:, None] * u

    def output(self, state: FourierState) -> jax.Array:
        return state.h

    def hidden(self, state: FourierState) -> jax.Array:
        return state.u.ravel()


def _require_numbers(name: str, values: tuple[float, ...], advice: str) -> None:
    if not isinstance(values, tuple) or not values:
        raise ValueError(validation.sentence(name, "a tuple of numbers", repr(values), advice))
