"""How long a warm query takes, and where; many queries at once; indexing what has not changed."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np

import semsearch
from benchmarks.processes import PYTHON, SEMSEARCH
from benchmarks.processes import run as run_process
from benchmarks.results import Goal, Result, Row, Spread
from benchmarks.setting import MODEL, Setting
from benchmarks.startup import imported
from benchmarks.texts import checksum, write_jsonl
from semsearch.corpus import BeirDataset, read_corpus
from semsearch.ranking.fusion import fuse
from semsearch.ranking.rerank import head, mixed
from semsearch.search import Index
from semsearch.search.candidates import EVERYTHING
from semsearch.search.owners import Owners
from semsearch.search.pool import build_pool
from semsearch.search.questions import Questions
from semsearch.search.rerankers import Rerankers
from semsearch.types import Candidates, Document

P50_MS, BATCH_RATIO, UNCHANGED_SECONDS = 5.0, 2.5, 5.0
RUNTIMES = ("torch", "openvino", "transformers")
_SMALL, _FULL = 20_000, 100_000
_WORDS = 10
_K = 10
_QUERIES, _BATCH, _WARM = 200, 1_000, 20
_ROUNDS = 5
_SEED = 10

Times = dict[str, list[tuple[float, float]]]
"""Wall and processor milliseconds by what took them."""

T = TypeVar("T")


def run(setting: Setting) -> Result:
    dataset = setting.main_dataset()
    size = _FULL if setting.full else _SMALL
    words = [w for d in read_corpus(dataset / "corpus.jsonl") for w in d.text.split()]
    setting.convert_model()
    corpus, folder = setting.work / f"latency-{size}.jsonl", setting.work / f"latency-{size}.idx"
    write_jsonl(corpus, _documents(words, size))
    if not (folder / "catalog.db").is_file():
        setting.note(f"indexing {size:,} documents")
        run_process(_index(corpus, folder))
    setting.note("indexing them again, unchanged")
    unchanged = [_unchanged(corpus, folder, size) for _ in range(3)]
    loaded = imported([*PYTHON, "-X", "importtime", *_index(corpus, folder)]) & set(RUNTIMES)
    texts = [query.text for query in BeirDataset.open(dataset).queries]
    with semsearch.open(folder) as index:
        setting.note("timing single queries")
        whole, stages = _singles(index, texts[: _QUERIES + _WARM])
        setting.note(f"timing batches of {_BATCH:,}")
        one, many = _rates(index, texts)
    result = Result(
        title=f"Warm queries over {size:,} documents",
        dataset={"name": dataset.name, "documents": size, "words_sha256": checksum(words)},
        notes=[
            f"Documents of {_WORDS} words in a row, begun at random, of {dataset.name}; the default"
            f" model and pipeline, {_K} hits; queries are those of {dataset.name}, each once.",
            "The whole is `Index.search`, which searches the words while the query is encoded; the"
            " stages are timed one after the other, so they add up to more.",
            f"Many at once: `Searcher.rank` of {_BATCH:,} queries, in turns with {_QUERIES} asked"
            f" one by one, {_ROUNDS} rounds. Unchanged: `semsearch index` as a whole process.",
        ],
        raw={"search_ms": whole, "stages_ms": stages, "unchanged_seconds": unchanged},
    )
    result.rows = [_row("the whole query", whole), *(_row(n, t) for n, t in stages.items())]
    ratios = Spread.of([a / b for a, b in zip(many, one, strict=True)])
    result.raw |= {"queries_per_second": {"one by one": one, "batch": many}}
    result.more["Queries per second"] = [
        {"how": "one by one", "queries/s": str(Spread.of(one)), "ratio": "1"},
        {"how": f"{_BATCH:,} at once", "queries/s": str(Spread.of(many)), "ratio": str(ratios)},
    ]
    result.goals = _goals(result.rows[0], ratios, Spread.of(unchanged), len(loaded), size)
    return result


def _documents(words: Sequence[str], size: int) -> Iterator[Document]:
    rng = np.random.default_rng(_SEED)
    for number in range(size):
        start = int(rng.integers(0, len(words) - _WORDS))
        yield Document(f"d{number}", " ".join(words[start : start + _WORDS]))


def _index(corpus: Path, folder: Path) -> list[str]:
    return [*SEMSEARCH, "index", str(corpus), "-i", str(folder), "-m", MODEL, "--json"]


def _unchanged(corpus: Path, folder: Path, size: int) -> float:
    done = run_process(_index(corpus, folder))
    if json.loads(done.stdout)["unchanged"] != size:
        raise RuntimeError(f"not all of {size} documents were unchanged")
    return done.seconds


def _singles(index: Index, texts: Sequence[str]) -> tuple[list[tuple[float, float]], Times]:
    """Each text as a query, whole and, in a second pass, stage by stage."""
    times: Times = {}
    for text in texts:
        _timed(times, "whole", index.search, text, _K)
    stages = _Stages(index)
    for text in texts:
        stages.run(times, text)
    kept = {name: found[_WARM:] for name, found in times.items()}
    return kept.pop("whole"), kept


class _Stages:
    """The default pipeline as ``semsearch.search.stages`` has it, one stage after the other."""

    def __init__(self, index: Index) -> None:
        self._searcher, self._reader = index.searcher, index.reader
        self._snapshot = index.searcher.snapshot
        self._source = index.searcher.source
        self._ranking = index.searcher.ranking
        self._encoder = index.encoder_for(self._snapshot)
        self._rerankers = Rerankers(self._reader)

    def run(self, times: Times, text: str) -> None:
        depth = self._ranking.depth
        owners = Owners(self._reader, self._snapshot)
        asked = _timed(times, "encode", self._searcher.encode, [text])
        rotation = self._snapshot.rotation
        vectors = asked.vectors if rotation is None else asked.vectors @ rotation
        near = _timed(times, "dense", self._source.dense, vectors, depth, EVERYTHING)
        words = _timed(times, "lexical", self._source.words, [text], depth, EVERYTHING)
        near, words = owners.one_each([near, words])
        pool = _timed(
            times, "pool", build_pool, self._source, [text], vectors, near, words, asked.known
        )
        first = _timed(times, "fuse", fuse, pool, self._ranking.fusion, self._ranking.dense_weight)
        final = _timed(times, "rerank", self._reranked, text, asked, first)
        [ranking] = _timed(times, "owners", owners.rank, final, _K)
        _timed(times, "fetch", self._reader.passages_of, [ranked.vid for ranked in ranking])

    def _reranked(self, text: str, asked: Questions, first: Candidates) -> Candidates:
        reranker = self._rerankers.late_interaction(self._encoder, asked, self._snapshot)
        second = reranker.score([text], head(first, self._ranking.rerank_depth))
        return mixed(first, second, self._ranking.rerank_weight * asked.known)


def _timed(times: Times, name: str, work: Callable[..., T], *arguments: object) -> T:
    began, used = time.perf_counter(), time.process_time()
    found = work(*arguments)
    wall, processor = time.perf_counter() - began, time.process_time() - used
    times.setdefault(name, []).append((1_000 * wall, 1_000 * processor))
    return found


def _rates(index: Index, texts: Sequence[str]) -> tuple[list[float], list[float]]:
    """Queries a second, round by round: one by one, and all at once."""
    batch = [texts[i % len(texts)] + f" {i}" * (i >= len(texts)) for i in range(_BATCH)]
    searcher = index.searcher
    one, many = [], []
    for number in range(_ROUNDS + 1):
        began = time.perf_counter()
        for text in batch[:_QUERIES]:
            searcher.rank([text], _K)
        between = time.perf_counter()
        searcher.rank(batch, _K)
        ended = time.perf_counter()
        if number:  # the first round looks up documents that later ones know
            one.append(_QUERIES / (between - began))
            many.append(_BATCH / (ended - between))
    return one, many


def _row(name: str, found: Sequence[tuple[float, float]]) -> Row:
    wall, processor = zip(*found, strict=True)
    p50, p99 = np.percentile(wall, [50, 99]).tolist()
    middle = float(np.median(processor))
    return {"stage": name, "p50 ms": p50, "p99 ms": p99, "p50 processor ms": middle}


def _goals(whole: Row, ratio: Spread, unchanged: Spread, loaded: int, size: int) -> list[Goal]:
    p50 = float(whole["p50 ms"] or 0)
    seconds = unchanged.median
    return [
        Goal("p50 ms of a warm query", f"<= {P50_MS:.0f}", p50, p50 <= P50_MS),
        Goal(
            "queries per second at once, times one by one",
            f">= {BATCH_RATIO}",
            ratio.median,
            ratio.median >= BATCH_RATIO,
        ),
        Goal(
            f"seconds of semsearch index on {size:,} unchanged documents",
            f"< {UNCHANGED_SECONDS:.0f}",
            seconds,
            seconds < UNCHANGED_SECONDS,
        ),
        Goal(f"of {', '.join(RUNTIMES)} imported by it", "0", float(loaded), not loaded),
    ]
