"""What can happen to a file: a bit, a run of bytes, its end, all of it, another in its place."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

PAGE = 4096
ANOTHER = "another file"
Random = np.random.Generator


def flipped(data: bytes, random: Random) -> bytes:
    """One bit: half of the time behind the first page, which is a header or nearly all there is."""
    behind = PAGE if len(data) > PAGE and random.random() < 0.5 else 0  # noqa: PLR2004
    return _flip(data, int(random.integers(behind, len(data))), random)


def flipped_in_database(data: bytes, roots: Sequence[int], random: Random) -> bytes:
    """One bit of an SQLite file: anywhere, or where it is seldom, and others depend on it.

    That is at the beginning of a page, or in the first page of a table or an index, ``roots``.
    """
    pages = len(data) // PAGE
    place = random.random()
    if place < 0.25:  # noqa: PLR2004
        return _flip(data, int(random.integers(pages)) * PAGE + int(random.integers(64)), random)
    if place < 0.5:  # noqa: PLR2004
        page = int(random.choice(roots)) - 1
        return _flip(data, page * PAGE + int(random.integers(PAGE)), random)
    return flipped(data, random)


def _flip(data: bytes, at: int, random: Random) -> bytes:
    changed = bytearray(data)
    changed[at] ^= 1 << int(random.integers(8))
    return bytes(changed)


def replaced(data: bytes, random: Random) -> bytes:
    """A run of other bytes, short or as long as a block of a disk."""
    length = min(int(random.choice([1, 8, 512, PAGE])), len(data))
    at = int(random.integers(len(data) - length + 1))
    return data[:at] + random.bytes(length) + data[at + length :]


def truncated(data: bytes, random: Random) -> bytes:
    """The first part of it."""
    return data[: int(random.integers(1, len(data)))] if len(data) > 1 else b""


def zeroed(data: bytes, random: Random) -> bytes:
    """As many zeros: how some file systems give back what was never flushed."""
    return bytes(len(data))


def emptied(data: bytes, random: Random) -> bytes:
    """Nothing."""
    return b""


def one_page_lost(data: bytes, random: Random) -> bytes:
    """Zeros where a block was."""
    at = int(random.integers(-(-len(data) // PAGE))) * PAGE
    return data[:at] + bytes(min(PAGE, len(data) - at)) + data[at + PAGE :]


SHARES: dict[str, tuple[int, Callable[[bytes, Random], bytes]]] = {
    "bit": (60, flipped),
    "bytes": (10, replaced),
    "end": (8, truncated),
    "block": (4, one_page_lost),
    "zeros": (1, zeroed),
    "empty": (1, emptied),
}
PLACES = 16
"""The share, in per cent, of cases in which another sound file takes its place."""


def damaged(
    data: bytes, random: Random, others: Sequence[Path], roots: Sequence[int] = ()
) -> tuple[str, bytes]:
    """What happened, and the bytes that are there now: never the same ones.

    ``others`` are sound files of the same kind, from elsewhere or from before; ``roots`` the first
    pages of the tables and indexes of an SQLite file.
    """
    others = [path for path in others if path.read_bytes() != data]
    names = [*SHARES, ANOTHER]
    shares = np.array([share for share, _ in SHARES.values()] + [PLACES if others else 0], float)
    name = str(random.choice(names, p=shares / shares.sum()))
    changed = data
    while changed == data:
        if name == ANOTHER:
            changed = others[int(random.integers(len(others)))].read_bytes()
        elif name == "bit" and roots:
            changed = flipped_in_database(data, roots, random)
        else:
            changed = SHARES[name][1](data, random)
    return name, changed
