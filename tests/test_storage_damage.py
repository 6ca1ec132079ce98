"""Damage that no checksum of a row can see: pages and files that are sound, but not the newest."""

import errno
import json
import os
import shutil
import sqlite3
import zlib
from contextlib import suppress
from dataclasses import replace

import numpy as np
import pytest
import sqlite_utils
from sqlite_utils.plugins import pm

from semsearch import fs
from semsearch.collection import maintain, salvage
from semsearch.collection.beside import link_files
from semsearch.collection.check import check_index
from semsearch.collection.layout import Layout
from semsearch.collection.lexical_cache import build_lexical_cache, open_lexical
from semsearch.collection.reader import Reader
from semsearch.collection.salvage import open_salvage
from semsearch.collection.tokens import open_token_file
from semsearch.collection.writer import open_for_writing
from semsearch.errors import Corrupt, InputError, Mismatch, NotFound, StorageError
from semsearch.maxsim import Codes, TokenCodec
from semsearch.store import catalog, database, documents, passages, schema, token_files
from semsearch.store.database import (
    copy_database,
    database_errors,
    open_reader,
    open_writer,
    replace_database,
    roll_back_journal,
    snapshot_transaction,
    transaction,
)
from semsearch.store.filters import Condition, documents_matching, parse_filter
from semsearch.store.rows import row_crc
from semsearch.store.segments import Segment, write_segment
from semsearch.store.token_files import TokenFile, TokenFormat, write_tokens
from semsearch.types import Document
from tests.store_model import DIM, TOKENS, codes_of, encoder_row, put, small_sizes


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    small_sizes(monkeypatch.setattr)


def document(number, text="a text of two parts", **metadata):
    return Document(f"d{number}", f"{text} {number}", "", metadata, "corpus")


def fill(folder, many):
    with open_for_writing(Layout(folder)) as writer:
        writer.adopt_encoder(encoder_row(), DIM, TOKENS)
        for start, stop in ((0, 9), (9, 17), (17, 20)):
            put(writer, many[start:stop])
            maintain.fit_rotation_if_due(writer)


@pytest.fixture
def folder(tmp_path):
    """Two segments with token files, and recent passages."""
    place = tmp_path / "idx"
    fill(place, [document(n, n=n) for n in range(20)])
    with Reader(place) as reader:
        assert len(reader.snapshot().segments) >= 2
        assert len(reader.snapshot().rows.recent[0])
    return place


def run(folder, *statements):
    connection = sqlite3.connect(folder / "catalog.db", isolation_level=None)
    for statement in statements:
        connection.execute(statement)
    connection.close()


def older_page(folder, name, work):
    """Do some work, then put the first page of a table or an index back as it was before."""
    path = folder / "catalog.db"
    before = path.read_bytes()
    work()
    connection = sqlite3.connect(path)
    (size,) = connection.execute("PRAGMA page_size").fetchone()
    query = "SELECT rootpage FROM sqlite_master WHERE name = ?"
    at = (connection.execute(query, (name,)).fetchone()[0] - 1) * size
    connection.close()
    after = bytearray(path.read_bytes())
    after[at : at + size] = before[at : at + size]
    path.write_bytes(after)


def add(folder, *many):
    with open_for_writing(Layout(folder)) as writer:
        put(writer, many)


def delete(folder, *ids):
    with open_for_writing(Layout(folder)) as writer:
        writer.delete(list(ids))


def test_a_document_that_the_index_of_ids_lacks_is_not_said_to_be_absent(folder):
    older_page(folder, "document_live", lambda: add(folder, document(50)))
    with Reader(folder) as reader:
        assert reader.find("d1").ext_id == "d1"
        with pytest.raises(NotFound, match="no document 'none'"):
            reader.find("none")
        with pytest.raises(NotFound, match="no document"):
            reader.find("\ud800")
        with pytest.raises(Corrupt, match="the index of ids is damaged"):
            reader.find("d50")


def test_a_deleted_document_that_the_index_of_ids_still_has_is_not_live(folder):
    older_page(folder, "document_live", lambda: delete(folder, "d3"))
    with Reader(folder) as reader:
        assert reader.live_by_id(["d1"])
        with pytest.raises(Corrupt, match="the index of ids is damaged"):
            reader.live_by_id(["d1", "d3"])


