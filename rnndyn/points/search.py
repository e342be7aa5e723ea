"""A search that goes on until the evidence says that nothing is missing, or its budget ends."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rnndyn.core import validation
from rnndyn.core.pytree import pytree, specification, static
from rnndyn.maps import Map, require_map
from rnndyn.points.certify import Kind
from rnndyn.points.fixed_points import FixedPoints, fixed_points
from rnndyn.points.unique import UniquePoints, missing, unique

_DESCENT = 60  # steps of a start on the deflated map


@pytree
class Search:
    """What a search found and why it stopped.

    Attributes
    ----------
    points : UniquePoints
        The distinct roots; `hits` counts all starts, `label` those of `found`.
    found : FixedPoints
        Every start, in the order tried.
    missing : float
        Estimate of the number of roots not found (`missing` of the hits), from the starts that
        were drawn at random: those sent away from known roots are left out.
    rounds : int
    reason : str, static
        "evidence": the indices sum to `index_sum`, fewer than half a root is estimated to be
        missing, and a round away from the known roots found no other. "budget": the rounds ended
        first; what is known is in the other fields.
    """

    points: UniquePoints
    found: FixedPoints
    missing: float
    rounds: int
    reason: str = static()


@specification
class Deflated:
    """z -> z + m(z) (F(z) - z), m(z) = prod (1 + 1 / |z - r|^2) over known roots r.

    Its fixed points are those of F but the known ones, from which it pushes away (Farrell,
    Birkisson & Funke, SIAM J. Sci. Comput. 37, 2015). A known root at infinity does nothing.
    """

    rule: Callable[[jax.Array, Any], jax.Array]

    def __call__(self, z: jax.Array, args: tuple[Any, jax.Array]) -> jax.Array:
        inner, roots = args
        distance = jnp.sum(jnp.square(z[None] - roots), axis=1)
        return z + jnp.prod(1 + 1 / distance) * (self.rule(z, inner) - z)


def search(
    map_: Map,
    starts: jax.Array,
    *,
    key: jax.Array,
    until: str = "index",
    index_sum: int = 1,
    max_rounds: int = 12,
    tol: float | None = None,
    progress: Callable[[int, UniquePoints], None] | None = None,
) -> Search:
    """Search for all fixed points, round after round, until the evidence is satisfied.

    The first round uses the starts as given. Later ones begin at fresh starts: random points on
    the lines through two starts, through two known roots, where saddles lie, and anywhere within
    the scale of the starts. Every other round, the second included, first follows the deflated
    map, which repels from the known roots. A host-side step.

    Parameters
    ----------
    map_ : Map
    starts : jax.Array, shape (n, d), n at least 2
        Every round has as many.
    key : jax.Array
        A JAX random key, for the fresh starts.
    until : str
        "index": stop when the evidence is satisfied (`Search.reason`). "budget": use all rounds.
    index_sum : int
        1 for a bounded cell (Brouwer); only then does the criterion mean anything.
    max_rounds : int, at least 1
    tol : float, optional
        As in `fixed_points`.
    progress : callable, optional
        Called after each round with the number of starts so far and the points.

    Returns
    -------
    Search

    Raises
    ------
    ValueError, TypeError
        As `fixed_points`, and if `until` is neither of the two.

    Notes
    -----
    Evidence is no proof: a pair of roots of opposite index with tiny basins leaves no trace in
    either number. The cost of a round is that of `fixed_points`, twice where it is deflated.

    Examples
    --------
    >>> import jax, jax.numpy as jnp, rnndyn as rd
    >>> map_ = rd.maps.tanh_network(2 * jnp.eye(2))
    >>> starts = jax.random.uniform(jax.random.key(0), (64, 2), float, -1, 1)
    >>> result = rd.search(map_, starts, key=jax.random.key(1))
    >>> len(result.points.z), int(result.points.index_sum), result.reason
    (9, 1, 'evidence')
    """
    validation.require_choice("until", until, ("index", "budget"))
    max_rounds = validation.require_int("max_rounds", max_rounds, 1, "one round uses the starts")
    validation.require_key("key", key)
    require_map(map_)
    starts = jnp.asarray(starts)
    found = _table(fixed_points(map_, starts, tol=tol))
    drawn, deflate, known = np.full(len(starts), True), False, -1
    for rounds in range(1, max_rounds + 1):
        points = dataclasses.replace(unique(found), map_=map_)
        unseen = missing(np.bincount(_labels(points, drawn), minlength=len(points.z)))
        nothing_new = deflate and len(points.z) == known
        complete = nothing_new and int(points.index_sum) == index_sum and unseen < 0.5
        if progress is not None:
            progress(len(drawn), points)
        if rounds == max_rounds or (complete and until == "index"):
            break
        deflate, known = not deflate, len(points.z)
        roots = _padded(np.asarray(points.z))
        begin = _fresh(key, rounds, starts, roots, len(points.z))
        if deflate:
            begin = _deflated(map_, begin, roots)
        later = _table(fixed_points(map_, begin, tol=tol))
        found = jax.tree.map(lambda a, b: np.concatenate([a, b]), found, later)
        drawn = np.concatenate([drawn, np.full(len(starts), not deflate)])
    reason = "evidence" if complete else "budget"
    found = dataclasses.replace(jax.device_put(found), map_=map_)
    return Search(points, found, unseen, rounds, reason)


def _table(found: FixedPoints) -> FixedPoints:
    """The rows alone, as NumPy arrays."""
    return jax.tree.map(np.asarray, dataclasses.replace(found, map_=None))


def _labels(points: UniquePoints, drawn: np.ndarray) -> np.ndarray:
    label = np.asarray(points.label)[drawn]
    return label[label >= 0]


def _padded(roots: np.ndarray) -> np.ndarray:
    """With roots at infinity, up to a power of two, so that few shapes compile."""
    count = max(8, 1 << max(0, len(roots) - 1).bit_length())
    padding = ((0, count - len(roots)), (0, 0))
    return np.pad(roots, padding, constant_values=np.inf)


@jax.jit
def _fresh(key: jax.Array, rounds: Any, starts: jax.Array, roots: jax.Array, known: Any):
    """As many points as starts, by thirds: between two starts, between two roots, and anywhere.

    "Anywhere" is normal about zero with the root mean square of the starts.
    """
    n = starts.shape[0]
    keys = jax.random.split(jax.random.fold_in(key, rounds), 4)

    def between(key, pool, count):
        a, b = jax.random.randint(key, (2, n), 0, count)
        share = jax.random.uniform(keys[2], (n, 1), starts.dtype, -0.25, 1.25)
        return share * pool[a] + (1 - share) * pool[b]

    noise = jax.random.normal(keys[3], starts.shape, starts.dtype)
    near = 0.05 * jnp.std(starts, axis=0, keepdims=True) * noise
    lines = between(keys[0], starts, n) + near
    saddles = jnp.where(known > 1, between(keys[1], roots, known), lines) + near
    anywhere = jnp.sqrt(jnp.mean(starts**2)) * noise
    third = (jnp.arange(n) % 3)[:, None]
    return jnp.where(third == 0, lines, jnp.where(third == 1, saddles, anywhere))


def _deflated(map_: Map, starts: jax.Array, roots: np.ndarray) -> jax.Array:
    """Where descents on the deflated map end."""
    args = (map_.args, jax.device_put(roots))
    moved = fixed_points(Map(Deflated(map_.rule), args), starts, max_steps=_DESCENT)
    return _where_usable(moved.z, moved.kind, starts)


@jax.jit
def _where_usable(z: jax.Array, kind: jax.Array, starts: jax.Array) -> jax.Array:
    usable = jnp.all(jnp.isfinite(z), axis=1) & (kind != Kind.NONE)
    return jnp.where(usable[:, None], z, starts)
