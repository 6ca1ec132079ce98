"""Explanations, compared with every score computed again by brute force."""

import json
import re
from dataclasses import fields, replace
from types import SimpleNamespace

import numpy as np
import pytest
from click.testing import CliRunner

import semsearch.encoders
from semsearch.cli.main import cli
from semsearch.collection.reader import Reader
from semsearch.errors import NotFound
from semsearch.maxsim import TokenCodec
from semsearch.ranking.settings import Ranking
from semsearch.search.options import MODES, Options
from semsearch.search.why import standing
from semsearch.store.filters import parse_filter
from semsearch.types import Candidates, Document, Place, Setting
from tests.cross_encoder_models import build_cross_encoder, predicted
from tests.fakes import FakeEncoder, index_into, make_documents, opened
from tests.lexical_oracle import Oracle

DEPTH = 12
RANKING = Ranking("rrf", 0.5, DEPTH, "self", 8, 0.4)
QUERY = "bal car dir hil"


def described(folder, encoder, documents):
    """An index and its passages: vids, the document of each, stored vectors, BM25."""
    index_into(folder, encoder, documents)
    with Reader(folder) as reader:
        rows = reader.snapshot().rows
        vids = rows.ids.tolist()
        found = reader.passages_of(vids)
        texts = [found[v][1].document.passage(found[v][0].start, found[v][0].end) for v in vids]
        return SimpleNamespace(
            index=opened(folder, encoder),
            encoder=encoder,
            vids=vids,
            texts=dict(zip(vids, texts, strict=True)),
            owner={vid: found[vid][1].ext_id for vid in vids},
            vectors=rows.take(np.arange(len(rows))).astype(np.float64),
            oracle=Oracle(vids, texts),
        )


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("explain") / "idx"
    return described(folder, FakeEncoder(), make_documents(120))


@pytest.fixture(scope="module")
def chunked(tmp_path_factory):
    folder = tmp_path_factory.mktemp("chunked") / "idx"
    documents = make_documents(40, words=30)
    return described(folder, FakeEncoder(max_length=16), documents)


def cosines(corpus, query):
    vector = corpus.encoder.vector(query).astype(np.float64)
    rotation = corpus.index.searcher.snapshot.rotation
    vector = vector if rotation is None else vector @ rotation
    rows = corpus.vectors
    scores = rows @ vector / np.linalg.norm(rows, axis=1) / np.linalg.norm(vector)
    return dict(zip(corpus.vids, scores.astype(np.float32).tolist(), strict=True))


def by_document(corpus, scores):
    """The best passage's score of each document."""
    best: dict[str, float] = {}
    for vid, score in scores.items():
        best[corpus.owner[vid]] = max(best.get(corpus.owner[vid], -np.inf), score)
    return best


def ranks(scores, depth=None):
    """Vids by score, then vid: the ranks of an index."""
    order = sorted(scores, key=lambda vid: (-np.float32(scores[vid]), vid))
    return {vid: rank for rank, vid in enumerate(order[:depth], start=1)}


def ranks_of_documents(scores):
    """Ids by score, then id descending: the ranks of hits."""
    order = sorted(scores, key=lambda name: name.encode(), reverse=True)
    return {name: n for n, name in enumerate(sorted(order, key=lambda d: -scores[d]), start=1)}


def ranks_by_passages(corpus, name):
    """Ids in the order of the best passages of an index."""
    scores = cosines(corpus, QUERY) if name == "dense" else corpus.oracle.scores(QUERY)
    order: dict[str, int] = {}
    for vid in ranks(scores):
        order.setdefault(corpus.owner[vid], len(order) + 1)
    return order


def same(place, rank, score):
    assert place.rank == rank
    np.testing.assert_allclose(place.score, score, rtol=1e-4, atol=1e-6)


def maxsim(corpus, query, vid):
    codec = TokenCodec(corpus.encoder.token_dim)
    rows = corpus.encoder.token_vectors(corpus.texts[vid])
    tokens = codec.project(corpus.encoder.token_vectors(query))
    return float(codec.scores(tokens, codec.encode(rows, np.array([len(rows)])))[0])


