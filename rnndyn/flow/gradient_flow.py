"""Gradient flow: the log norm of dz_T/dz_{T-lag} by lag.

The largest singular value needs no orthonormal frame: the product itself is kept, every row with
a logarithmic scale of its own, so that a coordinate that fades faster than the rest (a fast block
beside a slow one) keeps all its digits, and exact zeros stay exact.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rnndyn.core import validation
from rnndyn.core.pytree import pytree
from rnndyn.core.split import all_finite
from rnndyn.core.status import Status
from rnndyn.flow import graded
from rnndyn.flow.diagonal import log_products
from rnndyn.linearize import DENSE_BUDGET, Diagonal, Linearization

_BLOCK = 8  # steps that are multiplied as they stand
_Carry = tuple[graded.Rows, jax.Array, graded.Rows, jax.Array]  # product, finite; of each lag


@pytree
class GradientFlow:
    """How strongly the last state depends on earlier ones.

    Attributes
    ----------
    lags : jax.Array, shape (L,), int
        As asked for, in that order.
    log_norm : jax.Array, shape (L,)
        Natural logarithm of the spectral norm of dz_T/dz_{T-lag}, or of its hidden block; -inf
        exactly where that is zero, NaN where the status is -3.
    status : jax.Array, shape (L,), int
        0; -3 if a Jacobian within the lag is not finite.
    """

    lags: jax.Array
    log_norm: jax.Array
    status: jax.Array

    @property
    @jax.jit
    def slope(self) -> jax.Array:
        """d log_norm / d lag by least squares over the lags of at least half the largest.

        An estimate of the leading exponent (per step); NaN if fewer than two such lags, or if the
        norm is zero or not finite at one of them.
        """
        lags = self.lags.astype(self.log_norm.dtype)
        late = lags >= jnp.max(lags, axis=-1, keepdims=True) / 2
        count = jnp.sum(late, axis=-1, keepdims=True).astype(lags.dtype)
        norms = jnp.where(late, self.log_norm, jnp.zeros_like(self.log_norm))
        x = lags - jnp.sum(jnp.where(late, lags, jnp.zeros_like(lags)), -1, keepdims=True) / count
        x = jnp.where(late, x, jnp.zeros_like(x))
        fit = jnp.sum(x * norms, axis=-1) / jnp.sum(x**2, axis=-1)
        return jnp.where(jnp.isfinite(fit), fit, jnp.nan)


def default_lags(steps: int, count: int = 40) -> tuple[int, ...]:
    """About `count` distinct lags from 1 to T, evenly spaced in their logarithm; T included.

    Lags that round to the same number appear once, so short runs give fewer; T = 0 gives (0,).

    Parameters
    ----------
    steps : int, at least 0
        T.
    count : int, at least 1

    Returns
    -------
    tuple of int
        Ascending.

    Examples
    --------
    >>> from rnndyn.flow import default_lags
    >>> default_lags(100, 5)
    (1, 3, 10, 32, 100)
    """
    steps = validation.require_int("steps", steps, 0, "pass the number of steps of the run")
    count = validation.require_int("count", count, 1, "pass how many lags, for example 40")
    if steps == 0:
        return (0,)
    spaced = np.rint(np.geomspace(1, steps, count)).astype(int)
    return tuple(sorted({int(lag) for lag in spaced} | {steps}))


def gradient_flow(
    lin: Linearization,
    *,
    lags: Sequence[int] | None = None,
    block: str = "state",
    parallel: bool | None = None,
) -> GradientFlow:
    """log ||dz_T/dz_{T-lag}||_2 by lag, without under- or overflow (Hochreiter 1991).

    Parameters
    ----------
    lin : Linearization
        Dense or matrix-free; of the latter one Jacobian is formed at a time.
    lags : sequence of int, optional
        Distinct, each in 0..T; lag 0 is the identity. Default: `default_lags(T)`.
    block : {"state", "hidden"}
        "hidden" is dh_T/dh_{T-lag}: the block of the product at the hidden coordinates, with all
        paths through the rest of the state, never a product of blocks.
    parallel : bool, optional
        Whether to form the products of all lags at once by an associative scan over the row-scaled
        Jacobians: depth log2(T) instead of T, twice the flops, and max(lags) d^2 numbers of memory
        for each of about three arrays. By default on an accelerator if they take at most 2 GiB;
        never on a CPU, where the sequential products keep all cores busy. The results agree to
        rounding. Diagonal Jacobians are summed in parallel anyway.

    Returns
    -------
    GradientFlow
        One sweep for all lags, O(max(lags) d^2 n) and an SVD a lag, n = d or the number of hidden
        coordinates; O(max(lags) n) for diagonal Jacobians. Differentiable in the Jacobians, in
        both modes; where the norm is zero the derivative is given as 0.

    Raises
    ------
    TypeError, ValueError
        If `lin` is not one Linearization, or on bad lags or block.

    Examples
    --------
    >>> import jax.numpy as jnp, rnndyn as rd
    >>> from rnndyn.flow import gradient_flow
    >>> lin = rd.Linearization.from_jacobians(jnp.full((2000, 1, 1), 0.5))
    >>> flow = gradient_flow(lin, lags=(1, 2000))
    >>> (flow.log_norm / jnp.log(2.0)).round(3).tolist()
    [-1.0, -2000.0]
    """
    graded.require_linearization(lin)
    asked = validation.require_lags(default_lags(lin.steps) if lags is None else lags, lin.steps)
    if parallel is None:
        bytes_needed = 3 * max(asked) * lin.size**2 * jnp.dtype(lin.dtype).itemsize
        parallel = jax.default_backend() != "cpu" and bytes_needed <= DENSE_BUDGET
    return _gradient_flow(lin, asked, graded.block_coordinates(lin, block), parallel)


@jax.jit(static_argnames=("lags", "coordinates", "parallel"))
def _gradient_flow(
    lin: Linearization, lags: tuple[int, ...], coordinates: tuple[int, ...], parallel: bool
) -> GradientFlow:
    if isinstance(lin, Diagonal):
        logs, _, finite = log_products(lin, lags, coordinates)
        norms = jnp.max(logs, axis=1)
    else:
        products = _products_at_once if parallel and max(lags) > 0 else _products
        factors, finite = products(lin, lags, coordinates)
        norms = jax.vmap(_log_norm)(factors)
    norms = jnp.where(finite, norms, jnp.nan)
    status = jnp.where(finite, jnp.int32(Status.CONVERGED), jnp.int32(Status.NONFINITE))
    return GradientFlow(jnp.asarray(lags), norms, status)


@partial(jax.custom_jvp, nondiff_argnums=(1, 2))
def _products(lin: Linearization, lags: tuple[int, ...], coordinates: tuple[int, ...]):
    """The blocks P[c, c]^T by lag, rows scaled: (L, n), (L, n, n); and whether all was finite.

    Steps are multiplied as they stand, a block of them at a time; a block in which something could
    have left the range of the dtype is done again with rows scaled at every step.
    """
    if max(lags) == 0:
        return _kept(_begin(lin, lags, coordinates))

    def block(carry, entry):
        newest, length, slot = entry

        def again(state):
            def step(i, made):
                return _scaled_step(lin, graded.slice_at(lin, newest - i), *made)

            return (jnp.array(True), *jax.lax.fori_loop(0, length, step, carry[:2]))

        # A loop and not a condition: of that a batch computes both branches.
        made, kept = _as_they_stand(lin, newest, length, carry[0])
        state = (kept, made, carry[1])
        _, *made = jax.lax.while_loop(lambda state: ~state[0], again, state)
        return _keep(coordinates, made, carry, slot), None

    entries = graded.blocks(lin.steps, lags, _BLOCK)
    return _kept(jax.lax.scan(block, _begin(lin, lags, coordinates), entries)[0])


@_products.defjvp
def _products_jvp(lags, coordinates, primals, tangents):
    return jax.jvp(lambda lin: _products_by_steps(lin, lags, coordinates), primals, tangents)


def _products_by_steps(lin: Linearization, lags: tuple[int, ...], coordinates: tuple[int, ...]):
    """As `_products`, every step scaled: no loop whose length only the values know."""
    if max(lags) == 0:
        return _kept(_begin(lin, lags, coordinates))

    def step(carry, entry):
        at, slot = entry
        return _keep(coordinates, _scaled_step(lin, at, *carry[:2]), carry, slot), None

    begin, entries = _begin(lin, lags, coordinates), graded.latest(lin, lags)
    return _kept(jax.lax.scan(step, begin, entries, reverse=True)[0])


def _begin(lin: Linearization, lags: tuple[int, ...], coordinates: tuple[int, ...]) -> _Carry:
    chosen, n = np.array(coordinates), len(coordinates)
    units = jnp.eye(lin.size, dtype=lin.dtype)[:, chosen]
    store = graded.Rows(
        jnp.zeros((len(lags), n), lin.dtype), jnp.broadcast_to(units[chosen], (len(lags), n, n))
    )
    product = graded.Rows(jnp.zeros((lin.size,), lin.dtype), units)
    return product, jnp.array(True), store, jnp.ones((len(lags),), bool)


def _keep(coordinates: tuple[int, ...], made: Any, carry: _Carry, slot: jax.Array) -> _Carry:
    (product, finite), (*_, store, good), chosen = made, carry, np.array(coordinates)
    store = jax.tree.map(
        lambda all_, one: all_.at[slot].set(one[chosen], mode="drop"), store, product
    )
    return product, finite, store, good.at[slot].set(finite, mode="drop")


def _kept(carry: _Carry) -> tuple[graded.Rows, jax.Array]:
    return carry[2], carry[3]


def _scaled_step(lin: Linearization, at: Any, product: graded.Rows, finite: jax.Array):
    transposed = lin.transposed(at)
    return graded.multiply(transposed, product, product.scale), finite & all_finite(transposed)


def _as_they_stand(
    lin: Linearization, newest: jax.Array, length: jax.Array, product: graded.Rows
) -> tuple[graded.Rows, jax.Array]:
    """The product with a block of steps, and whether nothing was lost to the range of the dtype.

    With that range from 1/R^3 to R^3: a row whose largest entry is within 1/R and R after every
    step lost at most 1/R^2 of itself. One that is exactly zero lost nothing if no entry of the
    step but zeros is below 1/R^2.
    """
    most = float(jnp.finfo(lin.dtype).tiny) ** (-1 / 3)
    alive = jnp.any(product.rows != 0, axis=1)
    top = jnp.max(jnp.where(alive, product.scale, -jnp.inf))
    top = jnp.where(jnp.isneginf(top), jnp.zeros_like(top), top)
    weights = jnp.exp(jnp.minimum(product.scale - top, 0))

    def step(i, state):
        columns, kept = state
        at = graded.slice_at(lin, newest - i)
        columns = lin.pull_rows(at, columns)
        size = jnp.max(jnp.abs(columns), axis=0)
        dead = size == 0
        tame = jax.lax.cond(
            jnp.any(dead), lambda: _no_less_than(most**-2, lin.transposed(at)), lambda: True
        )
        within = (size >= 1 / most) & (size <= most)
        return columns, kept & tame & jnp.all(within | dead)

    kept = jnp.all((weights >= 1 / most) | ~alive)
    columns = (weights[:, None] * product.rows).T
    columns, kept = jax.lax.fori_loop(0, length, step, (columns, kept))
    return graded.rescale(graded.Rows(jnp.full_like(product.scale, top), columns.T)), kept


def _no_less_than(least: float, matrix: Any) -> jax.Array:
    """Whether every entry is zero or at least so large."""
    leaves = [jnp.abs(leaf) for leaf in jax.tree.leaves(matrix)]
    return jnp.all(jnp.array([jnp.all((leaf == 0) | (leaf >= least)) for leaf in leaves]))


def _products_at_once(lin: Linearization, lags: tuple[int, ...], coordinates: tuple[int, ...]):
    """As `_products`, by an associative scan: (diag(exp s) A)(diag(exp t) B) has rows of A B."""
    newest_first = jax.tree.map(lambda leaf: leaf[lin.steps - max(lags) :][::-1], lin.slices)
    transposed = jax.vmap(lin.transposed)(newest_first)
    zero = jnp.zeros((lin.size,), lin.dtype)

    def one(matrix):
        return graded.multiply(matrix, graded.Rows(zero, jnp.eye(lin.size, dtype=lin.dtype)), zero)

    def older_after_newer(newer, older):
        product = graded.multiply(older.rows, newer, newer.scale)
        return graded.Rows(product.scale + older.scale, product.rows)

    products = jax.lax.associative_scan(jax.vmap(older_after_newer), jax.vmap(one)(transposed))
    identity = graded.Rows(zero, jnp.eye(lin.size, dtype=lin.dtype))
    bad = jnp.cumsum(~jax.vmap(all_finite)(transposed))
    at, chosen = np.maximum(np.array(lags) - 1, 0), np.array(coordinates)

    def kept(all_, identity):
        none = (np.array(lags) == 0).reshape((-1,) + (1,) * identity.ndim)
        return jnp.where(none, identity[None], all_[at])[:, chosen]

    factors = jax.tree.map(kept, products, identity)
    factors = graded.Rows(factors.scale, factors.rows[:, :, chosen])
    return factors, jnp.asarray(np.array(lags) == 0) | (bad[at] == 0)


@jax.custom_jvp
def _log_norm(factor: graded.Rows) -> jax.Array:
    """The log of the spectral norm of diag(exp scale) rows; a shared scale is taken out first."""
    matrix, largest = _on_one_scale(factor)
    values = jnp.linalg.svd(matrix, compute_uv=False)
    return largest + jnp.log(values[0])


@_log_norm.defjvp
def _log_norm_jvp(primals: Any, tangents: Any) -> Any:
    """u^T dA v / sigma for the first of the largest singular values, equal ones included."""
    matrix, largest = _on_one_scale(primals[0])
    left, values, right = jnp.linalg.svd(matrix, full_matrices=False)
    zero = values[0] == 0
    weights = jnp.exp(jnp.minimum(primals[0].scale - largest, 0))
    slope = (left[:, 0] * weights) @ (tangents[0].rows @ right[0])
    slope = jnp.where(zero, jnp.zeros_like(slope), slope / jnp.where(zero, 1, values[0]))
    return largest + jnp.log(values[0]), slope


def _on_one_scale(factor: graded.Rows) -> tuple[jax.Array, jax.Array]:
    alive = jnp.any(factor.rows != 0, axis=1)
    largest = jnp.max(jnp.where(alive, factor.scale, -jnp.inf))
    largest = jnp.where(jnp.isneginf(largest), jnp.zeros_like(largest), largest)
    weights = jnp.exp(jnp.minimum(factor.scale - largest, 0))
    return weights[:, None] * factor.rows, largest
