"""Damage to one file of an index: found, or harmless, never a wrong answer in silence.

One bit, a run of bytes, the end, all of it, or another sound file in its place. After each the
index is asked in every way, and checked. Each case happens in a process that may be lost.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
import sys
import traceback
from collections.abc import Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from semsearch import fs
from semsearch.collection import snapshot
from semsearch.errors import SemsearchError
from semsearch.store import blocks, catalog, documents, passages
from tests.faults import specimen
from tests.faults.campaign import Campaign, Outcome
from tests.faults.damage import ANOTHER, damaged
from tests.faults.sandbox import results, serve

CATALOG = "catalog"
KINDS = (*specimen.KINDS, CATALOG)
IDS = [f"d{number:04}" for number in range(200)]
DERIVED = ("tokens", "faiss", "lexical")
"""What can be made again: a warning and the right answer is as good as an error."""


def run(
    kind: str, seed: int, cases: Sequence[int], folder: Path, trusting: bool = False
) -> Outcome:
    """Damage files of a kind, one at a time; ``trusting`` the product compares no checksums."""
    outcome = Outcome(len(cases))
    for name in ("told by a question", "found by check", "harmless", "silent", "crashes"):
        outcome.figures[name] = 0
    arguments = [kind, str(seed), str(folder), *(["trusting"] if trusting else [])]
    for found in results("tests.faults.flips", arguments, cases):
        account(kind, found, outcome)
    return outcome


def account(kind: str, found: dict[str, Any], outcome: Outcome) -> None:
    """Count what was found in a case, and say what must not be."""
    case = f"case {found['case']}: {kind}: {found.get('what', '')}"
    if "crash" in found:
        outcome.count("crashes")
        outcome.failures.append(f"{case}: crash: {found['crash']}")
        return
    told, checked, silent = found["told"], found["checked"], found["silent"]
    outcome.count("told by a question", bool(told))
    outcome.count("found by check", bool(checked))
    outcome.count("harmless", not (told or silent or found["earlier"]))
    outcome.failures += [f"{case}: {line}" for line in found["wrong"]]
    if kind != CATALOG and not checked:
        outcome.failures.append(f"{case}: check finds nothing")
    if found["earlier"]:
        outcome.count("a whole earlier generation")
    elif silent and kind == CATALOG and checked and all(map(may_be_silent, silent)):
        outcome.count("only check")
        for name in silent:
            outcome.count(f"only check: {name}")
    elif silent:
        outcome.count("silent")
        outcome.failures.append(f"{case}: silent: {', '.join(silent)}; check: {checked[:1]}")


def may_be_silent(question: str) -> bool:
    """SQLite's pages have no checksum: a filter may lose a document, until a check is made."""
    return question.startswith("filter")


# ---- in the process that may be lost


