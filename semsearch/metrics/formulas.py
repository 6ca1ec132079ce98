"""The formulas, over many rankings at once.

Arrays have one row a query; column ``i`` is rank ``i + 1``. ``relevant`` is bool ``(n, depth)``:
is the document at that rank relevant; False beyond the end of the results. ``total`` is float64
``(n,)``: the number of relevant documents that the judgements hold, retrieved or not, at least 1.
``gains`` is float64 ``(n, depth)``, at least 0, and ``ideal`` float64 ``(n, judged)`` the gains of
all judged documents in descending order, padded with 0. Every result is float64 ``(n,)`` within
0..1. Where ``k`` exceeds the columns, the missing ranks count as not relevant.

Source: trec_eval 9 (``success``, ``P``, ``recall``, ``recip_rank``, ``ndcg_cut``, ``map_cut``).
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]
Bools: TypeAlias = NDArray[np.bool_]


def accuracy(relevant: Bools, k: int) -> Floats:
    """1 if any of the top k is relevant.

    >>> accuracy(np.array([[False, True], [False, False]]), 2).tolist()
    [1.0, 0.0]
    """
    return np.asarray(relevant[:, :k].any(axis=1), dtype=np.float64)


def precision(relevant: Bools, k: int) -> Floats:
    """Relevant documents in the top k, divided by k even if fewer were returned.

    >>> precision(np.array([[True, False, True]]), 10).tolist()
    [0.2]
    """
    return _found(relevant, k) / k


def recall(relevant: Bools, total: Floats, k: int) -> Floats:
    """Relevant documents in the top k, divided by all that are relevant.

    >>> recall(np.array([[True, False, True]]), np.array([4.0]), 3).tolist()
    [0.5]
    """
    return _found(relevant, k) / total


def mrr(relevant: Bools, k: int) -> Floats:
    """Reciprocal rank of the first relevant document within the top k, else 0.

    >>> mrr(np.array([[False, False, False, True]]), 10).tolist()
    [0.25]
    >>> mrr(np.array([[False, False, False, True]]), 3).tolist()
    [0.0]
    """
    top = relevant[:, :k]
    first: Floats = np.where(top.any(axis=1), 1.0 / (1.0 + top.argmax(axis=1)), 0.0)
    return first


def dcg(gains: Floats, k: int) -> Floats:
    """Sum over the top k of gain / log2(rank + 1).

    >>> bool(dcg(np.array([[3.0, 2.0, 0.0]]), 10)[0] == 3 + 2 / np.log2(3))
    True
    """
    top = gains[:, :k]
    discounted: Floats = top / np.log2(np.arange(2, top.shape[1] + 2))
    return np.asarray(discounted.sum(axis=1))


def ndcg(gains: Floats, ideal: Floats, k: int) -> Floats:
    """DCG of the ranking divided by the DCG of the best ranking of all judged documents.

    >>> float(ndcg(np.array([[1.0, 0.0]]), np.array([[3.0, 1.0]]), 2)[0].round(6))
    0.275412
    >>> round(1 / (3 + 1 / np.log2(3).item()), 6)
    0.275412
    """
    return dcg(gains, k) / dcg(ideal, k)


def average_precision(relevant: Bools, divisor: Floats, k: int) -> Floats:
    """Sum of the precisions at the ranks of relevant documents in the top k, over ``divisor``.

    With ``divisor = total`` this is trec_eval's ``map_cut``; with ``min(k, total)`` it is the MAP
    of the sentence-transformers InformationRetrievalEvaluator.

    >>> average_precision(np.array([[True, False, True]]), np.array([4.0]), 3).tolist()
    [0.41666666666666663]
    >>> (1 / 1 + 2 / 3) / 4
    0.41666666666666663
    """
    top = relevant[:, :k]
    precisions = np.cumsum(top, axis=1) / np.arange(1.0, top.shape[1] + 1)
    summed: Floats = np.where(top, precisions, 0.0).sum(axis=1)
    return summed / divisor


def _found(relevant: Bools, k: int) -> Floats:
    return np.asarray(relevant[:, :k].sum(axis=1), dtype=np.float64)
