"""What is done to an index while it is killed: a programme of steps, drawn from seed and case.

What each step writes is a pure function of seed, case and step, so that whoever looks afterwards
can tell what must be there.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

from semsearch import fs
from semsearch.collection import maintain, vector_build
from semsearch.collection.backup import back_up, restore
from semsearch.collection.language import choose_language
from semsearch.collection.layout import Layout
from semsearch.collection.lexical_cache import build_lexical_cache
from semsearch.collection.token_fill import fill_tokens
from semsearch.collection.writer import Writer, open_for_writing
from semsearch.index import build, library
from semsearch.lexical import engine
from semsearch.store import passages, schema
from semsearch.types import Document
from tests.faults.kill_worker import say
from tests.store_model import DIM, TOKENS, codes_of, encoder_row, put, small_sizes

NUMBERS = 40
"""So many different documents there are."""

MIDDLE = (
    "put", "put", "put", "put", "delete", "delete", "merge", "rotate", "vectors", "words", "words",
    "tokens", "compact", "garbage", "vacuum", "backup", "copy", "restore",
)  # fmt: skip
ENDS = ((), (), ("migrate", "put"))
EVERYTHING = (
    "put", "put", "words", "put", "merge", "rotate", "backup", "put", "vectors", "tokens", "delete",
    "copy", "put", "words", "garbage", "restore", "put", "compact", "words", "vectors", "vacuum",
    "migrate", "put",
)  # fmt: skip
LENGTHS = (6, 13)

LATER = "CREATE TABLE later (k INTEGER PRIMARY KEY, v TEXT NOT NULL)"
"""What the format adds that exists in these tests only."""


def set_sizes(patch=setattr) -> None:
    """Many small files of every kind."""
    small_sizes(patch)
    for module in (vector_build, build):
        patch(module, "EXACT_ROWS", 20)


def second_format(patch=setattr) -> None:
    """Let there be a format 2: a table more, filled from what is there."""
    first = schema.migrations

    def migrations():
        steps = first()

        @steps(name="0002_later")
        def later(db) -> None:
            db.execute(LATER)
            fs.point("migrating")
            db.execute("INSERT INTO later SELECT doc_id, ext_id FROM document")
            fs.point("migrating")
            db.execute("PRAGMA user_version = 2")

        return steps

    patch(schema, "FORMAT", 2)
    patch(schema, "SCHEMAS", {**schema.SCHEMAS, 2: f"{schema.TABLES}{LATER};\n"})
    patch(schema, "migrations", migrations)


@dataclass(frozen=True)
class Case:
    """One programme: the names of its steps, and what they write."""

    seed: int
    number: int

    @cached_property
    def program(self) -> tuple[str, ...]:
        """The steps; case -1 has one of everything."""
        if self.number < 0:
            return EVERYTHING
        random = np.random.default_rng([self.seed, self.number])
        middle = random.choice(MIDDLE, int(random.integers(*LENGTHS))).tolist()
        end = ENDS[int(random.integers(len(ENDS)))]
        return ("put", "put", *middle, *end)

    def documents(self, step: int) -> list[Document]:
        """What a ``put`` writes: 3 to 7 documents, of which some are there already."""
        random = np.random.default_rng([self.seed, self.number + 1, step])
        numbers = random.choice(NUMBERS, int(random.integers(3, 8)), replace=False).tolist()
        name = f"text {self.seed} {self.number} {step} "
        return [
            Document(f"d{n}", name + "x" * n, "", {"step": step, "n": n}, "corpus")
            for n in sorted(numbers)
        ]

    def gone(self, step: int) -> list[str]:
        """What a ``delete`` takes away, if it is there."""
        random = np.random.default_rng([self.seed, self.number + 1, step])
        return [f"d{n}" for n in random.choice(NUMBERS, 8, replace=False).tolist()]

    def last_backup(self, step: int) -> int | None:
        """The last step before this one that made a backup."""
        before = [at for at in range(step) if self.program[at] == "backup"]
        return before[-1] if before else None

    def state_after(self, step: int) -> dict[str, Document]:
        """The documents that are there once steps 0 to ``step`` are done."""
        if step < 0:
            return {}
        state = self.state_after(step - 1)
        name = self.program[step]
        if name == "put":
            return {**state, **{d.id: d for d in self.documents(step)}}
        if name == "delete":
            return {id: d for id, d in state.items() if id not in self.gone(step)}
        if name == "restore" and (backup := self.last_backup(step)) is not None:
            return self.state_after(backup)
        return state


class Session:
    """One process at work on ``root/index``, with its backups beside that."""

    def __init__(self, case: Case, root: Path) -> None:
        self.case = case
        self.root = root
        self.layout = Layout(root / "index")
        self._open = ExitStack()
        self._writer: Writer | None = None

    @property
    def writer(self) -> Writer:
        """The open writer; opened when it is needed."""
        if self._writer is None:
            self._writer = self._open.enter_context(open_for_writing(self.layout))
            if self._writer.snapshot.encoder is None:
                self._writer.adopt_encoder(encoder_row(), DIM, TOKENS)
                choose_language(self._writer, "en")
        return self._writer

    def close(self) -> None:
        """Let go of the index."""
        self._writer = None
        self._open.close()

    def do(self, step: int) -> int:
        """Do one step; the generation that it left."""
        action = _ACTIONS[self.case.program[step]]
        action(self, step)
        return self.writer.snapshot.generation.gen


def _put(session: Session, step: int) -> None:
    put(session.writer, session.case.documents(step))


def _delete(session: Session, step: int) -> None:
    session.writer.delete(session.case.gone(step))


def _tokens(session: Session, _: int) -> None:
    """Forget the codes of one file's passages, then store them again: two commits."""
    writer = session.writer
    if not writer.snapshot.segments:
        return
    row = writer.snapshot.segments[0]
    before = row.first_vid - 1
    texts = dict(passages.passage_texts(writer.connection, before, row.last_vid, 0))
    vids = np.array(list(texts), np.int64)
    fill_tokens(writer, vids, [None] * len(vids))
    fill_tokens(writer, vids, [codes_of(text) for text in texts.values()])