def test_every_stage_of_a_hybrid_search_is_as_computed_by_hand(corpus):
    options = Options(ranking=RANKING)
    setting, hits = corpus.index.searcher.explain(QUERY, 20, options)
    dense, words = cosines(corpus, QUERY), corpus.oracle.scores(QUERY)
    dense_ranks, word_ranks = ranks(dense, 20), ranks(words, 20)
    pool = sorted(dense_ranks.keys() | word_ranks.keys())
    fused = {
        vid: sum(1 / (60 + held[vid]) for held in (dense_ranks, word_ranks) if vid in held)
        for vid in pool
    }
    name = corpus.owner
    fused_ranks = ranks_of_documents({name[vid]: np.float32(s) for vid, s in fused.items()})
    head = sorted(fused, key=lambda vid: (-np.float32(fused[vid]), vid))[:8]
    second = {vid: maxsim(corpus, QUERY, vid) for vid in head}
    second_ranks = ranks_of_documents({name[vid]: np.float32(s) for vid, s in second.items()})
    low, high = min(second.values()), max(second.values())
    ones = [fused[vid] for vid in head]
    weight = 0.4 * setting.reads
    assert setting.rerank_weight == pytest.approx(weight)

    missing = 0
    vid_of = {owner: vid for vid, owner in name.items()}
    for hit in hits:
        why, vid = hit.explanation, vid_of[hit.id]
        same(why.dense, dense_ranks.get(vid), dense[vid])
        same(why.lexical, word_ranks.get(vid), words.get(vid, 0))
        same(why.fused, fused_ranks[hit.id], fused[vid])
        missing += (why.dense.rank is None) + (why.lexical.rank is None)
        assert why.mixed == Place(hit.rank, hit.score)
        if vid in second:
            same(why.reranker, second_ranks[hit.id], second[vid])
            mixed = weight * (second[vid] - low) / (high - low)
            mixed += (1 - weight) * (fused[vid] - min(ones)) / (max(ones) - min(ones))
            np.testing.assert_allclose(hit.score, mixed, rtol=1e-4, atol=1e-5)
        else:
            assert why.reranker is None
        held = set(hit.text.split()) | set(hit.title.split())
        assert list(why.matched) == [word for word in QUERY.split() if word in held]
    assert missing > 3
    assert sum(hit.explanation.reranker is not None for hit in hits) == 8
    assert setting.candidates == len(pool)


@pytest.mark.parametrize("mode", ["dense", "lexical"])
def test_one_index_alone(corpus, mode):
    setting, hits = corpus.index.searcher.explain(QUERY, 9, Options(mode))
    for hit in hits:
        why = hit.explanation
        assert getattr(why, mode) == Place(hit.rank, hit.score)
        other = why.lexical if mode == "dense" else why.dense
        assert other is why.fused is why.reranker is why.mixed is None
        assert why.setting is setting
    assert setting.mode == mode
    assert (setting.fusion, setting.dense_weight, setting.reads) == (None, None, None)
    assert (setting.reranker, setting.rerank_depth, setting.rerank_weight) == (None, None, None)
    assert (setting.index, setting.dims) == (("exact", 32) if mode == "dense" else (None, None))


@pytest.mark.parametrize("mode", MODES)
def test_documents_of_several_passages(chunked, mode):
    _, hits = chunked.index.searcher.explain(QUERY, 15, Options(mode, ranking=RANKING))
    scores = {
        "dense": by_document(chunked, cosines(chunked, QUERY)),
        "lexical": by_document(chunked, chunked.oracle.scores(QUERY)),
    }
    assert len(chunked.vids) > 2 * len(set(chunked.owner.values()))
    for name, wanted in scores.items():
        places = {hit.id: getattr(hit.explanation, name) for hit in hits}
        if mode not in ("hybrid", name):
            assert set(places.values()) == {None}
            continue
        order = ranks_of_documents(wanted) if mode == name else ranks_by_passages(chunked, name)
        for document, place in places.items():
            if place.rank is not None:
                same(place, order[document], wanted[document])
    assert [hit.rank for hit in hits] == list(range(1, len(hits) + 1))


