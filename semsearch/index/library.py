"""The door to FAISS: everything that touches its untyped objects is in this file.

Vectors go in as unit rows under the inner product metric, so that FAISS's values are (estimates of)
cosines, higher is better. Only the order of what it proposes is ever used.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from semsearch.errors import Corrupt, MissingExtra, UsageError
from semsearch.threads import thread_count

if TYPE_CHECKING:
    from semsearch.types import Floats, Ints


def load() -> Any:
    """The ``faiss`` module with its threads set. Raises MissingExtra where it is not installed."""
    try:
        with warnings.catch_warnings():
            # SWIG's own types warn on Python 3.12 and later.
            warnings.simplefilter("ignore", DeprecationWarning)
            import faiss
    except ImportError as exc:
        raise MissingExtra("faiss-cpu", "cpu", "an approximate vector index") from exc
    faiss.omp_set_num_threads(thread_count())  # per calling thread, hence at every call
    return faiss


def version() -> str:
    """For the record of a built index: ``faiss 1.15.1``."""
    return f"faiss {load().__version__}"


class Quantised:
    """One FAISS index over unit vectors of ``dims`` columns; positions are its only ids."""

    def __init__(self, index: Any) -> None:
        self._index = index

    @classmethod
    def create(cls, factory: str, dims: int) -> Quantised:
        """An empty index of any ``faiss.index_factory`` string. Raises UsageError for a bad one."""
        faiss = load()
        try:
            index = faiss.index_factory(dims, factory, faiss.METRIC_INNER_PRODUCT)
        except RuntimeError as exc:
            raise UsageError(f"FAISS has no index kind {factory!r} for {dims} dimensions") from exc
        if index.metric_type != faiss.METRIC_INNER_PRODUCT:
            raise UsageError(f"the index kind {factory!r} cannot search by inner product")
        inverted = _inverted(faiss, index)
        if inverted is not None:
            inverted.cp.min_points_per_centroid = 1  # or it writes warnings to stderr
        return cls(index)

    @classmethod
    def from_file(cls, path: Path) -> Quantised:
        """Opened as a memory map, without checking: verify the file first. Raises Corrupt."""
        faiss = load()
        try:
            return cls(faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC))
        except (RuntimeError, MemoryError) as exc:
            raise Corrupt(f"{path} is not a FAISS index; it will be built again") from exc

    @classmethod
    def from_bytes(cls, data: NDArray[np.uint8] | bytes | memoryview) -> Quantised:
        """From what ``to_bytes`` gave, without checking: verify it first. Raises Corrupt."""
        faiss = load()
        try:
            return cls(faiss.deserialize_index(np.frombuffer(data, dtype=np.uint8)))
        except (RuntimeError, MemoryError) as exc:
            raise Corrupt("this is not a FAISS index; it will be built again") from exc

    def to_bytes(self) -> NDArray[np.uint8]:
        """The whole index, uint8 ``(bytes,)``."""
        data: NDArray[np.uint8] = load().serialize_index(self._index)
        return data

    @property
    def dims(self) -> int:
        """The width of its vectors."""
        return int(self._index.d)

    def __len__(self) -> int:
        return int(self._index.ntotal)

    @property
    def lists(self) -> int:
        """The number of inverted lists; 0 where the kind has none."""
        inverted = _inverted(load(), self._index)
        return 0 if inverted is None else int(inverted.nlist)

    def set_probes(self, nprobe: int) -> None:
        """Visit ``nprobe`` inverted lists a query; no effect where the kind has none."""
        inverted = _inverted(load(), self._index)
        if inverted is not None and nprobe > 0:
            inverted.nprobe = nprobe

    def train(self, vectors: Floats) -> None:
        """Learn centroids and ranges from a sample; does nothing where the kind needs none."""
        load()
        if not self._index.is_trained:
            try:
                self._index.train(vectors)
            except RuntimeError as exc:
                raise UsageError(f"FAISS cannot train on {len(vectors)} vectors: {exc}") from exc

    def add(self, vectors: Floats) -> None:
        """Append unit rows; their positions continue those already there."""
        load()
        self._index.add(vectors)

    def propose(self, queries: Floats, count: int) -> Ints:
        """int64 ``(Q, count)``: positions by estimated cosine, best first; -1 where it ran out."""
        load()
        ordinals: Ints = self._index.search(queries, count)[1]
        return ordinals


def _inverted(faiss: Any, index: Any) -> Any:
    try:
        return faiss.extract_index_ivf(index)
    except RuntimeError:
        return None
