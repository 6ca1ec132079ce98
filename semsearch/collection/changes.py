"""What a commit is made of: changed documents with their vectors, and the totals they lead to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from semsearch.store import catalog, documents, passages
from semsearch.types import Document

if TYPE_CHECKING:
    import sqlite3


@dataclass(frozen=True, slots=True)
class NewPassage:
    """A passage to be stored: its span in the document's content and its stored vector.

    ``vector`` is float16 (stored width,), already rotated and cut (``Writer.stored``). ``codes``
    uint8 (c, width) are those of its tokens, None if they are not to be stored.
    """

    start: int
    end: int
    text_hash: bytes
    vector: NDArray[np.float16]
    tokens: int
    unknown: int
    truncated: bool
    codes: NDArray[np.uint8] | None = None


@dataclass(frozen=True, slots=True)
class Change:
    """A document to be added, or to replace the live one with the same id."""

    document: Document
    passages: tuple[NewPassage, ...]


@dataclass(slots=True)
class Tally:
    """The totals of the generation being made."""

    gen: int
    documents: int
    passages: int
    crc: int

    def remove(self, connection: sqlite3.Connection, doc_ids: Sequence[int]) -> None:
        """Stamp documents as deleted and take them out of the totals."""
        passages, crcs = documents.stamp_deleted(connection, doc_ids, self.gen)
        self.documents -= len(doc_ids)
        self.passages -= passages
        self.crc -= crcs


def insert_changes(
    connection: sqlite3.Connection,
    changes: Sequence[Change],
    first_vid: int,
    encoder_id: int,
    tally: Tally,
) -> None:
    """Insert documents and their passages, with vids from ``first_vid`` on, and count them."""
    doc_id, vid = catalog.next_id(connection, "document"), first_vid
    rows = []
    for change in changes:
        tally.crc += documents.insert_document(connection, doc_id, change.document, tally.gen)
        for number, p in enumerate(change.passages):
            row = passages.PassageRow(
                vid, doc_id, number, p.start, p.end, p.text_hash, encoder_id, p.tokens, p.unknown,
                int(p.truncated),
            )  # fmt: skip
            rows.append(row)
            vid += 1
        doc_id += 1
    tally.crc += passages.insert_passages(connection, rows)
    tally.documents += len(changes)
    tally.passages += len(rows)
