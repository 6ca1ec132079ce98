"""Run files measured without an index, gates, the worst queries, groups: on runs made by hand."""

import gzip
import json

import numpy as np
import pytest
from click.testing import CliRunner

import semsearch
from semsearch.cli.main import cli
from semsearch.corpus import BeirDataset, write_run
from semsearch.errors import InputError, UsageError
from semsearch.evaluation import Measuring, evaluate, evaluate_ranking
from semsearch.evaluation.gates import (
    Baseline,
    Limit,
    check_drop,
    check_gate,
    open_baseline,
    parse_drop,
    parse_gate,
)
from semsearch.evaluation.queries import query_results, worst_first
from semsearch.metrics import DEFAULT_MEASURES, bootstrap_interval, evaluate_run, paired_test
from tests.fakes import FakeEncoder, opened
from tests.test_evaluate import write_lines, write_set

DOCUMENTS = [
    semsearch.Document("d1", "bal car", "first title"),
    semsearch.Document("d2", "bal dir"),
    semsearch.Document("d3", "gol hir"),
]
QUERIES = {"q1": "bal\tcar", "q2": "dir", "q3": "gol", "q4": "hir"}
QRELS = {"q1": {"d1": 2, "d2": 1}, "q2": {"d2": 1}, "q3": {"d3": 1}, "q4": {"d1": 0}}
RUN = {
    "q1": {"d1": 3.0, "d2": 2.0, "d3": 1.0},
    "q2": {"d1": 3.0, "d3": 2.0, "d2": 1.0},
    "q3": {"d1": 1.0},
    "unjudged": {"d1": 1.0},
}
# mrr@10: q1 1, q2 1/3, q3 0; q4 has nothing relevant


@pytest.fixture
def labelled(tmp_path):
    folder = write_set(tmp_path / "set", DOCUMENTS, QUERIES, QRELS)
    kinds = {"q1": "a", "q2": "b"}
    lines = [{"_id": q, "text": t, "kind": kinds.get(q)} for q, t in QUERIES.items()]
    write_lines(folder / "queries.jsonl", lines)
    return folder


@pytest.fixture
def trec(tmp_path):
    path = tmp_path / "mine.trec"
    write_run(path, RUN)
    return path


@pytest.fixture
def run(labelled):
    def call(*arguments, code=0, dataset=labelled, stdin=None):
        command = ["evaluate", str(dataset), *map(str, arguments)]
        result = CliRunner().invoke(cli, command, input=stdin)
        assert result.exit_code == code, result.output
        return result

    return call


# Run files


def test_a_run_is_measured_without_an_index(labelled, trec):
    report = evaluate_ranking(trec, labelled)
    (row,) = report.results
    wanted = evaluate_run(QRELS, RUN)
    assert row.metrics == wanted.means()
    assert row.intervals == wanted.intervals()
    assert row.metrics["mrr@10"] == pytest.approx((1 + 1 / 3 + 0) / 3)
    assert (report.queries, report.skipped, report.split) == (3, 1, "test")
    assert (row.mode, row.name, row.dims, row.k) == ("run", "mine.trec", None, 3)
    assert evaluate_ranking(RUN, labelled, name="mine.trec") == report


def test_a_run_of_an_evaluation_gives_its_numbers_again(tmp_path, labelled, run):
    with opened(tmp_path / "idx", FakeEncoder()) as index:
        index.add(DOCUMENTS)
        report = evaluate(index, labelled, measuring=Measuring(keep_runs=True))
        write_run(tmp_path / "again.trec.gz", report.results[0].run or {})
    found = json.loads(run("--from-run", tmp_path / "again.trec.gz", "--json").stdout)
    assert found["results"][0]["metrics"] == pytest.approx(dict(report.results[0].metrics))


def test_judgements_are_enough_for_a_run_file(run, labelled, trec):
    whole = json.loads(run("--from-run", trec, "--json").stdout)
    qrels = labelled / "qrels" / "test.tsv"
    found = json.loads(run("--from-run", trec, "--json", dataset=qrels).stdout)
    assert found["results"][0]["metrics"] == whole["results"][0]["metrics"]
    assert found["split"] == "test"
    table = run("--from-run", trec, "--queries", labelled / "queries.jsonl", dataset=qrels).stdout
    assert table == run("--from-run", trec).stdout


