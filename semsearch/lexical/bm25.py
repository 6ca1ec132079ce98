"""BM25 over one tantivy searcher: exact order, filters, and never fewer hits than there are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from semsearch.errors import UsageError
from semsearch.lexical.engine import TEXT, VID, load
from semsearch.lexical.tokens import query_words
from semsearch.types import Candidates
from semsearch.vectors import empty_candidates

if TYPE_CHECKING:
    from tantivy import Query, Schema, Searcher

    from semsearch.types import Bools, Floats, Ints

MAX_TERMS = 1024
"""Different words of one query; later ones are left out."""

MAX_TERM_SET = 50_000
"""Vids that a query can be limited to; with more, hits are fetched and filtered."""

WORTH_FETCHING = 0.01
"""The share of allowed passages from which fetching is tried before limiting the query."""


class Bm25:
    """Searches one immutable snapshot of passages, whose words are those of ``language``."""

    def __init__(self, searcher: Searcher, schema: Schema, language: str) -> None:
        self._language = language
        self._searcher = searcher
        self._schema = schema
        self._size = int(searcher.num_docs)

    def __len__(self) -> int:
        return self._size

    def search(
        self,
        texts: Sequence[str],
        k: int,
        allowed: Ints | None = None,
        excluded: Ints | None = None,
    ) -> Candidates:
        """The ``k`` best passages for each text, as ``contract.Lexical`` says."""
        if k < 0:
            raise UsageError(f"k must not be negative: {k}")
        result = empty_candidates(len(texts), k)
        scope = _Scope(self._size, allowed, excluded)
        if k == 0 or scope.size == 0:
            return result
        for row, text in enumerate(texts):
            query = self._query(text)
            if query is not None:
                vids, scores = self._best(query, k, scope)
                result.ids[row, : len(vids)] = vids
                result.scores[row, : len(vids)] = scores
        return result

    def _query(self, text: str) -> Query | None:
        load()
        from tantivy import Occur, Query

        counts = Counter(query_words(text, self._language))
        terms = []
        # Sorted: a sum of float32 depends on its order, and must not on that of the words.
        for word, count in sorted(counts.most_common(MAX_TERMS)):
            term = Query.term_query(self._schema, TEXT, word, "freq")
            terms.append((Occur.Should, Query.boost_query(term, count) if count > 1 else term))
        return Query.boolean_query(terms) if terms else None

    def _best(self, query: Query, k: int, scope: _Scope) -> tuple[Ints, Floats]:
        narrow = scope.is_small and scope.share < WORTH_FETCHING
        spare = k + max(k // 4, 16)  # for ties and dead passages
        limit = spare if narrow else int(spare / max(scope.share, 0.001))
        if narrow:
            query = scope.narrowed(query, self._schema)
        while True:
            limit = min(limit, self._size)
            vids, scores = self._fetch(query, limit)
            lowest = scores[-1] if len(scores) else np.float32(0)
            exhausted = len(vids) < limit or limit == self._size
            kept = scope.keeps(vids)
            vids, scores = vids[kept], scores[kept]
            # Ties with the k-th may lie beyond what was fetched, in any order.
            if exhausted or (len(scores) >= k and lowest < scores[k - 1]):
                order = np.lexsort((vids, -scores))[:k]
                return vids[order], scores[order]
            if scope.is_small and not narrow:
                narrow, limit = True, spare
                query = scope.narrowed(query, self._schema)
            else:
                limit *= 4

    def _fetch(self, query: Query, limit: int) -> tuple[Ints, Floats]:
        hits = self._searcher.search(query, limit, count=False).hits
        vids = self._searcher.fast_field_values(VID, [address for _, address in hits])
        scores = np.fromiter((score for score, _ in hits), dtype=np.float32, count=len(hits))
        return np.array(vids, dtype=np.int64), scores


class _Scope:
    """Which vids may be returned: ``allowed`` (None: all) without ``excluded``."""

    def __init__(self, size: int, allowed: Ints | None, excluded: Ints | None) -> None:
        self._excluded = _ascending(excluded)
        self._allowed = None if allowed is None else _ascending(allowed)
        if self._allowed is None:
            self.size = size
            self.share = 1 - len(self._excluded) / max(size, 1)
            self.is_small = False
        else:
            if len(self._excluded):
                self._allowed = self._allowed[~_contains(self._excluded, self._allowed)]
            self.size = min(len(self._allowed), size)
            self.share = self.size / max(size, 1)
            self.is_small = len(self._allowed) <= MAX_TERM_SET
        self._members: Query | None = None

    def narrowed(self, query: Query, schema: Schema) -> Query:
        """``query`` over the allowed vids only, with unchanged scores; where ``is_small``."""
        from tantivy import Occur, Query

        if self._members is None:
            vids = [] if self._allowed is None else self._allowed.tolist()
            self._members = Query.const_score_query(Query.term_set_query(schema, VID, vids), 0.0)
        return Query.boolean_query([(Occur.Must, query), (Occur.Must, self._members)])

    def keeps(self, vids: Ints) -> Bools:
        if self._allowed is not None:
            return _contains(self._allowed, vids)
        return ~_contains(self._excluded, vids)


def _ascending(vids: Ints | None) -> Ints:
    array = np.asarray([] if vids is None else vids, dtype=np.int64)
    return array if np.all(array[1:] > array[:-1]) else np.unique(array)


def _contains(ascending: Ints, vids: Ints) -> Bools:
    if len(ascending) == 0:
        return np.zeros(len(vids), dtype=np.bool_)
    place = np.minimum(np.searchsorted(ascending, vids), len(ascending) - 1)
    found: Bools = ascending[place] == vids
    return found
