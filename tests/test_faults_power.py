"""Power loss at any call: what was acknowledged is there, and a missing sync is noticed."""

import numpy as np
import pytest

from semsearch.collection.reader import Reader
from tests.faults import mutants, power
from tests.faults.campaign import push, quick_folder
from tests.faults.disk_model import Disk, Lost, write_image
from tests.faults.io_worker import STEPS, expected_after, name_of
from tests.faults.shim import Operation, by_caller
from tests.faults.worker import IoWorker

POWER, MUTANTS = power.CAMPAIGNS


def test_no_crash_loses_what_was_acknowledged():
    outcome = push(POWER)
    assert outcome.failures == []
    assert outcome.figures["crashes"] == POWER.push
    assert float(outcome.figures["acknowledged steps"]) > 10 * POWER.push
    assert float(outcome.figures["distinct states"]) > POWER.push * 0.7
    for caller in ("python", "sqlite3", "tantivy"):
        assert float(outcome.figures[f"by {caller}"]) > 100


def test_what_is_done_too_late_or_not_at_all_is_noticed():
    outcome = push(MUTANTS)
    assert outcome.failures == []
    assert outcome.figures["caught"] == MUTANTS.push
    assert float(outcome.figures["most crashes"]) <= power.WITHIN


def test_every_call_that_syncs_is_a_mutant_and_every_exception_is_one():
    names = mutants.names()
    assert set(power.EQUIVALENT) < set(names)
    assert {"fs.publish without fsync", "fs.make_folder without sync_folder"} < set(names)
    assert len(names) == len(set(names)) >= 20
    for name in names:
        with mutants.mutated(name):
            pass


def test_the_run_does_all_there_is_to_lose():
    with quick_folder() as folder, IoWorker() as worker, power.small():
        trace = power.record(worker, folder / "run", 20)
        assert len(trace.steps) == len(STEPS)
        callers = by_caller(trace.operations)
        assert min(callers[name] for name in ("python", "sqlite3", "tantivy")) > 300
        assert "other" not in callers
        disk = Disk(power.UNSEEN)
        for op in trace.operations:
            disk.do(op)
        write_image(disk.live(), folder / "all")
        power.check(folder / "all", 20, len(STEPS) - 1)
        with Reader(folder / "all" / name_of("backup", STEPS.index("backup"))) as reader:
            assert reader.snapshot().rotation_id is not None
    paths = {op.second or op.path for op in trace.operations}
    for kind in ("seg/s-", "seg/t-", "ann/a-", "lex/", "beside/ann/", "before-", "kept-1"):
        assert any(path.startswith(f"index/{kind}") for path in paths), kind
    expected = expected_after(20, len(STEPS) - 1)
    assert expected.index is not None
    assert len(expected.others) == 4


# ---- the disk


ROOT = Operation("mkdir", "", "", b"", 1, 0, "")


def operation(name, path, inode=0, data=b"", offset=0, second=""):
    return Operation(name, path, second, data, inode, offset, "python")


def disk_after(*operations):
    disk = Disk()
    for op in (ROOT, *operations):
        disk.do(op)
    return disk


def left(disk, how, seed=0):
    return disk.crashed(Lost(np.random.default_rng(seed), how))


def all_left(disk, how):
    return {tuple(sorted(left(disk, how, seed).items())) for seed in range(200)}


MADE = (operation("create", "a", 2), operation("write", "a", 2, b"x" * 1024))


def test_a_name_needs_the_sync_of_its_folder_and_bytes_that_of_their_file():
    assert left(disk_after(*MADE), "everything") == {}
    assert left(disk_after(*MADE, operation("sync", "a", 2)), "everything") == {}
    assert left(disk_after(*MADE, operation("sync", "", 1)), "everything") == {"a": b""}
    both = disk_after(*MADE, operation("sync", "a", 2), operation("sync", "", 1))
    assert left(both, "everything") == {"a": b"x" * 1024}
    assert left(disk_after(*MADE), "nothing") == {"a": b"x" * 1024}


def test_bytes_may_be_there_in_part():
    found = all_left(disk_after(*MADE, operation("sync", "", 1)), "chance")
    half, zero = b"x" * 512, bytes(512)
    assert found == {
        (("a", content),)
        for content in (b"", half, half + half, zero + half, zero + zero)
    }  # fmt: skip


def test_a_folder_loses_its_last_changes_or_any():
    made = [operation("create", name, number) for number, name in enumerate("abc", start=2)]
    gone = operation("unlink", "a")
    disk = disk_after(*made, operation("sync", "", 1), gone, operation("rename", "b", second="d"))
    names = {tuple(name for name, _ in state) for state in all_left(disk, "chance")}
    assert names == {("a", "b", "c"), ("b", "c"), ("c", "d")}
    names = {tuple(name for name, _ in state) for state in all_left(disk, "any order")}
    assert names == {("a", "b", "c"), ("b", "c"), ("c", "d"), ("a", "c", "d")}


def test_a_file_is_one_whatever_the_number_of_its_names():
    disk = disk_after(
        operation("mkdir", "f", 9), *MADE, operation("link", "a", 2, second="f/b"),
        operation("sync", "", 1), operation("sync", "f", 9),
    )  # fmt: skip
    for state in all_left(disk, "chance"):
        content = dict(state)
        assert content["a"] == content["f/b"]
        assert content["f"] is None


def test_a_file_that_is_gone_comes_back_with_what_was_synced():
    disk = disk_after(
        *MADE, operation("sync", "a", 2), operation("sync", "", 1),
        operation("truncate", "a", 2, offset=3), operation("unlink", "a"),
    )  # fmt: skip
    assert left(disk, "everything") == {"a": b"x" * 1024}
    assert left(disk, "nothing") == {}


@pytest.mark.parametrize("name", ["unknown", "unlink"])
def test_what_is_not_understood_is_told(name):
    assert disk_after(operation(name, "a", second="a writable shared map")).strange
