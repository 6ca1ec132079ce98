"""kill -9 at any time and at any step of any protocol: nothing acknowledged is lost.

Each case is a programme of its own (``kill_steps``), killed once; one in four is then gone on with
and killed again, until it is done. Two in three kills are at a random occurrence of a random step
of ``semsearch.fs``, the others at a random time, which is the one thing that a repeated case may
not repeat to the microsecond.
"""

from __future__ import annotations

import shutil
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from semsearch.collection.beside import lexical_names
from semsearch.collection.check import check_index
from semsearch.collection.layout import Layout
from semsearch.collection.lexical_cache import open_lexical
from semsearch.collection.reader import Reader
from semsearch.collection.snapshot import Snapshot
from semsearch.collection.writer import open_for_writing
from semsearch.errors import Mismatch, NotFound
from semsearch.types import Document
from tests.faults.campaign import Campaign, Outcome
from tests.faults.kill_steps import Case, in_format, set_sizes
from tests.faults.kill_worker import NEVER, Kill, Ran, Worker
from tests.store_model import assert_holds, files_in, named_files, passages_of, put

JOB = "tests.faults.kill_steps.write_index"
RESUMED = 4
"""One case in so many goes on after each kill."""

MOST_KILLS = 6
LATE = ("commit", "vacuum", "migrating")
LATE_SECONDS = (15e-6, 600e-6)
"""What follows these steps is SQLite's own work: most kills there come so much later."""

FIGURES = (
    "kills", "generations acknowledged", "lost acknowledgements", "partial generations",
    "disagreements", "orphans", "runs that failed", "unacknowledged commits",
    "commits rolled back", "seconds to reopen (max)",
)  # fmt: skip

EXTRA = Document("extra", "text after the kill", "", {}, "corpus")


class Wrong(AssertionError):
    """What a case found, by the name of its figure."""

    def __init__(self, figure: str, text: str) -> None:
        super().__init__(f"{figure}: {text}")
        self.figure = figure


@dataclass(frozen=True)
class Calibration:
    """What an uninterrupted run of everything reaches: points by kind of step, and its seconds."""

    points: dict[str, Counter[str]]
    seconds: float

    def kill(self, case: Case, turn: int, first: int = 0) -> Kill:
        """When to kill a case, the first time or another one."""
        random = np.random.default_rng([case.seed, case.number, 1, turn])
        left = len(case.program) - first
        if (case.number + turn) % 3 == 0:
            seconds = self.seconds * left / len(Case(case.seed, -1).program)
            return Kill(seconds=float(random.random()) * seconds)
        step = first + int(random.integers(left))
        points = self.points[case.program[step]]
        names = sorted(points) + ["commit"] * ("commit" in points)
        name = names[int(random.integers(len(names)))]
        late = name in LATE and random.random() < 0.7
        delay = float(np.exp(random.uniform(*np.log(LATE_SECONDS)))) if late else 0.0
        occurrence = 1 + int(points[name] * random.random() ** 2)  # few steps have them all
        return Kill(name, occurrence, step, None, delay)


def calibrate(worker: Worker, seed: int, folder: Path) -> Calibration:
    """Run everything to its end, twice: the first run of a process is a slow one."""
    case = Case(seed, -1)
    for turn in range(2):
        root = folder / f"whole-{turn}"
        ran = worker.run(JOB, root, seed, -1, 0)
        if ran.status:
            raise Wrong("runs that failed", str(ran.said[-1:]))
        recover(case, root, len(case.program) - 1)
        shutil.rmtree(root)
    return Calibration(points_of(case, ran), ran.seconds)


def points_of(case: Case, ran: Ran) -> dict[str, Counter[str]]:
    """How often each point is reached at most in one step, by the name of the step."""
    steps: list[Counter[str]] = []
    for point in ran.of("point"):
        if point.startswith("step "):
            steps.append(Counter())
        else:
            steps[-1][point] += 1
    found: dict[str, Counter[str]] = {}
    for name, points in zip(case.program, steps, strict=False):
        found[name] = found.get(name, Counter()) | points
    return found


def acknowledged_of(ran: Ran, first: int) -> int:
    """The last step that was acknowledged; they come in order."""
    done = [int(line.split()[0]) for line in ran.of("done")]
    assert done == list(range(first, first + len(done)))
    return done[-1] if done else first - 1


@contextmanager
def opened(case: Case, index: Path, acknowledged: int) -> Iterator[tuple[Reader, bool]]:
    """A reader of what is there, and whether it is of the second format by now."""
    done = case.program[: acknowledged + 1]
    under_way = case.program[acknowledged + 1 : acknowledged + 2]
    formats = [True] if "migrate" in done else [False, True] if "migrate" in under_way else [False]
    for second in formats:
        patch = in_format(second)
        try:
            try:
                reader = Reader(index)
            except Mismatch:
                if second == formats[-1]:
                    raise
                continue
            with reader:
                yield reader, second
            return
        finally:
            patch.undo()


