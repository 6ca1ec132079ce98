"""How good the default ranking is on every labelled set, beside its parts and what it was before.

The default is measured against the better of dense vectors and BM25 on the same queries, and
``tune`` on queries that it did not learn from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

import semsearch
from benchmarks.results import Goal, Result, Row
from benchmarks.setting import Setting
from benchmarks.texts import describe, stdlib_folder
from semsearch.errors import UsageError
from semsearch.evaluation import Comparison, compare
from semsearch.evaluation.columns import Interval
from semsearch.evaluation.comparison import SystemResult
from semsearch.evaluation.pipelines import Pipeline
from semsearch.evaluation.systems import System
from semsearch.evaluation.tuning import tune
from semsearch.evaluation.tuning.outcome import Tuned
from semsearch.evaluation.tuning.outcome import describe as settings_of
from semsearch.evaluation.tuning.run import tuning_split
from semsearch.metrics import PairedTest, paired_test
from semsearch.ranking.settings import DEFAULT_RANKING, Ranking
from semsearch.search.facade import Index

Values: TypeAlias = NDArray[np.float64]
"""One number for each query."""

MEASURE = "ndcg@10"
_SMALL = ("scifact", "faquad-pt")
_MORE = ("banking77", "cmrc2018-zh", "sinhala-squad")
_RESAMPLES = 2_000

DENSE, BM25, RRF, FUSED, DEFAULT, TUNED = (
    "dense",
    "BM25",
    "hybrid, RRF",
    "hybrid, fusion only",
    "hybrid + self (default)",
    "tuned",
)
_PLAIN_RRF = Ranking(fusion="rrf", dense_weight=0.5, rerank="none")
WAYS = {
    DENSE: Pipeline("dense", 0, exact=False),
    BM25: Pipeline("lexical", 0, exact=False),
    RRF: Pipeline("hybrid", 0, exact=False, ranking=_PLAIN_RRF),
    FUSED: Pipeline("hybrid", 0, exact=False, rerank="none", ranking=DEFAULT_RANKING),
    DEFAULT: Pipeline("hybrid", 0, exact=False, ranking=DEFAULT_RANKING),
}
"""What is measured, by its name in the table."""

NO_GAIN = PairedTest(0.0, 0.0, 0.0, 1.0)
"""Where tuning keeps the default."""


def run(setting: Setting) -> Result:
    folders = [stdlib_folder(setting.work)]
    names = _SMALL + _MORE if setting.full else _SMALL
    folders += [there for name in names if (there := setting.dataset(name))]
    result = Result(
        title="Rankings: the default beside its parts",
        dataset={folder.name: describe(folder) for folder in folders},
        notes=[
            "nDCG@10 of the default model, one default for all sets; [low, high]: 95 % bootstrap"
            " interval; p: paired randomisation test, not corrected for the number of sets. The"
            " better of dense and BM25 is the one that turned out better on the same queries,"
            " which favours it. RRF: equal weights, no reranking, as before. Tuned: what `tune`"
            " chooses on a split other than test, measured on test; where the labels support no"
            " gain that is the default. Where a set has only test, the table of tuning shows what"
            " was chosen on four fifths of at most 2,000 of its queries, measured on the rest."
        ],
    )
    gains: dict[str, list[Values]] = {"better of dense and BM25": [], RRF: []}
    for folder in folders:
        path, _ = setting.index_of(folder)
        with semsearch.open(path) as index:
            setting.note(f"ranking {folder.name}")
            found = _compared(index, folder)
            setting.note(f"tuning on {folder.name}")
            tuned = _tuned(index, folder)
            later = _later(index, folder, tuned)
        _report(result, folder.name, found, gains)
        _report_tuned(result, folder.name, found, tuned, later)
    _means(result, gains)
    return result


def _compared(index: Index, folder: Path, ways: Mapping[str, Pipeline] = WAYS) -> Comparison:
    systems = {name: System(name, index=index, pipeline=way) for name, way in ways.items()}
    return compare(systems, folder, split="test", measures=[MEASURE])


def _tuned(index: Index, folder: Path) -> Tuned:
    """Learnt from another split than test, or by cross-validation on test; nothing is stored."""
    try:
        split = tuning_split(folder)
    except UsageError:
        split = "test"
    return tune(index, folder, split=split, store=False)


def _later(index: Index, folder: Path, tuned: Tuned) -> Comparison | None:
    """What was tuned against the default on the test split; None where it was tuned on that."""
    if tuned.split == "test" or not tuned.supported:
        return None
    chosen = Pipeline("hybrid", 0, exact=False, ranking=tuned.chosen)
    return _compared(index, folder, {DEFAULT: WAYS[DEFAULT], TUNED: chosen})


def _report(result: Result, name: str, found: Comparison, gains: dict[str, list[Values]]) -> None:
    systems = {system.name: system for system in found.systems}
    for system in systems.values():
        result.rows.append(_row(name, found.queries, system.name, *_mean(system)))
    result.raw[name] = found.to_json(0)
    values = {way: values_of(system) for way, system in systems.items()}
    better = max((DENSE, BM25), key=lambda way: values[way].mean())
    differences = result.more.setdefault("The default against its better part", [])
    test = paired_test(values[DEFAULT], values[better])
    differences.append(
        {"dataset": name, "better part": better, **_tested(test), "verdict": verdict(test)}
    )
    gains["better of dense and BM25"].append(values[DEFAULT] - values[better])
    gains[RRF].append(values[DEFAULT] - values[RRF])
    what = f"{name}: default minus {better}, the better of dense and BM25"
    result.goals.append(Goal(what, ">= 0", test.difference, test.difference >= 0))


def _report_tuned(
    result: Result, name: str, found: Comparison, tuned: Tuned, later: Comparison | None
) -> None:
    """A row of the means and one of the gain, of queries that were not learnt from."""
    default = next(system for system in found.systems if system.name == DEFAULT)
    before, (mean, bounds) = default.metrics[MEASURE], _mean(default)
    test, held_out = NO_GAIN, f"{found.queries:,} of test"
    if tuned.split == "test":
        before, mean, test = tuned.default_mean, tuned.held_out_mean, tuned.gain
        held_out = f"{tuned.queries:,}, cross-validated"
    elif later is not None:
        first, second = later.systems
        mean, bounds = _mean(second)
        test = paired_test(values_of(second), values_of(first))
    if tuned.split != "test":  # means over other queries do not belong beside those above
        result.rows.append(_row(name, found.queries, TUNED, mean, bounds))
    row: Row = {"dataset": name, "learnt on": f"{tuned.queries:,} of {tuned.split}"}
    row |= {"held out": held_out, "default": f"{before:.3f}", "tuned": f"{mean:.3f}"}
    row |= _tested(test)
    row["chosen"] = settings_of(tuned.chosen) if tuned.supported else "the default"
    result.more.setdefault("Tuned", []).append(row)
    result.raw[f"{name}, tuned"] = tuned.to_json()


def _means(result: Result, gains: dict[str, list[Values]]) -> None:
    """The mean over the sets, each counting alike."""
    rows = result.more.setdefault("The default's mean gain over the sets, each counting alike", [])
    for what, differences in gains.items():
        mean, low, high = mean_of_sets(differences)
        rows.append({"over": what, "sets": len(differences), "gain": signed(mean),
                     "95 % interval": f"[{signed(low)}, {signed(high)}]"})  # fmt: skip
        result.goals.append(Goal(f"mean gain over {what}, lower bound", "> 0", low, low > 0))


def mean_of_sets(differences: Sequence[Values]) -> tuple[float, float, float]:
    """The mean of the sets' means with its 95 % interval: queries drawn anew within each set."""
    random = np.random.default_rng(0)
    means = np.zeros(_RESAMPLES)
    for values in differences:
        drawn = random.integers(0, len(values), (_RESAMPLES, len(values)))
        means += values[drawn].mean(axis=1) / len(differences)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(np.mean([values.mean() for values in differences])), float(low), float(high)


def verdict(test: PairedTest) -> str:
    """What the interval of a difference allows to say."""
    if test.low > 0:
        return "better"
    return "worse" if test.high < 0 else "no clear difference"


def values_of(system: SystemResult) -> Values:
    """A system's values, query by query."""
    return system.evaluation.per_query(MEASURE)


def _mean(system: SystemResult) -> tuple[float, Interval | None]:
    return system.metrics[MEASURE], system.intervals[MEASURE]


def _row(dataset: str, queries: int, way: str, mean: float, bounds: Interval | None) -> Row:
    shown = "-" if bounds is None else f"[{bounds[0]:.3f}, {bounds[1]:.3f}]"
    return {"dataset": dataset, "queries": queries, "ranking": way, MEASURE: f"{mean:.3f}",
            "95 % interval": shown}  # fmt: skip


def _tested(test: PairedTest) -> Row:
    interval = f"[{signed(test.low)}, {signed(test.high)}]"
    return {"difference": signed(test.difference), "95 % interval": interval, "p": f"{test.p:.4f}"}


def signed(value: float) -> str:
    return f"{value:+.4f}"
