"""The records that flow through semsearch, named with the field's own words.

This module imports nothing heavy, so that ``import semsearch`` stays cheap.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats: TypeAlias = NDArray[np.float32]
    Ints: TypeAlias = NDArray[np.int64]
    Bools: TypeAlias = NDArray[np.bool_]

Metadata: TypeAlias = Mapping[str, Any]
"""JSON values by field name."""

Qrels: TypeAlias = dict[str, dict[str, int]]
"""Judgements: query id -> document id -> grade (relevant from 1 up)."""

Run: TypeAlias = dict[str, dict[str, float]]
"""A ranking to be judged: query id -> document id -> score (higher is better)."""


@dataclass(frozen=True, slots=True)
class Document:
    """One document of a corpus, as users see it.

    ``source`` and ``line`` say where it was read (a file's path and the 1-based line or record
    number, 0 where there is none); they are not part of the document's content.
    """

    id: str
    text: str
    title: str = ""
    metadata: Metadata = field(default_factory=dict)
    source: str = field(default="", compare=False)
    line: int = field(default=0, compare=False)

    @property
    def content(self) -> str:
        """The text that is encoded and searched: title, a space, text, stripped."""
        return f"{self.title} {self.text}".strip()

    def passage(self, start: int, end: int) -> str:
        """The text that is encoded and searched of the characters ``start`` to ``end`` of it.

        Passages other than the first have the title before them, unless it is the longer part.
        """
        piece, title = self.content[start:end], self.title.strip()
        return f"{title} {piece}" if start and 0 < len(title) <= len(piece) else piece


@dataclass(frozen=True, slots=True)
class Query:
    """One query of a labelled set; it unpacks as ``id, text``.

    ``metadata`` holds the other fields of its record, as they were read; it is not compared.
    """

    id: str
    text: str
    metadata: Metadata = field(default_factory=dict, compare=False)

    def __iter__(self) -> Iterator[str]:
        yield self.id
        yield self.text


@dataclass(frozen=True, slots=True)
class Candidates:
    """What an index proposes, best first.

    ``ids`` is int64 ``(Q, k)`` and ``scores`` float32 ``(Q, k)``; higher is better; short rows are
    padded with -1 and -inf. Equal scores are ordered by ascending id.
    """

    ids: Ints
    scores: Floats


@dataclass(frozen=True, slots=True)
class Hit:
    """One search result, as a person reads it. ``score`` is comparable within one result list.

    ``passage`` is the part of the document's content that was found: the characters ``start`` to
    ``end`` of ``Document.content``, all of it where the document is one passage.
    """

    rank: int
    id: str
    score: float
    title: str
    text: str
    metadata: Metadata
    passage: str
    start: int
    end: int
