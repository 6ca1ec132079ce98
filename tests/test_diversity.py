"""Maximal marginal relevance, compared with its definition in plain Python, and in searches."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from semsearch.errors import UsageError
from semsearch.ranking.diversity import diversify
from semsearch.ranking.settings import Ranking
from semsearch.search.options import MODES, Options
from semsearch.store.filters import parse_filter
from semsearch.types import Document
from semsearch.vectors import unit
from tests.fakes import FakeEncoder, index_into, make_documents, opened, searching

PLAIN = Ranking(depth=60, rerank="none")


def by_definition(relevance, vectors, diversity, k):
    """Carbonell and Goldstein's formula, one pair at a time."""
    low, high = min(relevance), max(relevance)
    scaled = [(r - low) / ((high - low) or 1) for r in relevance]
    left = list(range(len(relevance)))
    chosen: list[int] = []
    scores: list[float] = []
    while left and len(chosen) < k:

        def value(n):
            likeness = [float(np.dot(vectors[n].astype(float), vectors[m])) for m in chosen]
            return (1 - diversity) * scaled[n] - diversity * max(0, *likeness, 0)

        best = max(left, key=lambda n: (value(n), -n))
        scores.append(value(best))
        chosen.append(best)
        left.remove(best)
    return chosen, scores


@pytest.mark.parametrize("diversity", [0.0, 0.1, 0.3, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("k", [1, 5, 40, 99])
def test_the_order_is_that_of_the_definition(diversity, k):
    random = np.random.default_rng(k)
    vectors = unit(random.standard_normal((40, 3)))
    relevance = random.standard_normal(40).astype(np.float32)
    positions, scores = diversify(relevance, vectors, diversity, k)
    wanted, values = by_definition(relevance.tolist(), vectors, diversity, k)
    assert positions.tolist() == wanted
    np.testing.assert_allclose(scores, values, atol=1e-6)


@given(
    st.lists(st.tuples(st.integers(-3, 3), st.integers(0, 3)), max_size=12),
    st.floats(0, 1),
    st.integers(0, 14),
)
def test_each_comes_once_and_scores_never_rise(rows, diversity, k):
    vectors = np.eye(4, dtype=np.float32)[[axis for _, axis in rows]].reshape(-1, 4)
    relevance = np.array([r for r, _ in rows], np.float32)
    positions, scores = diversify(relevance, vectors, diversity, k)
    assert len(positions) == len(scores) == min(k, len(rows))
    assert len(set(positions.tolist())) == len(positions)
    assert all(first >= second for first, second in pairwise(scores.tolist()))


def test_without_diversity_the_order_stays():
    relevance = np.array([5, 5, 3, 1], np.float32)
    positions, _ = diversify(relevance, np.eye(4, dtype=np.float32), 0, 4)
    assert positions.tolist() == [0, 1, 2, 3]


def test_a_copy_waits_behind_what_is_different():
    vectors = unit(np.array([[1, 0, 0], [1, 0, 0], [0.6, 0.8, 0], [0, 0, 1.0]]))
    relevance = np.array([1.0, 0.9, 0.7, 0.0], np.float32)
    assert diversify(relevance, vectors, 0.5, 4)[0].tolist() == [0, 2, 3, 1]


# In searches


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    folder = tmp_path_factory.mktemp("diversity") / "idx"
    encoder = FakeEncoder()
    index_into(folder, encoder, make_documents(200))
    return opened(folder, encoder)


def vectors_of(index, vids):
    snapshot = index.searcher.snapshot
    return unit(snapshot.rows.take(snapshot.ordinals(np.array(vids, np.int64))))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("rerank", ["none", "self"])
def test_hits_are_the_ranking_in_a_new_order(index, mode, rerank):
    conditions = parse_filter(["year>=2004"])
    plain = Options(mode, None, conditions, rerank=rerank, ranking=PLAIN)
    (deep,) = index.searcher.rank(["bal car dir"], PLAIN.depth, plain)
    middle = deep[len(deep) // 2].score
    for lowest in (None, middle):
        good = [r for r in deep if lowest is None or r.score >= lowest]
        wanted, values = by_definition(
            [r.score for r in good], vectors_of(index, [r.vid for r in good]), 0.4, 10
        )
        options = Options(
            mode, None, conditions, lowest, rerank=rerank, ranking=PLAIN, diversity=0.4
        )
        (ranking,) = index.searcher.rank(["bal car dir"], 10, options)
        assert [r.id for r in ranking] == [good[n].id for n in wanted]
        np.testing.assert_allclose([r.score for r in ranking], values, atol=1e-6)
        hits = index.searcher.search("bal car dir", 10, options)
        assert [(h.rank, h.id, h.score) for h in hits] == [
            (n, r.id, r.score) for n, r in enumerate(ranking, start=1)
        ]
        assert all(hit.metadata["year"] >= 2004 for hit in hits)


def test_many_queries_are_answered_as_one_by_one(index):
    texts = ["bal car dir", "", "nor far", "hil kar"]
    options = Options(diversity=0.5)
    together = index.searcher.rank(texts, 20, options)
    assert together[1] == []
    assert together == [index.searcher.rank([text], 20, options)[0] for text in texts]


def test_k_may_be_deeper_than_the_ranking(index):
    options = Options("dense", ranking=PLAIN, diversity=0.5)
    assert len({h.id for h in index.searcher.search("bal", 150, options)}) == 150


def test_copies_do_not_fill_the_hits(tmp_path):
    encoder = FakeEncoder()
    documents = [Document(f"copy{n}", "bal car dir") for n in range(5)]
    documents += [Document("other", "bal car gol"), Document("third", "bal hil kar")]
    index_into(tmp_path / "idx", encoder, documents)
    index = opened(tmp_path / "idx", encoder)
    assert {h.id[:4] for h in index.search("bal car dir", 3)} == {"copy"}
    hits = index.search("bal car dir", 3, diversity=0.7)
    assert [hit.id for hit in hits][:1] == ["copy4"]
    assert {hit.id for hit in hits} == {"copy4", "other", "third"}


def test_nothing_found_is_nothing_to_order(tmp_path):
    encoder = FakeEncoder()
    index_into(tmp_path / "idx", encoder, [])
    assert searching(tmp_path / "idx", encoder).search("bal", 3, Options(diversity=0.5)) == []


@pytest.mark.parametrize("diversity", [-0.1, 1.1, float("nan")])
def test_a_diversity_out_of_range_is_refused(index, diversity):
    with pytest.raises(UsageError, match="diversity must be between 0 and 1, not"):
        index.search("bal", diversity=diversity)


def test_a_deep_ranking_cannot_be_diverse(index):
    with pytest.raises(UsageError, match="with diversity k must be at most 10000, not 10001"):
        index.search("bal", 10_001, diversity=0.1)
