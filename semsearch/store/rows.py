"""Checksummed rows: SQLite pages carry no checksum, so each row carries its own.

The CRC-32 of a row covers every column but itself. ``document.deleted_gen`` is the one column that
is edited in place; it enters by exclusive or, so that stamping it needs no other column.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import struct
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, suppress
from typing import Any

from semsearch.errors import SEE_CHECK, Corrupt
from semsearch.store.shapes import fits

BATCH = 500
"""Rows asked for in one statement."""


def row_crc(values: Iterable[Any]) -> int:
    """CRC-32 of SQLite values (None, int, float, str, bytes) in column order.

    Each value enters as a letter for its type, its length and its bytes: UTF-8 text, decimal
    integers, little-endian doubles. It is part of the format, so it depends on nothing else.
    """
    crc = 0
    for value in values:
        kind, raw = _kind_and_bytes(value)
        crc = zlib.crc32(raw, zlib.crc32(struct.pack("<cq", kind, len(raw)), crc))
    return crc


def _kind_and_bytes(value: Any) -> tuple[bytes, bytes]:
    if isinstance(value, str):
        return b"s", value.encode("utf-8", "surrogatepass")
    if isinstance(value, int):
        return b"i", b"%d" % value
    if isinstance(value, bytes):
        return b"b", value
    return (b"n", b"") if value is None else (b"f", struct.pack("<d", value))


def stamp_crc(deleted_gen: int | None) -> int:
    """What ``deleted_gen`` adds, by exclusive or, to a document row's CRC."""
    return 0 if deleted_gen is None else row_crc((deleted_gen,))


def check_row(
    table: str, key: Any, values: Sequence[Any], crc: int, deleted: int | None = None
) -> None:
    """Raise Corrupt unless a fetched row is as it was written, and what may be written at all."""
    if not is_sound(table, values, crc, deleted):
        raise Corrupt(f"catalog.db: row {key!r} of table {table} is damaged: {SEE_CHECK}")


def is_sound(table: str, values: Sequence[Any], crc: object, deleted: object = None) -> bool:
    """Whether a row has the CRC that it was written with, and holds what such a row may hold."""
    if not isinstance(crc, int) or not isinstance(deleted, int | None):
        return False
    return row_crc(values) ^ stamp_crc(deleted) == crc and fits(table, values)


def sound_rows(connection: sqlite3.Connection, table: str) -> list[Any]:
    """The sound rows of a table, without their CRC, up to one that cannot be read at all.

    For what is left of a damaged catalog; everything else refuses damage (``check_row``).
    """
    found = []
    with suppress(sqlite3.Error, UnicodeDecodeError), closing(connection.cursor()) as cursor:
        for row in cursor.execute(f"SELECT * FROM {table}"):
            if is_sound(table, row[:-1], row[-1]):
                found.append(row[:-1])
    return found


def is_utf8(text: str) -> bool:
    """Whether the catalog can hold a text: one with a lone surrogate has no UTF-8 form."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def short_hash(*parts: str) -> bytes:
    """First 16 bytes of the SHA-256 of length-prefixed texts."""
    digest = hashlib.sha256()
    for part in parts:
        raw = part.encode("utf-8", "surrogatepass")
        digest.update(struct.pack("<q", len(raw)))
        digest.update(raw)
    return digest.digest()[:16]


def canonical_json(value: Any) -> str:
    """JSON with sorted keys and no spaces: equal values give equal text."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))


def batches(keys: Iterable[Any]) -> Iterator[list[Any]]:
    """Keys in lists that one statement can take."""
    listed = [key.item() if hasattr(key, "item") else key for key in keys]
    for start in range(0, len(listed), BATCH):
        yield listed[start : start + BATCH]
