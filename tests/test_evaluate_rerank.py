"""What measuring says of rerankers and tuned rankings: the rows, their runs, the notes."""

import json
from typing import cast

import pytest
from click.testing import CliRunner

import semsearch
from semsearch.cli.main import cli
from semsearch.collection.layout import Layout
from semsearch.collection.writer import open_for_writing
from semsearch.corpus import BeirDataset, read_run
from semsearch.errors import UsageError
from semsearch.evaluation import Measuring, Report, ResultRow, compare, evaluate
from semsearch.evaluation.measure import as_run, evaluate_pipelines
from semsearch.evaluation.pipelines import Pipeline, Wanted, parse_pipeline
from semsearch.evaluation.systems import parse_system, short_names
from semsearch.metrics import evaluate_run
from semsearch.ranking.settings import Ranking
from semsearch.ranking.tuned import record_ranking
from semsearch.search.options import Mode, Options
from tests.cross_encoder_models import build_cross_encoder
from tests.fakes import FakeEncoder, make_documents, opened
from tests.test_evaluate import write_set

KEEP = Measuring(keep_runs=True)


@pytest.fixture
def encoder():
    return FakeEncoder(128)


@pytest.fixture
def labelled(tmp_path):
    documents = make_documents(80, seed=5)
    queries = {f"q{n}": " ".join(documents[7 * n].text.split()[n % 3 :: 3]) for n in range(10)}
    qrels = {f"q{n}": {documents[7 * n].id: 1} for n in range(10)}
    return write_set(tmp_path / "set", documents, queries, qrels)


@pytest.fixture
def indexed(tmp_path, labelled, encoder):
    with opened(tmp_path / "made.idx", encoder) as index:
        index.add(semsearch.read_corpus(labelled))
        yield index


def ranked(index, labelled, options):
    """What searching gives for the set's queries, 100 hits each."""
    data = BeirDataset.open(labelled)
    return as_run(data, index.searcher.rank([q.text for q in data.queries], 100, options))


def mode_of(row: ResultRow) -> Mode:
    return cast("Mode", row.mode)


def tune_to(index, ranking):
    with open_for_writing(Layout(index.folder)) as writer:
        record_ranking(writer, ranking)
    index.close()  # an open searcher looks it up once


# Rows


def test_every_row_is_what_searching_with_its_options_gives(indexed, labelled):
    report = evaluate(indexed, labelled, measuring=KEEP)
    for row in report.results:
        options = Options(mode_of(row), row.dims, exact=True, rerank=row.rerank)
        assert row.run == ranked(indexed, labelled, options)
    default, fused = report.results[:2]
    assert (default.rerank, fused.rerank) == ("self", "none")
    assert default.run == ranked(indexed, labelled, Options())
    assert default.run != fused.run


def test_a_reranker_alone_is_the_default_pipeline_with_it(indexed, labelled):
    (row,) = evaluate(indexed, labelled, rerank="none", measuring=KEEP).results
    assert (row.mode, row.dims, row.rerank) == ("hybrid", 128, "none")
    assert row.run == ranked(indexed, labelled, Options(rerank="none"))


def test_modes_are_reranked_as_query_does_unless_told(indexed, labelled):
    rows = evaluate(indexed, labelled, modes=["hybrid", "dense"], dims=[64]).results
    assert [(row.mode, row.rerank) for row in rows] == [("hybrid", "self"), ("dense", "none")]
    modes: list[Mode] = ["dense", "lexical"]
    rows = evaluate(indexed, labelled, modes=modes, rerank="self", measuring=KEEP).results
    assert [(r.mode, r.dims, r.rerank) for r in rows] == [
        ("dense", 128, "self"),
        ("lexical", None, "self"),
    ]
    for row in rows:
        assert row.run == ranked(indexed, labelled, Options(mode_of(row), rerank="self"))


def test_another_ranking_changes_what_it_names(indexed, labelled):
    ranking = Ranking(fusion="rrf", rerank_weight=0.9)
    report = evaluate_pipelines(indexed, labelled, Wanted(ranking=ranking), measuring=KEEP)
    (row,) = report.results
    assert row.rerank == "self"
    assert row.run == ranked(indexed, labelled, Options(ranking=ranking))
    assert "ranking: fusion rrf, rerank_weight 0.9" in str(report).splitlines()
    assert report.to_json()["ranking"]["fusion"] == "rrf"
    assert "tuned" not in report.to_json()


def test_a_tuned_index_is_measured_as_it_searches_and_says_so(indexed, labelled):
    assert "ranking" not in evaluate(indexed, labelled).to_json()
    ranking = Ranking(fusion="zscore", rerank="none")
    tune_to(indexed, ranking)
    report = evaluate(indexed, labelled, measuring=KEEP)
    assert report.results[0].rerank == "none"
    assert report.results[0].run == ranked(indexed, labelled, Options(ranking=ranking))
    assert "this index was tuned: fusion zscore, rerank none" in str(report).splitlines()
    assert (report.tuned, report.ranking) == (True, ranking)
    assert report.to_json()["tuned"] is True
    told = evaluate_pipelines(indexed, labelled, Wanted(ranking=Ranking()))
    assert not told.tuned


# Notes


def report_of(first, *others):
    qrels = {f"q{n}": {"good": 1} for n in range(40)}
    rows = []
    for mode, rerank, dims, place in (first, *others):
        run = {name: {"good": 1.0 / place, "bad": 0.6} for name in qrels}
        found = evaluate_run(qrels, run, ["ndcg@10"])
        rows.append(ResultRow(mode, dims, rerank, 100, found.means(), evaluation=found))
    return Report(40, 0, "test", "1", tuple(rows))


