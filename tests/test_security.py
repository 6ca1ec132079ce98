"""What comes from elsewhere - an index, a model folder, a corpus - does nothing but be read."""

import json
import os
import re
import shutil
import sqlite3
import struct
import subprocess
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner

from semsearch.cli.main import cli
from semsearch.collection.check import check_index
from semsearch.collection.layout import Layout
from semsearch.collection.reader import Reader
from semsearch.collection.vector_cache import open_vectors
from semsearch.collection.writer import open_for_writing
from semsearch.corpus import read_corpus
from semsearch.encoders.folder import read_folder
from semsearch.errors import Corrupt, ModelError, SemsearchError
from semsearch.index import library
from semsearch.search.options import Options
from semsearch.store.blocks import BlockFile
from semsearch.store.database import open_reader, open_writer
from semsearch.store.rows import row_crc
from semsearch.types import Document
from tests import models
from tests.fakes import (
    FakeEncoder,
    contents,
    index_into,
    lower_limits,
    make_documents,
    searching,
)
from tests.hostile import ROOT, watched
from tests.training_sets import write_easy


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "made.idx"


@pytest.fixture
def large(folder, monkeypatch):
    """An index with a segment, its tokens, a FAISS file and words."""
    monkeypatch.setattr("semsearch.collection.writer.FLUSH_ROWS", 100)
    lower_limits(monkeypatch, 50)
    index_into(folder, FakeEncoder(), make_documents(150))
    return folder


def search(folder, mode="hybrid"):
    return [hit.id for hit in searching(folder, FakeEncoder()).search("title 7", 5, Options(mode))]


# Nothing runs


def test_a_hostile_index_and_model_run_nothing(tmp_path):
    """Every command over an index and a model folder that are full of code and pickles."""
    model = models.build("bert-cls", tmp_path / "model")
    corpus = tmp_path / "corpus.jsonl"
    corpus.write_text("".join(f'{{"_id": "{n}", "text": "some words {n}"}}\n' for n in range(60)))
    folder = tmp_path / "made.idx"
    done = CliRunner().invoke(cli, ["index", str(corpus), "-i", str(folder), "-m", str(model)])
    assert done.exit_code == 0, done.output
    mark = tmp_path / "mark"
    bomb = b"cos\nsystem\n(S'touch " + os.fsencode(mark) + b"'\ntR."
    code = f"open({str(mark)!r}, 'w').write('ran')\n"
    for place in (
        folder,
        folder / "seg",
        folder / "ann",
        folder / "lex",
        model,
        model / "1_Pooling",
    ):
        place.mkdir(exist_ok=True)
        for name in ("pytorch_model.bin", "x.pkl", "x.npy", "a-0.faiss", "x.joblib", "x.pt"):
            (place / name).write_bytes(bomb)
        for name in ("__init__.py", "sitecustomize.py", "modeling.py", "json.py", "x.pth"):
            (place / name).write_text(code)
    commands = [
        ["status"], ["check"], ["query", "some words 7"], ["query", "words", "--mode", "lexical"],
        ["get", "7"], ["dups"], ["export"], ["doctor"], ["index", str(corpus)], ["delete", "3"],
        ["compact"], ["query", "some words 7", "--rerank", "self"], ["check"],
    ]  # fmt: skip
    told = watched(
        "", [folder, model], [folder], [[*words, "-i", str(folder)] for words in commands],
        SEMSEARCH_OFFLINE="1",
    )  # fmt: skip
    assert [
        (words[0], code) for words, (code, *_) in zip(commands, told["result"], strict=True)
    ] == [(words[0], 0) for words in commands], told["result"]
    assert told["seen"] == []
    assert not mark.exists()


