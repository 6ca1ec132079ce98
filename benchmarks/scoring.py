"""What numbers cost once the rankings are there: measures, intervals, tests, reading a run file."""

from __future__ import annotations

import time
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import numpy as np

from benchmarks.results import Goal, Result, Row, Spread
from benchmarks.setting import Setting
from semsearch.corpus import read_run, write_run
from semsearch.metrics import (
    DEFAULT_MEASURES,
    bootstrap_interval,
    bootstrap_intervals,
    evaluate_run,
    paired_test,
)
from semsearch.types import Qrels, Run

QUERIES, HITS, JUDGED, RELEVANT = 1_000, 1_000, 30, 20
RESAMPLES = 10_000
_DOCUMENTS = 100_000
_SEED = 17


def run(setting: Setting) -> Result:
    """Time each step alone on made-up rankings; the goals are those of the design."""
    qrels, ranking = made_up()
    path = setting.work / "scoring.trec"
    write_run(path, ranking)
    found = evaluate_run(qrels, ranking)
    ours = found.per_query("ndcg@10")
    theirs = np.clip(ours + np.random.default_rng(_SEED).normal(0, 0.05, QUERIES), 0, 1)
    steps: dict[str, Callable[[], Any]] = {
        f"score {QUERIES:,} queries x {HITS:,} hits, {len(DEFAULT_MEASURES)} measures": (
            lambda: evaluate_run(qrels, ranking)
        ),
        f"interval of one mean, {RESAMPLES:,} resamples": lambda: bootstrap_interval(ours),
        f"intervals of {len(DEFAULT_MEASURES)} means on the same resamples": (
            lambda: bootstrap_intervals(found.values)
        ),
        f"difference of two runs: {RESAMPLES:,} resamples and {RESAMPLES:,} exchanges": (
            lambda: paired_test(ours, theirs)
        ),
        f"read a run file of {QUERIES * HITS:,} lines": lambda: read_run(path),
    }
    if find_spec("pytrec_eval"):
        steps["pytrec_eval, the same measures and hits"] = lambda: _pytrec_eval(qrels, ranking)
    times = {name: _time(step, 7 if setting.full else 3) for name, step in steps.items()}
    spreads = {name: Spread.of(values) for name, values in times.items()}
    rows: list[Row] = [{"step": name, "seconds": str(spread)} for name, spread in spreads.items()]
    scored, sampled = list(spreads.values())[:2]
    return Result(
        title="Scoring and statistics",
        dataset={"made up": f"{QUERIES:,} queries, {JUDGED} judgements each, seed {_SEED}"},
        rows=rows,
        goals=[
            Goal("scoring, seconds", "<= 1", scored.median, scored.median <= 1),
            Goal("bootstrap, seconds", "<= 1", sampled.median, sampled.median <= 1),
        ],
        notes=["Median and range of a step alone, after one that was not counted."],
        raw=times,
    )


def made_up() -> tuple[Qrels, Run]:
    """Judgements and a ranking of random documents; some of the judged ones are not in it."""
    random = np.random.default_rng(_SEED)
    ids = [f"doc{number:06}" for number in range(_DOCUMENTS)]
    qrels: Qrels = {}
    ranking: Run = {}
    for number in range(QUERIES):
        drawn = random.choice(_DOCUMENTS, HITS + JUDGED - RELEVANT, replace=False)
        hits, others = drawn[:HITS], drawn[HITS:]
        scores = random.random(HITS).tolist()
        ranking[f"q{number}"] = dict(zip((ids[d] for d in hits), scores, strict=True))
        judged = [*random.choice(hits, RELEVANT, replace=False), *others]
        grades = random.integers(0, 4, JUDGED).tolist()
        qrels[f"q{number}"] = dict(zip((ids[d] for d in judged), grades, strict=True))
    return qrels, ranking


def _pytrec_eval(qrels: Qrels, ranking: Run) -> Any:
    import pytrec_eval

    depths = "1,3,5,10"
    measures = {f"{name}.{depths}" for name in ("success", "P", "recall")}
    measures |= {"recip_rank", "ndcg_cut.10", "map_cut.100", "recall.100"}
    return pytrec_eval.RelevanceEvaluator(qrels, measures).evaluate(ranking)


def _time(step: Callable[[], Any], rounds: int) -> list[float]:
    step()
    times = []
    for _ in range(rounds):
        began = time.perf_counter()
        step()
        times.append(time.perf_counter() - began)
    return times
