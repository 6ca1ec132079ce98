"""Candidates from each index of a snapshot: live passages only, and only those a filter keeps.

A filter that keeps few documents is resolved first, and only they are searched. One that keeps
many is applied to what the index proposes, deeper and deeper, until enough are found; in the end
every live passage was looked at, so min(depth, matches) candidates always come back.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from semsearch.collection.layout import EXACT_ROWS
from semsearch.collection.lexical_cache import LexicalView, open_lexical
from semsearch.collection.reader import Reader
from semsearch.collection.snapshot import Snapshot
from semsearch.collection.vector_cache import open_vectors
from semsearch.index.exact import ExactIndex
from semsearch.lexical import engine
from semsearch.store.filters import Filter, matches
from semsearch.types import Candidates
from semsearch.vectors import empty_candidates

if TYPE_CHECKING:
    from collections.abc import Sequence

    from semsearch.index.contract import VectorIndex
    from semsearch.types import Bools, Floats, Ints


_NO_LIMIT = 2**62  # there may be more documents by now than in the snapshot
_REMEMBERED = 32  # resolved filters; each is at most EXACT_ROWS documents


@dataclass(frozen=True)
class Kept:
    """What a filter keeps: these vids, or whatever ``conditions`` say of each candidate."""

    vids: Ints | None = None
    conditions: Filter = ()


EVERYTHING = Kept()


class CandidateSource:
    """The indexes of one snapshot, opened when they are first searched."""

    def __init__(self, reader: Reader, snapshot: Snapshot) -> None:
        self._reader = reader
        self._resolved: dict[str, Kept] = {}
        self.snapshot = snapshot

    @cached_property
    def vectors(self) -> VectorIndex:
        """The vector index: exact, or FAISS with rescoring."""
        return open_vectors(self.snapshot, self._reader.require_current)

    @cached_property
    def lexical(self) -> LexicalView | None:
        """The BM25 index; None when it cannot be had (logged once)."""
        return open_lexical(self.snapshot, self._reader.connection, self._reader.require_current)

    def require_lexical(self) -> None:
        """Raises MissingExtra where there can be no lexical index."""
        if self.lexical is None:
            engine.load()

    def resolve(self, conditions: Filter) -> Kept:
        """Turn a filter into vids when it keeps few enough documents."""
        if not conditions:
            return EVERYTHING
        key = repr(conditions)  # the conditions themselves take 1, 1.0 and true for equal
        kept = self._resolved.get(key)
        if kept is None:
            vids = self._reader.vids_matching(conditions)
            self._reader.require_current(self.snapshot)  # what a purge removed is not missed
            kept = Kept(conditions=conditions) if vids is None else Kept(vids)
            if len(self._resolved) >= _REMEMBERED:
                self._resolved = {}
            self._resolved[key] = kept
        return kept

    @cached_property
    def exact(self) -> VectorIndex:
        """The exact index over the same vectors, on a GPU where one is there for many of them."""
        rows = self.snapshot.rows
        if len(rows) > EXACT_ROWS:
            from semsearch.index.gpu import open_gpu_index

            found = open_gpu_index(rows)
            if found is not None:
                return found
        served = self.vectors
        return served if served.kind == "exact" else ExactIndex(rows)

    def dense(self, queries: Floats, depth: int, kept: Kept, exact: bool = False) -> Candidates:
        """The passages nearest to each query vector, (Q, depth)."""
        index = self.exact if exact else self.vectors

        def fetch(k: int, vids: Ints | None) -> Candidates:
            return index.search(queries, k, self._mask(vids))

        return self._fetch(fetch, depth, kept)

    def words(self, texts: Sequence[str], depth: int, kept: Kept) -> Candidates:
        """The passages with the highest BM25 for each text, (Q, depth)."""
        index = self.lexical
        if index is None:
            return empty_candidates(len(texts), 0)

        def fetch(k: int, vids: Ints | None) -> Candidates:
            return index.search(texts, k, vids)

        return self._fetch(fetch, depth, kept)

    def _fetch(
        self, fetch: Callable[[int, Ints | None], Candidates], depth: int, kept: Kept
    ) -> Candidates:
        if not kept.conditions:
            return fetch(depth, kept.vids)
        deeper, rows = 4 * depth, len(self.snapshot.rows)
        while deeper < min(rows, EXACT_ROWS):
            proposed = fetch(deeper, None)
            found = self._keep(proposed, depth, kept.conditions)
            if ((found.ids[:, -1] >= 0) | (proposed.ids[:, -1] < 0)).all():  # enough, or no more
                return found
            deeper *= 4
        return fetch(depth, self._reader.vids_matching(kept.conditions, limit=_NO_LIMIT))

    def _keep(self, candidates: Candidates, depth: int, conditions: Filter) -> Candidates:
        present = np.unique(candidates.ids[candidates.ids >= 0])
        owners = self._reader.documents_of(present.tolist())
        good = [vid for vid, row in owners.items() if matches(row.document.metadata, conditions)]
        mask = np.isin(candidates.ids, good)
        order = np.argsort(~mask, axis=1, kind="stable")[:, :depth]
        kept = np.take_along_axis(mask, order, axis=1)
        ids = np.where(kept, np.take_along_axis(candidates.ids, order, axis=1), -1)
        scores = np.where(kept, np.take_along_axis(candidates.scores, order, axis=1), -np.inf)
        return Candidates(ids, scores.astype(np.float32))

    def _mask(self, vids: Ints | None) -> Bools | None:
        alive = self.snapshot.alive
        if vids is None:
            return alive
        mask = np.zeros(len(self.snapshot.rows), np.bool_)
        mask[self.snapshot.ordinals(vids)] = True
        return mask if alive is None else mask & alive
