"""What a fault campaign is, and what it found."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

SEED = 20
"""Where nothing else is asked for; every run prints the one it used."""


@dataclass
class Outcome:
    """What a campaign found: figures for its row of the table, and one line for each failure.

    A failure names its case: ``case 17: ...``.
    """

    cases: int
    figures: dict[str, float | str] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)

    def count(self, name: str, more: float = 1) -> None:
        """Add to a figure."""
        self.figures[name] = float(self.figures.get(name, 0)) + more

    def fail(self, case: int, doing: str, exc: Exception) -> None:
        """Note that a case raised, as one line; ``doing`` says at what, if anything."""
        text = " ".join(str(exc).split())[:500]
        place = f"case {case}: {doing}: " if doing else f"case {case}: "
        self.failures.append(f"{place}{type(exc).__name__}: {text}")

    def highest(self, name: str, value: float) -> None:
        """Keep the largest of a figure."""
        self.figures[name] = max(float(self.figures.get(name, value)), value)


Run = Callable[[int, Sequence[int], Path], Outcome]


@dataclass(frozen=True)
class Campaign:
    """A fault, done to real indexes many times.

    ``run(seed, cases, folder)`` does the numbered cases in an empty folder; a case is a pure
    function of the seed and its number. ``push`` cases run with the other tests, ``full`` ones with
    ``make test-faults``. ``must`` says in words which figures are to be reached; ``alone``
    that others at the same time would spoil its figures.
    """

    name: str
    must: str
    push: int
    full: int
    run: Run
    alone: bool = False


@contextmanager
def quick_folder() -> Iterator[Path]:
    """A killed process leaves its files to the kernel: memory is as good as a disk, and quicker."""
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=memory, prefix="semsearch-") as folder:
        yield Path(folder)


def push(campaign: Campaign, seed: int = SEED) -> Outcome:
    """Run a campaign at the size for every day."""
    with quick_folder() as folder:
        return campaign.run(seed, range(campaign.push), folder)
