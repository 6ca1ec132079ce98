"""The default ranking from query to documents, computed once more in plain Python and NumPy.

All cosines and all BM25; the best of both, pooled; surprise by scipy; MaxSim by loops; documents
by their best passage.
"""

import logging
import math
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
from scipy.stats import norm  # type: ignore[import-untyped,unused-ignore]

from semsearch.collection import layout
from semsearch.collection.layout import Layout
from semsearch.collection.reader import Reader
from semsearch.collection.writer import open_for_writing
from semsearch.errors import Corrupt, UsageError
from semsearch.maxsim import TokenCodec
from semsearch.ranking.settings import DEFAULT_RANKING, Ranking
from semsearch.ranking.tuned import record_ranking
from semsearch.search.options import Options
from semsearch.store import catalog
from semsearch.store.filters import matches, parse_filter
from semsearch.types import Document
from tests import models
from tests.fakes import (
    WORDS,
    FakeEncoder,
    index_into,
    make_documents,
    opened,
    real_encoder,
    searching,
)
from tests.lexical_oracle import Oracle

QUERIES = [
    "bal car dir",
    "title 7 gol",
    "nor nor mar",
    "far far hil kar lil mar bal nor gol dar",
    "title",
    "zzz unheard",
    "bal 日本語",
    "日本語",
    "?!",
]
SHALLOW = Ranking(depth=12, rerank_depth=7)


