"""Steps that stay on the orthogonal group because of how they are taken."""

from typing import Any

import jax
import jax.numpy as jnp

from rnndyn.constraints.leaves import current, leaf_at, replace_leaf
from rnndyn.core import validation
from rnndyn.core.pytree import specification


@specification
class CayleyRetraction:
    """A step along the orthogonal group: W <- (I + A/2)^-1 (I - A/2) W, A = W dW^T - dW W^T.

    For dW = -lr G this is the curvilinear step of Wen & Yin, Mathematical Programming 142, 2013,
    A = lr (G W^T - W G^T). W stays exactly as orthogonal as it was, whatever dW is: the step only
    turns. Needs W square. Cost: one solve. It acts on updates, so it is not a function of params
    alone: use `moved(params, updates)`, or chain it after the optimiser.

    Examples
    --------
    >>> import jax, jax.numpy as jnp, rnndyn as rd
    >>> params = rd.cells.OrthogonalRNN(3, 4).init(jax.random.key(0))
    >>> moved = rd.constraints.CayleyRetraction().moved(params, jax.tree.map(jnp.ones_like, params))
    >>> bool(jnp.allclose(moved.w_h @ moved.w_h.T, jnp.eye(4), atol=1e-5))
    True
    """

    where: str = "w_h"

    def moved(self, params: Any, updates: Any) -> Any:
        """The params after the updates, the leaf at `where` along the group."""
        turned, _ = self.update(updates, (), params)
        return jax.tree.map(lambda p, u: p + u, params, turned)

    def init(self, params: Any) -> Any:
        """The state of the transformation: none."""
        _require_square(self.where, leaf_at(params, self.where))
        return ()

    def update(self, updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        """`(updates along the group, state)`; the others' updates pass through."""
        w, step = current(self.where, updates, params)
        _require_square(self.where, w)
        half = (w @ step.T - step @ w.T) / 2
        eye = jnp.eye(w.shape[0], dtype=w.dtype)
        # (I + A/2)^-1 (I - A/2) - I = -2 (I + A/2)^-1 A/2: no cancellation in a small step
        turned = -2 * jnp.linalg.solve(eye + half, half @ w)
        return replace_leaf(updates, self.where, turned), state


def _require_square(where: str, w: jax.Array) -> None:
    advice = "the Cayley retraction turns a square matrix"
    validation.require_shape(where, w, ("n", "n"), advice)
    validation.require_shape(where, w, (w.shape[0], w.shape[0]), advice)
