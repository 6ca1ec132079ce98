"""Power loss: what the disk holds when it goes at any moment, opened by the product.

A run of ``io_worker`` is recorded once, call by call, SQLite's and tantivy's own among them. Each
case takes the calls up to some moment, loses of what was not synced by then as much as chance says
(``disk_model``), and opens what is left: everything acknowledged is there, nothing is partial.
The same with one thing wrong in the product (``mutants``): the loss is noticed.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from semsearch.collection.check import check_index
from semsearch.collection.layout import Layout
from semsearch.collection.reader import Reader
from semsearch.collection.writer import open_for_writing
from semsearch.errors import NotFound
from semsearch.types import Document
from tests.faults import mutants
from tests.faults.campaign import Campaign, Outcome
from tests.faults.disk_model import Disk, Image, Lost, digest, image_of, write_image
from tests.faults.io_worker import (
    STEPS,
    Expected,
    Held,
    expected_after,
    index_of,
    set_sizes,
)
from tests.faults.shim import Operation, by_caller, read_trace
from tests.faults.worker import IoWorker
from tests.store_model import assert_holds, files_in, named_files, put

WITHIN = 50
"""A mutant is to be caught by so many crashes."""

CASES_A_TRACE = 100
"""So many cases share a recorded run; the next ones use another, of other documents."""

LAST = Document("last", "text that no cache holds", "", {}, "corpus")

UNSEEN = r"(index|index/beside)/lex/work/"
"""tantivy renames two files of its working folder by itself, without libc. Nothing of that folder
is ever read after a crash: a writer clears it."""

HOWS = ("everything", "everything", "nothing", "chance", "chance", "any order")
ROUND = (*dict.fromkeys(STEPS), "note", "note", "note")
"""One of each kind, and the only step that replaces a file in place some times more."""


@dataclass
class Trace:
    """A recorded run."""

    operations: list[Operation]
    seed: int

    @property
    def steps(self) -> list[range]:
        """For each step the operations it takes, up to the one that acknowledges it."""
        ends = [at + 1 for at, op in enumerate(self.operations) if op.name == "mark"]
        return [range(a, b) for a, b in zip([0, *ends], ends, strict=False)]


def record(worker: IoWorker, folder: Path, seed: int, mutant: str | None = None) -> Trace:
    """A run in an empty folder. What the shim saw is checked against what is on the disk."""
    shutil.rmtree(folder, ignore_errors=True)
    root = folder / "root"
    root.mkdir(parents=True)
    told = worker.do("record", root=root, trace=folder / "trace", seed=seed, mutant=mutant)
    if "broken" in told:
        raise RuntimeError(told["broken"])
    operations = read_trace(folder / "trace", root)
    disk = Disk(UNSEEN)
    for op in operations:
        disk.do(op)
    if disk.strange or disk.live() != image_of(root):
        raise RuntimeError(f"the shim did not see everything: {disk.strange[:5]}")
    shutil.rmtree(folder)
    return Trace(operations, seed)


@dataclass(frozen=True)
class Crash:
    """After so many operations; ``how`` much of what was not synced is lost."""

    after: int
    how: str
    acknowledged: int


def crash_of(trace: Trace, seed: int, case: int) -> tuple[Crash, np.random.Generator]:
    """Cases go round the kinds of steps; each round looks at another kind of moment.

    Most of what can go wrong does so right after an acknowledgement or a commit of the catalog, or
    between a sync and what relies on it: the first round's crashes come right after a step was
    acknowledged and lose all that they can, the second's after a commit, the third's when something
    was just synced or renamed, the fourth's anywhere.
    """
    random = np.random.default_rng([seed, case])
    round, slot = divmod(case, len(ROUND))
    kind = ROUND[slot]
    step = int(random.choice([number for number, name in enumerate(STEPS) if name == kind]))
    span, turn = trace.steps[step], round + ROUND[:slot].count(kind)
    if turn % 4 == 0:
        return Crash(span.stop, "everything", step), random
    places = (_commits, _telling, _any)[turn % 4 - 1](trace.operations, span)
    places = places or _telling(trace.operations, span)
    after = places[(seed + turn) % len(places)]
    if turn % 4 == 3 or len(places) > 8:
        after = int(random.choice(places))
    done = step if after == span.stop else step - 1
    return Crash(after, str(random.choice(HOWS)), done), random


def _commits(operations: list[Operation], span: range) -> list[int]:
    """When a journal of SQLite's has just gone, and when that is synced."""
    gone = [at for at in span if _is_commit(operations[at])]
    return sorted({place for at in gone for place in (at + 1, at + 2) if place <= span.stop})


def _is_commit(op: Operation) -> bool:
    return op.name == "unlink" and op.path.endswith("catalog.db-journal")


