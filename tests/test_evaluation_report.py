"""The object that programs read and the table that people read."""

import json
from dataclasses import replace

import numpy as np

from semsearch.evaluation.report import (
    TABLE_MEASURES,
    Report,
    ResultRow,
    note_lines,
    table_lines,
)
from semsearch.metrics import evaluate_run, paired_test


def metrics_of(*values):
    return dict(zip(TABLE_MEASURES, values, strict=True))


HYBRID = ResultRow(
    mode="hybrid",
    dims=384,
    rerank="none",
    k=10,
    metrics=metrics_of(0.6, 0.84, 0.68, 0.71649, 0.67, 0.95),
    intervals={"ndcg@10": (0.67, 0.758), "mrr@10": (0.6, 0.7)},
)
LEXICAL = replace(
    HYBRID,
    mode="lexical",
    dims=None,
    metrics=metrics_of(0.55, 0.8, 0.6801, 0.682, 0.6, 0.95),
    intervals={"ndcg@10": (0.6314, 0.73)},
)
REPORT = Report(queries=300, skipped=0, split="test", version="1.2.3", results=(HYBRID, LEXICAL))


def test_json_has_the_promised_shape():
    row = replace(HYBRID, ann_recall=np.float64(0.5), index_kind="RaBitQ", without_results=2)
    found = json.loads(json.dumps(replace(REPORT, results=(row, LEXICAL), skipped=3).to_json()))
    assert found == {
        "queries": 300,
        "skipped": 3,
        "split": "test",
        "version": "1.2.3",
        "missing_documents": 0,
        "without_results": 2,
        "results": [
            {
                "mode": "hybrid",
                "dims": 384,
                "rerank": "none",
                "k": 10,
                "ann_recall": 0.5,
                "index_kind": "RaBitQ",
                "metrics": dict(HYBRID.metrics),
                "intervals": {"ndcg@10": [0.67, 0.758], "mrr@10": [0.6, 0.7]},
                "without_results": 2,
            },
            {
                "mode": "lexical",
                "dims": None,
                "rerank": "none",
                "k": 10,
                "ann_recall": None,
                "index_kind": None,
                "metrics": dict(LEXICAL.metrics),
                "intervals": {"ndcg@10": [0.6314, 0.73]},
                "without_results": 0,
            },
        ],
    }


def test_json_numbers_are_plain_and_not_rounded():
    row = replace(HYBRID, metrics={"ndcg@10": np.float64(1 / 3)})
    value = row.to_json()["metrics"]["ndcg@10"]
    assert type(value) is float
    assert value == 1 / 3


def test_the_table_is_aligned():
    assert table_lines(REPORT) == [
        "mode     dims  accuracy@1  accuracy@10  mrr@10               ndcg@10  map@100  recall@100",
        "hybrid    384       0.600        0.840   0.680  0.716 [0.670, 0.758]    0.670       0.950",
        "lexical     -       0.550        0.800   0.680  0.682 [0.631, 0.730]    0.600       0.950",
    ]


def test_the_best_of_each_column_can_be_marked():
    lines = table_lines(REPORT, mark=lambda text: f"<{text}>")
    assert " ".join(lines[1].split()) == (
        "hybrid 384 <0.600> <0.840> 0.680 <0.716 [0.670, 0.758]> <0.670> 0.950"
    )
    assert "<" not in lines[2], "0.6801 prints like 0.68: neither is the best"
    plain = [line.replace("<", "").replace(">", "") for line in lines]
    assert plain == table_lines(REPORT)


def test_a_single_row_has_no_best():
    assert "<" not in "".join(table_lines(replace(REPORT, results=(HYBRID,)), mark="<{}>".format))


def test_columns_appear_where_they_say_something():
    row = replace(HYBRID, rerank="self", ann_recall=0.9923, metrics={"ndcg@10": 0.5}, intervals={})
    lines = table_lines(replace(REPORT, results=(row, LEXICAL)), digits=2)
    assert lines[0].split()[:3] == ["mode", "rerank", "dims"]
    assert lines[0].endswith("ann recall")
    assert lines[1].split() == ["hybrid", "self", "384", "-", "-", "-", "0.50", "-", "-", "0.99"]
    assert lines[2].split()[:3] == ["lexical", "none", "-"]
    assert lines[2].endswith(" -")


def test_an_empty_report_is_its_headings():
    assert len(table_lines(replace(REPORT, results=()))) == 1


def test_notes_count_what_was_left_out():
    assert note_lines(REPORT) == [
        "300 queries of split test; [low, high] is the 95 % bootstrap interval of ndcg@10"
    ]
    rows = (replace(HYBRID, intervals={}), replace(LEXICAL, intervals={}, without_results=1))
    report = Report(1, 2, None, "1.2.3", rows, missing_documents=1_200)
    assert note_lines(report) == [
        "1 query",
        "2 queries left out: no document is judged relevant",
        "1 query got no results and scored 0",
        "1,200 relevant documents are not in the index and cannot be found",
    ]


def row(mode: str, values: list[float]) -> ResultRow:
    """A row whose queries each have one relevant document, ranked where it scores ``values``."""
    ranks = {1.0: 1, 0.5: 3}
    qrels = {f"q{n:03d}": {"right": 1} for n in range(len(values))}
    run = {
        query: {f"wrong{i}": 9.0 - i for i in range(ranks[value] - 1)} | {"right": 1.0}
        for query, value in zip(qrels, values, strict=True)
    }
    found = evaluate_run(qrels, run, ["ndcg@10"])
    assert found.per_query("ndcg@10").tolist() == values
    return ResultRow(mode, 8, "none", 100, found.means(), found.intervals(), evaluation=found)


def test_a_mode_that_is_clearly_better_than_the_default_is_named():
    worse, better = row("hybrid", [0.5] * 20), row("lexical", [1.0] * 15 + [0.5] * 5)
    (_, line) = note_lines(Report(20, 0, None, "1", (worse, better)))
    assert line.startswith("lexical is better than hybrid here: +0.375 [+0.275, +0.4")
    assert line.endswith("] ndcg@10, p < 0.001: use --mode lexical")
    assert len(note_lines(Report(20, 0, None, "1", (better, worse)))) == 1


def test_a_mode_that_chance_may_have_made_better_is_not_named():
    first, second = row("hybrid", [0.5] * 20), row("lexical", [1.0] * 5 + [0.5] * 15)
    p = paired_test([1.0] * 5 + [0.5] * 15, [0.5] * 20).p
    assert p == 2 / 2**5
    assert len(note_lines(Report(20, 0, None, "1", (first, second)))) == 1
    third = row("lexical", [1.0] * 6 + [0.5] * 14)  # p 1/32: alone it would do
    assert len(note_lines(Report(20, 0, None, "1", (first, third)))) == 2
    both = (first, third, row("dense", [1.0] * 3 + [0.5] * 17))
    assert len(note_lines(Report(20, 0, None, "1", both))) == 1, "the better of two was chosen"
