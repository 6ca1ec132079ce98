"""Backups while another process writes: restored elsewhere, sound, equal to the generation named.

A case takes a backup on one file system, damages a copy of what it took (of the backup or of the
index), which must be refused and leave what is there as it was, and restores the backup on another
file system, in the place of what the case before it restored.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from semsearch import fs
from semsearch.collection.backup import back_up, restore
from semsearch.collection.check import check_index
from semsearch.collection.reader import Reader
from semsearch.errors import SemsearchError
from semsearch.types import Document
from tests.fakes import FakeEncoder
from tests.faults import writing
from tests.faults.campaign import Campaign, Outcome
from tests.faults.damage import damaged
from tests.faults.flips import put
from tests.faults.readers import (
    expect_ready,
    open_searcher,
    publish,
    result_of,
    started,
    vector_of,
)

NEAR = 0.9999
_DERIVED = ("ann", "lex")


class Taken(NamedTuple):
    """What a restored index holds, to be compared once the writer's log is there."""

    case: int
    gen: int
    documents: dict[str, Document]
    vectors: dict[str, np.ndarray]
    hits: list[tuple[str, str]]


def run(seed: int, cases: Sequence[int], folder: Path) -> Outcome:
    """So many backups of an index that never rests."""
    outcome = Outcome(len(cases))
    for name in ("refused damage", "harmless damage", "replaced", "generations"):
        outcome.figures[name] = 0
    with started("write", folder, seed) as writer, tempfile.TemporaryDirectory() as disk:
        expect_ready(writer)
        publish(folder / "writing", "0")
        work = Work(folder, Path(disk), seed, outcome)
        try:
            for case in cases:
                work.perform(case)
        finally:
            publish(folder / "stop", "")
        outcome.figures |= result_of(writer)
    truth = writing.Truth.read(folder / "log", seed)
    for taken in work.taken:
        problem = differing(taken, truth)
        if problem:
            outcome.failures.append(f"case {taken.case}: {problem}")
    outcome.figures["generations"] = len({taken.gen for taken in work.taken})
    return outcome


class Work:
    """Takes backups of ``memory/index``, and restores them to the disk or the other way round."""

    def __init__(self, memory: Path, disk: Path, seed: int, outcome: Outcome) -> None:
        self.index = memory / "index"
        self.places = (memory, disk)
        self.seed = seed
        self.outcome = outcome
        self.taken: list[Taken] = []

    def perform(self, case: int) -> None:
        """One backup and what becomes of it."""
        first, second = self.places if case % 2 else self.places[::-1]
        copy, restored = first / f"backup-{case}", second / "restored"
        try:
            made = back_up(self.index, copy)
            self.refuse_damage(case, copy, restored)
            before = restored.exists()
            back = restore(copy, restored, replace=before)
            self.outcome.count("replaced", before)
            if (back.generation, back.documents) != (made.generation, made.documents):
                self.fail(case, f"{made} was restored as {back}")
            if before:
                self._require_kept(case, back.kept)
            self.taken.append(holding(case, restored, made.generation))
        except SemsearchError as exc:
            self.fail(case, f"{type(exc).__name__}: {exc}")
        finally:
            shutil.rmtree(copy, ignore_errors=True)

    def _require_kept(self, case: int, kept: Path | None) -> None:
        """What was there before can still be read, whole."""
        if kept is None:
            self.fail(case, "what was there before is not kept")
            return
        with Reader(kept) as reader:
            for line in check_index(reader):
                self.fail(case, f"what was there before: {line}")
        shutil.rmtree(kept)

    def refuse_damage(self, case: int, copy: Path, restored: Path) -> None:
        """A damaged backup is not restored, a damaged index not backed up; nothing is changed."""
        random = np.random.default_rng([self.seed, case])
        broken = copy.with_name(f"broken-{case}")
        shutil.copytree(copy, broken)
        files = sorted(path for path in broken.rglob("*") if path.is_file() and path.stat().st_size)
        path = files[int(random.integers(len(files)))]
        what, changed = damaged(path.read_bytes(), random, [])
        put(path, changed)
        before = digests(restored)
        target = broken.with_name(f"target-{case}")
        attempts: dict[str, Callable[[], Any]] = {
            "restore": lambda: restore(broken, restored, replace=restored.exists()),
            "backup": lambda: back_up(broken, target),
        }
        for name, attempt in attempts.items():
            self._attempt(case, f"{name} with {what} of {path.name}", attempt, findings(broken))
        if digests(restored) != before or target.exists():
            self.fail(case, f"{what} of {path.name} changed what was there")
        shutil.rmtree(broken)

    def _attempt(self, case: int, what: str, attempt: Callable[[], Any], found: list[str]) -> None:
        if not found:
            self.outcome.count("harmless damage", 0.5)
            return
        try:
            attempt()
        except SemsearchError as exc:
            self.outcome.count("refused damage")
            if "\n" in str(exc):
                self.fail(case, f"{what}: not one line: {exc}")
        else:
            self.fail(case, f"{what}: not refused, but check says {found[0]}")

    def fail(self, case: int, what: str) -> None:
        self.outcome.failures.append(f"case {case}: {what}")