def test_judgements_alone_are_not_enough_for_an_index(tmp_path, labelled):
    with opened(tmp_path / "idx", FakeEncoder()) as index:
        index.add(DOCUMENTS)
        with pytest.raises(UsageError, match="the judgements alone say nothing to search for"):
            evaluate(index, labelled / "qrels" / "test.tsv")


def test_a_run_of_other_queries_is_an_error(labelled):
    with pytest.raises(InputError) as caught:
        evaluate_ranking({"1": {"d1": 1.0}, "2": {}}, labelled, name="theirs")
    assert str(caught.value) == (
        "theirs: none of its 2 queries is judged: its ids are like '1', those of the judgements"
        " like 'q1'"
    )


def test_the_table_of_a_run_file(run, trec):
    lines = run("--from-run", trec, "--measure", "mrr@10", "--measure", "hit@3").stdout.splitlines()
    assert lines[0].split() == ["mode", "dims", "mrr@10", "hit@3"]
    assert lines[1].split()[:3] == [str(trec), "-", "0.444"]
    assert lines[1].endswith("0.667 [0.000, 1.000]")
    assert lines[2].endswith("is the 95 % bootstrap interval of mrr@10, hit@3")


def test_a_run_may_come_from_stdin(run, trec):
    found = run("--from-run", "-", "--json", stdin=trec.read_text())
    row = json.loads(found.stdout)["results"][0]
    assert row["name"] == "stdin"
    assert row["metrics"] == evaluate_run(QRELS, RUN).means()


@pytest.mark.parametrize("option", [["-i", "x"], ["--mode", "dense"], ["--dims", "8"], ["--fresh"]])
def test_a_run_file_has_no_index(run, trec, option):
    assert "goes with no option of an index" in run("--from-run", trec, *option, code=2).stderr


def test_an_index_in_the_environment_does_not_disturb_a_run_file(run, trec, monkeypatch):
    monkeypatch.setenv("SEMSEARCH_INDEX", "somewhere")
    assert run("--from-run", trec).stdout.startswith("mode")


# Gates


def test_gates_as_people_write_them():
    assert parse_gate("ndcg@10=0.60") == Limit("ndcg@10", 0.6)
    assert parse_gate(" nDCG@10=1") == Limit("nDCG@10", 1.0)
    assert parse_drop("0.01") == Limit("ndcg@10", 0.01)
    assert parse_drop("mrr@10=0") == Limit("mrr@10", 0.0)
    for text in ("ndcg@10", "ndcg@10=", "ndcg@10=high", "ndcg@10=60", "ndcg@10=-1", "ndcg@10=nan"):
        with pytest.raises(UsageError, match="is not a gate such as"):
            parse_gate(text)
    for text in ("", "x", "-0.1", "mrr@10=2", "nan"):
        with pytest.raises(UsageError, match="is not a drop such as"):
            parse_drop(text)
    with pytest.raises(UsageError, match="unknown measure 'best'"):
        parse_gate("best=0.5")


def test_a_gate_on_the_value():
    found = evaluate_run(QRELS, RUN, ["mrr@10"])
    passed = check_gate(Limit("mrr@10", 4 / 9), found)
    failed = check_gate(Limit("mrr@10", 0.45), found)
    assert (passed.passed, failed.passed) == (True, False)
    assert passed.value == pytest.approx(4 / 9)
    assert passed.interval == bootstrap_interval([1, 1 / 3, 0])
    assert str(failed) == "mrr@10 is 0.4444 [0.0000, 1.0000], wanted 0.45 or more"


def test_a_gate_on_the_drop():
    better = {**RUN, "q2": {"d2": 1.0}}
    before, after = (evaluate_run(QRELS, run, ["mrr@10"]) for run in (better, RUN))
    baseline = Baseline(before.means(), before)
    drop = (1 + 1) / 3 - (1 + 1 / 3) / 3
    assert check_drop(Limit("mrr@10", drop), after, baseline).passed
    assert check_drop(Limit("mrr@10", 0.0), before, baseline).passed
    assert check_drop(Limit("mrr@10", 0.0), before, Baseline(after.means(), after)).passed
    failed = check_drop(Limit("mrr@10", 0.2), after, baseline)
    test = paired_test(after.per_query("mrr@10"), before.per_query("mrr@10"))
    assert not failed.passed
    assert failed.difference == pytest.approx(-drop)
    assert (failed.interval, failed.p) == ((test.low, test.high), test.p)
    assert failed.p == 1.0, "one query of three: it fails nevertheless"
    assert str(failed) == (
        "mrr@10 is 0.4444, -0.2222 [-0.6667, 0.0000] against 0.6667, p 1.000;"
        " wanted a drop of 0.2 or less"
    )


