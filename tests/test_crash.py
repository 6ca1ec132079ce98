"""kill -9 at every step of every protocol: what was acknowledged is there, nothing is partial."""

import os
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from semsearch.collection import layout
from semsearch.collection.check import check_index
from semsearch.collection.layout import Layout
from semsearch.collection.reader import Reader
from semsearch.collection.writer import open_for_writing
from semsearch.errors import NotFound
from semsearch.types import Document
from tests import crash_worker
from tests.crash_worker import STEPS, state_after
from tests.store_model import assert_holds, files_in, named_files, put, small_sizes

SEED = 20
EACH_HOOK = 7
RANDOM_TIMES = 10
MOST_TIMES = 150
HOOKS = {"create", "write", "fsync", "rename", "sync-folder", "commit", "committed", "unlink"}


class Worker:
    """The warm process that is forked for every run."""

    def __init__(self):
        single = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}  # a fork has one thread
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.crash_worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **single},
            cwd=os.path.dirname(os.path.dirname(__file__)),
        )

    def run(self, folder, seed, first=0, hook="", occurrence=0):
        """The last acknowledged step, the hooks that were reached, the status and the seconds."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(folder, seed, first, hook, occurrence, sep="\t", file=self.process.stdin, flush=True)
        acknowledged, points = first - 1, []
        for line in self.process.stdout:
            kind, *rest = line.split()
            if kind == "done":
                assert int(rest[0]) == acknowledged + 1
                acknowledged += 1
            elif kind == "point":
                points.append(rest[0])
            else:
                return acknowledged, points, int(rest[0]), float(rest[1])
        raise AssertionError("the worker ended")

    def close(self):
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()


@pytest.fixture(scope="module")
def worker():
    started = Worker()
    yield started
    started.close()


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    small_sizes(monkeypatch.setattr)


@contextmanager
def quick_disk():
    """A killed process leaves its files to the kernel: memory is as good as a disk, and quicker."""
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=memory, prefix="semsearch-") as folder:
        yield Path(folder)


@pytest.fixture
def disk():
    with quick_disk() as folder:
        yield folder


@pytest.fixture(scope="module")
def whole(worker):
    """An uninterrupted run: how often it reaches each hook, and how long it takes."""
    with quick_disk() as folder:
        acknowledged, points, status, seconds = worker.run(folder, SEED)
    assert (acknowledged, status) == (len(STEPS) - 1, 0)
    return Counter(points), seconds


def recovered(folder, seed, acknowledged):
    """The step whose state a reader finds after a kill; all of it, or all of the one before."""
    with Reader(folder) as reader:
        snapshot = reader.snapshot()
        alive = np.setdiff1d(snapshot.rows.ids, snapshot.dead).tolist()
        found = {row.ext_id: row.document for row in reader.documents_of(alive).values()}
        states = {
            step: state_after(seed, step)
            for step in (acknowledged, acknowledged + 1)
            if step < len(STEPS)
        }
        step = max((step for step, state in states.items() if state == found), default=None)
        assert step is not None, "neither what was acknowledged nor the one step in progress"
        assert_holds(snapshot, reader, states[step])
        assert [str(finding) for finding in check_index(reader) if not finding.is_note] == []
        return step


def check_after_kill(folder, seed, acknowledged):
    try:
        recovered(folder, seed, acknowledged)
    except NotFound:
        assert acknowledged == -1
    with open_for_writing(Layout(folder)) as writer:
        left = files_in(folder) - {"catalog.db-journal"}  # SQLite's own; a commit removes it
        assert left == named_files(writer.snapshot)
        if writer.snapshot.encoder is None:
            assert acknowledged == -1
            return
        before = state_after(seed, recovered(folder, seed, acknowledged))
        extra = Document("extra", "a document after the kill", "", {}, "corpus")
        put(writer, [extra])
    with Reader(folder) as reader:
        assert_holds(reader.snapshot(), reader, {**before, "extra": extra})
        assert [str(finding) for finding in check_index(reader)] == []
        assert files_in(folder) == named_files(reader.snapshot())


def test_the_run_reaches_everything_that_is_to_be_interrupted(whole, worker, disk):
    points, _ = whole
    assert set(points) == HOOKS
    assert min(points.values()) >= 5
    worker.run(disk, SEED, hook="none")
    with Reader(disk) as reader:
        snapshot = reader.snapshot()
        assert snapshot.rotation_id is not None
        assert snapshot.rotation is not None
    with open_for_writing(Layout(disk)):
        pass


@pytest.mark.parametrize("hook", sorted(HOOKS))
def test_a_kill_at_any_step_loses_nothing_acknowledged(whole, worker, disk, hook):
    points, _ = whole
    total = points[hook]
    occurrences = sorted({round(at) for at in np.linspace(1, total, min(EACH_HOOK, total))})
    for occurrence in occurrences:
        folder = disk / str(occurrence)
        acknowledged, _, status, _ = worker.run(folder, SEED, 0, hook, occurrence)
        assert status == signal.SIGKILL
        check_after_kill(folder, SEED, acknowledged)


def test_a_kill_at_any_time_loses_nothing_acknowledged(whole, worker, disk):
    # The first run of a process is a slow one: kills drawn over its time would come too late.
    seconds = min(whole[1], worker.run(disk / "timed", SEED, 0, "none")[3])
    random = np.random.default_rng(SEED)
    reached: set[int] = set()
    for number, share in enumerate(random.random(MOST_TIMES).tolist()):
        if number >= RANDOM_TIMES and len(reached) > 2:
            break  # where most of a run is its start, more are needed to meet it in the middle
        folder, seed = disk / str(number), SEED + number
        acknowledged, _, _, _ = worker.run(folder, seed, 0, "time", share * seconds)
        check_after_kill(folder, seed, acknowledged)
        reached.add(acknowledged)
    assert len(reached) > 2


def test_runs_that_are_killed_and_resumed_end_where_an_undisturbed_one_ends(whole, worker, disk):
    points, _ = whole
    random = np.random.default_rng(3)
    first, kills = 0, 0
    while first < len(STEPS) and kills < 12:
        hook = sorted(HOOKS)[int(random.integers(len(HOOKS)))]
        occurrence = int(random.integers(1, points[hook] // 2))
        acknowledged, _, status, _ = worker.run(disk, SEED, first, hook, occurrence)
        kills += status == signal.SIGKILL
        try:
            first = recovered(disk, SEED, acknowledged) + 1
        except NotFound:
            first = 0
    assert kills >= 4
    if first < len(STEPS):
        acknowledged, _, status, _ = worker.run(disk, SEED, first, "none")
    with open_for_writing(Layout(disk)):
        pass
    assert recovered(disk, SEED, len(STEPS) - 1) == len(STEPS) - 1
    with Reader(disk) as reader:
        assert [str(finding) for finding in check_index(reader)] == []


def test_states_and_sizes_are_those_of_the_worker():
    assert layout.MERGE_COUNT == 3
    assert state_after(SEED, 0) == {d.id: d for d in crash_worker.documents_of(SEED, 0)}
    assert state_after(SEED, len(STEPS) - 1) != state_after(SEED, len(STEPS) - 2)
