"""The queries that the first row answers worst: what it found, what it should have found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from semsearch.evaluation.html.markup import esc, section, snippet
from semsearch.evaluation.html.points import Point
from semsearch.evaluation.queries import worst_first
from semsearch.evaluation.report import MAIN_MEASURE
from semsearch.metrics import rank_documents
from semsearch.types import Document, Qrels, Run

if TYPE_CHECKING:
    from semsearch.collection.reader import Reader
    from semsearch.corpus import BeirDataset

WORST = 20
HITS = 5
RELEVANT = 3
"""So many queries are shown, each with so many hits and so many relevant documents."""

_OPEN = 2


@dataclass(frozen=True, slots=True)
class Shown:
    """A document on the page; ``rank`` from 1, None where it is not in the ranking."""

    id: str
    rank: int | None
    grade: int | None
    title: str
    text: str


@dataclass(frozen=True, slots=True)
class WorstQuery:
    """A query with its ``value`` in the first row and in the ``others``, and its documents.

    ``relevant`` are those with the highest grades; ``more`` counts those that are not shown.
    ``depth`` is how many documents the ranking has.
    """

    id: str
    text: str
    value: float
    others: Sequence[tuple[str, float]]
    hits: Sequence[Shown]
    relevant: Sequence[Shown]
    more: int
    depth: int


def worst_queries(
    points: Sequence[Point],
    dataset: BeirDataset,
    run: Run,
    reader: Reader | None,
    measure: str = MAIN_MEASURE,
) -> list[WorstQuery]:
    """The queries with the lowest values of the first row, worst first.

    Texts come from ``reader``; a document that it lacks is shown by its id. A query that is
    answered perfectly is never among them.
    """
    evaluation = points[0].row.evaluation
    if evaluation is None:
        return []
    values = evaluation.per_query(measure).tolist()
    places = worst_first(evaluation, measure)[:WORST]
    order = [(values[at], evaluation.query_ids[at]) for at in places if values[at] < 1.0]
    rankings = {query: rank_documents(run.get(query, {})) for _, query in order}
    wanted = {
        document
        for query, ranking in rankings.items()
        for document in [*ranking[:HITS], *_relevant(dataset.qrels, query)[:RELEVANT]]
    }
    texts = {query.id: query.text for query in dataset.queries}
    found = reader.live_by_id(sorted(wanted)) if reader is not None else {}
    documents = {name: stored.document for name, stored in found.items()}
    shown = _Shower(dataset.qrels, rankings, documents)
    return [
        WorstQuery(
            id=query,
            text=texts[query],
            value=value,
            others=_others(points, query, measure),
            hits=shown.all(query, rankings[query][:HITS]),
            relevant=shown.all(query, _relevant(dataset.qrels, query)[:RELEVANT]),
            more=max(len(_relevant(dataset.qrels, query)) - RELEVANT, 0),
            depth=len(rankings[query]),
        )
        for value, query in order
    ]


def without(scores: dict[str, float], document: str) -> dict[str, float]:
    """A query's scores without those of one document."""
    return {other: score for other, score in scores.items() if other != document}


def worst_section(queries: Sequence[WorstQuery], name: str, measure: str = MAIN_MEASURE) -> str:
    """The queries as HTML, the first of them open."""
    if not queries:
        return ""
    about = (
        f"The {len(queries)} queries with the lowest {measure} of {name}: the first {HITS} hits"
        " with their judgements, and where the relevant documents stand."
    )
    parts = [_query(query, is_open=n < _OPEN) for n, query in enumerate(queries)]
    return section("Worst queries", f'<p class="about">{esc(about)}</p>', *parts)


def _query(query: WorstQuery, *, is_open: bool) -> str:
    others = ", ".join(f"{name} {value:.2f}" for name, value in query.others)
    also = f'<p class="note">{esc(f"{query.id}; {others}" if others else query.id)}</p>'
    more = f'<p class="note">and {query.more:,} more</p>' if query.more else ""
    hits = _documents(query.hits, query.depth) or '<p class="note">no hits</p>'
    return (
        f"<details{' open' if is_open else ''}>"
        f'<summary><span class="value">{query.value:.2f}</span>'
        f'<span class="query" dir="auto">{esc(query.text or query.id)}</span></summary>\n'
        f'<div class="inside">{also}<h3>Found</h3>{hits}'
        f"<h3>Relevant</h3>{_documents(query.relevant, query.depth)}{more}</div></details>"
    )


def _documents(documents: Sequence[Shown], depth: int) -> str:
    items = "\n".join(_document(document, depth) for document in documents)
    return f'<ol class="hits">\n{items}\n</ol>' if items else ""


def _document(document: Shown, depth: int) -> str:
    rank = f"{document.rank}" if document.rank is not None else f"not in {depth}"
    if document.grade is None:
        grade = '<span class="grade">not judged</span>'
    else:
        relevant = " relevant" if document.grade >= 1 else ""
        grade = f'<span class="grade{relevant}">grade {document.grade}</span>'
    text = f'<p dir="auto">{esc(document.text)}</p>' if document.text else ""
    return (
        f'<li><span class="rank">{esc(rank)}</span><div><b dir="auto">{esc(document.title)}</b>'
        f"{grade}{text}</div></li>"
    )


class _Shower:
    """Makes what is shown of a document from judgements, rankings and texts."""

    def __init__(
        self,
        qrels: Qrels,
        rankings: Mapping[str, Sequence[str]],
        documents: Mapping[str, Document],
    ) -> None:
        self._qrels = qrels
        self._rankings = rankings
        self._documents = documents

    def all(self, query: str, ids: Sequence[str]) -> list[Shown]:
        ranks = {name: rank for rank, name in enumerate(self._rankings[query], start=1)}
        return [self._one(name, ranks.get(name), self._qrels[query].get(name)) for name in ids]

    def _one(self, name: str, rank: int | None, grade: int | None) -> Shown:
        document = self._documents.get(name)
        if document is None:
            return Shown(name, rank, grade, name, "")
        return Shown(name, rank, grade, document.title or name, snippet(document.text))


def _relevant(qrels: Qrels, query: str) -> list[str]:
    """Relevant documents, the highest grade first."""
    grades = qrels[query]
    relevant = [document for document, grade in grades.items() if grade >= 1]
    return sorted(relevant, key=lambda document: (-grades[document], document))


def _others(points: Sequence[Point], query: str, measure: str) -> list[tuple[str, float]]:
    """The query's value in the first row of every other group."""
    found: dict[str, tuple[str, float]] = {}
    for point in points[1:]:
        evaluation = point.row.evaluation
        if point.group == points[0].group or point.group in found or evaluation is None:
            continue
        at = evaluation.query_ids.index(query)
        value = float(evaluation.per_query(measure)[at])
        found[point.group] = (point.name, value)
    return list(found.values())
