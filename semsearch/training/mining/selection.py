"""From candidates to negatives: each positive takes its own, in order, by every rule."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from semsearch.training.mining.documents import Scored
from semsearch.training.mining.proposals import Proposed
from semsearch.training.mining.settings import Mining
from semsearch.types import Candidates

if TYPE_CHECKING:
    from semsearch.ranking.contract import Reranker


@dataclass(slots=True)
class Chosen:
    """A positive of the query at ``at``, and its negatives in the order they were taken in.

    ``waiting`` passed all rules but the cross-encoder's, and the first ``judged`` all of them.
    """

    at: int
    positive: Scored
    waiting: list[Scored]
    judged: int
    negatives: list[Scored] = field(default_factory=list)
    looked: int = 0


def select(
    proposed: Sequence[Proposed], mining: Mining, judge: Reranker | None, dropped: Counter[str]
) -> list[Chosen]:
    """The negatives of every positive, query by query.

    What the rules drop is added to ``dropped``. ``judge`` is the cross-encoder. Raises ModelError.
    """
    found = []
    for at, one in enumerate(proposed):
        order = _in_order(one, mining)
        for positive in one.positives:
            left, breaks = _by_rules(order, positive, mining)
            dropped.update(breaks)
            found.append(Chosen(at, positive, [*one.judged, *left], len(one.judged)))
    if judge is None:
        for pair in found:
            pair.negatives = pair.waiting[: mining.per_query]
        return found
    _Filter(proposed, mining, judge, dropped).run(found)
    return found


def _in_order(one: Proposed, mining: Mining) -> list[Scored]:
    """The candidates by preference: as ranked, or shuffled by the seed and the query's id alone."""
    if mining.sample == "first":
        return one.candidates
    own = hashlib.blake2b(one.query.id.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    random = np.random.default_rng([mining.seed, int.from_bytes(own, "little")])
    return [one.candidates[place] for place in random.permutation(len(one.candidates)).tolist()]


def _by_rules(
    order: Sequence[Scored], positive: Scored, mining: Mining
) -> tuple[list[Scored], Counter[str]]:
    left, breaks = [], Counter[str]()
    for candidate in order:
        rule = mining.against(candidate.score, positive.score)
        if rule is None:
            left.append(candidate)
        else:
            breaks[rule] += 1
    return left, breaks


class _Filter:
    """Asks the cross-encoder about as few candidates as it takes, many queries' at a time."""

    def __init__(
        self,
        proposed: Sequence[Proposed],
        mining: Mining,
        judge: Reranker,
        dropped: Counter[str],
    ) -> None:
        self._texts = [one.query.text for one in proposed]
        self._mining = mining
        self._judge = judge
        self._dropped = dropped
        self._scores: dict[tuple[int, int], float] = {}

    def run(self, pairs: Sequence[Chosen]) -> None:
        """Fill the negatives of every pair."""
        asking = list(pairs)
        while asking:
            bites = [pair.waiting[pair.looked : self._until(pair)] for pair in asking]
            self._score(asking, bites)
            for pair, bite in zip(asking, bites, strict=True):
                self._take(pair, bite)
            asking = [
                pair
                for pair in asking
                if len(pair.negatives) < self._mining.per_query and pair.looked < len(pair.waiting)
            ]

    def _until(self, pair: Chosen) -> int:
        """Twice as many as so far: where the first few do not do, many are asked about at once."""
        missing = self._mining.per_query - len(pair.negatives)
        return pair.looked + max(missing, pair.looked)

    def _score(self, pairs: Sequence[Chosen], bites: Sequence[Sequence[Scored]]) -> None:
        wanted: dict[int, set[int]] = {}
        for pair, bite in zip(pairs, bites, strict=True):
            asked = bite[max(pair.judged - pair.looked, 0) :]
            vids = {pair.positive.vid, *(scored.vid for scored in asked)} if asked else set[int]()
            new = {vid for vid in vids if (pair.at, vid) not in self._scores}
            wanted.setdefault(pair.at, set()).update(new)
        rows = {at: sorted(vids) for at, vids in wanted.items() if vids}
        if not rows:
            return
        ids = np.full((len(rows), max(map(len, rows.values()))), -1, np.int64)
        for number, row in enumerate(rows.values()):
            ids[number, : len(row)] = row
        asked_of = Candidates(ids, np.zeros(ids.shape, np.float32))
        scores = self._judge.score([self._texts[at] for at in rows], asked_of)
        for number, (at, row) in enumerate(rows.items()):
            for vid, score in zip(row, scores[number].tolist(), strict=False):
                self._scores[at, vid] = score

    def _take(self, pair: Chosen, bite: Sequence[Scored]) -> None:
        for candidate in bite:
            if len(pair.negatives) == self._mining.per_query:
                return
            if pair.looked >= pair.judged and self._too_good(pair, candidate):
                self._dropped["cross_encoder"] += 1
            else:
                pair.negatives.append(candidate)
            pair.looked += 1

    def _too_good(self, pair: Chosen, candidate: Scored) -> bool:
        highest = self._scores[pair.at, pair.positive.vid] - self._mining.cross_encoder_margin
        return self._scores[pair.at, candidate.vid] > highest
