"""Fusion, compared with plain Python in float64, the normal distribution with scipy's."""

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import norm  # type: ignore[import-untyped,unused-ignore]

from semsearch.errors import UsageError
from semsearch.ranking.fusion import RRF_K, Pool, fuse
from semsearch.ranking.settings import FUSIONS, MOST_CANDIDATES, Ranking

WEIGHTS = [0.0, 0.3, 0.5, 1.0]


def make_pool(sizes, seed=0, pad=0, reads=None):
    """Random candidates: so many for each query, some in one ranking only, some without words."""
    random = np.random.default_rng(seed)
    shape = (len(sizes), max(sizes, default=0) + pad)
    ids = np.full(shape, -1, np.int64)
    dense, lexical = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    dense_ranks, lexical_ranks = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    for number, size in enumerate(sizes):
        ids[number, :size] = np.sort(random.choice(10_000, size, replace=False))
        dense[number, :size] = random.uniform(-0.3, 0.9, size)
        lexical[number, :size] = random.gamma(2, 4, size) * (random.random(size) < 0.7)
        for ranks, scores in ((dense_ranks, dense), (lexical_ranks, lexical)):
            order = np.argsort(-scores[number, :size])
            held = order[: int(random.integers(0, size + 1))]
            ranks[number, held] = np.arange(1, len(held) + 1)
    mean = random.uniform(-0.1, 0.2, len(sizes)).astype(np.float32)
    spread = random.uniform(0.02, 0.2, len(sizes)).astype(np.float32)
    known = random.uniform(0, 1, len(sizes)) if reads is None else np.full(len(sizes), reads)
    reads = known.astype(np.float32)
    return Pool(ids, dense, lexical, dense_ranks, lexical_ranks, mean, spread, reads)


def by_hand(pool, fusion, weight):
    """For each query {id: score}."""
    found = []
    for number, ids in enumerate(pool.ids):
        rows = [
            (
                int(ids[at]),
                float(pool.dense[number, at]),
                float(pool.lexical[number, at]),
                int(pool.dense_ranks[number, at]),
                int(pool.lexical_ranks[number, at]),
            )
            for at in range(len(ids))
            if ids[at] >= 0
        ]
        sides = [float(pool.mean[number]), float(pool.spread[number]), float(pool.reads[number])]
        found.append(_FORMULAS[fusion](rows, weight, *sides))
    return found


def surprise(rows, weight, mean, spread, reads):
    scores = {}
    for vid, dense, lexical, *_ in rows:
        z = (dense - mean) / max(spread, 1e-6)
        dense_part = reads * -norm.logsf(min(z, 37.0))
        scores[vid] = 2 * weight * dense_part + 2 * (1 - weight) * lexical / 2.2
    return scores


def rrf(rows, weight, *_):
    scores = {}
    for vid, _dense, _lexical, dense_rank, lexical_rank in rows:
        dense_part = 1 / (60 + dense_rank) if dense_rank else 0
        lexical_part = 1 / (60 + lexical_rank) if lexical_rank else 0
        scores[vid] = 2 * weight * dense_part + 2 * (1 - weight) * lexical_part
    return scores


def scaled(rows, weight, reads, scale):
    part = weight * reads / (weight * reads + 1 - weight) if weight * reads else 0.0
    dense = scale([row[1] for row in rows])
    lexical = scale([row[2] for row in rows])
    return {
        row[0]: part * one + (1 - part) * other
        for row, one, other in zip(rows, dense, lexical, strict=True)
    }


def minmax(rows, weight, _mean, _spread, reads):
    def scale(values):
        low, high = min(values, default=0), max(values, default=0)
        return [(value - low) / max(high - low, 1e-6) for value in values]

    return scaled(rows, weight, reads, scale)


def zscore(rows, weight, _mean, _spread, reads):
    def scale(values):
        mean = math.fsum(values) / max(len(values), 1)
        spread = math.sqrt(math.fsum((v - mean) ** 2 for v in values) / max(len(values), 1))
        return [(value - mean) / max(spread, 1e-6) for value in values]

    return scaled(rows, weight, reads, scale)


_FORMULAS = {"surprise": surprise, "rrf": rrf, "minmax": minmax, "zscore": zscore}


