"""Building the derived FAISS file of an index: when it is due, of which kind, how good it must be.

What was measured of it is recorded beside it, for readers to act on and for people to see.
"""

from __future__ import annotations

import hashlib
import json
import logging
from typing import TYPE_CHECKING

from semsearch import fs
from semsearch.collection.layout import UNCOVERED_ROWS, UNCOVERED_SHARE
from semsearch.collection.snapshot import Snapshot
from semsearch.collection.vector_cache import KIND, covers, valid_cache
from semsearch.collection.writer import Writer, collect_garbage
from semsearch.errors import MissingExtra, UsageError
from semsearch.index.build import EXACT_ROWS, TARGET_RECALL
from semsearch.store import catalog
from semsearch.store.rows import canonical_json

if TYPE_CHECKING:
    import sqlite3

AUTO, EXACT = "auto", "exact"
LOWEST_TARGET = 0.5
MEASURED_DIMS = (128, 64)

log = logging.getLogger("semsearch")


def choose_kind(writer: Writer, kind: str) -> None:
    """From now on serve ``auto`` (by size), ``exact``, or any ``faiss.index_factory`` string.

    Raises UsageError for a kind that FAISS does not have or cannot build from these vectors, and
    MissingExtra without FAISS; the index then stays as it was.
    """
    if kind not in (AUTO, EXACT):
        from semsearch.index.library import Quantised

        Quantised.create(kind, writer.width)
        if len(writer.snapshot.rows):
            _build(writer, writer.snapshot, kind)
    _set(writer, "vector_index", kind)


def choose_recall(writer: Writer, target: float) -> None:
    """From now on find so much of the ten nearest, 0.5 to 1; 1 compares every vector.

    Derived files that aim at something else are built anew when they are next looked at. Raises
    UsageError for any other number.
    """
    require_recall(target)
    if target != wanted_recall(writer.connection):
        _set(writer, "recall_target", repr(target))


def require_recall(target: float) -> None:
    """Raise UsageError unless ``choose_recall`` would take the number."""
    if not LOWEST_TARGET <= target <= 1:
        raise UsageError(f"--recall must be between {LOWEST_TARGET} and 1, not {target}")


def wanted_recall(connection: sqlite3.Connection) -> float:
    """The recall@10 that was asked for."""
    return float(catalog.get_meta(connection, "recall_target") or TARGET_RECALL)


def build_vector_cache(writer: Writer, *, force: bool = False) -> None:
    """Build the FAISS file when the index is large and too much is not in it. One commit.

    A kind that was chosen (``choose_kind``) is built whatever the size.
    """
    snapshot = writer.snapshot
    kind = catalog.get_meta(writer.connection, "vector_index") or AUTO
    target = wanted_recall(writer.connection)
    if _needs_none(len(snapshot.rows), kind, target):
        if snapshot.cache(KIND) is not None:
            _forget(writer)
        return
    if not force and not _due(snapshot, target):
        return
    try:
        _build(writer, snapshot, kind)
    except (MissingExtra, UsageError) as exc:
        log.warning("%s; until then every vector is scanned", exc)


def _needs_none(rows: int, kind: str, target: float) -> bool:
    if kind == AUTO:
        return rows <= EXACT_ROWS or target >= 1
    return kind == EXACT or not rows


def _due(snapshot: Snapshot, target: float) -> bool:
    row = valid_cache(snapshot)
    if row is None or json.loads(row.params).get("target", TARGET_RECALL) != target:
        return True
    rows = len(snapshot.rows)
    uncovered = rows - json.loads(row.covers)["n"]
    return bool(uncovered > max(UNCOVERED_ROWS, UNCOVERED_SHARE * rows))


def _build(writer: Writer, snapshot: Snapshot, kind: str) -> None:
    from semsearch.index.build import build
    from semsearch.index.faiss_index import FaissIndex
    from semsearch.index.recall import Sample, recall

    rows, target = snapshot.rows, wanted_recall(writer.connection)
    widths = [rows.dim, *(dims for dims in MEASURED_DIMS if dims < rows.dim)]
    samples = Sample.at_widths(rows, widths)
    built = build(rows, kind=kind, target=target, sample=samples[rows.dim])
    if not isinstance(built.index, FaissIndex):
        return
    recalls = {dims: recall(built.index, samples[dims]) for dims in widths[1:]}
    recalls[rows.dim] = built.params.recall
    if recalls[rows.dim] < target:
        log.warning(
            "the vector index finds %.3f of the ten nearest, not the %s asked for: only"
            " `semsearch compact --recall 1`, which compares every vector, finds more",
            recalls[rows.dim],
            target,
        )
    raw = memoryview(built.index.to_bytes().data)
    digest = hashlib.sha256(raw).hexdigest()
    name = f"a-{digest[:24]}.faiss"
    with fs.NewFile(writer.layout.ann) as new:
        new.write(raw)
        new.publish(name)
    params = {
        "index": built.params.to_json(),
        "recalls": sorted(recalls.items()),
        "target": target,
    }
    row = catalog.CacheRow(
        name,
        KIND,
        canonical_json({name: digest}),
        canonical_json(covers(snapshot)),
        canonical_json(params),
        snapshot.generation.gen,
    )
    with writer.generation():
        catalog.put_cache(writer.connection, row)
    writer.refresh()
    collect_garbage(writer)


def _forget(writer: Writer) -> None:
    with writer.generation():
        catalog.drop_cache(writer.connection, KIND)
    writer.refresh()
    collect_garbage(writer)


def _set(writer: Writer, key: str, value: str) -> None:
    with writer.generation():
        catalog.set_meta(writer.connection, key, value)
    writer.refresh()
