"""What is indexed: a named stream of documents, cut into windows, its ids remembered."""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from semsearch.errors import StorageError
from semsearch.types import Document

WINDOW_DOCUMENTS = 2_048
WINDOW_CHARACTERS = 16_000_000


@dataclass(frozen=True)
class Source:
    """A corpus to index: ``uri`` names it in the index; ``prunable`` unless it is a stream.

    With ``own_sources`` each document keeps the source that it names, whatever the corpus is.
    """

    uri: str
    documents: Iterable[Document]
    prunable: bool = True
    own_sources: bool = False


def windows(source: Iterable[Document]) -> Iterator[list[Document]]:
    """Cut a stream by count and size, always at the same places."""
    window: list[Document] = []
    characters = 0
    for document in source:
        window.append(document)
        characters += len(document.title) + len(document.text)
        if len(window) >= WINDOW_DOCUMENTS or characters >= WINDOW_CHARACTERS:
            yield window
            window, characters = [], 0
    if window:
        yield window


class SeenIds:
    """The ids of this run with their places, on disk when they are many."""

    def __init__(self) -> None:
        self._db = sqlite3.connect("", isolation_level=None)  # a private temporary file
        self._db.execute("PRAGMA journal_mode = OFF")
        self._db.execute("CREATE TABLE seen (id TEXT PRIMARY KEY, place TEXT) WITHOUT ROWID")

    def __enter__(self) -> SeenIds:
        return self

    def __exit__(self, *_: object) -> None:
        self._db.close()

    def add(self, document: Document) -> str | None:
        """Remember an id; the place where it was seen first if this is not the first time.

        Raises StorageError when there is no room for temporary files.
        """
        place = f"{document.source}:{document.line}" if document.line else document.source
        try:
            self._db.execute("INSERT INTO seen VALUES (?, ?)", (document.id, place))
        except sqlite3.IntegrityError:
            row = self._db.execute("SELECT place FROM seen WHERE id = ?", (document.id,)).fetchone()
            return str(row[0])
        except sqlite3.OperationalError as exc:
            raise StorageError(
                f"{tempfile.gettempdir()}: cannot write a temporary file ({exc}): free some space,"
                " or name another folder with TMPDIR"
            ) from exc
        return None

    def absent(self, connection: sqlite3.Connection, uri: str) -> list[str]:
        """Ids of live documents of a source that this run did not see."""
        rows = connection.execute(
            "SELECT ext_id FROM document WHERE source = ? AND deleted_gen IS NULL", (uri,)
        )
        return [
            ext_id
            for (ext_id,) in rows
            if not self._db.execute("SELECT 1 FROM seen WHERE id = ?", (ext_id,)).fetchone()
        ]
