"""What an evaluation found: one row per pipeline measured, and the report that holds them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class ResultRow:
    """One pipeline (mode x dims x rerank) measured over all queries.

    ``dims`` is None where no vectors take part. ``metrics`` maps measures such as ``ndcg@10`` to
    means, not rounded; ``intervals`` maps them to the low and high bound of their 95 % bootstrap
    interval. ``ann_recall`` is the index's measured recall against exact search, None where it was
    not measured. ``without_results`` counts queries that got nothing and score 0.
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
    semsearch, ``split`` the qrels' name (``test``), None for files named one by one.
    """

    queries: int
    skipped: int
    split: str | None
    version: str
    results: tuple[ResultRow, ...]
    missing_documents: int = 0

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
        """The table that ``evaluate`` prints."""
        from semsearch.evaluation.table import note_lines, table_lines

        return "\n".join([*table_lines(self), *note_lines(self)])