@pytest.mark.parametrize(
    "options",
    [
        Options(ranking=RANKING),
        Options("lexical"),
        Options("dense", dims=8, rerank="self"),
        Options(diversity=0.5, min_score=0.1),
    ],
)
def test_explaining_changes_no_hit(corpus, options):
    plain = corpus.index.searcher.search(QUERY, 10, options)
    setting, hits = corpus.index.searcher.explain(QUERY, 10, options)
    assert [(h.rank, h.id, h.score, h.start, h.end) for h in hits] == [
        (h.rank, h.id, h.score, h.start, h.end) for h in plain
    ]
    assert all(hit.explanation is None for hit in plain)
    assert setting.diversity == options.diversity
    assert (setting.reranker is None) == (options.mode == "lexical")


def test_from_python(corpus):
    hits = corpus.index.search(QUERY, 3, explain=True, rerank="none", mode="hybrid")
    assert [h.explanation.fused.rank for h in hits] == [1, 2, 3]
    assert hits[0].explanation.mixed is None
    assert hits[0].explanation.setting.generation == corpus.index.searcher.snapshot.generation.gen
    assert corpus.index.search(QUERY, 3, rerank="none")[0].explanation is None


@pytest.mark.slow
def test_a_cross_encoder_as_reranker(corpus, tmp_path):
    folder = build_cross_encoder("bert", tmp_path / "cross")
    options = Options("dense", rerank=str(folder), ranking=replace(RANKING, rerank_weight=1.0))
    setting, hits = corpus.index.searcher.explain(QUERY, 8, options)
    raw = predicted(folder, [(QUERY, f"{hit.title} {hit.text}") for hit in hits])
    scores = [hit.explanation.reranker.score for hit in hits]
    order = np.argsort(-np.array(scores), kind="stable")
    assert order.tolist() == list(range(8)), "its own score decides"
    np.testing.assert_allclose(scores, raw, atol=0.06)  # bfloat16, where the processor has it
    assert [hit.explanation.reranker.rank for hit in hits] == list(range(1, 9))
    assert [hit.explanation.mixed for hit in hits] == [Place(h.rank, h.score) for h in hits]
    assert (setting.reranker, setting.rerank_depth) == (str(folder), 8)
    assert sorted(hit.explanation.dense.rank for hit in hits) == list(range(1, 9))


def test_a_ranking_that_was_learned_says_so(tmp_path):
    from semsearch.collection.layout import Layout
    from semsearch.collection.writer import open_for_writing
    from semsearch.ranking.tuned import record_ranking

    made = described(tmp_path / "idx", FakeEncoder(), make_documents(20))
    assert not made.index.searcher.explain("bal")[0].tuned
    with open_for_writing(Layout(tmp_path / "idx")) as writer:
        record_ranking(writer, Ranking("minmax", 0.7, 30, "none"))
    made.index.close()
    setting, _ = made.index.searcher.explain("bal")
    assert (setting.tuned, setting.fusion, setting.dense_weight) == (True, "minmax", 0.7)
    assert setting.depth == 30
    own, _ = made.index.searcher.explain("bal", 5, Options(ranking=RANKING))
    assert (own.tuned, own.fusion) == (False, "rrf")


def test_the_stages_of_many_queries_are_those_of_each(corpus):
    texts = [QUERY, "nor far", "gol"]
    together = corpus.index.searcher.stages(texts, 5, Options(ranking=RANKING))
    for number, text in enumerate(texts):
        alone = corpus.index.searcher.stages([text], 5, Options(ranking=RANKING))
        for stage in ("dense", "lexical", "first", "final"):
            first, second = getattr(together, stage), getattr(alone, stage)
            assert isinstance(first, Candidates)
            real = first.ids[number] >= 0
            np.testing.assert_array_equal(first.ids[number][real], second.ids[second.ids >= 0])
            np.testing.assert_array_equal(
                first.scores[number][real], second.scores[second.ids >= 0]
            )


