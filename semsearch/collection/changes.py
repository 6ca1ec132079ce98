"""What a commit is made of: changed documents with their vectors, and the totals they lead to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from semsearch.store import documents
from semsearch.types import Document

if TYPE_CHECKING:
    import sqlite3


@dataclass(frozen=True, slots=True)
class NewPassage:
    """A passage to be stored: its span in the document's content and its stored vector.

    ``vector`` is float16 (stored width,), already rotated and cut (``Writer.stored``).
    """

    start: int
    end: int
    text_hash: bytes
    vector: NDArray[np.float16]
    tokens: int
    unknown: int
    truncated: bool


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
