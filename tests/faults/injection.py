"""Calls that fail in a copy of an index: which there are, and what must not happen then.

A call of a step fails, of a command or of a search, or all from there on. Then: an error of ours or
none, and if none the step is done; the last acknowledged generation is whole; nothing temporary is
left once a writer opened; no descriptor is left open; a sync that failed is not tried again; the
next commit works.
"""

from __future__ import annotations

import errno
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tests.faults import power, shim
from tests.faults.io_worker import STEPS, Held, expected_after
from tests.faults.worker import IoWorker


@dataclass(frozen=True)
class Fault:
    """Calls of these kinds fail with one of these errors, in turn; ``lasting``: all from there on.

    ``says`` is what a message must hold, by error.
    """

    name: str
    kinds: int
    errors: tuple[int, ...]
    lasting: bool = False


_FULL = errno.ENOSPC, errno.EDQUOT
_GROWS = shim.WRITES | shim.CREATES | shim.MKDIRS | shim.LINKS
FAULTS = (
    Fault("write", shim.WRITES, (errno.ENOSPC, errno.EIO, shim.SHORT, errno.EDQUOT)),
    Fault("full from there on", _GROWS, _FULL, lasting=True),
    Fault("sync", shim.SYNCS, (errno.EIO, errno.ENOSPC)),
    Fault("every sync from there on", shim.SYNCS, (errno.EIO,), lasting=True),
    Fault("create", shim.CREATES | shim.MKDIRS | shim.LINKS, (errno.ENOSPC, errno.EMFILE)),
    Fault("open", shim.OPENS | shim.LISTS, (errno.EMFILE, errno.EIO)),
    Fault("no more files", shim.OPENS | shim.CREATES, (errno.EMFILE,), lasting=True),
    Fault("rename", shim.RENAMES, (errno.EIO, errno.ENOSPC)),
    Fault("unlink", shim.UNLINKS, (errno.EIO,)),
    Fault("truncate", shim.TRUNCATES, (errno.EIO,)),
    Fault("close", shim.CLOSES, (errno.EIO,)),
    Fault("read", shim.READS | shim.MAPS, (errno.EIO,)),
    Fault("failing from there on", _GROWS | shim.SYNCS | shim.RENAMES | shim.READS | shim.OPENS
          | shim.UNLINKS | shim.TRUNCATES, (errno.EIO,), lasting=True),
)  # fmt: skip
READING = (
    Fault("read", shim.READS | shim.MAPS, (errno.EIO, shim.SHORT)),
    Fault("open", shim.OPENS | shim.LISTS, (errno.EMFILE, errno.EIO, errno.EACCES)),
    Fault("read from there on", shim.READS | shim.MAPS, (errno.EIO,), lasting=True),
)
COMMANDS = (
    ("compact", "-i", "index"), ("delete", "d1", "d2", "d3", "d4", "-i", "index"),
    ("check", "-i", "index"), ("export", "-i", "index"), ("status", "-i", "index"),
    ("backup", "copy", "-i", "index"), ("restore", "backup-41", "-i", "restored-new"),
)  # fmt: skip
_LEAVES = shim.UNLINKS | shim.OPENS | shim.LISTS
"""Who cannot remove a file, or list a folder, leaves something there."""


@dataclass(frozen=True)
class Injection:
    """The n-th call of a fault's kinds fails; ``where`` is a step, or the number of a command."""

    job: str
    where: int
    fault: Fault
    nth: int

    @property
    def error(self) -> int:
        return self.fault.errors[self.nth % len(self.fault.errors)]

    def __str__(self) -> str:
        place = " ".join(COMMANDS[self.where]) if self.job == "command" else STEPS[self.where]
        if self.job == "read":
            place = "searching"
        last = ", and all later ones" if self.fault.lasting else ""
        error = shim.error_name(self.error)
        return f"{place}: {self.fault.name} number {self.nth} fails: {error}{last}"


KINDS_OF_CASE = {"fail": "of writing", "read": "of searching", "command": "of commands"}


class Ground:
    """The states that calls fail in, and the worker that they fail in."""

    def __init__(self, worker: IoWorker, folder: Path, seed: int) -> None:
        self.worker, self.folder, self.seed = worker, folder, seed
        self.place = folder / "case"
        (folder / "now").mkdir()
        self._do("states", root=folder)
        self.answers = self._answers()

    def _do(self, job: str, **settings: Any) -> dict[str, Any]:
        told = self.worker.do(job, seed=self.seed, **settings)
        if "broken" in told:
            raise RuntimeError(told["broken"])
        return told

    def fresh(self, injection: Injection) -> Path:
        """A copy of what is there before."""
        root = self.place
        shutil.rmtree(root, ignore_errors=True)
        before = self.folder / "states" / str(injection.where)
        shutil.copytree(before if injection.job == "fail" else self.folder / "now", root)
        return root

    def inject(self, injection: Injection, root: Path, largest: int = 0) -> dict[str, Any]:
        """What the worker says; no file may be larger than ``largest``, if given."""
        settings: dict[str, Any] = {
            "root": root,
            "step": injection.where,
            "kinds": injection.fault.kinds,
            "nth": injection.nth,
            "error": injection.error,
            "lasting": injection.fault.lasting,
            "largest": largest,
        }
        if injection.job == "command":
            settings["arguments"] = [
                str(root / word) if word in ("index", "copy", "backup-41", "restored-new") else word
                for word in COMMANDS[injection.where]
            ]
        return self._do(injection.job, **settings)

    def _answers(self) -> list[dict[str, Any]]:
        """What searching may answer: with all derived files, and without some of them."""
        found = []
        for gone in ((), ("ann",), ("lex",), ("ann", "lex")):
            root = self.folder / "ask"
            shutil.copytree(self.folder / "now", root)
            for name in gone:
                shutil.rmtree(root / "index" / name)
            calm = Injection("read", 0, READING[0], 0)
            found.append(self.inject(calm, root)["answer"])
            shutil.rmtree(root)
        return found

    def plan(self, *only: str) -> list[list[Injection]]:
        """Every call of every kind of step, of some commands, and of searching, by fault.

        ``only`` these jobs, if any are named.
        """
        kinds = {name: number for number, name in reversed(list(enumerate(STEPS)))}
        last = {name: number for number, name in enumerate(STEPS)}
        places = [("fail", step) for step in sorted({*kinds.values(), *last.values()})]
        places += [*(("command", number) for number in range(len(COMMANDS))), ("read", 0)]
        found = []
        for job, where in [place for place in places if not only or place[0] in only]:
            faults = READING if job == "read" else FAULTS
            calm = Injection(job, where, faults[0], 0)
            counts = self.inject(calm, self.fresh(calm))["counts"]
            for fault in faults:
                total = sum(n for bit, n in enumerate(counts) if fault.kinds >> bit & 1)
                found.append([Injection(job, where, fault, nth) for nth in range(1, total + 1)])
        return [some for some in found if some]


