"""What a system is asked for, and what is timed of it. Libraries load before any clock runs."""

from __future__ import annotations

import json
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from semsearch.types import Floats


class Encodes(ABC):
    """Turns texts into vectors. Made from the model's folder and its own options."""

    def facts(self) -> dict[str, Any]:
        """What it says of itself: versions, precision, anything worth keeping."""
        return {}

    @abstractmethod
    def encode(self, texts: list[str]) -> Floats:
        """Unit vectors float32 (n, dim) in the order of the texts, at most 256 tokens read."""

    def timed(self, texts: str, keep: str | None = None) -> dict[str, Any]:
        """Encode the texts of a JSON file; vectors are kept as an ``.npy`` file where asked."""
        loaded = read_texts(texts)
        began, used = time.perf_counter(), time.process_time()
        vectors = self.encode(loaded)
        seconds, processor = time.perf_counter() - began, time.process_time() - used
        if keep is not None:
            np.save(keep, np.asarray(vectors, np.float32))
        return {"seconds": seconds, "processor_seconds": processor}


class Searches(ABC):
    """A whole system: texts in memory, then an index, then answers.

    Made from the model's folder and a folder of its own for what it writes.
    """

    def facts(self) -> dict[str, Any]:
        """What it says of itself."""
        return {}

    @abstractmethod
    def index(self, ids: Sequence[str], texts: list[str]) -> None:
        """Make a new index, ready to be searched, in place of any that was there."""

    @abstractmethod
    def search(self, text: str, k: int) -> Sequence[str]:
        """The ids of the best ``k`` documents, best first."""

    def timed_index(self, corpus: str) -> dict[str, Any]:
        """Index a JSON file of ids and texts; the first answer is part of it."""
        documents = json.loads(Path(corpus).read_text(encoding="utf-8"))
        ids, texts = list(documents), list(documents.values())
        began, used = time.perf_counter(), time.process_time()
        self.index(ids, texts)
        self.search("is anything there", 10)
        seconds, processor = time.perf_counter() - began, time.process_time() - used
        return {"seconds": seconds, "processor_seconds": processor}

    def timed_search(self, queries: str, k: int) -> dict[str, Any]:
        """Answer each query of a JSON file by itself; milliseconds and ids of each."""
        milliseconds, found = [], []
        for text in read_texts(queries):
            began = time.perf_counter()
            answer = self.search(text, k)
            milliseconds.append(1_000 * (time.perf_counter() - began))
            found.append([str(one) for one in answer])
        return {"ms": milliseconds, "found": found}


def read_texts(path: str) -> list[str]:
    """A JSON file's list of texts."""
    texts: list[str] = json.loads(Path(path).read_text(encoding="utf-8"))
    return texts
