"""Reranking: the mixing of scores and late interaction, compared with plain loops in float64."""

import math
from typing import Any

import numpy as np
import pytest

from semsearch.maxsim import Codes, TokenCodec
from semsearch.ranking.late_interaction import SelfReranker
from semsearch.ranking.rerank import head, mixed
from semsearch.types import Candidates
from tests.fakes import FakeEncoder, make_documents

# Mixing


def make_first(sizes, width, seed=0, ties=False):
    """Rankings of random candidates, best first."""
    random = np.random.default_rng(seed)
    ids = np.full((len(sizes), width), -1, np.int64)
    scores = np.full((len(sizes), width), -np.inf, np.float32)
    for number, size in enumerate(sizes):
        found = random.normal(0, 5, size).astype(np.float32)
        found = np.round(found) if ties else found
        names = random.choice(1_000, size, replace=False)
        order = np.lexsort((names, -found))
        ids[number, :size], scores[number, :size] = names[order], found[order]
    return Candidates(ids, scores)


def make_second(first, depth, seed=0):
    random = np.random.default_rng(seed)
    top = head(first, depth)
    scores = random.normal(3, 2, top.ids.shape).astype(np.float32)
    return np.where(top.ids >= 0, scores, np.float32(-np.inf))


def scale(values):
    low, high = min(values), max(values)
    return low, high - low if high - low > 1e-12 else 1.0


def by_hand(ids, first, second, weight):
    """{id: new score} of one query; ``second`` has the scores of the first few of ``first``."""
    if not ids:
        return {}
    low, width = scale(first[: len(second)])
    other, reach = scale(second)
    found = {}
    for at, vid in enumerate(ids):
        one = (first[at] - low) / width
        if at < len(second):
            found[vid] = weight * (second[at] - other) / reach + (1 - weight) * one
        else:
            found[vid] = min(one, 0.0)
    return found


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("depth", [1, 2, 10, 50])
@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_a_new_score_is_the_weighted_sum_of_both_from_0_to_1(weight, depth, ties):
    sizes = [30, 0, 1, 12, 10, 5]
    first = make_first(sizes, 30, depth, ties)
    second = make_second(first, depth, 7)
    weights = np.linspace(weight, weight / 2, len(sizes)).astype(np.float32)
    found = mixed(first, second, weights)
    assert found.ids.shape == found.scores.shape == first.ids.shape
    assert found.scores.dtype == np.float32
    for number, size in enumerate(sizes):
        ids = first.ids[number, :size].tolist()
        ones = [float(score) for score in first.scores[number, :size]]
        twos = [float(score) for score in second[number, : min(size, depth)]]
        expected = by_hand(ids, ones, twos, float(weights[number]))
        order = found.ids[number, :size].tolist()
        scores = found.scores[number, :size]
        assert sorted(order) == sorted(ids)
        assert (found.ids[number, size:] == -1).all()
        assert np.isneginf(found.scores[number, size:]).all()
        np.testing.assert_allclose(scores, [expected[vid] for vid in order], atol=1e-6)
        pairs = list(zip((-scores).tolist(), order, strict=True))
        assert pairs == sorted(pairs), "best first, equal scores by ascending id"
        below = [vid for vid in ids if vid in set(ids[depth:])]
        assert [vid for vid in order if vid in set(below)] == below, "those below keep their order"
        assert all(0 <= expected[vid] <= 1 + 1e-6 for vid in ids[:depth])


def test_without_weight_the_order_stays():
    first = make_first([40, 3], 40, 1)
    found = mixed(first, make_second(first, 10), np.zeros(2, np.float32))
    np.testing.assert_array_equal(found.ids, first.ids)


def test_with_all_the_weight_the_reranker_alone_orders_its_candidates():
    first = make_first([40], 40, 2)
    second = make_second(first, 10)
    found = mixed(first, second, np.ones(1, np.float32))
    np.testing.assert_array_equal(found.ids[0, :10], first.ids[0, np.argsort(-second[0])])
    np.testing.assert_array_equal(found.ids[0, 10:], first.ids[0, 10:])
    assert found.scores[0, 0] == 1


def test_equal_scores_say_nothing():
    """Neither of a first ranking nor of a reranker: what is left orders the candidates."""
    first = make_first([6], 6, 3)
    alike = np.full((1, 6), 0.25, np.float32)
    found = mixed(first, alike, np.array([0.7], np.float32))
    np.testing.assert_array_equal(found.ids, first.ids)
    even = Candidates(np.arange(6)[None], alike)
    second = np.array([[1, 5, 3, 0, 4, 2]], np.float32)
    found = mixed(even, second, np.array([0.3], np.float32))
    assert found.ids.tolist() == [[1, 4, 2, 5, 0, 3]]
    found = mixed(even, alike, np.array([0.3], np.float32))
    assert found.ids.tolist() == [[0, 1, 2, 3, 4, 5]]
    assert found.scores.tolist() == [[0.0] * 6]


def test_a_query_is_mixed_the_same_to_the_bit_whatever_comes_with_it():
    sizes = [3, 40, 0, 20]
    first = make_first(sizes, 40, 4)
    second = make_second(first, 15)
    weights = np.array([0.1, 0.5, 0.3, 0.9], np.float32)
    together = mixed(first, second, weights)
    for number, size in enumerate(sizes):
        row = slice(number, number + 1)
        own = Candidates(first.ids[row, :size], first.scores[row, :size])
        alone = mixed(own, second[row, : min(size, 15)], weights[row])
        np.testing.assert_array_equal(alone.ids[0], together.ids[number, :size])
        np.testing.assert_array_equal(alone.scores[0], together.scores[number, :size])


