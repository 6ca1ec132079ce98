"""Indexes of other releases: earlier ones answer as they did, later ones are refused whole.

A case takes a golden index (``golden``) and one thing to be done with it; or a made-up later
format, which must be refused without a byte changed; or a made-up format 2, to which the index is
migrated, interrupted or not.
"""

from __future__ import annotations

import gzip
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from click.testing import CliRunner

from semsearch import fs
from semsearch.cli.main import cli
from semsearch.collection import lexical_cache, maintain, vector_build
from semsearch.collection.backup import back_up, restore
from semsearch.collection.check import check_index
from semsearch.collection.layout import Layout
from semsearch.collection.reader import Reader
from semsearch.collection.swap import swap_beside
from semsearch.collection.writer import open_for_writing
from semsearch.encoders import Encoder
from semsearch.errors import Mismatch, SemsearchError
from semsearch.indexing import Source, run_indexing
from semsearch.indexing.reindex import bring_up_to_date, open_new_beside, what_is_behind
from semsearch.lexical.state import LexicalState
from semsearch.store import schema
from semsearch.types import Document
from tests.fakes import FakeEncoder
from tests.faults import golden
from tests.faults.backups import digests
from tests.faults.campaign import Campaign, Outcome
from tests.faults.sandbox import ROOT

GOLDEN = sorted(path.name.removesuffix(".tar.gz") for path in golden.PLACE.glob("*.tar.gz"))
EQUAL = 3e-5
"""How far a score may be from the recorded one, which has five digits."""

REWRITTEN = 4e-3
"""The same once vectors were written anew, in another rotation, in float16."""

NEXT = 2
ENCODER = cast(Encoder, golden.GoldenEncoder())


def unpacked(name: str, place: Path) -> Path:
    """A copy of a golden index, to be read or written."""
    with tarfile.open(golden.PLACE / f"{name}.tar.gz") as archive:
        archive.extractall(place, filter="data")
    return place / name


def recorded(name: str) -> dict[str, Any]:
    """What it answered when it was made."""
    found: dict[str, Any] = json.loads(
        gzip.decompress((golden.PLACE / f"{name}.json.gz").read_bytes())
    )
    return found


# ---- comparing


def different(folder: Path, wanted: dict[str, Any], *, rewritten: bool = False) -> Iterator[str]:
    """What an index holds or answers that is not as recorded."""
    found = json.loads(json.dumps(golden.expected(folder)))
    if found["documents"] != wanted["documents"]:
        yield "other documents"
    if [id for id, _ in found["vectors"]] != [id for id, _ in wanted["vectors"]]:
        yield "vectors of other documents"
    else:
        both = [np.array([row for _, row in one["vectors"]]) for one in (found, wanted)]
        if np.abs(both[0] - both[1]).max() > (REWRITTEN if rewritten else 2e-4):
            yield "other vectors"
    words = _words_are_current(folder)
    for name, asked in wanted["answers"].items():
        # another rotation cuts otherwise; words that are written anew count no deleted documents
        scored = words if name == "lexical" else name != "hybrid"
        scored = scored and not (rewritten and name in ("lexical", "dense cut"))
        for query, before, now in zip(golden.QUERIES, asked, found["answers"][name], strict=True):
            problem = _other_hits(before, now, scored, REWRITTEN if rewritten else EQUAL)
            if problem:
                yield f"{name} {query!r}: {problem}"


def _words_are_current(folder: Path) -> bool:
    with Reader(folder) as reader:
        row = reader.snapshot().cache("lexical")
    return row is not None and LexicalState.from_json(row.files).is_current()


def _other_hits(before: list[Any], now: list[Any], scored: bool, near: float) -> str | None:
    if before and isinstance(before[0], str):
        return None if before == now else f"{sorted(set(before) ^ set(now))} differ"
    scores, found = dict(before), dict(now)
    if set(scores) != set(found):
        return f"{sorted(set(scores) ^ set(found))} differ"
    if [score for _, score in now] != sorted((s for _, s in now), reverse=True):
        return "out of order"
    furthest = max((abs(scores[id] - found[id]) for id in scores), default=0.0)
    return f"scores differ by {furthest}" if scored and furthest > near else None


def damage_in(folder: Path) -> Iterator[str]:
    """What a check says that is more than a note."""
    with Reader(folder) as reader:
        for finding in check_index(reader):
            if not finding.is_note:
                yield f"check: {finding}"


# ---- what is done with an index of an earlier release; each yields what is wrong


def read(folder: Path, wanted: dict[str, Any]) -> Iterator[str]:
    before = digests(folder)
    yield from different(folder, wanted)
    yield from damage_in(folder)
    if digests(folder) != before:
        yield "reading changed files"


def reopen(folder: Path, wanted: dict[str, Any]) -> Iterator[str]:
    with open_for_writing(Layout(folder)):
        pass
    yield from different(folder, wanted)
    yield from damage_in(folder)


