"""The language of an index: chosen, or detected when its words are first written; then it stays.

An index that grows keeps its language, whatever comes in: its documents stay comparable with each
other and with what was measured, and adding one never rebuilds the words of all the others. To
change it is a decision of its own (``choose_language``).
"""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

import numpy as np

from semsearch.lexical.languages import ENGLISH, require_language
from semsearch.store import catalog, passages
from semsearch.store.database import database_errors

if TYPE_CHECKING:
    from semsearch.collection.writer import Writer

_KEY = "language"


def choose_language(writer: Writer, code: str) -> None:
    """From now on the words of this index are stemmed so; its lexical folder is built anew later.

    Raises UsageError for a code that there is not.
    """
    language = require_language(code)
    if language != recorded_language(writer.connection):
        with writer.transaction():
            catalog.set_meta(writer.connection, _KEY, language)
        writer.refresh()


def recorded_language(connection: sqlite3.Connection) -> str | None:
    """What was chosen or detected; None for an index without words, or from before there was any.

    The words of the latter are English.
    """
    return catalog.get_meta(connection, _KEY)


def detected_language(writer: Writer) -> str:
    """The language of the live passages, by a sample spread evenly over all of them."""
    from semsearch.lexical.detect import SAMPLE, detect_language

    snapshot = writer.snapshot
    ids = snapshot.rows.ids if snapshot.alive is None else snapshot.rows.ids[snapshot.alive]
    places = np.unique(np.linspace(0, len(ids) - 1, min(SAMPLE, len(ids))).astype(np.int64))
    gen = snapshot.generation.gen
    with database_errors(snapshot.layout.catalog):
        found = [
            text
            for vid in ids[places].tolist()
            for _, text in passages.passage_texts(writer.connection, vid - 1, vid, gen)
        ]
    return detect_language(found) if found else ENGLISH


def record_language(writer: Writer, language: str) -> None:
    """Keep what was detected (inside the transaction that commits the words)."""
    catalog.set_meta(writer.connection, _KEY, language)