def test_gates_on_the_command_line(run, trec):
    result = run("--from-run", trec, "--gate", "mrr@10=0.4", "--gate", "hit_rate@2=0.3")
    assert result.stdout.splitlines()[-2:] == [
        "gate passed: mrr@10 is 0.4444 [0.0000, 1.0000], wanted 0.4 or more",
        "gate passed: hit_rate@2 is 0.3333 [0.0000, 1.0000], wanted 0.3 or more",
    ]
    result = run("--from-run", trec, "--gate", "mrr@10=0.5", "--gate", "accuracy@2=0.3", code=3)
    assert result.stderr == ("gate failed: mrr@10 is 0.4444 [0.0000, 1.0000], wanted 0.5 or more\n")
    assert "gate passed: accuracy@2" in result.stdout
    result = run("--from-run", trec, "--gate", "mrr@10=0.5", "--json", code=3)
    assert json.loads(result.stdout)["gates"] == [
        {
            "measure": "mrr@10",
            "value": pytest.approx(4 / 9),
            "passed": False,
            "at_least": 0.5,
            "interval": [0.0, 1.0],
        }
    ]
    assert result.stderr.startswith("gate failed: ")


def test_a_drop_against_a_run_file(run, trec, tmp_path):
    write_run(tmp_path / "before.trec", {**RUN, "q2": {"d2": 1.0}})
    drop = ["--from-run", trec, "--baseline", tmp_path / "before.trec", "--max-drop"]
    failed = run(*drop, "mrr@10=0.1", "--max-drop", "accuracy@10=0", code=3)
    assert failed.stderr.count("\n") == 1
    assert failed.stderr.startswith("gate failed: mrr@10 is 0.4444, -0.2222 [")
    assert "gate passed: accuracy@10 is 0.6667, 0.0000 [0.0000, 0.0000]" in failed.stdout
    assert "gate passed: mrr@10 is 0.4444, -0.2222" in run(*drop, "mrr@10=0.3").stdout
    gate = json.loads(run(*drop, "0.5", "--json").stdout)["gates"][0]
    assert (gate["measure"], gate["max_drop"], gate["passed"]) == ("ndcg@10", 0.5, True)
    assert gate["difference"] == gate["value"] - gate["baseline"] < 0
    assert gate["interval"][0] < gate["difference"] < gate["interval"][1] <= 0


def test_a_drop_against_an_earlier_json(run, trec, tmp_path):
    write_run(tmp_path / "before.trec", {**RUN, "q2": {"d2": 1.0}})
    earlier = tmp_path / "before.json"
    earlier.write_text(run("--from-run", tmp_path / "before.trec", "--json").stdout)
    drop = ["--from-run", trec, "--baseline", earlier, "--max-drop"]
    assert run(*drop, "mrr@10=0.1", code=3).stderr == (
        "gate failed: mrr@10 is 0.4444, -0.2222 against 0.6667; wanted a drop of 0.1 or less\n"
    )
    assert "gate passed" in run(*drop, "MRR@10=0.3").stdout
    assert "the baseline has no mrr@7" in run(*drop, "mrr@7=0.3", code=2).stderr
    found = json.loads(earlier.read_text())
    earlier.write_text(json.dumps({**found, "queries": 7}))
    assert f"{earlier}: measured on 7 queries, and here are 3" in run(*drop, "0", code=1).stderr
    for text in ("{}", '{"results": [], "queries": 3}', "{", '{"results": [{"metrics": 3}]}'):
        earlier.write_text(text)
        assert "neither a run file nor what" in run(*drop, "0", code=1).stderr


def test_a_baseline_of_other_queries(labelled, tmp_path):
    write_run(tmp_path / "other.trec", {"x": {"d1": 1.0}})
    with pytest.raises(InputError, match="none of its 1 queries is judged"):
        open_baseline(tmp_path / "other.trec", BeirDataset.open(labelled), Measuring())


def test_options_of_gates_that_make_no_sense(run, trec):
    for options in (["--baseline", trec], ["--max-drop", "0.01"]):
        result = run("--from-run", trec, *options, code=2)
        assert "--baseline and --max-drop belong together" in result.stderr
    assert "is not a gate such as" in run("--from-run", trec, "--gate", "0.6", code=2).stderr


