"""Readers while a writer writes: every answer is exactly that of the generation that it names.

Sixteen readers, in four processes of four threads, of which two share one searcher; one process
writes all the while. A case is a second: what a reader meets depends on the clock, what is written
and asked on the seed alone. Each answer is kept, and compared with brute force at the end.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from semsearch.collection.check import check_index
from semsearch.collection.reader import Reader
from semsearch.collection.snapshot import Snapshot
from semsearch.encoders import Encoder
from semsearch.errors import StorageError
from semsearch.ranking.settings import Ranking
from semsearch.search.options import Options
from semsearch.search.searcher import Searcher
from semsearch.store.filters import Condition
from semsearch.types import Document, Hit
from tests.fakes import WORDS, FakeEncoder
from tests.faults import writing
from tests.faults.campaign import Campaign, Outcome
from tests.faults.sandbox import ROOT

PROCESSES, THREADS = 4, 4
K = 5
CLOSE = 4e-3
"""What float16 may do to a score."""

OPTIONS = {
    "dense": Options("dense", ranking=Ranking(depth=8)),
    "filtered": Options(
        "dense", conditions=(Condition("even", "=", (True,)),), ranking=Ranking(depth=8)
    ),
    "lexical": Options("lexical"),
    "hybrid": Options("hybrid", rerank="self"),
}
LISTING = "listing"
_PATIENCE = 120


class Answer(NamedTuple):
    """``found`` are (id, score, text, metadata); ``second`` when it was asked, ``took`` seconds."""

    kind: str
    gen: int
    query: str
    found: list[tuple[str, float, str, dict[str, Any]]]
    second: float
    took: float


class NamingSearcher(Searcher):
    """One that tells of which generation an answer is."""

    def named(self, text: str, k: int, options: Options) -> tuple[int, list[Hit]]:
        """As ``search`` answers."""
        return self._retry(
            lambda view: (
                view.snapshot.generation.gen,
                self._answer(view, text, k, options)[1],
            )
        )


def model_for(snapshot: Snapshot) -> Encoder:
    """The model that a snapshot was made by."""
    assert snapshot.encoder is not None
    found = {model.fingerprint: model for model in writing.MODELS}
    return found[snapshot.encoder.fingerprint]


def open_searcher(folder: Path) -> NamingSearcher:
    return NamingSearcher(Reader(folder), model_for)


# ---- comparing


def wrong(answer: Answer, truth: writing.Truth) -> str:
    """What is wrong with an answer, nothing if it is right."""
    state, model = truth.at(answer.gen)
    for id, _, text, metadata in answer.found:
        if id not in state:
            return f"{id} is not there in generation {answer.gen}"
        if (text, metadata) != (state[id].text, state[id].metadata):
            return f"{id} is not as it is in generation {answer.gen}"
    if len({row[0] for row in answer.found}) < len(answer.found):
        return "a document is there twice"
    if answer.kind == LISTING:
        return ""
    if answer.kind == "lexical":
        words = set(answer.query.split())
        matching = [d for d in state.values() if words & set(d.content.split())]
        return _too_few(answer, len(matching))
    if answer.kind == "hybrid":
        return _too_few(answer, len(state))
    return _wrong_scores(answer, state, model)


def _too_few(answer: Answer, there: int) -> str:
    expected = min(K, there)
    if len(answer.found) != expected:
        return f"{len(answer.found)} hits, not {expected}"
    return ""


def _wrong_scores(answer: Answer, state: writing.State, model: FakeEncoder) -> str:
    wanted = [d for d in state.values() if answer.kind == "dense" or d.metadata["even"]]
    problem = _too_few(answer, len(wanted))
    if problem or not answer.found:
        return problem
    query = model.vector(answer.query)
    true = {d.id: float(vector_of(model, d) @ query) for d in wanted}
    scores = [score for _, score, _, _ in answer.found]
    for id, score, _, _ in answer.found:
        if id not in true or abs(true[id] - score) > CLOSE:
            return f"{id} has the score {score}, not {true.get(id)}"
    best = sorted(true.values(), reverse=True)[: len(scores)]
    if np.abs(np.array(best) - scores).max() > CLOSE:
        return f"the best scores are {best}, not {scores}"
    return ""


_VECTORS: dict[tuple[str, str], np.ndarray] = {}


def vector_of(model: FakeEncoder, document: Document) -> np.ndarray:
    """A document is one passage here."""
    key = (model.name, document.content)
    if key not in _VECTORS:
        _VECTORS[key] = model.vector(document.content)
    return _VECTORS[key]


# ---- a process of readers


@dataclass
class Heard:
    """What the readers of one process saw."""

    answers: list[Answer] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    exceptions: list[str] = field(default_factory=list)


def read(folder: Path, seed: int, number: int, shared: NamingSearcher | None, heard: Heard) -> None:
    """One reader: ask until there is the file that says stop."""
    random = np.random.default_rng([seed, number, 2])
    start = time.perf_counter()
    asked = 0
    searcher = shared or open_searcher(folder / "index")
    try:
        while not (folder / "stop").exists():
            second = time.perf_counter() - start
            asked += 1
            try:
                heard.answers.append(ask(searcher, random, second))
            except StorageError as exc:  # a listing that a commit made impossible, and says so
                if "read" not in str(exc):
                    raise
                heard.refused.append(str(exc))
            if shared is None and asked % 40 == 0:
                searcher.close()
                searcher = open_searcher(folder / "index")
    except Exception:  # noqa: BLE001 - there must be none
        second = time.perf_counter() - start
        lines = traceback.format_exc().strip().splitlines()
        heard.exceptions.append(f"case {second:.0f}: {lines[-1]} ({lines[-3].strip()})")
    finally:
        if shared is None:
            searcher.close()


def ask(searcher: NamingSearcher, random: np.random.Generator, second: float) -> Answer:
    kind = str(random.choice([*OPTIONS, LISTING], p=[0.4, 0.15, 0.2, 0.2, 0.05]))
    query = " ".join(random.choice(WORDS, 2))
    before = time.perf_counter()
    if kind == LISTING:
        gen, found = listing(searcher.reader)
    else:
        gen, hits = searcher.named(query, K, OPTIONS[kind])
        found = [(hit.id, hit.score, hit.text, dict(hit.metadata)) for hit in hits]
    return Answer(kind, gen, query, found, second, time.perf_counter() - before)


def listing(reader: Reader) -> tuple[int, list[tuple[str, float, str, dict[str, Any]]]]:
    """Every document; of the generation that was the newest before and after, else of none."""
    before = reader.snapshot().generation.gen
    documents = list(reader.documents())
    after = reader.snapshot().generation.gen
    if before != after:
        return after, []
    return after, [(d.id, 0.0, d.text, dict(d.metadata)) for d in documents]


def reading_process(folder: Path, seed: int, first: int) -> None:
    """Several readers, then what was wrong of what they were told."""
    heard = Heard()
    with writing.sizes(), closing(open_searcher(folder / "index")) as shared:
        threads = [
            threading.Thread(
                target=read, args=(folder, seed, first + n, shared if n % 2 else None, heard)
            )
            for n in range(THREADS)
        ]
        for thread in threads:
            thread.start()
        print("ready", flush=True)
        for thread in threads:
            thread.join()
    wait_for(folder / "log")
    truth = writing.Truth.read(folder / "log", seed)
    writes_from = float((folder / "writing").read_text())
    print(json.dumps(summary(heard, truth, writes_from)), flush=True)


def summary(heard: Heard, truth: writing.Truth, writes_from: float) -> dict[str, Any]:
    """Figures and failures of one process. Seconds of latencies, idle ones and busy ones."""
    failures = list(heard.exceptions)
    for answer in heard.answers:
        problem = wrong(answer, truth)
        if problem:
            failures.append(f"case {answer.second:.0f}: {answer.kind} {answer.query!r}: {problem}")
    searches = [answer for answer in heard.answers if answer.kind != LISTING]
    return {
        "answers": len(heard.answers),
        "wrong": len(failures) - len(heard.exceptions),
        "exceptions": len(heard.exceptions),
        "refused": len(heard.refused),
        "listings": sum(a.kind == LISTING and bool(a.found) for a in heard.answers),
        "gens": sorted({answer.gen for answer in heard.answers}),
        "idle": [a.took for a in searches if a.second + a.took < writes_from],
        "busy": [a.took for a in searches if a.second > writes_from],
        "failures": failures[:20],
    }


def wait_for(path: Path) -> None:
    waited_until = time.monotonic() + _PATIENCE
    while not path.exists():
        if time.monotonic() > waited_until:
            raise TimeoutError(path)
        time.sleep(0.02)


def writing_process(folder: Path, seed: int) -> None:
    """Begin the index; once told, write until told to stop."""
    with writing.sizes():
        work = writing.Work(folder / "index", seed)
        work.take(1)
        print("ready", flush=True)
        wait_for(folder / "writing")
        while not (folder / "stop").exists():
            work.take(1 + work.step % 5)
        work.keep_log(folder / "log.part")
    (folder / "log.part").rename(folder / "log")
    print(json.dumps(writing.figures_of(work.done)), flush=True)


# ---- the campaign


def run(seed: int, cases: Sequence[int], folder: Path) -> Outcome:
    """Let them all run for so many seconds; a fifth of it without a writer, to compare with."""
    seconds = len(cases)
    with started("write", folder, seed) as writer:
        expect_ready(writer)
        with several_readers(folder, seed) as readers:
            for reader in readers:
                expect_ready(reader)
            idle = min(seconds / 5, 20)
            time.sleep(idle)
            publish(folder / "writing", str(idle))
            time.sleep(seconds - idle)
            publish(folder / "stop", "")
            written = result_of(writer)
            found = [result_of(reader) for reader in readers]
    outcome = Outcome(seconds, gathered(found, written))
    for one in found:
        outcome.failures += one["failures"]
    with Reader(folder / "index") as index:
        outcome.failures += [f"case {seconds}: check: {line}" for line in check_index(index)]
    return outcome


def gathered(found: Sequence[dict[str, Any]], written: dict[str, Any]) -> dict[str, Any]:
    """The row of the table."""
    idle = [took for one in found for took in one["idle"]]
    busy = [took for one in found for took in one["busy"]]
    seen = {gen for one in found for gen in one["gens"]}
    figures: dict[str, Any] = {"readers": PROCESSES * THREADS}
    for name in ("answers", "wrong", "exceptions", "listings", "refused"):
        figures[name] = sum(one[name] for one in found)
    figures["generations seen"] = len(seen)
    for name, values, share in [
        ("idle p50 ms", idle, 50), ("idle p99 ms", idle, 99), ("p50 ms", busy, 50),
        ("p99 ms", busy, 99),
    ]:  # fmt: skip
        figures[name] = round(1e3 * float(np.percentile(values, share)), 1) if values else "none"
    return figures | written


def publish(path: Path, text: str) -> None:
    part = path.with_name(f"{path.name}.part")
    part.write_text(text)
    part.rename(path)


@contextmanager
def several_readers(folder: Path, seed: int) -> Iterator[list[subprocess.Popen[str]]]:
    found: list[subprocess.Popen[str]] = []
    try:
        for number in range(PROCESSES):
            found.append(start("read", folder, seed, number * THREADS))
        yield found
    finally:
        for process in found:
            end(process)


@contextmanager
def started(what: str, folder: Path, seed: int) -> Iterator[subprocess.Popen[str]]:
    process = start(what, folder, seed, 0)
    try:
        yield process
    finally:
        end(process)


def start(what: str, folder: Path, seed: int, number: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.faults.readers", what, str(folder), str(seed)]
    return subprocess.Popen(
        [*command, str(number)], stdout=subprocess.PIPE, text=True, cwd=ROOT, bufsize=1
    )


def end(process: subprocess.Popen[str]) -> None:
    process.kill()
    with process:
        process.wait()


def expect_ready(process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    line = process.stdout.readline()
    if line != "ready\n":
        raise RuntimeError(f"a process said {line!r}, not that it is ready")


def result_of(process: subprocess.Popen[str]) -> dict[str, Any]:
    said, _ = process.communicate(timeout=600)
    lines = said.strip().splitlines()
    if process.returncode or not lines:
        return {"failures": [f"case 0: a process ended with {process.returncode}"], **_NOTHING}
    found: dict[str, Any] = json.loads(lines[-1])
    return found


_NOTHING: dict[str, Any] = {
    "answers": 0, "wrong": 0, "exceptions": 1, "refused": 0, "listings": 0, "gens": [],
    "idle": [], "busy": [],
}  # fmt: skip
WORKERS: dict[str, Callable[[Path, int, int], None]] = {
    "read": reading_process,
    "write": lambda folder, seed, _: writing_process(folder, seed),
}

CAMPAIGN = Campaign(
    "readers",
    "every answer is that of the generation it names; no exception",
    8,
    300,
    run,
    alone=True,
)

if __name__ == "__main__":
    what, folder, seed, number = sys.argv[1:]
    WORKERS[what](Path(folder), int(seed), int(number))
