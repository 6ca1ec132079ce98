"""Hits that differ: a ranking in a new order, in which likeness to what stands above costs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from semsearch.types import Floats, Ints

_NARROWEST = 1e-12


def diversify(relevance: Floats, vectors: Floats, diversity: float, k: int) -> tuple[Ints, Floats]:
    """Of n documents the best ``k`` by maximal marginal relevance, one after the other.

    ``relevance`` (n,) is finite, higher is better; ``vectors`` (n, d) are of unit length;
    ``diversity`` 0 to 1. Each next document has the highest
    ``(1 - diversity) * relevance - diversity * similarity``: its relevance brought to 0..1 over all
    n, and its cosine, where positive, with the most similar document chosen before it. Returns
    positions int64 and these scores float32, both (min(k, n),). The scores never rise; of equal
    documents the one given first comes first.

    Measured over the 100 best with 0.3: the mean cosine among the first ten falls from 0.460 to
    0.428 and nDCG@10 from 0.733 to 0.725 (scifact), from 0.809 to 0.794 and 0.872 to 0.866
    (banking77). With 0.5 nDCG@10 is 0.709 and 0.834.

    Carbonell and Goldstein, "The use of MMR, diversity-based reranking for reordering documents and
    producing summaries", SIGIR 1998.
    """
    gain = (1 - diversity) * _unit_range(relevance)
    rows = vectors.astype(np.float64)
    nearest = np.zeros(len(rows))
    left = np.ones(len(rows), np.bool_)
    positions = np.empty(min(k, len(rows)), np.int64)
    scores = np.empty(len(positions), np.float32)
    for place in range(len(positions)):
        values = np.where(left, gain - diversity * nearest, -np.inf)
        chosen = int(values.argmax())
        positions[place], scores[place] = chosen, values[chosen]
        left[chosen] = False
        nearest = np.maximum(nearest, rows @ rows[chosen])
    return positions, scores


def _unit_range(relevance: Floats) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    values = relevance.astype(np.float64)
    low, high = values.min(initial=np.inf), values.max(initial=-np.inf)
    width = high - low if len(values) else 1.0
    scaled: np.ndarray[tuple[int], np.dtype[np.float64]]
    scaled = (values - low) / (width if width > _NARROWEST else 1.0)
    return scaled
