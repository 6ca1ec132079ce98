"""Rows and headers that no writer could have written are refused, whatever their checksums."""

import json
import sqlite3
from dataclasses import astuple, replace

import numpy as np
import pytest

from semsearch.collection.layout import Layout
from semsearch.collection.reader import Reader
from semsearch.collection.writer import open_for_writing
from semsearch.errors import Corrupt
from semsearch.store import catalog
from semsearch.store.blocks import NewBlockFile
from semsearch.store.catalog import CacheRow, SegmentRow
from semsearch.store.rows import is_sound, row_crc
from semsearch.store.segments import MAGIC, Segment, write_segment
from semsearch.store.shapes import covers_fit, fits, parsed
from semsearch.store.token_files import MAGIC as TOKEN_MAGIC
from semsearch.store.token_files import TokenFile
from semsearch.types import Document
from tests.store_model import DIM, TOKENS, encoder_row, put, small_sizes

BIG = 1 << 62
SEGMENT = (1, "s-0.vec", "ab", 5, 10, 14, 1, None, None, None, 3)
FILES = json.dumps({"a.faiss": "ab"})
WORDS = json.dumps({"files": {"a": "b"}})
GOOD: list[tuple[str, tuple[object, ...]]] = [
    ("meta", ("k", "v")),
    ("meta", ("dims", "12")),
    ("meta", ("dims", str(BIG - 1))),
    ("meta", ("recall_target", "0")),
    ("meta", ("recall_target", "1")),
    ("meta", ("recall_target", "0.95")),
    ("meta", ("reading", "{}")),
    ("encoder", astuple(encoder_row())),
    ("encoder", (1, "f", "n", "r", 1 << 20, "[1,2]", '{"q":"x"}', 0, "torch", "float32")),
    ("rotation", (1, 1, 5, 2, b"x" * 16)),
    ("generation", (1, 2, 3, BIG - 1, 0)),
    ("source", ("uri", None, 1)),
    ("source", ("uri", "ab", 1)),
    ("document", (1, "id", "s", "t", "b", "{}", b"h", 1)),
    ("passage", (1, 1, 0, 0, 0, b"h", 1, 1, 0, 0)),
    ("segment", SEGMENT),
    ("segment", (1, "s-0.vec", "ab", 1, 10, 10, 1, 2, "t", "cd", 3)),
    ("l0", (1, 1, None, b"", None)),
    ("l0", (1, 1, 2, b"xx", b"y")),
    ("cache", ("a", "faiss", FILES, "{}", "{}", 1)),
    ("cache", ("a", "lexical", WORDS, "{}", "{}", 1)),
    ("cache", ("a", "odd", "{}", "{}", "{}", 1)),
]
BAD: list[tuple[str, tuple[object, ...]]] = [
    ("meta", ("k", 1)),
    ("meta", ("k", None)),
    ("meta", ("k",)),
    ("meta", ("dims", "")),
    ("meta", ("dims", "x")),
    ("meta", ("dims", "\u0663")),  # a digit, but no ASCII
    ("meta", ("dims", str(BIG))),
    ("meta", ("dims", "9" * 5000)),
    ("meta", ("recall_target", "-0.1")),
    ("meta", ("recall_target", "1.1")),
    ("meta", ("recall_target", "nan")),
    ("meta", ("recall_target", "x")),
    ("meta", ("reading", "[]")),
    ("meta", ("followed", "{")),
    ("encoder", astuple(replace(encoder_row(), dim=0))),
    ("encoder", astuple(replace(encoder_row(), dim=(1 << 20) + 1))),
    ("encoder", astuple(replace(encoder_row(), max_length=-1))),
    ("encoder", astuple(replace(encoder_row(), matryoshka_dims="{}"))),
    ("encoder", astuple(replace(encoder_row(), matryoshka_dims="[-1]"))),
    ("encoder", astuple(replace(encoder_row(), matryoshka_dims='["a"]'))),
    ("encoder", astuple(replace(encoder_row(), prompts="[]"))),
    ("encoder", astuple(replace(encoder_row(), prompts='{"q":1}'))),
    ("rotation", (1, 1, 5, 2, b"x" * 15)),
    ("rotation", (1, 1, 5, 0, b"")),
    ("rotation", (1, 1, 5, (1 << 20) + 1, b"")),
    ("generation", (1, 2, 3, BIG, 0)),
    ("generation", (-1, 2, 3, 4, 0)),
    ("passage", (1, 1, 0, 5, 4, b"h", 1, 1, 0, 0)),
    ("passage", (1, 1, 0, -1, 4, b"h", 1, 1, 0, 0)),
    ("segment", (*SEGMENT[:3], 0, *SEGMENT[4:])),
    ("segment", (*SEGMENT[:3], 6, *SEGMENT[4:])),
    ("segment", (*SEGMENT[:4], -1, *SEGMENT[5:])),
    ("segment", (*SEGMENT[:5], BIG, *SEGMENT[6:])),
    ("segment", (*SEGMENT[:10], -1)),
    ("l0", (1, 1, None, b"x", None)),
    ("cache", ("a", "faiss", "[]", "{}", "{}", 1)),
    ("cache", ("a", "faiss", "{}", "[]", "{}", 1)),
    ("cache", ("a", "faiss", "{}", "{}", "1", 1)),
    ("cache", ("a", "faiss", '{"a":1}', "{}", "{}", 1)),
    ("cache", ("a", "lexical", "{}", "{}", "{}", 1)),
    ("cache", ("a", "lexical", '{"files":{"a":1}}', "{}", "{}", 1)),
    ("cache", ("a", "odd", "x", "{}", "{}", 1)),
]


