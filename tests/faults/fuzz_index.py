"""Hostile index folders, opened by every command; and hostile input to a sound one.

A case gets its own copy of a small index that has everything: segments, recent vectors, FAISS,
words, token vectors, deleted documents, and another model's index beside it.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sqlite3
import struct
import sys
import zlib
from contextlib import suppress
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

from click.testing import CliRunner

from semsearch.cli.main import cli
from semsearch.store.rows import row_crc
from semsearch.store.schema import APPLICATION_ID, FORMAT, TABLES
from tests.fakes import FakeEncoder, make_documents
from tests.faults import fuzz_mutate as hostile
from tests.faults.fuzz_files import RECORDS, schema_of
from tests.faults.fuzz_verdict import (
    ACCEPTED,
    REFUSED,
    Wrong,
    require_one_line,
    require_same,
    tree,
)

ENCODERS = {"fake": FakeEncoder(16, "fake", max_length=16), "other": FakeEncoder(24, "other")}


class _AsStarted:
    """The command as ``main`` starts it: what a terminal cannot show is replaced."""

    name = "semsearch"

    @staticmethod
    def main(**options: Any) -> Any:
        sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr]
        return cli.main(**options)


def invoke(arguments: list[str], stdin: str | bytes | None = None) -> tuple[str, int, str]:
    """Run a command in this process: what came of it, its exit code, what it printed."""
    result = CliRunner().invoke(_AsStarted(), arguments, input=stdin)  # type: ignore[arg-type]
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    if result.exit_code not in (0, 1, 2, 3):
        raise Wrong(f"exit code {result.exit_code} of {arguments!r:.300}")
    if "Traceback" in result.output:
        raise Wrong(f"a traceback from {arguments!r:.300}")
    if result.exit_code:
        lines = result.stderr.splitlines()
        errors = [number for number, line in enumerate(lines) if line.startswith("Error:")]
        if errors != [len(lines) - 1]:
            raise Wrong(f"not one error at the end of {arguments!r:.200}: {lines[-4:]!r:.600}")
        require_one_line(lines[-1])
    return (REFUSED if result.exit_code else ACCEPTED), result.exit_code, result.output


@cache
def template(place: Path) -> Path:
    """The index that cases copy; made once in a process."""
    folder = place / "index"
    corpus = place / "corpus.jsonl"
    lines = [
        json.dumps({"id": d.id, "text": d.text, "title": d.title, **d.metadata})
        for d in make_documents(24)
    ]
    corpus.write_text("\n".join(lines[:20]))
    for arguments in (
        ["index", str(corpus), "-i", str(folder), "-m", "fake", "--language", "en"],
        ["compact", "-i", str(folder), "--vector-index", "Flat"],
        ["reindex", "-i", str(folder), "-m", "other", "--dry-run"],
    ):
        _require_done(arguments)
    corpus.write_text("\n".join(lines[20:]))
    _require_done(["index", str(corpus), "-i", str(folder)])
    _require_done(["delete", "-i", str(folder), "d0001", "d0021"])
    return folder


def _require_done(arguments: list[str]) -> None:
    verdict, _, output = invoke(arguments)
    if verdict != ACCEPTED:
        raise RuntimeError(output)


def a_copy(folder: Path) -> Path:
    """A fresh copy of the index in a case's folder; ``template`` stands beside that."""
    place = folder.parent / "template"
    return Path(shutil.copytree(template(place), folder / "index", symlinks=True))


# ---- what is done to an index folder


def _catalog(folder: Path) -> sqlite3.Connection:
    return sqlite3.connect(folder / "catalog.db", isolation_level=None)


def damage_catalog(random: Random, folder: Path) -> None:
    """Other bytes."""
    path = folder / "catalog.db"
    path.write_bytes(hostile.mutated(random, path.read_bytes()))


def foreign_catalog(random: Random, folder: Path) -> None:
    """Somebody else's SQLite file, or none at all."""
    path = folder / "catalog.db"
    path.unlink()
    kind = random.randrange(6)
    if kind == 0:
        path.write_bytes(random.choice([b"", b"SQLite format 3\0", b"no database", bytes(8192)]))
        return
    if kind == 1:
        return
    with sqlite3.connect(path, isolation_level=None) as made:
        version = random.choice([0, FORMAT, FORMAT + 1, 2**31 - 1, -1])
        if kind < 4:
            made.executescript(TABLES)
        made.execute("CREATE TABLE other (a)" if kind in (2, 5) else "SELECT 1")
        if random.random() < 0.7:
            made.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        made.execute(f"PRAGMA user_version = {version}")