def _garbage(session: Session, _: int) -> None:
    """Leave files that nothing names, as a killed writer does, and open again."""
    session.close()
    for place in (session.layout.segments, session.layout.ann, session.layout.lexical):
        place.mkdir(exist_ok=True)
        for name in (".tmp-1-stray", "a-stray"):
            (place / name).write_bytes(b"left over")


def _vacuum(session: Session, _: int) -> None:
    """In the middle of it, too."""
    connection = session.writer.connection
    connection.set_progress_handler(lambda: fs.point("vacuum"), 200)
    session.writer.shrink()
    connection.set_progress_handler(None, 0)


def _backup(session: Session, step: int) -> None:
    back_up(session.layout.folder, session.root / f"backup-{step}")


def _copy(session: Session, step: int) -> None:
    """Restore a backup where nothing was."""
    if (backup := session.case.last_backup(step)) is not None:
        restore(session.root / f"backup-{backup}", session.root / f"copy-{step}")


def _restore(session: Session, step: int) -> None:
    """Restore a backup in the place of the index."""
    if (backup := session.case.last_backup(step)) is not None:
        session.close()
        restore(session.root / f"backup-{backup}", session.layout.folder, replace=True)


def _migrate(session: Session, _: int) -> None:
    session.close()
    second_format()


_ACTIONS: dict[str, Callable[[Session, int], None]] = {
    "put": _put,
    "delete": _delete,
    "merge": lambda session, _: maintain.merge_segments(session.writer),
    "rotate": lambda session, _: maintain.fit_rotation_if_due(session.writer),
    "vectors": lambda session, _: vector_build.build_vector_cache(session.writer, force=True),
    "words": lambda session, _: build_lexical_cache(session.writer),
    "tokens": _tokens,
    "compact": lambda session, _: maintain.compact(session.writer),
    "garbage": _garbage,
    "vacuum": _vacuum,
    "backup": _backup,
    "copy": _copy,
    "restore": _restore,
    "migrate": _migrate,
}


def warm_up() -> None:
    """Load libraries once, not in every fork."""
    for name in ("sqlite_utils.migrations", "semsearch.lexical.writer"):
        import_module(name)
    library.load()
    engine.load()


def write_index(root: str, seed: int, number: int, first: int) -> None:
    """The job: the steps of a case from ``first`` on."""
    set_sizes()
    case = Case(seed, number)
    session = Session(case, Path(root))
    if "migrate" in case.program[:first]:
        second_format()
    for step in range(first, len(case.program)):
        fs.point(f"step {step}")
        say(f"done {step} {session.do(step)}")
    fs.point("step end")
    fs.point("end")
    session.close()


def in_format(second: bool) -> pytest.MonkeyPatch:
    """The format that an index has by now; to be undone."""
    patch = pytest.MonkeyPatch()
    if second:
        second_format(patch.setattr)
    return patch
