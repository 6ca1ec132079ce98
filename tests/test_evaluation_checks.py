"""What may be wrong with labelled data: every finding is put into real data and looked for."""

import json

import pytest

from semsearch.corpus import BeirDataset
from semsearch.evaluation import evaluate
from semsearch.evaluation.checks import Check, check_data, example_text, unjudged_share
from semsearch.types import Document
from tests.fakes import FakeEncoder, opened
from tests.test_evaluate import write_set

DOCUMENTS = [
    Document("d1", "Bal car dir", "Title"),
    Document("d2", "  bal   CAR dir", "title"),  # the same but for spaces and case
    Document("d3", "for gol"),
    Document("d4", "FOR  gol"),
    Document("d5", "hir nor", "another title"),
    Document("d6", "fin kol"),
]
QUERIES = {
    "q1": "car",
    "q2": "gol",
    "q3": "Hir NOR",
    "q4": "title bal car dir",
    "q5": "nothing of the kind",
    "q6": "fin",
}
QRELS = {
    "q1": {"d1": 2, "d2": 1, "d3": 0},  # copies with different grades
    "q2": {"d3": 1},  # d4 is a copy that nobody judged
    "q3": {"d5": 1, "gone": 1, "gone too": 0},
    "q4": {"d6": 1},
    "q5": {"d6": 0, "d1": -1, "d2": 0},  # nothing relevant; -1 and 0 are the same gain
    "q6": {"d6": 1, "d3": 0, "d4": 0},
    "unheard": {"d1": 1},
}


@pytest.fixture
def found(tmp_path):
    folder = write_set(tmp_path / "set", DOCUMENTS, QUERIES, QRELS)
    with opened(tmp_path / "idx", FakeEncoder()) as index:
        index.add(DOCUMENTS)
        yield check_data(index.reader, BeirDataset.open(folder), (0.5, None, 0.25))


def test_everything_that_is_wrong_is_found(found):
    checks = {check.name: (check.count, check.out_of) for check in found.checks}
    assert checks == {
        "queries_missing": (1, 7),
        "queries_without_relevant": (1, 6),
        "documents_missing": (2, 8),
        "duplicates_judged_differently": (1, 14),
        "duplicates_unjudged": (1, 14),
        "queries_equal_documents": (2, 6),
    }
    examples = {check.name: list(check.examples) for check in found.checks}
    assert examples["queries_missing"] == [{"query": "unheard"}]
    assert examples["queries_without_relevant"] == [{"query": "q5"}]
    assert examples["documents_missing"] == [
        {"document": "gone", "relevant": True},
        {"document": "gone too", "relevant": False},
    ]
    assert examples["duplicates_judged_differently"] == [
        {"query": "q1", "grades": {"d1": 2, "d2": 1}}
    ]
    assert examples["duplicates_unjudged"] == [{"query": "q2", "grades": {"d3": 1, "d4": None}}]
    assert examples["queries_equal_documents"] == [
        {"query": "q3", "document": "d5", "grade": 1},
        {"query": "q4", "document": "d1", "grade": None},
    ]


def test_the_notes_say_what_was_found_in_words(found):
    assert found.note_lines(but=["queries_missing"]) == [
        "50 % of the first row's top 10 is not judged and counts as not relevant, 25 to 50 % over"
        " the rows",
        "1 query has no document that is judged relevant: query q5",
        "2 judged documents are not in the index: document gone; document gone too",
        "1 time the same text is judged differently under two ids: query q1: d1 grade 2, d2 grade"
        " 1",
        "1 time a relevant document has a copy that is not judged: query q2: d3 grade 1, d4 not"
        " judged",
        "2 queries are word for word a document: query q3, document d5; query q4, document d1",
    ]
    assert all(check.why.endswith(".") for check in found.checks)


def test_the_json_holds_every_check(found):
    told = json.loads(json.dumps(found.to_json()))
    assert told["unjudged@10"] == [0.5, None, 0.25]
    assert told["documents_missing"]["count"] == 2
    assert told["documents_missing"]["of"] == 8
    assert len(told) == 7


