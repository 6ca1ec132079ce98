"""Which index a GPU serves: exact by PyTorch, or a kind that was asked for by faiss-gpu.

The device's memory is shared: what the encoder needs is left to it.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import numpy as np

from semsearch.encoders.runtimes.choose import sees_nvidia
from semsearch.errors import MissingExtra, UsageError
from semsearch.index.contract import Rows, VectorIndex
from semsearch.index.faiss_index import FaissIndex, IndexParams
from semsearch.index.library import Quantised, load, version
from semsearch.index.torch_index import TorchIndex
from semsearch.vectors import cut

if TYPE_CHECKING:
    from semsearch.types import Floats, Ints

ENCODER_BYTES = 4 << 30
"""Left to the encoder: the weights of a large model in fp16, and its batches."""

_CANDIDATES = 100
_PROBES = 32
_MOST = 2_048
_BLOCK = 65_536


def open_gpu_index(rows: Rows, kind: str = "exact") -> VectorIndex | None:
    """An index over ``rows`` on the GPU; None where there is no CUDA device.

    ``kind`` is ``exact`` (by PyTorch; rows are copied as the first search reaches them), ``CAGRA``
    or a ``faiss.index_factory`` string that FAISS has for GPUs, which is built here: FAISS then
    proposes, and every score is exact. Raises MissingExtra without faiss-gpu, UsageError for a
    kind that it lacks.
    """
    if not sees_nvidia():
        return None
    import torch

    if not torch.cuda.is_available():
        return None
    free, _ = torch.cuda.mem_get_info()
    budget = max(0, free - ENCODER_BYTES)
    if kind == "exact":
        return TorchIndex(rows, "cuda", budget=budget)
    return _faiss_index(rows, kind, budget)


def _faiss_index(rows: Rows, kind: str, budget: int) -> FaissIndex:
    faiss = load()
    if not hasattr(faiss, "StandardGpuResources"):
        raise MissingExtra("faiss-gpu", "gpu", f"an index of kind {kind!r} on a GPU")
    resources = faiss.StandardGpuResources()
    resources.setTempMemory(min(budget // 4, 1 << 30))
    try:
        index = _empty(faiss, resources, kind, rows.dim)
        # CAGRA builds its graph from all vectors at once; the others learn from a sample.
        count = len(rows) if kind == "CAGRA" else min(len(rows), 4 * _BLOCK)
        every = np.linspace(0, len(rows) - 1, count).astype(np.int64)
        index.train(cut(rows.take(every), rows.dim))
        for start in range(0, 0 if kind == "CAGRA" else len(rows), _BLOCK):
            index.add(cut(rows.block(start, min(start + _BLOCK, len(rows))), rows.dim))
    except RuntimeError as exc:
        reason = str(exc).strip().splitlines()[-1]
        raise UsageError(f"faiss-gpu cannot build an index of kind {kind!r}: {reason}") from exc
    if hasattr(index, "nprobe"):
        index.nprobe = min(_PROBES, index.nlist)
    params = IndexParams(kind, rows.dim, _CANDIDATES, 0, 0.0, len(rows), version())
    return FaissIndex(rows, _OnGpu(index, resources), params)


def _empty(faiss: Any, resources: Any, kind: str, dims: int) -> Any:
    if kind == "CAGRA":
        if not hasattr(faiss, "GpuIndexCagra"):
            raise UsageError("this faiss-gpu is built without CAGRA")
        return faiss.GpuIndexCagra(resources, dims, faiss.METRIC_INNER_PRODUCT)
    plain = faiss.index_factory(dims, kind, faiss.METRIC_INNER_PRODUCT)
    return faiss.index_cpu_to_gpu(resources, 0, plain)


class _OnGpu(Quantised):
    """A FAISS index on a GPU: it serves one search at a time, of up to 2,048 places."""

    def __init__(self, index: Any, resources: Any) -> None:
        super().__init__(index)
        self._resources = resources  # kept alive
        self._lock = threading.Lock()

    def propose(self, queries: Floats, count: int) -> Ints:
        """As Quantised does, for ``count`` up to the limit."""
        with self._lock:
            ordinals: Ints = self._index.search(queries, min(count, _MOST))[1]
        return ordinals
