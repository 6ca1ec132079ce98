"""What a pipeline costs: the time of single queries, and the bytes that it reads of an index."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from semsearch.collection.reader import Reader
    from semsearch.search.options import Options
    from semsearch.search.searcher import Searcher

SAMPLE = 50
"""Queries timed for each pipeline, at most."""

_WARM, _FEWEST = 3, 5  # queries
_BUDGET = 60.0  # seconds
_HITS = 10
_FLOAT16 = 2


@dataclass(frozen=True, slots=True)
class Latency:
    """Milliseconds of single queries from text to hits: the median, and the 99th percentile.

    Of so few ``queries`` the latter is the slowest one, or nearly so.
    """

    p50: float
    p99: float
    queries: int


@dataclass(frozen=True, slots=True)
class Storage:
    """Bytes of an index for each passage, as its files are.

    ``vectors`` of ``dims`` components; ``faiss`` and ``tokens`` (token vectors for reranking) are
    0 where there are none. The texts themselves are not counted: every pipeline needs them.
    """

    passages: int
    dims: int
    vectors: float
    faiss: float
    words: float
    tokens: float

    def of(self, mode: str, dims: int | None, rerank: str = "none") -> float:
        """Bytes for each passage that this pipeline needs, its vectors stored at ``dims``."""
        total = 0.0
        if mode != "lexical":
            cut = _FLOAT16 * (self.dims - (dims or self.dims))
            total += self.vectors - cut + self.faiss
        if mode != "dense":
            total += self.words
        return total + (self.tokens if rerank == "self" else 0.0)


def measure_latency(
    searcher: Searcher,
    pipelines: Sequence[Options],
    texts: Sequence[str],
    *,
    budget: float = _BUDGET,
    progress: Callable[[int], None] = lambda _: None,
) -> list[Latency]:
    """Time each pipeline on the same queries, one at a time, after a few that are not counted.

    At most ``SAMPLE`` queries, evenly spread over ``texts``, fewer when ``budget`` seconds are
    over. The pipelines take turns on every query, and turns at being first, so that a busy moment
    of the machine meets them all. Texts without words are left out. ``progress`` is called with 1
    after each query.
    """
    asked = [text for text in texts if text.strip()]
    if not asked:
        return []
    places = np.linspace(0, len(asked) - 1, min(SAMPLE, len(asked))).round().astype(int)
    sample = [asked[place] for place in places.tolist()]
    times: dict[Options, list[float]] = {options: [] for options in pipelines}
    for text in sample[:_WARM]:
        for options in times:
            searcher.search(text, _HITS, options)
    order = list(times)
    end = time.perf_counter() + budget
    for number, text in enumerate(sample):
        if number >= _FEWEST and time.perf_counter() > end:
            break
        for options in order:
            began = time.perf_counter()
            searcher.search(text, _HITS, options)
            times[options].append(1_000 * (time.perf_counter() - began))
        order = [*order[1:], order[0]]
        progress(1)
    return [_latency(times[options]) for options in pipelines]


def _latency(taken: Sequence[float]) -> Latency:
    return Latency(float(np.median(taken)), float(np.percentile(taken, 99)), len(taken))


def measure_storage(reader: Reader) -> Storage | None:
    """What the newest generation takes on disk; None for an index without passages."""
    snapshot, layout = reader.snapshot(), reader.layout
    rows = len(snapshot.rows)
    if not rows:
        return None

    def share(pattern: str) -> float:
        files = (path for path in layout.folder.glob(pattern) if path.is_file())
        return sum(path.stat().st_size for path in files) / rows

    recent = len(snapshot.rows.recent[0]) * snapshot.rows.dim * _FLOAT16 / rows
    return Storage(
        passages=rows,
        dims=snapshot.rows.dim,
        vectors=share(f"{layout.segments.name}/*.vec") + recent,
        faiss=share(f"{layout.ann.name}/**/*"),
        words=share(f"{layout.lexical.name}/**/*"),
        tokens=share(f"{layout.segments.name}/*.tok") + snapshot.tokens.recent_bytes / rows,
    )