def findings(folder: Path) -> list[str]:
    """What a check says, as far as it is damage."""
    try:
        with Reader(folder) as reader:
            return [str(finding) for finding in check_index(reader) if not finding.is_note]
    except SemsearchError as exc:
        return [str(exc)]


def digests(folder: Path) -> dict[str, str]:
    """Every file of a folder, but the lock, which is taken to replace an index."""
    return {
        str(path.relative_to(folder)): fs.sha256_of(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "LOCK"
    }


def holding(case: int, folder: Path, gen: int) -> Taken:
    """What an index holds: its documents, their vectors as the model made them, some hits."""
    with Reader(folder) as reader:
        problems = [str(finding) for finding in check_index(reader)]
        snapshot = reader.snapshot()
        if problems or snapshot.generation.gen != gen:
            raise SemsearchError(f"restored: generation {snapshot.generation.gen}, {problems}")
        documents = {document.id: document for document in reader.documents()}
        vids = np.setdiff1d(snapshot.rows.ids, snapshot.dead)
        rows = snapshot.rows.take(snapshot.ordinals(vids))
        if snapshot.rotation is not None:
            rows = rows @ snapshot.rotation.T
        owners = reader.documents_of(vids.tolist())
        vectors = {owners[vid].ext_id: row for vid, row in zip(vids.tolist(), rows, strict=True)}
    searcher = open_searcher(folder)
    try:
        hits = [(hit.id, hit.text) for hit in searcher.search("bar dor gil", 5)]
    finally:
        searcher.close()
    return Taken(case, gen, documents, vectors, hits)


def differing(taken: Taken, truth: writing.Truth) -> str:
    """What of a restored index is not as its generation was; nothing if all is."""
    state, model = truth.at(taken.gen)
    if {id: d.text for id, d in taken.documents.items()} != {id: d.text for id, d in state.items()}:
        return f"other documents than in generation {taken.gen}"
    if {id: d.metadata for id, d in taken.documents.items()} != {
        id: d.metadata for id, d in state.items()
    }:
        return f"other metadata than in generation {taken.gen}"
    if set(taken.vectors) != set(state):
        return f"vectors of other documents than in generation {taken.gen}"
    if any(_cosine(model, state[id], row) < NEAR for id, row in taken.vectors.items()):
        return f"other vectors than in generation {taken.gen}"
    if len(taken.hits) != min(5, len(state)):
        return f"{len(taken.hits)} hits"
    wrong = [id for id, text in taken.hits if id not in state or state[id].text != text]
    return f"hits that are not there: {wrong}" if wrong else ""


def _cosine(model: FakeEncoder, document: Document, row: np.ndarray) -> float:
    return float(vector_of(model, document) @ row / np.linalg.norm(row))


CAMPAIGN = Campaign(
    "backups",
    "each equal to the generation it names and sound; damage refused",
    8,
    200,
    run,
)
