"""Checking that every passage has one vector, and every vector its passage."""

from __future__ import annotations

import heapq
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field

from semsearch.collection.layout import Layout
from semsearch.errors import Corrupt
from semsearch.store import catalog
from semsearch.store.segments import Segment

_VIDS = 65_536


@dataclass
class Opened:
    """The segment files that could be opened, by encoder where their vids can be trusted too.

    ``lost`` holds the (first, last) vids of the others; ``complete`` says that all were looked at.
    """

    segments: list[Segment] = field(default_factory=list)
    readable: dict[int, list[Segment]] = field(default_factory=dict)
    lost: list[tuple[int, int]] = field(default_factory=list)
    complete: bool = False


def open_segments(connection: sqlite3.Connection, layout: Layout, opened: Opened) -> Iterator[str]:
    """Map every segment on record into ``opened``; yield what is wrong with each."""
    active = catalog.get_meta(connection, "active_rotation")
    for row in catalog.segments(connection):
        path = layout.segments / row.name
        try:
            segment = Segment(path, row.sha256)
            vids = segment.vids
        except (Corrupt, OSError) as exc:
            opened.lost.append((row.first_vid, row.last_vid))
            yield (
                str(exc)
                if isinstance(exc, Corrupt)
                else f"{path}: the vector file cannot be read ({exc.strerror})"
            )
            continue
        if (segment.n, int(vids[0]), int(vids[-1])) != (row.n, row.first_vid, row.last_vid):
            yield f"{path}: the vector file holds other passages than the catalog says"
        if (vids[1:] <= vids[:-1]).any():
            yield f"{path}: the passages of the vector file are out of order"
        if row.rotation_id != (int(active) if active else None):
            yield f"{path}: its vectors are under rotation {row.rotation_id}, not {active}"
        opened.segments.append(segment)
        opened.readable.setdefault(row.encoder_id, []).append(segment)
    opened.complete = True


def vid_problems(connection: sqlite3.Connection, opened: Opened) -> Iterator[str]:
    """Compare the vids of passages with those of vectors, for each encoder."""
    if not opened.complete:
        return
    with closing(connection.execute("SELECT encoder_id FROM encoder")) as cursor:
        encoders = [encoder_id for (encoder_id,) in cursor]
    for encoder_id in encoders:
        passages = _column(connection, "passage", encoder_id)
        recent = _column(connection, "l0", encoder_id)
        files = [_vids(segment) for segment in opened.readable.get(encoder_id, [])]
        yield from _compared(passages, heapq.merge(*files, recent), opened.lost)


def _column(connection: sqlite3.Connection, table: str, encoder_id: int) -> Iterator[int]:
    with closing(connection.cursor()) as cursor:
        query = f"SELECT vid FROM {table} WHERE encoder_id = ? ORDER BY vid"  # noqa: S608
        for (vid,) in cursor.execute(query, (encoder_id,)):
            yield vid


def _vids(segment: Segment) -> Iterator[int]:
    for start in range(0, segment.n, _VIDS):
        yield from segment.vids[start : start + _VIDS].tolist()


def _compared(
    passages: Iterator[int], vectors: Iterator[int], lost: list[tuple[int, int]]
) -> Iterator[str]:
    passage, vector = next(passages, None), next(vectors, None)
    while passage is not None or vector is not None:
        if vector is None or (passage is not None and passage < vector):
            if not any(first <= (passage or 0) <= last for first, last in lost):
                yield f"catalog.db: passage {passage} has no vector"
            passage = next(passages, None)
        elif passage is None or vector < passage:
            yield f"catalog.db: vector {vector} has no passage"
            vector = next(vectors, None)
        else:
            passage, previous = next(passages, None), vector
            vector = next(vectors, None)
            while vector == previous:
                yield f"catalog.db: passage {previous} has more than one vector"
                vector = next(vectors, None)
