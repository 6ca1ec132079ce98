"""A real disk that fills up: a file system of its own, with so much space left and no more.

Where this process may not mount one, no file may grow beyond a limit instead (RLIMIT_FSIZE).
"""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from tests.faults import power
from tests.faults.campaign import Campaign, Outcome
from tests.faults.injection import Fault, Ground, Injection, complaints
from tests.faults.io_worker import STEPS
from tests.faults.worker import IoWorker

PAGE = 4096
MOST_PAGES = 48
_NAMES = (
    "put", "compact", "swap", "backup", "lexical", "cache", "fill", "merge", "rotate", "shrink",
    "refill", "replace", "restore", "delete", "note",
)  # fmt: skip
_FULL = Fault("disk", 0, (errno.ENOSPC,))
_LIMIT = Fault("limit", 0, (errno.EFBIG,))


class SmallDisk:
    """A file system in a folder, whose size can be changed; ``real`` says whether there is one."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        self.real = self._mount("size=64m")

    def _mount(self, options: str) -> bool:
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(self.folder)]
        try:
            return not subprocess.run(command, check=False, capture_output=True).returncode
        except OSError:
            return False

    def leave(self, pages: int | None) -> None:
        """So many pages are free; None for plenty."""
        space = os.statvfs(self.folder)
        used = (space.f_blocks - space.f_bfree) * space.f_frsize
        size = 64 << 20 if pages is None else used + pages * PAGE
        assert self._mount(f"remount,size={size}")


@contextmanager
def small_disk(folder: Path) -> Iterator[SmallDisk]:
    disk = SmallDisk(folder)
    try:
        yield disk
    finally:
        if disk.real:
            subprocess.run(["umount", "--lazy", str(folder)], check=True)


def run(seed: int, cases: Sequence[int], folder: Path) -> Outcome:
    """Steps with little space left, each in its own copy of an index."""
    outcome = Outcome(len(cases), {"disk full": 0, "enough space": 0})
    with IoWorker() as worker, power.small(), small_disk(folder / "disk") as disk:
        outcome.figures["disk"] = "a tmpfs of its own" if disk.real else "RLIMIT_FSIZE only"
        ground = Ground(worker, folder, seed)
        ground.place = disk.folder / "case"
        for case in cases:
            random = np.random.default_rng([seed, case])
            name = _NAMES[case % len(_NAMES)]
            step = int(random.choice([n for n, other in enumerate(STEPS) if other == name]))
            pages = int(random.integers(MOST_PAGES))
            injection = Injection("fail", step, _FULL if disk.real else _LIMIT, 0)
            root = ground.fresh(injection)
            if disk.real:
                disk.leave(pages)
            largest = 0 if disk.real else (pages + 1) * PAGE
            told = ground.inject(injection, root, largest)
            if disk.real:
                disk.leave(None)
            outcome.count("disk full" if told["error"] else "enough space")
            for line in complaints(ground, injection, told, root):
                outcome.failures.append(f"case {case}: {name}, {pages} pages left: {line}")
    return outcome


CAMPAIGN = Campaign(
    "full-disk", "0 failures: one line, nothing lost, the next commit works", 30, 600, run
)
