"""The benchmarks of rankings and of token codes: their means, verdicts and scores, by hand."""

import struct

import numpy as np
import pytest

import semsearch
from benchmarks import late_interaction, plot, rankings
from benchmarks.results import Result
from benchmarks.setting import Setting
from semsearch.maxsim import TokenCodec
from semsearch.metrics import PairedTest
from tests.fakes import FakeEncoder, make_documents, opened
from tests.test_evaluate import write_set


@pytest.fixture
def labelled(tmp_path):
    documents = make_documents(80, seed=5)
    queries = {f"q{n}": " ".join(documents[3 * n].text.split()[n % 3 :: 3]) for n in range(25)}
    qrels = {f"q{n}": {documents[3 * n].id: 1} for n in range(25)}
    return write_set(tmp_path / "set", documents, queries, qrels)


@pytest.fixture
def measured(tmp_path, labelled, monkeypatch):
    """A setting in which everything is measured on one small set."""
    path = tmp_path / "made.idx"
    with opened(path, FakeEncoder(128)) as index:
        index.add(semsearch.read_corpus(labelled))
    for module in (rankings, late_interaction):
        monkeypatch.setattr(module, "stdlib_folder", lambda _: labelled)
    monkeypatch.setattr(Setting, "dataset", lambda *_: None)
    monkeypatch.setattr(Setting, "index_of", lambda *_: (path, None))
    monkeypatch.setattr(semsearch, "open", lambda where: opened(where, FakeEncoder(128)))
    return Setting(False, tmp_path)


def test_sets_count_alike_whatever_their_size():
    small, large = np.array([1.0, 0.0]), np.zeros(1_000)
    mean, low, high = rankings.mean_of_sets([small, large])
    assert mean == 0.25
    assert (low, high) == (0.0, 0.5)
    assert rankings.mean_of_sets([large, large]) == (0.0, 0.0, 0.0)


def test_an_interval_of_the_mean_is_as_wide_as_theory_says():
    values = np.random.default_rng(1).standard_normal(400)
    _, low, high = rankings.mean_of_sets([values, values + 1])
    spread = values.std() * np.sqrt(2 / 400) / 2
    assert high - low == pytest.approx(2 * 1.96 * spread, rel=0.1)


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [(0.01, 0.02, "better"), (-0.02, -0.01, "worse"), (-0.01, 0.01, "no clear difference")],
)
def test_a_verdict_is_what_the_interval_says(low, high, words):
    assert rankings.verdict(PairedTest(0.0, low, high, 0.5)) == words


def test_the_table_has_every_way_with_its_mean(measured, labelled):
    result = rankings.run(measured)
    shown = {row["ranking"]: row["ndcg@10"] for row in result.rows}
    with semsearch.open(measured.work / "made.idx") as index:
        report = semsearch.evaluate(index, labelled)
    wanted = {(row.mode, row.rerank): row.metrics["ndcg@10"] for row in reversed(report.results)}
    assert shown.keys() == rankings.WAYS.keys()
    for name, way in {
        rankings.DENSE: ("dense", "none"),
        rankings.BM25: ("lexical", "none"),
        rankings.FUSED: ("hybrid", "none"),
        rankings.DEFAULT: ("hybrid", "self"),
    }.items():
        assert shown[name] == f"{wanted[way]:.3f}"
    (row,) = result.more["The default against its better part"]
    better = max(("dense", "none"), ("lexical", "none"), key=wanted.__getitem__)
    assert row["better part"] == {"dense": rankings.DENSE, "lexical": rankings.BM25}[better[0]]
    assert result.goals[0].measured == pytest.approx(
        wanted["hybrid", "self"] - wanted[better], abs=1e-9
    )
    (tuned,) = result.more["Tuned"]
    assert tuned["learnt on"] == "25 of test"
    assert tuned["held out"] == "25, cross-validated"


def test_scores_of_codes_and_of_whole_vectors_are_max_sim(measured, labelled):
    with semsearch.open(measured.work / "made.idx") as index:
        codec = TokenCodec(128, pooled=2, bits=64)
        vids = index.searcher.snapshot.rows.ids[:5]
        tokens = late_interaction.Tokens(index, vids, [codec])
        texts = [p.document.content for p in index.reader.documents_of(vids.tolist()).values()]
        questions = index.searcher.encode(["bal car", texts[2]])
        heads = np.array([vids[:4], [vids[2], vids[4], vids[0], -1]])
        whole = late_interaction.second_scores(tokens, questions, heads, None)
        coded = late_interaction.second_scores(tokens, questions, heads, codec)
        rows = {
            vid: FakeEncoder(128).token_vectors(text) for vid, text in zip(vids, texts, strict=True)
        }
    assert whole[1, 3] == coded[1, 3] == -np.inf
    for number, query in enumerate(questions.tokens):
        for place, vid in enumerate(heads[number].tolist()):
            if vid < 0:
                continue
            products = query.astype(np.float64) @ rows[vid].T.astype(np.float64)
            assert whole[number, place] == pytest.approx(products.max(axis=1).mean(), abs=2e-3)
            made = codec.encode(rows[vid], np.array([len(rows[vid])]))
            wanted = codec.scores(codec.project(query), made)
            assert coded[number, place] == pytest.approx(wanted[0], abs=1e-6)


def test_the_curve_has_the_default_and_both_ends(measured, labelled, tmp_path):
    result: Result = late_interaction.run(measured)
    sizes = {row["kept"]: row["bytes a token"] for row in result.rows}
    assert sizes[late_interaction.NOTHING] == 0
    assert sizes[late_interaction.FULL] == 256
    assert sizes[TokenCodec(128).name] == pytest.approx(16 / 3)
    with semsearch.open(measured.work / "made.idx") as index:
        report = semsearch.evaluate(index, labelled)
    default, fused = (row.metrics["ndcg@10"] for row in report.results[:2])
    shown = {row["kept"]: row[labelled.name] for row in result.rows}
    assert shown[TokenCodec(128).name] == pytest.approx(default, abs=1e-9)
    assert shown[late_interaction.NOTHING] == pytest.approx(fused, abs=1e-9)
    first, second = tmp_path / "a.png", tmp_path / "b.png"
    plot.draw_curve(result.rows, first)
    plot.draw_curve(result.rows[:4], second)
    data = first.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    assert struct.unpack(">II", data[16:24])[0] > 600
    assert data != second.read_bytes()
