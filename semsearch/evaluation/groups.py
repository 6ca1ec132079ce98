"""Groups of queries by a field of the queries file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from semsearch.corpus import BeirDataset
from semsearch.errors import UsageError
from semsearch.evaluation.columns import Interval
from semsearch.metrics import Evaluation, bootstrap_interval

if TYPE_CHECKING:
    from semsearch.metrics.formulas import Floats
    from semsearch.types import Ints

FEWEST = 10
"""An interval is given from so many queries on: resampling fewer says too little."""

NO_VALUE = "(none)"
"""The group of queries that lack the field."""


class Group(NamedTuple):
    """The queries that share a value; ``places`` int64 ``(n,)`` are their rows in the values."""

    value: str
    places: Ints


class GroupMeans(NamedTuple):
    """What one system is worth on a group, by measure.

    ``differences`` are those from the baseline's means, where there is one. Both intervals are
    empty below ``FEWEST`` queries.
    """

    value: str
    queries: int
    metrics: dict[str, float]
    intervals: dict[str, Interval]
    differences: dict[str, float]
    difference_intervals: dict[str, Interval]

    def to_json(self) -> dict[str, Any]:
        """The group as plain JSON values."""
        found: dict[str, Any] = {
            "value": self.value,
            "queries": self.queries,
            "metrics": self.metrics,
            "intervals": _lists(self.intervals),
        }
        if self.differences:
            found["differences"] = self.differences
            found["difference_intervals"] = _lists(self.difference_intervals)
        return found


def check_field(dataset: BeirDataset, field: str | None) -> None:
    """Raise UsageError when no query has the field."""
    if field is not None and all(query.metadata.get(field) is None for query in dataset.queries):
        fields = sorted({name for query in dataset.queries for name in query.metadata})
        there = f"there is {', '.join(fields)}" if fields else "they have an id and a text only"
        raise UsageError(f"no query has the field {field!r}: {there}")


def group_queries(dataset: BeirDataset, query_ids: Sequence[str], field: str) -> list[Group]:
    """Sort queries into groups by a field of their metadata, the largest group first.

    A value that is not text is shown as JSON. A query with a list is in the group of each of its
    values, one without the field in ``NO_VALUE``, which comes last.
    """
    metadata = {query.id: query.metadata for query in dataset.queries}
    groups: dict[str, list[int]] = {}
    for place, query in enumerate(query_ids):
        for value in _values(metadata[query].get(field)):
            groups.setdefault(value, []).append(place)
    largest = sorted(groups, key=lambda value: (value == NO_VALUE, -len(groups[value]), value))
    return [Group(value, np.array(groups[value], np.int64)) for value in largest]


def group_means(
    evaluation: Evaluation,
    groups: Sequence[Group],
    measures: Sequence[str],
    baseline: Evaluation | None = None,
) -> tuple[GroupMeans, ...]:
    """Means and intervals of each group, in the order of the groups."""
    found = []
    for value, places in groups:
        ours = {name: evaluation.per_query(name)[places] for name in measures}
        theirs = {name: baseline.per_query(name)[places] for name in measures if baseline}
        change = {name: ours[name] - values for name, values in theirs.items()}
        found.append(
            GroupMeans(
                value,
                len(places),
                _means(ours),
                _intervals(ours),
                _means(change),
                _intervals(change),
            )
        )
    return tuple(found)


def _means(values: Mapping[str, Floats]) -> dict[str, float]:
    return {name: float(some.mean()) for name, some in values.items()}


def _intervals(values: Mapping[str, Floats]) -> dict[str, Interval]:
    enough = {name: some for name, some in values.items() if len(some) >= FEWEST}
    return {name: bootstrap_interval(some) for name, some in enough.items()}


def _lists(intervals: Mapping[str, Interval]) -> dict[str, list[float]]:
    return {name: list(pair) for name, pair in intervals.items()}


def _values(value: object) -> list[str]:
    """The groups that a field's value stands for; no value twice."""
    several = value if isinstance(value, (list, tuple)) else [value]
    shown = [_shown(one) for one in several if one is not None]
    return list(dict.fromkeys(shown)) or [NO_VALUE]


def _shown(value: object) -> str:
    if isinstance(value, str):
        return value or '""'
    return json.dumps(value, ensure_ascii=False, sort_keys=True)
