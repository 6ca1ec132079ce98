"""semsearch itself: its encoder, the model under it alone, and the whole index."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.systems.contract import Encodes, Searches, read_texts
from semsearch.encoders import open_encoder
from semsearch.encoders.batching import batches, padded
from semsearch.search.options import Mode
from semsearch.types import Document

if TYPE_CHECKING:
    from semsearch.encoders.runtimes.choose import Precision
    from semsearch.types import Floats


class Encoder(Encodes):
    """``semsearch.encoders.open_encoder`` on the CPU, in a precision."""

    def __init__(self, model: str, precision: Precision) -> None:
        self._encoder = open_encoder(model, precision=precision, device="cpu", local_only=True)
        self._lengths: list[int] = []
        self.encode(["loaded before any clock runs"])

    def facts(self) -> dict[str, Any]:
        """``lengths``: tokens of each text that was encoded last, as far as the model reads."""
        return {
            "runtime": self._encoder.runtime,
            "precision": self._encoder.precision,
            "max_length": self._encoder.max_length,
            "lengths": self._lengths,
        }

    def encode(self, texts: list[str]) -> Floats:
        encoded = self._encoder.encode_documents(texts)
        self._lengths = np.minimum(encoded.tokens, self._encoder.max_length).tolist()
        return encoded.vectors


class ModelAlone(Encodes):
    """The model's graph alone, on batches made beforehand: no tokenizing, packing or storing."""

    def __init__(self, model: str, precision: Precision) -> None:
        self._encoder = open_encoder(model, precision=precision, device="cpu", local_only=True)
        self._runtime = self._encoder._running()

    def timed(self, texts: str, keep: str | None = None) -> dict[str, Any]:
        runtime, tokens = self._runtime, self._encoder.tokens
        rows = [row.ids for row in tokens.tokenize(read_texts(texts))]
        groups = batches([len(row) for row in rows], runtime.budget, runtime.multiple)
        longest = self._encoder.max_length
        made = [
            padded([rows[i] for i in group], tokens.pad_id, runtime.multiple, longest)
            for group in groups
        ]
        with ThreadPoolExecutor(runtime.workers) as pool:
            list(pool.map(lambda one: runtime.run(*one, many=True), made[: runtime.workers]))
            began, used = time.perf_counter(), time.process_time()
            list(pool.map(lambda one: runtime.run(*one, many=True), made))
            seconds, processor = time.perf_counter() - began, time.process_time() - used
        return {"seconds": seconds, "processor_seconds": processor}

    def encode(self, texts: list[str]) -> Floats:
        return self._encoder.encode_documents(texts).vectors


class Index(Searches):
    """``semsearch.open``, ``add`` and ``search``, with the default settings but for the mode."""

    def __init__(self, model: str, folder: str, mode: Mode) -> None:
        import semsearch

        self._folder, self._mode = Path(folder), mode
        self._index = semsearch.open(self._folder, model)
        self.index(["0"], ["loaded before any clock runs"])
        self.search("loaded as well", 1)

    def index(self, ids: Sequence[str], texts: list[str]) -> None:
        self._index.close()  # the model stays loaded
        shutil.rmtree(self._folder, ignore_errors=True)
        self._index.add(Document(id, text) for id, text in zip(ids, texts, strict=True))

    def search(self, text: str, k: int) -> Sequence[str]:
        return [hit.id for hit in self._index.search(text, k, mode=self._mode)]
