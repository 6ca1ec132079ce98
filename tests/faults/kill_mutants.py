"""Jobs that break a promise: a campaign that does not catch them proves nothing."""

from __future__ import annotations

from pathlib import Path

from semsearch import fs
from semsearch.collection import writer as writing
from tests import store_model
from tests.faults import kill_steps
from tests.faults.kill_steps import Case, Session, set_sizes
from tests.faults.kill_worker import say


def acknowledged_early(root: str, seed: int, number: int, first: int) -> None:
    """Says that a step is done before it is."""
    set_sizes()
    session = Session(Case(seed, number), Path(root))
    for step in range(first, len(session.case.program)):
        fs.point(f"step {step}")
        say(f"done {step} {session.writer.snapshot.generation.gen}")
        session.do(step)


def in_two_commits(root: str, seed: int, number: int, first: int) -> None:
    """Commits one document of a batch before the others."""
    whole = store_model.put

    def put(target, documents):
        documents = list(documents)
        whole(target, documents[:1])
        return whole(target, documents[1:])

    kill_steps.put = put  # type: ignore[attr-defined]
    kill_steps.write_index(root, seed, number, first)


def wrong_vectors(root: str, seed: int, number: int, first: int) -> None:
    """Stores the vectors of a batch in another order."""
    before = writing.Writer._insert_recent

    def insert(self, vids, matrix, codes):
        before(self, vids, matrix[::-1], codes)

    writing.Writer._insert_recent = insert  # type: ignore[method-assign]
    kill_steps.write_index(root, seed, number, first)
