"""The one writer of an index: each call of ``commit`` or ``delete`` is one generation.

Segment files are durable before the transaction that names them; that transaction is the only
commit point. After an error the writer is unusable: open a new one.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from semsearch import fs
from semsearch.collection.beside import settle
from semsearch.collection.changes import Change, Tally, insert_changes
from semsearch.collection.layout import FLUSH_ROWS, Layout
from semsearch.collection.refuse import refuse_foreign_folder, refuse_links, refuse_lost_catalog
from semsearch.collection.snapshot import Snapshot, take_snapshot
from semsearch.collection.tokens import codes_of_each, in_parts
from semsearch.errors import StorageError
from semsearch.store import catalog, documents
from semsearch.store.catalog import EncoderRow, GenerationRow, SegmentRow
from semsearch.store.database import (
    database_errors,
    open_writer,
    replace_database,
    transaction,
)
from semsearch.store.recent_tokens import packed
from semsearch.store.rows import row_crc
from semsearch.store.segments import SegmentFile, write_segment
from semsearch.store.token_files import WrittenTokens, in_one, write_tokens

if TYPE_CHECKING:
    import sqlite3

    from semsearch.maxsim import Codes
    from semsearch.types import Floats, Ints


class Writer:
    """Holds the lock and the open catalog; made by ``open_for_writing``."""

    def __init__(self, layout: Layout, connection: sqlite3.Connection) -> None:
        self.layout = layout
        self.connection = connection
        self._failed = False
        self._process = os.getpid()
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
        if self._process != os.getpid():
            raise StorageError(
                f"{self.layout.folder}: process {self._process} opened it for writing, and this is"
                " a fork of that: open the index here"
            )
        try:
            yield
        except BaseException:
            self._failed = True
            raise

    def adopt_encoder(self, encoder: EncoderRow, dims: int, token_width: int = 0) -> None:
        """Record the encoder of a new index and the widths that it keeps. One commit.

        ``dims`` are the vectors', ``token_width`` is that of the tokens whose codes it keeps.
        """
        with self.transaction():
            catalog.add_encoder(self.connection, encoder)
            catalog.set_meta(self.connection, "active_encoder", str(encoder.encoder_id))
            catalog.set_meta(self.connection, "dims", str(dims))
            if token_width:
                catalog.set_meta(self.connection, catalog.CODED_WIDTH, str(token_width))
        self.refresh()

    def keep_tokens(self, width: int) -> None:
        """From now on keep the codes of tokens so wide, or none if it is 0. One commit."""
        with self.transaction() if self.snapshot.encoder is None else self.generation():
            catalog.set_meta(self.connection, catalog.CODED_WIDTH, str(width))
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

    def codes_of(self, vids: Ints) -> list[NDArray[np.uint8] | None]:
        """The stored codes of passages, live or dead, uint8 (c, width); None for one without."""
        ordinals = np.searchsorted(self.snapshot.rows.ids, vids).astype(np.int64)
        return codes_of_each(self.snapshot.tokens, ordinals)

    def commit(self, changes: Sequence[Change]) -> int:
        """Add or replace documents; returns the new generation. All of it is durable, or none.

        Raises ValueError for two changes of one document, StorageError, InputError, Corrupt.
        """
        if len({change.document.id for change in changes}) < len(changes):
            raise ValueError("one commit holds two changes of one document")
        first = catalog.next_id(self.connection, "passage")
        added = [passage for change in changes for passage in change.passages]
        vids = np.arange(first, first + len(added), dtype=np.int64)
        matrix = np.array([p.vector for p in added], np.float16).reshape(len(added), self.width)
        codes = [passage.codes for passage in added]
        files = self._flush_files(vids, matrix, codes)
        with self.generation() as tally:
            old = documents.live_row_ids(self.connection, [c.document.id for c in changes])
            tally.remove(self.connection, list(old.values()))
            insert_changes(self.connection, changes, first, self._encoder().encoder_id, tally)
            if files is None:
                self._insert_recent(vids, matrix, codes)
            else:
                self.add_segment(files[0], tally.gen, self.snapshot.rotation_id, files[1])
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

    def take_over(self, source: sqlite3.Connection) -> None:
        """Hold what another catalog holds, whose files are here already. One commit.

        Readers wait meanwhile. It must say that it is newer than what is here (``swap_beside``).
        """
        with self._unless_failed():
            replace_database(self.connection, source, self.layout.catalog)
        self.refresh()

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

    def _flush_files(
        self, vids: Ints, matrix: NDArray[np.float16], codes: Sequence[NDArray[np.uint8] | None]
    ) -> tuple[SegmentFile, WrittenTokens | None] | None:
        """The files of all recent passages and these ones, once they are enough."""
        rows = self.snapshot.rows
        recent = rows.recent
        if not len(vids) or len(recent[0]) + len(vids) < FLUSH_ROWS:
            return None
        before = np.arange(len(rows) - len(recent[0]), len(rows))
        tokens = self.write_tokens(chain(in_parts(self.snapshot.tokens, before), [in_one(codes)]))
        everything = np.concatenate([recent[0], vids])
        return self.write_file(everything, [recent[1], matrix], self.width), tokens

    def write_file(
        self, vids: Ints, blocks: Iterable[NDArray[np.float16]], width: int
    ) -> SegmentFile:
        """Write a segment file of this index; nothing refers to it until a commit does."""
        fingerprint = self._encoder().fingerprint
        with self._unless_failed():
            return write_segment(self.layout.segments, vids, blocks, width, fingerprint)

    def write_tokens(self, parts: Iterable[Codes]) -> WrittenTokens | None:
        """Write the token file of a segment's rows; None if no row has codes to be kept."""
        made = self.snapshot.tokens.format
        if made is None:
            return None
        with self._unless_failed():
            return write_tokens(self.layout.segments, parts, made)

    def add_segment(
        self,
        file: SegmentFile,
        gen: int,
        rotation_id: int | None,
        tokens: WrittenTokens | None = None,
    ) -> None:
        """Record a segment's files in the catalog (inside the transaction)."""
        name, sha256 = tokens or (None, None)
        row = SegmentRow(
            catalog.next_id(self.connection, "segment"), file.name, file.sha256, file.n,
            file.first_vid, file.last_vid, self._encoder().encoder_id, rotation_id,
            name, sha256, gen,
        )  # fmt: skip
        catalog.add_segment(self.connection, row)

    def forget_recent(self) -> None:
        """Empty the table of recent vectors, which a segment holds now (inside the transaction)."""
        encoder_id = self._encoder().encoder_id
        self.connection.execute("DELETE FROM l0 WHERE encoder_id = ?", (encoder_id,))

    def _insert_recent(
        self, vids: Ints, matrix: NDArray[np.float16], codes: Sequence[NDArray[np.uint8] | None]
    ) -> None:
        encoder_id, rotation_id = self._encoder().encoder_id, self.snapshot.rotation_id
        made = self.snapshot.tokens.format
        for vid, vector, own in zip(vids.tolist(), matrix, codes, strict=True):
            tokens = None if made is None or own is None else packed(own, made)
            values = (vid, encoder_id, rotation_id, vector.astype("<f2").tobytes(), tokens)
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
    with fs.read_errors(layout.folder):
        refuse_foreign_folder(layout)
        refuse_links(layout)
    with fs.exclusive_lock(layout.lock):
        with fs.read_errors(layout.folder):
            refuse_lost_catalog(layout)
        database = open_writer(layout.catalog)
        try:
            with database_errors(layout.catalog):
                writer = Writer(layout, database.conn)
                settle(layout, writer.snapshot)
                collect_garbage(writer)
                yield writer
        finally:
            database.close()


def collect_garbage(writer: Writer) -> None:
    """Remove files that the newest generation does not name. Raises StorageError."""
    named = catalog.file_names(writer.connection)
    for folder in (writer.layout.segments, writer.layout.ann):
        with fs.read_errors(folder):
            paths = sorted(folder.iterdir()) if folder.is_dir() else []
        for path in paths:
            if path.name not in named and not path.is_dir():
                fs.remove(path)
