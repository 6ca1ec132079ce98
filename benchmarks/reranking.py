"""What reranking by `self` costs: milliseconds of the stage, seconds of indexing, bytes on disk.

Passages of about 200 tokens; of each query its best candidates by the default ranking.
"""

from __future__ import annotations

import json
import logging
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

import semsearch
from benchmarks.processes import SEMSEARCH
from benchmarks.processes import run as run_process
from benchmarks.results import Goal, Result, Row, Spread
from benchmarks.setting import MODEL, Setting
from benchmarks.texts import checksum, write_jsonl
from semsearch.corpus import BeirDataset, read_corpus
from semsearch.ranking.rerank import head
from semsearch.ranking.settings import DEFAULT_RANKING
from semsearch.search.facade import Index
from semsearch.search.options import Options
from semsearch.search.rerankers import NONE, Rerankers
from semsearch.types import Document

STORED_MS, COMPUTED_MS, SLOWER = 5.0, 800.0, 0.05
_SMALL, _FULL = 128, 2_000
_WORDS = 130
_STORED, _COMPUTED, _WARM = 200, 20, 3
_ROUNDS = 3
_SEED = 11
_WITH, _WITHOUT = "with token vectors", "without"
_FLAGS = {_WITH: "--token-vectors", _WITHOUT: "--no-token-vectors"}


def run(setting: Setting) -> Result:
    dataset = setting.main_dataset()
    words = [w for d in read_corpus(dataset / "corpus.jsonl") for w in d.text.split()]
    size = _FULL if setting.full else _SMALL
    corpus = setting.work / f"reranking-{size}.jsonl"
    write_jsonl(corpus, _documents(words, size))
    setting.convert_model()
    folders = {name: setting.work / f"reranking-{n}.idx" for n, name in enumerate(_FLAGS)}
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in folders}
    for number in range(1, _ROUNDS + 1):
        setting.note(f"indexing, round {number} of {_ROUNDS}")
        for name, folder in folders.items():
            runs[name].append(_index(corpus, folder, _FLAGS[name]))
    texts = [query.text for query in BeirDataset.open(dataset).queries]
    raw: dict[str, Any] = {"indexing": runs}
    for name, most in ((_WITH, _STORED), (_WITHOUT, _COMPUTED)):
        setting.note(f"timing the reranker {name}")
        with semsearch.open(folders[name]) as index, _quiet():
            raw[name] = _times(index, texts[: most + _WARM])
    tokens = runs[_WITH][0]["tokens"] / size
    result = Result(
        title="What reranking by `self` costs",
        dataset={"name": dataset.name, "documents": size, "words_sha256": checksum(words)},
        notes=[
            f"{size:,} passages of {_WORDS} words in a row, begun at random, of {dataset.name},"
            f" {tokens:.0f} tokens on average. The stage alone: the"
            f" {DEFAULT_RANKING.rerank_depth} best candidates of one query, its tokens at hand;"
            f" {_STORED} queries with stored token vectors, {_COMPUTED} without, for which nothing"
            f" is kept between queries. Indexing: whole processes in turns, {_ROUNDS} rounds;"
            " ratios are of the same round."
        ],
        raw=raw,
    )
    result.rows = [_row("stored", raw[_WITH]), _row("computed for the query", raw[_WITHOUT])]
    ratios = Spread.of(
        [a["wall"] / b["wall"] for a, b in zip(runs[_WITH], runs[_WITHOUT], strict=True)]
    )
    result.more["Indexing"] = [
        {"token vectors": name, "seconds": str(Spread.of([r["wall"] for r in found])),
         "MiB on disk": found[-1]["bytes"] / 2**20}
        for name, found in runs.items()
    ]  # fmt: skip
    stored, computed = (float(np.median(raw[name])) for name in (_WITH, _WITHOUT))
    result.goals = [
        Goal("reranking with stored token vectors, p50 ms", f"<= {STORED_MS}", stored,
             stored <= STORED_MS),
        Goal("the same, computed for the query", f"<= {COMPUTED_MS}", computed,
             computed <= COMPUTED_MS),
        Goal("seconds of indexing with token vectors against without", f"<= {1 + SLOWER}",
             ratios.median, ratios.median <= 1 + SLOWER),
    ]  # fmt: skip
    return result


def _documents(words: Sequence[str], size: int) -> Iterator[Document]:
    random = np.random.default_rng(_SEED)
    for number in range(size):
        start = int(random.integers(0, len(words) - _WORDS))
        yield Document(f"d{number}", " ".join(words[start : start + _WORDS]))


def _index(corpus: Path, folder: Path, flag: str) -> dict[str, Any]:
    shutil.rmtree(folder, ignore_errors=True)
    done = run_process(
        [*SEMSEARCH, "index", str(corpus), "-i", str(folder), "-m", MODEL, flag, "--json"]
    )
    kept = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    tokens = json.loads(done.stdout)["tokens"]
    return {"wall": done.seconds, "cpu": done.cpu_seconds, "bytes": kept, "tokens": tokens}


@contextmanager
def _quiet() -> Iterator[None]:
    """Without a warning for each query that its passages have no token vectors."""
    log = logging.getLogger("semsearch")
    before = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(before)


def _times(index: Index, texts: Sequence[str]) -> list[float]:
    """Milliseconds of the reranker for each text but the first few, one at a time."""
    searcher = index.searcher
    encoder = index.encoder_for(searcher.snapshot)
    found = []
    for text in texts:
        asked = searcher.encode([text])
        first = searcher.stages([text], options=Options(rerank=NONE), questions=asked).first
        best = head(first, DEFAULT_RANKING.rerank_depth)
        fresh = Rerankers(index.reader)  # knows no passage from an earlier query
        reranker = fresh.late_interaction(encoder, asked, searcher.snapshot)
        began = time.perf_counter()
        reranker.score([text], best)
        found.append(1_000 * (time.perf_counter() - began))
    return found[_WARM:]


def _row(name: str, times: Sequence[float]) -> Row:
    p50, p95 = np.percentile(times, [50, 95])
    return {"token vectors": name, "p50 ms": float(p50), "p95 ms": float(p95)}
