"""The derived lexical folder of an index: extended by the writer, verified and opened by readers.

It covers the passages up to a vid; later ones are indexed in memory by each reader until the next
run of the writer adds them. Deleted passages are left out of the answers, whatever it holds.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from semsearch import fs
from semsearch.collection.snapshot import Snapshot
from semsearch.collection.writer import Writer
from semsearch.errors import Corrupt, Mismatch, MissingExtra
from semsearch.store import catalog, documents
from semsearch.store.database import database_errors, transaction
from semsearch.store.rows import canonical_json
from semsearch.types import Candidates
from semsearch.vectors import merge_top_k

if TYPE_CHECKING:
    from semsearch.lexical.contract import Lexical
    from semsearch.lexical.state import LexicalState
    from semsearch.types import Ints

KIND = "lexical"
_BATCH = 2_048
log = logging.getLogger("semsearch")


class LexicalView:
    """The recorded lexical index and the passages it does not cover, live passages only."""

    def __init__(self, parts: Sequence[Lexical], dead: Ints) -> None:
        self._parts = parts
        self._dead = dead

    def search(self, texts: Sequence[str], k: int, vids: Ints | None = None) -> Candidates:
        """The k best passages for each text by BM25, (Q, k); ``vids`` keeps only those."""
        found: Candidates | None = None
        for part in self._parts:
            more = part.search(texts, k, allowed=vids, excluded=self._dead)
            found = more if found is None else merge_top_k(found, more, k)
        if found is None:
            shape = (len(texts), k)
            return Candidates(np.full(shape, -1, np.int64), np.full(shape, -np.inf, np.float32))
        return found


def build_lexical_cache(writer: Writer, *, force: bool = False) -> None:
    """Add the passages that the lexical folder lacks; ``force`` builds it anew. One commit."""
    snapshot = writer.snapshot
    state = None if force else _state(snapshot)
    covered = state.last_vid if state else 0
    if snapshot.last_vid == covered or not len(snapshot.rows):
        return
    try:
        from semsearch.lexical.writer import LexicalWriter

        with LexicalWriter(writer.layout.lexical, state) as lexical:
            # afresh when its files were damaged or of another version
            start = max(lexical.covered, 0)
            for vids, texts in _texts(writer.connection, start, snapshot.last_vid):
                lexical.add(vids, texts)
            made = lexical.commit(snapshot.last_vid)
            row = catalog.CacheRow(
                "lex", KIND, canonical_json(made.to_json()), "{}", "{}", snapshot.generation.gen
            )
            with transaction(writer.connection, writer.layout.catalog):
                catalog.put_cache(writer.connection, row)
            lexical.collect_garbage([made])
    except MissingExtra as exc:
        log.warning("%s; until then searches are dense only", exc)
    writer.refresh()


def open_lexical(snapshot: Snapshot, connection: sqlite3.Connection) -> LexicalView | None:
    """The lexical index of a snapshot; None, logged once, when tantivy is not installed."""
    try:
        parts, covered = _recorded(snapshot)
        parts += _uncovered(snapshot, connection, covered)
    except MissingExtra as exc:
        log.warning("%s; searching dense only", exc)
        return None
    return LexicalView(parts, snapshot.dead)


def _recorded(snapshot: Snapshot) -> tuple[list[Lexical], int]:
    from semsearch.lexical.reader import LexicalIndex

    state = _state(snapshot)
    if state is None:
        return [], 0
    try:
        index = LexicalIndex.open(snapshot.layout.lexical, state, fs.cache_folder())
    except (Corrupt, Mismatch) as exc:
        log.warning("%s; indexing the words again in memory: `semsearch compact` repairs it", exc)
        return [], 0
    return [index], state.last_vid


def _uncovered(snapshot: Snapshot, connection: sqlite3.Connection, covered: int) -> list[Lexical]:
    from semsearch.lexical.memory import MemoryLexical

    if covered >= snapshot.last_vid:
        return []
    with database_errors(snapshot.layout.catalog):
        found = list(documents.passage_texts(connection, covered, snapshot.last_vid))
    if not found:
        return []
    vids = np.array([vid for vid, _ in found], np.int64)
    return [MemoryLexical(vids, [text for _, text in found])]


def _state(snapshot: Snapshot) -> LexicalState | None:
    from semsearch.lexical.state import LexicalState

    row = snapshot.cache(KIND)
    if row is None:
        return None
    state = LexicalState.from_json(row.files)
    return state if state.is_current() else None


def _texts(
    connection: sqlite3.Connection, after: int, up_to: int
) -> Iterator[tuple[Ints, list[str]]]:
    vids: list[int] = []
    texts: list[str] = []
    for vid, text in documents.passage_texts(connection, after, up_to):
        vids.append(vid)
        texts.append(text)
        if len(vids) == _BATCH:
            yield np.array(vids, np.int64), texts
            vids, texts = [], []
    if vids:
        yield np.array(vids, np.int64), texts
