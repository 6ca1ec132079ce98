"""The vectors of a damaged index that are still as they were written, and their tokens' codes."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from semsearch.collection.tokens import open_token_file
from semsearch.errors import Corrupt
from semsearch.store import catalog
from semsearch.store.recent_tokens import RecentTokens
from semsearch.store.rows import sound_rows
from semsearch.store.segments import Segment
from semsearch.store.token_files import TokenFile, TokenFormat

if TYPE_CHECKING:
    import sqlite3

    from semsearch.collection.layout import Layout
    from semsearch.maxsim import Codes
    from semsearch.types import Ints


@dataclass(frozen=True, slots=True)
class _File:
    segment: Segment
    vids: Ints
    tokens: TokenFile | None


class SalvagedVectors:
    """``vector_of`` and ``codes_of`` a passage, None for those that are lost."""

    def __init__(
        self,
        layout: Layout,
        connection: sqlite3.Connection,
        encoder: catalog.EncoderRow | None,
        rotation_id: int | None,
    ) -> None:
        self._files: list[_File] = []
        self._recent: dict[int, tuple[bytes, bytes | None]] = {}
        self.width = 0
        if encoder is None:
            return
        for row in _segments(connection):
            if (row.encoder_id, row.rotation_id) == (encoder.encoder_id, rotation_id):
                with suppress(Corrupt, OSError):
                    segment = Segment(layout.segments / row.name, row.sha256)
                    tokens = _tokens(layout, row)
                    self._files.append(_File(segment, segment.vids, tokens))
        for values in sound_rows(connection, "l0"):
            if values[1:3] == (encoder.encoder_id, rotation_id):
                self._recent[values[0]] = (values[3], values[4])
        widths = {file.segment.dim for file in self._files}
        widths |= {len(vector) // 2 for vector, _ in self._recent.values()}
        self.width = max(widths, default=encoder.dim)

    def vector_of(self, vid: int) -> NDArray[np.float16] | None:
        """float16 (width,) as it is stored."""
        found = None
        if vid in self._recent:
            found = np.frombuffer(self._recent[vid][0], "<f2")
        else:
            file, at = self._place(vid)
            if file is not None:
                with suppress(Corrupt):
                    found = file.segment.take(at)[0]
        return found if found is not None and len(found) == self.width else None

    def codes_of(self, vid: int, made: TokenFormat | None) -> NDArray[np.uint8] | None:
        """uint8 (c, width): those of this format."""
        if made is None:
            return None
        if vid in self._recent:
            recent = RecentTokens([self._recent[vid][1]], made)
            return _first(recent.take(np.zeros(1, np.int64)))
        file, at = self._place(vid)
        if file is not None and file.tokens is not None and file.tokens.format == made:
            with suppress(Corrupt):
                return _first(file.tokens.take(at))
        return None

    def _place(self, vid: int) -> tuple[_File | None, Ints]:
        for file in self._files:
            at = np.searchsorted(file.vids, [vid])
            if at[0] < len(file.vids) and file.vids[at[0]] == vid:
                return file, at
        return None, np.zeros(0, np.int64)


def _first(found: Codes) -> NDArray[np.uint8] | None:
    return found.codes if found.counts[0] >= 0 else None


def _segments(connection: sqlite3.Connection) -> list[catalog.SegmentRow]:
    return [catalog.SegmentRow(*row) for row in sound_rows(connection, "segment")]


def _tokens(layout: Layout, row: catalog.SegmentRow) -> TokenFile | None:
    if row.tok_name is not None:
        with suppress(Corrupt, OSError):
            return open_token_file(layout, row)
    return None
