"""Checking the catalog's own rows: checksums, references, totals and filter fields."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

from semsearch.store import catalog, documents
from semsearch.store.filters import field_rows
from semsearch.store.rows import is_sound

_PLAIN_TABLES = (
    "meta", "encoder", "rotation", "generation", "source", "segment", "l0", "cache",
)  # fmt: skip
_DELETED = 8  # the column document.deleted_gen, which is left out of the row's own checksum


@dataclass
class _Totals:
    """What is counted while rows are read; passages of dead documents are left out."""

    documents: int = 0
    passages: int = 0
    crc: int = 0
    fields: int = 0
    seen: set[str] = field(default_factory=set)


def catalog_problems(connection: sqlite3.Connection) -> Iterator[Iterator[str]]:
    """One stream of lines for each thing that is checked; consume them in order."""
    totals = _Totals()
    yield _integrity(connection)
    yield _references(connection)
    for table in _PLAIN_TABLES:
        yield _rows(connection, table)
    yield _documents(connection, totals)
    yield _passages(connection, totals)
    yield _totals(connection, totals)
    yield _used_ids(connection)


def _stream(connection: sqlite3.Connection, query: str) -> Iterator[tuple[Any, ...]]:
    with closing(connection.cursor()) as cursor:
        yield from cursor.execute(query)


def _damaged(table: str, key: Any) -> str:
    return f"catalog.db: row {key!r} of table {table} is damaged"


def _integrity(connection: sqlite3.Connection) -> Iterator[str]:
    for (line,) in _stream(connection, "PRAGMA integrity_check"):
        if line != "ok":
            yield f"catalog.db: {' '.join(str(line).split())}"


def _references(connection: sqlite3.Connection) -> Iterator[str]:
    for table, row, parent, _ in _stream(connection, "PRAGMA foreign_key_check"):
        yield f"catalog.db: row {row} of table {table} refers to a row of {parent} that is missing"


def _rows(connection: sqlite3.Connection, table: str) -> Iterator[str]:
    for row in _stream(connection, f"SELECT * FROM {table}"):  # noqa: S608
        if not is_sound(table, row[:-1], row[-1]):
            yield _damaged(table, row[0])


def _documents(connection: sqlite3.Connection, totals: _Totals) -> Iterator[str]:
    for row in _stream(connection, "SELECT * FROM document ORDER BY doc_id"):
        deleted = row[_DELETED]
        if not is_sound("document", row[:_DELETED], row[-1], deleted):
            yield _damaged("document", row[0])
            continue
        if deleted is None:
            totals.documents += 1
            totals.crc += row[-1]
        for key in _missing_fields(connection, row[0], row[5], totals):
            yield f"catalog.db: the filter field {key!r} of document {row[1]!r} is not as its data"
    totals.seen.add("document")


def _missing_fields(
    connection: sqlite3.Connection, doc_id: int, meta: str, totals: _Totals
) -> Iterator[str]:
    for key, kind, value in {
        row[:3] for row in field_rows(documents.metadata_of(doc_id, meta), doc_id)
    }:
        totals.fields += 1
        found = connection.execute(
            "SELECT value FROM field WHERE key = ? AND kind = ? AND value = ? AND doc_id = ?",
            (key, kind, value, doc_id),
        ).fetchone()
        if found is None:
            yield key


def _passages(connection: sqlite3.Connection, totals: _Totals) -> Iterator[str]:
    rows = _stream(
        connection,
        "SELECT p.*, d.deleted_gen FROM passage p LEFT JOIN document d ON d.doc_id = p.doc_id"
        " ORDER BY p.vid",
    )
    for row in rows:
        if not is_sound("passage", row[:-2], row[-2]):
            yield _damaged("passage", row[0])
        elif row[-1] is None:
            totals.passages += 1
            totals.crc += row[-2]
    totals.seen.add("passage")


def _totals(connection: sqlite3.Connection, totals: _Totals) -> Iterator[str]:
    """The newest generation says how much there must be: lost rows show here."""
    if totals.seen != {"document", "passage"}:
        return
    newest = catalog.generation(connection)
    segments = connection.execute("SELECT count(*) FROM segment").fetchone()[0]
    counts = {
        "documents": (newest.n_document, totals.documents),
        "passages": (newest.n_passage, totals.passages),
        "segments": (newest.n_seg, segments),
        "checksum": (newest.sum_crc, totals.crc),
    }
    for name, (recorded, found) in counts.items():
        if recorded != found:
            yield f"catalog.db: generation {newest.gen} has {recorded} as {name}, there is {found}"
    fields = connection.execute("SELECT count(*) FROM field").fetchone()[0]
    if fields != totals.fields:
        yield f"catalog.db: {fields} filter fields, the documents' data has {totals.fields}"


def _used_ids(connection: sqlite3.Connection) -> Iterator[str]:
    """An id above the highest on record would be given out again one day."""
    for table, column in (("document", "doc_id"), ("passage", "vid")):
        query = f"SELECT max({column}) FROM {table}"  # noqa: S608
        (highest,) = connection.execute(query).fetchone()
        if highest is not None and highest >= catalog.next_id(connection, table):
            yield f"catalog.db: the highest {column} on record is below {highest}, which is used"
