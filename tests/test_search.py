"""Searching, compared with brute force over the stored vectors and with BM25 in plain Python."""

import json
import logging
import operator
import shutil
import threading
import time
from collections.abc import Mapping
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from semsearch.collection import layout
from semsearch.collection.changes import Change, NewPassage
from semsearch.collection.layout import Layout
from semsearch.collection.maintain import compact
from semsearch.collection.reader import Reader, StaleSnapshot
from semsearch.collection.vector_build import build_vector_cache
from semsearch.collection.writer import open_for_writing
from semsearch.errors import Corrupt, Mismatch, NotFound, UsageError
from semsearch.index import gpu
from semsearch.index.torch_index import TorchIndex
from semsearch.indexing.run import finish
from semsearch.ranking.settings import Ranking
from semsearch.search.options import MODES, Options
from semsearch.store.filters import Condition, parse_filter
from semsearch.store.passages import text_hash
from semsearch.types import Document
from semsearch.vectors import empty_candidates
from tests.fakes import (
    WORDS,
    FakeEncoder,
    index_into,
    lower_limits,
    make_documents,
    opened,
    real_encoder,
    searching,
)
from tests.lexical_oracle import Oracle

PLAIN = Ranking(fusion="rrf", dense_weight=0.5, rerank="none")
DEPTH = PLAIN.depth

QUERIES = ["bal car dir", "title 7 gol", "nor", "far far hil kar lil mar", "title"]


def made(folder, documents, encoder=None, **options):
    """An index with what brute force needs: its vids, ids, stored vectors and BM25."""
    encoder = encoder or FakeEncoder()
    index_into(folder, encoder, documents, **options)
    return described(folder, encoder, documents)


def described(folder, encoder, documents):
    with Reader(folder) as reader:
        snapshot = reader.snapshot()
        vids = snapshot.rows.ids.copy()
        owners = reader.documents_of(vids.tolist())
        alive = np.ones(len(vids), bool) if snapshot.alive is None else snapshot.alive
        vectors = snapshot.rows.take(np.arange(len(vids))).astype(np.float64)
        return SimpleNamespace(
            folder=folder,
            encoder=encoder,
            documents={d.id: d for d in documents},
            rotation=snapshot.rotation,
            vids=vids[alive],
            ids=[owners[vid].ext_id for vid in vids[alive].tolist()],
            vectors=vectors[alive],
            oracle=Oracle(vids, [owners[vid].document.content for vid in vids.tolist()]),
            searcher=searching(folder, encoder),
        )


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return made(tmp_path_factory.mktemp("search") / "idx", make_documents(300))


def cosines(index, query, dims=None):
    """float32 scores by vid: the cosine of the first dims, both sides as long as one."""
    vector = index.encoder.vector(query)
    if index.rotation is not None:
        vector = vector @ index.rotation
    vector = vector.astype(np.float64)[:dims]
    rows = index.vectors[:, :dims]
    scores = rows @ vector / np.linalg.norm(rows, axis=1) / np.linalg.norm(vector)
    return dict(zip(index.vids.tolist(), scores.astype(np.float32).tolist(), strict=True))


def bm25(index, query):
    living = set(index.vids.tolist())
    return {vid: score for vid, score in index.oracle.scores(query).items() if vid in living}


@pytest.fixture(autouse=True)
def plain_ranking(monkeypatch):
    """Reciprocal ranks without reranking, which the oracles here compute by hand."""
    monkeypatch.setattr("semsearch.search.searcher.DEFAULT_RANKING", PLAIN)


def candidates_of(scores, depth):
    """Vids by score, then vid."""
    return sorted(scores, key=lambda vid: (-np.float32(scores[vid]), vid))[:depth]


def best(index, scores, k):
    """Document ids by score, then id descending."""
    names = dict(zip(index.vids.tolist(), index.ids, strict=True))
    pairs = sorted(((names[vid], np.float32(s)) for vid, s in scores.items()), reverse=True)
    return [(name, float(s)) for name, s in sorted(pairs, key=lambda pair: -pair[1])[:k]]


def fused(index, query, depth=DEPTH, keep=None):
    """1 / (60 + rank), summed over the two rankings."""
    total: dict[int, float] = {}
    for scores in (cosines(index, query), bm25(index, query)):
        kept = {vid: s for vid, s in scores.items() if keep is None or vid in keep}
        for rank, vid in enumerate(candidates_of(kept, depth), start=1):
            total[vid] = total.get(vid, 0.0) + 1 / (60 + rank)
    return total


