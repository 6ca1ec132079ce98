"""The part of ``gpu`` that searches: exact on the device, exact on the processor, faiss-gpu."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.results import Goal, Result, Row, Spread
from benchmarks.setting import Setting
from semsearch.errors import SemsearchError
from semsearch.index.contract import ArrayRows, VectorIndex
from semsearch.index.exact import ExactIndex
from semsearch.index.gpu import open_gpu_index
from semsearch.index.torch_index import TorchIndex

if TYPE_CHECKING:
    from semsearch.types import Floats

_DIM = 384
_BLOCK = 100_000
_ON_PROCESSOR = 5
FAISS_KINDS = ("Flat", "IVF4096,Flat", "CAGRA")


def measure(
    setting: Setting, result: Result, device: str, sizes: Sequence[int], queries: int
) -> None:
    """One table: what a query takes alone, and many at once; values compared with the oracle."""
    rows: list[Row] = []
    for size in sizes:
        setting.note(f"search among {size:,} vectors")
        vectors = random_vectors(size, seed=1).astype(np.float16)
        stored = ArrayRows(np.arange(size), vectors)
        asked = random_vectors(queries, seed=2)
        oracle = ExactIndex(stored)
        if device == "cpu":
            index: VectorIndex | None = TorchIndex(stored, "cpu", budget=1 << 40)
        else:
            index = open_gpu_index(stored)
        if index is None:
            raise RuntimeError("there is no CUDA device")
        wanted = oracle.search(asked[:_ON_PROCESSOR], 10)
        found = index.search(asked[:_ON_PROCESSOR], 10)
        same = np.array_equal(found.ids, wanted.ids) and np.array_equal(found.scores, wanted.scores)
        what = f"{size:,} vectors: ids and scores are those of the exact index"
        result.goals.append(Goal(what, "1", float(same), same))
        rows.append(_row(size, f"PyTorch on {device}, exact", index, asked))
        rows.append(_row(size, "processor, exact", oracle, asked[:_ON_PROCESSOR]))
        rows += _faiss(result, stored, asked, oracle)
    result.more["Search, one query and many at once, k = 10"] = rows
    result.notes.append(
        f"Vectors to search are random, {_DIM} wide: exact search takes the same time on any, and"
        " recall on real ones is higher."
    )


def random_vectors(count: int, seed: int) -> Floats:
    """Unit rows float32 (count, 384)."""
    generator = np.random.default_rng(seed)
    rows = np.empty((count, _DIM), np.float32)
    for start in range(0, count, _BLOCK):
        part = rows[start : start + _BLOCK]
        generator.standard_normal(dtype=np.float32, out=part)
        part /= np.linalg.norm(part, axis=1, keepdims=True)
    return rows


def _row(size: int, what: str, index: VectorIndex, asked: Floats) -> Row:
    index.search(asked[:1], 10)
    alone = []
    for query in asked[:100]:
        began = time.perf_counter()
        index.search(query[None], 10)
        alone.append(1_000 * (time.perf_counter() - began))
    began = time.perf_counter()
    index.search(asked, 10)
    rate = len(asked) / (time.perf_counter() - began)
    p99 = float(np.percentile(alone, 99))
    return {
        "vectors": size,
        "what": what,
        "p50 ms": str(Spread.of(alone)),
        "p99 ms": p99,
        "queries/s at once": rate,
    }


def _faiss(result: Result, stored: ArrayRows, asked: Floats, oracle: ExactIndex) -> list[Row]:
    rows: list[Row] = []
    best = oracle.search(asked[:_ON_PROCESSOR], 10).ids
    for kind in FAISS_KINDS:
        try:
            began = time.perf_counter()
            index = open_gpu_index(stored, kind)
            seconds = time.perf_counter() - began
        except SemsearchError as exc:
            result.notes.append(f"{kind} was not measured: {exc}.")
            continue
        if index is None:
            result.notes.append(f"faiss-gpu's {kind} was not measured: no CUDA device.")
            continue
        found = index.search(asked[:_ON_PROCESSOR], 10).ids
        recall = np.mean([np.isin(a, b).mean() for a, b in zip(best, found, strict=True)])
        what = f"faiss-gpu {kind}, built in {seconds:.1f} s, recall@10 {recall:.3f}"
        rows.append(_row(len(stored), what, index, asked))
    return rows
