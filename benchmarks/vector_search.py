"""Vector search: ours beside the indexes that users would pick instead, on the same vectors.

Each index is built in one process and opened in another, so that what it needs to serve can be
weighed. What can be tuned is tuned on half of the queries, to the fastest setting that finds 99 %
of the ten nearest; times and recall are of the other half, and the indexes take turns.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchmarks.driver import Fleet, System, fleet
from benchmarks.results import Result
from benchmarks.setting import Setting
from benchmarks.vector_data import QUERIES, Truth, make_vectors
from benchmarks.vector_report import OURS, RECALL, Outcome, result

_PLACE = "benchmarks.vector_peers."
SYSTEMS = (
    System(OURS, _PLACE + "ours", "Semsearch"),
    System("FAISS flat", _PLACE + "faiss_plain", "Flat"),
    System("FAISS HNSW", _PLACE + "faiss_plain", "Hnsw"),
    System("hnswlib", _PLACE + "hnsw_lib", "Hnswlib", environment="peers"),
    System("usearch", _PLACE + "u_search", "Usearch", environment="peers"),
    System("sqlite-vec", _PLACE + "sqlite_vec", "SqliteVec", environment="sqlite"),
    System("LanceDB", _PLACE + "lance", "Lance", environment="peers"),
    System("Chroma", _PLACE + "chroma", "Chroma", environment="peers"),
)

_ROUNDS = 5

Turn = tuple[list[int], float]
"""The queries that a system is asked in its turn, and the seconds after which it ends."""


@dataclass(frozen=True)
class Size:
    """How many vectors, how many queries to tune and to measure by, seconds a build may take.

    A system's turn ends after ``turn`` seconds: slow ones answer fewer queries.
    """

    rows: int
    queries: int
    limit: float
    turn: float


SMALL, FULL = Size(60_000, 100, 60.0, 2.0), Size(1_000_000, QUERIES // 2, 3_600.0, 5.0)


def run(setting: Setting) -> Result:
    size = FULL if setting.full else SMALL
    vectors, queries, dataset = make_vectors(setting, size.rows)
    truth = Truth(vectors, queries)
    given = {"vectors": str(vectors), "queries": str(queries)}

    def options(system: System) -> dict[str, str]:
        return {**given, "folder": str(setting.work / f"vectors-{system.name}")}

    asked = list(range(2 * size.queries))
    outcomes, failed = _build(setting, options, size.limit)
    systems = [system for system in SYSTEMS if system.name in outcomes]
    with fleet(systems, options, setting.work, limit=size.limit, note=setting.note) as loaded:
        for name, outcome in outcomes.items():
            setting.note(f"{name}: opening and tuning")
            _open(loaded, name, outcome, truth, (asked[::2], 4 * size.turn))
        setting.note("searching in turns")
        _search(loaded, outcomes, truth, (asked[1::2], size.turn))
    failed.update(loaded.failed)
    kept = {name: outcome for name, outcome in outcomes.items() if name not in failed}
    return result(kept, failed, {**dataset, "queries": size.queries})


def _build(
    setting: Setting, options: Callable[[System], dict[str, str]], limit: float
) -> tuple[dict[str, Outcome], dict[str, str]]:
    """Build each index in a process of its own; why others are out."""
    outcomes: dict[str, Outcome] = {}
    failed: dict[str, str] = {}
    for system in SYSTEMS:
        setting.note(f"{system.name}: building")
        shutil.rmtree(options(system)["folder"], ignore_errors=True)
        with fleet([system], options, setting.work, limit=limit) as alone:
            facts = alone.ask(system.name, "facts")
            built = alone.ask(system.name, "timed_build")
        if built is None:
            failed[system.name] = f"not built: {alone.failed[system.name]}"
            setting.note(f"{system.name}: {failed[system.name]}")
        else:
            outcomes[system.name] = Outcome(facts, built)
    return outcomes, failed


def _open(loaded: Fleet, name: str, outcome: Outcome, truth: Truth, turn: Turn) -> None:
    """Open an index, weigh it and tune it."""
    rows, seconds = turn
    opened = loaded.ask(name, "timed_open")
    if opened is None:
        return
    outcome.opened = opened
    outcome.facts = loaded.ask(name, "facts") or outcome.facts

    def measured(setting: int) -> float:
        loaded.ask(name, "choose_setting", {"setting": setting})
        answer = loaded.ask(name, "timed_search", {"rows": rows, "seconds": seconds})
        return truth.recall(rows, answer["found"]) if answer else 0.0

    outcome.setting, outcome.tried = tune(outcome.facts["settings"], measured)
    if outcome.setting is not None:
        loaded.ask(name, "choose_setting", {"setting": outcome.setting})


def tune(
    settings: Sequence[int], measured: Callable[[int], float]
) -> tuple[int | None, dict[int, float]]:
    """The first setting that reaches RECALL, else the best of all; and what was tried."""
    tried: dict[int, float] = {}
    for setting in settings:
        tried[setting] = measured(setting)
        if tried[setting] >= RECALL:
            return setting, tried
    return max(tried, key=lambda one: tried[one], default=None), tried


def _search(loaded: Fleet, outcomes: dict[str, Outcome], truth: Truth, turn: Turn) -> None:
    rows, seconds = turn
    one = {"rows": rows, "seconds": seconds}
    for name, turns in loaded.turns(_ROUNDS, "timed_search", lambda _: one).items():
        outcomes[name].turns = turns
        longest = max((turn.pop("found") for turn in turns), key=len)
        outcomes[name].recall = truth.recall(rows, longest)
    few = {"rows": rows[:50]}  # the slowest take a second for each
    for name, many in loaded.turns(_ROUNDS, "timed_many", lambda _: few).items():
        outcomes[name].many = many