def expected(index, mode, query, k, dims=None):
    if mode == "dense":
        return best(index, cosines(index, query, dims), k)
    return best(index, bm25(index, query) if mode == "lexical" else fused(index, query), k)


def assert_hits(hits, wanted, rtol=1e-5):
    """The same documents with the same scores; documents that BM25 scores alike may swap."""
    assert len(hits) == len(wanted)
    np.testing.assert_allclose([h.score for h in hits], [s for _, s in wanted], rtol=rtol)
    scores = dict(wanted)
    for hit, (name, score) in zip(hits, wanted, strict=True):
        if hit.id != name:
            np.testing.assert_allclose(scores.get(hit.id, score), score, rtol=rtol)


# The three modes


@pytest.mark.parametrize("query", QUERIES)
@pytest.mark.parametrize("mode", MODES)
def test_hits_are_those_of_brute_force(corpus, mode, query):
    for k in (1, 7, 100):
        hits = corpus.searcher.search(query, k, Options(mode))
        wanted = expected(corpus, mode, query, k)
        # tantivy computes a rare word's weight in float32, and that of a common one coarsely
        assert_hits(hits, wanted, rtol=1e-4)
        if mode == "dense":
            assert [hit.id for hit in hits] == [name for name, _ in wanted]


def test_a_hit_is_the_document_as_it_was_indexed(corpus):
    hits = corpus.searcher.search("title 5", 4)
    assert [hit.rank for hit in hits] == [1, 2, 3, 4]
    for hit in hits:
        document = corpus.documents[hit.id]
        assert (hit.title, hit.text, hit.metadata) == (
            document.title,
            document.text,
            document.metadata,
        )
        assert type(hit.score) is float


@pytest.mark.parametrize("mode", MODES)
def test_many_queries_at_once_equal_one_by_one(corpus, mode):
    together = corpus.searcher.rank(QUERIES, 20, Options(mode))
    alone = [corpus.searcher.search(query, 20, Options(mode)) for query in QUERIES]
    assert [[(r.id, r.score) for r in ranking] for ranking in together] == [
        [(hit.id, hit.score) for hit in hits] for hits in alone
    ]


def test_k_beyond_the_index_returns_everything(corpus):
    hits = corpus.searcher.search(QUERIES[0], 100_000, Options("dense"))
    assert_hits(hits, expected(corpus, "dense", QUERIES[0], 300))
    assert len({hit.id for hit in hits}) == 300


def test_min_score_drops_lower_hits(corpus):
    whole = corpus.searcher.search(QUERIES[0], 50, Options("dense"))
    bound = whole[9].score
    hits = corpus.searcher.search(QUERIES[0], 50, Options("dense", min_score=bound))
    assert hits == whole[:10]
    assert corpus.searcher.search(QUERIES[0], 50, Options("dense", min_score=1.5)) == []


def test_equal_scores_are_ordered_by_id_descending(tmp_path):
    names = ["b", "a", "é", "c", "10", "9", "Z"]
    documents = [Document(name, "the very same text") for name in names]
    index = made(tmp_path / "idx", documents)
    order = ["é", "c", "b", "a", "Z", "9", "10"]
    for mode in ("dense", "lexical"):
        hits = index.searcher.search("same text", 7, Options(mode))
        assert [hit.id for hit in hits] == order
        assert len({hit.score for hit in hits}) == 1
        assert [hit.id for hit in index.searcher.search("same", 3, Options(mode))] == order[:3]
    hits = index.searcher.search("same text", 7)
    assert_hits(hits, best(index, fused(index, "same text"), 7))


@pytest.mark.parametrize(
    ("k", "options", "message"),
    [
        (0, Options(), "k must be between 1 and 100000, not 0"),
        (-3, Options(), "k must be between 1 and 100000, not -3"),
        (100_001, Options(), "k must be between 1 and 100000, not 100001"),
        (3, Options(dims=0), "dims must be between 1 and 32, the width of this index, not 0"),
        (3, Options(dims=-1), "dims must be between 1 and 32, the width of this index, not -1"),
        (3, Options("dense", 33), "dims must be between 1 and 32, the width of this index, not 33"),
        (
            3,
            Options(cast(Any, "fuzzy")),
            "unknown mode 'fuzzy': choose one of hybrid, dense, lexical",
        ),
    ],
)
def test_arguments_that_make_no_sense(corpus, k, options, message):
    with pytest.raises(UsageError) as caught:
        corpus.searcher.search("x", k, options)
    assert str(caught.value) == message


