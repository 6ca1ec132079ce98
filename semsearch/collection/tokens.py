"""The token vectors of a snapshot: those of its segments' files, then those of recent passages.

They are not needed to search: a passage whose codes are missing, damaged, or of another version of
the codec counts as one without, and whoever wants them computes them from its text.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

import numpy as np

from semsearch.errors import Corrupt, StorageError
from semsearch.maxsim import Codes, TokenCodec
from semsearch.store.recent_tokens import RecentTokens
from semsearch.store.token_files import (
    NOT_STORED,
    TokenFile,
    TokenFormat,
    in_one,
    joined,
    spread,
)

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from semsearch.collection.layout import Layout
    from semsearch.store.catalog import EncoderRow, SegmentRow
    from semsearch.types import Bools, Ints

log = logging.getLogger("semsearch")

_PART = 4_096
AGAIN = "`semsearch compact --token-vectors` computes them again"
_NAME = re.compile(r"t-[0-9a-f]{24}\.tok")
_OPEN: WeakValueDictionary[tuple[str, str], TokenFile] = WeakValueDictionary()
_REPORTED: set[tuple[str, str]] = set()


def token_format(encoder: EncoderRow | None, token_dim: int) -> TokenFormat | None:
    """The codes that this version makes of an index's passages; None if it keeps none."""
    if encoder is None or not token_dim:
        return None
    codec = TokenCodec(token_dim)
    return TokenFormat(encoder.fingerprint, codec.name, codec.width)


class StoredTokens:
    """The codes of the rows of a snapshot, ``format`` says which; None where it keeps none.

    ``recent_bytes`` of them are in no file yet. Files are mapped when they are first needed. Safe
    to use from several threads.
    """

    def __init__(
        self,
        layout: Layout,
        segments: Sequence[SegmentRow],
        recent: Sequence[bytes | None],
        made: TokenFormat | None,
    ) -> None:
        self.format = made
        self._layout = layout
        self._segments = tuple(segments)
        self._recent = None if made is None else RecentTokens(recent, made)
        self.recent_bytes = sum(map(len, filter(None, recent)))
        self._files: dict[int, TokenFile | None] = {}
        self._unread = ""
        # those that an earlier snapshot opened stay open, so that blocks are checked only once
        self._kept = [_OPEN.get(_key(self._path(i), row)) for i, row in enumerate(segments)]
        self._starts = np.cumsum([0, *(row.n for row in segments), len(recent)])

    def __len__(self) -> int:
        return int(self._starts[-1])

    def take(self, ordinals: Ints) -> tuple[Bools, Codes]:
        """Whether each row, int64 (m,), has codes, bool (m,); and the codes of those that have.

        They come in the order of ``ordinals``; a row without has the count 0, as has a text
        without tokens. Files that are missing or damaged are reported once, and never raise.
        """
        counts = np.full(len(ordinals), NOT_STORED)
        starts = np.zeros(len(ordinals), np.int64)
        parts: list[Codes] = []
        at = 0
        if self.format is not None:
            owner = np.searchsorted(self._starts, ordinals, side="right") - 1
            for number in np.flatnonzero(np.bincount(owner)).tolist():
                where = np.flatnonzero(owner == number)
                part = self._part(number, ordinals[where] - self._starts[number])
                if part is not None:
                    kept = np.maximum(part.counts, 0)
                    counts[where] = part.counts
                    starts[where] = at + np.cumsum(kept) - kept
                    at += len(part.codes)
                    parts.append(part)
        present, counts = counts >= 0, np.maximum(counts, 0)
        codes = joined(parts).codes
        if not len(codes):
            codes = np.zeros((0, self.format.width if self.format else 0), np.uint8)
        elif len(parts) > 1:
            codes = codes[spread(starts, counts)]
        return present, Codes(codes, counts)

    def missing(self) -> Ints:
        """The ordinals of the rows, dead ones too, without codes: int64, ascending."""
        found = [
            start + np.flatnonzero(self._counts(number) < 0)
            for number, start in enumerate(self._starts[:-1].tolist())
        ]
        return np.concatenate(found).astype(np.int64)

    def require_read(self) -> None:
        """Refuse to write what was read if a file that is there could not be read.

        Raises StorageError: its codes would be lost, though they may be sound.
        """
        if self._unread:
            raise StorageError(
                f"{self._unread}: run again, or delete the file to go on without its token vectors"
            )

    def _counts(self, number: int) -> Ints:
        try:
            source = self._source(number)
            if source is not None:
                return source.counts()
        except Corrupt as exc:
            self._give_up(number, str(exc))
        return np.full(int(self._starts[number + 1] - self._starts[number]), NOT_STORED)

    def _part(self, number: int, rows: Ints) -> Codes | None:
        source = self._source(number)
        if source is None:
            return None
        try:
            return source.take(rows)
        except Corrupt as exc:
            self._tell(number, str(exc))
        return joined([_one(source, rows[at : at + 1]) for at in range(len(rows))])

    def _source(self, number: int) -> TokenFile | RecentTokens | None:
        """What holds the codes of a segment, or of the recent passages after all segments."""
        if number < len(self._segments):
            return self._opened(number)
        if self._recent is not None and self._recent.foreign:
            _report(self._layout.catalog, "", "token vectors of another version")
        return self._recent

    def _path(self, number: int) -> Path:
        return self._layout.segments / (self._segments[number].tok_name or "")

    def _opened(self, number: int) -> TokenFile | None:
        """The mapped file of a segment; None, reported, if it cannot be used."""
        if number not in self._files:
            try:
                self._files[number] = self._open(number)
            except FileNotFoundError:
                self._files[number] = None
                if (self._layout.segments / self._segments[number].name).exists():
                    self._give_up(number, "the token vectors are missing")  # else merged away
            except OSError as exc:
                self._unread = f"{self._path(number)}: cannot read: {exc.strerror or exc}"
                self._give_up(number, self._unread)
            except Corrupt as exc:
                self._give_up(number, str(exc))
        return self._files[number]

    def _open(self, number: int) -> TokenFile | None:
        row, path = self._segments[number], self._path(number)
        if self.format is None or row.tok_name is None:
            return None
        file = open_token_file(self._layout, row)
        if file.format != self.format:
            raise Corrupt(f"{path}: token vectors of another version ({file.format.codec})")
        return file

    def _give_up(self, number: int, what: str) -> None:
        self._files[number] = None
        self._tell(number, what)

    def _tell(self, number: int, what: str) -> None:
        row, path = self._segments[number], self._path(number)
        self._kept[number] = None
        _OPEN.pop(_key(path, row), None)  # a sound copy may be put in its place
        _report(path, row.tok_sha256, what)


