"""A report as aligned lines of text, for people. The only place where numbers are rounded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from semsearch.evaluation.rows import Report, ResultRow

TABLE_MEASURES = ("accuracy@1", "accuracy@10", "mrr@10", "ndcg@10", "map@100", "recall@100")
"""The columns of measures; the one in ``_INTERVAL_OF`` carries its interval."""

_INTERVAL_OF = "ndcg@10"
_GAP = "  "
_NOTHING = "-"


class _Cell(NamedTuple):
    text: str
    best: bool = False


def table_lines(
    report: Report,
    *,
    measures: Sequence[str] = TABLE_MEASURES,
    digits: int = 3,
    mark: Callable[[str], str] | None = None,
) -> list[str]:
    """Lay the rows out in columns: a line of headings, then one line per row of the report.

    ``mark`` is given each value that is best in its column, so that a terminal can show it in
    bold; it must not change the visible width. Values that are printed alike are best together. A
    column whose values are all alike, and a report of a single row, have no best. The columns
    ``rerank`` and ``ann recall`` appear only where they say something.
    """
    rows = report.results
    columns = [
        _words("mode", [row.mode for row in rows]),
        _words("dims", [_NOTHING if row.dims is None else str(row.dims) for row in rows]),
    ]
    if any(row.rerank != "none" for row in rows):
        columns.insert(1, _words("rerank", [row.rerank for row in rows]))
    columns += [_values(measure, rows, digits) for measure in measures]
    if any(row.ann_recall is not None for row in rows):
        recalls = [_number(row.ann_recall, digits) for row in rows]
        columns.append(_words("ann recall", recalls))
    return _align(columns, mark)


def note_lines(report: Report) -> list[str]:
    """What must be known to read the table: counts of what was left out, missing or empty."""
    first = _count(report.queries, "query", "queries")
    if report.split:
        first += f" of split {report.split}"
    if any(_INTERVAL_OF in row.intervals for row in report.results):
        first += f"; [low, high] is the 95 % bootstrap interval of {_INTERVAL_OF}"
    lines = [first]
    if report.skipped:
        left_out = _count(report.skipped, "query", "queries")
        lines.append(f"{left_out} left out: no document is judged relevant")
    if report.without_results:
        empty = _count(report.without_results, "query", "queries")
        lines.append(f"{empty} got no results and scored 0")
    if report.missing_documents:
        missing = _count(report.missing_documents, "judged document is", "judged documents are")
        lines.append(f"{missing} not in the index and cannot be found")
    return lines


def _words(heading: str, texts: Sequence[str]) -> list[_Cell]:
    return [_Cell(heading), *map(_Cell, texts)]


def _values(measure: str, rows: Sequence[ResultRow], digits: int) -> list[_Cell]:
    means = [_number(row.metrics.get(measure), digits) for row in rows]
    numbers = {float(mean) for mean in means if mean != _NOTHING}
    best = max(numbers) if len(numbers) > 1 else None
    cells = [_Cell(measure)]
    for row, mean in zip(rows, means, strict=True):
        interval = row.intervals.get(measure) if measure == _INTERVAL_OF else None
        bounds = (
            "" if interval is None else f" [{interval[0]:.{digits}f}, {interval[1]:.{digits}f}]"
        )
        cells.append(_Cell(mean + bounds, mean != _NOTHING and float(mean) == best))
    return cells


def _number(value: float | None, digits: int) -> str:
    return _NOTHING if value is None else f"{value:.{digits}f}"


def _align(columns: Sequence[Sequence[_Cell]], mark: Callable[[str], str] | None) -> list[str]:
    """Pad words to the left and numbers to the right; trailing spaces are cut."""
    lines = [""] * len(columns[0])
    for column in columns:
        width = max(len(cell.text) for cell in column)
        words = column[0].text in ("mode", "rerank")
        for line, cell in enumerate(column):
            pad = " " * (width - len(cell.text))
            text = mark(cell.text) if mark and cell.best else cell.text
            lines[line] += _GAP * bool(lines[line]) + (text + pad if words else pad + text)
    return [line.rstrip() for line in lines]


def _count(number: int, one: str, many: str) -> str:
    return f"{number:,} {one if number == 1 else many}"