# Widths


@pytest.fixture(scope="module")
def rotated(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layout, "ROTATION_ROWS_PER_DIM", 3)
        index = made(tmp_path_factory.mktemp("rotated") / "idx", make_documents(200))
    assert index.rotation is not None
    return index


@pytest.mark.parametrize("dims", [1, 2, 8, 31, 32])
@pytest.mark.parametrize("name", ["corpus", "rotated"])
def test_fewer_dimensions_are_the_cosine_of_the_first(request, name, dims):
    index = request.getfixturevalue(name)
    for query in QUERIES[:3]:
        hits = index.searcher.search(query, 30, Options("dense", dims))
        assert_hits(hits, expected(index, "dense", query, 30, dims), rtol=1e-5)


def test_a_rotation_makes_narrow_searches_better(rotated, corpus):
    """How many of the ten nearest at full width are found with a quarter of it."""

    def kept(index):
        shares = []
        for query in (d.text for d in make_documents(40, seed=9)):
            full, narrow = (
                {hit.id for hit in index.searcher.search(query, 10, Options("dense", dims))}
                for dims in (32, 8)
            )
            shares.append(len(full & narrow) / 10)
        return np.mean(shares)

    assert kept(rotated) > kept(corpus) + 0.1


def test_an_index_cut_at_storage_searches_at_its_own_width(tmp_path, monkeypatch):
    monkeypatch.setattr(layout, "ROTATION_ROWS_PER_DIM", 3)
    index = made(tmp_path / "idx", make_documents(120), dims=16)
    assert index.vectors.shape == (120, 16)
    for dims in (None, 16, 4):
        hits = index.searcher.search("bal car dir", 10, Options("dense", dims))
        assert_hits(hits, expected(index, "dense", "bal car dir", 10, dims or 16))
    with pytest.raises(UsageError, match="between 1 and 16"):
        index.searcher.search("x", 3, Options(dims=17))


# Filters

_COMPARE = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def kind(value):
    if isinstance(value, bool):
        return bool
    return float if isinstance(value, (int, float)) else type(value)


def holds(metadata: Mapping, condition) -> bool:
    """The rule, written once more: same kind, any element, missing matches nothing."""
    if condition.field not in metadata:
        return False
    there = metadata[condition.field]
    compare = _COMPARE.get(condition.op, operator.eq)
    return any(
        kind(element) is kind(wanted) and compare(element, wanted)
        for element in (there if isinstance(there, list) else [there])
        if not isinstance(element, (list, dict))
        for wanted in condition.values
    )


SCALARS = [0, 1, 2, 3, -1, 2.5, 1e300, "", "a", "b", "1", "true", "é", "x" * 300, True, False, None]


def varied_documents(count, seed):
    """Metadata of every kind in three fields; lists with repeats, nested values, absent fields."""
    random = np.random.default_rng(seed)

    def value():
        shape = random.integers(6)
        if shape == 0:
            return [SCALARS[n] for n in random.integers(len(SCALARS), size=random.integers(5))]
        if shape == 1:
            return {"in": "an object"} if random.integers(2) else [["nested"], {"a": 1}, "a"]
        return SCALARS[random.integers(len(SCALARS))]

    made = []
    for n in range(count):
        metadata = {name: value() for name in ("f", "g", "h") if random.integers(4)}
        text = " ".join(random.choice(WORDS, 6))
        made.append(Document(f"v{n:03}", text, metadata=metadata))
    return made


@pytest.fixture(scope="module")
def varied(tmp_path_factory):
    folder = tmp_path_factory.mktemp("varied") / "idx"
    index = made(folder, varied_documents(250, 1))
    with open_for_writing(Layout(folder)) as writer:
        writer.delete([f"v{n:03}" for n in range(0, 250, 9)])
    return described(folder, index.encoder, index.documents.values())


def conditions():
    scalars = st.sampled_from(SCALARS)
    fields = st.sampled_from(["f", "g", "h", "absent"])
    ordered = st.sampled_from([s for s in SCALARS if isinstance(s, str) or kind(s) is float])
    return st.one_of(
        st.builds(Condition, fields, st.sampled_from(["=", "!="]), st.tuples(scalars)),
        st.builds(Condition, fields, st.sampled_from(["<", "<=", ">", ">="]), st.tuples(ordered)),
        st.builds(Condition, fields, st.just("in"), st.lists(scalars, min_size=1).map(tuple)),
    )


