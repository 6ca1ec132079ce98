"""Two writers at once: the second is refused at once; whoever dies, nobody ever has to unlock.

A case is one of eight things that can happen to the lock, each with numbers of its own.
"""

from __future__ import annotations

import multiprocessing
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from semsearch.collection.check import check_index
from semsearch.collection.layout import Layout
from semsearch.collection.reader import Reader
from semsearch.collection.writer import Writer, open_for_writing
from semsearch.errors import Locked, StorageError
from semsearch.types import Document
from tests.faults.campaign import Campaign, Outcome
from tests.faults.kill_worker import ROOT
from tests.store_model import DIM, TOKENS, assert_holds, encoder_row, put, small_sizes

RACERS = 4
SECONDS = 20.0
"""After so long something hangs."""


def document(number: int) -> Document:
    return Document(f"d{number}", f"text {number} " + "x" * number, "", {"n": number}, "corpus")


def open_index(writer: Writer) -> None:
    if writer.snapshot.encoder is None:
        writer.adopt_encoder(encoder_row(), DIM, TOKENS)


def add(folder: Path, number: int) -> None:
    """What any command that writes does."""
    with open_for_writing(Layout(folder)) as writer:
        open_index(writer)
        put(writer, [document(number)])


def require_holds(folder: Path, numbers: Sequence[int]) -> None:
    """The index is sound and has these documents."""
    with Reader(folder) as reader:
        assert_holds(reader.snapshot(), reader, {d.id: d for d in map(document, numbers)})
        found = [str(finding) for finding in check_index(reader)]
        if found:
            raise AssertionError("; ".join(found))


def require_refused(folder: Path, pid: int, outcome: Outcome) -> None:
    """A writer is refused, in a line that names the one that holds the lock."""
    start = time.perf_counter()
    try:
        add(folder, 99)
    except Locked as exc:
        outcome.highest("ms until refused (max)", 1e3 * (time.perf_counter() - start))
        outcome.count("refused")
        if not re.search(rf"\bpid {pid}\b", str(exc)):
            raise AssertionError(f"not pid {pid}: {exc}") from exc
    else:
        raise AssertionError("a second writer was let in")


def lines_of(child: int) -> Iterator[str]:
    """What is written to a pipe, line by line."""
    with os.fdopen(child, "r", encoding="utf-8") as file:
        for line in file:
            yield line.rstrip("\n")


