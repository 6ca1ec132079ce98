"""The one writer of an index: each call of ``commit`` or ``delete`` is one generation.

Segment files are durable before the transaction that names them; that transaction is the only
commit point. After an error the writer is unusable: open a new one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from semsearch import fs
from semsearch.collection.changes import Change, Tally
from semsearch.collection.layout import FLUSH_ROWS, Layout
from semsearch.collection.snapshot import Snapshot, take_snapshot
from semsearch.errors import Corrupt, InputError, StorageError
from semsearch.store import catalog, documents, passages
from semsearch.store.catalog import EncoderRow, GenerationRow, SegmentRow
from semsearch.store.database import database_errors, open_writer, transaction
from semsearch.store.rows import row_crc
from semsearch.store.segments import SegmentFile, write_segment

if TYPE_CHECKING:
    import sqlite3

    from semsearch.types import Floats, Ints


class Writer:
    """Holds the lock and the open catalog; made by ``open_for_writing``."""

    def __init__(self, layout: Layout, connection: sqlite3.Connection) -> None:
        self.layout = layout
        self.connection = connection
        self._failed = False
        self.snapshot: Snapshot = take_snapshot(connection, layout)

    def refresh(self) -> Snapshot:
        """Read the newest generation again (after this writer changed it)."""
        with self._unless_failed():
            self.snapshot = take_snapshot(self.connection, self.layout)
        return self.snapshot

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """One commit; an error rolls it back and makes this writer unusable."""
        with self._unless_failed(), transaction(self.connection, self.layout.catalog):
            yield

    @property
    def usable(self) -> bool:
        """Whether nothing failed so far."""
        return not self._failed

    @contextmanager
    def _unless_failed(self) -> Iterator[None]:
        """A failed fsync must not be retried, and totals must not start from an old snapshot."""
        if self._failed:
            raise StorageError(
                f"{self.layout.folder}: an earlier write failed: open the index for writing again"
            )
        try:
            yield
        except BaseException:
            self._failed = True
            raise

    def adopt_encoder(self, encoder: EncoderRow, dims: int) -> None:
        """Record the encoder and the width of a new index. One commit."""
        with self.transaction():
            catalog.add_encoder(self.connection, encoder)
            catalog.set_meta(self.connection, "active_encoder", str(encoder.encoder_id))
            catalog.set_meta(self.connection, "dims", str(dims))
        self.refresh()

    def stored(self, vectors: Floats) -> NDArray[np.float16]:
        """Unit vectors float32 (n, dim) as they are stored: rotated, float16."""
        rotation = self.snapshot.rotation
        rotated = vectors if rotation is None else vectors @ rotation
        return rotated[:, : self.width].astype(np.float16)

    @property
    def width(self) -> int:
        """Stored components a vector: the index's dims once cutting is allowed, else all."""
        encoder = self._encoder()
        may_cut = encoder.is_matryoshka or self.snapshot.rotation_id is not None
        return self.snapshot.dims if may_cut else encoder.dim

    def vectors_of(self, vids: Ints) -> NDArray[np.float16]:
        """The stored vectors of live or dead passages, float16 (n, width)."""
        rows = self.snapshot.rows
        return rows.take(np.searchsorted(rows.ids, vids).astype(np.int64)).astype(np.float16)

    def commit(self, changes: Sequence[Change]) -> int:
        """Add or replace documents; returns the new generation. All of it is durable, or none.

        Raises ValueError for two changes of one document, StorageError, InputError, Corrupt.
        """
        if len({change.document.id for change in changes}) < len(changes):
            raise ValueError("one commit holds two changes of one document")
        first = catalog.next_id(self.connection, "passage")
        vectors = [p.vector for change in changes for p in change.passages]
        vids = np.arange(first, first + len(vectors), dtype=np.int64)
        matrix = np.array(vectors, np.float16).reshape(len(vectors), self.width)
        segment = self._flush_file(vids, matrix)
        with self.generation() as tally:
            old = documents.live_row_ids(self.connection, [c.document.id for c in changes])
            tally.remove(self.connection, list(old.values()))
            self._insert(changes, first, tally)
            if segment is None:
                self._insert_recent(vids, matrix)
            else:
                self.add_segment(segment, tally.gen, self.snapshot.rotation_id)
                self.forget_recent()
        self.refresh()
        return tally.gen

    def delete(self, ids: Sequence[str]) -> list[str]:
        """Delete documents by id; returns the ids that were there. One commit."""
        old = documents.live_row_ids(self.connection, ids)
        if old:
            with self.generation() as tally:
                tally.remove(self.connection, list(old.values()))
            self.refresh()
        return sorted(old)

    def record_source(self, uri: str) -> None:
        """Note that a run read this source to its end. One commit."""
        with self.transaction():
            catalog.put_source(self.connection, uri, None, self.snapshot.generation.gen)

    def shrink(self) -> None:
        """Give the space of purged rows back to the disk, and leave nothing of them behind."""
        with self._unless_failed(), database_errors(self.layout.catalog):
            self.connection.execute("VACUUM")

    @contextmanager
    def generation(self) -> Iterator[Tally]:
        """One commit that readers notice; what happens inside keeps the tally right."""
        before = self.snapshot.generation
        tally = Tally(before.gen + 1, before.n_document, before.n_passage, before.sum_crc)
        with self.transaction():
            yield tally
            count = len(catalog.segments(self.connection))
            row = GenerationRow(tally.gen, tally.documents, tally.passages, tally.crc, count)
            catalog.add_generation(self.connection, row)

    def _flush_file(self, vids: Ints, matrix: NDArray[np.float16]) -> SegmentFile | None:
        recent = self.snapshot.rows.recent
        if not len(vids) or len(recent[0]) + len(vids) < FLUSH_ROWS:
            return None
        everything = np.concatenate([recent[0], vids])
        blocks = [recent[1], matrix] if len(recent[0]) else [matrix]
        return self.write_file(everything, blocks, self.width)

    def write_file(
        self, vids: Ints, blocks: Iterable[NDArray[np.float16]], width: int
    ) -> SegmentFile:
        """Write a segment file of this index; nothing refers to it until a commit does."""
        fingerprint = self._encoder().fingerprint
        with self._unless_failed():
            return write_segment(self.layout.segments, vids, blocks, width, fingerprint)

    def add_segment(self, file: SegmentFile, gen: int, rotation_id: int | None) -> None:
        """Record a segment file in the catalog (inside the transaction)."""
        row = SegmentRow(
            catalog.next_id(self.connection, "segment"), file.name, file.sha256, file.n,
            file.first_vid, file.last_vid, self._encoder().encoder_id, rotation_id,
            None, None, gen,
        )  # fmt: skip
        catalog.add_segment(self.connection, row)

    def forget_recent(self) -> None:
        """Empty the table of recent vectors, which a segment holds now (inside the transaction)."""
        encoder_id = self._encoder().encoder_id
        self.connection.execute("DELETE FROM l0 WHERE encoder_id = ?", (encoder_id,))

    def _insert(self, changes: Sequence[Change], first_vid: int, tally: Tally) -> None:
        encoder_id = self._encoder().encoder_id
        doc_id, vid = catalog.next_id(self.connection, "document"), first_vid
        rows = []
        for change in changes:
            tally.crc += documents.insert_document(
                self.connection, doc_id, change.document, tally.gen
            )
            for number, p in enumerate(change.passages):
                rows.append(
                    passages.PassageRow(
                        vid,
                        doc_id,
                        number,
                        p.start,
                        p.end,
                        p.text_hash,
                        encoder_id,
                        p.tokens,
                        p.unknown,
                        int(p.truncated),
                    )  # fmt: skip
                )
                vid += 1
            doc_id += 1
        tally.crc += passages.insert_passages(self.connection, rows)
        tally.documents += len(changes)
        tally.passages += len(rows)

    def _insert_recent(self, vids: Ints, matrix: NDArray[np.float16]) -> None:
        encoder_id, rotation_id = self._encoder().encoder_id, self.snapshot.rotation_id
        for vid, vector in zip(vids.tolist(), matrix, strict=True):
            values = (vid, encoder_id, rotation_id, vector.astype("<f2").tobytes(), None)
            self.connection.execute(
                "INSERT INTO l0 VALUES (?,?,?,?,?,?)", (*values, row_crc(values))
            )

    def _encoder(self) -> EncoderRow:
        if self.snapshot.encoder is None:
            raise RuntimeError("adopt_encoder comes first")
        return self.snapshot.encoder


