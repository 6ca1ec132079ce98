"""Too little memory, in all degrees: one line says so, the index stays sound, and a run resumes.

A case is one limit to the address space (``RLIMIT_AS``), set in a fork of a warm process above what
that has already. The command line then indexes a corpus into an index that has a part of it, or
searches it; afterwards the same is done without a limit. The limits are spread evenly, with a
random part of their own; all of ``semsearch`` is as it is, but the model is a fake one. The C
library is told not to set address space aside for each thread, which is no memory.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from semsearch.collection.check import check_index
from semsearch.collection.reader import Reader
from semsearch.search.facade import Index
from semsearch.types import Document
from tests.fakes import FakeEncoder, make_documents
from tests.faults import resume
from tests.faults.campaign import Campaign, Outcome
from tests.faults.kill_worker import Ran, Worker, say
from tests.faults.resume import Told, difference, dump, encoded_by, set_sizes, stored_texts

JOB = "tests.faults.low_memory.command"
DOCUMENTS, WINDOW = 800, 64
FIRST = 200
"""So many of them are in the index before memory is short."""

MOST, MOST_TO_SEARCH = 160 << 20, 64 << 20
"""Bytes above those of the warm process: with these everything succeeds."""

SEARCHES = 4
"""One case in so many searches."""

QUERY = ["query", "bal bar cil", "-i", "{folder}", "-k", "5", "--json"]


def warm_up() -> None:
    """Load libraries once, so that all limits are about the work itself."""
    from importlib import import_module

    resume.warm_up()
    for name in ("cli.index", "cli.query", "cli.main", "search.searcher", "indexing.run"):
        import_module(f"semsearch.{name}")
    square = np.ones((300, 300), np.float32)
    square @ square  # for which BLAS takes memory of its own, or ends the process


def write_corpus(path: Path, documents: Sequence[Document]) -> None:
    with open(path, "w", encoding="utf-8") as file:
        for d in documents:
            record = {"_id": d.id, "title": d.title, "text": d.text, **d.metadata}
            file.write(json.dumps(record) + "\n")


def command(words: list[str], errors: str, room: int) -> None:
    """The job: a command with a fake model, and so many bytes more than there are now."""
    set_sizes(WINDOW)
    Index.encoder_for = lambda *_: Told(FakeEncoder())  # type: ignore[method-assign,assignment]
    os.dup2(os.open(errors, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644), 2)
    sys.argv, sys.stdin = ["semsearch", *words], open(os.devnull, encoding="utf-8")  # noqa: SIM115
    from semsearch.cli.main import main

    most, hard = resource.getrlimit(resource.RLIMIT_AS)
    if room:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + room, hard))
    status: Any = 0
    try:
        main()
    except SystemExit as exc:
        status = exc.code
    finally:
        sys.stdout.flush()
        resource.setrlimit(resource.RLIMIT_AS, (most, hard))
    say(f"exit {status or 0}")


def careless(words: list[str], errors: str, room: int) -> None:
    """A job that asks for no room and says nothing of memory: the campaign must not bear it."""
    import click

    from semsearch.cli.main import Commands
    from semsearch.lexical import engine as words_engine

    words_engine.require_room = lambda *_: None
    Commands.invoke = click.Group.invoke  # type: ignore[method-assign]
    command(words, errors, room)


class Bench:
    """The corpus, the index to begin with, and what it holds in the end."""

    def __init__(self, worker: Worker, folder: Path) -> None:
        self.worker = worker
        self.folder = folder
        self.corpus = folder / "corpus.jsonl"
        folder.mkdir(parents=True, exist_ok=True)
        write_corpus(self.corpus, make_documents(FIRST))
        self._succeed(self.index(folder / "begun"))
        write_corpus(self.corpus, make_documents(DOCUMENTS))
        shutil.copytree(folder / "begun", folder / "whole")
        self._succeed(self.index(folder / "whole"))
        self.whole = dump(folder / "whole")
        self.answer = self.query(folder / "whole")
        self._succeed(self.answer)

    def index(self, index: Path, room: int = 0) -> Ran:
        return self._run(["index", str(self.corpus), "-i", str(index)], room)

    def query(self, index: Path, room: int = 0) -> Ran:
        return self._run([word.format(folder=index) for word in QUERY], room)

    def _run(self, words: list[str], room: int) -> Ran:
        return self.worker.run(JOB, words, self.folder / "errors", room)

    def _succeed(self, ran: Ran) -> None:
        if ran.of("exit") != ["0"]:
            raise AssertionError(f"without a limit: {self.errors()}")

    def errors(self) -> list[str]:
        """What the last command said on its standard error, but for hints and warnings of ours."""
        text = (self.folder / "errors").read_text(encoding="utf-8", errors="replace")
        return [line for line in text.splitlines() if line.strip()]


def clean_end(bench: Bench, ran: Ran) -> bool:
    """Whether a command succeeded. Raises AssertionError if it ended in any other way than one."""
    errors = bench.errors()
    if ran.status:
        how = f"signal {ran.status}" if ran.status < signal.NSIG else "a traceback"
        raise AssertionError(f"it ended by {how}: {errors[-2:]}")
    code = ran.of("exit")
    if code == ["0"]:
        return True
    if code != ["1"] or len(errors) != 1 or not errors[0].startswith("Error: "):
        raise AssertionError(f"exit {code}: {errors}")
    if "memory" not in errors[0]:
        raise AssertionError(f"it does not say that memory is short: {errors[0]}")
    return False


def index_case(bench: Bench, index: Path, room: int, outcome: Outcome) -> None:
    """A run that has so much room, and one after it that has as much as it likes."""
    shutil.copytree(bench.folder / "begun", index)
    ran = bench.index(index, room)
    succeeded = clean_end(bench, ran)
    outcome.count("runs that succeeded" if succeeded else "runs refused in one line")
    kept = stored_texts(index) - FIRST
    twice = encoded_by(ran) - kept
    outcome.highest("windows encoded again (max)", twice / WINDOW)
    outcome.count("stopped midway", not succeeded and kept > 0)
    again = bench.index(index)
    if not clean_end(bench, again):
        raise AssertionError(f"it did not resume: {bench.errors()}")
    if encoded_by(again) != DOCUMENTS - FIRST - kept:
        raise AssertionError(f"{encoded_by(again)} texts encoded, {kept} were there")
    if twice > 2 * WINDOW:
        raise AssertionError(f"{twice} texts were encoded again")
    wrong = difference(dump(index), bench.whole)
    with Reader(index) as reader:
        wrong = wrong or "; ".join(str(finding) for finding in check_index(reader))
    if wrong:
        raise AssertionError(wrong)


def query_case(bench: Bench, room: int, outcome: Outcome) -> None:
    """A search that has so much room: the right answer, or one line."""
    ran = bench.query(bench.folder / "whole", room)
    if not clean_end(bench, ran):
        outcome.count("searches refused in one line")
        return
    outcome.count("searches answered")
    if ran.said != bench.answer.said:
        raise AssertionError(f"another answer: {ran.said[:3]}")


def room_of(seed: int, case: int) -> int:
    """Bytes above what is there: spread over the whole range whatever the number of cases."""
    most = MOST_TO_SEARCH if is_search(case) else MOST
    share = (case * 0.618_033_988_75 + np.random.default_rng([seed, case]).random() / 50) % 1
    return int(most * share**1.5) + 4_096


def is_search(case: int) -> bool:
    return case % SEARCHES == SEARCHES - 1


def run(seed: int, cases: Sequence[int], folder: Path) -> Outcome:
    """The campaign."""
    outcome = Outcome(len(cases))
    with Worker("tests.faults.low_memory", MALLOC_ARENA_MAX="1") as worker:
        bench = Bench(worker, folder / "bench")
        for case in cases:
            room = room_of(seed, case)
            place = folder / str(case)
            try:
                if is_search(case):
                    query_case(bench, room, outcome)
                else:
                    index_case(bench, place, room, outcome)
            except Exception as exc:
                outcome.fail(case, f"{room / 1e6:.1f} MB more", exc)
            shutil.rmtree(place, ignore_errors=True)
    return outcome


CAMPAIGN = Campaign(
    name="low_memory",
    must="success or one line, never damage; resumes, two windows twice at most",
    push=20,
    full=300,
    run=run,
)
