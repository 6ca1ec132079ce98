"""The token codes of recent passages, which the catalog holds row by row until a file has them."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from semsearch.maxsim import Codes
from semsearch.store.token_files import NOT_STORED, TokenFormat, spread

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from semsearch.types import Ints

_TAG = struct.Struct("<I")


def packed(codes: NDArray[np.uint8], made: TokenFormat) -> bytes:
    """A passage's codes uint8 (c, width) as a row holds them, after 4 bytes that tell the codec."""
    return _tag(made) + np.ascontiguousarray(codes, np.uint8).tobytes()


def _tag(made: TokenFormat) -> bytes:
    return _TAG.pack(zlib.crc32(made.codec.encode()))


class RecentTokens:
    """The codes in ``rows``, of which some may have none, and some those of another codec.

    ``foreign`` tells whether there are any of the latter; they count as rows without.
    """

    def __init__(self, rows: Sequence[bytes | None], made: TokenFormat) -> None:
        tag = self._tag = _tag(made)
        self._width = made.width
        self._rows = [row[len(tag) :] if row and self._is_own(row) else None for row in rows]
        self.foreign = any(row and not self._is_own(row) for row in rows)

    def _is_own(self, row: bytes) -> bool:
        whole = (len(row) - len(self._tag)) % self._width == 0
        return whole and row.startswith(self._tag)

    def counts(self) -> Ints:
        """int64 (n,): how many codes each row has, ``NOT_STORED`` for one without."""
        return self._all.counts

    def take(self, rows: Ints) -> Codes:
        """The codes of these rows, in their order; counts as ``counts`` has them."""
        every = self._all
        kept = np.maximum(every.counts, 0)
        starts = np.cumsum(kept) - kept
        return Codes(every.codes[spread(starts[rows], kept[rows])], every.counts[rows])

    @cached_property
    def _all(self) -> Codes:
        sizes = [NOT_STORED if row is None else len(row) // self._width for row in self._rows]
        raw = np.frombuffer(b"".join(filter(None, self._rows)), np.uint8)
        return Codes(raw.reshape(-1, self._width), np.array(sizes, np.int64))