class Truth:
    """An index, read once, and the default ranking over it by brute force."""

    def __init__(self, folder, encoder, *, foreign=False):
        self.encoder = encoder
        with Reader(folder) as reader:
            snapshot = reader.snapshot()
            vids = snapshot.rows.ids.tolist()
            alive = [True] * len(vids) if snapshot.alive is None else snapshot.alive.tolist()
            owners = reader.passages_of(vids)
            self.rotation = snapshot.rotation
            rows = snapshot.rows.take(np.arange(len(vids))).astype(np.float64)
        self.rows = rows
        self.vectors = dict(zip(vids, rows, strict=True))
        self.live = [vid for vid, lives in zip(vids, alive, strict=True) if lives]
        self.owner = {vid: owners[vid][1].ext_id for vid in vids}
        self.metadata = {vid: owners[vid][1].document.metadata for vid in vids}
        self.text = {
            vid: row.document.passage(passage.start, passage.end)
            for vid, (passage, row) in owners.items()
        }
        self.words = Oracle(vids, [self.text[vid] for vid in vids])
        counted = encoder.encode_documents([self.text[vid] for vid in self.live])
        unknown = counted.unknown.sum() / max(int(counted.tokens.sum()), 1)
        self.reading = (1 - round(float(unknown), 6)) * (0.2 if foreign else 1.0)

    def cosines(self, query, dims):
        vector = self.encoder.vector(query).astype(np.float64)
        if self.rotation is not None:
            vector = vector @ self.rotation.astype(np.float64)
        vector = vector[:dims] / np.linalg.norm(vector[:dims])
        rows = self.rows[:, :dims]
        found = rows @ vector / np.linalg.norm(rows, axis=1)
        return dict(zip(self.vectors, found.tolist(), strict=True))

    @cache  # noqa: B019 - lives as long as the module
    def code_signs(self, vid):
        codec = TokenCodec(self.encoder.token_dim)
        rows = self.encoder.token_vectors(self.text[vid])
        codes = codec.encode(rows, np.array([len(rows)])).codes
        return 2.0 * np.unpackbits(codes, axis=1)[:, : codec.bits] - 1

    def late_interaction(self, query, vid):
        codec = TokenCodec(self.encoder.token_dim)
        tokens = self.encoder.token_vectors(query).astype(np.float64) @ codec.projection
        signs = self.code_signs(vid) / math.sqrt(codec.bits)
        if not len(tokens) or not len(signs):
            return 0.0
        return float(np.mean([max(float(token @ row) for row in signs) for token in tokens]))

    def known(self, query):
        counted = self.encoder.encode_queries([query])
        return 1 - float(counted.unknown[0]) / max(int(counted.tokens[0]), 1)

    def ranking(self, query, k, ranking=DEFAULT_RANKING, dims=None, conditions=()):
        """(id, score) of the best k documents, as deep as it takes."""
        depth = max(ranking.depth, k)
        while True:
            found, more = self.at_depth(query, depth, ranking, dims, conditions)
            if depth >= len(self.rows) or len(found) >= k or not more:
                return found[:k]
            depth *= 2

    def at_depth(self, query, depth, ranking, dims, conditions):
        kept = [vid for vid in self.live if matches(self.metadata[vid], conditions)]
        cosines, words = self.cosines(query, dims), self.words.scores(query)
        dense = best({vid: cosines[vid] for vid in kept}, depth)
        lexical = best({vid: words[vid] for vid in kept if vid in words}, depth)
        pool = self.pooled(dense, lexical, cosines, words)
        reads = self.known(query) * self.reading
        mean, spread = np.mean(list(cosines.values())), np.std(list(cosines.values()))
        first = {}
        for vid, (cosine, bm25) in pool.items():
            z = min((cosine - mean) / max(spread, 1e-6), 37.0)
            weight = ranking.dense_weight
            first[vid] = 2 * weight * reads * -norm.logsf(z) + 2 * (1 - weight) * bm25 / 2.2
        final = self.mixed(query, first, ranking, ranking.rerank_weight * reads)
        documents: dict[str, float] = {}
        for vid, score in best(final, len(final)):
            documents.setdefault(self.owner[vid], score)
        pairs = sorted(documents.items(), reverse=True)
        more = depth in (len(dense), len(lexical))
        return sorted(pairs, key=lambda pair: -np.float32(pair[1])), more

    def pooled(self, dense, lexical, cosines, words):
        """{vid: (cosine, BM25)}: of each document the passage that ranks highest in either."""
        chosen: dict[str, int] = {}
        for rank in range(max(len(dense), len(lexical))):
            for side in (dense, lexical):
                if rank < len(side):
                    chosen.setdefault(self.owner[side[rank][0]], side[rank][0])
        tops = []
        for side in (dense, lexical):
            top: dict[str, float] = {}
            for vid, score in side:
                top.setdefault(self.owner[vid], score)
            tops.append(top)
        return {
            vid: (tops[0].get(owner, cosines[vid]), tops[1].get(owner, words.get(vid, 0.0)))
            for owner, vid in chosen.items()
        }

    def mixed(self, query, first, ranking, weight):
        if ranking.rerank == "none" or not first:
            return first
        ordered = best(first, len(first))
        top, below = ordered[: ranking.rerank_depth], ordered[ranking.rerank_depth :]
        one = scaled([score for _, score in top])
        two = scaled([self.late_interaction(query, vid) for vid, _ in top])
        low, high = top[-1][1], top[0][1]
        width = high - low if high - low > 1e-12 else 1.0
        found = {vid: min((score - low) / width, 0.0) for vid, score in below}
        return found | {
            vid: weight * b + (1 - weight) * a for (vid, _), a, b in zip(top, one, two, strict=True)
        }


def scaled(values):
    low, high = min(values), max(values)
    return [(value - low) / (high - low if high - low > 1e-12 else 1.0) for value in values]


def best(scores, depth):
    """(vid, score) by score, then vid."""
    return sorted(scores.items(), key=lambda pair: (-np.float32(pair[1]), pair[0]))[:depth]


def assert_same(found, expected):
    """The same documents with the same scores; those whose scores hardly differ may swap."""
    assert len(found) == len(expected)
    assert len({name for name, _ in found}) == len(found)
    wanted = [score for _, score in expected]
    np.testing.assert_allclose([score for _, score in found], wanted, rtol=2e-4, atol=2e-4)
    scores = dict(expected)
    for name, score in found:
        np.testing.assert_allclose(score, scores.get(name, wanted[-1]), rtol=2e-4, atol=2e-4)


def pairs_of(hits):
    return [(hit.id, hit.score) for hit in hits]


def assert_equal(alone, many):
    """The same documents in the same order; a product of one row may differ in its last bit."""
    assert [hit.id for hit in alone] == [hit.id for hit in many]
    first, second = ([hit.score for hit in hits] for hits in (alone, many))
    np.testing.assert_allclose(first, second, rtol=0, atol=2**-23)


