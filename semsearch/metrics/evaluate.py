"""Qrels and a run in, one value per query and measure out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import Literal, NamedTuple, TypeAlias

import numpy as np

from semsearch.errors import InputError, UsageError
from semsearch.metrics import formulas
from semsearch.metrics.formulas import Bools, Floats
from semsearch.metrics.measures import DEFAULT_MEASURES, Measure
from semsearch.metrics.ordering import rank_documents
from semsearch.metrics.statistics import bootstrap_intervals
from semsearch.types import Qrels, Run

Gain: TypeAlias = Literal["linear", "exp"]

_BLOCK_CELLS = 1_000_000
_HIGHEST_EXP_GRADE = 100


@dataclass(frozen=True, eq=False, slots=True)
class Evaluation:
    """What a run is worth, query by query.

    ``values`` is float64 ``(n_queries, n_measures)``, read-only, higher is better; its rows follow
    ``query_ids`` (ascending as text, whatever the order of the files) and its columns ``measures``.
    """

    query_ids: tuple[str, ...]
    measures: tuple[Measure, ...]
    values: Floats
    skipped: tuple[str, ...] = ()
    """Judged queries without any relevant document: left out of the mean."""
    without_results: tuple[str, ...] = ()
    """Queries for which the run holds nothing: they score 0 and stay in the mean."""
    unjudged: tuple[str, ...] = ()
    """Queries of the run that the qrels do not name: left out."""

    def means(self) -> dict[str, float]:
        """Mean over the queries of each measure, by the measure's name as it was typed."""
        means = self.values.mean(axis=0).tolist()
        return dict(zip(map(str, self.measures), means, strict=True))

    def intervals(
        self, resamples: int = 10_000, seed: int = 0, level: float = 0.95
    ) -> dict[str, tuple[float, float]]:
        """Bootstrap interval of each mean, all measures on the same resamples of queries."""
        bounds = bootstrap_intervals(self.values, resamples, seed, level)
        names = map(str, self.measures)
        return {name: (low, high) for name, (low, high) in zip(names, bounds, strict=True)}

    def per_query(self, measure: str | Measure) -> Floats:
        """The values of one measure, float64 ``(n_queries,)``; any of its names will do.

        Raises:
            UsageError: the measure is unknown, or was not computed here.
        """
        wanted = Measure.parse(measure)
        if wanted not in self.measures:
            computed = ", ".join(map(str, self.measures))
            raise UsageError(f"{wanted} was not computed: evaluate it too (there are {computed})")
        return self.values[:, self.measures.index(wanted)]


def evaluate_run(
    qrels: Qrels,
    run: Run,
    measures: Sequence[str | Measure] = DEFAULT_MEASURES,
    *,
    gain: Gain = "linear",
    ignore_identical_ids: bool = False,
) -> Evaluation:
    """Judge a run, query by query, equal to trec_eval.

    ``gain`` is the gain of nDCG: the grade itself, or ``2 ** grade - 1``. ``ignore_identical_ids``
    drops every hit whose id equals its query's. The inputs are not changed; beside the values
    themselves the memory needed does not grow with the number of queries.

    Raises:
        InputError: no query has a relevant document, a score is NaN, or a grade is above what
            the gain ``"exp"`` can take.
        UsageError: an unknown measure or gain, or no measure.
    """
    wanted = tuple({str(measure): measure for measure in map(Measure.parse, measures)}.values())
    if not wanted:
        raise UsageError("no measure given: name at least one, as in ndcg@10")
    if gain not in ("linear", "exp"):
        raise UsageError(f"unknown gain {gain!r}: use 'linear' or 'exp'")
    if ignore_identical_ids:
        run = {query: _without(run[query], query) for query in run}
    relevant = {query for query, grades in qrels.items() if max(grades.values(), default=0) >= 1}
    query_ids = tuple(sorted(relevant))
    if not query_ids:
        raise InputError("no query has a relevant document (grade 1 or more): nothing to measure")
    values = np.empty((len(wanted), len(query_ids))).T  # each measure contiguous: summed pairwise
    start = 0
    for judged in _judge_blocks(query_ids, qrels, run, max(measure.k for measure in wanted), gain):
        stop = start + len(judged.total)
        for column, measure in enumerate(wanted):
            values[start:stop, column] = measure_values(judged, measure)
        start = stop
    values.flags.writeable = False
    return Evaluation(
        query_ids,
        wanted,
        values,
        skipped=tuple(sorted(qrels.keys() - relevant)),
        without_results=tuple(query for query in query_ids if not run.get(query)),
        unjudged=tuple(sorted(run.keys() - qrels.keys())),
    )


class Judged(NamedTuple):
    """Rankings with their judgements, as ``formulas`` takes them."""

    relevant: Bools
    total: Floats
    gains: Floats
    ideal: Floats


def measure_values(judged: Judged, measure: Measure) -> Floats:
    """One measure of each ranking, float64 ``(n,)``."""
    relevant, total, gains, ideal = judged
    k = measure.k
    match measure.name:
        case "accuracy":
            return formulas.accuracy(relevant, k)
        case "precision":
            return formulas.precision(relevant, k)
        case "recall":
            return formulas.recall(relevant, total, k)
        case "mrr":
            return formulas.mrr(relevant, k)
        case "ndcg":
            return formulas.ndcg(gains, ideal, k)
        case "map":
            return formulas.average_precision(relevant, total, k)
    return formulas.average_precision(relevant, np.minimum(total, k), k)  # map_st


def _judge_blocks(
    query_ids: Sequence[str], qrels: Qrels, run: Run, depth: int, gain: Gain
) -> Iterator[Judged]:
    """Judge the queries in order, a bounded number of cells at a time."""
    widest = max(max(len(qrels[query]), len(run.get(query, ()))) for query in query_ids)
    depth = min(depth, widest)
    size = max(1, _BLOCK_CELLS // depth)
    for start in range(0, len(query_ids), size):
        yield _judge(query_ids[start : start + size], qrels, run, depth, gain)


def _judge(query_ids: Sequence[str], qrels: Qrels, run: Run, depth: int, gain: Gain) -> Judged:
    """Rank each query's documents once and look up the grade at every rank."""
    grades = np.zeros((len(query_ids), depth))
    ideal = np.zeros((len(query_ids), depth))
    total = np.zeros(len(query_ids))
    for row, query in enumerate(query_ids):
        judged = qrels[query]
        try:
            top = rank_documents(run.get(query, {}))[:depth]
        except InputError as error:
            raise InputError(f"query {query!r}: {error}") from error
        grades[row, : len(top)] = np.fromiter(map(judged.get, top, repeat(0)), float, len(top))
        positive = sorted((grade for grade in judged.values() if grade >= 1), reverse=True)
        total[row] = len(positive)
        ideal[row, : len(positive)] = positive[:depth]
    return Judged(grades >= 1, total, _gains(grades, gain), _gains(ideal, gain))


def _gains(grades: Floats, gain: Gain) -> Floats:
    positive = np.maximum(grades, 0.0)
    if gain == "linear":
        return positive
    if positive.max() > _HIGHEST_EXP_GRADE:
        raise InputError(
            f"grade {positive.max():.0f} is too high for the gain 'exp' (2 ** grade - 1): "
            f"use grades up to {_HIGHEST_EXP_GRADE}, or the gain 'linear'"
        )
    return np.exp2(positive) - 1.0


def _without(scores: dict[str, float], document: str) -> dict[str, float]:
    if document not in scores:
        return scores
    return {other: score for other, score in scores.items() if other != document}
