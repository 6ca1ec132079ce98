"""Folders that we write, read by the rules of BEIR's own reader and by ours."""

import csv
import json
import logging
import os
from pathlib import Path

import pytest
from click.testing import CliRunner

from semsearch.cli.main import cli
from semsearch.corpus import BeirDataset, read_corpus, read_qrels, write_beir, write_qrels
from semsearch.corpus.beir_writer import BeirCounts
from semsearch.corpus.stdlib.labels import labelled_set
from semsearch.errors import InputError
from semsearch.types import Document, Query
from tests.fakes import FakeEncoder, index_into, make_documents


def as_beir_reads(folder: Path, split: str = "test"):
    """The rules of ``beir.datasets.data_loader.GenericDataLoader.load``, beir 2.2.0.

    Lines end where Python's text files end them; ``_id``, ``title`` and ``text`` are taken as they
    are; the judgements are csv with tabs and minimal quoting, their first row is thrown away, and
    a judged query without a text is a KeyError.
    """
    corpus, queries = {}, {}
    qrels: dict[str, dict[str, int]] = {}
    with open(folder / "corpus.jsonl", encoding="utf8") as file:
        for line in map(json.loads, file):
            corpus[line.get("_id")] = {"text": line.get("text"), "title": line.get("title")}
    with open(folder / "queries.jsonl", encoding="utf8") as file:
        for line in map(json.loads, file):
            queries[line.get("_id")] = line.get("text")
    with open(folder / "qrels" / f"{split}.tsv", encoding="utf-8") as file:
        rows = csv.reader(file, delimiter="\t", quoting=csv.QUOTE_MINIMAL)
        next(rows)
        for row in rows:
            qrels.setdefault(row[0], {})[row[1]] = int(row[2])
    return corpus, {query: queries[query] for query in qrels}, qrels


DOCUMENTS = [
    Document("7", "bal car", "A title", {"year": 2020, "tags": ["x"], "metadata": "plain"}),
    Document("a b", "one\u2028two\u2029three\x85four\nfive\r\nsix\x0bseven\x1eeight", ""),
    Document("007", "", "only a title"),
    Document("notes/été 1.md", '"quoted"\t{"_id": "x"} \\ \\u2028 \U0001f600', "語"),
    Document('say "hi"', "\ufeffa byte order mark", "'"),
    Document('"first"', "may not be judged, but may be in a corpus"),
    Document(" spaces ", "nor may this one"),
    Document("tab\tand\nline", "nor this"),
]
QUERIES = [Query("1", "bal"), Query("q 2", "two\u2028lines\nhere"), Query("q3", "not judged")]
TEST = {"1": {"7": 2, "a b": 0, "007": -1}, "q 2": {"notes/été 1.md": 1, 'say "hi"': 3, "gone": 1}}
DEV = {"q3": {"7": 1}}


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "new" / "set"


def test_a_folder_is_read_by_the_rules_of_beir(folder):
    counts = write_beir(folder, iter(DOCUMENTS), QUERIES, {"test": TEST, "dev": DEV})
    assert counts == BeirCounts(documents=8, queries=3, judgements=7, missing_documents=1)
    corpus, queries, qrels = as_beir_reads(folder)
    assert corpus == {d.id: {"text": d.text, "title": d.title} for d in DOCUMENTS}
    assert list(corpus) == [d.id for d in DOCUMENTS]
    assert queries == {query.id: query.text for query in QUERIES[:2]}
    assert qrels == TEST
    assert all(type(grade) is int for judged in qrels.values() for grade in judged.values())
    assert as_beir_reads(folder, "dev")[1:] == ({"q3": "not judged"}, DEV)


# It leaves its files for the garbage collector to close.
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_the_package_beir_reads_what_its_copied_rules_read(folder):
    pytest.importorskip(
        "beir", reason="BEIR IS NOT INSTALLED: `make interop` reads with its reader"
    )
    from beir.datasets.data_loader import GenericDataLoader

    write_beir(folder, DOCUMENTS, QUERIES, {"test": TEST, "dev": DEV})
    logging.getLogger("beir").setLevel(logging.ERROR)
    for split in ("test", "dev"):
        assert GenericDataLoader(str(folder)).load(split) == as_beir_reads(folder, split)
    assert GenericDataLoader(str(folder)).load_corpus() == as_beir_reads(folder)[0]


def test_a_folder_is_read_by_us(folder):
    write_beir(folder, DOCUMENTS, [Query("1", "bal", {"kind": "x"}), *QUERIES[1:]], {"test": TEST})
    assert list(read_corpus(folder)) == DOCUMENTS
    data = BeirDataset.open(folder)
    assert (data.split, data.queries, data.qrels) == ("test", QUERIES[:2], TEST)
    assert data.queries[0].metadata == {"kind": "x"}
    assert data.missing_queries == ()