def assert_pipeline(folder, encoder, truth, *, queries=QUERIES, depths=(1, 10, 500), **asked):
    """Searching and ranking, alone and together, equal brute force, and each other."""
    ranking, dims = asked.get("ranking"), asked.get("dims")
    conditions = asked.get("conditions", ())
    options = Options(ranking=ranking, dims=dims, conditions=conditions)
    searcher = searching(folder, encoder)
    for k in depths:
        together = searcher.rank(queries, k, options)
        for query, many in zip(queries, together, strict=True):
            alone = searcher.search(query, k, options)
            assert_equal(alone, many)
            assert_equal(searcher.rank([query], k, options)[0], many)
            expected = truth.ranking(query, k, ranking or DEFAULT_RANKING, dims, conditions)
            assert_same(pairs_of(alone), expected)
            assert np.isfinite([hit.score for hit in alone]).all()
    searcher.close()


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    folder = tmp_path_factory.mktemp("plain") / "idx"
    encoder: Any = FakeEncoder()
    index_into(folder, encoder, make_documents(150))
    return folder, encoder, Truth(folder, encoder)


def long_documents(count, seed=0):
    """Some of several passages, whose words return in others."""
    random = np.random.default_rng(seed)
    made = []
    for n in range(count):
        words = random.choice(WORDS, int(random.integers(3, 90))).tolist()
        text = " ".join(" ".join(words[at : at + 9]) + "." for at in range(0, len(words), 9))
        made.append(Document(f"d{n:03}", text, f"title {n}", {"n": n}, "made", n + 1))
    return made


@pytest.fixture(scope="module")
def chunked(tmp_path_factory):
    folder = tmp_path_factory.mktemp("chunked") / "idx"
    encoder: Any = FakeEncoder(max_length=16)
    index_into(folder, encoder, long_documents(40))
    truth = Truth(folder, encoder)
    assert len(truth.rows) > 120
    return folder, encoder, truth


def test_the_default_ranking_is_that_of_brute_force(plain):
    assert_pipeline(*plain)


def test_few_candidates_of_each_index_are_pooled(plain):
    assert_pipeline(*plain, ranking=SHALLOW, depths=(1, 5, 12))


@pytest.mark.parametrize("dims", [1, 7, 32])
def test_fewer_dimensions(plain, dims):
    assert_pipeline(*plain, dims=dims, depths=(10,))


@pytest.mark.parametrize(
    "settings",
    [
        {"dense_weight": "0"},
        {"dense_weight": "1"},
        {"rerank": "none"},
        {"rerank_weight": "1"},
        {"rerank_weight": "0"},
        {"rerank_depth": "1"},
    ],
)
def test_other_settings(plain, settings):
    ranking = DEFAULT_RANKING.changed(settings)
    assert_pipeline(*plain, ranking=ranking, depths=(10,))


@pytest.mark.parametrize(
    "filters", [["n<3"], ["lang=de"], ["year>=2010", "n>=20"], ["n=77"], ["n>1000"]]
)
def test_filters(plain, filters):
    for ranking in (DEFAULT_RANKING, SHALLOW):
        assert_pipeline(*plain, conditions=parse_filter(filters), depths=(10,), ranking=ranking)


def test_documents_of_several_passages(chunked):
    assert_pipeline(*chunked)
    assert_pipeline(*chunked, dims=9, conditions=parse_filter(["n<25"]), depths=(10,))


def test_passages_that_take_up_all_the_places_are_searched_past(chunked):
    """A few documents hold all candidates: each query goes as deep as it must, and no deeper."""
    shallow = Ranking(depth=4, rerank_depth=5)
    assert_pipeline(*chunked, ranking=shallow, depths=(3, 4, 6, 20))


def test_deleted_documents_and_those_added_later(tmp_path):
    encoder: Any = FakeEncoder()
    documents = make_documents(60)
    index_into(tmp_path, encoder, documents)
    with open_for_writing(Layout(tmp_path)) as writer:
        writer.delete([d.id for d in documents[10:30]])
    index_into(
        tmp_path, encoder, [replace(documents[3], text="bal bal car"), *make_documents(70, 9)[60:]]
    )
    truth = Truth(tmp_path, encoder)
    assert len(truth.live) < len(truth.rows)
    assert_pipeline(tmp_path, encoder, truth, depths=(3, 100))


