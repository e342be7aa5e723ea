"""`check_cell`: a sound cell passes in one file and one line, a broken one fails by name."""

import random
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rnndyn as rd
from rnndyn import cells, testing
from rnndyn.cells.elman import ElmanState
from tests.tolerances import tol


@rd.specification
class Leaky(cells.Cell):
    """A toy: h' = (1 - rate) h + rate tanh(W_x x + W_h h + b)."""

    input_size: int
    hidden_size: int
    rate: float = 0.3

    def init(self, key, *, gain=1.0):
        return cells.Vanilla(self.input_size, self.hidden_size).init(key, gain=gain)

    def initial_state(self, params):
        return ElmanState(jnp.zeros((self.hidden_size,), params.w_h.dtype))

    def step(self, params, state, x):
        return ElmanState((1 - self.rate) * state.h + self.rate * jnp.tanh(params(x, state.h)))

    def output(self, state):
        return state.h


@pytest.mark.precision
@pytest.mark.parametrize("seed", [0, 1])
def test_a_users_cell_conforms(seed):
    testing.check_cell(Leaky(3, 4), seed=seed)


def test_a_users_cell_meets_the_analyses_and_the_registry(monkeypatch):
    monkeypatch.setitem(cells.CELLS, "leaky", Leaky)
    cell = cells.CELLS["leaky"](input_size=3, hidden_size=4)
    params = cell.init(jax.random.key(0))
    run = rd.simulate(cell, params, jnp.ones((5, 3)))
    jacobians = rd.linearize(cell, params, run).jacobians
    slopes = 1 - jnp.tanh(jax.vmap(params)(run.inputs, run.states.h[:-1])) ** 2
    expected = 0.7 * jnp.eye(4)[None] + 0.3 * slopes[:, :, None] * params.w_h[None]
    np.testing.assert_allclose(jacobians, expected, atol=tol("jacobian"))
    assert rd.hold(cell, params, jnp.ones(3))(jnp.zeros(4)).shape == (4,)
    assert "| `leaky` | `Leaky` |" in cells.cells_table()


@jax.custom_jvp
def wrong_product(w, h):
    return w @ h


@wrong_product.defjvp
def _transposed(primals, tangents):
    (w, h), (dw, dh) = primals, tangents
    return w @ h, dw @ h + w.T @ dh


@jax.tree_util.register_pytree_with_keys_class
class _Swapped:
    """Declared (h, c), but told JAX (c, h)."""

    def tree_flatten_with_keys(self):
        keys = (jax.tree_util.GetAttrKey("c"), jax.tree_util.GetAttrKey("h"))
        return tuple(zip(keys, (self.c, self.h), strict=True)), None

    @classmethod
    def tree_unflatten(cls, _, children):
        return Swapped(h=children[1], c=children[0])


def _swapped():
    import dataclasses

    made = dataclasses.make_dataclass("Swapped", ["h", "c"], bases=(_Swapped,), eq=False)
    return jax.tree_util.register_pytree_with_keys_class(made)


Swapped = _swapped()


@rd.pytree
class Ring:
    """Older outputs in a ring, with a moving pointer."""

    h: jax.Array
    at: jax.Array


@rd.specification
class TransposedDerivative(Leaky):
    def step(self, params, state, x):
        return ElmanState(jnp.tanh(wrong_product(params.w_h, state.h) + params.w_x @ x + params.b))


@rd.specification
class SwappedOrder(Leaky):
    def initial_state(self, params):
        zero = jnp.zeros((self.hidden_size,), params.w_h.dtype)
        return Swapped(h=zero, c=zero)

    def step(self, params, state, x):
        return Swapped(h=jnp.tanh(params(x, state.h)), c=state.h)


@rd.specification
class RingBuffer(Leaky):
    def initial_state(self, params):
        shape = (3, self.hidden_size)
        return Ring(jnp.zeros(shape, params.w_h.dtype), jnp.zeros((), jnp.int32))

    def step(self, params, state, x):
        h = jnp.tanh(params(x, state.h[state.at]))
        return Ring(state.h.at[state.at].set(h), (state.at + 1) % 3)

    def output(self, state):
        return state.h[0]

    def registers(self, state):
        return (state.h,)

    @property
    def period(self):
        return 3


@rd.specification
class WrongPeriod(RingBuffer):
    def registers(self, state):
        return ()

    @property
    def period(self):
        return 2


@rd.specification
class ImpureInit(Leaky):
    def init(self, key, *, gain=1.0):
        return super().init(jax.random.key(random.getrandbits(31)), gain=gain)


@rd.specification
class DeafInit(Leaky):
    def init(self, key, *, gain=1.0):
        return super().init(jax.random.key(0), gain=gain)


@rd.specification
class IgnoredGain(Leaky):
    def init(self, key, *, gain=1.0):
        return super().init(key)


@rd.specification
class GainOnInputs(Leaky):
    def init(self, key, *, gain=1.0):
        drawn = super().init(key)
        return cells.Affine(drawn.w_x, drawn.w_h + gain, drawn.b)


@rd.specification
class GainByHand(Leaky):
    def init(self, key, *, gain=1.0):
        return super().init(key, gain=float(gain))


@rd.specification
class Upcast(Leaky):
    def step(self, params, state, x):
        return ElmanState(super().step(params, state, x).h.astype(float))


@rd.specification
class FixedPrecision(Leaky):
    def initial_state(self, params):
        return ElmanState(jnp.zeros((self.hidden_size,), float))