def assert_filtered(index, chosen, k, query="bal car dir gol"):
    by_vid = dict(zip(index.vids.tolist(), index.ids, strict=True))
    keep = {
        vid
        for vid, name in by_vid.items()
        if all(holds(index.documents[name].metadata, c) for c in chosen)
    }
    dense = {vid: s for vid, s in cosines(index, query).items() if vid in keep}
    words = {vid: s for vid, s in bm25(index, query).items() if vid in keep}
    both = fused(index, query, max(DEPTH, k), keep)
    for mode, scores in zip(MODES, (both, dense, words), strict=True):
        hits = index.searcher.search(query, k, Options(mode, conditions=chosen))
        assert len(hits) == min(k, len(words if mode == "lexical" else keep))
        assert_hits(hits, best(index, scores, k))
        assert {hit.id for hit in hits} <= {by_vid[vid] for vid in keep}


@settings(max_examples=60)
@given(chosen=st.lists(conditions(), max_size=3).map(tuple), k=st.sampled_from([1, 5, 60, 250]))
def test_filters_keep_what_brute_force_keeps(varied, chosen, k):
    assert_filtered(varied, chosen, k)


@pytest.mark.parametrize("limit", [1, 30])
def test_filters_that_keep_much_are_fetched_ever_deeper(varied, monkeypatch, limit):
    lower_limits(monkeypatch, limit)
    monkeypatch.setattr("semsearch.search.searcher.DEFAULT_RANKING", replace(PLAIN, depth=3))
    monkeypatch.setattr(f"{__name__}.DEPTH", 3)
    index = SimpleNamespace(**vars(varied))
    index.searcher = searching(varied.folder, varied.encoder)

    @settings(max_examples=40)
    @given(chosen=st.lists(conditions(), max_size=3).map(tuple), k=st.sampled_from([1, 5, 60, 250]))
    def check(chosen, k):
        assert_filtered(index, chosen, k)

    check()


def test_a_filter_on_lists_with_more_values_than_documents(tmp_path, monkeypatch):
    lower_limits(monkeypatch, 2)
    documents = [
        Document(f"{n}", f"word {WORDS[n]}", metadata={"tags": [f"t{n}", "x", "y", "z", "w"]})
        for n in range(12)
    ]
    documents.append(Document("bare", "word"))
    index = made(tmp_path / "idx", documents)
    for mode in MODES:
        chosen = Options(mode, conditions=parse_filter(["tags!=none"]))
        found = {hit.id for hit in index.searcher.search("word", 20, chosen)}
        assert found == {f"{n}" for n in range(12)}


# Quantised indexes


@pytest.fixture
def quantised(tmp_path, monkeypatch):
    """FAISS over 900 rows of 64 dimensions, 60 rows that came later, 40 deleted."""
    lower_limits(monkeypatch, 300)
    encoder = FakeEncoder(64)
    documents = make_documents(960, seed=3)
    folder = tmp_path / "idx"
    index_into(folder, encoder, documents[:900])
    index_into(folder, encoder, documents)
    with open_for_writing(Layout(folder)) as writer:
        writer.delete([d.id for d in documents[::24]])
    index = described(folder, encoder, documents)
    assert len(index.vids) == 920
    return index


def faiss_file(index):
    (path,) = Layout(index.folder).ann.iterdir()
    return path


def assert_nearly_exact(index, dims=None, conditions=(), keep=None):
    """Nine of ten are the nearest, and every score is that of brute force."""
    found = wanted = 0
    for query in (d.text for d in make_documents(30, seed=77)):
        hits = index.searcher.search(query, 10, Options("dense", dims, conditions))
        scores = cosines(index, query, dims)
        names = dict(zip(index.ids, index.vids.tolist(), strict=True))
        np.testing.assert_allclose(
            [hit.score for hit in hits], [scores[names[hit.id]] for hit in hits], rtol=1e-5
        )
        allowed = {v: s for v, s in scores.items() if keep is None or v in keep}
        truth = {name for name, _ in best(index, allowed, 10)}
        found += len({hit.id for hit in hits} & truth)
        wanted += len(truth)
        assert len(hits) == len(truth)
    assert found >= 0.95 * wanted