def recover(case: Case, root: Path, acknowledged: int) -> int:
    """The step after which a reader finds the index: what was acknowledged, or one step more."""
    try:
        with opened(case, root / "index", acknowledged) as (reader, _):
            step = found_step(case, reader, acknowledged)
            under_way = case.program[step] if step > acknowledged else ""
            verify(reader, case.state_after(step), all_codes=under_way != "tokens")
    except NotFound:
        if acknowledged >= 0:
            raise Wrong("lost acknowledgements", "no index") from None
        return -1
    done = under_way in ("put", "delete", "restore") or (root / f"{under_way}-{step}").exists()
    return step if done else acknowledged  # what leaves the documents alone can be done again


def found_step(case: Case, reader: Reader, acknowledged: int) -> int:
    """Which step's documents are there. Raises Wrong if neither of the two possible."""
    snapshot = reader.snapshot()
    alive = np.setdiff1d(snapshot.rows.ids, snapshot.dead).tolist()
    found = {row.ext_id: row.document for row in reader.documents_of(alive).values()}
    possible = range(acknowledged, min(acknowledged + 2, len(case.program)))
    steps = [step for step in possible if case.state_after(step) == found]
    if steps:
        return steps[-1]
    earlier = [step for step in range(-1, acknowledged) if case.state_after(step) == found]
    if earlier:
        raise Wrong("lost acknowledgements", f"the state of step {earlier[-1]} of {acknowledged}")
    raise Wrong("partial generations", f"neither step {acknowledged} nor the one after it")


def verify(reader: Reader, state: dict[str, Document], *, all_codes: bool = True) -> None:
    """The newest generation is whole, belongs together, and its words are found."""
    snapshot = reader.snapshot()
    try:
        assert_holds(snapshot, reader, state, all_codes=all_codes)
        assert_words(snapshot, reader)
    except AssertionError as exc:
        raise Wrong("disagreements", " ".join(str(exc).split())[:300]) from exc
    damage = [str(finding) for finding in check_index(reader) if not finding.is_note]
    if damage:
        raise Wrong("disagreements", "; ".join(damage))


def assert_words(snapshot: Snapshot, reader: Reader) -> None:
    """The first passage of every live document has the word ``text``, the others have it not."""
    view = open_lexical(snapshot, reader.connection, reader.require_current)
    assert view is not None
    ids = snapshot.rows.ids
    alive = np.setdiff1d(ids, snapshot.dead).tolist()
    first = {vid for vid, (start, _) in passages_of(reader, alive).items() if start == 0}
    found = view.search(["text"], len(ids) + 1).ids
    assert set(found[found >= 0].tolist()) == first


def named(snapshot: Snapshot) -> set[str]:
    """Every file that the newest generation names, by relative path."""
    return named_files(snapshot) | {f"lex/{name}" for name in lexical_names(snapshot)}


def left_in(index: Path) -> set[str]:
    """The files there but the lock, the catalog, and what restored indexes keep of old ones.

    SQLite's journal may be there, until the next commit.
    """
    found = files_in(index) - {"catalog.db-journal"}
    return {name for name in found if not name.startswith("kept-")}


def write_again(case: Case, root: Path, acknowledged: int, outcome: Outcome) -> None:
    """A writer opens at once, leaves no orphan, and its next commit works."""
    index = root / "index"
    migrating = "migrate" in case.program[: acknowledged + 2]
    before = case.state_after(recover(case, root, acknowledged))
    patch = in_format(migrating)
    try:
        start, busy = time.perf_counter(), time.process_time()
        with open_for_writing(Layout(index)) as writer:
            outcome.highest("seconds to reopen (max)", time.perf_counter() - start)
            outcome.highest("of them computing (max)", time.process_time() - busy)
            orphans = left_in(index) - named(writer.snapshot)
            if orphans:
                raise Wrong("orphans", ", ".join(sorted(orphans)))
            if writer.snapshot.encoder is None:
                assert acknowledged == -1
                return
            put(writer, [EXTRA])
        with Reader(index) as reader:
            under_way = case.program[acknowledged + 1 : acknowledged + 2]
            verify(reader, {**before, EXTRA.id: EXTRA}, all_codes="tokens" not in under_way)
            notes = [str(finding) for finding in check_index(reader)]
            if notes or left_in(index) != named(reader.snapshot()):
                raise Wrong("orphans", "; ".join(notes))
            check_migrated(reader, migrating)
    finally:
        patch.undo()


