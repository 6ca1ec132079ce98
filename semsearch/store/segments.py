"""Vector files: ``int64 vid[n]``, then ``float16 vec[n][dim]``, checked block by block (blocks)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from semsearch.errors import SEE_CHECK
from semsearch.store.blocks import BlockFile, NewBlockFile

if TYPE_CHECKING:
    from semsearch.types import Ints

MAGIC = b"SSEGv001"


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
    with NewBlockFile(folder, MAGIC) as new:
        new.add(np.ascontiguousarray(vids, "<i8").tobytes())
        rows = 0
        for block in blocks:
            rows += len(block)
            new.add(np.ascontiguousarray(block, "<f2").tobytes())
        if rows != len(vids):
            raise ValueError(f"{len(vids)} vids for {rows} vectors")
        facts = {"n": rows, "dim": dim, "dtype": "f2", "fingerprint": fingerprint}
        name, digest = new.publish(facts, "s-", ".vec")
    return SegmentFile(name, digest, rows, int(vids[0]), int(vids[-1]))


class Segment(BlockFile):
    """A memory-mapped vector file of ``n`` rows of ``dim`` float16 components.

    Raises Corrupt when the header is not the one that the catalog names, and on reading a block
    whose bytes changed.
    """

    magic = MAGIC
    damage = f"the vector file is damaged: {SEE_CHECK}"

    def __init__(self, path: Path, sha256: str) -> None:
        super().__init__(path, sha256)
        self.n: int = self.number("n")
        self.dim: int = self.number("dim")
        if not self.n or not self.dim:
            raise self.damaged()
        self._base, self._row = self.n * 8, self.dim * 2
        self.expect(self._base + self.n * self._row)
        self._vids: Ints = self.array("<i8", self.n, 0)
        self._vectors: NDArray[np.float16] = self.array(
            "<f2", self.n * self.dim, self._base
        ).reshape(self.n, self.dim)

    @property
    def vids(self) -> Ints:
        """int64 (n,), ascending."""
        self.check_span(0, self._base)
        return self._vids

    def vectors(self, start: int, stop: int) -> NDArray[np.float16]:
        """float16 (stop - start, dim), a view of the file."""
        self.check_span(self._base + start * self._row, self._base + stop * self._row)
        return self._vectors[start:stop]

    def take(self, rows: Ints) -> NDArray[np.float16]:
        """float16 (len(rows), dim), copied."""
        starts = self._base + rows * self._row
        self.check_each(starts, starts + self._row)
        return self._vectors[rows]
