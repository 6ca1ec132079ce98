"""The door to FAISS: everything that touches its untyped objects is in this file.

Vectors go in as unit rows under squared L2, whose order is that of the cosines, and only the order
of what FAISS proposes is ever used. (Inverted lists of RaBitQ codes lose much under the inner
product: of a million rows they found 0.954 of the ten nearest, under L2 0.966 of them.)
"""

from __future__ import annotations

import warnings
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from semsearch.errors import Corrupt, MissingExtra, UsageError
from semsearch.threads import thread_count

if TYPE_CHECKING:
    from semsearch.types import Floats, Ints


_ITERATIONS = 8
"""Of k-means: a million rows gave the same recall as with 25, in a third of the time."""


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
        self._inverted = _inverted(load(), index)

    @classmethod
    def create(cls, factory: str, dims: int) -> Quantised:
        """An empty index of any ``faiss.index_factory`` string. Raises UsageError for a bad one."""
        faiss = load()
        try:
            index = faiss.index_factory(dims, factory, faiss.METRIC_L2)
        except (RuntimeError, TypeError) as exc:  # the latter for what has no UTF-8 form
            raise UsageError(f"FAISS has no index kind {factory!r} for {dims} dimensions") from exc
        if index.metric_type != faiss.METRIC_L2:
            raise UsageError(f"the index kind {factory!r} cannot search by distance")
        inverted = _inverted(faiss, index)
        if inverted is not None:
            inverted.cp.min_points_per_centroid = 1  # or it writes warnings to stderr
            inverted.cp.niter = _ITERATIONS
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
        return 0 if self._inverted is None else int(self._inverted.nlist)

    def set_probes(self, nprobe: int) -> None:
        """Visit ``nprobe`` inverted lists a query; no effect where the kind has none."""
        if self._inverted is not None and nprobe > 0:
            self._inverted.nprobe = nprobe

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
        """int64 ``(Q, count)``: positions by estimated cosine, best first; -1 where it ran out.

        FAISS gives each query one thread. Fewer queries than threads share them out: each thread
        visits a part of the inverted lists, for the same answer.
        """
        faiss, threads = load(), thread_count()
        if self._inverted is None or len(queries) >= threads or self._inverted.nprobe < threads:
            ordinals: Ints = self._index.search(queries, count)[1]
            return ordinals
        faiss.omp_set_num_threads(1)  # or idle threads of its own spin in the way of ours
        vectors = _transformed(faiss, self._index, queries)
        near, lists = self._inverted.quantizer.search(vectors, self._inverted.nprobe)

        def visit(part: int) -> tuple[Floats, Ints]:
            mine = np.ascontiguousarray(lists[:, part::threads])
            theirs = np.ascontiguousarray(near[:, part::threads])
            distances = np.empty((len(vectors), count), np.float32)
            positions = np.empty((len(vectors), count), np.int64)
            probes = faiss.SearchParametersIVF(nprobe=mine.shape[1])
            # The binding's friendlier method takes no parameters.
            self._inverted.search_preassigned_c(
                len(vectors),
                faiss.swig_ptr(vectors),
                count,
                faiss.swig_ptr(mine),
                faiss.swig_ptr(theirs),
                faiss.swig_ptr(distances),
                faiss.swig_ptr(positions),
                False,
                probes,
            )
            return distances, positions

        found = list(_visitors().map(visit, range(threads)))
        distances = np.concatenate([part[0] for part in found], axis=1)
        positions = np.concatenate([part[1] for part in found], axis=1)
        best = np.argsort(distances, axis=1, kind="stable")[:, :count]
        return np.take_along_axis(positions, best, axis=1)


@cache
def _visitors() -> ThreadPoolExecutor:
    """Threads that each run FAISS on one core."""
    faiss = load()
    return ThreadPoolExecutor(thread_count(), "faiss", lambda: faiss.omp_set_num_threads(1))


def _transformed(faiss: Any, index: Any, vectors: Floats) -> Floats:
    """What the transforms in front of an index make of ``vectors``."""
    if isinstance(index, faiss.IndexPreTransform):
        for number in range(index.chain.size()):
            vectors = faiss.downcast_VectorTransform(index.chain.at(number)).apply(vectors)
    return vectors


def _inverted(faiss: Any, index: Any) -> Any:
    try:
        return faiss.extract_index_ivf(index)
    except RuntimeError:
        return None
