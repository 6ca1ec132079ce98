"""Exact search: every row is compared. The oracle of the others, and the default up to 10k rows.

Stored blocks are widened to float32 one after the other, so memory stays bounded whatever the
number of rows; a filter that keeps few rows fetches just those.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from semsearch.index.contract import Rows
from semsearch.index.scoring import Best, checked, inverse_norms
from semsearch.types import Candidates
from semsearch.vectors import empty_candidates, widen

if TYPE_CHECKING:
    from semsearch.types import Bools, Floats

_QUERIES = 512
_FEW_QUERIES = 8
_BLOCK_FEW = 1024  # stays in a core's own cache
_BLOCK_MANY = 2048  # with 512 queries a few megabytes, and as fast as larger ones
_SPARSE = 3  # a row fetched alone costs about this many rows of a scan


class ExactIndex:
    """Compares each query with every (allowed) row; see VectorIndex for the rules.

    It keeps 4 bytes a row for each number of dimensions asked for: the lengths of the prefixes.
    """

    def __init__(self, rows: Rows) -> None:
        self.rows = rows
        self._norms: dict[int, Floats] = {}

    @property
    def kind(self) -> str:
        """``exact``."""
        return "exact"

    def search(self, queries: ArrayLike, k: int, allowed: Bools | None = None) -> Candidates:
        """The k best rows for each query, as VectorIndex says."""
        unit_queries, mask = checked(self.rows, queries, k, allowed)
        result = empty_candidates(len(unit_queries), k)
        for start in range(0, len(unit_queries), _QUERIES):
            best = Best(unit_queries[start : start + _QUERIES], min(k, len(self.rows)))
            if mask is not None and np.count_nonzero(mask) * _SPARSE <= len(mask):
                self._fetch(best, mask)
            else:
                self._scan(best, mask)
            stop = start + len(best.queries)
            result.ids[start:stop, : best.k] = best.found.ids
            result.scores[start:stop, : best.k] = best.found.scores
        return result

    def _fetch(self, best: Best, mask: Bools) -> None:
        ordinals = np.flatnonzero(mask)
        size = _block_size(best)
        for start in range(0, len(ordinals), size):
            some = ordinals[start : start + size]
            best.offer(self.rows.ids[some], self.rows.take(some))

    def _scan(self, best: Best, mask: Bools | None) -> None:
        n, dims, size = len(self.rows), best.queries.shape[1], _block_size(best)
        known = self._norms.get(dims)
        norms = np.empty(n, dtype=np.float32) if known is None else known
        buffer = np.empty((min(size, n), dims), dtype=np.float32)
        complete = True
        for start in range(0, n, size):
            stop = min(start + size, n)
            keep = None if mask is None else mask[start:stop]
            if keep is not None and not keep.any():
                complete = False
                continue
            rows = widen(self.rows.block(start, stop)[:, :dims], buffer[: stop - start])
            if known is None:
                norms[start:stop] = inverse_norms(rows, dims)
            best.offer(self.rows.ids[start:stop], rows, norms[start:stop], keep)
        if complete:  # published only as a whole: other threads may be searching
            self._norms[dims] = norms


def _block_size(best: Best) -> int:
    return _BLOCK_FEW if len(best.queries) <= _FEW_QUERIES else _BLOCK_MANY
