"""Evaluations: every number is computed again from rankings made here, by brute force."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import semsearch
import semsearch.encoders
from semsearch.cli.main import cli
from semsearch.collection.layout import Layout
from semsearch.collection.writer import open_for_writing
from semsearch.corpus import BeirDataset, read_qrels, read_run
from semsearch.errors import InputError, NotFound, UsageError
from semsearch.evaluation import Measuring, evaluate
from semsearch.evaluation.measure import evaluate_pipelines
from semsearch.evaluation.pipelines import Wanted
from semsearch.metrics import DEFAULT_MEASURES, evaluate_run
from semsearch.ranking.settings import Ranking
from semsearch.search.options import MODES, Options
from semsearch.types import Document
from tests.fakes import FakeEncoder, index_into, lower_limits, make_documents, opened, searching
from tests.lexical_oracle import Oracle

DATASETS = Path(__file__).parents[2] / "shared" / "datasets"


def write_lines(path, records):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")


def write_set(folder, documents, queries, qrels):
    write_lines(
        folder / "corpus.jsonl",
        [{"_id": d.id, "title": d.title, "text": d.text, **d.metadata} for d in documents],
    )
    write_lines(folder / "queries.jsonl", [{"_id": n, "text": text} for n, text in queries.items()])
    rows = [f"{q}\t{d}\t{g}\n" for q, grades in qrels.items() for d, g in grades.items()]
    (folder / "qrels").mkdir(exist_ok=True)
    (folder / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\n" + "".join(rows))
    return folder


@pytest.fixture
def encoder():
    return FakeEncoder(128)


@pytest.fixture
def labelled(tmp_path):
    """80 documents; 12 queries of a few of their words, with graded judgements."""
    documents = make_documents(80, seed=5)
    random = np.random.default_rng(5)
    queries, qrels = {}, {}
    for n in range(12):
        target = documents[6 * n]
        words = target.text.split()
        queries[f"q{n}"] = " ".join(random.choice(words, 3, replace=False))
        others = random.choice(80, 3, replace=False)
        qrels[f"q{n}"] = {documents[i].id: int(i % 3) for i in others} | {target.id: 2}
    return write_set(tmp_path / "set", documents, queries, qrels)


@pytest.fixture
def indexed(tmp_path, labelled, encoder):
    index = opened(tmp_path / "made.idx", encoder)
    index.add(semsearch.read_corpus(labelled))
    with index:
        yield index


def rankings(index, labelled, mode, dims=None):
    """Runs by brute force: cosines of stored vectors, BM25 in plain Python, and their fusion."""
    data = BeirDataset.open(labelled)
    with searching(index.folder, index._encoder).reader as reader:
        snapshot = reader.snapshot()
        vids = snapshot.rows.ids.tolist()
        rows = snapshot.rows.take(np.arange(len(vids))).astype(np.float64)[:, :dims]
        owners = {vid: row.document for vid, row in reader.documents_of(vids).items()}
    oracle = Oracle(vids, [owners[vid].content for vid in vids])
    run = {}
    for query in data.queries:
        vector = index._encoder.vector(query.text)[:dims].astype(np.float64)
        cosines = rows @ vector / np.linalg.norm(rows, axis=1) / np.linalg.norm(vector)
        dense = dict(zip(vids, cosines.astype(np.float32).tolist(), strict=True))
        words = oracle.scores(query.text)
        found = {"dense": dense, "lexical": words}.get(mode)
        if found is None:
            found = {}
            for scores in (dense, words):
                ordered = sorted(scores, key=lambda vid: (-scores[vid], vid))[:100]
                for rank, vid in enumerate(ordered, 1):
                    found[vid] = found.get(vid, 0) + 1 / (60 + rank)
        run[query.id] = {owners[vid].id: score for vid, score in found.items()}
    return run


def test_every_number_is_that_of_a_ranking_made_by_hand(indexed, labelled):
    plain = Ranking(fusion="rrf", dense_weight=0.5, rerank="none")
    report = evaluate_pipelines(indexed, labelled, Wanted(MODES, [128, 64], ranking=plain))
    qrels = read_qrels(labelled / "qrels" / "test.tsv")
    for row in report.results:
        run = rankings(indexed, labelled, row.mode, row.dims)
        wanted = evaluate_run(qrels, run)
        assert row.metrics == pytest.approx(wanted.means(), abs=1e-12)
        assert row.intervals == {
            name: pytest.approx(pair, abs=1e-12) for name, pair in wanted.intervals().items()
        }
    values = {(row.mode, row.dims): row.metrics["ndcg@10"] for row in report.results}
    assert 0.3 < values["dense", 128] < 1
    assert values["dense", 128] != values["dense", 64] != values["lexical", None]


def test_every_row_keeps_its_values_and_on_request_its_ranking(indexed, labelled):
    report = evaluate(indexed, labelled, measuring=Measuring(keep_runs=True))
    assert report.dataset is not None
    for row in report.results:
        assert row.evaluation is not None
        assert row.run is not None
        again = evaluate_run(report.dataset.qrels, row.run)
        assert again.query_ids == row.evaluation.query_ids == tuple(sorted(report.dataset.qrels))
        np.testing.assert_array_equal(again.values, row.evaluation.values)
        assert row.evaluation.per_query("ndcg@10").mean() == row.metrics["ndcg@10"]
    assert {row.run is None for row in evaluate(indexed, labelled).results} == {True}
    assert report == evaluate(indexed, labelled)


def test_numbers_that_can_be_checked_in_the_head(tmp_path, encoder):
    texts = {"d1": "bal", "d2": "bal bal bal car dir for gol hir", "d3": "car", "d4": "nor"}
    qrels = {"q1": {"d1": 1}, "q2": {"d2": 1}, "q3": {"d4": 1}}
    queries = {"q1": "bal", "q2": "car", "q3": "unheard"}
    documents = [Document(name, text) for name, text in texts.items()]
    folder = write_set(tmp_path / "set", documents, queries, qrels)
    with opened(tmp_path / "idx", encoder) as index:
        index.add(documents)
        (row,) = evaluate(index, folder, modes=["lexical"]).results
    # BM25 prefers the short text: q1 finds d1, d2; q2 finds d3, d2; q3 nothing.
    assert row.without_results == 1
    assert row.metrics["accuracy@1"] == pytest.approx(1 / 3)
    assert row.metrics["accuracy@3"] == pytest.approx(2 / 3)
    assert row.metrics["mrr@10"] == pytest.approx((1 + 1 / 2 + 0) / 3)
    assert row.metrics["map@100"] == pytest.approx((1 + 1 / 2 + 0) / 3)
    assert row.metrics["ndcg@10"] == pytest.approx((1 + 1 / np.log2(3) + 0) / 3)
    assert row.metrics["recall@100"] == pytest.approx(2 / 3)
    assert row.metrics["precision@10"] == pytest.approx(2 / 30)


def test_the_rows_without_options(indexed, labelled):
    report = evaluate(indexed, labelled)
    assert [(row.mode, row.dims) for row in report.results] == [
        ("hybrid", 128),
        ("hybrid", 128),
        ("hybrid", 64),
        ("dense", 128),
        ("dense", 64),
        ("lexical", None),
    ]
    assert [row.rerank for row in report.results] == ["self"] + 5 * ["none"]
    first = [
        [h.id for h in indexed.search(q.text, k=10)] for q in BeirDataset.open(labelled).queries
    ]
    run = {
        q.id: {name: 1 / rank for rank, name in enumerate(names, 1)}
        for q, names in zip(BeirDataset.open(labelled).queries, first, strict=True)
    }
    wanted = evaluate_run(read_qrels(labelled / "qrels" / "test.tsv"), run, ["mrr@10", "ndcg@10"])
    for name, value in wanted.means().items():
        assert report.results[0].metrics[name] == pytest.approx(value, abs=1e-12)


@pytest.mark.parametrize(
    ("modes", "dims", "rows"),
    [
        (["dense"], None, [("dense", 128), ("dense", 64)]),
        (["lexical"], None, [("lexical", None)]),
        (["lexical"], [64], [("lexical", None)]),
        (["dense"], [32, 7], [("dense", 32), ("dense", 7)]),
        (None, [16], [("hybrid", 16), ("dense", 16), ("lexical", None)]),
        (["lexical", "hybrid"], [128], [("lexical", None), ("hybrid", 128)]),
    ],
)
def test_the_rows_with_options(indexed, labelled, modes, dims, rows):
    report = evaluate(indexed, labelled, modes=modes, dims=dims)
    assert [(row.mode, row.dims) for row in report.results] == rows


def test_everything_comes_from_one_encoding(indexed, labelled, encoder):
    assert encoder.calls == 1, "the corpus"
    evaluate(indexed, labelled)
    assert encoder.calls == 2, "and all queries at once"
    assert encoder.queries == [q.text for q in BeirDataset.open(labelled).queries]
    evaluate(indexed, labelled, modes=["lexical"])
    assert encoder.calls == 2, "words need no vectors"


def test_the_json_has_the_promised_shape(indexed, labelled):
    found = json.loads(json.dumps(evaluate(indexed, labelled).to_json()))
    assert (found["queries"], found["skipped"], found["split"]) == (12, 0, "test")
    assert found["version"] == semsearch.__version__
    for row in found["results"]:
        assert {"mode", "dims", "rerank", "k", "ann_recall", "index_kind", "metrics"} <= row.keys()
        assert set(row["metrics"]) == set(DEFAULT_MEASURES)
        assert all(0 <= value <= 1 for value in row["metrics"].values())
        if row["mode"] == "lexical":
            assert (row["dims"], row["ann_recall"], row["index_kind"]) == (None, None, None)
        else:
            assert (row["ann_recall"], row["index_kind"]) == (1.0, "exact")


def test_the_first_row_is_what_is_served(tmp_path, monkeypatch):
    lower_limits(monkeypatch, 200)
    encoder = FakeEncoder(64)
    documents = make_documents(1500, seed=8)
    queries = {f"q{n}": documents[n].text for n in range(0, 1500, 50)}
    qrels = {f"q{n}": {documents[n].id: 1} for n in range(0, 1500, 50)}
    folder = write_set(tmp_path / "set", documents, queries, qrels)
    index_into(tmp_path / "idx", encoder, documents)
    with opened(tmp_path / "idx", encoder) as index:
        served, hybrid, dense, _ = evaluate(index, folder).results
        rankings = [
            index.searcher.rank(list(queries.values()), 10, Options("dense", exact=exact))
            for exact in (False, True)
        ]
    shares = [
        len({r.id for r in a} & {r.id for r in b}) / 10 for a, b in zip(*rankings, strict=True)
    ]
    assert (served.mode, served.dims, served.index_kind) == ("hybrid", 64, "RR,IVF1,RaBitQfs")
    assert served.ann_recall == pytest.approx(np.mean(shares))
    assert np.mean(shares) > 0.9
    assert {(row.index_kind, row.ann_recall) for row in (hybrid, dense)} == {("exact", 1.0)}


def test_the_report_is_a_table_for_people(indexed, labelled):
    lines = str(evaluate(indexed, labelled)).splitlines()
    assert lines[0].split()[:3] == ["mode", "rerank", "dims"]
    modes = [line.split()[:3] for line in lines[1:7]]
    assert modes == [
        ["hybrid", "self", "128"],
        ["hybrid", "none", "128"],
        ["hybrid", "none", "64"],
        ["dense", "none", "128"],
        ["dense", "none", "64"],
        ["lexical", "none", "-"],
    ]
    assert lines[7].startswith("12 queries of split test")


# What is missing


def rewrite(labelled, **changes):
    """The set with other queries or judgements."""
    data = BeirDataset.open(labelled)
    queries = changes.get("queries", {q.id: q.text for q in data.queries})
    qrels = changes.get("qrels", data.qrels)
    return write_set(labelled, make_documents(80, seed=5), queries, qrels)


def test_judged_documents_that_the_index_lacks_are_counted(indexed, labelled):
    before = evaluate(indexed, labelled, modes=["dense"], dims=[128])
    assert before.missing_documents == 0
    indexed.delete(["d0000", "d0006"])
    qrels = BeirDataset.open(labelled).qrels
    qrels["q3"]["never indexed"] = 1
    after = evaluate(indexed, rewrite(labelled, qrels=qrels), modes=["dense"], dims=[128])
    assert after.missing_documents == 3
    assert "3 relevant documents are not in the index and cannot be found" in str(after)
    assert after.results[0].metrics["recall@100"] < before.results[0].metrics["recall@100"]
    run = rankings(indexed, labelled, "dense")
    living = {
        q: {d: s for d, s in r.items() if d not in ("d0000", "d0006")} for q, r in run.items()
    }
    assert after.results[0].metrics == pytest.approx(evaluate_run(qrels, living).means(), abs=1e-12)


def test_an_index_without_any_relevant_document_is_an_error(tmp_path, labelled, encoder):
    with opened(tmp_path / "other.idx", encoder) as index:
        index.add([Document(f"x{n}", f"text {n}") for n in range(5)])
        with pytest.raises(InputError) as caught:
            evaluate(index, labelled)
    assert str(caught.value).endswith(
        f"relevant documents is in {tmp_path / 'other.idx'}: index this dataset's corpus, or leave"
        " out -i"
    )


def test_queries_without_judgements_are_not_asked(indexed, labelled, encoder):
    data = BeirDataset.open(labelled)
    before = evaluate(indexed, data, modes=["dense"])
    queries = {"extra": "never asked"} | {q.id: q.text for q in data.queries}
    after = evaluate(indexed, rewrite(labelled, queries=queries), modes=["dense"])
    assert after == before
    assert "never asked" not in encoder.queries


def test_queries_without_a_relevant_document_are_left_out_and_counted(indexed, labelled):
    data = BeirDataset.open(labelled)
    before = evaluate(indexed, data, modes=["dense"], dims=[128])
    queries = {q.id: q.text for q in data.queries} | {"zero": "bal"}
    qrels = data.qrels | {"zero": {"d0001": 0}}
    after = evaluate(
        indexed, rewrite(labelled, queries=queries, qrels=qrels), modes=["dense"], dims=[128]
    )
    assert (after.queries, after.skipped) == (12, 1)
    assert after.results == before.results


def test_judged_queries_that_the_set_does_not_hold_are_left_out(indexed, labelled):
    data = BeirDataset.open(labelled)
    before = evaluate(indexed, data, modes=["dense"], dims=[128])
    qrels = data.qrels | {"gone": {"d0001": 1, "nowhere": 1}}
    dataset = BeirDataset.open(rewrite(labelled, qrels=qrels))
    assert dataset.missing_queries == ("gone",)
    after = evaluate(indexed, dataset, modes=["dense"], dims=[128])
    assert after == before


def test_a_query_without_words_finds_nothing_and_counts(indexed, labelled):
    data = BeirDataset.open(labelled)
    queries = {q.id: q.text for q in data.queries} | {"blank": " "}
    qrels = data.qrels | {"blank": {"d0001": 1}}
    folder = rewrite(labelled, queries=queries, qrels=qrels)
    report = evaluate(indexed, folder)
    assert report.queries == 13
    assert {row.without_results for row in report.results} == {1}


def test_a_set_without_any_relevant_document(indexed, labelled):
    folder = rewrite(labelled, qrels={"q1": {"d0001": 0}})
    with pytest.raises(InputError, match="no query has a relevant document"):
        evaluate(indexed, folder)


@pytest.mark.parametrize("dims", [0, -1, 129])
def test_widths_that_the_index_does_not_have(indexed, labelled, dims):
    with pytest.raises(UsageError) as caught:
        evaluate(indexed, labelled, dims=[64, dims])
    assert str(caught.value) == (
        f"dims must be between 1 and 128, the width of this index, not {dims}"
    )


def test_a_set_that_is_not_there(indexed, tmp_path, labelled):
    with pytest.raises(NotFound, match="no such folder"):
        evaluate(indexed, tmp_path / "none")
    with pytest.raises(NotFound, match="no split 'dev': there is test"):
        evaluate(indexed, labelled, split="dev")


def test_documents_that_came_after_the_searcher_was_opened(tmp_path, labelled, encoder):
    folder = tmp_path / "late.idx"
    with open_for_writing(Layout(folder)):
        pass
    with opened(folder, encoder) as index:
        assert index.search("anything") == []
        index_into(folder, encoder, semsearch.read_corpus(labelled))
        report = evaluate(index, labelled)
    assert [(row.mode, row.dims) for row in report.results][:2] == [("hybrid", 128)] * 2


# The command


@pytest.fixture
def run(monkeypatch, tmp_path, encoder):
    """Calls the command line with the fake encoder and a cache of its own."""
    monkeypatch.setattr(semsearch.encoders, "open_encoder", lambda *_, **__: encoder)
    monkeypatch.setattr(semsearch.encoders, "fingerprint_of", lambda *_, **__: encoder.fingerprint)
    monkeypatch.setenv("SEMSEARCH_CACHE", str(tmp_path / "cache"))

    def call(*arguments, code=0):
        result = CliRunner().invoke(cli, ["evaluate", *map(str, arguments)])
        assert result.exit_code == code, result.output
        return result

    return call


def state(folder):
    return {path: path.stat().st_mtime_ns for path in [folder, *folder.rglob("*")]}


def test_the_command_indexes_the_set_once(run, labelled, encoder, tmp_path):
    before = state(labelled)
    first = run(labelled, "--json")
    assert len(encoder.documents) == 80
    again = run(labelled, "--json")
    assert len(encoder.documents) == 80, "the index in the cache is used again"
    assert again.stdout == first.stdout
    fresh = run(labelled, "--json", "--fresh")
    assert len(encoder.documents) == 160
    assert fresh.stdout == first.stdout
    assert state(labelled) == before, "a dataset is never written to"
    (made,) = (tmp_path / "cache" / "datasets").iterdir()
    found = json.loads(first.stdout)
    assert len(found["results"]) == 6
    assert first.stderr == ""


def test_another_corpus_gets_another_index(run, labelled, encoder, tmp_path):
    run(labelled)
    with (labelled / "corpus.jsonl").open("a") as file:
        file.write('{"_id": "one more", "text": "bal"}\n')
    run(labelled)
    assert len(list((tmp_path / "cache" / "datasets").iterdir())) == 2
    assert len(encoder.documents) == 161


def test_an_index_that_was_not_finished_is_finished(run, labelled, encoder, tmp_path, monkeypatch):
    whole = run(labelled, "--json")
    shutil.rmtree(tmp_path / "cache")
    monkeypatch.setattr("semsearch.indexing.source.WINDOW_DOCUMENTS", 20)

    encoder.documents.clear()
    calls = iter(range(100))

    def stop_once(_):
        if next(calls) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(encoder, "before_batch", stop_once)
    stopped = run(labelled, "--json", code=130)
    assert stopped.stdout == ""
    assert 20 <= len(encoder.documents) < 80
    assert run(labelled, "--json").stdout == whole.stdout


def test_the_run_file_holds_the_first_row(run, labelled, tmp_path):
    qrels = read_qrels(labelled / "qrels" / "test.tsv")
    for options in ([], ["--mode", "dense", "--dims", "64"], ["--mode", "lexical"]):
        path = tmp_path / "out.trec"
        found = json.loads(run(labelled, "--json", "--run", path, *options).stdout)
        again = evaluate_run(qrels, read_run(path)).means()
        assert again == pytest.approx(found["results"][0]["metrics"], abs=1e-12)


def test_an_index_of_ones_own_is_measured(run, labelled, indexed, tmp_path):
    found = json.loads(run(labelled, "-i", indexed.folder, "--json").stdout)
    assert found == json.loads(json.dumps(evaluate(indexed, labelled).to_json()))
    assert not (tmp_path / "cache" / "datasets").exists()


def test_queries_and_judgements_of_ones_own(run, labelled, tmp_path):
    queries, qrels = tmp_path / "mine.tsv", tmp_path / "mine.qrels"
    queries.write_text("a\tbal car\nb\tdir for\n")
    qrels.write_text("a 0 d0001 1\nb 0 d0002 1\nc 0 d0003 1\n")
    result = run(labelled, "--queries", queries, "--qrels", qrels, "--json")
    found = json.loads(result.stdout)
    assert (found["queries"], found["split"]) == (2, "mine")
    assert result.stderr == "note: 1 judged query is not in the queries file: left out\n"


def test_the_table_is_the_report(run, labelled, indexed):
    assert run(labelled, "-i", indexed.folder).stdout == f"{evaluate(indexed, labelled)}\n"


def test_what_cannot_be_measured(run, labelled, tmp_path):
    def error(*arguments, code=1):
        result = run(*arguments, code=code)
        assert result.stdout == ""
        return result.stderr

    none = tmp_path / "none"
    assert error(none) == (
        f"Error: {none}: no such folder (expected one with corpus.jsonl in it)\n"
    )
    assert error(labelled, "-i", none) == (
        f"Error: {none}: no index there: make one with `semsearch index CORPUS -i {none}`\n"
    )
    assert "'64,x' is not a list such as 384,128" in error(labelled, "--dims", "64,x", code=2)
    for dims in ("0", "129", "64,-1"):
        assert "dims must be between 1 and 128" in error(labelled, "--dims", dims, code=2)
    assert "Missing argument 'DATASET'" in error(code=2)
    qrels = labelled / "qrels" / "test.tsv"
    qrels.write_text("query-id\tcorpus-id\tscore\nq1\td0001\tgood\n")
    assert error(labelled) == f"Error: {qrels}:2: the grade 'good' is not a whole number\n"
    qrels.write_text("q1\td0001\n")
    assert error(labelled).startswith(f"Error: {qrels}:1: expected `query document grade`")
    qrels.write_text("unheard\td0001\t1\n")
    assert "none of the queries that" in error(labelled)
    (labelled / "corpus.jsonl").unlink()
    qrels.write_text("q1\td0001\t1\n")
    assert error(labelled).startswith(f"Error: {labelled}: no corpus.jsonl in this folder")


def test_the_rules_of_the_numbers_are_printed(run):
    text = run("--explain-metrics").stdout
    assert "accuracy@k" in text
    assert "ndcg@k" in text.lower()


if os.environ.get("SLOW_TESTS"):

    @pytest.mark.slow
    def test_scifact_reaches_its_figures(tmp_path):
        folder = DATASETS / "scifact"
        assert folder.is_dir(), f"the dataset scifact is not in {DATASETS}"
        with semsearch.open(tmp_path / "scifact.idx") as index:
            index.add(semsearch.read_corpus(folder))
            report = evaluate(index, folder)
        values = {(row.mode, row.dims): row.metrics["ndcg@10"] for row in report.results}
        assert report.queries == 300
        assert values["dense", 384] == pytest.approx(0.645, abs=0.002)
        assert values["hybrid", 384] >= 0.70
        assert values["lexical", None] >= 0.66
