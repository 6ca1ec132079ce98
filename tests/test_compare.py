"""Comparisons: what is counted and tested is counted again here, by hand."""

import gzip
import json
import math

import numpy as np
import pytest
from click.testing import CliRunner

import semsearch
import semsearch.encoders
from semsearch.cli.main import cli
from semsearch.corpus import BeirDataset, read_qrels, write_run
from semsearch.errors import InputError, NotFound, UsageError
from semsearch.evaluation import compare
from semsearch.evaluation.pipelines import Pipeline, default_pipeline, parse_pipeline
from semsearch.evaluation.systems import Source, Written, parse_system, short_names
from semsearch.metrics import bootstrap_interval, evaluate_run, paired_test
from semsearch.search.options import Options
from tests.fakes import FakeEncoder, make_documents, opened
from tests.test_evaluate import write_lines, write_set

TEXTS = {"q1": "one", "q2": "two", "q3": "three", "q4": "four", "q5": "five"}
KINDS = {"q1": "how", "q2": "how", "q3": "what", "q4": ["what", "why"]}


def ranking(*documents):
    return {document: 1.0 / rank for rank, document in enumerate(documents, 1)}


QRELS = {query: {"right": 1} for query in TEXTS}
FIRST, SECOND, THIRD = ranking("right"), ranking("x", "right"), ranking("x", "y", "right")
# mrr@10 of the baseline: 1, 1/2, 1/3, 0, 1
BASE = {"q1": FIRST, "q2": SECOND, "q3": THIRD, "q5": FIRST}
# one win (q2), one loss (q5), and from nothing to 1/3 in q4
OTHER = {"q1": FIRST, "q2": FIRST, "q3": THIRD, "q4": THIRD, "q5": SECOND}


@pytest.fixture
def labelled(tmp_path):
    folder = write_set(tmp_path / "set", make_documents(3), TEXTS, QRELS)
    lines = [{"_id": q, "text": t, "metadata": {"kind": KINDS.get(q)}} for q, t in TEXTS.items()]
    write_lines(folder / "queries.jsonl", lines)
    return folder


@pytest.fixture
def files(tmp_path):
    write_run(tmp_path / "base.trec", BASE)
    write_run(tmp_path / "other.trec.gz", OTHER)
    return tmp_path / "base.trec", tmp_path / "other.trec.gz"


def test_a_comparison_that_can_be_checked_in_the_head(labelled):
    found = compare({"a": BASE, "b": OTHER}, labelled, measures=["mrr@10"])
    before = [1, 1 / 2, 1 / 3, 0, 1]
    after = [1, 1, 1 / 3, 1 / 3, 1 / 2]
    a, b = found.systems
    assert (a.name, b.name, found.queries, found.split) == ("a", "b", 5, "test")
    assert a.metrics["mrr@10"] == pytest.approx(np.mean(before))
    assert b.metrics["mrr@10"] == pytest.approx(np.mean(after))
    assert a.differences == {}
    change = b.differences["mrr@10"]
    assert change.difference == pytest.approx(np.mean(after) - np.mean(before))
    assert (change.wins, change.ties, change.losses) == (2, 2, 1)
    # Signs of 1/2, 1/3, -1/2: sums of +-1/2 +-1/3 +-1/2 reach 1/3 in all 8 cases.
    assert change.p == change.p_holm == 1.0
    assert change.interval == pytest.approx(bootstrap_interval(np.subtract(after, before)))
    assert found.baseline is a
    assert [(m.query_id, m.baseline, m.value) for m in found.moved(b)] == [
        ("q2", 0.5, 1.0),
        ("q4", 0.0, pytest.approx(1 / 3)),
        ("q5", 1.0, 0.5),
    ]
    assert [m.text for m in found.moved(b, most=1)] == ["two", "five"]


def random_run(seed, queries):
    random = np.random.default_rng(seed)
    return {q: ranking(*random.permutation(["right", *"abcdefghijkl"]).tolist()) for q in queries}


