"""Ordering the best candidates again: the reranker's score beside the first one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from semsearch.types import Candidates
from semsearch.vectors import rank

if TYPE_CHECKING:
    from semsearch.types import Bools, Floats

_NARROWEST = 1e-12


def head(candidates: Candidates, depth: int) -> Candidates:
    """The first ``depth`` candidates of each query."""
    return Candidates(candidates.ids[:, :depth], candidates.scores[:, :depth])


def mixed(first: Candidates, scores: Floats, weight: Floats) -> Candidates:
    """``first`` (Q, m) in a new order of its first d, whose second scores are (Q, d).

    Its scores are those of ``mixed_scores``.
    """
    found = mixed_scores(first, scores, weight)
    query, column = np.nonzero(first.ids >= 0)
    return rank(query, first.ids[query, column], found[query, column], *first.ids.shape)


def mixed_scores(first: Candidates, scores: Floats, weight: Floats) -> Floats:
    """The new scores, float32 (Q, m), of candidates whose first d have second scores (Q, d).

    Both scores are brought to 0..1 over those d of each query; the new score is the second's with
    ``weight`` float32 (Q,) and the first's with the rest. The candidates below keep their order
    and stay below: theirs are at most 0. -inf where padded.
    """
    depth = scores.shape[1]
    real = first.ids >= 0
    ones = first.scores.astype(np.float64)
    low, width = _range(ones[:, :depth], real[:, :depth])
    values = (np.where(real, ones, low) - low) / width
    values[:, depth:] = np.minimum(values[:, depth:], 0)
    second = scores.astype(np.float64)
    low, width = _range(second, real[:, :depth])
    second = (np.where(real[:, :depth], second, low) - low) / width
    share = weight.astype(np.float64)[:, None]
    values[:, :depth] = share * second + (1 - share) * values[:, :depth]
    return np.where(real, values, -np.inf).astype(np.float32)


def _range(
    values: NDArray[np.float64], real: Bools
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The lowest real value of each row, (Q, 1), and the distance to the highest, 1 where none."""
    low = np.where(real, values, np.inf).min(axis=1, initial=np.inf, keepdims=True)
    high = np.where(real, values, -np.inf).max(axis=1, initial=-np.inf, keepdims=True)
    low = np.where(np.isfinite(low), low, 0)
    width = np.where(np.isfinite(high), high, 0) - low
    return low, np.where(width > _NARROWEST, width, 1)