def test_an_empty_index(tmp_path):
    made = described(tmp_path / "idx", FakeEncoder(), [])
    setting, hits = made.index.searcher.explain("bal")
    assert (hits, setting.candidates, setting.fusion) == ([], 0, None)


# On the command line

CORPUS = [
    Document("a", "bal car bal", "first", {"year": 2019}),
    Document("b", "car dir", "", {"year": 2021}),
    Document("c", "nor far hil", "", {"year": 2022}),
]


@pytest.fixture
def command(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    encoder = FakeEncoder()
    monkeypatch.setattr(semsearch.encoders, "open_encoder", lambda *_, **__: encoder)
    index_into(tmp_path / ".semsearch", encoder, CORPUS)

    def call(*arguments, code=0, **how):
        result = CliRunner().invoke(cli, ["query", *arguments], **how)
        assert result.exit_code == code, (result.stdout, result.stderr)
        return result.stderr if code else result.stdout

    return call


def test_the_keys_of_an_explanation_as_json(command):
    found = json.loads(command("bal dir", "--explain", "--json", "-k", "3"))
    assert sorted(found) == ["hits", "query"]
    assert list(found["query"]) == [field.name for field in fields(Setting)]
    for hit in found["hits"]:
        why = hit["explain"]
        assert list(why) == [
            "dense", "lexical", "fused", "reranker", "mixed", "final", "matched",
        ]  # fmt: skip
        for stage in list(why)[:-1]:
            assert list(why[stage]) == ["rank", "score"]
        assert why["final"] == {"rank": hit["rank"], "score": hit["score"]}
    assert {hit["id"]: hit["explain"]["matched"] for hit in found["hits"]} == {
        "a": ["bal"],
        "b": ["dir"],
        "c": [],
    }
    (lexical,) = json.loads(
        command("bal", "--explain", "--json", "--mode", "lexical", "--rerank", "none")
    )["hits"]
    nothing = [lexical["explain"][name] for name in ("dense", "fused", "reranker", "mixed")]
    assert nothing == [None] * 4


def test_an_explanation_for_people(command):
    out = command("nor", "--explain", "--rerank", "none", "-k", "3").splitlines()
    assert out[0].startswith("mode      hybrid: 3 candidates, at most 100 of each index; gen")
    assert out[1] == "vectors   exact, 32 dims"
    assert (
        out[3] == "fusion    surprise, 60 % of it dense; the model reads 100 % of query and corpus"
    )
    tables = [line for line in out if line.startswith("     rank ")]
    assert tables[0] == "     rank           1          1          1"
    assert all("not found" in line for line in tables[1:])
    heads = {line for line in out if line.startswith("     stage")}
    assert heads == {"     stage      dense    lexical      fused"}
    words = [line.strip() for line in out if line.startswith("     words")]
    assert words == ["words  nor", "words  none of the query", "words  none of the query"]
    width = {len(line) for line in out if line.startswith(("     rank", "     score"))}
    assert len(width) == 1


def test_matched_words_are_bold_on_a_terminal(command, monkeypatch):
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setattr("semsearch.cli.explain.on_terminal", lambda: True)
    out = command("cars", "--explain", "--mode", "lexical", color=True)
    assert "first bal" not in out
    assert "bal \x1b[1mcar\x1b[0m bal" in out
    assert "\x1b[1mcar\x1b[0m dir" in out


def test_a_diverse_search_shows_both_orders(command):
    out = command("car", "--explain", "--diversity", "0.5", "--rerank", "none")
    assert "diversity 0.5" in out.splitlines()
    assert "     stage      dense    lexical      fused    diverse" in out.splitlines()


def test_settings_and_rerankers_are_chosen(command):
    arguments = ["car", "--explain", "--json", "--ranking", "fusion=zscore"]
    query = json.loads(command(*arguments, "--ranking", "rerank_weight=0.5"))["query"]
    assert (query["fusion"], query["reranker"], query["rerank_weight"]) == ("zscore", "self", 0.5)
    assert json.loads(command(*arguments, "--rerank", "none"))["query"]["reranker"] is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--ranking", "fusion=best"], "unknown fusion 'best': choose one of surprise, rrf"),
        (["--ranking", "depth=0"], "depth must be "),
        (["--ranking", "dense_weight=2"], "dense_weight must be between 0 and 1, not 2.0"),
        (["--ranking", "depth"], "--ranking 'depth' is not KEY=VALUE, as in fusion=rrf"),
        (["--ranking", "deep=3"], "unknown setting 'deep': there are fusion, dense_weight"),
        (["--diversity", "1.5"], "diversity must be between 0 and 1, not 1.5"),
        (
            ["--explain", "--queries", "q.jsonl", "--run", "r"],
            "--explain and --why are for one query",
        ),
    ],
)
def test_wrong_values_are_one_line(command, tmp_path, arguments, message):
    (tmp_path / "q.jsonl").write_text('{"_id": "q", "text": "car"}\n')
    text = [] if "--queries" in arguments else ["car"]
    error = command(*text, *arguments, code=2).splitlines()[-1]
    assert error.startswith(f"Error: {message}")


