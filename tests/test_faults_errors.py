"""Errors of the disk at any call: one line, nothing lost or left; and a disk that fills up."""

import errno
import json
import subprocess
import sys
from typing import cast

import pytest

from tests.faults import errors, injection, power, shim
from tests.faults.campaign import push
from tests.faults.worker import HOME, IoWorker

ERRORS, FULL_DISK = errors.CAMPAIGNS


def test_a_call_that_fails_is_one_line_and_loses_nothing():
    outcome = push(ERRORS)
    assert outcome.failures == []
    figures = {name: float(value) for name, value in outcome.figures.items()}
    # tantivy's threads do not make the same calls every time: a number may not be reached
    assert figures["failed calls"] >= 0.95 * ERRORS.push
    assert figures["errors"] > figures["went on"] > 0
    for kind in ("of writing", "of commands"):
        assert figures[kind] > 10
    assert figures["calls that can fail"] > 10_000


def test_searching_while_a_call_fails_is_right_or_refused(tmp_path):
    with IoWorker() as worker, power.small():
        ground = injection.Ground(worker, tmp_path, 20)
        some = [case for group in ground.plan("read") for case in group][::9]
        assert len(some) > 10
        answers = 0
        for case in some:
            root = ground.fresh(case)
            told = ground.inject(case, root)
            assert injection.complaints(ground, case, told, root) == []
            answers += told["answer"] is not None
        assert 0 < answers < len(some)
        wrong = {**told, "answer": {**ground.answers[0], "nearest": [1, 2, 3]}}
        assert injection.complaints(ground, case, wrong, root) == ["a wrong answer: ['nearest']"]


def test_a_disk_that_fills_up_is_one_line_and_loses_nothing():
    outcome = push(FULL_DISK)
    assert outcome.failures == []
    assert float(outcome.figures["disk full"]) >= 5
    assert float(outcome.figures["enough space"]) >= 5


# ---- what is complained of


def told(**changes):
    calm = {"is_ours": True, "leaked": [], "retried": 0, "unusable": True, "message": ""}
    return {**calm, "answer": None, "shown": "", **changes}


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"is_ours": False, "shown": "Traceback\nOSError: no"}, "not an error of ours: OSError"),
        ({"leaked": ["7 /index/catalog.db"]}, "left open"),
        ({"retried": 1}, "tried again"),
        ({"unusable": False}, "goes on after an error"),
        ({"message": "one\ntwo"}, "several lines"),
    ],
)
def test_what_is_wrong_is_told(changes, complaint, tmp_path):
    case = injection.Injection("read", 0, injection.READING[0], 1)
    found = injection.complaints(cast(injection.Ground, None), case, told(**changes), tmp_path)
    assert len(found) == 1
    assert complaint in found[0]


@pytest.mark.parametrize(
    ("error", "message", "wrong"),
    [
        (errno.ENOSPC, "StorageError: x: the disk is full: free some space", False),
        (errno.EDQUOT, "StorageError: x: the disk quota is used up", False),
        (errno.ENOSPC, "Corrupt: x: the catalog is damaged", True),
        (errno.ENOSPC, "Corrupt: x: the disk is full", True),
        (errno.EIO, "StorageError: x: the disk is full", True),
        (errno.EIO, "StorageError: x: the disk reports an input/output error", False),
        (errno.EMFILE, "StorageError: x: no permission", True),
    ],
)
def test_what_the_advice_must_be(error, message, wrong):
    assert bool(injection._wrong_advice(error, message)) == wrong


# ---- the shim

PROBE = """
import json, os, sys
from pathlib import Path
from tests.faults.shim import Shim, SYNCS, WRITES, SHORT
shim, root = Shim(), Path(sys.argv[1])
shim.start(root)

def attempt(action, *arguments):
    try:
        return action(*arguments)
    except OSError as exc:
        return -exc.errno

file = os.open(root / "file", os.O_RDWR | os.O_CREAT)
outside = os.open(root.parent / "outside", os.O_RDWR | os.O_CREAT)
told = {}
shim.fail(WRITES, 2, SHORT, lasting=False)
told["short"] = [os.write(file, b"x" * 10) for _ in range(3)] + [shim.faults]
shim.fail(WRITES, 1, 28, lasting=True)
told["full"] = [attempt(os.write, file, b"x") for _ in range(2)] + [os.write(outside, b"x")]
shim.fail(SYNCS, 1, 5, lasting=False)
told["sync"] = [attempt(os.fsync, file), shim.retried]
told["again"] = [attempt(os.fsync, file), shim.retried]
shim.fail(SYNCS, 1, 5, lasting=False)
told["written"] = [attempt(os.fsync, file), os.write(file, b"x"), os.fsync(file), shim.retried]
told["counts"] = shim.counts[2:4]
told["described"] = shim.described
print(json.dumps(told))
"""


def test_the_shim_fails_what_it_is_asked_to_fail(tmp_path):
    (tmp_path / "root").mkdir()
    done = subprocess.run(
        [sys.executable, "-c", PROBE, str(tmp_path / "root")],
        capture_output=True, text=True, check=False, cwd=HOME, env=shim.environment(),
    )  # fmt: skip
    assert done.stderr == ""
    assert json.loads(done.stdout) == {
        "short": [10, 5, 10, 1],
        "full": [-28, -28, 1],
        "sync": [-5, 0],
        "again": [None, 1],
        "written": [-5, 1, None, 0],
        "counts": [1, 2],
        "described": "fsync /file by p",
    }