@pytest.mark.parametrize("dims", [None, 64, 48])
def test_faiss_finds_what_an_exact_scan_finds(quantised, dims):
    source = quantised.searcher.source
    assert source.vectors.kind == "RR,IVF1,RaBitQfs"
    assert faiss_file(quantised).stat().st_size < 900 * 64 * 2
    assert_nearly_exact(quantised, dims)


def test_exact_scores_of_many_rows_come_from_a_gpu_where_there_is_one(quantised, monkeypatch):
    queries = [d.text for d in make_documents(20, seed=78)]
    here = quantised.searcher.rank(queries, 10, Options("dense", exact=True))
    made_here = []

    def on_a_device(rows):
        made_here.append(TorchIndex(rows, "cpu", budget=1 << 20, block_rows=256))
        return made_here[0]

    monkeypatch.setattr(gpu, "open_gpu_index", on_a_device)
    again = searching(quantised.folder, quantised.encoder)
    assert again.rank(queries, 10, Options("dense", exact=True)) == here
    assert again.source.exact is made_here[0]
    assert again.source.vectors.kind == "RR,IVF1,RaBitQfs"


def test_faiss_with_a_filter(quantised):
    chosen = parse_filter(["year>=2005"])
    keep = {
        vid
        for vid, name in zip(quantised.vids.tolist(), quantised.ids, strict=True)
        if quantised.documents[name].metadata["year"] >= 2005
    }
    assert len(keep) > 300
    assert_nearly_exact(quantised, conditions=chosen, keep=keep)


def test_rows_that_came_after_the_faiss_file_are_found(quantised):
    covered = json.loads(quantised.searcher.snapshot.cache("faiss").covers)["n"]
    assert covered == 900
    for document in list(quantised.documents.values())[900:]:
        hits = quantised.searcher.search(document.content, 1, Options("dense"))
        if document.id in quantised.ids:
            assert hits[0].id == document.id
            np.testing.assert_allclose(hits[0].score, 1, atol=1e-3)


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def answers(index, k=20):
    searcher = searching(index.folder, index.encoder)
    with searcher.reader:
        return {
            (mode, query): searcher.search(query, k, Options(mode))
            for mode in MODES
            for query in QUERIES
        }


@pytest.mark.parametrize("harm", [flip, lambda path: path.unlink()], ids=["flipped", "deleted"])
def test_without_a_sound_faiss_file_every_vector_is_scanned(quantised, harm, caplog):
    path = faiss_file(quantised)
    harm(path)
    searcher = searching(quantised.folder, quantised.encoder)
    with searcher.reader:
        for query in QUERIES:
            hits = searcher.search(query, 20, Options("dense"))
            assert_hits(hits, expected(quantised, "dense", query, 20))
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert str(path) in record.getMessage()
    assert "semsearch compact" in record.getMessage()


def test_compact_builds_the_faiss_file_anew(quantised, caplog):
    faiss_file(quantised).unlink()
    with open_for_writing(Layout(quantised.folder)) as writer:
        compact(writer)
        build_vector_cache(writer, force=True)
    fresh = described(quantised.folder, quantised.encoder, quantised.documents.values())
    assert fresh.searcher.source.vectors.kind == "RR,IVF1,RaBitQfs"
    assert_nearly_exact(fresh)
    assert not caplog.records


def test_a_model_of_few_rows_needs_no_faiss(corpus):
    assert corpus.searcher.source.vectors.kind == "exact"
    assert not Layout(corpus.folder).ann.exists()


# Lexical files


def lexical_files(folder):
    return sorted(path for path in Layout(folder).lexical.iterdir() if path.stat().st_size > 100)


@pytest.mark.parametrize("harm", ["flipped", "one deleted", "all deleted"])
def test_without_sound_lexical_files_the_words_are_indexed_again(tmp_path, harm, caplog):
    index = made(tmp_path / "idx", make_documents(60))
    before = answers(index)
    if harm == "flipped":
        flip(lexical_files(index.folder)[-1])
    elif harm == "one deleted":
        lexical_files(index.folder)[0].unlink()
    else:
        shutil.rmtree(Layout(index.folder).lexical)
    after = answers(index)
    (record,) = caplog.records
    assert "semsearch compact" in record.getMessage()
    assert {key: [h.id for h in hits] for key, hits in after.items()} == {
        key: [h.id for h in hits] for key, hits in before.items()
    }
    caplog.clear()
    more = [*index.documents.values(), Document("new", "bal car dir")]
    index_into(index.folder, index.encoder, more)
    repaired = described(index.folder, index.encoder, more)
    assert_hits(
        repaired.searcher.search("bal car", 61, Options("lexical")),
        expected(repaired, "lexical", "bal car", 61),
    )