def chosen(plan: list[list[Injection]], seed: int, case: int) -> Injection:
    """Cases go round the steps and faults, to another call each time; in the end all are done."""
    round, slot = divmod(case, len(plan))
    some = plan[np.random.default_rng(seed).permutation(len(plan))[slot]]
    order = np.random.default_rng([seed, slot]).permutation(len(some))
    return some[order[round % len(some)]]


def complaints(ground: Ground, injection: Injection, told: dict[str, Any], root: Path) -> list[str]:
    """What is wrong with what happened."""
    found = []
    if not told["is_ours"]:
        found.append(f"not an error of ours: {told['shown'].strip().splitlines()[-1]}")
    if told["leaked"]:
        found.append(f"left open: {told['leaked']}")
    if told["retried"]:
        found.append("a sync that failed was tried again")
    if not told["unusable"]:
        found.append("the writer goes on after an error")
    if len(told["message"].splitlines()) > 1 and injection.job != "command":
        found.append(f"several lines: {told['message']!r}")
    found += {"fail": _of_step, "read": _of_answer, "command": _of_command}[injection.job](
        ground, injection, told, root
    )
    return found


def _of_step(
    ground: Ground, injection: Injection, told: dict[str, Any], root: Path
) -> list[str]:  # fmt: skip
    found = []
    if told["error"]:
        found += _wrong_advice(injection.error, f"{told['error']}: {told['message']}")
    if not injection.fault.kinds & _LEAVES:
        found += [f"left: {path.name}" for path in root.glob(".tmp-*")]
    done = injection.where - 1 if told["error"] else injection.where
    try:
        power.check(root, ground.seed, done)
    except Exception as exc:  # noqa: BLE001 - whatever the product raises is a failure
        said = " ".join(f"{type(exc).__name__}: {exc}".split())[:300]
        found.append(f"afterwards, having said {told['message'] or 'nothing'!r}: {said}")
    return found


def _wrong_advice(error: int, message: str) -> list[str]:
    """A full disk is no damage, and a failing one is not full."""
    if "An error occurred in a thread" in message:
        return []  # tantivy does not say which
    if error in _FULL and not re.search(r"StorageError: .*(disk is full|quota|no space)", message):
        return [f"does not say that the disk is full: {message}"]
    if error in (errno.EIO, errno.EMFILE) and re.search("disk is full", message):
        return [f"says that the disk is full: {message}"]
    if error == errno.EMFILE and "open files" not in message:
        return [f"does not say that there are too many open files: {message}"]
    return []


def _of_answer(
    ground: Ground, _: Injection, told: dict[str, Any], __: Path
) -> list[str]:  # fmt: skip
    answer = told["answer"]
    if answer is None:
        return []
    wrong = [key for key in answer if all(answer[key] != right[key] for right in ground.answers)]
    return [f"a wrong answer: {wrong}"] if wrong else []


def _of_command(
    ground: Ground, injection: Injection, told: dict[str, Any], root: Path
) -> list[str]:  # fmt: skip
    found = []
    lines = told["shown"].strip().splitlines()
    if told["code"] not in (0, 1) or any("Traceback" in line for line in lines):
        found.append(f"exit code {told['code']}: {lines[-1:]}")
    errors = [line for line in lines if line.startswith("Error: ")]
    if told["code"] == 1 and len(errors) != 1 and COMMANDS[injection.where][0] != "check":
        found.append(f"{len(errors)} errors: {lines}")
    index = expected_after(ground.seed, len(STEPS) - 1).index
    assert index is not None
    whole = {**index.documents, "last": power.LAST}
    gone = {id: d for id, d in whole.items() if id not in ("d1", "d2", "d3", "d4")}
    if COMMANDS[injection.where][0] != "delete":
        wanted = [whole]
    else:
        wanted = [whole, gone] if told["code"] else [gone]
    try:
        power.check_next(root, [Held(documents, index.dim) for documents in wanted])
    except Exception as exc:  # noqa: BLE001 - whatever the product raises is a failure
        said = " ".join(f"{type(exc).__name__}: {exc}".split())[:300]
        found.append(f"afterwards: {said}")
    return found
