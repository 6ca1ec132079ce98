"""Indexes, models and corpora made to do harm: refused in one line, or read; nothing else happens.

The kinds of harm take turns; what exactly is done is drawn. Outside the case's own folder lies what
must stay as it was.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from semsearch.collection.layout import Layout
from semsearch.collection.reader import Reader
from semsearch.collection.writer import open_for_writing
from semsearch.corpus import read_corpus, write_beir
from semsearch.encoders.folder import read_folder
from semsearch.errors import SemsearchError
from semsearch.search.options import Options
from semsearch.store.rows import row_crc
from semsearch.types import Document
from tests import models
from tests.fakes import FakeEncoder, index_into, make_documents, searching
from tests.faults.campaign import Campaign, Outcome

_KEYS = (
    "auto_map", "custom_generate", "custom_pipelines", "quantization_config", "trust_remote_code",
    "code_revision", "use_pretrained_backbone", "use_timm_backbone",
)  # fmt: skip
_FILES = (
    "config.json", "tokenizer_config.json", "processor_config.json", "preprocessor_config.json",
    "generation_config.json", "config_sentence_transformers.json", "special_tokens_map.json",
    "1_Pooling/config.json", "sentence_bert_config.json",
)  # fmt: skip
_PARTS = (
    "..",
    ".",
    "",
    "~",
    "/etc",
    "passwd",
    "seg",
    "x" * 60,
    "\x00",
    "\n",
    "%2e%2e",
    "..\\",
    "C:",
)
_COLUMNS = ("title", "body", "meta", "ext_id", "content_hash")
_FUNCTIONS = (
    "upper",
    "length",
    "hex",
    "randomblob",
    "json",
    "load_extension",
    "readfile",
    "writefile",
)


class Case:
    """One case's folder with an index (or a model) in it, and a stranger's files beside it."""

    def __init__(self, folder: Path, source: Path, drawn: random.Random) -> None:
        self.folder = folder
        self.drawn = drawn
        self.place = folder / "case"
        shutil.copytree(source, self.place)
        self.mine = folder / "mine"
        self.mine.mkdir()
        for name in ("thesis.txt", "precious", "s-000000000000000000000000.vec"):
            (self.mine / name).write_text(f"all my work in {name}")

    def untouched(self) -> bool:
        names = sorted(path.name for path in self.mine.iterdir())
        kept = names == ["precious", "s-000000000000000000000000.vec", "thesis.txt"]
        return kept and all(
            p.read_text() == f"all my work in {p.name}" for p in self.mine.iterdir()
        )

    def path(self) -> str:
        """A name that leads elsewhere, or nowhere."""
        drawn = self.drawn
        if drawn.random() < 0.3:
            return os.path.relpath(self.mine / "precious", self.place / "seg")
        if drawn.random() < 0.2:
            return str(self.mine / "precious")
        return "/".join(drawn.choice(_PARTS) for _ in range(drawn.randint(1, 6)))


def _try(act: Callable[[], Any]) -> str | None:
    """What was said in refusal; None if it was let through. Any other error goes through."""
    try:
        act()
    except SemsearchError as exc:
        return str(exc)
    return None


def _read(folder: Path) -> None:
    searching(folder, FakeEncoder()).search("title 3", 5, Options("hybrid"))


def _write(folder: Path) -> None:
    with open_for_writing(Layout(folder)) as writer:
        writer.delete(["d0001"])


def schema(case: Case) -> bool:
    """Something is added to the schema, or a table of ours is made anew in another way."""
    drawn = case.drawn
    table = drawn.choice(["document", "passage", "meta", "_sqlite_migrations", "field", "l0"])
    name, function = f"evil{drawn.randint(0, 99)}", drawn.choice(_FUNCTIONS)
    statement = drawn.choice(
        [
            f"CREATE TRIGGER {name} AFTER DELETE ON {table} BEGIN DELETE FROM document; END",
            f"CREATE TRIGGER {name} BEFORE UPDATE ON document BEGIN SELECT {function}('x'); END",
            f"CREATE VIEW {name} AS SELECT {function}(1) AS x FROM {table}",
            f"CREATE INDEX {name} ON document(length({drawn.choice(_COLUMNS)}))",
            f"CREATE INDEX {name} ON document({drawn.choice(_COLUMNS)}) WHERE doc_id > 1",
            f"ALTER TABLE document ADD COLUMN {name} AS (length({drawn.choice(_COLUMNS)}))",
            f"CREATE VIRTUAL TABLE {name} USING fts5(x)",
            f"CREATE VIRTUAL TABLE {name} USING rtree(a, b, c)",
            f"CREATE TABLE {name} (x CHECK (length(x) < 9))",
            f"CREATE TABLE {name}_content (id INTEGER PRIMARY KEY)",
            f"CREATE INDEX {name} ON _sqlite_migrations(lower(name))",
            f"ALTER TABLE _sqlite_migrations ADD COLUMN {name} AS (upper(name))",
        ]
    )
    connection = sqlite3.connect(case.place / "catalog.db")
    with connection:
        try:
            connection.execute(statement)
        except sqlite3.OperationalError:  # a trigger cannot be on this one
            connection.execute(f"CREATE VIEW {name} AS SELECT 1")
    connection.close()
    return bool(_try(lambda: _read(case.place))) and bool(_try(lambda: _write(case.place)))


def names(case: Case) -> bool:
    """The catalog names a file elsewhere, under a checksum that is right."""
    column = case.drawn.choice(["name", "tok_name"])
    connection = sqlite3.connect(case.place / "catalog.db")
    columns = [row[1] for row in connection.execute("PRAGMA table_info(segment)")]
    stored = connection.execute("SELECT * FROM segment").fetchone()
    row = dict(zip(columns, stored, strict=True)) | {column: case.path()}
    row["crc"] = row_crc([row[name] for name in columns[:-1]])
    with connection:
        connection.execute("DELETE FROM segment")
        marks = ",".join("?" * len(columns))
        connection.execute(f"INSERT INTO segment VALUES ({marks})", [row[name] for name in columns])
    connection.close()
    said = _try(lambda: _read(case.place))
    _try(lambda: _write(case.place))
    return column == "tok_name" or bool(said)


def links(case: Case) -> bool:
    """A part of the index is a link into the stranger's folder, which a writer must not follow."""
    name = case.drawn.choice(["seg", "ann", "lex", "beside", "LOCK", "catalog.db", "journal"])
    place = case.place / name
    if name == "journal":
        from tests.test_security import journal_naming

        journal_naming(case.place / "catalog.db", case.mine / "precious")
        return bool(_try(lambda: _read(case.place))) and bool(_try(lambda: _write(case.place)))
    target = case.mine if name not in ("LOCK", "catalog.db") else case.mine / "precious"
    if place.is_dir():
        shutil.rmtree(place)
    else:
        place.unlink(missing_ok=True)
    place.symlink_to(target)
    _try(lambda: _read(case.place))
    return bool(_try(lambda: _write(case.place)))


