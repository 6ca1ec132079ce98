"""One door to every kind of corpus: what a path is, and which reader reads it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from pathlib import Path, PurePath
from typing import Literal

from semsearch.corpus.beir import CORPUS_NAMES
from semsearch.corpus.fields import Fields
from semsearch.corpus.folders import (
    TEXT_SUFFIXES,
    glob_files,
    read_folder,
    read_text_file,
    text_files,
)
from semsearch.corpus.jsonl import read_jsonl
from semsearch.corpus.parquet import read_parquet
from semsearch.corpus.table import read_table
from semsearch.corpus.text import STDIN, Reject, first_bytes, stop
from semsearch.errors import InputError, UsageError
from semsearch.types import Document

FORMATS = "JSON lines (.jsonl), CSV, TSV, Parquet, text (.txt), Markdown (.md) or a folder of text"

_JSON_LINES = (".jsonl", ".ndjson")
_TABLES = (".csv", ".tsv", ".tab")
_PARQUET = (".parquet", ".pq")


def read_corpus(
    paths: str | Path | Sequence[str | Path],
    *,
    id_field: str | None = None,
    text_field: str | None = None,
    on_error: Literal["stop", "skip"] = "stop",
    on_skip: Callable[[InputError], None] | None = None,
) -> Iterator[Document]:
    """Stream the documents of one or more inputs, in the order given, in constant memory.

    An input is ``-`` (JSON lines on standard input), a file of one of `FORMATS` (gzip or not), a
    glob pattern, a folder in BEIR's layout (its corpus) or a folder of text and Markdown files.
    Documents without text are yielded too, and repeated ids are not looked for. Every document
    carries its source (the file as given, ``stdin``, or the folder or pattern that its file was
    found by) and line.

    With ``on_error="skip"`` a malformed record goes to ``on_skip`` and reading continues behind
    it; what cannot be read at all still raises. Raises InputError, at once for a missing input
    and otherwise while iterating, UsageError for a wrong argument, MissingExtra for Parquet files
    without pyarrow.
    """
    if on_error not in ("stop", "skip"):
        raise UsageError(f"on_error is {on_error!r}: expected 'stop' or 'skip'")
    inputs = [paths] if isinstance(paths, (str, Path)) else list(paths)
    if not inputs:
        raise UsageError("no corpus was given")
    reject = stop if on_error == "stop" else on_skip or _ignore
    fields = Fields(id_field, text_field)
    return chain.from_iterable([_read(str(path), fields, reject) for path in inputs])


def _ignore(_: InputError) -> None:
    return None


def _read(path: str, fields: Fields, reject: Reject) -> Iterator[Document]:
    if path == STDIN:
        return read_jsonl(path, fields, reject)
    if Path(path).is_dir():
        return _read_folder(path, fields, reject)
    if Path(path).exists():
        return _read_file(path, fields, reject)
    if any(mark in path for mark in "*?["):
        return _read_glob(path, fields, reject)
    raise InputError("no such file or folder", path)


def _read_folder(path: str, fields: Fields, reject: Reject) -> Iterator[Document]:
    for name in CORPUS_NAMES:
        if (Path(path) / name).is_file():
            return read_jsonl(Path(path) / name, fields, reject)
    if next(text_files(path, _ignore), None) is None:
        names = " or ".join(CORPUS_NAMES)
        raise InputError(f"no {names} in this folder and no .txt or .md file below it", path)
    return read_folder(path, reject)


def _read_glob(pattern: str, fields: Fields, reject: Reject) -> Iterator[Document]:
    for path in glob_files(pattern):
        if _suffix(path) in TEXT_SUFFIXES:
            yield from read_text_file(path, _file_id(path), pattern, reject)
        else:
            yield from _read_file(path, fields, reject)


def _read_file(path: str, fields: Fields, reject: Reject) -> Iterator[Document]:
    suffix = _suffix(path)
    if suffix in TEXT_SUFFIXES:
        return read_text_file(path, _file_id(path), path, reject)
    if suffix in _PARQUET:
        return read_parquet(path, fields, reject)
    if suffix in _TABLES:
        return read_table(path, fields, reject)
    # A pipe can be read only once, so it is taken for JSON lines without a look.
    if suffix not in _JSON_LINES and Path(path).is_file():
        _expect_json_lines(path)
    return read_jsonl(path, fields, reject)


def _expect_json_lines(path: str) -> None:
    start = first_bytes(path).lstrip()
    if start.startswith(b"["):
        raise InputError(
            f"one JSON array, not JSON lines: split it with jq -c '.[]' {path} > corpus.jsonl", path
        )
    if start and not start.startswith(b"{"):
        raise InputError(f"unknown format: a corpus is {FORMATS}", path)


def _suffix(path: str) -> str:
    return PurePath(path.lower().removesuffix(".gz")).suffix


def _file_id(path: str) -> str:
    return PurePath(path).as_posix()
