"""Hostile input of every kind: taken, or refused in one line; nothing else happens.

The cases run in worker processes with little memory and a watch: what takes more than ``SECONDS``
of the processor, or the whole process, is a failure that names its case.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.faults.campaign import Campaign, Outcome
from tests.faults.fuzz_worker import target_of

SECONDS = 5.0
WAITING = 60.0
"""Seconds of the clock after which a case hangs that does not use the processor."""

WORKERS = 2


class Worker:
    """One process at a time, which is started anew for the cases behind one that ended it."""

    def __init__(self, seed: int, cases: list[int], folder: Path, outcome: Outcome) -> None:
        self.seed = seed
        self.cases = cases
        self.folder = folder
        self.outcome = outcome
        self.lock = threading.Lock()
        self.current: int | None = None
        self.began = (0.0, 0.0)
        self.process: subprocess.Popen[str] | None = None
        self.thread = threading.Thread(target=self.work)
        self.thread.start()

    def work(self) -> None:
        """All cases, in as many processes as it takes."""
        while self.cases:
            with tempfile.TemporaryDirectory(dir=self.folder, ignore_cleanup_errors=True) as place:
                self._process(place)
            lost = self.current
            if lost is not None:
                name = target_of(self.seed, lost)[0]
                code = self.process.returncode if self.process else 0
                self._fail(lost, name, f"it hung, or the process ended ({code})")
                self.cases = self.cases[self.cases.index(lost) + 1 :]
                self.current = None
            elif self.process is not None and self.process.returncode:
                self._fail(-1, "worker", f"ended with {self.process.returncode}")
                return

    def _process(self, place: str) -> None:
        environment = os.environ | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
        with open(self.folder / f"log-{id(self)}", "w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.faults.fuzz_worker"],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True,
                env=environment,
            )  # fmt: skip
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        asked = {"seed": self.seed, "folder": f"{place}/worker", "cases": self.cases}
        self.process.stdin.write(json.dumps(asked) + "\n")
        self.process.stdin.close()
        done = 0
        for line in self.process.stdout:
            done += self._take(json.loads(line))
        self.process.stdout.close()
        self.process.wait()
        if self.current is None:
            self.cases = self.cases[done:]

    def _take(self, said: list[Any]) -> int:
        if len(said) == 1:
            self.began = (self.processor(), time.monotonic())
            self.current = said[0]
            return 0
        case, name, verdict = said
        self.current = None
        with self.lock:
            self.outcome.highest("seconds", round(self.processor() - self.began[0], 2))
        if verdict.startswith("wrong: "):
            self._fail(case, name, verdict.removeprefix("wrong: "))
        else:
            self._count(f"{name} {verdict}")
        return 1

    def _fail(self, case: int, name: str, what: str) -> None:
        self._count(f"{name} failed")
        with self.lock:
            self.outcome.failures.append(f"case {case}: {name}: {what}")

    def _count(self, name: str) -> None:
        with self.lock:
            self.outcome.count(name)

    def processor(self) -> float:
        """Seconds of the processor that the process has used."""
        try:
            fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()  # type: ignore[union-attr]
        except (OSError, AttributeError):
            return self.began[0]
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def watch(self) -> None:
        """End the process if its case takes too long."""
        case, (used, at) = self.current, self.began
        if case is None or self.process is None:
            return
        over = self.processor() - used > SECONDS or time.monotonic() - at > WAITING
        if over and self.current == case:
            self.process.kill()


def run(seed: int, cases: Sequence[int], folder: Path) -> Outcome:
    """The cases, in turns on ``WORKERS`` processes."""
    outcome = Outcome(len(cases))
    lock = threading.Lock()
    workers = []
    for number in range(min(WORKERS, len(cases))):
        place = folder / f"w{number}"
        place.mkdir()
        worker = Worker(seed, list(cases)[number::WORKERS], place, outcome)
        worker.lock = lock
        workers.append(worker)
    while any(worker.thread.is_alive() for worker in workers):
        for worker in workers:
            worker.watch()
        time.sleep(0.2)
    for worker in workers:
        worker.thread.join()
    outcome.failures.sort(key=lambda line: int(line.split()[1].rstrip(":")))
    outcome.figures = dict(sorted(outcome.figures.items()))
    return outcome


CAMPAIGN = Campaign(
    "fuzz",
    f"success or one line; 0 other errors, 0 over {SECONDS:.0f} s, 0 files elsewhere changed",
    push=10_000,
    full=200_000,
    run=run,
)
