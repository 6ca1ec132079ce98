"""What a reader sees: one committed generation, whole, whatever is being written meanwhile."""

from __future__ import annotations

import os
import re
import sqlite3
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

import numpy as np
from numpy.typing import NDArray

from semsearch.collection.layout import Layout
from semsearch.collection.rows import StoredRows
from semsearch.collection.tokens import StoredTokens, token_format
from semsearch.errors import SEE_CHECK, Corrupt, StorageError
from semsearch.store import catalog, passages
from semsearch.store.database import snapshot_transaction
from semsearch.store.rows import check_row
from semsearch.store.segments import Segment

if TYPE_CHECKING:
    from semsearch.types import Bools, Floats, Ints

_ATTEMPTS = 5
_SEGMENT_NAME = re.compile(r"s-[0-9a-f]{24}\.vec")
_OPEN: WeakValueDictionary[tuple[str, str], Segment] = WeakValueDictionary()


@dataclass(frozen=True)
class Snapshot:
    """One generation. ``dims`` is the width that searches use unless told otherwise.

    ``tokens`` has the token vectors of ``rows``, row for row, as far as there are any.
    ``dead`` holds, ascending, the vids of deleted passages that still have a row.
    """

    layout: Layout
    generation: catalog.GenerationRow
    encoder: catalog.EncoderRow | None
    dims: int
    rotation_id: int | None
    rotation: Floats | None
    segments: tuple[catalog.SegmentRow, ...]
    rows: StoredRows
    tokens: StoredTokens
    dead: Ints
    caches: tuple[catalog.CacheRow, ...]

    @cached_property
    def alive(self) -> Bools | None:
        """bool (n,) over the rows; None when every row is live."""
        if not len(self.dead):
            return None
        mask = np.ones(len(self.rows), np.bool_)
        mask[self.ordinals(self.dead)] = False
        return mask

    @property
    def last_vid(self) -> int:
        """The newest vid of this generation, 0 when there is none."""
        recent = self.rows.recent[0]
        if len(recent):
            return int(recent[-1])
        return self.segments[-1].last_vid if self.segments else 0

    def ordinals(self, vids: Ints) -> Ints:
        """Row positions of those vids that have a row here."""
        at = np.searchsorted(self.rows.ids, vids)
        inside = at < len(self.rows)
        at = at[inside]
        found: Ints = at[self.rows.ids[at] == vids[inside]].astype(np.int64)
        return found

    def cache(self, kind: str) -> catalog.CacheRow | None:
        """The derived file of this kind, if there is one on record."""
        return next((row for row in self.caches if row.kind == kind), None)


def take_snapshot(connection: sqlite3.Connection, layout: Layout) -> Snapshot:
    """Read the newest generation and map its files. Raises Corrupt, StorageError.

    A segment that vanishes between the catalog and the file was merged away: read again. The same
    one every time is lost.
    """
    missing: Counter[str] = Counter()
    while _ATTEMPTS not in missing.values():
        try:
            return _read(connection, layout)
        except FileNotFoundError as exc:
            missing[exc.filename] += 1
        except OSError as exc:
            reason = os.strerror(exc.errno) if exc.errno else str(exc)
            raise StorageError(f"{exc.filename or layout.folder}: cannot read: {reason}") from exc
    lost = missing.most_common(1)[0][0]
    raise Corrupt(f"{lost}: the vector file is missing: {SEE_CHECK}")


def _read(connection: sqlite3.Connection, layout: Layout) -> Snapshot:
    with snapshot_transaction(connection, layout.catalog):
        encoder = catalog.active_encoder(connection)
        newest = catalog.generation(connection)
        rotation = catalog.get_meta(connection, "active_rotation")
        rotation_id = int(rotation) if rotation else None
        wanted = catalog.segments(connection, encoder.encoder_id) if encoder else []
        recent, recent_tokens, recent_rotations = _recent(connection, encoder)
        coded = catalog.get_meta(connection, catalog.CODED_WIDTH)
        matrix = catalog.rotation(connection, rotation_id)
        dims = catalog.get_meta(connection, "dims")
        dead = passages.dead_vids(connection)
        caches = tuple(catalog.caches(connection))
    segments = [_open_segment(layout, row) for row in wanted]
    width = segments[0].dim if segments else recent[1].shape[1]
    rows = StoredRows(segments, recent, width)
    tokens = StoredTokens(layout, wanted, recent_tokens, token_format(encoder, int(coded or 0)))
    snapshot = Snapshot(
        layout, newest, encoder, int(dims or 0), rotation_id, matrix, tuple(wanted), rows, tokens,
        dead, caches,
    )  # fmt: skip
    _check(snapshot, {row.rotation_id for row in wanted} | recent_rotations)
    if coded is None and (any(recent_tokens) or any(row.tok_name for row in wanted)):
        raise _lost(snapshot, "the width of its token vectors is missing")
    return snapshot


def _open_segment(layout: Layout, row: catalog.SegmentRow) -> Segment:
    """The mapped file, shared with earlier snapshots: its blocks are checked only once."""
    if not _SEGMENT_NAME.fullmatch(row.name):
        raise Corrupt(f"{layout.catalog}: {row.name!r} is no name of a vector file: refused")
    path = layout.segments / row.name
    segment = _OPEN.get((str(path), row.sha256))
    if segment is None:
        segment = _OPEN[(str(path), row.sha256)] = Segment(path, row.sha256)
    if segment.n != row.n:
        raise Corrupt(f"{path}: {segment.n} vectors, not the {row.n} on record: {SEE_CHECK}")
    return segment


def _recent(
    connection: sqlite3.Connection, encoder: catalog.EncoderRow | None
) -> tuple[tuple[Ints, NDArray[np.float16]], list[bytes | None], set[int | None]]:
    """What is in no segment yet: vids and vectors, their codes, the rotations they are under."""
    if encoder is None:
        return (np.zeros(0, np.int64), np.zeros((0, 0), np.float16)), [], set()
    found = connection.execute(
        "SELECT * FROM l0 WHERE encoder_id = ? ORDER BY vid", (encoder.encoder_id,)
    ).fetchall()
    for row in found:
        check_row("l0", row[0], row[:-1], row[-1])
    vids = np.array([row[0] for row in found], np.int64)
    raw = b"".join(row[3] for row in found)
    width = len(found[0][3]) // 2 if found else encoder.dim
    if len(raw) != 2 * width * len(found):
        raise Corrupt(f"catalog.db: rows of table l0 are damaged: {SEE_CHECK}")
    vectors = np.frombuffer(raw, "<f2").reshape(len(found), width)
    return (vids, vectors), [row[4] for row in found], {row[2] for row in found}


def _check(snapshot: Snapshot, rotations: set[int | None]) -> None:
    """What checksums of rows cannot see: rows, or settings, that are lost as a whole."""
    live = len(snapshot.rows) - len(snapshot.dead)
    if live != snapshot.generation.n_passage:
        what = f"{live} live vectors for {snapshot.generation.n_passage} passages"
    elif rotations - {snapshot.rotation_id}:
        what = f"vectors under another rotation than {snapshot.rotation_id}"
    elif snapshot.encoder and not snapshot.dims:
        what = "the width of its vectors is missing"
    else:
        return
    raise _lost(snapshot, what)


def _lost(snapshot: Snapshot, what: str) -> Corrupt:
    return Corrupt(f"{snapshot.layout.catalog}: {what}: {SEE_CHECK}")
