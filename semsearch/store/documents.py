"""Documents and passages in the catalog: inserted, stamped as deleted, fetched with their CRCs."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from semsearch.errors import InputError
from semsearch.store.filters import field_rows
from semsearch.store.rows import (
    canonical_json,
    check_row,
    is_utf8,
    row_crc,
    short_hash,
    stamp_crc,
)
from semsearch.types import Document

if TYPE_CHECKING:
    from semsearch.types import Ints

_DOCUMENT = "doc_id, ext_id, source, title, body, meta, content_hash, added_gen, deleted_gen, crc"
_BATCH = 500


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
    def document(self) -> Document:
        """The document as its users know it."""
        return Document(self.ext_id, self.body, self.title, json.loads(self.meta), self.source)


@dataclass(frozen=True, slots=True)
class PassageRow:
    """A passage row: the characters ``start`` to ``end`` of its document's content."""

    vid: int
    doc_id: int
    ord: int
    start: int
    end: int
    text_hash: bytes
    encoder_id: int
    tokens: int
    unknown: int
    truncated: int


def content_hash(document: Document) -> bytes:
    """16 bytes that change when title, text or metadata change."""
    return short_hash(document.title, document.text, canonical_json(document.metadata))


def text_hash(content: str) -> bytes:
    """16 bytes that identify an encoded text."""
    return short_hash(content)


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
            f"INSERT INTO document ({_DOCUMENT}) VALUES (?,?,?,?,?,?,?,?,NULL,?)", (*values, crc)
        )
    except UnicodeEncodeError as exc:
        message = f"document {document.id!a} holds a lone surrogate: replace it, then run again"
        raise InputError(message, document.source or None, document.line) from exc
    connection.executemany(
        "INSERT OR IGNORE INTO field VALUES (?,?,?,?)", field_rows(document.metadata, doc_id)
    )
    return crc


def insert_passages(connection: sqlite3.Connection, rows: Sequence[PassageRow]) -> int:
    """Insert passages; returns the sum of their CRCs."""
    values = [
        (
            row.vid, row.doc_id, row.ord, row.start, row.end, row.text_hash, row.encoder_id,
            row.tokens, row.unknown, row.truncated,
        )
        for row in rows
    ]  # fmt: skip
    crcs = [row_crc(value) for value in values]
    connection.executemany(
        "INSERT INTO passage VALUES (?,?,?,?,?,?,?,?,?,?,?)",
        [(*value, crc) for value, crc in zip(values, crcs, strict=True)],
    )
    return sum(crcs)


def stamp_deleted(
    connection: sqlite3.Connection, doc_ids: Sequence[int], gen: int
) -> tuple[int, int]:
    """Mark documents as deleted in ``gen``; returns (passages, sum of CRCs) that were live."""
    passages, crcs = 0, 0
    for doc_id in doc_ids:
        (crc,) = connection.execute(
            "SELECT crc FROM document WHERE doc_id = ?", (doc_id,)
        ).fetchone()
        connection.execute(
            "UPDATE document SET deleted_gen = ?, crc = ? WHERE doc_id = ?",
            (gen, crc ^ stamp_crc(gen), doc_id),
        )
        count, total = connection.execute(
            "SELECT count(*), coalesce(sum(crc), 0) FROM passage WHERE doc_id = ?", (doc_id,)
        ).fetchone()
        passages += count
        crcs += crc + total
    return passages, crcs


def purge_deleted(connection: sqlite3.Connection) -> None:
    """Remove the rows of deleted documents, their passages and their filter fields."""
    dead = connection.execute("SELECT doc_id FROM document WHERE deleted_gen IS NOT NULL")
    for batch in _batches(doc_id for (doc_id,) in dead.fetchall()):
        for row in documents_of(connection, batch).values():
            connection.executemany(
                "DELETE FROM field WHERE key = ? AND kind = ? AND value = ? AND doc_id = ?",
                field_rows(json.loads(row.meta), row.doc_id),
            )
    connection.execute(
        "DELETE FROM passage WHERE doc_id IN"
        " (SELECT doc_id FROM document WHERE deleted_gen IS NOT NULL)"
    )
    connection.execute("DELETE FROM document WHERE deleted_gen IS NOT NULL")


def live_by_id(connection: sqlite3.Connection, ids: Iterable[str]) -> dict[str, StoredDocument]:
    """The live documents with these ids, checked."""
    found = {}
    for batch in _batches(id_ for id_ in ids if is_utf8(id_)):
        # Bound one by one: SQLite's JSON functions end a text at a NUL.
        rows = connection.execute(
            f"SELECT {_DOCUMENT} FROM document"
            f" WHERE ext_id IN ({','.join('?' * len(batch))}) AND deleted_gen IS NULL",
            batch,
        ).fetchall()
        for row in rows:
            found[row[1]] = _checked(row)
    return found


