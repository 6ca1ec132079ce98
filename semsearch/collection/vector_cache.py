"""The derived FAISS file of an index: built by the writer, verified and opened by readers.

It covers the first rows of the index, up to a vid: vids ascend and are never reused, and a row
never changes, so the count and the last vid say exactly which rows those are. Rows it does not
cover are scanned exactly.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from semsearch import fs
from semsearch.collection.layout import EXACT_ROWS, UNCOVERED_ROWS, UNCOVERED_SHARE
from semsearch.collection.rows import SlicedRows
from semsearch.collection.snapshot import Snapshot
from semsearch.errors import Corrupt, MissingExtra, UsageError
from semsearch.index.contract import Rows, VectorIndex
from semsearch.index.exact import ExactIndex
from semsearch.store import catalog
from semsearch.store.rows import canonical_json
from semsearch.types import Candidates
from semsearch.vectors import merge_top_k

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from semsearch.collection.writer import Writer
    from semsearch.types import Bools

KIND = "faiss"
AUTO, EXACT = "auto", "exact"
MEASURED_DIMS = (256, 128, 64)
ENOUGH_RECALL = 0.95
"""A width at which the cache finds less than this of the ten nearest is scanned exactly."""

log = logging.getLogger("semsearch")
_FILE_NAME = re.compile(r"a-[0-9a-f]{24}\.faiss")


class CoveredIndex:
    """FAISS over the rows it covers, exact over the rest, behind one contract.

    ``recalls`` maps widths to the recall@10 that was measured when the cache was built.
    """

    def __init__(
        self, covered: VectorIndex, rest: Rows, whole: ExactIndex, recalls: dict[int, float]
    ) -> None:
        self._covered = covered
        self._rest = ExactIndex(rest)
        self._split = len(whole.rows) - len(rest)
        self._whole = whole
        self.recalls = recalls

    @property
    def kind(self) -> str:
        """The FAISS factory string."""
        return self._covered.kind

    def search(self, queries: ArrayLike, k: int, allowed: Bools | None = None) -> Candidates:
        """The k best rows for each query, float32 (Q, d) in; see VectorIndex."""
        matrix = np.asarray(queries, np.float32)
        if self.recall_at(matrix.shape[1]) < ENOUGH_RECALL:
            return self._whole.search(matrix, k, allowed)
        first = None if allowed is None else allowed[: self._split]
        last = None if allowed is None else allowed[self._split :]
        found = self._covered.search(matrix, k, first)
        return merge_top_k(found, self._rest.search(matrix, k, last), k)

    def recall_at(self, dims: int) -> float:
        """The lower recall of the two measured widths around ``dims``; 0 below all of them."""
        below = [recall for width, recall in sorted(self.recalls.items()) if width <= dims]
        above = [recall for width, recall in sorted(self.recalls.items()) if width >= dims]
        return min(below[-1], *above[:1]) if below else 0.0


def choose_kind(writer: Writer, kind: str) -> None:
    """From now on serve ``auto`` (by size), ``exact``, or any ``faiss.index_factory`` string.

    Raises UsageError for a kind that FAISS does not have or cannot build from these vectors, and
    MissingExtra without FAISS; the index then stays as it was.
    """
    if kind not in (AUTO, EXACT):
        from semsearch.index.library import Quantised

        Quantised.create(kind, writer.width)
        if len(writer.snapshot.rows):
            _build(writer, writer.snapshot, kind)
    with writer.generation():
        catalog.set_meta(writer.connection, "vector_index", kind)
    writer.refresh()


def build_vector_cache(writer: Writer, *, force: bool = False) -> None:
    """Build the FAISS file when the index is large and too much is not in it. One commit.

    A kind that was chosen (``choose_kind``) is built whatever the size.
    """
    snapshot = writer.snapshot
    rows = len(snapshot.rows)
    row = _valid(snapshot)
    kind = catalog.get_meta(writer.connection, "vector_index") or AUTO
    if kind == EXACT or not rows or (kind == AUTO and rows <= EXACT_ROWS):
        if snapshot.cache(KIND) is not None:
            _forget(writer)
        return
    uncovered = rows - (json.loads(row.covers)["n"] if row else 0)
    if not force and row and uncovered <= max(UNCOVERED_ROWS, UNCOVERED_SHARE * rows):
        return
    try:
        _build(writer, snapshot, kind)
    except (MissingExtra, UsageError) as exc:
        log.warning("%s; until then every vector is scanned", exc)


def _build(writer: Writer, snapshot: Snapshot, kind: str) -> None:
    from semsearch.collection.writer import collect_garbage
    from semsearch.index.build import build
    from semsearch.index.faiss_index import FaissIndex
    from semsearch.index.recall import measure_recall

    built = build(snapshot.rows, kind=kind)
    if not isinstance(built.index, FaissIndex):
        return
    recalls = {snapshot.rows.dim: built.params.recall}
    for dims in MEASURED_DIMS:
        if dims < snapshot.rows.dim:
            recalls[dims] = measure_recall(built.index, snapshot.rows, dims=dims)
    raw = memoryview(built.index.to_bytes().data)
    digest = hashlib.sha256(raw).hexdigest()
    name = f"a-{digest[:24]}.faiss"
    with fs.NewFile(writer.layout.ann) as new:
        new.write(raw)
        new.publish(name)
    row = catalog.CacheRow(
        name,
        KIND,
        canonical_json({name: digest}),
        canonical_json(_covers(snapshot)),
        canonical_json({"index": built.params.to_json(), "recalls": sorted(recalls.items())}),
        snapshot.generation.gen,
    )
    with writer.generation():
        catalog.put_cache(writer.connection, row)
    writer.refresh()
    collect_garbage(writer)


def _forget(writer: Writer) -> None:
    from semsearch.collection.writer import collect_garbage

    with writer.generation():
        catalog.drop_cache(writer.connection, KIND)
    writer.refresh()
    collect_garbage(writer)


def open_vectors(
    snapshot: Snapshot, require_current: Callable[[Snapshot, str], None] | None = None
) -> VectorIndex:
    """The vector index of a snapshot: FAISS where its file is there and sound, else exact.

    ``require_current`` is asked before a bad file is reported: a newer generation may have
    replaced it.
    """
    exact = ExactIndex(snapshot.rows)
    row = _valid(snapshot)
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
    if fs.sha256_of(path) != json.loads(row.files)[row.name]:
        raise Corrupt(f"{path}: the FAISS file is damaged")
    params: dict[str, Any] = json.loads(row.params)
    n = json.loads(row.covers)["n"]
    covered = FaissIndex.load(
        SlicedRows(snapshot.rows, 0, n), path, IndexParams.from_json(params["index"])
    )
    rest = SlicedRows(snapshot.rows, n, len(snapshot.rows))
    return CoveredIndex(covered, rest, exact, {int(d): r for d, r in sorted(params["recalls"])})


def _covers(snapshot: Snapshot) -> dict[str, Any]:
    return {
        "n": len(snapshot.rows),
        "last_vid": snapshot.last_vid,
        "rotation_id": snapshot.rotation_id,
        "dim": snapshot.rows.dim,
        "encoder_id": snapshot.encoder.encoder_id if snapshot.encoder else None,
    }


def _valid(snapshot: Snapshot) -> catalog.CacheRow | None:
    """The cache on record, if it covers exactly the first rows of this snapshot."""
    row = snapshot.cache(KIND)
    if row is None:
        return None
    covers = json.loads(row.covers)
    n = covers["n"]
    now = _covers(snapshot) | {"n": n, "last_vid": covers["last_vid"]}
    if covers != now or n > len(snapshot.rows):
        return None
    return row if int(snapshot.rows.ids[n - 1]) == covers["last_vid"] else None
