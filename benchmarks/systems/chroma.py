"""Chroma: a persistent client whose collection encodes by sentence-transformers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from benchmarks.systems.contract import Searches


class Collection(Searches):
    """``collection.add`` and ``collection.query``; cosine, everything else by default."""

    def __init__(self, model: str, folder: str) -> None:
        import chromadb
        from chromadb.config import Settings
        from chromadb.utils.embedding_functions import SentenceTransformerEmbeddingFunction

        self._version = chromadb.__version__
        settings = Settings(anonymized_telemetry=False)
        self._client = chromadb.PersistentClient(path=folder, settings=settings)
        self._encode: Any = SentenceTransformerEmbeddingFunction(model_name=model, device="cpu")
        self._encode(["loaded before any clock runs"])

    def facts(self) -> dict[str, Any]:
        return {"versions": {"chromadb": self._version}}

    def index(self, ids: Sequence[str], texts: list[str]) -> None:
        if any(found.name == "documents" for found in self._client.list_collections()):
            self._client.delete_collection("documents")
        self._collection = self._client.create_collection(
            "documents",
            embedding_function=self._encode,
            configuration={"hnsw": {"space": "cosine"}},
        )
        most = self._client.get_max_batch_size()
        for start in range(0, len(ids), most):
            part = slice(start, start + most)
            self._collection.add(ids=list(ids[part]), documents=texts[part])

    def search(self, text: str, k: int) -> Sequence[str]:
        found: Sequence[str] = self._collection.query(query_texts=[text], n_results=k)["ids"][0]
        return found