def test_every_line_is_one_line_for_every_reader(folder):
    write_beir(folder, DOCUMENTS, QUERIES, {"test": TEST})
    for name, count in (("corpus.jsonl", 8), ("queries.jsonl", 3), ("qrels/test.tsv", 7)):
        text = (folder / name).read_text(encoding="utf-8")
        assert len(text.splitlines()) == text.count("\n") == count
    assert (folder / "qrels" / "test.tsv").read_text().startswith("query-id\tcorpus-id\tscore\n")


def test_a_corpus_alone(folder):
    assert write_beir(str(folder), DOCUMENTS[:1]) == BeirCounts(1, 0, 0, 0)
    assert os.listdir(folder) == ["corpus.jsonl"]
    assert json.loads((folder / "corpus.jsonl").read_text()) == {
        "_id": "7",
        "title": "A title",
        "text": "bal car",
        "metadata": {"year": 2020, "tags": ["x"], "metadata": "plain"},
    }


@pytest.mark.parametrize("bad", ["a\tb", "a\nb", "a\u2028b", "a\x85b", "a\r", " a", "a ", ""])
@pytest.mark.parametrize("where", ["query", "document"])
def test_judged_ids_that_a_table_cannot_hold(folder, tmp_path, bad, where):
    judged = {bad: {"7": 1}} if where == "query" else {"1": {bad: 1}}
    expected = (
        f"the id {bad!r} is empty or holds a tab, a line break or white space at an end: rename the"
        " document or query"
    )
    if bad.strip():
        with pytest.raises(InputError) as caught:
            write_beir(folder, DOCUMENTS, [*QUERIES, Query(bad, "text")], {"test": judged})
        assert str(caught.value) == f"{folder / 'qrels' / 'test.tsv'}: {expected}"
        assert not folder.parent.exists()
    with pytest.raises(InputError) as caught:
        write_qrels(tmp_path / "test.tsv", judged)
    assert str(caught.value) == f"{tmp_path / 'test.tsv'}: {expected}"


@pytest.mark.parametrize("judged", [{'"q"': {"7": 1}}, {"1": {"7": 1, '"q"': 1}}])
def test_a_quote_that_beirs_reader_would_take_off(folder, judged):
    with pytest.raises(InputError) as caught:
        write_beir(folder, DOCUMENTS, [*QUERIES, Query('"q"', "text")], {"test": judged})
    table = folder / "qrels" / "test.tsv"
    assert str(caught.value) == (
        f"""{table}: the id '"q"' begins with a quote, which BEIR's reader takes off: rename the"""
        " document or query"
    )
    assert not folder.parent.exists()


def test_ids_with_spaces_survive_a_table(tmp_path):
    qrels = {"q 1": {"New York": 1, 'the "best"': 2, "a\u3000b": 0}}
    write_qrels(tmp_path / "test.tsv", qrels)
    assert read_qrels(tmp_path / "test.tsv") == qrels


@pytest.mark.parametrize(
    ("documents", "queries", "qrels", "expected"),
    [
        ([], [], {}, "{folder}: there is no document to write"),
        ([Document("a", "x")] * 2, [], {}, "{folder}:2: duplicate id 'a'"),
        ([Document("", "x")], [], {}, "{folder}:1: the id is empty"),
        ([Document("a", "x", source="c.csv", line=9)] * 2, [], {}, "c.csv:9: duplicate id 'a'"),
        (
            DOCUMENTS,
            QUERIES[:1] * 2,
            {},
            "{folder}: the query id '1' comes twice",
        ),
        (DOCUMENTS, QUERIES, {"dev": {}}, "{folder}: the split 'dev' holds no judgement"),
        (DOCUMENTS, QUERIES, {"dev": {"1": {}}}, "{folder}: the split 'dev' holds no judgement"),
        (
            DOCUMENTS,
            QUERIES,
            {"../dev": DEV},
            "{folder}: the split '../dev' cannot name a file: use test or dev",
        ),
        (
            DOCUMENTS,
            QUERIES[:1],
            {"test": TEST},
            "{folder}: queries: 1 judged in split 'test' have no text, 'q 2' first: add them, or"
            " leave out their judgements",
        ),
    ],
)
def test_what_beirs_reader_would_fail_on_is_refused(folder, documents, queries, qrels, expected):
    with pytest.raises(InputError) as caught:
        write_beir(folder, documents, queries, qrels)
    assert str(caught.value) == expected.format(folder=folder)
    assert not folder.exists()
    assert not folder.parent.exists() or os.listdir(folder.parent) == []


def test_nothing_is_overwritten(folder):
    folder.mkdir(parents=True)
    write_beir(folder, DOCUMENTS[:1])  # an empty folder may be there
    before = (folder / "corpus.jsonl").read_bytes()
    file = folder.parent / "file"
    file.write_text("mine")
    link = folder.parent / "link"
    link.symlink_to("nowhere")
    for taken in (folder, file, link):
        with pytest.raises(InputError) as caught:
            write_beir(taken, DOCUMENTS)
        assert str(caught.value) == f"{taken}: this is there already: name a new folder"
    assert (folder / "corpus.jsonl").read_bytes() == before
    assert sorted(os.listdir(folder.parent)) == ["file", "link", "set"]