def test_gates_are_about_the_first_row(tmp_path, run, monkeypatch):
    encoder = FakeEncoder()
    monkeypatch.setattr("semsearch.encoders.open_encoder", lambda *_, **__: encoder)
    with opened(tmp_path / "idx", encoder) as index:
        index.add(DOCUMENTS)
    qrels = tmp_path / "hard.qrels"
    qrels.write_text("q1 0 d3 1\n")  # words do not find it, vectors do
    arguments = ["-i", tmp_path / "idx", "--qrels", qrels, "--gate", "recall@10=1"]
    found = json.loads(run(*arguments, "--json").stdout)
    assert [r["metrics"]["recall@10"] for r in found["results"]] == [1.0, 1.0, 1.0, 0.0]
    assert found["gates"][0]["value"] == 1.0
    assert "recall@10 is 0.0000" in run(*arguments, "--mode", "lexical", code=3).stderr


# Queries


def test_the_worst_queries_come_first(labelled):
    dataset = BeirDataset.open(labelled)
    found = query_results(dataset, evaluate_run(QRELS, RUN), RUN, "mrr@10")
    assert [r.query_id for r in found] == ["q3", "q2", "q1"]
    third, second, first = found
    assert (third.top, third.top_grade, third.found, third.rank) == ("d1", None, None, None)
    assert (second.top, second.top_grade, second.found, second.rank) == ("d1", None, "d2", 3)
    assert (first.top, first.top_grade, first.found, first.rank) == ("d1", 2, "d1", 1)
    assert [r.relevant for r in found] == [1, 1, 2]
    assert [r.metrics["mrr@10"] for r in found] == pytest.approx([0, 1 / 3, 1])
    assert set(first.metrics) == set(DEFAULT_MEASURES)
    assert [r.query_id for r in query_results(dataset, evaluate_run(QRELS, RUN), RUN, most=1)] == [
        "q3"
    ]


def test_queries_that_are_equally_bad_go_by_the_other_measures():
    qrels = {f"q{n}": {"a": 1} for n in range(4)}
    deep = {f"x{n:02}": 99.0 - n for n in range(20)} | {"a": 1.0}
    found = evaluate_run(qrels, {"q0": deep, "q3": {"a": 1.0}})
    assert [found.query_ids[place] for place in worst_first(found)] == ["q1", "q2", "q0", "q3"]


def test_hits_that_are_the_query_are_not_its_first_hit(tmp_path):
    folder = write_set(tmp_path / "set", DOCUMENTS, {"d1": "bal"}, {"d1": {"d2": 1}})
    run = {"d1": {"d1": 2.0, "d2": 1.0}}
    evaluation = evaluate_run({"d1": {"d2": 1}}, run, ignore_identical_ids=True)
    dataset = BeirDataset.open(folder)
    (kept,) = query_results(dataset, evaluation, run)
    (dropped,) = query_results(dataset, evaluation, run, ignore_identical_ids=True)
    assert (kept.top, kept.rank, dropped.top, dropped.rank) == ("d1", 2, "d2", 1)


def test_the_table_of_queries(run, trec, tmp_path):
    lines = run("--from-run", trec, "--per-query", "-").stdout.splitlines()
    header = lines[0].split("\t")
    assert header == [
        "query_id",
        *DEFAULT_MEASURES,
        "relevant",
        "top_hit",
        "top_hit_grade",
        "best_relevant",
        "best_relevant_rank",
        "text",
    ]
    rows = [dict(zip(header, line.split("\t"), strict=True)) for line in lines[1:]]
    assert [row["query_id"] for row in rows] == ["q3", "q2", "q1"]
    assert rows[0]["best_relevant"] == rows[0]["top_hit_grade"] == ""
    assert (rows[1]["mrr@10"], rows[1]["best_relevant_rank"]) == ("0.333333", "3")
    assert rows[2]["text"] == "bal car", "a tab within a text becomes a space"
    run("--from-run", trec, "--per-query", tmp_path / "all.tsv")
    assert (tmp_path / "all.tsv").read_text().splitlines() == lines
    run("--from-run", trec, "--per-query", tmp_path / "all.jsonl.gz")
    records = gzip.decompress((tmp_path / "all.jsonl.gz").read_bytes()).splitlines()
    record = json.loads(records[2])
    assert (record["text"], record["ndcg@10"], record["top_hit_grade"]) == ("bal\tcar", 1.0, 2)
    result = run("--from-run", trec, "--per-query", "-", "--json", code=2)
    assert "both print on stdout" in result.stderr


