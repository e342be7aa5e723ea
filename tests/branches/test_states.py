"""What is refused: maps, families, states, events and options that do not fit."""

import re

import jax.numpy as jnp
import pytest

import rnndyn as rd
from rnndyn import continuation
from tests.branches import families
from tests.tolerances import tol


@pytest.mark.parametrize(
    "options, message",
    [
        (
            {"span": (1.0, 1.0)},
            "`span`: expected an interval, got (1.0, 1.0); pass (low, high) with low < high.",
        ),
        (
            {"span": 3.0},
            "`span`: expected two numbers, got 3.0; pass (low, high) with low < high.",
        ),
        (
            {"start": 9.0},
            "`start`: expected a number in [2, 3], got 9.0; start inside the span.",
        ),
        (
            {"method": "newton"},
            "`method`: expected one of 'arclength', 'natural', got 'newton'; pass one of them.",
        ),
        (
            {"max_points": 1},
            "`max_points`: expected a whole number >= 2, got 1; a branch has at least its start"
            " and one more point.",
        ),
        (
            {"tol": -1.0},
            "`tol`: expected a number in (0, inf), got -1.0; pass for example 1e-10, or leave it"
            " out for 1024 eps.",
        ),
        (
            {"ds": 1.0},
            "`ds`: expected a number in [1e-06, 0.05], got 1.0; lengths are in units of the state"
            " and of the span.",
        ),
    ],
)
def test_misuse_of_options(options, message):
    call = {"span": (2.0, 3.0), "ds_min": 1e-6} | options
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        continuation(rd.maps.logistic, jnp.array([0.5]), **call)


def test_misuse_of_the_start_and_the_family():
    shape = "`z0`: expected shape (d,), got (1, 1); pass one fixed point as a flat vector."
    with pytest.raises(ValueError, match=f"^{re.escape(shape)}$"):
        continuation(rd.maps.logistic, jnp.ones((1, 1)), span=(2.0, 3.0))
    size = (
        "`z0`: expected shape (2,), got (3,); z0 is a flat vector of the state, rd.flatten(state)."
    )
    with pytest.raises(ValueError, match=f"^{re.escape(size)}$"):
        continuation(rd.maps.delayed_logistic, jnp.ones(3), span=(1.5, 2.0))
    with pytest.raises(TypeError, match="^`family`: expected a Map from family"):
        continuation(lambda p: p, jnp.ones(1), span=(2.0, 3.0))


def test_a_state_of_the_wrong_size_is_refused():
    said = "`z0`: expected a state of the map, got shape (3,) of float64 and the error"
    with pytest.raises(ValueError, match=f"^{re.escape(said)}"):
        continuation(families.turning, jnp.ones(3), span=(0.5, 1.0))
    alone = "`z0`: expected shape (1,), got (2,); this map takes each entry by itself:"
    with pytest.raises(ValueError, match=f"^{re.escape(alone)}"):
        continuation(rd.maps.logistic, jnp.full(2, 0.5), span=(2.0, 3.0))
    with pytest.raises(ValueError, match=r"^`z0`: expected numbers, got shape \(0,\)"):
        continuation(rd.maps.logistic, jnp.ones(0), span=(2.0, 3.0))


def coupled(p):
    return rd.Map(_coupled, p)


def _coupled(z, p):
    return jnp.tanh(p * (0.5 * z + jnp.mean(z)))


def test_a_map_of_any_size_whose_entries_are_coupled_is_not_refused():
    branch = continuation(coupled, jnp.zeros(2), span=(0.2, 1.2), max_points=60)
    assert branch.stop == ("left_span", "left_span")
    (event,) = branch.events
    assert event.kind == "branch_point"
    assert abs(float(event.parameter) - 2 / 3) < tol("event_position")


BRANCH = {"span": (2.0, 3.0)}
LOGISTIC = (rd.maps.logistic, jnp.array([0.5]))


def two_arguments(p, q):
    return rd.maps.logistic(p * q)


def of_a_float(p):
    return rd.maps.logistic(float(p))


@pytest.mark.parametrize(
    "family, said",
    [
        (3.0, "`family`: expected a function with family(p) a Map, got a float;"),
        (two_arguments, "`family`: expected a function of 1 argument, got the error"),
        (of_a_float, "`family`: expected a function of 1 argument, got the error"),
    ],
)
def test_misuse_of_the_family(family, said):
    with pytest.raises(TypeError, match=f"^{re.escape(said)}"):
        continuation(family, jnp.array([0.5]), **BRANCH)


@pytest.mark.parametrize("name", ["start", "ds", "ds_min", "ds_max", "tol"])
@pytest.mark.parametrize("value", ["a", jnp.ones(2), float("nan")])
def test_options_that_are_no_number(name, value):
    with pytest.raises(ValueError, match=f"^`{name}`: expected a number in"):
        continuation(*LOGISTIC, **BRANCH, **{name: value})


def test_misuse_of_many_starts():
    starts = jnp.full((2, 1), 0.5)
    with pytest.raises(ValueError, match=r"^`start`: expected shape \(2,\), got \(3,\)"):
        rd.continuations(rd.maps.logistic, starts, **BRANCH, start=jnp.full(3, 2.5))
    with pytest.raises(ValueError, match=r"^`z0`: expected numbers, got shape \(0, 1\)"):
        rd.continuations(rd.maps.logistic, starts[:0], **BRANCH)


