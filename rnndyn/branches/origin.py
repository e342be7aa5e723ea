"""Stability of the origin of gated cells in closed form, from the weights of the candidate alone.

Without a bias on the candidate and at zero input the origin is a fixed point of a GRU and of an
LSTM. The gates are constant there, and the Jacobian's eigenvalues other than 0 are k + w lambda:
lambda those of the candidate's recurrent weights U, k the gate that keeps, w the gates that write.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax.core import Tracer

from rnndyn.cells.base import Cell
from rnndyn.cells.gru import GRU, VARIANTS
from rnndyn.cells.lstm import LSTM
from rnndyn.core import validation
from rnndyn.core.pytree import pytree


@pytree
class OriginMargins:
    """How far the origin of a gated cell is from losing its stability, in units of U.

    Attributes
    ----------
    sufficient : jax.Array, scalar
        (1 - k)/w - sigma_max(U): Kanai's margin, 2 - sigma_max(U) of a GRU without biases.
        Positive: the origin is stable.
        Not positive: nothing follows.
    exact : jax.Array, scalar
        1/w - max |lambda + k/w|: 4 - max |lambda + 2| of a GRU without biases. Positive if and
        only if the origin is stable, and at least `sufficient`.
    critical_gain : jax.Array, scalar
        The g > 0 at which g U is critical; infinite if U is nilpotent.
    critical : jax.Array, scalar, complex
        The eigenvalue of the Jacobian at that gain, on the unit circle: 1 is a branch point (the
        origin stays a fixed point), -1 a flip, else a Neimark-Sacker bifurcation.
    eigenvalues : jax.Array, shape (n,), complex
        k + w lambda, by falling modulus; an LSTM's Jacobian has n zeros besides.
    """

    sufficient: jax.Array
    exact: jax.Array
    critical_gain: jax.Array
    critical: jax.Array
    eigenvalues: jax.Array


def origin_margins(cell: Cell, params: Any) -> OriginMargins:
    """Kanai's condition and the exact one for a stable origin of a GRU or LSTM at zero input.

    Parameters
    ----------
    cell : GRU (any variant) or LSTM
    params : GRUParams or Affine
        With no bias on the candidate, and biases of the other gates that are the same for all
        units (zero, or a forget bias). Recurrent weights of the gates may be anything: their
        derivatives are multiplied by 0 at the origin.

    Returns
    -------
    OriginMargins
        About the origin only. Other fixed points may exist while both margins are positive (one
        GRU unit whose reset gate feels h has three from U = 1.764 on), and at inputs other than 0
        the origin is no fixed point. `sufficient` > 0 also means, of a GRU, that
        |J|_2 <= k + w sigma_max < 1, so that nothing grows even at first; `exact` > 0 alone
        allows transient growth. An LSTM's |J|_2 is not bounded by its `sufficient`. Cost: one
        singular value decomposition and one eigenvalue decomposition O(n^3). `sufficient` is
        differentiable (`constraints.ClipSingularValues` keeps it positive), and so is `exact`
        where the eigenvalue is simple.

    Raises
    ------
    TypeError
        For another cell.
    ValueError
        Where the condition does not apply: a bias on the candidate, or gate biases that differ
        from unit to unit. Under jit, vmap and grad, where values are not known, every number is
        NaN instead.

    Notes
    -----
    GRU: k = z = s(b_z) (its complement in "chung"), w = (1 - k) s(b_r), J = k I + w U (Kanai,
    Fujiwara & Iwamura, NeurIPS 2017, for b = 0). LSTM: k = f = s(b_f), w = s(b_i) s(b_o); J has
    the rank-n part [D(o); I] [D(i) U, D(f)]. |k + w lambda| < 1 is the disc of radius 1/w
    about -k/w, and (1 - k)/w is the radius of the largest disc about 0 within it, which touches
    it at lambda = (1 - k)/w: so `sufficient` is sharp only for a U whose largest singular value
    is an eigenvalue.

    Examples
    --------
    >>> import jax, jax.numpy as jnp, rnndyn as rd
    >>> cell = rd.cells.GRU(1, 1, "kanai")
    >>> params = cell.init(jax.random.key(0))
    >>> stable = rd.origin_margins(cell, rd.cells.gru.GRUParams(
    ...     params.w_x, jnp.array([[0.3], [-0.2], [-5.0]]), None, None))
    >>> float(stable.sufficient), float(stable.exact), float(stable.critical_gain)
    (-3.0, 1.0, 1.2)
    """
    keep, write, weights, applies = _at_rest(cell, params)
    if not isinstance(applies, Tracer) and not bool(applies):
        expected = "no bias on the candidate, and gate biases equal for all units"
        advice = "use bias=Constant(0.0), or bifurcation_proximity at the fixed point itself"
        raise ValueError(validation.sentence("params", expected, "other biases", advice))
    weights = jnp.where(applies, weights, jnp.nan)
    return _margins(keep, write, weights)


@jax.jit
def _margins(keep: jax.Array, write: jax.Array, weights: jax.Array) -> OriginMargins:
    finite = jnp.all(jnp.isfinite(weights))
    safe = jnp.where(finite, weights, 0)
    spread = jnp.linalg.svd(safe, compute_uv=False)[0]
    values = jnp.linalg.eigvals(safe)
    # |k + w g lambda| = 1 is a quadratic in the gain g, with one positive root.
    real, square = keep * values.real, jnp.abs(values) ** 2
    moving = square > 0
    root = jnp.sqrt(real**2 + (1 - keep**2) * square)
    gains = jnp.where(moving, (root - real) / (write * jnp.where(moving, square, 1)), jnp.inf)
    first = jnp.argmin(gains)
    gain = gains[first]
    k, w = keep.astype(values.dtype), write.astype(values.dtype)
    critical = jnp.where(jnp.isfinite(gain), k + w * gain.astype(k.dtype) * values[first], jnp.nan)
    modes = k + w * values
    margins = OriginMargins(
        sufficient=(1 - keep) / write - spread,
        exact=(1 - jnp.max(jnp.abs(modes))) / write,
        critical_gain=gain,
        critical=jnp.where(critical.imag < 0, critical.conj(), critical),
        eigenvalues=modes[jnp.argsort(-jnp.abs(modes))],
    )
    return jax.tree.map(lambda leaf: jnp.where(finite, leaf, jnp.nan), margins)


def _at_rest(cell: Cell, params: Any) -> tuple[jax.Array, jax.Array, jax.Array, Any]:
    """The gates that keep and write, the candidate's weights, and whether all of it holds."""
    n = getattr(cell, "hidden_size", 0)
    if isinstance(cell, GRU):
        form = VARIANTS[cell.variant]
        zero = jnp.zeros((3 * n,), params.w_h.dtype)
        b = zero if params.b is None else params.b
        reset, update, candidate = (b[i * n : (i + 1) * n] for i in range(3))
        inner = zero if params.b_hn is None else params.b_hn
        keep = jax.nn.sigmoid(-update[0] if form.z_writes else update[0])
        write, gates = (1 - keep) * jax.nn.sigmoid(reset[0]), (reset, update)
        weights, candidate = params.w_h[2 * n :], jnp.concatenate([candidate, inner])
    elif isinstance(cell, LSTM):
        into, forget, candidate, out = (params.b[i * n : (i + 1) * n] for i in range(4))
        keep, gates = jax.nn.sigmoid(forget[0]), (into, forget, out)
        write = jax.nn.sigmoid(into[0]) * jax.nn.sigmoid(out[0])
        weights = params.w_h[2 * n : 3 * n]
    else:
        advice = "use bifurcation_proximity(rd.hold(cell, params, x), z)"
        got = type(cell).__name__
        raise TypeError(validation.sentence("cell", "a GRU or an LSTM", got, advice))
    applies = jnp.all(candidate == 0)
    for gate in gates:
        applies &= jnp.all(gate == gate[0])
    return keep, write, weights, applies
