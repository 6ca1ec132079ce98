"""What an evaluation found: a row for each pipeline, as JSON and as a table for people."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from semsearch.corpus import BeirDataset
    from semsearch.metrics import Evaluation
    from semsearch.types import Run

TABLE_MEASURES = ("accuracy@1", "accuracy@10", "mrr@10", "ndcg@10", "map@100", "recall@100")
"""The columns of measures; the one in ``_INTERVAL_OF`` carries its interval."""

_INTERVAL_OF = "ndcg@10"
_GAP = "  "
_NOTHING = "-"


@dataclass(frozen=True, slots=True)
class ResultRow:
    """One pipeline (mode x dims x rerank) measured over all queries.

    ``dims`` is None where no vectors take part. ``metrics`` maps measures such as ``ndcg@10`` to
    means, not rounded; ``intervals`` maps them to the low and high bound of their 95 % bootstrap
    interval. ``ann_recall`` is the index's measured recall against exact search, None where it was
    not measured. ``without_results`` counts queries that got nothing and score 0.

    ``evaluation`` has the values behind the means: ``query_ids`` and ``per_query("ndcg@10")``,
    float64 ``(n_queries,)`` in their order. ``run`` is the ranking, kept only on request
    (``Measuring.keep_runs``). Neither is part of the JSON or of a comparison of rows.
    """

    mode: str
    dims: int | None
    rerank: str
    k: int
    metrics: Mapping[str, float]
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    ann_recall: float | None = None
    index_kind: str | None = None
    without_results: int = 0
    evaluation: Evaluation | None = field(default=None, compare=False, repr=False)
    run: Run | None = field(default=None, compare=False, repr=False)

    def to_json(self) -> dict[str, Any]:
        """The row as plain JSON values."""
        return {
            "mode": self.mode,
            "dims": self.dims,
            "rerank": self.rerank,
            "k": self.k,
            "ann_recall": None if self.ann_recall is None else float(self.ann_recall),
            "index_kind": self.index_kind,
            "metrics": {name: float(value) for name, value in self.metrics.items()},
            "intervals": {name: list(map(float, pair)) for name, pair in self.intervals.items()},
            "without_results": self.without_results,
        }


@dataclass(frozen=True, slots=True)
class Report:
    """All rows of one evaluation, in the order they were asked for.

    ``queries`` counts those in the means; ``skipped`` those left out because nothing is relevant to
    them; ``missing_documents`` the judged documents that the index lacks. ``version`` is that of
    semsearch, ``split`` the qrels' name (``test``), None for files named one by one. ``dataset`` is
    what was measured: its queries with their texts and metadata, and its judgements.
    """

    queries: int
    skipped: int
    split: str | None
    version: str
    results: tuple[ResultRow, ...]
    missing_documents: int = 0
    dataset: BeirDataset | None = field(default=None, compare=False, repr=False)

    @property
    def without_results(self) -> int:
        """Queries that got no results, in the row that has most of them."""
        return max((row.without_results for row in self.results), default=0)

    def to_json(self) -> dict[str, Any]:
        """The object that ``evaluate --json`` prints."""
        return {
            "queries": self.queries,
            "skipped": self.skipped,
            "split": self.split,
            "version": self.version,
            "missing_documents": self.missing_documents,
            "without_results": self.without_results,
            "results": [row.to_json() for row in self.results],
        }

    def __str__(self) -> str:
        """The table and its notes, without markings."""
        return "\n".join([*table_lines(self), *note_lines(self)])


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
    """Lay the rows out in columns: a line of headings, then one line per distinct row.

    ``mark`` is given each value that is best in its column, so that a terminal can show it in
    bold; it must not change the visible width. Values that are printed alike are best together. A
    column whose values are all alike, and a report of a single row, have no best. The columns
    ``rerank`` and ``ann recall`` appear only where they say something.
    """
    rows = distinct(report.results)
    columns = [
        _words("mode", [row.mode for row in rows]),
        _words("dims", [_NOTHING if row.dims is None else str(row.dims) for row in rows]),
    ]
    if any(row.rerank != "none" for row in rows):
        columns.insert(1, _words("rerank", [row.rerank for row in rows]))
    columns += [_values(measure, rows, digits) for measure in measures]
    if any(row.ann_recall not in (None, 1.0) for row in rows):
        recalls = [_number(row.ann_recall, digits) for row in rows]
        columns.append(_words("ann recall", recalls))
    return _align(columns, mark)


def distinct(rows: Sequence[ResultRow]) -> list[ResultRow]:
    """Without rows that repeat an earlier one: the default pipeline is one of the modes, too."""
    kept: list[ResultRow] = []
    for row in rows:
        if not any(
            (row.mode, row.dims, row.rerank, row.metrics) == (k.mode, k.dims, k.rerank, k.metrics)
            for k in kept
        ):
            kept.append(row)
    return kept


def note_lines(report: Report) -> list[str]:
    """What must be known to read the table: counts of what was left out, missing or empty."""
    first = _count(report.queries, "query", "queries")
    if report.split:
        first += f" of split {report.split}"
    if any(_INTERVAL_OF in row.intervals for row in report.results):
        first += f"; [low, high] is the 95 % bootstrap interval of {_INTERVAL_OF}"
    lines = [first]
    lines += _better_than_default(report.results)
    if report.skipped:
        left_out = _count(report.skipped, "query", "queries")
        lines.append(f"{left_out} left out: no document is judged relevant")
    if report.without_results:
        empty = _count(report.without_results, "query", "queries")
        lines.append(f"{empty} got no results and scored 0")
    if report.missing_documents:
        missing = _count(report.missing_documents, "relevant document is", "relevant documents are")
        lines.append(f"{missing} not in the index and cannot be found")
    return lines


def _better_than_default(rows: Sequence[ResultRow]) -> list[str]:
    """Say so when a mode beats the first row by more than the intervals leave open."""
    if len(rows) < 2 or any(_INTERVAL_OF not in row.intervals for row in rows):
        return []
    first, best = rows[0], max(rows, key=lambda row: row.metrics[_INTERVAL_OF])
    open_until = first.intervals[_INTERVAL_OF][1]
    if best.mode == first.mode or best.intervals[_INTERVAL_OF][0] <= open_until:
        return []
    return [
        f"{best.mode} is better than {first.mode} here: {best.metrics[_INTERVAL_OF]:.3f} against"
        f" {first.metrics[_INTERVAL_OF]:.3f} {_INTERVAL_OF}: use --mode {best.mode}"
    ]


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
