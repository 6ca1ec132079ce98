"""Mining an index: labelled queries in, rows to train on out, a few queries at a time."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from semsearch.collection.reader import StaleSnapshot
from semsearch.corpus import BeirDataset
from semsearch.corpus.beir import qrels_files
from semsearch.errors import InputError, StorageError, UsageError
from semsearch.evaluation.labelled import open_labelled, require_texts
from semsearch.evaluation.measure import missing_documents
from semsearch.search.rerankers import Rerankers
from semsearch.training.mining.known import known_judgements
from semsearch.training.mining.proposals import Proposed, Proposer
from semsearch.training.mining.report import MiningReport
from semsearch.training.mining.selection import Chosen, select
from semsearch.training.mining.settings import USUAL, Mining
from semsearch.types import Query

if TYPE_CHECKING:
    from semsearch.search.facade import Index

Row: TypeAlias = dict[str, Any]
"""One row by the names of its columns: texts, ids, cosines, ranks."""

_AT_ONCE = 128
"""Queries whose candidates are in memory together."""

_MOST_CANDIDATES = 200_000
"""Candidates in memory together: where ranks go deep, fewer queries are."""

_ATTEMPTS = 5


def mine(
    index: Index,
    dataset: str | Path | BeirDataset,
    *,
    split: str | None = None,
    mining: Mining = USUAL,
) -> Iterator[Row]:
    """Hard negatives for the positives of a labelled set (a BEIR folder), row by row.

    The split is ``train``, else ``dev``. A row has ``anchor``, ``positive`` and ``negative`` (for
    tuples ``negative_1`` and so on), texts as they are encoded; ``query_id``, ``positive_id``,
    ``negative_id``, the cosines ``positive_score`` and ``negative_score``, and ``rank``, that of
    the negative without the positives, None for one that was judged and not ranked so high (tuples
    have lists, ``negative_ids``, ``negative_scores`` and ``ranks``). Nobody's positive is another's
    negative: all judgements of the folder count (see ``semsearch.training.mining.known``). Same
    index, judgements and settings: same rows.

    Raises UsageError for settings that make no sense, a set without such a split or without texts,
    InputError when no relevant document is in the index or no row is left, NotFound, Mismatch,
    ModelError, Corrupt, StorageError when the index keeps changing.
    """
    return Miner(index, dataset, split=split, mining=mining).rows()


class Miner:
    """Mines one split of a labelled set; ``report`` grows with the rows that are taken.

    ``queries`` is a file of queries beside those of the dataset's folder: positives of queries in
    it with the same text are kept out, too. Raises as ``mine`` does.
    """

    def __init__(
        self,
        index: Index,
        dataset: str | Path | BeirDataset,
        *,
        split: str | None = None,
        queries: str | Path | None = None,
        mining: Mining = USUAL,
    ) -> None:
        mining.check()
        self._mining = mining
        self._dataset = open_labelled(dataset, split or mining_split(dataset))
        require_texts(self._dataset)
        self._searcher = index.searcher
        self._searcher.refresh()
        missing = missing_documents(index, self._dataset)
        self.report = MiningReport(self._dataset.split, missing)
        known = known_judgements(self._dataset, queries)
        self._proposer = Proposer(self._searcher, known, mining)
        self._judge = None
        if mining.cross_encoder is not None:
            self._judge = Rerankers(index.reader).cross_encoder(mining.cross_encoder)

    def rows(self) -> Iterator[Row]:
        """The rows, query by query in the order of the set. Raises InputError if there is none."""
        queries = self._dataset.queries
        at_once = max(1, min(_AT_ONCE, _MOST_CANDIDATES // self._mining.ranks[1]))
        for start in range(0, len(queries), at_once):
            part = queries[start : start + at_once]
            proposed, chosen = self._chosen(part)
            pairs: list[list[Chosen]] = [[] for _ in part]
            for pair in chosen:
                pairs[pair.at].append(pair)
            for one, own in zip(proposed, pairs, strict=True):
                yield from self._rows_of(one, own)
                self._mining.on_progress(1)
        if not self.report.rows:
            raise InputError(self.report.nothing())

    def lines(self) -> Iterator[str]:
        """The rows as lines of JSON, each with its end."""
        for row in self.rows():
            yield json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n"

    def _chosen(self, queries: Sequence[Query]) -> tuple[list[Proposed], list[Chosen]]:
        for _ in range(_ATTEMPTS):
            dropped: Counter[str] = Counter()
            try:
                proposed = self._proposer.propose(queries, dropped)
                chosen = select(proposed, self._mining, self._judge, dropped)
            except StaleSnapshot:  # purged or replaced by a commit meanwhile
                continue
            self.report.dropped.update(dropped)
            return proposed, chosen
        raise self._changed()

    def _rows_of(self, one: Proposed, pairs: Sequence[Chosen]) -> Iterator[Row]:
        """The rows of one query, counted; only their texts are read."""
        report, before = self.report, self.report.rows
        report.queries += 1
        report.candidates += len(one.candidates)
        least = self._mining.per_query if self._mining.layout == "tuples" else 1
        whole = [pair for pair in pairs if len(pair.negatives) >= least]
        report.positives_without += len(pairs) - len(whole)
        ids = {s.id for pair in whole for s in (pair.positive, *pair.negatives)}
        found = self._searcher.reader.live_by_id(sorted(ids))
        if len(found) < len(ids):
            raise self._changed()
        texts = {name: stored.document.content for name, stored in found.items()}
        for pair in whole:
            yield from self._layout(one.query, pair, texts)
        if report.rows == before:
            report.without[_why(one, pairs)] += 1

    def _layout(self, query: Query, pair: Chosen, texts: dict[str, str]) -> Iterator[Row]:
        positive, negatives = pair.positive, pair.negatives
        head = {"anchor": query.text, "positive": texts[positive.id]}
        ids = {"query_id": query.id, "positive_id": positive.id}
        if self._mining.layout == "tuples":
            self.report.add_row(positive.score, [n.score for n in negatives])
            yield {
                **head,
                **{f"negative_{at}": texts[n.id] for at, n in enumerate(negatives, start=1)},
                **ids,
                "negative_ids": [n.id for n in negatives],
                "positive_score": positive.score,
                "negative_scores": [n.score for n in negatives],
                "ranks": [n.rank for n in negatives],
            }
            return
        for negative in negatives:
            self.report.add_row(positive.score, [negative.score])
            yield {
                **head,
                "negative": texts[negative.id],
                **ids,
                "negative_id": negative.id,
                "positive_score": positive.score,
                "negative_score": negative.score,
                "rank": negative.rank,
            }

    def _changed(self) -> StorageError:
        folder = self._searcher.reader.layout.folder
        return StorageError(f"{folder}: the index was changed meanwhile: mine again")


def _why(one: Proposed, pairs: Sequence[Chosen]) -> str:
    """Why a query has no row."""
    if not one.positives:
        return "no_positive"
    if not one.candidates and not one.judged:
        return "no_candidates"
    return "too_few" if any(pair.negatives for pair in pairs) else "too_similar"


def mining_split(dataset: str | Path | BeirDataset) -> str | None:
    """The split of a BEIR folder to mine: ``train``, else ``dev``; None for anything else.

    Raises UsageError where it has neither.
    """
    folder = Path("") if isinstance(dataset, BeirDataset) else Path(dataset) / "qrels"
    if isinstance(dataset, BeirDataset) or not folder.is_dir():
        return None
    there = qrels_files(folder)
    for name in ("train", "dev"):
        if name in there:
            return name
    raise UsageError(
        f"{dataset}: no train or dev split to mine, only {', '.join(there) or 'none'}: --split"
        " names one, but numbers on queries that were trained on are no longer held out"
    )
