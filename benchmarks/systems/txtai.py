"""txtai: an ``Embeddings`` database, dense or hybrid."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.systems.contract import Searches


class Embeddings(Searches):
    """``Embeddings.index``, ``save`` and ``search`` with defaults, except for the model's length.

    ``hybrid`` adds txtai's own BM25.
    """

    def __init__(self, model: str, folder: str, hybrid: bool = False) -> None:
        from txtai import Embeddings as Database

        self._make = Database
        self._folder = Path(folder)
        # Without maxlength it reads as much as the tokenizer's file says: 512 tokens here, not 256.
        self._options: dict[str, Any] = {"path": model, "gpu": False, "maxlength": 256}
        self._options |= {"hybrid": hybrid}
        self._database = Database(self._options)
        self._database.index([(0, "loaded before any clock runs", None)])

    def facts(self) -> dict[str, Any]:
        from importlib.metadata import version

        return {"versions": {"txtai": version("txtai")}}

    def index(self, ids: Sequence[str], texts: list[str]) -> None:
        self._database.index(zip(ids, texts, [None] * len(ids), strict=True))
        self._database.save(str(self._folder))

    def search(self, text: str, k: int) -> Sequence[str]:
        return [id for id, _ in self._database.search(text, k)]
