"""Fusing rankings by rank, so that scores of different kinds need no common scale."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from semsearch.types import Candidates

if TYPE_CHECKING:
    from semsearch.types import Floats, Ints

RRF_K = 60


def reciprocal_rank_fusion(rankings: Sequence[Candidates], k: int = RRF_K) -> Candidates:
    """Score each id by the sum of 1 / (k + rank) over the rankings that hold it, rank from 1.

    ``rankings`` hold the same queries, (Q, depth) each; the result is (Q, sum of depths), ordered
    by score, then id.

    Cormack, Clarke and Büttcher, "Reciprocal rank fusion outperforms Condorcet and individual rank
    learning methods", SIGIR 2009.
    """
    queries = len(rankings[0].ids)
    width = sum(ranking.ids.shape[1] for ranking in rankings)
    ids = np.full((queries, width), -1, np.int64)
    scores = np.full((queries, width), -np.inf, np.float32)
    for query in range(queries):
        found, fused = _fuse_one([ranking.ids[query] for ranking in rankings], k)
        ids[query, : len(found)] = found
        scores[query, : len(found)] = fused
    return Candidates(ids, scores)


def _fuse_one(rankings: Sequence[Ints], k: int) -> tuple[Ints, Floats]:
    present = [ids[ids >= 0] for ids in rankings]
    found = np.unique(np.concatenate(present))
    scores = np.zeros(len(found), np.float64)
    for ids in present:
        scores[np.searchsorted(found, ids)] += 1.0 / (k + 1 + np.arange(len(ids)))
    fused = scores.astype(np.float32)
    order = np.lexsort((found, -fused))
    return found[order], fused[order]
