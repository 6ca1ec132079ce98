"""Texts that are there twice: documents with several ids, queries that are documents.

Two texts are the same when they differ in nothing but spaces and case. Documents are streamed, and
of their texts only hashes are kept.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from semsearch.types import Document, Qrels, Query

if TYPE_CHECKING:
    from semsearch.collection.reader import Reader

Hashes: TypeAlias = tuple[bytes, bytes]
"""Of the first few words of a text, and of all of it."""

_BATCH = 500
_FIRST = 3


class Copies:
    """Ids of documents whose text is that of a judged document, or that of a query."""

    def __init__(self, judged: Iterable[Hashes], queries: Sequence[Query]) -> None:
        asked = [_hashes(query.text) for query in queries if query.text.strip()]
        self._copies: dict[bytes, list[str]] = {}
        self._equal: dict[bytes, list[str]] = {whole: [] for _, whole in asked}
        self._starts = {start for start, _ in asked}
        for start, whole in judged:
            self._copies[whole] = []
            self._starts.add(start)
        self._queries = queries

    def look_at(self, document: Document) -> None:
        """Look at the next document of the corpus."""
        content = document.content
        self._find(content, document.id, self._copies, self._equal)
        if document.title and document.text.strip() != content:
            self._find(document.text, document.id, self._equal)

    def _find(self, text: str, name: str, *known: dict[bytes, list[str]]) -> None:
        if _start(text) not in self._starts:  # most: 35 us a document, not 75
            return
        whole = hash_of(text)
        for ids in known:
            if whole in ids:
                ids[whole].append(name)

    def groups(self) -> list[list[str]]:
        """Ids of documents with the same text, where one of them is judged."""
        return [ids for ids in self._copies.values() if len(ids) > 1]

    def equal_queries(self, qrels: Qrels) -> list[dict[str, Any]]:
        """Each query that is a document's text, with the first such document and its grade."""
        found = []
        for query in self._queries:
            for document in self._equal.get(hash_of(query.text), ())[:1]:
                grade = qrels[query.id].get(document)
                found.append({"query": query.id, "document": document, "grade": grade})
        return found


def judged_texts(reader: Reader, ids: Sequence[str]) -> tuple[set[Hashes], list[str]]:
    """The hashes of the judged documents' texts, and the ids that are not there."""
    texts: set[Hashes] = set()
    missing: list[str] = []
    for start in range(0, len(ids), _BATCH):
        batch = ids[start : start + _BATCH]
        found = reader.live_by_id(batch)
        missing += [name for name in batch if name not in found]
        texts |= {_hashes(stored.document.content) for stored in found.values()}
    return texts, missing


def _hashes(text: str) -> Hashes:
    return _start(text), hash_of(text)


def _start(text: str) -> bytes:
    """The hash of the first few words: texts that differ there differ."""
    return hash_of(" ".join(text.split(None, _FIRST)[:_FIRST]))


def hash_of(text: str) -> bytes:
    """16 bytes that two texts share when they differ in nothing but spaces and case."""
    same = " ".join(text.split()).casefold()
    return hashlib.blake2b(same.encode("utf-8", "surrogatepass"), digest_size=16).digest()