# Why a document is not among the hits


def test_why_not(corpus):
    searcher = corpus.index.searcher
    options = Options(ranking=RANKING)
    deep = searcher.search(QUERY, DEPTH, options)

    def why(name, k=5, **changes):
        found = standing(searcher, QUERY, name, k, replace(options, **changes))
        assert (found.setting is None) == (found.hit is None)
        assert found.hit is None or found.hit.id == name
        return found.reason, found.hit and found.hit.rank

    assert why(deep[2].id) == ("hit", 3)
    assert why(deep[7].id) == ("k", 8)
    assert why(deep[2].id, min_score=deep[1].score) == ("min_score", 3)
    assert why(deep[2].id, conditions=parse_filter(["year>=3000"])) == ("filter", None)
    chosen = {hit.id for hit in searcher.search(QUERY, 5, replace(options, diversity=0.7))}
    left = next(hit for hit in deep[:5] if hit.id not in chosen)
    assert why(left.id, diversity=0.7) == ("diversity", left.rank)
    far = min(corpus.vids, key=lambda vid: cosines(corpus, QUERY)[vid])
    reason, rank = why(corpus.owner[far], mode="dense")
    assert (reason, rank) == ("depth", len(corpus.vids))
    assert why(corpus.owner[far], mode="lexical")[0] in ("depth", "beyond")
    with pytest.raises(NotFound, match="no document 'nowhere'"):
        why("nowhere")


def test_why_not_on_the_command_line(command):
    assert command("nor", "--why", "c").splitlines()[0] == "c is hit 1"
    out = command("nor", "--why", "a", "-k", "1").splitlines()
    assert out[0].startswith("a is no hit: its rank is ")
    assert out[0].endswith(", and 1 were asked for")
    assert any(line.startswith("     rank ") for line in out)
    assert command("nor", "--why", "a", "-f", "year>2020").splitlines() == [
        "a is no hit: the filter leaves it out"
    ]
    assert command("nor", "--why", "a", "--mode", "lexical").startswith("a is no hit: it is not")
    low = command("nor", "--why", "a", "--mode", "dense", "--min-score", "0.99")
    assert re.match(r"a is no hit: its score, -?0.\d+ at rank \d, is below --min-score\n", low)
    found = json.loads(command("nor", "--why", "a", "-k", "1", "--json"))
    assert (found["reason"], found["hit"]["id"], found["query"]["mode"]) == ("k", "a", "hybrid")
    assert found["hit"]["explain"]["lexical"] == {"rank": None, "score": 0.0}
    assert "Error: .semsearch: no document 'x'" in command("nor", "--why", "x", code=1)