def test_a_page_of_another_documents_ids_is_refused(tmp_path):
    """The index of one catalog in another of the same ids under other numbers."""
    for name, order in (("a", (1, 2)), ("b", (2, 1))):
        with open_for_writing(Layout(tmp_path / name)) as writer:
            writer.adopt_encoder(encoder_row(), DIM)
            put(writer, [document(n) for n in order])
    raw = (tmp_path / "a" / "catalog.db").read_bytes()
    own = (tmp_path / "b" / "catalog.db").read_bytes()
    (tmp_path / "a" / "catalog.db").write_bytes(own)
    older_page(
        tmp_path / "a", "document_live", lambda: (tmp_path / "a" / "catalog.db").write_bytes(raw)
    )
    with Reader(tmp_path / "a") as reader, pytest.raises(Corrupt):
        reader.find("d1")


def test_documents_that_come_twice_are_refused(tmp_path):
    """One page of the table in the place of the next: rows of about a page each."""
    folder = tmp_path / "idx"
    fill(folder, [document(n, f"mark{n:02} " * 400) for n in range(6)])
    raw = bytearray((folder / "catalog.db").read_bytes())
    pages = [at for at in range(0, len(raw), 4096) if b"mark02 mark02" in raw[at : at + 4096]]
    others = [at for at in range(0, len(raw), 4096) if b"mark03 mark03" in raw[at : at + 4096]]
    raw[others[0] : others[0] + 4096] = raw[pages[0] : pages[0] + 4096]
    (folder / "catalog.db").write_bytes(raw)
    with Reader(folder) as reader, pytest.raises(Corrupt, match="document are out of order"):
        list(reader.documents())


def test_documents_that_are_lost_are_missed(folder):
    run(folder, "DELETE FROM document WHERE ext_id = 'd7'")
    with Reader(folder) as reader, pytest.raises(Corrupt, match="rows of table document are lost"):
        list(reader.documents())


def test_passages_that_are_lost_are_missed_when_words_are_read(folder):
    with open_for_writing(Layout(folder)) as writer:
        build_lexical_cache(writer)
        put(writer, [document(60), document(61)])
        last = writer.snapshot.last_vid
    run(folder, f"DELETE FROM passage WHERE vid = {last}")
    with Reader(folder) as reader, pytest.raises(Corrupt, match="rows of passages are lost"):
        open_lexical(reader.snapshot(), reader.connection, reader.require_current)
    with (
        pytest.raises(Corrupt, match="rows of passages are lost"),
        open_for_writing(Layout(folder)) as writer,
    ):
        build_lexical_cache(writer)


def test_deleted_documents_are_told_by_the_table_and_its_index_alike(folder):
    """An older page of the index of the deleted would bring a document back, or hide another."""
    delete(folder, "d1")
    shutil.copytree(folder, folder.with_name("hidden"))
    older_page(folder, "document_dead", lambda: delete(folder, "d2"))
    with Reader(folder) as reader, pytest.raises(Corrupt):
        reader.snapshot()
    with Reader(folder.with_name("hidden")) as reader:
        assert reader.snapshot().dead.tolist()


@pytest.mark.parametrize("name", ["document_dead", "passage_document"])
def test_an_index_that_names_the_living_is_refused(folder, name):
    delete(folder, "d1")
    connection = sqlite3.connect(folder / "catalog.db", isolation_level=None)
    dead = passages.dead_vids(connection).tolist()
    assert dead
    connection.execute("PRAGMA writable_schema = 1")
    if name == "document_dead":
        connection.execute("UPDATE document SET deleted_gen = 9 WHERE ext_id = 'd5'")
        undo = "UPDATE document NOT INDEXED SET deleted_gen = NULL WHERE ext_id = 'd5'"
    else:
        owner = "(SELECT doc_id FROM document WHERE ext_id = 'd1')"
        connection.execute(f"UPDATE passage SET doc_id = {owner} WHERE vid = 20")
        undo = "UPDATE passage NOT INDEXED SET doc_id = 11 WHERE vid = 20"
    connection.close()
    older_page(folder, name, lambda: run(folder, undo))
    connection = sqlite3.connect(folder / "catalog.db")
    with pytest.raises(Corrupt, match="index of deleted documents is damaged"):
        passages.dead_vids(connection)
    connection.close()


@pytest.mark.parametrize("wanted", ["n=3", "n>2"])
def test_a_field_without_a_number_of_a_document_is_refused(folder, wanted):
    with Reader(folder) as reader:
        assert documents_matching(reader.connection, parse_filter([wanted]), 100)
    run(folder, "UPDATE field SET doc_id = 'x' WHERE key = 'n' AND value = 3")
    with Reader(folder) as reader, pytest.raises(Corrupt, match="rows of table field are damaged"):
        documents_matching(reader.connection, parse_filter([wanted]), 100)


