"""Searching many rows with and without a metadata filter, warm, one query at a time.

The index is made by the real indexing run from synthetic vectors; query vectors are real and made
beforehand, so a timing is the search alone.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.results import Goal, Result
from benchmarks.setting import MODEL, Setting
from benchmarks.synthetic import BUCKETS, NOISE, Synthetic, SyntheticEncoder
from benchmarks.texts import checksum, sentences
from semsearch.collection.layout import Layout
from semsearch.collection.reader import Reader
from semsearch.collection.vector_build import build_vector_cache
from semsearch.collection.writer import open_for_writing
from semsearch.corpus import BeirDataset
from semsearch.encoders import open_encoder
from semsearch.indexing import Source, run_indexing
from semsearch.search.options import Mode, Options
from semsearch.search.questions import Questions
from semsearch.search.rerankers import NONE
from semsearch.search.searcher import Searcher
from semsearch.store.filters import parse_filter

GOAL_MS = 50.0
K = 10
_SMALL, _FULL = 100_000, 1_000_000
_SENTENCES = 4_000
_WARM = 5

Timings = dict[tuple[Mode, str], list[tuple[float, float]]]

# Name -> the filter of query number q.
FILTERS: dict[str, Callable[[int], list[str]]] = {
    "none": lambda q: [],
    "1 %, always the same": lambda q: ["bucket=7"],
    "1 %, another each time": lambda q: [f"bucket={q % BUCKETS}"],
    "10 %": lambda q: ["bucket<10"],
    "50 %": lambda q: ["bucket<50"],
}
_, _ANOTHER = _GOAL_FILTERS = ("1 %, always the same", "1 %, another each time")


def run(setting: Setting) -> Result:
    rows = _FULL if setting.full else _SMALL
    dataset = setting.main_dataset()
    synthetic, encoder = _synthetic(setting, dataset, rows)
    folder = setting.work / f"filtered-{rows}.idx"
    built = _build(setting, folder, synthetic, encoder)
    texts = [query.text for query in BeirDataset.open(dataset).queries]
    texts = texts[: 200 if setting.full else 100]
    searcher = Searcher(Reader(folder), lambda _: encoder)
    questions = searcher.encode(texts)
    result = Result(
        title=f"Filtered search over {rows:,} rows",
        dataset={
            "name": f"synthetic, from {dataset.name}",
            "documents": rows,
            "dims": questions.vectors.shape[1],
            "sentences": len(synthetic.sentences),
            "sentences_sha256": checksum(synthetic.sentences),
            "queries": len(texts),
        },
        notes=[
            "Vectors are synthetic: the sum of the real vectors of two sentences, plus Gaussian"
            f" noise of expected length {NOISE}, at unit length; stored through the real writer.",
            "Times are of ranking 10 documents, encoding of the query not included, warm, one"
            " query at a time, filters and modes interleaved. Nothing is reranked: synthetic"
            " documents have no vectors of their tokens.",
        ],
        raw={"build": built, "index": _facts(searcher, folder)},
    )
    setting.note("measuring recall against exact search")
    recalls = _recalls(searcher, texts, questions)
    setting.note("timing searches")
    timings = _timings(searcher, texts, questions)
    _report(result, timings, recalls, built)
    searcher.close()
    shutil.rmtree(folder)
    return result


def _synthetic(setting: Setting, dataset: Path, rows: int) -> tuple[Synthetic, SyntheticEncoder]:
    corpus = BeirDataset.open(dataset).require_corpus()
    found = sentences(corpus, _SENTENCES, 40, 120)
    setting.note(f"encoding {len(found):,} sentences")
    real = open_encoder(MODEL)
    synthetic = Synthetic(found, real.encode_documents(found).vectors, rows)
    return synthetic, SyntheticEncoder(real, synthetic)


def _build(
    setting: Setting, folder: Path, synthetic: Synthetic, encoder: SyntheticEncoder
) -> dict[str, float]:
    """Index through the real run; seconds of its parts."""
    setting.note(f"indexing {synthetic.rows:,} rows")
    if folder.exists():
        shutil.rmtree(folder)
    stored = 0.0

    def advance(_: int) -> None:
        nonlocal stored
        stored = time.perf_counter()

    began = time.perf_counter()
    with open_for_writing(Layout(folder)) as writer:
        source = Source("synthetic", synthetic.documents(), prunable=False)
        run_indexing(writer, encoder, [source], progress=advance)
        ended = time.perf_counter()
        build_vector_cache(writer, force=True)
        again = time.perf_counter()
    return {
        "documents_s": stored - began,
        "derived_files_s": ended - stored,
        "whole_s": ended - began,
        "faiss_alone_s": again - ended,
    }


def _facts(searcher: Searcher, folder: Path) -> dict[str, Any]:
    layout, snapshot = Layout(folder), searcher.snapshot
    rows = len(snapshot.rows)

    def each(*paths: Path) -> float:
        return sum(path.stat().st_size for path in paths if path.is_file()) / rows

    return {
        "kind": searcher.source.vectors.kind,
        "segments": len(snapshot.segments),
        "rotated": snapshot.rotation_id is not None,
        "bytes_per_row": {
            "faiss": each(*layout.ann.iterdir()),
            "vectors": each(*layout.segments.iterdir()),
            "lexical": each(*layout.lexical.iterdir()),
            "catalog": each(layout.catalog),
        },
        "caches": {row.kind: row.params for row in snapshot.caches},
    }


def _options(name: str, mode: Mode, query: int, exact: bool = False) -> Options:
    conditions = parse_filter(FILTERS[name](query))
    return Options(mode, conditions=conditions, exact=exact, rerank=NONE)


def _recalls(searcher: Searcher, texts: Sequence[str], questions: Questions) -> dict[str, float]:
    """recall@10 of dense search as it is served against exact search, by filter."""
    few = texts[:50]
    recalls = {}
    for name in FILTERS:
        if name == _ANOTHER:  # like the other 1 %
            continue
        served, exact = (
            searcher.rank(
                few, K, _options(name, "dense", 0, exact), questions.some(range(len(few)))
            )
            for exact in (False, True)
        )
        shares = [
            len({r.id for r in a} & {r.id for r in b}) / K
            for a, b in zip(served, exact, strict=True)
        ]
        recalls[name] = float(np.mean(shares))
    return recalls


def _timings(searcher: Searcher, texts: Sequence[str], questions: Questions) -> Timings:
    """Wall and processor milliseconds of each query, by mode and filter."""
    timings: Timings = {(mode, name): [] for mode in ("dense", "hybrid") for name in FILTERS}
    order = [*range(len(texts) - _WARM, len(texts)), *range(len(texts))]
    for query, number in enumerate(order):
        question = questions.some([number])
        for (mode, name), found in timings.items():
            # hybrid meets another filter than dense did a moment ago: resolved ones are remembered
            options = _options(name, mode, query + BUCKETS // 2 * (mode == "hybrid"))
            began, used = time.perf_counter(), time.process_time()
            ranking = searcher.rank([texts[number]], K, options, question)
            wall, processor = time.perf_counter() - began, time.process_time() - used
            if len(ranking[0]) < K:
                raise RuntimeError(f"{len(ranking[0])} of {K} documents for filter {name}")
            if query >= _WARM:
                found.append((1_000 * wall, 1_000 * processor))
    return timings


def _report(
    result: Result,
    timings: Timings,
    recalls: dict[str, float],
    built: dict[str, float],
) -> None:
    for (mode, name), found in timings.items():
        wall, processor = map(list, zip(*found, strict=True))
        p50, p99 = np.percentile(wall, [50, 99]).tolist()
        recall = recalls.get(name) if mode == "dense" else None
        result.rows.append(
            {
                "filter keeps": name,
                "mode": mode,
                "p50 ms": p50,
                "p99 ms": p99,
                "p50 processor ms": float(np.median(processor)),
                "recall@10": recall,
            }
        )
        result.raw[f"{mode}, {name}"] = {"ms": wall, "processor_ms": processor}
        if name in _GOAL_FILTERS:
            what = f"p50 ms, filter keeps {name}, {mode}"
            result.goals.append(Goal(what, f"<= {GOAL_MS:.0f}", p50, p50 <= GOAL_MS))
    sizes = result.raw["index"]["bytes_per_row"]
    result.notes.append(
        f"Index {result.raw['index']['kind']}, {sizes['faiss']:.0f} bytes a vector"
        f" (stored vectors {sizes['vectors']:.0f}, words {sizes['lexical']:.0f}, catalog"
        f" {sizes['catalog']:.0f}); stored in {built['documents_s']:.0f} s, derived files in"
        f" {built['derived_files_s']:.0f} s, of which FAISS {built['faiss_alone_s']:.0f} s."
    )