def assert_fused(pool, fusion, weight):
    found = fuse(pool, fusion, weight)
    assert found.ids.shape == found.scores.shape == pool.ids.shape
    assert found.ids.dtype == np.int64
    assert found.scores.dtype == np.float32
    assert not np.isnan(found.scores).any()
    for number, expected in enumerate(by_hand(pool, fusion, weight)):
        size = len(expected)
        ids, scores = found.ids[number], found.scores[number]
        assert (ids[size:] == -1).all()
        assert np.isneginf(scores[size:]).all()
        assert sorted(ids[:size].tolist()) == sorted(expected)
        wanted = [expected[vid] for vid in ids[:size].tolist()]
        np.testing.assert_allclose(scores[:size], wanted, rtol=2e-5, atol=2e-5)
        pairs = list(zip((-scores[:size]).tolist(), ids[:size].tolist(), strict=True))
        assert pairs == sorted(pairs), "best first, equal scores by ascending id"


@pytest.mark.parametrize("weight", WEIGHTS)
@pytest.mark.parametrize("fusion", FUSIONS)
def test_every_fusion_is_its_formula(fusion, weight):
    for seed, sizes in enumerate([[9, 1, 0, 40, 200], [1], [0, 0], [150, 149]]):
        assert_fused(make_pool(sizes, seed, pad=seed % 3), fusion, weight)


@pytest.mark.parametrize("reads", [0.0, 0.2, 1.0])
@pytest.mark.parametrize("fusion", FUSIONS)
def test_the_dense_side_counts_as_far_as_the_encoder_reads(fusion, reads):
    pool = make_pool([60, 30], 5, reads=reads)
    for weight in WEIGHTS:
        assert_fused(pool, fusion, weight)
    if not reads and fusion != "rrf":  # then words alone order them
        found = fuse(pool, fusion, 0.6)
        for ids, row, lexical in zip(found.ids, pool.ids, pool.lexical, strict=True):
            of = dict(zip(row.tolist(), lexical.tolist(), strict=True))
            ordered = [of[vid] for vid in ids.tolist() if vid >= 0]
            assert ordered == sorted(ordered, reverse=True)


def test_half_and_half_is_the_plain_sum_of_reciprocal_ranks():
    """As it has always been written: 1 / (60 + rank), summed."""
    pool = make_pool([50], 3)
    found = fuse(pool, "rrf", 0.5)
    sums = {}
    for at, vid in enumerate(pool.ids[0].tolist()):
        ranks = (int(pool.dense_ranks[0, at]), int(pool.lexical_ranks[0, at]))
        sums[vid] = sum(1 / (RRF_K + rank) for rank in ranks if rank)
    expected = [float(np.float32(sums[vid])) for vid in found.ids[0].tolist()]
    assert found.scores[0].tolist() == expected


@pytest.mark.parametrize("z", [-1e9, -40.0, -8.0, -1.0, 0.0, 0.5, 3.0, 8.0, 20.0, 37.0, 38.0, 1e9])
def test_surprise_is_the_tail_of_the_normal_distribution(z):
    pool = make_pool([1], 1, reads=1.0)
    spread = np.array([0.125], np.float32)
    mean = np.array([0.0], np.float32)
    pool = replace(pool, mean=mean, spread=spread, dense=np.array([[0.125 * z]], np.float32))
    found = fuse(pool, "surprise", 1.0).scores[0, 0]
    assert found == pytest.approx(2 * -norm.logsf(min(z, 37.0)), rel=1e-5)
    assert np.isfinite(found)


def test_surprise_never_falls_where_the_cosine_rises():
    pool = make_pool([2_000], 2, reads=1.0)
    cosines = np.sort(np.random.default_rng(0).uniform(-1, 1, 2_000)).astype(np.float32)
    pool = replace(pool, dense=cosines[None])
    found = fuse(pool, "surprise", 1.0)
    by_id = dict(zip(found.ids[0].tolist(), found.scores[0].tolist(), strict=True))
    ordered = [by_id[vid] for vid in pool.ids[0].tolist()]
    assert ordered == sorted(ordered)


