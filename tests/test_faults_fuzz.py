"""Hostile input of every kind is taken, or refused in one line; nothing else happens."""

import json
import os
import sqlite3

import pytest
from click.testing import CliRunner

import semsearch
from semsearch import fs
from semsearch.cli.main import cli
from semsearch.collection.check import check_index
from semsearch.collection.reader import Reader
from semsearch.corpus.folders import split_title
from semsearch.encoders.folder import read_folder
from semsearch.errors import Corrupt, InputError, ModelError, UsageError
from semsearch.index.library import Quantised
from semsearch.store import shapes
from semsearch.store.filters import parse_filter
from semsearch.store.rows import row_crc
from semsearch.training import read_recipe
from tests.fakes import FakeEncoder, index_into, make_documents
from tests.faults.campaign import push
from tests.faults.fuzz import CAMPAIGN
from tests.faults.fuzz_files import MODEL, write_model
from tests.faults.fuzz_verdict import tree
from tests.faults.fuzz_worker import targets
from tests.store_model import small_sizes


@pytest.mark.slow
def test_ten_thousand_hostile_inputs_are_taken_or_refused_in_one_line():
    outcome = push(CAMPAIGN)
    assert outcome.failures == []
    for name in targets():
        assert float(outcome.figures[f"{name} accepted"]) > 0, name
        assert name == "words" or float(outcome.figures[f"{name} refused"]) > 0, name


# ---- what it found, each kept as an example


@pytest.fixture
def index(tmp_path, monkeypatch):
    """An index with segments, recent vectors, words and token vectors; its models are fakes."""
    small_sizes(monkeypatch.setattr)
    models = {"fake": FakeEncoder(16, "fake")}
    monkeypatch.setattr("semsearch.encoders.open_encoder", lambda name, **_: models[name])
    index_into(tmp_path / "index", models["fake"], make_documents(20))
    index_into(tmp_path / "index", models["fake"], make_documents(23))
    return tmp_path / "index"


def run(*arguments, code=0):
    result = CliRunner().invoke(cli, [str(argument) for argument in arguments])
    assert result.exit_code == code, result.output
    if code:
        assert result.stderr.splitlines()[-1].startswith("Error: ")
    return result.output


def test_a_message_is_one_line_whatever_it_quotes(tmp_path):
    with pytest.raises(InputError) as caught:
        list(semsearch.read_corpus(tmp_path / "*\n*"))
    assert len(str(caught.value).splitlines()) == 1
    with pytest.raises(UsageError) as refused:
        parse_filter(["x" * 100_000])
    assert len(str(refused.value)) < 2_100
    assert str(refused.value).endswith("'lang in en,de'")  # what to do is still said


@pytest.mark.parametrize("typed", ["get a \nb", "get a \u2028", "\n", "query --\n"])
def test_what_was_typed_is_quoted_in_one_line(typed):
    result = CliRunner().invoke(cli, typed.split(" "))
    assert result.exit_code == 2
    errors = [line.startswith("Error: ") for line in result.stderr.splitlines()]
    assert errors == [*[False] * (len(errors) - 1), True]


@pytest.mark.parametrize("pattern", ["lex/*.store", "seg/*.vec", "seg/*.tok", "LOCK", "catalog.db"])
def test_a_pipe_in_an_index_is_no_file_and_nobody_waits_for_it(index, pattern):
    path = sorted(index.glob(pattern))[0]
    path.unlink()
    os.mkfifo(path)
    codes = {
        CliRunner().invoke(cli, [*command, "-i", str(index)]).exit_code
        for command in (["query", "bal"], ["check"], ["delete", "d0001"], ["backup", f"{index}2"])
    }
    assert codes <= {0, 1}


def test_reading_a_pipe_or_a_folder_fails_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe"):
        with pytest.raises(OSError, match="not a file|directory"):
            fs.sha256_of(path)


def test_a_pipe_with_the_name_of_a_kept_index_is_left_alone(index):
    os.mkfifo(index / "before-99999999")
    assert run("delete", "d0001", "-i", index).startswith("1 document")


@pytest.mark.parametrize(
    "options",
    [
        ["compact", "--language", "de", "--recall", "nan"],
        ["compact", "--vector-index", "exact", "--recall", "7"],
        ["compact", "--language", "de", "--vector-index", "\udcff"],
        ["index", "corpus.jsonl", "--language", "de", "--dims", "3"],
        ["index", "corpus.jsonl", "--language", "de", "--recall", "0.1"],
    ],
)
def test_what_is_refused_chooses_nothing_either(index, options, monkeypatch):
    monkeypatch.chdir(index.parent)
    (index.parent / "corpus.jsonl").write_text('{"id": "n", "text": "bal"}\n')
    before = tree(index)
    result = CliRunner().invoke(cli, [*options, "-i", str(index)])
    assert result.exit_code in (1, 2)
    assert tree(index) == before


def test_faiss_is_not_asked_for_what_has_no_utf8_form():
    with pytest.raises(UsageError, match="no index kind"):
        Quantised.create("\udcff", 8)


@pytest.mark.parametrize("content", ["1" * 5000, '{"a": ' + "1" * 5000 + "}"])
def test_a_number_of_thousands_of_digits_is_no_configuration(tmp_path, content):
    folder = write_model(tmp_path / "model", MODEL)
    (folder / "config.json").write_text(content)
    with pytest.raises(ModelError, match=r"config\.json"):
        read_folder(folder)


@pytest.mark.parametrize("name", ["1_\0Pooling", "a" * 20_000])
def test_a_module_path_that_no_folder_can_have_is_refused(tmp_path, name):
    chain = [dict(MODEL["modules.json"][0]), {**MODEL["modules.json"][1], "path": name}]
    with pytest.raises(ModelError, match="no name of a folder"):
        read_folder(write_model(tmp_path / "model", {**MODEL, "modules.json": chain}))