def test_a_rotated_index(tmp_path, monkeypatch):
    monkeypatch.setattr(layout, "ROTATION_ROWS_PER_DIM", 2)
    encoder: Any = FakeEncoder()
    index_into(tmp_path, encoder, make_documents(80))
    truth = Truth(tmp_path, encoder)
    assert truth.rotation is not None
    for dims in (None, 8):
        assert_pipeline(tmp_path, encoder, truth, dims=dims, depths=(10,))


def test_codes_that_are_not_stored_are_computed_when_asked(plain, tmp_path):
    """The same scores, by the same codes; part of them stored, too."""
    encoder: Any = FakeEncoder()
    documents = make_documents(150)
    index = opened(tmp_path, encoder)
    index.add(documents[:100], token_vectors=False)
    with open_for_writing(Layout(tmp_path)) as writer:
        from semsearch.indexing import choose_token_vectors

        choose_token_vectors(writer, encoder)
    index.add(documents[100:])
    with Reader(tmp_path) as reader:
        present, _ = reader.snapshot().tokens.take(np.arange(150))
        assert 0 < present.sum() < 150
    for query in QUERIES:
        found = pairs_of(index.search(query, 20))
        stored = pairs_of(searching(*plain[:2]).search(query, 20))
        assert [name for name, _ in found] == [name for name, _ in stored]
        np.testing.assert_allclose([s for _, s in found], [s for _, s in stored], atol=1e-5)
    index.close()


def test_codes_of_the_real_model_stored_and_computed_score_alike(tmp_path):
    """Batches of other texts change the last bits of its vectors, so a sign here and there."""
    texts = models.sentences()[:40]
    documents = [Document(f"d{n}", text) for n, text in enumerate(texts)]
    seconds = []
    for kept in (True, False):
        with opened(tmp_path / str(kept), real_encoder()) as index:
            index.add(documents, token_vectors=kept)
            stages = index.searcher.stages([texts[3], texts[17][:40], "how to copy a folder"])
        assert stages.second is not None
        order = np.argsort(stages.first.ids[:, : stages.second.shape[1]], axis=1)
        seconds.append(np.take_along_axis(stages.second, order, axis=1))
    assert seconds[0].shape == (3, 40)
    np.testing.assert_allclose(seconds[0], seconds[1], atol=0.02)
    assert np.ptp(seconds[0], axis=1).min() > 0.2


# Unusual indexes


@pytest.mark.parametrize(
    "documents",
    [
        [Document("one", "bal car dir", "title")],
        [Document("a", "bal car"), Document("b", "bal car"), Document("é", "bal car")],
        [Document("a", "?!"), Document("b", "..."), Document("c", "-- --")],
        [Document("a", "日本語 bal"), Document("b", "日本語"), Document("c", "bal car")],
    ],
    ids=["one document", "all alike", "no words", "tokens that the model does not know"],
)
def test_unusual_indexes(tmp_path, documents):
    encoder: Any = FakeEncoder()
    index_into(tmp_path, encoder, documents)
    truth = Truth(tmp_path, encoder)
    searcher = searching(tmp_path, encoder)
    for query in QUERIES:
        hits = searcher.search(query, 10)
        assert sorted(hit.id for hit in hits) == sorted(d.id for d in documents)
        assert all(0 <= hit.score <= 1 for hit in hits)
        if len(documents) == 3 and documents[0].id == "a" and documents[0].text == "bal car":
            assert [hit.id for hit in hits] == ["é", "b", "a"], "alike: by id descending"
            assert {hit.score for hit in hits} == {0.0}
        elif len(documents) > 1:
            assert_same(pairs_of(hits), truth.ranking(query, 10))
        assert pairs_of(searcher.rank(QUERIES, 10)[QUERIES.index(query)]) == pairs_of(hits)


def test_a_model_without_token_vectors_ranks_without_them(tmp_path):
    encoder: Any = FakeEncoder()
    encoder.token_dim = 0
    index_into(tmp_path, encoder, make_documents(40))
    truth = Truth(tmp_path, encoder)
    plain = replace(DEFAULT_RANKING, rerank="none")
    searcher = searching(tmp_path, encoder)
    for query in QUERIES:
        assert_same(pairs_of(searcher.search(query, 10)), truth.ranking(query, 10, plain))
    with pytest.raises(UsageError, match="^fake gives no vectors of its tokens, so it cannot"):
        searcher.search("bal", 10, Options(rerank="self"))