@pytest.mark.parametrize("spread", [0.0, 1e-9, 1e-30])
@pytest.mark.parametrize("fusion", FUSIONS)
def test_vectors_that_are_all_alike(fusion, spread):
    """No spread, equal scores: nothing is divided by zero, and words decide."""
    pool = make_pool([5], 4, reads=1.0)
    alike = np.full((1, 5), 0.75, np.float32)
    held = np.array([[1, 2, 3, 4, 5]])
    pool = replace(pool, dense=alike, dense_ranks=held, mean=alike[:, 0])
    pool = replace(pool, spread=np.array([spread], np.float32))
    assert_fused(pool, fusion, 0.6)
    equal = replace(pool, lexical=alike, lexical_ranks=np.zeros_like(held), dense_ranks=held * 0)
    found = fuse(equal, fusion, 0.6)
    assert found.ids.tolist() == pool.ids.tolist(), "equal scores by ascending id"
    assert len(set(found.scores[0].tolist())) == 1


@pytest.mark.parametrize("fusion", FUSIONS)
def test_a_query_is_fused_the_same_to_the_bit_whatever_comes_with_it(fusion):
    sizes = [17, 0, 300, 1, 129, 128, 64]
    together = make_pool(sizes, 6)
    found = fuse(together, fusion, 0.6)
    for number, size in enumerate(sizes):
        row = slice(number, number + 1)
        alone = Pool(
            together.ids[row, :size],
            together.dense[row, :size],
            together.lexical[row, :size],
            together.dense_ranks[row, :size],
            together.lexical_ranks[row, :size],
            together.mean[row],
            together.spread[row],
            together.reads[row],
        )
        one = fuse(alone, fusion, 0.6)
        np.testing.assert_array_equal(one.ids[0], found.ids[number, :size])
        np.testing.assert_array_equal(one.scores[0], found.scores[number, :size])


# Settings


def test_a_ranking_is_written_and_read_as_it_is():
    for ranking in (Ranking(), Ranking("zscore", 0.25, 7, "some/cross-encoder", 9, 1.0)):
        assert Ranking.from_json(ranking.to_json()) == ranking


def test_settings_are_replaced_by_what_people_type():
    typed = {"fusion": "rrf", "dense_weight": "0.5", "depth": "200", "rerank": "none"}
    wanted = Ranking("rrf", 0.5, 200, "none")
    assert Ranking().changed(typed) == wanted
    assert Ranking(dense_weight=1, rerank_weight=0).changed({"dense_weight": "0.5"}) == Ranking(
        dense_weight=0.5, rerank_weight=0
    )
    assert Ranking().changed({}) == Ranking()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"fusion": "best"}, "unknown fusion 'best': choose one of surprise, rrf, minmax, zscore"),
        ({"dense_weight": "1.01"}, "dense_weight must be between 0 and 1, not 1.01"),
        ({"dense_weight": "nan"}, "dense_weight must be between 0 and 1, not nan"),
        ({"rerank_weight": "-1"}, "rerank_weight must be between 0 and 1, not -1.0"),
        ({"rerank": ""}, "rerank must be self, none or a cross-encoder, not ''"),
        ({"dense_weight": "half"}, "dense_weight=half is not a number"),
        ({"depth": "1.5"}, "depth=1.5 is not a number"),
        ({"depth": "0"}, "depth must be a whole number between 1 and 10000, not 0"),
        (
            {"rerank_depth": "10001"},
            "rerank_depth must be a whole number between 1 and 10000, not 10001",
        ),
        (
            {"speed": "1"},
            "unknown setting 'speed': there are fusion, dense_weight, depth, rerank, rerank_depth,"
            " rerank_weight",
        ),
    ],
)
def test_settings_that_cannot_be_meant(settings, message):
    with pytest.raises(UsageError) as caught:
        Ranking().changed(settings)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "3",
        "null",
        '{"speed": 1}',
        '{"depth": 1.5}',
        '{"depth": "many"}',
        '{"dense_weight": "half"}',
        '{"dense_weight": null}',
        '{"fusion": ["rrf"]}',
        '{"depth": NaN}',
        '{"rerank": 7}',
    ],
)
def test_what_is_no_ranking_is_refused(text):
    with pytest.raises(UsageError):
        Ranking.from_json(text)


def test_the_most_candidates_are_allowed():
    assert Ranking(depth=MOST_CANDIDATES, rerank_depth=1).depth == MOST_CANDIDATES