def compact(folder: Path, wanted: dict[str, Any]) -> Iterator[str]:
    with open_for_writing(Layout(folder)) as writer:
        maintain.compact(writer)
        vector_build.build_vector_cache(writer)
        lexical_cache.build_lexical_cache(writer)
    yield from different(folder, wanted, rewritten=True)
    yield from damage_in(folder)
    with Reader(folder) as reader:
        if len(reader.snapshot().dead) or not reader.snapshot().caches:
            yield "not compacted"


def add(folder: Path, wanted: dict[str, Any]) -> Iterator[str]:
    """Documents, one of them there before; then delete one."""
    documents = {row[0]: row for row in wanted["documents"]}
    changed, gone = sorted(documents)[7], sorted(documents)[11]
    new = [
        Document("new", "words that were never there", "", {"year": 3000}, "new.jsonl", 1),
        Document(changed, "other words altogether", "", {}, "new.jsonl", 2),
    ]
    with open_for_writing(Layout(folder)) as writer:
        summary = run_indexing(writer, ENCODER, [Source("new.jsonl", new)])
        writer.delete([gone])
    if (summary.new, summary.updated) != (1, 1):
        yield f"{summary}"
    del documents[gone], documents[changed]
    documents |= {document.id: golden.plain(document) for document in new}
    with Reader(folder) as reader:
        found = {document.id: golden.plain(document) for document in reader.documents()}
    if json.dumps(found, sort_keys=True) != json.dumps(documents, sort_keys=True):
        yield "other documents"
    answers = golden.answers(folder)
    if {id for id, _ in answers["dense exact"][0]} != set(documents):
        yield "other hits"
    yield from damage_in(folder)


def copy(folder: Path, wanted: dict[str, Any]) -> Iterator[str]:
    back_up(folder, folder.with_name("backup"))
    restore(folder.with_name("backup"), folder.with_name("restored"))
    yield from different(folder.with_name("restored"), wanted)


def swap(folder: Path, wanted: dict[str, Any]) -> Iterator[str]:
    """Another model takes over; what served before is kept beside, and answers as it did."""
    other = cast(Encoder, FakeEncoder(24, "another"))
    with open_for_writing(Layout(folder)) as live:
        with open_new_beside(live, other) as beside:
            bring_up_to_date(live, beside, what_is_behind(live, beside), lambda: other)
        swap_beside(live)
    yield from damage_in(folder)
    yield from different(folder / "beside", wanted)
    with Reader(folder) as reader:
        found = sorted(golden.plain(document) for document in reader.documents())
    if json.dumps(found) != json.dumps(sorted(wanted["documents"])):
        yield "other documents"


# ---- formats that there are not yet


def future(folder: Path, wanted: dict[str, Any]) -> Iterator[str]:
    """One of a later format is refused in one line that names both, by whatever is asked."""
    version = schema.FORMAT + 1
    with closing(sqlite3.connect(folder / "catalog.db")) as connection:
        connection.execute(f"PRAGMA user_version = {version}")
    before = digests(folder)
    attempts: dict[str, Callable[[], Any]] = {
        "read": lambda: Reader(folder),
        "write": lambda: open_for_writing(Layout(folder)).__enter__(),
        "back up": lambda: back_up(folder, folder.with_name("backup")),
        "restore": lambda: restore(folder, folder.with_name("restored")),
    }
    for name, attempt in attempts.items():
        try:
            attempt()
            yield f"{name}: not refused"
        except Mismatch as exc:
            yield from _not_told(name, str(exc), version)
    for command in ("status", "check", "compact", "export", "get d001", "delete d001", "query x"):
        result = CliRunner().invoke(cli, [*command.split(), "-i", str(folder)])
        lines = result.stderr.strip().splitlines()
        if result.exit_code != 1 or len(lines) != 1:
            yield f"{command}: exit {result.exit_code}, {lines}"
        yield from _not_told(command, lines[-1] if lines else "", version)
    if digests(folder) != before:
        yield "files changed"


def _not_told(what: str, message: str, version: int) -> Iterator[str]:
    told = f"format {version}" in message and f"reads up to {schema.FORMAT}" in message
    if not told or "\n" in message or "catalog.db" not in message:
        yield f"{what}: said {message!r}"


EXTRA = "CREATE TABLE extra (doc_id INTEGER PRIMARY KEY, length INTEGER NOT NULL);\n"