def _telling(operations: list[Operation], span: range) -> list[int]:
    telling = ("sync", "rename", "unlink", "link")
    return [at + 1 for at in span if operations[at].name in telling] or [span.stop]


def _any(_: list[Operation], span: range) -> list[int]:
    return list(range(span.start, span.stop + 1))


def images(trace: Trace, seed: int, cases: Sequence[int]) -> Iterator[tuple[int, Crash, Image]]:
    """What is left in each case, in the order of their moments."""
    crashes = sorted(
        ((crash_of(trace, seed, case), case) for case in cases), key=lambda c: (c[0][0].after, c[1])
    )
    disk, at = Disk(UNSEEN), 0
    for (crash, random), case in crashes:
        while at < crash.after:
            disk.do(trace.operations[at])
            at += 1
        yield case, crash, disk.crashed(Lost(random, crash.how))


# ---- what must be there


def check(root: Path, seed: int, acknowledged: int) -> None:
    """Open all that is there. Raises AssertionError, or what the product raises."""
    states = [
        expected_after(seed, step)
        for step in (acknowledged, acknowledged + 1)
        if 0 <= step < len(STEPS)
    ]
    if acknowledged < 0:
        states.insert(0, Expected())
    in_progress = STEPS[acknowledged + 1] if acknowledged + 1 < len(STEPS) else ""
    note = root / "note.json"
    found = note.read_bytes() if note.exists() else None
    assert found in [state.note for state in states], f"the note is {(found or b'')[:20]!r}"
    _check_others(root, states)
    held = _check_index(index_of(root), [state.index for state in states])
    _go_on(root, held, states, in_progress)


def _check_others(root: Path, states: list[Expected]) -> None:
    """Whole copies: those that were reported done are there, and none is partial."""
    names = {name for state in states for name in state.others}
    for name in sorted(names):
        wanted = [state.others.get(name) for state in states]
        _check_index(root / name, wanted)
    there = {path.name for path in root.iterdir() if path.name[:5] != ".tmp-"}
    assert there <= {*names, "index", "note.json"}, "something nobody asked for"


def _check_index(folder: Path, wanted: Sequence[Held | None]) -> Held | None:
    """The index is one of these, whole; returns which. None stands for none at all."""
    try:
        with Reader(folder) as reader:
            held = _held(reader, wanted)
            assert problems(reader) == []
            return held
    except NotFound:
        assert None in wanted, f"{folder.name} is gone"
        return None


def problems(reader: Reader) -> list[str]:
    """What a check finds but files that nothing refers to: a derived file is not lost, either."""
    return [text for text in map(str, check_index(reader)) if "nothing refers to it" not in text]


def _held(reader: Reader, wanted: Sequence[Held | None]) -> Held | None:
    snapshot = reader.snapshot()
    if snapshot.encoder is None:
        assert None in wanted
        return None
    rows = snapshot.rows.ids
    alive = np.setdiff1d(rows, snapshot.dead).tolist()
    found = {row.ext_id: row.document for row in reader.documents_of(alive).values()}
    now = Held(found, snapshot.encoder.dim)
    assert now in wanted, "neither what was acknowledged nor the one step in progress"
    assert_holds(snapshot, reader, now.documents)
    return now


def _go_on(root: Path, held: Held | None, states: list[Expected], in_progress: str) -> None:
    """The next writer finds no leftovers but what is its own to remove, and commits."""
    layout = Layout(index_of(root))
    with open_for_writing(layout) as writer:
        _check_beside(layout, held, states, in_progress)
        left = _own_files(layout)
        assert left <= named_files(writer.snapshot) | lexical(layout), f"left: {sorted(left)}"
        if held is None:
            return
        extra = Document("extra", "a document after the crash", "", {}, "corpus")
        put(writer, [extra])
    with Reader(layout.folder) as reader:
        assert_holds(reader.snapshot(), reader, {**held.documents, "extra": extra})
        assert problems(reader) == []


def check_next(root: Path, wanted: Sequence[Held]) -> None:
    """The index is one of these, and the next commit works."""
    held = _check_index(index_of(root), wanted)
    _go_on(root, held, [], "none")


def _own_files(layout: Layout) -> set[str]:
    """The files of the index itself; SQLite's own journal goes with the next commit."""
    other = ("beside/", "kept-")
    found = {name for name in files_in(layout.folder) if not name.startswith(other)}
    return found - {"catalog.db-journal"}


def lexical(layout: Layout) -> set[str]:
    """Words may be left from a run whose record was lost: the next run removes them."""
    return {name for name in files_in(layout.folder) if name.startswith("lex/")}


