"""Gates: what an evaluation must reach, and how far it may fall behind an earlier one."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from semsearch.corpus import BeirDataset, read_run
from semsearch.corpus.text import first_bytes
from semsearch.errors import InputError, UsageError
from semsearch.evaluation.columns import Interval, p_is, signed, signed_bounds
from semsearch.evaluation.labelled import asked_qrels, check_ids
from semsearch.evaluation.measure import Measuring
from semsearch.evaluation.report import MAIN_MEASURE
from semsearch.metrics import Evaluation, Measure, bootstrap_interval, paired_test

_EQUAL = 1e-12
"""Means that should be equal may differ in their last bits."""


class Limit(NamedTuple):
    """A measure and a number: the least it must be, or the most it may fall."""

    measure: str
    value: float


def parse_gate(text: str) -> Limit:
    """Read ``MEASURE=VALUE`` such as ``ndcg@10=0.60``. Raises UsageError."""
    measure, _, value = text.partition("=")
    wanted = _number(value)
    if not 0 <= wanted <= 1:
        raise UsageError(f"{text!r} is not a gate such as {MAIN_MEASURE}=0.60, between 0 and 1")
    return Limit(str(Measure.parse(measure)), wanted)


def parse_drop(text: str) -> Limit:
    """Read ``[MEASURE=]VALUE`` such as ``0.01``, by default of ndcg@10. Raises UsageError."""
    measure, given, value = text.rpartition("=")
    most = _number(value)
    if not 0 <= most <= 1:
        raise UsageError(f"{text!r} is not a drop such as 0.01 or mrr@10=0.01, between 0 and 1")
    return Limit(str(Measure.parse(measure if given else MAIN_MEASURE)), most)


@dataclass(frozen=True, slots=True)
class GateResult:
    """One gate and what became of it.

    A gate on the value has ``baseline`` None and passes when ``value`` is at least ``wanted``. One
    on the drop passes when ``baseline - value`` is at most ``wanted``, whatever chance may have to
    do with it; ``difference`` is ``value - baseline``. ``interval`` is the 95 % interval of the
    value, or of the difference; that and ``p`` are None where the baseline's values per query are
    not known. ``system`` is who did it, where there are several.
    """

    measure: str
    value: float
    wanted: float
    passed: bool
    baseline: float | None = None
    interval: Interval | None = None
    p: float | None = None
    system: str | None = None

    @property
    def difference(self) -> float | None:
        """Value minus baseline."""
        return None if self.baseline is None else self.value - self.baseline

    def to_json(self) -> dict[str, Any]:
        """The gate as plain JSON values."""
        named = {} if self.system is None else {"system": self.system}
        shared = {**named, "measure": self.measure, "value": self.value, "passed": self.passed}
        interval = None if self.interval is None else list(self.interval)
        if self.baseline is None:
            return {**shared, "at_least": self.wanted, "interval": interval}
        return {
            **shared,
            "baseline": self.baseline,
            "max_drop": self.wanted,
            "difference": self.difference,
            "interval": interval,
            "p": self.p,
        }

    def __str__(self) -> str:
        """What was measured and what was wanted."""
        who = "" if self.system is None else f"{self.system}: "
        if self.difference is None:
            shown = "" if self.interval is None else " [{:.4f}, {:.4f}]".format(*self.interval)
            return f"{who}{self.measure} is {self.value:.4f}{shown}, wanted {self.wanted:g} or more"
        chance = "" if self.p is None else f", {p_is(self.p)}"
        return (
            f"{who}{self.measure} is {self.value:.4f}, {signed(self.difference, 4)}"
            f"{signed_bounds(self.interval, 4)} against {self.baseline:.4f}{chance};"
            f" wanted a drop of {self.wanted:g} or less"
        )


def check_gate(limit: Limit, evaluation: Evaluation) -> GateResult:
    """Whether the mean reaches the limit."""
    values = evaluation.per_query(limit.measure)
    value = float(values.mean())
    passed = value >= limit.value - _EQUAL
    interval = bootstrap_interval(values)
    return GateResult(limit.measure, value, limit.value, passed, interval=interval)


class Baseline(NamedTuple):
    """What an earlier run or evaluation was worth; ``evaluation`` is None where only means are."""

    means: Mapping[str, float]
    evaluation: Evaluation | None = None


def open_baseline(path: str | Path, dataset: BeirDataset, measuring: Measuring) -> Baseline:
    """Read what to compare with: a run file, or what ``evaluate --json`` printed earlier.

    Of such a JSON its first row counts, and no interval can be given. Raises InputError for a file
    that is neither, or that belongs to other queries.
    """
    if first_bytes(path).lstrip().startswith(b"{"):
        return Baseline(_means_of(Path(path), dataset))
    run = read_run(path)
    check_ids(dataset, run, str(path))
    found = measuring.judge(asked_qrels(dataset), run)
    return Baseline(found.means(), found)


def _means_of(path: Path, dataset: BeirDataset) -> dict[str, float]:
    measured = sum(max(grades.values(), default=0) >= 1 for grades in asked_qrels(dataset).values())
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
        means = {name: float(mean) for name, mean in report["results"][0]["metrics"].items()}
        queries = report["queries"]
    except (ValueError, LookupError, TypeError, AttributeError) as exc:
        message = "neither a run file nor what `semsearch evaluate --json` prints"
        raise InputError(message, path) from exc
    if queries != measured:
        raise InputError(f"measured on {queries} queries, and here are {measured}", path)
    return means


def check_drop(
    limit: Limit, evaluation: Evaluation, baseline: Baseline, system: str | None = None
) -> GateResult:
    """Whether the mean falls behind the baseline's by no more than the limit.

    Raises UsageError when the baseline does not have the measure.
    """
    ours = evaluation.per_query(limit.measure)
    value = float(ours.mean())
    if baseline.evaluation is not None:
        theirs = baseline.evaluation.per_query(limit.measure)
        before = float(theirs.mean())
        test = paired_test(ours, theirs)
        interval, p = (test.low, test.high), test.p
    else:
        wanted = Measure.parse(limit.measure)
        found = {Measure.parse(name): mean for name, mean in baseline.means.items()}
        if wanted not in found:
            there = ", ".join(baseline.means)
            raise UsageError(f"the baseline has no {limit.measure}: there is {there}")
        before, interval, p = found[wanted], None, None
    passed = before - value <= limit.value + _EQUAL
    return GateResult(limit.measure, value, limit.value, passed, before, interval, p, system)


def failures(gates: Sequence[GateResult]) -> str | None:
    """One line that says what failed; None when nothing did."""
    failed = [str(gate) for gate in gates if not gate.passed]
    return f"gate failed: {'; '.join(failed)}" if failed else None


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
