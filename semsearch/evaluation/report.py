"""What an evaluation found: a row for each pipeline, as JSON and as a table for people."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from semsearch.evaluation.columns import (
    NOTHING,
    Cell,
    Column,
    align,
    bounds,
    count,
    number,
    numbers,
    p_is,
    signed,
    signed_bounds,
    words,
)
from semsearch.metrics import paired_test
from semsearch.ranking.settings import DEFAULT_RANKING

if TYPE_CHECKING:
    from semsearch.corpus import BeirDataset
    from semsearch.evaluation.checks import DataChecks
    from semsearch.evaluation.groups import GroupMeans
    from semsearch.metrics import Evaluation
    from semsearch.ranking.settings import Ranking
    from semsearch.types import Run

TABLE_MEASURES = ("accuracy@1", "accuracy@10", "mrr@10", "ndcg@10", "map@100", "recall@100")
"""The columns of measures where none are named."""

MAIN_MEASURE = "ndcg@10"
"""What is meant where no measure is named: by intervals, differences, gates, worst queries."""

SIGNIFICANT = 0.05
"""A difference whose p is below is called one."""

NONE = "none"
"""What a row without a reranker has in its place."""

_TOLD = ("queries_missing", "queries_without_relevant", "documents_missing")  # by other notes


@dataclass(frozen=True, slots=True)
class ResultRow:
    """One pipeline (mode x dims x rerank) measured over all queries.

    ``rerank`` is the reranker that was used: ``none``, ``self`` or a cross-encoder. ``dims`` is
    None where no vectors take part. ``metrics`` maps measures such as ``ndcg@10`` to
    means, not rounded; ``intervals`` maps them to the low and high bound of their 95 % bootstrap
    interval. ``ann_recall`` is the index's measured recall against exact search, None where it was
    not measured. ``without_results`` counts queries that got nothing and score 0. A run file has
    the mode ``run`` and its ``name``. ``groups`` splits the queries by ``Measuring.group_by``.

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
    name: str | None = None
    groups: tuple[GroupMeans, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The row as plain JSON values."""
        named = {} if self.name is None else {"name": self.name}
        groups = {"groups": [group.to_json() for group in self.groups]} if self.groups else {}
        return {
            **named,
            "mode": self.mode,
            "dims": self.dims,
            "rerank": self.rerank,
            "k": self.k,
            "ann_recall": None if self.ann_recall is None else float(self.ann_recall),
            "index_kind": self.index_kind,
            "metrics": {name: float(value) for name, value in self.metrics.items()},
            "intervals": {name: list(map(float, pair)) for name, pair in self.intervals.items()},
            "without_results": self.without_results,
            **groups,
        }


@dataclass(frozen=True, slots=True)
class Report:
    """All rows of one evaluation, in the order they were asked for.

    ``queries`` counts those in the means; ``skipped`` those left out because nothing is relevant to
    them; ``missing_documents`` the judged documents that the index lacks. ``version`` is that of
    semsearch, ``split`` the qrels' name (``test``), None for files named one by one. ``dataset`` is
    what was measured: its queries with their texts and metadata, and its judgements. ``checks`` is
    what was looked for in the data before its numbers are believed. ``ranking`` holds the settings
    of the rankings where they are not the default; ``tuned`` says that they are the index's own.
    """

    queries: int
    skipped: int
    split: str | None
    version: str
    results: tuple[ResultRow, ...]
    missing_documents: int = 0
    group_by: str | None = None
    dataset: BeirDataset | None = field(default=None, compare=False, repr=False)
    checks: DataChecks | None = field(default=None, compare=False, repr=False)
    ranking: Ranking | None = None
    tuned: bool = False

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
            **({"group_by": self.group_by} if self.group_by is not None else {}),
            **({"checks": self.checks.to_json()} if self.checks else {}),
            **({"ranking": asdict(self.ranking)} if self.ranking else {}),
            **({"tuned": True} if self.tuned else {}),
        }

    def __str__(self) -> str:
        """The table, its notes and the groups, without markings."""
        computed = list(self.results[0].metrics) if self.results else []
        measures = [name for name in TABLE_MEASURES if name in computed] or computed
        exact = [MAIN_MEASURE] if MAIN_MEASURE in measures else measures[:1]
        lines = table_lines(self, measures=measures, with_interval=exact)
        return "\n".join([*lines, *note_lines(self, exact), *group_lines(self, exact)])


def table_lines(
    report: Report,
    *,
    measures: Sequence[str] = TABLE_MEASURES,
    with_interval: Sequence[str] = (MAIN_MEASURE,),
    digits: int = 3,
    mark: Callable[[str], str] | None = None,
) -> list[str]:
    """Lay the rows out in columns: a line of headings, then one line per distinct row.

    ``measures`` are columns; those also in ``with_interval`` show their 95 % interval. ``mark`` is
    given each value that is best in its column, so that a terminal can show it in bold; it must not
    change the visible width. Values that are printed alike are best together. A column whose values
    are all alike, and a report of a single row, have no best. The columns ``rerank`` and ``ann
    recall`` appear only where they say something.
    """
    rows = distinct(report.results)
    columns = [
        words("mode", [row.name or row.mode for row in rows]),
        numbers("dims", [NOTHING if row.dims is None else str(row.dims) for row in rows]),
    ]
    if any(row.rerank != NONE for row in rows):
        columns.insert(1, words("rerank", [row.rerank for row in rows]))
    columns += [_values(name, rows, digits, name in with_interval) for name in measures]
    if any(row.ann_recall not in (None, 1.0) for row in rows):
        columns.append(numbers("ann recall", [number(row.ann_recall, digits) for row in rows]))
    return align(columns, mark)


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


def way_of(row: ResultRow) -> str:
    """``hybrid``, ``dense + self``, or the name of a run file."""
    if row.name is not None:
        return row.name
    return row.mode if row.rerank == NONE else f"{row.mode} + {row.rerank}"


def group_lines(report: Report, measures: Sequence[str] = (MAIN_MEASURE,)) -> list[str]:
    """The groups of the first row, the largest first; nothing where none were asked for.

    Each of ``measures`` is a column with its interval, which groups of few queries lack.
    """
    if report.group_by is None or not report.results:
        return []
    row = report.results[0]
    columns = [
        words(report.group_by, [group.value for group in row.groups]),
        numbers("queries", [f"{group.queries:,}" for group in row.groups]),
    ]
    for name in measures:
        means = [number(g.metrics[name]) + bounds(g.intervals.get(name)) for g in row.groups]
        columns.append(words(name, means))
    where = f"{way_of(row)} {row.dims or ''}".rstrip()
    return [f"by {report.group_by}, {where}", *align(columns)]


def note_lines(report: Report, with_interval: Sequence[str] = (MAIN_MEASURE,)) -> list[str]:
    """What must be known to read the table: counts of what was left out, missing or empty."""
    first = count(report.queries, "query", "queries")
    if report.split:
        first += f" of split {report.split}"
    shown = [name for name in with_interval if any(name in row.intervals for row in report.results)]
    if shown:
        first += f"; [low, high] is the 95 % bootstrap interval of {', '.join(shown)}"
    lines = [first]
    lines += _ranking_lines(report)
    lines += _better_than_default(distinct(report.results))
    if report.skipped:
        left_out = count(report.skipped, "query", "queries")
        lines.append(f"{left_out} left out: no document is judged relevant")
    if report.without_results:
        empty = count(report.without_results, "query", "queries")
        lines.append(f"{empty} got no results and scored 0")
    if report.missing_documents:
        missing = count(report.missing_documents, "relevant document is", "relevant documents are")
        lines.append(f"{missing} not in the index and cannot be found")
    if report.checks:
        lines += report.checks.note_lines(but=_TOLD)
    return lines


def _better_than_default(rows: Sequence[ResultRow]) -> list[str]:
    """Say so when another way to search beats the first row by more than chance explains.

    The best of several was chosen, so its p is corrected for their number.
    """
    others = [
        row
        for row in rows
        if row.evaluation is not None
        and (
            row.mode != rows[0].mode or (row.rerank != rows[0].rerank and row.dims == rows[0].dims)
        )
    ]
    first = rows[0] if others else None
    if first is None or first.evaluation is None or MAIN_MEASURE not in first.metrics:
        return []
    best = max(others, key=lambda row: row.metrics[MAIN_MEASURE])
    if best.evaluation is None or best.metrics[MAIN_MEASURE] <= first.metrics[MAIN_MEASURE]:
        return []
    ours, theirs = (e.per_query(MAIN_MEASURE) for e in (first.evaluation, best.evaluation))
    found = paired_test(theirs, ours)
    p = min(1.0, found.p * len(others))
    if p >= SIGNIFICANT:
        return []
    difference = f"{signed(found.difference)}{signed_bounds((found.low, found.high))}"
    usual = first.rerank if best.mode == first.mode else NONE  # what --mode alone would rerank by
    options = [f"--mode {best.mode}"] if best.mode != first.mode else []
    options += [f"--rerank {best.rerank}"] if best.rerank != usual else []
    return [
        f"{way_of(best)} is better than {way_of(first)} here: {difference} {MAIN_MEASURE},"
        f" {p_is(p)}: use {' '.join(options)}"
    ]


def _ranking_lines(report: Report) -> list[str]:
    """How rankings were made, where that is not as by default."""
    if report.ranking is None:
        return []
    default = asdict(DEFAULT_RANKING)
    changed = {
        name: value for name, value in asdict(report.ranking).items() if value != default[name]
    }
    shown = ", ".join(f"{name} {value}" for name, value in changed.items()) or "as by default"
    return [f"{'this index was tuned' if report.tuned else 'ranking'}: {shown}"]


def _values(measure: str, rows: Sequence[ResultRow], digits: int, with_interval: bool) -> Column:
    means = [number(row.metrics.get(measure), digits) for row in rows]
    values = {float(mean) for mean in means if mean != NOTHING}
    best = max(values) if len(values) > 1 else None
    cells = []
    for row, mean in zip(rows, means, strict=True):
        interval = row.intervals.get(measure) if with_interval else None
        marked = mean != NOTHING and float(mean) == best
        cells.append(Cell(mean + bounds(interval, digits), marked))
    return Column(measure, cells)
