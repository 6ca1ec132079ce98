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
from semsearch.collection.reading import Reading, recorded_reading
from semsearch.collection.snapshot import Snapshot
from semsearch.collection.vector_cache import open_vectors
from semsearch.index.exact import ExactIndex
from semsearch.index.scoring import cosines, prepare
from semsearch.lexical import engine
from semsearch.ranking.tuned import tuned_ranking
from semsearch.store.filters import Filter, matches
from semsearch.types import Candidates
from semsearch.vectors import cut, empty_candidates

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from semsearch.index.contract import VectorIndex
    from semsearch.ranking.settings import Ranking
    from semsearch.types import Bools, Floats, Ints


_NO_LIMIT = 2**62  # there may be more documents by now than in the snapshot
_BACKGROUND = 1_024  # the spread of a query's cosines is known to 2 % then
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
        self._samples: dict[int, NDArray[np.float64]] = {}
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

    @cached_property
    def reading(self) -> Reading:
        """How well the encoder reads the corpus."""
        with self._reader.reading():
            return recorded_reading(self.snapshot, self._reader.connection)

    @property
    def ranking(self) -> Ranking | None:
        """How this index was tuned to rank, if it was: read anew, tuning makes no generation."""
        with self._reader.reading():
            return tuned_ranking(self.snapshot, self._reader.connection)

    def background(self, queries: Floats) -> tuple[Floats, Floats]:
        """Mean and standard deviation, float32 (Q,), of the cosines with passages at random.

        They are spread evenly over all rows, so that the same index gives the same numbers.
        """
        dims = queries.shape[1]
        if dims not in self._samples:
            rows = self.snapshot.rows
            places = np.linspace(0, len(rows) - 1, min(_BACKGROUND, len(rows)))
            sample = rows.take(np.unique(places.astype(np.int64)))
            self._samples[dims] = cut(sample, dims).astype(np.float64)
        unit = prepare(queries, dims).astype(np.float64)
        # Not a BLAS product: its last bits depend on how many queries there are.
        found = np.einsum("qd,nd->qn", unit, self._samples[dims])
        return found.mean(axis=1).astype(np.float32), found.std(axis=1).astype(np.float32)

    def cosines(self, queries: Floats, ids: Ints) -> Floats:
        """float32 (Q, m): the dense score of each of ``ids`` (Q, m), 0 where that is -1."""
        scores = np.zeros(ids.shape, np.float32)
        query, column = np.nonzero(ids >= 0)
        wanted, place = np.unique(ids[query, column], return_inverse=True)
        rows = self.snapshot.rows.take(self.snapshot.ordinals(wanted))
        scores[query, column] = cosines(prepare(queries, rows.shape[1]), query, rows[place])
        return scores

    def words_of(self, text: str, vids: Ints) -> Floats:
        """float32 (m,): the lexical score of each of ``vids`` (ascending) for one text, or 0."""
        scores = np.zeros(len(vids), np.float32)
        if self.lexical is not None and len(vids):
            found = self.lexical.search([text], len(vids), vids)
            real = found.ids[0] >= 0
            scores[np.searchsorted(vids, found.ids[0, real])] = found.scores[0, real]
        return scores

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
