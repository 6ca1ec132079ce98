"""Lines of text: encodings, limits, gzip, memory."""

import gzip
import io
import os
import sys
import tracemalloc
from pathlib import Path

import pytest

from semsearch.corpus import read_corpus
from semsearch.corpus.text import MAX_LINE, first_bytes, good_lines, read_lines, read_text
from semsearch.errors import InputError


def message(path, **options):
    with pytest.raises(InputError) as caught:
        list(good_lines(path, **options))
    return str(caught.value)


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


@pytest.mark.parametrize("name", ["a.txt", "a.txt.gz"])
def test_lines_are_numbered_from_1_and_lose_their_ends(tmp_path, name):
    path = write(tmp_path / name, "\ufefföne\r\n\n  \ntwo\u2028 \x0b\nthree".encode())
    assert [(line.number, line.text, line.error) for line in read_lines(path)] == [
        (1, "öne", None),
        (2, "", None),
        (3, "  ", None),
        (4, "two\u2028 \x0b", None),
        (5, "three", None),
    ]
    assert list(good_lines(path)) == [(1, "öne"), (4, "two\u2028 \x0b"), (5, "three")]


def test_gzip_is_recognised_by_content_not_by_name(tmp_path):
    packed = tmp_path / "packed.jsonl"
    packed.write_bytes(gzip.compress(b"one\n"))
    plain = tmp_path / "plain.jsonl.gz"
    plain.write_bytes(b"one\n")
    assert list(good_lines(packed)) == list(good_lines(plain)) == [(1, "one")]
    assert first_bytes(packed) == first_bytes(plain) == b"one\n"


@pytest.mark.parametrize("data", [b"", gzip.compress(b"")])
def test_an_empty_file_has_no_lines(tmp_path, data):
    (tmp_path / "empty").write_bytes(data)
    assert list(read_lines(tmp_path / "empty")) == []
    assert read_text(tmp_path / "empty") == ""
    assert first_bytes(tmp_path / "empty") == b""


def test_wrong_encoding_names_the_line_and_the_way_out(tmp_path):
    path = write(tmp_path / "latin.txt", "fine\ncafé au lait\nfine\n".encode("latin-1"))
    assert message(path) == (
        f"{path}:2: not UTF-8 (byte 0xe9 at byte 4 of the line): convert it first, for example: "
        f"iconv -f WINDOWS-1252 -t UTF-8 {path} > utf8.txt"
    )
    errors: list[InputError] = []
    assert list(good_lines(path, errors.append)) == [(1, "fine"), (3, "fine")]
    assert [(error.file, error.line) for error in errors] == [(str(path), 2)]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be"])
def test_utf_16_is_refused_whatever_the_policy(tmp_path, encoding):
    mark = b"" if encoding == "utf-16" else b"\xfe\xff"
    path = write(tmp_path / "wide.txt", mark + "one\ntwo\n".encode(encoding))
    expected = f"{path}:1: this is UTF-16: convert it first, for example: iconv -f UTF-16 -t UTF-8"
    assert message(path).startswith(expected)
    assert message(path, reject=lambda error: None).startswith(expected)


def test_nul_bytes_are_no_text(tmp_path):
    path = write(tmp_path / "binary.txt", b"one\n\0\0\0\n")
    assert message(path) == f"{path}:2: the line holds a NUL byte: this is not a UTF-8 text file"


