"""Errors of the disk at every call: full, over the quota, failing, short writes, too many files.

``injection`` says what fails and what must not happen then; ``full_disk`` does the same with a real
disk that fills up.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tests.faults import full_disk, power
from tests.faults.campaign import Campaign, Outcome
from tests.faults.injection import KINDS_OF_CASE, Ground, chosen, complaints
from tests.faults.worker import IoWorker


def run(seed: int, cases: Sequence[int], folder: Path) -> Outcome:
    """Calls fail, each in its own copy of an index."""
    outcome = Outcome(len(cases), {"failed calls": 0, "errors": 0, "went on": 0})
    with IoWorker() as worker, power.small():
        ground = Ground(worker, folder, seed)
        plan = ground.plan()
        outcome.figures["calls that can fail"] = sum(map(len, plan))
        for case in cases:
            injection = chosen(plan, seed, case)
            root = ground.fresh(injection)
            told = ground.inject(injection, root)
            outcome.count("failed calls", min(1, told["faults"]))
            outcome.count(KINDS_OF_CASE[injection.job])
            is_error = bool(told["error"]) or told["code"] != 0
            outcome.count("errors" if is_error else "went on")
            for line in complaints(ground, injection, told, root):
                outcome.failures.append(f"case {case}: {injection} ({told['described']}): {line}")
    return outcome


CAMPAIGNS = (
    Campaign(
        "errors", "0 failures: clean errors, nothing lost, nothing left, no leaks", 120, 2500, run
    ),
    full_disk.CAMPAIGN,
)