def _check_beside(
    layout: Layout, held: Held | None, states: list[Expected], in_progress: str
) -> None:
    """What is beside is whole: what it was, or what it was to become with the index that serves."""
    if not states:
        return
    pairs = [state.beside for state in states if state.index == held]
    beside = layout.beside.folder
    if in_progress in ("fill", "refill") and beside.is_dir():
        with open_for_writing(layout.beside):
            pass
        with Reader(beside) as reader:
            assert problems(reader) == []
        return
    _check_index(beside, pairs)


@contextmanager
def small() -> Iterator[None]:
    """The sizes of the worker, in this process, which keeps quiet about derived files."""
    quiet = logging.getLogger("semsearch")
    with pytest.MonkeyPatch.context() as patch:
        set_sizes(patch.setattr)
        patch.setattr(quiet, "disabled", True)
        yield


def try_image(image: Image, folder: Path, seed: int, crash: Crash) -> str | None:
    """One line that says what is wrong with what is left; None if nothing is."""
    shutil.rmtree(folder, ignore_errors=True)
    write_image(image, folder)
    try:
        check(folder, seed, crash.acknowledged)
    except Exception as exc:  # noqa: BLE001 - whatever the product raises is a failure
        said = " ".join(f"{type(exc).__name__}: {exc}".split())[:300]
        step = STEPS[crash.acknowledged + 1] if crash.acknowledged + 1 < len(STEPS) else "the end"
        return (
            f"after operation {crash.after}, step {crash.acknowledged} acknowledged, during {step},"
            f" lost {crash.how}: {said}"
        )
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return None


# ---- campaigns


def run(seed: int, cases: Sequence[int], folder: Path) -> Outcome:
    """Crashes of the product as it is."""
    outcome = Outcome(len(cases))
    outcome.figures["crashes"] = 0
    distinct: set[str] = set()
    groups: dict[int, list[int]] = {}
    for case in cases:
        groups.setdefault(case // CASES_A_TRACE, []).append(case)
    with IoWorker() as worker, small():
        for number, group in groups.items():
            trace = record(worker, folder / "run", seed + number)
            outcome.count("operations", len(trace.operations))
            for caller, count in sorted(by_caller(trace.operations).items()):
                outcome.count(f"by {caller}", count)
            for case, crash, image in images(trace, seed, group):
                distinct.add(digest(image))
                outcome.count("crashes")
                outcome.count("acknowledged steps", crash.acknowledged + 1)
                wrong = try_image(image, folder / f"case-{case}", trace.seed, crash)
                if wrong:
                    outcome.failures.append(f"case {case}: {wrong}")
    outcome.figures["distinct states"] = len(distinct)
    return outcome


_BY_SQLITE = "SQLite has synced it: the file before it commits, its folder once the journal is gone"
EQUIVALENT = {
    "store.database._migrate without sync_folder": _BY_SQLITE,
    "collection.swap._keep without sync_file": _BY_SQLITE,
    "collection.swap._keep without sync_folder": _BY_SQLITE,
    "collection.backup._copy_whole without sync_file": _BY_SQLITE,
    "collection.backup._copy_sound without sync_folder": _BY_SQLITE,
    "collection.replace.keep_and_replace without sync_folder #2": (
        "it matters only where the journal of a damaged catalog could not be rolled back"
    ),
    "lexical.writer._publish without sync_file": (
        "tantivy has synced what the link names; a copy, where there are no links, needs it"
    ),
}
"""Calls that nothing here can miss, and why. They stay: each is the word of its own function that
something is durable, and costs one sync in an operation that is rare."""


def run_mutants(seed: int, cases: Sequence[int], folder: Path) -> Outcome:
    """Each mutant is crashed until that is noticed."""
    names = mutants.names()
    chosen = [case for case in cases if case < len(names)]
    outcome = Outcome(len(chosen), {"caught": 0, "most crashes": 0, "equivalent": 0})
    with IoWorker() as worker, small():
        for case in chosen:
            name = names[case]
            taken = _caught_after(record(worker, folder / "run", seed, name), seed, folder)
            if name in EQUIVALENT:
                outcome.count("equivalent")
                if taken:
                    outcome.failures.append(f"case {case}: {name}: is caught, so not equivalent")
            elif not taken:
                outcome.failures.append(f"case {case}: {name}: not caught in {WITHIN} crashes")
            else:
                outcome.count("caught")
                outcome.highest("most crashes", taken)
                outcome.figures[name] = taken
    return outcome


def _caught_after(trace: Trace, seed: int, folder: Path) -> int:
    """How many crashes it takes until something is wrong; 0 if nothing ever is."""
    for number in range(WITHIN):
        for _, crash, image in images(trace, seed, [number]):
            if try_image(image, folder / f"crash-{number}", trace.seed, crash):
                return number + 1
    return 0


CAMPAIGNS = (
    Campaign("power", "0 failures", 80, 1000, run),
    Campaign(
        "mutants", f"each caught within {WITHIN} crashes", 8, len(mutants.names()), run_mutants
    ),
)
