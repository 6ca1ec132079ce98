"""The one door: which reader a path gets, and what is refused at once."""

import gzip
import json
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

import semsearch.corpus
from semsearch.corpus import read_corpus, read_qrels, read_queries, read_run
from semsearch.errors import InputError, UsageError
from semsearch.types import Document

LINE = b'{"id": 1, "text": "one"}\n'


@pytest.mark.parametrize("name", ["a.jsonl", "a.ndjson", "a.json", "a.dump", "noname", "a.JSONL"])
@pytest.mark.parametrize("packed", [False, True])
def test_json_lines_under_many_names(tmp_path, name, packed):
    path = tmp_path / (name + ".gz" * packed)
    path.write_bytes(gzip.compress(LINE) if packed else b"\xef\xbb\xbf\n " + LINE)
    assert list(read_corpus(str(path))) == [Document("1", "one")]


def test_a_json_array_is_refused_with_the_way_out(tmp_path):
    path = tmp_path / "a.json"
    path.write_text(json.dumps([{"id": 1}]))
    with pytest.raises(InputError) as caught:
        read_corpus(path)
    assert str(caught.value) == (
        f"{path}: one JSON array, not JSON lines: split it with jq -c '.[]' {path} > corpus.jsonl"
    )


@pytest.mark.parametrize("data", [b"%PDF-1.7\n", b"\x28\xb5\x2f\xfd", b"id,text\n"])
def test_unknown_formats_are_refused_with_the_list(tmp_path, data):
    path = tmp_path / "a.bin"
    path.write_bytes(data)
    with pytest.raises(InputError) as caught:
        read_corpus(path)
    assert str(caught.value) == (
        f"{path}: unknown format: a corpus is JSON lines (.jsonl), CSV, TSV, Parquet, "
        "text (.txt), Markdown (.md) or a folder of text"
    )


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.csv", "a.tsv", "a", "a.jsonl.gz"])
def test_an_empty_file_has_no_documents(tmp_path, name):
    (tmp_path / name).write_bytes(b"")
    assert list(read_corpus(tmp_path / name)) == []


def test_several_inputs_in_the_order_given(tmp_path):
    (tmp_path / "b.jsonl").write_bytes(LINE)
    (tmp_path / "a.csv").write_text("id,text\n2,two\n")
    (tmp_path / "n.md").write_text("# Note\nthree")
    names = ["b.jsonl", "a.csv", "n.md", "b.jsonl"]
    found = list(read_corpus([tmp_path / name for name in names]))
    assert [d.text for d in found] == ["one", "two", "three", "one"]
    assert [d.source for d in found] == [str(tmp_path / name) for name in names]


def test_missing_inputs_are_reported_before_anything_is_read(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(LINE)
    with pytest.raises(InputError) as caught:
        read_corpus([tmp_path / "a.jsonl", tmp_path / "none.jsonl"])
    assert str(caught.value) == f"{tmp_path / 'none.jsonl'}: no such file or folder"


def test_wrong_arguments():
    with pytest.raises(UsageError, match="on_error is 'ignore': expected 'stop' or 'skip'"):
        read_corpus("x", on_error="ignore")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="no corpus was given"):
        read_corpus([])


def test_duplicate_ids_are_left_to_the_indexer(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(LINE * 2)
    assert [(d.id, d.line) for d in read_corpus(tmp_path / "a.jsonl")] == [("1", 1), ("1", 2)]


def test_public_names_are_loaded_lazily():
    script = (
        "import sys, semsearch.corpus as c; before = set(sys.modules); "
        "assert not any(m.startswith('semsearch.corpus.') for m in before); "
        "[getattr(c, name) for name in c.__all__]; "
        "assert not {'numpy', 'pyarrow', 'torch', 'faiss'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert set(semsearch.corpus.__all__) <= set(dir(semsearch.corpus))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = semsearch.corpus.nothing


pieces = st.lists(
    st.sampled_from(
        [*b"{}[]:,;'\\\t\n\r \x00\xff#-=`"]
        + [b'"', b'""', b"\n\n", b"\xef\xbb\xbf", b"\\ud800", b"\\u0000", b"\xc3\xa9", b"\xe9"]
        + [
            b"id",
            b"text",
            b"title",
            b'{"id": ',
            b'"text": "a"}\n',
            b"q1 Q0 d1 1 ",
            b"nan",
            b"1e999",
        ]
        + [b"query-id\tcorpus-id\tscore\n", b"null", b"-1", b"99999999999999999999", b"---\n"]
    ).map(lambda piece: bytes([piece]) if isinstance(piece, int) else piece)
    | st.binary(max_size=4),
    max_size=30,
).map(b"".join)


@given(pieces, st.sampled_from([".jsonl", ".csv", ".tsv", ".md", ".txt", ".json", ""]))
def test_no_bytes_whatsoever_raise_anything_but_an_input_error(tmp_path_factory, data, suffix):
    path = tmp_path_factory.getbasetemp() / f"fuzz{suffix}"
    path.write_bytes(data)
    outcome = [attempt(lambda: list(read_corpus(path)), path)]
    skipped: list[InputError] = []
    found = attempt(lambda: list(read_corpus(path, on_error="skip", on_skip=skipped.append)), path)
    if isinstance(outcome[0], list):
        assert found == outcome[0]
        assert skipped == []
    elif isinstance(found, list):
        assert str(skipped[0]) == outcome[0]
    for document in found if isinstance(found, list) else []:
        assert document.id.strip()
        json.dumps([document.id, document.content, document.metadata], allow_nan=False).encode()
    for read in (read_qrels, read_run, read_queries):
        attempt(lambda read=read: read(path), path)


def attempt(read, path):
    """What ``read`` returns, or the text of its InputError: one line that names the file."""
    try:
        return read()
    except InputError as error:
        text = str(error)
    assert text.startswith(f"{path}:")
    assert "\n" not in text
    return text
