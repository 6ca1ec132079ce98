"""Query by query, the worst first: what it is worth, what came first, where the right one was."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np

from semsearch.corpus import BeirDataset
from semsearch.corpus.columns import write_lines
from semsearch.evaluation.comparison import Comparison
from semsearch.evaluation.report import MAIN_MEASURE
from semsearch.metrics import Evaluation, rank_documents
from semsearch.types import Run

Record: TypeAlias = dict[str, str | int | float | None]
"""One line of a table, by heading."""


@dataclass(frozen=True, slots=True)
class QueryResult:
    """One query as one system answered it.

    ``metrics`` maps measures to its values. ``relevant`` counts the documents judged relevant.
    ``top`` is the first hit, ``top_grade`` its grade, None where it is not judged. ``found`` is the
    relevant document that is ranked best, at ``rank`` (from 1); both are None where there is none.
    """

    query_id: str
    text: str
    metrics: Mapping[str, float]
    relevant: int
    top: str | None
    top_grade: int | None
    found: str | None
    rank: int | None

    def record(self) -> Record:
        """The query as one flat record: id, a field for each measure, the rest, the text."""
        return {
            "query_id": self.query_id,
            **self.metrics,
            "relevant": self.relevant,
            "top_hit": self.top,
            "top_hit_grade": self.top_grade,
            "best_relevant": self.found,
            "best_relevant_rank": self.rank,
            "text": self.text,
        }


def worst_first(evaluation: Evaluation, measure: str = MAIN_MEASURE) -> list[int]:
    """Rows of the evaluation by ascending value of a measure, then by the mean of all, then id."""
    values = evaluation.per_query(measure)
    keys = (np.arange(len(values)), evaluation.values.mean(axis=1), values)
    return [int(place) for place in np.lexsort(keys)]


def query_results(
    dataset: BeirDataset,
    evaluation: Evaluation,
    run: Run,
    measure: str = MAIN_MEASURE,
    most: int | None = None,
    *,
    ignore_identical_ids: bool = False,
) -> list[QueryResult]:
    """The queries of an evaluation, the worst by ``measure`` first, at most ``most`` of them.

    ``run`` is the ranking that was evaluated, in the same way (``ignore_identical_ids``).
    """
    texts = {query.id: query.text for query in dataset.queries}
    names = [str(measure) for measure in evaluation.measures]
    results = []
    for place in worst_first(evaluation, measure)[:most]:
        query = evaluation.query_ids[place]
        grades = dataset.qrels[query]
        ranking = rank_documents(run.get(query, {}))
        if ignore_identical_ids:
            ranking = [document for document in ranking if document != query]
        rank = next((i for i, d in enumerate(ranking, 1) if grades.get(d, 0) >= 1), None)
        results.append(
            QueryResult(
                query,
                texts[query],
                dict(zip(names, evaluation.values[place].tolist(), strict=True)),
                relevant=sum(grade >= 1 for grade in grades.values()),
                top=ranking[0] if ranking else None,
                top_grade=grades.get(ranking[0]) if ranking else None,
                found=None if rank is None else ranking[rank - 1],
                rank=rank,
            )
        )
    return results


def compared_records(comparison: Comparison) -> list[Record]:
    """Each query of a comparison with every system's values, those that moved most first.

    How far a query moved is the largest distance from the baseline in the first measure.
    """
    dataset, first = comparison.dataset, comparison.baseline.evaluation
    texts = {query.id: query.text for query in dataset.queries}
    columns = {
        f"{system.name} {measure}": system.evaluation.per_query(measure)
        for measure in comparison.measures
        for system in comparison.systems
    }
    main = comparison.measures[0]
    values = np.array([system.evaluation.per_query(main) for system in comparison.systems])
    order = np.argsort(-np.abs(values - values[0]).max(axis=0), kind="stable")
    return [
        {
            "query_id": first.query_ids[place],
            **{name: float(column[place]) for name, column in columns.items()},
            "text": texts[first.query_ids[place]],
        }
        for place in order.tolist()
    ]


def write_records(path: str | Path, records: Sequence[Record]) -> None:
    """Write records: JSON lines when named ``.jsonl``, else a table with tabs; gzip if ``.gz``.

    Raises InputError, StorageError.
    """
    plain = str(path).lower().removesuffix(".gz")
    write_lines(path, json_lines(records) if plain.endswith(".jsonl") else table_rows(records))


def json_lines(records: Sequence[Record]) -> Iterator[str]:
    """One JSON object a line."""
    for record in records:
        yield json.dumps(record, ensure_ascii=False) + "\n"


def table_rows(records: Sequence[Record]) -> Iterator[str]:
    """A header, then one line each, with tabs between; white space in a cell becomes a space."""
    if records:
        yield "\t".join(map(_cell, records[0])) + "\n"
    for record in records:
        yield "\t".join(map(_cell, record.values())) + "\n"


def _cell(value: str | int | float | None) -> str:
    if value is None:
        return ""
    return f"{value:.6g}" if isinstance(value, float) else " ".join(str(value).split())
