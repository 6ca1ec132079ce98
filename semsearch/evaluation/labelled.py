"""The labelled queries that everything is measured on: a BEIR folder, or a file of judgements."""

from __future__ import annotations

from pathlib import Path

from semsearch.corpus import BeirDataset, read_qrels
from semsearch.errors import InputError, UsageError
from semsearch.types import Qrels, Query, Run


def open_labelled(
    dataset: str | Path | BeirDataset,
    split: str | None = None,
    queries: str | Path | None = None,
    qrels: str | Path | None = None,
) -> BeirDataset:
    """Open a labelled set: a BEIR folder, or a file of qrels where there is nothing else.

    Such a file is enough to measure run files. Its queries have no text unless ``queries`` names
    a file of them. Raises as ``BeirDataset.open``.
    """
    if isinstance(dataset, BeirDataset):
        return dataset
    path = Path(dataset)
    if not path.is_file():
        return BeirDataset.open(path, split, queries, qrels)
    if queries is not None:
        return BeirDataset.open(path.parent, split, queries, path if qrels is None else qrels)
    judged = read_qrels(path if qrels is None else qrels)
    asked = [Query(query, "") for query in judged]
    name = split or path.name.removesuffix(".gz").rsplit(".", 1)[0]
    return BeirDataset(path.parent, None, name, asked, judged, ())


def require_texts(dataset: BeirDataset) -> None:
    """Refuse a set of which only the ids of the queries are known: no index can be asked.

    Raises UsageError.
    """
    if dataset.queries and not any(query.text for query in dataset.queries):
        raise UsageError(
            "the judgements alone say nothing to search for: name the file of the queries too"
            " (--queries), or a folder with queries.jsonl"
        )


def asked_qrels(dataset: BeirDataset) -> Qrels:
    """The judgements of the queries that the set holds."""
    return {query.id: dataset.qrels[query.id] for query in dataset.queries}


def check_ids(dataset: BeirDataset, run: Run, name: str) -> None:
    """Refuse a run that answers none of the queries: its ids are those of something else.

    Raises InputError.
    """
    if run and not any(query.id in run for query in dataset.queries):
        ours, theirs = dataset.queries[0].id if dataset.queries else "-", next(iter(run))
        raise InputError(
            f"none of its {len(run):,} queries is judged: its ids are like {theirs!r}, those of the"
            f" judgements like {ours!r}",
            name,
        )
