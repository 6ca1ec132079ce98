"""Reorganising the vectors of an index: merging segments, fitting a rotation, compacting.

Each is one commit; what it replaces is removed afterwards. Vectors and codes are streamed: memory
stays at one block.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from semsearch.collection import layout as sizes
from semsearch.collection.rows import StoredRows
from semsearch.collection.tokens import in_parts
from semsearch.collection.writer import Writer, collect_garbage
from semsearch.store import catalog, documents
from semsearch.vectors import fit_rotation, widen

if TYPE_CHECKING:
    from semsearch.store.token_files import WrittenTokens
    from semsearch.types import Bools, Floats, Ints

_BLOCK = 4_096


def merge_segments(writer: Writer) -> None:
    """Merge the newest segments while ``MERGE_COUNT`` neighbours are below a limit."""
    for limit in sizes.MERGE_LIMITS:
        segments = writer.snapshot.segments
        run = 0
        while run < len(segments) and segments[-1 - run].n < limit:
            run += 1
        if run >= sizes.MERGE_COUNT:
            _merge(writer, segments[-run:])


def _merge(writer: Writer, old: Sequence[catalog.SegmentRow]) -> None:
    rows = writer.snapshot.rows
    start = sum(row.n for row in writer.snapshot.segments if row.first_vid < old[0].first_vid)
    count = sum(row.n for row in old)
    blocks = _blocks(rows, (start, start + count), None, None, rows.dim)
    tokens = _write_tokens(writer, np.arange(start, start + count))
    file = writer.write_file(rows.ids[start : start + count], blocks, rows.dim)
    with writer.generation() as tally:
        catalog.drop_segments(writer.connection, [row.seg_id for row in old])
        writer.add_segment(file, tally.gen, writer.snapshot.rotation_id, tokens)
    writer.refresh()
    collect_garbage(writer)


def fit_rotation_if_due(writer: Writer, at_least: int | None = None) -> None:
    """Rotate the stored vectors onto their principal axes once there are enough of them.

    For models that declare no Matryoshka dims. Orthogonal: scores at full width do not change;
    scores at fewer dimensions get better. ``at_least``: wait for so many passages.
    """
    snapshot = writer.snapshot
    encoder = snapshot.encoder
    if encoder is None or encoder.is_matryoshka or snapshot.rotation_id is not None:
        return
    due = max(sizes.ROTATION_ROWS_PER_DIM * encoder.dim, at_least or 0)
    if len(snapshot.rows) - len(snapshot.dead) < due:
        return
    rewrite(writer, refit=True)


def compact(writer: Writer) -> None:
    """Rewrite the live vectors as one segment and purge deleted documents for good.

    The rotation is fitted again once there are twice as many passages to fit it on.
    """
    snapshot = writer.snapshot
    encoder = snapshot.encoder
    if encoder is None:
        return
    live = len(snapshot.rows) - len(snapshot.dead)
    fitted_on = catalog.rotation_size(writer.connection, snapshot.rotation_id)
    due = max(sizes.ROTATION_ROWS_PER_DIM * encoder.dim, 2 * fitted_on)
    # cut vectors have lost the dimensions that another rotation would need
    whole = snapshot.rows.dim == encoder.dim
    enough = min(live, sizes.ROTATION_SAMPLE) >= due
    rewrite(writer, refit=enough and whole and not encoder.is_matryoshka)


def rewrite(writer: Writer, *, refit: bool) -> None:
    """Write all live vectors anew, under a newly fitted rotation if ``refit``. One commit."""
    snapshot = writer.snapshot
    rows, alive = snapshot.rows, snapshot.alive
    matrix = _fit(rows, alive) if refit else None
    rotation_id = snapshot.rotation_id
    kept = np.arange(len(rows)) if alive is None else np.flatnonzero(alive)
    vids = rows.ids[kept]
    width = rows.dim if matrix is None else snapshot.dims
    blocks = _blocks(rows, (0, len(rows)), alive, matrix, width)
    tokens = _write_tokens(writer, kept)
    file = writer.write_file(vids, blocks, width) if len(vids) else None
    with writer.generation() as tally:
        catalog.drop_segments(writer.connection, [row.seg_id for row in snapshot.segments])
        writer.forget_recent()
        if matrix is not None:
            rotation_id = _record_rotation(writer, matrix, len(vids))
        if file is not None:
            writer.add_segment(file, tally.gen, rotation_id, tokens)
        if len(snapshot.dead):  # derived files may still name what is purged
            documents.purge_deleted(writer.connection)
            catalog.set_meta(writer.connection, catalog.HORIZON, str(tally.gen))
            catalog.drop_cache(writer.connection)
    writer.refresh()
    collect_garbage(writer)


def _write_tokens(writer: Writer, ordinals: Ints) -> WrittenTokens | None:
    return writer.write_tokens(in_parts(writer.snapshot.tokens, ordinals))


def _fit(rows: StoredRows, alive: Bools | None) -> Floats:
    def sample() -> Iterator[Floats]:
        taken = 0
        for block in _blocks(rows, (0, len(rows)), alive, None, rows.dim):
            part = widen(block[: sizes.ROTATION_SAMPLE - taken])
            taken += len(part)
            yield part
            if taken >= sizes.ROTATION_SAMPLE:
                return

    return fit_rotation(sample(), rows.dim)


def _record_rotation(writer: Writer, matrix: Floats, fitted_on: int) -> int:
    """The stored vectors were ``x @ before``; now they are ``x @ before @ matrix``."""
    before = writer.snapshot.rotation
    total = matrix if before is None else before @ matrix
    encoder = writer.snapshot.encoder
    number = catalog.next_id(writer.connection, "rotation")
    used = min(fitted_on, sizes.ROTATION_SAMPLE)
    encoder_id = encoder.encoder_id if encoder else 0
    catalog.drop_rotations(writer.connection, encoder_id)
    catalog.add_rotation(writer.connection, number, encoder_id, used, total)
    catalog.set_meta(writer.connection, "active_rotation", str(number))
    return number


def _blocks(
    rows: StoredRows,
    span: tuple[int, int],
    alive: Bools | None,
    matrix: Floats | None,
    width: int,
) -> Iterator[NDArray[np.float16]]:
    for first in range(*span, _BLOCK):
        last = min(first + _BLOCK, span[1])
        block = rows.block(first, last)
        if alive is not None:
            block = block[alive[first:last]]
        if matrix is not None:
            block = (widen(block) @ matrix).astype(np.float16)
        yield block[:, :width]
