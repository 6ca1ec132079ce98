"""Rows of a report as points of a plot: a name, a value with its interval, and what it costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from semsearch.evaluation.report import MAIN_MEASURE, Report, ResultRow, distinct

if TYPE_CHECKING:
    from semsearch.evaluation.costs import Latency, Storage


@dataclass(frozen=True, slots=True)
class Costs:
    """What the rows of a report cost; ``storage`` is the index's.

    ``latency`` follows the rows' order and leaves out those of run files.
    """

    latency: Sequence[Latency] = ()
    storage: Storage | None = None


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
                group=group_of(row),
                name=name_of(row),
                value=value,
                low=low,
                high=high,
                default=number == 0,
                latency=latency,
                size=size,
            )
        )
    return found


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


def group_of(row: ResultRow) -> str:
    """``hybrid``, ``dense + self``, or the name of a run file."""
    if row.name is not None:
        return row.name
    return row.mode if row.rerank == "none" else f"{row.mode} + {row.rerank}"


def name_of(row: ResultRow) -> str:
    """``hybrid 384``, ``dense + self 128``, ``lexical``."""
    return group_of(row) if row.dims is None else f"{group_of(row)} {row.dims}"
