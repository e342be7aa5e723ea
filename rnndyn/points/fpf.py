"""Fixed points under the field names of FixedPointFinder, for code that was written for it.

Golub & Sussillo, Journal of Open Source Software 3(31), 1003, 2018.
"""

import dataclasses
from typing import Any

import jax
import numpy as np

from rnndyn.maps import HeldCell, Iterated, Map
from rnndyn.points.stability import input_jacobian, stability


@dataclasses.dataclass(frozen=True)
class FixedPointFinderPoints:
    """NumPy arrays named as the attributes of FixedPointFinder's `FixedPoints`; one row a point.

    Attributes
    ----------
    xstar, F_xstar : shape (n, d)
        z and F(z).
    qstar : shape (n,)
        |F(z) - z|^2 / 2, a sum.
    x_init : shape (n, d), or None
    n_iters : shape (n,)
        Steps of the search, -1 where unknown (after `unique`).
    inputs : shape (n, m), or None where the map is not a held cell
    J_xstar : shape (n, d, d)
    eigval_J_xstar, eigvec_J_xstar : shape (n, d), (n, d, d)
        By falling modulus, vectors as columns.
    is_stable : shape (n,), bool
        All moduli below 1.
    cond_id : shape (n,), int
    dFdu : shape (n, d, m), or None
    tol_unique : float
    """

    xstar: np.ndarray
    F_xstar: np.ndarray
    qstar: np.ndarray
    x_init: np.ndarray | None
    n_iters: np.ndarray
    inputs: np.ndarray | None
    J_xstar: np.ndarray
    eigval_J_xstar: np.ndarray
    eigvec_J_xstar: np.ndarray
    is_stable: np.ndarray
    cond_id: np.ndarray
    dFdu: np.ndarray | None
    tol_unique: float

    @property
    def n(self) -> int:
        return self.xstar.shape[0]

    @property
    def n_states(self) -> int:
        return self.xstar.shape[1]

    @property
    def n_inputs(self) -> int | None:
        return None if self.inputs is None else self.inputs.shape[1]


def to_fpf(
    map_: Map,
    points: Any,
    *,
    starts: jax.Array | None = None,
    cond_id: int = 0,
    tol_unique: float = 1e-3,
) -> FixedPointFinderPoints:
    """Fixed points under the field names of FixedPointFinder.

    Parameters
    ----------
    map_ : Map
        The map that was searched; of a held cell, `inputs` and `dFdu` are filled too.
    points : FixedPoints or UniquePoints
    starts : jax.Array, shape (n, d), optional
        Becomes `x_init`.
    cond_id : int
        Which input this is, where the points of several are put together.
    tol_unique : float
        Recorded, not used.

    Returns
    -------
    FixedPointFinderPoints
        Cost: one Jacobian and one eigenvalue problem a row.

    Examples
    --------
    >>> import jax.numpy as jnp, rnndyn as rd
    >>> map_ = rd.maps.logistic(2.0)
    >>> points = rd.unique(rd.fixed_points(map_, jnp.array([[0.1], [0.7]])))
    >>> fps = rd.to_fpf(map_, points)
    >>> fps.xstar.ravel().round(6).tolist(), fps.is_stable.tolist()
    ([0.0, 0.5], [False, True])
    """
    z = points.z
    n = z.shape[0]
    modes = stability(map_, z, resolvent=False)
    image = jax.vmap(map_)(z)
    rule = map_.rule.rule if isinstance(map_.rule, Iterated) else map_.rule
    held = isinstance(rule, HeldCell)
    x = np.asarray(map_.args[1]) if held else None
    steps = getattr(points, "steps", None)
    return FixedPointFinderPoints(
        xstar=np.asarray(z),
        F_xstar=np.asarray(image),
        qstar=0.5 * np.sum(np.square(np.asarray(image - z)), axis=1),
        x_init=None if starts is None else np.asarray(starts),
        n_iters=np.full(n, -1) if steps is None else np.asarray(steps),
        inputs=None if x is None else np.broadcast_to(x, (n, x.size)),
        J_xstar=np.asarray(jax.vmap(map_.jacobian)(z)),
        eigval_J_xstar=np.asarray(modes.eigenvalues),
        eigvec_J_xstar=np.asarray(modes.right),
        is_stable=np.asarray(modes.stable),
        cond_id=np.full(n, cond_id),
        dFdu=np.asarray(input_jacobian(map_, z)) if held else None,
        tol_unique=tol_unique,
    )
