"""Status codes describe themselves, and `check` counts them."""

import re
from types import SimpleNamespace

import jax.numpy as jnp
import pytest

import rnndyn as rd
from rnndyn.core.status import Status


@pytest.mark.parametrize("status", list(Status))
def test_every_code_has_a_sentence(status):
    assert len(rd.describe(status)) > 20


def test_an_unknown_code_is_an_error():
    said = (
        "`status`: expected one of 0, -1, -2, -3, -5, -6, got 7; "
        "pass one entry of a result's status."
    )
    with pytest.raises(ValueError, match=f"^{re.escape(said)}$"):
        rd.describe(7)


def test_what_has_no_status_cannot_be_checked():
    with pytest.raises(TypeError, match="^`result`: expected a result with a status, got <class"):
        rd.check(jnp.zeros(3))


def test_check_returns_a_good_result():
    result = SimpleNamespace(status=jnp.zeros(3, int))
    assert rd.check(result) is result


def test_check_counts_what_is_not_good():
    result = SimpleNamespace(status=jnp.array([0, -3, 0, -2, -3]))
    sentence = (
        "2 of 5 with status -3 (NaN or infinity met; check params, inputs and starts); "
        "1 of 5 with status -2 (step budget ended; increase max_steps or loosen tol)."
    )
    with pytest.raises(rd.NotConverged, match=f"^{re.escape(sentence)}$"):
        rd.check(result)
