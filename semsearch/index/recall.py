"""Measured recall: what an approximate index finds of what exact search finds.

The queries are a sample of the rows themselves, each mixed with another and without its own row
among the answers. Rows as they are flatter an index: real queries lie farther from the rows than
those lie from each other, above all where a corpus repeats itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from semsearch.errors import UsageError
from semsearch.index.contract import Rows, VectorIndex
from semsearch.index.scoring import Best
from semsearch.types import Candidates
from semsearch.vectors import cut, rank, widen

if TYPE_CHECKING:
    from semsearch.types import Floats, Ints

_SEED = 20
_TIES = 32
_BLOCK = 4_096
_OTHER = 0.7
"""How much of another row is added to a row. With it, over a million static vectors, every setting
measured within 0.004 of what it found for real queries; rows with noise were off by 0.01, too high
where candidates were few and too low where lists were."""


@dataclass(frozen=True, slots=True)
class Sample:
    """Queries float32 ``(Q, d)``, the ids of their own rows ``(Q,)``, and their true k best.

    ``near`` int64 ``(Q, k + 32)`` are the ids of the true k best and of what ties with the last of
    them, as far as there is room, padded with -1.
    """

    queries: Floats
    own: Ints
    truth: Candidates
    near: Ints

    @classmethod
    def of(cls, rows: Rows, k: int = 10, size: int = 200, dims: int | None = None) -> Sample:
        """``size`` rows at random (all, if fewer), mixed, cut to ``dims``, searched exactly.

        The same rows give the same sample. Raises UsageError for ``dims`` beyond the rows'.
        """
        width = rows.dim if dims is None else dims
        return cls.at_widths(rows, [width], k, size)[width]

    @classmethod
    def at_widths(
        cls, rows: Rows, widths: Sequence[int], k: int = 10, size: int = 200
    ) -> dict[int, Sample]:
        """The same sample at several ``widths``, from one reading of the rows."""
        if k < 1 or size < 1:
            raise UsageError("a recall sample needs at least one query and one neighbour")
        ordinals = sample_ordinals(len(rows), size)
        mixed, own = _mixed(rows.take(ordinals)), rows.ids[ordinals]
        best = {width: Best(cut(mixed, width), min(k + 1 + _TIES, len(rows))) for width in widths}
        for start in range(0, len(rows), _BLOCK):
            stop = min(start + _BLOCK, len(rows))
            block = widen(rows.block(start, stop))
            for one in best.values():
                one.offer(rows.ids[start:stop], block)
        return {width: cls._from(one, own, k) for width, one in best.items()}

    @classmethod
    def _from(cls, best: Best, own: Ints, k: int) -> Sample:
        others = _without(best.found, own, k + _TIES)
        truth = Candidates(others.ids[:, :k], others.scores[:, :k])
        tied = others.scores >= truth.scores[:, -1:]
        return cls(best.queries, own, truth, np.where(tied, others.ids, -1))


def sample_ordinals(n: int, size: int) -> Ints:
    """At most ``size`` of ``n`` ordinals, ascending, always the same ones."""
    if n <= size:
        return np.arange(n, dtype=np.int64)
    return np.sort(np.random.default_rng(_SEED).choice(n, size, replace=False)).astype(np.int64)


def recall(index: VectorIndex, sample: Sample) -> float:
    """The share of the sample's true neighbours that ``index`` finds, 0 to 1.

    A row that ties with the k-th true neighbour counts as one. Without neighbours it is 1.
    """
    k = sample.truth.ids.shape[1]
    found = _without(index.search(sample.queries, k + 1), sample.own, k)
    true = sample.truth.ids >= 0
    total = int(np.count_nonzero(true))
    if not total:
        return 1.0
    lowest = np.where(true, sample.truth.scores, np.inf).min(axis=1)
    hits = np.count_nonzero((found.ids >= 0) & (found.scores >= lowest[:, None]))
    return float(hits / total)


def measure_recall(
    index: VectorIndex, rows: Rows, *, k: int = 10, dims: int | None = None, size: int = 200
) -> float:
    """Recall@k of ``index`` on a sample of its own ``rows``, at ``dims`` dimensions."""
    return recall(index, Sample.of(rows, k=k, size=size, dims=dims))


def _mixed(vectors: Floats) -> Floats:
    """Unit rows, each with a part of another one: a text about two things."""
    units = cut(vectors, vectors.shape[1])
    return units + np.float32(_OTHER) * np.roll(units, len(units) // 2, axis=0)


def _without(candidates: Candidates, own: Ints, k: int) -> Candidates:
    """The k best of each row that are not the query's own id."""
    query, column = np.nonzero((candidates.ids >= 0) & (candidates.ids != own[:, None]))
    ids, scores = candidates.ids[query, column], candidates.scores[query, column]
    return rank(query, ids, scores, len(own), k)
