"""LanceDB: a table of texts and vectors from sentence-transformers, dense or hybrid."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from benchmarks.systems.contract import Searches


class Table(Searches):
    """``create_table`` and ``table.search`` by cosine, which compares every vector by default.

    ``hybrid`` adds LanceDB's index of words and fuses by its default, reciprocal rank.
    """

    def __init__(self, model: str, folder: str, hybrid: bool = False) -> None:
        import lancedb
        from sentence_transformers import SentenceTransformer

        self._version = lancedb.__version__
        self._database = lancedb.connect(folder)
        self._hybrid = hybrid
        self._model = SentenceTransformer(model, device="cpu", local_files_only=True)
        self._model.encode("loaded before any clock runs")

    def facts(self) -> dict[str, Any]:
        return {"versions": {"lancedb": self._version}}

    def index(self, ids: Sequence[str], texts: list[str]) -> None:
        import pyarrow as pa

        vectors = self._model.encode(texts, show_progress_bar=False)
        rows = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), vectors.shape[1])
        data = pa.table({"id": list(ids), "text": texts, "vector": rows})
        self._table = self._database.create_table("documents", data, mode="overwrite")
        if self._hybrid:
            self._table.create_fts_index("text")

    def search(self, text: str, k: int) -> Sequence[str]:
        vector = self._model.encode(text, show_progress_bar=False)
        if self._hybrid:
            asked = self._table.search(query_type="hybrid").vector(vector).text(text)
            asked = asked.distance_type("cosine")
        else:
            asked = self._table.search(vector).distance_type("cosine")
        found: Any = asked.limit(k).select(["id"]).to_arrow()
        ids: Sequence[str] = found["id"].to_pylist()
        return ids
