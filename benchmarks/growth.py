"""What a thousand to a million documents cost: time, memory, disk, and a query.

Each size is one ``semsearch index`` in a fresh process, watched from outside: how far it has read
its corpus tells which documents it is at, so the cost of the first thousand documents of a run can
be compared with that of the last. Documents are short, or a million would take hours to encode.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import semsearch
from benchmarks.processes import SEMSEARCH, Finished, Sample
from benchmarks.processes import run as run_process
from benchmarks.results import Goal, Result
from benchmarks.setting import MODEL, Setting
from benchmarks.texts import checksum, write_jsonl
from semsearch.corpus import BeirDataset, read_corpus
from semsearch.types import Document

EXPONENT, MEMORY = 1.05, 1.20
SMALL, FULL = (1_000, 10_000, 30_000), (1_000, 10_000, 100_000, 1_000_000)
_LINEAR_FROM = 10_000  # below, starting the process is most of the time
_WORDS = 5
_PARTS = 20
_QUERIES, _WARM = 100, 5
_SEED = 5
_MIB = 2**20


Part = tuple[int, float, float, int]
"""Documents, wall seconds, processor seconds so far; peak of anonymous bytes since the last."""


class Cost(NamedTuple):
    """What one size took.

    ``parts`` are those of ``progress``. Memory in anonymous bytes: the peak while documents were
    read, encoded and stored, and of the whole run, the building of the vector index included.
    """

    documents: int
    seconds: float
    cpu_seconds: float
    parts: list[Part]
    storing: int
    peak: int
    disk: dict[str, int]
    query_ms: list[float]


def run(setting: Setting) -> Result:
    dataset = setting.main_dataset()
    words = [w for d in read_corpus(dataset / "corpus.jsonl") for w in d.text.split()]
    queries = [query.text for query in BeirDataset.open(dataset).queries][: _QUERIES + _WARM]
    setting.convert_model()
    costs = []
    for size in FULL if setting.full else SMALL:
        setting.note(f"{size:,} documents")
        costs.append(_measure(setting.work, words, size, queries))
    return result(costs, {"name": dataset.name, "words": len(words), "sha256": checksum(words)})


def _measure(work: Path, words: Sequence[str], size: int, queries: Sequence[str]) -> Cost:
    corpus, folder = work / f"growth-{size}.jsonl", work / f"growth-{size}.idx"
    shutil.rmtree(folder, ignore_errors=True)
    write_jsonl(corpus, _documents(words, size))
    command = [*SEMSEARCH, "index", str(corpus), "-i", str(folder), "-m", MODEL, "--json"]
    done = run_process(command, watch_memory=True, follow=corpus)
    if json.loads(done.stdout)["documents"] != size:
        raise RuntimeError(f"not all of {size} documents were indexed")
    length = corpus.stat().st_size
    cost = _cost(done, size, length, _disk(folder), _query(folder, queries))
    shutil.rmtree(folder)
    corpus.unlink()
    return cost


def _documents(words: Sequence[str], size: int) -> Iterator[Document]:
    """Words at random, each as often as it is in the text: hardly two documents are the same."""
    rng = np.random.default_rng(_SEED)
    for number in range(size):
        chosen = rng.integers(0, len(words), _WORDS).tolist()
        yield Document(f"d{number}", " ".join(words[i] for i in chosen))


def _cost(
    done: Finished, size: int, length: int, disk: dict[str, int], query_ms: list[float]
) -> Cost:
    storing = done.peak_anonymous
    if disk["vector index"]:  # the last windows are stored after they were read: a few of many
        storing = max(sample.anonymous for sample in done.samples if sample.read < length)
    parts = progress(done.samples, size, length)
    return Cost(
        size, done.seconds, done.cpu_seconds, parts, storing, done.peak_anonymous, disk, query_ms
    )


def progress(samples: Sequence[Sample], size: int, length: int) -> list[Part]:
    """How it stood when each of some equal parts of the file had been read.

    The corpus is read in windows, a few of them ahead of the model: the moment when a place was
    passed is that at which all but those few windows before it were done.
    """
    found: list[Part] = []
    places = [length * part // _PARTS for part in range(1, _PARTS + 1)]
    peak, last = 0, samples[0].read
    for sample in samples:
        peak = max(peak, sample.anonymous)
        if sample.read > last:
            last = sample.read
            if last >= places[0]:
                done = size * last // length
                found.append((done, sample.seconds, sample.cpu_seconds, peak))
                places = [place for place in places if place > last] or [length + 1]
                peak = 0
    return found


def _disk(folder: Path) -> dict[str, int]:
    """Bytes of each part of an index."""
    parts = {
        "catalog": "catalog.db", "vectors": "seg/*.vec", "tokens": "seg/*.tok", "words": "lex/*",
        "vector index": "ann/*",
    }  # fmt: skip
    return {
        name: sum(path.stat().st_size for path in folder.glob(pattern) if path.is_file())
        for name, pattern in parts.items()
    }


def _query(folder: Path, queries: Sequence[str]) -> list[float]:
    """Milliseconds of each query, warm, in this process, with the default options."""
    index = semsearch.open(folder)
    times = []
    for text in [*queries[:_WARM], *queries]:
        began = time.perf_counter()
        index.search(text, k=10)
        times.append(1_000 * (time.perf_counter() - began))
    return times[_WARM:]


def exponent(sizes: Sequence[float], costs: Sequence[float]) -> float:
    """The b of costs = a * sizes ** b, by least squares of the logarithms; 1 is linear."""
    return float(np.polyfit(np.log(sizes), np.log(costs), 1)[0])


def steepness(parts: Sequence[Part], column: int) -> float:
    """The cost of a document at the end of a run, times that at its start; 1 is flat.

    ``column`` 1: wall seconds, 2: processor seconds. By the line through the parts' rates, so that
    one disturbed part does not decide; the first part holds the start-up and is left out.
    """
    middles, rates = [], []
    for before, after in pairwise(parts):
        middles.append((before[0] + after[0]) / 2)
        rates.append((after[column] - before[column]) / (after[0] - before[0]))
    slope, start = np.polyfit(middles, rates, 1)
    return float((start + slope * parts[-1][0]) / start)


def result(costs: Sequence[Cost], dataset: dict[str, Any]) -> Result:
    """The table, the goals and the raw numbers of some sizes, ascending."""
    last = costs[-1]
    found = Result(
        title="Cost as work grows",
        dataset=dataset,
        rows=[_row(cost) for cost in costs],
        raw={f"{cost.documents} documents": cost._asdict() for cost in costs},
    )
    large = [cost for cost in costs if cost.documents >= _LINEAR_FROM]
    sizes = [cost.documents for cost in large]
    for what, taken in (
        ("seconds", [cost.seconds for cost in large]),
        ("processor seconds", [cost.cpu_seconds for cost in large]),
    ):
        power = exponent(sizes, taken)
        goal = f"exponent of {what} over documents, from {sizes[0]:,} to {sizes[-1]:,}"
        found.goals.append(Goal(goal, f"<= {EXPONENT}", power, power <= EXPONENT))
    ratio = last.storing / large[0].storing
    goal = f"peak memory for {sizes[-1]:,} documents, times that for {sizes[0]:,}, before the"
    found.goals.append(
        Goal(f"{goal} vector index is built", f"<= {MEMORY}", ratio, ratio <= MEMORY)
    )
    found.notes.append(_note(last, dataset["name"]))
    return found


def _row(cost: Cost) -> dict[str, str | int | float | None]:
    return {
        "documents": cost.documents,
        "seconds": cost.seconds,
        "processor seconds": cost.cpu_seconds,
        "s a 1,000": 1_000 * cost.seconds / cost.documents,
        "peak MiB": cost.peak / _MIB,
        "before the vector index": cost.storing / _MIB,
        "disk MiB": sum(cost.disk.values()) / _MIB,
        "query p50 ms": float(np.median(cost.query_ms)),
        "p99 ms": float(np.percentile(cost.query_ms, 99)),
    }


def _note(last: Cost, name: str) -> str:
    sizes = ", ".join(f"{what} {size / last.documents:.0f}" for what, size in last.disk.items())
    wall, processor = steepness(last.parts, 1), steepness(last.parts, 2)
    return (
        f"Documents of {_WORDS} words drawn from {name} as often as they are there, the default"
        f" model and settings. In the run of {last.documents:,} the last documents took"
        f" {wall:.2f} times as long as the first ({processor:.2f} times the processor time), by the"
        f" line through {_PARTS} equal parts. Bytes a document on disk: {sizes}. Queries: real"
        " ones, warm, one at a time, the default pipeline with the encoding of the query."
    )