SCHEMES = [
    "CREATE TRIGGER t AFTER INSERT ON document BEGIN DELETE FROM passage; END",
    "CREATE VIEW v AS SELECT * FROM document",
    "CREATE TABLE sqlite_stat_x (a)",
    "CREATE TABLE _sqlite_migrations_2 (a)",
    "CREATE TEMP TABLE x (a)",
    "CREATE INDEX i ON document(title)",
    "CREATE VIRTUAL TABLE f USING fts5(a)",
    "ALTER TABLE document ADD COLUMN more TEXT",
    "ALTER TABLE document RENAME TO documents",
    "DROP TABLE field",
    "DROP INDEX document_live",
    "DROP TABLE _sqlite_migrations",
    "INSERT INTO _sqlite_migrations (migration_set, name, applied_at) VALUES ('semsearch', 'x', 1)",
    "PRAGMA user_version = 7",
    "PRAGMA application_id = 1",
    "PRAGMA journal_mode = WAL",
    "PRAGMA encoding = 'UTF-16'",
]


def hostile_schema(random: Random, folder: Path) -> None:
    """Tables, triggers and views that nobody asked for, or too few."""
    connection = _catalog(folder)
    for statement in random.sample(SCHEMES, random.randint(1, 2)):
        try:
            connection.execute(statement)
        except sqlite3.Error:
            continue
    if random.random() < 0.3:
        connection.execute("PRAGMA writable_schema = 1")
        name = random.choice(["document", "meta", "field", "l0"])
        with suppress(sqlite3.Error, UnicodeEncodeError):
            connection.execute(
                "UPDATE sqlite_master SET sql = ? WHERE name = ?", (hostile.text(random), name)
            )
    connection.close()


TABLE_NAMES = ["meta", "encoder", "generation", "source", "document", "passage", "segment", "l0",
               "cache", "field", "rotation", "sqlite_sequence"]  # fmt: skip


def hostile_rows(random: Random, folder: Path) -> None:
    """Values that were never written, with checksums that fit."""
    connection = _catalog(folder / "beside" if random.random() < 0.1 else folder)
    for _ in range(random.choice([1, 1, 2, 4])):
        table = random.choice(TABLE_NAMES)
        columns = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
        rows = connection.execute(f"SELECT * FROM {table}").fetchall()
        if not rows:
            continue
        row = list(random.choice(rows))
        at = random.randrange(len(row) - ("crc" in columns))
        value = _hostile_cell(random, row[at])
        changes = {columns[at]: value}
        if "crc" in columns and random.random() < 0.8:
            row[at] = value
            changes["crc"] = _checksum(table, columns, row)
        key = columns[0] if at else columns[-1]
        where = row[columns.index(key)]
        names = ", ".join(f'"{name}" = ?' for name in changes)
        try:
            connection.execute(
                f'UPDATE {table} SET {names} WHERE "{key}" IS ?', (*changes.values(), where)
            )
        except (sqlite3.Error, UnicodeEncodeError, OverflowError):
            continue
    connection.close()


def _checksum(table: str, columns: list[str], row: list[Any]) -> int:
    left_out = {"crc", "deleted_gen"} if table == "document" else {"crc"}
    values = [value for name, value in zip(columns, row, strict=True) if name not in left_out]
    return row_crc(values)


def _hostile_cell(random: Random, value: Any) -> Any:
    if isinstance(value, str) and value[:1] in "{[" and random.random() < 0.7:
        try:
            return hostile.written(random, json.loads(value)).decode("utf-8", "replace")
        except ValueError:
            pass
    if isinstance(value, bytes) and random.random() < 0.7:
        return hostile.mutated(random, value)
    numbers = [0, 1, 2, -1, 7, 2**31, 2**40, 2**62, 2**63 - 1, -(2**63), 1.5, None]
    chance = random.random()
    if chance < 0.5:
        return random.choice(numbers)
    if chance < 0.6:
        return str(random.choice(numbers))
    if chance < 0.7:
        return random.randbytes(8)
    return random.choice(["../../outside/file", "/etc/passwd", "s-" + "0" * 24 + ".vec", "\udcff",
                          hostile.text(random)])  # fmt: skip