def test_several_systems_are_each_tested_against_the_first(tmp_path):
    queries = {f"q{n:02}": f"text {n}" for n in range(30)}
    qrels = {q: {"right": 1, "b": 1} for q in queries}
    folder = write_set(tmp_path / "set", make_documents(2), queries, qrels)
    runs = {f"s{n}": random_run(n, queries) for n in range(4)}
    found = compare(runs, folder)
    assert found.measures == ("ndcg@10", "mrr@10", "recall@100")
    for measure in found.measures:
        values = [evaluate_run(qrels, run).per_query(measure) for run in runs.values()]
        tests = [paired_test(other, values[0]) for other in values[1:]]
        ranked = sorted(test.p for test in tests)
        for system, test, mine in zip(found.systems[1:], tests, values[1:], strict=True):
            change = system.differences[measure]
            assert change.p == test.p
            assert change.interval == (test.low, test.high)
            assert change.difference == test.difference
            steps = [(3 - i) * p for i, p in enumerate(ranked) if p <= test.p]
            assert change.p_holm == pytest.approx(min(1.0, max(steps)))
            assert change.wins == (mine > values[0] + 1e-9).sum()
            assert change.losses == (mine < values[0] - 1e-9).sum()
            assert change.wins + change.ties + change.losses == 30
    alone = compare({"s0": runs["s0"], "s1": runs["s1"]}, folder, measures=["mrr@10"])
    assert alone.systems[1].differences["mrr@10"].p_holm == found.systems[1].differences["mrr@10"].p


def test_groups_are_compared_too(labelled):
    found = compare({"a": BASE, "b": OTHER}, labelled, measures=["mrr@10"], group_by="kind")
    groups = found.systems[1].groups
    assert [(g.value, g.queries) for g in groups] == [
        ("how", 2),
        ("what", 2),
        ("why", 1),
        ("(none)", 1),
    ]
    assert [g.metrics["mrr@10"] for g in groups] == pytest.approx([1, 1 / 3, 1 / 3, 1 / 2])
    wanted = [1 / 4, 1 / 6, 1 / 3, -1 / 2]
    assert [g.differences["mrr@10"] for g in groups] == pytest.approx(wanted)
    assert all(g.intervals == {} == g.difference_intervals for g in groups), "too few queries"
    assert [g.differences for g in found.baseline.groups] == [{}] * 4


def test_groups_of_enough_queries_have_intervals(tmp_path):
    queries = {f"q{n:02}": f"text {n}" for n in range(25)}
    qrels = {q: {"right": 1} for q in queries}
    folder = write_set(tmp_path / "set", make_documents(2), queries, qrels)
    rows = [{"_id": q, "text": t, "long": n >= 10} for n, (q, t) in enumerate(queries.items())]
    write_lines(folder / "queries.jsonl", rows)
    runs = {"a": random_run(1, queries), "b": random_run(2, queries)}
    found = compare(runs, folder, measures=["mrr@10"], group_by="long")
    a, b = (evaluate_run(qrels, run).per_query("mrr@10") for run in runs.values())
    true, false = found.systems[1].groups
    assert (true.value, true.queries, false.value, false.queries) == ("true", 15, "false", 10)
    assert true.intervals["mrr@10"] == bootstrap_interval(b[10:])
    assert false.difference_intervals["mrr@10"] == bootstrap_interval((b - a)[:10])


def test_a_field_that_no_query_has(labelled):
    with pytest.raises(UsageError) as caught:
        compare({"a": BASE, "b": OTHER}, labelled, group_by="topic")
    assert str(caught.value) == "no query has the field 'topic': there is kind"