@pytest.mark.parametrize("name", ["long.txt", "long.txt.gz"])
@pytest.mark.parametrize("first", [b"", b"short\n"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("end", [b"\n", b"\r\n", b""])
def test_a_line_at_the_limit_passes_and_one_byte_more_does_not(tmp_path, name, first, mark, end):
    lead = 2 if first else 1
    for length in range(9, 15):
        path = write(tmp_path / name, mark + first + b"x" * length + end + (end and b"next\n"))
        tail = [(lead + 1, "next")] if end else []
        start = [(1, "short")] if first else []
        errors: list[InputError] = []
        found = list(good_lines(path, errors.append, max_line=10))
        if length <= 10:
            assert found == [*start, (lead, "x" * length), *tail]
            assert not errors
        else:
            assert found == start + tail
            assert [str(error) for error in errors] == [
                f"{path}:{lead}: the line is longer than 10 bytes: "
                "split the document into smaller ones"
            ]


def test_a_50_mb_line_gets_one_line_and_is_never_whole_in_memory(tmp_path):
    path = tmp_path / "huge.jsonl"
    with path.open("wb") as file:
        file.write(b'{"id": "a", "text": "fine"}\n')
        for _ in range(150):
            file.write(b"x" * (1 << 20))
        file.write(b'\n{"id": "b", "text": "fine"}\n')
    tracemalloc.start()
    try:
        with pytest.raises(InputError) as caught:
            list(read_corpus(path))
        errors: list[InputError] = []
        found = read_corpus(path, on_error="skip", on_skip=errors.append)
        assert [document.id for document in found] == ["a", "b"]
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    expected = f"{path}:2: the line is longer than 32 MB: split the document into smaller ones"
    assert [str(caught.value)] == [str(error) for error in errors] == [expected]
    assert peak < 3 * MAX_LINE


def test_missing_file_folder_and_forbidden_file(tmp_path):
    assert message(tmp_path / "none.txt") == f"{tmp_path / 'none.txt'}: no such file"
    folder = f"{tmp_path}: this is a folder, and a file is expected here"
    assert message(tmp_path) == folder
    assert message("bad\0name").startswith("bad\0name: cannot open: ")
    if os.geteuid():
        path = write(tmp_path / "closed.txt", b"one\n")
        path.chmod(0)
        assert message(path) == f"{path}: cannot open: Permission denied"


def test_truncated_and_damaged_gzip(tmp_path):
    lines = b"".join(b"%d %d\n" % (n, n * 7919 % 104729) for n in range(200_000))
    whole = gzip.compress(lines)
    path = tmp_path / "cut.txt.gz"
    path.write_bytes(whole[: len(whole) // 2])
    seen: list[tuple[int, str]] = []
    with pytest.raises(InputError) as caught:
        collect(good_lines(path), seen)
    assert "the gzip data is truncated or damaged: test it with gzip -t" in str(caught.value)
    assert seen == [(n + 1, f"{n} {n * 7919 % 104729}") for n in range(len(seen))]
    assert 0 < len(seen) < 200_000
    assert caught.value.line == len(seen) + 1
    damaged = bytearray(whole)
    damaged[len(whole) // 2] ^= 0xFF
    path.write_bytes(damaged)
    assert "truncated or damaged" in message(path, reject=lambda error: None)
    path.write_bytes(b"\x1f\x8b")
    with pytest.raises(InputError, match="truncated or damaged"):
        first_bytes(path)


def collect(lines, seen):
    for line in lines:
        seen.append(line)


def test_read_text_joins_lines_and_has_a_limit(tmp_path):
    path = write(tmp_path / "a.txt", b"\xef\xbb\xbfone\r\n\r\ntwo\n")
    assert read_text(path) == "one\n\ntwo"
    with pytest.raises(InputError) as caught:
        read_text(path, limit=7)
    assert str(caught.value) == f"{path}: longer than 7 bytes: split it into smaller files"
    bad = write(tmp_path / "b.txt", b"one\n\xff\n")
    with pytest.raises(InputError, match=f"^{bad}:2: not UTF-8"):
        read_text(bad)


@pytest.mark.parametrize("packed", [False, True])
def test_standard_input_is_read_and_left_open(monkeypatch, packed):
    data = b"one\ntwo\n"
    stdin = io.TextIOWrapper(io.BytesIO(gzip.compress(data) if packed else data))
    monkeypatch.setattr(sys, "stdin", stdin)
    assert list(good_lines("-")) == [(1, "one"), (2, "two")]
    assert not stdin.buffer.closed


def test_errors_on_standard_input_name_it(monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"one\n\xff\n")))
    assert message("-").startswith("stdin:2: not UTF-8 (byte 0xff at byte 1")


def test_a_pipe_is_read_once(tmp_path):
    read_end, write_end = os.pipe()
    with os.fdopen(write_end, "wb") as pipe:
        pipe.write(b'{"id": 1, "text": "one"}\n')
    found = list(read_corpus(f"/dev/fd/{read_end}"))
    os.close(read_end)
    assert [(document.id, document.text) for document in found] == [("1", "one")]


FILLER = "word " * 4000


def corpus_line(suffix: str, number: int) -> str:
    if suffix.startswith(".jsonl"):
        return f'{{"id": {number}, "text": "{FILLER}"}}\n'
    comma = "," if suffix.startswith(".csv") else "\t"
    return f"{number}{comma}{FILLER}\n"


@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz", ".csv", ".tsv"])
def test_60_mb_are_read_in_constant_memory(tmp_path, suffix):
    path = tmp_path / f"corpus{suffix}"
    opener = gzip.open if suffix.endswith(".gz") else open
    with opener(path, "wt", encoding="utf-8") as file:
        if not suffix.startswith(".jsonl"):
            file.write("id,text\n" if suffix == ".csv" else "id\ttext\n")
        for number in range(3000):
            file.write(corpus_line(suffix, number))
    tracemalloc.start()
    try:
        count = sum(len(document.text) == len(FILLER) for document in read_corpus(path))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert count == 3000
    assert peak < 2_000_000