@rd.specification
class WrongOutput(Leaky):
    def output(self, state):
        return state.h[1:]


@rd.specification
class MasksNaN(Leaky):
    def step(self, params, state, x):
        return ElmanState(jnp.nan_to_num(super().step(params, state, x).h))


@rd.specification
class NotASelection(Leaky):
    def hidden(self, state):
        return 2 * state.h


class NoSpecification(cells.Cell):
    def __init__(self, input_size, hidden_size):
        self.input_size, self.hidden_size = input_size, hidden_size

    init, step = Leaky.init, Leaky.step
    initial_state, output = Leaky.initial_state, Leaky.output
    rate = 0.3


@rd.specification
class Unequal(Leaky):
    def __eq__(self, other):
        return self is other

    __hash__ = object.__hash__


@rd.specification
class NeedsPython(Leaky):
    def step(self, params, state, x):
        return super().step(params, state, x) if float(state.h[0]) > -9 else state


@rd.specification
class Unpicklable(Leaky):
    def __reduce__(self):
        raise TypeError("cannot be pickled")


@rd.specification
class InfiniteGradient(Leaky):
    def step(self, params, state, x):
        size = jnp.sqrt(jnp.sum((params.b - params.b) ** 2))
        return ElmanState(super().step(params, state, x).h + size)


@rd.specification
class BatchDependent(Leaky):
    def step(self, params, state, x):
        h = super().step(params, state, x).h
        return ElmanState(_centred(h))


@jax.custom_batching.custom_vmap
def _centred(h):
    return h


@_centred.def_vmap
def _centred_batch(size, batched, h):
    return h - h.mean(axis=0, keepdims=True), True


@rd.specification
class LooksAtTracing(Leaky):
    def step(self, params, state, x):
        new = super().step(params, state, x)
        return ElmanState(2 * new.h) if isinstance(x, jax.core.Tracer) else new


@rd.specification
class Divergent(Leaky):
    def initial_state(self, params):
        return ElmanState(jnp.full((self.hidden_size,), jnp.inf, params.w_h.dtype))


@rd.specification
class NoPeriod(Leaky):
    @property
    def period(self):
        return 0


@rd.specification
class HandsOnANeighbour(Leaky):
    def step(self, params, state, x):
        h = jnp.tanh(params(x, state.h)) + 0.3 * state.h + 0.3 * jnp.roll(state.h, 1)
        return ElmanState(h)


BROKEN = [
    (NoSpecification, "specification", "a class decorated with rd.specification"),
    (Unequal, "specification", "an equal copy with an equal hash"),
    (Upcast, "structure", "float32"),
    (FixedPrecision, "structure", "float32"),
    (WrongOutput, "structure", "output"),
    (SwappedOrder, "coordinates", "z in declared order"),
    (LooksAtTracing, "jit", "the compiled step within"),
    (NeedsPython, "jit", "expected no exception, got ConcretizationTypeError"),
    (BatchDependent, "vmap", "row 0 of a batch within"),
    (TransposedDerivative, "jacobian", "jacfwd against differences within"),
    (NotASelection, "hidden", "distinct coordinates|of z"),
    (WrongPeriod, "clock", "again after 2 steps"),
    (NoPeriod, "clock", "a whole number >= 1"),
    (RingBuffer, "registers", "register 0 shifted by one, newest first"),
    (ImpureInit, "determinism", "the same params from the same key"),
    (DeafInit, "determinism", "other params from another key"),
    (IgnoredGain, "gain", "recurrent weights multiplied by gain"),
    (GainOnInputs, "gain", "each entry of params kept or multiplied by gain"),
    (GainByHand, "gain", "expected no exception, got ConcretizationTypeError"),
    (Unpicklable, "pickle", "cannot be pickled"),
    (MasksNaN, "nan", r"NaN in the next state, got none from NaN in h\[0\]"),
    (InfiniteGradient, "gradient", "a finite gradient"),
    (TransposedDerivative, "gradient", "gradient against differences within"),
    (Divergent, "analyses", "status 0 from simulate"),
    (NoPeriod, "hold", "expected"),
    (HandsOnANeighbour, "carry", "a carry from at most 1 coordinates of a leaf, got 2"),
]


@pytest.mark.parametrize(("cls", "check", "said"), BROKEN)
def test_a_broken_cell_fails_the_check_by_name(cls, check, said):
    if cls in (Upcast, FixedPrecision) and jnp.zeros(()).dtype == jnp.float32:
        pytest.skip("there is no wider type to fall into")
    with pytest.raises(AssertionError) as failure:
        testing.CHECKS[check](cls(3, 4), jax.random.key(0))
    message = str(failure.value)
    assert message.startswith(f"check `{check}` of ")
    assert re.search(said, message)


def test_every_check_is_failed_by_some_broken_cell():
    assert {check for _, check, _ in BROKEN} == set(testing.CHECKS)


def test_check_cell_stops_at_the_first_failure():
    with pytest.raises(AssertionError, match="^check `nan` of MasksNaN"):
        testing.check_cell(MasksNaN(3, 4))


def test_what_is_not_a_cell_is_refused():
    with pytest.raises(TypeError) as error:
        testing.check_cell("lstm")  # pyright: ignore
    expected = "`cell`: expected a Cell, got 'lstm'; pass an instance, for example "
    assert str(error.value) == expected + "rd.cells.LSTM(3, 4)."