def test_the_watch_sees(tmp_path):
    code = (
        "import pickle, socket, subprocess\n"
        f"exec(compile('1', {str(tmp_path / 'evil.py')!r}, 'exec'))\n"
        "pickle.loads(b'cbuiltins\\nlen\\n.')\n"
        "socket.socket().close()\n"
        "try: subprocess.Popen(['/no/such'])\n"
        "except OSError: pass\n"
        f"open({str(tmp_path / 'out')!r}, 'w').close()\n"
        f"os.remove({str(tmp_path / 'out')!r})\n"
    )
    told = watched(code, [tmp_path], [], TMPDIR=str(tmp_path / "none"))
    assert [event for event, _ in told["seen"] if event != "os.posix_spawn"] == [
        "compile", "exec", "pickle.find_class", "socket.__new__", "subprocess.Popen", "write",
        "os.remove",
    ]  # fmt: skip


# The network


@pytest.fixture(scope="module")
def beir(tmp_path_factory):
    """A small labelled set, rows to train on and a recipe, by the real model."""
    folder = tmp_path_factory.mktemp("offline")
    dataset = folder / "set"
    (dataset / "qrels").mkdir(parents=True)
    documents = [
        {"_id": f"d{n}", "text": f"the document number {n} about words"} for n in range(40)
    ]
    queries = [{"_id": f"q{n}", "text": f"which document is number {n}"} for n in range(24)]
    for name, rows in (("corpus", documents), ("queries", queries)):
        (dataset / f"{name}.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    judged = "".join(f"q{n}\td{n}\t1\n" for n in range(24))
    for split in ("test", "dev", "train"):
        (dataset / "qrels" / f"{split}.tsv").write_text(f"query-id\tcorpus-id\tscore\n{judged}")
    to_train = write_easy(folder / "rows", train=24)
    (folder / "recipe.toml").write_text(
        'name = "small"\n[model]\nbase = "all-MiniLM-L6-v2"\n'
        f'[[data]]\npath = "{to_train / "train.jsonl"}"\n'
    )
    return folder


def run_all(beir, tmp_path, option, prefix=()):
    index = str(tmp_path / "made.idx")
    dataset, recipe = str(beir / "set"), str(beir / "recipe.toml")
    model = str(models.build("bert-cls", tmp_path / "other"))
    commands = [
        ["index", f"{dataset}/corpus.jsonl", "-i", index],
        ["query", "number 7", "-i", index], ["query", "number 7", "-i", index, "--rerank", "self"],
        ["status", "-i", index], ["doctor", "-i", index], ["check", "-i", index],
        ["dups", "-i", index], ["get", "d7", "-i", index], ["export", "-i", index],
        ["evaluate", dataset], ["tune", dataset, "--dry-run", "--folds", "2"],
        ["mine", dataset, "-o", str(tmp_path / "mined.jsonl")], ["train", recipe, "--check"],
        ["reindex", "-m", model, "-i", index], ["compact", "-i", index],
        ["delete", "d3", "-i", index],
    ]  # fmt: skip
    told = watched("", [], [tmp_path], [[*option, *words] for words in commands], prefix)
    failed = [
        (words, found)
        for words, found in zip(commands, told["result"], strict=True)
        if found[0] != 0
    ]
    assert failed == []
    return told["seen"]


def test_no_command_uses_the_network_with_a_model_that_is_here(beir, tmp_path):
    assert run_all(beir, tmp_path, ()) == []


def test_offline_nothing_uses_the_network_not_even_native_code(beir, tmp_path):
    """Seen by the kernel where strace is there; where a process may, it has no network at all."""
    trace = tmp_path / "trace"
    prefix: tuple[str, ...] = ()
    if subprocess.run(["unshare", "-n", "true"], check=False, capture_output=True).returncode == 0:
        prefix = ("unshare", "-n")
    if shutil.which("strace"):
        prefix += ("strace", "-f", "-qq", "-e", "trace=socket,connect,sendto", "-o", str(trace))
    assert run_all(beir, tmp_path, ("--offline",), prefix) == []
    text = trace.read_text() if trace.exists() else ""
    assert [line for line in text.splitlines() if "AF_INET" in line] == []


@pytest.mark.parametrize(
    "words",
    [
        ["--offline", "index", "CORPUS", "-m", "someone/no-such-model", "-i", "NEW"],
        ["--offline", "query", "x", "-i", "INDEX", "--rerank", "ms-marco-no-such"],
        ["--offline", "reindex", "-i", "INDEX", "-m", "someone/no-such-model"],
        ["--offline", "train", "RECIPE", "--check"],
        ["--offline", "evaluate", "SET", "-m", "someone/no-such-model"],
    ],
)
def test_a_model_that_is_not_here_is_one_line_offline(beir, tmp_path, words):
    index = tmp_path / "made.idx"
    index_into(index, FakeEncoder(), make_documents(3))
    recipe = tmp_path / "recipe.toml"
    text = (beir / "recipe.toml").read_text()
    recipe.write_text(text.replace("all-MiniLM-L6-v2", "someone/no-such-model"))
    places = {
        "CORPUS": beir / "set" / "corpus.jsonl", "INDEX": index, "RECIPE": recipe,
        "SET": beir / "set", "NEW": tmp_path / "new.idx",
    }  # fmt: skip
    told = watched("", [], [tmp_path], [[str(places.get(word, word)) for word in words]])
    ((code, line, trace),) = told["result"]
    assert (code, trace, told["seen"]) == (1, None, [])
    assert line.count("\n") == 1
    assert "is not on this machine" in line


def test_the_environment_says_offline_as_the_option_does(monkeypatch, beir, tmp_path):
    words = ["index", str(beir / "set" / "corpus.jsonl"), "-m", "someone/none", "-i", str(tmp_path)]
    for value, expected in (("1", True), ("true", True), ("0", False)):
        told = watched("", [], [tmp_path], [words], SEMSEARCH_OFFLINE=value)
        assert ("nothing is fetched offline" in told["result"][0][1]) == expected
        assert (told["seen"] == []) == expected, "without it, the Hub is asked"


# FAISS


def test_only_a_faiss_file_of_the_catalog_is_read(large, monkeypatch):
    (recorded,) = (large / "ann").iterdir()
    faiss = library.load()
    read: list[str] = []
    real = faiss.read_index

    def reading(path, *rest):
        read.append(Path(path).name)
        return real(path, *rest)

    monkeypatch.setattr(faiss, "read_index", reading)
    assert search(large, "dense")
    assert read == [recorded.name]
    read.clear()

    def refuse(*_):
        raise AssertionError("a foreign file was given to FAISS")

    monkeypatch.setattr(faiss, "read_index", refuse)
    whole = recorded.read_bytes()
    foreign = recorded.with_name("a-000000000000000000000000.faiss")
    foreign.write_bytes(whole)
    recorded.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    expected = search(large, "dense")
    recorded.unlink()
    assert search(large, "dense") == expected
    recorded.symlink_to(large / "LOCK")
    assert search(large, "dense") == expected
    assert read == []
    with Reader(large) as reader:
        list(check_index(reader))
    with open_for_writing(Layout(large)):
        assert not foreign.exists(), "the next writer takes it away"


# The catalog


def edited(folder, table, key, **values):
    """Change a row as one who knows the checksums would."""
    connection = sqlite3.connect(folder / "catalog.db")
    names = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
    row = dict(zip(names, connection.execute(f"SELECT * FROM {table}").fetchone(), strict=True))
    row |= values
    crc = row_crc([row[name] for name in names[:-1]])
    sets = ", ".join(f"{name} = ?" for name in [*values, "crc"])
    with connection:
        connection.execute(
            f"UPDATE {table} SET {sets} WHERE {key} = (SELECT {key} FROM {table} LIMIT 1)",
            (*values.values(), crc),
        )
    connection.close()


ELSEWHERE = [
    "../secret", "/etc/passwd", "s-../../../../../etc/passwd", "", ".", "..", "seg/../../secret",
    "s-000000000000000000000000.vec/../../secret", "s-00000000000000000000000A.vec",
    "s-000000000000000000000000.vec\n", "~/secret", "\x00", "file:///etc/passwd",
]  # fmt: skip


@pytest.mark.parametrize("name", ELSEWHERE)
def test_the_catalog_cannot_name_files_elsewhere(large, name):
    secret = large.parent / "secret"
    secret.write_bytes(b"secret")
    edited(large, "segment", "seg_id", name=name)
    with pytest.raises(Corrupt, match="is no name of a vector file"), Reader(large) as reader:
        reader.snapshot()
    with pytest.raises(Corrupt), open_for_writing(Layout(large)):
        pass
    assert secret.read_bytes() == b"secret"


@pytest.mark.parametrize("name", ELSEWHERE)
def test_no_token_file_is_read_elsewhere(large, name, monkeypatch):
    edited(large, "segment", "seg_id", tok_name=name)
    opened: list[Path] = []
    real = BlockFile.__init__

    def opening(self, path, sha256):
        opened.append(path)
        real(self, path, sha256)

    monkeypatch.setattr(BlockFile, "__init__", opening)
    with Reader(large) as reader:
        assert len(reader.snapshot().tokens.missing()) >= 100, "as if it were not there"
    assert {path.suffix for path in opened} <= {".vec"}


@pytest.mark.parametrize("name", ["../x.faiss", "/etc/passwd", "a-1.faiss", "a-..faiss"])
def test_no_derived_file_is_read_elsewhere(large, name):
    connection = sqlite3.connect(large / "catalog.db")
    row = connection.execute("SELECT * FROM cache WHERE kind = 'faiss'").fetchone()
    row = (name, row[1], json.dumps({name: "0" * 64}), *row[3:-1])
    with connection:
        connection.execute("DELETE FROM cache WHERE kind = 'faiss'")
        connection.execute("INSERT INTO cache VALUES (?,?,?,?,?,?,?)", (*row, row_crc(row)))
    connection.close()
    with Reader(large) as reader:
        found = open_vectors(reader.snapshot())
    assert found.kind == "exact"


def journal_naming(catalog, victim):
    """A hot journal as several databases have: SQLite deletes the file that it ends with."""
    raw = catalog.read_bytes()
    page = struct.unpack(">H", raw[16:18])[0]
    magic = bytes.fromhex("d9d505f920a163d7")
    head = magic + struct.pack(">IIIII", 1, 7, len(raw) // page, 512, page)
    total = (7 + sum(raw[at] for at in range(page - 200, 0, -200))) & 0xFFFFFFFF
    record = struct.pack(">I", 1) + raw[:page] + struct.pack(">I", total)
    name = os.fsencode(victim)
    end = struct.pack(">I", 0x40000000 // page + 1) + name
    end += struct.pack(">II", len(name), sum(name)) + magic
    catalog.with_name("catalog.db-journal").write_bytes(head.ljust(512, b"\0") + record + end)


def test_a_journal_that_names_another_file_deletes_none(folder, tmp_path):
    index_into(folder, FakeEncoder(), make_documents(5))
    catalog, victim = folder / "catalog.db", tmp_path / "precious"
    copy = tmp_path / "copy.idx"
    shutil.copytree(folder, copy)
    victim.write_text("precious")
    journal_naming(copy / "catalog.db", victim)
    with sqlite3.connect(copy / "catalog.db") as connection:
        connection.execute("SELECT count(*) FROM document").fetchone()
    assert not victim.exists(), "this is what SQLite does: the test would show nothing without it"
    victim.write_text("precious")
    journal_naming(catalog, victim)
    for door in (open_reader, open_writer):
        with pytest.raises(Corrupt, match="names another file"):
            door(catalog)
    for command in ("status", "check", "compact", "doctor"):
        done = CliRunner().invoke(cli, [command, "-i", str(folder)])
        assert done.exit_code == 1
        assert isinstance(done.exception, SystemExit)
    assert victim.read_text() == "precious"
    link = tmp_path / "link.db"
    link.symlink_to(catalog)
    with pytest.raises(Corrupt, match="names another file"):
        open_reader(link)
    catalog.with_name("catalog.db-journal").unlink()
    assert len(contents(folder)) == 5


BOOKKEEPING = [
    "CREATE INDEX evil ON _sqlite_migrations(lower(name))",
    "CREATE INDEX evil ON _sqlite_migrations(name) WHERE name > 'a'",
    "ALTER TABLE _sqlite_migrations ADD COLUMN evil AS (upper(name))",
    "ALTER TABLE _sqlite_migrations ADD COLUMN evil TEXT DEFAULT 'x'",
    "ALTER TABLE _sqlite_migrations ADD COLUMN evil CHECK (evil > 1)",
    "DROP TABLE _sqlite_migrations; CREATE VIRTUAL TABLE _sqlite_migrations USING fts5(x)",
    "DROP TABLE _sqlite_migrations; CREATE VIEW _sqlite_migrations AS SELECT * FROM document",
    "CREATE TABLE evil (x, y GENERATED ALWAYS AS (x) STORED)",
    "ALTER TABLE document ADD COLUMN evil AS (length(body))",
    "CREATE INDEX evil ON document(length(body))",
    "CREATE INDEX evil ON document(title) WHERE title > 'a'",
    "CREATE VIRTUAL TABLE evil USING fts4(x)",
    "CREATE VIRTUAL TABLE evil USING rtree(id, x, y)",
    "CREATE TEMP TABLE ok (x); CREATE TABLE document_content (x)",
    "DROP INDEX document_live; CREATE UNIQUE INDEX document_live ON document(ext_id)",
]


@pytest.mark.parametrize("statements", BOOKKEEPING)
def test_a_schema_that_computes_anything_is_refused(folder, statements):
    index_into(folder, FakeEncoder(), make_documents(3))
    with sqlite3.connect(folder / "catalog.db") as connection:
        connection.executescript(statements)
    connection.close()
    for door in (open_reader, open_writer):
        with pytest.raises(Corrupt, match="that semsearch did not make: refused"):
            door(folder / "catalog.db")


# Links


def test_a_linked_vector_file_is_read_for_what_its_hash_says(large, tmp_path):
    """Somebody may keep it on another disk; whatever is there is verified before it is used."""
    expected = search(large)
    (path,) = (large / "seg").glob("*.vec")
    moved = tmp_path / "moved.vec"
    path.rename(moved)
    path.symlink_to(moved)
    assert search(large) == expected
    moved.write_bytes(moved.read_bytes()[:-1] + b"?")
    with pytest.raises(Corrupt, match="vector file is damaged"), Reader(large) as reader:
        list(reader.snapshot().rows.take(reader.snapshot().rows.ids * 0))
    path.unlink()
    path.symlink_to("/etc/passwd")
    with pytest.raises(Corrupt, match="damaged"), Reader(large) as reader:
        reader.snapshot()


@pytest.mark.parametrize("name", ["seg", "ann", "lex", "beside"])
def test_a_writer_removes_nothing_behind_a_link(large, tmp_path, name):
    """A writer takes away what nothing names: in somebody's folder that would be everything."""
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("all my work")
    if (large / name).is_dir():
        for path in (large / name).iterdir():
            shutil.copy(path, mine / path.name)
        shutil.rmtree(large / name)
    (large / name).symlink_to(mine)
    before = {path.name: path.read_bytes() for path in mine.iterdir()}
    assert search(large), "reading follows it: each file is compared with its hash"
    for command in (["compact"], ["delete", "d0001"], ["index", str(mine / "thesis.txt")]):
        done = CliRunner().invoke(cli, [*command, "-i", str(large)])
        assert (done.exit_code, done.stderr.count("\n")) == (1, 1), done.output
        assert f"{name}: a link, and what it leads to is never written" in done.stderr
    assert {path.name: path.read_bytes() for path in mine.iterdir()} == before


@pytest.mark.parametrize("name", ["LOCK", "catalog.db"])
def test_a_writer_writes_into_nothing_behind_a_link(large, tmp_path, name):
    mine = tmp_path / "mine"
    if name == "LOCK":
        mine.write_text("all my work")
        (large / name).unlink()
    else:
        (large / name).rename(mine)
    (large / name).symlink_to(mine)
    before = mine.read_bytes()
    with pytest.raises(SemsearchError, match="a link"), open_for_writing(Layout(large)):
        pass
    assert mine.read_bytes() == before
    assert search(large)


# Models


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    return models.build("bert-cls", tmp_path_factory.mktemp("original"))


FILES = [
    "config.json", "tokenizer_config.json", "sentence_bert_config.json", "processor_config.json",
    "preprocessor_config.json", "video_preprocessor_config.json", "generation_config.json",
    "config_sentence_transformers.json", "special_tokens_map.json", "router_config.json",
    "1_Pooling/config.json", "2_Normalize/config.json", "chat_template.json",
]  # fmt: skip
KEYS = {
    "auto_map": {"AutoModel": "evil.Model"},
    "custom_generate": "someone/evil",
    "custom_pipelines": {"x": {"impl": "evil.Pipeline"}},
    "quantization_config": {"quant_method": "evil"},
    "trust_remote_code": True,
    "code_revision": "main",
    "use_pretrained_backbone": True,
    "_attn_implementation": "someone/kernel",
}


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("key", KEYS)
def test_no_configuration_may_name_code(original, tmp_path, file, key):
    evil = tmp_path / "evil"
    shutil.copytree(original, evil)
    path = evil / file
    path.parent.mkdir(exist_ok=True)
    value = json.loads(path.read_text()) if path.exists() else {}
    value["nested"] = [{"deep": {"deeper": [{key: KEYS[key]}]}}]
    path.write_text(json.dumps(value))
    if file.startswith("2_"):
        entries = json.loads((evil / "modules.json").read_text())
        kind = "sentence_transformers.models.Normalize"
        entry = {"idx": len(entries), "name": "n", "path": "2_Normalize", "type": kind}
        (evil / "modules.json").write_text(json.dumps([*entries, entry]))
    with pytest.raises(ModelError, match=f"{Path(file).name}: '{key}'"):
        read_folder(evil)


@pytest.mark.parametrize(
    "kind",
    [
        "evil.Model", "sentence_transformers.models.Router", "sentence_transformers.x; import os",
        "sentence_transformers.models.WordEmbeddings", "sentence_transformers.models.BoW",
        "sentence_transformers.base.modules.Router", "os.system", "Transformer", "", None, 7, ["x"],
    ],
)  # fmt: skip
def test_a_module_outside_the_few_is_refused(original, tmp_path, kind):
    evil = tmp_path / "evil"
    shutil.copytree(original, evil)
    (evil / "1_Pooling" / "router_config.json").write_text('{"types": {"a": "evil.Module"}}')
    entries = json.loads((evil / "modules.json").read_text())
    entries[1]["type"] = kind
    (evil / "modules.json").write_text(json.dumps(entries))
    with pytest.raises(ModelError, match=r"modules\.json"):
        read_folder(evil)


# Corpora


def hostile_names(count):
    """Ids and titles that lead elsewhere wherever they are taken for a path."""
    parts = [
        "..", "/etc/passwd", "~", "$HOME", "%2e%2e", "..\\..", "C:\\x", "\u2025", "a/../..", "|id",
        "`id`", "$(id)", "-rf", "nul", "con.txt", ".git/config", "file:///x", "\u202e", ";x",
    ]  # fmt: skip
    for n in range(count):
        depth = n % 9 + 1
        yield "/".join(parts[(n * 7 + k * 3) % len(parts)] for k in range(depth)) + f"/{n}"


def test_a_thousand_names_that_lead_elsewhere_write_nothing(tmp_path):
    corpus = tmp_path / "in" / "corpus.jsonl"
    corpus.parent.mkdir()
    names = list(hostile_names(1000))
    rows = [{"_id": n, "title": n, "text": f"text of {n}", "metadata": {"path": n}} for n in names]
    corpus.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    folder, out = tmp_path / "made.idx", tmp_path / "out"
    commands = [
        ["index", str(corpus), "-i", str(folder)], ["export", "-i", str(folder)],
        ["export", "-i", str(folder), "--beir", str(out)], ["get", names[5], "-i", str(folder)],
        ["query", names[17], "-i", str(folder)], ["delete", names[3], "-i", str(folder)],
    ]  # fmt: skip
    (tmp_path / "tmp").mkdir()
    told = watched("", [], [folder, out, tmp_path / "tmp"], commands, TMPDIR=str(tmp_path / "tmp"))
    assert [found[0] for found in told["result"]] == [0] * len(commands), told["result"]
    making = str(tmp_path / ".tmp-")  # the exported folder gets its name when it is whole
    assert [event for event in told["seen"] if not event[1].startswith(making)] == []
    assert {path.name for path in tmp_path.iterdir()} == {"in", "made.idx", "out", "tmp"}
    assert {str(path.relative_to(out)) for path in out.rglob("*")} == {"corpus.jsonl"}
    assert list(contents(folder)) == [name for name in names if name != names[3]]


def test_links_in_a_folder_of_texts_are_not_followed_out_of_it(tmp_path):
    secret = tmp_path / "secret"
    (secret / "below").mkdir(parents=True)
    for path in (secret / "a.txt", secret / "below" / "b.md"):
        path.write_text("a secret")
    texts = tmp_path / "texts"
    texts.mkdir()
    (texts / "own.txt").write_text("my own text")
    for n in range(250):
        (texts / f"link{n}.txt").symlink_to(secret / "a.txt")
        (texts / f"relative{n}.md").symlink_to("../secret/below/b.md")
        (texts / f"folder{n}").symlink_to(secret)
        (texts / f"gone{n}.txt").symlink_to(texts / "nothing")
    (texts / "loop").symlink_to(texts)
    os.mkfifo(texts / "pipe.txt")
    found = list(read_corpus(texts))
    assert [document.text for document in found] == ["my own text"]
    found = list(read_corpus(texts / "**" / "*.txt"))
    assert [document.text for document in found] == ["my own text"]


def test_a_document_cannot_break_out_of_its_line(folder, tmp_path):
    nasty = 'x"}\n{"_id": "evil", "text": "injected"}\u2028\x85\r\x1b[2J'
    index_into(folder, FakeEncoder(), [Document("a", f"words {nasty}", nasty, {"k": nasty})])
    done = CliRunner().invoke(cli, ["export", "-i", str(folder)])
    assert done.exit_code == 0
    (line,) = done.stdout.splitlines()
    assert json.loads(line)["_id"] == "a"


# What we build on


def floors():
    told = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [
        *told["dependencies"],
        *(w for ws in told["optional-dependencies"].values() for w in ws),
    ]
    found = {}
    for line in wanted:
        match = re.match(r"([A-Za-z0-9_-]+)(?:\[\w+\])?\s*>=\s*([\d.]+)", line)
        assert match, f"{line}: every dependency has a floor"
        found[match[1].lower().replace("_", "-")] = tuple(map(int, match[2].split(".")))
    return found


@pytest.mark.parametrize(
    ("name", "least", "why"),
    [
        ("transformers", (5, 3), "CVE-2026-4372, CVE-2026-5241: code run in spite of the setting"),
        ("torch", (2, 6), "CVE-2025-32434: weights_only was no protection"),
        ("sqlite-utils", (4, 2), "commits by itself below 4.0"),
        ("sentence-transformers", (6,), "safetensors, local files"),
        ("pillow", (10, 3), "CVE-2024-28219"),
        ("pyarrow", (17,), "CVE-2023-47248, CVE-2024-52338"),
        ("tqdm", (4, 66), "CVE-2024-34062 is of its command line"),
    ],
)
def test_nothing_with_a_known_hole_is_allowed(name, least, why):
    assert floors()[name] >= least, why


def test_what_was_tested_is_above_the_floors():
    pinned = dict(
        line.lower().replace("_", "-").split("==")
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if "==" in line and not line.startswith("#")
    )
    for name, least in floors().items():
        if name in pinned:
            assert tuple(map(int, re.findall(r"\d+", pinned[name])[:3])) >= least
    assert len(floors().keys() & pinned.keys()) > 12
