"""Documents that are nearly the same: found by their vectors, confirmed by their words.

Vectors alone are not enough. Where the encoder reads the language, documents on one subject come
near 0.95 (scifact: the one such pair are two studies); where it does not, all do: of 6,000 Chinese
questions and all-MiniLM-L6-v2, 66,313 pairs are at 0.99 and share a tenth of their words.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from itertools import groupby
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from semsearch.collection.lexical_cache import words_language
from semsearch.collection.reader import Reader, StaleSnapshot
from semsearch.collection.snapshot import Snapshot
from semsearch.errors import StorageError, UsageError
from semsearch.index.contract import ArrayRows
from semsearch.index.exact import ExactIndex
from semsearch.lexical.languages import ENGLISH
from semsearch.lexical.tokens import words as words_in
from semsearch.store import passages
from semsearch.store.database import database_errors
from semsearch.store.filters import Filter
from semsearch.types import Document
from semsearch.vectors import cut

if TYPE_CHECKING:
    from semsearch.index.contract import Rows, VectorIndex
    from semsearch.search.candidates import CandidateSource
    from semsearch.types import Bools, Ints

THRESHOLD = 0.95
"""The lowest cosine. banking77 has 169 pairs of questions from 0.99 on, 544 from 0.98, 3,330 from
0.95, of which the last begin to be paraphrases; scifact, of other abstracts, has one."""

WORDS = 0.5
"""The lowest share of words in common, of all words that either has (Jaccard)."""

_EXACT_ROWS = 250_000
"""Up to this many passages all are compared: of 100,000 that takes 2.6 ms for each of 512 at once,
and asking FAISS, which rescores what it proposes for each alone, 7.5."""

_BATCH = 512
_FIRST_NEIGHBOURS = 16
_MOST_NEIGHBOURS = 256
_NO_LIMIT = 2**62
_REMEMBERED = 4096

Kind = Literal["copies", "near"]


@dataclass(frozen=True, slots=True)
class Duplicate:
    """A document of a group: its cosine with the group's first one, and the words they share."""

    document: Document
    cosine: float
    words: float


@dataclass(frozen=True, slots=True)
class Group:
    """Documents that are alike; the first was indexed first, the others follow by likeness.

    ``copies`` have the very same title and text; the documents of a ``near`` group come as near to
    its first one as was asked. Of copies only the first can be in a near group.
    """

    kind: Kind
    documents: tuple[Duplicate, ...]


def find_duplicates(
    reader: Reader,
    source: CandidateSource,
    *,
    threshold: float = THRESHOLD,
    words: float = WORDS,
    conditions: Filter = (),
) -> Iterator[Group]:
    """Groups of documents as they are found: copies first, then near ones; each oldest first.

    Two documents are near when the cosine of their vectors, each the mean of a document's passages,
    is at least ``threshold``, and they share at least ``words`` of their words; 0 asks for none. A
    document joins the oldest one that is near and in no group itself, and begins a group otherwise.

    Each document is asked for its neighbours once, in blocks, so memory does not grow with their
    square: up to 250,000 passages all are compared, n * n / 2 products of d; beyond, each asks the
    index that serves queries, which is approximate. Where documents have several passages all are
    compared, their vectors held in memory, 2 bytes a dimension. Of more than 256 neighbours the
    nearest 256 are looked at. Raises UsageError, StorageError (compacted meanwhile), Corrupt.
    """
    for name, value in (("threshold", threshold), ("words", words)):
        if not 0 <= value <= 1:
            raise UsageError(f"{name} must be between 0 and 1, not {value}")
    return _found(reader, source, threshold, words, conditions)


def _found(
    reader: Reader, source: CandidateSource, threshold: float, words: float, conditions: Filter
) -> Iterator[Group]:
    try:
        documents = _Documents(reader, source.snapshot, conditions)
        for first, *others in documents.copies:
            copies = [(document, 1.0, 1.0) for document in others]
            yield documents.group("copies", first, copies)
        if len(documents.distinct) > 1:
            yield from _near(documents, _Neighbours(documents, source), threshold, words)
    except StaleSnapshot:
        raise StorageError(
            f"{reader.layout.folder}: the index was compacted meanwhile: look for duplicates again"
        ) from None


def _near(
    documents: _Documents, neighbours: _Neighbours, threshold: float, least: float
) -> Iterator[Group]:
    grouped = np.zeros(len(documents.first), np.bool_)
    for start in range(0, len(documents.distinct), _BATCH):
        block = documents.distinct[start : start + _BATCH]
        block = block[~grouped[block]]
        near = neighbours.of(block, threshold, grouped)
        for first, found in zip(block.tolist(), near, strict=True):
            if grouped[first]:
                continue
            members = []
            for other, cosine in found:
                if other > first and not grouped[other]:
                    shared = _shared(documents.words_of(first), documents.words_of(other))
                    if shared >= least:
                        members.append((other, cosine, shared))
                        grouped[other] = True
            if members:
                yield documents.group("near", first, members)


def _shared(first: frozenset[str], second: frozenset[str]) -> float:
    """Jaccard's coefficient: the words that both have of those that either has."""
    return len(first & second) / max(len(first | second), 1)


