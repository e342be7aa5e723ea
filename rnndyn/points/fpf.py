"""Fixed points under the field names of FixedPointFinder, for code that was written for it.

Golub & Sussillo, Journal of Open Source Software 3(31), 1003, 2018.
"""

import dataclasses
from typing import Any

import jax
import numpy as np

from rnndyn.core import validation
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


def from_points(
    points: Any, starts: jax.Array | None, cond_id: int, tol_unique: float
) -> FixedPointFinderPoints:
    """What `FixedPoints.to_fpf` and `UniquePoints.to_fpf` return."""
    map_ = points.map_
    if not isinstance(map_, Map):
        expected, got = "the Map that was searched", repr(map_)
        advice = "pass it: dataclasses.replace(points, map_=map_)"
        raise ValueError(validation.sentence("points.map_", expected, got, advice))
    advice = "jax.tree.map(lambda leaf: leaf[i], found) is one search of a vmapped batch"
    validation.require_shape("z", points.z, ("m", "d"), advice)
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