def check_migrated(reader: Reader, migrated: bool) -> None:
    """The table of the second format is there, filled, or it is not there."""
    tables = reader.connection.execute("SELECT COUNT(*) FROM sqlite_master WHERE name = 'later'")
    if tables.fetchone() != (int(migrated),):
        raise Wrong("partial generations", "half of a migration")
    if migrated and not reader.connection.execute("SELECT COUNT(*) FROM later").fetchone()[0]:
        raise Wrong("partial generations", "a migrated table is empty")


def check_copies(case: Case, root: Path, acknowledged: int) -> None:
    """Each backup and each copy under its final name is complete and sound; none is missing."""
    for step, name in enumerate(case.program[: acknowledged + 2]):
        made = root / f"{name}-{step}"
        backup = step if name == "backup" else case.last_backup(step)
        if name not in ("backup", "copy") or backup is None:
            continue
        if not made.exists():
            if step <= acknowledged:
                raise Wrong("lost acknowledgements", f"no {made.name}")
            continue
        with Reader(made) as reader:
            verify(reader, case.state_after(backup))
            if left_in(made) != named(reader.snapshot()):
                raise Wrong("partial generations", f"{made.name} has more or less than it names")


def check_after_kill(case: Case, root: Path, acknowledged: int, outcome: Outcome) -> int:
    """Everything that is promised of a killed writer; the step after which the index is."""
    step = recover(case, root, acknowledged)
    changed = step > acknowledged and case.state_after(step) != case.state_after(acknowledged)
    outcome.count("unacknowledged commits", changed)
    check_copies(case, root, acknowledged)
    return step


def note(ran: Ran, case: Case, first: int, outcome: Outcome, met: Counter[str]) -> None:
    """Count what a run did, and where it was killed."""
    outcome.count("kills", ran.killed)
    outcome.count("generations acknowledged", len({line.split()[1] for line in ran.of("done")}))
    acknowledged = acknowledged_of(ran, first)
    if ran.killed and acknowledged + 1 < len(case.program):
        met[f"{case.program[acknowledged + 1]} {(ran.points or ['start'])[-1]}"] += 1


def run_case(
    worker: Worker, calibration: Calibration, case: Case, folder: Path, met: Counter[str]
) -> Outcome:
    """One case: its figures, and at most one failure."""
    outcome, first, kill = Outcome(1), 0, NEVER
    try:
        for turn in range(MOST_KILLS):
            kill = calibration.kill(case, turn, first)
            ran = worker.run(JOB, folder, case.seed, case.number, first, kill=kill)
            if not ran.killed and ran.status:
                raise Wrong("runs that failed", str(ran.said[-3:]))
            note(ran, case, first, outcome, met)
            outcome.count("commits rolled back", has_journal(folder / "index"))
            acknowledged = acknowledged_of(ran, first)
            first = check_after_kill(case, folder, acknowledged, outcome) + 1
            if case.number % RESUMED or first == len(case.program):
                break
        else:
            acknowledged = finish(worker, case, folder, first)
        write_again(case, folder, acknowledged, outcome)
    except Exception as exc:
        outcome.count(getattr(exc, "figure", "disagreements"))
        outcome.fail(case.number, str(kill), exc)
    return outcome


def has_journal(index: Path) -> bool:
    """Whether a commit was under way: whoever opens the catalog next has to roll it back."""
    path = index / "catalog.db-journal"
    return path.is_file() and path.read_bytes()[:8] == b"\xd9\xd5\x05\xf9\x20\xa1\x63\xd7"


def finish(worker: Worker, case: Case, folder: Path, first: int) -> int:
    """Go on to the end: what is there then is what an undisturbed run leaves."""
    ran = worker.run(JOB, folder, case.seed, case.number, first)
    last = len(case.program) - 1
    if ran.status or acknowledged_of(ran, first) != last:
        raise Wrong("runs that failed", str(ran.said[-3:]))
    recover(case, folder, last)
    return last


def run(seed: int, cases: Sequence[int], folder: Path) -> Outcome:
    """The campaign."""
    total = Outcome(len(cases))
    for name in FIGURES:
        total.count(name, 0)
    met: Counter[str] = Counter()
    with pytest.MonkeyPatch.context() as patch, Worker("tests.faults.kill_steps") as worker:
        set_sizes(patch.setattr)
        calibration = calibrate(worker, seed, folder)
        for number in cases:
            root = folder / str(number)
            found = run_case(worker, calibration, Case(seed, number), root, met)
            add(total, found)
            shutil.rmtree(root, ignore_errors=True)
    total.figures["different moments"] = len(met)
    return total


def add(total: Outcome, found: Outcome) -> None:
    """Add what one case found."""
    total.failures += found.failures
    for name, value in found.figures.items():
        if name.endswith("(max)"):
            total.highest(name, float(value))
        else:
            total.count(name, float(value))


CAMPAIGN = Campaign(
    name="kills",
    must="0 lost, partial, disagreeing, orphaned; reopened in 1 s",
    push=100,
    full=1_000,
    run=run,
)