def test_metadata_that_is_no_json_is_refused_when_it_is_compared(folder):
    add(folder, document(70, long="x" * 300))
    wanted = (Condition("long", "=", ("x" * 300,)),)
    with Reader(folder) as reader:
        (number,) = documents_matching(reader.connection, wanted, 10) or []
    run(folder, f"UPDATE document SET meta = '{{' WHERE doc_id = {number}")
    with (
        Reader(folder) as reader,
        pytest.raises(Corrupt, match=f"the metadata of document row {number} is damaged"),
    ):
        documents_matching(reader.connection, wanted, 10)


# Formats and errors of the catalog.


def test_an_older_format_is_refused_by_readers_and_kept_by_writers(folder, monkeypatch):
    monkeypatch.setattr(schema, "FORMAT", 2)
    with pytest.raises(Mismatch, match="has format 1, this semsearch reads 2"):
        Reader(folder)


@pytest.mark.parametrize("number", [0, -1])
def test_a_number_that_is_no_format_is_refused(folder, number):
    run(folder, f"PRAGMA user_version = {number}")
    with pytest.raises(Corrupt, match=f"{number} is no format of a semsearch catalog"):
        Reader(folder)


class Failing(sqlite3.Connection):
    def backup(self, *_, **__):
        raise sqlite3.OperationalError("it broke")


def test_a_copy_that_fails_is_closed(tmp_path, monkeypatch):
    opened = []
    real = database._connect

    def connect(path):
        opened.append(real(path))
        return opened[-1]

    monkeypatch.setattr(database, "_connect", connect)
    source = sqlite3.connect(":memory:", factory=Failing)
    with pytest.raises(Corrupt, match=r"copy.db: the catalog is damaged \(it broke\)"):
        copy_database(source, tmp_path / "copy.db")
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        opened[0].execute("SELECT 1")
    source.close()


def test_reads_that_ended_by_themselves_are_not_ended_again(folder):
    path = folder / "catalog.db"
    connection = open_reader(path)
    with snapshot_transaction(connection, path):
        connection.execute("ROLLBACK")
    with snapshot_transaction(connection, path):
        connection.execute("SELECT count(*) FROM document").fetchone()
    assert not connection.in_transaction
    connection.close()


def test_a_transaction_that_sqlite_rolled_back_is_not_rolled_back_again(tmp_path):
    connection = sqlite3.connect(tmp_path / "x.db", isolation_level=None)
    with suppress(Corrupt), transaction(connection, tmp_path / "x.db"):
        connection.execute("ROLLBACK")  # and then there is nothing to commit
    assert not connection.in_transaction
    connection.close()


@pytest.mark.parametrize(
    ("name", "error", "said"),
    [
        ("SQLITE_FULL", StorageError, "the disk is full"),
        ("SQLITE_READONLY_DBMOVED", StorageError, "read-only folder or no permission"),
        ("SQLITE_PERM", StorageError, "read-only folder or no permission"),
        ("SQLITE_CANTOPEN_ISDIR", StorageError, "cannot open for writing"),
        ("SQLITE_IOERR_WRITE", StorageError, "cannot write"),
        ("SQLITE_IOERR_FSYNC", StorageError, "cannot write"),
        ("SQLITE_IOERR_DIR_FSYNC", StorageError, "cannot write"),
        ("SQLITE_IOERR_TRUNCATE", StorageError, "cannot write"),
        ("SQLITE_IOERR_CLOSE", StorageError, "cannot write"),
        ("SQLITE_BUSY_SNAPSHOT", StorageError, "busy for 30 s"),
        ("SQLITE_IOERR_READ", StorageError, "input/output error (SQLITE_IOERR_READ)"),
        ("SQLITE_CORRUPT", Corrupt, "the catalog is damaged (a b)"),
        ("", Corrupt, "the catalog is damaged (a b)"),
    ],
)
def test_what_sqlite_says_becomes_one_line(tmp_path, name, error, said):
    exc = sqlite3.OperationalError("a\n  b")
    if name:
        exc.sqlite_errorname = name
    with pytest.raises(error) as caught, database_errors(tmp_path / "catalog.db"):
        raise exc
    assert str(caught.value).startswith(f"{tmp_path / 'catalog.db'}: ")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_new_catalog_is_durable_and_runs_no_plugin(tmp_path, monkeypatch):
    called = []

    class Plugin:
        @sqlite_utils.hookimpl
        def prepare_connection(self, conn):
            called.append(conn)

    plugin = Plugin()
    steps: list[str] = []
    monkeypatch.setattr(fs, "hook", steps.append)
    pm.register(plugin)
    try:
        for _ in range(2):
            open_writer(tmp_path / "catalog.db").close()
    finally:
        pm.unregister(plugin)
    assert called == []
    assert steps == ["commit", "committed", "sync-folder"]  # once


