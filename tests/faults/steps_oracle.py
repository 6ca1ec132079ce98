"""What an index must answer, computed from a dictionary of documents, NumPy and plain Python."""

from __future__ import annotations

import json
import math
import operator
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from semsearch.encoders.passages import Cutter
from semsearch.maxsim import TokenCodec
from semsearch.types import Document, Hit
from tests.fakes import FakeEncoder
from tests.lexical_oracle import Oracle as WordOracle

TOLERANCE = 4e-3
"""Stored vectors are float16, and a rotation that is fitted anew rounds them once more."""

Held = Mapping[str, Document]


class Wanted(NamedTuple):
    """One condition of a filter, as a person means it."""

    field: str
    op: str
    values: tuple[Any, ...]

    def expression(self) -> str:
        """As it is typed."""
        written = ",".join(json.dumps(value, ensure_ascii=False) for value in self.values)
        return f"{self.field} {self.op} {written}"


_COMPARE = {
    "=": operator.eq, "in": operator.eq, "!=": operator.ne, "<": operator.lt,
    "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip


def kind(value: Any) -> str:
    """What may be compared with what; each object and list is a kind of its own."""
    if value is None:
        return "null"
    if value is True or value is False:
        return "truth"
    if isinstance(value, str):
        return "text"
    if isinstance(value, int) or (isinstance(value, float) and math.isfinite(value)):
        return "number"
    return f"nothing to compare {id(value)}"


def keeps(metadata: Mapping[str, Any], wanted: Iterable[Wanted]) -> bool:
    """Whether a document with this metadata passes a filter."""
    for condition in wanted:
        held = metadata.get(condition.field, [])
        elements = held if isinstance(held, list) else [held]
        compare = _COMPARE[condition.op]
        if not any(
            kind(element) == kind(value) and compare(element, value)
            for element in elements
            for value in condition.values
        ):
            return False
    return True


def mended(value: Any) -> Any:
    """A value as it is stored: NUL and lone surrogates have no place in UTF-8 text."""
    if isinstance(value, str):
        return re.sub("[\0\ud800-\udfff]", "\ufffd", value)
    if isinstance(value, list):
        return [mended(element) for element in value]
    if isinstance(value, dict):
        return {mended(key): mended(element) for key, element in value.items()}
    return value


def as_stored(document: Document, source: str) -> Document:
    """The document as the index gives it back."""
    text, title = mended(document.text), mended(document.title)
    return Document(document.id, text, title, mended(dict(document.metadata)), source)


class Piece(NamedTuple):
    """A passage that must be there."""

    id: str
    start: int
    end: int
    text: str


def pieces_of(documents: Held, encoder: FakeEncoder) -> Iterator[Piece]:
    """All passages, document by document."""
    tokens: Any = encoder.tokens  # they have all that cutting uses
    ordered = list(documents.values())
    for document, spans in zip(ordered, Cutter(tokens).cut(ordered), strict=True):
        for start, end in spans:
            yield Piece(document.id, start, end, document.passage(start, end))


class Truth:
    """The answers that a dictionary of documents gives, by one encoder, under one rotation."""

    def __init__(self, documents: Held, encoder: FakeEncoder, rotation: Any = None) -> None:
        self.documents = documents
        self.encoder = encoder
        self.pieces = list(pieces_of(documents, encoder))
        self._rotation = np.eye(encoder.dim) if rotation is None else rotation
        rows = [encoder.vector(piece.text) for piece in self.pieces]
        self._vectors = np.array(rows).reshape(len(rows), encoder.dim) @ self._rotation

    def matching(self, wanted: Sequence[Wanted]) -> set[str]:
        """The ids of the documents that a filter keeps."""
        return {id for id, d in self.documents.items() if keeps(d.metadata, wanted)}

    def cosines(self, text: str, dims: int) -> dict[str, float]:
        """Every document's score: that of its best passage, over the first ``dims`` columns."""
        query = (self.encoder.vector(text) @ self._rotation)[:dims]
        rows = self._vectors[:, :dims]
        scores = rows @ query / np.linalg.norm(rows, axis=1) / np.linalg.norm(query)
        best: dict[str, float] = {}
        for piece, score in zip(self.pieces, scores.tolist(), strict=True):
            best[piece.id] = max(score, best.get(piece.id, -2.0))
        return best

    def cosine(self, text: str, dims: int, id: str, start: int) -> float:
        """The score of one passage."""
        at = next(i for i, p in enumerate(self.pieces) if (p.id, p.start) == (id, start))
        query = (self.encoder.vector(text) @ self._rotation)[:dims]
        row = self._vectors[at, :dims]
        return float(row @ query / np.linalg.norm(row) / np.linalg.norm(query))

    def maxsim(self, text: str, hits: Sequence[Hit]) -> np.ndarray:
        """What the reranker ``self`` makes of the passages of these hits."""
        codec = TokenCodec(self.encoder.token_dim)
        texts = [self.documents[hit.id].passage(hit.start, hit.end) for hit in hits]
        rows = [self.encoder.token_vectors(passage) for passage in texts]
        codes = codec.encode(np.concatenate(rows), np.array([len(row) for row in rows]))
        return codec.scores(codec.project(self.encoder.token_vectors(text)), codes)


def words_by_document(
    base: Mapping[int, str], owners: Mapping[int, str], text: str
) -> dict[str, float]:
    """BM25 of every document with a word of the query: that of its best passage.

    ``base`` are the texts that the statistics are of, ``owners`` the documents of live passages.
    """
    best: dict[str, float] = {}
    for vid, score in WordOracle(list(base), list(base.values())).scores(text).items():
        if vid in owners:
            best[owners[vid]] = max(score, best.get(owners[vid], 0.0))
    return best


def assert_ranking(hits: Sequence[Hit], truth: Mapping[str, float], k: int, close: float) -> None:
    """The hits are the k best of ``truth`` in order, up to differences of ``close``."""
    ids = [hit.id for hit in hits]
    assert len(ids) == len(set(ids)) == min(k, len(truth)), (ids, truth)
    assert set(ids) <= set(truth), (ids, truth)
    for hit in hits:
        assert abs(hit.score - truth[hit.id]) <= close * max(1.0, abs(truth[hit.id])), (hit, truth)
    assert_in_order(hits)
    missed = [score for id, score in truth.items() if id not in set(ids)]
    if missed:
        lowest = hits[-1].score
        assert max(missed) <= lowest + close * max(1.0, abs(lowest)), (hits, truth)


def assert_in_order(hits: Sequence[Hit]) -> None:
    """By score, then id descending; ranks count from 1."""
    assert [hit.rank for hit in hits] == list(range(1, len(hits) + 1))
    for first, second in zip(hits, hits[1:], strict=False):
        assert (first.score, first.id.encode()) > (second.score, second.id.encode()), hits


def fused_bounds(
    dense: Sequence[Hit], lexical: Sequence[Hit], weight: float
) -> dict[str, tuple[float, float]]:
    """The lowest and the highest RRF score of each document: ties may stand in any order."""
    low: dict[str, float] = {}
    high: dict[str, float] = {}
    for hits, share in ((dense, 2 * weight), (lexical, 2 * (1 - weight))):
        for hit in hits:
            above = sum(other.score > hit.score + 1e-6 for other in hits)
            not_below = sum(other.score >= hit.score - 1e-6 for other in hits)
            high[hit.id] = high.get(hit.id, 0.0) + share / (60 + above + 1)
            low[hit.id] = low.get(hit.id, 0.0) + share / (60 + not_below)
    return {id: (low[id], high[id]) for id in low}


def mixed(first: Sequence[float], second: Sequence[float], weight: float) -> np.ndarray:
    """Both scores brought to 0..1 over these candidates, and weighed."""

    def scaled(values: Sequence[float]) -> np.ndarray:
        found = np.array(values, np.float64)
        width = found.max() - found.min()
        return (found - found.min()) / (width if width > 1e-12 else 1.0)

    result: np.ndarray = weight * scaled(second) + (1 - weight) * scaled(first)
    return result