@contextmanager
def forked(work: Callable[[Callable[[str], None]], None]) -> Iterator[tuple[int, Iterator[str]]]:
    """A fork that works and is killed in the end: its number, and what it says."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(reading)
            work(lambda line: (os.write(writing, f"{line}\n".encode()), None)[1])
        except BaseException as exc:
            os.write(writing, f"{type(exc).__name__}: {exc}\n".encode())
        finally:
            os._exit(0)
    os.close(writing)
    try:
        yield child, lines_of(reading)
    finally:
        kill(child)


def kill(child: int) -> None:
    """Kill a child, and wait until the kernel is done with it."""
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


def holding(folder: Path) -> Callable[[Callable[[str], None]], None]:
    """Work that opens the index, says so, and stays."""

    def work(say: Callable[[str], None]) -> None:
        with open_for_writing(Layout(folder)):
            say("open")
            time.sleep(SECONDS)

    return work


def second_writer(folder: Path, _: Any, outcome: Outcome) -> None:
    """Another process writes: refused, naming it; reading goes on; then all is as before."""
    add(folder, 1)
    with forked(holding(folder)) as (pid, said):
        require_line(said, "open")
        require_refused(folder, pid, outcome)
        require_holds(folder, [1])
    add(folder, 2)
    require_holds(folder, [1, 2])


def same_process(folder: Path, _: Any, outcome: Outcome) -> None:
    """The same process opens it twice: refused, naming itself."""
    with open_for_writing(Layout(folder)) as writer:
        open_index(writer)
        put(writer, [document(1)])
        require_refused(folder, os.getpid(), outcome)
        put(writer, [document(2)])
    require_holds(folder, [1, 2])


def killed_holder(folder: Path, random: np.random.Generator, outcome: Outcome) -> None:
    """The holder is killed at any time: the next writer just opens."""

    def work(say: Callable[[str], None]) -> None:
        with open_for_writing(Layout(folder)) as writer:
            open_index(writer)
            say("open")
            while True:
                put(writer, [document(1)])

    with forked(work) as (_, said):
        require_line(said, "open")
        time.sleep(float(random.random()) * 0.01)
    outcome.count("killed holders")
    add(folder, 1)
    add(folder, 2)
    require_holds(folder, [1, 2])


def forked_child_outlives(folder: Path, _: Any, outcome: Outcome) -> None:
    """The holder forks, and is killed: the child goes on, but the lock is free."""

    def work(say: Callable[[str], None]) -> None:
        with open_for_writing(Layout(folder)) as writer:
            open_index(writer)
            put(writer, [document(1)])
            if os.fork() == 0:
                say(str(os.getpid()))  # the fork runs by now, and has let go
                time.sleep(SECONDS)
                os._exit(0)
            time.sleep(SECONDS)

    with forked(work) as (pid, said):
        child = int(next(said))
        require_refused(folder, pid, outcome)
    try:
        outcome.count("killed holders")
        add(folder, 2)
        require_holds(folder, [1, 2])
    finally:
        os.kill(child, signal.SIGKILL)  # a grandchild: the system waits for it


def forked_child_writes(folder: Path, _: Any, outcome: Outcome) -> None:
    """A fork of the holder is refused every write, whatever it does with the writer it has."""

    def work(writer: Writer) -> Callable[[Callable[[str], None]], None]:
        def child(say: Callable[[str], None]) -> None:
            for write in (lambda: put(writer, [document(7)]), lambda: writer.delete(["d1"]),
                          lambda: add(folder, 8)):  # fmt: skip
                try:
                    write()
                    say("written")
                except (StorageError, Locked) as exc:
                    say(f"{type(exc).__name__} {exc}")
            say("end")

        return child

    with open_for_writing(Layout(folder)) as writer:
        open_index(writer)
        put(writer, [document(1)])
        with forked(work(writer)) as (_, said):
            for wanted in ("StorageError", "StorageError", "Locked"):
                line = next(said)
                if not line.startswith(wanted) or str(os.getpid()) not in line:
                    raise AssertionError(f"a fork of the writer wrote: {line}")
                outcome.count("refused")
            require_line(said, "end")
        put(writer, [document(2)])
    add(folder, 3)
    require_holds(folder, [1, 2, 3])


def child_leaves_the_block(folder: Path, _: Any, outcome: Outcome) -> None:
    """A fork that leaves the holder's block lets go of nothing that is not its own."""
    reading, writing = os.pipe()
    with forked_in_block(folder, writing) as pid:
        os.close(writing)
        with os.fdopen(reading) as said:
            if said.read() != "left\n":
                raise AssertionError("the fork did not leave")
        require_refused(folder, pid, outcome)
    add(folder, 2)
    require_holds(folder, [1, 2])


@contextmanager
def forked_in_block(folder: Path, told: int) -> Iterator[int]:
    """Hold the index while a fork leaves the block and ends; the number of the holder."""
    with open_for_writing(Layout(folder)) as writer:
        open_index(writer)
        put(writer, [document(1)])
        child = os.fork()
        if child:
            yield os.getpid()
    if child:
        os.waitpid(child, 0)
        return
    try:
        other = os.open(os.devnull, os.O_RDONLY)  # the number of what was closed, used again
        os.fstat(other)
        os.write(told, b"left\n")
    finally:
        os._exit(0)


