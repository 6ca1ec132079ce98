"""Relevance judgements: TREC's four columns and BEIR's table of three."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from semsearch.corpus.columns import check_cell, check_id, integer, split_columns, write_lines
from semsearch.corpus.text import good_lines, name_of
from semsearch.errors import InputError
from semsearch.types import Qrels

_HEADER = "query-id\tcorpus-id\tscore"
_ROLES = (
    ("query-id", "queryid", "qid", "query", "topic", "topic-id"),
    ("corpus-id", "corpusid", "docid", "doc-id", "document-id", "docno", "pid", "passage-id"),
    ("score", "relevance", "rel", "grade", "label", "judgment", "judgement"),
)
_UNUSED = ("iter", "iteration", "q0")
_KNOWN = (*_ROLES[0], *_ROLES[1], *_ROLES[2], *_UNUSED)
_SHAPES = "expected `query document grade` or TREC's `query 0 document grade`"


class _Layout(NamedTuple):
    tabs: bool
    width: int
    query: int
    document: int
    grade: int
    header: bool

    def columns(self, text: str) -> list[str]:
        return _columns(text, self.tabs)


def read_qrels(path: str | Path) -> Qrels:
    """Read judgements in the order of the file; gzip or not; ``-`` is standard input.

    The columns are ``query document grade`` (BEIR) or ``query 0 document grade`` (TREC), separated
    by tabs or white space, the same on every line. A header is recognised by its names and may
    give another order; a first line that is data is read as data. Raises InputError with the line:
    another number of columns, an unknown column name, a grade that is not a whole number, an empty
    id, and another grade for a pair judged before (both lines are named; the same again is fine).
    """
    name = name_of(path)
    qrels: Qrels = {}
    lines: dict[str, array[int]] = {}  # of each query's judgements, in their order
    layout = None
    for number, text in good_lines(path):
        if layout is None:
            layout = _layout(text, name, number)
            if layout.header:
                continue
        columns = layout.columns(text)
        if len(columns) != layout.width:
            message = f"{len(columns)} columns where the first line has {layout.width}: {_SHAPES}"
            raise InputError(message, name, number)
        query, document = columns[layout.query], columns[layout.document]
        grade = integer(columns[layout.grade])
        if grade is None:
            message = f"the grade {columns[layout.grade]!r} is not a whole number"
            raise InputError(message, name, number)
        if not query or not document:
            raise InputError("the id of the query or the document is empty", name, number)
        judged = qrels.setdefault(query, {})
        if document not in judged:
            judged[document] = grade
            lines.setdefault(query, array("q")).append(number)
        elif judged[document] != grade:
            first = lines[query][list(judged).index(document)]
            raise InputError(
                f"grade {grade} for query {query!r} and document {document!r}, "
                f"which line {first} gives {judged[document]}: keep one of the two",
                name,
                number,
            )
    return qrels


def write_qrels(path: str | Path, qrels: Qrels) -> None:
    """Write judgements in the order given.

    A file named ``.tsv`` or ``.tsv.gz`` gets BEIR's table with its header, any other TREC's four
    columns; gzip when named ``.gz``. It appears whole or not at all. Raises InputError for an id
    that the layout cannot hold (white space, in a table only at an end, tabs and line breaks;
    characters that UTF-8 cannot hold), StorageError.
    """
    table = str(path).lower().removesuffix(".gz").endswith(".tsv")
    write_lines(path, _lines(path, qrels, table))


def _lines(path: str | Path, qrels: Qrels, table: bool) -> Iterator[str]:
    check = check_cell if table else check_id
    if table:
        yield f"{_HEADER}\n"
    for query, judged in qrels.items():
        check(query, path)
        for document, grade in judged.items():
            check(document, path)
            yield f"{query}\t{document}\t{grade}\n" if table else f"{query} 0 {document} {grade}\n"


def _layout(text: str, name: str, number: int) -> _Layout:
    tabs = len(_columns(text, True)) in (3, 4)
    columns = _columns(text, tabs)
    width = len(columns)
    if width not in (3, 4):
        raise InputError(f"{_SHAPES}, found {width} columns", name, number)
    if integer(columns[-1]) is not None:
        return _Layout(tabs, width, 0, width - 2, width - 1, False)
    names = [column.lower().replace("_", "-") for column in columns]
    unknown = [column for column, key in zip(columns, names, strict=True) if key not in _KNOWN]
    places = [[i for i, key in enumerate(names) if key in role] for role in _ROLES]
    if not any(places):
        raise InputError(f"the grade {columns[-1]!r} is not a whole number", name, number)
    if unknown or any(len(place) != 1 for place in places):
        listed = ", ".join(repr(column) for column in unknown or columns)
        what = "unknown columns" if unknown else "the header's columns are"
        raise InputError(f"{what} {listed}: expected query-id, corpus-id, score", name, number)
    return _Layout(tabs, width, places[0][0], places[1][0], places[2][0], True)


def _columns(text: str, tabs: bool) -> list[str]:
    return [part.strip() for part in text.split("\t")] if tabs else split_columns(text)
