"""The vectors and queries that indexes are compared on, and the exact answers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks import static_vectors
from benchmarks.setting import MODEL, Setting
from benchmarks.vector_peers.contract import K
from semsearch.corpus import read_corpus
from semsearch.encoders import open_encoder

if TYPE_CHECKING:
    from semsearch.types import Floats

QUERIES = 600
_TIE = 1e-6
_BLOCK = 65_536


def make_vectors(setting: Setting, rows: int) -> tuple[Path, Path, dict[str, Any]]:
    """Files of ``rows`` unit vectors and of real queries' vectors, float32; what they are."""
    dataset = setting.main_dataset()
    setting.note(f"making {rows:,} vectors")
    encoder = open_encoder(MODEL)
    texts = [document.content for document in read_corpus(dataset / "corpus.jsonl")]
    stream = static_vectors.token_stream(encoder, texts)
    model = static_vectors.distil(MODEL, stream, setting.work / "static")
    asked = questions(dataset)
    queries, vectors = setting.work / "queries.npy", setting.work / f"vectors-{rows}.npy"
    np.save(queries, model.encode(asked))
    shape = (rows, model.table.shape[1])
    file = np.lib.format.open_memmap(vectors, mode="w+", dtype=np.float32, shape=shape)
    start = 0
    for block in static_vectors.blocks(model, stream, rows):
        file[start : start + len(block)] = block
        start += len(block)
    file.flush()
    facts = {
        "name": f"static vectors of windows of {dataset.name}",
        "vectors": rows,
        "dims": shape[1],
        "tokens_sha256": static_vectors.checksum(stream),
    }
    return vectors, queries, facts


def questions(dataset: Path) -> list[str]:
    """Every query of a labelled set, judged in this split or not; its titles where it has few."""
    path = dataset / "queries.jsonl"
    texts = [str(json.loads(line)["text"]) for line in path.read_text("utf-8").splitlines() if line]
    if len(texts) < QUERIES:
        titles = (document.title for document in read_corpus(dataset / "corpus.jsonl"))
        texts += [title for title in titles if title][:QUERIES]
    return texts


class Truth:
    """The exact answers: the score of the K-th nearest row of every query, at full width."""

    def __init__(self, vectors: Path, queries: Path, k: int = K) -> None:
        self._vectors: Floats = np.load(vectors, mmap_mode="r")
        self._queries: Floats = np.load(queries)
        self._k = k
        best = np.full((len(self._queries), k), -np.inf, np.float32)
        for start in range(0, len(self._vectors), _BLOCK):
            scores = self._queries @ self._vectors[start : start + _BLOCK].T
            if scores.shape[1] > k:
                scores = np.partition(scores, scores.shape[1] - k, axis=1)[:, -k:]
            both = np.concatenate([best, scores], axis=1)
            best = np.partition(both, both.shape[1] - k, axis=1)[:, -k:]
        self._lowest = best.min(axis=1)

    def recall(self, rows: Sequence[int], found: Sequence[Sequence[int]]) -> float:
        """The share of the K nearest that was found for the queries ``rows``.

        A row that ties with the K-th nearest counts as one; a row that is named twice counts once.
        """
        hits = 0
        for row, answer in zip(rows, found, strict=False):
            scores = self._vectors[sorted(set(answer))] @ self._queries[row]
            hits += int(np.count_nonzero(scores >= self._lowest[row] - _TIE))
        return hits / (self._k * min(len(rows), len(found)))
