"""Runs: rankings of documents by query, in TREC's six columns or MS MARCO's three."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterator, Mapping
from pathlib import Path

from semsearch.corpus.columns import check_id, integer, split_columns, write_lines
from semsearch.corpus.text import good_lines, name_of
from semsearch.errors import InputError
from semsearch.types import Run

_SHAPES = "expected TREC's `query Q0 document rank score tag` or MS MARCO's `query document rank`"


def read_run(path: str | Path) -> Run:
    """Read a run in the order of the file; gzip or not; ``-`` is standard input.

    Lines have TREC's six columns, of which the rank and the tag are not looked at, or MS MARCO's
    three, where the score is minus the rank; white space separates them. Raises InputError with
    the line: another number of columns, a score that is not a number (NaN included), a rank that
    is not a whole number, a document that its query has had before (both lines are named).
    """
    name = name_of(path)
    run: Run = {}
    lines: dict[str, array[int]] = {}  # of each query's documents, in their order
    width = 0
    for number, text in good_lines(path):
        columns = split_columns(text)
        width = width or len(columns)
        if len(columns) != width or width not in (3, 6):
            raise InputError(f"{_SHAPES}, found {len(columns)} columns", name, number)
        query, document = columns[0], columns[2 if width == 6 else 1]
        score = _score(columns[4]) if width == 6 else _from_rank(columns[2])
        if score is None:
            what, value = ("score", columns[4]) if width == 6 else ("rank", columns[2])
            kind = "number" if width == 6 else "whole number"
            raise InputError(f"the {what} {value!r} is not a {kind}", name, number)
        ranking = run.setdefault(query, {})
        if document in ranking:
            first = lines[query][list(ranking).index(document)]
            message = f"document {document!r} again for query {query!r}, as on line {first}"
            raise InputError(message, name, number)
        ranking[document] = score
        lines.setdefault(query, array("q")).append(number)
    return run


def write_run(path: str | Path, run: Run, tag: str = "semsearch") -> None:
    """Write a run in TREC's six columns, queries in the order given; gzip when named ``.gz``.

    Scores are rounded to float32, as trec_eval keeps them, and printed with nine digits, which is
    exact; documents are ranked from 1 by score descending, then id descending. The file appears
    whole or not at all. Raises InputError for a NaN score and for an id or a tag with white space
    or characters that UTF-8 cannot hold, StorageError.
    """
    write_lines(path, _lines(path, run, check_id(tag, path)))


def _lines(path: str | Path, run: Run, tag: str) -> Iterator[str]:
    for query, ranking in run.items():
        check_id(query, path)
        for rank, (document, score) in enumerate(_ranked(ranking), 1):
            check_id(document, path)
            if math.isnan(score):
                raise InputError(f"NaN as score of {document!r} for query {query!r}", path)
            yield f"{query} Q0 {document} {rank} {score:.9g} {tag}\n"


def _ranked(ranking: Mapping[str, float]) -> list[tuple[str, float]]:
    scores = array("f", ranking.values())
    return sorted(zip(ranking, scores, strict=True), key=lambda hit: (hit[1], hit[0]), reverse=True)


def _score(text: str) -> float | None:
    try:
        score = float(text)
    except ValueError:
        return None
    return None if math.isnan(score) or "_" in text else score


def _from_rank(text: str) -> float | None:
    rank = integer(text)
    return None if rank is None else -float(rank)
