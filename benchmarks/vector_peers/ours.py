"""semsearch: segments and the derived index, through the writer and the reader of its folder."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from benchmarks.vector_peers.contract import Neighbours

if TYPE_CHECKING:
    from semsearch.types import Floats, Ints

_BLOCK = 16_384


class Semsearch(Neighbours):
    """An index folder of vectors without documents; rotated and built as ``index`` does it."""

    package = "semsearch"

    recall = 0.99

    trained_dims: tuple[int, ...] = ()
    """Widths that the vectors serve at as they are: with some, they are not rotated."""

    def load(self) -> None:
        from semsearch.collection import maintain, reader, vector_build, vector_cache, writer
        from semsearch.index import library

        library.load()
        self._maintain, self._reader, self._cache, self._build, self._writer = (
            maintain, reader, vector_cache, vector_build, writer,
        )  # fmt: skip
        self._seconds: dict[str, float] = {}

    def build(self) -> None:
        import numpy as np

        from semsearch.collection.layout import Layout
        from semsearch.store import catalog

        n, dim = self.shape
        with self._writer.open_for_writing(Layout(self.folder)) as writer:
            widths = catalog.pack_dims(self.trained_dims)
            encoder = catalog.EncoderRow(
                1, "benchmark", "given", None, dim, widths, "{}", 0, "none", "given"
            )
            writer.adopt_encoder(encoder, dim)
            self._build.choose_recall(writer, self.recall)
            began = time.perf_counter()
            file = writer.write_file(np.arange(1, n + 1), self._blocks(), dim)
            with writer.generation() as tally:
                writer.add_segment(file, tally.gen, None)
                tally.passages += n
            writer.refresh()
            stored = time.perf_counter()
            self._maintain.fit_rotation_if_due(writer)
            rotated = time.perf_counter()
            self._build.build_vector_cache(writer)
            built = time.perf_counter()
        self._seconds = {
            "store_s": stored - began, "rotate_s": rotated - stored, "index_s": built - rotated,
        }  # fmt: skip

    def timed_build(self) -> dict[str, Any]:
        """With its parts: writing the vectors, rotating them, and the index itself."""
        return {**super().timed_build(), **self._seconds}

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns to be stored."""
        return self.vectors.shape[0], self.vectors.shape[1]

    def _blocks(self) -> Iterator[Any]:
        for start in range(0, len(self.vectors), _BLOCK):
            yield self.vectors[start : start + _BLOCK].astype("float16")

    def open(self) -> None:
        snapshot = self._reader.Reader(self.folder).snapshot()
        self._rotation = snapshot.rotation
        self._index = self._cache.open_vectors(snapshot)
        recorded = snapshot.cache(self._cache.KIND)
        self._built = f"{self._index.kind}, {recorded.params if recorded else 'every row'}"

    def search(self, query: Floats, k: int) -> Ints:
        found: Ints = self.search_many(query[None], k)[0]
        return found

    def search_many(self, queries: Floats, k: int) -> Any:
        rotated = queries if self._rotation is None else queries @ self._rotation
        return self._index.search(rotated, k).ids - 1

    def facts(self) -> dict[str, Any]:
        """``built``, once opened: the record of its own tuning."""
        kind = self._index.kind if hasattr(self, "_index") else ""
        kind = "every row" if kind == "exact" else f"{kind}, rescored"
        return {**super().facts(), "kind": kind, "built": getattr(self, "_built", "")}
