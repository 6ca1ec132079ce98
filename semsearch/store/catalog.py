"""The small tables of the catalog: meta, encoders, rotations, generations, segments, caches.

Every row is checked against its CRC when it is read (``rows.check_row``).
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from semsearch.errors import SEE_CHECK, Corrupt
from semsearch.store.rows import canonical_json, check_row, row_crc

if TYPE_CHECKING:
    from semsearch.types import Floats


@dataclass(frozen=True, slots=True)
class EncoderRow:
    """The model that made the vectors: queries must be encoded by the same one."""

    encoder_id: int
    fingerprint: str
    name: str
    revision: str | None
    dim: int
    matryoshka_dims: str
    prompts: str
    max_length: int
    runtime: str
    precision: str

    @property
    def is_matryoshka(self) -> bool:
        """Whether the model was trained so that its vectors can be cut as they are."""
        return bool(json.loads(self.matryoshka_dims))


@dataclass(frozen=True, slots=True)
class GenerationRow:
    """One committed state: how many live documents and passages, and the sum of their CRCs."""

    gen: int
    n_document: int
    n_passage: int
    sum_crc: int
    n_seg: int


@dataclass(frozen=True, slots=True)
class SegmentRow:
    """One immutable vector file, holding the vids ``first_vid`` to ``last_vid`` in order."""

    seg_id: int
    name: str
    sha256: str
    n: int
    first_vid: int
    last_vid: int
    encoder_id: int
    rotation_id: int | None
    tok_name: str | None
    tok_sha256: str | None
    added_gen: int


@dataclass(frozen=True, slots=True)
class CacheRow:
    """A derived file or folder: ``files`` and ``covers`` and ``params`` are JSON."""

    name: str
    kind: str
    files: str
    covers: str
    params: str
    gen: int


HORIZON = "horizon"
"""The setting that holds the last generation that purged rows: older snapshots may miss some."""

SWAPPED = "swapped"
"""The setting that holds the generation in which another catalog took this one's place."""

CODED_WIDTH = "token_width"
"""The setting that holds the width of the tokens whose codes are kept, 0 if none are to be; an
index without it has none."""

MOST_ID = 1 << 62

NO_GENERATION = GenerationRow(0, 0, 0, 0, 0)


def _insert(connection: sqlite3.Connection, table: str, values: Sequence[Any]) -> None:
    marks = ",".join("?" * (len(values) + 1))
    connection.execute(
        f"INSERT OR REPLACE INTO {table} VALUES ({marks})", (*values, row_crc(values))
    )


def _rows(
    connection: sqlite3.Connection, table: str, where: str, values: Sequence[Any]
) -> list[Any]:
    found = connection.execute(f"SELECT * FROM {table} {where}", values).fetchall()
    for row in found:
        check_row(table, row[0], row[:-1], row[-1])
    return [row[:-1] for row in found]


def _row(connection: sqlite3.Connection, table: str, column: str, key: int) -> Any:
    rows = _rows(connection, table, f"WHERE {column} = ?", (key,))
    if not rows:
        raise Corrupt(f"catalog.db: row {key} of table {table} is missing: {SEE_CHECK}")
    return rows[0]


def _require_keys(connection: sqlite3.Connection, table: str, column: str) -> None:
    """Raise Corrupt unless a table and the index of its keys have the same ones.

    A row that is lost whole has no checksum that could tell. The two stand on different pages of
    the file, of which one alone is damaged, and are compared in one statement: one generation.
    """
    differing = connection.execute(
        f"SELECT count(*) FROM (SELECT 1 FROM (SELECT {column} FROM {table} NOT INDEXED UNION ALL"
        f" SELECT {column} FROM {table} INDEXED BY sqlite_autoindex_{table}_1)"
        f" GROUP BY {column} HAVING count(*) <> 2)"
    ).fetchone()[0]
    if differing:
        raise Corrupt(f"catalog.db: rows of table {table} are lost: {SEE_CHECK}")


def get_meta(connection: sqlite3.Connection, key: str) -> str | None:
    """A setting of the index, or None."""
    rows = _rows(connection, "meta", "WHERE k = ?", (key,))
    if rows and rows[0][0] == key:
        return str(rows[0][1])
    _require_keys(connection, "meta", "k")
    return None


def set_meta(connection: sqlite3.Connection, key: str, value: str) -> None:
    """Store a setting of the index (inside a transaction)."""
    _insert(connection, "meta", (key, value))


def generation(connection: sqlite3.Connection) -> GenerationRow:
    """The newest committed generation; number 0 with nothing in it for a new index."""
    rows = _rows(connection, "generation", "ORDER BY gen DESC LIMIT 1", ())
    return GenerationRow(*rows[0]) if rows else NO_GENERATION


def add_generation(connection: sqlite3.Connection, row: GenerationRow) -> None:
    """Record a new generation; those before it are forgotten (only the newest is readable)."""
    connection.execute("DELETE FROM generation")
    _insert(connection, "generation", astuple(row))


def active_encoder(connection: sqlite3.Connection) -> EncoderRow | None:
    """The encoder whose vectors are served, or None before the first documents."""
    chosen = get_meta(connection, "active_encoder")
    if chosen is None:
        return None
    return EncoderRow(*_row(connection, "encoder", "encoder_id", int(chosen)))


