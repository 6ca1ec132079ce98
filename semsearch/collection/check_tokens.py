"""Checking the token files beside the vector files: each is there, sound, and of as many rows."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

from semsearch.collection.layout import Layout
from semsearch.collection.tokens import AGAIN, map_token_file
from semsearch.errors import Corrupt
from semsearch.store import catalog
from semsearch.store.token_files import TokenFile


def open_tokens(
    connection: sqlite3.Connection, layout: Layout, opened: list[TokenFile]
) -> Iterator[str]:
    """Map every token file on record into ``opened``; yield what is wrong with each."""
    for row in catalog.segments(connection):
        if row.tok_name is None:
            continue
        try:
            opened.append(map_token_file(layout, row))
        except FileNotFoundError:
            yield f"{layout.segments / row.tok_name}: the token vectors are missing: {AGAIN}"
        except (Corrupt, OSError) as exc:
            yield f"{exc}: {AGAIN}"


def damaged_tokens(file: TokenFile) -> Iterator[str]:
    """Read the whole file; yield that it is damaged, if it is."""
    try:
        file.verify()
        file.counts()
    except Corrupt as exc:
        yield f"{exc}: {AGAIN}"
