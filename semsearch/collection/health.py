"""What a damaged index still answers, found out by asking it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from semsearch.collection.lexical_cache import open_lexical
from semsearch.collection.reader import Reader
from semsearch.errors import Corrupt, SemsearchError, what_is_damaged

if TYPE_CHECKING:
    from collections.abc import Callable

    from semsearch.collection.snapshot import Snapshot

_BLOCK = 4_096


def answers(folder: str | Path) -> dict[str, str]:
    """For each way to ask an index: ``yes``, or what stops it. Reads everything that is needed."""
    asked = {
        "documents by id and export": _documents,
        "search by vectors": _vectors,
        "search by words": _words,
    }
    return {what: _tried(folder, ask) for what, ask in asked.items()}


def _tried(folder: str | Path, ask: Callable[[Reader], str]) -> str:
    try:
        with Reader(folder) as reader:
            return ask(reader)
    except SemsearchError as exc:
        return f"no: {what_is_damaged(str(exc))}"


def _documents(reader: Reader) -> str:
    read = 0
    try:
        for _ in reader.documents():
            read += 1
    except SemsearchError as exc:
        return (
            f"as far as they are sound, of which export lists {read:,}: {what_is_damaged(str(exc))}"
        )
    return "yes"


def _vectors(reader: Reader) -> str:
    rows = reader.snapshot().rows
    try:
        for start in range(0, len(rows), _BLOCK):
            rows.block(start, min(start + _BLOCK, len(rows)))
    except Corrupt as exc:
        return f"refused where it meets the damage: {what_is_damaged(str(exc))}"
    return "yes"


def _words(reader: Reader) -> str:
    def current(_: Snapshot, __: str) -> None:
        """Nobody replaces anything meanwhile that would matter here."""

    view = open_lexical(reader.snapshot(), reader.connection, current)
    return "yes" if view is not None else "no: tantivy is not installed"
