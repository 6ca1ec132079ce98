"""What a vector index is asked for, and what is timed and weighed of it."""

from __future__ import annotations

import importlib.metadata
import re
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.machine import cores

if TYPE_CHECKING:
    from semsearch.types import Floats, Ints

K = 10
_WARM = 20


class Neighbours(ABC):
    """Finds the nearest of given unit vectors by cosine.

    ``vectors`` and ``queries`` are ``.npy`` files of unit rows, float32 (n, dim) and (Q, dim); rows
    are numbered from 0. What is built is kept in ``folder``; another process opens it.
    """

    package = ""
    """The distribution whose version is recorded."""

    kind = ""
    """The kind of index, with the parameters that it was built with."""

    settings: Sequence[int] = ()
    """What trades speed for recall, fastest first; none for exact search and what tunes itself."""

    def __init__(self, vectors: str, queries: str, folder: str) -> None:
        self.vectors: Floats = np.load(vectors, mmap_mode="r")
        self.queries: Floats = np.load(queries)
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.threads = cores()
        self.load()

    @abstractmethod
    def load(self) -> None:
        """Import the library: neither timed nor weighed."""

    @abstractmethod
    def build(self) -> None:
        """From the vectors to an index that is whole on disk."""

    @abstractmethod
    def open(self) -> None:
        """Make what was built ready to answer."""

    def choose(self, setting: int) -> None:
        """Search with one of ``settings`` from now on."""
        raise ValueError(f"{self.package} has no setting {setting}")

    @abstractmethod
    def search(self, query: Floats, k: int) -> Ints:
        """The rows nearest to a query (dim,), best first."""

    def search_many(self, queries: Floats, k: int) -> object:
        """Answer queries (Q, dim) the fastest way there is."""
        return [self.search(query, k) for query in queries]

    def facts(self) -> dict[str, Any]:
        """What it says of itself."""
        version = importlib.metadata.version(self.package)
        return {"version": version, "kind": self.kind, "settings": list(self.settings)}

    def timed_build(self) -> dict[str, Any]:
        """Seconds to build, and bytes on disk."""
        began, used = time.perf_counter(), time.process_time()
        self.build()
        seconds, processor = time.perf_counter() - began, time.process_time() - used
        disk = sum(path.stat().st_size for path in self.folder.rglob("*") if path.is_file())
        return {"seconds": seconds, "processor_seconds": processor, "disk": disk}

    def timed_open(self) -> dict[str, Any]:
        """Seconds to open, and until the first answer; bytes that it and some more answers took."""
        before = resident()
        began = time.perf_counter()
        self.open()
        opened = time.perf_counter() - began
        self.search(self.queries[0], K)
        first = time.perf_counter() - began
        for query in self.queries[:_WARM]:
            self.search(query, K)
        after = resident()
        grown = {name: after[name] - before[name] for name in after}
        return {"open_s": opened, "first_answer_s": first, **grown}

    def choose_setting(self, setting: int) -> dict[str, Any]:
        """``choose``, with one answer, so that nothing of it is left to the first timing."""
        self.choose(setting)
        self.search(self.queries[0], K)
        return {}

    def timed_search(self, rows: list[int], seconds: float) -> dict[str, Any]:
        """Answer queries one by one, until the time is up: milliseconds and rows of each."""
        milliseconds: list[float] = []
        found: list[list[int]] = []
        end = time.perf_counter() + seconds
        for row in rows:
            query = self.queries[row]
            began = time.perf_counter()
            answer = self.search(query, K)
            now = time.perf_counter()
            milliseconds.append(1_000 * (now - began))
            found.append([int(one) for one in answer])
            if now > end:
                break
        return {"ms": milliseconds, "found": found}

    def timed_many(self, rows: list[int]) -> dict[str, Any]:
        """Queries a second, asked all at once."""
        queries = np.ascontiguousarray(self.queries[rows])
        began = time.perf_counter()
        self.search_many(queries, K)
        return {"rate": len(rows) / (time.perf_counter() - began)}


def resident() -> dict[str, int]:
    """Bytes of memory of this process: ``anonymous`` is its own, ``mapped`` is files (Linux)."""
    text = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    kilobytes = {name: int(size) for name, size in re.findall(r"^Rss(\w+):\s*(\d+) kB", text, re.M)}
    return {
        "anonymous": 1024 * (kilobytes["Anon"] + kilobytes["Shmem"]),
        "mapped": 1024 * kilobytes["File"],
    }
