"""Late interaction: token vectors kept as sign bits, and the MaxSim of a query with them.

Khattab and Zaharia, "ColBERT: Efficient and Effective Passage Search via Contextualized Late
Interaction over BERT", SIGIR 2020. A passage's tokens are averaged in threes (Clavie, Chaffin and
Adams, "Reducing the Footprint of Multi-Vector Retrieval with Minimal Performance Impact via Token
Pooling", 2024), projected onto fixed random directions, and of each component the sign is kept; a
query's tokens stay as they are.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from semsearch.threads import one_blas_thread

if TYPE_CHECKING:
    from semsearch.types import Floats, Ints

POOLED = 3
"""Neighbouring tokens that share one code."""

_ALONE = 262_144
"""Multiplications that OpenBLAS leaves to one thread; its others spin long after a product."""


class Codes(NamedTuple):
    """The tokens of passages, one passage's after another's.

    ``codes`` uint8 (m, width); ``counts`` int64 (n,), how many of them each passage has.
    """

    codes: NDArray[np.uint8]
    counts: Ints


class TokenCodec:
    """Turns token vectors of one width into codes, the same on every machine and in every run.

    ``bits`` is a code's number of components, a multiple of 8 and without one given as many as a
    vector has in whole bytes; ``width`` its bytes. ``pooled`` neighbouring tokens share a code.
    """

    def __init__(self, dim: int, *, pooled: int = POOLED, bits: int | None = None) -> None:
        self.dim = dim
        self.pooled = pooled
        self.bits = max(8, dim // 8 * 8) if bits is None else bits
        self.width = self.bits // 8

    @property
    def name(self) -> str:
        """What tells these codes from those of another width, or of another version."""
        return f"signs {self.bits}/{self.dim} pooled {self.pooled}"

    @property
    def projection(self) -> Floats:
        """Orthonormal directions, float32 (dim, bits); rows are orthonormal if dim is under 8."""
        return _directions(self.dim, self.bits)

    def encode(self, rows: Floats, lengths: Ints) -> Codes:
        """Codes of unit token vectors float32 (sum of lengths, dim), text after text.

        ``lengths`` int64 (n,), how many rows each text has; 0 gives no codes.
        """
        pooled, counts = _pooled(rows, lengths, self.pooled)
        with one_blas_thread():
            projected = pooled @ self.projection
        return Codes(np.packbits(projected >= 0, axis=1), counts)

    def project(self, rows: Floats) -> Floats:
        """A query's token vectors float32 (t, dim) as ``scores`` takes them: (t, bits)."""
        with one_blas_thread():
            projected: Floats = rows @ self.projection
        return projected

    def scores(self, query: Floats, passages: Codes) -> Floats:
        """MaxSim float32 (n,): the mean over the query's tokens of the best match in each passage.

        ``query`` is float32 (t, bits), from ``project``. 0 for a passage or a query without tokens.
        """
        found = np.zeros(len(passages.counts), np.float32)
        some = np.flatnonzero(passages.counts)
        if not len(query) or not len(some):
            return found
        starts = np.cumsum(passages.counts)[some] - passages.counts[some]
        similar = self._similarities(query, passages.codes)
        found[some] = np.maximum.reduceat(similar, starts, axis=1).mean(axis=0)
        return found

    def _similarities(self, query: Floats, codes: NDArray[np.uint8]) -> Floats:
        """float32 (t, m): the products of query tokens with the signs, as if of unit length."""
        similar = np.empty((len(query), len(codes)), np.float32)
        size = max(1, _ALONE // (len(query) * self.bits))
        for start in range(0, len(codes), size):
            part = slice(start, start + size)
            bits = np.unpackbits(codes[part], axis=1).astype(np.float32)
            np.matmul(query, bits.T, out=similar[:, part])
        # With bits for signs: q . (2 b - 1) = 2 q . b - sum of q.
        similar *= 2
        similar -= query.sum(axis=1, keepdims=True)
        similar /= np.float32(np.sqrt(self.bits))
        return similar


@cache
def _directions(dim: int, bits: int) -> Floats:
    # RandomState promises the same numbers for ever; Generator does not.
    normal = np.random.RandomState(0).standard_normal((dim, bits))  # noqa: NPY002
    wide = dim < bits
    with one_blas_thread():  # beside other work 27 ms; with OpenBLAS's threads 100 to 2,000
        q, r = np.linalg.qr(normal.T if wide else normal)
    unique: Floats = (q * np.sign(np.diagonal(r))).astype(np.float32)  # with this sign
    return unique.T if wide else unique


def _pooled(rows: Floats, lengths: Ints, together: int) -> tuple[Floats, Ints]:
    """Sums of ``together`` neighbouring rows of each text, and how many sums each text has."""
    counts = -(-lengths // together)
    text = np.repeat(np.arange(len(lengths)), counts)
    place = np.arange(len(text)) - (np.cumsum(counts) - counts)[text]
    ends = np.cumsum(lengths)
    starts, ends = (ends - lengths)[text] + together * place, ends[text]
    sums = np.zeros((len(starts), rows.shape[1]), np.float32)
    for step in reversed(range(together)):  # a fifth of what add.reduceat takes, in its order
        at = starts + step
        over = at >= ends
        at[over] = starts[over]
        some = rows.take(at, axis=0)
        some[over] = 0
        sums += some
    return sums, counts
