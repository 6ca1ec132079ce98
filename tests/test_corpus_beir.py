"""Labelled sets in BEIR's layout, made here and real ones where they are at hand."""

import gzip
import hashlib
import itertools
import json
from pathlib import Path

import pytest

from semsearch.corpus import BeirDataset, read_corpus, read_qrels, read_queries
from semsearch.errors import InputError, NotFound
from semsearch.types import Query

QRELS = "query-id\tcorpus-id\tscore\nq2\td1\t1\nq1\td2\t2\nq9\td2\t1\n"


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    data = text.encode()
    path.write_bytes(gzip.compress(data) if path.name.endswith(".gz") else data)
    return path


@pytest.fixture
def dataset(tmp_path):
    folder = tmp_path / "set"
    write(folder / "corpus.jsonl", '{"_id": "d1", "text": "one"}\n{"_id": "d2", "text": "two"}\n')
    write(
        folder / "queries.jsonl",
        "".join(f'{{"_id": "q{n}", "text": "query {n}"}}\n' for n in range(4)),
    )
    write(folder / "qrels" / "test.tsv", QRELS)
    return folder


def test_a_set_is_read(dataset):
    data = BeirDataset.open(dataset)
    assert (data.folder, data.corpus, data.split) == (dataset, dataset / "corpus.jsonl", "test")
    assert data.queries == [Query("q1", "query 1"), Query("q2", "query 2")]
    assert data.qrels == {"q2": {"d1": 1}, "q1": {"d2": 2}, "q9": {"d2": 1}}
    assert data.missing_queries == ("q9",)
    assert data.corpus_sha256() == hashlib.sha256(data.require_corpus().read_bytes()).hexdigest()
    assert [d.id for d in read_corpus(dataset)] == ["d1", "d2"]


def test_a_corpus_that_has_gone(dataset):
    data = BeirDataset.open(dataset)
    data.require_corpus().unlink()
    with pytest.raises(InputError) as caught:
        data.corpus_sha256()
    assert str(caught.value) == f"{data.corpus}: cannot read: No such file or directory"


def test_nothing_is_written(dataset):
    before = {path: path.stat() for path in [dataset, *dataset.rglob("*")]}
    BeirDataset.open(dataset).corpus_sha256()
    after = {path: path.stat() for path in [dataset, *dataset.rglob("*")]}
    assert {p: (s.st_mtime_ns, s.st_size) for p, s in before.items()} == {
        p: (s.st_mtime_ns, s.st_size) for p, s in after.items()
    }


def test_packed_files(dataset):
    for name in ("corpus.jsonl", "queries.jsonl", "qrels/test.tsv"):
        path = dataset / name
        write(path.with_name(path.name + ".gz"), path.read_text())
        path.unlink()
    data = BeirDataset.open(str(dataset))
    assert data.corpus == dataset / "corpus.jsonl.gz"
    assert (data.split, len(data.queries), len(data.qrels)) == ("test", 2, 3)
    assert [d.text for d in read_corpus(dataset)] == ["one", "two"]


def test_the_choice_of_the_split(dataset):
    write(dataset / "qrels" / "train.tsv", "q0\td1\t1\n")
    write(dataset / "qrels" / "dev.tsv", "q3\td1\t1\n")
    assert BeirDataset.open(dataset).split == "test"
    data = BeirDataset.open(dataset, split="train")
    assert (data.split, data.queries) == ("train", [Query("q0", "query 0")])
    (dataset / "qrels" / "test.tsv").unlink()
    assert BeirDataset.open(dataset).split == "dev"
    (dataset / "qrels" / "dev.tsv").unlink()
    assert BeirDataset.open(dataset).split == "train"


def refusal(*arguments, error=NotFound, **options):
    with pytest.raises(error) as caught:
        BeirDataset.open(*arguments, **options)
    return str(caught.value)


def test_splits_that_are_not_there(dataset):
    qrels = dataset / "qrels"
    write(qrels / "train.tsv", "q0\td1\t1\n")
    assert refusal(dataset, split="dev") == f"{qrels}: no split 'dev': there is test, train"
    assert refusal(dataset, split="../qrels/test").endswith("there is test, train")
    (qrels / "test.tsv").rename(qrels / "other.tsv")
    assert refusal(dataset) == (
        f"{qrels}: no test or dev split: choose one with --split from other, train"
    )
    for path in qrels.iterdir():
        path.unlink()
    assert refusal(dataset) == f"{qrels}: no judgements here: expected test.tsv"
    qrels.rmdir()
    assert refusal(dataset, split="dev") == f"{qrels}: no judgements here: expected dev.tsv"