def test_the_json_of_a_comparison(labelled):
    found = compare({"a": BASE, "b": OTHER}, labelled, measures=["mrr@10"], group_by="kind")
    data = json.loads(json.dumps(found.to_json(moved=2)))
    assert data["queries"] == 5
    assert (data["baseline"], data["measures"], data["group_by"]) == ("a", ["mrr@10"], "kind")
    a, b = data["systems"]
    assert a["against_baseline"] == {}
    assert "moved" not in a
    assert a["without_results"] == 1
    assert a["unjudged@10"] == pytest.approx(3 / 7)
    change = b["against_baseline"]["mrr@10"]
    assert change.keys() == {"difference", "interval", "p", "p_holm", "wins", "ties", "losses"}
    assert [m["query_id"] for m in b["moved"]] == ["q2", "q4", "q5"]
    assert b["moved"][2] == {
        "query_id": "q5",
        "text": "five",
        "baseline": 1.0,
        "value": 0.5,
        "difference": -0.5,
    }
    assert b["groups"][0]["differences"] == {"mrr@10": 0.25}


def test_run_files_need_no_more_than_judgements(labelled, files):
    found = compare(files, labelled / "qrels" / "test.tsv")
    whole = compare(files, labelled)
    assert [s.metrics for s in found.systems] == [s.metrics for s in whole.systems]
    assert found.systems[1].differences == whole.systems[1].differences
    assert {m.text for m in found.moved(found.systems[1])} == {""}


def test_indexes_and_their_ways_to_search_are_served_as_search_does(tmp_path):
    encoder = FakeEncoder(64)
    documents = make_documents(60, seed=3)
    queries = {f"q{n}": documents[4 * n].text[:12] for n in range(10)}
    qrels = {f"q{n}": {documents[4 * n].id: 1} for n in range(10)}
    folder = write_set(tmp_path / "set", documents, queries, qrels)
    with opened(tmp_path / "idx", encoder) as index:
        index.add(documents)
        calls = encoder.calls
        systems: list[Source] = [index, (index, "dense"), (index, "dense@16"), (index, "lexical")]
        found = compare(systems, folder, measures=["ndcg@10"])
        assert encoder.calls == calls + 1, "the queries are encoded once"
        asked = [Options(), Options("dense"), Options("dense", 16), Options("lexical")]
        for system, options in zip(found.systems, asked, strict=True):
            ranked = index.searcher.rank(list(queries.values()), 100, options)
            run = {q: {r.id: r.score for r in row} for q, row in zip(queries, ranked, strict=True)}
            np.testing.assert_array_equal(
                system.evaluation.per_query("ndcg@10"),
                evaluate_run(qrels, run, ["ndcg@10"]).per_query("ndcg@10"),
            )
            assert system.missing_documents == 0
        with pytest.raises(UsageError, match="dims must be between 1 and 64"):
            compare([index, (index, "dense@65")], folder)
        with pytest.raises(UsageError, match="the judgements alone say nothing to search for"):
            compare([index, (index, "dense")], folder / "qrels" / "test.tsv")


def test_rankings_are_as_deep_as_the_measures_look(tmp_path):
    encoder = FakeEncoder(16)
    documents = make_documents(300, seed=4)
    queries = {"q": documents[0].text}
    qrels = {"q": {document.id: 1 for document in documents}}
    folder = write_set(tmp_path / "set", documents, queries, qrels)
    with opened(tmp_path / "idx", encoder) as index:
        index.add(documents)
        pair = [(index, "dense"), (index, "dense@8")]
        found = compare(pair, folder, measures=["recall@100", "recall@250"])
    assert found.baseline.metrics == pytest.approx({"recall@100": 1 / 3, "recall@250": 250 / 300})


@pytest.mark.parametrize(
    ("systems", "error", "message"),
    [
        ([BASE], UsageError, "needs two systems or more"),
        ([BASE, OTHER], UsageError, "two systems are called 'run'"),
        (["dense", BASE], UsageError, "'dense' does not say which index"),
        (["nowhere", BASE], NotFound, "'nowhere': no such file or folder: a SYSTEM is a run file"),
        ([BASE, {"another": FIRST}], InputError, "none of its 1 queries is judged"),
    ],
)
def test_what_cannot_be_compared(labelled, systems, error, message):
    named = dict(zip("ab", systems, strict=False)) if error is InputError else systems
    with pytest.raises(error, match=message):
        compare(named, labelled)


# How systems are written