def forge(index, table, column, value, where="1"):
    """Change a cell and its row's checksum, as somebody who makes an index could."""
    connection = sqlite3.connect(index / "catalog.db", isolation_level=None)
    columns = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
    row = connection.execute(f"SELECT * FROM {table} WHERE {where}").fetchone()
    cells = dict(zip(columns, row, strict=True)) | {column: value}
    covered = [v for name, v in cells.items() if name not in ("crc", "deleted_gen")]
    connection.execute(
        f'UPDATE {table} SET "{column}" = ?, crc = ? WHERE "{columns[0]}" = ?',
        (value, row_crc(covered), row[0]),
    )
    connection.close()


FORGERIES = [
    ("meta", "v", "b'x'", "k = 'dims'"), ("meta", "v", "9" * 30, "k = 'active_encoder'"),
    ("encoder", "dim", 2**62, "1"), ("encoder", "dim", "16", "1"), ("encoder", "prompts", "[", "1"),
    ("encoder", "matryoshka_dims", "{}", "1"), ("generation", "n_passage", "x", "1"),
    ("generation", "n_document", 1.5, "1"), ("document", "meta", "no JSON", "1"),
    ("document", "meta", "[" * 100_000, "1"), ("document", "meta", "[1]", "1"),
    ("document", "body", b"bytes", "1"), ("passage", "start", "0", "1"),
    ("passage", "end", -1, "1"), ("passage", "tokens", None, "1"), ("segment", "n", 0, "1"),
    ("segment", "n", "many", "1"), ("segment", "name", "../../x", "1"), ("l0", "vec", b"odd", "1"),
    ("l0", "vec", b"", "1"), ("l0", "tok", 7, "1"), ("l0", "tok", "text", "1"),
    ("cache", "files", "[]", "1"), ("cache", "files", '{"files": [1]}', "1"),
    ("cache", "covers", "1", "1"), ("cache", "params", None, "1"), ("source", "uri", b"x", "1"),
]  # fmt: skip


@pytest.mark.parametrize(("table", "column", "value", "where"), FORGERIES)
def test_cells_that_no_writer_writes_are_damage_whatever_their_checksum(
    index, table, column, value, where
):
    with_null = column in ("params", "tokens") and value is None
    if with_null:  # SQLite itself refuses it
        with pytest.raises(sqlite3.IntegrityError):
            forge(index, table, column, value, where)
        return
    forge(index, table, column, value, where)
    told = []
    try:
        with Reader(index) as reader:
            told = [str(finding) for finding in check_index(reader)]
    except Corrupt as exc:
        told = [str(exc)]
    assert told
    assert all(len(line.splitlines()) == 1 for line in told)
    for command in (["query", "bal car"], ["export"], ["delete", "d0003"], ["compact"], ["status"]):
        result = CliRunner().invoke(cli, [*command, "-i", str(index)])
        assert result.exception is None or isinstance(result.exception, SystemExit), command
        assert result.exit_code in (0, 1)


def test_what_writers_write_fits(index):
    connection = sqlite3.connect(index / "catalog.db")
    seen = set()
    for table in ("meta", "encoder", "generation", "passage", "segment", "l0", "cache"):
        for row in connection.execute(f"SELECT * FROM {table}"):
            assert shapes.fits(table, row[:-1]), (table, row)
            seen.add(table)
    for row in connection.execute("SELECT * FROM document"):
        assert shapes.fits("document", row[:8])
    connection.close()
    assert seen == {"meta", "encoder", "generation", "passage", "segment", "l0", "cache"}


def test_the_last_id_ever_used_is_looked_at_too(index):
    connection = sqlite3.connect(index / "catalog.db", isolation_level=None)
    connection.execute("UPDATE sqlite_sequence SET seq = 'many'")
    connection.close()
    corpus = index.parent / "c.jsonl"
    corpus.write_text(json.dumps({"id": "n", "text": "bal"}))
    assert "Error:" in run("index", corpus, "-i", index, code=1)


def test_a_limit_beyond_any_is_refused(index):
    run("dups", "-i", index, "--limit", "9" * 40, code=2)


@pytest.mark.parametrize("end", ["x", "#", "x #", ""])
def test_a_heading_of_many_spaces_is_read_and_not_for_ever(end):
    assert split_title("# " + " " * 100_000 + end)[0] == end.removesuffix("#").strip()


@pytest.mark.parametrize("length", [float("inf"), 10**400])
def test_a_model_that_reads_without_end_is_refused_or_has_another_limit(tmp_path, length):
    files = {**MODEL, "sentence_bert_config.json": {"max_seq_length": length}}
    assert read_folder(write_model(tmp_path / "model", files)).max_length == 64


@pytest.mark.parametrize("number", ["1" + "0" * 400, "1" * 5000])
def test_a_recipe_with_a_number_beyond_any_is_refused_in_one_line(tmp_path, number):
    path = tmp_path / "recipe.toml"
    path.write_text(f"[training]\nlearning_rate = {number}\n")
    with pytest.raises(InputError) as caught:
        read_recipe(path)
    assert len(str(caught.value).splitlines()) == 1


def test_weights_with_a_name_that_no_file_can_have_are_not_there(tmp_path):
    files = {**MODEL, "model.safetensors.index.json": {"weight_map": {"w": "a" * 20_000}}}
    del files["model.safetensors"]
    with pytest.raises(ModelError, match="not in the model folder"):
        read_folder(write_model(tmp_path / "model", files))
