"""What a result looks like at the prompt."""

import enum

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rnndyn as rd
from rnndyn.core.pytree import coded, static
from rnndyn.core.summary import summary


class Colour(enum.IntEnum):
    RED = 0
    DARK_BLUE = 3


@rd.pytree
class Inner:
    w: object


@rd.pytree
class Outer:
    values: object
    inner: object
    colour: object = coded(Colour)
    status: object = 0
    label: str = static(default="a name")


@rd.pytree
class Event:
    kind: str = static()


def told(value):
    """What is said of one value."""
    return repr(Inner(value)).split("  w  ")[1]


def test_a_line_a_field_and_nested_results_indented():
    shown = repr(
        Outer(
            jnp.linspace(-1.0, 2.0, 24).reshape(4, 6),
            Inner(jnp.arange(3)),
            jnp.array([0, 3, 3]),
            jnp.array([0, 0, -3], jnp.int32),
        )
    )
    assert shown.split("\n") == [
        "Outer",
        f"  values  {jnp.zeros(0).dtype} (4, 6), -1 to 2",
        "  inner   Inner",
        "    w  [0 1 2]",
        "  colour  2 dark blue, 1 red",
        "  status  2 converged, 1 nonfinite",
        "  label   'a name'",
    ]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (np.float64(0.123456), "0.1235"),
        (np.array([1.5, np.nan]), "[1.5 nan]"),
        (np.array(2 - 1j), "2-1j"),
        (np.full((7,), 3), "int64 (7,), all 3"),
        (np.array([3j, 4.0] * 4), "complex128 (8,), modulus 3 to 4"),
        (np.arange(8) > 4, "bool (8,), 3 true"),
        (np.array([1.0, np.nan, np.inf, -np.inf] * 2), "float64 (8,), all 1, 2 nan, 2 inf, 2 -inf"),
        (np.full((8,), np.nan), "float64 (8,), 8 nan"),
        (np.zeros((0, 3)), "float64 (0, 3)"),
        (jax.ShapeDtypeStruct((2, 3), np.float32), "float32 (2, 3)"),
        (jnp.array([1.0, 2.0], jnp.bfloat16), "[1 2]"),
        (None, "None"),
        ((1, "two"), "(1, 'two')"),
        ("x" * 80, "'" + "x" * 56 + "..."),
        (rd.maps.henon, "henon"),
        ((Event("fold"), Event("flip"), Event("fold")), "2 fold, 1 flip"),
        ([Inner(1), np.zeros((2, 2))], "1 Inner, 1 float64 (2, 2)"),
    ],
)
def test_each_kind_of_value(value, expected):
    assert told(value) == expected


def test_keys_are_not_numbers():
    assert told(jax.random.key(0)) == "key<fry>"


def test_what_cannot_be_looked_at_is_told_by_its_shape():
    seen = []

    @jax.jit
    def traced(x):
        seen.append(told(x))
        return x

    traced(jnp.zeros((2, 9), jnp.float32))
    gone = jnp.zeros((3, 3), jnp.float32)
    gone.delete()
    assert [*seen, told(gone)] == ["float32 (2, 9)", "float32 (3, 3)"]


def test_a_code_without_a_name_is_told_as_it_is():
    assert "colour  unknown (7)\n" in repr(Outer(0.0, 0.0, jnp.array(7)))


def test_a_class_may_say_it_itself():
    @rd.pytree
    class Own:
        x: int

        def __repr__(self):
            return "mine"

    assert repr(Own(1)) == "mine"


def test_no_result_prints_its_numbers():
    """A spectrum of 12 units is a few lines, whatever the length of the run."""
    cell = rd.cells.Vanilla(1, 12)
    params = cell.init(jax.random.key(0))
    lin = rd.linearize(cell, params, rd.simulate(cell, params, jnp.ones((400, 1))))
    result = rd.lyapunov_spectrum(lin)
    assert repr(result) == summary(result)
    assert len(repr(result)) < 2000 and "status          converged" in repr(result)
