"""The vectors of a snapshot as one table of rows, in the order of their vids."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from semsearch.store.segments import Segment
from semsearch.vectors import widen

if TYPE_CHECKING:
    from semsearch.types import Floats, Ints


class StoredRows:
    """Segments, then the recent vectors, in the order of their vids; ``dim`` components wide."""

    def __init__(
        self,
        segments: Sequence[Segment],
        recent: tuple[Ints, NDArray[np.float16]],
        dim: int,
    ) -> None:
        self.dim = dim
        self._segments = tuple(segments)
        self.recent = recent
        self._recent = recent[1]
        sizes = [segment.n for segment in segments] + [len(self._recent)]
        self._starts = np.concatenate([[0], np.cumsum(sizes)])

    def __len__(self) -> int:
        return int(self._starts[-1])

    @cached_property
    def ids(self) -> Ints:
        """int64 (n,), ascending; a view of the file where there is only one."""
        parts = [segment.vids for segment in self._segments]
        if len(self.recent[0]) or not parts:
            parts.append(self.recent[0])
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def block(self, start: int, stop: int) -> NDArray[np.float16]:
        """float16 (stop - start, dim); a view of the file where it does not cross two files."""
        parts = []
        for number in range(len(self._starts) - 1):
            low, high = int(self._starts[number]), int(self._starts[number + 1])
            first, last = max(start, low), min(stop, high)
            if first < last:
                parts.append(self._part(number, first - low, last - low))
        if len(parts) == 1:
            return parts[0]
        return np.concatenate(parts) if parts else np.zeros((0, self.dim), np.float16)

    def take(self, ordinals: Ints) -> Floats:
        """float32 (m, dim): the rows at these positions."""
        out = np.empty((len(ordinals), self.dim), np.float32)
        owner = np.searchsorted(self._starts, ordinals, side="right") - 1
        for number in np.flatnonzero(np.bincount(owner)).tolist():
            where = np.flatnonzero(owner == number)
            local = ordinals[where] - self._starts[number]
            if number < len(self._segments):
                out[where] = widen(self._segments[number].take(local))
            else:
                out[where] = self._recent[local]
        return out

    def _part(self, number: int, start: int, stop: int) -> NDArray[np.float16]:
        if number < len(self._segments):
            return self._segments[number].vectors(start, stop)
        return self._recent[start:stop]


class SlicedRows:
    """The rows ``start`` to ``stop`` of others, without a copy."""

    def __init__(self, rows: StoredRows, start: int, stop: int) -> None:
        self._rows, self._start, self._stop = rows, start, stop
        self.dim = rows.dim
        self.ids = rows.ids[start:stop]

    def __len__(self) -> int:
        return self._stop - self._start

    def block(self, start: int, stop: int) -> NDArray[np.float16]:
        """float16 (stop - start, dim)."""
        return self._rows.block(self._start + start, self._start + min(stop, len(self)))

    def take(self, ordinals: Ints) -> Floats:
        """float32 (m, dim)."""
        return self._rows.take(ordinals + self._start)
