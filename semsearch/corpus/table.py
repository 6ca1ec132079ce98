"""CSV and TSV: a header, then one record a row.

CSV follows the usual quoting rules, so a quoted field may span lines; a header without a comma but
with semicolons makes the semicolon the separator. TSV has one record a line, as such files are
written in the field: quotes are text, unless they wrap a whole field with inner quotes doubled.
"""

from __future__ import annotations

import csv
import json
import math
import re
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from semsearch.corpus.fields import Fields
from semsearch.corpus.text import MAX_LINE, Reject, good_lines, name_of, read_lines, stop
from semsearch.errors import InputError
from semsearch.types import Document

_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_WORDS: dict[str, object] = {"true": True, "false": False, "null": None}
_WRAPPED = re.compile(r'"((?:[^"]|"")*)"')


class Row(NamedTuple):
    """The cells of one record and the 1-based line it starts on."""

    line: int
    cells: list[str]


def read_table(
    path: str | Path, fields: Fields | None = None, reject: Reject = stop
) -> Iterator[Document]:
    """Documents of a TSV file (named ``.tsv`` or ``.tab``), else of a CSV file; gzip or not.

    Bad rows go to ``reject``; what cannot be read at all raises InputError, and so does a header
    without id and text.
    """
    fields = fields or Fields()
    name = name_of(path)
    for line, record in read_records(path, fields, reject, tsv=is_tsv(path)):
        try:
            document = fields.document(record, name, line)
        except InputError as error:
            reject(error)
            continue
        yield document


def read_records(
    path: str | Path, fields: Fields, reject: Reject = stop, *, tsv: bool
) -> Iterator[tuple[int, dict[str, object]]]:
    """Line number and named cells of every row below the header; blank lines are passed over.

    A TSV file of two columns whose first row has none of the usual names has no header: its
    columns are id and text. Id, title and text stay text. Other cells that spell a JSON number,
    true, false or null become that value, as in filters, and empty ones are left out.
    """
    name = name_of(path)
    rows = _tsv_rows(path, reject) if tsv else _csv_rows(path, reject)
    first = next(rows, None)
    if first is None:
        return
    header = _header(first, fields, name)
    names = fields.names(header)
    if names.id is None or names.text is None:
        if not tsv or len(header) != 2 or any(names) or fields.id or fields.text:
            raise fields.missing(header, name, first.line)
        header = [fields.usual_ids[0], fields.usual_texts[0]]
        names = fields.names(header)
        rows = chain([first], rows)
    for line, cells in rows:
        if len(cells) != len(header):
            reject(InputError(_wrong_count(cells, header, tsv), name, line))
            continue
        yield (
            line,
            {
                key: cell if key in names else scalar(cell)
                for key, cell in zip(header, cells, strict=True)
                if key in names or (key and cell)
            },
        )


def named_rows(path: str | Path) -> Iterator[tuple[int, dict[str, object]]]:
    """Line number and cells by column name of every row below the header, all of them text.

    Raises InputError with file and line: a row of another width, a name that comes twice.
    """
    name = name_of(path)
    rows = _tsv_rows(path, stop) if is_tsv(path) else _csv_rows(path, stop)
    first = next(rows, None)
    if first is None:
        return
    header = [cell.strip() for cell in first.cells]
    if len(set(header)) < len(header) or not all(header):
        raise InputError("a column of the header has no name, or one comes twice", name, first.line)
    for line, cells in rows:
        if len(cells) != len(header):
            raise InputError(_wrong_count(cells, header, is_tsv(path)), name, line)
        yield line, dict(zip(header, cells, strict=True))


def is_tsv(path: str | Path) -> bool:
    """Whether a file's name says that tabs separate its columns."""
    return str(path).lower().removesuffix(".gz").endswith((".tsv", ".tab"))


def scalar(cell: str) -> object:
    """A cell as the JSON number, true, false or null it spells, else as text."""
    text = cell.strip()
    if text in _WORDS:
        return _WORDS[text]
    if len(text) > 40 or not _NUMBER.fullmatch(text):
        return cell
    value = json.loads(text)
    fits = math.isfinite(value) if isinstance(value, float) else -(2**63) <= value < 2**63
    return value if fits else cell


def _tsv_rows(path: str | Path, reject: Reject) -> Iterator[Row]:
    for number, text in good_lines(path, reject):
        yield Row(number, [_unwrapped(cell) for cell in text.split("\t")])


def _csv_rows(path: str | Path, reject: Reject) -> Iterator[Row]:
    name = name_of(path)
    csv.field_size_limit(max(csv.field_size_limit(), MAX_LINE))
    bad: list[InputError] = []
    reader = csv.reader(_csv_lines(path, bad), delimiter=_delimiter(path), strict=True)
    while True:
        start = reader.line_num + 1
        try:
            cells = next(reader, None)
        except csv.Error as exc:
            if "unexpected end" in str(exc) or "field limit" in str(exc):
                # Everything behind the quote was swallowed: going on would lose it in silence.
                message = "a quoted field that begins in this record is never closed"
                raise InputError(message, name, start) from exc
            message = f"not valid CSV ({exc}): quotes inside a quoted field are doubled"
            reject(bad[0] if bad else InputError(message, name, reader.line_num))
            bad.clear()
            continue
        if cells is None:
            return
        if bad:
            reject(bad[0])
            bad.clear()
        elif cells:
            yield Row(start, cells)


def _csv_lines(path: str | Path, bad: list[InputError]) -> Iterator[str]:
    for line in read_lines(path):
        if line.error is not None:
            bad.append(line.error)
        yield line.text + "\n"


def _delimiter(path: str | Path) -> str:
    if not Path(path).is_file():  # a pipe cannot be read twice
        return ","
    first = next(iter(read_lines(path)), None)
    return ";" if first and ";" in first.text and "," not in first.text else ","


def _header(first: Row, fields: Fields, name: str) -> list[str]:
    header = [cell.strip() for cell in first.cells]
    twice = [key for key in header if key and header.count(key) > 1]
    if twice and any(fields.names(header)):
        raise InputError(f"the column {twice[0]!r} appears twice in the header", name, first.line)
    return header


def _wrong_count(cells: Sequence[str], header: Sequence[str], tsv: bool) -> str:
    hint = "a field with line breaks needs CSV" if tsv else "quote fields that hold separators"
    return f"{len(cells)} columns where the header has {len(header)}: {hint}"


def _unwrapped(cell: str) -> str:
    if len(cell) > 1 and cell[0] == '"' and (found := _WRAPPED.fullmatch(cell)):
        return found[1].replace('""', '"')
    return cell
