"""Our index over more vectors than are worth keeping twice: they are made while they are stored."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks import static_vectors
from benchmarks.vector_peers.contract import K
from benchmarks.vector_peers.ours import Semsearch

if TYPE_CHECKING:
    from semsearch.types import Floats


class Generated(Semsearch):
    """``rows`` static vectors of windows of ``stream`` (.npy), rotated by ``rotation`` and cut.

    These and the queries are files in the folder ``work``; see ``large_search``.
    """

    def __init__(self, folder: str, rows: int, model: str, work: str, recall: float) -> None:
        self.folder, self._work, self._rows = Path(folder), Path(work), rows
        self.folder.mkdir(parents=True, exist_ok=True)
        self._model, self.recall = model, recall
        self.queries = np.load(self._work / "large-queries.npy")
        self._lowest: Floats = np.full(len(self.queries), -np.inf, np.float32)
        self._made = 0.0
        self.load()

    @property
    def shape(self) -> tuple[int, int]:
        return self._rows, self.queries.shape[1]

    @property
    def trained_dims(self) -> tuple[int, ...]:  # type: ignore[override]
        return (self.queries.shape[1],)

    def _blocks(self) -> Iterator[Any]:
        stream = np.load(self._work / "large-stream.npy")
        rotation = np.load(self._work / "large-rotation.npy")
        model = static_vectors.distil(self._model, stream, self._work / "static")
        best = np.full((len(self.queries), K), -np.inf, np.float32)
        began = time.perf_counter()
        for block in static_vectors.blocks(model, stream, self._rows):
            stored = (block @ rotation).astype(np.float16)
            rows = stored.astype(np.float32)
            rows /= np.linalg.norm(rows, axis=1, keepdims=True)
            scores = np.concatenate([best, self.queries @ rows.T], axis=1)
            best = np.partition(scores, scores.shape[1] - K, axis=1)[:, -K:]
            yield stored
        self._made = time.perf_counter() - began
        self._lowest = best.min(axis=1)

    def timed_build(self) -> dict[str, Any]:
        """With the score of each query's tenth nearest row, of all rows as they are stored."""
        return {**super().timed_build(), "lowest": self._lowest.tolist()}

    def timed_search(self, rows: list[int], seconds: float) -> dict[str, Any]:
        """With the scores of what was found."""
        answer = super().timed_search(rows, seconds)
        asked = self.queries[rows[: len(answer["found"])]]
        answer["scores"] = self._index.search(asked, K).scores.tolist()
        return answer

    def record(self) -> dict[str, Any]:
        """What the index recorded of itself."""
        from semsearch.collection.reader import Reader

        row = Reader(self.folder).snapshot().cache(self._cache.KIND)
        recorded: dict[str, Any] = json.loads(row.params) if row else {}
        return recorded
