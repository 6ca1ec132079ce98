"""What can be read of a damaged index: its documents row by row, their vectors block by block.

Nothing is written, and nothing is believed that its checksum does not confirm.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from semsearch.collection.salvaged_vectors import SalvagedVectors
from semsearch.errors import Corrupt, what_is_damaged
from semsearch.store import catalog
from semsearch.store.database import open_reader
from semsearch.store.documents import COLUMNS, StoredDocument, checked_document, metadata_of
from semsearch.store.passages import PassageRow, text_hash
from semsearch.store.rows import is_sound, sound_rows

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from semsearch.collection.layout import Layout
    from semsearch.types import Floats

_MOST_TRIED = 1_000_000
"""So many ids between two readable parts of a table are tried one by one."""

_OWN_SETTINGS = frozenset(
    {"active_encoder", "active_rotation", "dims", catalog.CODED_WIDTH, catalog.HORIZON}
)
"""Settings that a new index makes for itself."""


@dataclass(frozen=True, slots=True)
class Saved:
    """A document, and its passages if all of them could be read; None: it must be cut again."""

    stored: StoredDocument
    passages: tuple[PassageRow, ...] | None


@dataclass
class Salvage:
    """A damaged index, opened for reading what is left; made by ``open_salvage``.

    ``lost`` grows while ``documents`` is read: the ids of documents whose rows are damaged, as far
    as these say them. ``encoder`` and ``rotation`` (its number, what it was fitted on, the matrix)
    are None where they are lost, or never were; ``dims`` and ``token_width`` are 0 then.
    """

    layout: Layout
    connection: sqlite3.Connection
    encoder: catalog.EncoderRow | None
    rotation: tuple[int, int, Floats] | None
    dims: int
    token_width: int
    settings: dict[str, str]
    generation: catalog.GenerationRow
    vectors: SalvagedVectors
    lost: list[str] = field(default_factory=list)

    def close(self) -> None:
        """Close the catalog."""
        self.connection.close()

    def documents(self) -> Iterator[Saved]:
        """Every live document that can be read, by row. Of two of one id, the later one."""
        self.lost.clear()
        newest = {id: doc_id for doc_id, id in self._live()}
        kept = set(newest.values())
        for doc_id in sorted(kept):
            stored = self._document(doc_id)
            if stored is not None:
                yield Saved(stored, self._passages(stored))

    @property
    def recorded(self) -> int | None:
        """How many documents the newest generation had; None where that is lost."""
        known = self.generation is not catalog.NO_GENERATION
        return self.generation.n_document if known else None

    def vectors_of(self, saved: Saved) -> list[NDArray[np.float16] | None]:
        """The stored vector of each passage, None for one that is lost; empty without passages."""
        return [self.vectors.vector_of(row.vid) for row in saved.passages or ()]

    def highest_id(self) -> int:
        """No id above this one was ever used, as far as can be read."""
        found = [0]
        for table in ("document", "passage"):
            with suppress(sqlite3.Error):
                found.append(catalog.next_id(self.connection, table) - 1)
        for table, column in (("document", "doc_id"), ("passage", "vid")):
            with suppress(sqlite3.Error, TypeError, ValueError):
                query = f"SELECT max({column}) FROM {table}"  # noqa: S608
                found.append(int(self.connection.execute(query).fetchone()[0]))
        return max(found)

    def sources(self) -> list[str]:
        """The corpora that finished runs read to their end, as far as can be read."""
        return [row[0] for row in sound_rows(self.connection, "source")]

    def _live(self) -> Iterator[tuple[int, str]]:
        """(row, id) of each live document whose row is sound; fills ``lost``."""
        for doc_id in _ids(self.connection, "document", "doc_id"):
            try:
                row = _row_of(self.connection, doc_id)
                if row is None:
                    continue
                stored = checked_document(row)
                metadata_of(doc_id, stored.meta)
            except (sqlite3.Error, UnicodeDecodeError):
                self.lost.append(f"row {doc_id}")
            except Corrupt:
                self.lost.append(row[1] if isinstance(row[1], str) else f"row {doc_id}")
            else:
                if stored.deleted_gen is None:
                    yield doc_id, stored.ext_id

    def _document(self, doc_id: int) -> StoredDocument | None:
        row = _row_of(self.connection, doc_id)
        return None if row is None else checked_document(row)

    def _passages(self, stored: StoredDocument) -> tuple[PassageRow, ...] | None:
        """All passages of a document; None unless each is sound and they reach to its end."""
        document = stored.document
        try:
            with closing(
                self.connection.execute(
                    "SELECT * FROM passage WHERE doc_id = ? ORDER BY ord", (stored.doc_id,)
                )
            ) as cursor:
                rows = cursor.fetchall()
        except (sqlite3.Error, UnicodeDecodeError):
            return None
        found = [PassageRow(*row[:-1]) for row in rows if is_sound("passage", row[:-1], row[-1])]
        if len(found) < len(rows) or [row.ord for row in found] != list(range(len(found))):
            return None
        if not found or found[0].start != 0 or found[-1].end != len(document.content):
            return None
        for row in found:
            if text_hash(document.passage(row.start, row.end)) != row.text_hash:
                return None
        return tuple(found)


def open_salvage(layout: Layout) -> Salvage:
    """Open a damaged index. Raises NotFound, Mismatch (format), Corrupt if not even that goes."""
    try:
        connection = open_reader(layout.catalog)
    except Corrupt as exc:
        raise hopeless(layout, str(exc)) from exc
    settings = {str(k): str(v) for k, v in sound_rows(connection, "meta")}
    encoder = _encoder(connection, settings)
    rotation_id = settings.get("active_rotation")
    rotation = None
    if rotation_id is not None:
        with suppress(Corrupt, sqlite3.Error):
            matrix = catalog.matrix_of(connection, int(rotation_id))
            fitted_on = catalog.rotation_size(connection, int(rotation_id))
            rotation = (int(rotation_id), fitted_on, matrix)
    if rotation_id is not None and rotation is None:
        encoder = None  # its vectors mean nothing without
    newest = catalog.NO_GENERATION
    with suppress(Corrupt, sqlite3.Error):
        newest = catalog.generation(connection)
    vectors = SalvagedVectors(layout, connection, encoder, rotation[0] if rotation else None)
    own = {key: value for key, value in settings.items() if key not in _OWN_SETTINGS}
    dims, width = (int(settings.get(key, 0)) for key in ("dims", catalog.CODED_WIDTH))
    return Salvage(
        layout, connection, encoder, rotation, dims or vectors.width, width, own, newest, vectors
    )


def hopeless(layout: Layout, why: str) -> Corrupt:
    """The error for an index that only a backup helps: to be raised."""
    what = what_is_damaged(why)
    return Corrupt(
        f"{what}; nothing of it can be read: `semsearch restore BACKUP -i {layout.folder}"
        " --replace`, or delete it and index again"
    )


def _encoder(connection: sqlite3.Connection, settings: dict[str, str]) -> catalog.EncoderRow | None:
    """The model of an index; the only one on record where the setting is lost."""
    rows = {row[0]: row for row in sound_rows(connection, "encoder")}
    chosen = settings.get("active_encoder")
    if chosen is not None and chosen.isdecimal() and int(chosen) in rows:
        return catalog.EncoderRow(*rows[int(chosen)])
    if chosen is None and len(rows) == 1:
        return catalog.EncoderRow(*next(iter(rows.values())))
    return None


def _row_of(connection: sqlite3.Connection, doc_id: int) -> Any:
    query = f"SELECT {COLUMNS} FROM document WHERE doc_id = ?"  # noqa: S608
    return connection.execute(query, (doc_id,)).fetchone()


def _ids(connection: sqlite3.Connection, table: str, column: str) -> list[int]:
    """Every id of a table; where a part of it cannot be read, all that may be in it, too."""
    first, broke = _walk(connection, table, column, "ASC")
    if not broke:
        return first
    last, _ = _walk(connection, table, column, "DESC")
    last = [number for number in reversed(last) if not first or number > first[-1]]
    start = first[-1] + 1 if first else 1
    stop = last[0] if last else start
    if not last:
        with suppress(sqlite3.Error):
            stop = catalog.next_id(connection, table)
    if stop - start > _MOST_TRIED:
        middle = [n for n in _owners(connection) if start <= n < stop]
    else:
        middle = list(range(start, stop))
    return first + middle + last


def _owners(connection: sqlite3.Connection) -> list[int]:
    """The rows of documents that passages name, ascending."""
    found, _ = _walk(connection, "passage", "doc_id", "ASC")
    more, _ = _walk(connection, "passage", "doc_id", "DESC")
    return sorted({*found, *more})


def _walk(
    connection: sqlite3.Connection, table: str, column: str, order: str
) -> tuple[list[int], bool]:
    """The numbers of a column in one direction, and whether that ended at damage."""
    found: list[int] = []
    key = {"document": "doc_id", "passage": "vid"}[table]
    query = f"SELECT {column} FROM {table} NOT INDEXED ORDER BY {key} {order}"  # noqa: S608
    try:
        with closing(connection.cursor()) as cursor:
            for (number,) in cursor.execute(query):
                if isinstance(number, int):
                    found.append(number)
    except (sqlite3.Error, UnicodeDecodeError):
        return found, True
    return found, False
