"""What is known of each query: every document that any split calls right, and those judged wrong.

A positive that leaks in as a negative teaches the model the opposite of what people said. So all
judgements of the folder count, not only those of the split that is mined, and those of any query
with the same text (but for spaces and case).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from semsearch.corpus import BeirDataset, read_qrels, read_queries
from semsearch.corpus.beir import QUERIES_NAMES, qrels_files
from semsearch.evaluation.copies import hash_of
from semsearch.types import Qrels, Query


@dataclass(frozen=True, slots=True)
class Known:
    """By query id: ids of documents that are relevant to it, and of those judged that are not.

    ``own`` are the positives by its own judgements in the split, in their order; ``positives`` has
    those of all splits and of queries with the same text, too.
    """

    own: dict[str, tuple[str, ...]]
    positives: dict[str, frozenset[str]]
    rejected: dict[str, tuple[str, ...]]


def known_judgements(dataset: BeirDataset, queries: str | Path | None = None) -> Known:
    """All that the dataset's folder knows of the queries of one split.

    ``queries`` is a file of queries beside those of the folder. Raises InputError for a file of
    judgements, of whatever split, that cannot be read.
    """
    asked = {query.id: hash_of(query.text) for query in dataset.queries}
    texts = set(asked.values())
    ids: dict[bytes, set[str]] = {text: set() for text in texts}
    text_of: dict[str, set[bytes]] = {}
    for query in _every_query(dataset, queries):
        text = hash_of(query.text)
        if text in texts:
            ids[text].add(query.id)
            text_of.setdefault(query.id, set()).add(text)
    relevant: dict[bytes, set[str]] = {text: set() for text in texts}
    judged: dict[bytes, dict[str, None]] = {text: {} for text in texts}
    for qrels in _every_qrels(dataset):
        for query_id in text_of.keys() & qrels.keys():
            for text in text_of[query_id]:
                judged[text].update(dict.fromkeys(qrels[query_id]))
                relevant[text].update(d for d, grade in qrels[query_id].items() if grade >= 1)
    return Known(
        {q: tuple(d for d, g in dataset.qrels[q].items() if g >= 1) for q in asked},
        {q: frozenset(relevant[text]) for q, text in asked.items()},
        {q: tuple(d for d in judged[t] if d not in relevant[t]) for q, t in asked.items()},
    )


def _every_query(dataset: BeirDataset, queries: str | Path | None) -> Iterator[Query]:
    yield from dataset.queries
    if queries is not None:
        yield from read_queries(queries)
    for folder in _folders(dataset):
        file = next((folder / n for n in QUERIES_NAMES if (folder / n).is_file()), None)
        if file is not None:
            yield from read_queries(file)


def _every_qrels(dataset: BeirDataset) -> Iterator[Qrels]:
    yield dataset.qrels
    for folder in _folders(dataset):
        for file in qrels_files(folder / "qrels").values():
            yield read_qrels(file)


def _folders(dataset: BeirDataset) -> Iterator[Path]:
    """The dataset's folder; the one above it where a file in ``qrels`` was named itself."""
    yield dataset.folder
    if dataset.folder.name == "qrels":
        yield dataset.folder.parent
