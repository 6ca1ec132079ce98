"""One writer at a time, whatever becomes of it; the lock never has to be removed by hand."""

import fcntl
import os
import threading
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from semsearch import locks
from semsearch.collection import writer as writing
from semsearch.collection.layout import Layout
from semsearch.collection.refuse import refuse_foreign_folder
from semsearch.collection.writer import open_for_writing
from semsearch.errors import InputError, Locked
from tests.faults import writers
from tests.faults.campaign import Outcome, push


def test_nobody_has_to_unlock_anything():
    outcome = push(writers.CAMPAIGN)
    assert outcome.failures == []
    least = {"refused": 40, "races": 8, "killed holders": 12, "old locks": 20}
    assert {name: least[name] for name in least if float(outcome.figures[name]) < least[name]} == {}


def found(tmp_path, happening):
    """What a happening raises, when something is broken."""
    with pytest.raises(Exception, match=r".") as caught:
        happening(tmp_path / happening.__name__, np.random.default_rng(0), Outcome(1))
    return str(caught.value)


def test_a_lock_that_does_not_lock_is_caught(tmp_path, monkeypatch):
    monkeypatch.setattr(fcntl, "flock", lambda *_: None)
    for happening in (writers.second_writer, writers.same_process):
        assert "let in" in found(tmp_path, happening)


def test_a_fork_that_keeps_the_lock_is_caught(tmp_path, monkeypatch):
    monkeypatch.setattr(locks, "_HELD", SimpleNamespace(add=id, discard=id, __iter__=None))
    monkeypatch.setattr(locks.Held, "close", lambda self: os.close(self._fd))
    assert "another process" in found(tmp_path, writers.forked_child_outlives)


def test_a_fork_that_writes_is_caught(tmp_path, monkeypatch):
    monkeypatch.setattr(writing, "os", SimpleNamespace(getpid=lambda: 1))
    assert "a fork of the writer wrote" in found(tmp_path, writers.forked_child_writes)


def test_a_fork_that_gives_the_lock_back_for_its_parent_is_caught(tmp_path, monkeypatch):
    def unlock(self):
        fcntl.flock(self._fd, fcntl.LOCK_UN)

    monkeypatch.setattr(locks.Held, "close", unlock)
    assert "let in" in found(tmp_path, writers.child_leaves_the_block)


def test_an_index_that_appears_while_it_is_looked_for_is_no_foreign_folder(tmp_path, monkeypatch):
    """Between two looks of one process another makes the index."""
    for name in ("LOCK", "catalog.db", "catalog.db-journal", "seg", "ann", "lex"):
        (tmp_path / name).touch()
    monkeypatch.setattr(Path, "exists", lambda _: False)
    refuse_foreign_folder(Layout(tmp_path))
    (tmp_path / "my.txt").touch()
    with pytest.raises(InputError, match="not an index"):
        refuse_foreign_folder(Layout(tmp_path))


def test_the_holder_is_named_even_where_the_file_still_names_another(tmp_path):
    gone = os.fork()
    if gone == 0:
        os._exit(0)
    os.waitpid(gone, 0)
    index = tmp_path / "index"
    with open_for_writing(Layout(index)):
        (index / "LOCK").write_text(f"{gone}\n")
        late = threading.Timer(0.01, (index / "LOCK").write_text, [f"{os.getpid()}\n"])
        late.start()
        with (
            pytest.raises(Locked, match=rf"pid {os.getpid()}\b"),
            open_for_writing(Layout(index)),
        ):
            pass
        late.join()
        for text, shown in ((f"{gone}\n", str(gone)), ("", "unknown"), ("9" * 25, "9999")):
            (index / "LOCK").write_text(text)
            with pytest.raises(Locked, match=rf"pid {shown}"), open_for_writing(Layout(index)):
                pass
    assert (index / "LOCK").read_text() == ""
