"""What may be wrong with a labelled set, looked for before its numbers are believed.

Nothing here changes a number.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from semsearch.evaluation.copies import Copies, judged_texts
from semsearch.metrics import rank_documents
from semsearch.types import Qrels, Run

if TYPE_CHECKING:
    from semsearch.collection.reader import Reader
    from semsearch.corpus import BeirDataset

TOP = 10
"""The ranks whose hits should be judged."""

EXAMPLES = 5
"""So many cases of each finding are named."""


class _Sentences(NamedTuple):
    one: str
    many: str
    why: str


_SENTENCES = {
    "queries_missing": _Sentences(
        "judged query is not in the queries file",
        "judged queries are not in the queries file",
        "They are left out of the mean.",
    ),
    "queries_without_relevant": _Sentences(
        "query has no document that is judged relevant",
        "queries have no document that is judged relevant",
        "They are left out of the mean.",
    ),
    "documents_missing": _Sentences(
        "judged document is not in the index",
        "judged documents are not in the index",
        "They cannot be found; the relevant ones among them keep every system below 1.",
    ),
    "duplicates_judged_differently": _Sentences(
        "time the same text is judged differently under two ids",
        "times the same text is judged differently under two ids",
        "For one query one copy counts more than the other, though they say the same.",
    ),
    "duplicates_unjudged": _Sentences(
        "time a relevant document has a copy that is not judged",
        "times a relevant document has a copy that is not judged",
        "Who finds the copy is counted as wrong.",
    ),
    "queries_equal_documents": _Sentences(
        "query is word for word a document",
        "queries are word for word a document",
        "Finding it needs no understanding; it may have been meant to be left out.",
    ),
}


@dataclass(frozen=True, slots=True)
class Check:
    """One thing looked for: found ``count`` times ``out_of`` so many; a few ``examples``.

    An example maps words such as ``query`` and ``document`` to ids; ``grades`` maps the ids of
    equal documents to their grades, None for a copy that is not judged.
    """

    name: str
    count: int
    out_of: int
    examples: tuple[Mapping[str, Any], ...] = ()

    @property
    def why(self) -> str:
        """What follows from it, in one sentence."""
        return _SENTENCES[self.name].why

    def __str__(self) -> str:
        """What was found, in one line with the first examples."""
        sentence = _SENTENCES[self.name]
        found = f"{self.count:,} {sentence.one if self.count == 1 else sentence.many}"
        if not self.examples:
            return found
        named = "; ".join(map(example_text, self.examples[:2]))
        return f"{found}: {named}{' ...' if self.count > 2 else ''}"

    def to_json(self) -> dict[str, Any]:
        """The check as plain JSON values."""
        examples = [dict(example) for example in self.examples]
        return {"count": self.count, "of": self.out_of, "examples": examples}


@dataclass(frozen=True, slots=True)
class DataChecks:
    """All that was looked for, found or not, in a fixed order.

    ``unjudged`` has a number for each row of the report: the share of the hits in its top ``TOP``
    that nobody judged, which count as not relevant; None where it has no hits.
    """

    checks: tuple[Check, ...]
    unjudged: tuple[float | None, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The object under ``checks`` of ``evaluate --json``."""
        return {
            f"unjudged@{TOP}": list(self.unjudged),
            **{check.name: check.to_json() for check in self.checks},
        }

    def note_lines(self, but: Sequence[str] = ()) -> list[str]:
        """A line for each thing that was found; ``but`` names those that are told elsewhere."""
        lines = [str(check) for check in self.checks if check.count and check.name not in but]
        return [*self._unjudged_line(), *lines]

    def _unjudged_line(self) -> list[str]:
        if not self.unjudged or not self.unjudged[0]:
            return []
        shares = [share for share in self.unjudged if share is not None]
        low, high = f"{100 * min(shares):.0f}", f"{100 * max(shares):.0f}"
        rows = "" if low == high else f", {low} to {high} % over the rows"
        return [
            f"{100 * self.unjudged[0]:.0f} % of the first row's top {TOP} is not judged and counts"
            f" as not relevant{rows}"
        ]