def live_row_ids(connection: sqlite3.Connection, ids: Iterable[str]) -> dict[str, int]:
    """The row ids of the live documents with these ids; nothing else of them is read."""
    found: dict[str, int] = {}
    for batch in _batches(id_ for id_ in ids if is_utf8(id_)):
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
    for batch in _batches(doc_ids):
        rows = connection.execute(
            f"SELECT {_DOCUMENT} FROM document WHERE doc_id IN (SELECT value FROM json_each(?))",
            (json.dumps(batch),),
        ).fetchall()
        for row in rows:
            found[row[0]] = _checked(row)
    return found


def page_of_documents(connection: sqlite3.Connection, gen: int, after: int) -> list[StoredDocument]:
    """The next documents that were live in a generation, in the order of insertion, checked."""
    rows = connection.execute(
        f"SELECT {_DOCUMENT} FROM document WHERE doc_id > ? AND added_gen <= ?"
        " AND (deleted_gen IS NULL OR deleted_gen > ?) ORDER BY doc_id LIMIT ?",
        (after, gen, gen, _BATCH),
    ).fetchall()
    return [_checked(row) for row in rows]


def passages_of(connection: sqlite3.Connection, vids: Iterable[int]) -> dict[int, PassageRow]:
    """Passages by vid, checked."""
    found = {}
    for batch in _batches(vids):
        rows = connection.execute(
            "SELECT * FROM passage WHERE vid IN (SELECT value FROM json_each(?))",
            (json.dumps(batch),),
        ).fetchall()
        for row in rows:
            check_row("passage", row[0], row[:-1], row[-1])
            found[row[0]] = PassageRow(*row[:-1])
    return found


def vectors_known(
    connection: sqlite3.Connection, hashes: Iterable[bytes], encoder_id: int
) -> dict[bytes, PassageRow]:
    """For each text hash that already has a vector of this encoder: a passage that has it."""
    found = {}
    for digest in hashes:
        row = connection.execute(
            "SELECT * FROM passage WHERE text_hash = ? AND encoder_id = ? ORDER BY vid LIMIT 1",
            (digest, encoder_id),
        ).fetchone()
        if row is not None:
            check_row("passage", row[0], row[:-1], row[-1])
            found[digest] = PassageRow(*row[:-1])
    return found


def dead_vids(connection: sqlite3.Connection) -> Ints:
    """The vids of deleted documents whose rows are still there, ascending."""
    rows = connection.execute(
        "SELECT p.vid FROM document d JOIN passage p ON p.doc_id = d.doc_id"
        " WHERE d.deleted_gen IS NOT NULL ORDER BY p.vid"
    ).fetchall()
    return np.array([vid for (vid,) in rows], np.int64)


def passage_texts(
    connection: sqlite3.Connection, after: int, up_to: int
) -> Iterator[tuple[int, str]]:
    """(vid, text) of the live passages with ``after < vid <= up_to``, in order, checked."""
    with closing(connection.cursor()) as cursor:
        cursor.execute(
            f"SELECT p.*, {', '.join('d.' + c for c in _DOCUMENT.split(', '))}"
            " FROM passage p JOIN document d ON d.doc_id = p.doc_id"
            " WHERE p.vid > ? AND p.vid <= ? AND d.deleted_gen IS NULL ORDER BY p.vid",
            (after, up_to),
        )
        for row in cursor:
            check_row("passage", row[0], row[:10], row[10])
            passage = PassageRow(*row[:10])
            content = _checked(row[11:]).document.content
            yield passage.vid, content[passage.start : passage.end]


def _checked(row: Sequence[Any]) -> StoredDocument:
    stored = StoredDocument(*row)
    check_row("document", stored.doc_id, row[:8], stored.crc, stored.deleted_gen)
    return stored


def _batches(keys: Iterable[Any]) -> Iterator[list[Any]]:
    listed = [int(key) if isinstance(key, np.integer) else key for key in keys]
    for start in range(0, len(listed), _BATCH):
        yield listed[start : start + _BATCH]


def vids_of(connection: sqlite3.Connection, doc_ids: Ints) -> Ints:
    """The vids of all passages of these documents, ascending."""
    # One row of JSON: thousands of rows take longer to hand over than to find.
    (found,) = connection.execute(
        "SELECT json_group_array(p.vid) FROM json_each(?) AS wanted"
        " CROSS JOIN passage p ON p.doc_id = wanted.value",
        (json.dumps(doc_ids.tolist()),),
    ).fetchone()
    return np.sort(np.array(json.loads(found), np.int64))


def count_truncated(connection: sqlite3.Connection) -> int:
    """How many live passages were longer than the model reads."""
    row = connection.execute(
        "SELECT count(*) FROM passage p JOIN document d ON d.doc_id = p.doc_id"
        " WHERE p.truncated = 1 AND d.deleted_gen IS NULL"
    ).fetchone()
    return int(row[0])
