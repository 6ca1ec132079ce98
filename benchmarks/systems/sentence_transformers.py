"""sentence-transformers: ``encode`` with its defaults, its other backends, ``semantic_search``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from benchmarks.systems.contract import Encodes, Searches

if TYPE_CHECKING:
    from semsearch.types import Floats


class Encoder(Encodes):
    """``SentenceTransformer.encode`` with default arguments (batches of 32, sorted by length)."""

    def __init__(self, model: str, backend: str = "torch", dtype: str | None = None) -> None:
        import sentence_transformers
        import torch

        options: dict[str, Any] = {}
        if backend == "onnx":
            options = {"provider": "CPUExecutionProvider", "export": True}
        elif backend == "openvino":
            options = {"export": True}
        elif dtype is not None:
            options = {"dtype": getattr(torch, dtype)}
        self._version = sentence_transformers.__version__
        self._threads = torch.get_num_threads()
        self._model = sentence_transformers.SentenceTransformer(
            model, device="cpu", backend=backend, model_kwargs=options, local_files_only=True
        )
        self.encode(["loaded before any clock runs"])

    def facts(self) -> dict[str, Any]:
        import transformers

        return {
            "max_length": self._model.max_seq_length,
            "threads": self._threads,
            "versions": {
                "sentence-transformers": self._version,
                "transformers": transformers.__version__,
            },
        }

    def encode(self, texts: list[str]) -> Floats:
        vectors: Floats = self._model.encode(texts, show_progress_bar=False)
        return vectors


class SemanticSearch(Searches):
    """``encode``, then ``util.semantic_search`` over the vectors in memory."""

    def __init__(self, model: str, folder: str) -> None:
        from sentence_transformers import SentenceTransformer, util

        self._search = util.semantic_search
        self._model = SentenceTransformer(model, device="cpu", local_files_only=True)
        self._model.encode("loaded before any clock runs")

    def index(self, ids: Sequence[str], texts: list[str]) -> None:
        self._ids = ids
        self._vectors = self._model.encode(texts, convert_to_tensor=True, show_progress_bar=False)

    def search(self, text: str, k: int) -> Sequence[str]:
        query = self._model.encode(text, convert_to_tensor=True, show_progress_bar=False)
        hits = self._search(query, self._vectors, top_k=k)[0]
        return [self._ids[hit["corpus_id"]] for hit in hits]
