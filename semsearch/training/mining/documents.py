"""The documents that a few queries have to do with: how copies are told, and exact cosines."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from semsearch.collection.reader import StaleSnapshot
from semsearch.evaluation.copies import hash_of
from semsearch.search.searcher import Searcher
from semsearch.store import passages
from semsearch.store.database import database_errors
from semsearch.store.rows import batches
from semsearch.types import Document

if TYPE_CHECKING:
    from semsearch.types import Floats, Ints


class Scored(NamedTuple):
    """A document with the cosine of its best passage, and its rank without the positives.

    The rank is None for what stands below the last one looked at.
    """

    id: str
    score: float
    vid: int
    rank: int | None = None


class _Facts(NamedTuple):
    row: int
    texts: frozenset[bytes]


class Documents:
    """Live documents by id; of what was read only the row and hashes of its texts are kept."""

    def __init__(self, searcher: Searcher) -> None:
        self._searcher = searcher
        self._reader = searcher.reader
        self._facts: dict[str, _Facts] = {}
        self._vids: dict[int, Ints] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._facts

    def read(self, names: Iterable[str]) -> None:
        """Read those of these documents that are live and not known yet. Raises Corrupt."""
        wanted = [name for name in dict.fromkeys(names) if name not in self._facts]
        for batch in batches(wanted):
            for name, stored in self._reader.live_by_id(batch).items():
                self._facts[name] = _Facts(stored.doc_id, _texts(stored.document))

    def texts(self, name: str) -> frozenset[bytes]:
        """Hashes of a document's texts; those of one that is not there are none."""
        return self._facts[name].texts if name in self._facts else frozenset()

    def find_passages(self, names: Iterable[str]) -> None:
        """Look up the passages of documents that are to be scored.

        Raises StaleSnapshot for one that the generation which was searched does not have, Corrupt.
        """
        rows = np.array(sorted({self._facts[name].row for name in names}), np.int64)
        with database_errors(self._reader.layout.catalog):
            vids = passages.vids_of(self._reader.connection, rows)
        if len(self._searcher.snapshot.ordinals(vids)) < len(vids):
            raise StaleSnapshot
        found: dict[int, list[int]] = {}
        for vid, row in self._reader.rows_of(vids.tolist()).items():
            found.setdefault(row, []).append(vid)
        self._vids = {row: np.array(sorted(own), np.int64) for row, own in found.items()}

    def scored(self, vector: Floats, names: Sequence[str]) -> list[Scored]:
        """Each document by its best passage for a query float32 (1, dim), as it was encoded."""
        if not names:
            return []
        source = self._searcher.source
        rotation, dims = source.snapshot.rotation, source.snapshot.dims
        rotated = (vector if rotation is None else vector @ rotation)[:, :dims]
        own = [self._vids[self._facts[name].row] for name in names]
        vids = np.concatenate(own)
        scores = source.cosines(rotated, vids[None, :])[0]
        found, start = [], 0
        for name, part in zip(names, own, strict=True):
            best = start + int(np.argmax(scores[start : start + len(part)]))
            found.append(Scored(name, float(scores[best]), int(vids[best])))
            start += len(part)
        return found


def _texts(document: Document) -> frozenset[bytes]:
    """Hashes by which copies are told: of title and text together, and of the text alone."""
    alone = [document.text] if document.text.strip() else []
    return frozenset(hash_of(text) for text in (document.content, *alone))
