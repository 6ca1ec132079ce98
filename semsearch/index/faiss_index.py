"""Approximate search: FAISS proposes candidates, they are rescored exactly from the rows.

Every score returned is the exact cosine; what is approximate is only which rows were looked at.
Where a filter or a large ``k`` leaves FAISS little to save, the exact index answers instead.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from semsearch.errors import Corrupt
from semsearch.index.contract import Rows
from semsearch.index.exact import ExactIndex
from semsearch.index.library import Quantised
from semsearch.index.scoring import Best, checked
from semsearch.types import Candidates
from semsearch.vectors import cut, empty_candidates

if TYPE_CHECKING:
    from semsearch.types import Bools, Floats, Ints

EXACT_ROWS = 50_000
"""Up to this many rows that a filter keeps, if a quarter of all at most, are compared one by one:
that is as fast as to propose many, and exact."""

_BATCH_CELLS = 1_000_000
_WORTHWHILE = 4  # proposing a larger part of the rows than 1 in 4 saves nothing over a scan

_SPARE = 1.25  # a filter seldom keeps exactly its share of the nearest rows


@dataclass(frozen=True, slots=True)
class IndexParams:
    """How an index was built and how it must be searched; recorded beside its file.

    ``kind`` is ``exact`` or a FAISS factory string; ``dims`` the width that FAISS holds;
    ``candidates`` are rescored for k = 10; ``nprobe`` is 0 for a kind without inverted lists;
    ``recall`` is recall@10 against exact search, measured after building on ``n`` rows.
    """

    kind: str
    dims: int
    candidates: int
    nprobe: int
    recall: float
    n: int
    built_with: str

    def to_json(self) -> dict[str, Any]:
        """A plain object for JSON."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> IndexParams:
        """The reverse of ``to_json``. Raises Corrupt for missing, unknown or wrong fields."""
        types: dict[str, type] = {"str": str, "int": int, "float": float}
        wanted = {field.name: types[str(field.type)] for field in fields(cls)}
        if {name: type(value) for name, value in values.items()} != wanted:
            raise Corrupt(f"the record of a vector index has the wrong fields: {dict(values)}")
        return cls(**values)


class FaissIndex:
    """A FAISS index over ``rows``, of which its vectors are the first ``dims`` columns.

    See VectorIndex for the rules. ``exact_rows``: a filter that keeps no more, and few of all, is
    scanned exactly. Raises Corrupt where FAISS holds another number of rows or columns.
    """

    def __init__(
        self,
        rows: Rows,
        quantised: Quantised,
        params: IndexParams,
        *,
        exact_rows: int = EXACT_ROWS,
    ) -> None:
        shape = (len(quantised), quantised.dims)
        if shape != (len(rows), params.dims) or params.dims > rows.dim:
            raise Corrupt(
                f"the FAISS index holds {shape[0]} x {shape[1]} vectors, not {len(rows)} x"
                f" {params.dims}; it will be built again"
            )
        quantised.set_probes(params.nprobe)
        self.rows = rows
        self.params = params
        self._quantised = quantised
        self._exact = ExactIndex(rows)
        self._exact_rows = exact_rows

    @classmethod
    def load(
        cls, rows: Rows, source: Path | NDArray[np.uint8] | bytes | memoryview, params: IndexParams
    ) -> FaissIndex:
        """Opened from a file (memory-mapped: keep it) or from bytes, verified by the caller."""
        if isinstance(source, Path):
            return cls(rows, Quantised.from_file(source), params)
        return cls(rows, Quantised.from_bytes(source), params)

    def to_bytes(self) -> NDArray[np.uint8]:
        """What ``load`` reads, uint8 ``(bytes,)``; its rows and params are kept elsewhere."""
        return self._quantised.to_bytes()

    @property
    def kind(self) -> str:
        """The FAISS factory string."""
        return self.params.kind

    def search(self, queries: ArrayLike, k: int, allowed: Bools | None = None) -> Candidates:
        """The k best rows for each query, as VectorIndex says."""
        unit_queries, mask = checked(self.rows, queries, k, allowed)
        count = len(self.rows) if mask is None else int(np.count_nonzero(mask))
        few = min(self._exact_rows, len(self.rows) // _WORTHWHILE)
        if k == 0 or (mask is not None and count <= few):
            return self._exact.search(unit_queries, k, mask)
        result = empty_candidates(len(unit_queries), k)
        wanted = candidates_for(k, self.params.candidates)
        # With a filter, as many allowed candidates as without one: estimates are noisy, the first
        # k allowed ones need not be near the best.
        enough = min(k, count) if mask is None else min(count, wanted)
        fetch = wanted if mask is None else math.ceil(_SPARE * wanted * len(self.rows) / count)
        pending = np.arange(len(unit_queries))
        while len(pending) and fetch * _WORTHWHILE <= len(self.rows):
            pending = self._answer(unit_queries, pending, fetch, enough, mask, result)
            fetch *= 2
        if len(pending):
            exact = self._exact.search(unit_queries[pending], k, mask)
            result.ids[pending], result.scores[pending] = exact.ids, exact.scores
        return result

    def _answer(
        self,
        queries: Floats,
        pending: Ints,
        fetch: int,
        enough: int,
        mask: Bools | None,
        result: Candidates,
    ) -> Ints:
        """Fill ``result`` for the queries that get enough proposals; return the others."""
        left: list[int] = []
        batch = max(1, _BATCH_CELLS // fetch)
        for start in range(0, len(pending), batch):
            some = pending[start : start + batch]
            proposals = self._quantised.propose(project(queries[some], self.params.dims), fetch)
            for query, proposed in zip(some.tolist(), proposals, strict=True):
                ordinals = np.sort(proposed[proposed >= 0])  # in file order
                if mask is not None:
                    ordinals = ordinals[mask[ordinals]]
                if len(ordinals) < enough:
                    left.append(query)
                    continue
                best = Best(queries[query : query + 1], result.ids.shape[1])
                best.offer(self.rows.ids[ordinals], self.rows.take(ordinals))
                result.ids[query], result.scores[query] = best.found.ids[0], best.found.scores[0]
        return np.array(left, dtype=np.int64)


def project(queries: Floats, dims: int) -> Floats:
    """Queries ``(Q, d)`` at the width of FAISS: cut, or filled with zeros (a prefix cosine)."""
    if queries.shape[1] >= dims:
        return cut(queries, dims)
    wide = np.zeros((len(queries), dims), dtype=np.float32)
    wide[:, : queries.shape[1]] = queries
    return wide


def candidates_for(k: int, candidates: int) -> int:
    """How many rows to rescore for the ``k`` best, where ``candidates`` serve for k = 10."""
    return max(candidates, round(candidates * math.sqrt(k / 10)), 4 * k)
