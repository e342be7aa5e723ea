"""The analyses on Jacobians stored as a block and diagonals: those of the full ones."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rnndyn as rd
from rnndyn.linearize import Dense, InParts
from tests.tolerances import tol

STEPS, LAGS = 40, (1, 40)


@pytest.fixture(scope="module")
def both():
    cell = rd.cells.LSTM(2, 32)
    params = cell.init(jax.random.key(0))
    run = rd.simulate(cell, params, jax.random.normal(jax.random.key(1), (STEPS, 2)))
    lin = rd.linearize(cell, params, run)
    assert isinstance(lin, InParts)
    return lin, Dense(lin.hidden, lin.jacobians)


@pytest.mark.parametrize("parallel", [False, True])
def test_gradient_flow(both, parallel):
    got, want = (rd.gradient_flow(lin, lags=LAGS, parallel=parallel).log_norm for lin in both)
    np.testing.assert_allclose(got, want, rtol=0, atol=tol("log_norm"))


def test_singular_spectra_with_a_step_that_needs_qr(both):
    """Saturated units in one step: elimination is given up there, and the rows' sizes come out."""
    sizes = jnp.ones((STEPS, 64)).at[20].set(jnp.logspace(0, -20, 64))
    lin, dense = both
    block = sizes[:, :, None] * lin.slices.block
    bands = tuple(
        sizes[:, row : row + length] * band
        for (row, _, length), band in zip(lin.slices.layout.bands, lin.slices.bands, strict=True)
    )
    lin = InParts(lin.hidden, type(lin.slices)(lin.slices.layout, block, bands))
    dense = Dense(lin.hidden, sizes[:, :, None] * dense.jacobians)
    got, want = (rd.singular_spectra(each, lags=LAGS) for each in (lin, dense))
    assert got.status.tolist() == [0, 0]
    np.testing.assert_allclose(got.log_values, want.log_values, rtol=0, atol=tol("log_reference"))


def test_exponents_forward_and_adjoint(both):
    for adjoint in (False, True):
        got, want = (rd.lyapunov_spectrum(lin, adjoint=adjoint).exponents for lin in both)
        np.testing.assert_allclose(got, want, rtol=0, atol=tol("exponent_equal"))


def test_derivatives_and_a_bad_step(both):
    """Along all entries that are stored, of the leading norm; NaN in a diagonal gives -3."""
    lin, dense = both

    def norm(slices, make):
        return rd.gradient_flow(make(lin.hidden, slices), lags=(3,)).log_norm[0]

    slope = jax.grad(norm)(lin.slices, InParts)
    want = jax.grad(norm)(dense.slices, Dense)
    want = jnp.where(lin.jacobians != 0, want, 0)
    np.testing.assert_allclose(slope.full(), want, rtol=0, atol=tol("log_norm"))
    first, second = lin.slices.bands
    bands = (first, second.at[37, 5].set(jnp.nan))
    bad = InParts(lin.hidden, type(lin.slices)(lin.slices.layout, lin.slices.block, bands))
    assert rd.gradient_flow(bad, lags=(2, 3)).status.tolist() == [0, -3]
