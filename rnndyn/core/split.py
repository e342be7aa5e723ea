"""Square matrices of one dense block and a few diagonals: products at the cost of the block.

The Jacobian of an LSTM on z = (h, c) is [[A_h, D_h], [A_c, D_c]] with D diagonal, so a product with
k columns takes 2 (2n) n k flops instead of 2 (2n)^2 k; that of a shift register of L states has n
dense rows of L n. The layout comes from a pattern (`dependence`), never from the kind of cell.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rnndyn.core.pytree import pytree, specification, static

_FEW = 2  # entries of a row or column that do not make it dense
_MOST_BANDS = 8


@specification
class Layout:
    """Where the entries of a (d, d) matrix are that may differ from zero.

    Attributes
    ----------
    size : int
        d.
    rows, columns : tuple of int
        Of the dense block.
    bands : tuple of (row, column, length)
        The first entry of a stretch of a diagonal, and how long it is; outside of the block.
    """

    size: int
    rows: tuple[int, ...]
    columns: tuple[int, ...]
    bands: tuple[tuple[int, int, int], ...]

    @property
    def transposed(self) -> "Layout":
        bands = tuple((column, row, length) for row, column, length in self.bands)
        return Layout(self.size, self.columns, self.rows, bands)

    @property
    def fill(self) -> float:
        """The share of the entries that is stored, and of the flops of a product."""
        stored = len(self.rows) * len(self.columns) + sum(length for *_, length in self.bands)
        return stored / self.size**2 if self.size else 1.0

    @property
    def _seed(self) -> np.ndarray:
        """The seed that each column is read from, (d,): one of its own, or one for all others.

        Those must not meet in any row.
        """
        dense = np.isin(np.arange(self.size), self.columns)
        entries = [
            (row + i, column + i) for row, column, length in self.bands for i in range(length)
        ]
        others = [row for row, column in entries if not dense[column]]
        if dense.all() or len(set(others)) < len(others):
            return np.arange(self.size)
        return np.where(dense, np.cumsum(dense) - 1, len(self.columns))

    def seeds(self, dtype: Any) -> jax.Array:
        """Vectors (d, s) whose products with a matrix hold all its entries."""
        seed = self._seed
        return jnp.asarray(seed[:, None] == np.arange(seed.max() + 1), dtype)

    def read(self, products: jax.Array) -> "Split":
        """The matrix from its products with the seeds, shape (d, s)."""
        seed = self._seed
        columns = tuple(seed[np.array(self.columns, int)].tolist())
        block = _rows(_rows(products, self.rows).T, columns).T
        bands = tuple(
            products[row + np.arange(length), seed[column : column + length]]
            for row, column, length in self.bands
        )
        return Split(self, block, bands)

    @classmethod
    def of(cls, pattern: np.ndarray) -> "Layout | None":
        """The layout of a pattern (d, d) of booleans; None if its rest is not a few diagonals."""
        rows = pattern.sum(axis=1) > _FEW
        columns = pattern[rows].sum(axis=0) > _FEW
        if not (rows.any() and columns.any()):  # no loop of JAX's returns an empty block
            rows[:1] = columns[:1] = True
        rest = pattern & ~(rows[:, None] & columns[None, :])
        begins = rest.copy()
        begins[1:, 1:] &= ~rest[:-1, :-1]
        found = np.argwhere(begins)
        if len(found) > _MOST_BANDS:
            return None
        bands = []
        for row, column in found.tolist():
            along = np.diagonal(rest[row:, column:])
            bands.append((row, column, int(np.argmin(np.append(along, False)))))
        chosen = [tuple(np.flatnonzero(which).tolist()) for which in (rows, columns)]
        return cls(len(pattern), chosen[0], chosen[1], tuple(bands))


@pytree
class Split:
    """A matrix in parts.

    Attributes
    ----------
    layout : Layout, static
    block : jax.Array, shape (rows, columns)
    bands : tuple of jax.Array, shapes (length,)
    """

    layout: Layout = static()
    block: jax.Array
    bands: tuple[jax.Array, ...]

    @property
    def T(self) -> "Split":  # noqa: N802  as of an array
        block = jax.lax.optimization_barrier(self.block.T)  # as in `times_transposed`
        return Split(self.layout.transposed, block, self.bands)

    def __matmul__(self, other: jax.Array) -> jax.Array:
        layout = self.layout
        dense = self.block @ _rows(other, layout.columns)
        pieces = [_stretch(dense, layout.rows, layout.size)]
        for (row, column, length), band in zip(layout.bands, self.bands, strict=True):
            part = band[:, None] * jax.lax.slice_in_dim(other, column, column + length)
            pieces.append((row, part))
        return _joined(pieces, layout.size)

    def __rmatmul__(self, other: jax.Array) -> jax.Array:
        layout = self.layout
        dense = _rows(other, layout.rows, axis=1) @ self.block
        pieces = [_stretch(dense, layout.columns, layout.size, axis=1)]
        for (row, column, length), band in zip(layout.bands, self.bands, strict=True):
            part = jax.lax.slice_in_dim(other, row, row + length, axis=1) * band[None, :]
            pieces.append((column, part))
        return _joined(pieces, layout.size, axis=1)

    def full(self) -> jax.Array:
        """All entries, shape (..., d, d)."""
        layout = self.layout
        rows, columns = np.array(layout.rows, int), np.array(layout.columns, int)
        leading = self.block.shape[:-2]
        out = jnp.zeros((*leading, layout.size, layout.size), self.block.dtype)
        out = out.at[..., rows[:, None], columns[None, :]].set(self.block)
        for (row, column, length), band in zip(layout.bands, self.bands, strict=True):
            i = np.arange(length)
            out = out.at[..., row + i, column + i].set(band)
        return out


def all_finite(matrix: jax.Array | Split) -> jax.Array:
    """Whether all entries are, a boolean."""
    return jnp.all(jnp.array([jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(matrix)]))


def times_transposed(a: jax.Array, b: jax.Array) -> jax.Array:
    """a^T b. XLA on a CPU multiplies by a transposed left factor at less than half the rate.

    So the transpose is an array of its own, which costs next to nothing.
    """
    return jax.lax.optimization_barrier(a.T) @ b


def entries(matrix: jax.Array | Split, f: Callable, row: jax.Array, *columns: jax.Array) -> Any:
    """f(entry, row value, *column values) of each entry that is stored; values of shape (d,)."""
    if not isinstance(matrix, Split):
        return f(matrix, row[:, None], *(column[None, :] for column in columns))
    layout = matrix.layout
    bands = tuple(
        f(band, row[i : i + length], *(column[j : j + length] for column in columns))
        for (i, j, length), band in zip(layout.bands, matrix.bands, strict=True)
    )
    chosen = (_rows(column, layout.columns)[None, :] for column in columns)
    return Split(layout, f(matrix.block, _rows(row, layout.rows)[:, None], *chosen), bands)


def largest_of_rows(matrix: jax.Array | Split) -> jax.Array:
    """The largest entry of each row, shape (d,), -inf for a row of which none is stored."""
    if not isinstance(matrix, Split):
        return jnp.max(matrix, axis=1)
    layout, least = matrix.layout, jnp.asarray(-jnp.inf, matrix.block.dtype)
    block = jnp.max(matrix.block, axis=1, initial=-jnp.inf)
    out = _placed(block, layout.rows, layout.size, least)
    for (row, *_), band in zip(layout.bands, matrix.bands, strict=True):
        out = jnp.maximum(out, _padded(band, row, layout.size, least))
    return out


def _rows(a: jax.Array, index: tuple[int, ...], axis: int = 0) -> jax.Array:
    if _contiguous(index):
        return jax.lax.slice_in_dim(a, index[0], index[-1] + 1, axis=axis)
    return a[_along(axis, index)]


def _stretch(
    a: jax.Array, index: tuple[int, ...], size: int, axis: int = 0
) -> tuple[int, jax.Array]:
    """Where the stretch begins that has a's rows in their places, and the stretch."""
    if _contiguous(index):
        return index[0], a
    return 0, _placed(a, index, size, axis=axis)


