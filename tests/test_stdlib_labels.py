"""The questions about the standard library: complete, honest, and judged on ids that exist."""

import json
import re
import sys
from collections import defaultdict
from pathlib import Path

import pytest

from semsearch.corpus import read_qrels, read_queries
from semsearch.corpus.stdlib import labelled_set, labels, read_stdlib
from semsearch.errors import NotFound
from semsearch.types import Document, Qrels

FOLDER = labelled_set()
JUDGED_ON = (3, 11)


def words(text: str) -> set[str]:
    return set(re.findall(r"[a-z0-9_]+", text.lower()))


STOP = words("""
    a an the of to in on for and or is are be as by with from at it its this that if not return
    returns object objects given into all one when which can will
""")


@pytest.fixture(scope="module")
def stdlib() -> dict[str, Document]:
    return {document.id: document for document in read_stdlib()}


@pytest.fixture(scope="module")
def queries() -> dict[str, str]:
    return {query.id: query.text for query in read_queries(FOLDER / "queries.jsonl")}


@pytest.fixture(scope="module")
def splits() -> dict[str, Qrels]:
    return {split: read_qrels(FOLDER / "qrels" / f"{split}.tsv") for split in ("dev", "test")}


@pytest.fixture(scope="module")
def qrels(splits: dict[str, Qrels]) -> Qrels:
    return {**splits["dev"], **splits["test"]}


def first_sentence(text: str) -> str:
    return re.split(r"(?<=[.!?])\s|\n\n", text)[0]


def test_there_are_enough_questions_and_every_one_has_an_answer(queries, qrels):
    assert len(queries) >= 150
    assert set(queries) == set(qrels)
    assert len(set(queries.values())) == len(queries)
    assert [q for q, judged in qrels.items() if 2 not in judged.values()] == []
    assert {grade for judged in qrels.values() for grade in judged.values()} == {1, 2}


def test_every_fourth_question_is_for_development(splits, queries):
    assert not set(splits["dev"]) & set(splits["test"])
    assert set(splits["dev"]) == {q for q in queries if int(q[1:]) % 4 == 0}


def test_judged_ids_exist(stdlib, qrels):
    judged = {name for row in qrels.values() for name in row}
    missing = sorted(judged - set(stdlib))
    if sys.version_info[:2] == JUDGED_ON:
        assert missing == []
    assert len(missing) <= 0.03 * len(judged), missing


def test_the_answers_come_from_many_modules(stdlib, qrels):
    answers = {name for row in qrels.values() for name, grade in row.items() if grade == 2}
    found = {stdlib[name].metadata["module"] for name in answers if name in stdlib}
    assert len(found) >= 60


def test_no_question_names_its_answer(queries, qrels):
    told = [
        (query, name)
        for query, row in qrels.items()
        for name, grade in row.items()
        if grade == 2 and name.rpartition(".")[2].lower() in words(queries[query])
    ]
    assert told == []


def test_no_question_repeats_the_docstring(stdlib, queries, qrels):
    copied = defaultdict(list)
    for query, row in qrels.items():
        for name, grade in row.items():
            if grade == 2 and name in stdlib:
                content = words(first_sentence(stdlib[name].text)) - STOP
                if len(content & words(queries[query])) > len(content) / 2:
                    copied[query].append(name)
    assert dict(copied) == {}


def test_the_files_are_in_the_usual_layout():
    for line in (FOLDER / "queries.jsonl").read_text(encoding="utf-8").splitlines():
        assert set(json.loads(line)) == {"_id", "text"}
    for split in ("dev", "test"):
        lines = (FOLDER / "qrels" / f"{split}.tsv").read_text(encoding="utf-8").splitlines()
        assert lines[0] == "query-id\tcorpus-id\tscore"
        assert all(line.count("\t") == 2 for line in lines)


def test_the_readme_counts_what_is_there(splits):
    readme = (FOLDER / "README.md").read_text(encoding="utf-8")
    for split, qrels in splits.items():
        judgements = sum(len(row) for row in qrels.values())
        assert f"| {split} | {len(qrels)} | {judgements} |" in readme


def test_a_missing_folder_is_one_clear_error(monkeypatch, tmp_path):
    monkeypatch.setattr(labels, "__file__", str(tmp_path / "a" / "b" / "c" / "labels.py"))
    with pytest.raises(NotFound, match="labelled questions are missing"):
        labelled_set()


def test_an_installed_package_carries_its_own_copy(monkeypatch, tmp_path):
    carried = tmp_path / "semsearch" / "_data" / "stdlib"
    carried.mkdir(parents=True)
    (carried / "queries.jsonl").write_text("", encoding="utf-8")
    place = tmp_path / "semsearch" / "corpus" / "stdlib" / "labels.py"
    monkeypatch.setattr(labels, "__file__", str(place))
    assert labelled_set() == Path(carried)