def test_a_narrow_model(tmp_path):
    encoder: Any = FakeEncoder(dim=5)
    index_into(tmp_path, encoder, make_documents(40))
    assert_pipeline(tmp_path, encoder, Truth(tmp_path, encoder), depths=(10,))


# Settings of an index


def test_an_index_ranks_as_it_was_tuned(plain, tmp_path):
    encoder: Any = FakeEncoder()
    index_into(tmp_path, encoder, make_documents(60))
    tuned = Ranking("zscore", 0.25, 30, "none", 10, 0.5)
    other = searching(tmp_path, encoder)
    before = pairs_of(other.search("bal car", 10))
    with open_for_writing(Layout(tmp_path)) as writer:
        record_ranking(writer, tuned)
    searcher = searching(tmp_path, encoder)
    assert searcher.ranking == tuned
    found = pairs_of(searcher.search("bal car", 10))
    assert found != before
    assert found == pairs_of(searcher.search("bal car", 10, Options(ranking=tuned)))
    assert pairs_of(searcher.search("bal car", 10, Options(ranking=DEFAULT_RANKING))) == before
    assert pairs_of(other.search("bal car", 10)) == found, "an open searcher follows"
    with open_for_writing(Layout(tmp_path)) as writer:
        record_ranking(writer, None)
    searcher = searching(tmp_path, encoder)
    assert searcher.ranking == DEFAULT_RANKING
    assert pairs_of(searcher.search("bal car", 10)) == before


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            '{"fusion": "best"}',
            r"catalog\.db: unknown fusion 'best': .*: tune again, or index again",
        ),
        ("{", r"catalog\.db: not the settings of a ranking: '\{': tune again, or index again"),
    ],
)
def test_a_damaged_record_of_a_ranking_is_told_of(tmp_path, text, message):
    encoder: Any = FakeEncoder()
    index_into(tmp_path, encoder, make_documents(5))
    with open_for_writing(Layout(tmp_path)) as writer, writer.transaction():
        catalog.set_meta(writer.connection, "ranking", text)
    with pytest.raises(Corrupt, match=message):
        searching(tmp_path, encoder).search("bal")


def test_modes_of_one_index_alone_are_not_reranked_unless_asked(plain):
    folder, encoder, truth = plain
    searcher = searching(folder, encoder)
    cosines = best(truth.cosines("bal car", None), 10)
    hits = searcher.search("bal car", 10, Options("dense"))
    np.testing.assert_allclose([h.score for h in hits], [s for _, s in cosines], atol=1e-6)
    hits = searcher.search("bal car", 10, Options("lexical"))
    words = best(truth.words.scores("bal car"), 10)
    np.testing.assert_allclose([h.score for h in hits], [s for _, s in words], rtol=1e-4)
    for mode in ("dense", "lexical"):
        again = searcher.search("bal car", 10, Options(mode, rerank="self"))
        assert all(0 <= hit.score <= 1 for hit in again)
        first = truth.cosines("bal car", None) if mode == "dense" else truth.words.scores("bal car")
        top = dict(best(first, 100))
        expected = truth.mixed("bal car", top, DEFAULT_RANKING, DEFAULT_RANKING.rerank_weight)
        named = {truth.owner[vid]: score for vid, score in expected.items()}
        pairs = sorted(named.items(), key=lambda pair: -pair[1])[:10]
        assert_same(pairs_of(again), pairs)


def test_lexical_search_asks_the_model_for_nothing_where_no_word_matches(plain):
    folder, _, _ = plain
    encoder: Any = FakeEncoder()
    searcher = searching(folder, encoder)
    assert searcher.search("zzz", 10, Options("lexical", rerank="self")) == []
    assert encoder.queries == []


def test_a_query_that_cannot_be_read_is_told_of_once(plain, caplog):
    folder, encoder, _ = plain
    with caplog.at_level(logging.WARNING):
        searching(folder, encoder).rank(["日本語", "bal"], 10)
    assert [record.getMessage() for record in caplog.records] == [
        "fake does not know 17 % of the tokens of what is asked: it cannot read the language well,"
        " so its vectors count less than the words"
    ]
