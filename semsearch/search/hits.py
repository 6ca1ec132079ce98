"""From a ranking of documents to hits: good enough, then different enough, as people read them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from semsearch.collection.reader import Reader
from semsearch.errors import SEE_CHECK, Corrupt
from semsearch.ranking.diversity import diversify
from semsearch.search.owners import Ranked
from semsearch.store.filters import Filter, matches
from semsearch.types import Hit
from semsearch.vectors import cut

if TYPE_CHECKING:
    from semsearch.collection.snapshot import Snapshot
    from semsearch.search.options import Options


def choose(ranking: Sequence[Ranked], k: int, options: Options, snapshot: Snapshot) -> list[Ranked]:
    """Of a ranking what is good enough, then by what differs most, then k of it.

    So diversity brings nothing in below ``min_score``; documents are compared by the vectors of
    their best passages, and the scores are those that they were chosen by.
    """
    lowest = options.min_score
    good = [ranked for ranked in ranking if lowest is None or ranked.score >= lowest]
    if not options.diversity or not good:
        return good[:k]
    vids = np.array([ranked.vid for ranked in good], np.int64)
    rows = snapshot.rows.take(snapshot.ordinals(vids))
    relevance = np.array([ranked.score for ranked in good], np.float32)
    vectors = cut(rows, options.width(snapshot, k))
    positions, scores = diversify(relevance, vectors, options.diversity, k)
    return [
        good[position]._replace(score=score)
        for position, score in zip(positions.tolist(), scores.tolist(), strict=True)
    ]


def read_hits(reader: Reader, ranking: Sequence[Ranked], conditions: Filter) -> list[Hit]:
    """The documents of a ranking as hits, with the passages that were found.

    Raises StaleSnapshot, Corrupt.
    """
    rows = reader.passages_of(ranked.vid for ranked in ranking)
    hits = []
    for rank, ranked in enumerate(ranking, start=1):
        passage, row = rows[ranked.vid]
        found = row.document
        if not matches(found.metadata, conditions):
            raise Corrupt(f"{reader.layout.catalog}: the filter's index is damaged: {SEE_CHECK}")
        start, end = passage.start, passage.end
        piece = found.content[start:end]
        hits.append(
            Hit(
                rank, found.id, ranked.score, found.title, found.text, found.metadata,
                piece, start, end,
            )
        )  # fmt: skip
    return hits
