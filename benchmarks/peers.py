"""Whole systems side by side: from texts in memory to an index, and from a question to an answer.

The same documents, weights and threads for all; every system in a process of its own, loaded and
warm before any clock runs, all taking turns.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.driver import Fleet, System, fleet, versions
from benchmarks.results import Result, Spread
from benchmarks.setting import MODEL, Setting
from benchmarks.texts import checksum
from semsearch.corpus import BeirDataset, read_corpus
from semsearch.encoders.resolve import resolve_model
from semsearch.metrics import evaluate_run
from semsearch.types import Qrels

K = 10
_SMALL_DOCUMENTS, _SMALL_QUERIES = 64, 30
_ROUNDS, _TURNS = 2, 5
_WARM = 5
_YARDSTICK = "sentence-transformers, semantic_search"

SYSTEMS = (
    System("semsearch, hybrid (default)", "ours", "Index", {"mode": "hybrid"}),
    System("semsearch, dense", "ours", "Index", {"mode": "dense"}),
    System(_YARDSTICK, "sentence_transformers", "SemanticSearch"),
    System("txtai, dense", "txtai", "Embeddings", {}, "peers"),
    System("txtai, hybrid", "txtai", "Embeddings", {"hybrid": True}, "peers"),
    System("Chroma", "chroma", "Collection", {}, "peers"),
    System("LanceDB, dense", "lance", "Table", {}, "peers"),
    System("LanceDB, hybrid", "lance", "Table", {"hybrid": True}, "peers"),
)

Answers = dict[str, list[dict[str, Any]]]


class Task(NamedTuple):
    """Documents by id, questions by id, and which documents answer them."""

    documents: dict[str, str]
    queries: dict[str, str]
    qrels: Qrels


def run(setting: Setting) -> Result:
    dataset = setting.main_dataset()
    task = _task(dataset, setting.full)
    setting.convert_model()
    model, home = str(resolve_model(MODEL)), setting.work / "peers"
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir()

    def options(system: System) -> dict[str, str]:
        return {"model": model, "folder": str(_folder(home, system.name))}

    with fleet(SYSTEMS, options, setting.work, note=setting.note) as systems:
        setting.note(f"indexing {len(task.documents):,} documents in {_ROUNDS} rounds")
        corpus = _written(home / "documents.json", task.documents)
        indexed = systems.turns(_ROUNDS, "timed_index", lambda _: {"corpus": corpus})
        disk = {name: _size(_folder(home, name)) for name in indexed}
        setting.note(f"asking {len(task.queries)} questions, one at a time")
        asked = _ask(systems, home, list(task.queries.values()))
        facts = {name: systems.ask(name, "facts") for name in asked}
    result = Result(
        title="Whole systems",
        dataset={
            "name": dataset.name,
            "documents": len(task.documents),
            "queries": len(task.queries),
            "documents_sha256": checksum(task.documents.values()),
            "queries_sha256": checksum(task.queries.values()),
        },
        notes=[
            f"{len(task.documents):,} documents and {len(task.queries)} questions of"
            f" {dataset.name}; index seconds are from texts in memory to the first answer,"
            f" {_ROUNDS} rounds in turns, medians with lowest and highest; questions one at a time,"
            f" {K} documents each, in {_TURNS} turns. Every system is warm and has its own process."
        ],
        raw={"index": indexed, "search": asked, "facts": facts, "failed": systems.failed},
    )
    for name in (system.name for system in SYSTEMS if system.name in systems.running):
        _add(result, task, name, indexed, asked, disk)
    result.notes += [*versions(facts), *systems.reasons()]
    if not setting.full:
        result.notes.append(
            "nDCG@10 is of a small part of the documents, which makes the questions easier."
        )
    shutil.rmtree(home)
    return result


def _task(dataset: Path, full: bool) -> Task:
    """All of a labelled set; small: some questions, what answers them, and documents around."""
    labelled = BeirDataset.open(dataset)
    corpus = {d.id: d.content for d in read_corpus(labelled.require_corpus())}
    queries = dict(labelled.queries)
    if not full:
        queries = dict(islice(queries.items(), _SMALL_QUERIES))
        answers = [id for query in queries for id in labelled.qrels[query] if id in corpus]
        chosen = list(dict.fromkeys([*answers, *corpus]))[:_SMALL_DOCUMENTS]
        corpus = {id: corpus[id] for id in sorted(chosen)}
    judged = {query: labelled.qrels[query] for query in queries}
    return Task(corpus, queries, judged)


def _ask(systems: Fleet, home: Path, texts: Sequence[str]) -> Answers:
    """Answers to every question, in turns of some questions each, after a few to warm up."""
    warm = _written(home / "warm.json", list(texts[-_WARM:]))
    systems.turns(1, "timed_search", lambda _: {"queries": warm, "k": K})
    parts = [part.tolist() for part in np.array_split(np.array(texts, object), _TURNS)]
    files = [_written(home / f"q{number}.json", part) for number, part in enumerate(parts)]
    asked: Answers = {name: [] for name in systems.running}
    for file in files:
        now = systems.turns(1, "timed_search", lambda _, file=file: {"queries": file, "k": K})
        asked = {name: [*asked[name], *found] for name, found in now.items()}
    return asked


def _add(
    result: Result,
    task: Task,
    name: str,
    indexed: Answers,
    asked: Answers,
    disk: dict[str, int],
) -> None:
    """A system's line in the table of speed and in that of quality."""
    seconds = [answer["seconds"] for answer in indexed[name]]
    yardstick = [answer["seconds"] for answer in indexed.get(_YARDSTICK, [])]
    times = [a / b for a, b in zip(yardstick, seconds, strict=False)]
    p50, p99 = np.percentile([ms for a in asked[name] for ms in a["ms"]], [50, 99]).tolist()
    result.rows.append(
        {
            "system": name,
            "index s": str(Spread.of(seconds)),
            "times as fast": str(Spread.of(times)) if times else None,
            "disk MiB": disk[name] / 2**20 or None,
            "p50 ms": p50,
            "p99 ms": p99,
        }
    )
    found = [ids for answer in asked[name] for ids in answer["found"]]
    quality = result.more.setdefault("Quality", [])
    quality.append({"system": name, "ndcg@10": f"{_ndcg(task, found):.3f}"})


def _ndcg(task: Task, found: Sequence[Sequence[str]]) -> float:
    run = {
        query: {id: 1.0 / rank for rank, id in enumerate(ids, start=1)}
        for query, ids in zip(task.queries, found, strict=True)
    }
    return evaluate_run(task.qrels, run, [f"ndcg@{K}"]).means()[f"ndcg@{K}"]


def _folder(home: Path, name: str) -> Path:
    return home / "".join(letter if letter.isalnum() else "-" for letter in name)


def _size(folder: Path) -> int:
    """Bytes of a folder's files."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _written(path: Path, what: Any) -> str:
    path.write_text(json.dumps(what), encoding="utf-8")
    return str(path)
