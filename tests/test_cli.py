"""The command line: what it prints where, how it ends, and one line for whatever can fail."""

import gzip
import importlib
import json
import os
import re
import shutil
import sys
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

import semsearch.encoders
from semsearch import fs
from semsearch.cli.main import _COMMANDS, cli
from semsearch.collection import writer
from semsearch.collection.layout import Layout
from semsearch.collection.reader import Reader
from semsearch.collection.writer import open_for_writing
from tests.fakes import FakeEncoder, contents, lower_limits, make_documents

CORPUS = [
    {"_id": "a", "title": "First", "text": "bal car dir", "year": 2019, "tags": ["x", "y"]},
    {"_id": "b", "title": "", "text": "bal car", "year": 2021},
    {"_id": 3, "text": "nor\nnal \x1b[31mred", "year": 2023},
]


def lines(*records):
    return "".join(json.dumps(record) + "\n" for record in records)


@pytest.fixture
def encoder():
    return FakeEncoder()


@pytest.fixture
def semsearch_(tmp_path, monkeypatch, encoder):
    """Calls the command line in an empty working folder; everything is compared as text."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(semsearch.encoders, "open_encoder", lambda *_, **__: encoder)
    clock = SimpleNamespace(perf_counter=iter([n * 2.0 for n in range(1000)]).__next__)
    monkeypatch.setattr(importlib.import_module("semsearch.cli.index"), "time", clock)

    def call(*arguments, code=0, stdin=None):
        result = CliRunner().invoke(cli, [str(a) for a in arguments], input=stdin)
        if result.exit_code != code or (code and result.stdout):
            raise AssertionError((result.exit_code, result.stdout, result.stderr)) from (
                result.exception
            )
        return SimpleNamespace(out=result.stdout, err=result.stderr)

    return call


@pytest.fixture
def indexed(semsearch_, tmp_path):
    """The default index over the corpus above."""
    (tmp_path / "corpus.jsonl").write_text(lines(*CORPUS))
    semsearch_("index", "corpus.jsonl")
    return semsearch_


# What is printed


def test_indexing_prints_what_was_done(semsearch_, tmp_path):
    corpus = tmp_path / "corpus.jsonl"
    corpus.write_text(lines(*CORPUS))
    done = semsearch_("index", "corpus.jsonl")
    assert done.err == ""
    assert done.out == (
        ".semsearch: 3 new / 0 updated / 0 unchanged / 0 no longer in source; 3 documents in all\n"
        "3 texts encoded by fake in 2.0 s\n"
    )
    again = semsearch_("index", "corpus.jsonl")
    assert again.out == (
        ".semsearch: 0 new / 0 updated / 3 unchanged / 0 no longer in source; 3 documents in all\n"
        "nothing to encode (2.0 s)\n"
    )
    corpus.write_text(lines(CORPUS[0], CORPUS[0] | {"_id": "new"}, {"_id": "e", "text": " "}))
    pruned = semsearch_("index", "corpus.jsonl", "--prune")
    assert pruned.err == "note: 1 document without text skipped: e\n"
    assert pruned.out == (
        ".semsearch: 1 new / 0 updated / 1 unchanged / 2 pruned; 2 documents in all\n"
        "nothing to encode (2.0 s)\n"
    )


def test_indexing_prints_json(semsearch_, tmp_path):
    (tmp_path / "c.jsonl").write_text(lines(*CORPUS, CORPUS[0], {"_id": "long", "text": "w " * 70}))
    options = ("--on-duplicate", "skip", "--long-text", "truncate", "--json", "-i", "x.idx")
    done = semsearch_("index", "c.jsonl", *options)
    assert done.err == ""
    assert json.loads(done.out) == {
        "index": "x.idx",
        "documents": 4,
        "new": 4,
        "updated": 0,
        "unchanged": 0,
        "moved": 0,
        "missing": 0,
        "pruned": 0,
        "empty": 0,
        "duplicates": 1,
        "malformed": 0,
        "encoded": 4,
        "passages": 4,
        "chunked": 0,
        "truncated": 1,
        "tokens_lost": 72 - 64,
        "tokens": 6 + 4 + 5 + 72,
        "unknown_share": 0.0,
        "seconds": 2.0,
    }
    assert done.out.count("\n") == 1


def test_indexing_notes_what_people_should_know(semsearch_, tmp_path):
    (tmp_path / "a.jsonl").write_text(
        lines({"_id": 1, "text": "日本語 テキスト bal"}, {"_id": 2, "text": "w " * 70})
    )
    first = semsearch_("index", "a.jsonl", "--long-text", "truncate")
    assert "1 document longer than 64 tokens: 8 tokens of text not in the vectors" in first.out
    assert first.err == ""
    shutil.rmtree(".semsearch")
    (tmp_path / "b.jsonl").write_text(lines({"_id": 1, "text": "日本語 テキスト bal"}))
    unread = semsearch_("index", "b.jsonl")
    assert unread.err == (
        "note: fake does not know 40% of the tokens: it cannot read this language well; try -m"
        " sentence-transformers/paraphrase-multilingual-MiniLM-L12-v2 and a new index (-i)\n"
    )
    moved = semsearch_("index", "-", stdin=(tmp_path / "b.jsonl").read_text())
    assert "1 document now comes from another source" in moved.out


def test_a_query_prints_hits(indexed):
    found = indexed("query", "bal car", "-k", "3", "--mode", "lexical")
    assert found.err == ""
    head, text, *rest = found.out.splitlines()
    assert re.fullmatch(r"  1  \d\.\d{4}  b", head)
    assert text == "     bal car"
    assert re.fullmatch(r"  2  \d\.\d{4}  a  First", rest[0])
    assert rest[1:] == ["     bal car dir"]
    third = indexed("query", "nor", "-k", "1").out
    assert third.splitlines()[1] == "     nor nal [31mred", "no control character reaches people"


def test_a_query_prints_json(indexed):
    found = indexed("query", "bal car", "--json", "--mode", "lexical")
    hits = json.loads(found.out)
    assert [(hit.pop("rank"), hit.pop("score") > 0) for hit in hits] == [(1, True), (2, True)]
    assert hits == [
        {
            "id": "b",
            "title": "",
            "text": "bal car",
            "metadata": {"year": 2021},
            "passage": {"start": 0, "end": 7, "text": "bal car"},
        },
        {
            "id": "a",
            "title": "First",
            "text": "bal car dir",
            "metadata": {"tags": ["x", "y"], "year": 2019},
            "passage": {"start": 0, "end": 17, "text": "First bal car dir"},
        },
    ]
    names = ["rank", "id", "score", "title", "text", "metadata", "passage"]
    assert list(json.loads(found.out)[0]) == names
    assert found.out.count("\n") == 1


def test_options_of_a_query(indexed):
    def ids(*options, stdin=None):
        out = indexed("query", *options, "--json", stdin=stdin).out
        return {hit["id"] for hit in json.loads(out)}

    assert ids("bal") == {"a", "b", "3"}
    assert ids("bal", "-k", "1") == {"b"}
    assert ids("bal", "-f", "year>=2020") == {"b", "3"}
    assert ids("bal", "-f", "year>=2020", "-f", "year<2022") == {"b"}
    assert ids("bal", "-f", "tags in y,z") == {"a"}
    assert ids("bal", "--mode", "lexical") == {"a", "b"}
    assert ids("bal car", "--mode", "dense", "--min-score", "0.99") == {"b"}
    assert ids("bal", "--dims", "4", "--mode", "dense") == {"a", "b", "3"}
    assert ids("-", "--mode", "lexical", stdin="nor\n") == {"3"}
    none = indexed("query", "unheard", "--mode", "lexical")
    assert (none.out, none.err) == ("", "note: no hits\n")
    assert indexed("query", "unheard", "--mode", "lexical", "--json").out == "[]\n"


def test_hits_fit_any_terminal(semsearch_, tmp_path, monkeypatch):
    long = {"_id": "id" * 60, "title": "title " * 30, "text": "word " * 300 + "x" * 300}
    (tmp_path / "c.jsonl").write_text(lines(long, {"_id": "short", "text": "y" * 300}))
    semsearch_("index", "c.jsonl")
    for columns, widest in (("1", 40), ("40", 40), ("80", 80), ("500", 100)):
        monkeypatch.setenv("COLUMNS", columns)
        out = semsearch_("query", "word").out
        assert max(map(len, out.splitlines())) <= widest
        assert "idididid" in out


def test_many_queries_are_written_as_a_run(indexed, tmp_path):
    (tmp_path / "q.tsv").write_text("q1\tbal car\nq2\tnor\nq3\t\n")
    done = indexed("query", "--queries", "q.tsv", "--run", "out.trec", "--mode", "lexical")
    assert done.out == ""
    assert done.err == "note: 3 queries, at most 100 hits each, written to out.trec\n"
    rows = [line.split() for line in (tmp_path / "out.trec").read_text().splitlines()]
    assert [(row[0], row[2], row[3], row[5]) for row in rows] == [
        ("q1", "b", "1", "semsearch"),
        ("q1", "a", "2", "semsearch"),
        ("q2", "3", "1", "semsearch"),
    ]
    indexed("query", "--queries", "q.tsv", "--run", "one.trec", "-k", "1", "--mode", "lexical")
    assert len((tmp_path / "one.trec").read_text().splitlines()) == 2


def test_documents_are_printed_deleted_and_exported(indexed, tmp_path):
    assert json.loads(indexed("get", "a").out) == {
        "_id": "a",
        "title": "First",
        "text": "bal car dir",
        "metadata": {"tags": ["x", "y"], "year": 2019},
    }
    exported = indexed("export").out
    assert [json.loads(line)["_id"] for line in exported.splitlines()] == ["a", "b", "3"]
    copy = indexed("index", "-", "-i", "copy.idx", "--json", stdin=exported)
    assert json.loads(copy.out)["new"] == 3
    assert contents(tmp_path / "copy.idx") == contents(tmp_path / ".semsearch")
    gone = indexed("delete", "a", "zz", "b", "yy")
    assert gone.out == "2 documents deleted\n"
    assert gone.err == "note: not in the index: yy, zz\n"
    assert list(contents(tmp_path / ".semsearch")) == ["3"]
    assert indexed("compact").out == ".semsearch: 2 deleted passages purged; 1 document\n"


def test_the_status_of_an_index(indexed, tmp_path, encoder):
    facts = json.loads(indexed("status", "--json").out)
    size = sum(f.stat().st_size for f in (tmp_path / ".semsearch").rglob("*") if f.is_file())
    assert facts["bytes"] == size
    expected = {
        "index": ".semsearch",
        "documents": 3,
        "passages": 3,
        "long_text": "chunk",
        "chunked": 0,
        "truncated": 0,
        "tokens_lost": 0,
        "deleted_passages": 0,
        "sources": [str(tmp_path / "corpus.jsonl")],
        "model": "fake",
        "fingerprint": encoder.fingerprint,
        "dims": 32,
        "rotated": False,
        "vector_index": "exact",
        "lexical_index": True,
    }
    assert {name: facts[name] for name in expected} == expected
    table = dict(re.split(r"  +", line, maxsplit=1) for line in indexed("status").out.splitlines())
    assert table["documents"] == "3"
    assert table["model"] == "fake"
    assert table["rotated"] == "no"


# Help


@pytest.mark.parametrize("command", [*_COMMANDS, ""])
def test_help_has_an_example(semsearch_, command):
    arguments = [command] if command else []
    text = semsearch_(*arguments, "--help").out
    assert re.search(rf"Examples?: .*semsearch {command}", text, re.S)
    assert text.startswith(f"Usage: cli {command}".rstrip())
    assert semsearch_(*arguments, "-h").out == text


def test_the_version_is_printed(semsearch_):
    assert semsearch_("--version").out == f"semsearch, version {semsearch.__version__}\n"


# One line for each failure; exit code 1

BAD_CORPUS = {
    "malformed JSON": ("{'_id': 1}", "not valid JSON (Expecting property name"),
    "a list": ("[1]", "expected a JSON object a line, found a list"),
    "no id": ('{"text": "x"}', "no id: expected a field _id, id, docid"),
    "no text": ('{"_id": "x"}', "no text: expected a field text, contents"),
    "another type of text": ('{"_id": "x", "text": 5}', "the field 'text' is a number"),
    "another type of id": ('{"_id": 1.5, "text": "x"}', "the id is a number with a fraction"),
    "no value as id": ('{"_id": null, "text": "x"}', "the id is null: ids are text or whole"),
    "an empty id": ('{"_id": " ", "text": "x"}', "the id is empty"),
    "a surrogate in an id": (
        '{"_id": "\\ud800", "text": "x"}',
        "the id '\\ud800' holds a NUL or a lone",
    ),
    "a NUL byte": ('{"_id": "x", "text": "\0"}', "the line holds a NUL byte"),
    "a number that is none": (
        '{"_id": "x", "text": "x", "n": NaN}',
        "not valid JSON (NaN is not a JSON",
    ),
    "deep nesting": ('{"a":' + "[" * 100_000, "the JSON is nested too deeply"),
    "a duplicate": ('{"_id": "d0003", "text": "x"}', "duplicate id 'd0003', first at"),
}


@pytest.mark.parametrize("name", BAD_CORPUS)
def test_a_bad_record_is_named_and_what_came_before_it_is_kept(
    semsearch_, tmp_path, monkeypatch, name
):
    monkeypatch.setattr("semsearch.indexing.source.WINDOW_DOCUMENTS", 4)
    record, message = BAD_CORPUS[name]
    good = [{"_id": d.id, "text": d.text} for d in make_documents(10)]
    corpus = tmp_path / "c.jsonl"
    corpus.write_text(lines(*good) + record + "\n" + lines({"_id": "last", "text": "x"}))
    done = semsearch_("index", "c.jsonl", code=1)
    (line,) = done.err.splitlines()
    assert re.match(rf"Error: (.*/)?c\.jsonl:11: {re.escape(message)}", line)
    assert len(contents(tmp_path / ".semsearch")) == 8
    if name == "a duplicate":
        return
    skipped = semsearch_("index", "c.jsonl", "--on-error", "skip", "--json")
    assert skipped.err.startswith("note: skipped: c.jsonl:11: ")
    assert skipped.err.count("\n") == 1
    found = json.loads(skipped.out)
    assert (found["new"], found["unchanged"], found["malformed"]) == (3, 8, 1)


BAD_FILES = {
    "nothing.jsonl": (None, "Error: nothing.jsonl: no such file or folder"),
    "array.json": (b'[{"_id": 1}]', "Error: array.json: one JSON array, not JSON lines: split it"),
    "what.xyz": (b"\x7fELF", "Error: what.xyz: unknown format: a corpus is JSON lines"),
    "latin.jsonl": (
        b'{"_id": 1, "text": "caf\xe9"}',
        "Error: latin.jsonl:1: not UTF-8 (byte 0xe9 at byte 24 of the line): convert it first",
    ),
    "wide.jsonl": ("\ufeffx".encode("utf-16"), "Error: wide.jsonl:1: this is UTF-16: convert it"),
    "cut.jsonl.gz": (
        gzip.compress(os.urandom(9999))[:5000],
        "Error: cut.jsonl.gz:1: the gzip data is truncated or damaged",
    ),
    "long.jsonl": (
        b'{"_id": 1, "text": "' + b"x" * (33 << 20) + b'"}',
        "Error: long.jsonl:1: the line is longer than 32 MB: split the document",
    ),
    "table.csv": (b"name,age\nx,3\n", "Error: table.csv:1: no id: expected a field _id, id"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_file_that_cannot_be_used(semsearch_, tmp_path, name):
    data, message = BAD_FILES[name]
    if data is not None:
        (tmp_path / name).write_bytes(data)
    done = semsearch_("index", name, code=1)
    (line,) = done.err.splitlines()
    assert line.startswith(message)
    assert not contents_or_none(tmp_path / ".semsearch")


def contents_or_none(folder):
    return contents(folder) if Layout(folder).catalog.is_file() else None


def test_what_only_looks_bad_is_indexed(semsearch_, tmp_path):
    (tmp_path / "c.jsonl").write_bytes(
        b'\xef\xbb\xbf{"_id": 1, "text": "a \\ud800 b"}\r\n\r\n{"_id": 2, "text": "c \\u0000 d"}'
    )
    assert json.loads(semsearch_("index", "c.jsonl", "--json").out)["new"] == 2
    stored = contents(tmp_path / ".semsearch")
    assert [d.text for d in stored.values()] == ["a \ufffd b", "c \ufffd d"]
    (tmp_path / "empty.jsonl").write_text("\n")
    done = semsearch_("index", "empty.jsonl", "-i", "e.idx")
    assert done.out.startswith("e.idx: 0 new / 0 updated / 0 unchanged")


def test_an_unusual_query(indexed):
    for text in ("?!.,", "bal \0 car", "bal \ud800 car", "a" * 10_000_000, "AND OR ("):
        assert len(json.loads(indexed("query", text, "--json").out)) == 3
    assert indexed("query", "?!.,", "--mode", "lexical").err == "note: no hits\n"
    assert len(json.loads(indexed("query", "bal", "-k", "100000", "--json").out)) == 3


def test_an_empty_index(semsearch_):
    semsearch_("index", "-", stdin="")
    found = semsearch_("query", "anything", "--json")
    assert found.out == "[]\n"
    assert found.err == (
        "note: .semsearch is empty: add documents with `semsearch index CORPUS -i .semsearch`\n"
    )


def test_token_vectors_are_kept_dropped_and_made_again(semsearch_, tmp_path):
    (tmp_path / "c.jsonl").write_text(lines(*({"_id": str(n), "text": "bal dor"} for n in "ab")))
    names = ("keeps_token_vectors", "token_vectors", "token_vectors_missing")

    def kept():
        facts = json.loads(semsearch_("status", "--json").out)
        assert (facts["token_bytes"] > 0) == (facts["token_vectors"] > 0)
        return tuple(facts[name] for name in names)

    semsearch_("index", "c.jsonl")
    assert kept() == (True, 2, 0)
    assert semsearch_("compact", "--no-token-vectors").err == ""
    assert kept() == (False, 0, 0)
    made = "note: made the token vectors of 2 passages stored without them\n"
    assert semsearch_("index", "c.jsonl", "--token-vectors").err == made
    assert kept() == (True, 2, 0)
    semsearch_("compact", "--no-token-vectors")
    assert semsearch_("compact", "--token-vectors").err == made
    assert kept() == (True, 2, 0)
    (path,) = Layout(tmp_path / ".semsearch").segments.glob("*.tok")
    path.unlink()
    assert semsearch_("compact", "--token-vectors").err.splitlines()[-1:] == [made.strip()]
    semsearch_("check")


NO_INDEX = "Error: none.idx: no index there: make one with `semsearch index CORPUS -i none.idx`\n"


@pytest.mark.parametrize(
    "command", [["query", "x"], ["status"], ["get", "x"], ["delete", "x"], ["export"], ["compact"]]
)
def test_an_index_that_is_not_there(semsearch_, tmp_path, command):
    assert semsearch_(*command, "-i", "none.idx", code=1).err == NO_INDEX
    assert not (tmp_path / "none.idx").exists()


def test_a_document_that_is_not_there(indexed):
    assert indexed("get", "zz", code=1).err == "Error: .semsearch: no document 'zz'\n"
    assert indexed("get", "\udcff", code=1).err.startswith("Error: .semsearch: no document")


def test_an_index_made_by_another_model(indexed, monkeypatch):
    other = FakeEncoder(name="other")
    monkeypatch.setattr(semsearch.encoders, "open_encoder", lambda *_, **__: other)
    refused = indexed("query", "bal", code=1)
    assert re.fullmatch(
        r"Error: the index was made by fake \(\w{12}\), not by other \(\w{12}\): use that model, or"
        r" make a new index with -i\n",
        refused.err,
    )
    refused = indexed("index", "corpus.jsonl", code=1)
    assert re.fullmatch(
        r"Error: \.semsearch: the index was made by fake \(\w{12}\), not by other .*\n", refused.err
    )
    assert indexed("query", "bal", "--mode", "lexical").out, "words need no model"


def test_a_second_writer_is_refused(indexed, tmp_path):
    with open_for_writing(Layout(tmp_path / ".semsearch")):
        for command in (["index", "corpus.jsonl"], ["delete", "a"], ["compact"]):
            assert indexed(*command, code=1).err == (
                f"Error: .semsearch: another process (pid {os.getpid()}) is writing to this index:"
                " wait for it to finish, then run again\n"
            )
        assert indexed("query", "bal").out, "reading goes on"
    assert indexed("delete", "a").out == "1 document deleted\n"


@pytest.mark.parametrize("step", ["create", "write", "fsync", "rename", "sync-folder"])
def test_a_full_disk(indexed, tmp_path, monkeypatch, step):
    monkeypatch.setattr(writer, "FLUSH_ROWS", 10)
    before = contents(tmp_path / ".semsearch")
    (tmp_path / "more.jsonl").write_text(
        lines(*({"_id": d.id, "text": d.text} for d in make_documents(30)))
    )

    def full(name):
        if name == step:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(fs, "hook", full)
    (line,) = indexed("index", "more.jsonl", code=1).err.splitlines()
    assert re.match(r"Error: \.semsearch.*: cannot write: the disk is full: free some space", line)
    monkeypatch.setattr(fs, "hook", None)
    assert contents(tmp_path / ".semsearch") == before
    assert json.loads(indexed("index", "more.jsonl", "--json").out)["new"] == 30


def test_a_read_only_folder(indexed, tmp_path, monkeypatch):
    def read_only(name):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(fs, "hook", read_only)
    done = indexed("index", "corpus.jsonl", "-i", "new.idx", code=1)
    assert re.fullmatch(r"Error: \S+: cannot write: the file system is read-only\n", done.err)
    assert not (tmp_path / "new.idx" / "catalog.db").exists()


def test_a_damaged_file(semsearch_, tmp_path, monkeypatch):
    monkeypatch.setattr(writer, "FLUSH_ROWS", 10)
    (tmp_path / "c.jsonl").write_text(
        lines(*({"_id": d.id, "text": d.text} for d in make_documents(30)))
    )
    semsearch_("index", "c.jsonl")
    (segment,) = Layout(tmp_path / ".semsearch").segments.glob("*.vec")
    shutil.copytree(".semsearch", "gone.idx")
    (Layout(tmp_path / "gone.idx").segments / segment.name).unlink()
    (line,) = semsearch_("query", "bal", "-i", "gone.idx", code=1).err.splitlines()
    assert line.startswith(f"Error: gone.idx/seg/{segment.name}: the vector file is missing: ")
    data = segment.read_bytes()
    segment.write_bytes(data[:-9] + bytes([data[-9] ^ 4]) + data[-8:])
    (line,) = semsearch_("query", "bal", code=1).err.splitlines()
    assert line.startswith(f"Error: .semsearch/seg/{segment.name}: the vector file is damaged: ")
    Layout(tmp_path / ".semsearch").catalog.write_bytes(b"not a database, only some text" * 99)
    for command in (["query", "bal"], ["index", "c.jsonl"], ["status"], ["export"]):
        (line,) = semsearch_(*command, code=1).err.splitlines()
        assert line.startswith("Error: .semsearch/catalog.db: ")


def test_a_model_that_is_not_there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "c.jsonl").write_text(lines(*CORPUS))
    monkeypatch.setattr(
        "semsearch.encoders.resolve._download", lambda name: pytest.fail("tried to fetch")
    )
    result = CliRunner().invoke(cli, ["index", "c.jsonl", "-m", "./no/such/model"])
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "Error: ./no/such/model: no such model folder\n"


def test_a_missing_package_is_named_with_its_installation(indexed, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    (tmp_path / "c.parquet").write_bytes(b"PAR1")
    refused = indexed("index", "c.parquet", code=1)
    assert re.fullmatch(
        r"Error: .* needs pyarrow: pip install 'semsearch\[parquet\]'\n", refused.err
    )

    monkeypatch.setitem(sys.modules, "tantivy", None)
    (line,) = indexed("query", "bal", "--mode", "lexical", code=1).err.splitlines()[-1:]
    assert re.fullmatch(r"Error: .* needs tantivy: pip install tantivy", line)
    dense = indexed("query", "bal")
    assert len(dense.out.splitlines()) == 6
    assert re.fullmatch(
        r"note: .* needs tantivy: pip install tantivy; searching dense only\n", dense.err
    )
    (tmp_path / "new.jsonl").write_text(lines({"_id": "n", "text": "new words"}))
    (note,) = indexed("index", "new.jsonl").err.splitlines()
    assert "pip install tantivy; until then searches are dense only" in note

    monkeypatch.setitem(sys.modules, "faiss", None)
    lower_limits(monkeypatch, 2)
    (tmp_path / "new.jsonl").write_text(lines({"_id": "m", "text": "more new words"}))
    notes = indexed("index", "new.jsonl").err
    assert "needs faiss-cpu: pip install 'semsearch[cpu]'; until then every vector is" in notes
    assert len(json.loads(indexed("query", "bal", "--mode", "dense", "--json").out)) == 5


# Wrong usage; exit code 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["query"], "give either TEXT or --queries FILE"),
        (["query", "x", "--queries", "corpus.jsonl"], "give either TEXT or --queries FILE"),
        (["query", "x", "--run", "out"], "--queries and --run belong together"),
        (["query", " "], "the query is empty: give some words to search for"),
        (["query", "x", "-k", "0"], "k must be between 1 and 100000, not 0"),
        (["query", "x", "-k", "1000000000"], "k must be between 1 and 100000, not 1000000000"),
        (["query", "--queries", "corpus.jsonl", "--run", "o", "-k", "0"], "k must be between 1"),
        (["query", "x", "--dims", "33"], "dims must be between 1 and 32, the width of this index"),
        (["query", "x", "--dims", "0"], "dims must be between 1 and 32, the width of this index"),
        (["query", "x", "-f", "year"], "filter 'year': expected FIELD OP VALUE with OP one of"),
        (["query", "x", "-f", "year>true"], "> needs a number or a text"),
        (["query", "x", "--mode", "fuzzy"], "'fuzzy' is not one of 'hybrid', 'dense', 'lexical'"),
        (["query", "--queries", "none.tsv", "--run", "o"], "File 'none.tsv' does not exist"),
        (["index"], "Missing argument 'CORPUS...'"),
        (["index", "corpus.jsonl", "-i", "w.idx", "--dims", "99"], "--dims 99: fake makes vectors"),
        (["index", "corpus.jsonl", "--prune", "--on-error", "skip"], "--prune would delete the"),
        (["index", "corpus.jsonl", "-i", "corpus.jsonl"], "Directory 'corpus.jsonl' is a file"),
        (["nonsense"], "No such command 'nonsense'"),
        (["delete"], "Missing argument 'ID...'"),
    ],
)
def test_wrong_usage(indexed, arguments, message):
    done = indexed(*arguments, code=2)
    last = done.err.splitlines()[-1]
    assert last.startswith("Error: ")
    assert message in last


def test_a_bad_file_of_queries(indexed, tmp_path):
    (tmp_path / "q.jsonl").write_text('{"_id": "a", "text": "x"}\n{"_id": "b"}\n')
    (line,) = indexed("query", "--queries", "q.jsonl", "--run", "o", code=1).err.splitlines()
    assert line.startswith("Error: q.jsonl:2: no text")
    assert not (tmp_path / "o").exists()


def test_messages_hold_no_control_characters(semsearch_, tmp_path):
    name = "bad\x1b[31m\nname.jsonl"
    (tmp_path / name).write_text("{\n")
    (line,) = semsearch_("index", name, code=1).err.splitlines()
    assert line.startswith("Error: bad [31m name.jsonl:1: not valid JSON")


def test_the_index_may_be_named_by_the_environment(indexed, tmp_path, monkeypatch):
    monkeypatch.setenv("SEMSEARCH_INDEX", str(tmp_path / "other.idx"))
    indexed("index", "corpus.jsonl")
    with Reader(tmp_path / "other.idx") as reader:
        assert reader.snapshot().generation.n_document == 3
    assert indexed("delete", "a").out == "1 document deleted\n"
    assert len(contents(tmp_path / ".semsearch")) == 3