def test_ways_to_search():
    assert parse_pipeline("hybrid") == Pipeline("hybrid", 0, exact=False) == default_pipeline()
    assert parse_pipeline("dense@128") == Pipeline("dense", 128, exact=False)
    assert parse_pipeline("lexical") == Pipeline("lexical", 0, exact=False)
    for other in ("", "Dense", "dense@", "dense@x", "dense@1.5", "hybrid2", "a dense"):
        assert parse_pipeline(other) is None
    for wrong in ("dense@0", "lexical@12"):
        with pytest.raises(UsageError, match=f"'{wrong}'"):
            parse_pipeline(wrong)


def test_systems_as_people_write_them(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("my.idx", "a=b:dense"):
        (tmp_path / name).mkdir()
    for name in ("run.trec", "odd=name.trec", "lexical"):
        (tmp_path / name).touch()
    dense = Pipeline("dense", 64, exact=False)
    written = {
        "run.trec": Written("run.trec", tmp_path / "run.trec"),
        "odd=name.trec": Written("odd=name.trec", tmp_path / "odd=name.trec"),
        "my run=run.trec": Written("my run", tmp_path / "run.trec"),
        "my.idx": Written("my.idx", None, tmp_path / "my.idx"),
        "a=b:dense": Written("a=b:dense", None, tmp_path / "a=b:dense"),
        "my.idx:dense@64": Written("my.idx:dense@64", None, tmp_path / "my.idx", dense),
        "x=my.idx:dense@64": Written("x", None, tmp_path / "my.idx", dense),
        "x=dense@64": Written("x", None, None, dense),
        "lexical": Written("lexical", pipeline=Pipeline("lexical", 0, exact=False)),
        "./lexical": Written("./lexical", tmp_path / "lexical"),
    }
    for text, wanted in written.items():
        found = parse_system(text)
        file, folder = (p and p.resolve() for p in (found.run_file, found.folder))
        assert Written(found.name, file, folder, found.pipeline) == wanted
    for text in ("none", "none:dense", "my.idx:fast", "x=none", "=run.trec", "my.idx:"):
        with pytest.raises(NotFound, match="no such file or folder"):
            parse_system(text)


def test_short_names_still_differ():
    assert short_names(["a/x.trec", "b/y.run.gz", "c/my.idx"]) == ["x", "y", "my.idx"]
    assert short_names(["a/x.trec", "b/x.trec", "dense"]) == ["a/x.trec", "b/x.trec", "dense"]


# The command


@pytest.fixture
def run(monkeypatch, tmp_path):
    monkeypatch.setattr(semsearch.encoders, "open_encoder", lambda name, **_: encoder_of(name))
    monkeypatch.setattr(
        semsearch.encoders, "fingerprint_of", lambda name, **_: encoder_of(name).fingerprint
    )
    monkeypatch.setenv("SEMSEARCH_CACHE", str(tmp_path / "cache"))

    def call(*arguments, code=0):
        result = CliRunner().invoke(cli, ["compare", *map(str, arguments)])
        assert result.exit_code == code, result.output
        return result

    return call


def encoder_of(name):
    return FakeEncoder(32, "other") if "other" in str(name) else FakeEncoder(64)


def test_the_table_of_the_command(run, labelled, files):
    result = run(labelled, *files, "--measure", "mrr@10", "--moved", "1")
    first, second = (" ".join(line.split()) for line in result.stdout.splitlines()[1:3])
    assert first.startswith("base 0.567 [0.")
    assert first.endswith("] baseline")
    assert second.startswith("other 0.633 [0.")
    assert "+0.067 [-0." in second
    assert second.endswith("1.000 2/2/1")
    lines = result.stdout.splitlines()
    assert lines[4].startswith("5 queries of split test; [low, high]: 95 % bootstrap interval; p:")
    assert "other: no clear difference from base (mrr@10)" in lines
    assert "base: 1 query got no results and scored 0" in lines
    assert "base: at most 3 documents a query, and mrr@10 looks deeper" in lines
    assert "not judged, so not relevant, in the top 10: 43 % of base's, 50 % of other's" in lines
    assert lines[-4:] == [
        "the queries that moved most from base to other (mrr@10)",
        "change   base  other  query",
        "+0.500  0.500  1.000  q2     two",
        "-0.500  1.000  0.500  q5     five",
    ]
    assert result.stderr == ""


def test_a_clear_difference_is_called_one(run, tmp_path):
    queries = {f"q{n}": "text" for n in range(12)}
    folder = write_set(
        tmp_path / "set", make_documents(2), queries, dict.fromkeys(queries, {"right": 1})
    )
    write_run(tmp_path / "bad.trec", dict.fromkeys(queries, THIRD))
    write_run(tmp_path / "good.trec", dict.fromkeys(queries, FIRST))
    paths = tmp_path / "bad.trec", tmp_path / "good.trec"
    assert "good: better than bad (ndcg@10)" in run(folder, *paths).stdout
    assert "bad: worse than good (ndcg@10)" in run(folder, *paths[::-1]).stdout


def test_groups_on_the_command_line(run, labelled, files):
    lines = run(labelled, *files, "--measure", "mrr@10", "--group-by", "kind").stdout.splitlines()
    at = lines.index("by kind, mrr@10; no interval for fewer than 10 queries")
    table = [line.split() for line in lines[at + 1 : at + 6]]
    assert table == [
        ["kind", "queries", "base", "other", "difference"],
        ["how", "2", "0.750", "1.000", "+0.250"],
        ["what", "2", "0.167", "0.333", "+0.167"],
        ["why", "1", "0.000", "0.333", "+0.333"],
        ["(none)", "1", "1.000", "0.500", "-0.500"],
    ]


def test_the_json_of_the_command(run, labelled, files):
    found = json.loads(run(labelled, *files, "--json").stdout)
    wanted = compare({"base": BASE, "other": OTHER}, labelled).to_json()
    assert found == json.loads(json.dumps(wanted))


def test_values_of_every_query(run, labelled, files, tmp_path):
    table = run(labelled, *files, "--measure", "mrr@10", "--per-query", "-").stdout
    assert table.splitlines() == [
        "query_id\tbase mrr@10\tother mrr@10\ttext",
        "q2\t0.5\t1\ttwo",
        "q5\t1\t0.5\tfive",
        "q4\t0\t0.333333\tfour",
        "q1\t1\t1\tone",
        "q3\t0.333333\t0.333333\tthree",
    ]
    path = tmp_path / "values.jsonl.gz"
    run(labelled, *files, "--measure", "mrr@10", "--per-query", path)
    records = [json.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines()]
    assert records[0] == {"query_id": "q2", "base mrr@10": 0.5, "other mrr@10": 1.0, "text": "two"}
    assert len(records) == 5
    both = run(labelled, *files, "--json", "--per-query", "-", code=2)
    assert "--json and --per-query - both print on stdout" in both.stderr


def test_modes_and_models_of_one_dataset(run, tmp_path):
    documents = make_documents(40, seed=6)
    queries = {f"q{n}": documents[n].text[:8] for n in range(8)}
    qrels = {f"q{n}": {documents[n].id: 1} for n in range(8)}
    folder = write_set(tmp_path / "set", documents, queries, qrels)

    def names(*arguments):
        return [s["name"] for s in json.loads(run(folder, *arguments, "--json").stdout)["systems"]]

    assert names("dense", "lexical", "dense@16") == ["dense", "lexical", "dense@16"]
    assert len(list((tmp_path / "cache" / "datasets").iterdir())) == 1
    assert names("-m", "mine", "-m", "models/other") == ["mine", "other"]
    assert len(list((tmp_path / "cache" / "datasets").iterdir())) == 2
    assert names("dense", "hybrid", "-m", "mine", "-m", "other") == [
        "mine:dense",
        "other:dense",
        "mine:hybrid",
        "other:hybrid",
    ]
    assert names("fast=dense", "hybrid", "-m", "mine") == ["fast", "hybrid"]
    write_run(tmp_path / "r.trec", {"q0": {"d0000": 1.0}})
    assert names(tmp_path / "r.trec", "-m", "mine") == ["r", "mine"]
    index = next((tmp_path / "cache" / "datasets").iterdir())
    assert names("lexical", f"{index}:lexical", "-i", index) == ["lexical", f"{index.name}:lexical"]
    both = run(folder, "-i", index, "-m", "mine", "-m", "other", code=2)
    assert "-i names one index and -m several models" in both.stderr


def test_folders_of_models_are_systems(run, tmp_path):
    for name in ("base", "other"):
        write_lines(tmp_path / name / "modules.json", [])
    base, other = tmp_path / "base", tmp_path / "other"
    qrels = dict.fromkeys(TEXTS, {"d0001": 1})
    folder = write_set(tmp_path / "few", make_documents(3), TEXTS, qrels)

    def systems(*arguments):
        return json.loads(run(folder, *arguments, "--json").stdout)["systems"]

    found = systems(base, other, f"{other}:dense@16", f"fast={other}:dense")
    assert [s["name"] for s in found] == ["base", "other", "other:dense@16", "fast"]
    assert len(list((tmp_path / "cache" / "datasets").iterdir())) == 2
    by_option = systems("-m", base, "-m", other)
    assert [s["metrics"] for s in by_option] == [s["metrics"] for s in found[:2]]
    index = next((tmp_path / "cache" / "datasets").iterdir())
    mixed = systems("lexical", base, other, "-i", index)
    assert [s["metrics"] for s in mixed[1:]] == [s["metrics"] for s in found[:2]]


def test_a_drop_that_is_too_large_fails(run, labelled, files):
    passed = run(labelled, *files, "--max-drop", "mrr@10=0")
    assert passed.stdout.splitlines()[-1].startswith(
        "gate passed: other: mrr@10 is 0.6333, +0.0667 ["
    )
    failed = run(labelled, *files[::-1], "--max-drop", "mrr@10=0.05", code=3)
    assert failed.stderr.startswith("gate failed: base: mrr@10 is 0.5667, -0.0667 [-0.")
    assert failed.stderr.endswith("against 0.6333, p 1.000; wanted a drop of 0.05 or less\n")
    assert failed.stderr.count("\n") == 1
    assert "gate" not in failed.stdout
    gate = json.loads(run(labelled, *files, "--max-drop", "0.3", "--json").stdout)["gates"][0]
    assert (gate["system"], gate["measure"], gate["max_drop"]) == ("other", "ndcg@10", 0.3)
    assert gate["passed"] is True


def test_what_the_command_refuses(run, labelled, files, tmp_path):
    def error(*arguments, code):
        result = run(*arguments, code=code)
        assert result.stdout == ""
        return result.stderr

    assert "needs two systems or more" in error(labelled, files[0], code=2)
    assert "two systems are called" in error(labelled, files[0], files[0], code=2)
    assert "no such file or folder: a SYSTEM is" in error(labelled, "none", files[0], code=1)
    assert "unknown measure 'best'" in error(labelled, *files, "--measure", "best", code=2)
    assert "is not a drop such as 0.01" in error(labelled, *files, "--max-drop", "-1", code=2)
    assert "no query has the field 'x'" in error(labelled, *files, "--group-by", "x", code=2)
    bad = tmp_path / "bad.trec"
    bad.write_text("q1 Q0 d 1 high tag\n")
    assert error(labelled, bad, files[0], code=1) == (
        f"Error: {bad}:1: the score 'high' is not a number\n"
    )
    write_run(bad, {"another": FIRST})
    assert "none of its 1 queries is judged" in error(labelled, bad, files[0], code=1)
    (tmp_path / "empty").mkdir()
    assert "no index there" in error(labelled, tmp_path / "empty", files[0], code=1)


def test_only_judged_queries_that_have_a_text_count(labelled, files):
    (labelled / "queries.jsonl").write_text('{"_id": "q1", "text": "one"}\n')
    found = compare(files, BeirDataset.open(labelled))
    assert found.queries == 1
    assert math.isclose(found.baseline.metrics["mrr@10"], 1.0)
    assert len(read_qrels(labelled / "qrels" / "test.tsv")) == 5