def unjudged_share(
    qrels: Qrels, run: Run, k: int = TOP, *, ignore_identical_ids: bool = False
) -> float | None:
    """The share of a run's top ``k`` hits that the qrels do not grade; None without hits.

    Only queries with a relevant document are looked at: those that the means are made of.
    """
    hits = unknown = 0
    for query, grades in qrels.items():
        if max(grades.values(), default=0) < 1:
            continue
        scores = run.get(query, {})
        if ignore_identical_ids:
            scores = {document: score for document, score in scores.items() if document != query}
        top = rank_documents(scores)[:k]
        hits += len(top)
        unknown += sum(document not in grades for document in top)
    return unknown / hits if hits else None


def check_data(
    reader: Reader, dataset: BeirDataset, unjudged: Sequence[float | None] = ()
) -> DataChecks:
    """Look at queries, judgements and the indexed documents; reads every document once.

    Raises Corrupt, StorageError as ``Reader.documents`` does.
    """
    asked = {query.id: dataset.qrels[query.id] for query in dataset.queries}
    judged = sorted({document for grades in asked.values() for document in grades})
    texts, missing = judged_texts(reader, judged)
    seen = Copies(texts, dataset.queries)
    for document in reader.documents():
        seen.look_at(document)
    without = [q for q, grades in asked.items() if max(grades.values(), default=0) < 1]
    relevant = {d for grades in asked.values() for d, grade in grades.items() if grade >= 1}
    differently, copies = _conflicts(asked, seen.groups())
    return DataChecks(
        (
            _check("queries_missing", _named("query", dataset.missing_queries), len(dataset.qrels)),
            _check("queries_without_relevant", _named("query", without), len(asked)),
            _check(
                "documents_missing",
                [{"document": d, "relevant": d in relevant} for d in missing],
                len(judged),
            ),
            _check("duplicates_judged_differently", differently, sum(map(len, asked.values()))),
            _check("duplicates_unjudged", copies, sum(map(len, asked.values()))),
            _check("queries_equal_documents", seen.equal_queries(asked), len(asked)),
        ),
        tuple(unjudged),
    )


def example_text(example: Mapping[str, Any]) -> str:
    """An example as people read it: ``query q1: d1 grade 2, d7 not judged``."""
    words = []
    if "query" in example:
        words.append(f"query {example['query']}")
    if "document" in example:
        words.append(f"document {example['document']}")
    text = ", ".join(words)
    grades = example.get("grades")
    if grades is None:
        return text
    told = [f"{d} {'not judged' if g is None else f'grade {g}'}" for d, g in grades.items()]
    return f"{text}: {', '.join(told)}"


def _conflicts(
    qrels: Qrels, groups: Sequence[Sequence[str]]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Queries for which copies have different grades; and a relevant one an unjudged copy."""
    group_of = {document: ids for ids in groups for document in ids}
    differently, copies = [], []
    for query, grades in qrels.items():
        for ids in _touched(grades, group_of):
            given = {document: grades.get(document) for document in ids}
            known = [max(grade, 0) for grade in given.values() if grade is not None]
            case = {"query": query, "grades": _telling(given)}
            if len(set(known)) > 1:
                differently.append(case)
            elif known[0] >= 1 and len(known) < len(ids):
                copies.append(case)
    return differently, copies


def _telling(given: Mapping[str, int | None]) -> dict[str, int | None]:
    """A few of many copies, one of each grade first."""
    first = {grade: document for document, grade in reversed([*given.items()])}
    order = [*sorted(first.values(), key=list(given).index), *given]
    return {document: given[document] for document in list(dict.fromkeys(order))[:EXAMPLES]}


def _touched(
    grades: Mapping[str, int], group_of: Mapping[str, Sequence[str]]
) -> Iterator[Sequence[str]]:
    """The groups of copies that a query's judgements name, each once."""
    firsts = set()
    for document in grades:
        ids = group_of.get(document)
        if ids is not None and ids[0] not in firsts:
            firsts.add(ids[0])
            yield ids


def _named(word: str, ids: Sequence[str]) -> list[dict[str, Any]]:
    return [{word: name} for name in ids]


def _check(name: str, found: Sequence[Mapping[str, Any]], out_of: int) -> Check:
    return Check(name, len(found), out_of, tuple(found[:EXAMPLES]))
