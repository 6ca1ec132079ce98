"""What a benchmark found: a table, goals met or missed, raw numbers; written as JSON."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

RESULTS = Path(__file__).parent / "results"

Row = dict[str, str | int | float | None]
"""One line of a table, by heading; every row of a table has the same headings."""


class Spread(NamedTuple):
    """A median with its range."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        return cls(statistics.median(values), min(values), max(values))

    def __str__(self) -> str:
        return f"{number(self.median)} ({number(self.low)} - {number(self.high)})"


@dataclass(frozen=True)
class Goal:
    """A figure that was promised, as measured."""

    what: str
    wanted: str
    measured: float
    met: bool


@dataclass
class Result:
    """The outcome of one benchmark.

    ``more`` holds further tables by their headings; ``raw`` every single timing, in the order
    measured.
    """

    title: str
    dataset: Mapping[str, Any]
    rows: list[Row] = field(default_factory=list)
    goals: list[Goal] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    more: dict[str, list[Row]] = field(default_factory=dict)
    raw: dict[str, Any] = field(default_factory=dict)


def number(value: float) -> str:
    """As many digits as a noisy measurement deserves."""
    if value != 0 and abs(value) < 0.01:
        return f"{value:.2g}"
    return f"{value:,.{0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 3}f}"


def shown(value: str | int | float | None) -> str:
    """A cell of a table."""
    if value is None:
        return "-"
    if isinstance(value, float):
        return number(value)
    return f"{value:,}" if isinstance(value, int) else value


def table(rows: Sequence[Row]) -> list[str]:
    """Rows as a Markdown table, aligned for reading as it is."""
    if not rows:
        return []
    headings = list(rows[0])
    cells = [headings, *([shown(row[name]) for name in headings] for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(headings))]
    lines = [_line(line, widths) for line in cells]
    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return [lines[0], rule, *lines[1:]]


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    padded = (cell.ljust(width) for cell, width in zip(cells, widths, strict=True))
    return "| " + " | ".join(padded) + " |"


def goal_lines(goals: Sequence[Goal]) -> list[str]:
    """Each goal in a line."""
    return [
        f"- {goal.what}: {number(goal.measured)}, goal {goal.wanted}:"
        f" {'met' if goal.met else 'MISSED'}"
        for goal in goals
    ]


def parts(result: Result) -> list[list[str]]:
    """A result as Markdown, in parts of some lines each: tables, goals, notes."""
    tables = [table(result.rows)]
    for heading, rows in result.more.items():
        tables += [[f"**{heading}**"], table(rows)]
    return [part for part in (*tables, goal_lines(result.goals), result.notes) if part]


def write(name: str, result: Result, facts: Mapping[str, Any], size: str) -> Path:
    """Write a result beside the others; one of the same commit and size is replaced."""
    record = {"benchmark": name, "size": size, **facts, **asdict(result)}
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}-{size}-{facts['commit'][:12]}.json"
    path.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return path


def newest(name: str) -> dict[str, Any] | None:
    """The newest result of a benchmark, of the full ones where there are any."""
    records = [
        json.loads(path.read_text(encoding="utf-8")) for path in RESULTS.glob(f"{name}-*.json")
    ]
    return max(records, key=lambda r: (r["size"] == "full", r["date"]), default=None)
