"""Reading an index: snapshots, and the documents behind passage ids."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from semsearch.collection.layout import EXACT_ROWS, Layout
from semsearch.collection.refuse import refuse_lost_catalog
from semsearch.collection.snapshot import Snapshot, take_snapshot
from semsearch.errors import SEE_CHECK, Corrupt, NotFound, StorageError
from semsearch.store import catalog, documents, passages
from semsearch.store.database import database_errors, open_reader
from semsearch.store.documents import StoredDocument
from semsearch.store.filters import Filter, documents_matching
from semsearch.store.passages import PassageRow
from semsearch.store.rows import is_utf8
from semsearch.types import Document

if TYPE_CHECKING:
    from semsearch.store.catalog import GenerationRow
    from semsearch.types import Ints


class StaleSnapshot(Exception):
    """Rows of this snapshot were purged meanwhile: take a new one and search again."""


class Reader:
    """An open index. Never locks, never writes; each snapshot is one whole generation."""

    def __init__(self, folder: str | Path) -> None:
        """Open the index in ``folder``. Raises NotFound, Mismatch (format), Corrupt."""
        self.layout = Layout(Path(folder))
        try:
            self.connection: sqlite3.Connection = open_reader(self.layout.catalog)
        except NotFound:
            refuse_lost_catalog(self.layout)
            raise
        self._snapshot: Snapshot | None = None
        self._turn = threading.RLock()

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the catalog."""
        self.connection.close()

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Read from ``connection``, one thread at a time.

        Statements of several threads that overlap would never let go of the catalog, and keep a
        writer waiting for as long as they go on. Raises StorageError, Corrupt.
        """
        with self._turn, database_errors(self.layout.catalog):
            yield

    def snapshot(self) -> Snapshot:
        """The newest generation; the same object as long as nothing is committed."""
        with self.reading():
            newest = catalog.generation(self.connection)
            if self._snapshot is None or self._snapshot.generation != newest:
                self._snapshot = take_snapshot(self.connection, self.layout)
            return self._snapshot

    def documents_of(self, vids: Iterable[int]) -> dict[int, StoredDocument]:
        """The document of each passage. Raises StaleSnapshot if one was purged, Corrupt."""
        return {vid: document for vid, (_, document) in self.passages_of(vids).items()}

    def passages_of(self, vids: Iterable[int]) -> dict[int, tuple[PassageRow, StoredDocument]]:
        """Each passage with its document. Raises StaleSnapshot if one was purged, Corrupt."""
        wanted = list(vids)
        with self.reading():
            found = passages.passages_of(self.connection, wanted)
            owners = {passage.doc_id for passage in found.values()}
            rows = documents.documents_of(self.connection, owners)
        # Rows may be purged between the two reads as well as before them.
        if len(found) < len(set(wanted)) or owners != set(rows):
            raise StaleSnapshot
        return {vid: (passage, rows[passage.doc_id]) for vid, passage in found.items()}

    def rows_of(self, vids: Iterable[int]) -> dict[int, int]:
        """The document row behind each passage. Raises StaleSnapshot if one was purged, Corrupt."""
        wanted = list(vids)
        with self.reading():
            found = passages.passages_of(self.connection, wanted)
        if len(found) < len(set(wanted)):
            raise StaleSnapshot
        return {vid: passage.doc_id for vid, passage in found.items()}

    def sources(self) -> list[str]:
        """The corpora that finished runs read to their end."""
        with self.reading():
            return catalog.sources(self.connection)

    def live_by_id(self, ids: Sequence[str]) -> dict[str, StoredDocument]:
        """The live documents with these ids."""
        with self.reading():
            return documents.live_by_id(self.connection, ids)

    def find(self, document_id: str) -> StoredDocument:
        """The live document with this id. Raises NotFound, Corrupt."""
        with self.reading():
            found = documents.live_by_id(self.connection, [document_id])
            if document_id not in found:
                if is_utf8(document_id):
                    documents.require_absent(self.connection, document_id)
                raise NotFound(f"{self.layout.folder}: no document {document_id!r}")
        return found[document_id]

    def documents(self) -> Iterator[Document]:
        """Every live document of this generation, in the order of insertion.

        No lock is held between two of them, however long the caller takes. Raises StorageError
        when the index was compacted meanwhile, so that some are gone, or swapped for another.
        """
        with self.reading():
            newest = catalog.generation(self.connection)
        after = read = 0
        while page := self._page(newest.gen, after):
            self._require_same_catalog(newest)
            for row in page:
                yield row.document
            after, read = page[-1].doc_id, read + len(page)
        self._require_same_catalog(newest)
        if read != newest.n_document:
            self._require_purged(newest)
            raise StorageError(
                f"{self.layout.folder}: the index was compacted meanwhile, and {read:,} of"
                f" {newest.n_document:,} documents were read: read them again"
            )

    def _require_purged(self, taken: GenerationRow) -> None:
        """Raise Corrupt where no commit removed any documents: they are lost."""
        with self.reading():
            horizon = int(catalog.get_meta(self.connection, catalog.HORIZON) or 0)
        if horizon <= taken.gen:
            raise Corrupt(f"{self.layout.catalog}: rows of table document are lost: {SEE_CHECK}")

    def _require_same_catalog(self, taken: GenerationRow) -> None:
        """Another model's catalog has its own rows: none of them belong to this listing."""
        with self.reading():
            swapped = int(catalog.get_meta(self.connection, catalog.SWAPPED) or 0)
        if swapped > taken.gen:
            raise StorageError(
                f"{self.layout.folder}: another model's index took its place meanwhile: read the"
                " documents again"
            )

    def _page(self, gen: int, after: int) -> list[StoredDocument]:
        with self.reading():
            return documents.page_of_documents(self.connection, gen, after)

    def require_current(self, snapshot: Snapshot, kind: str | None = None) -> None:
        """Raise StaleSnapshot when what the snapshot relies on is gone.

        That is rows purged since it was taken or, given a ``kind``, its derived file replaced.
        Other commits do not matter: they only add rows and stamp some as deleted.
        """
        with self.reading():
            horizon = int(catalog.get_meta(self.connection, catalog.HORIZON) or 0)
            caches = catalog.caches(self.connection) if kind else ()
        replaced = kind and next((c for c in caches if c.kind == kind), None) != snapshot.cache(
            kind
        )
        if horizon > snapshot.generation.gen or replaced:
            raise StaleSnapshot

    def vids_matching(self, conditions: Filter, limit: int = EXACT_ROWS) -> Ints | None:
        """The vids, ascending, of documents that match; dead ones may be among them.

        None when more than ``limit`` documents match.
        """
        with self.reading():
            found = documents_matching(self.connection, conditions, limit)
            if found is None:
                return None
            return passages.vids_of(self.connection, np.array(found, np.int64))