def _one(source: TokenFile | RecentTokens, row: Ints) -> Codes:
    """The codes of one row, none if they are damaged."""
    try:
        return source.take(row)
    except Corrupt:
        return in_one([None])


def in_parts(tokens: StoredTokens, ordinals: Ints) -> Iterator[Codes]:
    """The codes of these rows, some at a time; a count is ``NOT_STORED`` for one without.

    Raises StorageError, as ``StoredTokens.require_read`` does.
    """
    for start in range(0, len(ordinals), _PART):
        present, found = tokens.take(ordinals[start : start + _PART])
        tokens.require_read()
        yield Codes(found.codes, np.where(present, found.counts, NOT_STORED))


def codes_of_each(tokens: StoredTokens, ordinals: Ints) -> list[NDArray[np.uint8] | None]:
    """The codes of each of these rows, uint8 (c, width); None for one without.

    Raises StorageError, as ``StoredTokens.require_read`` does.
    """
    present, found = tokens.take(ordinals)
    tokens.require_read()
    each = np.split(found.codes, np.cumsum(found.counts)[:-1]) if len(ordinals) else []
    return [own if there else None for own, there in zip(each, present.tolist(), strict=True)]


def _report(path: Path, sha256: str | None, what: str) -> None:
    """Warn, once for each file, that its codes are not used."""
    if (key := (str(path), sha256 or "")) not in _REPORTED:
        _REPORTED.add(key)
        said = what if what.startswith(str(path)) else f"{path}: {what}"
        log.warning("%s: computed at query time; %s", said, AGAIN)


def open_token_file(layout: Layout, row: SegmentRow) -> TokenFile:
    """The mapped token file of a segment that has one, shared by all who open it.

    Raises Corrupt, FileNotFoundError and other OSErrors.
    """
    key = _key(layout.segments / (row.tok_name or ""), row)
    file = _OPEN.get(key)
    if file is None:
        file = _OPEN[key] = map_token_file(layout, row)
    return file


def map_token_file(layout: Layout, row: SegmentRow) -> TokenFile:
    """The token file as it is on disk now, whoever has one of this name open.

    Raises what ``open_token_file`` does.
    """
    name = row.tok_name or ""
    path = layout.segments / name
    if not _NAME.fullmatch(name):
        raise Corrupt(f"{layout.catalog}: {name!r} is no name of a token file: refused")
    file = TokenFile(path, row.tok_sha256 or "")
    if file.n != row.n:
        raise Corrupt(f"{path}: token vectors of {file.n} passages beside {row.n} vectors")
    return file


def _key(path: Path, row: SegmentRow) -> tuple[str, str]:
    return str(path), row.tok_sha256 or ""
