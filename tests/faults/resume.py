"""An indexing run that is killed again and again ends where an undisturbed one ends.

A case is one corpus, indexed by ``run_indexing`` and killed up to 20 times: at a batch of texts
that was encoded, at any step of ``semsearch.fs``, or at a random time. What the index holds then is
compared byte by byte with what a run leaves that nobody killed. Case 0 is encoded by a real model.

While a window is stored the next one is encoded: a kill costs two windows at most, and one on the
average where encoding takes longer than storing.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np

from semsearch import fs
from semsearch.collection import layout, vector_build, writer
from semsearch.collection.check import check_index
from semsearch.collection.layout import Layout
from semsearch.collection.reader import Reader
from semsearch.collection.writer import open_for_writing
from semsearch.encoders import Encoded, Encoder, open_encoder
from semsearch.errors import NotFound
from semsearch.index import build, library
from semsearch.indexing import Source, run_indexing
from semsearch.indexing import source as windows
from semsearch.lexical import engine
from semsearch.types import Document
from tests.fakes import FakeEncoder, make_documents
from tests.faults.campaign import Campaign, Outcome
from tests.faults.kill_worker import NEVER, Kill, Ran, Worker, say

JOB = "tests.faults.resume.index_corpus"
BATCH = 16
"""Texts that the fake encoder encodes at once ..."""

BATCH_SECONDS = 0.003
"""... and a pause before, as otherwise storing would take longer than encoding."""


@dataclass(frozen=True)
class Plan:
    """One case: so many documents in windows of so many, killed so many times."""

    documents: int
    window: int
    kills: int
    real: bool = False
    changed: bool = False
    seed: int = 0

    def corpus(self) -> list[Document]:
        """The first version of the corpus."""
        return make_documents(self.documents, self.seed)

    def second_corpus(self) -> list[Document]:
        """Of nine documents in ten: a third with new words, a third with other metadata."""
        kept = [d for n, d in enumerate(self.corpus()) if n % 10]
        return [
            replace(d, text=f"{d.text} anew") if n % 3 == 0
            else replace(d, metadata={**d.metadata, "again": n}) if n % 3 == 1
            else d
            for n, d in enumerate(kept)
        ]  # fmt: skip


def plan_of(seed: int, case: int) -> Plan:
    """The plan of a case: 0 a real model, 1 and 2 small, 3 of 10,000 documents, then small ones."""
    if case == 0:
        return Plan(40, 8, 2, real=True, seed=seed)
    if case == 3:
        return Plan(10_000, 512, 20, seed=seed)
    return Plan(1_000, 64, 20, changed=case % 2 == 0, seed=seed + case)


class Told:
    """An encoder that tells how many texts it has encoded, batch by batch."""

    def __init__(self, encoder: Any) -> None:
        self._encoder = encoder

    def __getattr__(self, name: str) -> Any:
        return getattr(self._encoder, name)

    def encode_documents(
        self, texts: Sequence[str], progress: Callable[[int], None], *others: Any
    ) -> Encoded:
        def told(count: int) -> None:
            say(f"encoded {count}")
            fs.point("batch")
            progress(count)

        found: Encoded = self._encoder.encode_documents(texts, told, *others)
        return found


def set_sizes(window: int, patch: Callable[[Any, str, Any], None] = setattr) -> None:
    """An index of some windows has segments, merges, a rotation, FAISS and words."""
    patch(windows, "WINDOW_DOCUMENTS", window)
    for module in (writer, layout):
        patch(module, "FLUSH_ROWS", 3 * window // 2)
    patch(layout, "MERGE_COUNT", 3)
    patch(layout, "MERGE_LIMITS", (6 * window, 30 * window))
    for module in (vector_build, build):
        patch(module, "EXACT_ROWS", 4 * window)
    patch(layout, "UNCOVERED_WORDS", 5 * window)
    from semsearch.indexing import indexer

    patch(indexer, "UNCOVERED_WORDS", 5 * window)


def index_corpus(folder: str, plan: dict[str, Any], second: bool) -> None:
    """The job: what ``semsearch index`` does, of the first corpus or the second."""
    chosen = Plan(**plan)
    set_sizes(chosen.window)
    model: Any = FakeEncoder(before_batch=lambda _: time.sleep(BATCH_SECONDS))
    if chosen.real:
        model = open_encoder("all-MiniLM-L6-v2", local_only=True)
    corpus = chosen.second_corpus() if second else chosen.corpus()
    with open_for_writing(Layout(Path(folder))) as target:
        sources = [Source("corpus.jsonl", corpus)]
        summary = run_indexing(target, cast(Encoder, Told(model)), sources, prune=second)
    say(f"summary {summary.unchanged} {summary.encoded}")


def index_from_nothing(folder: str, plan: dict[str, Any], second: bool) -> None:
    """A job that keeps nothing of what was done before: the campaign must not bear it."""
    shutil.rmtree(folder, ignore_errors=True)
    index_corpus(folder, plan, second)


def warm_up() -> None:
    """Load libraries once, not in every fork."""
    import sqlite_utils.migrations  # noqa: F401

    import semsearch.lexical.writer  # noqa: F401

    library.load()
    engine.load()


def dump(folder: Path) -> dict[str, Any]:
    """Everything that the newest generation holds, but the numbers of generations."""
    with Reader(folder) as reader:
        snapshot = reader.snapshot()
        vids = snapshot.rows.ids if snapshot.alive is None else snapshot.rows.ids[snapshot.alive]
        owners = reader.passages_of(vids.tolist())
        ordinals = snapshot.ordinals(vids)
        there, codes = snapshot.tokens.take(ordinals)
        parts = np.split(codes.codes, np.cumsum(codes.counts)[:-1]) if len(vids) else []
        passages = [
            (vid, row.document, passage.ord, passage.start, passage.end, passage.text_hash,
             passage.tokens, passage.unknown, passage.truncated, vector.tobytes(), has,
             part.tobytes())
            for vid, (passage, row), vector, has, part in zip(
                vids.tolist(), (owners[vid] for vid in vids.tolist()), snapshot.rows.take(ordinals),
                there.tolist(), parts, strict=True,
            )
        ]  # fmt: skip
        rotation = None if snapshot.rotation is None else snapshot.rotation.tobytes()
        return {
            "encoder": snapshot.encoder,
            "dims": (snapshot.dims, snapshot.rows.dim),
            "rotation": rotation,
            "totals": (snapshot.generation.n_document, snapshot.generation.n_passage),
            "sources": reader.sources(),
            "passages": passages,
        }


def difference(one: dict[str, Any], other: dict[str, Any]) -> str:
    """In a few words, where two dumps differ; nothing if they do not."""
    for name, value in one.items():
        if name != "passages" and value != other[name]:
            return f"{name} differ"
    first, second = one["passages"], other["passages"]
    if len(first) != len(second):
        return f"{len(first)} passages, {len(second)} of them in an undisturbed run"
    count = sum(a != b for a, b in zip(first, second, strict=True))
    return f"{count} of {len(first)} passages differ" if count else ""


def stored_texts(folder: Path) -> int:
    """How many different texts the index has, dead ones too. Raises AssertionError for damage."""
    try:
        reader = Reader(folder)
    except NotFound:
        return 0
    with reader:
        damage = [str(finding) for finding in check_index(reader) if not finding.is_note]
        if damage:
            raise AssertionError("; ".join(damage))
        query = "SELECT COUNT(DISTINCT text_hash) FROM passage"
        return int(reader.connection.execute(query).fetchone()[0])


def encoded_by(ran: Ran) -> int:
    return sum(map(int, ran.of("encoded")))


class Killing:
    """Runs of one case that are killed, and what they cost."""

    def __init__(self, worker: Worker, plan: Plan, outcome: Outcome) -> None:
        self.worker = worker
        self.plan = plan
        self.outcome = outcome
        self.encoded = self.kills = self.most_lost = 0
        self.last = NEVER
        self._random = np.random.default_rng([plan.seed, plan.documents])

    def run(self, folder: Path, second: bool, kill: Kill = NEVER) -> Ran:
        self.last = kill
        ran = self.worker.run(JOB, folder, asdict(self.plan), second, kill=kill)
        if ran.status and not ran.killed:
            raise AssertionError(f"a run failed: {ran.said[-3:]}")
        return ran

    def next_kill(self, seconds: float) -> Kill:
        """When to kill a run: mostly within the first windows that it has to do."""
        plan, turn = self.plan, self.kills % 3
        batches = 2 * max(1, plan.window // BATCH) if not plan.real else 3
        if turn == 0 or plan.real:
            return Kill("batch", 1 + int(self._random.integers(batches)))
        if turn == 1:
            return Kill("", 1 + int(self._random.integers(40 + 2 * batches)))
        return Kill(seconds=float(self._random.random()) * 2 * seconds)

    def killed_until_done(self, folder: Path, second: bool, kills: int, seconds: float) -> None:
        """Run again after each kill, and in the end without one."""
        before = stored_texts(folder)
        for _ in range(kills):
            ran = self.run(folder, second, self.next_kill(seconds))
            self.encoded += encoded_by(ran)
            self.kills += ran.killed
            now = stored_texts(folder)
            self.most_lost = max(self.most_lost, encoded_by(ran) - (now - before))
            before = now
            if not ran.killed:
                return
        self.encoded += encoded_by(self.run(folder, second))


def run_case(worker: Worker, plan: Plan, folder: Path, outcome: Outcome) -> None:
    """Index the corpus undisturbed and killed. Raises AssertionError for a difference."""
    killing = Killing(worker, plan, outcome)
    stages = [False, True] if plan.changed else [False]
    needed = 0
    for second in stages:
        ran = killing.run(folder / "whole", second)
        needed += encoded_by(ran)
        share = ran.seconds * plan.window / plan.documents
        killing.killed_until_done(folder / "killed", second, plan.kills // len(stages), share)
        wrong = difference(dump(folder / "killed"), dump(folder / "whole"))
        if wrong:
            raise AssertionError(f"{wrong} after {killing.kills} kills, the last {killing.last}")
    if stored_texts(folder / "killed") != stored_texts(folder / "whole"):
        raise AssertionError("other texts are stored")
    with Reader(folder / "killed") as reader:
        notes = [str(finding) for finding in check_index(reader)]
    if notes:
        raise AssertionError("; ".join(notes))
    again = killing.run(folder / "killed", stages[-1])
    if encoded_by(again):
        raise AssertionError(f"{encoded_by(again)} texts were encoded again in the end")
    account(killing, needed, outcome)


def account(killing: Killing, needed: int, outcome: Outcome) -> None:
    """Add the figures of a case. Raises AssertionError if too much was encoded twice."""
    plan, twice = killing.plan, killing.encoded - needed
    outcome.count("kills", killing.kills)
    outcome.count("texts", needed)
    outcome.count("encoded again", twice)
    outcome.highest("windows lost by one kill (max)", killing.most_lost / plan.window)
    if plan.real:
        outcome.count("vectors of a real model, byte-equal", needed)
    outcome.count("windows encoded again", twice / plan.window)
    if twice < 0:
        raise AssertionError(f"{-twice} texts of {needed} were never encoded")
    if killing.most_lost > 2 * plan.window:
        raise AssertionError(f"one kill lost {killing.most_lost} texts that were encoded")


def run(seed: int, cases: Sequence[int], folder: Path) -> Outcome:
    """The campaign."""
    outcome = Outcome(len(cases))
    with Worker("tests.faults.resume") as worker:
        for case in cases:
            place = folder / str(case)
            try:
                run_case(worker, plan_of(seed, case), place, outcome)
            except Exception as exc:
                outcome.fail(case, "", exc)
            shutil.rmtree(place, ignore_errors=True)
    kills = float(outcome.figures.get("kills", 0))
    again = float(outcome.figures.pop("windows encoded again", 0))
    outcome.figures["windows encoded again by a kill (mean)"] = again / max(kills, 1)
    return outcome


CAMPAIGN = Campaign(
    name="resume",
    must="equal to an undisturbed run; two windows a kill encoded again at most",
    push=2,
    full=6,
    run=run,
)