def test_clean_data_gives_no_notes(tmp_path):
    documents = DOCUMENTS[::2]
    folder = write_set(tmp_path / "set", documents, {"q": "gol"}, {"q": {"d3": 1}})
    with opened(tmp_path / "idx", FakeEncoder()) as index:
        index.add(documents)
        found = check_data(index.reader, BeirDataset.open(folder), (0.0,))
    assert found.note_lines() == []
    assert [check.count for check in found.checks] == [0] * 6
    assert [check.examples for check in found.checks] == [()] * 6


def test_only_live_documents_count(tmp_path):
    folder = write_set(tmp_path / "set", DOCUMENTS, QUERIES, QRELS)
    with opened(tmp_path / "idx", FakeEncoder()) as index:
        index.add(DOCUMENTS)
        index.delete(["d2", "d4", "d5"])
        found = check_data(index.reader, BeirDataset.open(folder))
    checks = {check.name: check.count for check in found.checks}
    assert checks["documents_missing"] == 5
    assert checks["duplicates_judged_differently"] == checks["duplicates_unjudged"] == 0
    assert checks["queries_equal_documents"] == 1


def test_of_many_copies_those_are_named_that_differ(tmp_path):
    documents = [Document(f"d{n}", "the same words") for n in range(20)]
    qrels = {"q": {f"d{n}": int(n == 17) for n in range(20)}}
    folder = write_set(tmp_path / "set", documents, {"q": "words"}, qrels)
    with opened(tmp_path / "idx", FakeEncoder()) as index:
        index.add(documents)
        found = check_data(index.reader, BeirDataset.open(folder))
    (example,) = next(c for c in found.checks if c.name == "duplicates_judged_differently").examples
    assert example["grades"] == {"d0": 0, "d17": 1, "d1": 0, "d2": 0, "d3": 0}


def test_the_share_of_hits_that_nobody_judged():
    qrels = {"q1": {"a": 1, "b": 0}, "q2": {"c": 2}, "none": {"a": 0}}
    run = {
        "q1": {"a": 3.0, "b": 2.0, "x": 1.0, "q1": 0.5},
        "q2": {"y": 2.0, "z": 1.0},
        "none": {"x": 1.0},  # not in the mean
        "unheard": {"x": 1.0},
    }
    assert unjudged_share(qrels, run) == pytest.approx(4 / 6)
    assert unjudged_share(qrels, run, 2) == pytest.approx(2 / 4)
    assert unjudged_share(qrels, run, ignore_identical_ids=True) == pytest.approx(3 / 5)
    assert unjudged_share(qrels, {}) is None
    assert unjudged_share({"q2": {"c": 1}}, {"q2": {"c": 1.0}}) == 0.0


def test_an_example_is_read_as_a_sentence():
    assert example_text({"query": "q", "document": "d", "grade": 1}) == "query q, document d"
    many = Check("documents_missing", 7, 9, tuple({"document": f"d{n}"} for n in range(5)))
    assert str(many) == "7 judged documents are not in the index: document d0; document d1 ..."


def test_an_evaluation_looks_at_its_data(tmp_path):
    folder = write_set(tmp_path / "set", DOCUMENTS, QUERIES, QRELS)
    with opened(tmp_path / "idx", FakeEncoder()) as index:
        index.add(DOCUMENTS)
        report = evaluate(index, folder, modes=["lexical", "dense"], dims=[32])
        wanted = check_data(index.reader, BeirDataset.open(folder))
    assert report.checks is not None
    assert report.checks.checks == wanted.checks
    # By words: q1 finds d1, d2; q2 d3, d4; q3 d5; q4 d1, d2, d5; q6 d6. By vectors: all six.
    lexical, dense = report.checks.unjudged
    assert lexical == pytest.approx((1 + 3) / 9)
    assert dense == pytest.approx(1 - (3 + 1 + 1 + 1 + 3) / (5 * 6))
    assert report.to_json()["checks"] == report.checks.to_json()
    told = ["queries_missing", "queries_without_relevant", "documents_missing"]
    assert str(report).splitlines()[-4:] == report.checks.note_lines(but=told)
