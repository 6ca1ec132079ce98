"""Documents in the catalog: inserted, stamped as deleted, fetched with their CRCs."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

from semsearch.errors import SEE_CHECK, Corrupt, InputError
from semsearch.store.filters import field_rows
from semsearch.store.rows import (
    BATCH,
    batches,
    canonical_json,
    check_row,
    is_utf8,
    row_crc,
    short_hash,
    stamp_crc,
)
from semsearch.store.shapes import parsed
from semsearch.types import Document, Metadata

COLUMNS = "doc_id, ext_id, source, title, body, meta, content_hash, added_gen, deleted_gen, crc"


@dataclass(frozen=True, slots=True)
class StoredDocument:
    """A document row. ``deleted_gen`` is None while it is live."""

    doc_id: int
    ext_id: str
    source: str
    title: str
    body: str
    meta: str
    content_hash: bytes
    added_gen: int
    deleted_gen: int | None
    crc: int

    @property
    def metadata(self) -> Metadata:
        """JSON values by field name. Raises Corrupt."""
        return metadata_of(self.doc_id, self.meta)

    @property
    def document(self) -> Document:
        """The document as its users know it."""
        return Document(self.ext_id, self.body, self.title, self.metadata, self.source)


class Mark(NamedTuple):
    """What tells whether two catalogs hold the same document."""

    ext_id: str
    doc_id: int
    source: str
    content_hash: bytes


def content_hash(document: Document) -> bytes:
    """16 bytes that change when title, text or metadata change."""
    return short_hash(document.title, document.text, canonical_json(document.metadata))


def insert_document(
    connection: sqlite3.Connection, doc_id: int, document: Document, gen: int
) -> int:
    """Insert a live document with its filter fields; returns the row's CRC.

    Raises InputError for a text that has no UTF-8 form.
    """
    meta = canonical_json(document.metadata)
    values = (
        doc_id, document.id, document.source, document.title, document.text, meta,
        content_hash(document), gen,
    )  # fmt: skip
    crc = row_crc(values)
    try:
        connection.execute(
            f"INSERT INTO document ({COLUMNS}) VALUES (?,?,?,?,?,?,?,?,NULL,?)",
            (*values, crc),
        )
    except UnicodeEncodeError as exc:
        message = f"document {document.id!a} holds a lone surrogate: replace it, then run again"
        raise InputError(message, document.source or None, document.line) from exc
    connection.executemany(
        "INSERT OR IGNORE INTO field VALUES (?,?,?,?)", field_rows(document.metadata, doc_id)
    )
    return crc


def stamp_deleted(
    connection: sqlite3.Connection, doc_ids: Sequence[int], gen: int
) -> tuple[int, int]:
    """Mark documents as deleted in ``gen``; returns (passages, sum of CRCs) that were live."""
    passages, crcs = 0, 0
    for doc_id in doc_ids:
        (crc,) = connection.execute(
            "SELECT crc FROM document WHERE doc_id = ?", (doc_id,)
        ).fetchone()
        if not isinstance(crc, int):
            raise damaged_row(doc_id)
        connection.execute(
            "UPDATE document SET deleted_gen = ?, crc = ? WHERE doc_id = ?",
            (gen, crc ^ stamp_crc(gen), doc_id),
        )
        count, total = connection.execute(
            "SELECT count(*), coalesce(sum(crc), 0) FROM passage WHERE doc_id = ?", (doc_id,)
        ).fetchone()
        if not isinstance(total, int):
            raise damaged_row(doc_id)
        passages += count
        crcs += crc + total
    return passages, crcs


def purge_deleted(connection: sqlite3.Connection) -> None:
    """Remove the rows of deleted documents, their passages and their filter fields."""
    dead = connection.execute("SELECT doc_id FROM document WHERE deleted_gen IS NOT NULL")
    for batch in batches(doc_id for (doc_id,) in dead.fetchall()):
        for row in documents_of(connection, batch).values():
            connection.executemany(
                "DELETE FROM field WHERE key = ? AND kind = ? AND value = ? AND doc_id = ?",
                field_rows(row.metadata, row.doc_id),
            )
    connection.execute(
        "DELETE FROM passage WHERE doc_id IN"
        " (SELECT doc_id FROM document WHERE deleted_gen IS NOT NULL)"
    )
    connection.execute("DELETE FROM document WHERE deleted_gen IS NOT NULL")


def live_by_id(connection: sqlite3.Connection, ids: Iterable[str]) -> dict[str, StoredDocument]:
    """The live documents with these ids, checked, as far as the index of ids has them."""
    found = {}
    for batch in batches(id_ for id_ in ids if is_utf8(id_)):
        wanted = set(batch)
        # Bound one by one: SQLite's JSON functions end a text at a NUL.
        rows = connection.execute(
            f"SELECT {COLUMNS} FROM document"
            f" WHERE ext_id IN ({','.join('?' * len(batch))}) AND deleted_gen IS NULL",
            batch,
        ).fetchall()
        for row in rows:
            if row[1] not in wanted or row[8] is not None:
                raise damaged_index("ids")
            found[row[1]] = checked_document(row)
    return found


def require_absent(connection: sqlite3.Connection, ext_id: str) -> None:
    """Raise Corrupt if there is a live document with an id that the index of ids does not have.

    Every row is looked at: for a single document that was asked for, and not found.
    """
    there = connection.execute(
        "SELECT count(*) FROM document NOT INDEXED WHERE ext_id = ? AND deleted_gen IS NULL",
        (ext_id,),
    ).fetchone()[0]
    if there:
        raise damaged_index("ids")


def damaged_index(of: str) -> Corrupt:
    """The error for an index of the catalog that is not as its table: to be raised."""
    return Corrupt(f"catalog.db: the index of {of} is damaged: {SEE_CHECK}")


def live_row_ids(connection: sqlite3.Connection, ids: Iterable[str]) -> dict[str, int]:
    """The row ids of the live documents with these ids; nothing else of them is read."""
    found: dict[str, int] = {}
    for batch in batches(id_ for id_ in ids if is_utf8(id_)):
        marks = ",".join("?" * len(batch))
        found.update(
            connection.execute(
                f"SELECT ext_id, doc_id FROM document WHERE ext_id IN ({marks})"
                " AND deleted_gen IS NULL",
                batch,
            ).fetchall()
        )
    return found


def documents_of(
    connection: sqlite3.Connection, doc_ids: Iterable[int]
) -> dict[int, StoredDocument]:
    """Documents by their row id, dead ones included, checked."""
    found = {}
    for batch in batches(doc_ids):
        rows = connection.execute(
            f"SELECT {COLUMNS} FROM document WHERE doc_id IN (SELECT value FROM json_each(?))",
            (json.dumps(batch),),
        ).fetchall()
        for row in rows:
            found[row[0]] = checked_document(row)
    return found


def live_marks(connection: sqlite3.Connection) -> Iterator[Mark]:
    """The marks of the live documents, by id in ascending order."""
    with closing(connection.cursor()) as cursor:
        cursor.execute(
            "SELECT ext_id, doc_id, source, content_hash FROM document"
            " WHERE deleted_gen IS NULL ORDER BY ext_id"
        )
        for row in cursor:
            yield Mark(*row)


def page_of_documents(connection: sqlite3.Connection, gen: int, after: int) -> list[StoredDocument]:
    """The next documents that were live in a generation, in the order of insertion, checked.

    Raises Corrupt also where they are out of order: then one is there twice, and another is not.
    """
    rows = connection.execute(
        f"SELECT {COLUMNS} FROM document WHERE doc_id > ? AND added_gen <= ?"
        " AND (deleted_gen IS NULL OR deleted_gen > ?) ORDER BY doc_id LIMIT ?",
        (after, gen, gen, BATCH),
    ).fetchall()
    numbers = [after, *(row[0] for row in rows)]
    if any(second <= first for first, second in pairwise(numbers)):
        raise Corrupt(f"catalog.db: rows of table document are out of order: {SEE_CHECK}")
    return [checked_document(row) for row in rows]


def checked_document(row: Sequence[Any]) -> StoredDocument:
    """A row of ``COLUMNS``. Raises Corrupt."""
    stored = StoredDocument(*row)
    check_row("document", stored.doc_id, row[:8], stored.crc, stored.deleted_gen)
    return stored


def metadata_of(doc_id: int, meta: str) -> Metadata:
    """The metadata of a document row, as its column has them. Raises Corrupt."""
    found: Metadata | None = parsed(meta, dict)
    if found is None:
        raise damaged_row(doc_id)
    return found


def damaged_row(doc_id: object) -> Corrupt:
    """The error for a document row, or what belongs to it, that no writer made: to be raised."""
    return Corrupt(f"catalog.db: row {doc_id!r} of table document is damaged: {SEE_CHECK}")
