"""What a cell is, and the affine map that most cells are built from.

A cell is a specification: sizes and options, no arrays. It is hashable and equal by value, so it
passes through `jax.jit` as an ordinary argument and equal cells share one compiled function.
"""

import abc
import dataclasses
from collections.abc import Sequence
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from rnndyn.cells.initializers import Initializer
from rnndyn.core import validation
from rnndyn.core.keys import split
from rnndyn.core.pytree import pytree


class Cell(abc.ABC):
    """One step of a recurrent network, unbatched and pure; subclasses are final.

    A subclass is decorated with `specification`, starts its fields with `input_size` and
    `hidden_size`, gives every further field a default, and defines the four abstract methods.
    Batches are the caller's `jax.vmap`; read-out and loss are not part of a cell.

    Attributes
    ----------
    input_size : int
        m, the size of one input x.
    hidden_size : int
        n, the size of the hidden output h.
    mechanism : str
        Class attribute, as are the next four; they make the row of the cell in the table of
        `cells_table`. How the cell carries information over time: a few words.
    paper : str
        Where the equations come from.
    state_shape : str
        The leaves of the state with their shapes, in declared order.
    exact : str
        What the implementation promises exactly: the closed form that its Jacobian equals.
    checked : str
        What that promise is tested against.
    has_recurrent_weights : bool
        Class attribute: whether there is anything for `gain` to multiply.
    """

    mechanism: ClassVar[str] = ""
    paper: ClassVar[str] = ""
    state_shape: ClassVar[str] = ""
    exact: ClassVar[str] = ""
    checked: ClassVar[str] = ""
    has_recurrent_weights: ClassVar[bool] = True

    input_size: int
    hidden_size: int

    def __post_init__(self) -> None:
        for name in ("input_size", "hidden_size"):
            validation.require_int(name, getattr(self, name), 1, "pass sizes as positive integers")
        self.validate()
        for field in dataclasses.fields(self):  # type: ignore[arg-type]
            self._require_kind(field.name, field.default, getattr(self, field.name))

    def validate(self) -> None:  # noqa: B027  (optional: most cells have nothing to add)
        """Raise on options that do not fit together; called when the cell is made."""

    def _require_kind(self, name: str, default: Any, value: Any) -> None:
        """Raise unless an option is of the kind of its default: weights are drawn, numbers real."""
        if isinstance(default, Initializer) and not callable(value):
            advice = "pass for example rd.initializers.Gaussian(1.0)"
            raise TypeError(validation.sentence(name, "an initializer", repr(value), advice))
        if isinstance(default, float):
            validation.require_number(name, value, "cells hold plain numbers, params hold arrays")

    @abc.abstractmethod
    def init(self, key: jax.Array, *, gain: float | jax.Array = 1.0) -> Any:
        """Random params; `gain`, which may be traced, multiplies the recurrent weights."""

    @abc.abstractmethod
    def initial_state(self, params: Any) -> Any:
        """The state before the first input, in the dtype of params."""

    @abc.abstractmethod
    def step(self, params: Any, state: Any, x: jax.Array) -> Any:
        """The state after one input x, shape (m,)."""

    @abc.abstractmethod
    def output(self, state: Any) -> jax.Array:
        """The hidden output h, shape (n,), that a read-out sees."""

    def hidden(self, state: Any) -> jax.Array:
        """The coordinates that dh_T/dh_t perturbs; must select coordinates of the state."""
        return self.output(state)

    def registers(self, state: Any) -> tuple[jax.Array, ...]:
        """The shift registers of the state, each of shape (lags, ...), newest first."""
        del state
        return ()

    @property
    def period(self) -> int | None:
        """Steps after which the cell's clock returns; 1 for a cell without a clock.

        Integer leaves of the state count modulo the period, so that they return exactly. None for
        a cell whose step depends on absolute time and so never returns: it has no autonomous map.
        """
        return 1

    @property
    def exact_derivative(self) -> bool:
        """Whether JAX's derivative of `step` is its derivative; False for a truncated rule."""
        return True

    @property
    def diagonal(self) -> bool:
        """Whether each coordinate of z depends on no other of the step before: J is diagonal."""
        return False

    @property
    def output_size(self) -> int:
        """The size of the output, which is n but where a projection or complex pairs change it."""
        return self.hidden_size

    @property
    def random(self) -> bool:
        """Whether `step` takes a random key as a fourth argument, as dropout needs."""
        return False


@pytree
class Affine:
    """The affine map of most cells, for `gates` rows of blocks: w_x x + w_h h + b.

    Attributes
    ----------
    w_x : jax.Array, shape (gates * n, m)
    w_h : jax.Array, shape (gates * n, n)
    b : jax.Array, shape (gates * n,)
    """

    w_x: jax.Array
    w_h: jax.Array
    b: jax.Array

    def __call__(self, x: jax.Array, h: jax.Array) -> jax.Array:
        return self.w_x @ x + self.w_h @ h + self.b


def init_affine(
    key: jax.Array,
    cell: Cell,
    input_weights: Initializer,
    recurrent_weights: Initializer,
    bias: Initializer | Sequence[Initializer],
    *,
    gates: int = 1,
    gain: float | jax.Array = 1.0,
) -> Affine:
    """Draw an `Affine`; each gate's blocks are drawn on their own, so each can be orthogonal.

    `bias` may be one initializer for all gates or one for each.
    """
    n, m = cell.hidden_size, cell.input_size
    biases = [bias] * gates if isinstance(bias, Initializer) else list(bias)
    key_x, key_h, key_b = split(key, 3)
    w_h = blocks(key_h, [recurrent_weights] * gates, (n, n))
    return Affine(
        w_x=blocks(key_x, [input_weights] * gates, (n, m)),
        w_h=jnp.asarray(gain, w_h.dtype) * w_h,
        b=blocks(key_b, biases, (n,)),
    )


def blocks(key: jax.Array, drawn: Sequence[Initializer], shape: tuple[int, ...]) -> jax.Array:
    """Blocks of one shape on top of each other, each drawn on its own."""
    keys = split(key, len(drawn))
    return jnp.concatenate([draw(k, shape) for draw, k in zip(drawn, keys, strict=True)])