@pytest.fixture(scope="module")
def flip():
    branch = continuation(*LOGISTIC, span=(2.8, 3.2), max_points=60)
    return branch.events[0]


def scalar(p):
    return rd.maps.tanh_network(jnp.reshape(p, (1, 1)))


def test_misuse_of_switching(flip):
    span = (2.5, 3.5)

    def refused(said, family=rd.maps.logistic, event=flip, span=span, error=ValueError, **options):
        with pytest.raises(error, match=f"^{re.escape(said)}"):
            rd.switch_branch(family, event, span=span, **options)

    for step in (0.0, -0.01, float("nan"), "a"):
        refused("`step`: expected a number in (0, inf), got", step=step)
    refused("`span`: expected two numbers, got 3.0;", span=3.0)
    refused("`span`: expected an interval, got (3.5, 2.5);", span=(3.5, 2.5))
    refused("`period`: expected no such option, got 2;", period=2)
    refused("`start`: expected no such option, got 3.0;", start=3.0)
    refused("`event`: expected an Event, got a NoneType;", event=None, error=TypeError)
    refused("`event`: expected an event of this family, got max |F(z) - z| = ", family=scalar)
    refused("`event.z`: expected a state of the map, got shape (1,)", family=families.turning)


def shifted(p, q):
    return rd.maps.logistic(p + q)


def test_misuse_of_curves(flip):
    spans = ((2.0, 3.5), (-1.0, 1.0))

    def refused(said, family=shifted, event=flip, spans=spans, second=0.0, error=ValueError):
        with pytest.raises(error, match=f"^{re.escape(said)}"):
            rd.bifurcation_curve(family, event, second=second, spans=spans)

    refused("`event`: expected an event of this family, got max |F(z) - z| = ", second=0.5)
    refused("`second`: expected a number in [-1, 1], got 'a';", second="a")
    refused("`spans`: expected shape (2, 2), got (1, 2);", spans=spans[:1])
    refused("`event`: expected an Event, got a float;", event=3.0, error=TypeError)
    one = "`family`: expected a function of 2 arguments, got the error"
    refused(one, family=rd.maps.logistic, error=TypeError)
    array = "`family`: expected a Map from family(first, second), got"
    refused(array, family=jnp.add, error=TypeError)


def test_misuse_of_tracking():
    weights = jnp.array([[[0.5]], [[0.6]]])

    def refused(said, z0, family=rd.maps.tanh_network, weights=weights, error=ValueError, **rest):
        with pytest.raises(error, match=f"^{re.escape(said)}"):
            rd.track(family, weights, z0, **rest)

    refused("`z0`: expected a state of the map, got shape (2,)", jnp.zeros((1, 2)))
    refused(
        "`z0`: expected distinct fixed points, got the same in rows 0 and 1;", jnp.zeros((2, 1))
    )
    refused("`z0`: expected fixed points, got none;", jnp.zeros((0, 1)))
    whole = "`checkpoints`: expected the same integers in all checkpoints, got others in"
    refused(whole, jnp.zeros((1, 1)), weights=jnp.array([[[1]], [[2]]]))
    refused("`ds`: expected a number in [", jnp.zeros((1, 1)), ds="a")
    refused("`atol`: expected a number in (0, inf], got 'a';", jnp.zeros((1, 1)), atol="a")
    family = "`family`: expected a Map from family(p), got"
    refused(family, jnp.zeros((1, 1)), family=jnp.tanh, error=TypeError)


def test_misuse_of_proximity_and_basins():
    map_ = rd.maps.tanh_network(jnp.eye(2))
    for call, name in ((rd.bifurcation_proximity, "z"), (rd.basins, "starts")):
        said = f"`{name}`: expected a state of the map, got shape (3,) of float64 and the error"
        with pytest.raises(ValueError, match=f"^{re.escape(said)}"):
            call(map_, jnp.zeros((4, 3)))
        with pytest.raises(TypeError, match="^`map_`: expected a Map, got a "):
            call(jnp.tanh, jnp.zeros((4, 3)))
    with pytest.raises(ValueError, match="^`distance`: expected one of True, False, got 'no'"):
        rd.bifurcation_proximity(map_, jnp.zeros((1, 2)), distance="no")
    with pytest.raises(
        ValueError, match=r"^`starts\(key, n\)`: expected shape \(9, d\), got \(3, 2"
    ):
        rd.basins(map_, lambda key, n: jnp.zeros((3, 2)), n=9)
    with pytest.raises(
        ValueError, match=r"^`starts`: .* got shape \(2,\) of float32 and the error"
    ):
        rd.basins(map_, jnp.zeros((4, 2), jnp.float32))
    with pytest.raises(TypeError, match="^`family`: expected a Map from family"):
        rd.basins_along(jnp.tanh, [2.8], jnp.ones((4, 1)))
    with pytest.raises(ValueError, match="^`reason`: expected one of 'left_span'"):
        rd.describe_stop("tired")
