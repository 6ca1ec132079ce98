"""Checking a whole index: every row, every file, and that they belong together.

Memory is bounded whatever the size: rows are streamed, files are mapped.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from semsearch import fs
from semsearch.collection.check_catalog import catalog_problems
from semsearch.collection.check_tokens import damaged_tokens, open_tokens
from semsearch.collection.check_vectors import Opened, open_segments, vid_problems
from semsearch.collection.layout import Layout
from semsearch.collection.snapshot import take_snapshot
from semsearch.errors import SemsearchError, what_is_damaged
from semsearch.store import catalog
from semsearch.store.database import database_errors, snapshot_transaction

if TYPE_CHECKING:
    from semsearch.collection.reader import Reader
    from semsearch.store.token_files import TokenFile

_MOST_LINES = 20


Part = Literal["catalog", "vectors", "tokens", "derived"]


class Finding(NamedTuple):
    """One line of a check. A note is no damage: the next command that writes puts it right.

    ``part`` says what it is of; derived files and those of tokens are made again from the others.
    """

    text: str
    is_note: bool = False
    part: Part = "catalog"

    def __str__(self) -> str:
        return what_is_damaged(self.text)


def _faiss_files(layout: Layout, row: catalog.CacheRow) -> dict[Path, str]:
    return {layout.ann / Path(name).name: digest for name, digest in json.loads(row.files).items()}


def _lexical_files(layout: Layout, row: catalog.CacheRow) -> dict[Path, str]:
    files = json.loads(row.files)["files"]
    return {layout.lexical / Path(name).name: digest for name, digest in files.items()}


FILES_OF: dict[str, Callable[[Layout, catalog.CacheRow], dict[Path, str]]] = {
    "faiss": _faiss_files,
    "lexical": _lexical_files,
}
"""The SHA-256 of every derived file, by the cache's kind; a new kind of cache is added here."""


def check_index(reader: Reader) -> Generator[Finding, None, None]:
    """Yield what is wrong with an index, one line each; nothing when it is sound.

    The catalog is read in one transaction: a writer waits with its commit until that is done (it
    gives up after 30 seconds), so check a large index while nothing is written. The files are
    hashed afterwards. Raises what ``Reader`` raises for an index that cannot be opened at all.
    """
    connection, layout = reader.connection, reader.layout
    opened = Opened()
    damaged = False
    for finding in _findings(connection, layout, opened):
        damaged = damaged or not finding.is_note
        yield finding
    if not damaged:
        try:
            take_snapshot(connection, layout)
        except SemsearchError as exc:
            yield Finding(str(exc))


def _findings(connection: sqlite3.Connection, layout: Layout, opened: Opened) -> Iterator[Finding]:
    derived: list[catalog.CacheRow] = []
    tokens: list[TokenFile] = []
    with snapshot_transaction(connection, layout.catalog):
        for lines in catalog_problems(connection):
            yield from _capped(layout, lines)
        yield from _capped(layout, open_segments(connection, layout, opened), "vectors")
        yield from _capped(layout, vid_problems(connection, opened))
        yield from _capped(layout, open_tokens(connection, layout, tokens), "tokens")
        yield from _capped(layout, _derived(connection, derived))
        yield from _orphans(connection, layout)
    for segment in opened.segments:
        yield from _capped(layout, _hashed(segment.verify), "vectors")
    for file in tokens:
        yield from _capped(layout, damaged_tokens(file), "tokens")
    for row in derived:
        yield from _derived_files(layout, row)


def _capped(layout: Layout, lines: Iterable[str], part: Part = "catalog") -> Iterator[Finding]:
    """Findings of one kind: the first few, the number of the others, and why it ended early."""
    count = 0
    try:
        with database_errors(layout.catalog):
            for count, line in enumerate(lines, start=1):
                if count <= _MOST_LINES:
                    yield Finding(line, part=part)
    except SemsearchError as exc:
        yield Finding(str(exc), part=part)
    if count > _MOST_LINES:
        text = f"{layout.catalog}: ... and {count - _MOST_LINES} more of this kind"
        yield Finding(text, part=part)


def _hashed(verify: Callable[[], None]) -> Iterator[str]:
    verify()
    yield from ()


def _derived(connection: sqlite3.Connection, found: list[catalog.CacheRow]) -> Iterator[str]:
    found.extend(catalog.caches(connection))
    yield from ()


def _derived_files(layout: Layout, row: catalog.CacheRow) -> Iterator[Finding]:
    if row.kind not in FILES_OF:
        yield Finding(f"{layout.catalog}: the cache {row.name} has the unknown kind {row.kind!r}")
        return
    for path, digest in sorted(FILES_OF[row.kind](layout, row).items()):
        again = "`semsearch compact` builds it again"
        try:
            sound = fs.sha256_of(path) == digest
        except FileNotFoundError:
            yield Finding(f"{path}: the derived file is missing: {again}", True, "derived")
        except OSError as exc:
            yield Finding(f"{path}: cannot be read: {exc.strerror}", part="derived")
        else:
            if not sound:
                yield Finding(f"{path}: the derived file is damaged: {again}", part="derived")


def _orphans(connection: sqlite3.Connection, layout: Layout) -> Iterator[Finding]:
    query = (
        "SELECT name FROM segment UNION SELECT tok_name FROM segment UNION SELECT name FROM cache"
    )
    with closing(connection.execute(query)) as c:
        named = {name for (name,) in c}
    for folder in (layout.segments, layout.ann):
        with fs.read_errors(folder):
            paths = sorted(folder.iterdir()) if folder.is_dir() else []
        for path in paths:
            if path.name not in named:
                text = f"{path}: nothing refers to it: the next command that writes removes it"
                yield Finding(text, is_note=True)