def test_files_that_are_not_there(dataset, tmp_path):
    none = tmp_path / "none"
    assert refusal(none) == f"{none}: no such folder (expected one with corpus.jsonl in it)"
    rest = "in this folder: a dataset holds corpus.jsonl, queries.jsonl and qrels/<split>.tsv"
    (dataset / "corpus.jsonl").unlink()
    labels_only = BeirDataset.open(dataset)
    assert labels_only.corpus is None
    with pytest.raises(NotFound) as caught:
        labels_only.corpus_sha256()
    assert str(caught.value) == f"{dataset}: no corpus.jsonl {rest}"
    (dataset / "queries.jsonl").unlink()
    assert refusal(dataset) == f"{dataset}: no queries.jsonl {rest}"


def test_other_queries_and_judgements(dataset, tmp_path):
    queries = write(tmp_path / "mine.tsv", "q7\tseven\nq8\teight\n")
    qrels = write(tmp_path / "mine-dev.qrels.gz", "q7 0 d1 1\n")
    data = BeirDataset.open(dataset, queries=queries, qrels=qrels)
    assert (data.split, data.queries) == ("mine-dev", [Query("q7", "seven")])
    assert (data.qrels, data.missing_queries) == ({"q7": {"d1": 1}}, ())
    assert BeirDataset.open(dataset, "x", queries=queries, qrels=qrels).split == "x"
    (dataset / "queries.jsonl").unlink()
    (dataset / "qrels" / "test.tsv").unlink()
    assert BeirDataset.open(dataset, queries=queries, qrels=qrels).queries == data.queries


def test_judgements_of_other_queries(dataset, tmp_path):
    qrels = write(tmp_path / "other.tsv", "x1\td1\t1\n")
    assert refusal(dataset, qrels=qrels, error=InputError) == (
        f"{dataset / 'queries.jsonl'}: none of the queries that {qrels} judges is here"
    )
    missing = tmp_path / "none.tsv"
    assert refusal(dataset, qrels=missing, error=InputError) == f"{missing}: no such file"


def test_a_bad_line_is_named(dataset):
    path = write(dataset / "qrels" / "test.tsv", QRELS + "q1\td1\tx\n")
    assert refusal(dataset, error=InputError) == (f"{path}:5: the grade 'x' is not a whole number")


# Real sets: documents, queries judged, judgements, as their description counts them.
DATASETS = Path(__file__).parents[2] / "shared" / "datasets"
REAL = {
    "scifact": (5183, 300, 339),
    "banking77": (10003, 3080, 400120),
    "faquad-pt": (249, None, None),
    "cmrc2018-zh": (848, 3218, None),
    "sinhala-squad": (1136, 1250, 1250),
}


@pytest.mark.parametrize("name", REAL)
def test_real_sets_are_read_whole(name):
    folder = DATASETS / name
    if not folder.is_dir():
        pytest.skip(f"THE DATASET {name} IS NOT AT HAND: looked in {DATASETS}")
    documents, queries, judgements = REAL[name]
    data = BeirDataset.open(folder)
    corpus = list(read_corpus(folder))
    assert len(corpus) == documents
    assert len({document.id for document in corpus}) == documents
    with data.require_corpus().open(encoding="utf-8") as file:
        for document, line in itertools.islice(zip(corpus, file, strict=True), 200):
            record = json.loads(line)
            assert (document.id, document.text) == (record["_id"], record["text"])
            assert document.title == record["title"]
    assert data.missing_queries == ()
    assert len(data.queries) == (queries or len(data.qrels))
    rows = (folder / "qrels" / "test.tsv").read_text().splitlines()[1:]
    expected: dict[str, dict[str, int]] = {}
    for row in rows:
        query, document_id, grade = row.split("\t")
        expected.setdefault(query, {})[document_id] = int(grade)
    assert data.qrels == expected
    assert sum(map(len, expected.values())) == (judgements or len(rows))
    for path in set((folder / "qrels").glob("*.tsv")) - {folder / "qrels" / "test.tsv"}:
        assert read_qrels(path)
    assert {query.id for query in read_queries(folder / "queries.jsonl")} >= set(data.qrels)