def add_encoder(connection: sqlite3.Connection, row: EncoderRow) -> None:
    """Record an encoder."""
    _insert(connection, "encoder", astuple(row))


def rotation(connection: sqlite3.Connection, rotation_id: int | None) -> Floats | None:
    """The matrix of a rotation, None where there is none."""
    return None if rotation_id is None else matrix_of(connection, rotation_id)


def matrix_of(connection: sqlite3.Connection, rotation_id: int) -> Floats:
    """The orthogonal matrix float32 (dim, dim) that stored vectors were multiplied by."""
    _, _, _, dim, raw = _row(connection, "rotation", "rotation_id", rotation_id)
    return np.frombuffer(raw, "<f4").reshape(dim, dim)


def add_rotation(
    connection: sqlite3.Connection,
    rotation_id: int,
    encoder_id: int,
    fitted_on: int,
    matrix: Floats,
) -> None:
    """Record a rotation, fitted on so many passages."""
    raw = np.ascontiguousarray(matrix, "<f4").tobytes()
    _insert(connection, "rotation", (rotation_id, encoder_id, fitted_on, len(matrix), raw))


def rotation_size(connection: sqlite3.Connection, rotation_id: int | None) -> int:
    """How many passages a rotation was fitted on; 0 without one."""
    if rotation_id is None:
        return 0
    row = connection.execute(
        "SELECT fitted_on FROM rotation WHERE rotation_id = ?", (rotation_id,)
    ).fetchone()
    return int(row[0])


def drop_rotations(connection: sqlite3.Connection, encoder_id: int) -> None:
    """Forget the rotations of an encoder (when another one takes their place)."""
    connection.execute("DELETE FROM rotation WHERE encoder_id = ?", (encoder_id,))


def segments(connection: sqlite3.Connection, encoder_id: int | None = None) -> list[SegmentRow]:
    """The live segments in the order of their vids; of one encoder or of all."""
    where = (
        "ORDER BY first_vid" if encoder_id is None else "WHERE encoder_id = ? ORDER BY first_vid"
    )
    values = () if encoder_id is None else (encoder_id,)
    return [SegmentRow(*row) for row in _rows(connection, "segment", where, values)]


def add_segment(connection: sqlite3.Connection, row: SegmentRow) -> None:
    """Record a segment whose file is already durable."""
    _insert(connection, "segment", astuple(row))


def drop_segments(connection: sqlite3.Connection, seg_ids: Sequence[int]) -> None:
    """Forget segments; their files are garbage once this is committed."""
    connection.executemany("DELETE FROM segment WHERE seg_id = ?", [(i,) for i in seg_ids])


def caches(connection: sqlite3.Connection) -> list[CacheRow]:
    """The derived files on record."""
    _require_keys(connection, "cache", "name")
    return [CacheRow(*row) for row in _rows(connection, "cache", "ORDER BY name", ())]


def file_names(connection: sqlite3.Connection) -> set[str]:
    """The names of the files of vectors, of tokens and of FAISS that are on record."""
    rows = segments(connection)
    names = {name for row in rows for name in (row.name, row.tok_name) if name}
    return names | {row.name for row in caches(connection)}


def put_cache(connection: sqlite3.Connection, row: CacheRow) -> None:
    """Record a derived file; an earlier one of the same kind is forgotten."""
    connection.execute("DELETE FROM cache WHERE kind = ?", (row.kind,))
    _insert(connection, "cache", astuple(row))


def drop_cache(connection: sqlite3.Connection, kind: str | None = None) -> None:
    """Forget the derived files of a kind, or all of them."""
    connection.execute("DELETE FROM cache WHERE kind = ?1 OR ?1 IS NULL", (kind,))


def put_source(connection: sqlite3.Connection, uri: str, sha256: str | None, gen: int) -> None:
    """Record what a finished run read."""
    _insert(connection, "source", (uri, sha256, gen))


def sources(connection: sqlite3.Connection) -> list[str]:
    """The corpora that finished runs read."""
    _require_keys(connection, "source", "uri")
    return [str(row[0]) for row in _rows(connection, "source", "ORDER BY uri", ())]


def next_id(connection: sqlite3.Connection, table: str) -> int:
    """The first id of a table that was never used (AUTOINCREMENT keeps the highest ever used)."""
    if table in ("document", "passage"):
        row = connection.execute(
            "SELECT seq FROM sqlite_sequence WHERE name = ?", (table,)
        ).fetchone()
        highest = row[0] if row else 0
        if not isinstance(highest, int) or not 0 <= highest < MOST_ID:
            raise Corrupt(f"catalog.db: the last id of table {table} is damaged: {SEE_CHECK}")
        return highest + 1
    column = {"segment": "seg_id", "encoder": "encoder_id", "rotation": "rotation_id"}[table]
    return int(
        connection.execute(f"SELECT coalesce(max({column}), 0) + 1 FROM {table}").fetchone()[0]
    )


def start_ids_above(connection: sqlite3.Connection, highest: int) -> None:
    """Give documents and passages of a catalog without any only ids above this one."""
    for table in ("document", "passage"):
        connection.execute(
            "INSERT INTO sqlite_sequence (name, seq) VALUES (?, ?)", (table, highest)
        )


def pack_dims(dims: Sequence[int]) -> str:
    """Dimensions as JSON text."""
    return canonical_json(list(dims))