def forged_segment(random: Random, folder: Path) -> None:
    """A file of vectors or of tokens with a header that nobody wrote, whose hash is on record."""
    kind, magic = random.choice([("vec", b"SSEGv001"), ("tok", b"STOKv001")])
    path = random.choice(sorted((folder / "seg").glob(f"*.{kind}")))
    data = path.read_bytes()
    _, length = struct.unpack_from("<II", data, 8)
    text = hostile.written(random, json.loads(data[16 : 16 + length]))[:4000]
    header = (magic + struct.pack("<II", zlib.crc32(text), len(text)) + text).ljust(4096, b"\0")
    body = data[4096:] if random.random() < 0.7 else hostile.mutated(random, data[4096:])
    digest = hashlib.sha256(header).hexdigest()
    new = path.with_name(f"{path.name[:2]}{digest[:24]}.{kind}")
    new.write_bytes(header + body)
    connection = _catalog(folder)
    columns = [row[1] for row in connection.execute("PRAGMA table_info(segment)")]
    first = "name" if kind == "vec" else "tok_name"
    query = f"SELECT * FROM segment WHERE {first} = ?"
    for row in connection.execute(query, (path.name,)).fetchall():
        cells = dict(zip(columns, row, strict=True))
        cells |= {first: new.name, first.replace("name", "sha256"): digest}
        cells["crc"] = row_crc([v for k, v in cells.items() if k != "crc"])
        marks = ",".join("?" * len(columns))
        connection.execute(f"INSERT OR REPLACE INTO segment VALUES ({marks})", [*cells.values()])
    connection.close()


