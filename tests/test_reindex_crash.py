"""kill -9 at every step of a swap: the old index or the new one serves, whole, and none is lost."""

import os
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest

from semsearch.collection.check import check_index
from semsearch.collection.layout import Layout
from semsearch.collection.reader import Reader
from semsearch.collection.writer import open_for_writing
from semsearch.types import Document
from tests.fakes import contents, index_into, make_documents
from tests.reindex_worker import NEW, OLD, perform, set_sizes
from tests.test_crash import quick_disk
from tests.test_reindex import assert_sound, passages, reindexed

COUNT = 68
FILL_KILLS = 12
SWAP_STEPS = {"link", "rename", "sync-file", "sync-folder", "swap", "committed", "unlink"}


class Worker:
    """The warm process that is forked for every run."""

    def __init__(self):
        single = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.reindex_worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **single},
            cwd=os.path.dirname(os.path.dirname(__file__)),
        )

    def run(self, folder, action, place=0):
        """The steps that were reached, and the status."""
        print(folder, action, place, sep="\t", file=self.process.stdin, flush=True)
        steps: list[str] = []
        assert self.process.stdout is not None
        for line in self.process.stdout:
            kind, word = line.split()
            if kind == "end":
                return steps, int(word)
            steps.append(word)
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


@pytest.fixture(scope="module")
def states():
    """An index, the same with another beside it, and both swapped; what they hold."""
    patch = pytest.MonkeyPatch()
    set_sizes(patch.setattr)
    with quick_disk() as disk:
        index_into(disk / "plain", OLD, make_documents(COUNT))
        shutil.copytree(disk / "plain", disk / "filled")
        reindexed(disk / "filled", NEW, swap=False)
        shutil.copytree(disk / "filled", disk / "swapped")
        perform(disk / "swapped", "reindex")
        yield disk, passages(disk / "plain"), passages(disk / "swapped")
    patch.undo()


def serving(folder):
    """The passages that a reader finds after a kill; whatever serves is sound."""
    with Reader(folder) as reader:
        assert [str(finding) for finding in check_index(reader) if not finding.is_note] == []
    return passages(folder)


def killed(worker, folder, state, action, place):
    shutil.copytree(state, folder)
    _, status = worker.run(folder, action, place)
    assert status == signal.SIGKILL
    return folder


def test_a_swap_reaches_every_kind_of_step_and_every_kind_of_file(states, worker):
    disk, old, new = states
    shutil.copytree(disk / "filled", disk / "whole")
    steps, status = worker.run(disk / "whole", "reindex")
    assert (status, passages(disk / "whole")) == (0, new)
    assert set(steps) >= SWAP_STEPS
    assert steps.count("swap") >= 5  # the catalog is copied in several steps
    with Reader(disk / "whole") as reader:
        snapshot = reader.snapshot()
        assert len(snapshot.segments) >= 2
        assert all(row.tok_name for row in snapshot.segments)
        assert {row.kind for row in snapshot.caches} == {"faiss", "lexical"}
        assert len(snapshot.rows.recent[0])
    assert old != new


def test_a_kill_at_any_step_of_a_swap_leaves_one_whole_and_loses_none(states, worker):
    disk, old, new = states
    shutil.copytree(disk / "filled", disk / "counted")
    steps, _ = worker.run(disk / "counted", "reindex")
    outcomes = []
    for place in range(1, len(steps) + 1):
        folder = killed(worker, disk / f"kill-{place}", disk / "filled", "reindex", place)
        found = serving(folder)
        assert found in (old, new)
        outcomes.append(found == new)
        with open_for_writing(Layout(folder)):  # finishes the swap, or clears it away
            pass
        assert passages(folder) == found
        assert passages(folder / "beside") == (old if found == new else new)
        assert_sound(folder)
        if place % 6 == 0:
            _, status = worker.run(folder, "undo" if found == new else "reindex")
            assert (status, passages(folder)) == (0, old if found == new else new)
            assert_sound(folder)
        shutil.rmtree(folder)
    assert outcomes == sorted(outcomes)  # one step decides
    assert not outcomes[0]
    assert outcomes[-1]


def test_a_kill_while_a_swap_is_finished_changes_nothing(states, worker):
    disk, old, new = states
    shutil.copytree(disk / "filled", disk / "once")
    steps, _ = worker.run(disk / "once", "reindex")
    commit = len(steps) - steps[::-1].index("committed")
    state = killed(worker, disk / "committed", disk / "filled", "reindex", commit)
    assert serving(state) == new
    assert list(state.glob("before-*"))
    shutil.copytree(state, disk / "settled")
    steps, status = worker.run(disk / "settled", "open")
    assert status == 0
    assert len(steps) > 5
    for place in range(1, len(steps) + 1):
        folder = killed(worker, disk / f"again-{place}", state, "open", place)
        assert serving(folder) == new
        with open_for_writing(Layout(folder)):
            pass
        assert passages(folder / "beside") == old
        assert_sound(folder)


def test_a_kill_while_the_new_index_is_made_costs_only_what_was_under_way(states, worker):
    disk, old, new = states
    shutil.copytree(disk / "plain", disk / "made")
    steps, _ = worker.run(disk / "made", "reindex")
    places = sorted({round(at) for at in np.linspace(1, len(steps), FILL_KILLS)})
    for place in places:
        folder = killed(worker, disk / f"fill-{place}", disk / "plain", "reindex", place)
        found = serving(folder)
        assert found in (old, new)
        if found == old:
            _, status = worker.run(folder, "reindex")
            assert status == 0
        with open_for_writing(Layout(folder)):
            pass
        assert passages(folder) == new
        assert passages(folder / "beside") == old
        assert_sound(folder)


def test_a_kill_while_it_is_put_back_loses_nothing_that_came_since(states, worker):
    disk, _, _ = states
    state = disk / "changed"
    shutil.copytree(disk / "swapped", state)
    documents = make_documents(COUNT)
    added = [Document(documents[4].id, "new words"), Document("x1", "an extra one")]
    index_into(state, NEW, added, "more", prunable=False)
    with open_for_writing(Layout(state)) as writer:
        writer.delete([d.id for d in documents[10:20]])
    wanted = contents(state)
    shutil.copytree(state, disk / "put-back")
    steps, _ = worker.run(disk / "put-back", "undo")
    names = []
    for place in sorted({round(at) for at in np.linspace(1, len(steps), FILL_KILLS)}):
        folder = killed(worker, disk / f"undo-{place}", state, "undo", place)
        serving(folder)
        assert contents(folder) == wanted
        with open_for_writing(Layout(folder)) as writer:
            assert writer.snapshot.encoder is not None
            names.append(writer.snapshot.encoder.name)
        if names[-1] == "new":
            _, status = worker.run(folder, "undo")
            assert status == 0
        assert contents(folder) == wanted
        assert contents(folder / "beside") == wanted
        assert_sound(folder)
    assert (names[0], names[-1]) == ("new", "old")