def test_words_of_documents_that_no_file_covers_are_found(tmp_path):
    """After a run that was stopped, the newest documents are indexed by each reader."""
    documents = make_documents(30)
    index = made(tmp_path / "idx", documents)

    late = [Document("late", "gol gol gol", "unheard")]

    def source():
        yield from late
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("semsearch.indexing.source.WINDOW_DOCUMENTS", 1)
        with pytest.raises(KeyboardInterrupt):
            index_into(index.folder, index.encoder, source())
    hits = searching(index.folder, index.encoder).search("unheard", 5, Options("lexical"))
    assert [hit.id for hit in hits] == ["late"]


# Deleting, committing, compacting


def test_deleted_documents_are_never_returned(tmp_path):
    documents = make_documents(80)
    index = made(tmp_path / "idx", documents)
    gone = {d.id for d in documents[::3]}
    with open_for_writing(Layout(index.folder)) as writer:
        assert writer.delete(sorted(gone)) == sorted(gone)
    changed = [Document("d0001", "entirely unheard words"), *documents[4:5]]
    index_into(index.folder, index.encoder, changed)
    now = {d.id: d for d in documents if d.id not in gone} | {d.id: d for d in changed}

    def check():
        living = described(index.folder, index.encoder, now.values())
        assert sorted(living.ids) == sorted(now)
        for mode in ("dense", "hybrid"):
            hits = living.searcher.search("title bal car", 100, Options(mode))
            assert {hit.id for hit in hits} == set(now)
            assert {hit.id: hit.text for hit in hits} == {d.id: d.text for d in now.values()}
        for query in ("title", "unheard", documents[1].text):
            hits = living.searcher.search(query, 100, Options("lexical"))
            wanted = {name for name, _ in expected(living, "lexical", query, 100)}
            assert {hit.id for hit in hits} == wanted

    check()
    with open_for_writing(Layout(index.folder)) as writer:
        compact(writer)
    check()
    with open_for_writing(Layout(index.folder)) as writer:
        finish(writer)
    check()


def test_a_searcher_sees_what_is_committed_after_it_was_opened(tmp_path):
    index = made(tmp_path / "idx", make_documents(20))
    searcher = index.searcher
    assert len(searcher.search("title", 50)) == 20
    index_into(index.folder, index.encoder, [Document("new", "unheard of")])
    for mode in MODES:
        assert searcher.search("unheard", 1, Options(mode))[0].id == "new"
    with open_for_writing(Layout(index.folder)) as writer:
        writer.delete(["new"])
    assert "new" not in {hit.id for hit in searcher.search("unheard", 50)}


@pytest.mark.parametrize("mode", MODES)
def test_a_compaction_in_the_middle_of_a_search(tmp_path, mode):
    documents = make_documents(50)
    folder = tmp_path / "idx"
    encoder = FakeEncoder()
    index_into(folder, encoder, documents)
    searcher = searching(folder, encoder)
    searcher.search("title", 50)
    searcher._view.owners._known.clear()
    times: list[int] = []
    look_up = searcher.reader.documents_of

    def late(vids):
        if not times:
            times.append(1)
            with open_for_writing(Layout(folder)) as writer:
                writer.delete([d.id for d in documents[:30]])
                compact(writer)
        return look_up(vids)

    searcher.reader.documents_of = late  # type: ignore[method-assign]
    hits = searcher.search("title", 50, Options(mode))
    assert times
    assert sorted(hit.id for hit in hits) == [d.id for d in documents[30:]]


def test_passages_that_stay_without_a_row_are_damage(corpus):
    searcher = searching(corpus.folder, corpus.encoder)

    def gone(_):
        raise StaleSnapshot

    searcher.reader.documents_of = gone  # type: ignore[method-assign]
    with pytest.raises(
        Corrupt, match=r"catalog\.db: passages without a row: run `semsearch check`"
    ):
        searcher.search("title")