def hostile_files(random: Random, folder: Path) -> None:
    """The files beside the catalog: damaged, gone, replaced, or something else altogether."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != "LOCK"]
    for path in random.sample(files, random.choice([1, 1, 2])):
        kind = random.randrange(9)
        if kind < 3:
            path.write_bytes(hostile.mutated(random, path.read_bytes()))
            continue
        content = path.read_bytes()
        another = random.choice(files)
        other = another.read_bytes() if another.is_file() else b""
        path.unlink()
        if kind == 4:
            path.mkdir()
        elif kind == 5:
            path.symlink_to(random.choice([path.name, "nowhere", "../../../outside/file", "/"]))
        elif kind == 6:
            os.mkfifo(path)
        elif kind == 7:
            path.write_bytes(other)
        elif kind == 8:
            moved = folder.parent / "moved"
            moved.write_bytes(content)
            path.symlink_to(moved)


ODD_NAMES = [
    "x", ".tmp-1-ab", "before-2", "before-99999999", "before-x", "beside", "kept-1", "LOCK",
    "catalog.db-journal", "catalog.db-wal", "s-" + "0" * 24 + ".vec", "\udcff", "new\nline",
    "before-٣", "seg", "meta.json", "work",
]  # fmt: skip


def odd_files(random: Random, folder: Path) -> None:
    """Names that nobody gave, where an index has its files."""
    outside = folder.parent.parent / "outside"
    for _ in range(random.randint(1, 3)):
        place = folder / random.choice(["", "seg", "ann", "lex", "beside", "before-3", "kept-1"])
        path = place / random.choice(ODD_NAMES)
        if place.is_symlink() or (place.exists() and not place.is_dir()):
            continue
        place.mkdir(exist_ok=True)
        if path.is_symlink() or path.exists():
            if path.is_dir() and not path.is_symlink():
                continue
            path.unlink()
        kind = random.randrange(5)
        if kind == 0:
            path.mkdir()
            (path / "file").write_bytes(b"x")
        elif kind == 1:
            path.symlink_to(random.choice([str(outside), f"{outside}/file", "nowhere", path.name]))
        elif kind == 2:
            os.mkfifo(path)
        else:
            path.write_bytes(hostile.spliced(random) * random.choice([1, 600]))


HARM = [damage_catalog, foreign_catalog, hostile_schema, hostile_rows, hostile_rows, hostile_rows,
        hostile_files, hostile_files, odd_files, forged_segment]  # fmt: skip


def commands(folder: Path) -> list[list[str]]:
    """What may be asked of an index that somebody else made."""
    index, copy = ["-i", str(folder)], str(folder.parent / "copy")
    return [
        ["status", "--json", *index], ["status", *index], ["check", *index],
        ["check", "--json", *index], ["check", "--repair", *index], ["export", *index],
        ["query", "bal car", "--json", *index], ["query", "bal", "--mode", "dense", *index],
        ["query", "bal", "--mode", "lexical", "--rerank", "self", "--explain", *index],
        ["query", "bal", "-f", "year>=2010", "-f", "lang in en,de", *index],
        ["query", "bal", "--rerank", "none", "--dims", "4", *index],
        ["get", "d0003", *index], ["dups", *index], ["delete", "d0003", *index],
        ["compact", *index], ["compact", "--token-vectors", *index], ["backup", copy, *index],
        ["restore", str(folder), "-i", copy], ["reindex", "-m", "other", *index],
        ["reindex", "--undo", *index], ["reindex", "--forget", *index],
        ["index", str(folder.parent / "more.jsonl"), *index],
        ["index", str(folder.parent / "more.jsonl"), "--prune", *index],
    ]  # fmt: skip


def case_index(random: Random, folder: Path) -> str:
    """A hostile index folder, given to two commands."""
    index = a_copy(folder)
    (folder / "more.jsonl").write_text(json.dumps({"id": "n", "text": "bal new"}) + "\n")
    random.choice(HARM)(random, index)
    verdicts = [invoke(arguments)[0] for arguments in random.sample(commands(index), 2)]
    return REFUSED if REFUSED in verdicts else ACCEPTED


def case_write(random: Random, folder: Path) -> str:
    """A sound index, and hostile input to what writes it: what is refused changes nothing."""
    index = a_copy(folder)
    arguments = _writing(random, folder, index)
    before = state(index, arguments)
    verdict, code, _ = invoke(arguments)
    if code:
        require_same(before, state(index, arguments), f"{arguments!r:.200} refused: the index")
    else:
        _require_sound(index)
    return verdict


def state(index: Path, arguments: list[str]) -> dict[str, str]:
    """What a refusal must leave: every byte; of a run over a corpus all that was indexed.

    Such a run keeps what was chosen with it (language, recall, long texts, token vectors) and the
    windows of documents before the one that was refused; these corpora have one window.
    """
    chosen = {"--language", "--recall", "--long-text", "--token-vectors", "--no-token-vectors"}
    if arguments[:1] == ["index"] and chosen & set(arguments):
        return {"documents": invoke(["export", "-i", str(index)])[2]}
    return tree(index)


def typed(random: Random) -> str:
    """Text that can stand on a command line and names nothing elsewhere."""
    text = hostile.text(random).replace("\0", "")[:2_000]
    text = "".join(c if not "\ud800" <= c <= "\udfff" else "\udcff" for c in text)
    return "x" if text.startswith("~") or "/" in text or ".." in text else text


def _writing(random: Random, folder: Path, index: Path) -> list[str]:
    at = ["-i", str(index)]
    kind = random.randrange(7)
    if kind < 3:
        lines = [hostile.written(random, record) for record in RECORDS]
        corpus = folder / "c.jsonl"
        corpus.write_bytes(b"\n".join(lines))
        options = ["--language", "de"], ["--recall", "0.9"], ["--prune"], ["--dims", "3"]
        more = random.choice([[], [], *options, ["--long-text", "error"], ["--id-field", "year"]])
        return ["index", str(corpus), *at, *more]
    number = str(random.choice(["0", "-1", "1e309", "nan", "0.7", "2", "x", "1", "٣"]))
    text = typed(random)[:500]
    return random.choice(
        [
            ["delete", *at, "--", text or "x", "d0002"],
            ["compact", *at, "--recall", number],
            ["compact", *at, "--vector-index", text],
            ["compact", *at, "--language", random.choice(["de", text]), "--recall", number],
            ["compact", *at, "--vector-index", random.choice(["exact", "IVF4,Flat", "PQ3", "OPQ4"]),
             "--recall", number, "--no-token-vectors"],
            ["reindex", *at, "-m", random.choice(["fake", "other"]), "--dims", number],
            ["reindex", *at, "-m", "other", "--dry-run", "--dataset", text],
            ["reindex", *at, "--undo", *random.choice([[], ["--dims", "3"], ["-m", "fake"]])],
            ["backup", random.choice([str(index), f"{index}/seg", f"{folder}/c/d"]), *at],
            ["restore", random.choice([str(index), str(folder), text or "x"]), *at,
             *random.choice([[], ["--replace"]])],
            ["check", "--repair", *at, *random.choice([[], ["-m", "other"]])],
        ]
    )  # fmt: skip


def _require_sound(index: Path) -> None:
    verdict, _, output = invoke(["check", "-i", str(index)])
    if verdict != ACCEPTED:
        raise Wrong(f"accepted, and now check says {output!r:.400}")
    connection = _catalog(index)
    sound = schema_of(connection)
    connection.close()
    if any(kind in ("trigger", "view") for kind, _, _ in sound):
        raise Wrong("the schema changed")