def models_(case: Case) -> bool:
    """A configuration names code or another model, somewhere in it."""
    drawn = case.drawn
    path = case.place / drawn.choice(_FILES)
    value = json.loads(path.read_text()) if path.exists() else {}
    inner: Any = {drawn.choice(_KEYS): drawn.choice([True, "a/b", {"AutoModel": "evil.M"}, ["x"]])}
    for _ in range(drawn.randint(0, 12)):
        inner = drawn.choice([{f"k{drawn.randint(0, 9)}": inner}, [inner], [1, inner, {}]])
    value["deep"] = inner
    path.write_text(json.dumps(value))
    return bool(_try(lambda: read_folder(case.place)))


def corpora(case: Case) -> bool:
    """Ids, titles and links that lead elsewhere: indexed, exported, never followed."""
    texts = case.folder / "texts"
    texts.mkdir()
    (texts / "own.txt").write_text("my own text")
    for n in range(20):
        target = case.drawn.choice([case.mine / "thesis.txt", case.mine, Path("/etc/passwd")])
        (texts / f"l{n}{case.drawn.choice(['.txt', '.md', ''])}").symlink_to(target)
    read = [document.text for document in read_corpus(texts)]
    ids = {case.path().replace("\x00", "0").replace("\n", " ").strip() or "x" for _ in range(50)}
    documents = [Document(id, f"text of {id}", id, {"path": id}) for id in sorted(ids)]
    encoder = FakeEncoder()
    index_into(case.folder / "new.idx", encoder, documents, "corpus")
    with Reader(case.folder / "new.idx") as reader:
        stored = list(reader.documents())
    write_beir(case.folder / "out", stored)
    out = sorted(path.name for path in (case.folder / "out").rglob("*"))
    return read == ["my own text"] and {d.id for d in stored} == ids and out == ["corpus.jsonl"]


_KINDS = (schema, names, links, models_, corpora)


def run(seed: int, cases: Sequence[int], folder: Path) -> Outcome:
    """Do every case in a folder of its own."""
    outcome = Outcome(len(cases))
    index = folder / "index"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("semsearch.collection.writer.FLUSH_ROWS", 30)
        index_into(index, FakeEncoder(), make_documents(40))
    model = models.build("bert-cls", folder / "model")
    for number in cases:
        kind = _KINDS[number % len(_KINDS)]
        place = folder / f"case{number}"
        place.mkdir()
        source = model if kind is models_ else index
        case = Case(place, source, random.Random(f"{seed} {number}"))
        what = kind.__name__.strip("_")
        outcome.count(what)
        try:
            if not kind(case):
                outcome.failures.append(f"case {number}: {what}: was not refused, or misread")
        except Exception as exc:  # noqa: BLE001 - whatever it is, it is not one line
            outcome.failures.append(f"case {number}: {what}: {type(exc).__name__}: {exc}"[:300])
        if not case.untouched():
            outcome.failures.append(f"case {number}: {what}: a stranger's file was changed")
        found = {path.name for path in place.iterdir()}
        if not found <= {"case", "mine", "texts", "new.idx", "out"}:
            outcome.failures.append(
                f"case {number}: {what}: something was written beside it: {found}"
            )
        shutil.rmtree(place)
    return outcome


CAMPAIGN = Campaign(
    "hostile", "0 let through, 0 files of others read as ours, changed or removed", 100, 2_000, run
)