def in_threads(count, work):
    """Run ``work(number)`` in so many threads at once; the first error is raised here."""
    errors: list[BaseException] = []

    def run(number):
        try:
            work(number)
        except BaseException as exc:
            errors.append(exc)

    threads = [threading.Thread(target=run, args=(n,)) for n in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def test_threads_that_share_a_searcher_get_the_same_answers(corpus):
    truth = answers(corpus)
    searcher = searching(corpus.folder, corpus.encoder)

    def work(number):
        for mode, query in list(truth)[number:] + list(truth)[:number]:
            assert searcher.search(query, 20, Options(mode)) == truth[mode, query]

    in_threads(6, work)


def test_threads_that_search_while_documents_come(tmp_path):
    documents = make_documents(60)
    folder = tmp_path / "idx"
    encoder = FakeEncoder()
    index_into(folder, encoder, documents[:10])
    searcher = searching(folder, encoder)
    sizes = [10 * n for n in range(1, 7)]

    def work(number):
        if number == 0:
            for size in sizes[1:]:
                index_into(folder, encoder, documents[:size])
            return
        before = 0
        for _ in range(25):
            mode = MODES[number % 3]
            found = {hit.id for hit in searcher.search("title", 100, Options(mode))}
            assert found == {d.id for d in documents[: len(found)]}
            assert len(found) in sizes
            assert len(found) >= before
            before = len(found)

    in_threads(4, work)
    assert len(searcher.search("title", 100)) == 60


def test_documents_can_be_searched_for_while_they_are_listed(tmp_path):
    documents = make_documents(12)
    with opened(tmp_path / "idx", FakeEncoder()) as index:
        index.add(documents[:6])
        assert len(index.search("title", 20)) == 6
        index.add(documents)
        for document, other in zip(index.documents(), index.documents(), strict=True):
            assert document == other
            assert index.search(document.content, 1, mode="dense")[0].id == document.id


@pytest.mark.parametrize("failing", ["near", "words"])
def test_a_search_that_fails_has_ended_when_its_error_is_raised(corpus, monkeypatch, failing):
    searcher = searching(corpus.folder, corpus.encoder)
    begun, ended = threading.Event(), []

    def fails(*_):
        assert begun.wait(60)
        raise Corrupt("no more")

    def lasts(*_):
        begun.set()
        time.sleep(0.05)
        ended.append(True)
        return empty_candidates(1, DEPTH)

    for name, method in (("near", "dense"), ("words", "words")):
        act = fails if name == failing else lasts
        monkeypatch.setattr(searcher.source, method, act)
    with pytest.raises(Corrupt, match="no more"):
        searcher.search("title")
    assert ended == [True]


def test_a_closed_searcher_leaves_no_thread(corpus):
    before = set(threading.enumerate())
    searcher = searching(corpus.folder, corpus.encoder)
    searcher.search("title")
    started = set(threading.enumerate()) - before
    assert started
    searcher.close()
    assert not any(thread.is_alive() for thread in started)


# Several passages a document


def test_a_document_counts_once_by_its_best_passage(tmp_path):
    encoder = FakeEncoder()
    folder = tmp_path / "idx"
    index_into(folder, encoder, make_documents(3))
    parts = [f"bal car {word}" for word in WORDS] * 4
    long = Document("long", " ".join(parts))
    starts = np.cumsum([0, *(len(part) + 1 for part in parts[:-1])]).tolist()
    with open_for_writing(Layout(folder)) as writer:
        vectors = writer.stored(encoder.encode_documents(parts).vectors)
        passages = tuple(
            NewPassage(start, start + len(part), text_hash(part), vector, 3, 0, False)
            for part, start, vector in zip(parts, starts, vectors, strict=True)
        )
        assert len(passages) > 2 * DEPTH
        writer.commit([Change(long, passages)])
        finish(writer)
    searcher = searching(folder, encoder)
    for mode in ("dense", "hybrid"):
        hits = searcher.search("bal car", 4, Options(mode))
        assert hits[0].id == "long"
        assert sorted(hit.id for hit in hits) == ["d0000", "d0001", "d0002", "long"]
    (top, *_) = searcher.search("bal car", 1, Options("dense"))
    closest = max(float(encoder.vector("bal car") @ encoder.vector(part)) for part in parts)
    assert top.score == pytest.approx(closest, abs=2e-3)


# Unusual indexes, models and queries


def test_an_empty_index_answers_with_nothing(tmp_path):
    encoder = FakeEncoder()
    index_into(tmp_path / "idx", encoder, [])
    searcher = searching(tmp_path / "idx", encoder)
    for mode in MODES:
        assert searcher.search("anything", 5, Options(mode)) == []
    assert searcher.rank(["a", "b"], 5) == [[], []]
    assert encoder.queries == []


def test_an_index_of_which_everything_was_deleted(tmp_path):
    index = made(tmp_path / "idx", make_documents(5))
    with open_for_writing(Layout(index.folder)) as writer:
        writer.delete(list(index.documents))
    for _ in range(2):
        for mode in MODES:
            assert index.searcher.search("title", 5, Options(mode)) == []
        with open_for_writing(Layout(index.folder)) as writer:
            compact(writer)


def test_another_model_is_refused(corpus):
    other = FakeEncoder(name="other")
    searcher = searching(corpus.folder, other)
    with pytest.raises(Mismatch, match=r"^the index was made by fake \(.{12}\), not by other \("):
        searcher.search("title")
    assert searcher.search("title", 3, Options("lexical")), "words need no model"
    assert other.queries == []


@pytest.mark.parametrize("text", ["", "  \n\t"])
def test_an_empty_query_is_refused(corpus, text):
    with pytest.raises(UsageError, match="^the query is empty: give some words to search for$"):
        corpus.searcher.search(text)
    fine, nothing, other = corpus.searcher.rank(["bal", text, "car"], 5)
    assert nothing == []
    assert [fine, other] == corpus.searcher.rank(["bal", "car"], 5)


UNUSUAL = {
    "punctuation": "?!... (--) \"' + AND OR NOT *",
    "a NUL": "bal\0car",
    "a lone surrogate": "bal \ud800 car",
    "query syntax": 'title:"bal car"~2 AND -dir^3 [a TO b] \\',
    "one letter": "x",
    "emoji": "👩‍👩‍👧‍👦",
}


@pytest.mark.parametrize("name", UNUSUAL)
def test_any_text_can_be_searched_for(corpus, name):
    text = UNUSUAL[name]
    assert len(corpus.searcher.search(text, 300, Options("dense"))) == 300
    assert len(corpus.searcher.search(text, 300)) == 300
    hits = corpus.searcher.search(text, 300, Options("lexical"))
    assert {hit.id for hit in hits} == {name for name, _ in expected(corpus, "lexical", text, 300)}
    if name == "punctuation":
        assert hits == []


def test_a_query_of_ten_megabytes(corpus):
    text = "bal car dir " * 800_000
    hits = corpus.searcher.search(text, 5)
    assert len(hits) == 5
    assert hits[0].id == corpus.searcher.search("bal car dir", 5)[0].id


def test_a_query_that_the_model_cannot_read_is_noted(corpus, caplog):
    corpus.searcher.search("bal car dir", 1)
    assert not caplog.records
    corpus.searcher.search("日本語 ආයුබෝවන්", 1)
    (record,) = caplog.records
    assert "fake does not know" in record.getMessage()


# The Python interface


def test_the_real_model_finds_what_is_meant(tmp_path):
    documents = [
        Document("json.loads", "Deserialize s to a Python object.", "json.loads"),
        Document("shutil.copytree", "Recursively copy an entire directory tree.", "copytree"),
        Document("time.sleep", "Suspend execution of the calling thread.", "time.sleep"),
    ]
    with opened(tmp_path / "idx", real_encoder()) as index:
        assert index.add(documents).encoded == 3
        for text, name in [
            ("wait for some seconds", "time.sleep"),
            ("parse text into objects", "json.loads"),
            ("duplicate folders", "shutil.copytree"),
        ]:
            assert index.search(text, mode="dense", k=1)[0].id == name
            assert index.search(text, k=1)[0].id == name


def test_the_interface_adds_finds_gets_and_deletes(tmp_path):
    documents = make_documents(10)
    index = opened(tmp_path / "idx", FakeEncoder())
    assert not index.exists
    assert len(index) == 0
    with pytest.raises(NotFound, match="no index there: make one with `semsearch index CORPUS"):
        index.search("x")
    with pytest.raises(NotFound):
        index.delete(["d0001"])
    with index:
        assert index.add(documents).new == 10
        assert index.get("d0003") == documents[3]
        assert list(index.documents()) == documents
        assert index.delete(["d0003", "none"]) == ["d0003"]
        assert len(index) == 9
        with pytest.raises(NotFound, match="no document 'd0003'"):
            index.get("d0003")
        hits = index.search("title", k=3, filters=["n in 1,2,3,4"], mode="lexical")
        assert [hit.id for hit in hits] == ["d0004", "d0002", "d0001"]
    assert len(index) == 9, "closed files are opened again when they are needed"
    index.close()
