"""What the index proposes for each query, without what is known to be right."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from semsearch.evaluation.copies import hash_of
from semsearch.search.options import MOST_HITS, Options
from semsearch.search.searcher import Searcher
from semsearch.training.mining.documents import Documents, Scored
from semsearch.training.mining.known import Known
from semsearch.training.mining.settings import Mining
from semsearch.types import Query

if TYPE_CHECKING:
    from semsearch.search.questions import Questions

_STEP = 32
"""Depths are rounded up to it, so that most queries are ranked together."""


@dataclass(frozen=True, slots=True)
class Proposed:
    """One query with its positives, and what may be its negatives.

    ``candidates`` stand at the ranks asked for, best first; ``judged`` are those that people judged
    not relevant, by cosine, where they are asked for.
    """

    query: Query
    positives: list[Scored]
    candidates: list[Scored]
    judged: list[Scored]


@dataclass(frozen=True, slots=True)
class _Barred:
    """What can be no negative of a query: what is right, its copies, and the query itself."""

    query_id: str
    query_text: bytes
    positives: frozenset[str]
    texts: frozenset[bytes]

    def reason(self, name: str, texts: frozenset[bytes]) -> str | None:
        if name in self.positives:
            return "positives"
        if texts & self.texts:
            return "copies"
        return "own" if name == self.query_id or self.query_text in texts else None


class Proposer:
    """Looks up the candidates of a few queries at a time, all from one generation."""

    def __init__(self, searcher: Searcher, known: Known, mining: Mining) -> None:
        self._searcher = searcher
        self._known = known
        self._mining = mining
        self._options = Options(mining.mode, rerank=mining.rerank)

    def propose(self, queries: Sequence[Query], dropped: Counter[str]) -> list[Proposed]:
        """The candidates of each query; what was passed over on the way is added to ``dropped``.

        Raises StaleSnapshot when the index changes meanwhile, Mismatch, Corrupt.
        """
        self._searcher.refresh()
        questions = self._searcher.encode([query.text for query in queries])
        documents = Documents(self._searcher)
        for query in queries:
            documents.read([*self._known.positives[query.id], *self._rejected(query)])
        barred = [self._barred(query, documents) for query in queries]
        ranked = self._ranked(barred, queries, questions, documents, dropped)
        listed = [
            self._listed(query, bars, ranks, documents)
            for query, bars, ranks in zip(queries, barred, ranked, strict=True)
        ]
        documents.find_passages(name for lists in listed for names in lists for name in names)
        return [
            self._scored(query, questions, at, listed[at], ranked[at], documents)
            for at, query in enumerate(queries)
        ]

    def _rejected(self, query: Query) -> tuple[str, ...]:
        return self._known.rejected[query.id] if self._mining.judged else ()

    def _barred(self, query: Query, documents: Documents) -> _Barred:
        known = self._known.positives[query.id]
        texts = frozenset(text for name in known for text in documents.texts(name))
        return _Barred(query.id, hash_of(query.text), known, texts)

    def _ranked(
        self,
        barred: Sequence[_Barred],
        queries: Sequence[Query],
        questions: Questions,
        documents: Documents,
        dropped: Counter[str],
    ) -> list[dict[str, int]]:
        """Of each query the documents that may be negatives, with their ranks, up to the last.

        How deep a query is ranked depends on nothing but itself: its neighbours change no rank.
        """
        ranked: list[dict[str, int]] = [{} for _ in queries]
        most = min(MOST_HITS, max(1, self._searcher.snapshot.generation.n_document))
        depths = {at: self._depth(bars, most) for at, bars in enumerate(barred)}
        while depths:
            deeper: dict[int, int] = {}
            for k in sorted(set(depths.values())):
                asked = [at for at, depth in depths.items() if depth == k]
                texts = [queries[at].text for at in asked]
                found = self._searcher.rank(texts, k, self._options, questions.some(asked))
                for at, ranking in zip(asked, found, strict=True):
                    names = [hit.id for hit in ranking]
                    documents.read(names)
                    ranked[at], passed = self._walk(barred[at], names, documents)
                    if len(ranked[at]) < self._mining.ranks[1] and len(names) == k < most:
                        deeper[at] = min(2 * k, most)
                    else:
                        dropped.update(passed)
            depths = deeper
        return ranked

    def _depth(self, bars: _Barred, most: int) -> int:
        wanted = self._mining.ranks[1] + len(bars.positives) + 1
        return min(-(-wanted // _STEP) * _STEP, most)

    def _walk(
        self, bars: _Barred, names: Sequence[str], documents: Documents
    ) -> tuple[dict[str, int], Counter[str]]:
        """Ranks from 1 of what may be a negative, and why the rest on the way may not."""
        ranks: dict[str, int] = {}
        passed: Counter[str] = Counter()
        for name in names:
            if len(ranks) == self._mining.ranks[1]:
                break
            reason = bars.reason(name, documents.texts(name))
            if reason is not None:
                passed[reason] += 1
            elif name in documents:  # else it was deleted after it was ranked
                ranks[name] = len(ranks) + 1
        return ranks, passed

    def _listed(
        self, query: Query, bars: _Barred, ranks: dict[str, int], documents: Documents
    ) -> tuple[list[str], list[str], list[str]]:
        """Ids of the positives, of the candidates in order, and of those judged not relevant."""
        judged = [
            name
            for name in self._rejected(query)
            if name in documents and bars.reason(name, documents.texts(name)) is None
        ]
        first, apart = self._mining.ranks[0], set(judged)
        candidates = [n for n, rank in ranks.items() if rank >= first and n not in apart]
        return [n for n in self._known.own[query.id] if n in documents], candidates, judged

    def _scored(
        self,
        query: Query,
        questions: Questions,
        at: int,
        listed: tuple[list[str], list[str], list[str]],
        ranks: dict[str, int],
        documents: Documents,
    ) -> Proposed:
        vector = questions.vectors[at : at + 1]
        every = documents.scored(vector, [name for names in listed for name in names])
        found = [scored._replace(rank=ranks.get(scored.id)) for scored in every]
        ends = len(listed[0]), len(listed[0]) + len(listed[1])
        judged = sorted(found[ends[1] :], key=lambda scored: (-scored.score, scored.id))
        return Proposed(query, found[: ends[0]], found[ends[0] : ends[1]], judged)
