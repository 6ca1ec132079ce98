"""From candidate passages to ranked documents: whose passage each one is, looked up once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from semsearch.collection.reader import Reader
from semsearch.types import Candidates

_MOST_KNOWN = 1_000_000


class Ranked(NamedTuple):
    """A document in a ranking: its best passage and that passage's score."""

    id: str
    score: float
    vid: int


class Owners:
    """Which document each passage of one generation belongs to; what was looked up is kept."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._known: dict[int, str] = {}

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


def _with_ties(scores: Sequence[float], stop: int) -> int:
    """The first position from ``stop`` on whose score is not that of the one before."""
    while stop < len(scores) and scores[stop] == scores[stop - 1]:
        stop += 1
    return min(stop, len(scores))