@pytest.mark.parametrize(("table", "row"), GOOD)
def test_what_a_writer_writes_fits(table, row):
    assert fits(table, row)
    assert is_sound(table, row, row_crc(row))
    assert not is_sound(table, row, row_crc(row) + 1)
    assert not is_sound(table, row, str(row_crc(row)))
    assert not is_sound(table, row, row_crc(row), "x")


@pytest.mark.parametrize(("table", "row"), BAD)
def test_what_no_writer_writes_is_refused(table, row):
    assert not fits(table, row)
    assert not is_sound(table, row, row_crc(row))


def test_json_is_of_the_type_that_it_must_be():
    assert parsed('{"a":1}', dict) == {"a": 1}
    assert parsed("[]", list) == []
    assert parsed("true", int) is None
    for text in (None, 3, "{", "[" * 100_000, "[]"):
        assert parsed(text, dict) is None


COVERS = {"n": 5, "last_vid": 7}
PARAMS = {"index": {}, "recalls": [[64, 0.9], [32, 1]], "target": 0.95}


@pytest.mark.parametrize(
    ("covers", "params", "fit"),
    [
        ({}, {}, True),
        ({}, {"target": None}, False),
        ({"n": 0}, {}, False),
        ({"n": -1}, {}, False),
        ({"n": "5"}, {}, False),
        ({"n": True}, {}, False),
        ({"last_vid": None}, {}, False),
        ({"n": 1, "last_vid": 0}, {"recalls": []}, True),
        ({}, {"index": None}, False),
        ({}, {"index": []}, False),
        ({}, {"recalls": {}}, False),
        ({}, {"recalls": [[64]]}, False),
        ({}, {"recalls": [[64, 1, 1]]}, False),
        ({}, {"recalls": [[64, 1], 3]}, False),
        ({}, {"recalls": [["64", 1]]}, False),
        ({}, {"recalls": [[64, "1"]]}, False),
        ({}, {"recalls": [[-64, 1]]}, False),
    ],
)
def test_a_record_of_a_faiss_file_is_one(covers, params, fit):
    assert covers_fit(COVERS | covers, PARAMS | params) == fit


def test_an_older_record_of_a_faiss_file_names_no_target():
    assert covers_fit(COVERS, {"index": {}, "recalls": []})
    assert not covers_fit({"n": 5}, PARAMS)


# Files.


def header(folder, magic, suffix, facts, body):
    with NewBlockFile(folder, magic) as new:
        new.add(body)
        name, digest = new.publish(facts, "x-", suffix)
    return folder / name, digest


@pytest.mark.parametrize(
    "change",
    [
        {"n": 0}, {"dim": 0}, {"n": -1}, {"dim": "4"}, {"n": None}, {"n": 1 << 60}, {"n": 2.0},
        {"dim": True}, {"n": 3},
    ],
)  # fmt: skip
def test_a_header_with_numbers_that_cannot_be_is_refused(tmp_path, change):
    facts = {"n": 2, "dim": 4, "dtype": "f2", "fingerprint": "f"}
    body = bytes(2 * 8 + 2 * 4 * 2)
    path, digest = header(tmp_path, MAGIC, ".vec", facts, body)
    assert (Segment(path, digest).n, Segment(path, digest).dim) == (2, 4)
    path, digest = header(tmp_path, MAGIC, ".vec", facts | change, body)
    with pytest.raises(Corrupt, match="the vector file is damaged"):
        Segment(path, digest)


@pytest.mark.parametrize("change", [{"codec": 3}, {"fingerprint": None}, {"m": "1"}, {"n": -1}])
def test_a_header_of_tokens_that_cannot_be_is_refused(tmp_path, change):
    facts = {"n": 1, "m": 1, "width": 8, "codec": "c", "fingerprint": "f"}
    body = bytes(8) + np.array([0, 1], "<i8").tobytes()
    path, digest = header(tmp_path, TOKEN_MAGIC, ".tok", facts, body)
    assert TokenFile(path, digest).counts().tolist() == [1]
    path, digest = header(tmp_path, TOKEN_MAGIC, ".tok", facts | change, body)
    with pytest.raises(Corrupt, match="the token vectors are damaged"):
        TokenFile(path, digest)


