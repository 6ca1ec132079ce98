"""Fusing rankings by rank, so that scores of different kinds need no common scale."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from semsearch.types import Candidates
from semsearch.vectors import rank

RRF_K = 60


def reciprocal_rank_fusion(rankings: Sequence[Candidates], k: int = RRF_K) -> Candidates:
    """Score each id by the sum of 1 / (k + rank) over the rankings that hold it, rank from 1.

    ``rankings`` hold the same queries, (Q, depth) each; the result is (Q, sum of depths), ordered
    by score, then id.

    Cormack, Clarke and Büttcher, "Reciprocal rank fusion outperforms Condorcet and individual rank
    learning methods", SIGIR 2009.
    """
    ids = np.concatenate([ranking.ids for ranking in rankings], axis=1)
    ranks = np.concatenate([np.arange(ranking.ids.shape[1]) for ranking in rankings])
    # Neighbours of one id are added up; the order of the rankings stays, so sums are repeatable.
    order = np.argsort(ids, axis=1, kind="stable")
    ids = np.take_along_axis(ids, order, axis=1)
    starts = np.flatnonzero(np.diff(ids, axis=1, prepend=-2))
    sums = np.add.reduceat((1.0 / (k + 1 + ranks))[order].ravel(), starts)
    query, found = starts // ids.shape[1], ids.ravel()[starts]
    real = found >= 0
    scores = sums[real].astype(np.float32)
    return rank(query[real], found[real], scores, len(ids), ids.shape[1])
