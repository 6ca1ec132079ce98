"""Token files: the codes of passages' tokens, each file beside the vector file of the same rows.

The body is ``uint8 codes[m][width]``, padded to whole int64, then ``int64 offset[n+1]``: row i has
the codes from offset i to offset i+1. Of a row whose codes were never stored the complement of the
offset is there (``~offset``, negative), which is not the same as a text without tokens. It is
checked block by block (blocks), and is not needed to search: where it is missing the codes can be
computed from the texts.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from semsearch.maxsim import Codes
from semsearch.store.blocks import BlockFile, NewBlockFile

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from semsearch.types import Ints

MAGIC = b"STOKv001"
NOT_STORED = -1
"""The count of a row whose codes were not stored."""


class TokenFormat(NamedTuple):
    """Which codes these are: of the tokens of which model, made by which codec, how wide."""

    fingerprint: str
    codec: str
    width: int


class WrittenTokens(NamedTuple):
    """What was written: the file's name and the SHA-256 of its header."""

    name: str
    sha256: str


def write_tokens(folder: Path, parts: Iterable[Codes], made: TokenFormat) -> WrittenTokens | None:
    """Write codes durably; None, and no file, where no row has any.

    The rows of ``parts`` follow one another; a count is ``NOT_STORED`` for a row without codes.
    Memory stays at one part, and 8 bytes a row. Raises StorageError.
    """
    with NewBlockFile(folder, MAGIC) as new:
        counts: list[Ints] = []
        size = 0
        for part in parts:
            counts.append(part.counts)
            size += part.codes.size
            new.add(np.ascontiguousarray(part.codes, np.uint8).tobytes())
        every = np.concatenate([*counts, np.zeros(0, np.int64)])
        if not (every >= 0).any():
            return None
        offsets = _offsets(every)
        if offsets[-1] * made.width != size:
            raise ValueError(f"{size} bytes for {offsets[-1]} codes of {made.width}")
        new.add(bytes(-size % 8) + offsets.astype("<i8").tobytes())
        facts = {
            "n": len(every), "m": int(offsets[-1]), "width": made.width, "codec": made.codec,
            "fingerprint": made.fingerprint,
        }  # fmt: skip
        return WrittenTokens(*new.publish(facts, "t-", ".tok"))


def _offsets(counts: Ints) -> Ints:
    """int64 (n + 1,)."""
    offsets = np.concatenate([[0], np.cumsum(np.maximum(counts, 0))])
    offsets[:-1] = np.where(counts < 0, ~offsets[:-1], offsets[:-1])
    return offsets


class TokenFile(BlockFile):
    """A memory-mapped token file of ``n`` rows, made as ``format`` says.

    Raises Corrupt when the header is not the one that the catalog names, and on reading a block
    whose bytes changed.
    """

    magic = MAGIC
    damage = "the token vectors are damaged"

    def __init__(self, path: Path, sha256: str) -> None:
        super().__init__(path, sha256)
        self.n, self.m, width = self.number("n"), self.number("m"), self.number("width")
        self.format = TokenFormat(self.text("fingerprint"), self.text("codec"), width)
        size = self.m * self.format.width
        self._base = size + -size % 8
        self.expect(self._base + (self.n + 1) * 8)
        shape = (self.m, self.format.width)
        self._codes: NDArray[np.uint8] = self.array("<u1", size, 0).reshape(shape)
        self._offsets: Ints = self.array("<i8", self.n + 1, self._base)

    def counts(self) -> Ints:
        """int64 (n,): how many codes each row has, ``NOT_STORED`` for one without."""
        self.check_span(self._base, self._base + (self.n + 1) * 8)
        starts, counts = self._spans(self._offsets[:-1], self._offsets[1:])
        return counts

    def take(self, rows: Ints) -> Codes:
        """The codes of these rows, in their order; counts as ``counts`` has them."""
        at = self._base + rows * 8
        self.check_each(at, at + 16)
        starts, counts = self._spans(self._offsets[rows], self._offsets[rows + 1])
        some = np.flatnonzero(counts > 0)
        width = self.format.width
        self.check_each(starts[some] * width, (starts + counts)[some] * width)
        return Codes(self._codes[spread(starts[some], counts[some])], counts)

    def _spans(self, first: Ints, after: Ints) -> tuple[Ints, Ints]:
        starts = np.where(first < 0, ~first, first)
        counts = np.where(after < 0, ~after, after) - starts
        if (counts < 0).any() or (starts + counts > self.m).any():
            raise self.damaged()  # by whoever wrote it
        return starts, np.where(first < 0, NOT_STORED, counts)


def spread(starts: Ints, counts: Ints) -> Ints:
    """The numbers from each start on, as many as its count says, one after another."""
    before = np.cumsum(counts) - counts
    found: Ints = np.repeat(starts - before, counts) + np.arange(int(counts.sum()))
    return found


def joined(parts: Sequence[Codes]) -> Codes:
    """Codes one after another, as one."""
    codes = [part.codes for part in parts if len(part.codes)]
    counts = [np.zeros(0, np.int64), *(part.counts for part in parts)]
    every = np.concatenate(codes) if codes else np.zeros((0, 0), np.uint8)
    return Codes(every, np.concatenate(counts))


def in_one(codes: Sequence[NDArray[np.uint8] | None]) -> Codes:
    """The codes of several passages as one; a count is ``NOT_STORED`` for None."""
    counts = [NOT_STORED if own is None else len(own) for own in codes]
    some = [own for own in codes if own is not None]
    every = np.concatenate(some) if some else np.zeros((0, 0), np.uint8)
    return Codes(every, np.array(counts, np.int64))
