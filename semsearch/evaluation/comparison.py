"""What a comparison found: systems, their differences from the baseline, queries that moved."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from semsearch.corpus import BeirDataset
from semsearch.evaluation.checks import TOP
from semsearch.evaluation.columns import Interval
from semsearch.evaluation.groups import GroupMeans
from semsearch.metrics import Evaluation
from semsearch.types import Run

SAME = 1e-9
"""Two values of a query that are nearer than this are a tie."""


@dataclass(frozen=True, slots=True)
class Difference:
    """How a system differs from the baseline in one measure.

    ``difference`` is its mean minus the baseline's, with a 95 % bootstrap ``interval``; ``p`` is
    that of a paired randomisation test, ``p_holm`` corrected over the systems that were compared.
    Queries are won, tied and lost against the baseline.
    """

    difference: float
    interval: Interval
    p: float
    p_holm: float
    wins: int
    ties: int
    losses: int

    def to_json(self) -> dict[str, Any]:
        """The difference as plain JSON values."""
        return {
            "difference": self.difference,
            "interval": list(self.interval),
            "p": self.p,
            "p_holm": self.p_holm,
            "wins": self.wins,
            "ties": self.ties,
            "losses": self.losses,
        }


class Moved(NamedTuple):
    """A query with its values, the baseline's and another system's."""

    query_id: str
    text: str
    baseline: float
    value: float

    def to_json(self) -> dict[str, Any]:
        """The query as plain JSON values."""
        return {**self._asdict(), "difference": self.value - self.baseline}


def moved_queries(
    dataset: BeirDataset,
    pair: tuple[Evaluation, Evaluation],
    measure: str,
    most: int | None = None,
) -> list[Moved]:
    """The queries that gained most from the first evaluation to the second, then that lost most.

    At most ``most`` of each, the largest change first. Raises UsageError for a measure that was not
    computed.
    """
    before, after = (evaluation.per_query(measure) for evaluation in pair)
    change = after - before
    texts = {query.id: query.text for query in dataset.queries}
    ids = pair[0].query_ids
    return [
        Moved(ids[i], texts[ids[i]], float(before[i]), float(after[i]))
        for sign in (1, -1)
        for i in np.argsort(-sign * change, kind="stable")[:most].tolist()
        if sign * change[i] > SAME
    ]


@dataclass(frozen=True, slots=True)
class SystemResult:
    """What one system is worth, and how it differs from the baseline (nothing for that itself).

    ``evaluation`` has the values per query, ``run`` the ranking. ``missing_documents`` counts the
    relevant documents that its index lacks, None for a run file. ``unjudged`` is the share of its
    top 10 that nobody judged, None where it found nothing.
    """

    name: str
    metrics: Mapping[str, float]
    intervals: Mapping[str, Interval]
    differences: Mapping[str, Difference]
    groups: tuple[GroupMeans, ...]
    missing_documents: int | None
    unjudged: float | None
    evaluation: Evaluation = field(compare=False, repr=False)
    run: Run = field(compare=False, repr=False)

    def to_json(self) -> dict[str, Any]:
        """The system as plain JSON values."""
        found: dict[str, Any] = {
            "name": self.name,
            "metrics": dict(self.metrics),
            "intervals": {name: list(pair) for name, pair in self.intervals.items()},
            "without_results": len(self.evaluation.without_results),
            "missing_documents": self.missing_documents,
            f"unjudged@{TOP}": self.unjudged,
            "against_baseline": {name: d.to_json() for name, d in self.differences.items()},
        }
        if self.groups:
            found["groups"] = [group.to_json() for group in self.groups]
        return found


@dataclass(frozen=True, slots=True)
class Comparison:
    """All systems on the same queries; the first is the baseline, the first measure the main one.

    ``queries`` counts those in the means, ``skipped`` those left out because nothing is relevant.
    """

    systems: tuple[SystemResult, ...]
    measures: tuple[str, ...]
    queries: int
    skipped: int
    split: str | None
    version: str
    group_by: str | None
    dataset: BeirDataset = field(compare=False, repr=False)

    @property
    def baseline(self) -> SystemResult:
        """The first system."""
        return self.systems[0]

    def moved(
        self, system: SystemResult, measure: str | None = None, most: int | None = None
    ) -> list[Moved]:
        """The queries that gained most against the baseline, then those that lost most.

        At most ``most`` of each, the largest change first.
        """
        before, after = self.baseline.evaluation, system.evaluation
        return moved_queries(self.dataset, (before, after), measure or self.measures[0], most)

    def to_json(self, moved: int = 10) -> dict[str, Any]:
        """The object that ``compare --json`` prints, with ``moved`` queries each way."""
        systems = []
        for system in self.systems:
            found = system.to_json()
            if system is not self.baseline:
                found["moved"] = [m.to_json() for m in self.moved(system, most=moved)]
            systems.append(found)
        return {
            "queries": self.queries,
            "skipped": self.skipped,
            "split": self.split,
            "version": self.version,
            "measures": list(self.measures),
            "baseline": self.baseline.name,
            "group_by": self.group_by,
            "systems": systems,
        }

    def __str__(self) -> str:
        """The tables and their notes, without markings."""
        from semsearch.evaluation.compare_table import comparison_lines

        return "\n".join(comparison_lines(self))
