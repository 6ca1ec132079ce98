"""Giving codes to passages that are stored without."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from semsearch.collection.tokens import codes_of_each
from semsearch.collection.writer import Writer, collect_garbage
from semsearch.store import catalog
from semsearch.store.recent_tokens import packed
from semsearch.store.rows import row_crc
from semsearch.store.token_files import in_one

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from semsearch.maxsim import Codes
    from semsearch.store.catalog import SegmentRow
    from semsearch.types import Ints

_BLOCK = 4_096


def fill_tokens(writer: Writer, vids: Ints, codes: Sequence[NDArray[np.uint8] | None]) -> None:
    """Store the codes of passages, int64 (m,) ascending, all of one segment or all recent.

    Those that the others of the segment have are kept. One commit.
    """
    made = writer.snapshot.tokens.format
    if made is None or not len(vids):
        return
    given = dict(zip(vids.tolist(), codes, strict=True))
    segment = next((r for r in writer.snapshot.segments if r.last_vid >= vids[0]), None)
    if segment is None:
        rows = {vid: packed(own, made) for vid, own in given.items() if own is not None}
        with writer.generation():
            _put_recent(writer, rows)
    else:
        written = writer.write_tokens(_merged(writer, segment, given))
        name, sha256 = written or (None, None)
        with writer.generation():
            row = replace(segment, tok_name=name, tok_sha256=sha256)
            catalog.add_segment(writer.connection, row)
    writer.refresh()
    collect_garbage(writer)


def _merged(
    writer: Writer, segment: SegmentRow, given: dict[int, NDArray[np.uint8] | None]
) -> Iterator[Codes]:
    """The codes of all rows of a segment, those given in their places, some at a time."""
    snapshot = writer.snapshot
    start = int(np.searchsorted(snapshot.rows.ids, segment.first_vid))
    for first in range(start, start + segment.n, _BLOCK):
        ordinals = np.arange(first, min(first + _BLOCK, start + segment.n))
        stored = codes_of_each(snapshot.tokens, ordinals)
        vids = snapshot.rows.ids[ordinals].tolist()
        yield in_one([given.get(vid, own) for vid, own in zip(vids, stored, strict=True)])


def _put_recent(writer: Writer, rows: dict[int, bytes]) -> None:
    for vid, raw in rows.items():
        found = writer.connection.execute(
            "SELECT vid, encoder_id, rotation_id, vec FROM l0 WHERE vid = ?", (vid,)
        ).fetchone()
        values = (*found, raw)
        writer.connection.execute(
            "INSERT OR REPLACE INTO l0 VALUES (?,?,?,?,?,?)", (*values, row_crc(values))
        )