def test_a_catalog_is_replaced_page_by_page_in_one_commit(folder, tmp_path, monkeypatch):
    with open_for_writing(Layout(tmp_path / "other")) as writer:
        writer.adopt_encoder(encoder_row(), DIM)
        put(writer, [document(n) for n in range(3)])
    steps: list[str] = []
    monkeypatch.setattr(database, "_COPY_PAGES", 4)
    target = sqlite3.connect(folder / "catalog.db", isolation_level=None)
    source = sqlite3.connect(tmp_path / "other" / "catalog.db", isolation_level=None)
    (others,) = source.execute("PRAGMA page_count").fetchone()
    monkeypatch.setattr(fs, "hook", steps.append)
    replace_database(target, source, folder / "catalog.db")
    assert steps == ["swap"] * (1 + -(-others // 4)) + ["committed"]
    assert target.execute("PRAGMA cache_spill").fetchone() == (0,)
    assert target.execute("PRAGMA cache_size").fetchone() == (-2000,)
    assert target.execute("SELECT ext_id FROM document").fetchall() == [("d0",), ("d1",), ("d2",)]
    target.close()
    source.close()


def test_a_catalog_that_is_read_is_replaced_once_it_is_let_go(folder, tmp_path, monkeypatch):
    shutil.copy(folder / "catalog.db", tmp_path / "new.db")
    target = sqlite3.connect(folder / "catalog.db", isolation_level=None, timeout=0.05)
    target.execute("DELETE FROM source")
    source = sqlite3.connect(tmp_path / "new.db", isolation_level=None)
    source.execute("INSERT INTO source VALUES ('new', NULL, 1, 0)")
    reading = sqlite3.connect(folder / "catalog.db", isolation_level=None)
    reading.execute("BEGIN")
    assert reading.execute("SELECT count(*) FROM source").fetchone() == (0,)
    waited = []

    def let_go(step):
        waited.append(step)
        if len(waited) == 4:
            reading.execute("ROLLBACK")

    monkeypatch.setattr(fs, "hook", let_go)
    replace_database(target, source, folder / "catalog.db")
    assert waited[-1] == "committed"
    assert len(waited) > 4
    assert reading.execute("SELECT uri FROM source").fetchall() == [("new",)]
    for connection in (target, source, reading):
        connection.close()


def test_only_a_catalog_that_is_there_is_rolled_back(tmp_path, folder):
    roll_back_journal(tmp_path / "nothing")
    assert not (tmp_path / "nothing").exists()
    (tmp_path / "bad").write_bytes(b"no database at all" * 100)
    roll_back_journal(tmp_path / "bad")
    before = (folder / "catalog.db").read_bytes()
    roll_back_journal(folder / "catalog.db")
    assert (folder / "catalog.db").read_bytes() == before


# Files of vectors and of tokens.


@pytest.mark.parametrize("second", [2, 1, 0])
def test_passages_of_a_file_that_are_out_of_order_are_found(folder, second):
    """Two that changed places, or one in the place of the next."""
    with Reader(folder) as reader:
        snapshot = reader.snapshot()
        row = snapshot.segments[0]
        vids = snapshot.rows.ids[: row.n].copy()
        block = snapshot.rows.block(0, row.n)
    vids[[1, 2]] = vids[[second, 1]]
    with open_for_writing(Layout(folder)) as writer, writer.transaction():
        file = write_segment(folder / "seg", vids, [block], DIM, encoder_row().fingerprint)
        catalog.drop_segments(writer.connection, [row.seg_id])
        writer.add_segment(file, row.added_gen, row.rotation_id)
    with Reader(folder) as reader:
        found = [finding.text for finding in check_index(reader)]
    assert any("the passages of the vector file are out of order" in line for line in found), found


MADE = TokenFormat("f" * 64, TokenCodec(TOKENS).name, TokenCodec(TOKENS).width)


@pytest.mark.parametrize("offsets", [[0, 3, 1, 3], [0, 9, ~3, 3], [9, 9, 9, 3], [~9, 1, 2, 3]])
def test_offsets_that_cannot_be_are_refused(tmp_path, monkeypatch, offsets):
    """Sound by their checksums: whoever wrote them was wrong."""
    monkeypatch.setattr(token_files, "_offsets", lambda _: np.array(offsets))
    codes = Codes(np.zeros((3, MADE.width), np.uint8), np.array([1, 1, 1]))
    done = write_tokens(tmp_path, [codes], MADE)
    assert done is not None
    file = TokenFile(tmp_path / done.name, done.sha256)
    with pytest.raises(Corrupt, match="the token vectors are damaged"):
        file.counts()
    with pytest.raises(Corrupt, match="the token vectors are damaged"):
        file.take(np.arange(3))


def test_an_offset_beyond_the_codes_is_refused_by_whoever_meets_it(tmp_path, monkeypatch):
    monkeypatch.setattr(token_files, "_offsets", lambda _: np.array([0, 9, 9, 3]))
    codes = Codes(np.zeros((3, MADE.width), np.uint8), np.array([1, 1, 1]))
    done = write_tokens(tmp_path, [codes], MADE)
    assert done is not None
    file = TokenFile(tmp_path / done.name, done.sha256)
    with pytest.raises(Corrupt, match="the token vectors are damaged"):
        file.take(np.array([0]))


def test_offsets_that_end_with_a_block_are_read(tmp_path):
    """100 codes of 8 bytes and 412 offsets of 8 are a block of 4096 bytes."""
    assert MADE.width == 8
    counts = np.array([1] * 100 + [0] * 311)
    codes = np.random.default_rng(0).integers(0, 256, (100, 8), np.uint8)
    done = write_tokens(tmp_path, [Codes(codes, counts)], MADE)
    assert done is not None
    assert (tmp_path / done.name).stat().st_size == 4096 * 2 + 4
    file = TokenFile(tmp_path / done.name, done.sha256)
    assert file.counts().tolist() == counts.tolist()
    np.testing.assert_array_equal(file.take(np.arange(411)).codes, codes)
    segment = write_segment(tmp_path, np.arange(256), [np.ones((256, 4))], 4, "f")
    rows = Segment(tmp_path / segment.name, segment.sha256)
    assert rows.vids.tolist() == list(range(256))
    np.testing.assert_array_equal(rows.vectors(0, 256), np.ones((256, 4)))
    np.testing.assert_array_equal(rows.take(np.array([255])), np.ones((1, 4)))


def test_every_offset_that_is_used_is_checked(tmp_path):
    """One that stands in the next block, and is wrong in a way that could be right."""
    counts = np.array([0] + [1] * 256)
    codes = np.random.default_rng(0).integers(0, 256, (256, 8), np.uint8)
    done = write_tokens(tmp_path, [Codes(codes, counts)], MADE)
    assert done is not None
    path = tmp_path / done.name
    raw = bytearray(path.read_bytes())
    place = 4096 + 256 * 8 + 256 * 8  # of offset 256, the first in the second block
    assert raw[place : place + 8] == (255).to_bytes(8, "little")
    raw[place] ^= 1
    path.write_bytes(raw)
    for read in (
        lambda file: file.counts(),
        lambda file: file.take(np.array([255])),
        lambda file: file.take(np.array([256])),
    ):
        with pytest.raises(Corrupt, match="the token vectors are damaged"):
            read(TokenFile(path, done.sha256))
    sound = TokenFile(path, done.sha256).take(np.array([254]))
    np.testing.assert_array_equal(sound.codes, codes[[253]])


def test_a_block_is_checked_once(folder, monkeypatch):
    checked = []
    real = zlib.crc32

    def crc(view, *rest):
        checked.append(len(view))
        return real(view, *rest)

    with Reader(folder) as reader:
        row = reader.snapshot().segments[0]
    segment = Segment(folder / "seg" / row.name, row.sha256)
    monkeypatch.setattr("semsearch.store.blocks.zlib.crc32", crc)
    for read in (lambda: segment.vids, lambda: segment.vectors(0, row.n), lambda: segment.vids):
        read()
    assert len(checked) == 1  # of vids and vectors alike: the file is that small
    facts = json.loads((folder / "seg" / row.name).read_bytes()[16:4096].rstrip(b"\0"))
    assert list(facts) == sorted(facts)  # equal vectors make equal files


def test_tables_of_vectors_and_of_codes_have_the_same_rows(folder):
    with Reader(folder) as reader:
        snapshot = reader.snapshot()
        assert len(snapshot.segments) > 1
        assert len(snapshot.tokens) == len(snapshot.rows)


def first_tokens(folder):
    with Reader(folder) as reader:
        row = reader.snapshot().segments[0]
    return row, folder / "seg" / str(row.tok_name)


def test_rows_whose_counts_are_damaged_count_as_missing(folder, caplog):
    row, path = first_tokens(folder)
    raw = bytearray(path.read_bytes())
    raw[-6 - 8] ^= 1  # of the offsets, which stand before the table of checksums
    path.write_bytes(raw)
    with Reader(folder) as reader:
        snapshot = reader.snapshot()
        assert set(range(row.n)) <= set(snapshot.tokens.missing().tolist())
        assert str(path) in caplog.text
        present, _ = snapshot.tokens.take(np.arange(len(snapshot.rows)))
        assert not present[: row.n].any()


def test_codes_that_cannot_be_read_are_not_thrown_away(folder, monkeypatch, caplog):
    row, path = first_tokens(folder)
    real = token_files.TokenFile.__init__

    def unreadable(self, opened, sha256):
        if opened == path:
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(opened))
        real(self, opened, sha256)

    monkeypatch.setattr(token_files.TokenFile, "__init__", unreadable)
    with open_for_writing(Layout(folder)) as writer:
        tokens = writer.snapshot.tokens
        present, _ = tokens.take(np.arange(len(writer.snapshot.rows)))
        assert not present[: row.n].any()
        with pytest.raises(StorageError, match=r"cannot read: Input/output error: run again"):
            tokens.require_read()
    assert f"{path}: cannot read: Input/output error: computed at query time" in caplog.text
    assert path.exists()


def test_a_segment_without_codes_is_no_damage(folder, caplog):
    row, _ = first_tokens(folder)
    with open_for_writing(Layout(folder)) as writer, writer.transaction():
        catalog.add_segment(writer.connection, replace(row, tok_name=None, tok_sha256=None))
    with Reader(folder) as reader:
        snapshot = reader.snapshot()
        present, _ = snapshot.tokens.take(np.arange(len(snapshot.rows)))
        assert present.any()
        assert not present[: row.n].any()
        assert set(range(row.n)) <= set(snapshot.tokens.missing().tolist())
    assert caplog.records == []


def test_a_token_file_is_named_as_we_name_them(folder):
    row, _ = first_tokens(folder)
    for name in ("../catalog.db", "t-0.tok", "s-" + "0" * 24 + ".vec", None):
        with pytest.raises(Corrupt, match="is no name of a token file"):
            open_token_file(Layout(folder), replace(row, tok_name=name))
    with pytest.raises(Corrupt, match=f"token vectors of {row.n} passages beside 99 vectors"):
        open_token_file(Layout(folder), replace(row, n=99))


def test_files_of_a_snapshot_get_second_names(folder, tmp_path):
    _, missing = first_tokens(folder)
    with open_for_writing(Layout(folder)) as writer:
        build_lexical_cache(writer)
        row = catalog.CacheRow("a-0.faiss", "faiss", "{}", "{}", "{}", 1)
        with writer.transaction():
            catalog.put_cache(writer.connection, row)
        writer.refresh()
        missing.unlink()
        link_files(writer.snapshot, Layout(tmp_path / "other"))
        snapshot = writer.snapshot
    linked = {path.name for path in (tmp_path / "other" / "seg").iterdir()}
    wanted = {name for row in snapshot.segments for name in (row.name, row.tok_name) if name}
    assert linked == wanted - {missing.name}
    assert not (tmp_path / "other" / "ann").exists()
    words = [path.name for path in (tmp_path / "other" / "lex").iterdir()]
    assert sorted(words) == sorted(
        path.name for path in (folder / "lex").iterdir() if path.name != "LOCK" and path.is_file()
    )


# What is left of a damaged index.


def test_documents_that_go_while_they_are_read_are_passed_over(folder):
    found = open_salvage(Layout(folder))
    reading = found.documents()
    first = next(reading)
    run(folder, "DELETE FROM document WHERE ext_id = 'd9'")
    rest = [saved.stored.ext_id for saved in reading]
    assert first.stored.ext_id == "d0"
    assert rest == [f"d{n}" for n in range(1, 20) if n != 9]
    found.close()
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        found.connection.execute("SELECT 1")


def test_what_is_left_is_whole(folder):
    found = open_salvage(Layout(folder))
    assert (found.dims, found.token_width, found.recorded) == (DIM, TOKENS, 20)
    assert found.encoder == encoder_row()
    assert found.rotation is not None
    made = found.vectors
    with Reader(folder) as reader:
        snapshot = reader.snapshot()
        for saved in found.documents():
            assert saved.passages
            vectors = found.vectors_of(saved)
            for row, vector in zip(saved.passages, vectors, strict=True):
                at = snapshot.ordinals(np.array([row.vid]))
                np.testing.assert_array_equal(vector, snapshot.rows.take(at)[0])
                codes = codes_of(saved.stored.document.content[row.start : row.end])
                kept = made.codes_of(row.vid, snapshot.tokens.format)
                assert (kept is None) == (codes is None)
                if codes is not None:
                    np.testing.assert_array_equal(kept, codes)
                assert made.codes_of(row.vid, None) is None
                assert made.codes_of(row.vid, MADE._replace(codec="other")) is None
        assert found.highest_id() == max(snapshot.last_vid, 20)
    assert made.vector_of(10**6) is None
    assert made.codes_of(10**6, snapshot.tokens.format) is None
    found.close()


def test_of_several_models_the_active_one_is_found_if_it_is_on_record(folder):
    other = replace(encoder_row(), encoder_id=2, fingerprint="cd" * 32, name="other")
    with open_for_writing(Layout(folder)) as writer, writer.transaction():
        catalog.add_encoder(writer.connection, other)
    found = open_salvage(Layout(folder))
    assert found.encoder == encoder_row()
    found.close()
    run(folder, "DELETE FROM meta WHERE k = 'active_encoder'")
    found = open_salvage(Layout(folder))
    assert found.encoder is None
    assert found.vectors.vector_of(1) is None
    found.close()


def test_cut_vectors_that_are_all_recent_have_their_width(tmp_path):
    with open_for_writing(Layout(tmp_path)) as writer:
        writer.adopt_encoder(encoder_row(DIM, (4,)), 4)
        put(writer, [document(0)])
        stored = writer.snapshot.rows.take(np.arange(2))
    found = open_salvage(Layout(tmp_path))
    assert found.vectors.width == 4
    np.testing.assert_array_equal(found.vectors.vector_of(1), stored[0])
    found.close()


def test_what_can_be_read_is_read_once(folder, monkeypatch):
    walked = []
    real = salvage._walk

    def walk(connection, table, column, order):
        found = real(connection, table, column, order)
        walked.append((table, column, order, *found))
        return found

    monkeypatch.setattr(salvage, "_walk", walk)
    found = open_salvage(Layout(folder))
    assert len(list(found.documents())) == 20
    assert walked == [("document", "doc_id", "ASC", list(range(1, 21)), False)]
    assert salvage._owners(found.connection) == list(range(1, 21))
    found.close()


def test_vectors_of_another_model_or_rotation_are_not_taken(folder):
    run(folder, "PRAGMA foreign_keys = 0")
    with open_for_writing(Layout(folder)) as writer, writer.transaction():
        connection = writer.connection
        rows = connection.execute("SELECT * FROM segment ORDER BY first_vid").fetchall()
        first = catalog.SegmentRow(*rows[0][:-1])
        catalog.add_segment(connection, replace(first, rotation_id=None, tok_name=None))
        recent = connection.execute("SELECT * FROM l0 ORDER BY vid").fetchall()
        values = (*recent[0][:2], None, *recent[0][3:5])
        connection.execute(
            "INSERT OR REPLACE INTO l0 VALUES (?,?,?,?,?,?)", (*values, row_crc(values))
        )
        last = catalog.SegmentRow(*rows[1][:-1])
        catalog.add_segment(connection, replace(last, tok_name=None, tok_sha256=None))
    found = open_salvage(Layout(folder))
    assert found.vectors.vector_of(first.first_vid) is None
    assert found.vectors.vector_of(recent[0][0]) is None
    assert found.vectors.vector_of(recent[1][0]) is not None
    assert found.vectors.vector_of(last.first_vid) is not None
    found.close()
    with Reader(folder) as reader, pytest.raises(Corrupt, match="under another rotation than"):
        reader.snapshot()


def test_a_passage_of_another_text_is_not_believed(folder):
    connection = sqlite3.connect(folder / "catalog.db", isolation_level=None)
    row = list(connection.execute("SELECT * FROM passage WHERE vid = 3").fetchone())
    row[5] = b"x" * 16
    connection.execute(
        "UPDATE passage SET text_hash = ?, crc = ? WHERE vid = 3", (row[5], row_crc(row[:-1]))
    )
    connection.close()
    found = open_salvage(Layout(folder))
    cut_again = [saved.stored.doc_id for saved in found.documents() if saved.passages is None]
    assert cut_again == [row[1]]
    found.close()


def large(tmp_path):
    """Rows of about a page each, so that a page can be lost on its own."""
    folder = tmp_path / "large"
    many = [document(n, f"mark{n:02} " * 400) for n in range(12)]
    with open_for_writing(Layout(folder)) as writer:
        writer.adopt_encoder(encoder_row(), DIM)
        put(writer, many)
    delete(folder, "d5")
    with open_for_writing(Layout(folder)) as writer:
        documents.purge_deleted(writer.connection)
    return folder


def lose(folder, *marks):
    raw = bytearray((folder / "catalog.db").read_bytes())
    for mark in marks:
        for at in range(0, len(raw), 4096):
            if mark in raw[at : at + 4096]:
                raw[at : at + 4096] = bytes(4096)
    (folder / "catalog.db").write_bytes(raw)


@pytest.mark.parametrize("most", [10**6, 1])
def test_between_lost_pages_every_id_that_may_be_is_tried(tmp_path, monkeypatch, most):
    """One by one, or, where they would be too many, those that passages name."""
    folder = large(tmp_path)
    lose(folder, b"mark03 mark03", b"mark08 mark08")
    monkeypatch.setattr(salvage, "_MOST_TRIED", most)
    found = open_salvage(Layout(folder))
    left = [saved.stored.ext_id for saved in found.documents()]
    assert left == [f"d{n}" for n in range(12) if n not in (3, 5, 8)]
    assert sorted(found.lost) == ["row 4", "row 9"]
    found.close()


def test_ids_that_are_no_numbers_are_left_out(tmp_path, monkeypatch):
    folder = large(tmp_path)
    run(folder, "PRAGMA foreign_keys = 0", "UPDATE passage SET doc_id = 'x' WHERE doc_id = 5")
    lose(folder, b"mark03 mark03", b"mark08 mark08")
    monkeypatch.setattr(salvage, "_MOST_TRIED", 1)
    found = open_salvage(Layout(folder))
    left = [saved.stored.ext_id for saved in found.documents()]
    assert left == [f"d{n}" for n in range(12) if n not in (3, 4, 5, 8)]
    found.close()


def test_passages_that_cannot_be_read_are_cut_again(folder):
    connection = sqlite3.connect(folder / "catalog.db")
    query = "SELECT rootpage FROM sqlite_master WHERE name = 'passage_document'"
    (root,) = connection.execute(query).fetchone()
    connection.close()
    raw = bytearray((folder / "catalog.db").read_bytes())
    raw[(root - 1) * 4096 : root * 4096] = bytes(4096)
    (folder / "catalog.db").write_bytes(raw)
    found = open_salvage(Layout(folder))
    every = list(found.documents())
    assert len(every) == 20
    assert {saved.passages for saved in every} == {None}
    assert found.vectors_of(every[0]) == []
    found.close()


# What may not be written, and where.


def test_a_writer_that_failed_or_was_forked_is_of_no_use(folder, monkeypatch):
    with open_for_writing(Layout(folder)) as writer:
        assert writer.usable
        with monkeypatch.context() as patch:
            patch.setattr(os, "getpid", lambda: 1)
            with pytest.raises(StorageError, match="this is a fork of that"):
                put(writer, [document(90)])
    with open_for_writing(Layout(folder)) as writer:
        with pytest.raises(ValueError, match="two changes of one document"):
            put(writer, [document(90), document(90)])
        put(writer, [document(90)])  # nothing was begun
        with pytest.raises(Corrupt), writer.transaction():
            writer.connection.execute("nonsense")
        assert not writer.usable
        with pytest.raises(StorageError, match="an earlier write failed"):
            writer.refresh()


@pytest.mark.parametrize("name", ["catalog.db", "seg", "ann", "lex", "beside"])
def test_nothing_is_written_by_way_of_a_link(folder, tmp_path, name):
    (folder / "ann").mkdir(exist_ok=True)
    (folder / "lex").mkdir(exist_ok=True)
    (folder / "beside").mkdir()
    (folder / name).rename(tmp_path / "elsewhere")
    (folder / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputError, match="a link") as caught, open_for_writing(Layout(folder)):
        pass
    assert str(caught.value).startswith(f"{folder / name}: a link")


def test_a_journal_that_names_another_file_is_refused(folder):
    journal = folder / "catalog.db-journal"
    raw = b"\0" * 600 + b"/etc/passwd" + bytes.fromhex("d9d505f920a163d7")
    journal.write_bytes(raw)
    with pytest.raises(Corrupt, match="names another file"):
        Reader(folder)
    assert journal.read_bytes() == raw
    journal.unlink()
    journal.mkdir()
    with pytest.raises(StorageError, match="journal: cannot read"):
        Reader(folder)


def test_more_than_the_limit_is_no_list(folder):
    with Reader(folder) as reader:
        every = reader.vids_matching(parse_filter(["n>=0"]), 20)
        assert every is not None
        assert every.tolist() == reader.snapshot().rows.ids.tolist()
        assert reader.vids_matching(parse_filter(["n>=0"]), 19) is None
        both = parse_filter(["n>=0", "n=3"])  # only the second is short enough to start from
        some = reader.vids_matching(both, 5)
        assert some is not None
        three = reader.find("d3")
        assert set(reader.rows_of(some.tolist()).values()) == {three.doc_id}
        assert reader.vids_matching(parse_filter(["n>=0", "n=99"]), 5) is not None
