"""Fusing what the indexes propose: one score for each candidate from its dense and lexical ones.

The default counts surprise: how unlikely it is that a passage chosen at random scores so high. It
needs no labels, tells a sure match from the best of a bad lot, and makes cosines and BM25 one kind.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import erfc, log, sqrt
from typing import TYPE_CHECKING

import numpy as np

from semsearch.ranking.settings import FusionName
from semsearch.types import Candidates
from semsearch.vectors import rank

if TYPE_CHECKING:
    from semsearch.types import Bools, Floats, Ints

RRF_K = 60

SATURATION = 2.2
"""The most that BM25 counts a word by, however often it occurs: k1 + 1."""

_HIGHEST_Z = 37.0  # beyond, the probability is no float any more
_NARROWEST = 1e-6


@dataclass(frozen=True, slots=True)
class Pool:
    """The candidates of all indexes for Q queries, each once, with the score that each index gives.

    ``ids`` int64 (Q, m), ascending, -1 where padded; ``dense`` and ``lexical`` float32 (Q, m), 0
    where no word matches; ``dense_ranks`` and ``lexical_ranks`` int64 (Q, m) from 1 in the index's
    own ranking, 0 where it does not hold the candidate. ``mean`` and ``spread`` float32 (Q,) are
    those of each query's cosine with passages at random; ``reads`` float32 (Q,) says how far the
    encoder can read what is asked and searched, 0 to 1.
    """

    ids: Ints
    dense: Floats
    lexical: Floats
    dense_ranks: Ints
    lexical_ranks: Ints
    mean: Floats
    spread: Floats
    reads: Floats

    @property
    def real(self) -> Bools:
        """bool (Q, m): what is no padding."""
        return self.ids >= 0


def fuse(pool: Pool, fusion: FusionName, dense_weight: float = 0.5) -> Candidates:
    """Candidates (Q, m) by their fused score, ``dense_weight`` of it the dense side's.

    The dense side counts less where the encoder cannot read the text, except in ``rrf``.
    """
    scores = _FUSIONS[fusion](pool, dense_weight).astype(np.float32)
    query, column = np.nonzero(pool.real)
    ids = pool.ids[query, column]
    return rank(query, ids, scores[query, column], *pool.ids.shape)


def reciprocal_rank(pool: Pool, weight: float) -> Floats:
    """The weighted sum of 1 / (60 + rank) over the rankings that hold the candidate.

    Cormack, Clarke and Büttcher, "Reciprocal rank fusion outperforms Condorcet and individual rank
    learning methods", SIGIR 2009.
    """
    return 2 * weight * _reciprocal(pool.dense_ranks) + 2 * (1 - weight) * _reciprocal(
        pool.lexical_ranks
    )


def min_max(pool: Pool, weight: float) -> Floats:
    """The weighted sum of both scores, each brought to 0..1 over the query's candidates."""
    dense_part = _dense_part(pool, weight)
    return dense_part * _unit_range(pool.dense, pool.real) + (1 - dense_part) * _unit_range(
        pool.lexical, pool.real
    )


def z_score(pool: Pool, weight: float) -> Floats:
    """The weighted sum of both scores in standard deviations over the query's candidates."""
    dense_part = _dense_part(pool, weight)
    return dense_part * _standard(pool.dense, pool.real) + (1 - dense_part) * _standard(
        pool.lexical, pool.real
    )


def surprise(pool: Pool, weight: float) -> Floats:
    """The weighted sum of -log p of both scores, p being chance's probability of one so high.

    Cosines of a query with passages at random are about normal, with its own mean and spread. BM25
    adds up the words' idf, about -log of the share of passages that hold the word, each up to k1 +
    1 times: divided by that it is -log p of words that come independently. Summing -log p is
    Fisher's method of combining tests (Statistical Methods for Research Workers, 1932).
    """
    spread = np.maximum(pool.spread, np.float32(_NARROWEST))
    z: Floats = ((pool.dense - pool.mean[:, None]) / spread[:, None]).astype(np.float32)
    dense: Floats = pool.reads[:, None] * _surprises(z)
    return 2 * weight * dense + 2 * (1 - weight) * pool.lexical / SATURATION


_FUSIONS: dict[FusionName, Callable[[Pool, float], Floats]] = {
    "surprise": surprise,
    "rrf": reciprocal_rank,
    "minmax": min_max,
    "zscore": z_score,
}


def _surprises(z: Floats) -> Floats:
    """-log of the probability of more than ``z`` under the normal distribution."""
    root = sqrt(2.0)
    flat = np.minimum(z, _HIGHEST_Z).ravel().tolist()
    found = np.array([-log(erfc(value / root) / 2) for value in flat], np.float32)
    return found.reshape(z.shape)


def _dense_part(pool: Pool, weight: float) -> Floats:
    """float32 (Q, 1): the dense side's part, less where the encoder cannot read."""
    dense = weight * pool.reads
    part: Floats = (dense / np.maximum(dense + 1 - weight, _NARROWEST))[:, None]
    return part


def _reciprocal(ranks: Ints) -> Floats:
    return np.where(ranks > 0, 1.0 / (RRF_K + np.maximum(ranks, 1)), 0.0)


def _unit_range(values: Floats, real: Bools) -> Floats:
    low = np.where(real, values, np.inf).min(axis=1, initial=np.inf, keepdims=True)
    high = np.where(real, values, -np.inf).max(axis=1, initial=-np.inf, keepdims=True)
    scaled: Floats = (values - low) / np.maximum(high - low, _NARROWEST)
    return np.where(real, scaled, 0)


def _standard(values: Floats, real: Bools) -> Floats:
    count = np.maximum(real.sum(axis=1, keepdims=True), 1)
    mean = _sums(np.where(real, values, 0)) / count
    centred = np.where(real, values - mean, 0)
    spread = np.sqrt(_sums(centred**2) / count)
    standard: Floats = centred / np.maximum(spread, _NARROWEST)
    return standard


def _sums(values: Floats) -> Floats:
    """The sum of each row, (Q, 1), added up from the left: padding does not change its bits."""
    return values.cumsum(axis=1, dtype=np.float64)[:, -1:]
