"""Why a hit is where it is: its rank and score in every stage, and the words that matched."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from semsearch.collection.lexical_cache import words_language
from semsearch.errors import MissingExtra
from semsearch.lexical.languages import ENGLISH
from semsearch.ranking.rerank import head
from semsearch.ranking.settings import Ranking
from semsearch.types import Candidates, Document, Explanation, Hit, Place, Setting
from semsearch.vectors import rank

if TYPE_CHECKING:
    import sqlite3

    from semsearch.index.contract import VectorIndex
    from semsearch.search.candidates import CandidateSource
    from semsearch.search.options import Options
    from semsearch.search.owners import Owners
    from semsearch.search.stages import Stages
    from semsearch.types import Floats, Ints

Places = Mapping[str, Place]
"""By document id."""


class Explainer:
    """Explains the documents of one query's ranking, given what each stage made of it (Q = 1)."""

    def __init__(self, text: str, stages: Stages, owners: Owners, setting: Setting) -> None:
        self._text = text
        self._owners = owners
        self.setting = setting
        self._dense, self._lexical = self._proposed(stages)
        self._fused = self._places(stages.first) if stages.pool is not None else None
        self._reranker = self._mixed = None
        if stages.second is not None:
            reranked = head(stages.first, stages.second.shape[1])
            self._reranker = self._places(_sorted(reranked.ids, stages.second))
            self._mixed = self._places(stages.final)

    def explained(self, hit: Hit) -> Hit:
        """The hit with where it stood in every stage."""
        stages = self._dense, self._lexical, self._fused, self._reranker, self._mixed
        places = [None if stage is None else stage.get(hit.id) for stage in stages]
        content = Document(hit.id, hit.text, hit.title).content
        dense, lexical, fused, reranker, mixed = places
        matched = self._matched(content)
        found = Explanation(dense, lexical, fused, reranker, mixed, matched, self.setting)
        return replace(hit, explanation=found)

    def _proposed(self, stages: Stages) -> tuple[Places | None, Places | None]:
        """What the indexes said of every candidate."""
        pool = stages.pool
        if pool is None:
            return (
                None if stages.dense is None else self._places(stages.dense),
                None if stages.lexical is None else self._places(stages.lexical),
            )
        vids = pool.ids[0, pool.real[0]]
        names = self._owners.of(vids.tolist())
        has_words = stages.lexical is not None and stages.lexical.ids.shape[1] > 0

        def places(ranks: Ints, scores: Floats) -> Places:
            known = zip(vids.tolist(), ranks[0].tolist(), scores[0].tolist(), strict=False)
            return {names[vid]: Place(rank or None, score) for vid, rank, score in known}

        words = places(pool.lexical_ranks, pool.lexical) if has_words else None
        return places(pool.dense_ranks, pool.dense), words

    def _places(self, ranking: Candidates) -> Places:
        """The documents of a ranking of passages; equal scores as in the hits."""
        ranked = self._owners.rank(ranking, ranking.ids.shape[1])[0]
        return {found.id: Place(rank, found.score) for rank, found in enumerate(ranked, start=1)}

    def _matched(self, content: str) -> tuple[str, ...] | None:
        from semsearch.lexical.matching import matched_words

        try:
            return tuple(matched_words(self._text, content, self.setting.language))
        except MissingExtra:
            return None


def setting_of(
    source: CandidateSource,
    connection: sqlite3.Connection,
    stages: Stages,
    ranking: Ranking,
    options: Options,
) -> Setting:
    """How one query was answered, by ``ranking`` as far as ``options`` leave it."""
    dense, fused = stages.dense, stages.pool
    proposed = stages.lexical if dense is None else dense
    reranked = stages.second is not None
    return Setting(
        mode=options.mode,
        generation=source.snapshot.generation.gen,
        index=None if dense is None else _vectors(source, options).kind,
        dims=None if dense is None else options.width(source.snapshot, 1),
        depth=0 if proposed is None else proposed.ids.shape[1],
        candidates=int((stages.first.ids >= 0).sum()),
        fusion=None if fused is None else ranking.fusion,
        dense_weight=None if fused is None else ranking.dense_weight,
        reads=None if fused is None else float(fused.reads[0]),
        reranker=options.reranker(ranking) if reranked else None,
        rerank_depth=ranking.rerank_depth if reranked else None,
        rerank_weight=None if stages.weights is None else float(stages.weights[0]),
        diversity=options.diversity,
        language=words_language(source.snapshot, connection) or ENGLISH,
        tuned=options.ranking is None and source.ranking is not None,
    )


def _vectors(source: CandidateSource, options: Options) -> VectorIndex:
    return source.exact if options.exact else source.vectors


def _sorted(ids: Ints, scores: Floats) -> Candidates:
    """Candidates (Q, m) in any order, best first."""
    query, column = np.nonzero(ids >= 0)
    return rank(query, ids[query, column], scores[query, column], *ids.shape)