def test_a_failure_half_way_leaves_nothing(folder):
    def broken():
        yield from DOCUMENTS
        raise InputError("the source broke")

    with pytest.raises(InputError, match="the source broke"):
        write_beir(folder, broken(), QUERIES, {"test": TEST})
    assert os.listdir(folder.parent) == []


@pytest.fixture
def run(tmp_path, monkeypatch):
    """The command, as in a folder with an index of three documents and files of labels."""
    monkeypatch.chdir(tmp_path)
    index_into(Path(".semsearch"), FakeEncoder(), DOCUMENTS[:1] + make_documents(2))
    Path("q.tsv").write_text("1\tbal\nq 2\tcar\n")
    Path("dev.tsv").write_text("query-id\tcorpus-id\tscore\n1\t7\t1\nq 2\td0000\t-1\n")
    Path("judged.qrels").write_text("1 0 7 2\n1 0 gone 1\n9 0 7 1\n")

    def run(*arguments):
        done = CliRunner().invoke(cli, ["export", *arguments], prog_name="semsearch")
        return done.exit_code, done.stdout, done.stderr

    return run


def test_an_index_is_exported_as_a_set(run):
    labels = ["--queries", "q.tsv", "--qrels", "dev.tsv", "--qrels", "judged.qrels"]
    assert run("--beir", "set", *labels) == (
        0,
        "3 documents, 2 queries, 4 judgements in split dev, judged -> set\n",
        "note: judged.qrels: 1 judged query is not in the queries file: left out\n"
        "note: 1 relevant document is not in the corpus, but judged\n",
    )
    corpus, queries, qrels = as_beir_reads(Path("set"), "judged")
    assert list(corpus) == ["7", "d0000", "d0001"]
    assert (queries, qrels) == ({"1": "bal"}, {"1": {"7": 2, "gone": 1}})
    assert as_beir_reads(Path("set"), "dev")[2] == {"1": {"7": 1}, "q 2": {"d0000": -1}}
    # What was written has the index's documents, in BEIR's layout and in ours.
    assert run()[1] == Path("set/corpus.jsonl").read_text()
    assert run("--beir", "set")[0::2] == (
        1,
        "Error: set: this is there already: name a new folder\n",
    )


def test_the_split_may_be_named(run):
    done = run("--beir", "set", "--queries", "q.tsv", "--qrels", "dev.tsv", "--split", "test")
    assert done == (0, "3 documents, 2 queries, 2 judgements in split test -> set\n", "")
    assert run("--beir", "alone") == (0, "3 documents -> alone\n", "")
    assert os.listdir("alone") == ["corpus.jsonl"]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--queries", "q.tsv"], "--queries, --qrels and --split go with --beir."),
        (
            ["--beir", "set", "--qrels", "dev.tsv"],
            "--split goes with --qrels, and --qrels with --queries.",
        ),
        (
            ["--beir", "set", "--split", "dev"],
            "--split goes with --qrels, and --qrels with --queries.",
        ),
        (
            ["--beir", "set", "--queries", "q.tsv", "--qrels", "dev.tsv", "--qrels", "dev.tsv"],
            "two files of judgements are called 'dev'.",
        ),
        (["--beir", "set", "--qrels", "none.tsv"], "File 'none.tsv' does not exist."),
    ],
)
def test_wrong_use(run, arguments, expected):
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert err.endswith(f"{expected}\n")
    assert not Path("set").exists()


def test_there_must_be_an_index(run):
    code, out, err = run("--beir", "set", "-i", "none.idx")
    assert (code, out) == (1, "")
    assert err.startswith("Error: none.idx: no index there")


def test_the_demo_is_written_as_a_set(tmp_path, monkeypatch):
    some = make_documents(50)  # the whole documentation takes seconds to read
    monkeypatch.setattr("semsearch.corpus.stdlib.read_stdlib", lambda: iter(some))
    target = tmp_path / "stdlib"
    done = CliRunner().invoke(cli, ["demo", "--beir", str(target)], prog_name="semsearch")
    assert done.exit_code == 0
    assert done.stdout.startswith("50 documents, ")
    assert done.stdout.endswith(f" in split dev, test -> {target}\n")
    assert done.stderr.endswith(" relevant documents are not in the corpus, but judged\n")
    for split in ("dev", "test"):
        corpus, queries, qrels = as_beir_reads(target, split)
        data = BeirDataset.open(labelled_set(), split)
        assert list(corpus) == [document.id for document in some]
        assert queries == {query.id: query.text for query in data.queries}
        assert qrels == data.qrels
    assert list(read_corpus(target)) == some
