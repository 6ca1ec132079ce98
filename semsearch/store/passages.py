"""Passages in the catalog: inserted, fetched with their CRCs, and the vids behind documents."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from semsearch.store.documents import COLUMNS, checked_document, damaged_index
from semsearch.store.rows import batches, check_row, row_crc, short_hash

if TYPE_CHECKING:
    from semsearch.types import Ints


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


class Extent(NamedTuple):
    """How much of a document its passages hold: ``truncated`` of them lost ``lost`` tokens."""

    passages: int
    truncated: int
    lost: int


_LOST = "CASE WHEN truncated THEN max(tokens - ?1, 0) ELSE 0 END"
"""Tokens of a passage beyond the model's maximum length, which is the first parameter."""


def text_hash(content: str) -> bytes:
    """16 bytes that identify an encoded text."""
    return short_hash(content)


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


def passages_of(connection: sqlite3.Connection, vids: Iterable[int]) -> dict[int, PassageRow]:
    """Passages by vid, checked."""
    found = {}
    for batch in batches(vids):
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
    """The vids of deleted documents whose rows are still there, ascending.

    They are found by way of two indexes, and looked up in the tables: a damaged index would let a
    document disappear, and another one come back. Raises Corrupt.
    """
    # CROSS JOIN keeps SQLite from walking every passage to spare the sort: every snapshot asks, and
    # that took 138 ms over a million documents, none of them dead; this takes 0.01.
    rows = connection.execute(
        "SELECT p.vid, own.doc_id IS d.doc_id AND gone.deleted_gen IS d.deleted_gen"
        " FROM document d CROSS JOIN passage p ON p.doc_id = d.doc_id"
        " LEFT JOIN passage own NOT INDEXED ON own.vid = p.vid"
        " LEFT JOIN document gone NOT INDEXED ON gone.doc_id = d.doc_id"
        " WHERE d.deleted_gen IS NOT NULL ORDER BY p.vid"
    ).fetchall()
    vids = np.array([vid for vid, _ in rows], np.int64)
    if not all(same for _, same in rows) or (vids[1:] <= vids[:-1]).any():
        raise damaged_index("deleted documents")
    return vids


def passage_texts(
    connection: sqlite3.Connection, after: int, up_to: int, gen: int
) -> Iterator[tuple[int, str]]:
    """(vid, text) of the passages live in ``gen``, ``after < vid <= up_to``, in order, checked."""
    with closing(connection.cursor()) as cursor:
        cursor.execute(
            f"SELECT p.*, {', '.join('d.' + c for c in COLUMNS.split(', '))}"
            " FROM passage p JOIN document d ON d.doc_id = p.doc_id"
            " WHERE p.vid > ? AND p.vid <= ? AND (d.deleted_gen IS NULL OR d.deleted_gen > ?)"
            " ORDER BY p.vid",
            (after, up_to, gen),
        )
        for row in cursor:
            check_row("passage", row[0], row[:10], row[10])
            passage = PassageRow(*row[:10])
            document = checked_document(row[11:]).document
            yield passage.vid, document.passage(passage.start, passage.end)


def passages_by_document(connection: sqlite3.Connection, gen: int) -> Iterator[PassageRow]:
    """The passages live in ``gen``, document by document, each one's in order, checked."""
    with closing(connection.cursor()) as cursor:
        cursor.execute(
            "SELECT p.* FROM passage p JOIN document d ON d.doc_id = p.doc_id"
            " WHERE d.added_gen <= ? AND (d.deleted_gen IS NULL OR d.deleted_gen > ?)"
            " ORDER BY p.doc_id, p.ord",
            (gen, gen),
        )
        for row in cursor:
            check_row("passage", row[0], row[:-1], row[-1])
            yield PassageRow(*row[:-1])


def vids_of(connection: sqlite3.Connection, doc_ids: Ints) -> Ints:
    """The vids of all passages of these documents, ascending."""
    # One row of JSON: thousands of rows take longer to hand over than to find.
    (found,) = connection.execute(
        "SELECT json_group_array(p.vid) FROM json_each(?) AS wanted"
        " CROSS JOIN passage p ON p.doc_id = wanted.value",
        (json.dumps(doc_ids.tolist()),),
    ).fetchone()
    return np.sort(np.array(json.loads(found), np.int64))


def extents_of(
    connection: sqlite3.Connection, doc_ids: Iterable[int], max_length: int
) -> dict[int, Extent]:
    """How much of each document its passages hold."""
    found = {}
    for batch in batches(doc_ids):
        rows = connection.execute(
            f"SELECT doc_id, count(*), sum(truncated), sum({_LOST}) FROM passage"
            " WHERE doc_id IN (SELECT value FROM json_each(?2)) GROUP BY doc_id",
            (max_length, json.dumps(batch)),
        )
        found.update({row[0]: Extent(*row[1:]) for row in rows})
    return found


def count_chunked(connection: sqlite3.Connection) -> int:
    """How many live documents have several passages."""
    row = connection.execute(
        "SELECT count(*) FROM passage p JOIN document d ON d.doc_id = p.doc_id"
        " WHERE p.ord = 1 AND d.deleted_gen IS NULL"
    ).fetchone()
    return int(row[0])


def count_truncated(connection: sqlite3.Connection, max_length: int) -> tuple[int, int]:
    """How many live documents have text that no vector holds, and how many tokens of it."""
    row = connection.execute(
        f"SELECT count(DISTINCT p.doc_id), coalesce(sum({_LOST}), 0)"
        " FROM passage p JOIN document d ON d.doc_id = p.doc_id"
        " WHERE p.truncated = 1 AND d.deleted_gen IS NULL",
        (max_length,),
    ).fetchone()
    return int(row[0]), int(row[1])


def count_tokens(connection: sqlite3.Connection) -> tuple[int, int]:
    """(unknown, all) tokens of the live passages."""
    unknown, tokens = connection.execute(
        "SELECT coalesce(sum(p.unknown), 0), coalesce(sum(p.tokens), 0)"
        " FROM passage p JOIN document d ON d.doc_id = p.doc_id WHERE d.deleted_gen IS NULL"
    ).fetchone()
    return int(unknown), int(tokens)
