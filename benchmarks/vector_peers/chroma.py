"""Chroma: a persistent collection of given vectors, no documents."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.vector_peers.contract import Neighbours

if TYPE_CHECKING:
    from semsearch.types import Floats, Ints

_LINKS, _CONSTRUCTION = 32, 200


class Chroma(Neighbours):
    """HNSW by cosine; ``ef_search`` is tuned, and takes effect when the index is opened anew."""

    package = "chromadb"
    kind = f"HNSW, max_neighbors {_LINKS}, ef_construction {_CONSTRUCTION}"
    settings = (32, 64, 128, 256, 512, 1_024, 2_048, 4_096)

    def load(self) -> None:
        import chromadb

        self._chroma: Any = chromadb

    def _client(self) -> Any:
        settings = self._chroma.config.Settings(anonymized_telemetry=False)
        return self._chroma.PersistentClient(path=str(self.folder), settings=settings)

    def build(self) -> None:
        client = self._client()
        graph = {
            "space": "cosine", "max_neighbors": _LINKS, "ef_construction": _CONSTRUCTION,
            "num_threads": self.threads,
        }  # fmt: skip
        rows = client.create_collection(
            "rows", embedding_function=None, configuration={"hnsw": graph}
        )
        most = client.get_max_batch_size()
        for start in range(0, len(self.vectors), most):
            block = np.ascontiguousarray(self.vectors[start : start + most])
            rows.add(ids=[str(start + i) for i in range(len(block))], embeddings=block)
        client.close()

    def open(self) -> None:
        self._opened = self._client()
        self._rows = self._opened.get_collection("rows", embedding_function=None)

    def choose(self, setting: int) -> None:
        self._rows.modify(configuration={"hnsw": {"ef_search": setting}})
        self._opened.close()
        self.open()

    def search(self, query: Floats, k: int) -> Ints:
        found: Ints = self._many(query[None], k)[0]
        return found

    def search_many(self, queries: Floats, k: int) -> object:
        return self._many(queries, k)

    def _many(self, queries: Floats, k: int) -> list[Any]:
        found = self._rows.query(query_embeddings=queries, n_results=k, include=[])["ids"]
        return [np.array(ids, np.int64) for ids in found]
