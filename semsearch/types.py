"""The records that flow through semsearch, named with the field's own words.

This module imports nothing heavy, so that ``import semsearch`` stays cheap.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

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


class Place(NamedTuple):
    """Where a document stands in a ranking: its rank from 1 and its score there.

    The rank is None where the score is known but the ranking, which is only so deep, ends above.
    """

    rank: int | None
    score: float


@dataclass(frozen=True, slots=True)
class Setting:
    """How a query was answered; None for what took no part.

    ``index`` is the kind of the vector index, ``dims`` the width that was compared. ``depth``
    documents were asked of each index, and ``candidates`` is what they proposed together.
    ``fusion`` made one score of two, ``dense_weight`` of it the vectors', and ``reads`` says how
    well the model reads query and corpus, 0 to 1. ``reranker`` ordered the first ``rerank_depth``
    again, and its score counted ``rerank_weight``. ``language`` is the one that words were stemmed
    by; ``tuned`` says that the ranking is what this index was tuned to.
    """

    mode: str
    generation: int
    index: str | None
    dims: int | None
    depth: int
    candidates: int
    fusion: str | None
    dense_weight: float | None
    reads: float | None
    reranker: str | None
    rerank_depth: int | None
    rerank_weight: float | None
    diversity: float
    language: str
    tuned: bool


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a hit is where it is: its place in each stage, None for a stage that took no part.

    ``dense`` scores are cosines, ``lexical`` ones BM25, both of the document's best passage there;
    ``reranker`` has the reranker's own scores of the first few, ``mixed`` the order that they and
    the scores before them make. The last stage makes the hits, unless ``diversity`` orders them
    again. ``matched`` are words of the query that the document holds, None without a stemmer.
    """

    dense: Place | None
    lexical: Place | None
    fused: Place | None
    reranker: Place | None
    mixed: Place | None
    matched: tuple[str, ...] | None
    setting: Setting


@dataclass(frozen=True, slots=True)
class Hit:
    """One search result, as a person reads it. ``score`` is comparable within one result list.

    ``passage`` is the part of the document's content that was found: the characters ``start`` to
    ``end`` of ``Document.content``, all of it where the document is one passage. ``explanation`` is
    there when it was asked for.
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
    explanation: Explanation | None = None
