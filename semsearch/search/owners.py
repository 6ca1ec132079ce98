"""From candidate passages to ranked documents: whose passage each one is, looked up once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import zip_longest
from typing import NamedTuple

import numpy as np

from semsearch.collection.reader import Reader
from semsearch.collection.snapshot import Snapshot
from semsearch.types import Candidates

_MOST_KNOWN = 1_000_000


class Ranked(NamedTuple):
    """A document in a ranking: its best passage and that passage's score."""

    id: str
    score: float
    vid: int


class Owners:
    """Which document each passage of one generation belongs to; what was looked up is kept."""

    def __init__(self, reader: Reader, snapshot: Snapshot) -> None:
        self._reader = reader
        self._known: dict[int, str] = {}
        self._rows: dict[int, int] = {}
        self._several = snapshot.generation.n_passage > snapshot.generation.n_document

    def one_each(self, rankings: Sequence[Candidates]) -> list[Candidates]:
        """The same rankings by document: of each, one passage stands for all, the same everywhere.

        It is the one that ranks highest in any of them; scores are those of the document's best
        passage in each. So fusing adds up what words and vectors found in different passages.
        Raises StaleSnapshot, Corrupt.
        """
        if not self._several:  # every passage is a document
            return list(rankings)
        everything = np.unique(np.concatenate([ranking.ids.ravel() for ranking in rankings]))
        owners = self._rows_of(everything[everything >= 0].tolist())
        by_query = zip(*(ranking.ids.tolist() for ranking in rankings), strict=True)
        chosen = [_highest(rows, owners) for rows in by_query]
        return [_collapsed(ranking, owners, chosen) for ranking in rankings]

    def rank(self, candidates: Candidates, k: int) -> list[list[Ranked]]:
        """The k best documents of each row, each once, by its best passage.

        Equal scores by id descending (trec_eval). Raises StaleSnapshot, Corrupt.
        """
        first = candidates.ids[:, :k]
        self.of(first[first >= 0].tolist())  # all rows at once: one statement for 500 passages
        return [
            self._rank_one(ids[ids >= 0].tolist(), scores.tolist(), k)
            for ids, scores in zip(candidates.ids, candidates.scores, strict=True)
        ]

    def of(self, wanted: Sequence[int]) -> dict[int, str]:
        """The id of the document of each vid. Raises StaleSnapshot, Corrupt."""
        known = self._known
        missing = {vid for vid in wanted if vid not in known}
        found = {vid: row.ext_id for vid, row in self._reader.documents_of(missing).items()}
        owners = {vid: known[vid] for vid in wanted if vid not in found} | found
        if len(known) + len(found) > _MOST_KNOWN:
            known = self._known = {}
        known.update(found)
        return owners

    def _rows_of(self, wanted: Sequence[int]) -> dict[int, int]:
        """The document row of each vid."""
        missing = [vid for vid in wanted if vid not in self._rows]
        if len(self._rows) + len(missing) > _MOST_KNOWN:
            self._rows, missing = {}, list(wanted)
        self._rows.update(self._reader.rows_of(missing))
        return self._rows

    def _rank_one(self, vids: list[int], scores: list[float], k: int) -> list[Ranked]:
        best: dict[str, Ranked] = {}
        looked = 0
        while len(best) < k and looked < len(vids):  # look up no more owners than it takes
            stop = _with_ties(scores[: len(vids)], looked + k - len(best))
            owners = self.of(vids[looked:stop])
            for vid, score in zip(vids[looked:stop], scores[looked:stop], strict=True):
                best.setdefault(owners[vid], Ranked(owners[vid], score, vid))
            looked = stop
        ranking = sorted(best.values(), key=lambda r: r.id.encode(), reverse=True)
        return sorted(ranking, key=lambda r: -r.score)[:k]


def _highest(rows: Sequence[Sequence[int]], owners: Mapping[int, int]) -> dict[int, int]:
    """For each document of one query's rankings the passage that ranks highest in any of them."""
    chosen: dict[int, int] = {}
    for vids in zip_longest(*rows, fillvalue=-1):  # rank by rank
        for vid in vids:
            if vid >= 0:
                chosen.setdefault(owners[vid], vid)
    return chosen


def _collapsed(
    ranking: Candidates, owners: Mapping[int, int], chosen: Sequence[Mapping[int, int]]
) -> Candidates:
    """A ranking of passages as one of documents, each where its best passage is."""
    ids, scores = np.full_like(ranking.ids, -1), np.full_like(ranking.scores, -np.inf)
    for query, vids in enumerate(ranking.ids.tolist()):
        first: dict[int, int] = {}
        for place, vid in enumerate(vids):
            if vid >= 0:
                first.setdefault(owners[vid], place)
        ids[query, : len(first)] = [chosen[query][owner] for owner in first]
        scores[query, : len(first)] = ranking.scores[query, list(first.values())]
    return Candidates(ids, scores)


def _with_ties(scores: Sequence[float], stop: int) -> int:
    """The first position from ``stop`` on whose score is not that of the one before."""
    while stop < len(scores) and scores[stop] == scores[stop - 1]:
        stop += 1
    return min(stop, len(scores))
