"""Fusion by rank, compared with a dictionary of sums."""

import numpy as np
import pytest

from semsearch.ranking.fusion import RRF_K, reciprocal_rank_fusion
from semsearch.types import Candidates


def candidates(rows, width):
    ids = np.full((len(rows), width), -1, np.int64)
    scores = np.full((len(rows), width), -np.inf, np.float32)
    for row, found in enumerate(rows):
        ids[row, : len(found)] = found
        scores[row, : len(found)] = np.linspace(1, 0, len(found))
    return Candidates(ids, scores)


def by_hand(rankings):
    """(id, score) of one query, best first."""
    sums: dict[int, float] = {}
    for found in rankings:
        for rank, vid in enumerate(found, start=1):
            sums[vid] = sums.get(vid, 0.0) + 1 / (RRF_K + rank)
    rounded = {vid: float(np.float32(score)) for vid, score in sums.items()}
    return sorted(rounded.items(), key=lambda item: (-item[1], item[0]))


@pytest.mark.parametrize("rankings", [1, 2, 3])
def test_fusion_is_the_sum_of_reciprocal_ranks(rankings):
    random = np.random.default_rng(rankings)
    widths = [12, 7, 9][:rankings]
    rows = [
        [random.permutation(20)[: random.integers(0, width + 1)].tolist() for _ in range(50)]
        for width in widths
    ]
    parts = [candidates(some, width) for some, width in zip(rows, widths, strict=True)]
    fused = reciprocal_rank_fusion(parts)
    assert fused.ids.shape == fused.scores.shape == (50, sum(widths))
    assert fused.scores.dtype == np.float32
    for query, found in enumerate(zip(*rows, strict=True)):
        expected = by_hand(found)
        size = len(expected)
        assert fused.ids[query, :size].tolist() == [vid for vid, _ in expected]
        assert fused.scores[query, :size].tolist() == [score for _, score in expected]
        assert (fused.ids[query, size:] == -1).all()
        assert np.isneginf(fused.scores[query, size:]).all()


def test_fusing_with_an_index_that_is_not_there():
    near = candidates([[3, 1]], 4)
    fused = reciprocal_rank_fusion([near, candidates([[]], 0)])
    assert fused.ids.tolist() == [[3, 1, -1, -1]]


def test_fusing_nothing():
    nothing = candidates([[], []], 0)
    assert reciprocal_rank_fusion([nothing, nothing]).ids.shape == (2, 0)