@contextmanager
def next_format() -> Iterator[None]:
    """A format 2 of the tests: one table more, filled from the documents."""
    real = schema.migrations

    def migrations() -> Any:
        steps = real()

        @steps(name="0002_of_a_test")
        def extra(db: Any) -> None:
            db.execute(EXTRA.strip().rstrip(";"))
            fs.point("migrating")
            db.execute("INSERT INTO extra SELECT doc_id, length(body) FROM document")
            db.execute(f"PRAGMA user_version = {NEXT}")

        return steps

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(schema, "FORMAT", NEXT)
        patch.setattr(schema, "SCHEMAS", {1: schema.TABLES, NEXT: schema.TABLES + EXTRA})
        patch.setattr(schema, "migrations", migrations)
        yield


def migrate(folder: Path, wanted: dict[str, Any]) -> Iterator[str]:
    """A reader says what to do; a writer does it in one commit; then the older one is refused."""
    before = digests(folder)
    with next_format():
        try:
            Reader(folder)
            yield "an older format was read as if it were the newer"
        except Mismatch as exc:
            if not all(word in str(exc) for word in ("format 1", "reads 2", "semsearch compact")):
                yield f"said {exc}"
        if digests(folder) != before:
            yield "a reader changed files"
        with open_for_writing(Layout(folder)):
            pass
        yield from different(folder, wanted)
        yield from damage_in(folder)
        yield from _not_filled(folder)
    try:
        Reader(folder)
        yield "the newer format was read by the older release"
    except Mismatch as exc:
        yield from _not_told("read", str(exc), NEXT)


def _not_filled(folder: Path) -> Iterator[str]:
    with closing(sqlite3.connect(folder / "catalog.db")) as connection:
        query = "SELECT (SELECT count(*) FROM extra), (SELECT count(*) FROM document)"
        extra, documents = connection.execute(query).fetchone()
    if extra != documents:
        yield f"{extra} rows of {documents} were migrated"


def interrupted(how: str, step: str) -> Callable[[Path, dict[str, Any]], Iterator[str]]:
    """A migration that is killed, or fails, at a step: the old index is there, and whole."""

    def attempt(folder: Path, wanted: dict[str, Any]) -> Iterator[str]:
        if how == "killed":
            yield from _killed(folder, step)
        else:
            yield from _failed(folder, step)
        yield from different(folder, wanted)
        yield from damage_in(folder)
        yield from migrate(folder, wanted)

    return attempt


def _failed(folder: Path, step: str) -> Iterator[str]:
    def hook(name: str) -> None:
        if name == step:
            raise OSError(28, "No space left on device")

    fs.hook = hook
    try:
        with next_format(), open_for_writing(Layout(folder)):
            yield "the migration did not fail"
    except (SemsearchError, OSError):
        pass
    finally:
        fs.hook = None


def _killed(folder: Path, step: str) -> Iterator[str]:
    command = [sys.executable, "-m", "tests.faults.formats", str(folder), step]
    status = subprocess.run(command, cwd=ROOT, check=False).returncode
    if status != -signal.SIGKILL:
        yield f"the migration was not killed: {status}"


def main() -> None:
    """Migrate an index and be killed at a step."""
    folder, step = sys.argv[1:]

    def hook(name: str) -> None:
        if name == step:
            os.kill(os.getpid(), signal.SIGKILL)

    fs.hook = hook
    with next_format(), open_for_writing(Layout(Path(folder))):
        pass


# ---- the campaign

CHECKS: dict[str, Callable[[Path, dict[str, Any]], Iterator[str]]] = {
    "read": read, "reopen": reopen, "compact": compact, "add": add, "copy": copy, "swap": swap,
    "future": future, "migrate": migrate,
    "migrate, fails within": interrupted("failed", "migrating"),
    "migrate, fails at the commit": interrupted("failed", "commit"),
    "migrate, killed within": interrupted("killed", "migrating"),
    "migrate, killed at the commit": interrupted("killed", "commit"),
}  # fmt: skip
CASES = [(name, check) for name in GOLDEN for check in CHECKS]


def run(seed: int, cases: Sequence[int], folder: Path) -> Outcome:
    """Every check of every golden index in turn."""
    outcome = Outcome(len(cases), {"golden indexes": len(GOLDEN), "checks": len(CHECKS)})
    for case in cases:
        name, check = CASES[case % len(CASES)]
        place = folder / f"case-{case}"
        problems = performed(name, check, place)
        outcome.failures += [f"case {case}: {name}: {check}: {line}" for line in problems]
        outcome.count("answered as recorded", not problems)
        shutil.rmtree(place)
    return outcome


def performed(name: str, check: str, place: Path) -> list[str]:
    """What is wrong; an error of any kind is."""
    place.mkdir()
    try:
        return list(CHECKS[check](unpacked(name, place), recorded(name)))
    except Exception as exc:  # noqa: BLE001 - to be told with its case
        return [f"{type(exc).__name__}: {exc}"]


CAMPAIGN = Campaign(
    "formats",
    "every golden index answers as recorded; later formats refused whole",
    len(CASES),
    len(CASES),
    run,
)

if __name__ == "__main__":
    main()