class _Documents:
    """The live documents that a filter keeps, by position in the order of their first passages.

    ``vids`` of each one's passages, ``first`` of them int64 (n,), ascending; ``copies`` positions
    of documents with one content, ``distinct`` int64 those of one document for each content.
    """

    def __init__(self, reader: Reader, snapshot: Snapshot, conditions: Filter) -> None:
        self._reader = reader
        self._language = words_language(snapshot, reader.connection) or ENGLISH
        found = sorted(_contents(reader, snapshot, conditions))
        by_content: dict[bytes, list[int]] = {}
        for position, (_, digest) in enumerate(found):
            by_content.setdefault(digest, []).append(position)
        self.vids = [vids for vids, _ in found]
        self.first = np.array([vids[0] for vids in self.vids], np.int64)
        self.copies = [positions for positions in by_content.values() if len(positions) > 1]
        self.distinct = np.array([p for p, *_ in by_content.values()], np.int64)
        self.words_of = lru_cache(_REMEMBERED)(self._words_of)

    def group(self, kind: Kind, first: int, others: Sequence[tuple[int, float, float]]) -> Group:
        """A group of documents, given as positions. Raises StaleSnapshot."""
        members = [(first, 1.0, 1.0), *others]
        vids = [int(self.first[position]) for position, *_ in members]
        found = self._reader.documents_of(vids)
        documents = [
            Duplicate(found[vid].document, cosine, words)
            for vid, (_, cosine, words) in zip(vids, members, strict=True)
        ]
        return Group(kind, tuple(documents))

    def _words_of(self, position: int) -> frozenset[str]:
        vid = int(self.first[position])
        content = self._reader.documents_of([vid])[vid].document.content
        return frozenset(words_in(content, self._language))


def _contents(
    reader: Reader, snapshot: Snapshot, conditions: Filter
) -> Iterator[tuple[list[int], bytes]]:
    """The vids of each live document that the filter keeps, and a digest of its content."""
    matching = reader.vids_matching(conditions, _NO_LIMIT) if conditions else None
    keep = None if matching is None else set(matching.tolist())
    with database_errors(reader.layout.catalog):
        rows = passages.passages_by_document(reader.connection, snapshot.generation.gen)
        for _, parts in groupby(rows, lambda row: row.doc_id):
            own = list(parts)
            if keep is None or own[0].vid in keep:
                digest = blake2b(b"".join(row.text_hash for row in own), digest_size=16)
                yield [row.vid for row in own], digest.digest()
    reader.require_current(snapshot)


class _Neighbours:
    """The distinct documents as rows to search: the stored ones, or means of several passages."""

    def __init__(self, documents: _Documents, source: CandidateSource) -> None:
        self._first = documents.first
        self._distinct = distinct = documents.distinct
        self._dims = source.snapshot.dims
        self._rows: Rows = source.snapshot.rows
        self._exact = True
        if any(len(vids) > 1 for vids in documents.vids):
            means = _means(source.snapshot, [documents.vids[at] for at in distinct.tolist()])
            self._rows = ArrayRows(documents.first[distinct], means)
            self._index: VectorIndex = ExactIndex(self._rows)
        else:
            self._exact = len(self._rows) <= _EXACT_ROWS
            self._index = source.exact if self._exact else source.vectors

    def of(self, block: Ints, threshold: float, grouped: Bools) -> list[list[tuple[int, float]]]:
        """For each position of ``block`` those at ``threshold`` or above, with cosines, best first.

        It is its own neighbour. Those before the block and those ``grouped``, bool (n,), may be
        left out.
        """
        if not len(block):
            return []
        wanted = self._distinct
        if self._exact:  # half as much to compare
            wanted = wanted[(wanted >= block[0]) & ~grouped[wanted]]
        allowed = np.zeros(len(self._rows), np.bool_)
        allowed[np.searchsorted(self._rows.ids, self._first[wanted])] = True
        ordinals = np.searchsorted(self._rows.ids, self._first[block])
        queries = self._rows.take(ordinals)[:, : self._dims]
        found: list[list[tuple[int, float]]] = [[] for _ in block]
        pending, k = np.arange(len(block)), _FIRST_NEIGHBOURS
        while len(pending):
            near = self._index.search(queries[pending], k, allowed)
            for query, ids, scores in zip(pending.tolist(), near.ids, near.scores, strict=True):
                high = scores >= threshold
                positions = np.searchsorted(self._first, ids[high])
                found[query] = list(zip(positions.tolist(), scores[high].tolist(), strict=True))
            more = near.scores[:, -1] >= threshold
            pending = pending[more] if k < _MOST_NEIGHBOURS else pending[:0]
            k *= 4
        return found


def _means(snapshot: Snapshot, vids: Sequence[Sequence[int]]) -> NDArray[np.float16]:
    """float16 (n, dims), of unit length: the mean of each document's passages."""
    means = np.empty((len(vids), snapshot.dims), np.float16)
    for start in range(0, len(vids), _BATCH):
        part = vids[start : start + _BATCH]
        ordinals = snapshot.ordinals(np.array([vid for own in part for vid in own], np.int64))
        rows = cut(snapshot.rows.take(ordinals), snapshot.dims)
        begins = np.cumsum([0, *(len(own) for own in part[:-1])])
        means[start : start + len(part)] = cut(np.add.reduceat(rows, begins), snapshot.dims)
    return means
