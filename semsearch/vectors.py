"""Vectors in pure NumPy: unit length, cut, rotation, and the one order of scores.

Scores are higher-is-better everywhere; equal scores are ordered by ascending id.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from semsearch.errors import InputError, UsageError
from semsearch.types import Candidates

if TYPE_CHECKING:
    from semsearch.types import Floats, Ints

_BLOCK = 8192
_HALF_MASK = np.array(0x8FFFE000, dtype=np.uint32).view(np.int32)
_HALF_SCALE = np.float32(2.0**112)


def unit(rows: ArrayLike) -> Floats:
    """Rows of unit length: float ``(n, d)`` of any layout to a new float32 ``(n, d)``.

    Raises InputError for a row that is all zero or holds NaN or infinity; it names the row.
    """
    return _normalise(_matrix(rows), zero_rows=False)


def cut(vectors: ArrayLike, dims: int) -> Floats:
    """The first ``dims`` columns of ``(n, d)``, re-normalised: a new float32 ``(n, dims)``.

    A prefix that is all zero stays zero, so that it scores 0 against everything.
    Raises UsageError unless ``1 <= dims <= d``, and InputError for NaN or infinity.
    """
    matrix = _matrix(vectors)
    if not 1 <= dims <= matrix.shape[1]:
        raise UsageError(f"cannot cut to {dims} dimensions: the vectors have {matrix.shape[1]}")
    return _normalise(matrix[:, :dims], zero_rows=True)


def widen(rows: NDArray[np.floating], out: Floats | None = None) -> Floats:
    """Float32 values of ``rows`` (float16 or float32, ``(m, d)``), into ``out`` if it is given.

    Float16 must be finite (vectors are checked where they enter): infinity and NaN would become
    large numbers. Exact for every other value, subnormal ones included.
    """
    if out is None:
        out = np.empty(rows.shape, dtype=np.float32)
    if rows.dtype != np.float16:
        np.copyto(out, rows)
        return out
    # NumPy converts halves one by one in software; moving their bits into place with whole-array
    # integer operations is three times as fast. The exponents' different bias is the factor 2**112.
    bits = out.view(np.int32)
    np.copyto(bits, rows.view(np.int16))
    np.left_shift(bits, 13, out=bits)
    np.bitwise_and(bits, _HALF_MASK, out=bits)
    np.multiply(out, _HALF_SCALE, out=out)
    return out


def fit_rotation(blocks: Iterable[NDArray[np.floating]], dim: int) -> Floats:
    """An orthogonal float32 ``(dim, dim)`` R; ``x @ R`` has its energy in the first columns.

    The columns are the eigenvectors of the uncentred second moment of all rows of ``blocks``
    (``(n, dim)`` each; uncentred, so that inner products do not change), by descending eigenvalue,
    each with its largest component positive. Without any row it is the identity.
    Raises UsageError for another width and InputError for NaN or infinity.
    """
    moment = np.zeros((dim, dim), dtype=np.float64)
    for block in blocks:
        matrix = _matrix(block)
        if matrix.shape[1] != dim:
            raise UsageError(f"a rotation of {dim} dimensions was given rows of {matrix.shape[1]}")
        for start in range(0, len(matrix), _BLOCK):
            part = matrix[start : start + _BLOCK].astype(np.float64)
            with np.errstate(invalid="ignore"):  # infinity is reported below
                moment += part.T @ part
    if not np.isfinite(moment).all():
        raise InputError("cannot fit a rotation: a vector holds NaN or infinity")
    if not moment.any():
        return np.eye(dim, dtype=np.float32)
    _, vectors = np.linalg.eigh((moment + moment.T) / 2)
    vectors = vectors[:, ::-1]
    largest = vectors[np.abs(vectors).argmax(axis=0), np.arange(dim)]
    return np.ascontiguousarray(vectors * np.where(largest < 0, -1.0, 1.0), dtype=np.float32)


def top_k(scores: ArrayLike, ids: ArrayLike, k: int) -> Candidates:
    """The ``k`` best of each row of ``scores`` ``(Q, n)``, where column j belongs to ``ids[j]``.

    ``ids`` is int64 ``(n,)`` in any order. Best first, equal scores by ascending id (also where
    ties cross the k-th place); -inf is never returned; short rows are padded with -1 and -inf.
    Raises InputError for NaN, UsageError for a negative ``k`` or shapes that do not fit.
    """
    values = np.asarray(scores, dtype=np.float32)
    names = np.asarray(ids, dtype=np.int64)
    if values.ndim != 2 or names.shape != values.shape[1:]:
        raise UsageError(f"scores of shape {values.shape} do not fit ids of shape {names.shape}")
    if np.isnan(values).any():
        raise InputError("a score is NaN")
    keep = values > -np.inf
    width = values.shape[1]
    if 0 < k < width:
        kth = np.partition(values, width - k, axis=1)[:, width - k]
        keep &= values >= kth[:, None]
    query, column = np.nonzero(keep)
    return rank(query, names[column], values[query, column], len(values), k)


def merge_top_k(a: Candidates, b: Candidates, k: int) -> Candidates:
    """The ``k`` best of two results for the same Q queries; no id may be in both for one query.

    Raises UsageError where the numbers of queries differ, InputError for NaN.
    """
    if len(a.ids) != len(b.ids):
        raise UsageError(f"cannot merge the results of {len(a.ids)} and {len(b.ids)} queries")
    scores = np.concatenate([a.scores, b.scores], axis=1)
    if np.isnan(scores).any():
        raise InputError("a score is NaN")
    query, column = np.nonzero(scores > -np.inf)
    ids = np.concatenate([a.ids, b.ids], axis=1)
    return rank(query, ids[query, column], scores[query, column], len(scores), k)


def rank(query: Ints, ids: Ints, scores: Floats, queries: int, k: int) -> Candidates:
    """Flat triples (query number, id, score), each ``(m,)``, as the ``k`` best of each query.

    Raises UsageError for a negative ``k``. The scores must be neither NaN nor -inf.
    """
    if k < 0:
        raise UsageError(f"k must not be negative: {k}")
    order = np.lexsort((ids, -scores, query))
    query = query[order]
    place = np.arange(len(query)) - np.searchsorted(query, query)
    best = place < k
    query, place, order = query[best], place[best], order[best]
    result = empty_candidates(queries, k)
    result.ids[query, place] = ids[order]
    result.scores[query, place] = scores[order] + np.float32(0)  # -0.0 becomes 0.0
    return result


def empty_candidates(queries: int, k: int) -> Candidates:
    """``(queries, k)`` of padding only: ids -1, scores -inf."""
    return Candidates(
        ids=np.full((queries, k), -1, dtype=np.int64),
        scores=np.full((queries, k), -np.inf, dtype=np.float32),
    )


def _matrix(rows: ArrayLike) -> NDArray[np.floating]:
    matrix = np.asarray(rows)
    if matrix.dtype.kind != "f":
        matrix = matrix.astype(np.float64)
    if matrix.ndim != 2:
        raise UsageError(f"vectors must be a matrix (n, d), not of shape {matrix.shape}")
    return matrix


def _normalise(matrix: NDArray[np.floating], *, zero_rows: bool) -> Floats:
    result = np.empty(matrix.shape, dtype=np.float32)
    for start in range(0, len(matrix), _BLOCK):
        part = matrix[start : start + _BLOCK].astype(np.float64)
        # Divided by the largest value first: squares of very large or small ones leave float64.
        largest = np.abs(part).max(axis=1, initial=0.0, keepdims=True)
        bad = ~np.isfinite(largest[:, 0])
        if bad.any():
            raise InputError(f"vector {start + int(bad.argmax())} holds NaN or infinity")
        zero = largest == 0
        if zero.any() and not zero_rows:
            raise InputError(f"vector {start + int(zero.argmax())} is all zero")
        part /= np.where(zero, 1.0, largest)
        norm = np.sqrt((part * part).sum(axis=1, keepdims=True))
        result[start : start + _BLOCK] = part / np.where(zero, 1.0, norm)
    return result
