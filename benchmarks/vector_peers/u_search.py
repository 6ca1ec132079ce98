"""usearch: a graph of half-precision vectors, used from the file as it lies on disk."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.vector_peers.contract import Neighbours

if TYPE_CHECKING:
    from semsearch.types import Floats, Ints

_LINKS, _CONSTRUCTION = 32, 200
_BLOCK = 65_536


class Usearch(Neighbours):
    """``usearch.index.Index`` by inner product, viewed, not loaded; ``expansion_search`` is tuned.

    A view takes the least memory of its own, and answers as fast.
    """

    package = "usearch"
    kind = f"connectivity {_LINKS}, expansion_add {_CONSTRUCTION}, float16, memory-mapped"
    settings = (32, 64, 128, 256, 512, 1_024, 2_048, 4_096)

    def load(self) -> None:
        from usearch.index import Index

        self._class: Any = Index
        self._path = str(self.folder / "index.usearch")

    def build(self) -> None:
        n, dim = self.vectors.shape
        index = self._class(
            ndim=dim, metric="ip", dtype="f16", connectivity=_LINKS, expansion_add=_CONSTRUCTION
        )
        for start in range(0, n, _BLOCK):
            block = np.ascontiguousarray(self.vectors[start : start + _BLOCK])
            index.add(np.arange(start, start + len(block)), block, threads=self.threads)
        index.save(self._path)

    def open(self) -> None:
        self._index = self._class.restore(self._path, view=True)

    def choose(self, setting: int) -> None:
        self._index.expansion_search = setting

    def search(self, query: Floats, k: int) -> Ints:
        found: Ints = self._index.search(query, k).keys
        return found

    def search_many(self, queries: Floats, k: int) -> object:
        return self._index.search(queries, k, threads=self.threads)