def program_started(folder: Path, _: Any, outcome: Outcome) -> None:
    """A program that the holder started, with all that is open, does not hold the lock."""

    def work(say: Callable[[str], None]) -> None:
        with open_for_writing(Layout(folder)) as writer:
            open_index(writer)
            put(writer, [document(1)])
            sleep = [sys.executable, "-c", f"import time; time.sleep({SECONDS})"]
            started = subprocess.Popen(sleep, close_fds=False, cwd=ROOT)
            say(str(started.pid))
            time.sleep(SECONDS)

    with forked(work) as (_, said):
        started = int(next(said))
    try:
        outcome.count("killed holders")
        add(folder, 2)
        require_holds(folder, [1, 2])
    finally:
        os.kill(started, signal.SIGKILL)


def restarted(folder: Path, random: np.random.Generator, outcome: Outcome) -> None:
    """The lock's file names this very process, or nonsense: a container that was started again."""
    add(folder, 1)
    for text in (f"{os.getpid()}\n", "1\n", "", "\0\xff", f"{int(random.integers(1 << 30))}\n"):
        (folder / "LOCK").write_text(text)
        add(folder, 2)
        require_holds(folder, [1, 2])
        outcome.count("old locks")


def race(folder: Path, random: np.random.Generator, outcome: Outcome) -> None:
    """Several processes make the same new index at once: one does, the others are refused."""
    context = multiprocessing.get_context("fork")
    barrier, told = context.Barrier(RACERS), context.SimpleQueue()
    waits = (random.random(RACERS) * 0.000_5).tolist()
    racers = [
        context.Process(target=racer, args=(folder, n, waits[n], barrier, told))
        for n in range(RACERS)
    ]
    for process in racers:
        process.start()
    found = [told.get() for _ in racers]
    for process in racers:
        process.join()
    winners = {pid: numbers for pid, numbers, _ in found if numbers}
    for _, numbers, said in found:
        outcome.count("refused", not numbers)
        if not numbers and not any(re.search(rf"\bpid {pid}\b", said) for pid in winners):
            raise AssertionError(f"a racer ended with: {said}")
    if not winners:
        raise AssertionError("nobody made the index")
    outcome.count("races")
    require_holds(folder, sorted(n for numbers in winners.values() for n in numbers))


def racer(folder: Path, number: int, wait: float, barrier: Barrier, told: Any) -> None:
    """One process of a race; it holds what it got until the others had their turn."""
    said = ""
    try:
        barrier.wait(SECONDS)
        time.sleep(wait)
        with open_for_writing(Layout(folder)) as writer:
            open_index(writer)
            put(writer, [document(number)])
            barrier.wait(SECONDS)
            told.put((os.getpid(), [number], said))
        return
    except Exception as exc:
        said = f"{type(exc).__name__}: {exc}"
    barrier.wait(SECONDS)
    told.put((os.getpid(), [], said))


def require_line(said: Iterator[str], wanted: str) -> None:
    line = next(said, "nothing")
    if line != wanted:
        raise AssertionError(f"said {line}")


HAPPENINGS = (
    second_writer, race, forked_child_outlives, killed_holder, forked_child_writes, restarted,
    child_leaves_the_block, program_started, race, same_process,
)  # fmt: skip


def run(seed: int, cases: Sequence[int], folder: Path) -> Outcome:
    """The campaign."""
    outcome = Outcome(len(cases))
    with pytest.MonkeyPatch.context() as patch:
        small_sizes(patch.setattr)
        for case in cases:
            happening = HAPPENINGS[case % len(HAPPENINGS)]
            place = folder / str(case)
            try:
                happening(place, np.random.default_rng([seed, case]), outcome)
            except Exception as exc:
                outcome.fail(case, happening.__name__, exc)
            shutil.rmtree(place, ignore_errors=True)
    return outcome


CAMPAIGN = Campaign(
    name="writers",
    must="the second refused in 100 ms, by the pid; nothing ever to unlock",
    push=40,
    full=400,
    run=run,
)
