"""Candidates of labelled queries with every score that a setting may use, computed once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from semsearch.collection.reader import StaleSnapshot
from semsearch.errors import Locked
from semsearch.evaluation.tuning.grid import NONE, SELF, Grid
from semsearch.ranking.settings import DEFAULT_RANKING, MOST_CANDIDATES, Ranking
from semsearch.search.options import Options

if TYPE_CHECKING:
    from semsearch.ranking.fusion import Pool
    from semsearch.search.questions import Questions
    from semsearch.search.searcher import Searcher
    from semsearch.search.stages import Stages
    from semsearch.types import Bools, Floats, Ints


@dataclass(frozen=True, slots=True)
class Judged:
    """The pool of Q queries at one depth, and what is known of its m candidates.

    ``pool.ids`` are column numbers here, which order ties as the passages' own do. ``second`` holds
    the scores float32 (Q, m) of each reranker that the index can use, and ``shares`` float32 (Q,)
    what its weight is multiplied by. ``places`` int64 (Q, m) is each candidate's place among those
    of its query by document id, descending: the order of equal scores. ``grades`` int64 (Q, m) are
    in that order; ``own`` bool (Q, m), too, says which document has the query's id.
    """

    pool: Pool
    second: Mapping[str, Floats]
    shares: Mapping[str, Floats]
    places: Ints
    grades: Ints
    own: Bools


@dataclass(frozen=True, slots=True)
class Asked:
    """Some of the labelled queries: ids, texts, encoded, and the grades of documents by id."""

    ids: Sequence[str]
    texts: Sequence[str]
    questions: Questions
    grades: Sequence[Mapping[str, int]]


def judge_candidates(searcher: Searcher, asked: Asked, k: int, grid: Grid) -> dict[int, Judged]:
    """The candidates for rankings of ``k`` documents, for each depth that the grid has.

    Raises Locked where the index changes meanwhile.
    """
    rerankers: dict[int, set[str]] = {}
    for first, settings in grid.items():
        rerankers.setdefault(first.depth, set()).update(s.rerank for s in settings)
    try:
        return {
            depth: _judge(searcher, asked, k, depth, sorted(names - {NONE}))
            for depth, names in rerankers.items()
        }
    except StaleSnapshot as exc:
        raise Locked("the index was changed while it was tuned: tune again") from exc


def _judge(
    searcher: Searcher, asked: Asked, k: int, depth: int, rerankers: Sequence[str]
) -> Judged:
    plain = replace(DEFAULT_RANKING, depth=depth, rerank=NONE)
    pool = _stages(searcher, asked, k, plain).pool
    if pool is None:
        raise Locked("the index was emptied while it was tuned")
    second, shares = {}, {}
    for name in rerankers:
        reads = MOST_CANDIDATES if name == SELF else DEFAULT_RANKING.rerank_depth
        setting = replace(plain, rerank=name, rerank_depth=reads, rerank_weight=1.0)
        stages = _stages(searcher, asked, k, setting)
        if stages.second is not None and stages.weights is not None:
            second[name] = _in_columns(pool.ids, stages.first.ids, stages.second)
            shares[name] = stages.weights
    return Judged(_numbered(pool), second, shares, *_documents(searcher, pool.ids, asked))


def _stages(searcher: Searcher, asked: Asked, k: int, ranking: Ranking) -> Stages:
    return searcher.stages(asked.texts, k, Options(ranking=ranking), asked.questions)


def _numbered(pool: Pool) -> Pool:
    return replace(pool, ids=np.where(pool.real, np.arange(pool.ids.shape[1]), -1))


def _in_columns(ids: Ints, first: Ints, second: Floats) -> Floats:
    """The second scores of the first ranking's head where ``ids`` are, -inf for the others."""
    scores = np.full(ids.shape, -np.inf, np.float32)
    for row, (found, values) in enumerate(zip(first[:, : second.shape[1]], second, strict=True)):
        real = found >= 0
        place = np.searchsorted(ids[row, ids[row] >= 0], found[real])
        scores[row, place] = values[real]
    return scores


def _documents(searcher: Searcher, ids: Ints, asked: Asked) -> tuple[Ints, Ints, Bools]:
    """``places``, ``grades`` and ``own`` of ``Judged``."""
    wanted = np.unique(ids[ids >= 0]).tolist()
    names = {vid: row.ext_id for vid, row in searcher.reader.documents_of(wanted).items()}
    places, grades = np.zeros(ids.shape, np.int64), np.zeros(ids.shape, np.int64)
    own = np.zeros(ids.shape, np.bool_)
    for row, query in enumerate(asked.ids):
        found = [names[vid] for vid in ids[row, ids[row] >= 0].tolist()]
        order = sorted(range(len(found)), key=lambda at: found[at].encode(), reverse=True)
        places[row, order] = np.arange(len(found))
        grades[row, : len(found)] = [asked.grades[row].get(found[at], 0) for at in order]
        own[row, : len(found)] = [found[at] == query for at in order]
    return places, grades, own
