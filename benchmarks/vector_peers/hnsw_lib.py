"""hnswlib: a graph of full vectors, in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from benchmarks.vector_peers.contract import Neighbours

if TYPE_CHECKING:
    from semsearch.types import Floats, Ints

_LINKS, _CONSTRUCTION = 32, 200


class Hnswlib(Neighbours):
    """``hnswlib.Index`` by inner product; ``ef`` is tuned."""

    package = "hnswlib"
    kind = f"M {_LINKS}, ef_construction {_CONSTRUCTION}, float32"
    settings = (32, 64, 128, 256, 512, 1_024, 2_048, 4_096)

    def load(self) -> None:
        import hnswlib

        self._index: Any = hnswlib.Index(space="ip", dim=self.vectors.shape[1])
        self._index.set_num_threads(self.threads)
        self._path = str(self.folder / "index.hnsw")

    def build(self) -> None:
        n = len(self.vectors)
        self._index.init_index(max_elements=n, M=_LINKS, ef_construction=_CONSTRUCTION)
        self._index.add_items(self.vectors)
        self._index.save_index(self._path)

    def open(self) -> None:
        self._index.load_index(self._path)
        self._index.set_num_threads(self.threads)

    def choose(self, setting: int) -> None:
        self._index.set_ef(setting)

    def search(self, query: Floats, k: int) -> Ints:
        found: Ints = self._index.knn_query(query, k=k)[0][0]
        return found

    def search_many(self, queries: Floats, k: int) -> object:
        return self._index.knn_query(queries, k=k)