def _joined(pieces: list[tuple[int, jax.Array]], size: int, axis: int = 0) -> jax.Array:
    """The sum of stretches along an axis of a size, zero where there is none.

    As one concatenation, which XLA writes in one pass, where sums of padded arrays take several:
    a product of rows with an LSTM's or a register's Jacobian is a quarter or a half faster.
    """
    first = pieces[0][1]
    ends = [(begin, begin + piece.shape[axis]) for begin, piece in pieces]
    cuts = sorted({0, size, *(end for both in ends for end in both)})
    parts = []
    for begin, end in zip(cuts, cuts[1:], strict=False):
        shape = (*first.shape[:axis], end - begin, *first.shape[axis + 1 :])
        here = [
            jax.lax.slice_in_dim(piece, begin - start, end - start, axis=axis)
            for (start, piece), (_, stop) in zip(pieces, ends, strict=True)
            if start <= begin and end <= stop
        ]
        parts.append(sum(here[1:], here[0]) if here else jnp.zeros(shape, first.dtype))
    return jnp.concatenate(parts, axis=axis)


def _placed(
    a: jax.Array, index: tuple[int, ...], size: int, rest: Any = None, axis: int = 0
) -> jax.Array:
    """Rows of a in their places among `size`, the others filled with `rest`, zero by default."""
    if _contiguous(index):
        return _padded(a, index[0], size, rest, axis)
    rest = jnp.zeros((), a.dtype) if rest is None else rest
    shape = (*a.shape[:axis], size, *a.shape[axis + 1 :])
    return jnp.full(shape, rest).at[_along(axis, index)].set(a)


def _padded(a: jax.Array, row: int, size: int, rest: Any = None, axis: int = 0) -> jax.Array:
    rest = jnp.zeros((), a.dtype) if rest is None else rest
    around = [(0, 0, 0)] * a.ndim
    around[axis] = (row, size - row - a.shape[axis], 0)
    return jax.lax.pad(a, rest, around)


def _along(axis: int, index: tuple[int, ...]) -> tuple[Any, ...]:
    return (*[slice(None)] * axis, np.array(index, int))


def _contiguous(index: tuple[int, ...]) -> bool:
    return len(index) > 0 and index[-1] - index[0] + 1 == len(index)
