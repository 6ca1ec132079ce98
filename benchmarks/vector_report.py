"""What was found of each vector index, as tables and goals."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from benchmarks.results import Goal, Result, Row, Spread
from benchmarks.vector_peers.contract import K

OURS = "semsearch"
RECALL = 0.99
GOALS = {"p50 ms": 4.0, "p99 ms": 8.0, "RAM bytes a vector": 56.0}
OPEN_SECONDS, INDEX_SECONDS = 0.1, 5.0


@dataclass
class Outcome:
    """What was found of one system. ``tried`` maps settings to recall on the tuning queries."""

    facts: dict[str, Any]
    built: dict[str, Any]
    opened: dict[str, Any] = field(default_factory=dict)
    tried: dict[int, float] = field(default_factory=dict)
    setting: int | None = None
    recall: float = 0.0
    turns: list[dict[str, Any]] = field(default_factory=list)
    many: list[dict[str, Any]] = field(default_factory=list)


def result(outcomes: dict[str, Outcome], failed: dict[str, str], dataset: dict[str, Any]) -> Result:
    """The tables, the goals for ours, and the raw numbers."""
    found = Result(
        title=f"Vector search over {dataset['vectors']:,} x {dataset['dims']}",
        dataset=dataset,
        rows=[
            _speed(name, outcome, outcomes, dataset["vectors"])
            for name, outcome in outcomes.items()
        ],
        more={"Quality": [_quality(name, outcome) for name, outcome in outcomes.items()]},
        notes=list(_NOTES),
        raw={name: vars(outcome) for name, outcome in outcomes.items()},
    )
    if failed:
        found.more["Left out"] = [{"system": n, "reason": reason} for n, reason in failed.items()]
    if OURS in outcomes:
        ours = outcomes[OURS]
        found.goals = _goals(ours, next(row for row in found.rows if row["system"] == OURS))
        found.notes.append(
            "Building ours: "
            + ", ".join(f"{what} {ours.built[key]:.1f} s" for what, key in _PARTS.items())
            + f". Its own tuning: {ours.facts['built']}."
        )
    return found


_PARTS = {"storing": "store_s", "rotating": "rotate_s", "the index": "index_s"}
_NOTES = (
    "Vectors are static embeddings distilled from the default model, of random windows of real"
    " texts; queries are real ones. Each system on the same threads, in turns, in its own process,"
    " every file in the system's cache; queries one at a time, or all in one call (the last"
    " column). Build: from vectors in a file to an index that is whole on disk. RAM: anonymous"
    " memory that opening the index and some queries added; mapped: pages of its files that were"
    " touched, which the system may drop. First answer: opening included.",
    "Recall is against exact search at full width. What can be tuned was tuned on as many other"
    f" queries, to the fastest setting with a recall@{K} of {RECALL}.",
)


def _times(outcome: Outcome) -> list[float]:
    return [one for turn in outcome.turns for one in turn["ms"]]


def _speed(name: str, outcome: Outcome, outcomes: dict[str, Outcome], rows: int) -> Row:
    p50, p99 = np.percentile(_times(outcome), [50, 99]).tolist()
    medians = [statistics.median(turn["ms"]) for turn in outcome.turns]
    row: Row = {
        "system": name,
        "build s": outcome.built["seconds"],
        "disk bytes a vector": outcome.built["disk"] / rows,
        "RAM bytes a vector": outcome.opened["anonymous"] / rows,
        "mapped": outcome.opened["mapped"] / rows,
        "first answer s": outcome.opened["first_answer_s"],
        "p50 ms": p50,
        "p99 ms": p99,
        "p50 times ours": None,
        "queries/s": statistics.median(many["rate"] for many in outcome.many),
    }
    if OURS in outcomes:
        ours = [statistics.median(turn["ms"]) for turn in outcomes[OURS].turns]
        row["p50 times ours"] = str(Spread.of([a / b for a, b in zip(medians, ours, strict=True)]))
    return row


def _quality(name: str, outcome: Outcome) -> Row:
    timed = max(len(turn["ms"]) for turn in outcome.turns)
    return {
        "system": name,
        "kind": f"{outcome.facts['kind']} ({outcome.facts['version']})",
        "setting": outcome.setting,
        f"recall@{K}": outcome.recall,
        "queries": timed,
    }


def _goals(ours: Outcome, row: Row) -> list[Goal]:
    goals = [Goal(f"recall@{K}", f">= {RECALL}", ours.recall, ours.recall >= RECALL)]
    for what, limit in GOALS.items():
        value = float(row[what] or 0.0)
        goals.append(Goal(what, f"<= {limit:g}", value, value <= limit))
    for what, taken, limit in (
        ("seconds to open the index", ours.opened["open_s"], OPEN_SECONDS),
        ("seconds to build the index over stored vectors", ours.built["index_s"], INDEX_SECONDS),
    ):
        goals.append(Goal(what, f"<= {limit:g}", taken, taken <= limit))
    return goals
