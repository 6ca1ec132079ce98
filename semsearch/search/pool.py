"""The pool: what both indexes propose for each query, with the score that each gives to all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from semsearch.ranking.fusion import Pool
from semsearch.search.candidates import CandidateSource
from semsearch.types import Candidates

if TYPE_CHECKING:
    from semsearch.types import Floats, Ints


def build_pool(
    source: CandidateSource,
    texts: Sequence[str],
    queries: Floats,
    dense: Candidates,
    lexical: Candidates,
    known: Floats,
) -> Pool:
    """Bring two rankings (Q, k) together; ``queries`` float32 (Q, d) are rotated and cut.

    A candidate that only one index proposed is scored by the other, too: no score is guessed.
    ``known`` float32 (Q,) is the share of each query's tokens that the encoder knows.
    """
    ids = _union(dense.ids, lexical.ids)
    dense_ranks, dense_scores = _looked_up(ids, dense)
    lexical_ranks, lexical_scores = _looked_up(ids, lexical)
    missing = np.where((ids >= 0) & (dense_ranks == 0), ids, -1)
    dense_scores = np.where(missing >= 0, source.cosines(queries, missing), dense_scores)
    for number, text in enumerate(texts):
        lacking = np.flatnonzero((ids[number] >= 0) & (lexical_ranks[number] == 0))
        lexical_scores[number, lacking] = source.words_of(text, ids[number, lacking])
    mean, spread = source.background(queries)
    reads = known * np.float32(source.reading.weight)
    return Pool(ids, dense_scores, lexical_scores, dense_ranks, lexical_ranks, mean, spread, reads)


def _union(first: Ints, second: Ints) -> Ints:
    """The ids of both in each row, each once, ascending, padded with -1 at the end."""
    rows = [np.unique(row[row >= 0]) for row in np.concatenate([first, second], axis=1)]
    ids = np.full((len(rows), max(map(len, rows), default=0)), -1, np.int64)
    for number, row in enumerate(rows):
        ids[number, : len(row)] = row
    return ids


def _looked_up(ids: Ints, ranking: Candidates) -> tuple[Ints, Floats]:
    """Rank (from 1, 0 if absent) and score (0 if absent) of each of ``ids`` in a ranking."""
    ranks = np.zeros(ids.shape, np.int64)
    scores = np.zeros(ids.shape, np.float32)
    for number, row in enumerate(ids):
        found = ranking.ids[number]
        held = np.flatnonzero(found >= 0)
        place = np.searchsorted(row[row >= 0], found[held])
        ranks[number, place] = held + 1
        scores[number, place] = ranking.scores[number, held]
    return ranks, scores
