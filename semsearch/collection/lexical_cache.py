"""The derived lexical folder of an index: extended by the writer, verified and opened by readers.

It covers the passages up to a vid; later ones are indexed in memory by each reader until the next
run of the writer adds them. Deleted passages are left out of the answers, whatever it holds.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from semsearch import fs
from semsearch.collection.language import (
    detected_language,
    record_language,
    recorded_language,
)
from semsearch.collection.snapshot import Snapshot
from semsearch.errors import SEE_CHECK, Corrupt, Mismatch, MissingExtra
from semsearch.lexical.languages import ENGLISH
from semsearch.store import catalog, passages
from semsearch.store.database import database_errors
from semsearch.store.rows import canonical_json
from semsearch.types import Candidates
from semsearch.vectors import empty_candidates, merge_top_k

if TYPE_CHECKING:
    from semsearch.collection.writer import Writer
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
        return empty_candidates(len(texts), k) if found is None else found


def build_lexical_cache(writer: Writer, *, force: bool = False) -> None:
    """Add the passages that the lexical folder lacks; ``force`` builds it anew. One commit.

    It is built anew too where another language was chosen. An index whose language is not known
    has it detected, unless its folder, from before there were any, goes on in English.
    """
    snapshot = writer.snapshot
    if not len(snapshot.rows):
        _clear(writer)
        return
    state = None if force else _state(snapshot)
    language = recorded_language(writer.connection)
    if state is not None:
        language = language or state.language
        if state.language == language and uncovered_passages(snapshot) == 0:
            return
    try:
        from semsearch.lexical.writer import LexicalWriter

        language = language or detected_language(writer)
        with LexicalWriter(writer.layout.lexical, state, language=language) as lexical:
            # afresh when its files were damaged or of another version
            start = max(lexical.covered, 0)
            for vids, texts in _texts(writer.connection, start, snapshot):
                lexical.add(vids, texts)
            made = lexical.commit(snapshot.last_vid)
            row = catalog.CacheRow(
                "lex", KIND, canonical_json(made.to_json()), "{}", "{}", snapshot.generation.gen
            )
            with writer.generation():
                catalog.put_cache(writer.connection, row)
                if state is None:
                    record_language(writer, language)
            lexical.collect_garbage([made])
    except MissingExtra as exc:
        log.warning("%s; until then searches are dense only", exc)
    writer.refresh()


def uncovered_passages(snapshot: Snapshot) -> int:
    """How many vids the lexical folder lacks, those of passages that are gone included."""
    state = _state(snapshot)
    if state is None:  # vids need not start at 1
        return len(snapshot.rows)
    return snapshot.last_vid - state.last_vid


def _clear(writer: Writer) -> None:
    """Leave no words of documents that are gone; compacting has forgotten their record."""
    if writer.layout.lexical.is_dir():
        for path in sorted(writer.layout.lexical.iterdir()):
            if path.is_file():
                fs.remove(path)


def open_lexical(
    snapshot: Snapshot,
    connection: sqlite3.Connection,
    require_current: Callable[[Snapshot, str], None],
) -> LexicalView | None:
    """The lexical index of a snapshot; None, logged once, when tantivy is not installed.

    ``require_current`` is asked before a bad file is reported and after texts were read: a commit
    may have replaced the one, or purged some of the others.
    """
    try:
        parts, covered = _recorded(snapshot, require_current)
        if covered < snapshot.last_vid:
            with database_errors(snapshot.layout.catalog):
                texts = list(_live_texts(connection, covered, snapshot))
            require_current(snapshot, KIND)
            _require_all(snapshot, covered, len(texts))
            parts += _uncovered(snapshot, connection, texts)
    except MissingExtra as exc:
        log.warning("%s; searching dense only", exc)
        return None
    return LexicalView(parts, snapshot.dead)


def _recorded(
    snapshot: Snapshot, require_current: Callable[[Snapshot, str], None]
) -> tuple[list[Lexical], int]:
    from semsearch.lexical.reader import LexicalIndex

    state = _state(snapshot)
    if state is None:
        return [], 0
    try:
        index = LexicalIndex.open(snapshot.layout.lexical, state, fs.cache_folder())
    except (Corrupt, Mismatch) as exc:
        require_current(snapshot, KIND)
        log.warning("%s; indexing the words again in memory: `semsearch compact` repairs it", exc)
        return [], 0
    return [index], state.last_vid


def _uncovered(
    snapshot: Snapshot, connection: sqlite3.Connection, found: list[tuple[int, str]]
) -> list[Lexical]:
    from semsearch.lexical.memory import MemoryLexical

    if not found:
        return []
    vids = np.array([vid for vid, _ in found], np.int64)
    language = words_language(snapshot, connection) or ENGLISH
    return [MemoryLexical(vids, [text for _, text in found], language)]


def words_language(snapshot: Snapshot, connection: sqlite3.Connection) -> str | None:
    """The language whose stems are searched; None as long as there are no words."""
    state = _state(snapshot)
    if state is not None:
        return state.language
    with database_errors(snapshot.layout.catalog):
        return recorded_language(connection)


def _state(snapshot: Snapshot) -> LexicalState | None:
    from semsearch.lexical.state import LexicalState

    row = snapshot.cache(KIND)
    if row is None:
        return None
    state = LexicalState.from_json(row.files)
    return state if state.is_current() else None


def _live_texts(
    connection: sqlite3.Connection, after: int, snapshot: Snapshot
) -> Iterator[tuple[int, str]]:
    gen = snapshot.generation.gen
    return passages.passage_texts(connection, after, snapshot.last_vid, gen)


def _texts(
    connection: sqlite3.Connection, after: int, snapshot: Snapshot
) -> Iterator[tuple[Ints, list[str]]]:
    """The texts that the writer, who sees the newest generation, adds to the words."""
    vids: list[int] = []
    texts: list[str] = []
    count = 0
    for vid, text in _live_texts(connection, after, snapshot):
        count += 1
        vids.append(vid)
        texts.append(text)
        if len(vids) == _BATCH:
            yield np.array(vids, np.int64), texts
            vids, texts = [], []
    _require_all(snapshot, after, count)
    if vids:
        yield np.array(vids, np.int64), texts


def _require_all(snapshot: Snapshot, after: int, count: int) -> None:
    """Raise Corrupt unless so many live passages come after a vid: a row lost has no checksum."""
    later = snapshot.rows.ids > after
    live = later if snapshot.alive is None else later & snapshot.alive
    if int(np.count_nonzero(live)) != count:
        raise Corrupt(f"{snapshot.layout.catalog}: rows of passages are lost: {SEE_CHECK}")