@pytest.mark.parametrize(
    ("first", "other", "advice"),
    [
        (("hybrid", "self"), ("hybrid", "none"), "--rerank none"),
        (("hybrid", "self"), ("dense", "none"), "--mode dense"),
        (("dense", "none"), ("dense", "self"), "--rerank self"),
        (("hybrid", "none"), ("lexical", "self"), "--mode lexical --rerank self"),
    ],
)
def test_the_note_names_the_options_of_what_is_better(first, other, advice):
    text = str(report_of((*first, 64, 2), (*other, 64, 1)))
    assert text.endswith(f": use {advice}")


def test_a_narrower_row_of_the_same_mode_is_no_advice():
    text = str(report_of(("hybrid", "self", 64, 2), ("hybrid", "none", 32, 1)))
    assert ": use" not in text


# As people write it


def test_the_written_form_names_the_reranker():
    assert parse_pipeline("hybrid+none") == Pipeline("hybrid", 0, False, "none")
    assert parse_pipeline("dense@64+self") == Pipeline("dense", 64, False, "self")
    assert parse_pipeline("lexical+/a/b+c") == Pipeline("lexical", 0, False, "/a/b+c")
    assert parse_pipeline("hybrid+") is None
    with pytest.raises(UsageError, match="no dimensions"):
        parse_pipeline("lexical@64+self")


def test_systems_of_a_folder_with_a_reranker(tmp_path):
    folder = tmp_path / "a:b.idx"
    folder.mkdir()
    found = parse_system(f"{folder}:dense@64+models/x:1")
    assert (found.folder, found.pipeline) == (folder, Pipeline("dense", 64, False, "models/x:1"))
    named = parse_system("mine=hybrid+none")
    assert (named.name, named.pipeline) == ("mine", Pipeline("hybrid", 0, False, "none"))
    names = ["hybrid", "hybrid+/models/x.y", "/indexes/a.idx:dense@64+self"]
    assert short_names(names) == ["hybrid", "hybrid+x.y", "a.idx:dense@64+self"]


def test_compare_ranks_as_it_is_written(indexed, labelled):
    ways = {"plain": "hybrid+none", "default": "hybrid", "words": "lexical+self"}
    found = compare({name: (indexed, way) for name, way in ways.items()}, labelled)
    runs = {system.name: system.run for system in found.systems}
    assert runs["plain"] == ranked(indexed, labelled, Options(rerank="none"))
    assert runs["default"] == ranked(indexed, labelled, Options())
    assert runs["words"] == ranked(indexed, labelled, Options("lexical", rerank="self"))


# The command


@pytest.fixture
def run(tmp_path, indexed, labelled, encoder, monkeypatch):
    monkeypatch.setattr("semsearch.encoders.open_encoder", lambda *_, **__: encoder)

    def invoke(command, *arguments):
        words = [command, *map(str, arguments), "-i", str(indexed.folder)]
        return CliRunner().invoke(cli, words)

    return invoke


def test_the_default_row_is_what_query_answers_hit_for_hit(run, labelled, tmp_path):
    written, asked = tmp_path / "evaluated.trec", tmp_path / "asked.trec"
    assert run("evaluate", labelled, "--run", written).exit_code == 0
    queries = labelled / "queries.jsonl"
    assert run("query", "--queries", queries, "--run", asked).exit_code == 0
    assert written.read_text() == asked.read_text()
    rankings = read_run(written)
    for query in BeirDataset.open(labelled).queries:
        hits = json.loads(run("query", query.text, "-k", 10, "--json").stdout)
        assert [hit["id"] for hit in hits] == list(rankings[query.id])[:10]
        for hit in hits:
            assert hit["score"] == pytest.approx(rankings[query.id][hit["id"]], abs=1e-6)


def test_evaluate_takes_a_reranker_and_settings(run, labelled, indexed):
    result = run("evaluate", labelled, "--rerank", "none", "--ranking", "fusion=rrf", "--json")
    report = json.loads(result.stdout)
    assert [(r["mode"], r["rerank"]) for r in report["results"]] == [("hybrid", "none")]
    wanted = Wanted(rerank="none", ranking=Ranking(fusion="rrf"))
    (row,) = evaluate_pipelines(indexed, labelled, wanted).results
    assert report["results"][0]["metrics"] == row.metrics
    assert report["ranking"]["fusion"] == "rrf"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--ranking", "fusion"], "is not KEY=VALUE"),
        (["--ranking", "speed=3"], "unknown setting 'speed'"),
        (["--ranking", "depth=many"], "depth=many is not a number"),
        (["--from-run", __file__, "--rerank", "self"], "no option of an index"),
        (["--from-run", __file__, "--ranking", "depth=9"], "no option of an index"),
    ],
)
def test_bad_settings_are_refused(run, labelled, arguments, message):
    result = run("evaluate", labelled, *arguments)
    assert result.exit_code == 2
    assert message in result.stderr


def test_the_page_tells_the_default_from_the_fusion(run, labelled, tmp_path):
    page = tmp_path / "page.html"
    assert run("evaluate", labelled, "--report", page).exit_code == 0
    text = page.read_text()
    assert "hybrid + self 128" in text
    assert "hybrid 128" in text


def test_a_cross_encoder_is_named_by_its_folder(run, indexed, labelled, tmp_path):
    folder = str(build_cross_encoder("bert", tmp_path / "pairs"))
    (row,) = evaluate(indexed, labelled, rerank=folder, measuring=KEEP).results
    assert (row.mode, row.rerank) == ("hybrid", folder)
    assert row.run == ranked(indexed, labelled, Options(rerank=folder))
    result = run("compare", labelled, "hybrid+none", f"hybrid+{folder}", "--json")
    assert [system["name"] for system in json.loads(result.stdout)["systems"]] == [
        "hybrid+none",
        "hybrid+bert",
    ]
