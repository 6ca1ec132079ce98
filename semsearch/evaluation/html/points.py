"""Rows of a report as points of a plot: a name, a value with its interval, and what it costs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from semsearch.evaluation.report import MAIN_MEASURE, Report, ResultRow, distinct, way_of
from semsearch.metrics import bootstrap_intervals

if TYPE_CHECKING:
    from semsearch.evaluation.costs import Latency, Storage


@dataclass(frozen=True, slots=True)
class Costs:
    """What the rows of a report cost; ``storage`` is the index's.

    ``latency`` follows the rows' order and leaves out those of run files.
    """

    latency: Sequence[Latency] = ()
    storage: Storage | None = None


class Difference(NamedTuple):
    """How far a row is above the first one, query by query, with its 95 % interval."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Point:
    """A row of a report. Rows of one ``group`` differ in their width only.

    ``low`` and ``high`` bound the 95 % interval of ``value``; ``default`` marks the first row.
    """

    row: ResultRow
    group: str
    name: str
    value: float
    low: float
    high: float
    default: bool = False
    latency: Latency | None = None
    size: float | None = None
    """Bytes for each passage."""
    difference: Difference | None = None
    """None for the first row, and where the values of the queries are not known."""


def points_of(
    report: Report, costs: Costs | None = None, measure: str = MAIN_MEASURE
) -> list[Point]:
    """The distinct rows of a report, in its order, with what they cost where that is known."""
    costs = costs or Costs()
    kept = distinct(report.results)
    times = iter(costs.latency)
    found = []
    for number, row in enumerate(report.results):
        latency = None if row.mode == "run" else next(times, None)
        if not any(row is one for one in kept):
            continue
        value = row.metrics[measure]
        low, high = row.intervals.get(measure, (value, value))
        size = None
        if costs.storage is not None and row.mode != "run":
            size = costs.storage.of(row.mode, row.dims, row.rerank)
        found.append(
            Point(
                row=row,
                group=way_of(row),
                name=name_of(row),
                value=value,
                low=low,
                high=high,
                default=number == 0,
                latency=latency,
                size=size,
            )
        )
    return _compared(_told_apart(found), measure)


def _told_apart(points: Sequence[Point]) -> list[Point]:
    """Rows of one name differ in how vectors were found: as served, or by comparing them all."""
    times = Counter(point.name for point in points)
    how = {True: "exact", False: "as served"}
    return [
        replace(point, name=f"{point.name}, {how[point.row.index_kind == 'exact']}")
        if times[point.name] > 1
        else point
        for point in points
    ]


def _compared(points: Sequence[Point], measure: str) -> list[Point]:
    """The points with their differences: one resample of the queries serves them all."""
    first = points[0].row.evaluation
    others = []
    for point in points[1:]:
        evaluation = point.row.evaluation
        if first is None or evaluation is None or evaluation.query_ids != first.query_ids:
            continue
        others.append((point, evaluation.per_query(measure) - first.per_query(measure)))
    if not others:
        return list(points)
    values = np.stack([difference for _, difference in others], axis=1)
    found = {
        id(point): Difference(float(difference.mean()), low, high)
        for (point, difference), (low, high) in zip(
            others, bootstrap_intervals(values), strict=True
        )
    }
    return [replace(point, difference=found.get(id(point))) for point in points]


def best_of_groups(points: Sequence[Point]) -> list[Point]:
    """The first point, then the best one of each other group, best first."""
    first = points[0]
    best: dict[str, Point] = {}
    for point in points:
        known = best.setdefault(point.group, point)
        if point.value > known.value:
            best[point.group] = point
    others = [point for group, point in best.items() if group != first.group]
    return [first, *sorted(others, key=lambda point: -point.value)]


def name_of(row: ResultRow) -> str:
    """``hybrid 384``, ``dense + self 128``, ``lexical``."""
    return way_of(row) if row.dims is None else f"{way_of(row)} {row.dims}"


def short(name: str, length: int = 22) -> str:
    """A name for a plot: of a folder's or a model's name the last part, cut where it is long."""
    start, plus, end = name.rpartition(" + ")
    name = start + plus + end.rstrip("/").rsplit("/", 1)[-1]
    return name if len(name) <= length else name[: length - 3] + "..."