# Late interaction

TEXTS = {vid: document.content for vid, document in enumerate(make_documents(30))}
TEXTS |= {30: "?!", 31: "", 32: TEXTS[3]}  # two without tokens, and a copy
QUERIES = ["bal car dir", "?", TEXTS[7], "gol unheard"]


def codes_by_text(encoder):
    codec = TokenCodec(encoder.token_dim)
    found = {}
    for vid, text in TEXTS.items():
        rows = encoder.token_vectors(text)
        found[vid] = codec.encode(rows, np.array([len(rows)])).codes
    return found


def reranker_of(encoder, stored):
    """One over these stored codes; passages that have none are read from ``TEXTS``."""
    known = codes_by_text(encoder)
    asked: list[int] = []

    def codes_of(vids):
        there = np.array([vid in stored for vid in vids.tolist()], bool)
        parts = [known[vid] for vid in vids[there].tolist()]
        counts = np.zeros(len(vids), np.int64)
        counts[there] = [len(part) for part in parts]
        empty = np.zeros((0, 0), np.uint8)
        return there, Codes(np.concatenate(parts) if parts else empty, counts)

    def texts_of(vids):
        asked.extend(vids)
        return {vid: TEXTS[vid] for vid in vids}

    tokens = [encoder.token_vectors(query) for query in QUERIES]
    return SelfReranker(encoder, tokens, codes_of, texts_of), asked


def late_interaction(encoder, query, text):
    """The mean over the query's words of the best product with a passage's three neighbours."""
    projection = TokenCodec(encoder.token_dim).projection.astype(np.float64)
    words = encoder.token_vectors(query).astype(np.float64) @ projection
    rows = encoder.token_vectors(text).astype(np.float64)
    groups = [rows[start : start + 3].sum(axis=0) for start in range(0, len(rows), 3)]
    if not groups or not len(words):
        return 0.0
    sign = [np.where(group @ projection >= 0, 1.0, -1.0) for group in groups]
    length = math.sqrt(projection.shape[1])
    return float(np.mean([max(word @ own / length for own in sign) for word in words]))


CANDIDATES = np.array(
    [[*range(20, 33), -1, -1], [*range(5, 20)], [31, 30, 32, *range(10), -1, -1], [-1] * 15]
)
STORED = {
    "all": set(TEXTS),
    "none": set(),
    "a half": set(range(0, 33, 2)),
    "those without tokens": {30, 31},
    "all but those without tokens": set(range(30)),
}


@pytest.mark.parametrize("name", STORED)
def test_scores_are_those_of_loops_whether_codes_are_stored_or_not(name):
    encoder: Any = FakeEncoder()
    reranker, asked = reranker_of(encoder, STORED[name])
    assert reranker.name == "self"
    scores = np.zeros(CANDIDATES.shape, np.float32)
    scores[CANDIDATES < 0] = -np.inf
    found = reranker.score(QUERIES, Candidates(CANDIDATES, scores))
    assert found.shape == CANDIDATES.shape
    assert found.dtype == np.float32
    for number, vids in enumerate(CANDIDATES.tolist()):
        expected = [
            late_interaction(encoder, QUERIES[number], TEXTS[vid]) if vid >= 0 else -np.inf
            for vid in vids
        ]
        np.testing.assert_allclose(found[number], expected, atol=2e-6)
    wanted = {vid for vid in CANDIDATES.ravel().tolist() if vid >= 0} - STORED[name]
    assert set(asked) == wanted, "only the texts of passages without codes are read"
    assert not np.isnan(found).any()


def test_a_text_is_encoded_once_for_a_query():
    encoder: Any = FakeEncoder()
    reranker, _ = reranker_of(encoder, set())
    ids = np.array([[3, 32, 4]])
    found = reranker.score(QUERIES[:1], Candidates(ids, np.zeros((1, 3), np.float32)))
    assert sorted(encoder.documents) == sorted([TEXTS[3], TEXTS[4]])
    assert found[0, 0] == found[0, 1]


def test_what_was_computed_is_kept_and_given_up_when_there_is_too_much(monkeypatch):
    monkeypatch.setattr("semsearch.ranking.late_interaction._MOST_KEPT", 6)
    encoder: Any = FakeEncoder()
    reranker, asked = reranker_of(encoder, {2, 9})
    one = np.zeros((1, 4), np.float32)
    first = reranker.score(QUERIES[:1], Candidates(np.array([[1, 2, 3, 4]]), one))
    assert asked == [1, 3, 4]
    found = reranker.score(QUERIES[:1], Candidates(np.array([[1, 2, 3, 4]]), one))
    np.testing.assert_array_equal(found, first)
    assert asked == [1, 3, 4]
    for vids in ([1, 2, 5, 6], [7, 8, 9, 10], [10, 1, 3, 4]):  # more than are kept
        found = reranker.score(QUERIES[:1], Candidates(np.array([vids]), one))
        expected = [late_interaction(encoder, QUERIES[0], TEXTS[vid]) for vid in vids]
        np.testing.assert_allclose(found[0], expected, atol=2e-6)
    assert asked == [1, 3, 4, 5, 6, 7, 8, 10, 1, 3, 4]


def test_nothing_to_rerank():
    encoder: Any = FakeEncoder()
    reranker, asked = reranker_of(encoder, set())
    none = Candidates(np.zeros((2, 0), np.int64), np.zeros((2, 0), np.float32))
    assert reranker.score(QUERIES[:2], none).shape == (2, 0)
    assert asked == encoder.documents == []