def test_the_worst_queries_are_shown(run, trec):
    lines = run("--from-run", trec, "--worst", "2").stdout.splitlines()
    assert lines[-7:] == [
        f"the worst queries of {trec} by ndcg@10; + is the relevant document ranked best",
        "0.000   q3  gol",
        "   1    d1 (not judged)",
        "   -  + 1 relevant document not found",
        "0.500   q2  dir",
        "   1    d1 (not judged)",
        "   3  + d2",
    ]
    found = json.loads(run("--from-run", trec, "--worst", "2", "--json").stdout)["worst"]
    assert [record["query_id"] for record in found] == ["q3", "q2"]


def test_titles_are_shown_where_there_is_an_index(tmp_path, labelled, run, monkeypatch):
    encoder = FakeEncoder()
    monkeypatch.setattr("semsearch.encoders.open_encoder", lambda *_, **__: encoder)
    with opened(tmp_path / "idx", encoder) as index:
        index.add(DOCUMENTS)
    qrels = tmp_path / "hard.qrels"
    qrels.write_text("q1 0 d3 1\n")
    shown = run("-i", tmp_path / "idx", "--mode", "dense", "--qrels", qrels, "--worst", "5").stdout
    assert "\n   1    d1 (not judged)  first title\n" in shown
    assert shown.splitlines()[-1] in ("   2  + d3  gol hir", "   3  + d3  gol hir")


# Groups


def test_groups_of_an_evaluation(run, labelled, trec):
    report = evaluate_ranking(trec, labelled, measuring=Measuring(("mrr@10",), group_by="kind"))
    groups = [(g.value, g.queries, g.metrics["mrr@10"]) for g in report.results[0].groups]
    assert groups == [("a", 1, 1.0), ("b", 1, pytest.approx(1 / 3)), ("(none)", 1, 0.0)]
    lines = run("--from-run", trec, "--group-by", "kind", "--measure", "mrr@10").stdout.splitlines()
    assert [line.split() for line in lines[-5:]] == [
        ["by", "kind,", str(trec)],
        ["kind", "queries", "mrr@10"],
        ["a", "1", "1.000"],
        ["b", "1", "0.333"],
        ["(none)", "1", "0.000"],
    ]
    found = json.loads(run("--from-run", trec, "--group-by", "kind", "--json").stdout)
    assert found["group_by"] == "kind"
    assert found["results"][0]["groups"][1]["value"] == "b"
    assert found["results"][0]["groups"][1]["metrics"]["mrr@10"] == pytest.approx(1 / 3)


def test_a_report_of_other_measures_can_be_printed(tmp_path, labelled):
    with opened(tmp_path / "idx", FakeEncoder()) as index:
        index.add(DOCUMENTS)
        report = evaluate(index, labelled, measuring=Measuring(("p@2",), group_by="kind"))
        with pytest.raises(UsageError, match="no measure given"):
            evaluate(index, labelled, measuring=Measuring(()))
    lines = str(report).splitlines()
    assert lines[0].split() == ["mode", "rerank", "dims", "p@2"]
    assert "; [low, high] is the 95 % bootstrap interval of p@2" in lines[5]
    at = lines.index("by kind, hybrid + self 32")
    assert [line.split()[:2] for line in lines[at + 1 :]] == [
        ["kind", "queries"],
        ["a", "1"],
        ["b", "1"],
        ["(none)", "1"],
    ]


def test_every_row_of_an_index_has_its_groups(tmp_path, labelled):
    with opened(tmp_path / "idx", FakeEncoder()) as index:
        index.add(DOCUMENTS)
        report = evaluate(index, labelled, measuring=Measuring(group_by="kind"))
    for row in report.results:
        assert row.evaluation is not None
        values = row.evaluation.per_query("ndcg@10")
        means = {g.value: g.metrics["ndcg@10"] for g in row.groups}
        wanted = zip(["a", "b", "(none)"], values, strict=True)
        assert means == {name: pytest.approx(value) for name, value in wanted}
        assert np.mean(values) == pytest.approx(row.metrics["ndcg@10"])


def test_a_field_that_no_query_has(run, trec):
    result = run("--from-run", trec, "--group-by", "topic", code=2)
    assert "no query has the field 'topic': there is kind" in result.stderr
