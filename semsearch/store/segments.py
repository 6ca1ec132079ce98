"""Immutable, checksummed vector files that are memory-mapped and checked block by block.

Layout: a 4096-byte header, then ``int64 vid[n]``, ``float16 vec[n][dim]``, then ``uint32 crc[..]``:
the CRC-32 of every 4 KiB block of the vids and vectors. The header is the magic, its own CRC-32 and
JSON that holds the SHA-256 of everything after it; the file is named by the SHA-256 of its header,
and the catalog records that too. So each byte of the file is covered by a hash in the catalog.

A block is checked when it is first touched: reading a few vectors of a large file stays cheap, and
no wrong vector is ever used.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import struct
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from semsearch import fs
from semsearch.errors import Corrupt

if TYPE_CHECKING:
    from semsearch.types import Ints

MAGIC = b"SSEGv001"
HEADER = 4096
BLOCK = 4096
_WRITE_ROWS = 16_384


@dataclass(frozen=True, slots=True)
class SegmentFile:
    """What was written: the file's name and the SHA-256 of its header."""

    name: str
    sha256: str
    n: int
    first_vid: int
    last_vid: int


def write_segment(
    folder: Path, vids: Ints, blocks: Iterable[NDArray[np.floating]], dim: int, fingerprint: str
) -> SegmentFile:
    """Write vectors durably; they exist only once this returns.

    ``vids`` is int64 (n,) ascending; ``blocks`` yields float arrays (m, dim) that add up to n rows
    in the same order. Memory stays at one block. Raises StorageError.
    """
    with fs.NewFile(folder) as new:
        new.write(bytes(HEADER))
        body = _Body(new)
        body.add(np.ascontiguousarray(vids, "<i8").tobytes())
        rows = 0
        for block in blocks:
            rows += len(block)
            body.add(np.ascontiguousarray(block, "<f2").tobytes())
        if rows != len(vids):
            raise ValueError(f"{len(vids)} vids for {rows} vectors")
        header = _header(
            {"n": rows, "dim": dim, "dtype": "f2", "fingerprint": fingerprint, **body.finish()}
        )
        new.rewrite(0, header)
        digest = hashlib.sha256(header).hexdigest()
        name = f"s-{digest[:24]}.vec"
        new.publish(name)
    return SegmentFile(name, digest, rows, int(vids[0]), int(vids[-1]))


class _Body:
    """Hashes what follows the header while it is written."""

    def __init__(self, file: fs.NewFile) -> None:
        self._file = file
        self._sha = hashlib.sha256()
        self._crcs: list[int] = []
        self._rest = b""

    def add(self, data: bytes) -> None:
        self._sha.update(data)
        self._file.write(data)
        view = memoryview(self._rest + data)
        whole = len(view) - len(view) % BLOCK
        self._crcs.extend(zlib.crc32(view[at : at + BLOCK]) for at in range(0, whole, BLOCK))
        self._rest = bytes(view[whole:])

    def finish(self) -> dict[str, Any]:
        if self._rest:
            self._crcs.append(zlib.crc32(self._rest))
        table = np.array(self._crcs, "<u4").tobytes()
        self._sha.update(table)
        self._file.write(table)
        return {"sha256": self._sha.hexdigest(), "table_crc": zlib.crc32(table)}


def _header(facts: dict[str, Any]) -> bytes:
    text = json.dumps(facts, sort_keys=True).encode()
    page = MAGIC + struct.pack("<II", zlib.crc32(text), len(text)) + text
    return page.ljust(HEADER, b"\0")


class Segment:
    """A memory-mapped vector file of ``n`` rows of ``dim`` float16 components.

    Raises Corrupt when the header is not the one that the catalog names, and on reading a block
    whose bytes changed.
    """

    def __init__(self, path: Path, sha256: str) -> None:
        self.path = path
        try:
            with open(path, "rb") as file:
                self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except ValueError as exc:  # an empty file cannot be mapped
            raise self._damaged() from exc
        header = self._map[:HEADER]
        if hashlib.sha256(header).hexdigest() != sha256:
            raise self._damaged()
        _, length = struct.unpack_from("<II", header, len(MAGIC))
        facts = json.loads(header[len(MAGIC) + 8 :][:length])
        self.n: int = facts["n"]
        self.dim: int = facts["dim"]
        self._body_sha256: str = facts["sha256"]
        self._size = self.n * 8 + self.n * self.dim * 2
        self._crcs = self._read_table(facts["table_crc"])
        self._checked = np.zeros(len(self._crcs), np.bool_)
        self._vids: Ints = np.frombuffer(self._map, "<i8", self.n, HEADER)
        self._vectors: NDArray[np.float16] = np.frombuffer(
            self._map, "<f2", self.n * self.dim, HEADER + self.n * 8
        ).reshape(self.n, self.dim)

    def _read_table(self, expected: int) -> NDArray[np.uint32]:
        blocks = -(-self._size // BLOCK)
        raw = self._map[HEADER + self._size :]
        if len(raw) != blocks * 4 or zlib.crc32(raw) != expected:
            raise self._damaged()
        return np.frombuffer(raw, "<u4")

    @property
    def vids(self) -> Ints:
        """int64 (n,), ascending."""
        self._check(np.arange(-(-self.n * 8 // BLOCK)))
        return self._vids

    def vectors(self, start: int, stop: int) -> NDArray[np.float16]:
        """float16 (stop - start, dim), a view of the file."""
        row, base = self.dim * 2, self.n * 8
        first, last = (base + start * row) // BLOCK, -(-(base + stop * row) // BLOCK)
        self._check(np.arange(first, last))
        return self._vectors[start:stop]

    def take(self, rows: Ints) -> NDArray[np.float16]:
        """float16 (len(rows), dim), copied."""
        row, base = self.dim * 2, self.n * 8
        first = (base + rows * row) // BLOCK
        spans = (row - 1) // BLOCK + 2  # a row touches at most so many blocks
        last = (base + (rows + 1) * row - 1) // BLOCK
        touched = np.minimum(first[:, None] + np.arange(spans), last[:, None])
        self._check(touched.ravel())
        return self._vectors[rows]

    def verify(self) -> None:
        """Hash the whole file. Raises Corrupt."""
        if hashlib.sha256(memoryview(self._map)[HEADER:]).hexdigest() != self._body_sha256:
            raise self._damaged()

    def _check(self, blocks: NDArray[np.int64]) -> None:
        fresh = blocks[~self._checked[blocks]]
        if not len(fresh):
            return
        fresh = np.unique(fresh)
        view = memoryview(self._map)[HEADER : HEADER + self._size]
        for block in fresh.tolist():
            at = block * BLOCK
            if zlib.crc32(view[at : at + BLOCK]) != self._crcs[block]:
                raise self._damaged()
        self._checked[fresh] = True

    def _damaged(self) -> Corrupt:
        return Corrupt(
            f"{self.path}: the vector file is damaged: put a copy of it back, or delete the index"
            " and index again"
        )