# An index.


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A segment of 12 passages, and 4 recent ones."""
    small_sizes(monkeypatch.setattr)
    many = [Document(f"d{n}", f"text {n}", "", {"n": n}, "c") for n in range(16)]
    with open_for_writing(Layout(tmp_path / "idx")) as writer:
        writer.adopt_encoder(encoder_row(), DIM, TOKENS)
        put(writer, many[:12])
        put(writer, many[12:])
        assert (len(writer.snapshot.segments), len(writer.snapshot.rows.recent[0])) == (1, 4)
    return tmp_path / "idx"


def forge(folder, table, where, **values):
    """Change one row and give it the checksum that belongs to it now."""
    connection = sqlite3.connect(folder / "catalog.db", isolation_level=None)
    for name, value in values.items():
        connection.execute(f"UPDATE {table} SET {name} = ? WHERE {where}", (value,))
    row = connection.execute(f"SELECT * FROM {table} WHERE {where}").fetchone()
    connection.execute(f"UPDATE {table} SET crc = ? WHERE {where}", (row_crc(row[:-1]),))
    connection.close()


def test_a_file_of_another_number_of_vectors_is_refused(folder):
    with Reader(folder) as reader:
        row = reader.snapshot().segments[0]
        block = reader.snapshot().rows.block(0, 11)
    file = write_segment(folder / "seg", np.arange(1, 12), [block], DIM, encoder_row().fingerprint)
    forge(folder, "segment", "seg_id = 1", name=file.name, sha256=file.sha256)
    assert row.n == 12
    with Reader(folder) as reader, pytest.raises(Corrupt, match="11 vectors, not the 12 on record"):
        reader.snapshot()


def test_recent_vectors_of_several_widths_are_refused(folder):
    forge(folder, "l0", "vid = 14", vec=b"xx" * (DIM + 1))
    with Reader(folder) as reader, pytest.raises(Corrupt, match="rows of table l0 are damaged"):
        reader.snapshot()


@pytest.mark.parametrize("last", ["x", -1, 1 << 62])
def test_a_last_id_that_cannot_be_is_refused(folder, last):
    connection = sqlite3.connect(folder / "catalog.db", isolation_level=None)
    connection.execute("UPDATE sqlite_sequence SET seq = ? WHERE name = 'passage'", (last,))
    connection.close()
    with (
        pytest.raises(Corrupt, match="the last id of table passage is damaged"),
        open_for_writing(Layout(folder)) as writer,
    ):
        put(writer, [Document("new", "text", "", {}, "c")])


@pytest.mark.parametrize("table", ["document", "passage"])
def test_a_document_whose_checksums_are_no_numbers_is_not_deleted(folder, table):
    connection = sqlite3.connect(folder / "catalog.db", isolation_level=None)
    value = "'x'" if table == "document" else "0.5"
    connection.execute(f"UPDATE {table} SET crc = {value} WHERE doc_id = 3")
    connection.close()
    with (
        pytest.raises(Corrupt, match="row 3 of table document is damaged"),
        open_for_writing(Layout(folder)) as writer,
    ):
        writer.delete(["d2"])


def test_metadata_that_are_no_object_are_refused(folder):
    forge_document(folder, 3, "[1]")
    with Reader(folder) as reader, pytest.raises(Corrupt, match="row 3 of table document"):
        list(reader.documents())


def forge_document(folder, doc_id, meta):
    connection = sqlite3.connect(folder / "catalog.db", isolation_level=None)
    connection.execute("UPDATE document SET meta = ? WHERE doc_id = ?", (meta, doc_id))
    row = connection.execute("SELECT * FROM document WHERE doc_id = ?", (doc_id,)).fetchone()
    connection.execute("UPDATE document SET crc = ? WHERE doc_id = ?", (row_crc(row[:8]), doc_id))
    connection.close()


def test_a_record_of_faiss_that_is_none_is_not_used(folder):
    with open_for_writing(Layout(folder)) as writer:
        with writer.generation():
            row = CacheRow("a-0.faiss", "faiss", FILES, '{"n":0}', "{}", 1)
            catalog.put_cache(writer.connection, row)
        from semsearch.collection.vector_cache import valid_cache

        writer.refresh()
        assert writer.snapshot.cache("faiss") == row
        assert valid_cache(writer.snapshot) is None


def test_a_row_of_a_segment_is_what_its_columns_say():
    assert astuple(SegmentRow(*SEGMENT)) == SEGMENT
