"""What each setting is worth for each query: rankings from arrays, as a search would make them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from semsearch.evaluation.tuning.candidates import Asked, Judged, judge_candidates
from semsearch.evaluation.tuning.grid import Grid, settings_of
from semsearch.metrics.evaluate import Judged as JudgedRankings
from semsearch.metrics.evaluate import measure_values
from semsearch.ranking.fusion import fuse
from semsearch.ranking.rerank import head, mixed_scores
from semsearch.types import Candidates, Qrels, Query

if TYPE_CHECKING:
    from semsearch.metrics import Measure
    from semsearch.ranking.settings import Ranking
    from semsearch.search.searcher import Searcher
    from semsearch.types import Floats, Ints

Doubles: TypeAlias = NDArray[np.float64]
Progress: TypeAlias = Callable[[int], None]
"""Told how many more queries are done."""

_BLOCK = 128  # queries at once: their rankings stay in the processor's cache
_LOWEST = 0x7FFFFFFF
_PADDED = np.iinfo(np.int64).min


@dataclass(frozen=True, slots=True)
class Labelled:
    """Queries that have a relevant document, their judgements, and how they are judged."""

    queries: Sequence[Query]
    qrels: Qrels
    ignore_identical_ids: bool = False


def values_of(
    searcher: Searcher, labelled: Labelled, measure: Measure, grid: Grid, progress: Progress
) -> NDArray[np.float64]:
    """The value of every setting for every query, float64 (settings, Q), in the grid's order.

    A search is measured as it is served with k = the measure's. Raises Mismatch, Corrupt, Locked.
    """
    questions = searcher.encode([query.text for query in labelled.queries])
    values = np.empty((len(settings_of(grid)), len(labelled.queries)))
    k = measure.k + labelled.ignore_identical_ids  # one more, where one may go
    for start in range(0, len(labelled.queries), _BLOCK):
        part = labelled.queries[start : start + _BLOCK]
        grades = [labelled.qrels[query.id] for query in part]
        some = questions.some(range(start, start + len(part)))
        asked = Asked([q.id for q in part], [q.text for q in part], some, grades)
        judged = judge_candidates(searcher, asked, k, grid)
        ideal = _ideal(grades, measure.k)
        place = 0
        for first, settings in grid.items():
            pool = judged[first.depth]
            for ranking in rankings(pool, first, settings, k):
                found = _grades(pool, ranking, labelled.ignore_identical_ids)
                values[place, start : start + len(part)] = _measured(found, ideal, measure)
                place += 1
        progress(len(part))
    return values


def rankings(
    judged: Judged, first: Ranking, settings: Sequence[Ranking], k: int
) -> Iterator[Candidates]:
    """The best ``k`` documents (Q, k) of each setting that begins with ``first``.

    ``ids`` are the documents' places (see ``Judged``).
    """
    fused = fuse(judged.pool, first.fusion, first.dense_weight)
    for setting in settings:
        yield _best(judged, _reranked(judged, fused, setting, k), k)


def _reranked(judged: Judged, fused: Candidates, setting: Ranking, k: int) -> Candidates:
    """Candidates (Q, m) with the scores of a setting, in the order of the fused ranking."""
    if setting.rerank not in judged.second:
        return fused
    read = head(fused, setting.rerank_depth)
    second = np.take_along_axis(judged.second[setting.rerank], np.maximum(read.ids, 0), axis=1)
    second = np.where(read.ids >= 0, second, np.float32(-np.inf))
    weights = judged.shares[setting.rerank] * np.float32(setting.rerank_weight)
    scores = mixed_scores(read, second, weights)
    if ((scores > 0).sum(axis=1) >= k).all():  # what was not read has 0 at most
        return Candidates(read.ids, scores)
    return Candidates(fused.ids, mixed_scores(fused, second, weights))


def _best(judged: Judged, found: Candidates, k: int) -> Candidates:
    """The best ``k`` of candidates in any order, equal scores by document id descending.

    Score and place are one number to sort by: six times as fast as sorting by two keys.
    """
    places = np.take_along_axis(judged.places, np.maximum(found.ids, 0), axis=1)
    keys = (_ascending(found.scores) << 32) + (_LOWEST - places)
    keys[found.ids < 0] = _PADDED
    if k < keys.shape[1]:
        keys = np.partition(keys, -k, axis=1)[:, -k:]
    keys = np.sort(keys, axis=1)[:, ::-1]
    real = keys != _PADDED
    whole = (keys >> 32).astype(np.int32)
    scores = np.where(whole < 0, whole ^ np.int32(_LOWEST), whole).view(np.float32)
    ids = np.where(real, _LOWEST - (keys & 0xFFFFFFFF), -1)
    return Candidates(ids, np.where(real, scores, np.float32(-np.inf)))


def _ascending(scores: Floats) -> Ints:
    """Whole numbers in the order of the scores: a float's bits are, but for the sign."""
    bits = (scores + np.float32(0)).view(np.int32).astype(np.int64)  # -0.0 becomes 0.0
    return np.where(bits < 0, bits ^ _LOWEST, bits)


def _grades(judged: Judged, ranking: Candidates, ignore_identical_ids: bool) -> Ints:
    """The grade at each rank, int64 (Q, k), 0 beyond the end."""
    places = np.maximum(ranking.ids, 0)
    grades = np.where(ranking.ids >= 0, np.take_along_axis(judged.grades, places, axis=1), 0)
    if not ignore_identical_ids:
        return grades
    own = np.take_along_axis(judged.own, places, axis=1) & (ranking.ids >= 0)
    order = np.argsort(own, axis=1, kind="stable")[:, :-1]
    kept = np.where(np.take_along_axis(own, order, axis=1), 0, 1)
    return np.take_along_axis(grades, order, axis=1) * kept


def _ideal(grades: Sequence[Mapping[str, int]], k: int) -> tuple[Doubles, Doubles]:
    """The number of relevant documents of each query (Q,), and the gains of the best k (Q, k)."""
    positive = [sorted((g for g in judged.values() if g >= 1), reverse=True) for judged in grades]
    ideal = np.zeros((len(grades), k))
    for row, found in enumerate(positive):
        ideal[row, : len(found)] = found[:k]
    return np.array(list(map(len, positive)), np.float64), ideal


def _measured(grades: Ints, ideal: tuple[Doubles, Doubles], measure: Measure) -> Doubles:
    total, best = ideal
    gains = np.maximum(grades, 0).astype(np.float64)
    return measure_values(JudgedRankings(grades >= 1, total, gains, best), measure)