class Work:
    """The sound index, what it answers, and a copy in which one file at a time is damaged."""

    def __init__(self, kind: str, seed: int, folder: Path) -> None:
        self.kind, self.seed = kind, seed
        self.base = folder / f"specimen-{seed}"
        self.index = self.base / "index"
        if not self.index.is_dir():
            making = folder / f"making-{os.getpid()}"
            specimen.make(making, seed)
            making.rename(self.base)
        self.roots = roots_of(self.index / "catalog.db") if kind == CATALOG else []
        self.questions = specimen.QUESTIONS if kind == CATALOG else specimen.OF_FILES
        self.sound = self._ask()
        if self.sound.said_something or specimen.findings(self.index):
            raise RuntimeError(f"the sound index is not sound: {self.sound}")
        self.without = self._without() if kind in DERIVED else self.sound
        self.earlier = self._earlier() if kind == CATALOG else {}

    def _ask(self) -> specimen.Heard:
        return specimen.ask(self.index, IDS, self.questions)

    def _without(self) -> specimen.Heard:
        """What is answered where none of the kind's files are there."""
        hidden = [(path, path.with_name(f"{path.name}.hidden")) for path in self._files()]
        for path, aside in hidden:
            path.rename(aside)
        try:
            heard = self._ask()
        finally:
            for path, aside in hidden:
                aside.rename(path)
        if heard.errors or not heard.warnings:
            raise RuntimeError(f"{self.kind} cannot be done without: {heard}")
        return heard

    def _earlier(self) -> dict[int, specimen.Heard]:
        """What the index answered in earlier generations."""
        found = [specimen.ask(self.base / name, IDS, self.questions) for name in specimen.EARLIER]
        return {heard.generation: heard for heard in found}

    def _files(self, folder: str = "index") -> list[Path]:
        if self.kind == CATALOG:
            return [self.base / folder / "catalog.db"]
        found = (self.base / folder).glob(specimen.KINDS[self.kind])
        files = [path for path in found if path.is_file()]
        return sorted(files, key=lambda p: (p.suffix, p.stat().st_size, p.name))  # names are random

    def perform(self, case: int) -> dict[str, Any]:
        """Damage, ask, check, undo."""
        number = int.from_bytes(hashlib.sha256(self.kind.encode()).digest()[:4], "little")
        random = np.random.default_rng([self.seed, number, case])
        path = self._files()[int(random.integers(len(self._files())))]
        others = [
            other
            for place in specimen.ELSEWHERE
            for other in self._files(place)
            if other.suffix == path.suffix
        ]
        data = path.read_bytes()
        what, changed = damaged(data, random, others, self.roots)
        put(path, changed)
        try:
            heard = self._ask()
            checked = specimen.findings(self.index)
        finally:
            put(path, data)
        return {"what": f"{what} of {path.name}", **self.judged(path, what, heard, checked)}

    def judged(
        self, path: Path, what: str, heard: specimen.Heard, checked: list[str]
    ) -> dict[str, Any]:
        """What was told, what was wrong in silence, and what must never be."""
        silent = [name for name in heard.answers if not self._is_right(name, heard)]
        before = self.earlier.get(heard.generation)
        earlier = before is not None and not heard.said_something
        if before is not None and heard.answers == before.answers:
            silent = []  # as a backup of that generation would answer
        wrong = [
            f"{name}: {type(exc).__name__}: {exc} at {_place(exc)}"
            for name, exc in heard.errors.items()
            if not isinstance(exc, SemsearchError) or not _names(str(exc), path, what)
        ]
        wrong += [f"warning: {line}" for line in heard.warnings if "\n" in line]
        told = [*map(str, heard.errors.values()), *heard.warnings]
        return {
            "told": told[:1], "checked": checked[:1], "silent": silent, "wrong": wrong[:1],
            "earlier": earlier and not silent,
        }  # fmt: skip

    def _is_right(self, name: str, heard: specimen.Heard) -> bool:
        answer = heard.answers[name]
        if answer == self.sound.answers[name]:
            return True
        return bool(heard.warnings) and answer == self.without.answers.get(name)


def _names(message: str, path: Path, what: str) -> bool:
    """Whether an error is one line that says which file it is about.

    In a sound catalog that belongs elsewhere it is other files that are missing.
    """
    place = path.name if path.parent.name != "lex" else "lex"
    missing = what == ANOTHER and "is missing" in message
    return "\n" not in message and (place in message or missing)


def _place(exc: BaseException) -> str:
    """Where an error was raised."""
    last = traceback.extract_tb(exc.__traceback__)[-1]
    return f"{Path(last.filename).name}:{last.lineno}"


def roots_of(path: Path) -> list[int]:
    """The first pages of the tables and indexes of an SQLite file."""
    with closing(sqlite3.connect(path)) as connection:
        return [page for (page,) in connection.execute("SELECT rootpage FROM sqlite_master")]


def put(path: Path, data: bytes) -> None:
    """A new file in its place: who still has the old one mapped is not harmed."""
    temporary = path.with_name(f"{path.name}.new")
    temporary.write_bytes(data)
    temporary.replace(path)


def main() -> None:
    kind, seed, folder, *trusting = sys.argv[1:]
    with specimen.sizes():
        if trusting:
            trust()
        serve(Work(kind, int(seed), Path(folder)).perform)


def trust() -> None:
    """Let the product compare no checksums in this process: the campaign must notice."""
    known: dict[str, str] = {}
    real = fs.sha256_of

    def sha256_of(path: Path) -> str:
        return known.setdefault(str(path), real(path))

    fs.sha256_of = sha256_of
    setattr(blocks.BlockFile, "_check", lambda *_: None)  # noqa: B010
    setattr(blocks.BlockFile, "verify", lambda *_: None)  # noqa: B010
    for module in (catalog, documents, passages, snapshot):
        setattr(module, "check_row", lambda *_, **__: None)  # noqa: B010


MUST = "no wrong answer in silence, no crash; check finds every change"
CAMPAIGNS = tuple(
    Campaign(f"flips-{kind}", MUST, 100, 10_000, partial(run, kind)) for kind in KINDS
)

if __name__ == "__main__":
    main()
