"""From queries to passages in order: candidates, fused, reranked; each stage is kept to look at."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from semsearch.ranking.fusion import Pool, fuse
from semsearch.ranking.late_interaction import SELF
from semsearch.ranking.rerank import head, mixed
from semsearch.search.pool import build_pool
from semsearch.vectors import empty_candidates

if TYPE_CHECKING:
    from semsearch.ranking.contract import Reranker
    from semsearch.ranking.settings import Ranking
    from semsearch.search.candidates import CandidateSource, Kept
    from semsearch.search.options import Options
    from semsearch.search.owners import Owners
    from semsearch.search.questions import Questions
    from semsearch.types import Bools, Candidates, Floats

Both: TypeAlias = "Callable[[Callable[[], Candidates], Callable[[], Candidates]], list[Candidates]]"
"""Runs two computations, at once where that pays, and returns both results."""


@dataclass(frozen=True, slots=True)
class Stages:
    """What each stage made of Q queries; None where a stage did not take part.

    ``dense`` and ``lexical`` are the indexes' rankings of documents, one passage each; ``pool``
    their union with all scores, ``first`` the ranking before reranking, ``second`` the reranker's
    scores float32 (Q, depth) of its first candidates, which count ``weights`` float32 (Q,), and
    ``final`` the ranking of passages. ``more`` bool (Q,) says whether an index has more candidates
    than were taken.
    """

    dense: Candidates | None
    lexical: Candidates | None
    pool: Pool | None
    first: Candidates
    second: Floats | None
    final: Candidates
    more: Bools
    weights: Floats | None = None


class Search:
    """Q queries on their way through the stages, over the indexes of one snapshot.

    ``encoded`` gives the queries as the encoder reads them and is called once, where that is
    needed; ``dims`` is the width that vectors are compared at.
    """

    def __init__(
        self,
        source: CandidateSource,
        owners: Owners,
        texts: Sequence[str],
        encoded: Callable[[], Questions],
        options: Options,
        dims: int,
    ) -> None:
        self._source = source
        self._owners = owners
        self._texts = texts
        self._encoded = encoded
        self._options = options
        self._mode = options.mode
        self._dims = dims
        self._kept: Kept = source.resolve(options.conditions)

    def some(self, which: Sequence[int]) -> Search:
        """The queries at these positions alone."""

        def encoded() -> Questions:
            return self.questions.some(which)

        texts = [self._texts[at] for at in which]
        return Search(self._source, self._owners, texts, encoded, self._options, self._dims)

    @cached_property
    def questions(self) -> Questions:
        """The encoded queries."""
        return self._encoded()

    @cached_property
    def _queries(self) -> Floats:
        """Rotated as the stored vectors are, and cut."""
        rotation = self._source.snapshot.rotation
        vectors = self.questions.vectors
        return (vectors if rotation is None else vectors @ rotation)[:, : self._dims]

    def run(
        self, ranking: Ranking, depth: int, both: Both, reranker: Callable[[], Reranker | None]
    ) -> Stages:
        """All stages, with ``depth`` candidates from each index.

        ``both`` runs the two indexes; ``reranker`` is asked for once there is something to rerank.
        """
        found = self._candidates(ranking, depth, both)
        second_stage = reranker() if (found.first.ids >= 0).any() else None
        if second_stage is None:
            return found
        second = second_stage.score(self._texts, head(found.first, ranking.rerank_depth))
        weights = self._weights(ranking.rerank_weight, second_stage.name)
        final = mixed(found.first, second, weights)
        return replace(found, second=second, final=final, weights=weights)

    def _candidates(self, ranking: Ranking, depth: int, both: Both) -> Stages:
        def near() -> Candidates:
            return self._source.dense(self._queries, depth, self._kept, self._options.exact)

        def words() -> Candidates:
            return self._source.words(self._texts, depth, self._kept)

        if self._mode == "dense":
            dense = near()
            return Stages(dense, None, None, dense, None, dense, _full(dense))
        if self._mode == "lexical":
            lexical = words()
            return Stages(None, lexical, None, lexical, None, lexical, _full(lexical))
        proposed = both(near, words)
        more = _full(proposed[0])
        more |= _full(proposed[1])
        dense, lexical = self._owners.one_each(proposed)
        known = self.questions.known
        pool = build_pool(self._source, self._texts, self._queries, dense, lexical, known)
        fused = fuse(pool, ranking.fusion, ranking.dense_weight)
        return Stages(dense, lexical, pool, fused, None, fused, more)

    def _weights(self, weight: float, reranker: str) -> Floats:
        """What the reranker's score counts, float32 (Q,): less where its encoder cannot read."""
        weights = np.full(len(self._texts), weight, np.float32)
        if reranker == SELF:
            weights *= self.questions.known * np.float32(self._source.reading.weight)
        return weights


def no_stages(queries: int) -> Stages:
    """What an index without passages makes of so many queries."""
    nothing = empty_candidates(queries, 0)
    return Stages(None, None, None, nothing, None, nothing, np.zeros(queries, np.bool_))


def _full(ranking: Candidates) -> Bools:
    """Whether each query got as many candidates as were asked for, bool (Q,)."""
    return np.asarray((ranking.ids[:, -1:] >= 0).any(axis=1))
