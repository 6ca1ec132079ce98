"""Immutable, checksummed files that are memory-mapped and checked block by block.

Layout: a 4096-byte header, a body, then ``uint32 crc[..]``: the CRC-32 of every 4 KiB block of the
body. The header is a magic of 8 bytes, its own CRC-32 and JSON that holds the SHA-256 of everything
after it; the file is named by the SHA-256 of its header, and the catalog records that too. So each
byte of the file is covered by a hash in the catalog.

A block is checked when it is first touched: reading a little of a large file stays cheap, and
nothing wrong is ever used.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import struct
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from semsearch import fs
from semsearch.errors import Corrupt
from semsearch.store.shapes import parsed

if TYPE_CHECKING:
    from semsearch.types import Ints

HEADER = 4096
BLOCK = 4096


class NewBlockFile:
    """A file in the making: invisible until ``publish``; gone without a trace otherwise."""

    def __init__(self, folder: Path, magic: bytes) -> None:
        self._file = fs.NewFile(folder)
        self._magic = magic
        self._sha = hashlib.sha256()
        self._crcs: list[int] = []
        self._rest = b""

    def __enter__(self) -> NewBlockFile:
        try:
            self._file.write(bytes(HEADER))
        except BaseException:
            self._file.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._file.__exit__()

    def add(self, data: bytes) -> None:
        """Append to the body. Raises StorageError."""
        self._sha.update(data)
        self._file.write(data)
        view = memoryview(self._rest + data)
        whole = len(view) - len(view) % BLOCK
        self._crcs.extend(zlib.crc32(view[at : at + BLOCK]) for at in range(0, whole, BLOCK))
        self._rest = bytes(view[whole:])

    def publish(self, facts: dict[str, Any], prefix: str, suffix: str) -> tuple[str, str]:
        """Make the file exist, durably: its name and the SHA-256 of its header.

        ``facts`` go into the header. Raises StorageError.
        """
        header = _header(self._magic, facts | self._finish())
        self._file.rewrite(0, header)
        digest = hashlib.sha256(header).hexdigest()
        name = f"{prefix}{digest[:24]}{suffix}"
        self._file.publish(name)
        return name, digest

    def _finish(self) -> dict[str, Any]:
        if self._rest:
            self._crcs.append(zlib.crc32(self._rest))
        table = np.array(self._crcs, "<u4").tobytes()
        self._sha.update(table)
        self._file.write(table)
        return {"sha256": self._sha.hexdigest(), "table_crc": zlib.crc32(table)}


def _header(magic: bytes, facts: dict[str, Any]) -> bytes:
    text = json.dumps(facts, sort_keys=True).encode()
    page = magic + struct.pack("<II", zlib.crc32(text), len(text)) + text
    return page.ljust(HEADER, b"\0")


class BlockFile:
    """A memory-mapped file, whose header has facts about it (``number``, ``text``).

    A kind of file derives from it, says how large the body is (``expect``) and what to tell people
    when it is damaged. Raises Corrupt when the header is not the one that the catalog names, and on
    reading a block whose bytes changed.
    """

    magic = b""
    damage = "the file is damaged"

    def __init__(self, path: Path, sha256: str) -> None:
        self.path = path
        try:
            with fs.open_plain(path) as file:
                self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except ValueError as exc:  # an empty file cannot be mapped
            raise self.damaged() from exc
        header = self._map[:HEADER]
        start = len(self.magic)
        known = hashlib.sha256(header).hexdigest() == sha256 and len(header) == HEADER
        if not known or header[:start] != self.magic:
            raise self.damaged()
        _, length = struct.unpack_from("<II", header, start)
        self._facts: dict[str, Any] = parsed(header[start + 8 :][:length], dict) or {}
        self._size = 0
        self._crcs = np.zeros(0, np.uint32)
        self._checked = np.zeros(0, np.bool_)

    def number(self, name: str) -> int:
        """A number of the header. Raises Corrupt where there is none, or one that none can be."""
        found = self._facts.get(name)
        if type(found) is not int or not 0 <= found < len(self._map) + (1 << 32):
            raise self.damaged()
        return found

    def text(self, name: str) -> str:
        """A text of the header. Raises Corrupt where there is none."""
        found = self._facts.get(name)
        if not isinstance(found, str):
            raise self.damaged()
        return found

    def expect(self, size: int) -> None:
        """The body has so many bytes: read the table of its blocks. Raises Corrupt."""
        raw = self._map[HEADER + size :]
        if len(raw) != -(-size // BLOCK) * 4 or zlib.crc32(raw) != self.number("table_crc"):
            raise self.damaged()
        self._size = size
        self._crcs = np.frombuffer(raw, "<u4")
        self._checked = np.zeros(len(self._crcs), np.bool_)

    def array(self, dtype: str, count: int, offset: int) -> NDArray[Any]:
        """A view of the body from a byte on, of which nothing is checked yet."""
        return np.frombuffer(self._map, dtype, count, HEADER + offset)

    def check_span(self, start: int, stop: int) -> None:
        """Check the blocks that hold the body's bytes ``start`` to ``stop``. Raises Corrupt."""
        self._check(np.arange(start // BLOCK, -(-stop // BLOCK)))

    def check_each(self, starts: Ints, stops: Ints) -> None:
        """Check the blocks that hold these spans, of which none may be empty. Raises Corrupt."""
        first, last = starts // BLOCK, (stops - 1) // BLOCK
        spans = int((last - first).max(initial=0)) + 1
        self._check(np.minimum(first[:, None] + np.arange(spans), last[:, None]).ravel())

    def verify(self) -> None:
        """Hash the whole file. Raises Corrupt."""
        if hashlib.sha256(memoryview(self._map)[HEADER:]).hexdigest() != self.text("sha256"):
            raise self.damaged()

    def _check(self, blocks: Ints) -> None:
        fresh = blocks[~self._checked[blocks]]
        if not len(fresh):
            return
        fresh = np.unique(fresh)
        view = memoryview(self._map)[HEADER : HEADER + self._size]
        for block in fresh.tolist():
            at = block * BLOCK
            if zlib.crc32(view[at : at + BLOCK]) != self._crcs[block]:
                raise self.damaged()
        self._checked[fresh] = True

    def damaged(self) -> Corrupt:
        """The error for a file that is not as it was written: to be raised."""
        return Corrupt(f"{self.path}: {self.damage}")
