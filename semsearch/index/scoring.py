"""The one definition of a score, shared by every index.

Matrix products are fast, but their last bits depend on how many rows and queries they are given.
So float32 products only choose which rows may be among the best, with a margin above their
rounding error; those few are scored in float64, row by row. A score is then the same number
whichever index, batch or block it came from, and equal rows tie exactly.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from semsearch.errors import UsageError
from semsearch.vectors import cut, empty_candidates, rank

if TYPE_CHECKING:
    from semsearch.index.contract import Rows
    from semsearch.types import Bools, Floats, Ints

_PAIRS = 4096
_ALONE = 393_216
"""Products that OpenBLAS leaves to one thread: 1,024 rows of 384 dimensions."""

_BELOW_ANY_COSINE = np.float32(-2)


def prepare(queries: ArrayLike, dim: int) -> Floats:
    """Queries ``(Q, d)`` as float32 unit rows (zero stays zero). Raises as VectorIndex says."""
    array = np.asarray(queries)
    if array.ndim != 2:
        raise UsageError(f"queries must be a matrix (Q, d), not of shape {array.shape}")
    width = array.shape[1]
    if width > dim:
        raise UsageError(f"a query of {width} dimensions cannot search an index of {dim}")
    return cut(array, width)


def check_allowed(allowed: Bools | None, n: int) -> Bools | None:
    """``allowed`` as a bool ``(n,)``, or None where it allows every row. Raises UsageError."""
    if allowed is None:
        return None
    mask = np.asarray(allowed)
    if mask.dtype != np.bool_ or mask.shape != (n,):
        raise UsageError(
            f"allowed must be a bool mask of {n} rows, not {mask.dtype} of shape {mask.shape}"
        )
    return None if mask.all() else mask


def checked(
    rows: Rows, queries: ArrayLike, k: int, allowed: Bools | None
) -> tuple[Floats, Bools | None]:
    """Unit queries and mask of a search over ``rows``. Raises as VectorIndex says."""
    unit_queries = prepare(queries, rows.dim)
    mask = check_allowed(allowed, len(rows))
    if k < 0:
        raise UsageError(f"k must not be negative: {k}")
    return unit_queries, mask


def cosines(queries: Floats, which: Ints, rows: Floats) -> Floats:
    """float32 ``(m,)``: cosine of ``queries[which[i]]`` ``(d,)`` and the first d of ``rows[i]``.

    Computed in float64, each pair by itself; 0 where either side is zero.
    """
    dims = queries.shape[1]
    scores = np.empty(len(which), dtype=np.float32)
    exact = queries.astype(np.float64)
    lengths = np.sqrt((exact * exact).sum(axis=1))
    for start in range(0, len(which), _PAIRS):
        part = slice(start, start + _PAIRS)
        row = rows[part, :dims].astype(np.float64)
        dot = (row * exact[which[part]]).sum(axis=1)
        norm = np.sqrt((row * row).sum(axis=1)) * lengths[which[part]]
        scores[part] = dot / np.where(norm > 0, norm, 1.0)
    return scores


def inverse_norms(rows: Floats, dims: int) -> Floats:
    """float32 ``(m,)``: one over the length of each row's first ``dims``; 0 for a zero prefix."""
    prefix = rows[:, :dims]
    norms = np.sqrt(np.einsum("ij,ij->i", prefix, prefix))
    inverse: Floats = np.divide(1, norms, out=np.zeros_like(norms), where=norms > 0)
    return inverse


def _products(queries: Floats, rows: Floats) -> Floats:
    """``queries @ rows.T``, ``(Q, m)``; for a single query in pieces.

    A larger product wakes the threads of the BLAS library, which then spin for 20 ms and more in
    the way of what comes next: a warm query took 14.5 ms instead of 10.6.
    """
    if len(queries) > 1:
        return queries @ rows.T
    size = max(1, _ALONE // rows.shape[1])
    parts = [queries @ rows[start : start + size].T for start in range(0, len(rows), size)]
    return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)


class Best:
    """The k best rows so far for unit ``queries`` ``(Q, d)``; rows are offered block by block."""

    def __init__(self, queries: Floats, k: int) -> None:
        self.queries = queries
        self.k = k
        self.found = empty_candidates(len(queries), k)
        # Worst case of a float32 dot product of two unit vectors, for the row and for the k-th.
        self._margin = np.float32(4 * (queries.shape[1] + 8) * 2.0**-24)

    def offer(
        self, ids: Ints, rows: Floats, norms: Floats | None = None, keep: Bools | None = None
    ) -> None:
        """Consider ``rows`` float32 ``(m, D)`` named ``ids``, where ``keep`` is true.

        ``norms`` are their inverse norms over the first d columns, where they are known.
        """
        if self.k < 1 or not len(rows):
            return
        dims = self.queries.shape[1]
        rough = _products(self.queries, rows[:, :dims])
        rough *= inverse_norms(rows, dims) if norms is None else norms
        if keep is not None:
            rough[:, ~keep] = -np.inf
        query, column = np.nonzero(self._survivors(rough))
        if not len(query):
            return
        scores = cosines(self.queries, query, rows[column])
        known = self.found.ids >= 0
        self.found = rank(
            np.concatenate([np.nonzero(known)[0], query]),
            np.concatenate([self.found.ids[known], ids[column]]),
            np.concatenate([self.found.scores[known], scores]),
            len(self.queries),
            self.k,
        )

    def _survivors(self, rough: Floats) -> Bools:
        """Which of ``rough`` ``(Q, m)`` may be among the k best."""
        floor = np.maximum(self.found.scores[:, -1] - self._margin, _BELOW_ANY_COSINE)
        may: Bools = rough >= floor[:, None]
        many = np.nonzero(np.count_nonzero(may, axis=1) > 4 * self.k + 64)[0]
        if len(many):
            place = rough.shape[1] - self.k
            kth = np.partition(rough[many], place, axis=1)[:, place]
            may[many] &= rough[many] >= (kth - self._margin)[:, None]
        return may
