"""FAISS as it comes: every vector compared, or a graph over them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from benchmarks.vector_peers.contract import Neighbours

if TYPE_CHECKING:
    from semsearch.types import Floats, Ints


class Flat(Neighbours):
    """``IndexFlatIP``, in memory."""

    package = "faiss-cpu"
    kind = "IndexFlatIP, every row"
    factory = "Flat"

    def load(self) -> None:
        import faiss

        self._faiss: Any = faiss
        faiss.omp_set_num_threads(self.threads)

    def build(self) -> None:
        metric = self._faiss.METRIC_INNER_PRODUCT
        index = self._faiss.index_factory(self.vectors.shape[1], self.factory, metric)
        index.add(self.vectors)
        self._faiss.write_index(index, str(self.folder / "index.faiss"))

    def open(self) -> None:
        self._index = self._faiss.read_index(str(self.folder / "index.faiss"))

    def search(self, query: Floats, k: int) -> Ints:
        found: Ints = self._index.search(query[None], k)[1][0]
        return found

    def search_many(self, queries: Floats, k: int) -> object:
        return self._index.search(queries, k)


class Hnsw(Flat):
    """``HNSW32,Flat``; ``efSearch`` is tuned."""

    kind = "HNSW32,Flat, efConstruction 40"
    factory = "HNSW32,Flat"
    settings = (32, 64, 128, 256, 512, 1_024, 2_048, 4_096)

    def choose(self, setting: int) -> None:
        self._index.hnsw.efSearch = setting
