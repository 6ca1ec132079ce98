"""The cheapest settings of an approximate index that reach a wanted recall.

Recall is measured, cost is reckoned: a timing on a busy machine would choose other settings each
time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from semsearch.index.contract import Rows
from semsearch.index.faiss_index import project
from semsearch.index.library import Quantised
from semsearch.index.recall import Sample

CANDIDATES = (400, 800, 1600, 3200)
"""Fewer flatter: with 100 of ten million rows real queries found 0.931 where the sample said 0.952,
and they would save half a millisecond."""

_SHARES = (
    1 / 64,
    1 / 32,
    1 / 16,
    1 / 8,
    3 / 16,
    1 / 4,
    3 / 8,
    7 / 16,
    1 / 2,
    9 / 16,
    5 / 8,
    3 / 4,
    1,
)
_RESCORE = 100
"""Comparing a candidate with its stored vector costs as much as visiting so many codes: measured
1 microsecond against 9 to 10 nanoseconds (256 dimensions, one thread)."""


@dataclass(frozen=True, slots=True)
class Setting:
    """``candidates`` to rescore, ``nprobe`` lists to visit, and the ``recall`` to be hoped for."""

    candidates: int
    nprobe: int
    recall: float


def settings(rows: Rows, quantised: Quantised, sample: Sample, target: float) -> list[Setting]:
    """Settings that should reach ``target``, cheapest first; then the one of most recall.

    Recall is that of the candidates, of which the deepest search is cut: a true neighbour among
    them is found by rescoring. A kind whose depth changes its way (HNSW) finds less: measure.
    """
    depths = [depth for depth in CANDIDATES if depth <= len(rows)] or [len(rows)]
    good: list[tuple[float, Setting]] = []
    most = Setting(depths[0], 0, -1.0)
    for nprobe, visited in _probes(quantised, len(rows)):
        if good and visited + depths[0] * _RESCORE >= good[0][0]:
            break  # dearer whatever the depth
        quantised.set_probes(nprobe)
        for depth, recall in zip(depths, _reached(rows, quantised, sample, depths), strict=True):
            setting = Setting(depth, nprobe, recall)
            if recall >= target:
                good.append((visited + depth * _RESCORE, setting))
            if recall > most.recall:
                most = setting
        good.sort(key=lambda one: one[0])
    return [setting for _, setting in good] + [most]


def _probes(quantised: Quantised, n: int) -> Iterator[tuple[int, float]]:
    """Numbers of lists, ascending, with the codes that a query then visits."""
    lists = quantised.lists
    if not lists:
        yield 0, float(n)
        return
    for nprobe in sorted({max(1, round(share * lists)) for share in _SHARES}):
        yield nprobe, n * nprobe / lists


def _reached(rows: Rows, quantised: Quantised, sample: Sample, depths: list[int]) -> list[float]:
    """Recall at each number of candidates, ascending."""
    proposed = quantised.propose(project(sample.queries, quantised.dims), depths[-1])
    ids = np.where(proposed >= 0, rows.ids[proposed], -1)
    wanted = np.count_nonzero(sample.truth.ids >= 0, axis=1)
    if not wanted.any():
        return [1.0] * len(depths)
    found = np.zeros(len(depths))
    for row, near, most in zip(ids, sample.near, wanted, strict=True):
        true = np.cumsum(np.isin(row, near[near >= 0]))
        found += [min(int(true[depth - 1]), most) for depth in depths]
    return [float(value) for value in found / wanted.sum()]