@contextmanager
def open_for_writing(layout: Layout) -> Iterator[Writer]:
    """Take the lock, open or create the catalog, remove what no commit names.

    Raises Locked, StorageError, Mismatch (format), Corrupt.
    """
    _refuse_foreign_folder(layout)
    with fs.exclusive_lock(layout.lock):
        _refuse_lost_catalog(layout)
        database = open_writer(layout.catalog)
        try:
            with database_errors(layout.catalog):
                writer = Writer(layout, database.conn)
                collect_garbage(writer)
                yield writer
        finally:
            database.close()


def _refuse_foreign_folder(layout: Layout) -> None:
    """A new index goes into a new or empty folder, not among somebody's files."""
    folder = layout.folder
    if layout.lock.exists() or layout.catalog.exists() or not folder.is_dir():
        return
    if any(path.name not in ("seg", "ann", "lex") for path in folder.iterdir()):
        raise InputError("not empty and not an index: name a new folder with -i", folder)


def _refuse_lost_catalog(layout: Layout) -> None:
    """Vectors whose catalog is gone are not garbage: a copy of it makes them useful again."""
    if layout.catalog.is_file() and layout.catalog.stat().st_size:
        return
    if any(layout.segments.glob("s-*.vec")):
        raise Corrupt(
            f"{layout.catalog}: the catalog is missing, but its vectors are there: restore a"
            f" backup of it, or delete {layout.folder} and index again"
        )


def collect_garbage(writer: Writer) -> None:
    """Remove files that the newest generation does not name."""
    named = {row.name for row in catalog.segments(writer.connection)}
    for row in writer.snapshot.caches:
        named.add(row.name)
    for folder in (writer.layout.segments, writer.layout.ann):
        if folder.is_dir():
            for path in sorted(folder.iterdir()):
                if path.name not in named and not path.is_dir():
                    fs.remove(path)
