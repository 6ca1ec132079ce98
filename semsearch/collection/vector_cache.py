"""The derived FAISS file of an index, as readers verify and open it (vector_build makes it).

It covers the first rows of the index, up to a vid: vids ascend and are never reused, and a row
never changes, so the count and the last vid say exactly which rows those are. Rows it does not
cover are scanned exactly.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from semsearch import fs
from semsearch.collection.rows import SlicedRows
from semsearch.collection.snapshot import Snapshot
from semsearch.errors import Corrupt, MissingExtra
from semsearch.index.contract import Rows, VectorIndex
from semsearch.index.exact import ExactIndex
from semsearch.store import catalog
from semsearch.store.shapes import covers_fit
from semsearch.types import Candidates
from semsearch.vectors import merge_top_k

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from semsearch.types import Bools

KIND = "faiss"
ENOUGH_RECALL = 0.95
"""A width at which the cache finds less than this of the ten nearest is scanned exactly, unless
less was asked for."""

log = logging.getLogger("semsearch")
_FILE_NAME = re.compile(r"a-[0-9a-f]{24}\.faiss")


class CoveredIndex:
    """FAISS over the rows it covers, exact over the rest, behind one contract.

    ``recalls`` maps widths to the recall@10 that was measured when the cache was built; where it
    is below ``enough`` every row is compared instead.
    """

    def __init__(
        self,
        covered: VectorIndex,
        rest: Rows,
        whole: ExactIndex,
        recalls: dict[int, float],
        enough: float = ENOUGH_RECALL,
    ) -> None:
        self._covered = covered
        self._rest = ExactIndex(rest)
        self._split = len(whole.rows) - len(rest)
        self._whole = whole
        self._enough = enough
        self.recalls = recalls

    @property
    def kind(self) -> str:
        """The FAISS factory string."""
        return self._covered.kind

    def search(self, queries: ArrayLike, k: int, allowed: Bools | None = None) -> Candidates:
        """The k best rows for each query, float32 (Q, d) in; see VectorIndex."""
        matrix = np.asarray(queries, np.float32)
        if not self.serves(matrix.shape[1]):
            return self._whole.search(matrix, k, allowed)
        if self._split == len(self._whole.rows):
            return self._covered.search(matrix, k, allowed)
        first = None if allowed is None else allowed[: self._split]
        last = None if allowed is None else allowed[self._split :]
        found = self._covered.search(matrix, k, first)
        return merge_top_k(found, self._rest.search(matrix, k, last), k)

    def serves(self, dims: int) -> bool:
        """Whether FAISS proposes at this width; else every row is compared."""
        return self.recall_at(dims) >= self._enough

    def recall_at(self, dims: int) -> float:
        """The lower recall of the two measured widths around ``dims``; 0 below all of them."""
        below = [recall for width, recall in sorted(self.recalls.items()) if width <= dims]
        above = [recall for width, recall in sorted(self.recalls.items()) if width >= dims]
        return min(below[-1], *above[:1]) if below else 0.0


def open_vectors(
    snapshot: Snapshot, require_current: Callable[[Snapshot, str], None] | None = None
) -> VectorIndex:
    """The vector index of a snapshot: FAISS where its file is there and sound, else exact.

    ``require_current`` is asked before a bad file is reported: a newer generation may have
    replaced it.
    """
    exact = ExactIndex(snapshot.rows)
    row = valid_cache(snapshot)
    if row is None:
        return exact
    try:
        return _open(snapshot, row, exact)
    except (MissingExtra, Corrupt, OSError) as exc:
        if require_current is not None:
            require_current(snapshot, KIND)
        log.warning("%s; every vector is scanned instead: `semsearch compact` rebuilds it", exc)
        return exact


def _open(snapshot: Snapshot, row: catalog.CacheRow, exact: ExactIndex) -> CoveredIndex:
    from semsearch.index.faiss_index import FaissIndex, IndexParams

    if not _FILE_NAME.fullmatch(row.name):
        raise Corrupt(f"{snapshot.layout.catalog}: {row.name!r} is no name of a FAISS file")
    path = snapshot.layout.ann / row.name
    if fs.sha256_of(path) != json.loads(row.files).get(row.name):
        raise Corrupt(f"{path}: the FAISS file is damaged")
    params: dict[str, Any] = json.loads(row.params)
    n = json.loads(row.covers)["n"]
    covered = FaissIndex.load(
        SlicedRows(snapshot.rows, 0, n), path, IndexParams.from_json(params["index"])
    )
    rest = SlicedRows(snapshot.rows, n, len(snapshot.rows))
    recalls = {int(dims): recall for dims, recall in sorted(params["recalls"])}
    enough = min(ENOUGH_RECALL, params.get("target", ENOUGH_RECALL))
    return CoveredIndex(covered, rest, exact, recalls, enough)


def covers(snapshot: Snapshot) -> dict[str, Any]:
    """What a cache built from a snapshot holds, for the record."""
    return {
        "n": len(snapshot.rows),
        "last_vid": snapshot.last_vid,
        "rotation_id": snapshot.rotation_id,
        "dim": snapshot.rows.dim,
        "encoder_id": snapshot.encoder.encoder_id if snapshot.encoder else None,
    }


def valid_cache(snapshot: Snapshot) -> catalog.CacheRow | None:
    """The cache on record, if it covers exactly the first rows of this snapshot."""
    row = snapshot.cache(KIND)
    if row is None:
        return None
    recorded = json.loads(row.covers)
    if not covers_fit(recorded, json.loads(row.params)):
        return None
    n = recorded["n"]
    now = covers(snapshot) | {"n": n, "last_vid": recorded["last_vid"]}
    if recorded != now or n > len(snapshot.rows):
        return None
    return row if int(snapshot.rows.ids[n - 1]) == recorded["last_vid"] else None
