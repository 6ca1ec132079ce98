"""What came of mining: rows, scores, what each rule dropped, and who was left without."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from semsearch.evaluation.columns import count

DROPPED = {
    "positives": "known positives",
    "copies": "copies of positives",
    "own": "the query itself",
    "margin": "above the margin",
    "relative_margin": "above the relative margin",
    "max_score": "above the highest score",
    "cross_encoder": "by the cross-encoder",
}
"""What drops a candidate, and in words."""

WITHOUT = {
    "no_positive": "no positive in the index",
    "no_candidates": "no candidates at these ranks",
    "too_similar": "all too similar to the query",
    "too_few": "too few for a tuple",
}
"""Why a query has no row, and in words."""


@dataclass
class MiningReport:
    """Counts of one run, complete when the last row was given.

    ``rows`` come from ``queries`` judged queries of ``split``. ``mean_positive`` and
    ``mean_negative`` are mean cosines over the rows' positives and negatives, None without any.
    ``candidates`` were at the ranks asked for. ``dropped`` counts by what dropped them: positives,
    copies of positives and the query itself on the way to the last rank; the rules, each counting
    what those before it left, once for each positive that a candidate is held against; and the
    cross-encoder only what it was asked about: it judges no more than are needed. ``without``
    counts queries without a row by reason, ``positives_without`` positives. ``missing_documents``
    are relevant and not in the index.
    """

    split: str
    missing_documents: int = 0
    queries: int = 0
    rows: int = 0
    candidates: int = 0
    positives_without: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    without: Counter[str] = field(default_factory=Counter)
    _sums: list[float] = field(default_factory=lambda: [0.0, 0.0])
    _counts: list[int] = field(default_factory=lambda: [0, 0])

    @property
    def mean_positive(self) -> float | None:
        """The mean cosine of query and positive over all rows."""
        return self._sums[0] / self._counts[0] if self._counts[0] else None

    @property
    def mean_negative(self) -> float | None:
        """The mean cosine of query and negative over all rows."""
        return self._sums[1] / self._counts[1] if self._counts[1] else None

    def add_row(self, positive: float, negatives: list[float]) -> None:
        """Count one row by its cosines."""
        self.rows += 1
        self._sums = [self._sums[0] + positive, self._sums[1] + sum(negatives)]
        self._counts = [self._counts[0] + 1, self._counts[1] + len(negatives)]

    def to_json(self) -> dict[str, Any]:
        """All of it as one object of JSON values; every reason is there, 0 where it did nothing."""
        return {
            "split": self.split,
            "queries": self.queries,
            "rows": self.rows,
            "mean_positive_score": self.mean_positive,
            "mean_negative_score": self.mean_negative,
            "candidates": self.candidates,
            "dropped": {name: self.dropped[name] for name in DROPPED},
            "queries_without_rows": {name: self.without[name] for name in WITHOUT},
            "positives_without_rows": self.positives_without,
            "missing_documents": self.missing_documents,
        }

    def lines(self) -> list[str]:
        """The report for people."""
        asked = count(self.queries, "query", "queries")
        lines = [f"{count(self.rows, 'row')} from {asked} of split {self.split}"]
        if self.mean_positive is not None and self.mean_negative is not None:
            lines.append(
                f"mean cosine: positives {self.mean_positive:.3f},"
                f" negatives {self.mean_negative:.3f}"
            )
        dropped = _listed(self.dropped, DROPPED) or "none"
        lines.append(f"{count(self.candidates, 'candidate')} at these ranks; dropped: {dropped}")
        if self.without:
            left_out = count(self.without.total(), "query", "queries")
            lines.append(f"{left_out} without a row: {_listed(self.without, WITHOUT)}")
        if self.positives_without:
            lines.append(f"{count(self.positives_without, 'positive')} without a negative")
        if self.missing_documents:
            one, many = "relevant document is", "relevant documents are"
            lines.append(f"{count(self.missing_documents, one, many)} not in the index")
        return lines

    def nothing(self) -> str:
        """Why there is no row at all, in one line."""
        reasons = _listed(self.without, WITHOUT) or "there is no query"
        return (
            f"no negative left for any of {count(self.queries, 'query', 'queries')} of split"
            f" {self.split} ({reasons}): widen the ranks or loosen the rules"
        )


def _listed(counts: Counter[str], names: dict[str, str]) -> str:
    return ", ".join(f"{counts[name]:,} {said}" for name, said in names.items() if counts[name])
