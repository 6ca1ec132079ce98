"""A million and ten million vectors: build, open and search our index over them.

The vectors are made from the same texts as those of ``vector_search`` and stored through the real
writer; recall is against a scan of every stored row.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks import static_vectors
from benchmarks.driver import Fleet, System, fleet
from benchmarks.results import Goal, Result, Row, Spread, number
from benchmarks.setting import MODEL, Setting
from benchmarks.vector_data import questions
from semsearch.corpus import read_corpus
from semsearch.encoders import open_encoder
from semsearch.vectors import fit_rotation, unit

if TYPE_CHECKING:
    from semsearch.types import Floats

QUERIES = 300
_ROUNDS, _SECONDS, _LIMIT = 5, 20.0, 7_200.0
_FITTED_ON = 50_000
_TIE = 1e-6


@dataclass(frozen=True)
class Case:
    """How many vectors of how many dimensions, the recall asked for, and what is promised."""

    rows: int
    dims: int
    recall: float
    p50: float
    p99: float
    bytes_a_vector: float
    build: float
    open: float


MILLION = Case(1_000_000, 384, 0.99, 4, 8, 56, 5, 0.1)
TEN_MILLION = Case(10_000_000, 256, 0.95, 10, 50, 60, 600, 1)
SMALL = Case(100_000, 256, 0.95, 4, 8, 200, 5, 0.1)


@dataclass
class Outcome:
    """What was timed and weighed; ``lowest`` is the true score of each query's tenth."""

    case: Case
    built: dict[str, Any]
    opened: dict[str, Any]
    record: dict[str, Any]
    turns: list[dict[str, Any]]
    lowest: Floats

    @property
    def recall(self) -> float:
        scores = np.array(max((turn["scores"] for turn in self.turns), key=len), np.float32)
        return float((scores >= self.lowest[: len(scores), None] - _TIE).mean())

    def percentile(self, share: int) -> Spread:
        return Spread.of([float(np.percentile(turn["ms"], share)) for turn in self.turns])


def run(setting: Setting) -> Result:
    dataset = setting.main_dataset()
    texts = [document.content for document in read_corpus(dataset / "corpus.jsonl")]
    stream = static_vectors.token_stream(open_encoder(MODEL), texts)
    np.save(setting.work / "large-stream.npy", stream)
    model = static_vectors.distil(MODEL, stream, setting.work / "static")
    asked = model.encode(questions(dataset)[:QUERIES])
    sample = np.concatenate(list(static_vectors.blocks(model, stream, _FITTED_ON)))
    rotation = fit_rotation([sample], sample.shape[1])
    outcomes = []
    for case in (MILLION, TEN_MILLION) if setting.full else (SMALL,):
        np.save(setting.work / "large-rotation.npy", rotation[:, : case.dims])
        np.save(setting.work / "large-queries.npy", unit(asked @ rotation[:, : case.dims]))
        outcomes.append(_measure(setting, case))
    facts = {
        "name": f"static vectors of windows of {dataset.name}, rotated and cut",
        "tokens": len(stream),
        "tokens_sha256": static_vectors.checksum(stream),
    }
    return _result(outcomes, facts)


def _measure(setting: Setting, case: Case) -> Outcome:
    folder = setting.work / f"large-{case.rows}.idx"
    shutil.rmtree(folder, ignore_errors=True)
    system = System("semsearch", "benchmarks.vector_peers.generated", "Generated")

    def options(_: System) -> dict[str, Any]:
        given = {"folder": str(folder), "work": str(setting.work), "model": MODEL}
        return {**given, "rows": case.rows, "recall": case.recall}

    setting.note(f"storing and building {case.rows:,} x {case.dims}")
    with fleet([system], options, setting.work, limit=_LIMIT) as alone:
        built = _answer(alone, "timed_build", {})
    with fleet([system], options, setting.work, limit=_LIMIT) as alone:
        opened = _answer(alone, "timed_open", {})
        record = _answer(alone, "record", {})
        setting.note("searching")
        asked = {"rows": list(range(QUERIES)), "seconds": _SECONDS}
        turns = [_answer(alone, "timed_search", asked) for _ in range(_ROUNDS)]
    shutil.rmtree(folder)
    lowest = np.array(built.pop("lowest"), np.float32)
    return Outcome(case, built, opened, record, turns, lowest)


def _answer(alone: Fleet, command: str, arguments: dict[str, Any]) -> dict[str, Any]:
    answer: dict[str, Any] | None = alone.ask("semsearch", command, arguments)
    if answer is None:
        raise RuntimeError(alone.failed["semsearch"])
    return answer


def _result(outcomes: list[Outcome], dataset: dict[str, Any]) -> Result:
    return Result(
        title="Large collections of vectors",
        dataset=dataset,
        rows=[_row(outcome) for outcome in outcomes],
        goals=[goal for outcome in outcomes for goal in _goals(outcome)],
        notes=[
            f"{QUERIES} real queries, {_ROUNDS} rounds, one at a time, warm; recall against a scan"
            " of every stored row. Building holds training, adding, choosing the settings and"
            " measuring the recall at three widths, not the writing of the stored vectors."
            " The vectors are of random windows of 6 to 48 tokens, which overlap.",
            *(_note(outcome) for outcome in outcomes),
        ],
        raw={str(outcome.case.rows): _raw(outcome) for outcome in outcomes},
    )


def _row(outcome: Outcome) -> Row:
    case, index = outcome.case, outcome.record["index"]
    return {
        "vectors": f"{case.rows:,} x {case.dims}",
        "p50 ms": str(outcome.percentile(50)),
        "p99 ms": str(outcome.percentile(99)),
        "recall@10": outcome.recall,
        "own RAM, bytes a vector": outcome.opened["anonymous"] / case.rows,
        "build s": outcome.built["index_s"],
        "open s": outcome.opened["open_s"],
        "lists visited": f"{index['nprobe']} of {index['kind']}",
        "candidates": index["candidates"],
    }


def _goals(outcome: Outcome) -> list[Goal]:
    case = outcome.case
    memory = outcome.opened["anonymous"] / case.rows
    most = {
        "p50 ms": (outcome.percentile(50).median, case.p50),
        "p99 ms": (outcome.percentile(99).median, case.p99),
        "bytes of own RAM a vector": (memory, case.bytes_a_vector),
        "seconds to build": (outcome.built["index_s"], case.build),
        "seconds to open": (outcome.opened["open_s"], case.open),
    }
    goals = [
        Goal(f"{case.rows:,} vectors, {what}", f"<= {limit}", value, value <= limit)
        for what, (value, limit) in most.items()
    ]
    recall, wanted = outcome.recall, case.recall
    what = f"{case.rows:,} vectors, recall@10"
    return [*goals, Goal(what, f">= {wanted}", recall, recall >= wanted)]


def _note(outcome: Outcome) -> str:
    built = outcome.built
    return (
        f"{outcome.case.rows:,}: writing the stored vectors (with making and scanning them) took"
        f" {number(built['store_s'])} s, {number(built['disk'] / 1e9)} GB on disk; the index's own"
        f" measurement of its recall is {number(outcome.record['index']['recall'])}."
    )


def _raw(outcome: Outcome) -> dict[str, Any]:
    ms = [turn["ms"] for turn in outcome.turns]
    return {"built": outcome.built, "opened": outcome.opened, "record": outcome.record, "ms": ms}
